//! The documentation as files: links lead somewhere, the summary names every page, and the program in the porting guide is the one
//! in the tree.

#![expect(clippy::unwrap_used, reason = "a test may panic, and so may what it calls")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Where pages are; `target` and the like are not looked into.
const FOLDERS: [&str; 8] =
    ["", "docs", "hv-core", "pv-abi", "ring-buffers", "guest-kernel-shim", "tests", "xtask"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All pages below a folder; of the root only those in it.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        walk(&root().join(folder), !folder.is_empty(), &mut found);
    }
    found
}

fn walk(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && deep && !path.ends_with("target") {
            walk(&path, true, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The text without code: fenced blocks and `spans`.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            out.extend(line.split('`').step_by(2));
            out.push('\n');
        }
    }
    out
}

/// Targets of the links in a page.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let after = prose.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// A heading's anchor, as mdBook and GitHub make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn has_anchor(page: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(page).unwrap();
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings.map(|heading| heading.trim_start_matches('#')).any(|heading| anchor(heading) == wanted)
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading_in_it() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for page in pages() {
        for target in links(&fs::read_to_string(&page).unwrap()) {
            if target.contains("://") {
                continue;
            }
            followed += 1;
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            if !to.exists() || !heading.is_empty() && !has_anchor(&to, heading) {
                broken.push(format!("{}: {target}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(followed > 50, "only {followed} links were found");
}

#[test]
fn the_summary_names_every_page_of_the_book() {
    let docs = root().join("docs");
    let summary = links(&fs::read_to_string(docs.join("SUMMARY.md")).unwrap());
    let named: BTreeSet<PathBuf> = summary.iter().map(|target| docs.join(target)).collect();
    let mut there = Vec::new();
    for folder in ["src", "decisions"] {
        walk(&docs.join(folder), true, &mut there);
    }
    assert_eq!(named, there.into_iter().collect::<BTreeSet<_>>());
    assert_eq!(named.len(), summary.len(), "a page is named twice");
}

#[test]
fn the_program_in_the_porting_guide_is_hello() {
    let guide = root().join("docs/src/porting.md");
    let text = fs::read_to_string(&guide).unwrap();
    let hello = fs::read_to_string(root().join("guest-kernel-shim/src/bin/hello.rs")).unwrap();
    let (head, rest) = text.split_once("### A whole kernel\n").unwrap();
    let (opening, block) = rest.split_once("```rust,ignore\n").unwrap();
    let (program, after) = block.split_once("```").unwrap();
    if env::var_os("COMITY_BLESS").is_some() {
        let text = format!("{head}### A whole kernel\n{opening}```rust,ignore\n{hello}```{after}");
        fs::write(guide, text).unwrap();
    } else {
        assert_eq!(program, hello, "`COMITY_BLESS=1 cargo test -p tests --test docs` copies it");
    }
}
