//! Stopping the other processors for good, by NMI: a panic does so, and its report shows where each processor was.
#![expect(unsafe_code, reason = "HLT for good")]

use super::apic::{Ipi, LocalApic};
use super::percpu;
use crate::base::id::MAX_CPUS;
use core::arch::asm;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Release, SeqCst};

/// Number of the processor that stops the others, plus one; 0 = none.
static STOPPER: AtomicU64 = AtomicU64::new(0);
/// By processor: the address at which the NMI interrupted it, plus one; 0 while it has not answered.
static STOPPED: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// Polls before a processor counts as not answering.
const PATIENCE: u32 = 50_000_000;

/// Which processor writes the panic report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// This processor writes it.
    Mine,
    /// This processor writes it, and failed while it did.
    MineAgain,
    /// Another processor writes it; this one has only to stop.
    Others,
}

/// Requests the turn to write the panic report; the first processor to ask gets it.
pub fn take_turn() -> Turn {
    let me = u64::from(percpu::cpu().0) + 1;
    match STOPPER.compare_exchange(0, me, SeqCst, SeqCst) {
        Ok(_) => Turn::Mine,
        Err(stopper) if stopper == me => Turn::MineAgain,
        Err(_) => Turn::Others,
    }
}

/// Sends NMIs to the processors with these APIC ids except number `me`, and waits until they have stopped, for a bounded time.
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

/// Returns the address at which the NMI interrupted a processor; `None` if it has not answered.
pub fn stopped_at(cpu: usize) -> Option<u64> {
    STOPPED.get(cpu)?.load(Acquire).checked_sub(1)
}

/// Stops this processor for good.
pub fn here() -> ! {
    loop {
        // SAFETY: IF stays clear (I-1), so only an NMI interrupts the halt, and its handler ends here again.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Whether an NMI asks processor `me`, counted from 0, to stop, if [`STOPPER`] has the value `stopper`.
const fn asks_to_stop(stopper: u64, me: u64) -> bool {
    // The processor that writes the panic report continues: it did not send itself an NMI.
    stopper != 0 && stopper != me + 1
}

/// Handles an NMI that interrupted the processor at `rip`. The hypervisor sends NMIs only to stop processors.
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
