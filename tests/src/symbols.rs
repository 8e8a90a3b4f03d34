//! Names for the addresses in an epitaph.

use addr2line::Loader;
use std::path::Path;

/// What stands before an address that wants a name.
const BACKTRACE: &str = "backtrace 0x";

/// The symbols of one image.
pub struct Symbols {
    loader: Loader,
}

impl Symbols {
    /// Reads them from an ELF; `None` when the file cannot be read.
    pub fn of(image: &Path) -> Option<Self> {
        Loader::new(image).ok().map(|loader| Self { loader })
    }

    /// Returns the line with function, file and line behind the return address of a `backtrace 0x…`; any other line as
    /// it is.
    pub fn annotate(&self, line: &str) -> String {
        // The call ends at a return address; the line wanted is the call's.
        let named = address_in(line).and_then(|address| self.name(address.checked_sub(1)?));
        named.map_or_else(|| line.to_owned(), |name| format!("{line} {name}"))
    }

    /// The functions at an address, innermost first, inlined ones included.
    pub fn name(&self, address: u64) -> Option<String> {
        let mut names = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let Some(function) = &frame.function else { continue };
                let function = function.demangle().map_or_else(|_| "?".to_owned(), |name| name.into_owned());
                let place = frame.location.and_then(|at| Some(format!(" ({}:{})", at.file?, at.line?)));
                names.push(function + &place.unwrap_or_default());
            }
        }
        if names.is_empty() {
            names.push(addr2line::demangle_auto(self.loader.find_symbol(address)?.into(), None).into_owned());
        }
        Some(names.join(" in "))
    }
}

fn address_in(line: &str) -> Option<u64> {
    let (_, after) = line.split_once(BACKTRACE)?;
    let digits = after.split(|letter: char| !letter.is_ascii_hexdigit()).next()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn marked_for_the_test() -> u64 {
        std::hint::black_box(7)
    }

    #[test]
    fn an_address_is_found_in_an_epitaph_and_nowhere_else() {
        assert_eq!(address_in("comity: backtrace 0x101f3a"), Some(0x10_1f3a));
        assert_eq!(address_in("comity: backtrace 0xzz"), None);
        assert_eq!(address_in("comity: panic: at 0x1000"), None);
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
