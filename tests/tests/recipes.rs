//! The recipes: every file that they name is there, and the worked example still applies and builds.

#![expect(clippy::unwrap_used, reason = "a test may panic, and so may what it calls")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// What the copy of the tree is made of, besides the workspace's packages.
const ROOT_FILES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "CHANGELOG.md", ".cargo/config.toml"];
const FOLDERS: [&str; 7] =
    ["docs", "hv-core", "pv-abi", "ring-buffers", "guest-kernel-shim", "tests", "xtask"];
const PATCH: &str = "docs/src/recipes/add-a-call.patch";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// The files that a text names in code spans, by paths from the root.
fn named_files(text: &str) -> BTreeSet<String> {
    let spans = text.split('`').skip(1).step_by(2);
    let is_file = |span: &&str| {
        let extension = Path::new(span).extension().and_then(|extension| extension.to_str());
        !span.contains(' ') && matches!(extension, Some("rs" | "md" | "golden" | "toml"))
    };
    spans.filter(is_file).map(str::to_owned).collect()
}

/// The part of the recipes under a heading.
fn recipe(heading: &str) -> String {
    let recipes = read("docs/src/recipes.md");
    let (_, rest) = recipes.split_once(&format!("## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap().to_owned()
}

/// First cells of the lines of a recipe's table.
fn table_files(recipe: &str) -> BTreeSet<String> {
    let rows = recipe.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    rows.flat_map(named_files).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if from.is_dir() {
        for entry in from.read_dir().unwrap().map(Result::unwrap) {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// A copy of the tree with the worked example in it. Each run makes it anew, at one place, for the sake of what is built.
fn patched_copy() -> PathBuf {
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recipe");
    let _ = fs::remove_dir_all(&tree);
    for file in ROOT_FILES.iter().chain(&FOLDERS) {
        copy(&root().join(file), &tree.join(file));
    }
    let mut apply = Command::new("git");
    // No repository above the copy: git would leave out what lies in a folder that this one ignores.
    apply.env("GIT_CEILING_DIRECTORIES", env!("CARGO_TARGET_TMPDIR")).env_remove("GIT_DIR");
    apply.args(["apply", PATCH]).current_dir(&tree);
    let advice = "make the patch anew: git diff -U1 of a tree in which the recipe was followed";
    succeeds(&mut apply, &format!("{PATCH} does not apply; {advice}"));
    tree
}

fn succeeds(command: &mut Command, otherwise: &str) {
    let ended = command.stdin(Stdio::null()).output().unwrap();
    assert!(ended.status.success(), "{otherwise}\n{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn every_file_that_a_recipe_names_is_in_the_tree() {
    let named = named_files(&read("docs/src/recipes.md"));
    assert!(named.len() > 40, "only {} files were found", named.len());
    let missing: Vec<_> = named.iter().filter(|file| !root().join(file).is_file()).collect();
    assert!(missing.is_empty(), "docs/src/recipes.md names files that are not there: {missing:#?}");
}

#[test]
fn the_worked_example_touches_the_files_that_its_recipe_names_and_no_others() {
    let patch = read(PATCH);
    let touched = patch.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(str::to_owned);
    assert_eq!(touched.collect::<BTreeSet<_>>(), table_files(&recipe("Add a call")));
}

#[test]
fn the_worked_example_applies_and_builds() {
    let tree = patched_copy();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recipe-target");
    for arguments in [
        &["check", "-p", "pv-abi", "-p", "hv-core", "-p", "guest-kernel-shim"][..],
        &["check", "-p", "hv-core", "--test", "exit_calls"],
        &["test", "-p", "pv-abi", "--test", "golden"],
    ] {
        let mut command = Command::new(&cargo);
        command
            .args(arguments)
            .args(["--quiet", "--offline", "--target-dir"])
            .arg(&target)
            .current_dir(&tree);
        succeeds(&mut command, &format!("with {PATCH} applied, `cargo {}` fails", arguments.join(" ")));
    }
}
