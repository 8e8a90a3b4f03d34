//! How a guest begins: its first vCPU populates the memory, part by part, in its own turns.

use crate::base::hardware::Hardware;
use crate::device::channel::Peer;
use crate::exit::ballooning;
use crate::exit::channel;
use crate::exit::cpu::CpuContext;
use crate::guest::platform::Platform;
use crate::guest::populate::{PopulateProgress, Populating};
use crate::guest::vcpu::Vcpu;
use crate::policy::presence::Attention;
use core::sync::atomic::Ordering::Relaxed;

/// Populates the next part of a guest's memory; after the last part the guest begins, and is connected to its peers.
/// Populating starts only when the console has room for the report of the guest's end.
pub fn step<P: Platform>(vcpu: &Vcpu<P>, core: &mut CpuContext<P>) -> PopulateProgress {
    let guest = vcpu.guest;
    let missing =
        guest.memory.populating.lock().as_ref().and_then(|populating| populating.missing_block(&guest.ram));
    if let Some(n) = missing {
        let _ = ballooning::take(guest, n, core.system); // clears a part of it, or none is free yet
        return PopulateProgress::More;
    }
    let untouched = guest.memory.populating.lock().as_ref().is_some_and(Populating::is_untouched);
    if untouched && !core.may_begin(guest) {
        return PopulateProgress::More;
    }
    {
        let mut populating = guest.memory.populating.lock();
        match populating.as_mut().map(|populating| populating.step(&guest.ram)) {
            Some(PopulateProgress::More) => return PopulateProgress::More,
            Some(PopulateProgress::Done) => *populating = None,
            None => return PopulateProgress::Done, // device work in the same pass brings it here again
        }
    }
    if guest.life.lifecycle.lock().has_ended() {
        vcpu.shared.request_attention(Attention::STOP);
    } else {
        guest.life.began.store(core.hardware.now().0, Relaxed);
        channel::connect(guest, core.system, Peer::Present);
    }
    PopulateProgress::Done
}
