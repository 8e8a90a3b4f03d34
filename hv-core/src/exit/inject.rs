//! Chooses the interrupt with which a vCPU enters guest mode.

use crate::exit::kvm;
use crate::guest::platform::Platform;
use crate::guest::seam::{CpuEvents, CpuRegisters, Window};
use crate::guest::vcpu::{Rest, Vcpu};

/// A full guest's interrupts come from its APIC, which accepts the vectors that senders posted; the bootstrap processor's
/// also come from the 8259A. Returns whether an interrupt is pending that ends HLT.
pub fn full<P: Platform>(vcpu: &mut Vcpu<P>) -> bool {
    kvm::eoi::take(vcpu);
    for (base, mut bits) in vcpu.shared.posted.take_all() {
        while bits != 0 {
            let vector = base | u8::try_from(bits.trailing_zeros()).unwrap_or(0);
            if vcpu.guest.is_level(vector) {
                vcpu.lapic.post_level(vector)
            } else {
                vcpu.lapic.post(vector)
            }
            bits &= bits - 1;
        }
    }
    vcpu.lapic.set_task_class(vcpu.state.cr8());
    let external = vcpu.shared.index().0 == 0
        && vcpu.lapic.takes_external()
        && vcpu.guest.pc.ports.lock().interrupt_pending();
    let vector = vcpu.lapic.highest_pending();
    if vector.is_none() && !external {
        if let Some(class) = vcpu.lapic.held_back_class() {
            vcpu.state.watch_window(Window::Priority(class));
        }
        return false;
    }
    if !vcpu.state.ready_for_interrupt() {
        vcpu.state.watch_window(Window::Interrupts);
        return vcpu.state.interrupts_on();
    }
    let vector = if external {
        vcpu.guest.pc.ports.lock().acknowledge_interrupt()
    } else {
        let vector = vector.unwrap_or(0);
        vcpu.lapic.acknowledge(vector);
        kvm::eoi::offer(vcpu, vector);
        vector
    };
    deliver(vcpu, vector);
    // A second interrupt that outranks the first waits for IF.
    if vcpu.lapic.highest_pending().is_some() {
        vcpu.state.watch_window(Window::Interrupts);
    }
    true
}

/// A cooperative guest's interrupts: the vectors that IPI posted, and the event vector, which tells the guest to look at its
/// events.
pub fn cooperative<P: Platform>(vcpu: &mut Vcpu<P>) -> bool {
    let posted = vcpu.shared.posted.highest();
    // After BLOCK the guest looks at its events by itself; an interrupt would be redundant.
    let blocked = vcpu.rest == Rest::Blocked;
    let upcall = vcpu.event_vector != 0 && !blocked && vcpu.shared.pending_events() != 0;
    if posted.is_none() && !upcall {
        return blocked;
    }
    if !vcpu.state.ready_for_interrupt() {
        vcpu.state.watch_window(Window::Interrupts);
        return vcpu.state.interrupts_on();
    }
    if let Some(vector) = posted {
        vcpu.shared.posted.take(vector);
        deliver(vcpu, vector);
        if upcall || vcpu.shared.posted.highest().is_some() {
            vcpu.state.watch_window(Window::Interrupts);
        }
    } else {
        let vector = vcpu.event_vector;
        deliver(vcpu, vector);
    }
    true
}

#[inline]
fn deliver<P: Platform>(vcpu: &mut Vcpu<P>, vector: u8) {
    vcpu.state.inject_interrupt(vector);
    vcpu.shared.tally.injections.add(1);
}
