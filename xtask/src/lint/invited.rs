//! Unsafe code by invitation (R13): only in the files of the machine, expected there with a reason.

use super::Finding;
use super::tree::{Source, Tree};
use std::path::Path;

/// Folders whose files may hold unsafe code; the module file beside a folder belongs to it.
const INVITED: [&str; 7] = [
    "hv-core/src/machine",
    "hv-core/src/boot",
    "guest-kernel-shim/src/arch",
    // A macro that gives a kernel's main function the name under which `arch` calls it.
    "guest-kernel-shim/src/entry_point",
    // A hostile guest does what no safe code can.
    "guest-kernel-shim/src/bin/misbehave",
    // An allocator that counts.
    "hv-core/tests/heap_bound",
    // A program without a library beneath it makes system calls.
    "tests/linux",
];
/// Packages with one such file each, wherever it is.
const ONE_FILE: [&str; 1] = ["ring-buffers"];

/// Checks every file, tests included.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &tree.sources {
        suppressions(source, &mut findings);
        let Some(line) = source.scan.unsafe_lines.first() else { continue };
        if !may_be_unsafe(source) {
            findings.push(Finding::new(&source.file, *line, "unsafe code in a file that may not have any"));
        }
        if !source.invited && !source.scan.suppressions.iter().any(|suppression| suppression.of_unsafe) {
            let message = "unsafe code without `#![expect(unsafe_code, reason = …)]`";
            findings.push(Finding::new(&source.file, *line, message));
        }
    }
    for package in ONE_FILE {
        let is_unsafe = |source: &&Source| {
            source.package == package && !is_test(source) && !source.scan.unsafe_lines.is_empty()
        };
        for source in tree.sources.iter().filter(is_unsafe).skip(1) {
            let message = format!("a second file of {package} with unsafe code");
            findings.push(Finding::new(&source.file, 0, message));
        }
    }
    findings
}

/// Every lint that is switched off says why, and unsafe code is expected, not allowed: an invitation that is no longer
/// needed is then an error.
fn suppressions(source: &Source, findings: &mut Vec<Finding>) {
    for suppression in &source.scan.suppressions {
        if !suppression.reasoned {
            let message = format!("`{}` without a reason", suppression.kind);
            findings.push(Finding::new(&source.file, suppression.line, message));
        }
        if suppression.of_unsafe && suppression.kind != "expect" {
            let message = "`allow` of unsafe code: use `expect`, so that the compiler says when the file no longer needs it";
            findings.push(Finding::new(&source.file, suppression.line, message));
        }
    }
}

fn may_be_unsafe(source: &Source) -> bool {
    let invited =
        |folder: &str| source.file.starts_with(folder) || source.file == Path::new(&format!("{folder}.rs"));
    INVITED.into_iter().any(invited) || ONE_FILE.contains(&source.package)
}

fn is_test(source: &Source) -> bool {
    source.test || source.scan.test
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    const INVITATION: &str = "#![expect(unsafe_code, reason = \"registers\")]\nfn f() { unsafe { g() } }";
    const UNINVITED: &str = "fn f() {\n    unsafe { g() }\n}";

    #[test]
    fn unsafe_code_is_refused_outside_the_machine_and_without_an_invitation() {
        let files = [
            ("hv-core/src/lib.rs", "mod machine;\nmod policy;"),
            (
                "hv-core/src/machine.rs",
                "mod port;\n#[expect(unsafe_code, reason = \"r\")]\nmod msr;\nmod bad;",
            ),
            ("hv-core/src/machine/port.rs", INVITATION),
            ("hv-core/src/machine/msr.rs", UNINVITED),
            ("hv-core/src/machine/bad.rs", UNINVITED),
            ("hv-core/src/policy.rs", INVITATION),
            ("ring-buffers/src/lib.rs", "mod a;\nmod b;"),
            ("ring-buffers/src/a.rs", INVITATION),
            ("ring-buffers/src/b.rs", INVITATION),
            ("ring-buffers/tests/hostile.rs", INVITATION),
        ];
        let (_folder, tree) = sample::tree(&files);
        let expected = [
            "hv-core/src/machine/bad.rs:2: unsafe code without `#![expect(unsafe_code, reason = …)]`",
            "hv-core/src/policy.rs:2: unsafe code in a file that may not have any",
            "ring-buffers/src/b.rs: a second file of ring-buffers with unsafe code",
        ];
        assert_eq!(sample::lines(check(&tree)), expected);
    }

    #[test]
    fn a_suppressed_lint_says_why_and_unsafe_is_never_allowed() {
        let files = [
            ("hv-core/src/lib.rs", "mod machine;\n#[allow(dead_code)]\nfn f() {}"),
            ("hv-core/src/machine.rs", "#![allow(unsafe_code, reason = \"r\")]\nunsafe fn f() {}"),
        ];
        let (_folder, tree) = sample::tree(&files);
        let expected = [
            "hv-core/src/lib.rs:2: `allow` without a reason",
            "hv-core/src/machine.rs:1: `allow` of unsafe code: use `expect`, so that the compiler says when the file no longer needs it",
        ];
        assert_eq!(sample::lines(check(&tree)), expected);
    }
}
