//! Records that are kept until the guests have ended: a bounded number, and of each guest its share.

use crate::base::id::GuestId;
use crate::policy::trace::Record;
use alloc::vec::Vec;

/// Records kept until they are written.
const MAX_RECORDS: usize = 8192;
/// Guests' counters kept in marks until they are written: a mark holds a set for each guest, and guests make marks at will.
const MAX_MARKED: usize = 1 << 16;
/// Of a guest's share of the records, what its marks leave to its endings.
const ENDINGS: usize = 16;

/// Records that are not written yet.
#[derive(Debug, Default)]
pub struct Telemetry {
    records: Vec<Record>,
    lost: u64,
    /// Records of each guest, by id: one that makes marks without end crowds out its own only.
    kept: Vec<usize>,
}

impl Telemetry {
    /// Whether there is room for one more mark of a guest's, of so many; when not, it is counted as lost.
    pub fn has_room_for_mark(&mut self, of: GuestId, guests: usize) -> bool {
        let guests = guests.max(1);
        let most = (MAX_RECORDS / guests).saturating_sub(ENDINGS).min(MAX_MARKED / (guests * guests));
        self.has_room(of, most)
    }

    /// Whether there is room for one more ending of a guest's, of so many; when not, it is counted as lost.
    pub fn has_room_for_ending(&mut self, of: GuestId, guests: usize) -> bool {
        self.has_room(of, MAX_RECORDS / guests.max(1))
    }

    fn has_room(&mut self, of: GuestId, most: usize) -> bool {
        let of = usize::from(of.0);
        if self.kept.len() <= of {
            self.kept.resize(of + 1, 0);
        }
        let room = self.kept.get_mut(of).filter(|kept| **kept < most).map(|kept| *kept += 1).is_some();
        self.lost += u64::from(!room);
        room
    }

    /// Keeps a record.
    pub fn keep(&mut self, record: Record) {
        if self.records.len() < MAX_RECORDS {
            self.records.push(record);
        } else {
            self.lost += 1;
        }
    }

    /// Takes all of them, and how many were lost.
    pub fn take(&mut self) -> Vec<Record> {
        if self.lost > 0 {
            self.records.push(Record::Lost { records: core::mem::take(&mut self.lost) });
        }
        core::mem::take(&mut self.records)
    }
}
