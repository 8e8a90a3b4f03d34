//! Data of one processor that any code can reach, an NMI handler included: GS base points at it (APM vol 2 §4.5.3).
#![expect(unsafe_code, reason = "GS base, and the reference made from it")]

use crate::base::id::CpuId;
use alloc::boxed::Box;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

/// One processor's block. Never freed.
#[derive(Debug)]
#[repr(C)]
pub struct PerCpu {
    /// Address of this block, for a load through GS.
    this: *const Self,
    /// The processor that owns this block.
    pub cpu: CpuId,
    /// Number of NMIs that the hypervisor did not send; its NMI handler only counts them.
    pub stray_nmis: AtomicU64,
}

// SAFETY: `this` is only read, and points to memory that is never freed; the rest is shared by atomics.
unsafe impl Sync for PerCpu {}

/// Whether the first processor has its block; every other processor begins with its own.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Gives this processor its block. No code may call [`this`] before.
pub fn install(cpu: CpuId) {
    let block = Box::leak(Box::new(PerCpu { this: core::ptr::null(), cpu, stray_nmis: AtomicU64::new(0) }));
    block.this = &raw const *block;
    GsBase::write(VirtAddr::from_ptr(block));
    INSTALLED.store(true, Ordering::Release);
}

/// Returns this processor's number, even before the first processor has its block.
pub fn cpu() -> CpuId {
    if INSTALLED.load(Ordering::Acquire) { this().cpu } else { CpuId(0) }
}

/// Returns this processor's block, by one load. GS base is the host's wherever the hypervisor can be interrupted (I-3).
pub fn this() -> &'static PerCpu {
    let block: *const PerCpu;
    // SAFETY: `install` has set GS base to a block whose first word is its own address.
    unsafe { asm!("mov {}, gs:[0]", out(reg) block, options(nostack, readonly, preserves_flags)) };
    // SAFETY: the block is leaked, and from `install` on all code uses it by shared references only.
    unsafe { &*block }
}

impl PerCpu {
    /// Counts an NMI that the hypervisor did not send.
    pub fn note_stray_nmi(&self) {
        self.stray_nmis.fetch_add(1, Ordering::Relaxed);
    }
}
