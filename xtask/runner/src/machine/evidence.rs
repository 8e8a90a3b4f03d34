//! What a machine left, by guest: how each ended, what it counted, and the numbers that it printed.

use super::Outcome;
use hv_format::id::GuestId;
use hv_format::record::{CpuCounters, Ending, ExitClass, GuestCounters, Record};

/// Counters of everybody at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Mark<'a> {
    /// The guest's name for it.
    pub id: u64,
    /// When, in TSC ticks.
    pub tsc: u64,
    /// The processors', by id.
    pub cpus: &'a [CpuCounters],
    /// The guests', by id.
    pub guests: &'a [GuestCounters],
}

impl Outcome {
    /// The id of a guest, by the order in which the hypervisor named them.
    pub fn id_of(&self, guest: &str) -> Option<GuestId> {
        let named = self.records().iter().find_map(|record| match record {
            Record::Boot { guests, .. } => guests.iter().position(|name| name == guest),
            Record::Mark { .. } | Record::Ended { .. } | Record::Clock { .. } | Record::Lost { .. } => None,
        })?;
        u16::try_from(named).ok().map(GuestId)
    }

    /// How a guest ended, each time, with its counters then.
    pub fn endings_of(&self, guest: &str) -> Vec<(&Ending, &GuestCounters)> {
        let wanted = self.id_of(guest);
        let ended = self.records().iter().filter_map(|record| match record {
            Record::Ended { guest, ending, counters, .. } if Some(*guest) == wanted => {
                Some((ending, counters))
            }
            Record::Ended { .. }
            | Record::Mark { .. }
            | Record::Boot { .. }
            | Record::Clock { .. }
            | Record::Lost { .. } => None,
        });
        ended.collect()
    }

    /// The marks that a guest set, in order.
    pub fn marks_of(&self, guest: &str) -> Vec<Mark<'_>> {
        let wanted = self.id_of(guest);
        let marks = self.records().iter().filter_map(|record| match record {
            Record::Mark { guest, id, tsc, cpus, guests, .. } if Some(*guest) == wanted => {
                Some(Mark { id: *id, tsc: *tsc, cpus, guests })
            }
            Record::Mark { .. }
            | Record::Ended { .. }
            | Record::Boot { .. }
            | Record::Clock { .. }
            | Record::Lost { .. } => None,
        });
        marks.collect()
    }

    /// The value of `key=` in the last line of a guest that begins with `#WORD ` and has it, as a number.
    pub fn number(&self, guest: &str, word: &str, key: &str) -> Option<i64> {
        let line = format!("#{word} ");
        let of_line = |text: &&str| {
            let words = text.strip_prefix(&line)?.split_whitespace();
            words.filter_map(|word| word.split_once('=')).find(|(name, _)| *name == key)?.1.parse().ok()
        };
        self.lines_of(guest).iter().rev().find_map(of_line)
    }

    /// How many records the hypervisor had no room for.
    pub fn records_lost(&self) -> u64 {
        let lost = self.records().iter().map(|record| match record {
            Record::Lost { records } => *records,
            Record::Boot { .. } | Record::Clock { .. } | Record::Mark { .. } | Record::Ended { .. } => 0,
        });
        lost.sum()
    }
}

impl Mark<'_> {
    /// Exits of one class of a guest by now.
    pub fn exits(&self, guest: GuestId, class: ExitClass) -> u64 {
        let exits = self.guests.get(usize::from(guest.0)).map(|counters| counters.exits);
        exits.and_then(|exits| exits.get(class as usize).copied()).unwrap_or_default()
    }

    /// Ticks that a guest has paid for: in guest mode, and in the hypervisor on its behalf.
    pub fn service_ticks(&self, guest: GuestId) -> u64 {
        let counters = self.guests.get(usize::from(guest.0));
        counters.map_or(0, |counters| counters.guest_ticks + counters.hv_ticks.iter().sum::<u64>())
    }

    /// Ticks that a guest spent in guest mode by now.
    pub fn guest_ticks(&self, guest: GuestId) -> u64 {
        self.guests.get(usize::from(guest.0)).map_or(0, |counters| counters.guest_ticks)
    }
}
