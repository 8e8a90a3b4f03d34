//! Critical sections: the hypervisor rather extends a slice a little than takes the CPU away inside one.
//!
//! Entering costs one INC, leaving one DEC and one load. Where Comity is not announced both act on a private line.

use crate::arch::percpu::{self, PerCpu};
use crate::{call, clock};
use core::sync::atomic::Ordering;
use pv_abi::protocol::critical::{self, Leave};
use pv_abi::protocol::yield_wanted;
use pv_abi::{demand, status};

/// A critical section that lasts until this is dropped. They nest.
#[must_use = "the section ends when this is dropped"]
pub struct Critical {
    /// A section belongs to the processor that entered it.
    cpu: &'static PerCpu,
    _this_processor_only: core::marker::PhantomData<*mut ()>,
}

impl Critical {
    /// Number of the processor that is in it.
    #[inline]
    pub(crate) fn processor(&self) -> usize {
        self.cpu.index()
    }
}

/// Enters a critical section. Keep it shorter than 10 µs: there is one extension a slice.
#[inline]
pub fn enter() -> Critical {
    let cpu = percpu::this();
    critical::enter(&cpu.demand().0[demand::word::CRITICAL]);
    Critical { cpu, _this_processor_only: core::marker::PhantomData }
}

/// Before a section of about `ns`: when this turn ends within it and somebody waits for the CPU, gives the CPU away now
/// rather than inside. Does nothing where Comity is not announced. One load, and an RDTSC where somebody waits.
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
        // Other tests of this file's kind would share the line of processor 0; this is the only one that enters.
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
