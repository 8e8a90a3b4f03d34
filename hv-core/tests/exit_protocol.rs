//! The guest's half of each protocol that saves exits, as `pv-abi` has it, against the hypervisor's.

mod common;

use common::{A, A1, B, MS, US};
use hv_core::base::time::Tsc;
use hv_core::testkit::{Machine, ScriptedVcpu, Seen, Spec, Step, call_steps};
use proptest::prelude::*;
use pv_abi::call::{Call, Code};
use pv_abi::demand::word;
use pv_abi::protocol::arm::{self, Arm};
use pv_abi::protocol::critical::{self, Leave};
use pv_abi::protocol::flush::{self, Shootdown};
use pv_abi::protocol::lock_wait::{self, Wait};
use pv_abi::protocol::wake::{self, Kick};
use pv_abi::{event, status};
use std::sync::atomic::Ordering::SeqCst;

const VECTOR: u8 = 0x40;

/// Calls next, before the rest of the script.
fn call_next(vcpu: &mut ScriptedVcpu, call: Call, arguments: &[u64]) {
    for step in call_steps(call, arguments).into_iter().rev() {
        vcpu.script.push_front(step);
    }
}

/// Sets the timer by a store, and calls ARM only where the protocol says so.
fn set_timer(machine: &Machine, ahead: Option<u64>) -> Step {
    let (shared, world) = (machine.shared(A), std::rc::Rc::clone(&machine.world));
    Step::act(move |vcpu| {
        let when = ahead.map_or(0, |ahead| world.now().0 + ahead);
        let (next, armed) = (&shared.demand[word::NEXT_WAKE], &shared.status[status::word::ARMED_UNTIL]);
        if arm::arm(next, armed, when) == Arm::Call {
            call_next(vcpu, Call::ARM, &[]);
        }
    })
}

proptest! {
    /// Times to run, and how far ahead the timer is set then; `None` cancels it.
    #[test]
    fn a_timer_set_by_a_store_fires_to_the_tick_and_once(
        acts in prop::collection::vec((1_u64..3 * MS, prop::option::of(0_u64..4 * MS)), 1..40),
    ) {
        let mut machine = Machine::boot([Spec::cooperative("one")]);
        machine.register(A, VECTOR);
        machine.state(A).interrupts = true;
        let mut now = machine.world.now().0;
        let (mut set, mut expected) = (None, Vec::new());
        for (run, ahead) in acts {
            let timer = set_timer(&machine, ahead);
            let pending = &machine.shared(A).event[event::word::PENDING];
            let handle = Step::act(move |_| pending.store(0, SeqCst));
            machine.script(A, [Step::Run(run), handle, timer]);
            now += run;
            expected.extend(set.filter(|when| *when <= now).map(Tsc));
            set = ahead.map(|ahead| now + ahead);
        }
        machine.run(A, [Step::Run(10 * MS)]);
        expected.extend(set.map(Tsc));
        let fired: Vec<_> = machine.state(A).seen.iter().filter(|(_, seen)| *seen == Seen::Interrupt(VECTOR)).map(|(when, _)| *when).collect();
        prop_assert_eq!(fired, expected);
    }

    #[test]
    fn short_critical_sections_are_never_cut_and_cost_others_nothing(
        acts in prop::collection::vec((1_u64..400 * US, 1_u64..9 * US), 50..400),
    ) {
        let mut machine = Machine::boot([Spec::cooperative("one"), Spec::full("two")]);
        machine.register(A, VECTOR);
        let shared = machine.shared(A);
        let start = [A, B].map(|id| run_ticks(&mut machine, id));
        for (outside, inside) in acts {
            let enter = Step::act(move |_| critical::enter(&shared.demand[word::CRITICAL]));
            let leave = Step::act(move |vcpu| {
                let flags = &shared.status[status::word::FLAGS];
                if critical::leave(&shared.demand[word::CRITICAL], flags) == Leave::Yield {
                    call_next(vcpu, Call::YIELD, &[]);
                }
            });
            machine.script(A, [Step::Run(outside), enter, Step::Run(inside), leave]);
        }
        machine.finish(A);
        prop_assert_eq!(machine.shared(A).tally.preempted_in_critical.get(), 0);
        let got = [A, B].map(|id| run_ticks(&mut machine, id));
        let got = [got[0] - start[0], got[1] - start[1]];
        prop_assert!(got[0] <= got[1] + 5 * MS, "{:?}", got);
    }
}

fn run_ticks(machine: &mut Machine, id: hv_core::base::id::VcpuId) -> u64 {
    machine.cpu.core.queue.charge(machine.world.now());
    machine.cpu.core.queue.usage(machine.shared(id).slot).run.0
}

/// A guest of two running vCPUs, the second one off CPU and runnable.
fn pair() -> Machine {
    let mut machine = Machine::boot([Spec::cooperative("one").vcpus(2)]);
    machine.register(A, VECTOR);
    assert_eq!(machine.call(A, Call::VCPU_START, &[1, 0, 0, 0]).0, Code::OK);
    machine.register(A1, VECTOR);
    machine.compute(A, 1);
    machine
}

#[test]
fn a_lock_waiter_runs_the_holder_that_lost_the_cpu() {
    let mut machine = pair();
    let Wait::YieldTo(seq) = lock_wait::look(&machine.shared(A1).status[status::word::DISPATCH_SEQ]) else {
        panic!("the holder is off CPU");
    };
    let own = &machine.shared(A).status[status::word::DISPATCH_SEQ];
    assert_eq!(lock_wait::look(own), Wait::Spin, "who runs is waited for by spinning");
    let before = machine.world.now();
    machine.script(A1, [Step::Run(US)]);
    machine.script(A, call_steps(Call::YIELD_TO, &[1, seq]));
    machine.finish(A1);
    assert_eq!(machine.world.now().since(before).0, US, "it ran at once");
    machine.compute(A, 1);
    assert_eq!(machine.call(A, Call::YIELD_TO, &[1, seq]).0, Code::STALE, "it was dispatched since");
}

#[test]
fn a_flush_is_asked_of_who_runs_by_an_interrupt_and_of_others_by_a_word() {
    let mut machine = pair();
    let words = |machine: &Machine, id| {
        let shared = machine.shared(id);
        flush::request(&shared.event[event::word::FLUSH_REQUEST], &shared.status[status::word::DISPATCH_SEQ])
    };
    let before = machine.state(A1).count(Seen::Flush);
    assert_ne!(words(&machine, A1), words(&machine, A), "one is off CPU, the other on it");
    let off = words(&machine, A1);
    assert_eq!(off, Shootdown::Deferred);
    machine.compute(A1, 1);
    assert_eq!(machine.state(A1).count(Seen::Flush), before + 1);
}

#[test]
fn a_sender_kicks_whoever_does_not_poll_on_cpu() {
    let mut machine = pair();
    let send = |machine: &Machine, id| {
        let shared = machine.shared(id);
        let pending = &shared.event[event::word::PENDING];
        wake::send(pending, &shared.demand[word::STATE], &shared.status[status::word::DISPATCH_SEQ], 1)
    };
    assert_eq!(send(&machine, A), Kick::Needed, "it runs and does not poll");
    for id in [A, A1] {
        wake::start_polling(&machine.shared(id).demand[word::STATE]);
    }
    assert_eq!(send(&machine, A), Kick::NotNeeded);
    assert_eq!(send(&machine, A1), Kick::Needed, "it polls, off CPU");
    machine.run(A, call_steps(Call::BLOCK, &[0]));
    assert_eq!(send(&machine, A), Kick::Needed, "it sleeps");
    assert_eq!(machine.call(A1, Call::KICK, &[0]).0, Code::OK);
    machine.compute(A, 1);
    assert_eq!(wake::take(&machine.shared(A).event[event::word::PENDING], 0), 1);
}
