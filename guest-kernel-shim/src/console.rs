//! The console: COM1, or in a cooperative guest a ring or calls. The console gathers text into lines, because each
//! write may exit.
//!
//! ```no_run
//! use guest_kernel_shim::{console, println};
//!
//! println!("what is your name?");
//! let mut typed = [0; 64];
//! let count = console::read(&mut typed);
//! println!("{count} bytes were typed");
//! console::flush();
//! ```

mod input;
pub(crate) mod shared;
mod uart;

pub use input::on_input;

use crate::platform::is_cooperative;
use crate::{call, interrupt};
use core::fmt::{self, Write};
use pv_abi::call::CONSOLE_MAX_BYTES;
use spin::Mutex;

/// Size of the line buffer: what one call takes.
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

/// Prints text. The console writes it at the end of the line at the latest.
pub fn print(text: fmt::Arguments<'_>) {
    interrupt::without(|| {
        let mut gathered = GATHERED.lock();
        if gathered.write_fmt(text).is_err() {
            gathered.len = 0;
        }
    });
}

/// Prints a line as a whole, so that lines of two processors do not mix.
pub fn print_line(text: fmt::Arguments<'_>) {
    print(format_args!("{text}\n"));
}

/// Writes the gathered text, and makes the hypervisor print it.
pub fn flush() {
    interrupt::without(|| GATHERED.lock().flush());
    shared::flush();
}

/// Writes bytes at once, without the line buffer. The caller has interrupts off.
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

/// Reads console input; returns how many bytes.
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

/// Makes a new console ring, after the kernel corrupted the old one.
pub fn start_over() {
    interrupt::without(start);
}

/// Prepares for the last message of a processor that faulted: releases the locks that it may hold.
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
