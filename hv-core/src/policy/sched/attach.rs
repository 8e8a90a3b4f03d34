//! vCPUs that come from other processors and leave for them, and guests whose weight here changes with that.
//!
//! Slots and entities have the same numbers in the queues of all processors. A guest competes here, and its weight counts,
//! while it has a vCPU here.

use super::clock::{MOVE_AT, Rate};
use super::entity::{Entity, MAX_MEMBERS, Place};
use super::tree::{EMPTY, MAX_LEAVES};
use super::vcpu::{State, Vcpu};
use super::{EntityId, NONE, RunQueue, Slot};
use crate::base::time::{Ticks, Tsc};

/// The state that a vCPU takes along from one run queue to the next.
#[derive(Clone, Debug, Default)]
#[must_use = "dropping it forgives a debt"]
pub struct Departure {
    /// The vCPU's state in the queue that it left.
    pub(super) before: Option<Vcpu>,
    /// Service that the guest had ahead of its share, if the guest left with the vCPU. A guest takes no credit along.
    pub(super) debt: Ticks,
}

impl Departure {
    /// Adds to the service owed: time that was spent on the vCPU while it was in no queue.
    pub const fn owe(&mut self, cost: Ticks) {
        self.debt.0 = self.debt.0.saturating_add(cost.0);
    }
}

impl RunQueue {
    /// Makes room for guests with the given numbers of vCPUs; guests and slots are counted from 0. Only this step allocates.
    pub fn prepare(&mut self, vcpus_of_guests: &[u8]) {
        for vcpus in vcpus_of_guests.iter().take(MAX_LEAVES - 1) {
            let mut entity = Entity::new(1, self.clock.now);
            entity.place = Place::Free;
            entity.waiting.grow(usize::from(*vcpus));
            self.entities.push(entity);
            for _ in 0..*vcpus {
                let mut vcpu = Vcpu::new(NONE, 0, self.params.default_request, Ticks(0), self.charged_to);
                vcpu.state = State::Free;
                self.vcpus.push(vcpu);
            }
        }
        self.candidates.grow(self.entities.len());
        self.early.grow(self.entities.len());
    }

    /// Takes a vCPU in, asleep: the one of this index of a guest. A guest that was not here competes with `weight` from now
    /// on, and owes what it brings along; one that was here a moment ago owes what it still owed, if that is more. Nothing
    /// happens for a slot that is taken, or a guest or index that [`Self::prepare`] made no room for.
    pub fn attach(
        &mut self,
        slot: Slot,
        guest: EntityId,
        index: u8,
        weight: u32,
        departure: Departure,
        now: Tsc,
    ) {
        self.charge(now);
        let clock = self.clock.now;
        let Some(entity) = self.entities.get_mut(usize::from(guest.0)) else { return };
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)).filter(|vcpu| vcpu.state == State::Free)
        else {
            return;
        };
        let has_room = entity.waiting.has_leaf(usize::from(index));
        let Some(member) = entity.members.get_mut(usize::from(index)).filter(|_| has_room) else { return };
        *member = slot.0;
        match entity.place {
            Place::Free => {
                entity.admit(weight, clock);
                self.admitted = self.admitted.saturating_add(entity.rate.weight());
                self.clock.rate = Rate::of(self.admitted);
            }
            Place::Leaving => entity.place = Place::Asleep,
            Place::Asleep | Place::Candidate | Place::Early | Place::Paying | Place::Aside => {}
        }
        entity.attached += 1;
        *vcpu = Vcpu::new(guest.0, u16::from(index), self.params.default_request, entity.order_floor, now);
        if let Some(before) = departure.before {
            vcpu.resume(&before);
        }
        let queued = self.leave_trees(guest.0);
        if let Some(entity) = self.entities.get_mut(usize::from(guest.0)) {
            let request = entity.deadline.saturating_sub(entity.start);
            entity.owe(departure.debt, clock);
            entity.deadline = entity.deadline.max(entity.start.wrapping_add(request));
        }
        if queued {
            self.join_trees(guest.0);
        }
    }

    /// Lets a vCPU go, whatever it does; when it was the runner, [`Self::pick`] must follow. With its last vCPU a guest
    /// leaves: its debt goes along, and its weight stays admitted until the clock has passed that: those who stay are owed
    /// it, and a faster clock would promise it to newcomers.
    pub fn detach(&mut self, slot: Slot, now: Tsc) -> Departure {
        self.stop(slot, now);
        self.charge(now);
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)).filter(|vcpu| vcpu.state != State::Free)
        else {
            return Departure::default();
        };
        let before = vcpu.clone();
        vcpu.state = State::Free;
        vcpu.entity = NONE;
        let mut debt = Ticks(0);
        let clock = self.clock.now;
        if let Some(entity) = self.entities.get_mut(usize::from(before.entity)) {
            entity.attached = entity.attached.saturating_sub(1);
            if entity.attached == 0 {
                debt = entity.debt(clock);
                entity.place = Place::Leaving;
                self.release_weights();
            }
        }
        Departure { before: Some(before), debt }
    }

    /// Changes a guest's weight on this processor, 1 … 10,000. The guest keeps the service that it is owed or owes.
    pub fn set_weight(&mut self, guest: EntityId, weight: u32, now: Tsc) {
        let rate = Rate::of(weight);
        let Some(before) = self.entities.get(usize::from(guest.0)).map(|entity| entity.rate) else { return };
        if before == rate {
            return;
        }
        self.charge(now);
        let queued = self.leave_trees(guest.0);
        let clock = self.clock.now;
        let Some(entity) = self.entities.get_mut(usize::from(guest.0)) else { return };
        if entity.place == Place::Free {
            return;
        }
        entity.change_rate(rate, clock);
        self.admitted = self.admitted.saturating_sub(before.weight()).saturating_add(rate.weight());
        self.clock.rate = Rate::of(self.admitted);
        if queued {
            self.join_trees(guest.0);
        }
        self.set_slice_end(now);
    }

    /// The average number of a guest's vCPUs that run or wait here, in parts of a processor (`policy::balance`).
    pub fn presence(&self, guest: EntityId) -> u32 {
        let members = self.entities.get(usize::from(guest.0)).map_or(&[][..], |entity| &entity.members);
        let vcpus = members.iter().filter_map(|slot| self.vcpus.get(usize::from(*slot)));
        vcpus.filter(|vcpu| vcpu.entity == guest.0).map(|vcpu| vcpu.presence).sum()
    }

    /// Works out anew how present each vCPU is.
    pub fn note_presence(&mut self, now: Tsc) {
        self.charge(now);
        let least = Ticks(self.params.max_request.0 / 2);
        self.vcpus.iter_mut().for_each(|vcpu| vcpu.note_presence(least, now));
    }

    /// Puts a vCPU in any state to sleep. If it was the runner, the caller must call [`Self::pick`] next.
    pub fn stop(&mut self, slot: Slot, now: Tsc) {
        let Some(vcpu) = self.vcpus.get(usize::from(slot.0)) else { return };
        match vcpu.state {
            State::Free | State::Asleep => {}
            State::Running => self.block_current(now),
            State::Waiting => {
                self.charge(now);
                self.dequeue(slot.0, now);
                if self.payer == slot.0 {
                    self.payer = self.runner;
                }
                self.set_slice_end(now);
            }
        }
    }

    /// Drops the weights of the guests that left and whose debt the clock has passed.
    pub(super) fn release_weights(&mut self) {
        let clock = self.clock.now;
        for entity in &mut self.entities {
            if entity.place == Place::Leaving && entity.start <= clock && entity.beyond.0 == 0 {
                entity.place = Place::Free;
            }
        }
        self.recount();
    }

    /// Sums up the admitted weights, and finds when the weight of the next guest that left can be dropped.
    pub(super) fn recount(&mut self) {
        let held = self.entities.iter().filter(|entity| entity.place != Place::Free);
        self.admitted = held.map(|entity| entity.rate.weight()).fold(0, u32::saturating_add);
        self.clock.rate = Rate::of(self.admitted);
        let leaving = self.entities.iter().filter(|entity| entity.place == Place::Leaving);
        self.attend_at = leaving.map(|entity| entity.start).min().unwrap_or(MOVE_AT).min(MOVE_AT);
    }

    /// Whether a vCPU waits for this CPU.
    pub fn is_waiting(&self, slot: Slot) -> bool {
        self.vcpus.get(usize::from(slot.0)).is_some_and(|vcpu| vcpu.state == State::Waiting)
    }

    /// The vCPUs that wait for this CPU, guest by guest.
    pub fn waiting_slots(&self) -> impl Iterator<Item = Slot> {
        let guests = self.entities.iter().zip(0_u16..).filter(|(entity, _)| entity.waiting.least() != EMPTY);
        guests.flat_map(move |(_, guest)| self.waiting_of(EntityId(guest)))
    }

    /// The vCPUs of a guest that wait for this CPU.
    pub fn waiting_of(&self, guest: EntityId) -> impl Iterator<Item = Slot> {
        let members =
            self.entities.get(usize::from(guest.0)).map_or(&[NONE; MAX_MEMBERS], |entity| &entity.members);
        members.iter().copied().map(Slot).filter(move |slot| {
            self.vcpus
                .get(usize::from(slot.0))
                .is_some_and(|vcpu| vcpu.state == State::Waiting && vcpu.entity == guest.0)
        })
    }
}
