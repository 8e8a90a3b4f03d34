//! Where another processor starts: real-mode code at 0x8000, and its stack.
#![expect(unsafe_code, reason = "copies code below 1 MiB and hands out stacks")]

use super::call;
use super::entry::{STACK_BYTES, shim_start_other};
use core::cell::UnsafeCell;
use pv_abi::MAX_VCPUS;
use pv_abi::call::{Call, Code};

/// The SIPI vector: the trampoline's page number.
pub(crate) const SIPI_VECTOR: u32 = 8;

#[repr(align(4096))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);
// SAFETY: only one processor uses each stack, through its stack pointer and never through Rust.
unsafe impl Sync for Stack {}

static STACKS: [Stack; MAX_VCPUS] = [const { Stack(UnsafeCell::new([0; STACK_BYTES])) }; MAX_VCPUS];

/// Top of the stack of processor `index`, a multiple of 16.
fn stack_top(index: usize) -> Option<u64> {
    STACKS.get(index).map(|stack| (stack.0.get().expose_provenance() + STACK_BYTES) as u64)
}

/// Has the hypervisor start processor `index` in [`shim_start_other`]. Returns `None` if there is no stack for it.
pub(crate) fn start_vcpu(index: usize) -> Option<Code> {
    let entry = (shim_start_other as *const ()).expose_provenance() as u64;
    // A function expects its stack as CALL leaves it: 8 below a multiple of 16.
    let stack = stack_top(index)? - 8;
    // SAFETY: the entry is a function of one argument that never returns, and no other processor uses the stack.
    Some(unsafe { call::call(Call::VCPU_START, [index as u64, entry, stack, index as u64]) }.0)
}

/// Prepares the trampoline for processor `index`. The caller starts one processor at a time.
#[cfg(target_os = "none")]
pub(crate) fn prepare(index: usize) -> Option<()> {
    unsafe extern "C" {
        static boot_trampoline: [u8; 0];
        static boot_trampoline_end: [u8; 0];
        static mut boot_other_stack: u64;
        static mut boot_other_index: u64;
    }
    let top = stack_top(index)?;
    let from = &raw const boot_trampoline;
    let bytes = (&raw const boot_trampoline_end).addr() - from.addr();
    let to = core::ptr::with_exposed_provenance_mut::<u8>((SIPI_VECTOR as usize) << 12);
    // SAFETY: the page at 0x8000 is RAM below the image that nothing else uses; only the processor that is started next
    // reads the two words.
    unsafe {
        core::ptr::copy_nonoverlapping(from.cast::<u8>(), to, bytes);
        (&raw mut boot_other_stack).write_volatile(top);
        (&raw mut boot_other_index).write_volatile(index as u64);
    }
    Some(())
}

/// A host has no processor to start.
#[cfg(not(target_os = "none"))]
pub(crate) fn prepare(_: usize) -> Option<()> {
    None
}
