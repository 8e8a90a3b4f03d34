//! The theorem of DESIGN §5 as a property: whatever others do, a guest that stays runnable gets its share of any window but for
//! a constant of its own. The real [`RunQueue`] is driven by an event loop in which guests lie, and each law is switched off once to
//! see the property fail.

use super::{Carried, EntityId, Law, Params, RunQueue, SliceRequest, Slot, Wake};
use crate::base::time::{Frequency, Ticks, Tsc};
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
/// Latest a timer may be taken, and the longest hypervisor path.
const LATENCY: u64 = 2 * US;

/// A small generator of the test's own, so that a seed is a whole run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }

    fn of<const N: usize>(&mut self, choices: [u64; N]) -> u64 {
        choices[usize::try_from(self.below(N as u64)).unwrap()]
    }
}

/// How a guest behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Persona {
    /// Runs whenever it can.
    Hog,
    /// Works and sleeps at its own pace.
    Worker,
    /// Sleeps right before its slice ends and wakes right after.
    Dodger,
    /// Asks for much, yields, asks for little, and so on.
    Stretcher,
    /// Yields all the time for 20 ms, then not at all for 20 ms, and so on.
    Yielder,
    /// Gives its time to others.
    Donor,
    /// Runs ahead, is removed, comes back.
    Restarter,
    /// Wakes with others at once, asks for much, and for little as soon as it is behind.
    Pouncer,
    /// Sleeps, and is interrupted all the time.
    Nuisance,
}

/// A guest before it is made.
struct Plan {
    persona: Persona,
    weight: u32,
    vcpus: usize,
    /// What it asks for, in µs; a restarter asks for the first and stays away for the second.
    lengths: [u64; 2],
    /// When it wakes first, in µs.
    first: u64,
}

const fn plan(persona: Persona, weight: u32, lengths: [u64; 2]) -> Plan {
    Plan { persona, weight, vcpus: 1, lengths, first: 0 }
}

impl Plan {
    const fn from(self, first: u64) -> Self {
        Self { first, ..self }
    }
}

/// Guests of one run. Some are thrown together; the others are the company in which one law or another matters.
fn cast(dice: &mut Dice) -> Vec<Plan> {
    use Persona::{Dodger, Donor, Hog, Nuisance, Pouncer, Restarter, Stretcher, Worker, Yielder};
    match dice.below(8) {
        // Honest guests who ask alike, and few who always ask for an earlier deadline.
        0 => (0..6)
            .map(|_| plan(Hog, 3, [2_000; 2]))
            .chain((0..3).map(|_| plan(Dodger, 2, [100; 2])))
            .collect(),
        1 => (0..6)
            .map(|_| plan(Hog, 3, [2_000; 2]))
            .chain((0..3).map(|_| plan(Restarter, 2, [100, 1])))
            .collect(),
        // A large one that leaves in debt, and latecomers who would be promised its share as well.
        2 => (0..5)
            .map(|_| plan(Hog, 10, [1_020; 2]))
            .chain([plan(Restarter, 100, [10_000, 30_000])])
            .chain([10_001, 10_010].map(|first| plan(Worker, 10, [440; 2]).from(first)))
            .collect(),
        // One that gets behind others on purpose, and latecomers in a hurry.
        3 => vec![
            plan(Hog, 3, [9_900; 2]),
            plan(Hog, 3, [9_900; 2]),
            plan(Pouncer, 3, [10_000, 100]),
            plan(Worker, 1, [100; 2]).from(19_700 + dice.below(400)),
            plan(Worker, 1, [100; 2]).from(19_700 + dice.below(400)),
        ],
        4 => vec![
            plan(Hog, 3, [10_000; 2]),
            plan(Hog, 3, [9_000; 2]),
            plan(Yielder, 3, [100, 500]),
            plan(Worker, 1, [100; 2]),
            plan(Worker, 2, [100; 2]),
        ],
        // Debt without end.
        5 => vec![
            plan(Hog, 6, [2_000; 2]),
            plan(Hog, 6, [2_000; 2]),
            plan(Worker, 6, [200; 2]),
            plan(Nuisance, 1, [100; 2]),
        ],
        _ => {
            let liars = [Worker, Dodger, Stretcher, Yielder, Donor, Restarter, Pouncer, Nuisance];
            let coalition = liars[usize::try_from(dice.below(8)).unwrap()];
            let mixed = dice.below(2) == 0;
            let honest = if dice.below(2) == 0 { [2_000; 2] } else { [200; 2] };
            (0..2 + dice.below(6))
                .map(|index| Plan {
                    persona: match index {
                        0 => Hog,
                        1 => Worker,
                        _ if mixed => liars[usize::try_from(dice.below(8)).unwrap()],
                        _ => coalition,
                    },
                    weight: u32::try_from(dice.of([1, 1, 2, 4, 10, 100])).unwrap(),
                    vcpus: usize::try_from(dice.of(if index < 2 { [1, 1, 1, 3] } else { [1, 1, 2, 64] }))
                        .unwrap(),
                    first: dice.of([0, 3_000]),
                    lengths: if index < 2 { honest } else { [dice.of([100, 2_000, 10_000]), 100] },
                })
                .collect()
        }
    }
}

struct Guest {
    plan: Plan,
    id: EntityId,
    slots: Vec<Slot>,
    /// When each vCPU wakes, if it sleeps.
    wakes: Vec<Option<Tsc>>,
    /// Since when it is removed, with what it took along, and until when.
    gone: Option<(Carried, Tsc)>,
    /// Ticks charged to it, and its share of what the layer received, both × 2^20.
    service: i128,
    due: i128,
    longest: u64,
    window: Option<Window>,
    /// By how much it missed its bound at most, × 2^20.
    worst: i128,
}

/// A window in which a guest is runnable: the least deficit so far, in ticks × 2^20.
struct Window {
    least: i128,
    /// Deficit at its start when that was a wake without debt.
    at_wake: Option<i128>,
}

const fn scaled(ticks: u64) -> i128 {
    (ticks as i128) << 20
}

struct World {
    dice: Dice,
    queue: RunQueue,
    now: Tsc,
    guests: Vec<Guest>,
    payer: Option<usize>,
    /// When the runner acts by itself.
    acts_at: Tsc,
    log: Vec<(Tsc, Option<Slot>, Tsc)>,
    aside: Option<usize>,
}

impl World {
    fn new(seed: u64, broken: Option<Law>) -> Self {
        let mut dice = Dice(seed | 1);
        for _ in 0..8 {
            dice.below(2);
        }
        let mut queue = RunQueue::new(Params::new(Frequency::from_khz(1_000_000).unwrap()));
        queue.broken = broken;
        let mut guests = Vec::new();
        for plan in cast(&mut dice) {
            let id = queue.add_entity(plan.weight).unwrap();
            let slots: Vec<Slot> = (0..plan.vcpus).map(|_| queue.add_vcpu(id).unwrap()).collect();
            let first = plan.first * US;
            guests.push(Guest {
                wakes: slots.iter().map(|_| Some(Tsc(first + dice.below(10)))).collect(),
                plan,
                id,
                slots,
                gone: None,
                service: 0,
                due: 0,
                longest: 0,
                window: None,
                worst: i128::MIN,
            });
        }
        Self {
            dice,
            queue,
            now: Tsc(0),
            guests,
            payer: None,
            acts_at: Tsc::NEVER,
            log: Vec::new(),
            aside: None,
        }
    }

    fn owner(&self, slot: Slot) -> (usize, usize) {
        for (guest, held) in self.guests.iter().enumerate() {
            if held.gone.is_none()
                && let Some(index) = held.slots.iter().position(|own| *own == slot)
            {
                return (guest, index);
            }
        }
        panic!("{slot:?} belongs to nobody")
    }

    fn request(&mut self, guest: usize) -> SliceRequest {
        let deadline = (self.dice.below(4) == 0).then(|| self.now + Ticks(self.dice.below(5 * MS)));
        let [first, second] = self.guests[guest].plan.lengths;
        let restarts = self.guests[guest].plan.persona == Persona::Restarter;
        let length = if restarts || self.dice.below(2) == 0 { first } else { second } * US;
        self.ask(guest, SliceRequest { length: Ticks(length), deadline })
    }

    fn ask(&mut self, guest: usize, request: SliceRequest) -> SliceRequest {
        let held = &mut self.guests[guest];
        held.longest = held.longest.max(request.length.0);
        request
    }

    fn deficit(&self, guest: usize) -> i128 {
        self.guests[guest].due - self.guests[guest].service
    }

    /// Notes deficits and whose windows go on.
    fn observe(&mut self) {
        for guest in 0..self.guests.len() {
            let deficit = self.deficit(guest);
            let held = &mut self.guests[guest];
            // What a yielder let others have comes back when there is time, not within a bound.
            let postponed = self.queue.entities[usize::from(held.id.0)].postponed != 0;
            let awake = held.gone.is_none() && held.wakes.iter().any(Option::is_none);
            let runnable = awake && !postponed && self.aside != Some(guest);
            if !runnable {
                held.window = None;
                continue;
            }
            let Some(window) = &mut held.window else {
                held.window = Some(Window { least: deficit, at_wake: None });
                continue;
            };
            let allowed = (100 + 10) * US + LATENCY;
            let twice = deficit - window.least - scaled(2 * held.longest + allowed);
            held.worst = held.worst.max(twice);
            if let Some(start) = window.at_wake {
                held.worst = held.worst.max(deficit - start - scaled(held.longest + allowed));
            }
            window.least = window.least.min(deficit);
        }
    }

    fn pass(&mut self, until: Tsc) {
        let passed = until.since(self.now).0;
        if let Some(payer) = self.payer {
            self.guests[payer].service += scaled(passed);
            let admitted = i128::from(self.queue.admitted);
            for guest in self.guests.iter_mut().filter(|guest| guest.gone.is_none()) {
                guest.due += scaled(passed) * i128::from(guest.plan.weight) / admitted;
            }
        }
        self.now = until;
        self.observe();
    }

    /// Hypervisor time for an interrupt of a guest that does not run.
    fn interrupt(&mut self, guest: usize, index: usize) {
        let gone = self.guests[guest].gone.is_some();
        if gone || self.payer.is_none() || self.payer == Some(guest) || self.dice.below(3) == 0 {
            return;
        }
        self.queue.charge(self.now);
        let cost = 1 + self.dice.below(2 * LATENCY);
        let slot = self.guests[guest].slots[index];
        self.queue.debit(self.guests[guest].id, slot, Ticks(cost));
        self.guests[guest].service += scaled(cost);
        self.acts_at = self.acts_at + Ticks(cost);
        self.now = self.now + Ticks(cost);
        self.observe();
    }

    fn wake(&mut self, guest: usize, index: usize) {
        self.interrupt(guest, index);
        self.observe();
        let slot = self.guests[guest].slots[index];
        self.queue.charge(self.now);
        let debt_free =
            self.queue.usage(slot).lag >= 0 && self.guests[guest].wakes.iter().all(Option::is_some);
        let request = self.request(guest);
        let woken = self.queue.wake(slot, request, self.now);
        assert_ne!(woken, Wake::AlreadyRunnable);
        self.guests[guest].wakes[index] = None;
        if debt_free {
            let deficit = self.deficit(guest);
            self.guests[guest].window = Some(Window { least: deficit, at_wake: Some(deficit) });
        }
        self.observe();
    }

    /// Lets the runner do what its persona does.
    fn act(&mut self, slot: Slot) {
        let (guest, index) = self.owner(slot);
        match self.guests[guest].plan.persona {
            Persona::Hog => {}
            Persona::Worker => self.sleep(guest, index, [50, 500, 5_000]),
            Persona::Dodger => self.sleep(guest, index, [0, 0, 30]),
            Persona::Nuisance => self.sleep(guest, index, [30_000; 3]),
            Persona::Yielder => {
                let request = self.request(guest);
                self.yields(guest, request);
            }
            Persona::Stretcher if self.dice.below(8) == 0 => self.sleep(guest, index, [1, 100, 20_000]),
            Persona::Stretcher => {
                let request = self.request(guest);
                self.yields(guest, request);
            }
            Persona::Pouncer => {
                if self.pounces(slot) {
                    let length = Ticks(self.guests[guest].plan.lengths[1] * US);
                    let request = self.ask(guest, SliceRequest { length, deadline: None });
                    self.yields(guest, request);
                } else {
                    self.sleep(guest, index, [100, 20_000, 50_000]);
                }
            }
            Persona::Donor => {
                let other = usize::try_from(self.dice.below(self.guests.len() as u64)).unwrap();
                let slots = &self.guests[other].slots;
                let target = slots[usize::try_from(self.dice.below(slots.len() as u64)).unwrap()];
                if self.dice.below(3) == 0 || !self.queue.yield_to(target, self.now) {
                    self.sleep(guest, index, [10, 1_000, 10_000]);
                }
            }
            Persona::Restarter => {
                if self.dice.below(16) != 0 {
                    let carried = self.queue.remove_entity(self.guests[guest].id, self.now);
                    let until = self.now + Ticks(self.guests[guest].plan.lengths[1] * US);
                    self.guests[guest].gone = Some((carried, until));
                } else {
                    self.sleep(guest, index, [10, 1_000, 10_000]);
                }
            }
        }
    }

    /// Whether a pouncer is behind and has still to ask for less.
    fn pounces(&self, slot: Slot) -> bool {
        let (guest, _) = self.owner(slot);
        let asked = self.queue.vcpus[usize::from(slot.0)].length.0;
        self.queue.usage(slot).lag > 0 && asked != self.guests[guest].plan.lengths[1] * US
    }

    /// A yield hands time back: what it costs the yielder itself is its own affair, and its window ends.
    fn yields(&mut self, guest: usize, request: SliceRequest) {
        self.guests[guest].window = None;
        self.queue.yield_current(request, self.now);
    }

    fn sleep(&mut self, guest: usize, index: usize, us: [u64; 3]) {
        self.queue.block_current(self.now);
        let length = self.dice.of(us) * US;
        self.guests[guest].wakes[index] = Some(self.now + Ticks(1 + length));
    }

    /// When the runner will act by itself.
    fn plan(&mut self, slot: Slot) -> Tsc {
        let (guest, _) = self.owner(slot);
        let end = self.queue.slice_end();
        let before_end = if end == Tsc::NEVER { self.now + Ticks(MS) } else { end - Ticks(1) };
        let before_end = before_end.max(self.now + Ticks(1));
        match self.guests[guest].plan.persona {
            Persona::Hog => Tsc::NEVER,
            Persona::Worker => self.now + Ticks(self.dice.of([30, 300, 3_000]) * US),
            Persona::Dodger | Persona::Restarter => before_end,
            Persona::Nuisance => self.now + Ticks(US),
            Persona::Pouncer if self.pounces(slot) => self.now + Ticks(US),
            Persona::Pouncer if self.queue.usage(slot).lag > 0 => Tsc::NEVER,
            Persona::Pouncer => before_end,
            Persona::Yielder if (self.now.0 / (20 * MS)).is_multiple_of(2) => {
                self.now + Ticks(self.dice.of([1, 1, 20]) * US)
            }
            Persona::Yielder => Tsc::NEVER,
            Persona::Stretcher => match self.dice.below(6) {
                0 => Tsc::NEVER,
                1 => before_end,
                _ => self.now + Ticks(self.dice.of([1, 20, 200]) * US),
            },
            Persona::Donor => self.now + Ticks(self.dice.of([1, 50, 1_000]) * US),
        }
    }

    fn pick(&mut self) {
        let before = self.queue.current();
        let slot = self.queue.pick(self.now);
        self.log.push((self.now, slot, self.queue.slice_end()));
        let donated = self.queue.payer != self.queue.runner;
        if before != slot || self.acts_at <= self.now {
            self.acts_at = slot.map_or(Tsc::NEVER, |slot| self.plan(slot));
        }
        if !donated {
            self.payer = slot.map(|slot| self.owner(slot).0);
        }
        let aside = EntityId(self.queue.aside);
        self.aside = self.guests.iter().position(|guest| guest.gone.is_none() && guest.id == aside);
        assert_eq!(self.queue.wanted(), self.queue.waiting() > 0);
        assert_eq!(self.queue.slice_end() == Tsc::NEVER, !self.queue.wanted() || slot.is_none());
        if slot.is_none() {
            assert!(
                self.guests
                    .iter()
                    .all(|guest| guest.gone.is_some() || guest.wakes.iter().all(Option::is_some))
            );
        }
    }

    fn step(&mut self) {
        let timer = self.queue.slice_end();
        let late = Ticks(self.dice.below(LATENCY));
        let timer = if timer == Tsc::NEVER { timer } else { timer.max(self.now) + late };
        let sleepers = self.guests.iter().enumerate().filter(|(_, guest)| guest.gone.is_none());
        let wakes = sleepers.flat_map(|(guest, held)| {
            held.wakes.iter().enumerate().filter_map(move |(index, at)| at.map(|at| (at, guest, index)))
        });
        let wake = wakes.min_by_key(|(at, ..)| *at);
        let gone = self.guests.iter().enumerate();
        let back =
            gone.filter_map(|(guest, held)| held.gone.map(|(_, at)| (at, guest))).min_by_key(|(at, _)| *at);
        let nuisance = self.guests.iter().position(|guest| guest.plan.persona == Persona::Nuisance);
        let rings = if nuisance.is_some() { self.now + Ticks(10 * US) } else { Tsc::NEVER };
        let at =
            [Some(timer), Some(self.acts_at), wake.map(|wake| wake.0), back.map(|back| back.0), Some(rings)];
        let at = at.into_iter().flatten().min().unwrap().max(self.now);
        self.pass(at);
        if let Some(guest) = nuisance
            && at == rings
        {
            self.interrupt(guest, 0);
            if self.queue.slice_end() > self.now && self.acts_at > self.now {
                return;
            }
            self.pick();
            return;
        }
        if let Some((when, guest)) = back
            && when <= at
        {
            self.come_back(guest);
        } else if let Some((when, guest, index)) = wake
            && when <= at
        {
            self.wake(guest, index);
            // The owner looks when it is told to.
            if self.queue.current().is_some() && self.queue.slice_end() > self.now {
                return;
            }
        } else if self.acts_at <= at
            && let Some(slot) = self.queue.current()
        {
            self.act(slot);
        } else if self.dice.below(2) == 0 && self.queue.extend(self.now).is_some() {
            return;
        }
        self.pick();
    }

    fn come_back(&mut self, guest: usize) {
        self.queue.charge(self.now);
        let held = &mut self.guests[guest];
        let Some((carried, _)) = held.gone.take() else { return };
        held.id = self.queue.add_entity_with(held.plan.weight, carried).unwrap();
        for (slot, wake) in held.slots.iter_mut().zip(&mut held.wakes) {
            *slot = self.queue.add_vcpu(held.id).unwrap();
            *wake = Some(self.now);
        }
    }

    fn run(mut self, length: u64) -> Self {
        self.pick();
        while self.now < Tsc(length) {
            self.step();
        }
        self
    }

    /// By how much the worst guest misses its bound, in ticks; negative when none does.
    fn worst(&self) -> i128 {
        self.guests.iter().map(|guest| guest.worst).max().unwrap_or(0) >> 20
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_runnable_guest_gets_its_share_whatever_others_do(seed in any::<u64>()) {
        let world = World::new(seed, None).run(150 * MS);
        let worst = world.worst();
        prop_assert!(worst <= 0, "misses its bound by {} ns", worst);
    }

    #[test]
    fn the_short_way_of_a_yield_makes_no_difference(seed in any::<u64>()) {
        let short = World::new(seed, None).run(50 * MS);
        let long = World::new(seed, Some(Law::HandOver)).run(50 * MS);
        prop_assert_eq!(short.log, long.log);
    }
}

/// How many of some fixed runs miss the theorem's bound with a law switched off.
fn misses(law: Option<Law>) -> usize {
    let seeds = (1..400u64).map(|seed| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    seeds.filter(|seed| World::new(*seed, law).run(100 * MS).worst() > 0).count()
}

#[test]
fn without_any_one_law_the_theorem_fails() {
    assert_eq!(misses(None), 0);
    for law in [
        Law::KeepDebtAtWake,
        Law::CarryDebt,
        Law::HoldWeight,
        Law::KeepDeadlineWhenBehind,
        Law::Postpone,
        Law::BoundLead,
        Law::Preempt,
        Law::StopClockForDebit,
    ] {
        let missed = misses(Some(law));
        std::println!("{law:?}: {missed}");
        assert!(missed > 0, "{law:?} makes no difference");
    }
}
