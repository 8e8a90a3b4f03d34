//! A vCPU's timers: next_wake in its demand row, or the timers of its emulated APIC and devices.

use crate::base::hardware::Hardware;
use crate::base::time::Tsc;
use crate::device::bus::Tick;
use crate::exit::cpu::CpuContext;
use crate::exit::interrupts;
use crate::guest::platform::Platform;
use crate::guest::vcpu::Vcpu;
use crate::policy::demand;
use pv_abi::event;
use pv_abi::protocol::arm::Wake;

/// Shortest time between two looks at a vCPU's emulated timers, and longest delay before a blocked NMI is tried again.
const SHORTEST_PERIOD_NS: u64 = 20_000;

/// Queues the vCPU's next_wake, or fires it if it is in the past. Each value fires once.
#[cold]
pub fn refresh_wake<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) {
    let now = core.hardware.now();
    // `seen_wake` is read before the timer is evaluated: a value that the guest stores in between is seen as new at the next
    // entry.
    vcpu.seen_wake = demand::next_wake(vcpu.shared);
    let at = if !demand::is_valid(vcpu.shared) || !vcpu.guest.usable_tsc {
        vcpu.shared.publish_unarmed();
        Tsc::NEVER
    } else {
        match vcpu.shared.refresh_wake(&mut vcpu.fired_wake, now.0) {
            Wake::At(when) => Tsc(when),
            Wake::None => Tsc::NEVER,
            Wake::Now => {
                vcpu.shared.post_event(event::TIMER);
                Tsc::NEVER
            }
        }
    };
    core.timers.set(vcpu.shared.slot, at);
    core.rearm();
}

/// An NMI could not be injected at this entry: forces another entry soon, whatever the guest does. The timer is then computed
/// anew.
pub fn retry_soon<P: Platform>(vcpu: &Vcpu<P>, core: &mut CpuContext<P>) {
    let soon = core.hardware.now() + core.tsc.ticks(SHORTEST_PERIOD_NS);
    if soon < core.timers.get(vcpu.shared.slot) {
        core.timers.set(vcpu.shared.slot, soon);
        core.rearm();
    }
}

/// Fires the emulated timers of a full guest's vCPU that are due, and queues the next.
pub fn expire_timers<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) {
    let now = core.hardware.now();
    if vcpu.lapic.next_expiry() <= now {
        vcpu.lapic.expire(now);
        vcpu.shared.tally.lost_ticks.add(vcpu.lapic.take_lost_ticks());
    }
    if vcpu.shared.index().0 == 0 {
        let sends = {
            let mut devices = vcpu.guest.pc.ports.lock();
            let tick =
                devices.tick_message().map_or(Tick::Taken, |message| interrupts::became(vcpu, message));
            devices.expire(now, tick);
            vcpu.shared.tally.lost_ticks.add(devices.take_lost_ticks());
            devices.ioapic().is_pending()
        };
        if sends {
            interrupts::send(vcpu.guest, core, now);
        }
    }
    queue_timer(vcpu, core);
    // With a period shorter than an exit the guest could do nothing else, so expiries that follow sooner are delivered
    // together.
    let soonest = now + core.tsc.ticks(SHORTEST_PERIOD_NS);
    if core.timers.get(vcpu.shared.slot) < soonest {
        core.timers.set(vcpu.shared.slot, soonest);
    }
}

/// Queues the emulated APIC timer; on the bootstrap processor, the earlier one of that and the devices' timers.
#[inline]
pub fn queue_timer<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) {
    let mut at = vcpu.lapic.next_expiry();
    if vcpu.shared.index().0 == 0 {
        at = at.min(vcpu.guest.pc.ports.lock().queue_timer());
    }
    core.timers.set(vcpu.shared.slot, at);
    core.rearm();
}
