//! Critical sections: the hypervisor extends a slice a little rather than descheduling the vCPU inside one.
//!
//! Entering costs one INC; leaving costs one DEC and one load. Where Comity is not announced, both act on a private
//! line.
//!
//! ```
//! use guest_kernel_shim::critical;
//!
//! critical::make_room(2_000); // rather yield now than be preempted within the next 2 µs
//! let outer = critical::enter();
//! {
//!     let _inner = critical::enter(); // sections nest
//! }
//! drop(outer); // the hypervisor may take the CPU again
//! ```

use crate::arch::percpu::{self, PerCpu};
use crate::{call, clock};
use core::sync::atomic::Ordering;
use pv_abi::protocol::critical::{self, Leave};
use pv_abi::protocol::yield_wanted;
use pv_abi::{demand, status};

/// A critical section, which lasts until this is dropped. Critical sections nest.
#[must_use = "the section ends when this is dropped"]
pub struct Critical {
    /// The processor that entered the section.
    cpu: &'static PerCpu,
    _this_processor_only: core::marker::PhantomData<*mut ()>,
}

impl Critical {
    /// Number of the processor that is in the section.
    #[inline]
    pub(crate) fn processor(&self) -> usize {
        self.cpu.index()
    }
}

/// Enters a critical section. It should be shorter than 10 µs: the hypervisor extends each slice once.
#[inline]
pub fn enter() -> Critical {
    let cpu = percpu::this();
    critical::enter(&cpu.demand().0[demand::word::CRITICAL]);
    Critical { cpu, _this_processor_only: core::marker::PhantomData }
}

/// Prepares for a critical section of about `ns`: if the slice ends before that and another vCPU is waiting, gives the
/// CPU away now rather than inside the section. Does nothing where Comity is not announced. Costs one load, and an
/// RDTSC if another vCPU is waiting.
#[inline]
pub fn make_room(ns: u64) {
    let status = percpu::this().status();
    let end_tsc = status.0[status::word::SLICE_END].load(Ordering::Relaxed);
    if yield_wanted::is_wanted(&status.0[status::word::FLAGS])
        && end_tsc.saturating_sub(clock::ticks()) < clock::ticks_from_ns(ns)
    {
        call::yield_now();
    }
}

impl Drop for Critical {
    #[inline]
    fn drop(&mut self) {
        let (depth, flags) =
            (&self.cpu.demand().0[demand::word::CRITICAL], &self.cpu.status().0[status::word::FLAGS]);
        match critical::leave(depth, flags) {
            Leave::GoOn => {}
            Leave::Yield => {
                call::yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    #[test]
    fn sections_nest_and_leave_the_depth_as_it_was() {
        // Tests share the line of processor 0, so this one, the only test that enters sections, uses processor 5.
        let depth =
            || percpu::of(5).map(|cpu| cpu.demand().0[demand::word::CRITICAL].load(Ordering::Relaxed));
        let enter = || {
            let cpu = percpu::of(5).unwrap();
            critical::enter(&cpu.demand().0[demand::word::CRITICAL]);
            Critical { cpu, _this_processor_only: core::marker::PhantomData }
        };
        assert_eq!(depth(), Some(0));
        let outer = enter();
        let inner = enter();
        assert_eq!((depth(), inner.processor()), (Some(2), 5));
        drop(inner);
        assert_eq!(depth(), Some(1));
        drop(outer);
        assert_eq!(depth(), Some(0));
    }
}
