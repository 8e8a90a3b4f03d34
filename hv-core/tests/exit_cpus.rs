//! Several processors: vCPUs begin apart, are woken, given, asked for and stopped across them.

mod common;

use common::{A, A1, A2, B, MS, US};
use hv_core::base::control::Start;
use hv_core::base::id::{CpuId, GuestId, VcpuId};
use hv_core::base::time::{Ticks, Tsc};
use hv_core::guest::seam::{CpuRegisters, Direction, Exit, PortAccess, Reg};
use hv_core::policy::presence::{Attention, Life};
use hv_core::policy::trace::{Ending, Record};
use hv_core::testkit::{Machine, Seen, Spec, Step, at, call_steps, write_msr_steps};
use pv_abi::call::{Call, Code, Shutdown};
use pv_abi::protocol::yield_wanted::Enter;
use pv_abi::status::word;
use std::sync::atomic::Ordering::SeqCst;

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
    pass(&mut machine, 40 * MS); // while they began one waited for the other, and so they were counted
    assert_eq!([holder(&machine, A), holder(&machine, B)], [0, 1]);
    let (before, arms) = (kicks(&machine), machine.world.arms().len());
    machine.script(A, [Step::Run(20 * MS)]);
    machine.script(B, [Step::Run(20 * MS)]);
    pass(&mut machine, 40 * MS);
    assert_eq!(kicks(&machine), before, "two guests that share nothing");
    for id in [A, B] {
        assert!(machine.shared(id).tally.guest_ticks.get() >= 20 * MS);
    }
    assert_eq!(machine.world.arms().len(), arms, "each is alone: no timer");
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
fn a_kick_wakes_a_sleeper_of_another_processor_by_one_notification() {
    let mut machine = boot(2, [Spec::cooperative("one").vcpus(2)]);
    start(&mut machine, 1);
    machine.run(A1, call_steps(Call::BLOCK, &[u64::MAX]));
    pass(&mut machine, 10 * US);
    assert_eq!(machine.shared(A1).life(), Life::Blocked);
    let notifications = |machine: &Machine| machine.others[0].core.tally().notifications.get();
    let before = notifications(&machine);
    assert_eq!(machine.call(A, Call::KICK, &[1]).0, Code::OK);
    pass(&mut machine, 10 * US);
    assert_eq!(machine.shared(A1).life(), Life::Runnable);
    assert_eq!(machine.status(A1, word::DISPATCH_SEQ) & 1, 1);
    assert_eq!(notifications(&machine) - before, 1);
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
        let _ = machine.cpu.core.system.cpu_table.cpu(CpuId(1)).mailbox.go_away();
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
fn who_computes_is_interrupted_for_another_guest_at_most_once_in_50_us_and_no_notification_stays() {
    let specs = [Spec::cooperative("one").vcpus(2).pin(&[0, 1]), Spec::full("two").pin(&[1])];
    let mut machine = boot(2, specs);
    start(&mut machine, 1);
    machine.run(A1, call_steps(Call::BLOCK, &[u64::MAX]));
    pass(&mut machine, MS);
    assert_eq!(machine.shared(A1).life(), Life::Blocked);
    assert_eq!(machine.status(B, word::DISPATCH_SEQ) & 1, 1, "the other guest has the processor");
    // It is in guest mode from now on, while the first processor works.
    assert_eq!(machine.others[0].core.mailbox().go_away(), Enter::Alone);
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
    machine.others[0].core.mailbox().come_back();
    pass(&mut machine, MS);
    assert_eq!(machine.shared(A1).life(), Life::Runnable);
}

#[test]
fn what_one_mailbox_holds_is_done_in_parts_where_another_guest_runs() {
    const MANY: u8 = 32;
    let pins: Vec<_> = core::iter::once(0).chain(core::iter::repeat_n(1, usize::from(MANY))).collect();
    let three = at(2, 0);
    let one = |name| Spec::cooperative(name).pin(&[1]);
    let many = Spec::cooperative("many").vcpus(MANY + 1).pin(&pins);
    let mut machine = boot(2, [many, one("two"), one("three")]);
    machine.run(three, call_steps(Call::BLOCK, &[u64::MAX]));
    (1..=MANY).for_each(|index| start(&mut machine, index));
    while machine.status(B, word::DISPATCH_SEQ) & 1 == 0 {
        machine.step();
    }
    machine.world.clock_reads.set(US); // about what a notification takes
    let interrupted = |machine: &mut Machine| {
        let (before, guest) = (machine.world.now(), machine.shared(B).tally.guest_ticks.get());
        machine.others[0].step();
        machine.others[0].step();
        let ran = machine.shared(B).tally.guest_ticks.get() - guest;
        machine.world.now().since(before).0 - ran
    };
    // The other guest is in guest mode while the first processor works.
    let _ = machine.others[0].core.mailbox().go_away();
    for index in 1..=MANY {
        machine.script(A, call_steps(Call::VCPU_STOP, &[u64::from(index)]));
    }
    while !machine.state(A).script.is_empty() {
        assert!(machine.cpu.step());
    }
    let (shared, now) = (machine.shared(three), machine.world.now());
    shared.request_attention(Attention::EVENT);
    machine.cpu.core.wake(shared, GuestId(2), now);
    machine.others[0].core.mailbox().come_back();
    let took = interrupted(&mut machine);
    assert!(took <= 16 * US, "{took}");
    assert_eq!(shared.life(), Life::Runnable, "no guest's letter waits for another's");
    pass(&mut machine, 2 * MS);
    let stopped = (1..=MANY).filter(|index| machine.shared(at(0, *index)).life() == Life::Stopped);
    assert_eq!(stopped.count(), usize::from(MANY), "no letter stays");
}

#[test]
fn who_runs_is_not_charged_for_what_another_guests_new_life_takes() {
    let specs = [Spec::cooperative("victim").pin(&[1]), Spec::cooperative("reboots").vcpus(2).pin(&[1, 0])];
    let mut machine = boot(2, specs);
    assert_eq!(machine.call(B, Call::VCPU_START, &[1, 0, 0, 0]).0, Code::OK);
    machine.compute(at(1, 1), 1);
    assert_eq!([A, B, at(1, 1)].map(|id| holder(&machine, id)), [1, 1, 0]);
    while machine.status(A, word::DISPATCH_SEQ) & 1 == 0 {
        machine.step();
    }
    machine.script(at(1, 1), call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
    while !machine.state(at(1, 1)).script.is_empty() {
        assert!(machine.cpu.step());
    }
    let slot = machine.shared(A).slot;
    let run = |machine: &Machine| machine.others[0].core.queue.usage(slot).run.0;
    let now = machine.world.now();
    machine.others[0].core.queue.charge(now);
    let before = run(&machine);
    machine.world.clock_reads.set(MS);
    machine.others[0].step();
    assert_eq!(machine.guest(1).life.generation.load(SeqCst), 1, "it begins again");
    assert!(run(&machine) - before <= MS, "{}", run(&machine) - before);
}

const APIC_BASE: u32 = 0x1b;
const SVR: u32 = 0x80f;
const ICR: u32 = 0x830;

/// The steps of an interprocessor interrupt to the second processor of a guest.
fn send_steps(low: u64) -> [Step; 2] {
    write_msr_steps(ICR, 1 << 32 | low)
}

const INIT: u64 = 0x4500;
const START_UP: u64 = 0x0600;

/// A guest whose two vCPUs run on two processors, with their APICs on.
fn two_of_a_pc(specs: impl IntoIterator<Item = Spec>) -> Machine {
    let mut machine = boot(2, core::iter::once(Spec::full("pc").vcpus(2)).chain(specs));
    machine.state(A).interrupts = true;
    machine.write_msr(A, APIC_BASE, 0xfee0_0000 | 1 << 11 | 1 << 10 | 1 << 8);
    machine.write_msr(A, SVR, 0x1ff);
    machine.run(A, [send_steps(INIT), send_steps(START_UP | 8)].into_iter().flatten());
    pass(&mut machine, MS);
    assert_eq!((machine.shared(A1).life(), holder(&machine, A1)), (Life::Runnable, 1));
    machine
}

/// The pages at which the second processor was started up.
fn start_ups(machine: &mut Machine) -> Vec<u8> {
    let seen = machine.state(A1).seen.iter();
    seen.filter_map(
        |(_, seen)| if let Seen::Start(Start::Real { vector }) = seen { Some(*vector) } else { None },
    )
    .collect()
}

#[test]
fn a_start_up_that_comes_before_init_was_obeyed_elsewhere_starts_the_vcpu_once() {
    let mut machine = two_of_a_pc([]);
    let before = start_ups(&mut machine);
    let orders = [INIT, START_UP | 9, START_UP | 10].map(send_steps);
    machine.script(A, orders.into_iter().flatten().chain([Step::Run(10 * US)]));
    // The other processor gets round to it 30 us later.
    for _ in 0..30 {
        assert!(machine.cpu.step());
    }
    assert!(machine.state(A).script.is_empty());
    pass(&mut machine, 20 * MS);
    assert_eq!(machine.shared(A1).life(), Life::Runnable);
    assert_eq!(start_ups(&mut machine)[before.len()..], [9], "the second start-up is ignored");
}

#[test]
fn an_init_after_a_start_up_that_is_not_obeyed_yet_overtakes_it() {
    let mut machine = two_of_a_pc([]);
    let before = start_ups(&mut machine);
    let orders = |machine: &mut Machine, orders: &[u64]| {
        machine.script(A, orders.iter().flat_map(|order| send_steps(*order)));
        for _ in 0..30 {
            assert!(machine.cpu.step());
        }
        assert!(machine.state(A).script.is_empty());
        pass(machine, MS);
    };
    orders(&mut machine, &[INIT, START_UP | 9, INIT]);
    assert_eq!(machine.shared(A1).life(), Life::Stopped);
    orders(&mut machine, &[START_UP | 10]);
    assert_eq!(machine.shared(A1).life(), Life::Runnable);
    orders(&mut machine, &[INIT, START_UP | 11, INIT, START_UP | 12]);
    assert_eq!(start_ups(&mut machine)[before.len()..], [10, 12]);
    orders(&mut machine, &[START_UP | 13]);
    assert_eq!(start_ups(&mut machine)[before.len()..], [10, 12], "it runs");
}

#[test]
fn a_processor_that_is_plugged_in_again_beside_a_busy_guest_starts() {
    let mut machine = two_of_a_pc([Spec::full("busy").pin(&[1])]);
    machine.run(A1, [Step::act(|vcpu| vcpu.interrupts = false), Step::Exit(Exit::Halt)]); // Linux' play_dead
    pass(&mut machine, MS);
    assert_eq!((machine.shared(A1).life(), holder(&machine, A1)), (Life::Blocked, 1));
    // The busy guest is in guest mode, and was interrupted for this guest a moment ago: it is not again for 50 us.
    let now = machine.world.now();
    let other = &machine.others[0].core;
    assert_eq!(other.mailbox().go_away(), Enter::Alone);
    other.shared.publish_running(machine.shared(B).name_tag);
    let _ = other.shared.disturb(Some(machine.shared(A1).id.guest), now, Ticks(50 * US));
    // What Linux does where `init_udelay` is 0: INIT, start-up, 10 us, start-up.
    let script = send_steps(INIT)
        .into_iter()
        .chain(send_steps(START_UP | 9))
        .chain([Step::Run(10 * US)])
        .chain(send_steps(START_UP | 9));
    machine.script(A, script);
    while !machine.state(A).script.is_empty() {
        assert!(machine.cpu.step());
    }
    machine.others[0].core.mailbox().come_back();
    pass(&mut machine, 20 * MS);
    assert_eq!(machine.shared(A1).life(), Life::Runnable);
}

#[test]
fn a_guest_whose_processors_stop_each_other_goes_on_with_the_one_that_is_started() {
    let mut machine = two_of_a_pc([]);
    machine.write_msr(A1, APIC_BASE, 0xfee0_0000 | 1 << 11 | 1 << 10);
    // The second processor stops the first, which has stopped and started it before it could.
    machine.script(A, [INIT, START_UP | 9].into_iter().flat_map(send_steps));
    for _ in 0..30 {
        assert!(machine.cpu.step());
    }
    machine.run(A1, write_msr_steps(ICR, INIT));
    pass(&mut machine, MS);
    assert!(machine.cpu.core.system.is_alive());
}

#[test]
fn a_guest_that_ends_while_a_start_up_waits_ends_and_begins_again_without_it() {
    let mut machine = two_of_a_pc([Spec::full("other")]);
    let script = [INIT, START_UP | 9].into_iter().flat_map(send_steps);
    let reset = Step::act(|vcpu| vcpu.set_reg(Reg::Rax, 6));
    let port = PortAccess { port: 0xcf9, size_bytes: 1, direction: Direction::Out };
    machine.script(A, script.chain([reset, Step::Exit(Exit::Port(port))]));
    for _ in 0..30 {
        assert!(machine.cpu.step());
    }
    let before = start_ups(&mut machine);
    pass(&mut machine, 20 * MS);
    assert_eq!([A, A1].map(|id| machine.shared(id).life()), [Life::Runnable, Life::Stopped]);
    assert_eq!(start_ups(&mut machine), before);
    assert_eq!(machine.guest(0).life.generation.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// What programs the 8259A (vectors from 0x30, interrupts end by themselves) and the 8254 for 100 Hz.
fn tick_steps() -> impl Iterator<Item = Step> {
    let writes = [
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 4),
        (0x21, 3),
        (0x21, 0xfe),
        (0x43, 0x34),
        (0x40, 0x9c),
        (0x40, 0x2e),
    ];
    writes.into_iter().flat_map(|(port, value)| {
        let access = PortAccess { port, size_bytes: 1, direction: Direction::Out };
        [Step::act(move |vcpu| vcpu.set_reg(Reg::Rax, value)), Step::Exit(Exit::Port(access))]
    })
}

fn ticks(machine: &mut Machine) -> usize {
    machine.state(A).vectors().into_iter().filter(|vector| *vector == 0x30).count()
}

#[test]
fn a_timer_that_is_programmed_while_the_bootstrap_processor_is_on_its_way_is_kept() {
    let mut machine = two_of_a_pc([Spec::full("busy").pin(&[0])]);
    let shared = machine.shared(A);
    while holder(&machine, A) == 0 {
        // The second processor asks for it whenever it waits.
        shared.ask_for(CpuId(1));
        let _ = machine.cpu.core.mailbox().post(shared.slot);
        assert!(machine.cpu.step());
    }
    // Before the second processor looks at its notifications, the guest's other vCPU there programs the timer.
    let notifications: Vec<_> = machine.others[0].core.mailbox().take().collect();
    assert_eq!(notifications, [shared.slot]);
    machine.script(A1, tick_steps());
    while !machine.state(A1).script.is_empty() {
        assert!(machine.others[0].step());
    }
    let _ = machine.others[0].core.mailbox().post(shared.slot);
    pass(&mut machine, 55 * MS);
    assert_eq!(ticks(&mut machine), 5);
}

#[test]
fn a_timer_that_is_programmed_while_the_bootstrap_processor_is_stopped_is_kept() {
    let mut machine = two_of_a_pc([]);
    machine.write_msr(A1, APIC_BASE, 0xfee0_0000 | 1 << 11 | 1 << 10);
    machine.run(A1, write_msr_steps(ICR, INIT));
    pass(&mut machine, MS);
    assert_eq!(machine.shared(A).life(), Life::Stopped);
    machine.run(A1, tick_steps());
    machine.run(A1, write_msr_steps(ICR, START_UP | 9));
    // As a kernel would: the APIC on, the 8259A by LINT0, interrupts on.
    machine.run(A, [Step::Run(1)]);
    machine.write_msr(A, SVR, 0x1ff);
    machine.write_msr(A, 0x835, 0x700);
    machine.state(A).interrupts = true;
    pass(&mut machine, 55 * MS);
    assert_eq!(ticks(&mut machine), 5);
}
