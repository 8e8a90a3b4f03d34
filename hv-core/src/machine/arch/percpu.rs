//! What belongs to one processor and must be found from anywhere, an NMI included: GS base points at it (APM vol 2 §4.5.3).
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
    /// Where this is.
    this: *const Self,
    /// Which processor.
    pub cpu: CpuId,
    /// NMIs that nobody here sent: counted, and nothing else.
    pub stray_nmis: AtomicU64,
}

// SAFETY: `this` is only read, and points to memory that is never freed; the rest is shared by atomics.
unsafe impl Sync for PerCpu {}

/// The first processor has its block; every other one begins with its own.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Gives this processor its block. Before this, nothing may ask for it.
pub fn install(cpu: CpuId) {
    let block = Box::leak(Box::new(PerCpu { this: core::ptr::null(), cpu, stray_nmis: AtomicU64::new(0) }));
    block.this = &raw const *block;
    GsBase::write(VirtAddr::from_ptr(block));
    INSTALLED.store(true, Ordering::Release);
}

/// Which processor this is, even before the first one has its block.
pub fn cpu() -> CpuId {
    if INSTALLED.load(Ordering::Acquire) { this().cpu } else { CpuId(0) }
}

/// This processor's block: one load. Its GS base is the host's wherever the hypervisor can be interrupted (I-3).
pub fn this() -> &'static PerCpu {
    let block: *const PerCpu;
    // SAFETY: `install` has set GS base to a block whose first word is its own address.
    unsafe { asm!("mov {}, gs:[0]", out(reg) block, options(nostack, readonly, preserves_flags)) };
    // SAFETY: the block is leaked, and from `install` on reached by shared references only.
    unsafe { &*block }
}

impl PerCpu {
    /// An NMI came that nobody here sent.
    pub fn note_stray_nmi(&self) {
        self.stray_nmis.fetch_add(1, Ordering::Relaxed);
    }
}
