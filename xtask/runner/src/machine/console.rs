//! COM1: lines for people, each with who said it.

use std::fmt;
use std::io::{Read, Write};
use std::sync::mpsc::SyncSender;

/// Longest line kept whole, in bytes; a guest that never ends its line gets it cut here.
const MAX_LINE_BYTES: usize = 4096;
/// What the hypervisor's own lines begin with.
const HYPERVISOR: &str = "comity: ";

/// Who said a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// A guest, by name.
    Guest(String),
    /// The hypervisor.
    Hypervisor,
    /// Firmware, or a bare kernel.
    Unnamed,
}

/// One line of COM1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Who said it.
    pub speaker: Speaker,
    /// What, without the name and without control characters.
    pub text: String,
}

impl Line {
    /// Reads a line as the hypervisor writes it: `[name] text`, or `comity: text` for its own.
    fn of_hypervisor(raw: &str) -> Self {
        if let Some(text) = raw.strip_prefix(HYPERVISOR) {
            return Self { speaker: Speaker::Hypervisor, text: text.to_owned() };
        }
        let named = raw.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match named {
            Some((name, text)) if !name.is_empty() && !name.contains(' ') => Self {
                speaker: Speaker::Guest(name.to_owned()),
                text: text.strip_prefix(' ').unwrap_or(text).to_owned(),
            },
            Some(_) | None => Self::unnamed(raw),
        }
    }

    fn unnamed(raw: &str) -> Self {
        Self { speaker: Speaker::Unnamed, text: raw.to_owned() }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.speaker {
            Speaker::Guest(name) => write!(f, "[{name}] {}", self.text),
            Speaker::Hypervisor => write!(f, "{HYPERVISOR}{}", self.text),
            Speaker::Unnamed => f.write_str(&self.text),
        }
    }
}

/// Reads lines until the end; `hypervised` lines carry names. All bytes go to `terminal` too, as they come.
pub(super) fn read(
    mut com1: impl Read,
    hypervised: bool,
    mut terminal: Option<impl Write>,
    lines: &SyncSender<Line>,
) {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    let parse = if hypervised { Line::of_hypervisor } else { Line::unnamed };
    let send = |line: &mut Vec<u8>| {
        // A closed channel means that nobody wants the lines; QEMU's pipe is drained all the same.
        let _ = lines.send(parse(&printable(line)));
        line.clear();
    };
    loop {
        let received = match com1.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(received) => received,
        };
        if let Some(terminal) = &mut terminal {
            // Nobody looks any more: the machine runs on.
            let _ = terminal.write_all(buffer.get(..received).unwrap_or_default());
            let _ = terminal.flush();
        }
        for byte in buffer.iter().take(received) {
            match byte {
                b'\n' => send(&mut line),
                b'\r' => {}
                other => {
                    if line.len() == MAX_LINE_BYTES {
                        send(&mut line);
                    }
                    line.push(*other);
                }
            }
        }
    }
    if !line.is_empty() {
        send(&mut line);
    }
}

/// The text with control characters spelled out: a guest may not steer the user's terminal.
fn printable(line: &[u8]) -> String {
    let mut text = String::new();
    for letter in String::from_utf8_lossy(line).chars() {
        if letter.is_control() && letter != '\t' {
            text.extend(letter.escape_default());
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn lines(bytes: &[u8], hypervised: bool) -> Vec<Line> {
        let (sender, receiver) = sync_channel(64);
        read(bytes, hypervised, None::<Vec<u8>>, &sender);
        drop(sender);
        receiver.iter().collect()
    }

    #[test]
    fn each_line_has_its_speaker() {
        let heard = lines(b"SeaBIOS\r\ncomity: up\n[a] hello\n[b] [a] I am a\n[no name] x\nlast", true);
        let expected = [
            (Speaker::Unnamed, "SeaBIOS"),
            (Speaker::Hypervisor, "up"),
            (Speaker::Guest("a".into()), "hello"),
            (Speaker::Guest("b".into()), "[a] I am a"),
            (Speaker::Unnamed, "[no name] x"),
            (Speaker::Unnamed, "last"),
        ];
        let expected = expected.map(|(speaker, text)| Line { speaker, text: text.into() });
        assert_eq!(heard, expected);
        assert_eq!(
            heard.iter().map(ToString::to_string).collect::<Vec<_>>()[1..3],
            ["comity: up", "[a] hello"]
        );
        assert_eq!(lines(b"[a] x\n", false), [Line::unnamed("[a] x")], "a bare kernel has no name");
    }

    #[test]
    fn a_guest_cannot_steer_the_terminal_or_grow_a_line_without_bound() {
        assert_eq!(lines(b"[a] \x1b[2J\xff\x07\n", true)[0].text, "\\u{1b}[2J\u{fffd}\\u{7}");
        let flood = lines(&[b'x'; 3 * MAX_LINE_BYTES + 1], true);
        assert_eq!(flood.iter().map(|line| line.text.len()).collect::<Vec<_>>(), [4096, 4096, 4096, 1]);
    }
}
