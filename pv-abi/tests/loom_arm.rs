//! A guest that moves its timer beside exits at any point: see `protocol::arm`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a poisoned lock or a lost thread fails the test")]

use loom::sync::{Arc, Mutex};
use pv_abi::model::{Shared, explore};
use pv_abi::protocol::arm::{Arm, Wake, arm, look};
use pv_abi::protocol::word::Word;

/// The promise that stands at the start.
const OLD: u64 = 100;

/// What the hypervisor knows of one vCPU.
struct Hypervisor {
    now: u64,
    timer: Option<u64>,
    fired: u64,
    /// Values delivered, and when.
    delivered: Vec<(u64, u64)>,
}

impl Hypervisor {
    /// Any exit and the entry after it.
    fn exit(&mut self, next_wake: &Shared, armed_until: &Shared) {
        match look(next_wake, armed_until, &mut self.fired, self.now) {
            Wake::None => self.timer = None,
            Wake::At(when) => self.timer = Some(when),
            Wake::Now => {
                self.timer = None;
                self.delivered.push((self.fired, self.now));
            }
        }
    }
}

/// How the guest arms.
type ArmBy = fn(&Shared, &Shared, u64) -> Arm;

/// The mutation: what was promised is read before the wish is stored.
fn arm_by_load_first(next_wake: &Shared, armed_until: &Shared, when: u64) -> Arm {
    let promised = armed_until.load();
    next_wake.store(when);
    if promised != 0 && promised <= when { Arm::Promised } else { Arm::Call }
}

/// How the hypervisor promises.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// What next_wake says at this exit.
    Fresh,
    /// What it said before the guest changed it.
    Stale,
}

/// A guest that had armed 100 now wants `when`; meanwhile an exit falls at 60, and then the timer expires that is set.
fn a_guest_beside_exits(when: u64, arm_by: ArmBy, promise: Promise) {
    explore(move || {
        let cpu = Arc::new(Mutex::new(()));
        let (next_wake, armed_until) = (Shared::new(OLD), Shared::new(OLD));
        let hypervisor = Hypervisor { now: 40, timer: Some(OLD), fired: 0, delivered: Vec::new() };
        let hypervisor = Arc::new(Mutex::new(hypervisor));
        let exits = {
            let (cpu, hypervisor) = (cpu.clone(), hypervisor.clone());
            let (next_wake, armed_until) = (next_wake.clone(), armed_until.clone());
            loom::thread::spawn(move || {
                {
                    let _outside_the_guest = cpu.lock().unwrap();
                    let mut hypervisor = hypervisor.lock().unwrap();
                    // Not later than the timer that is set.
                    hypervisor.now = hypervisor.timer.map_or(60, |at| at.min(60));
                    match promise {
                        Promise::Fresh => hypervisor.exit(&next_wake, &armed_until),
                        Promise::Stale => {
                            hypervisor.timer = Some(OLD);
                            armed_until.store(OLD);
                        }
                    }
                }
                let _outside_the_guest = cpu.lock().unwrap();
                let mut hypervisor = hypervisor.lock().unwrap();
                if let Some(at) = hypervisor.timer {
                    hypervisor.now = at;
                    hypervisor.exit(&next_wake, &armed_until);
                }
            })
        };
        if arm_by(&next_wake.on(&cpu), &armed_until.on(&cpu), when) == Arm::Call {
            let _outside_the_guest = cpu.lock().unwrap();
            hypervisor.lock().unwrap().exit(&next_wake, &armed_until);
        }
        let asked_at = hypervisor.lock().unwrap().now;
        exits.join().unwrap();
        let hypervisor = hypervisor.lock().unwrap();
        let delivered: Vec<u64> =
            hypervisor.delivered.iter().filter(|(value, _)| *value == when).map(|(_, at)| *at).collect();
        match delivered[..] {
            [] => assert!(hypervisor.timer.is_some_and(|at| at <= when), "nobody looks in time for {when}"),
            [at] => assert!(at <= when.max(asked_at), "nobody looks in time for {when}"),
            _ => unreachable!("{when} fired more than once"),
        }
    });
}

#[test]
fn a_stored_timer_is_looked_at_in_time() {
    for when in [50, 80, 100, 150] {
        a_guest_beside_exits(when, arm::<Shared>, Promise::Fresh);
    }
}

#[test]
#[should_panic(expected = "nobody looks in time for 150")]
fn loaded_before_the_store_the_promise_may_have_ended() {
    a_guest_beside_exits(150, arm_by_load_first, Promise::Fresh);
}

#[test]
#[should_panic(expected = "nobody looks in time for 80")]
fn a_promise_of_what_was_read_before_is_broken() {
    a_guest_beside_exits(80, arm::<Shared>, Promise::Stale);
}
