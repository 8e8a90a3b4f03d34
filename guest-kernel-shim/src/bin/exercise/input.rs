//! Says what was typed, line by line.

use core::sync::atomic::{AtomicBool, Ordering};
use guest_kernel_shim::{Boot, clock, console, idle, println, timer};

static TYPED: AtomicBool = AtomicBool::new(false);
const LONGEST: usize = 64;

/// Waits up to `for_ms=` for a line; prints `#input ready`, and then `#input "LINE"` or `#input none`.
pub fn run(boot: &'static Boot) -> Result<(), &'static str> {
    console::on_input(|| TYPED.store(true, Ordering::SeqCst));
    println!("#input ready");
    let until = clock::ticks() + clock::ticks_from_ns(boot.number("for_ms").unwrap_or(1000) * 1_000_000);
    // Something that ends the wait for input.
    timer::at(until, |_| (), 0).ok_or("no timer")?;
    let mut line = [0u8; LONGEST];
    let mut len = 0;
    while clock::ticks() < until {
        idle::wait_until(|| TYPED.swap(false, Ordering::SeqCst) || clock::ticks() >= until);
        len += console::read(line.get_mut(len..).unwrap_or_default());
        let text = line.get(..len).unwrap_or_default();
        if let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let text = text.get(..end).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("?");
            println!("#input \"{text}\"");
            return Ok(());
        }
    }
    println!("#input none");
    Ok(())
}
