//! What the hypervisor does for a vCPU before it enters guest mode: pending timers, events, interrupts and other work.

use crate::device::virtio::ServeProgress;
use crate::exit::ballooning;
use crate::exit::cpu::CpuContext;
use crate::exit::{begin, inject, timers, virtio};
use crate::guest::platform::Platform;
use crate::guest::populate::PopulateProgress;
use crate::guest::seam::{CpuEvents, Nmi, Pauses, VirtualCpu};
use crate::guest::vcpu::{Rest, Vcpu};
use crate::policy::demand;
use crate::policy::presence::Attention;

/// Whether a vCPU may enter guest mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Readiness {
    /// The vCPU enters guest mode.
    Go,
    /// The vCPU is halted, and no event that ends the halt has come.
    Sleep,
    /// The vCPU was ordered to stop.
    Stop,
    /// The vCPU has done a part of its work outside of guest mode, and has more to do.
    Busy,
}

/// Handles everything that is pending. If nothing is, the cost is two loads.
#[inline]
pub fn check<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Readiness {
    if demand::next_wake(vcpu.shared) != vcpu.seen_wake {
        timers::refresh_wake(vcpu, core);
    }
    if !vcpu.shared.attention().is_empty() { handle_pending(vcpu, core) } else { Readiness::Go }
}

#[cold]
fn handle_pending<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Readiness {
    let waiting = vcpu.shared.attention();
    if waiting.intersects(Attention::STOP) {
        return Readiness::Stop;
    }
    // Work comes first: attention that it raises on this very vCPU is handled before guest mode. `act` has no `CpuContext`,
    // and so cannot raise any.
    if waiting.intersects(Attention::WORK | Attention::FLUSH) && catch_up(vcpu, core) == Work::Left {
        return Readiness::Busy;
    }
    if vcpu.shared.attention().intersects(Attention::STOP) {
        return Readiness::Stop;
    }
    let readiness = act(vcpu);
    if vcpu.shared.attention().intersects(Attention::NMI) {
        timers::retry_soon(vcpu, core);
    }
    readiness
}

/// Whether a vCPU has work left to do outside of guest mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    Left,
    Done,
}

/// Does the next part of the work, and flushes.
fn catch_up<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Work {
    work(vcpu, core);
    // Flushes even where work is left: other vCPUs wait for the flush, and the work may be waiting for them.
    if !vcpu.shared.take_attention(Attention::FLUSH).is_empty() {
        vcpu.state.flush();
        ballooning::let_go(vcpu.guest, vcpu.shared, core.system);
    }
    if vcpu.shared.attention().intersects(Attention::WORK) { Work::Left } else { Work::Done }
}

/// Does the next part of the work that takes time; the attention bits of unfinished work stay set.
fn work<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) {
    let bits = vcpu.shared.take_attention(Attention::WORK);
    // Timers come first: the events that they post are handled with the rest, and do not disturb the next BLOCK.
    if bits.intersects(Attention::TIMER) {
        if vcpu.guest.is_cooperative() {
            timers::refresh_wake(vcpu, core)
        } else {
            timers::expire_timers(vcpu, core)
        }
    }
    if bits.intersects(Attention::POPULATE) && begin::step(vcpu, core) == PopulateProgress::More {
        vcpu.shared.request_attention(bits & (Attention::POPULATE | Attention::VIRTIO));
    } else if bits.intersects(Attention::VIRTIO) && virtio::serve(vcpu, core) == ServeProgress::More {
        vcpu.shared.request_attention(Attention::VIRTIO);
    }
}

/// Takes all attention that is not work, and acts on it.
fn act<P: Platform>(vcpu: &mut Vcpu<P>) -> Readiness {
    let bits = vcpu.shared.take_attention(Attention::NEWS);
    let nmi = bits.intersects(Attention::NMI) && take_nmi(vcpu);
    if bits.intersects(Attention::WAITERS) {
        vcpu.shared.let_pauses_run(false);
        vcpu.state.watch_pauses(Pauses::Exit);
    }
    let kicked = bits.intersects(Attention::KICK);
    if kicked && vcpu.rest != Rest::Halted {
        vcpu.kvm.latch_kick();
    }
    let interrupt = if vcpu.guest.is_cooperative() { inject::cooperative(vcpu) } else { inject::full(vcpu) };
    if vcpu.rest == Rest::Halted && !(nmi || kicked || interrupt) {
        return Readiness::Sleep;
    }
    if vcpu.rest == Rest::Halted && !vcpu.guest.is_cooperative() {
        demand::note(vcpu.shared, demand::Seen::Running);
    }
    vcpu.rest = Rest::Awake;
    Readiness::Go
}

/// Injects an NMI, if the vCPU accepts one now; returns whether an NMI has come that ends a HLT.
fn take_nmi<P: Platform>(vcpu: &mut Vcpu<P>) -> bool {
    match vcpu.state.inject_nmi() {
        Nmi::Injected => true,
        Nmi::Waits => {
            vcpu.shared.request_attention(Attention::NMI);
            true
        }
        Nmi::Blocked => {
            vcpu.nmi_blocked = true;
            false
        }
    }
}
