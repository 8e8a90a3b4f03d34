//! The machine's serial output, to people and to programs, shared by all processors.

use super::arch::console::Console;
use super::arch::serial::{Serial, Transmit};
use crate::base::hardware::CONSOLE_BYTES;
use alloc::boxed::Box;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU32};
use heapless::Deque;
use spin::Mutex;

/// Polls of a UART without room before a text is dropped, and, at power-off, before the rest of the buffer is: an absent UART
/// must not hang the hypervisor.
const WRITE_PATIENCE: u32 = 10_000_000;
const FLUSH_PATIENCE: u32 = 100_000_000;
/// Most bytes moved from the buffer to the UART under one hold of the buffer's lock; also the share that a processor moves beyond its
/// own text.
const CHUNK_BYTES: usize = 64;

/// The console, for people, and COM2, for programs.
///
/// A writer puts a text into a buffer whole, under a lock held for the time of a copy; processors move it to the UART when that has
/// room: at once, at the UART's interrupt, or whenever a processor is interrupted. A writer waits for a slow UART only if the buffer is
/// full; the caller checks [`Self::room`] before it writes a lot.
pub struct SerialLog {
    console: Mutex<Console>,
    com2: Mutex<Serial>,
    buffer: Mutex<Box<Deque<u8, CONSOLE_BYTES>>>,
    /// Whether the buffer may hold bytes.
    waits: AtomicBool,
    /// Calls of [`Self::room`] with a non-empty buffer since the UART last accepted a byte.
    idle_polls: AtomicU32,
}

impl SerialLog {
    /// Makes the log of the two outputs, and enables COM1's receive interrupt.
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

    /// Returns the number of bytes that a caller can write without waiting. If the UART accepts nothing for `WRITE_PATIENCE` calls, the
    /// buffer is dropped so that callers cannot wait forever.
    pub fn room(&self) -> usize {
        let mut buffer = self.buffer.lock();
        if !buffer.is_empty() && self.idle_polls.fetch_add(1, Relaxed) >= WRITE_PATIENCE {
            buffer.clear();
        }
        CONSOLE_BYTES - buffer.len()
    }

    /// Writes `text` to the console, whole if it is shorter than the buffer. The text is lost if the UART does not drain.
    pub fn write(&self, text: &[u8]) {
        if !self.waits() && self.written(text) {
            return;
        }
        for _ in 0..WRITE_PATIENCE {
            let done = self.buffered(text);
            // A writer moves as many bytes as it writes and a chunk of other writers' bytes, so that its work is bounded.
            self.move_at_most(text.len() + CHUNK_BYTES);
            if done {
                return;
            }
        }
    }

    /// Offers a text to the UART directly, and buffers the bytes that the UART does not accept now. Returns false, without an effect, if
    /// another processor holds the console, the buffer is not empty, or the text is longer than the buffer.
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

    /// Whether the buffer may hold bytes that are still to be written.
    #[inline]
    pub fn waits(&self) -> bool {
        self.waits.load(Relaxed)
    }

    /// Moves at most one chunk to the UART, on a processor that was interrupted: bounded, since other processors may write as fast as this
    /// one moves.
    pub fn pump(&self) {
        self.move_at_most(CHUNK_BYTES);
    }

    /// Moves buffered bytes to the UART as long as it accepts them, at most `most` bytes, unless another processor holds the console. After
    /// the release of the console the processor checks the buffer again, so that bytes from a writer that found the console held are not
    /// left behind.
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

    /// Moves the bytes that the UART accepts out of the buffer, at most `left`, which it decreases; returns whether bytes remain.
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

    /// Waits until all bytes are written, for a bounded number of polls; for power-off.
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

    /// Drains the buffer into `write` without waiting for a lock: for the panic report, when a stopped processor may hold it.
    pub fn rescue(&self, mut write: impl FnMut(&[u8])) {
        if let Some(mut buffer) = self.buffer.try_lock() {
            while let Some(byte) = buffer.pop_front() {
                write(&[byte]);
            }
        }
    }

    /// Whether the output goes to a screen only, so that people lose sight of it once the machine is off.
    pub fn go_dark(&self) -> bool {
        self.console.lock().is_screen_only()
    }

    /// Returns the next byte received by COM1; `None` if there is none, or another processor holds the console.
    pub fn read(&self) -> Option<u8> {
        self.console.try_lock()?.read()
    }

    /// Writes to programs, by COM2.
    pub fn tell(&self, bytes: &[u8]) {
        self.com2.lock().write(bytes);
    }
}
