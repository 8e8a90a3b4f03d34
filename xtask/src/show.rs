//! Showing COM1: each guest's name in its colour, and names for the addresses of a panic report.

use runner::machine::{Line, Speaker};
use runner::symbols::Symbols;
use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// ANSI colours that read on dark and light grounds, in the order guests speak up.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
/// The hypervisor: bold.
const BOLD: u8 = 1;

/// The user's terminal, or a file.
pub struct Screen {
    coloured: bool,
    symbols: Option<Symbols>,
    guests: BTreeMap<String, u8>,
}

impl Screen {
    /// Returns a screen for a machine that boots `image`.
    pub fn new(image: &Path) -> Self {
        Self {
            coloured: io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none(),
            symbols: Symbols::of(image),
            guests: BTreeMap::new(),
        }
    }

    /// Shows a line.
    pub fn show(&mut self, line: &Line) {
        let text = self.render(line);
        // Nobody looks any more: the machine runs on and its code counts.
        let _ = writeln!(io::stdout().lock(), "{text}");
    }

    fn render(&mut self, line: &Line) -> String {
        let colour = match &line.speaker {
            Speaker::Unnamed => None,
            Speaker::Hypervisor => Some(BOLD),
            Speaker::Guest(name) => {
                let next = COLOURS.get(self.guests.len() % COLOURS.len()).copied().unwrap_or(BOLD);
                Some(*self.guests.entry(name.clone()).or_insert(next))
            }
        };
        let plain = match (&line.speaker, &self.symbols) {
            (Speaker::Hypervisor | Speaker::Unnamed, Some(symbols)) => symbols.annotate(&line.to_string()),
            (Speaker::Guest(_), _) | (_, None) => line.to_string(),
        };
        match (colour, plain.split_once(' ')) {
            (Some(colour), Some((name, text))) if self.coloured => {
                format!("\x1b[{colour}m{name}\x1b[0m {text}")
            }
            _ => plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(coloured: bool) -> Screen {
        Screen { coloured, symbols: None, guests: BTreeMap::new() }
    }

    fn said(name: &str) -> Line {
        Line { speaker: Speaker::Guest(name.into()), text: "hi there".into() }
    }

    #[test]
    fn a_guest_keeps_its_colour_and_another_gets_its_own() {
        let mut screen = screen(true);
        assert_eq!(screen.render(&said("a")), "\x1b[36m[a]\x1b[0m hi there");
        assert_eq!(screen.render(&said("b")), "\x1b[33m[b]\x1b[0m hi there");
        assert_eq!(screen.render(&said("a")), "\x1b[36m[a]\x1b[0m hi there");
    }

    #[test]
    fn a_file_gets_no_colours() {
        assert_eq!(screen(false).render(&said("a")), "[a] hi there");
    }
}
