//! What should end this guest: by its own doing, or by the hypervisor's. The others must not notice.

use crate::raw;
use guest_kernel_shim::call::{self, Info};
use guest_kernel_shim::pv_abi::PAGE_BYTES;
use guest_kernel_shim::{Boot, console, interrupt, platform, println, probe};

/// Above the RAM of any small guest, below the window and the devices.
const HOLE: u64 = 0xb000_0000;
/// Pages from the window's begin to where the shim places the status table.
const STATUS_AT: u64 = 2;

/// Computes for ever with interrupts off.
pub fn loop_for_ever() {
    interrupt::disable();
    println!("loop: interrupts off, for ever");
    console::flush();
    loop {
        core::hint::black_box(());
    }
}

/// Takes a fault that cannot be delivered.
pub fn triple_fault() {
    println!("triple: no interrupt table");
    console::flush();
    probe::triple_fault();
}

/// Reads where nothing is.
pub fn touch_a_hole() {
    println!("hole: reading {HOLE:#x}");
    console::flush();
    println!("hole: got {:x?}", probe::load(HOLE));
}

/// Writes what only the hypervisor writes.
pub fn write_a_read_only_table() {
    if !platform::is_cooperative() {
        println!("readonly: no table in this mode");
        return;
    }
    let at = call::info(Info::WINDOW_BASE).unwrap_or(0) + STATUS_AT * PAGE_BYTES as u64;
    println!("readonly: writing {at:#x}");
    console::flush();
    println!("readonly: got {:x?}", raw::store(at, u64::MAX));
}

/// Panics.
#[expect(clippy::panic, reason = "what a kernel that lost its way does")]
pub fn panic() {
    panic!("on purpose");
}

/// Stops every vCPU, itself last.
pub fn stop_all() {
    if !platform::is_cooperative() {
        println!("stopped: no such call in this mode");
        return;
    }
    println!("stopped: the last processor goes");
    console::flush();
    println!("stopped: got {:?}", call::vcpu_stop(0));
}

/// Reads at `at=` (decimal), or writes there with the word `write`.
pub fn touch(boot: &Boot) {
    let at = boot.number("at").unwrap_or(0);
    println!("touch: {at:#x}");
    console::flush();
    if boot.has("write") {
        println!("touch: got {:x?}", raw::store(at, 1));
    } else {
        println!("touch: got {:x?}", probe::load(at));
    }
}

/// A string instruction at a port.
pub fn string_port() {
    println!("string: OUTSB");
    console::flush();
    raw::string_port(0x80);
}
