//! Console output of guests and of the hypervisor.
//!
//! A serial line takes eleven kilobytes a second, and output that it has not taken yet is buffered. When much output is
//! buffered, only the guest that writes waits, in its own turns; `policy/turns.rs` decides which of the waiting guests is
//! next. Every text is promised room before it is written, and the promises of all processors are summed, so the buffer never
//! overflows.

use super::CpuContext;
use crate::base::hardware::{GuestRam, Hardware};
use crate::base::id::{GuestId, MAX_VCPUS_PER_GUEST};
use crate::base::lock::Lock;
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use crate::policy::turns::{LAST_WORDS_FLOOR, TEXT_BYTES, Turns, becomes};
use alloc::string::String;

/// Longest line of a guest's, with its name, in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// Console output that a guest is charged for before it begins: about the length of the report of its end.
const ENDING_BYTES: usize = 1024;

/// Room for one text in the console's buffer, until this value is dropped. [`CpuContext::console`] takes it, so every path by
/// which a guest writes (instruction, register or queue) has to ask for room first.
#[derive(Debug)]
#[must_use]
pub struct Room {
    turns: &'static Lock<Turns>,
    guest: Option<GuestId>,
    bytes: usize,
    unused: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.turns.lock().settle(self.guest, self.bytes, self.unused);
    }
}

/// Upper bound of this text's length in bytes once lines carry the guest's name.
fn exactly<R: GuestRam>(guest: &Guest<R>, text: &[u8]) -> usize {
    let ends = text.iter().filter(|byte| **byte == b'\n').count();
    becomes(text.len(), ends, guest.config.name.len())
}

impl<P: Platform> CpuContext<P> {
    /// Room for a text of a guest's. If there is none, or if it is another guest's turn, the guest retries the write in its
    /// next turn.
    pub fn console_room(&mut self, guest: &Guest<P::Ram>, text: &[u8]) -> Option<Room> {
        // If any text of this length fits, its line ends need not be counted.
        let most = becomes(text.len(), text.len(), guest.config.name.len());
        self.room_for(guest, most).or_else(|| self.room_for(guest, exactly(guest, text)))
    }

    /// Whether a byte only makes the guest's unfinished line longer, even if all vCPUs of the guest do that at once: such a
    /// byte needs no room.
    pub fn is_only_kept(&self, guest: &Guest<P::Ram>, byte: u8) -> bool {
        !matches!(byte, b'\n' | b'\r')
            && !self.is_terminal(guest)
            && guest.console.line.lock().len() + MAX_VCPUS_PER_GUEST <= TEXT_BYTES
    }

    fn is_terminal(&self, guest: &Guest<P::Ram>) -> bool {
        self.system.has_terminal && guest.id == self.system.input_guest
    }

    fn room_for(&mut self, guest: &Guest<P::Ram>, bytes: usize) -> Option<Room> {
        self.hardware.serve_console(); // makes some room for the caller, before other processors wait for the lock
        let mut turns = self.system.turns.lock();
        let granted = turns.ask(guest.id, bytes, self.hardware.console_room(), self.hardware.now());
        let news = granted.then(|| turns.news())?;
        drop(turns);
        if let Some(lost) = news {
            self.say(format_args!("console: texts lost={lost}"));
        }
        Some(self.promised(Some(guest.id), bytes))
    }

    /// Whether a guest may begin: the console has room for the report of its end, and the guest is charged for that.
    pub fn may_begin(&mut self, guest: &Guest<P::Ram>) -> bool {
        self.room_for(guest, ENDING_BYTES).map(|mut room| room.unused = 0).is_some()
    }

    /// Room for a text of a guest's that cannot wait, because the guest is ending.
    pub fn last_words_room(&mut self, guest: &Guest<P::Ram>, text: &[u8]) -> Option<Room> {
        self.promise(Some(guest.id), exactly(guest, text), LAST_WORDS_FLOOR)
    }

    fn promise(&mut self, guest: Option<GuestId>, bytes: usize, floor: usize) -> Option<Room> {
        let fits = self.system.turns.lock().promise(guest, bytes, floor, self.hardware.console_room());
        fits.then(|| self.promised(guest, bytes))
    }

    const fn promised(&self, guest: Option<GuestId>, bytes: usize) -> Room {
        Room { turns: &self.system.turns, guest, bytes, unused: bytes }
    }

    /// Writes to a guest's console: lines appear whole, with the guest's name in front, unless the console is a terminal for
    /// that guest.
    pub fn console(&mut self, guest: &Guest<P::Ram>, text: &[u8], mut room: Room) {
        if self.is_terminal(guest) {
            return self.write(text, &mut room);
        }
        let mut line = guest.console.line.lock();
        for byte in text.iter().copied().filter(|byte| *byte != b'\r') {
            if byte == b'\n' || line.is_full() {
                self.write_line(guest, &line, &mut room);
                line.clear();
            }
            if byte != b'\n' {
                let _ = line.push(byte);
            }
        }
    }

    /// Writes out a guest's unfinished line: the guest will not write more.
    pub fn end_line(&mut self, guest: &Guest<P::Ram>) {
        let is_begun = !guest.console.line.lock().is_empty();
        if is_begun && let Some(room) = self.last_words_room(guest, b"\n") {
            self.console(guest, b"\n", room);
        }
        guest.console.line.lock().clear();
    }

    fn write_line(&mut self, guest: &Guest<P::Ram>, line: &[u8], room: &mut Room) {
        let mut whole = heapless::Vec::<u8, MAX_LINE_BYTES>::new();
        for part in [b"[".as_slice(), guest.config.name.as_bytes(), b"] ", line, b"\n"] {
            let _ = whole.extend_from_slice(part); // the name and the line fit together
        }
        self.write(&whole, room);
    }

    /// Writes a formatted text, if it is no longer than the room that was promised.
    fn write(&mut self, text: &[u8], room: &mut Room) {
        if let Some(unused) = room.unused.checked_sub(text.len()) {
            room.unused = unused;
            self.hardware.console_write(text);
        }
    }

    /// Writes a line of the hypervisor's own; drops it if the console has no room.
    pub fn say(&mut self, text: core::fmt::Arguments<'_>) {
        let mut line = String::new();
        let _ = core::fmt::Write::write_fmt(&mut line, format_args!("comity: {text}\n"));
        if let Some(mut room) = self.promise(None, line.len(), 0) {
            self.write(line.as_bytes(), &mut room);
        }
    }
}
