//! dispatch_seq: says on which side of a dispatch a vCPU is. Odd = on CPU, even = off; zero, as a page begins, is off.
//!
//! One writer: the pCPU that holds the vCPU. Both moves end with a full barrier, because whatever is looked at next
//! (events, flush requests) is also written by somebody who looks at dispatch_seq: see [`block`](super::block) and
//! [`flush`](super::flush), whose models run these two functions.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use pv_abi::protocol::dispatch::{is_on_cpu, switch_in, switch_out};
//!
//! let dispatch_seq = AtomicU64::new(0);
//! assert!(is_on_cpu(switch_in(&dispatch_seq)));
//! assert!(!is_on_cpu(switch_out(&dispatch_seq)));
//! ```

use super::word::Word;

/// Says whether this value of dispatch_seq means on CPU.
#[inline(always)]
pub const fn is_on_cpu(seq: u64) -> bool {
    seq & 1 == 1
}

/// Hypervisor, before the first entry of a dispatch. Returns the new value.
#[inline(always)]
pub fn switch_in<W: Word>(dispatch_seq: &W) -> u64 {
    let on = dispatch_seq.load_relaxed().wrapping_add(1) | 1;
    dispatch_seq.store_fenced(on);
    on
}

/// Hypervisor, when the vCPU's state has been saved and it no longer runs here. Returns the new value.
#[inline(always)]
pub fn switch_out<W: Word>(dispatch_seq: &W) -> u64 {
    let off = (dispatch_seq.load_relaxed() | 1).wrapping_add(1);
    dispatch_seq.store_fenced(off);
    off
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn each_move_changes_the_value_and_leaves_the_right_parity() {
        for start in [0, 1, 2, 7, u64::MAX - 1, u64::MAX] {
            let seq = AtomicU64::new(start);
            let on = switch_in(&seq);
            assert!(is_on_cpu(on) && on != start, "start={start:#x}");
            let off = switch_out(&seq);
            assert!(!is_on_cpu(off) && off != on, "start={start:#x}");
            assert_eq!(Word::load(&seq), off);
        }
    }
}
