//! Thin, told honestly: how much runs in host mode, room by room, and how much of it may be unsafe.

use super::Finding;
use super::tree::{Source, Tree};
use std::collections::BTreeMap;
use std::path::Path;

/// Most lines of code of the rooms that may be unsafe (DESIGN §2, docs/decisions/0018).
const MAX_UNSAFE_LINES: usize = 5_000;
/// Most lines of code of everything that runs in host mode.
const MAX_HOST_LINES: usize = 20_000;
/// From here on a file's length is worth a thought.
const LONG_FILE_LINES: usize = 400;

/// The rooms that may be unsafe, and the root of the binary.
const MAY_BE_UNSAFE: [&str; 3] = ["machine", "boot", "main"];
/// The crate that tools on a host share with hv-core, and the name that its lines have in the table.
const FORMAT: (&str, &str) = ("hv-format", "format");
/// The vendors' backends: a machine runs one of them.
const VENDORS: [&[&str]; 2] = [&["machine", "vt", "svm"], &["machine", "vt", "vmx"]];
/// What the feature `testkit` adds for host tests: their backend, and admission at any time. No image has it.
const TESTKIT: [&[&str]; 2] = [&["testkit"], &["policy", "sched", "admit"]];

/// Lines of code of what one machine runs, without blanks, comments and tests, by room.
struct Rooms(BTreeMap<String, usize>);

impl Rooms {
    /// Counts hv-core and what lies beneath it; of the vendors' backends the longer one.
    fn of(tree: &Tree) -> Self {
        let mut rooms = BTreeMap::new();
        let mut vendors = VENDORS.map(|_| 0);
        let product = tree.sources.iter().filter(|source| ["hv-core", FORMAT.0].contains(&source.package));
        let product = product.filter(|source| !TESTKIT.iter().any(|place| is_in(source, place)));
        for source in product.filter(|source| source.product_code() > 0) {
            let lines = source.product_code();
            if let Some(vendor) = VENDORS.iter().position(|place| is_in(source, place)) {
                vendors[vendor] += lines;
            } else {
                *rooms.entry(room(source)).or_insert(0) += lines;
            }
        }
        *rooms.entry("machine".to_owned()).or_insert(0) += vendors.into_iter().max().unwrap_or(0);
        Self(rooms)
    }

    fn may_be_unsafe(&self) -> usize {
        MAY_BE_UNSAFE.iter().filter_map(|room| self.0.get(*room)).sum()
    }

    fn all(&self) -> usize {
        self.0.values().sum()
    }
}

/// The room of a source file: its first module, or the crate that hv-core has for its ground. The roots are composition.
fn room(source: &Source) -> String {
    if source.package == FORMAT.0 {
        return FORMAT.1.to_owned();
    }
    source.module.first().map_or_else(|| "main".to_owned(), Clone::clone)
}

fn is_in(source: &Source, place: &[&str]) -> bool {
    source.module.iter().map(String::as_str).take(place.len()).eq(place.iter().copied())
}

/// Refuses rooms that have grown past their bounds.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let rooms = Rooms::of(tree);
    let mut findings = bounded("machine and boot", rooms.may_be_unsafe(), MAX_UNSAFE_LINES);
    findings.extend(bounded("host mode", rooms.all(), MAX_HOST_LINES));
    findings
}

fn bounded(what: &str, lines: usize, most: usize) -> Vec<Finding> {
    let message = format!("{what}: {lines} lines of code without tests, the bound is {most}");
    if lines > most { vec![Finding::new(Path::new("hv-core/src"), 0, message)] } else { Vec::new() }
}

/// What is worth knowing and no breach.
pub fn notes(tree: &Tree) -> Vec<String> {
    let rooms = Rooms::of(tree);
    let row = |(room, lines): (&String, &usize)| format!("{lines:>6} {room}");
    let mut notes =
        vec!["lines of code in host mode, by room, without tests; of two vendors the longer:".to_owned()];
    notes.extend(rooms.0.iter().map(row));
    notes.push(format!("{:>6} of {MAX_UNSAFE_LINES} may be unsafe (machine, boot)", rooms.may_be_unsafe()));
    notes.push(format!(
        "{:>6} of {MAX_HOST_LINES} in host mode in all, and the decoder iced-x86",
        rooms.all()
    ));
    let long = tree.sources.iter().filter(|source| source.product_lines() > LONG_FILE_LINES);
    notes.extend(long.map(|source| {
        format!("{} has {} lines without tests", source.file.display(), source.product_lines())
    }));
    notes
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn rooms_count_without_tests_and_with_the_longer_vendor() {
        let files = [
            (
                "hv-core/src/lib.rs",
                "mod base;\nmod device;\nmod machine;\npub mod testkit;\n#[cfg(test)]\nmod checks;\n",
            ),
            (
                "hv-core/src/base.rs",
                "// none\n\nfn one() {}\nfn two() {}\n#[cfg(test)]\nmod tests {\n    fn none() {}\n}\n",
            ),
            ("hv-core/src/device.rs", "fn one() {}\n"),
            ("hv-core/format/src/lib.rs", "mod machine;\n"),
            ("hv-core/format/src/machine.rs", "fn of_no_room() {}\n"),
            ("hv-core/src/machine.rs", "pub mod vt;\n"),
            ("hv-core/src/machine/vt.rs", "mod svm;\nmod vmx;\n"),
            ("hv-core/src/testkit.rs", "fn none() {}\n"),
            ("hv-core/src/machine/vt/svm.rs", "fn counts() {}\nfn too() {}\n"),
            ("hv-core/src/machine/vt/vmx.rs", "fn shorter() {}\n"),
            ("hv-core/src/checks.rs", "// none\n"),
        ];
        let (_folder, tree) = sample::tree(&files);
        let rooms = Rooms::of(&tree);
        let expected = [("base", 3), ("device", 1), ("format", 2), ("machine", 5), ("main", 5)];
        assert_eq!(rooms.0, expected.map(|(room, lines)| (room.to_owned(), lines)).into());
        // A root's attribute counts, the test module under it does not.
        assert_eq!((rooms.may_be_unsafe(), rooms.all()), (10, 16));
    }

    #[test]
    fn rooms_past_their_bound_are_refused() {
        assert!(bounded("host mode", 20_000, 20_000).is_empty());
        let expected = "hv-core/src: host mode: 20001 lines of code without tests, the bound is 20000";
        assert_eq!(sample::lines(bounded("host mode", 20_001, 20_000)), [expected]);
    }

    /// The cells of the README's line that begins so, without the first and the last one.
    fn readme_row(readme: &str, first: &str) -> Vec<String> {
        let row = readme.lines().find_map(|line| line.strip_prefix(first)).unwrap_or_default();
        row.trim_matches(['|', ' ']).split('|').map(|cell| cell.trim().replace(',', "")).collect()
    }

    #[test]
    fn the_readme_tells_each_room_to_within_a_tenth_and_the_sum_to_within_a_fiftieth() {
        let root = crate::workspace::root();
        let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
        let tree = Tree::read(&root).unwrap_or_else(|failure| panic!("{}", failure.message));
        let mut counted = Rooms::of(&tree).0;
        counted.insert("in all".to_owned(), Rooms::of(&tree).all());
        let rooms = readme_row(&readme, "| room |");
        assert_eq!(rooms.iter().collect::<BTreeSet<_>>(), counted.keys().collect());
        for (room, said) in rooms.iter().zip(readme_row(&readme, "| lines |")) {
            let (said, is) = (said.parse::<usize>().unwrap(), counted[room]);
            let slack = if room == "in all" { is / 50 } else { is / 10 };
            assert!(said.abs_diff(is) <= slack, "README.md says {room} {said}, `cargo xtask lint` {is}");
        }
    }

    #[test]
    fn a_long_file_is_named() {
        let text = "// line\n".repeat(401);
        let (_folder, tree) = sample::tree(&[("xtask/src/lib.rs", &text)]);
        assert!(notes(&tree).contains(&"xtask/src/lib.rs has 401 lines without tests".to_owned()));
    }
}
