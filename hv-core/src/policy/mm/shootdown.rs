//! TLB shootdown: the hypervisor reuses memory that a guest gave back only when none of the guest's vCPUs can reach it any more, neither
//! by a translation that its processor has cached nor by a copy that the hypervisor makes on its behalf.
//!
//! ```text
//! giver: clear the leaves of all blocks; waiting = every vCPU; for each other: LOCK OR attention = FLUSH; load seq;
//!        even: it lets go; odd: post. Then the giver itself lets go
//! vCPU, at dispatch: seq = on; FENCE; at each entry: load attention; FLUSH: flush; LOCK AND waiting = let go; then enter
//! ```
//!
//! One request covers all blocks of a batch, and only processors that run a vCPU of the guest are notified. The vCPU that lets go last
//! frees the blocks. Either the giver sees the vCPU on CPU and waits for it, or the vCPU sees FLUSH before it enters guest mode. A vCPU
//! lets go when it is in no exit, so every copy on its behalf was made before.
//!
//! Model: `hv-core/tests/loom_shootdown.rs`.

use crate::base::id::VcpuIndex;
use crate::policy::presence::Attention;
use core::sync::atomic::AtomicU64;
use pv_abi::protocol::dispatch::is_on_cpu;
use pv_abi::protocol::word::Word;

/// The giver's action for another vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Told {
    /// The vCPU may be in guest mode: the giver must notify its processor.
    Post,
    /// The vCPU is off CPU, and will flush before it runs.
    Later,
}

/// The vCPUs that may still reach the memory that the guest gave back: one bit per vCPU.
#[derive(Debug)]
pub struct Shootdown<W = AtomicU64> {
    waiting: W,
}

impl<W: Word> Shootdown<W> {
    /// The empty set of vCPUs; `zero` makes a word that is zero.
    pub fn new(zero: impl Fn() -> W) -> Self {
        Self { waiting: zero() }
    }

    /// Giver, after it has cleared the leaves and any earlier request is over: every vCPU may still reach the memory that they mapped.
    pub fn begin(&self, vcpus: u8) {
        self.waiting.fetch_or(u64::MAX >> (64 - u32::from(vcpus.clamp(1, 64))));
    }

    /// Giver: makes another vCPU flush before it enters guest mode.
    pub fn tell(&self, attention: &W, dispatch_seq: &W) -> Told {
        attention.fetch_or(Attention::FLUSH.bits());
        if is_on_cpu(dispatch_seq.load()) { Told::Post } else { Told::Later }
    }

    /// Notes that a vCPU cannot reach the memory any more: it has flushed, is off CPU and will flush, or is stopped. True for the last
    /// vCPU; its caller then frees the memory.
    #[must_use]
    pub fn let_go(&self, vcpu: VcpuIndex) -> bool {
        let bit = 1 << (vcpu.0 & 63);
        self.waiting.load() & bit != 0 && self.waiting.fetch_and(!bit) == bit
    }

    /// Number of vCPUs that may still reach the memory.
    pub fn remaining(&self) -> u32 {
        self.waiting.load().count_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_let_go_is_told_so_and_only_once() {
        let shootdown = Shootdown::new(|| AtomicU64::new(0));
        assert!(!shootdown.let_go(VcpuIndex(0)), "nothing was taken");
        shootdown.begin(64);
        for index in (1..64).map(VcpuIndex) {
            assert!(!shootdown.let_go(index) && !shootdown.let_go(index));
        }
        assert_eq!(shootdown.remaining(), 1);
        assert!(shootdown.let_go(VcpuIndex(0)));
        assert!(!shootdown.let_go(VcpuIndex(0)));
    }
}
