//! Adding and removing guests and vCPUs at any time, for tests: the hypervisor has a place for each from the beginning
//! ([`RunQueue::prepare`]).

use super::entity::{Entity, Place};
use super::tree::MAX_LEAVES;
use super::vcpu::{State, Vcpu};
use super::{Departure, EntityId, Law, NONE, RunQueue, Slot};
use crate::base::time::{Ticks, Tsc};
use core::fmt;

/// Upper limit of the vCPUs of one run queue; [`NONE`] is not among their indices.
const MAX_SLOTS: usize = 1 << 15;

/// The run queue has no room for another entity or vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the run queue is full")
    }
}

/// The debt that an entity takes along when it leaves a run queue: the service that it had ahead of its share. An entity takes no credit
/// along.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "dropping it forgives the debt"]
pub struct Carried {
    /// Service owed, in ticks.
    pub debt: Ticks,
    /// The index at which the entity left its weight behind, and the number of that removal; 0 is none.
    left_at: (u16, u64),
}

impl RunQueue {
    /// Admits a guest with this weight (1 … 10,000; zero counts as 1) and no debt.
    ///
    /// # Errors
    ///
    /// [`Full`] beyond 1,023 entities.
    pub fn add_entity(&mut self, weight: u32) -> Result<EntityId, Full> {
        self.add_entity_with(weight, Carried::default())
    }

    /// Admits a guest that was here or elsewhere before and owes what it carries.
    ///
    /// # Errors
    ///
    /// [`Full`] beyond 1,023 entities.
    pub fn add_entity_with(&mut self, weight: u32, carried: Carried) -> Result<EntityId, Full> {
        self.release_weights();
        let mut entity = Entity::new(weight, self.clock.now);
        let (left_at, removal) = carried.left_at;
        if let Some(left) = self.entities.get_mut(usize::from(left_at))
            && left.place == Place::Leaving
            && left.removal == removal
        {
            // The guest comes back before its weight was dropped: the clock has passed a part of its debt, and the weight is not
            // admitted twice.
            entity.start = left.start.max(entity.start);
            entity.beyond = left.beyond;
            left.place = Place::Free;
        } else {
            entity.charge_any(carried.debt);
        }
        if self.is_broken(Law::CarryDebt) {
            entity.start = self.clock.now;
        }
        let index = self.entities.iter().position(|entity| entity.place == Place::Free);
        let index = index.unwrap_or(self.entities.len());
        let id = u16::try_from(index).ok().filter(|_| index < MAX_LEAVES - 1).ok_or(Full)?;
        match self.entities.get_mut(index) {
            Some(free) => *free = entity,
            None => self.entities.push(entity),
        }
        self.candidates.grow(index + 1);
        self.early.grow(index + 1);
        self.recount();
        Ok(EntityId(id))
    }

    /// Removes a guest with all its vCPUs. Its weight stays admitted until the clock has passed its debt: the guests that stay are owed
    /// that debt, and a faster clock would promise it to newcomers.
    pub fn remove_entity(&mut self, id: EntityId, now: Tsc) -> Carried {
        self.charge(now);
        for index in 0..self.vcpus.len() {
            let Ok(slot) = u16::try_from(index) else { break };
            if self.vcpus.get(usize::from(slot)).is_some_and(|vcpu| vcpu.entity == id.0) {
                self.remove_vcpu(Slot(slot), now);
            }
        }
        if self.paying == id.0 {
            // The guest's vCPUs are gone, so a vCPU of another guest runs on the rest of its request: that vCPU now pays for itself.
            self.stop_paying();
        }
        let releases = self.is_broken(Law::HoldWeight);
        let Some(entity) = self.entities.get_mut(usize::from(id.0)) else { return Carried::default() };
        if entity.place != Place::Asleep {
            return Carried::default();
        }
        let debt = entity.debt(self.clock.now);
        entity.place = if releases { Place::Free } else { Place::Leaving };
        self.removals += 1;
        entity.removal = self.removals;
        let left_at = (id.0, entity.removal);
        self.release_weights();
        Carried { debt, left_at }
    }

    /// Adds a vCPU, asleep, to a guest.
    ///
    /// # Errors
    ///
    /// [`Full`] when the guest has 64 or the queue has no room, or there is no such guest.
    pub fn add_vcpu(&mut self, id: EntityId) -> Result<Slot, Full> {
        let free = self.vcpus.iter().position(|vcpu| vcpu.state == State::Free);
        let index = free.unwrap_or(self.vcpus.len());
        let slot = u16::try_from(index).ok().filter(|_| index < MAX_SLOTS).ok_or(Full)?;
        let length = self.params.default_request;
        let now = self.charged_to;
        let vcpus = &mut self.vcpus;
        let entity = self.entities.get_mut(usize::from(id.0)).ok_or(Full)?;
        if matches!(entity.place, Place::Free | Place::Leaving) {
            return Err(Full);
        }
        let is_held = |(leaf, slot): (usize, &u16)| {
            vcpus
                .get(usize::from(*slot))
                .is_some_and(|vcpu| vcpu.entity == id.0 && usize::from(vcpu.leaf) == leaf)
        };
        let leaf = entity.members.iter().enumerate().position(|member| !is_held(member)).ok_or(Full)?;
        let leaf_id = u16::try_from(leaf).map_err(|_| Full)?;
        if let Some(member) = entity.members.get_mut(leaf) {
            *member = slot;
        }
        entity.waiting.grow(leaf + 1);
        entity.attached += 1;
        let vcpu = Vcpu::new(id.0, leaf_id, length, entity.order_floor, now);
        match vcpus.get_mut(index) {
            Some(free) => *free = vcpu,
            None => vcpus.push(vcpu),
        }
        Ok(Slot(slot))
    }

    /// Removes a vCPU in any state. If it was the runner, the caller must call [`Self::pick`] next. The guest keeps its debt.
    pub fn remove_vcpu(&mut self, slot: Slot, now: Tsc) {
        self.stop(slot, now);
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)) else { return };
        if vcpu.state != State::Free {
            if let Some(entity) = self.entities.get_mut(usize::from(vcpu.entity)) {
                entity.attached = entity.attached.saturating_sub(1);
            }
            vcpu.state = State::Free;
            vcpu.entity = NONE;
        }
    }

    /// Lets the runner pay for itself when the guest on whose account it ran is removed.
    fn stop_paying(&mut self) {
        self.fall_asleep(self.paying);
        if let Some(own) = self.vcpus.get(usize::from(self.runner)).map(|vcpu| vcpu.entity) {
            self.leave_trees(own);
            if self.aside == own {
                self.aside = NONE;
            }
            self.payer = self.runner;
            self.paying = own;
            self.set_place(own, Place::Paying);
        }
    }
}

impl Departure {
    /// Service owed.
    pub const fn debt(&self) -> Ticks {
        self.debt
    }

    /// Ticks that the vCPU ran so far.
    pub fn run(&self) -> Ticks {
        self.before.as_ref().map_or(Ticks(0), |before| before.run)
    }
}
