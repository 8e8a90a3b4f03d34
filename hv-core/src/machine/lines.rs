//! The machine's two serial lines, shared by all processors.

use super::arch::serial::Serial;
use alloc::boxed::Box;
use heapless::Deque;
use spin::Mutex;

/// What waits for the line, at most.
const BUFFER_BYTES: usize = 32 << 10;
/// Bytes that go from the buffer to the line at once.
const CHUNK_BYTES: usize = 64;

/// COM1, for people, and COM2, for programs.
///
/// A text is put into a buffer whole, under a lock held for as long as a copy takes. Whoever gets the line empties the buffer:
/// nobody waits for a slow line while another processor is writing, unless the buffer is full.
pub struct Lines {
    com1: Mutex<Serial>,
    com2: Mutex<Serial>,
    buffer: Mutex<Box<Deque<u8, BUFFER_BYTES>>>,
}

impl Lines {
    /// Takes the two lines into service.
    pub fn new(com1: Serial, com2: Serial) -> Self {
        Self { com1: Mutex::new(com1), com2: Mutex::new(com2), buffer: Mutex::new(Box::new(Deque::new())) }
    }

    /// Writes to people: `text` appears whole, if it is shorter than the buffer.
    pub fn write(&self, text: &[u8]) {
        if let Some(mut line) = self.com1.try_lock() {
            drain(&mut line, &self.buffer);
            line.write(text);
        } else {
            while !self.buffered(text) {
                drain(&mut self.com1.lock(), &self.buffer);
            }
        }
        self.empty();
    }

    fn buffered(&self, text: &[u8]) -> bool {
        let mut buffer = self.buffer.lock();
        let room = BUFFER_BYTES - buffer.len();
        if room < text.len().min(BUFFER_BYTES) {
            return false;
        }
        buffer.extend(text.iter().copied().take(room));
        true
    }

    /// Empties the buffer, unless somebody else is at it. Who lets go of the line looks once more: what came meanwhile from
    /// one who saw the line taken is not left behind.
    fn empty(&self) {
        while !self.buffer.lock().is_empty() {
            let Some(mut line) = self.com1.try_lock() else { return };
            drain(&mut line, &self.buffer);
        }
    }

    /// Waits until everything is written. For the end of the machine.
    pub fn flush(&self) {
        let mut com1 = self.com1.lock();
        drain(&mut com1, &self.buffer);
        com1.finish();
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

fn drain(line: &mut Serial, buffer: &Mutex<Box<Deque<u8, BUFFER_BYTES>>>) {
    loop {
        let mut chunk = heapless::Vec::<u8, CHUNK_BYTES>::new();
        {
            let mut buffer = buffer.lock();
            while let Some(byte) = buffer.front().copied().filter(|_| !chunk.is_full()) {
                let _ = chunk.push(byte);
                let _ = buffer.pop_front();
            }
        }
        if chunk.is_empty() {
            return;
        }
        line.write(&chunk);
    }
}
