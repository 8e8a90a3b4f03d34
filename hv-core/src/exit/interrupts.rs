//! Interrupts from a full guest's devices to its vCPUs: through the 8259A to the bootstrap processor, and through the I/O
//! APIC to the destinations of its entries.

use crate::base::hardware::Hardware;
use crate::base::time::Tsc;
use crate::device::bus::Tick;
use crate::device::ioapic::{self, Message};
use crate::device::lapic::Destination;
use crate::exit::cpu::CpuContext;
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use crate::guest::vcpu::Vcpu;
use crate::policy::presence::{Attention, Life};
use crate::policy::vcpu_shared::VcpuShared;

/// Called when an access may have changed the devices' interrupts and timers. The timers and the 8259A belong to the
/// bootstrap processor, which looks at them itself, wherever it is. Only the processor that holds a vCPU queues its timer; a
/// vCPU in its parking space may be on its way to this processor, and brings its own timer.
pub fn sync_device_interrupts<P: Platform>(guest: &Guest<P::Ram>, core: &mut CpuContext<P>, now: Tsc) {
    let (sends, pending, sooner) = {
        let mut devices = guest.pc.ports.lock();
        (devices.ioapic().is_pending(), devices.interrupt_pending(), devices.wants_earlier_check())
    };
    if sends {
        send(guest, core, now);
    }
    let mut waits = Attention::empty();
    waits.set(Attention::DEVICE, pending);
    waits.set(Attention::TIMER, sooner);
    if !waits.is_empty()
        && let Some(bootstrap) = guest.vcpu(0)
    {
        bootstrap.request_attention(waits);
        core.wake(bootstrap, guest.id, now);
    }
}

/// What became of an edge that the I/O APIC sent, as far as the bootstrap processor can tell: it cannot look at another
/// vCPU's local APIC.
pub fn became<P: Platform>(bootstrap: &Vcpu<P>, message: Message) -> Tick {
    let (ioapic::EntryDelivery::Fixed(vector) | ioapic::EntryDelivery::LowestPriority(vector)) =
        message.delivery
    else {
        return Tick::Taken;
    };
    let receivers = bootstrap.guest.receivers(destination(message), u32::MAX);
    let is_posted = |index: u32| {
        let vcpu = bootstrap.guest.vcpu(u64::from(index)).filter(|_| receivers >> index & 1 != 0);
        vcpu.is_some_and(|vcpu| vcpu.posted.has(vector))
    };
    let waits = receivers & 1 != 0 && bootstrap.lapic.is_requested(vector);
    if waits || (0..u64::BITS).any(is_posted) { Tick::Waits } else { Tick::Taken }
}

/// Sends the I/O APIC's pending messages: at most one per input.
#[cold]
pub fn send<P: Platform>(guest: &Guest<P::Ram>, core: &mut CpuContext<P>, now: Tsc) {
    for _ in 0..ioapic::INPUTS {
        let message = guest.pc.ports.lock().ioapic().take_message();
        let Some(message) = message else { return };
        deliver(guest, core, message, now);
    }
}

fn deliver<P: Platform>(guest: &Guest<P::Ram>, core: &mut CpuContext<P>, message: Message, now: Tsc) {
    let mut receivers = guest.receivers(destination(message), u32::MAX);
    while receivers != 0 {
        let Some(target) = guest.vcpu(u64::from(receivers.trailing_zeros())) else { return };
        receivers &= receivers - 1;
        if give(target, message.delivery) == Heard::One {
            receivers = 0;
        }
        core.wake(target, guest.id, now);
    }
}

const fn destination(message: Message) -> Destination {
    match message.to {
        ioapic::Destination::Physical(0xff) => Destination::All,
        ioapic::Destination::Physical(id) => Destination::Physical(id as u32),
        ioapic::Destination::Logical(mask) => Destination::Flat(mask),
    }
}

/// Whether all addressed vCPUs receive a message, or only one.
#[derive(PartialEq, Eq)]
enum Heard {
    All,
    One,
}

fn give(target: &VcpuShared, delivery: ioapic::EntryDelivery) -> Heard {
    match delivery {
        ioapic::EntryDelivery::Fixed(vector) => target.post_interrupt(vector),
        // A stopped vCPU does not take part in the arbitration.
        ioapic::EntryDelivery::LowestPriority(_) if target.life() == Life::Stopped => {}
        ioapic::EntryDelivery::LowestPriority(vector) => {
            target.post_interrupt(vector);
            return Heard::One;
        }
        ioapic::EntryDelivery::Nmi => {
            target.request_attention(Attention::NMI);
        }
        // No guest routes the 8259A through the I/O APIC where LINT0 has it, or lets a device reset a processor.
        ioapic::EntryDelivery::Init | ioapic::EntryDelivery::ExtInt => {}
    }
    Heard::All
}

/// Called when a vCPU ended a level-triggered interrupt: inputs whose line is still high send again.
#[cold]
pub fn end<P: Platform>(guest: &Guest<P::Ram>, core: &mut CpuContext<P>, vector: u8) {
    guest.pc.ports.lock().ioapic().end_of_interrupt(vector);
    let now = core.hardware.now();
    send(guest, core, now);
}
