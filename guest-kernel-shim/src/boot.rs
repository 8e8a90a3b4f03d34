//! What the loader handed over, with a parser for the words of the command line.
//!
//! ```
//! use guest_kernel_shim::Boot;
//!
//! /// Rounds to do: `rounds=N` on the command line; one in a quick run; else a thousand.
//! fn rounds(boot: &Boot) -> u64 {
//!     let default = if boot.has("quick") { 1 } else { 1_000 };
//!     boot.number("rounds").unwrap_or(default)
//! }
//! ```

pub use crate::arch::boot::{Boot, MAX_REGIONS, Region};

impl Boot {
    /// The value of the first word `key=value` on the command line.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.command_line()
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')))
    }

    /// The value of `key=value` as a decimal number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.value(key).and_then(|value| value.parse().ok())
    }

    /// Whether the command line has the word `key` without a value.
    pub fn has(&self, key: &str) -> bool {
        self.command_line().split_ascii_whitespace().any(|word| word == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_must_match_as_a_whole() {
        let boot = Boot::with_command_line("abench=no bench=micro  quiet n=12 n=13 bad=x1");
        assert_eq!(boot.value("bench"), Some("micro"));
        assert_eq!(boot.number("n"), Some(12));
        assert_eq!(boot.number("bad"), None);
        assert_eq!(boot.value("quiet"), None);
        assert!(boot.has("quiet") && !boot.has("bench") && !boot.has("qui"));
    }
}
