//! What a vCPU must know before it enters guest mode: its timer, its events, its interrupts.

use crate::base::hardware::Hardware;
use crate::base::time::Tsc;
use crate::device;
use crate::device::bus::Tick;
use crate::device::channel::Peer;
use crate::exit::ballooning;
use crate::exit::channel;
use crate::exit::cpu::CpuContext;
use crate::exit::interrupts;
use crate::exit::kvm;
use crate::exit::virtio;
use crate::guest::platform::Platform;
use crate::guest::populate::{PopulateProgress, Populating};
use crate::guest::seam::{Nmi, Pauses, VirtualCpu, Window};
use crate::guest::vcpu::{Rest, Vcpu};
use crate::policy::demand;
use crate::policy::presence::attention;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use pv_abi::event;
use pv_abi::protocol::arm::Wake;

/// Emulated timers of a vCPU that fired are not looked at again sooner, nor is an NMI later that could not come.
const SHORTEST_PERIOD_NS: u64 = 20_000;

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
        refresh_wake(vcpu, core);
    }
    if vcpu.shared.attention() != 0 { handle_pending(vcpu, core) } else { Readiness::Go }
}

/// Queues the vCPU's next_wake, or fires it when it is past. Each value fires once.
#[cold]
pub fn refresh_wake<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) {
    let now = core.hardware.now();
    // Read before the look: a value stored in between is seen as new at the next entry.
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

#[cold]
fn handle_pending<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Readiness {
    let waiting = vcpu.shared.attention();
    if waiting & attention::STOP != 0 {
        return Readiness::Stop;
    }
    // Work first: what it raises on this very vCPU is taken before guest mode. `act` has no `CpuContext`, and so cannot raise anything.
    if waiting & (attention::WORK | attention::FLUSH) != 0 && catch_up(vcpu, core) == PopulateProgress::More {
        return Readiness::Busy;
    }
    if vcpu.shared.attention() & attention::STOP != 0 {
        return Readiness::Stop;
    }
    let readiness = act(vcpu);
    if vcpu.shared.attention() & attention::NMI != 0 {
        retry_soon(vcpu, core);
    }
    readiness
}

/// An NMI could not come at this entry: there is another one soon, whatever the guest does. Then the timer is worked out anew.
fn retry_soon<P: Platform>(vcpu: &Vcpu<P>, core: &mut CpuContext<P>) {
    let soon = core.hardware.now() + core.tsc.ticks(SHORTEST_PERIOD_NS);
    if soon < core.timers.get(vcpu.shared.slot) {
        core.timers.set(vcpu.shared.slot, soon);
        core.rearm();
    }
}

/// Does the next part of the work, and flushes.
fn catch_up<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> PopulateProgress {
    work(vcpu, core);
    // Also where work is left: others wait for the flush, and the work may be waiting for them.
    if vcpu.shared.take_attention(attention::FLUSH) != 0 {
        vcpu.state.flush();
        ballooning::let_go(vcpu.guest, vcpu.shared, core.system);
    }
    if vcpu.shared.attention() & attention::WORK != 0 {
        PopulateProgress::More
    } else {
        PopulateProgress::Done
    }
}

/// Does the next part of what takes time, and leaves its bits set where there is more.
fn work<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) {
    let bits = vcpu.shared.take_attention(attention::WORK);
    // Timers first: what they post is taken with the rest, and does not disturb the next BLOCK.
    if bits & attention::TIMER != 0 {
        if vcpu.guest.is_cooperative() { refresh_wake(vcpu, core) } else { expire_timers(vcpu, core) }
    }
    if bits & attention::POPULATE != 0 && make_memory(vcpu, core) == PopulateProgress::More {
        vcpu.shared.request_attention(bits & (attention::POPULATE | attention::VIRTIO));
    } else if bits & attention::VIRTIO != 0
        && virtio::serve(vcpu, core) == device::virtio::ServeProgress::More
    {
        vcpu.shared.request_attention(attention::VIRTIO);
    }
}

/// Takes everything that is not work, and acts upon it.
fn act<P: Platform>(vcpu: &mut Vcpu<P>) -> Readiness {
    let bits = vcpu.shared.take_attention(attention::NEWS);
    let mut woken = false;
    if bits & attention::NMI != 0 {
        match vcpu.state.inject_nmi() {
            Nmi::Injected => woken = true,
            Nmi::Waits => {
                vcpu.shared.request_attention(attention::NMI);
                woken = true;
            }
            Nmi::Blocked => vcpu.nmi_blocked = true,
        }
    }
    if bits & attention::WAITERS != 0 {
        vcpu.shared.let_pauses_run(false);
        vcpu.state.watch_pauses(Pauses::Exit);
    }
    let kicked = bits & attention::KICK != 0;
    if kicked && vcpu.rest != Rest::Halted {
        vcpu.kvm.latch_kick();
    }
    woken |= kicked;
    let waiting =
        if vcpu.guest.is_cooperative() { cooperative_interrupt(vcpu) } else { full_interrupt(vcpu) };
    match vcpu.rest {
        Rest::Halted if !waiting && !woken => Readiness::Sleep,
        Rest::Halted if !vcpu.guest.is_cooperative() => {
            demand::note(vcpu.shared, demand::Seen::Running);
            vcpu.rest = Rest::Awake;
            Readiness::Go
        }
        Rest::Halted | Rest::Blocked | Rest::Awake => {
            vcpu.rest = Rest::Awake;
            Readiness::Go
        }
    }
}

/// Makes the next part of a guest's memory; with the last, the guest begins, and its peers find it. A life begins when people can be
/// told of its end.
fn make_memory<P: Platform>(vcpu: &Vcpu<P>, core: &mut CpuContext<P>) -> PopulateProgress {
    let guest = vcpu.guest;
    let missing =
        guest.populating.lock().as_ref().and_then(|populating| populating.missing_block(&guest.ram));
    if let Some(n) = missing {
        let _ = ballooning::take(guest, n, core.system); // a part of it, or it waits
        return PopulateProgress::More;
    }
    let untouched = guest.populating.lock().as_ref().is_some_and(Populating::is_untouched);
    if untouched && !core.may_begin(guest) {
        return PopulateProgress::More;
    }
    {
        let mut populating = guest.populating.lock();
        match populating.as_mut().map(|populating| populating.step(&guest.ram)) {
            Some(PopulateProgress::More) => return PopulateProgress::More,
            Some(PopulateProgress::Done) => *populating = None,
            None => return PopulateProgress::Done, // device work in the same pass brings it here again
        }
    }
    if guest.lifecycle.lock().has_ended() {
        vcpu.shared.request_attention(attention::STOP);
    } else {
        guest.began.store(core.hardware.now().0, Relaxed);
        channel::connect(guest, core.system, Peer::Present);
    }
    PopulateProgress::Done
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
            let mut devices = vcpu.guest.devices.lock();
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
    // A period shorter than an exit would let the guest do nothing else: what comes sooner is told together.
    let soonest = now + core.tsc.ticks(SHORTEST_PERIOD_NS);
    if core.timers.get(vcpu.shared.slot) < soonest {
        core.timers.set(vcpu.shared.slot, soonest);
    }
}

/// Queues the emulated APIC timer; on the bootstrap processor whichever is earlier of that and the devices'.
#[inline]
pub fn queue_timer<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) {
    let mut at = vcpu.lapic.next_expiry();
    if vcpu.shared.index().0 == 0 {
        at = at.min(vcpu.guest.devices.lock().queue_timer());
    }
    core.timers.set(vcpu.shared.slot, at);
    core.rearm();
}

/// A full guest's interrupts come from its APIC, which takes what others posted; the bootstrap processor's also from the
/// 8259A. Returns whether an interrupt is there that would end HLT.
fn full_interrupt<P: Platform>(vcpu: &mut Vcpu<P>) -> bool {
    kvm::eoi::take(vcpu);
    for (base, word) in [0, 64, 128, 192_u8].into_iter().zip(&vcpu.shared.posted) {
        let mut bits = word.load(Relaxed);
        if bits != 0 {
            bits = word.swap(0, SeqCst);
        }
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
        && vcpu.guest.devices.lock().interrupt_pending();
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
        vcpu.guest.devices.lock().acknowledge_interrupt()
    } else {
        let vector = vector.unwrap_or(0);
        vcpu.lapic.acknowledge(vector);
        kvm::eoi::offer(vcpu, vector);
        vector
    };
    inject(vcpu, vector);
    // A second one that outranks the first waits for IF.
    if vcpu.lapic.highest_pending().is_some() {
        vcpu.state.watch_window(Window::Interrupts);
    }
    true
}

/// A cooperative guest's interrupts: what IPI posted, and one vector that says "look at your events".
fn cooperative_interrupt<P: Platform>(vcpu: &mut Vcpu<P>) -> bool {
    let posted = vcpu.shared.highest_posted();
    // After BLOCK the guest looks at its events by itself; an interrupt would only come on top.
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
        vcpu.shared.take_posted(vector);
        inject(vcpu, vector);
        if upcall || vcpu.shared.highest_posted().is_some() {
            vcpu.state.watch_window(Window::Interrupts);
        }
    } else {
        let vector = vcpu.event_vector;
        inject(vcpu, vector);
    }
    true
}

#[inline]
fn inject<P: Platform>(vcpu: &mut Vcpu<P>, vector: u8) {
    vcpu.state.inject_interrupt(vector);
    vcpu.shared.tally.injections.add(1);
}
