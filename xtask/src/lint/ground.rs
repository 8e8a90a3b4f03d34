//! The ground floor of guest-kernel-shim: `arch` names nothing above it. The code above registers what `arch` calls.

use super::Finding;
use super::tree::{Source, Tree};

const PACKAGE: &str = "guest-kernel-shim";
const GROUND: &str = "arch";

/// Checks every file of `arch`; tests may name what they like.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources.iter().filter(|source| is_ground(source)) {
        for name in source.scan.named.iter().filter(|name| !name.test && name.top() != GROUND) {
            let message = format!("{GROUND} names {}, which is above it", name.top());
            findings.push(Finding::new(&source.file, name.line, message));
        }
    }
    findings
}

fn is_ground(source: &Source) -> bool {
    let product = !source.test && !source.scan.test;
    product && source.package == PACKAGE && source.module.first().is_some_and(|module| module == GROUND)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn an_arch_that_names_what_is_above_it_is_named() {
        let files = [
            ("guest-kernel-shim/src/lib.rs", "mod arch;\npub mod event;\npub use arch::trap;"),
            (
                "guest-kernel-shim/src/arch.rs",
                "pub mod trap;\npub mod line;\nuse super::event;\nuse self::line::Line;",
            ),
            (
                "guest-kernel-shim/src/arch/trap.rs",
                "use super::line::Line;\nuse crate::arch::line;\n// crate::event\nfn f() { crate::event::take(); }\n\
                 fn g() { crate::println!(\"crate::event\") }\n#[cfg(test)]\nmod tests { use crate::event; }",
            ),
            ("guest-kernel-shim/src/arch/line.rs", "use super::super::{arch, event::Handler};"),
            ("guest-kernel-shim/src/event.rs", "use crate::arch::line;"),
            ("hv-core/src/lib.rs", "mod arch;\nmod event;"),
            ("hv-core/src/arch.rs", "use crate::event;"),
            ("hv-core/src/event.rs", ""),
        ];
        let (_folder, tree) = sample::tree(&files);
        let expected = [
            "guest-kernel-shim/src/arch/line.rs:1: arch names event, which is above it",
            "guest-kernel-shim/src/arch/trap.rs:4: arch names event, which is above it",
            "guest-kernel-shim/src/arch/trap.rs:5: arch names println, which is above it",
            "guest-kernel-shim/src/arch.rs:3: arch names event, which is above it",
        ];
        assert_eq!(sample::lines(check(&tree)), expected);
    }
}
