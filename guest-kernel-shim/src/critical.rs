//! Critical sections: the hypervisor rather extends a slice a little than takes the CPU away inside one.
//!
//! Entering costs one INC, leaving one DEC and one load. Where Comity is not announced both act on a private line.

use crate::arch::percpu;
use crate::call;
use pv_abi::protocol::critical::{self, Leave};
use pv_abi::{demand, status};

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
    critical::enter(&percpu::this().demand().0[demand::word::CRITICAL]);
    Critical { _this_processor: core::marker::PhantomData }
}

impl Drop for Critical {
    #[inline]
    fn drop(&mut self) {
        let this = percpu::this();
        let (depth, flags) =
            (&this.demand().0[demand::word::CRITICAL], &this.status().0[status::word::FLAGS]);
        match critical::leave(depth, flags) {
            Leave::GoOn => {}
            Leave::Yield => {
                call::yield_now();
            }
        }
    }
}
