//! The machine's lines to people and to programs, shared by all processors.

use super::arch::console::Console;
use super::arch::serial::{Serial, Transmit};
use crate::base::hardware::CONSOLE_BYTES;
use alloc::boxed::Box;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU32};
use heapless::Deque;
use spin::Mutex;

/// Looks at a line that has no room before a text is given up, and at the end before what is left is: a UART that is not there
/// must not hang us.
const WRITE_PATIENCE: u32 = 10_000_000;
const FLUSH_PATIENCE: u32 = 100_000_000;
/// Bytes that go from the buffer to the line under one hold of its lock; and that a processor moves which wrote none of them.
const CHUNK_BYTES: usize = 64;

/// The console, for people, and COM2, for programs.
///
/// A text is put into a buffer whole, under a lock held for as long as a copy takes, and goes to the line when that has room: at
/// once, at the line's interrupt, or whenever a processor is interrupted. Nobody waits for a slow line, unless the buffer is full: who
/// writes much asks for [`Self::room`] before.
pub struct SerialLog {
    console: Mutex<Console>,
    com2: Mutex<Serial>,
    buffer: Mutex<Box<Deque<u8, CONSOLE_BYTES>>>,
    /// There may be something in the buffer.
    waits: AtomicBool,
    /// Questions for room since the line last took something.
    idle_polls: AtomicU32,
}

impl SerialLog {
    /// Takes the two lines into service.
    pub fn new(mut console: Console, com2: Serial) -> Self {
        console.interrupt_on_receive_and(Transmit::Idle);
        Self {
            console: Mutex::new(console),
            com2: Mutex::new(com2),
            buffer: Mutex::new(Box::new(Deque::new())),
            waits: AtomicBool::new(false),
            idle_polls: AtomicU32::new(0),
        }
    }

    /// Bytes that can be written without waiting. What waits for a line that takes nothing is given up, lest who asks waits for ever.
    pub fn room(&self) -> usize {
        let mut buffer = self.buffer.lock();
        if !buffer.is_empty() && self.idle_polls.fetch_add(1, Relaxed) >= WRITE_PATIENCE {
            buffer.clear();
        }
        CONSOLE_BYTES - buffer.len()
    }

    /// Writes to people: `text` appears whole, if it is shorter than the buffer. It is lost where the line does not drain.
    pub fn write(&self, text: &[u8]) {
        if !self.waits() && self.written(text) {
            return;
        }
        for _ in 0..WRITE_PATIENCE {
            let done = self.buffered(text);
            // Who writes moves as much, and what others left is not for ever his.
            self.move_at_most(text.len() + CHUNK_BYTES);
            if done {
                return;
            }
        }
    }

    /// Gives the line a text past the empty buffer, and the buffer what the line does not take now. False: it is not so simple.
    fn written(&self, text: &[u8]) -> bool {
        let Some(mut line) = self.console.try_lock() else { return false };
        let mut buffer = self.buffer.lock();
        let simple = buffer.is_empty() && text.len() <= CONSOLE_BYTES;
        if simple {
            let rest = text.get(line.offer(text)..).unwrap_or_default();
            if !rest.is_empty() {
                buffer.extend(rest.iter().copied());
                self.waits.store(true, SeqCst);
                line.interrupt_on_receive_and(Transmit::Waits);
            }
        }
        simple
    }

    fn buffered(&self, text: &[u8]) -> bool {
        let mut buffer = self.buffer.lock();
        let room = CONSOLE_BYTES - buffer.len();
        if room < text.len().min(CONSOLE_BYTES) {
            return false;
        }
        buffer.extend(text.iter().copied().take(room));
        self.waits.store(true, SeqCst);
        true
    }

    /// Whether something is still to be written.
    #[inline]
    pub fn waits(&self) -> bool {
        self.waits.load(Relaxed)
    }

    /// Gives the line some of what waits, for a processor that was interrupted: others may write as fast as this one moves.
    pub fn pump(&self) {
        self.move_at_most(CHUNK_BYTES);
    }

    /// Gives the line as much of what waits as it takes now, at most so many bytes, unless somebody else is at it. Who lets go
    /// of it looks once more, so that what came meanwhile from one who saw it taken is not left behind.
    fn move_at_most(&self, most: usize) {
        let mut left = most;
        while self.waits() {
            let Some(mut line) = self.console.try_lock() else { return };
            let rest = self.move_to(&mut line, &mut left);
            self.waits.store(rest, SeqCst);
            line.interrupt_on_receive_and(if rest { Transmit::Waits } else { Transmit::Idle });
            drop(line);
            if rest || self.buffer.lock().is_empty() {
                return;
            }
            self.waits.store(true, SeqCst);
        }
    }

    /// Moves what the line takes out of the buffer, at most so many bytes; whether something stays.
    fn move_to(&self, line: &mut Console, left: &mut usize) -> bool {
        loop {
            let mut buffer = self.buffer.lock();
            let (first, second) = buffer.as_slices();
            let next = if first.is_empty() { second } else { first };
            let taken = line.offer(next.get(..next.len().min(CHUNK_BYTES).min(*left)).unwrap_or_default());
            *left -= taken;
            for _ in 0..taken {
                let _ = buffer.pop_front();
            }
            if taken == 0 {
                return !buffer.is_empty();
            }
            self.idle_polls.store(0, Relaxed);
        }
    }

    /// Waits until everything is written. For the end of the machine.
    pub fn flush(&self) {
        for _ in 0..FLUSH_PATIENCE {
            self.move_at_most(CONSOLE_BYTES);
            if !self.waits() {
                break;
            }
        }
        self.console.lock().finish();
        self.com2.lock().finish();
    }

    /// Takes what waits without waiting for anybody: for a machine that has stopped, whatever its processors hold.
    pub fn rescue(&self, mut write: impl FnMut(&[u8])) {
        if let Some(mut buffer) = self.buffer.try_lock() {
            while let Some(byte) = buffer.pop_front() {
                write(&[byte]);
            }
        }
    }

    /// Whether people see nothing of what was written once the machine is off.
    pub fn go_dark(&self) -> bool {
        self.console.lock().is_screen_only()
    }

    /// A byte that people typed.
    pub fn read(&self) -> Option<u8> {
        self.console.try_lock()?.read()
    }

    /// Writes to programs.
    pub fn tell(&self, bytes: &[u8]) {
        self.com2.lock().write(bytes);
    }
}
