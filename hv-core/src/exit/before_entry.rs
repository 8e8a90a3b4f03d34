//! What a vCPU must know before it enters guest mode: its timer, its events, its interrupts.

use crate::device::virtio::ServeProgress;
use crate::exit::ballooning;
use crate::exit::cpu::CpuContext;
use crate::exit::{begin, inject, timers, virtio};
use crate::guest::platform::Platform;
use crate::guest::populate::PopulateProgress;
use crate::guest::seam::{Nmi, Pauses, VirtualCpu};
use crate::guest::vcpu::{Rest, Vcpu};
use crate::policy::demand;
use crate::policy::presence::attention;

/// Whether a vCPU may enter guest mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Readiness {
    /// It goes on.
    Go,
    /// It is halted, and nothing that would end that has come.
    Sleep,
    /// It was told to stop.
    Stop,
    /// A part of what it has to do outside of guest mode is done, and there is more.
    Busy,
}

/// Settles everything that is pending. When nothing is, this is two loads.
#[inline]
pub fn check<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Readiness {
    if demand::next_wake(vcpu.shared) != vcpu.seen_wake {
        timers::refresh_wake(vcpu, core);
    }
    if vcpu.shared.attention() != 0 { handle_pending(vcpu, core) } else { Readiness::Go }
}

#[cold]
fn handle_pending<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Readiness {
    let waiting = vcpu.shared.attention();
    if waiting & attention::STOP != 0 {
        return Readiness::Stop;
    }
    // Work first: what it raises on this very vCPU is taken before guest mode. `act` has no `CpuContext`, and so cannot raise anything.
    if waiting & (attention::WORK | attention::FLUSH) != 0 && catch_up(vcpu, core) == Work::Left {
        return Readiness::Busy;
    }
    if vcpu.shared.attention() & attention::STOP != 0 {
        return Readiness::Stop;
    }
    let readiness = act(vcpu);
    if vcpu.shared.attention() & attention::NMI != 0 {
        timers::retry_soon(vcpu, core);
    }
    readiness
}

/// Whether a vCPU has done what it has to do outside of guest mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    Left,
    Done,
}

/// Does the next part of the work, and flushes.
fn catch_up<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Work {
    work(vcpu, core);
    // Also where work is left: others wait for the flush, and the work may be waiting for them.
    if vcpu.shared.take_attention(attention::FLUSH) != 0 {
        vcpu.state.flush();
        ballooning::let_go(vcpu.guest, vcpu.shared, core.system);
    }
    if vcpu.shared.attention() & attention::WORK != 0 { Work::Left } else { Work::Done }
}

/// Does the next part of what takes time, and leaves its bits set where there is more.
fn work<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) {
    let bits = vcpu.shared.take_attention(attention::WORK);
    // Timers first: what they post is taken with the rest, and does not disturb the next BLOCK.
    if bits & attention::TIMER != 0 {
        if vcpu.guest.is_cooperative() {
            timers::refresh_wake(vcpu, core)
        } else {
            timers::expire_timers(vcpu, core)
        }
    }
    if bits & attention::POPULATE != 0 && begin::step(vcpu, core) == PopulateProgress::More {
        vcpu.shared.request_attention(bits & (attention::POPULATE | attention::VIRTIO));
    } else if bits & attention::VIRTIO != 0 && virtio::serve(vcpu, core) == ServeProgress::More {
        vcpu.shared.request_attention(attention::VIRTIO);
    }
}

/// Takes everything that is not work, and acts upon it.
fn act<P: Platform>(vcpu: &mut Vcpu<P>) -> Readiness {
    let bits = vcpu.shared.take_attention(attention::NEWS);
    let nmi = bits & attention::NMI != 0 && take_nmi(vcpu);
    if bits & attention::WAITERS != 0 {
        vcpu.shared.let_pauses_run(false);
        vcpu.state.watch_pauses(Pauses::Exit);
    }
    let kicked = bits & attention::KICK != 0;
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

/// Injects an NMI, if the vCPU takes one now; true where one has come, which ends a HLT.
fn take_nmi<P: Platform>(vcpu: &mut Vcpu<P>) -> bool {
    match vcpu.state.inject_nmi() {
        Nmi::Injected => true,
        Nmi::Waits => {
            vcpu.shared.request_attention(attention::NMI);
            true
        }
        Nmi::Blocked => {
            vcpu.nmi_blocked = true;
            false
        }
    }
}
