//! Stopping the other processors for good, by NMI: what a panic does, so that its last words can say where each one was.
#![expect(unsafe_code, reason = "HLT for good")]

use super::apic::{Ipi, LocalApic};
use super::percpu;
use crate::base::id::MAX_CPUS;
use core::arch::asm;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Release, SeqCst};

/// The processor that stops the others, plus one; 0 while none does.
static STOPPER: AtomicU64 = AtomicU64::new(0);
/// By processor: where the NMI found it, plus one; 0 while it has not answered.
static STOPPED: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// Looks before a processor counts as one that does not answer.
const PATIENCE: u32 = 50_000_000;

/// Whose turn it is to say the last words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// This processor's.
    Mine,
    /// This processor's, which failed while it said them.
    MineAgain,
    /// Another one's: this one has only to stop.
    Others,
}

/// Asks for the turn; the first one gets it.
pub fn take_turn() -> Turn {
    let me = u64::from(percpu::cpu().0) + 1;
    match STOPPER.compare_exchange(0, me, SeqCst, SeqCst) {
        Ok(_) => Turn::Mine,
        Err(stopper) if stopper == me => Turn::MineAgain,
        Err(_) => Turn::Others,
    }
}

/// Sends NMIs to the processors with these APIC ids but one, and waits until they have stopped, or for a bounded time.
pub fn others(apic: &mut LocalApic, apic_ids: &[u32], me: usize) {
    let wanted = || apic_ids.iter().enumerate().filter(|(cpu, _)| *cpu != me);
    for (_, id) in wanted() {
        apic.send(*id, Ipi::Nmi);
    }
    for _ in 0..PATIENCE {
        if wanted().all(|(cpu, _)| stopped_at(cpu).is_some()) {
            return;
        }
        core::hint::spin_loop();
    }
}

/// Where the NMI found a processor; `None` when it has not answered.
pub fn stopped_at(cpu: usize) -> Option<u64> {
    STOPPED.get(cpu)?.load(Acquire).checked_sub(1)
}

/// Stops this processor for good.
pub fn here() -> ! {
    loop {
        // SAFETY: IF stays clear (I-1), so nothing comes back from here but NMIs, which end here again.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// What an NMI asks of the processor `me`, counted from 0, while [`STOPPER`] has this value.
const fn asks_to_stop(stopper: u64, me: u64) -> bool {
    // Whoever says the last words goes on: it did not send itself one.
    stopper != 0 && stopper != me + 1
}

/// An NMI came, with the processor at `rip`. Nobody sends one but to stop.
pub(super) fn on_nmi(rip: u64) {
    let block = percpu::this();
    if !asks_to_stop(STOPPER.load(Acquire), u64::from(block.cpu.0)) {
        return block.note_stray_nmi();
    }
    if let Some(place) = STOPPED.get(usize::from(block.cpu.0)) {
        place.store(rip.wrapping_add(1), Release);
    }
    here()
}

#[cfg(test)]
mod tests {
    use super::asks_to_stop;

    #[test]
    fn an_nmi_stops_every_processor_but_the_one_that_says_the_last_words() {
        for (stopper, me, expected) in
            [(0, 0, false), (1, 0, false), (1, 1, true), (2, 0, true), (2, 1, false)]
        {
            assert_eq!(asks_to_stop(stopper, me), expected, "stopper={stopper} me={me}");
        }
    }
}
