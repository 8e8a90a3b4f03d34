//! The rooms of hv-core: a module names only rooms below its own (DESIGN §2).

use super::Finding;
use super::tree::{Source, Tree};

/// The modules of the root, from the ground up; two on one floor do not name each other.
const ROOMS: [(&str, u8); 10] = [
    ("base", 0),
    ("policy", 1),
    ("device", 2),
    ("image", 3),
    ("guest", 4),
    ("exit", 5),
    ("run", 6),
    ("machine", 7),
    ("boot", 8),
    ("testkit", 8),
];

fn floor(room: &str) -> Option<u8> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// Checks every file of hv-core; tests may name what they like.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let product = |source: &&Source| source.package == "hv-core" && !source.test && !source.scan.test;
    for source in tree.sources.iter().filter(product) {
        let Some(own_name) = source.module.first() else { continue };
        let Some(own) = floor(own_name) else {
            if source.module.len() == 1 {
                findings.push(Finding::new(&source.file, 0, format!("module '{own_name}' is no room")));
            }
            continue;
        };
        for name in source.scan.named.iter().filter(|name| !name.test && name.top() != *own_name) {
            if floor(name.top()).is_some_and(|other| other >= own) {
                let message = format!("{own_name} names {}, which is not below it", name.top());
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
    fn a_module_that_names_a_room_above_is_named() {
        let files = [
            ("hv-core/src/lib.rs", "pub mod base;\npub mod policy;\npub mod machine;\nmod boot;\nmod extra;"),
            ("hv-core/src/base.rs", "pub mod addr;"),
            ("hv-core/src/base/addr.rs", "use crate::base::id;\nfn f() -> u8 { m!(crate::policy::X) }"),
            (
                "hv-core/src/policy.rs",
                "use crate::base::addr;\nuse super::machine;\n#[cfg(test)]\nmod tests { use crate::machine; }",
            ),
            ("hv-core/src/machine.rs", "use crate::{base, policy, exit};"),
            ("hv-core/src/boot.rs", "fn f() { crate::testkit::g() }"),
            ("hv-core/src/extra.rs", ""),
        ];
        let (_folder, tree) = sample::tree(&files);
        let expected = [
            "hv-core/src/base/addr.rs:2: base names policy, which is not below it",
            "hv-core/src/boot.rs:1: boot names testkit, which is not below it",
            "hv-core/src/extra.rs: module 'extra' is no room",
            "hv-core/src/policy.rs:2: policy names machine, which is not below it",
        ];
        assert_eq!(sample::lines(check(&tree)), expected);
    }
}
