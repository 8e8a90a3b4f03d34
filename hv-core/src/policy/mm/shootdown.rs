//! Memory that is taken away from a guest is used again only when none of the guest's vCPUs can reach it any more: by a
//! translation that its processor has cached, or by a copy that the hypervisor makes on its behalf.
//!
//! ```text
//! giver: clear the leaves of all blocks; waiting = every vCPU; for each other: LOCK OR attention = FLUSH; load seq;
//!        even: it lets go; odd: post. Then the giver itself lets go
//! vCPU, at dispatch: seq = on; FENCE; at each entry: load attention; FLUSH: flush; LOCK AND waiting = let go; then enter
//! ```
//!
//! One request is told once for all blocks of a batch, and only to processors that run a vCPU of the guest. Whoever lets go
//! last hands the blocks on. Either the giver sees the vCPU on CPU and waits for it, or the vCPU sees FLUSH before it enters
//! guest mode. It lets go when it is in no exit: what was copied on its behalf was copied before.
//!
//! Model: `hv-core/tests/loom_shootdown.rs`.

use crate::base::id::VcpuIndex;
use crate::policy::presence::Attention;
use core::sync::atomic::AtomicU64;
use pv_abi::protocol::dispatch::is_on_cpu;
use pv_abi::protocol::word::Word;

/// What a giver does about another vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Told {
    /// It may be in guest mode: its processor is to be told.
    Post,
    /// It is off CPU, and flushes before it runs.
    Later,
}

/// Who may still reach what was taken away: a bit a vCPU.
#[derive(Debug)]
pub struct Shootdown<W = AtomicU64> {
    waiting: W,
}

impl<W: Word> Shootdown<W> {
    /// Nobody; `zero` makes a word that is zero.
    pub fn new(zero: impl Fn() -> W) -> Self {
        Self { waiting: zero() }
    }

    /// Giver, when the leaves are cleared and an earlier request is over: every vCPU may still reach what they led to.
    pub fn begin(&self, vcpus: u8) {
        self.waiting.fetch_or(u64::MAX >> (64 - u32::from(vcpus.clamp(1, 64))));
    }

    /// Giver: has another vCPU flush before it enters guest mode.
    pub fn tell(&self, attention: &W, dispatch_seq: &W) -> Told {
        attention.fetch_or(Attention::FLUSH.bits());
        if is_on_cpu(dispatch_seq.load()) { Told::Post } else { Told::Later }
    }

    /// A vCPU cannot reach it any more: it has flushed, is off CPU and will flush, or is stopped. True for the last, who hands
    /// on what was taken.
    #[must_use]
    pub fn let_go(&self, vcpu: VcpuIndex) -> bool {
        let bit = 1 << (vcpu.0 & 63);
        self.waiting.load() & bit != 0 && self.waiting.fetch_and(!bit) == bit
    }

    /// How many may still reach it.
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
