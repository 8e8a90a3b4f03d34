//! Thin: the privileged layers of the hypervisor stay small, and so do files.

use super::Finding;
use super::layers::layer;
use super::tree::{Source, Tree};
use std::path::Path;

/// Most lines of code in layers 0, 1, 3 and 4 together, without tests (DESIGN §2, docs/decisions/0014).
const MAX_PRIVILEGED_LINES: usize = 8_000;
/// From here on a file's length is worth a thought.
const LONG_FILE_LINES: usize = 400;

/// Refuses privileged layers that have grown past their bound.
pub fn check(tree: &Tree) -> Vec<Finding> {
    bounded(privileged_lines(tree), MAX_PRIVILEGED_LINES)
}

fn bounded(lines: usize, most: usize) -> Vec<Finding> {
    let message =
        format!("layers 0, 1, 3 and 4 have {lines} lines of code without tests, at most {most} are wanted");
    if lines > most { vec![Finding::new(Path::new("hv-core/src"), 0, message)] } else { Vec::new() }
}

/// What is worth knowing and no breach.
pub fn notes(tree: &Tree) -> Vec<String> {
    let mut notes = vec![format!(
        "layers 0, 1, 3 and 4 have {} of {MAX_PRIVILEGED_LINES} lines of code without tests",
        privileged_lines(tree)
    )];
    let long = tree.sources.iter().filter(|source| source.product_lines() > LONG_FILE_LINES);
    notes.extend(long.map(|source| {
        format!("{} has {} lines without tests", source.file.display(), source.product_lines())
    }));
    notes
}

/// The backend of host tests: no image has it.
const SCRIPTED: [&str; 3] = ["machine", "vt", "scripted"];

/// The vendors' backends: a machine runs one of them.
const VENDORS: [[&str; 3]; 2] = [["machine", "vt", "svm"], ["machine", "vt", "vmx"]];

fn is_in(source: &Source, place: [&str; 3]) -> bool {
    source.module.iter().map(String::as_str).take(place.len()).eq(place)
}

/// Lines of code of everything in hv-core that one machine runs, but for the dispatch layer: of the vendors' backends the longest
/// counts. The roots count as composition.
fn privileged_lines(tree: &Tree) -> usize {
    let privileged = |source: &&Source| {
        source.package == "hv-core"
            && source.module.first().and_then(|top| layer(top)) != Some(2)
            && !is_in(source, SCRIPTED)
    };
    let lines_in = |place| {
        let inside = tree.sources.iter().filter(privileged).filter(|source| is_in(source, place));
        inside.map(Source::product_code).sum::<usize>()
    };
    let all: usize = tree.sources.iter().filter(privileged).map(Source::product_code).sum();
    let vendors = VENDORS.map(lines_in);
    all - vendors.iter().sum::<usize>() + vendors.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn tests_the_dispatch_layer_and_the_shorter_vendor_do_not_count() {
        let files = [
            ("hv-core/src/lib.rs", "mod base;\nmod dispatch;\nmod machine;\n#[cfg(test)]\nmod checks;\n"),
            (
                "hv-core/src/base.rs",
                "// none\n\nfn one() {}\nfn two() {}\n#[cfg(test)]\nmod tests {\n    fn none() {}\n}\n",
            ),
            ("hv-core/src/dispatch.rs", "fn none() {}\n"),
            ("hv-core/src/machine/vt/scripted/ram.rs", "fn none() {}\n"),
            ("hv-core/src/machine.rs", "pub mod vt;\n"),
            ("hv-core/src/machine/vt.rs", "pub mod scripted;\nmod svm;\nmod vmx;\n"),
            ("hv-core/src/machine/vt/scripted.rs", "pub mod ram;\n"),
            ("hv-core/src/machine/vt/svm.rs", "fn counts() {}\nfn too() {}\n"),
            ("hv-core/src/machine/vt/vmx.rs", "fn shorter() {}\n"),
            ("hv-core/src/checks.rs", "// none\n"),
        ];
        let (_folder, tree) = sample::tree(&files);
        // lib.rs counts 4 (its attribute, not the module under it), base.rs 3 in the same way, machine.rs 1, vt.rs 3, svm.rs 2.
        assert_eq!(privileged_lines(&tree), 13);
    }

    #[test]
    fn layers_past_their_bound_are_refused() {
        assert!(bounded(8_000, 8_000).is_empty());
        let expected = "hv-core/src: layers 0, 1, 3 and 4 have 8001 lines of code without tests, at most 8000 are wanted";
        assert_eq!(sample::lines(bounded(8_001, 8_000)), [expected]);
    }

    #[test]
    fn a_long_file_is_named() {
        let text = "// line\n".repeat(401);
        let (_folder, tree) = sample::tree(&[("xtask/src/lib.rs", &text)]);
        assert!(notes(&tree).contains(&"xtask/src/lib.rs has 401 lines without tests".to_owned()));
    }
}
