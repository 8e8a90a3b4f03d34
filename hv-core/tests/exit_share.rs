//! Who gets the CPU, as guests see it: slices, yields, donations, critical sections.

mod common;

use common::{A, A1, A2, B, MS, US};
use hv_core::base::id::VcpuId;
use hv_core::guest::seam::{CpuRegisters, Exit};
use hv_core::image::manifest::ChannelConfig;
use hv_core::policy::presence::Life;
use hv_core::policy::trace::ExitClass;
use hv_core::policy::vcpu_shared::VcpuShared;
use hv_core::testkit::{Machine, Spec, Step, call_steps};
use pv_abi::call::{Call, Code, EventOp, Stat};
use pv_abi::demand::word;
use pv_abi::status::{StatusFlags, word as status};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;

const WANTED: u64 = StatusFlags::YIELD_PLEASE.bits();
const GRANTED: u64 = StatusFlags::CRIT_GRANTED.bits();

fn run_ticks(machine: &mut Machine, id: VcpuId) -> u64 {
    let now = machine.world.now();
    machine.cpu.core.queue.charge(now);
    machine.cpu.core.queue.usage(machine.shared(id).slot).run.0
}

fn has_cpu(machine: &Machine, id: VcpuId) -> bool {
    machine.cpu.core.queue.current() == Some(machine.shared(id).slot)
}

/// A guest of `count` started vCPUs.
fn crew(spec: Spec, count: u8) -> Machine {
    let mut machine = Machine::boot([spec.vcpus(count)]);
    for index in 1..count {
        assert_eq!(machine.call(A, Call::VCPU_START, &[u64::from(index), 0, 0, 0]).0, Code::OK);
    }
    machine
}

#[test]
fn a_lone_busy_vcpu_arms_no_timer_and_takes_no_exit() {
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    machine.run(A, [Step::Run(10_000 * MS), Step::Exit(Exit::CacheFlush)]);
    assert_eq!(machine.world.arms(), []);
    assert_eq!(
        machine.shared(A).tally.exits[ExitClass::Interrupt as usize].get(),
        1,
        "the test's own at the end"
    );
    assert_eq!(run_ticks(&mut machine, A), 10_000 * MS);
}

#[test]
fn a_vcpu_that_is_alone_again_loses_its_slice_timer() {
    let mut machine = crew(Spec::cooperative("one"), 2);
    machine.run(A1, call_steps(Call::BLOCK, &[0]));
    machine.compute(A, 10 * MS);
    let arms = machine.world.arms().len();
    machine.compute(A, 1_000 * MS);
    assert_eq!(machine.world.arms().len(), arms);
    assert_eq!(machine.status(A, status::SLICE_END), u64::MAX);
}

#[test]
fn equal_guests_share_equally_and_weights_count() {
    for (weights, parts) in [([100, 100], [1, 1]), ([100, 300], [1, 3])] {
        let specs = weights.iter().enumerate().map(|(n, weight)| Spec::full(&n.to_string()).weight(*weight));
        let mut machine = Machine::boot(specs);
        let end = machine.world.now() + hv_core::base::time::Ticks(1_000 * MS);
        assert_eq!(machine.go_to(end), None);
        let got = [A, B].map(|id| run_ticks(&mut machine, id));
        let sum = got[0] + got[1];
        for (got, part) in got.iter().zip(parts) {
            let due = sum * part / parts.iter().sum::<u64>();
            assert!(got.abs_diff(due) <= 10 * MS, "{weights:?}: got {got}, due {due}");
        }
    }
}

#[test]
fn yield_alone_goes_on_at_once_without_a_switch() {
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    let switches = |machine: &mut Machine| machine.call(A, Call::STATS, &[Stat::SWITCHES.0, 0]).1;
    let before = switches(&mut machine);
    let seq = machine.shared(A).dispatch_seq();
    let now = machine.world.now();
    assert_eq!(machine.call(A, Call::YIELD, &[]), (Code::OK, 0));
    assert_eq!(machine.world.now(), now);
    assert_eq!(machine.shared(A).dispatch_seq(), seq, "it never left");
    assert_eq!(switches(&mut machine), before);
}

#[test]
fn yield_gives_the_cpu_to_who_waits() {
    let mut machine = Machine::boot([Spec::cooperative("one"), Spec::full("two")]);
    machine.compute(A, 10 * MS);
    let before = run_ticks(&mut machine, B);
    machine.script(A, call_steps(Call::YIELD, &[]));
    machine.run(A, [Step::Run(1)]);
    assert!(run_ticks(&mut machine, B) > before);
}

#[test]
fn pause_gives_the_cpu_to_who_waits() {
    let mut machine = Machine::boot([Spec::full("one"), Spec::full("two")]);
    machine.compute(A, 10 * MS);
    let before = run_ticks(&mut machine, B);
    machine.run(A, [Step::Exit(Exit::Pause), Step::Run(1)]);
    assert!(run_ticks(&mut machine, B) > before);
}

#[test]
fn an_exception_that_raises_itself_keeps_the_cpu_for_no_longer_than_its_slice() {
    let mut machine = Machine::boot([Spec::full("one"), Spec::full("two")]);
    machine.script(A, [Step::Endless(US)]);
    let before = machine.world.now();
    machine.compute(B, 100 * MS);
    let took = machine.world.now().since(before).0;
    assert!(took <= 210 * MS, "{took}");
}

#[test]
fn yield_please_stands_while_somebody_waits() {
    let mut machine = crew(Spec::cooperative("one"), 2);
    machine.run(A1, call_steps(Call::BLOCK, &[0]));
    machine.compute(A, 1);
    assert_eq!(machine.status(A, status::FLAGS) & WANTED, 0);
    let _ = machine.call(A, Call::KICK, &[1]);
    assert_eq!(machine.status(A, status::FLAGS) & WANTED, WANTED, "set by whoever enqueues");
    assert_ne!(machine.status(A, status::SLICE_END), u64::MAX);
    machine.run(A1, call_steps(Call::BLOCK, &[0]));
    machine.compute(A, 1);
    assert_eq!(machine.status(A, status::FLAGS) & WANTED, 0, "nobody is left");
    let _ = machine.call(A, Call::KICK, &[1]);
    let _ = machine.call(A, Call::VCPU_STOP, &[1]);
    machine.compute(A, 1);
    assert_eq!(machine.status(A, status::FLAGS) & WANTED, 0, "it was stopped");
}

#[test]
fn yield_please_is_hidden_from_who_may_see_nothing() {
    let mut machine = crew(Spec::cooperative("one").blind(), 2);
    machine.register(A, 0);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let shared = machine.shared(A);
    for _ in 0..20 {
        let seen = Rc::clone(&seen);
        let look = Step::act(move |_| {
            seen.borrow_mut().push([1, 2].map(|word| shared.status[word].load(SeqCst)));
        });
        machine.run(A, [Step::Run(MS), look]);
    }
    assert!(machine.cpu.core.queue.wanted());
    assert!(seen.borrow().iter().all(|words| *words == [0, 0]), "{seen:?}");
}

#[test]
fn a_woken_vcpu_gets_its_turn_although_the_runner_never_exits() {
    let channel = ChannelConfig { ends: [0, 1], pages: 1 };
    let mut machine =
        Machine::boot_with_channels([Spec::cooperative("one"), Spec::cooperative("two")], &[channel]);
    assert_eq!(machine.call(B, Call::EVENT, &[EventOp::BIND.0, 0, 0]).0, Code::OK);
    machine.run(B, call_steps(Call::BLOCK, &[1]));
    machine.compute(A, 10 * MS);
    let rung = machine.world.now();
    machine.script(A, call_steps(Call::EVENT, &[EventOp::RING.0, 0]));
    machine.script(A, [Step::Run(1_000 * MS)]); // no exit of its own in between
    machine.compute(B, 1);
    let waited = machine.world.now().since(rung).0;
    assert!(waited <= 3 * MS, "{waited}");
}

#[test]
fn yield_to_runs_the_target_until_the_donors_slice_ends() {
    let mut machine = crew(Spec::cooperative("one"), 3);
    for id in [A1, A2, A] {
        machine.compute(id, 1);
    }
    let end = machine.cpu.core.queue.slice_end();
    let seq = machine.shared(A2).dispatch_seq();
    assert_eq!(seq % 2, 0);
    assert_eq!(machine.call(A, Call::YIELD_TO, &[2, seq]), (Code::OK, 0));
    assert!(has_cpu(&machine, A2));
    assert_eq!(machine.cpu.core.queue.slice_end(), end);
    assert_eq!(machine.shared(A).dispatch_seq() % 2, 0, "the donor is off CPU");
}

#[test]
fn yield_to_a_vcpu_that_moved_on_is_stale_and_changes_nothing() {
    let mut machine = crew(Spec::cooperative("one"), 3);
    for id in [A1, A2, A] {
        machine.compute(id, 1);
    }
    let stale = |machine: &mut Machine, target: u64, seq: u64, why: &str| {
        machine.compute(A, 1);
        let queue = (machine.cpu.core.queue.waiting(), machine.cpu.core.queue.slice_end());
        assert_eq!(machine.call(A, Call::YIELD_TO, &[target, seq]), (Code::STALE, 0), "{why}");
        assert!(has_cpu(machine, A), "{why}");
        assert_eq!((machine.cpu.core.queue.waiting(), machine.cpu.core.queue.slice_end()), queue, "{why}");
    };
    let seq = machine.shared(A2).dispatch_seq();
    stale(&mut machine, 2, seq + 2, "dispatched later");
    stale(&mut machine, 2, seq.wrapping_sub(2), "dispatched since");
    stale(&mut machine, 2, seq + 1, "seen on CPU");
    let own = machine.shared(A).dispatch_seq();
    stale(&mut machine, 0, own, "oneself");
    stale(&mut machine, 0, own + 1, "oneself, off CPU");
    machine.run(A2, call_steps(Call::BLOCK, &[0]));
    let seq = machine.shared(A2).dispatch_seq();
    stale(&mut machine, 2, seq, "blocked");
    let _ = machine.call(A, Call::VCPU_STOP, &[2]);
    let seq = machine.shared(A2).dispatch_seq();
    stale(&mut machine, 2, seq, "stopped");
}

/// A is in a critical section when its slice ends, beside a guest that always wants the CPU.
fn critical() -> Machine {
    let mut machine = Machine::boot([Spec::cooperative("one"), Spec::full("two")]);
    machine.register(A, 0);
    machine.compute(A, 1);
    machine.set_demand(A, word::CRITICAL, 1);
    machine
}

fn noted(shared: &'static VcpuShared) -> (Rc<RefCell<Vec<[u64; 2]>>>, impl Fn() -> Step) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let note = {
        let seen = Rc::clone(&seen);
        move || {
            let seen = Rc::clone(&seen);
            Step::act(move |_| {
                let words = [status::FLAGS, status::SLICE_END].map(|word| shared.status[word].load(SeqCst));
                seen.borrow_mut().push(words);
            })
        }
    };
    (seen, note)
}

#[test]
fn a_critical_section_gets_one_extension_that_it_can_see() {
    let mut machine = critical();
    let (seen, note) = noted(machine.shared(A));
    let end = machine.cpu.core.queue.slice_end();
    let left = end.since(machine.world.now()).0;
    let leave = machine.shared(A);
    machine.script(A, [Step::Run(left - 1), note(), Step::Run(5 * US), note()]);
    machine.script(A, [Step::act(move |_| leave.demand[word::CRITICAL].store(0, SeqCst))]);
    machine.run(A, call_steps(Call::YIELD, &[]));
    let seen = seen.borrow();
    assert_eq!(seen[0][0] & GRANTED, 0);
    assert_eq!(seen[1][0] & (GRANTED | WANTED), GRANTED | WANTED);
    assert_eq!(seen[1][1], end.0 + 10 * US);
    assert_eq!(machine.status(A, status::FLAGS), 0, "the grant ends with the turn");
    assert_eq!(machine.shared(A).tally.preempted_in_critical.get(), 0);
    machine.run(A, [Step::Run(1)]);
    assert_eq!(machine.status(A, status::FLAGS) & GRANTED, 0);
}

#[test]
fn a_critical_section_that_overruns_its_extension_loses_the_cpu_and_is_told_so() {
    let mut machine = critical();
    let end = machine.cpu.core.queue.slice_end();
    let left = end.since(machine.world.now()).0;
    machine.script(A, [Step::Run(left + 100 * US)]);
    machine.compute(B, 1);
    assert_eq!(machine.world.now().0, end.0 + 10 * US + 1, "B ran right after the extension");
    assert_eq!(machine.shared(A).tally.preempted_in_critical.get(), 1);
    machine.finish(A);
    assert_eq!(machine.call(A, Call::STATS, &[Stat::PREEMPTED_IN_CRITICAL.0, 0]), (Code::OK, 1));
}

#[test]
fn extensions_are_repaid() {
    let mut machine = critical();
    let shared = machine.shared(A);
    for _ in 0..200 {
        let leave = Step::act(move |_| shared.demand[word::CRITICAL].store(0, SeqCst));
        let enter = Step::act(move |_| shared.demand[word::CRITICAL].store(1, SeqCst));
        machine.script(A, [Step::Run(2 * MS + 4 * US), leave]);
        machine.script(A, call_steps(Call::YIELD, &[]));
        machine.script(A, [enter]);
    }
    machine.finish(A);
    let got = [A, B].map(|id| run_ticks(&mut machine, id));
    assert!(got[0].abs_diff(got[1]) <= 5 * MS, "{got:?}");
    assert!(got[0] > 400 * MS);
}

#[test]
fn a_row_without_its_cookie_gets_no_extension() {
    let mut machine = critical();
    machine.set_demand(A, word::STATE, 0);
    let end = machine.cpu.core.queue.slice_end();
    let left = end.since(machine.world.now()).0;
    machine.script(A, [Step::Run(left + MS)]);
    machine.compute(B, 1);
    assert_eq!(machine.world.now().0, end.0 + 1);
    assert_eq!(machine.shared(A).tally.preempted_in_critical.get(), 0);
}

#[test]
fn fpu_state_moves_only_when_the_vcpu_on_the_cpu_changes() {
    let mut machine = Machine::boot([Spec::cooperative("one"), Spec::full("two")]);
    machine.run(B, [Step::Exit(Exit::Halt)]);
    machine.compute(A, 1);
    let before = machine.shared(A).tally.switches.get();
    for _ in 0..50 {
        let _ = machine.cpuid(A, 0, 0);
        let _ = machine.call(A, Call::YIELD, &[]);
    }
    assert_eq!(machine.shared(A).tally.switches.get(), before);
    assert!(machine.state(A).is_loaded() && !machine.state(B).is_loaded());
    assert_eq!(machine.shared(B).life(), Life::Blocked);
    assert_eq!(machine.state(B).cpl(), 0);
}
