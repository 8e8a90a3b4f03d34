//! Load balancing: the share of several processors that each guest is due, and a placement of its vCPUs that lets it get that share.
//!
//! The balancer computes both once an epoch from the shared table of processors. Times and rates are in [`PART`]s of a processor.

use crate::base::id::MAX_CPUS;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// One whole processor.
pub const PART: u32 = 1 << 10;
/// The balancer ignores differences in load below this: 3 % of a processor.
const SLACK: u32 = PART / 32;

/// A guest as the balancer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Claim {
    /// Its weight, 1 … 10,000.
    pub weight: u32,
    /// Number of processors that the guest could use at once: the average number of its runnable vCPUs, in [`PART`]s.
    pub wants: u32,
}

/// The share of a processor that each unit of weight is due, in 2^-16 parts, such that all processors are used or all claims are met
/// (water-filling). A guest is due `min(wants, weight × level)`.
pub fn level(claims: &[Claim], cpus: u32) -> u64 {
    let mut level = 0_u64;
    loop {
        let (mut free, mut weights) = (u64::from(cpus * PART) << 16, 0);
        for claim in claims {
            let (wants, weight) = (u64::from(claim.wants) << 16, u64::from(claim.weight.max(1)));
            // A guest that cannot use all that its weight is due leaves the rest to the others.
            if wants <= level.saturating_mul(weight) {
                free = free.saturating_sub(wants);
            } else {
                weights += weight;
            }
        }
        let Some(higher) = free.checked_div(weights) else { return u64::MAX };
        if higher <= level {
            return level;
        }
        level = higher;
    }
}

/// The share that a guest is due of each processor it wants, in parts: at most a whole processor.
pub fn rate(claim: Claim, level: u64) -> u32 {
    let wants = u64::from(claim.wants.max(PART));
    let due = level.saturating_mul(u64::from(claim.weight.max(1))) >> 16;
    u32::try_from((due.min(wants) * u64::from(PART)).div_ceil(wants)).unwrap_or(PART).clamp(1, PART)
}

/// The average number of one guest's vCPUs that run or wait on one processor, in parts.
pub type Present = u32;

/// The numbers of vCPUs by processor, then by guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    guests: usize,
    present: Vec<Present>,
}

impl Placement {
    /// A placement without vCPUs.
    pub fn new(cpus: usize, guests: usize) -> Self {
        Self { guests, present: alloc::vec![0; cpus.min(MAX_CPUS) * guests] }
    }

    /// Number of processors.
    pub fn cpus(&self) -> usize {
        self.present.len().checked_div(self.guests).unwrap_or(0)
    }

    /// The number of a guest's vCPUs at a processor, in parts.
    pub fn get(&self, cpu: usize, guest: usize) -> Present {
        self.present.get(cpu * self.guests + guest).copied().unwrap_or(0)
    }

    /// Sets the number of a guest's vCPUs at a processor, in parts.
    pub fn set(&mut self, cpu: usize, guest: usize, present: Present) {
        if let Some(place) = self.present.get_mut(cpu * self.guests + guest) {
            *place = present;
        }
    }

    /// The number of a guest's vCPUs at all processors, in parts.
    pub fn wants(&self, guest: usize) -> u32 {
        (0..self.cpus()).map(|cpu| self.get(cpu, guest)).fold(0, u32::saturating_add)
    }

    /// The sum of the shares that the vCPUs at a processor are due; the processor's capacity is [`PART`].
    pub fn load(&self, cpu: usize, rates: &[u32]) -> u32 {
        let loads = rates.iter().enumerate().map(|(guest, rate)| share(self.get(cpu, guest), *rate));
        loads.fold(0, u32::saturating_add)
    }

    fn heaviest(&self, rates: &[u32]) -> u32 {
        (0..self.cpus()).map(|cpu| self.load(cpu, rates)).max().unwrap_or(0)
    }
}

/// The search for a better placement. It has its own memory, so that the end of an epoch allocates nothing.
#[derive(Debug)]
pub struct Balancer {
    /// The present placement; the caller updates it.
    pub present: Placement,
    /// Claims by guest; `rates` and `order` also have one element per guest.
    claims: Vec<Claim>,
    rates: Vec<u32>,
    order: Vec<usize>,
    /// Loads by processor.
    loads: Vec<u32>,
    better: Placement,
}

impl Balancer {
    /// Makes a balancer for a machine of `cpus` processors and `guests` guests.
    pub fn new(cpus: usize, guests: usize) -> Self {
        let nobody = Placement::new(cpus, guests);
        Self {
            claims: alloc::vec![Claim::default(); guests],
            rates: alloc::vec![0; guests],
            order: (0..guests).collect(),
            loads: alloc::vec![0; nobody.cpus()],
            better: nobody.clone(),
            present: nobody,
        }
    }

    /// Looks for a better placement than the present one; false when the present one is good enough. `weights` are the guests' weights by
    /// id.
    #[must_use]
    pub fn improve(&mut self, weights: impl Iterator<Item = u32>) -> bool {
        for ((guest, claim), weight) in self.claims.iter_mut().enumerate().zip(weights) {
            *claim = Claim { weight, wants: self.present.wants(guest) };
        }
        let level = level(&self.claims, u32::try_from(self.present.cpus()).unwrap_or(0));
        for (rate, claim) in self.rates.iter_mut().zip(&self.claims) {
            *rate = self::rate(*claim, level);
        }
        let heaviest = self.present.heaviest(&self.rates);
        if heaviest <= PART + SLACK {
            return false;
        }
        self.place_anew();
        self.better.heaviest(&self.rates) + SLACK < heaviest
    }

    /// The placement that the last call of [`Self::improve`] found, if that returned true.
    pub const fn better(&self) -> &Placement {
        &self.better
    }

    /// Places the vCPUs anew, those with the highest rate first, each on the least loaded processor; a vCPU stays where it is if that
    /// processor is as good.
    fn place_anew(&mut self) {
        let Self { present, rates, order, loads, better, .. } = self;
        order.sort_unstable_by_key(|guest| (Reverse(rates.get(*guest).copied()), *guest));
        better.present.fill(0);
        loads.fill(0);
        for guest in order.iter().copied() {
            let mut rest = present.wants(guest);
            while rest != 0 {
                let piece = rest.min(PART);
                rest -= piece;
                let stays = |cpu: usize| better.get(cpu, guest) + piece <= present.get(cpu, guest);
                let key =
                    |(cpu, load): &(usize, u32)| (load / SLACK, better.get(*cpu, guest), !stays(*cpu), *load);
                let Some((cpu, _)) = loads.iter().copied().enumerate().min_by_key(key) else { return };
                better.set(cpu, guest, better.get(cpu, guest) + piece);
                if let Some(sum) = loads.get_mut(cpu) {
                    *sum = sum.saturating_add(share(piece, rates.get(guest).copied().unwrap_or(0)));
                }
            }
        }
    }
}

/// The share that `present` vCPUs are due at `rate` each.
fn share(present: Present, rate: u32) -> u32 {
    u32::try_from(u64::from(present) * u64::from(rate) / u64::from(PART)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates(claims: &[Claim], cpus: u32) -> Vec<u32> {
        let level = level(claims, cpus);
        claims.iter().map(|claim| rate(*claim, level)).collect()
    }

    fn claims(weights: &[u32], wants: u32) -> Vec<Claim> {
        weights.iter().map(|weight| Claim { weight: *weight, wants: wants * PART }).collect()
    }

    #[test]
    fn guests_of_two_vcpus_get_what_their_weights_say() {
        let rates = rates(&claims(&[1, 2, 4], 2), 2);
        for (rate, due) in rates.iter().zip([1.0, 2.0, 4.0]) {
            assert!((f64::from(*rate) / f64::from(PART) - due / 7.0).abs() < 0.002, "{rates:?}");
        }
    }

    #[test]
    fn what_a_guest_cannot_use_is_the_others() {
        let rates = rates(&claims(&[1, 2, 4], 1), 2);
        for (rate, due) in rates.iter().zip([1.0 / 3.0, 2.0 / 3.0, 1.0]) {
            assert!((f64::from(*rate) / f64::from(PART) - due).abs() < 0.002, "{rates:?}");
        }
    }

    /// A placement of whole vCPUs.
    fn placed(places: &[&[u32]]) -> Placement {
        let mut placement = Placement::new(places.len(), places[0].len());
        for (cpu, guests) in places.iter().enumerate() {
            for (guest, count) in guests.iter().enumerate() {
                placement.set(cpu, guest, count * PART);
            }
        }
        placement
    }

    fn improved(placement: &Placement, weights: &[u32]) -> Option<Placement> {
        let mut balancer = Balancer::new(placement.cpus(), placement.guests);
        balancer.present = placement.clone();
        balancer.improve(weights.iter().copied()).then(|| balancer.better().clone())
    }

    #[test]
    fn the_light_ones_share_and_the_heavy_one_has_a_processor_to_itself() {
        let weights = [1, 2, 4];
        for bad in [
            placed(&[&[1, 0, 1], &[0, 1, 0]]),
            placed(&[&[0, 1, 1], &[1, 0, 0]]),
            placed(&[&[1, 1, 1], &[0, 0, 0]]),
        ] {
            let better = improved(&bad, &weights).unwrap();
            let heavy = (0..2).find(|cpu| better.get(*cpu, 2) != 0).unwrap();
            assert_eq!((better.get(heavy, 0), better.get(heavy, 1)), (0, 0), "{better:?}");
            assert_eq!(improved(&better, &weights), None);
        }
    }

    #[test]
    fn siblings_are_parted() {
        let better = improved(&placed(&[&[0, 0, 2], &[2, 2, 0]]), &[1, 2, 4]).unwrap();
        assert_eq!(better, placed(&[&[1, 1, 1], &[1, 1, 1]]));
    }

    #[test]
    fn what_is_good_stays() {
        assert_eq!(improved(&placed(&[&[1, 0], &[0, 1]]), &[1, 1]), None);
        assert_eq!(improved(&placed(&[&[0, 1], &[1, 0]]), &[1, 1]), None);
    }

    proptest! {
        #[test]
        fn the_machine_is_used_or_everybody_has_what_he_wants(
            guests in prop::collection::vec((1_u32..10_001, 0_u32..5 * PART), 1..20),
            cpus in 1_u32..9,
        ) {
            let claims: Vec<_> = guests.iter().map(|(weight, wants)| Claim { weight: *weight, wants: *wants }).collect();
            let level = level(&claims, cpus);
            let due = |claim: &Claim| {
                u64::from(claim.wants).min(level.saturating_mul(u64::from(claim.weight)) >> 16)
            };
            let sum: u64 = claims.iter().map(due).sum();
            let wanted: u64 = claims.iter().map(|claim| u64::from(claim.wants)).sum();
            let all = wanted.min(u64::from(cpus * PART));
            prop_assert!(sum <= all + 1, "{} of {}", sum, all);
            prop_assert!(sum + 2 * claims.len() as u64 >= all, "{} of {}", sum, all);
        }

        #[test]
        fn nobody_is_lost_and_the_heaviest_gets_lighter(
            counts in prop::collection::vec(prop::collection::vec(0_u32..3, 6), 2..5),
            weights in prop::collection::vec(1_u32..100, 6),
        ) {
            let places: Vec<&[u32]> = counts.iter().map(Vec::as_slice).collect();
            let placement = placed(&places);
            let claims: Vec<_> = weights.iter().enumerate().map(|(guest, weight)| Claim { weight: *weight, wants: placement.wants(guest) }).collect();
            let rates = rates(&claims, u32::try_from(counts.len()).unwrap());
            if let Some(better) = improved(&placement, &weights) {
                prop_assert!(better.heaviest(&rates) < placement.heaviest(&rates));
                for guest in 0..6 {
                    prop_assert_eq!(better.wants(guest), placement.wants(guest));
                }
            }
        }
    }
}
