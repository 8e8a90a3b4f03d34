//! What the lints want to know of one file, read from its tokens: comments and strings say nothing, macros do.

use proc_macro2::{Delimiter, Group, LexError, TokenStream, TokenTree};
use std::ops::RangeInclusive;

/// A `mod name;`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Modules of this file around it.
    pub within: Vec<String>,
    /// The file named by `#[path]`.
    pub path: Option<String>,
    /// Whether it is there under `cfg(test)` only.
    pub test: bool,
    /// Whether `#[expect(unsafe_code)]` stands on it.
    pub invites_unsafe: bool,
    /// Where.
    pub line: usize,
}

/// A path into this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its words from the crate's root: modules, then an item.
    pub path: Vec<String>,
    /// Whether only tests name it.
    pub test: bool,
    /// Where.
    pub line: usize,
}

impl Named {
    /// The module, or item, of the crate's root.
    pub fn top(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }
}

/// A lint that is switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// `allow` or `expect`.
    pub kind: String,
    /// Whether `unsafe_code` is among the lints.
    pub of_unsafe: bool,
    /// Whether it says why.
    pub reasoned: bool,
    /// Where.
    pub line: usize,
}

/// All of one file.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Files it names.
    pub modules: Vec<Module>,
    /// What it names of its crate.
    pub named: Vec<Named>,
    /// Lines with the word `unsafe`.
    pub unsafe_lines: Vec<usize>,
    /// Lints it switches off.
    pub suppressions: Vec<Suppression>,
    /// Lines that exist for tests only.
    pub test_lines: Vec<RangeInclusive<usize>>,
    /// Whether the whole file does, by `#![cfg(test)]`.
    pub test: bool,
}

/// Where the scanner is.
#[derive(Clone, Debug)]
struct Place {
    /// The file's own module path.
    file: Vec<String>,
    /// Inline modules around it.
    within: Vec<String>,
    test: bool,
}

/// Attributes that wait for their item.
#[derive(Clone, Debug, Default)]
struct Pending {
    test: bool,
    path: Option<String>,
    invites_unsafe: bool,
}

impl Scan {
    /// Reads a file that is `module` of its crate; the root is empty.
    pub fn of(text: &str, module: &[String]) -> Result<Self, LexError> {
        let tokens: TokenStream = text.parse()?;
        let mut scan = Self::default();
        let place = Place { file: module.to_vec(), within: Vec::new(), test: false };
        scan.walk(&tokens.into_iter().collect::<Vec<_>>(), &place);
        Ok(scan)
    }

    fn walk(&mut self, tokens: &[TokenTree], place: &Place) {
        let mut pending = Pending::default();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = tokens.get(at..).unwrap_or_default();
            if let Some((attribute, inner, length)) = attribute(rest) {
                self.attribute(attribute, inner, place, &mut pending);
                at += length;
                continue;
            }
            if pending.test && !place.test {
                let length = item_length(rest);
                let item = rest.get(..length).unwrap_or(rest);
                self.test_lines.push(line(token)..=item.last().map_or(line(token), last_line));
                self.walk(item, &Place { test: true, ..place.clone() });
                pending = Pending::default();
                at += length;
                continue;
            }
            at += self.token(rest, place, &pending);
            if is_punct(token, ';')
                || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
            {
                pending = Pending::default();
            }
        }
    }

    /// Reads one token, or several that belong together, and returns how many.
    fn token(&mut self, rest: &[TokenTree], place: &Place, pending: &Pending) -> usize {
        let word = match rest.first() {
            Some(TokenTree::Ident(word)) => word.to_string(),
            Some(TokenTree::Group(group)) => {
                self.walk(&tokens(group), place);
                return 1;
            }
            Some(TokenTree::Punct(_) | TokenTree::Literal(_)) | None => return 1,
        };
        let here = rest.first().map_or(0, line);
        match (word.as_str(), rest.get(1), rest.get(2)) {
            ("unsafe", _, _) => {
                self.unsafe_lines.push(here);
                1
            }
            ("mod", Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) => {
                let mut within = place.within.clone();
                within.push(name.to_string());
                self.walk(&tokens(body), &Place { within, ..place.clone() });
                3
            }
            ("mod", Some(TokenTree::Ident(name)), Some(_)) => {
                self.modules.push(Module {
                    name: name.to_string(),
                    within: place.within.clone(),
                    path: pending.path.clone(),
                    test: place.test,
                    invites_unsafe: pending.invites_unsafe,
                    line: here,
                });
                2
            }
            ("crate" | "self" | "super", _, _) => self.path(rest, place),
            _ => 1,
        }
    }

    /// Reads the beginning of a path, `crate::x`, `super::super::x` or `crate::{x::y, z}`, and returns its length.
    fn path(&mut self, rest: &[TokenTree], place: &Place) -> usize {
        let mut module: Vec<String> = place.file.iter().chain(&place.within).cloned().collect();
        let mut at = 0;
        while let Some(TokenTree::Ident(word)) = rest.get(at) {
            match word.to_string().as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            let colons = rest.get(at + 1).zip(rest.get(at + 2));
            if !colons.is_some_and(|(first, second)| is_punct(first, ':') && is_punct(second, ':')) {
                return at + 1;
            }
            at += 3;
        }
        let mut paths = Vec::new();
        expand(rest.get(at..).unwrap_or_default(), &module, &mut paths);
        let test = place.test;
        self.named.extend(paths.into_iter().map(|(path, line)| Named { path, test, line }));
        // A group is walked again for what stands deeper in it; it holds no `crate::` of its own.
        at.max(1)
    }

    fn attribute(&mut self, attribute: &Group, inner: bool, place: &Place, pending: &mut Pending) {
        let all = tokens(attribute);
        let flat = idents(&all);
        let has = |word: &str| flat.iter().any(|ident| ident == word);
        match flat.first().map(String::as_str) {
            Some("cfg") if has("test") && !has("not") && !has("any") => {
                if inner {
                    self.test |= place.within.is_empty();
                } else {
                    pending.test = true;
                }
            }
            Some("path") => {
                pending.path = all.last().map(|token| token.to_string().trim_matches('"').to_owned())
            }
            Some(kind @ ("allow" | "expect")) => {
                let of_unsafe = has("unsafe_code");
                pending.invites_unsafe |= of_unsafe && !inner;
                let line = attribute.span_open().start().line;
                let reasoned = has("reason");
                self.suppressions.push(Suppression { kind: kind.to_owned(), of_unsafe, reasoned, line });
            }
            Some("unsafe") => self.unsafe_lines.push(attribute.span_open().start().line),
            Some(_) | None => {}
        }
    }
}

/// Every path that begins here, `x::y` or `x::{y, z::w}`, behind `base`, and where it stands.
fn expand(tokens: &[TokenTree], base: &[String], paths: &mut Vec<(Vec<String>, usize)>) {
    match tokens.first() {
        Some(TokenTree::Ident(word)) => {
            let path: Vec<String> = base.iter().cloned().chain([word.to_string()]).collect();
            match tokens.get(1..) {
                Some([first, second, rest @ ..]) if is_punct(first, ':') && is_punct(second, ':') => {
                    expand(rest, &path, paths);
                }
                Some(_) | None => paths.push((path, word.span().start().line)),
            }
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inner = self::tokens(group);
            inner.split(|token| is_punct(token, ',')).for_each(|part| expand(part, base, paths));
        }
        Some(token) => paths.push((base.to_vec(), line(token))),
        None => {}
    }
}

/// An attribute at the beginning: its brackets, whether it is an inner one, and its length in tokens.
fn attribute(tokens: &[TokenTree]) -> Option<(&Group, bool, usize)> {
    if !is_punct(tokens.first()?, '#') {
        return None;
    }
    let inner = is_punct(tokens.get(1)?, '!');
    let at = if inner { 2 } else { 1 };
    match tokens.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            Some((group, inner, at + 1))
        }
        _ => None,
    }
}

/// How many tokens the item at the beginning has: to its semicolon or its braces.
fn item_length(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| {
        is_punct(token, ';')
            || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
    };
    tokens.iter().position(ends).map_or(tokens.len(), |end| end + 1)
}

fn tokens(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

/// All words, those in groups included.
fn idents(tokens: &[TokenTree]) -> Vec<String> {
    let mut words = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(word) => words.push(word.to_string()),
            TokenTree::Group(group) => words.extend(idents(&self::tokens(group))),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    words
}

fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

fn last_line(token: &TokenTree) -> usize {
    token.span().end().line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str, module: &[&str]) -> Scan {
        let module: Vec<String> = module.iter().map(ToString::to_string).collect();
        Scan::of(text, &module).unwrap()
    }

    fn named(scan: &Scan) -> Vec<(&str, usize, bool)> {
        scan.named.iter().map(|name| (name.top(), name.line, name.test)).collect()
    }

    #[test]
    fn paths_into_the_crate_are_found_wherever_they_stand() {
        let text = "use crate::base::addr;\nuse crate::{policy::x, machine::{self, y}};\n\
                    // crate::comment\nfn f() { g!(\"crate::string\", $crate::exit::z()); }\n\
                    pub(crate) fn h(a: super::super::boot::B, b: super::near::C, c: self::D) {}\n";
        let found = scan(text, &["policy", "sched"]);
        let expected = [
            ("base", 1, false),
            ("policy", 2, false),
            ("machine", 2, false),
            ("machine", 2, false),
            ("exit", 4, false),
            ("boot", 5, false),
            ("policy", 5, false),
            ("policy", 5, false),
        ];
        let paths: Vec<String> = found.named.iter().map(|name| name.path.join("::")).collect();
        assert_eq!(paths.get(2..4), Some(["machine::self".into(), "machine::y".into()].as_slice()));
        assert_eq!(paths.get(6..), Some(["policy::near::C".into(), "policy::sched::D".into()].as_slice()));
        assert_eq!(named(&found), expected);
    }

    #[test]
    fn an_inline_module_counts_for_super() {
        let found = scan("mod inner { use super::super::machine::X; use super::y; }", &["policy"]);
        assert_eq!(named(&found), [("machine", 1, false), ("policy", 1, false)]);
    }

    #[test]
    fn what_tests_name_is_marked_and_their_lines_are_known() {
        let text = "use crate::base;\n#[cfg(test)]\nmod tests {\n    use crate::machine;\n}\n#[cfg(test)]\nuse crate::boot;\n\
                    #[cfg(not(test))]\nuse crate::policy;\n";
        let found = scan(text, &["exit"]);
        let expected = [("base", 1, false), ("machine", 4, true), ("boot", 7, true), ("policy", 9, false)];
        assert_eq!(named(&found), expected);
        assert_eq!(found.test_lines, [3..=5, 7..=7]);
    }

    #[test]
    fn modules_unsafe_and_suppressions_are_seen() {
        let text = "#![allow(dead_code)]\nmod plain;\n#[expect(unsafe_code, reason = \"registers\")]\nmod arch;\n\
                    #[path = \"../x.rs\"]\nmod far;\n#[cfg(test)]\nmod tests;\n#[unsafe(no_mangle)]\nfn f() {\n    \
                    unsafe { g(\"unsafe\") }\n}\n";
        let found = scan(text, &[]);
        let modules: Vec<_> =
            found.modules.iter().map(|m| (m.name.as_str(), m.invites_unsafe, m.test)).collect();
        let expected =
            [("plain", false, false), ("arch", true, false), ("far", false, false), ("tests", false, true)];
        assert_eq!(modules, expected);
        assert_eq!(found.modules[2].path.as_deref(), Some("../x.rs"));
        assert_eq!(found.unsafe_lines, [9, 11]);
        let suppressed: Vec<_> =
            found.suppressions.iter().map(|s| (s.kind.as_str(), s.of_unsafe, s.reasoned)).collect();
        assert_eq!(suppressed, [("allow", false, false), ("expect", true, true)]);
    }
}
