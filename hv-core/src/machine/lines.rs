//! The machine's two serial lines, shared by all processors.

use super::arch::serial::{Serial, Transmit};
use alloc::boxed::Box;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use heapless::Deque;
use spin::Mutex;

/// What waits for the line, at most.
const BUFFER_BYTES: usize = 32 << 10;
/// Looks at a line that has no room before a text is given up, and at the end before what is left is: a UART that is not there
/// must not hang us.
const WRITE_PATIENCE: u32 = 10_000_000;
const FLUSH_PATIENCE: u32 = 100_000_000;
/// COM1, for people, and COM2, for programs.
///
/// A text is put into a buffer whole, under a lock held for as long as a copy takes, and goes to the line when that has room: at
/// once, at the line's interrupt, or whenever a processor is interrupted. Nobody waits for a slow line, unless the buffer is full.
pub struct Lines {
    com1: Mutex<Serial>,
    com2: Mutex<Serial>,
    buffer: Mutex<Box<Deque<u8, BUFFER_BYTES>>>,
    /// There may be something in the buffer.
    waits: AtomicBool,
}

impl Lines {
    /// Takes the two lines into service.
    pub fn new(mut com1: Serial, com2: Serial) -> Self {
        com1.interrupt_on_receive_and(Transmit::Idle);
        Self {
            com1: Mutex::new(com1),
            com2: Mutex::new(com2),
            buffer: Mutex::new(Box::new(Deque::new())),
            waits: AtomicBool::new(false),
        }
    }

    /// Writes to people: `text` appears whole, if it is shorter than the buffer. It is lost where the line does not drain.
    pub fn write(&self, text: &[u8]) {
        for _ in 0..WRITE_PATIENCE {
            let done = self.buffered(text);
            self.pump();
            if done {
                return;
            }
        }
    }

    fn buffered(&self, text: &[u8]) -> bool {
        let mut buffer = self.buffer.lock();
        let room = BUFFER_BYTES - buffer.len();
        if room < text.len().min(BUFFER_BYTES) {
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

    /// Gives the line what it takes now, unless somebody else is at it: who lets go of it looks once more, so that what came
    /// meanwhile from one who saw it taken is not left behind.
    pub fn pump(&self) {
        while self.waits() {
            let Some(mut line) = self.com1.try_lock() else { return };
            line.offer(|| self.buffer.lock().pop_front());
            let rest = !self.buffer.lock().is_empty();
            self.waits.store(rest, SeqCst);
            line.interrupt_on_receive_and(if rest { Transmit::Waits } else { Transmit::Idle });
            drop(line);
            if rest || self.buffer.lock().is_empty() {
                return;
            }
            self.waits.store(true, SeqCst);
        }
    }

    /// Waits until everything is written. For the end of the machine.
    pub fn flush(&self) {
        for _ in 0..FLUSH_PATIENCE {
            self.pump();
            if !self.waits() {
                break;
            }
        }
        self.com1.lock().finish();
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

    /// A byte that people typed.
    pub fn read(&self) -> Option<u8> {
        self.com1.try_lock()?.read()
    }

    /// Writes to programs.
    pub fn tell(&self, bytes: &[u8]) {
        self.com2.lock().write(bytes);
    }
}
