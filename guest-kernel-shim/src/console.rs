//! The console: COM1; in a cooperative guest a ring, or calls. Text is gathered into lines, since each write may exit.

mod input;
pub(crate) mod shared;
mod uart;

pub use input::on_input;

use crate::platform::is_cooperative;
use crate::{call, interrupt};
use core::fmt::{self, Write};
use pv_abi::call::CONSOLE_MAX_BYTES;
use spin::Mutex;

/// Bytes that are gathered before they are written: what one call takes.
const GATHER_BYTES: usize = 256;
const _: () = assert!(GATHER_BYTES as u64 == CONSOLE_MAX_BYTES);

#[derive(Clone, Copy)]
struct Gathered {
    bytes: [u8; GATHER_BYTES],
    len: usize,
}

static GATHERED: Mutex<Gathered> = Mutex::new(Gathered { bytes: [0; GATHER_BYTES], len: 0 });

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($arguments:tt)*) => { $crate::console::print(format_args!($($arguments)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arguments:tt)*) => { $crate::console::print_line(format_args!($($arguments)*)) };
}

/// Prints text; it is written at the end of a line at the latest.
pub fn print(text: fmt::Arguments<'_>) {
    interrupt::without(|| {
        let mut gathered = GATHERED.lock();
        if gathered.write_fmt(text).is_err() {
            gathered.len = 0;
        }
    });
}

/// Prints a line as a whole: lines of two processors do not mix.
pub fn print_line(text: fmt::Arguments<'_>) {
    print(format_args!("{text}\n"));
}

/// Writes what was gathered, and has it shown.
pub fn flush() {
    interrupt::without(|| GATHERED.lock().flush());
    shared::flush();
}

/// Writes bytes at once, past what is gathered. Called with interrupts off.
pub fn write(bytes: &[u8]) {
    if is_cooperative() {
        if shared::write(bytes) {
            return;
        }
        for part in bytes.chunks(GATHER_BYTES) {
            call::console_write(part);
        }
    } else {
        uart::write(bytes);
    }
}

/// Reads what was typed; answers how many bytes.
pub fn read(bytes: &mut [u8]) -> usize {
    if is_cooperative() {
        let most = bytes.len().min(GATHER_BYTES);
        let Some(part) = bytes.get_mut(..most) else { return 0 };
        let (code, read) = call::console_read(part);
        if code == call::Code::OK { usize::try_from(read).unwrap_or(0).min(most) } else { 0 }
    } else {
        uart::read(bytes)
    }
}

/// Makes the console's ring anew, after it was spoilt.
pub fn start_over() {
    interrupt::without(start);
}

/// Before a last message: what a processor that will not go on held, it holds no more.
pub(crate) fn break_locks() {
    interrupt::disable();
    if is_cooperative() {
        shared::give_up();
    }
    if GATHERED.try_lock().is_none() {
        crate::arch::force_unlock(&GATHERED);
    }
}

pub(crate) fn start() {
    if is_cooperative() {
        shared::start();
    } else {
        uart::start();
    }
}

impl Gathered {
    fn flush(&mut self) {
        write(self.bytes.get(..self.len).unwrap_or(&[]));
        self.len = 0;
    }
}

impl Write for Gathered {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.len == GATHER_BYTES {
                self.flush();
            }
            if let Some(slot) = self.bytes.get_mut(self.len) {
                *slot = byte;
                self.len += 1;
            }
            if byte == b'\n' {
                self.flush();
            }
        }
        Ok(())
    }
}
