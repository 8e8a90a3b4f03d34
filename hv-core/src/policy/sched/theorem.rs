//! The theorem of DESIGN §5 as a property: whatever others do, a guest that stays runnable gets its share of any window but for
//! a constant of its own. The real [`RunQueue`] is driven by an event loop in which guests lie, and each law is switched off once to
//! see the property fail.

use super::{Carried, EntityId, Law, Params, Request, RunQueue, Slot, Wake};
use crate::base::time::{Frequency, Ticks, Tsc};
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
    /// Yields all the time, now and then not.
    Yielder,
    /// Gives its time to others.
    Donor,
    /// Runs ahead, is removed, comes back.
    Restarter,
}

impl Persona {
    const LIARS: [Self; 6] =
        [Self::Worker, Self::Dodger, Self::Stretcher, Self::Yielder, Self::Donor, Self::Restarter];
}

struct Guest {
    persona: Persona,
    weight: u32,
    id: EntityId,
    slots: Vec<Slot>,
    /// When each vCPU wakes, if it sleeps.
    wakes: Vec<Option<Tsc>>,
    /// Since when it is removed, with what it took along, and until when.
    gone: Option<(Carried, Tsc)>,
    service: u64,
    longest: u64,
    window: Option<Window>,
    worst: i128,
}

/// A window in which a guest is runnable: the least deficit so far, in ticks × admitted weight.
struct Window {
    least: i128,
    /// Deficit at its start when that was a wake without debt.
    at_wake: Option<i128>,
}

struct World {
    dice: Dice,
    queue: RunQueue,
    now: Tsc,
    guests: Vec<Guest>,
    admitted: u64,
    /// Time the fair layer received.
    received: u64,
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
        let count = 2 + dice.below(6);
        let coalition = Persona::LIARS[usize::try_from(dice.below(6)).unwrap()];
        let mixed = dice.below(2) == 0;
        let mut guests = Vec::new();
        for index in 0..count {
            let persona = match index {
                0 => Persona::Hog,
                1 => [Persona::Worker, Persona::Hog][usize::from(mixed)],
                _ if mixed => Persona::LIARS[usize::try_from(dice.below(6)).unwrap()],
                _ => coalition,
            };
            let weight = u32::try_from(dice.of([1, 1, 2, 4, 10, 100])).unwrap();
            let id = queue.add_entity(weight).unwrap();
            let vcpus = if index < 2 { dice.of([1, 1, 3]) } else { dice.of([1, 1, 2, 64]) };
            let slots: Vec<Slot> = (0..vcpus).map(|_| queue.add_vcpu(id).unwrap()).collect();
            let wakes = slots.iter().map(|_| Some(Tsc(dice.below(3 * MS)))).collect();
            guests.push(Guest {
                persona,
                weight,
                id,
                slots,
                wakes,
                gone: None,
                service: 0,
                longest: 0,
                window: None,
                worst: i128::MIN,
            });
        }
        let admitted = guests.iter().map(|guest| u64::from(guest.weight)).sum();
        Self {
            dice,
            queue,
            now: Tsc(0),
            guests,
            admitted,
            received: 0,
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

    fn request(&mut self, guest: usize) -> Request {
        let length = match self.guests[guest].persona {
            Persona::Hog | Persona::Worker => 2_000,
            Persona::Dodger => self.dice.of([100, 2_000, 10_000]),
            Persona::Stretcher => self.dice.of([100, 100, 10_000]),
            Persona::Yielder => self.dice.of([100, 500, 9_900]),
            Persona::Donor | Persona::Restarter => self.dice.of([1_000, 10_000]),
        };
        // Every second honest guest asks for little: that is where short bounds are.
        let length = if guest < 2 && self.admitted % 2 == 0 { 100 + length / 20 } else { length };
        let deadline = (self.dice.below(4) == 0).then(|| self.now + Ticks(self.dice.below(5 * MS)));
        let held = &mut self.guests[guest];
        held.longest = held.longest.max(length * US);
        Request { length: Ticks(length * US), deadline }
    }

    /// Deficit: share of what the layer received less own service, in ticks × admitted weight.
    fn deficit(&self, guest: usize) -> i128 {
        let held = &self.guests[guest];
        i128::from(held.weight) * i128::from(self.received)
            - i128::from(self.admitted) * i128::from(held.service)
    }

    /// Notes deficits and whose windows go on.
    fn observe(&mut self) {
        for guest in 0..self.guests.len() {
            let deficit = self.deficit(guest);
            let held = &mut self.guests[guest];
            let runnable =
                held.gone.is_none() && held.wakes.iter().any(Option::is_none) && self.aside != Some(guest);
            if !runnable {
                held.window = None;
                continue;
            }
            let Some(window) = &mut held.window else {
                held.window = Some(Window { least: deficit, at_wake: None });
                continue;
            };
            let allowed = (100 + 10) * US + LATENCY;
            let scale = i128::from(self.admitted);
            let twice = deficit - window.least - scale * i128::from(2 * held.longest + allowed);
            held.worst = held.worst.max(twice);
            if let Some(start) = window.at_wake {
                held.worst = held.worst.max(deficit - start - scale * i128::from(held.longest + allowed));
            }
            window.least = window.least.min(deficit);
        }
    }

    fn pass(&mut self, until: Tsc) {
        let passed = until.since(self.now).0;
        if let Some(payer) = self.payer {
            self.guests[payer].service += passed;
            self.received += passed;
        }
        self.now = until;
        self.observe();
    }

    /// Hypervisor time for an interrupt of a guest that does not run.
    fn interrupt(&mut self, guest: usize, index: usize) {
        if self.payer.is_none() || self.payer == Some(guest) || self.dice.below(3) == 0 {
            return;
        }
        self.queue.charge(self.now);
        let cost = 1 + self.dice.below(LATENCY);
        self.queue.debit(self.guests[guest].slots[index], Ticks(cost));
        self.guests[guest].service += cost;
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

    /// Lets the runner do what its persona does; returns whether it gave up the CPU.
    fn act(&mut self, slot: Slot) {
        let (guest, index) = self.owner(slot);
        let persona = self.guests[guest].persona;
        match persona {
            Persona::Hog => {}
            Persona::Worker => self.sleep(guest, index, [50, 500, 5_000]),
            Persona::Dodger => self.sleep(guest, index, [1, 20, 300]),
            Persona::Stretcher | Persona::Yielder => {
                if self.dice.below(8) == 0 {
                    self.sleep(guest, index, [1, 100, 20_000]);
                } else {
                    let request = self.request(guest);
                    self.queue.yield_current(request, self.now);
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
                if self.dice.below(4) == 0 {
                    let carried = self.queue.remove_entity(self.guests[guest].id);
                    let until = self.now + Ticks(self.dice.of([1, 100, 3_000]) * US);
                    self.guests[guest].gone = Some((carried, until));
                } else {
                    self.sleep(guest, index, [10, 1_000, 10_000]);
                }
            }
        }
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
        match self.guests[guest].persona {
            Persona::Hog => Tsc::NEVER,
            Persona::Worker => self.now + Ticks(self.dice.of([30, 300, 3_000]) * US),
            Persona::Dodger | Persona::Restarter => before_end.max(self.now + Ticks(1)),
            Persona::Stretcher | Persona::Yielder => match self.dice.below(6) {
                0 => Tsc::NEVER,
                1 => before_end.max(self.now + Ticks(1)),
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
        let at = [Some(timer), Some(self.acts_at), wake.map(|wake| wake.0), back.map(|back| back.0)];
        let at = at.into_iter().flatten().min().unwrap().max(self.now);
        self.pass(at);
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
        held.id = self.queue.add_entity_with(held.weight, carried).unwrap();
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
        let run: u64 = self.guests.iter().map(|guest| guest.service).sum();
        assert!(run >= self.received);
        self
    }

    /// By how much the worst guest misses its bound, in ticks; negative when none does.
    fn worst(&self) -> i128 {
        let own = self.guests.iter().map(|guest| guest.worst);
        own.max().unwrap_or(0) / i128::from(self.admitted)
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
    (1..300u64)
        .filter(|seed| World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), law).run(100 * MS).worst() > 0)
        .count()
}

#[test]
fn without_any_one_law_the_theorem_fails() {
    assert_eq!(misses(None), 0);
    for law in [Law::Preempt] {
        assert!(misses(Some(law)) > 0, "{law:?} makes no difference");
    }
}
