//! Several processors: vCPUs begin apart, are woken, given, asked for and stopped across them.

mod common;

use common::{A, A1, A2, B, MS, US};
use hv_core::base::id::{CpuId, VcpuId};
use hv_core::base::time::{Ticks, Tsc};
use hv_core::dispatch::vt::{Direction, Exit, PortAccess};
use hv_core::machine::vt::scripted::{Machine, Spec, Step, at, call_steps};
use hv_core::policy::trace::{Ending, Record};
use hv_core::policy::whereabouts::Life;
use pv_abi::call::{Call, Code};
use pv_abi::protocol::yield_wanted::Enter;
use pv_abi::status::word;

fn boot(cpus: u8, specs: impl IntoIterator<Item = Spec>) -> Machine {
    Machine::boot_on(cpus, specs, &[])
}

/// Lets time pass.
fn pass(machine: &mut Machine, ticks: u64) {
    let until = machine.world.now() + Ticks(ticks);
    let _ = machine.go_to(until);
}

fn holder(machine: &Machine, id: VcpuId) -> u16 {
    machine.shared(id).holder().0
}

/// Starts a vCPU of the first guest.
fn start(machine: &mut Machine, index: u8) {
    assert_eq!(machine.call(A, Call::VCPU_START, &[u64::from(index), 0x1000, 0x2000, 0]).0, Code::OK);
}

fn kicks(machine: &Machine) -> u64 {
    let cpus = (0_u16..).map(CpuId).take(machine.others.len() + 1);
    cpus.map(|cpu| machine.world.kicks(cpu)).sum()
}

#[test]
fn guests_begin_on_different_processors_and_disturb_nobody() {
    let mut machine = boot(2, [Spec::full("one"), Spec::full("two")]);
    pass(&mut machine, MS);
    assert_eq!([holder(&machine, A), holder(&machine, B)], [0, 1]);
    let before = kicks(&machine);
    machine.script(A, [Step::Run(20 * MS)]);
    machine.script(B, [Step::Run(20 * MS)]);
    pass(&mut machine, 40 * MS);
    assert_eq!(kicks(&machine), before, "two guests that share nothing");
    for id in [A, B] {
        assert!(machine.shared(id).tally.guest_ticks.get() >= 20 * MS);
    }
    assert!(machine.world.arms().is_empty(), "each is alone: no timer");
}

#[test]
fn the_vcpus_of_a_guest_begin_apart() {
    let mut machine = boot(3, [Spec::cooperative("one").vcpus(3)]);
    start(&mut machine, 1);
    start(&mut machine, 2);
    pass(&mut machine, MS);
    assert_eq!([A, A1, A2].map(|id| holder(&machine, id)), [0, 1, 2]);
    for id in [A, A1, A2] {
        assert_eq!(machine.status(id, word::DISPATCH_SEQ) & 1, 1, "{id:?} is on its CPU");
    }
}

#[test]
fn a_kick_wakes_a_sleeper_of_another_processor_by_one_letter() {
    let mut machine = boot(2, [Spec::cooperative("one").vcpus(2)]);
    start(&mut machine, 1);
    machine.run(A1, call_steps(Call::BLOCK, &[u64::MAX]));
    pass(&mut machine, 10 * US);
    assert_eq!(machine.shared(A1).life(), Life::Blocked);
    let letters = |machine: &Machine| machine.others[0].core.tally().letters.get();
    let before = letters(&machine);
    assert_eq!(machine.call(A, Call::KICK, &[1]).0, Code::OK);
    pass(&mut machine, 10 * US);
    assert_eq!(machine.shared(A1).life(), Life::Runnable);
    assert_eq!(machine.status(A1, word::DISPATCH_SEQ) & 1, 1);
    assert_eq!(letters(&machine) - before, 1);
    assert_eq!(holder(&machine, A1), 1, "it stays where it slept");
}

#[test]
fn one_that_waits_here_is_given_to_a_processor_with_nothing_to_do() {
    // Both sleep on the first processor; the second is idle.
    let mut machine = boot(2, [Spec::full("one"), Spec::full("two"), Spec::full("three")]);
    let c = at(2, 0);
    machine.run(B, [Step::Exit(Exit::Halt)]);
    pass(&mut machine, MS);
    assert_eq!(machine.shared(A).tally.migrations.get() + machine.shared(c).tally.migrations.get(), 1);
    assert_ne!(holder(&machine, A), holder(&machine, c));
    for id in [A, c] {
        assert_eq!(machine.shared(id).dispatch_seq() & 1, 1, "{id:?} runs");
    }
}

#[test]
fn a_pinned_vcpu_stays_though_it_waits() {
    let pinned = |name| Spec::full(name).pin(&[0]);
    let mut machine = boot(2, [pinned("one"), pinned("two")]);
    pass(&mut machine, 30 * MS);
    for id in [A, B] {
        assert_eq!(holder(&machine, id), 0);
        assert_eq!(machine.shared(id).tally.migrations.get(), 0);
        assert!(machine.shared(id).tally.guest_ticks.get() >= 10 * MS, "{id:?} has its share");
    }
    assert_eq!(machine.world.kicks(CpuId(0)), 0, "nobody asks for what may not leave");
}

#[test]
fn a_vcpu_is_stopped_and_started_on_another_processor() {
    let mut machine = boot(2, [Spec::cooperative("one").vcpus(2)]);
    start(&mut machine, 1);
    pass(&mut machine, MS);
    assert_eq!(machine.call(A, Call::VCPU_STOP, &[1]).0, Code::OK);
    pass(&mut machine, 10 * US);
    assert_eq!(machine.shared(A1).life(), Life::Stopped);
    assert_eq!(machine.shared(A1).dispatch_seq() & 1, 0);
    start(&mut machine, 1);
    pass(&mut machine, 10 * US);
    assert_eq!(machine.shared(A1).life(), Life::Runnable);
    assert_eq!(machine.shared(A1).dispatch_seq() & 1, 1);
}

#[test]
fn a_guest_killed_on_one_processor_stops_on_all_and_begins_again() {
    let mut machine = boot(2, [Spec::cooperative("one").vcpus(2).restarts(1), Spec::full("two")]);
    start(&mut machine, 1);
    pass(&mut machine, 5 * MS);
    machine.run(A1, [Step::Exit(Exit::Shutdown)]);
    pass(&mut machine, 5 * MS);
    assert_eq!([A, A1].map(|id| machine.shared(id).life()), [Life::Runnable, Life::Stopped]);
    assert!(matches!(&machine.records()[..], [Record::Ended { ending: Ending::Killed(_), .. }]));
    assert_eq!(machine.shared(B).life(), Life::Runnable);
    let before = machine.shared(B).tally.guest_ticks.get();
    pass(&mut machine, 20 * MS);
    assert!(machine.shared(B).tally.guest_ticks.get() > before + 8 * MS);
    machine.run(A, call_steps(Call::SHUTDOWN, &[0]));
    machine.run(B, [Step::Exit(Exit::Shutdown)]);
    while machine.step() {}
    assert!(!machine.cpu.core.system.is_well(), "the other was killed");
    assert!(!machine.others[0].step(), "the others know");
}

#[test]
fn whoever_spins_for_a_vcpu_that_waits_elsewhere_gets_it() {
    let mut machine = boot(
        2,
        [Spec::cooperative("one").vcpus(2), Spec::full("two").pin(&[1]), Spec::full("three").pin(&[0])],
    );
    start(&mut machine, 1);
    // As a spinning kernel would: look, and offer the CPU, until the sibling is here.
    for _ in 0..1_000 {
        let seq = machine.status(A1, word::DISPATCH_SEQ);
        let (code, _) = machine.call(A, Call::YIELD_TO, &[1, seq]);
        if holder(&machine, A1) == 0 {
            assert_eq!(code, Code::STALE, "it was not here when it was asked for");
            return;
        }
        pass(&mut machine, 20 * US);
    }
    panic!("the sibling stays away");
}

#[test]
fn a_guest_that_yields_to_one_elsewhere_without_end_interrupts_who_runs_there_now_and_then() {
    let mut machine = boot(
        2,
        [
            Spec::cooperative("one").vcpus(2).pin(&[0, 1]),
            Spec::full("two").pin(&[1]),
            Spec::full("three").pin(&[0]),
        ],
    );
    start(&mut machine, 1);
    pass(&mut machine, MS);
    let (before, begun) = (machine.world.kicks(CpuId(1)), machine.world.now());
    let mut asked = 0;
    while machine.world.now().since(begun).0 < 10 * MS {
        let seq = machine.status(A1, word::DISPATCH_SEQ);
        asked += u64::from(seq & 1 == 0);
        // As one in guest mode would: the scripted ones leave it for each other's turns.
        let _ = machine.cpu.core.system.board.line(CpuId(1)).mail.go_away();
        let _ = machine.call(A, Call::YIELD_TO, &[1, seq]);
    }
    let kicks = machine.world.kicks(CpuId(1)) - before;
    assert!(asked > 1_000 && kicks > 0 && kicks <= 10_000 / 50 + 1, "asked={asked} kicks={kicks}");
}

#[test]
fn what_one_processor_of_a_guest_prints_disturbs_no_other() {
    let mut machine = boot(2, [Spec::cooperative("one").vcpus(2)]);
    start(&mut machine, 1);
    machine.run(A, call_steps(Call::BLOCK, &[0]));
    pass(&mut machine, MS);
    let before = machine.world.kicks(CpuId(0));
    let port = PortAccess { port: 0x3f8, size_bytes: 1, direction: Direction::Out };
    machine.run(A1, (0..100).map(|_| Step::Exit(Exit::Port(port))));
    assert_eq!((machine.world.kicks(CpuId(0)), machine.shared(A).life()), (before, Life::Blocked));
}

#[test]
fn published_times_and_counters_go_along() {
    let mut machine = boot(2, [Spec::full("one"), Spec::full("empty"), Spec::full("three")]);
    let c = at(2, 0);
    pass(&mut machine, 20 * MS);
    let ran = |machine: &Machine, id: VcpuId| machine.shared(id).tally.guest_ticks.get();
    let before = [A, c].map(|id| ran(&machine, id));
    machine.run(B, [Step::Exit(Exit::Halt)]);
    pass(&mut machine, 20 * MS);
    for (id, before) in [A, c].into_iter().zip(before) {
        assert!(ran(&machine, id) > before);
    }
    let moved = if machine.shared(A).tally.migrations.get() > 0 { A } else { c };
    let shared = machine.shared(moved);
    let place = machine.shared(moved).holder();
    let queue = if place == CpuId(0) { &machine.cpu.core.queue } else { &machine.others[0].core.queue };
    assert!(queue.usage(shared.slot).run.0 + US >= ran(&machine, moved), "what it ran elsewhere counts");
}

#[test]
fn a_timer_is_kept_across_a_migration() {
    let mut machine = boot(2, [Spec::cooperative("one"), Spec::full("two"), Spec::full("three").pin(&[0])]);
    machine.register(A, 0);
    pass(&mut machine, 10 * US);
    let when = machine.world.now().0 + 5 * MS;
    machine.set_demand(A, pv_abi::demand::word::NEXT_WAKE, when);
    assert_eq!(machine.call(A, Call::ARM, &[]), (Code::OK, when));
    // The other processor has nothing to do from now on, and takes whoever waits beside the pinned one.
    machine.run(B, [Step::Exit(Exit::Halt)]);
    pass(&mut machine, 4 * MS);
    assert_eq!(holder(&machine, A), 1);
    machine.run(A, call_steps(Call::BLOCK, &[0]));
    pass(&mut machine, 6 * MS);
    assert_eq!(machine.shared(A).life(), Life::Runnable, "it fired");
    assert!(machine.world.now() > Tsc(when));
}

/// Ticks in guest mode of each guest's vCPUs together, from now on for `ticks` of the machine's clock.
fn got(machine: &mut Machine, ticks: u64) -> Vec<f64> {
    let ran = |machine: &Machine| -> Vec<u64> {
        let guests = machine.cpu.core.system.guests.iter();
        guests.map(|guest| guest.vcpus.iter().map(|vcpu| vcpu.tally.guest_ticks.get()).sum()).collect()
    };
    let before = ran(machine);
    pass(machine, ticks);
    let after = ran(machine);
    let got: Vec<f64> = after.iter().zip(before).map(|(after, before)| (after - before) as f64).collect();
    let all: f64 = got.iter().sum();
    got.iter().map(|got| got / all).collect()
}

fn near(got: &[f64], due: &[f64]) {
    for (got, due) in got.iter().zip(due) {
        assert!((got / due - 1.0).abs() < 0.01, "{got} of {due}");
    }
}

#[test]
fn weights_hold_over_two_processors() {
    let guest = |name, weight| Spec::cooperative(name).vcpus(2).weight(weight);
    let mut machine = boot(2, [guest("light", 1), guest("middle", 2), guest("heavy", 4)]);
    for id in [A, B, at(2, 0)] {
        assert_eq!(machine.call(id, Call::VCPU_START, &[1, 0x1000, 0x2000, 0]).0, Code::OK);
    }
    pass(&mut machine, 400 * MS);
    near(&got(&mut machine, 2_000 * MS), &[1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0]);
}

#[test]
fn a_share_that_one_vcpu_cannot_use_is_the_others() {
    let mut machine =
        boot(2, [("light", 1), ("middle", 2), ("heavy", 4)].map(|(name, w)| Spec::full(name).weight(w)));
    pass(&mut machine, 400 * MS);
    near(&got(&mut machine, 2_000 * MS), &[1.0 / 6.0, 1.0 / 3.0, 0.5]);
}

#[test]
fn vcpus_that_began_together_are_parted() {
    let mut machine = boot(2, [Spec::cooperative("one").vcpus(4)]);
    for index in 1..4 {
        start(&mut machine, index);
    }
    machine.run(A1, call_steps(Call::VCPU_STOP, &[1]));
    pass(&mut machine, 200 * MS);
    let holders: Vec<_> = [A, A2, at(0, 3)].map(|id| holder(&machine, id)).into();
    assert!(holders.contains(&0) && holders.contains(&1), "{holders:?}");
}

#[test]
fn who_computes_is_interrupted_for_another_guest_at_most_once_in_50_us_and_no_letter_stays() {
    let specs = [Spec::cooperative("one").vcpus(2).pin(&[0, 1]), Spec::full("two").pin(&[1])];
    let mut machine = boot(2, specs);
    start(&mut machine, 1);
    machine.run(A1, call_steps(Call::BLOCK, &[u64::MAX]));
    pass(&mut machine, MS);
    assert_eq!(machine.shared(A1).life(), Life::Blocked);
    assert_eq!(machine.status(B, word::DISPATCH_SEQ) & 1, 1, "the other guest has the processor");
    // It is in guest mode from now on, while the first processor works.
    assert_eq!(machine.others[0].core.mail().go_away(), Enter::Alone);
    let before = kicks(&machine);
    let calls = |machine: &mut Machine, count| {
        for _ in 0..count {
            machine.script(A, call_steps(Call::KICK, &[1]));
        }
        while !machine.state(A).script.is_empty() {
            assert!(machine.cpu.step());
        }
    };
    calls(&mut machine, 20);
    assert_eq!(kicks(&machine) - before, 1);
    machine.script(A, [Step::Run(60 * US)]);
    while !machine.state(A).script.is_empty() {
        assert!(machine.cpu.step());
    }
    assert_eq!(kicks(&machine) - before, 2, "what was put off was not forgotten");
    machine.others[0].core.mail().come_back();
    pass(&mut machine, MS);
    assert_eq!(machine.shared(A1).life(), Life::Runnable);
}
