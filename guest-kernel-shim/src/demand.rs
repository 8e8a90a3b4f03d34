//! What this processor tells the hypervisor: its row of the demand table, stored only where it changes.
//!
//! Publishing never exits. Where Comity is not announced the row is private and nobody reads it.

use crate::arch::percpu::{self, PerCpu};
use core::sync::atomic::Ordering;
use pv_abi::demand::{DemandFlags, Request, State, WaitFor, word};
use pv_abi::protocol::arm::{self, Arm};
use pv_abi::status::{self, StatusFlags};

/// Stores a word of this processor's row, if it is not there already.
#[inline]
fn publish(cpu: &'static PerCpu, word: usize, value: u64) {
    let shadow = &cpu.shadow[word];
    if shadow.load(Ordering::Relaxed) != value {
        shadow.store(value, Ordering::Relaxed);
        cpu.demand().0[word].store(value, Ordering::Release);
    }
}

/// Changes the first word. The shadow holds the cookie, so a row is valid from its first store on.
#[inline]
fn update(change: impl FnOnce(&mut State)) {
    let cpu = percpu::this();
    let mut state = State::unpack(cpu.shadow[word::STATE].load(Ordering::Relaxed));
    change(&mut state);
    publish(cpu, word::STATE, state.pack());
}

/// Stores anything in a word (0 … 7) of this processor's row, as it stands: for kernels that try out what a lie does. The
/// next publication of another value sets the word right.
pub fn store_raw(word: usize, value: u64) {
    if let Some(slot) = percpu::this().demand().0.get(word) {
        slot.store(value, Ordering::Release);
    }
}

/// The flags that the hypervisor shows this processor.
pub fn status_flags() -> StatusFlags {
    let flags = percpu::this().status().0[status::word::FLAGS].load(Ordering::Relaxed);
    StatusFlags::from_bits_truncate(flags)
}

/// Publishes every word again, whether it changed or not.
pub fn republish() {
    let cpu = percpu::this();
    for (slot, shadow) in cpu.demand().0.iter().zip(&cpu.shadow) {
        slot.store(shadow.load(Ordering::Relaxed), Ordering::Release);
    }
}

/// How many tasks could run now, the current one included. Saturates at 65,535.
pub fn set_runnable(tasks: u32) {
    update(|state| state.runnable = u16::try_from(tasks).unwrap_or(u16::MAX));
}

/// 0 = ordinary … 3: asks for earlier turns by shorter requests.
pub fn set_latency_class(class: u8) {
    update(|state| state.latency_class = class);
}

/// When the current request should be done; `None` = whenever.
pub fn set_deadline(at_tsc: Option<u64>) {
    publish(percpu::this(), word::DEADLINE, at_tsc.unwrap_or(0));
}

/// How much CPU time is wanted, and how often.
pub fn set_request(request: Request) {
    publish(percpu::this(), word::REQUEST, request.pack());
}

/// I/O requests in flight, and the doorbells that matter.
pub fn set_io(in_flight: u32, doorbells: u32) {
    publish(percpu::this(), word::IO, u64::from(in_flight) | u64::from(doorbells) << 32);
}

/// For how long being off CPU is harmless, and how long the next run will be, both in µs.
pub fn set_slack(harmless_us: u32, burst_us: u32) {
    publish(percpu::this(), word::SLACK, u64::from(harmless_us) | u64::from(burst_us) << 32);
}

/// Remembers that the row says, or no longer says, that this processor polls; the wake protocol changes the row itself.
pub(crate) fn note_polling(polling: bool) {
    let shadow = &percpu::this().shadow[word::STATE];
    if polling {
        shadow.fetch_or(State::POLLING_BIT, Ordering::Relaxed);
    } else {
        shadow.fetch_and(!State::POLLING_BIT, Ordering::Relaxed);
    }
}

/// Says that there is nothing to run, or that there is again.
#[inline]
pub(crate) fn set_idle(idle: bool) {
    update(|state| {
        state.flags.set(DemandFlags::IDLE, idle);
        state.runnable = u16::from(!idle).max(if idle { 0 } else { state.runnable });
    });
}

/// Stores the earliest timer, 0 = none, by the ABI's arm-by-store protocol; answers whether ARM has to be called.
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

/// What this processor spins for; `None` = nothing.
#[inline]
pub(crate) fn set_wait_for(wait: Option<WaitFor>) {
    publish(percpu::this(), word::WAIT_FOR, wait.map_or(0, WaitFor::pack));
    update(|state| state.flags.set(DemandFlags::LOCK_WAIT, wait.is_some()));
}

/// Begins to publish, with the cookie that REGISTER gave: whatever was in the row is replaced.
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

    /// The only test that publishes on the host's one processor.
    #[test]
    fn a_word_is_stored_when_it_changes_and_left_alone_when_it_does_not() {
        let row = |word: usize| percpu::this().demand().0[word].load(Ordering::Relaxed);
        begin(0x1234);
        assert_eq!(State::unpack(row(word::STATE)).cookie, 0x1234);
        set_runnable(70_000);
        set_slack(5, 7);
        assert_eq!(State::unpack(row(word::STATE)).runnable, u16::MAX);
        assert_eq!(row(word::SLACK), 5 | 7 << 32);
        // A store would show: somebody else's value would be gone.
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
