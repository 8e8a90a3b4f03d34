//! What the pages say of the code: versions, numbers, ranks of locks, guests. A page that names one that is gone, or leaves one out,
//! fails here.

#![expect(clippy::unwrap_used, reason = "a test may panic, and so may what it calls")]

use pv_abi::call::{Call, Code, Info, PREFIX};
use pv_abi::cpuid::Features;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// The text from the line that begins with `first` up to the next blank line.
fn paragraph(text: &str, first: &str) -> String {
    let lines = text.lines().skip_while(|line| !line.starts_with(first));
    lines.take_while(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

/// The rows of the table whose head begins so, as cells; without head and rule.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = paragraph(text, head).lines().skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "no table begins with {head}");
    rows
}

/// Numbers and names, as `{1: "A"}` in the code and as cells or headings in a page.
fn numbered<T: Copy>(all: &[(T, &str)], number: fn(T) -> u64) -> Vec<(String, String)> {
    all.iter().map(|(value, name)| (number(*value).to_string(), (*name).to_owned())).collect()
}

#[test]
fn the_page_of_the_abi_is_of_the_codes_version() {
    let title = format!("# The ABI, version {}.{}", pv_abi::VERSION.major, pv_abi::VERSION.minor);
    assert_eq!(read("docs/src/abi.md").lines().next(), Some(&*title));
    let golden = format!("version {}.{}", pv_abi::VERSION.major, pv_abi::VERSION.minor);
    assert_eq!(read("pv-abi/abi.golden").lines().next(), Some(&*golden));
    let changelog = read("CHANGELOG.md");
    let version = format!("ABI {}.{}", pv_abi::VERSION.major, pv_abi::VERSION.minor);
    assert!(changelog.contains(&version), "CHANGELOG.md does not name {version}");
}

#[test]
fn every_call_has_a_section_and_every_section_a_call() {
    let text = read("docs/src/abi.md");
    let (_, calls) = text.split_once("\n## Calls\n").unwrap();
    let (calls, _) = calls.split_once("\n## ").unwrap();
    let headings = calls.lines().filter_map(|line| line.strip_prefix("### ")?.split_once(' '));
    let said: Vec<_> = headings.map(|(number, name)| (number.to_owned(), name.to_owned())).collect();
    assert_eq!(said, numbered(Call::ALL, |call| call.0 & !PREFIX));
}

#[test]
fn every_code_has_a_row_and_every_row_a_code() {
    let rows = table(&read("docs/src/abi.md"), "| code | name | meaning |");
    let said: Vec<_> = rows.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(said, numbered(Code::ALL, |code| code.0));
}

#[test]
fn every_item_of_info_has_its_number() {
    let rows = table(&read("docs/src/abi.md"), "| item | value |");
    let items = rows.iter().flat_map(|row| row[0].split(", ").map(str::to_owned).collect::<Vec<_>>());
    let said = items.filter_map(|item| item.split_once(' ').map(|(n, name)| (n.to_owned(), name.to_owned())));
    assert_eq!(said.collect::<Vec<_>>(), numbered(Info::ALL, |item| item.0));
}

#[test]
fn every_feature_has_its_bit() {
    let rows = table(&read("docs/src/abi.md"), "| bit | feature | offered |");
    let mut said = BTreeSet::new();
    for row in rows {
        let names = row[1].split([':', ' ']).next().unwrap().to_owned();
        let names = if row[0].contains(',') { row[1].clone() } else { names };
        let pairs = row[0].split(", ").zip(names.split(", ").map(str::to_owned).collect::<Vec<_>>());
        said.extend(pairs.map(|(bit, name)| (bit.parse::<u32>().unwrap(), name)));
    }
    let known = Features::all();
    let bits = known.iter_names().map(|(name, flag)| (flag.bits().trailing_zeros(), name.to_owned()));
    assert_eq!(said, bits.collect());
}

#[test]
fn locks_stand_in_the_order_of_their_ranks() {
    let source = read("hv-core/src/base/lock.rs");
    let (_, ranks) = source.split_once("pub enum Rank {\n").unwrap();
    let (ranks, _) = ranks.split_once("\n}").unwrap();
    let ranks: Vec<_> = ranks.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    let rows = table(&read("docs/src/invariants.md"), "| rank | locks | held while |");
    let said: Vec<_> = rows.iter().filter_map(|row| row[0].strip_prefix('`')?.strip_suffix('`')).collect();
    assert_eq!(said, ranks);
}

#[test]
fn guests_are_named_where_guests_are_listed() {
    let names = root().join("guest-kernel-shim/src/bin").read_dir().unwrap();
    let name = |path: std::path::PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let guests: BTreeSet<_> = names.map(|entry| name(entry.unwrap().path())).collect();

    let design = read("docs/src/design.md");
    let row = design.lines().find(|line| line.starts_with("| `guest-kernel-shim/` |")).unwrap();
    let (_, listed) = row.split_once("the guests ").unwrap();
    let listed = listed.trim_end_matches(" |").split(", ").map(str::to_owned);
    assert_eq!(listed.collect::<BTreeSet<_>>(), guests, "docs/src/design.md");

    let rows = table(&read("guest-kernel-shim/README.md"), "| guest | what it does |");
    let listed = rows.iter().map(|row| row[0].trim_matches('`').to_owned());
    assert_eq!(listed.collect::<BTreeSet<_>>(), guests, "guest-kernel-shim/README.md");
}

/// Paths are from `hv-core/src`.
#[test]
fn where_to_find_leads_to_files() {
    let rows = table(&read("docs/src/design.md"), "| question | file |");
    let spans = rows.iter().flat_map(|row| row[1].split('`').skip(1).step_by(2));
    let files: Vec<_> = spans.filter(|span| span.ends_with(".rs") || span.ends_with('/')).collect();
    assert!(files.len() > 40, "only {} files were found", files.len());
    let sources = root().join("hv-core/src");
    let gone: Vec<_> =
        files.iter().filter(|file| file.contains('/') && !sources.join(file).exists()).collect();
    assert!(gone.is_empty(), "docs/src/design.md leads to files that are not there: {gone:?}");
}
