//! Orderings that are part of the ABI, as code that both sides run: guest's and hypervisor's half of each protocol stand
//! in one file, with the reason for every fence and what is proven of it.
//!
//! Two kinds of race occur. Where two pCPUs meet ([`block`], [`wake`], [`yield_wanted`], [`flush`]), each side stores its
//! own word and then loads the other's, and without a full barrier in between on *both* sides both may load the old value
//! (Dekker). Where a guest meets the hypervisor on its own pCPU ([`arm`], [`critical`]), an exit can fall between any two
//! instructions, but nothing is reordered that the compiler leaves in order, so a compiler fence is enough.
//!
//! Proven means: loom runs this code, on its own atomics, through every interleaving with up to three preemptions of the
//! scenario in `tests/loom_*.rs`, and each barrier or second look, taken away alone, makes a run fail. Not proven: that the
//! callers hold the lock a function asks for, and anything about hostile values, which these functions only compare.

pub mod arm;
pub mod block;
pub mod critical;
pub mod dispatch;
pub mod flush;
pub mod lock_wait;
pub mod wake;
pub mod word;
pub mod yield_wanted;
