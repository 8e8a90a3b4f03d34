//! The vCPUs' timers: an indexed heap that holds one expiry time per vCPU.

use crate::base::time::Tsc;
use crate::policy::sched::Slot;
use alloc::vec::Vec;

/// The vCPUs' expiry times, the nearest first. Setting, clearing and taking are O(log n) and allocate nothing.
#[derive(Debug, Default)]
pub struct Timers {
    /// A binary heap of slots, ordered by `moments`.
    heap: Vec<u16>,
    /// The place of each slot in the heap; `ABSENT` when it is not in the heap.
    places: Vec<u16>,
    moments: Vec<Tsc>,
}

const ABSENT: u16 = u16::MAX;

impl Timers {
    /// Makes room for one more slot; the slots are counted from 0.
    pub fn add_slot(&mut self) {
        self.places.push(ABSENT);
        self.moments.push(Tsc::NEVER);
        self.heap.reserve(self.places.len() - self.heap.len());
    }

    /// The nearest expiry time, or [`Tsc::NEVER`].
    #[inline]
    pub fn first(&self) -> Tsc {
        self.heap.first().map_or(Tsc::NEVER, |slot| self.moment(*slot))
    }

    /// The slot with the nearest expiry time.
    pub fn first_slot(&self) -> Option<Slot> {
        self.heap.first().copied().map(Slot)
    }

    /// The expiry time of a slot, or [`Tsc::NEVER`].
    pub fn get(&self, slot: Slot) -> Tsc {
        self.moment(slot.0)
    }

    /// Sets or moves the expiry time of a slot; [`Tsc::NEVER`] clears it.
    #[inline]
    pub fn set(&mut self, slot: Slot, at: Tsc) {
        let Some(moment) = self.moments.get_mut(usize::from(slot.0)) else { return };
        let before = core::mem::replace(moment, at);
        if before == at {
            return;
        }
        let place = self.places.get(usize::from(slot.0)).copied().unwrap_or(ABSENT);
        if at == Tsc::NEVER {
            self.remove(place);
        } else if place == ABSENT {
            self.heap.push(slot.0);
            self.up(self.heap.len() - 1);
        } else if at < before {
            self.up(usize::from(place));
        } else {
            self.down(usize::from(place));
        }
    }

    /// Takes a slot whose expiry time is not after `now`.
    #[inline(always)] // every switch runs this, and both vendors' loops call it
    pub fn take_due(&mut self, now: Tsc) -> Option<Slot> {
        let slot = Slot(*self.heap.first()?);
        (self.moment(slot.0) <= now).then(|| {
            self.set(slot, Tsc::NEVER);
            slot
        })
    }

    fn moment(&self, slot: u16) -> Tsc {
        self.moments.get(usize::from(slot)).copied().unwrap_or(Tsc::NEVER)
    }

    fn remove(&mut self, place: u16) {
        let Some(last) = self.heap.pop() else { return };
        if let Some(gone) = self.heap.get_mut(usize::from(place)) {
            let slot = core::mem::replace(gone, last);
            self.note(slot, ABSENT);
            self.note(last, place);
            self.up(usize::from(place));
            let place = self.places.get(usize::from(last)).copied().unwrap_or(ABSENT);
            self.down(usize::from(place));
        } else {
            self.note(last, ABSENT);
        }
    }

    fn note(&mut self, slot: u16, place: u16) {
        if let Some(entry) = self.places.get_mut(usize::from(slot)) {
            *entry = place;
        }
    }

    fn key(&self, place: usize) -> Tsc {
        self.heap.get(place).map_or(Tsc::NEVER, |slot| self.moment(*slot))
    }

    fn exchange(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for place in [a, b] {
            if let (Some(slot), Ok(place)) = (self.heap.get(place).copied(), u16::try_from(place)) {
                self.note(slot, place);
            }
        }
    }

    fn up(&mut self, mut place: usize) {
        if let (Some(slot), Ok(at)) = (self.heap.get(place).copied(), u16::try_from(place)) {
            self.note(slot, at);
        }
        while place > 0 && self.key(place) < self.key((place - 1) / 2) {
            self.exchange(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn down(&mut self, mut place: usize) {
        while let Some(child) = [2 * place + 1, 2 * place + 2]
            .into_iter()
            .filter(|child| *child < self.heap.len())
            .min_by_key(|child| self.key(*child))
        {
            if self.key(place) <= self.key(child) {
                break;
            }
            self.exchange(place, child);
            place = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_behaves_like_a_sorted_map(steps in proptest::collection::vec((0u16..20, 0u64..50, 0u8..4), 1..300)) {
            let mut timers = Timers::default();
            let mut model: BTreeMap<u16, u64> = BTreeMap::new();
            for _ in 0..20 {
                timers.add_slot();
            }
            for (slot, at, what) in steps {
                match what {
                    0 => {
                        timers.set(Slot(slot), Tsc::NEVER);
                        model.remove(&slot);
                    }
                    1 => {
                        let due = timers.take_due(Tsc(at));
                        let nearest = model.values().min().copied();
                        prop_assert_eq!(due.is_some(), nearest.is_some_and(|nearest| nearest <= at));
                        if let Some(due) = due {
                            prop_assert_eq!(model.remove(&due.0), nearest);
                        }
                    }
                    _ => {
                        timers.set(Slot(slot), Tsc(at));
                        model.insert(slot, at);
                    }
                }
                prop_assert_eq!(timers.first(), model.values().min().map_or(Tsc::NEVER, |at| Tsc(*at)));
                for slot in 0..20 {
                    prop_assert_eq!(timers.get(Slot(slot)), model.get(&slot).map_or(Tsc::NEVER, |at| Tsc(*at)));
                }
            }
        }
    }
}
