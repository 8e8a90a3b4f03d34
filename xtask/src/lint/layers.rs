//! The layers of hv-core: a module names only layers below its own (DESIGN §2).

use super::Finding;
use super::tree::Tree;

/// The modules of the root and their layers.
const LAYERS: [(&str, u8); 5] = [("base", 0), ("policy", 1), ("dispatch", 2), ("machine", 3), ("boot", 4)];

/// The layer of a module of hv-core's root.
pub fn layer(top: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == top).map(|(_, layer)| *layer)
}

/// Checks every file of hv-core; tests may name what they like.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let product =
        |source: &&super::tree::Source| source.package == "hv-core" && !source.test && !source.scan.test;
    for source in tree.sources.iter().filter(product) {
        let Some(own_name) = source.module.first() else { continue };
        let Some(own) = layer(own_name) else {
            if source.module.len() == 1 {
                findings.push(Finding::new(&source.file, 0, format!("module '{own_name}' is in no layer")));
            }
            continue;
        };
        for name in source.scan.named.iter().filter(|name| !name.test && name.top != *own_name) {
            if let Some(other) = layer(&name.top).filter(|other| *other >= own) {
                let message = format!("layer {own} ({own_name}) names layer {other} ({})", name.top);
                findings.push(Finding::new(&source.file, name.line, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_module_that_names_a_layer_above_is_named() {
        let files = [
            ("hv-core/src/lib.rs", "pub mod base;\npub mod policy;\npub mod machine;\nmod extra;"),
            ("hv-core/src/base.rs", "pub mod addr;"),
            ("hv-core/src/base/addr.rs", "use crate::base::id;\nfn f() -> u8 { m!(crate::policy::X) }"),
            (
                "hv-core/src/policy.rs",
                "use crate::base::addr;\nuse super::machine;\n#[cfg(test)]\nmod tests { use crate::machine; }",
            ),
            ("hv-core/src/machine.rs", "use crate::{base, policy, dispatch};"),
            ("hv-core/src/extra.rs", ""),
        ];
        let (_folder, tree) = sample::tree(&files);
        let expected = [
            "hv-core/src/base/addr.rs:2: layer 0 (base) names layer 1 (policy)",
            "hv-core/src/extra.rs: module 'extra' is in no layer",
            "hv-core/src/policy.rs:2: layer 1 (policy) names layer 3 (machine)",
        ];
        assert_eq!(sample::lines(check(&tree)), expected);
    }
}
