//! The task priority: an interrupt of its class or below waits, and whoever holds it back goes on meanwhile.
#![expect(unsafe_code, reason = "MOV to CR8")]

use crate::check::Check;
use crate::raw;
use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::{interrupt, platform};

const VECTOR: u8 = 0x71;
const CLASS: u64 = VECTOR as u64 >> 4;
const TASK_PRIORITY: u32 = 0x808;
const SELF_IPI: u32 = 0x83f;

static ARRIVED: AtomicU64 = AtomicU64::new(0);

fn arrived() {
    ARRIVED.fetch_add(1, Ordering::Relaxed);
}

fn set_by_msr(class: u64) {
    let _ = raw::wrmsr(TASK_PRIORITY, class << 4);
}

fn set_by_cr8(class: u64) {
    // SAFETY: the task priority is nobody else's in this guest, and ends at 0.
    unsafe { asm!("mov cr8, {}", in(reg) class, options(nostack)) };
}

/// Computes for a while, without an exit of its own.
fn compute() {
    for n in 0..200_000_u64 {
        black_box(n);
    }
}

/// Holds an interrupt back under the highest class, the one above its own, and its own, and lets it in by the register of the local
/// APIC or by CR8.
pub fn holds_back(check: &mut Check) {
    if platform::is_cooperative() {
        return;
    }
    interrupt::handle(VECTOR, arrived);
    interrupt::enable();
    let ways: [(&str, fn(u64)); 2] = [("TPR", set_by_msr), ("CR8", set_by_cr8)];
    for ((how, lower), class) in
        ways.into_iter().flat_map(|way| [15, CLASS + 1, CLASS].map(|class| (way, class)))
    {
        let before = ARRIVED.load(Ordering::Relaxed);
        let count = || ARRIVED.load(Ordering::Relaxed) - before;
        set_by_msr(class);
        let _ = raw::wrmsr(SELF_IPI, u64::from(VECTOR));
        compute();
        check.one_of(format_args!("arrived under class {class}"), count(), &[0]);
        lower(CLASS - 1);
        compute();
        check.one_of(format_args!("arrived by {how} after class {class}"), count(), &[1]);
        set_by_msr(0);
        compute();
        check.one_of(format_args!("arrived once after class {class}"), count(), &[1]);
    }
}
