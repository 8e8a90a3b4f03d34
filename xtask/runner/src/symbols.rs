//! Names for the addresses in a panic report.

use addr2line::Loader;
use std::borrow::Cow;
use std::path::Path;

/// What stands before a return address in a panic report.
const BACKTRACE: &str = "backtrace 0x";
/// What begins a panic report, and what stands in it before the address of a faulting instruction.
const FAULT: (&str, &str) = ("panic: ", " at 0x");
/// What stands between a function and the one it was inlined in.
const INLINED_IN: &str = "\n    in ";

/// The symbols of one image.
pub struct Symbols {
    loader: Loader,
}

impl Symbols {
    /// Reads them from an ELF; `None` when the file cannot be read.
    pub fn of(image: &Path) -> Option<Self> {
        Loader::new(image).ok().map(|loader| Self { loader })
    }

    /// Returns the line with function, file and line behind the address of a `backtrace 0x…` or of a `panic: … at 0x…`;
    /// any other line as it is.
    pub fn annotate(&self, line: &str) -> String {
        let named = address_in(line).and_then(|address| self.name(address));
        named.map_or_else(|| line.to_owned(), |name| format!("{line} {name}"))
    }

    /// The functions at an address, innermost first, inlined ones included.
    pub fn name(&self, address: u64) -> Option<String> {
        let symbol = || {
            let symbol = self.loader.find_symbol(address)?;
            Some(addr2line::demangle_auto(symbol.into(), None).into_owned())
        };
        let mut names = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                // With line tables only, the symbol table knows the function.
                let function = match &frame.function {
                    Some(function) => function.demangle().ok().map(Cow::into_owned),
                    None => symbol(),
                };
                let place =
                    frame.location.and_then(|at| Some(format!(" ({}:{})", short_file(at.file?), at.line?)));
                names.extend(function.map(|function| short_name(&function) + &place.unwrap_or_default()));
            }
        }
        if names.is_empty() {
            names.push(symbol()?);
        }
        Some(names.join(INLINED_IN))
    }
}

/// A function without its type parameters: `run<A, B>` is `run`.
fn short_name(name: &str) -> String {
    match name.split_once('<') {
        Some((short, _)) if !short.is_empty() && !short.ends_with(':') => short.to_owned(),
        Some(_) | None => name.to_owned(),
    }
}

/// A file of this repository from its root, any other as it is.
fn short_file(file: &str) -> &str {
    let root = crate::root().to_str();
    root.and_then(|root| file.strip_prefix(root)).map_or(file, |short| short.trim_start_matches('/'))
}

/// The address of a line of a panic report: of the call, where it gives a return address.
fn address_in(line: &str) -> Option<u64> {
    let number = |text: &str| {
        let digits = text.split(|letter: char| !letter.is_ascii_hexdigit()).next()?;
        u64::from_str_radix(digits, 16).ok()
    };
    if let Some((_, after)) = line.split_once(BACKTRACE) {
        // The call ends at its return address.
        return number(after)?.checked_sub(1);
    }
    let (begins, before) = FAULT;
    let (_, fault) = line.split_once(begins)?;
    number(fault.split_once(before)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn marked_for_the_test() -> u64 {
        std::hint::black_box(7)
    }

    #[test]
    fn an_address_is_found_in_a_panic_report_and_nowhere_else() {
        assert_eq!(address_in("comity: backtrace 0x101f3a"), Some(0x10_1f39), "the call before it");
        assert_eq!(address_in("comity: backtrace 0xzz"), None);
        assert_eq!(
            address_in("comity: panic: exception 13 error 0x0 at 0x1077c5 rsp 0x13d570"),
            Some(0x10_77c5)
        );
        assert_eq!(address_in("comity: panic at hv-core/src/boot.rs:7:5"), None);
        assert_eq!(address_in("comity: guest: killed at 0x1000"), None);
    }

    #[test]
    fn names_and_files_are_shortened_to_what_a_reader_needs() {
        assert_eq!(short_name("turn<hv_core::Svm, hv_core::Ram>"), "turn");
        assert_eq!(short_name("<A as B>::f"), "<A as B>::f");
        assert_eq!(short_file(concat!(env!("CARGO_MANIFEST_DIR"), "/src/x.rs")), "xtask/runner/src/x.rs");
        assert_eq!(short_file("/usr/lib/x.rs"), "/usr/lib/x.rs");
    }

    #[test]
    fn an_unknown_address_leaves_the_line_alone() {
        let symbols = Symbols::of(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(symbols.annotate("comity: backtrace 0x7fffffff0000"), "comity: backtrace 0x7fffffff0000");
        assert!(Symbols::of(Path::new("/nonexistent")).is_none());
    }

    #[test]
    fn an_address_inside_a_function_gets_its_name() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let image_start = u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
        let inside = marked_for_the_test as *const () as u64 + 2 - image_start;
        let symbols = Symbols::of(&std::env::current_exe().unwrap()).unwrap();
        let line = symbols.annotate(&format!("comity: backtrace {inside:#x}"));
        assert!(line.contains("marked_for_the_test"), "{line}");
        assert!(line.contains("symbols.rs:"), "{line}");
        assert_eq!(marked_for_the_test(), 7);
    }
}
