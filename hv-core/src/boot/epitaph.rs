//! The last words: a panic is a bug of ours, and whoever mends it wants to know where.
#![expect(unsafe_code, reason = "walks the stack by frame pointers, and takes the serial line over")]

use core::arch::asm;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use hv_core::machine::arch::exit::{Verdict, power_off};
use hv_core::machine::arch::serial::Serial;

/// Frames that are printed at most.
const MAX_FRAMES: usize = 32;
/// Stacks and the image lie in what the entry code mapped.
const MAPPED: u64 = 4 << 30;

static DYING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if DYING.swap(true, Ordering::SeqCst) {
        power_off(Verdict::Panic); // a panic while panicking
    }
    // SAFETY: nothing else runs any more on this machine's only processor.
    let mut line = unsafe { Serial::new(Serial::COM1) };
    let _ = writeln!(line, "\ncomity: panic: {}", info.message());
    if let Some(at) = info.location() {
        let _ = writeln!(line, "comity: panic at {at}");
    }
    let mut frame: u64;
    // SAFETY: reads RBP only.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    for _ in 0..MAX_FRAMES {
        if frame == 0 || !frame.is_multiple_of(8) || frame >= MAPPED - 16 {
            break;
        }
        let pointer: *const u64 = core::ptr::with_exposed_provenance(usize::try_from(frame).unwrap_or(0));
        // SAFETY: aligned and mapped; whatever is there is only printed.
        let (next, back) = unsafe { (pointer.read_volatile(), pointer.add(1).read_volatile()) };
        if back == 0 {
            break;
        }
        let _ = writeln!(line, "comity: backtrace {back:#x}");
        frame = if next > frame { next } else { 0 };
    }
    power_off(Verdict::Panic)
}
