//! Every call of the ABI, with typed arguments and results. Outside a cooperative guest each returns
//! [`Code::NOT_SUPPORTED`] and does nothing.
//!
//! `docs/src/abi.md` says what each call does; this page only says what the types do not.
//!
//! ```
//! use guest_kernel_shim::call::{self, Code, Info};
//!
//! // This example runs where Comity is not announced: each call is refused, and none faults.
//! assert_eq!(call::info(Info::VCPUS), Err(Code::NOT_SUPPORTED));
//! assert_eq!(call::yield_now(), Code::NOT_SUPPORTED);
//! ```

use crate::arch::call::{Harmless, harmless};
use crate::arch::percpu;
use pv_abi::protocol::yield_wanted;
use pv_abi::status;

pub use crate::arch::call::{console_read, console_write};
pub use pv_abi::call::{Call, Code, ConsoleOp, EventOp, Info, MemoryOp, Shutdown, Stat, VcpuState};

/// The code of a call that the hypervisor refused.
pub type Refused = Code;

fn checked((code, value): (Code, u64)) -> Result<u64, Refused> {
    if code == Code::OK { Ok(value) } else { Err(code) }
}

fn done((code, _): (Code, u64)) -> Result<(), Refused> {
    if code == Code::OK { Ok(()) } else { Err(code) }
}

/// Reads an item about the hypervisor or this guest.
#[inline(always)]
pub fn info(item: Info) -> Result<u64, Refused> {
    checked(harmless(Harmless::INFO, [item.0]))
}

/// Registers this vCPU's rows for this version of the ABI; returns the cookie.
pub fn register(event_vector: u8) -> Result<u16, Refused> {
    let minor = u64::from(pv_abi::VERSION.minor);
    let cookie = checked(harmless(Harmless::REGISTER, [minor, u64::from(event_vector)]))?;
    u16::try_from(cookie).map_err(|_| Code::BAD_ARGUMENT)
}

/// Ends this vCPU's registration.
pub fn unregister() -> Result<(), Refused> {
    done(harmless(Harmless::UNREGISTER, []))
}

/// Sleeps until an event of `mask` is pending, an interrupt or NMI is pending, or the next wake has passed. The caller
/// has interrupts off, and they stay off.
#[inline(always)]
pub fn block(mask: u64) -> Code {
    harmless(Harmless::BLOCK, [mask]).0
}

/// Gives the CPU to another vCPU that is waiting for it.
#[inline(always)]
pub fn yield_now() -> Code {
    harmless(Harmless::YIELD, []).0
}

/// Gives the CPU away if another vCPU is waiting for it; otherwise costs one load.
#[inline]
pub fn yield_if_wanted() {
    if yield_wanted::is_wanted(&percpu::this().status().0[status::word::FLAGS]) {
        yield_now();
    }
}

/// Gives the CPU to a vCPU of this guest. `seq` is the dispatch sequence at which the caller saw it off CPU.
#[inline]
pub fn yield_to(vcpu: usize, seq: u64) -> Code {
    harmless(Harmless::YIELD_TO, [vcpu as u64, seq]).0
}

/// Makes a vCPU check its events.
#[inline]
pub fn kick(vcpu: usize) -> Code {
    harmless(Harmless::KICK, [vcpu as u64]).0
}

/// Makes the hypervisor read this vCPU's next wake now; returns the TSC value by which it promises to read it again.
#[inline]
pub fn arm() -> Result<u64, Refused> {
    checked(harmless(Harmless::ARM, []))
}

/// Rings the doorbell of a channel.
#[inline]
pub fn ring(channel: u8) -> Code {
    harmless(Harmless::EVENT, [EventOp::RING.0, u64::from(channel)]).0
}

/// Binds the peer's doorbell to an event of a vCPU of this guest.
pub fn bind(channel: u8, vcpu: u8, event: u8) -> Result<(), Refused> {
    let target = u64::from(vcpu) | u64::from(event) << 8;
    done(harmless(Harmless::EVENT, [EventOp::BIND.0, u64::from(channel), target]))
}

/// Returns how many pages a channel has, and whether the peer has bound its end.
pub fn query(channel: u8) -> Result<(u16, bool), Refused> {
    let answer = checked(harmless(Harmless::EVENT, [EventOp::QUERY.0, u64::from(channel)]))?;
    #[expect(clippy::cast_possible_truncation, reason = "the pages are bits 15:0")]
    let pages = answer as u16;
    Ok((pages, answer & 1 << 16 != 0))
}

/// Sends an interrupt (vector 32 … 255) to a vCPU.
pub fn ipi(vcpu: usize, vector: u8) -> Result<(), Refused> {
    done(harmless(Harmless::IPI, [vcpu as u64, u64::from(vector)]))
}

/// Sends an NMI to a vCPU.
pub fn nmi(vcpu: usize) -> Result<(), Refused> {
    done(harmless(Harmless::IPI, [vcpu as u64, pv_abi::call::IPI_NMI]))
}

/// Reads a statistic of a vCPU, as of now.
pub fn stats(item: Stat, vcpu: usize) -> Result<u64, Refused> {
    checked(harmless(Harmless::STATS, [item.0, vcpu as u64]))
}

/// Takes a block of 2 MiB; returns how many of its bytes are not yet zero. The caller repeats the call until none are
/// left.
pub fn memory_take(at: u64) -> Result<u64, Refused> {
    checked(harmless(Harmless::MEMORY, [MemoryOp::TAKE.0, at]))
}

/// How many vCPUs have yet to flush the blocks that this guest gave back last.
pub fn memory_pending() -> Result<u64, Refused> {
    checked(harmless(Harmless::MEMORY, [MemoryOp::QUERY.0]))
}

/// Stops a vCPU.
pub fn vcpu_stop(vcpu: usize) -> Result<(), Refused> {
    done(harmless(Harmless::VCPU_STOP, [vcpu as u64]))
}

/// Reads the state of a vCPU.
pub fn vcpu_state(vcpu: usize) -> Result<VcpuState, Refused> {
    checked(harmless(Harmless::VCPU_STATE, [vcpu as u64])).map(VcpuState)
}

/// Makes the hypervisor print what is in the console's ring.
pub fn console_flush() -> Code {
    harmless(Harmless::CONSOLE, [ConsoleOp::FLUSH.0]).0
}

/// Ends the whole guest; returns only if the hypervisor refuses.
pub fn shutdown(kind: Shutdown) -> Code {
    harmless(Harmless::SHUTDOWN, [kind.0]).0
}

/// Records a value in the telemetry, next to the counters of all guests.
#[inline]
pub fn mark(id: u32, value: u32) -> Code {
    harmless(Harmless::MARK, [u64::from(id), u64::from(value)]).0
}
