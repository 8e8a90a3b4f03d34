//! This processor's row of the demand table, which tells the hypervisor what it needs. A word is stored only when it
//! changes.
//!
//! Publishing never exits. Where Comity is not announced, the row is private and nobody reads it.
//!
//! ```
//! use guest_kernel_shim::demand;
//! use pv_abi::demand::Request;
//! use pv_abi::status::StatusFlags;
//!
//! // A run queue of three tasks; one of them needs 1 ms of CPU time every 20 ms.
//! demand::set_runnable(3);
//! demand::set_request(Request { budget_ns: 1_000_000, period_us: 20_000 });
//!
//! // Where Comity is not announced nobody waits for this CPU.
//! assert_eq!(demand::status_flags(), StatusFlags::empty());
//! ```

use crate::arch::percpu::{self, PerCpu};
use core::sync::atomic::Ordering;
use pv_abi::demand::{DemandFlags, Request, State, WaitFor, word};
use pv_abi::protocol::arm::{self, Arm};
use pv_abi::status::{self, StatusFlags};

/// Stores a word of this processor's row if it changed.
#[inline]
fn publish(cpu: &'static PerCpu, word: usize, value: u64) {
    let shadow = &cpu.shadow[word];
    if shadow.load(Ordering::Relaxed) != value {
        shadow.store(value, Ordering::Relaxed);
        cpu.demand().0[word].store(value, Ordering::Release);
    }
}

/// Changes the row's first word. The shadow holds the cookie, so the row is valid from its first store on.
#[inline]
fn update(change: impl FnOnce(&mut State)) {
    let cpu = percpu::this();
    let mut state = State::unpack(cpu.shadow[word::STATE].load(Ordering::Relaxed));
    change(&mut state);
    publish(cpu, word::STATE, state.pack());
}

/// Stores any value in a word (0 … 7) of this processor's row, for kernels that test what a false demand does. The next
/// setter that changes the word overwrites it.
pub fn store_raw(word: usize, value: u64) {
    if let Some(slot) = percpu::this().demand().0.get(word) {
        slot.store(value, Ordering::Release);
    }
}

/// The flags in this processor's status row.
pub fn status_flags() -> StatusFlags {
    let flags = percpu::this().status().0[status::word::FLAGS].load(Ordering::Relaxed);
    StatusFlags::from_bits_truncate(flags)
}

/// Stores every word again, whether it changed or not.
pub fn republish() {
    let cpu = percpu::this();
    for (slot, shadow) in cpu.demand().0.iter().zip(&cpu.shadow) {
        slot.store(shadow.load(Ordering::Relaxed), Ordering::Release);
    }
}

/// Sets how many tasks could run now, the current one included. Saturates at 65,535.
pub fn set_runnable(tasks: u32) {
    update(|state| state.runnable = u16::try_from(tasks).unwrap_or(u16::MAX));
}

/// Sets the latency class: 0 = ordinary … 3. A higher class asks for earlier turns with shorter slices.
pub fn set_latency_class(class: u8) {
    update(|state| state.latency_class = class);
}

/// Sets the TSC value by which the current request should be done; `None` = no deadline.
pub fn set_deadline(at_tsc: Option<u64>) {
    publish(percpu::this(), word::DEADLINE, at_tsc.unwrap_or(0));
}

/// Sets how much CPU time this processor wants, and how often.
pub fn set_request(request: Request) {
    publish(percpu::this(), word::REQUEST, request.pack());
}

/// Sets how many I/O requests are in flight, and which doorbells matter.
pub fn set_io(in_flight: u32, doorbells: u32) {
    publish(percpu::this(), word::IO, u64::from(in_flight) | u64::from(doorbells) << 32);
}

/// Sets for how long being off CPU does no harm, and how long the next run will be, both in µs.
pub fn set_slack(harmless_us: u32, burst_us: u32) {
    publish(percpu::this(), word::SLACK, u64::from(harmless_us) | u64::from(burst_us) << 32);
}

/// Records in the shadow whether this processor polls; the wake protocol changes the row itself.
pub(crate) fn note_polling(polling: bool) {
    let shadow = &percpu::this().shadow[word::STATE];
    if polling {
        shadow.fetch_or(State::POLLING_BIT, Ordering::Relaxed);
    } else {
        shadow.fetch_and(!State::POLLING_BIT, Ordering::Relaxed);
    }
}

/// Sets whether this processor is idle.
#[inline]
pub(crate) fn set_idle(idle: bool) {
    update(|state| {
        state.flags.set(DemandFlags::IDLE, idle);
        state.runnable = u16::from(!idle).max(if idle { 0 } else { state.runnable });
    });
}

/// Stores the earliest deadline (0 = none) by the ABI's arm-by-store protocol; returns whether the caller must call
/// ARM.
#[inline]
pub(crate) fn arm(at_tsc: u64) -> Arm {
    let cpu = percpu::this();
    let shadow = &cpu.shadow[word::NEXT_WAKE];
    if shadow.load(Ordering::Relaxed) == at_tsc {
        return Arm::Promised;
    }
    shadow.store(at_tsc, Ordering::Relaxed);
    let armed_until = &cpu.status().0[status::word::ARMED_UNTIL];
    arm::arm(&cpu.demand().0[word::NEXT_WAKE], armed_until, at_tsc)
}

/// Sets the holder that this processor is waiting for; `None` = it is not waiting.
#[inline]
pub(crate) fn set_wait_for(wait: Option<WaitFor>) {
    publish(percpu::this(), word::WAIT_FOR, wait.map_or(0, WaitFor::pack));
    update(|state| state.flags.set(DemandFlags::LOCK_WAIT, wait.is_some()));
}

/// Starts publishing with the cookie that REGISTER returned, and overwrites the whole row.
pub(crate) fn begin(cookie: u16) {
    let cpu = percpu::this();
    let state = State { runnable: 1, flags: DemandFlags::empty(), latency_class: 0, cookie };
    for (slot, value) in cpu.shadow.iter().zip([state.pack(), 0, 0, 0, 0, 0, 0, 0]) {
        slot.store(value, Ordering::Relaxed);
    }
    for (slot, shadow) in cpu.demand().0.iter().zip(&cpu.shadow).rev() {
        slot.store(shadow.load(Ordering::Relaxed), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests share the host's one processor, so this is the only one that publishes on it.
    #[test]
    fn a_word_is_stored_when_it_changes_and_left_alone_when_it_does_not() {
        let row = |word: usize| percpu::this().demand().0[word].load(Ordering::Relaxed);
        begin(0x1234);
        assert_eq!(State::unpack(row(word::STATE)).cookie, 0x1234);
        set_runnable(70_000);
        set_slack(5, 7);
        assert_eq!(State::unpack(row(word::STATE)).runnable, u16::MAX);
        assert_eq!(row(word::SLACK), 5 | 7 << 32);
        // A second store of the same value would overwrite this one.
        store_raw(word::SLACK, 99);
        set_slack(5, 7);
        assert_eq!(row(word::SLACK), 99);
        set_slack(5, 8);
        assert_eq!(row(word::SLACK), 5 | 8 << 32);
        set_idle(true);
        let idle = State::unpack(row(word::STATE));
        assert_eq!((idle.runnable, idle.flags, idle.cookie), (0, DemandFlags::IDLE, 0x1234));
        set_idle(false);
        let busy = State::unpack(row(word::STATE));
        assert_eq!((busy.runnable, busy.flags, busy.cookie), (1, DemandFlags::empty(), 0x1234));
    }
}
