//! Load balancing among processors: idle ones get work at once, the others by weight once an epoch.

use super::Cpu;
use crate::base::hardware::Hardware;
use crate::base::id::{CpuId, GuestId};
use crate::base::time::Tsc;
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use crate::policy::balance::PART;
use crate::policy::sched::EntityId;
use crate::policy::vcpu_shared::VcpuShared;

/// Shortest time between an idle processor's requests for work: the processor that it asks leaves guest mode for that.
const ASK_PERIOD_NS: u64 = 50_000;
/// How long weights and placement stay fixed (DESIGN §5: at least 10 ms).
const EPOCH_NS: u64 = 10_000_000;
/// Time between two checks of the clock while guests run: 10 minutes.
pub(super) const CLOCK_PERIOD_NS: u64 = 600_000_000_000;
/// Largest number of vCPUs that leave a processor in one epoch because others have less to do.
const MOVES_PER_EPOCH: usize = 4;

impl<P: Platform> Cpu<P> {
    /// A vCPU waits here: gives vCPUs to idle processors, and looks at the balance when that is due; returns the moment up to
    /// which time is accounted for.
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

    /// Gives vCPUs that wait here to idle processors. The guest of a vCPU that moves is charged for the move.
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

    /// Asks the processor with the most vCPUs to give for one of them.
    pub(super) fn ask_for_work(&mut self, now: Tsc) {
        if let Some(busy) = self.core.system.cpu_table.busiest().filter(|_| now >= self.ask_after) {
            self.ask_after = now + self.core.tsc.ticks(ASK_PERIOD_NS);
            self.core.ask_for_work(busy, now);
        }
    }

    /// Shows the other processors how many of a guest's vCPUs run or wait here.
    pub(super) fn count_present(&self, guest: GuestId) {
        self.core.shared.count(guest, self.core.queue.presence(EntityId(guest.0)));
    }

    /// A guest's weight on this processor: its whole weight, times the fraction of its running and waiting vCPUs that are
    /// here. A guest gains no share by starting vCPUs.
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

    /// Counts the vCPUs that run and wait here, fixes the weights for the next epoch, and moves vCPUs to processors that have
    /// less to do.
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
        // Where no vCPU waits, the one that runs at this moment is all that other processors learn: no guest must be able to
        // predict the moment, and it must not be the end of a turn.
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

    /// Moves vCPUs that wait here to processors that have less to do. The guest of a vCPU that moves is charged for the move;
    /// no guest is charged for the search.
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
