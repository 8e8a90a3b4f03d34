//! No circle of files: whoever reads a file can read what it names first.
//!
//! A module and the modules inside it are one thing in several files, so what they name of one another does not count.

use super::Finding;
use super::tree::{Source, Tree};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// Checks every crate of the workspace; tests may name what they like.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let graph = Graph::of(tree);
    let mut told = BTreeSet::new();
    let mut findings = Vec::new();
    for start in 0..graph.files.len() {
        let Some(circle) = graph.circle(start).filter(|_| !told.contains(&start)) else { continue };
        told.extend(graph.tied_to(start));
        if let Some(file) = graph.files.get(start) {
            let names: Vec<String> = circle.iter().map(|at| graph.name(*at)).collect();
            let message = format!("circle of files: {} -> {}", names.join(" -> "), graph.name(start));
            findings.push(Finding::new(&file.file, 0, message));
        }
    }
    findings
}

/// Files, and which other files each names.
struct Graph<'a> {
    files: Vec<&'a Source>,
    names: Vec<BTreeSet<usize>>,
}

impl<'a> Graph<'a> {
    fn of(tree: &'a Tree) -> Self {
        let files: Vec<&Source> =
            tree.sources.iter().filter(|source| !source.test && !source.scan.test).collect();
        let places = Places::of(&files);
        let named = |file: &&Source| {
            let product = file.scan.named.iter().filter(|name| !name.test);
            let others = product.filter_map(|name| places.file(&file.root, &name.path));
            others.filter(|other| files.get(*other).is_some_and(|other| !is_kin(file, other))).collect()
        };
        let names = files.iter().map(named).collect();
        Self { files, names }
    }

    fn name(&self, at: usize) -> String {
        self.files.get(at).map_or_else(String::new, |file| file.module.join("::"))
    }

    fn named(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        self.names.get(at).into_iter().flatten().copied()
    }

    /// The shortest way from a file back to itself.
    fn circle(&self, start: usize) -> Option<Vec<usize>> {
        let mut before = BTreeMap::new();
        let mut waiting = VecDeque::from([start]);
        while let Some(at) = waiting.pop_front() {
            for next in self.named(at) {
                if next == start {
                    return Some(way(&before, start, at));
                }
                if let Entry::Vacant(entry) = before.entry(next) {
                    entry.insert(at);
                    waiting.push_back(next);
                }
            }
        }
        None
    }

    /// All files that lie on a circle with this one, itself among them.
    fn tied_to(&self, start: usize) -> BTreeSet<usize> {
        let below = self.reached(start);
        below.iter().copied().filter(|at| self.reached(*at).contains(&start)).collect()
    }

    fn reached(&self, start: usize) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![start];
        while let Some(at) = waiting.pop() {
            waiting.extend(self.named(at).filter(|next| seen.insert(*next)));
        }
        seen
    }
}

/// The file of each module, by the root of its crate.
struct Places<'a>(BTreeMap<(&'a Path, &'a [String]), usize>);

impl<'a> Places<'a> {
    fn of(files: &[&'a Source]) -> Self {
        let place = |(at, file): (usize, &&'a Source)| ((file.root.as_path(), file.module.as_slice()), at);
        Self(files.iter().enumerate().map(place).collect())
    }

    /// The file of the longest beginning of a path that is a module.
    fn file(&self, root: &Path, path: &[String]) -> Option<usize> {
        (0..=path.len()).rev().find_map(|length| self.0.get(&(root, path.get(..length)?)).copied())
    }
}

/// The files from `start` to `end`, in the order in which they name one another.
fn way(before: &BTreeMap<usize, usize>, start: usize, end: usize) -> Vec<usize> {
    let mut files = vec![end];
    let mut at = end;
    while at != start {
        let Some(earlier) = before.get(&at) else { break };
        files.push(*earlier);
        at = *earlier;
    }
    files.reverse();
    files
}

/// Whether one of two files is the module around the other.
fn is_kin(one: &Source, other: &Source) -> bool {
    one.module.starts_with(&other.module) || other.module.starts_with(&one.module)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_circle_is_named_once_and_a_module_with_its_own_parts_is_none() {
        let files = [
            ("hv-core/src/lib.rs", "pub mod base;\npub mod policy;"),
            ("hv-core/src/base.rs", "pub mod a;\npub mod b;\npub mod c;\nuse a::A;"),
            ("hv-core/src/base/a.rs", "use crate::base::{b::B, c};\nuse super::Root;"),
            ("hv-core/src/base/b.rs", "fn f() { super::c::g() }"),
            ("hv-core/src/base/c.rs", "mod inner;\nuse crate::base::a::A;"),
            ("hv-core/src/base/c/inner.rs", "use super::C;"),
            (
                "hv-core/src/policy.rs",
                "use crate::base::a;\n#[cfg(test)]\nmod tests { use super::super::base; }",
            ),
        ];
        let (_folder, tree) = sample::tree(&files);
        let expected = ["hv-core/src/base/a.rs: circle of files: base::a -> base::c -> base::a"];
        assert_eq!(sample::lines(check(&tree)), expected);
    }
}
