//! A measured window: what everybody's counters did between two marks of one guest.

use hv_format::record::{CpuCounters, ExitClass, GuestCounters, Record};

/// Two marks of the benchmark guest begin and end a workload's window: its ids.
pub const BEGIN: u64 = 1;
/// See [`BEGIN`].
pub const END: u64 = 2;
/// A Linux guest's first process has begun: the id of that mark.
pub const USERSPACE: u64 = 3;

/// The difference of two marks.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// From one mark to the other, in ticks: instructions, and nanoseconds.
    pub ticks: u64,
    /// When it ended.
    pub end_tsc: u64,
    /// What the processors did, all together.
    pub cpu: CpuCounters,
    /// How many there are.
    pub cpus: u64,
    /// What each guest did, by id; the second mark's own exits are taken off.
    pub guests: Vec<GuestCounters>,
    /// The value of the second mark less that of the first.
    pub value: u64,
}

struct Mark<'a> {
    value: u64,
    tsc: u64,
    cpus: &'a [CpuCounters],
    guests: &'a [GuestCounters],
}

impl Window {
    /// Finds the window that guest `of` marked by `begin` and `end`, each a pair of id and, where given, value.
    pub fn find(
        records: &[Record],
        of: u16,
        begin: (u64, Option<u64>),
        end: (u64, Option<u64>),
    ) -> Option<Self> {
        let mark = |wanted: (u64, Option<u64>)| records.iter().find_map(|record| as_mark(record, of, wanted));
        let (first, last) = (mark(begin)?, mark(end)?);
        let pairs = last.guests.iter().zip(first.guests);
        let mut window = Self {
            ticks: last.tsc.checked_sub(first.tsc)?,
            end_tsc: last.tsc,
            cpu: cpu_less(&sum(last.cpus), &sum(first.cpus)),
            cpus: last.cpus.len() as u64,
            guests: pairs.map(|(last, first)| guest_less(last, first)).collect(),
            value: last.value.saturating_sub(first.value),
        };
        window.forget_mark(of);
        Some(window)
    }

    /// A mark is one call, or two port writes (value and id). Those of the second one lie in the window.
    fn forget_mark(&mut self, of: u16) {
        let Some(guest) = self.guests.get_mut(usize::from(of)) else { return };
        let [call, port] = [ExitClass::Call, ExitClass::Port].map(|class| class as usize);
        if guest.exits[port] >= 2 {
            guest.exits[port] -= 2;
        } else {
            guest.exits[call] = guest.exits[call].saturating_sub(1);
        }
    }

    /// Exits of all guests.
    pub fn exits(&self) -> u64 {
        self.guests.iter().map(exits).sum()
    }

    /// Switches to vCPUs, each of which brings its FPU state.
    pub fn switches(&self) -> u64 {
        self.guests.iter().map(|guest| guest.switches).sum()
    }

    /// Exits of all guests by class.
    pub fn exits_by_class(&self) -> [u64; ExitClass::COUNT] {
        let mut sum = [0; ExitClass::COUNT];
        for guest in &self.guests {
            for (sum, part) in sum.iter_mut().zip(guest.exits) {
                *sum += part;
            }
        }
        sum
    }

    /// Ticks that were neither a guest's nor idle.
    pub fn hypervisor_ticks(&self) -> u64 {
        let used: u64 = self.guests.iter().map(|guest| guest.guest_ticks).sum();
        (self.ticks * self.cpus).saturating_sub(used).saturating_sub(self.cpu.idle_ticks)
    }

    /// The window's length in seconds, of 10⁹ ticks.
    pub fn seconds(&self) -> f64 {
        real(self.ticks) / 1e9
    }
}

/// Exits of one guest.
pub fn exits(guest: &GuestCounters) -> u64 {
    guest.exits.iter().sum()
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds stay far below 2^53")]
pub fn real(count: u64) -> f64 {
    count as f64
}

fn as_mark<'a>(record: &'a Record, of: u16, (wanted, with): (u64, Option<u64>)) -> Option<Mark<'a>> {
    match record {
        Record::Mark { guest, id, value, tsc, cpus, guests, .. } => {
            let is_it = guest.0 == of && *id == wanted && with.is_none_or(|with| with == *value);
            is_it.then_some(Mark { value: *value, tsc: *tsc, cpus, guests })
        }
        Record::Boot { .. } | Record::Clock { .. } | Record::Ended { .. } | Record::Lost { .. } => None,
    }
}

fn cpu_less(last: &CpuCounters, first: &CpuCounters) -> CpuCounters {
    CpuCounters {
        idle_ticks: last.idle_ticks.saturating_sub(first.idle_ticks),
        timer_arms: last.timer_arms.saturating_sub(first.timer_arms),
        interrupts: last.interrupts.saturating_sub(first.interrupts),
        kicks: last.kicks.saturating_sub(first.kicks),
        notifications: last.notifications.saturating_sub(first.notifications),
        move_ticks: last.move_ticks.saturating_sub(first.move_ticks),
    }
}

fn guest_less(last: &GuestCounters, first: &GuestCounters) -> GuestCounters {
    let each = |last: [u64; ExitClass::COUNT], first: [u64; ExitClass::COUNT]| {
        core::array::from_fn(|class| last[class].saturating_sub(first[class]))
    };
    GuestCounters {
        exits: each(last.exits, first.exits),
        hv_ticks: each(last.hv_ticks, first.hv_ticks),
        guest_ticks: last.guest_ticks.saturating_sub(first.guest_ticks),
        switches: last.switches.saturating_sub(first.switches),
        injections: last.injections.saturating_sub(first.injections),
        preempted_in_critical: last.preempted_in_critical.saturating_sub(first.preempted_in_critical),
        migrations: last.migrations.saturating_sub(first.migrations),
        lost_ticks: last.lost_ticks.saturating_sub(first.lost_ticks),
    }
}

/// What several processors did together.
fn sum(cpus: &[CpuCounters]) -> CpuCounters {
    let of = |count: fn(&CpuCounters) -> u64| cpus.iter().map(count).fold(0, u64::saturating_add);
    CpuCounters {
        idle_ticks: of(|cpu| cpu.idle_ticks),
        timer_arms: of(|cpu| cpu.timer_arms),
        interrupts: of(|cpu| cpu.interrupts),
        kicks: of(|cpu| cpu.kicks),
        notifications: of(|cpu| cpu.notifications),
        move_ticks: of(|cpu| cpu.move_ticks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv_format::id::{GuestId, VcpuIndex};

    fn mark(id: u64, value: u64, tsc: u64, calls: u64, ports: u64, guest_ticks: u64) -> Record {
        let mut counters = GuestCounters { guest_ticks, ..GuestCounters::default() };
        counters.exits[ExitClass::Call as usize] = calls;
        counters.exits[ExitClass::Port as usize] = ports;
        let (guest, vcpu) = (GuestId(0), VcpuIndex(0));
        let cpus = vec![CpuCounters { idle_ticks: tsc / 10, ..CpuCounters::default() }];
        Record::Mark { guest, vcpu, id, value, tsc, cpus, guests: vec![counters] }
    }

    #[test]
    fn a_window_is_what_lies_between_its_marks_without_the_second_mark() {
        let records =
            [mark(7, 0, 0, 0, 0, 0), mark(BEGIN, 5, 1000, 10, 0, 400), mark(END, 25, 3000, 31, 0, 2000)];
        let window = Window::find(&records, 0, (BEGIN, None), (END, None)).unwrap();
        assert_eq!((window.ticks, window.value, window.exits()), (2000, 20, 20));
        assert_eq!(window.hypervisor_ticks(), 2000 - 1600 - 200);
        assert_eq!(Window::find(&records, 1, (BEGIN, None), (END, None)), None, "another guest's marks");
        assert_eq!(Window::find(&records, 0, (BEGIN, Some(4)), (END, None)), None);
    }

    #[test]
    fn a_full_guests_mark_is_two_port_writes() {
        let records = [mark(BEGIN, 0, 0, 0, 2, 0), mark(END, 0, 10, 0, 9, 5)];
        let window = Window::find(&records, 0, (BEGIN, None), (END, None)).unwrap();
        assert_eq!(window.exits(), 5);
    }
}
