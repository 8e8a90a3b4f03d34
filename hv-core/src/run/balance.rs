//! Sharing the work among processors: with those that have nothing to do at once, and by weight once an epoch.

use super::Cpu;
use crate::base::hardware::Hardware;
use crate::base::id::{CpuId, GuestId};
use crate::base::time::Tsc;
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use crate::policy::balance::PART;
use crate::policy::sched::EntityId;
use crate::policy::vcpu_shared::VcpuShared;

/// An idle processor asks for work no more often than this: whoever is asked leaves guest mode for it.
const ASK_PERIOD_NS: u64 = 50_000;
/// How long weights and places stay (DESIGN §5: at least 10 ms).
const EPOCH_NS: u64 = 10_000_000;
/// How often the clock is judged while guests run.
pub(super) const CLOCK_PERIOD_NS: u64 = 600_000_000_000;
/// vCPUs that leave a processor in one epoch because others have less to do.
const MOVES_PER_EPOCH: usize = 4;

impl<P: Platform> Cpu<P> {
    /// Somebody waits here: gives to whoever has nothing to do, and looks at the balance when that is due; returns up to when the time
    /// is accounted for.
    #[inline]
    pub(super) fn share(&mut self, mut now: Tsc) -> Tsc {
        if self.core.system.cpu_table.idle().0 != 0 {
            now = self.give(now);
        }
        if now >= self.epoch_end {
            now = self.end_epoch(now);
        }
        now
    }

    /// Gives vCPUs that wait here to processors that have nothing to do. Whose vCPU moves pays for the move.
    #[cold]
    fn give(&mut self, mut now: Tsc) -> Tsc {
        for _ in 0..self.core.spare() {
            let Some((shared, to)) = self.spare_vcpu() else { return now };
            if self.core.system.cpu_table.claim(to) {
                now = self.at_cost_of(shared, now, |cpu, now| cpu.send(shared, to, now));
            }
        }
        now
    }

    /// A vCPU that waits here, and an idle processor that may run it.
    fn spare_vcpu(&self) -> Option<(&'static VcpuShared, CpuId)> {
        let idle = self.core.system.cpu_table.idle();
        self.core.queue.waiting_slots().find_map(|slot| {
            let shared = self.core.system.vcpu(slot)?;
            Some((shared, shared.allowed.both(idle).next_from(self.core.cpu)?))
        })
    }

    /// Asks the processor with most to give for something.
    pub(super) fn ask_for_work(&mut self, now: Tsc) {
        if let Some(busy) = self.core.system.cpu_table.busiest().filter(|_| now >= self.ask_after) {
            self.ask_after = now + self.core.tsc.ticks(ASK_PERIOD_NS);
            self.core.ask_for_work(busy, now);
        }
    }

    /// Shows the others how many of a guest's vCPUs run or wait here.
    pub(super) fn count_present(&self, guest: GuestId) {
        self.core.shared.count(guest, self.core.queue.presence(EntityId(guest.0)));
    }

    /// A guest's weight on this processor: of its own, the part that its vCPUs here are of all that run or wait. Starting
    /// vCPUs buys no share.
    pub(super) fn weight_here(&self, guest: &Guest<P::Ram>) -> u32 {
        let cpu_table = &self.core.system.cpu_table;
        let whole = guest.config.weight * self.core.system.finest_weight();
        let here = u64::from(self.core.shared.counted(guest.id));
        let others = cpu_table.iter().filter(|(cpu, _)| *cpu != self.core.cpu);
        let elsewhere: u64 = others.map(|(_, line)| u64::from(line.present(guest.id))).sum();
        if elsewhere == 0 || here == 0 {
            return whole;
        }
        u32::try_from(u64::from(whole) * here / (here + elsewhere)).unwrap_or(whole).max(1)
    }

    /// Counts who runs and waits here, fixes the weights for the next epoch, and moves vCPUs away if the others have less to
    /// do.
    #[cold]
    fn end_epoch(&mut self, now: Tsc) -> Tsc {
        self.epoch_end = now + self.core.tsc.ticks(EPOCH_NS);
        if now >= self.clock_due {
            self.clock_due = now + self.core.tsc.ticks(CLOCK_PERIOD_NS);
            self.core.judge_clock();
        }
        let system = self.core.system;
        if system.cpu_table.is_alone() {
            return now;
        }
        // Where nobody waits, who runs at this moment is all that others know: no guest is to foresee it, nor is it the end of a turn.
        let jitter_ns = self.core.hardware.random() % (EPOCH_NS / 2);
        self.epoch_end = self.epoch_end + self.core.tsc.ticks(jitter_ns);
        self.core.look_around_at(self.epoch_end);
        self.core.queue.note_presence(now);
        for guest in &system.guests {
            self.count_present(guest.id);
            self.core.queue.set_weight(EntityId(guest.id.0), self.weight_here(guest), now);
        }
        self.move_apart(now)
    }

    /// Moves vCPUs that wait here to where there is less to do. Whose vCPU moves pays for the move; the look is nobody's.
    fn move_apart(&mut self, begun: Tsc) -> Tsc {
        let system = self.core.system;
        let balancer = &mut self.balancer;
        for (cpu, line) in system.cpu_table.iter() {
            for guest in &system.guests {
                balancer.present.set(usize::from(cpu.0), usize::from(guest.id.0), line.present(guest.id));
            }
        }
        let weights = system.guests.iter().map(|guest| guest.config.weight);
        let improves = balancer.improve(weights);
        let mut now = self.core.hardware.now();
        self.core.queue.lose(now.since(begun));
        if !improves {
            return now;
        }
        let here = usize::from(self.core.cpu.0);
        let mut moves = 0;
        for guest in &system.guests {
            let number = usize::from(guest.id.0);
            let (present, better) = (&self.balancer.present, self.balancer.better());
            if present.get(here, number) < better.get(here, number) + PART / 2 {
                continue;
            }
            let wanting = |cpu: &CpuId| {
                better.get(usize::from(cpu.0), number) >= present.get(usize::from(cpu.0), number) + PART / 2
            };
            let Some(to) = system.cpu_table.iter().map(|(cpu, _)| cpu).find(wanting) else { continue };
            let waiting = self.core.queue.waiting_of(EntityId(guest.id.0));
            let chosen = waiting.filter_map(|slot| system.vcpu(slot)).find(|shared| shared.allowed.has(to));
            if let Some(shared) = chosen {
                now = self.at_cost_of(shared, now, |cpu, now| cpu.send(shared, to, now));
            }
            moves += 1;
            if moves == MOVES_PER_EPOCH {
                break;
            }
        }
        now
    }
}
