//! The one deadline of each processor that the timer hardware or the hypervisor watches.

use crate::arch::lapic::{self, Register};
use crate::arch::percpu;
use crate::{call, clock, demand, interrupt, platform};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pv_abi::MAX_VCPUS;
use pv_abi::cpuid::Features;
use pv_abi::protocol::arm::Arm;

const TSC_DEADLINE_MODE: u32 = 0b10 << 17;
const DIVIDE_BY_ONE: u32 = 0b1011;

static BY_TSC: AtomicBool = AtomicBool::new(false);
/// APIC timer steps per TSC tick, as a 32.32 fixed-point number.
static STEPS_A_TICK: AtomicU64 = AtomicU64::new(0);
/// Deadline that each processor's APIC timer is programmed to; 0 = none. A cooperative guest keeps its deadline in the
/// demand row.
static ARMED: [AtomicU64; MAX_VCPUS] = [const { AtomicU64::new(0) }; MAX_VCPUS];

/// Which processors of a cooperative guest check their timers before they idle.
static LOOKING: [AtomicBool; MAX_VCPUS] = [const { AtomicBool::new(false) }; MAX_VCPUS];

/// See [`super::take_when_idle`].
pub(super) fn look_when_idle(does: bool) {
    LOOKING[percpu::this().index()].store(does && platform::is_cooperative(), Ordering::Relaxed);
}

/// Whether this processor checks its timers before it idles.
#[inline]
pub(super) fn is_looking_when_idle() -> bool {
    LOOKING[percpu::this().index()].load(Ordering::Relaxed)
}

/// Whether deadlines are watched: the hypervisor does so only if it trusts the TSC.
pub(super) fn is_there() -> bool {
    !platform::is_cooperative() || platform::features().contains(Features::ARM_BY_STORE)
}

/// Sets up the timer of this processor's local APIC.
pub(super) fn start() {
    if platform::is_cooperative() {
        return;
    }
    let by_tsc = platform::has_tsc_deadline();
    BY_TSC.store(by_tsc, Ordering::Relaxed);
    let mode = if by_tsc { TSC_DEADLINE_MODE } else { 0 };
    lapic::write(Register::TIMER_DIVIDE, DIVIDE_BY_ONE);
    lapic::write(Register::LVT_TIMER, u32::from(interrupt::TIMER) | mode);
    let steps = (u128::from(clock::apic_khz()) << 32) / u128::from(clock::tsc_khz().max(1));
    STEPS_A_TICK.store(u64::try_from(steps).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Moves the deadline to the earliest timer, if that changed. The caller has interrupts off.
pub(super) fn arm(earliest_tsc: Option<u64>) {
    let at_tsc = earliest_tsc.map_or(0, |at_tsc| at_tsc.max(1));
    if platform::is_cooperative() {
        arm_by_store(at_tsc);
    } else {
        let armed = &ARMED[percpu::this().index()];
        if armed.load(Ordering::Relaxed) != at_tsc {
            armed.store(at_tsc, Ordering::Relaxed);
            program(at_tsc);
        }
    }
}

/// As [`arm`], after the deadline fired: the hardware is no longer armed.
pub(super) fn fired(earliest_tsc: Option<u64>) {
    ARMED[percpu::this().index()].store(0, Ordering::Relaxed);
    arm(earliest_tsc);
}

/// Stores the deadline, which the hypervisor reads before it runs another vCPU. Calls the hypervisor only if it
/// promised no look as early as the deadline.
fn arm_by_store(at_tsc: u64) {
    match demand::arm(at_tsc) {
        Arm::Promised => {}
        Arm::Call if is_looking_when_idle() => {}
        Arm::Call => {
            // The hypervisor never refuses this call; if it did, it would still find the deadline when it reads the row
            // next.
            let _ = call::arm();
        }
    }
}

fn program(at_tsc: u64) {
    if BY_TSC.load(Ordering::Relaxed) {
        lapic::write_tsc_deadline(at_tsc);
    } else if at_tsc == 0 {
        lapic::write(Register::TIMER_INITIAL, 0);
    } else {
        // A deadline too far ahead fires early; the handler then finds nothing due and programs it again.
        let ahead = u128::from(at_tsc.saturating_sub(clock::ticks()));
        let steps = (ahead * u128::from(STEPS_A_TICK.load(Ordering::Relaxed))) >> 32;
        lapic::write(Register::TIMER_INITIAL, u32::try_from(steps).unwrap_or(u32::MAX).max(1));
    }
}
