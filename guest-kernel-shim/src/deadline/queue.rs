//! An ordered queue of deadlines in a fixed array. A small kernel has few timers, so a sorted array beats a heap.

/// The function that a timer calls with its argument.
pub type Handler = fn(u64);

/// Identifies a timer; the queue never reuses one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Id(u64);

#[derive(Clone, Copy)]
struct Entry {
    at_tsc: u64,
    id: Id,
    handler: Handler,
    argument: u64,
}

/// Deadlines in descending order: the earliest is last.
pub(super) struct Queue<const N: usize> {
    entries: [Option<Entry>; N],
    len: usize,
    next_id: u64,
}

impl<const N: usize> Queue<N> {
    pub(super) const fn new() -> Self {
        Self { entries: [None; N], len: 0, next_id: 1 }
    }

    /// Adds a deadline, behind those that are due at the same time. Returns `None` if the queue is full.
    pub(super) fn insert(&mut self, at_tsc: u64, handler: Handler, argument: u64) -> Option<Id> {
        let used = self.entries.get_mut(..self.len.checked_add(1)?)?;
        let id = Id(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let later = |entry: &Option<Entry>| entry.is_some_and(|entry| entry.at_tsc > at_tsc);
        let place = used.iter().position(|entry| !later(entry))?;
        used.get_mut(place..)?.rotate_right(1);
        *used.get_mut(place)? = Some(Entry { at_tsc, id, handler, argument });
        self.len += 1;
        Some(id)
    }

    /// Moves a deadline; returns whether it was in the queue.
    pub(super) fn rearm(&mut self, id: Id, at_tsc: u64) -> bool {
        let Some(used) = self.entries.get_mut(..self.len) else { return false };
        let Some(entry) = used.iter_mut().flatten().find(|entry| entry.id == id) else { return false };
        entry.at_tsc = at_tsc;
        if used.len() > 1 {
            // An insertion sort: stable, and fast because only one entry is out of place.
            for end in 1..used.len() {
                let mut place = end;
                while place > 0 && key(used, place - 1) < key(used, place) {
                    used.swap(place - 1, place);
                    place -= 1;
                }
            }
        }
        true
    }

    /// Removes a deadline; returns whether it was in the queue.
    pub(super) fn remove(&mut self, id: Id) -> bool {
        let Some(used) = self.entries.get_mut(..self.len) else { return false };
        let Some(place) = used.iter().position(|entry| entry.is_some_and(|entry| entry.id == id)) else {
            return false;
        };
        if let Some(tail) = used.get_mut(place..) {
            tail.rotate_left(1);
        }
        self.drop_last();
        true
    }

    /// Takes the earliest deadline out if it is due.
    pub(super) fn pop_due(&mut self, now_tsc: u64) -> Option<(Handler, u64)> {
        let entry = self.last().filter(|entry| entry.at_tsc <= now_tsc)?;
        self.drop_last();
        Some((entry.handler, entry.argument))
    }

    /// The earliest deadline.
    pub(super) fn earliest_tsc(&self) -> Option<u64> {
        self.last().map(|entry| entry.at_tsc)
    }

    fn last(&self) -> Option<Entry> {
        self.entries.get(self.len.checked_sub(1)?).copied().flatten()
    }

    fn drop_last(&mut self) {
        self.len = self.len.saturating_sub(1);
        if let Some(slot) = self.entries.get_mut(self.len) {
            *slot = None;
        }
    }
}

fn key(entries: &[Option<Entry>], place: usize) -> u64 {
    entries.get(place).copied().flatten().map_or(0, |entry| entry.at_tsc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: u64) {}

    #[test]
    fn deadlines_come_out_in_order_and_equal_ones_as_they_went_in() {
        let mut queue = Queue::<8>::new();
        for (n, at) in [50, 10, 30, 10, 70].into_iter().enumerate() {
            assert!(queue.insert(at, nothing, n as u64).is_some());
        }
        assert_eq!(queue.earliest_tsc(), Some(10));
        assert!(queue.pop_due(9).is_none());
        let order: [_; 5] = core::array::from_fn(|_| queue.pop_due(100).map(|(_, argument)| argument));
        assert_eq!(order, [Some(1), Some(3), Some(2), Some(0), Some(4)]);
        assert_eq!(queue.earliest_tsc(), None);
    }

    #[test]
    fn a_moved_deadline_comes_out_where_it_belongs_and_the_others_stay() {
        let mut queue = Queue::<8>::new();
        let ids: [_; 4] =
            core::array::from_fn(|n| queue.insert(10 * n as u64 + 10, nothing, n as u64).unwrap());
        assert!(queue.rearm(ids[0], 35));
        assert!(queue.rearm(ids[3], 5));
        let order: [_; 4] = core::array::from_fn(|_| queue.pop_due(100).map(|(_, argument)| argument));
        assert_eq!(order, [Some(3), Some(1), Some(2), Some(0)]);
        assert!(!queue.rearm(ids[0], 1));
        assert_eq!(queue.earliest_tsc(), None);
    }

    #[test]
    fn a_full_queue_refuses_and_stays_as_it_was() {
        let mut queue = Queue::<2>::new();
        let first = queue.insert(2, nothing, 0).unwrap();
        queue.insert(1, nothing, 1).unwrap();
        assert_eq!(queue.insert(0, nothing, 2), None);
        assert_eq!(queue.earliest_tsc(), Some(1));
        assert!(queue.remove(first));
        assert!(!queue.remove(first));
        assert_eq!(queue.pop_due(5).map(|(_, argument)| argument), Some(1));
        assert_eq!(queue.pop_due(5).map(|(_, argument)| argument), None);
    }
}
