//! Critical sections: the hypervisor rather extends a slice a little than takes the CPU away inside one.
//!
//! Entering costs one INC, leaving one DEC and one load. Where Comity is not announced both act on a private line.

use crate::arch::{cpu, percpu};
use crate::call;
use core::sync::atomic::{Ordering, compiler_fence};
use pv_abi::status::{self, StatusFlags};

/// A critical section that lasts until this is dropped. They nest.
#[must_use = "the section ends when this is dropped"]
#[derive(Debug)]
pub struct Critical {
    /// A section belongs to the processor that entered it.
    _this_processor: core::marker::PhantomData<*mut ()>,
}

/// Enters a critical section. Keep it shorter than 10 µs: there is one extension a slice.
#[inline]
pub fn enter() -> Critical {
    if let Some(depth) = percpu::this().critical() {
        cpu::increment(depth);
    }
    compiler_fence(Ordering::SeqCst);
    Critical { _this_processor: core::marker::PhantomData }
}

impl Drop for Critical {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        let this = percpu::this();
        let Some(depth) = this.critical() else { return };
        cpu::decrement(depth);
        compiler_fence(Ordering::SeqCst);
        let granted = this.status().0[status::word::FLAGS].load(Ordering::Relaxed)
            & StatusFlags::CRIT_GRANTED.bits()
            != 0;
        if granted && depth.load(Ordering::Relaxed) == 0 {
            call::yield_now();
        }
    }
}
