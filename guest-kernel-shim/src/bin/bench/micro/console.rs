//! 64 bytes of text to the console.

use crate::figure::Samples;
use guest_kernel_shim::{Boot, console, interrupt};

/// Fewer than elsewhere: people see these lines.
const RUNS: usize = 16;
/// Bytes of a line.
const BYTES: usize = 64;

/// Writes a line of 64 bytes, as the mode's console takes it, so that people see it.
pub fn console_64(_: &'static Boot) -> Result<Samples, &'static str> {
    let mut text = [b'.'; BYTES];
    if let Some(last) = text.last_mut() {
        *last = b'\n';
    }
    interrupt::disable();
    let samples = Samples::measure(RUNS, || {
        console::write(&text);
        console::flush();
    });
    interrupt::enable();
    Ok(samples)
}
