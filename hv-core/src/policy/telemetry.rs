//! Records that are kept until the guests have ended, in a bounded number of bytes, of which each guest has its share.

use crate::base::id::GuestId;
use crate::policy::trace::{CpuCounters, GuestCounters, Record};
use alloc::vec::Vec;
use hv_format::heap::RECORDS_BYTES;

/// Number of endings for which a guest's marks leave room in the guest's share.
const ENDINGS: usize = 16;
/// Bytes that a record takes, without the allocations that it points to. The factor is 3, because the list of records may have twice the
/// capacity that it uses, and is copied when it grows.
const RECORD_BYTES: usize = 3 * size_of::<Record>();
/// Bytes that the allocator may add to each allocation of a mark.
const SLACK_BYTES: usize = 32;

/// Bytes that a mark takes: a set of counters for each processor and each guest.
const fn mark_bytes(cpus: usize, guests: usize) -> usize {
    RECORD_BYTES + cpus * size_of::<CpuCounters>() + guests * size_of::<GuestCounters>() + 2 * SLACK_BYTES
}

/// Records that are not written yet.
#[derive(Debug, Default)]
pub struct Telemetry {
    records: Vec<Record>,
    /// The latest judgement of the clock; the hypervisor replaces it as long as the machine runs.
    pub clock: Option<Record>,
    lost: u64,
    /// Bytes of each guest's records, by id: a guest that makes marks without end crowds out only its own records.
    kept_bytes: Vec<usize>,
}

impl Telemetry {
    /// Whether there is room for one more mark of the guest `of`, on a machine of `guests` guests and `cpus` processors; if not, counts the
    /// mark as lost.
    pub fn has_room_for_mark(&mut self, of: GuestId, guests: usize, cpus: usize) -> bool {
        let share = RECORDS_BYTES / guests.max(1);
        self.has_room(of, mark_bytes(cpus, guests), share.saturating_sub(ENDINGS * RECORD_BYTES))
    }

    /// Whether there is room for one more ending of the guest `of`, of `guests` guests; if not, counts the ending as lost.
    pub fn has_room_for_ending(&mut self, of: GuestId, guests: usize) -> bool {
        self.has_room(of, RECORD_BYTES, RECORDS_BYTES / guests.max(1))
    }

    fn has_room(&mut self, of: GuestId, bytes: usize, most_bytes: usize) -> bool {
        let of = usize::from(of.0);
        if self.kept_bytes.len() <= of {
            self.kept_bytes.resize(of + 1, 0);
        }
        let kept = self.kept_bytes.get_mut(of).filter(|kept| kept.saturating_add(bytes) <= most_bytes);
        let room = kept.map(|kept| *kept += bytes).is_some();
        self.lost += u64::from(!room);
        room
    }

    /// Keeps a record; the caller has checked that there is room.
    pub fn keep(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Takes all records; the last one tells the number of lost records, if any were lost.
    pub fn take(&mut self) -> Vec<Record> {
        self.records.extend(self.clock.take());
        if self.lost > 0 {
            self.records.push(Record::Lost { records: core::mem::take(&mut self.lost) });
        }
        core::mem::take(&mut self.records)
    }
}
