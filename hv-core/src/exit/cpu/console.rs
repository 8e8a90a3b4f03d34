//! What guests and the hypervisor write to people.
//!
//! A serial line takes eleven kilobytes a second, and what it has not taken yet is kept. Where much is kept it is the guest that writes
//! which waits, in its own turns, and nobody else.

use super::Core;
use crate::base::hardware::Hardware;
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use alloc::string::String;

/// Longest line of the hypervisor's own, in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// A guest waits until so many bytes can be kept: more than three processors write at a time, each 256 line ends of a guest with the
/// longest name.
const GUEST_ROOM: usize = 16 << 10;
/// A guest's line is lost where less than this can be kept: at its end, or where more processors found room at the same moment than
/// there is room for. The rest is for the hypervisor's lines.
const LAST_WORDS_ROOM: usize = 8 << 10;

/// Room for one text of a guest's on people's line. [`Core::console`] takes it, so whoever lets a guest write has asked for room
/// first, whichever instruction, register or queue the guest writes by.
#[derive(Debug)]
#[must_use]
pub struct Room(());

impl<P: Platform> Core<P> {
    /// Room for what a guest writes. Where there is none, what it does to write is done again in its next turn.
    #[inline]
    pub fn console_room(&mut self) -> Option<Room> {
        (self.hardware.console_room() >= GUEST_ROOM).then_some(Room(()))
    }

    /// Room for what a guest writes that cannot wait.
    pub fn last_words_room(&mut self) -> Option<Room> {
        self.hears_last_words().then_some(Room(()))
    }

    fn hears_last_words(&mut self) -> bool {
        self.hardware.console_room() >= LAST_WORDS_ROOM
    }

    /// Writes to a guest's console: lines appear whole, with the guest's name in front, unless it is somebody's terminal. A text that
    /// other processors took the room from is lost.
    pub fn console(&mut self, guest: &Guest<P::Ram>, bytes: &[u8], _room: Room) {
        if self.system.has_terminal && guest.id == self.system.input_guest {
            if self.hears_last_words() {
                self.hardware.console_write(bytes);
            }
            return;
        }
        let mut line = guest.line.lock();
        for byte in bytes.iter().copied().filter(|byte| *byte != b'\r') {
            if byte == b'\n' || line.is_full() {
                if self.hears_last_words() {
                    self.write_line(guest, &line);
                }
                line.clear();
            }
            if byte != b'\n' {
                let _ = line.push(byte);
            }
        }
    }

    /// Shows what a guest wrote and did not end: it will not write more.
    pub fn end_line(&mut self, guest: &Guest<P::Ram>) {
        let mut line = guest.line.lock();
        if !line.is_empty() {
            self.write_line(guest, &line);
            line.clear();
        }
    }

    fn write_line(&mut self, guest: &Guest<P::Ram>, line: &[u8]) {
        let mut whole = heapless::Vec::<u8, MAX_LINE_BYTES>::new();
        for part in [b"[".as_slice(), guest.config.name.as_bytes(), b"] ", line, b"\n"] {
            let _ = whole.extend_from_slice(part); // a name and a line are shorter together
        }
        self.hardware.console_write(&whole);
    }

    /// Writes a line of the hypervisor's own.
    pub fn say(&mut self, text: core::fmt::Arguments<'_>) {
        let mut line = String::new();
        let _ = core::fmt::Write::write_fmt(&mut line, format_args!("comity: {text}\n"));
        self.hardware.console_write(line.as_bytes());
    }
}
