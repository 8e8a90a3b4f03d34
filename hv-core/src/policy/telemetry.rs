//! Records that are kept until the guests have ended: a bounded number of bytes, and of each guest its share.

use crate::base::id::GuestId;
use crate::policy::trace::{CpuCounters, GuestCounters, Record};
use alloc::vec::Vec;
use hv_format::heap::RECORDS_BYTES;

/// Of a guest's share, what its marks leave: room for so many of its endings.
const ENDINGS: usize = 16;
/// Bytes of a record without what it points to. The list that holds it may be twice as long as what is in it, and is copied when it
/// grows.
const RECORD_BYTES: usize = 3 * size_of::<Record>();
/// Bytes that the allocator may add to an allocation of a mark's.
const SLACK_BYTES: usize = 32;

/// Bytes that a mark takes: a set of counters for each processor and each guest.
const fn mark_bytes(cpus: usize, guests: usize) -> usize {
    RECORD_BYTES + cpus * size_of::<CpuCounters>() + guests * size_of::<GuestCounters>() + 2 * SLACK_BYTES
}

/// Records that are not written yet.
#[derive(Debug, Default)]
pub struct Telemetry {
    records: Vec<Record>,
    /// The last judgement of the clock: one is made again and again as long as the machine runs.
    pub clock: Option<Record>,
    lost: u64,
    /// Bytes of each guest's records, by id: one that makes marks without end crowds out its own only.
    kept_bytes: Vec<usize>,
}

impl Telemetry {
    /// Whether there is room for one more mark of a guest's, of so many, on a machine of so many processors; when not, it is counted
    /// as lost.
    pub fn has_room_for_mark(&mut self, of: GuestId, guests: usize, cpus: usize) -> bool {
        let share = RECORDS_BYTES / guests.max(1);
        self.has_room(of, mark_bytes(cpus, guests), share.saturating_sub(ENDINGS * RECORD_BYTES))
    }

    /// Whether there is room for one more ending of a guest's, of so many; when not, it is counted as lost.
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

    /// Keeps a record, for which there is room.
    pub fn keep(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Takes all of them, and how many were lost.
    pub fn take(&mut self) -> Vec<Record> {
        self.records.extend(self.clock.take());
        if self.lost > 0 {
            self.records.push(Record::Lost { records: core::mem::take(&mut self.lost) });
        }
        core::mem::take(&mut self.records)
    }
}
