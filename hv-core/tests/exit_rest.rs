//! How a vCPU goes to sleep and what wakes it: BLOCK, HLT, events, interrupts, and the timer that is armed by a store.

mod common;

use common::{A, A1, B, MS, US};
use hv_core::base::time::Tsc;
use hv_core::guest::seam::{CpuRegisters, Exit, Pauses, Reg};
use hv_core::policy::presence::{Attention, Life};
use hv_core::testkit::{Machine, Seen, Spec, Step, Stuck, call_steps};
use pv_abi::call::{Call, Code, IPI_NMI};
use pv_abi::demand::word;
use pv_abi::{event, status};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;

const TIMER: u64 = 1 << event::TIMER;
const VECTOR: u8 = 0x40;

/// A guest of two running vCPUs; both are registered, events arrive by [`VECTOR`].
fn pair() -> Machine {
    let mut machine = Machine::boot([Spec::cooperative("one").vcpus(2)]);
    machine.register(A, VECTOR);
    assert_eq!(machine.call(A, Call::VCPU_START, &[1, 0x1000, 0x2000, 0]).0, Code::OK);
    machine.register(A1, VECTOR);
    machine
}

fn alone() -> Machine {
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    machine.register(A, VECTOR);
    machine
}

fn block(machine: &mut Machine, mask: u64) {
    machine.run(A, call_steps(Call::BLOCK, &[mask]));
}

fn is_asleep(machine: &Machine) -> bool {
    machine.shared(A).life() == Life::Blocked
}

fn take_events(machine: &Machine) -> u64 {
    machine.shared(A).event[event::word::PENDING].swap(0, SeqCst)
}

#[test]
fn block_returns_at_once_when_an_event_that_counts_is_pending() {
    let mut machine = alone();
    machine.set_events(A, 1 << 3);
    let now = machine.world.now();
    assert_eq!(machine.call(A, Call::BLOCK, &[1 << 3]), (Code::OK, 0));
    assert!(!is_asleep(&machine));
    machine.compute(A, 1);
    assert_eq!(machine.world.now().since(now).0, 1, "it did not lose a tick");
}

#[test]
fn block_sleeps_through_events_outside_its_mask_and_events_that_are_masked() {
    let mut machine = alone();
    machine.set_events(A, 1 << 4);
    block(&mut machine, 1 << 3);
    assert!(is_asleep(&machine));
    let mut machine = alone();
    machine.set_events(A, 1 << 3);
    machine.shared(A).event[event::word::MASK].store(1 << 3, SeqCst);
    block(&mut machine, 1 << 3);
    assert!(is_asleep(&machine));
    assert_eq!(machine.go(), Some(Stuck::Asleep));
}

#[test]
fn block_ends_at_next_wake_to_the_tick() {
    let mut machine = alone();
    let wake = machine.world.now().0 + 3 * MS;
    machine.set_demand(A, word::NEXT_WAKE, wake);
    block(&mut machine, TIMER);
    assert!(is_asleep(&machine));
    assert_eq!(machine.status(A, status::word::ARMED_UNTIL), wake);
    machine.compute(A, 1);
    assert_eq!(machine.world.now(), Tsc(wake + 1));
    assert_eq!(take_events(&machine), TIMER);
    assert_eq!(machine.status(A, status::word::ARMED_UNTIL), 0);
}

#[test]
fn the_block_after_one_that_a_timer_ended_sleeps() {
    let mut machine = alone();
    machine.set_demand(A, word::NEXT_WAKE, machine.world.now().0 + 3 * MS);
    block(&mut machine, TIMER);
    let pending = &machine.shared(A).event[event::word::PENDING];
    machine.script(A, [Step::act(move |_| assert_eq!(pending.swap(0, SeqCst), TIMER))]);
    block(&mut machine, TIMER);
    assert!(is_asleep(&machine), "nothing new came");
}

#[test]
fn block_does_not_sleep_past_a_next_wake_that_has_passed() {
    let mut machine = alone();
    let (shared, past) = (machine.shared(A), machine.world.now().0 - 1);
    machine.script(A, [Step::act(move |_| shared.demand[word::NEXT_WAKE].store(past, SeqCst))]);
    block(&mut machine, 0);
    assert!(!is_asleep(&machine));
    assert_eq!(take_events(&machine), TIMER);
    block(&mut machine, TIMER);
    assert!(is_asleep(&machine), "the same value does not fire twice");
}

#[test]
fn a_value_fires_once_and_a_different_past_value_fires_at_once() {
    let mut machine = alone();
    let first = machine.world.now().0 + 2 * MS;
    machine.set_demand(A, word::NEXT_WAKE, first);
    let _ = machine.cpuid(A, 0, 0);
    assert_eq!(machine.status(A, status::word::ARMED_UNTIL), first, "promised before the next entry");
    machine.compute(A, MS);
    assert_eq!(take_events(&machine), 0);
    machine.compute(A, MS + 1);
    assert_eq!(take_events(&machine), TIMER);
    let interrupts = machine.state(A).vectors().len();
    for _ in 0..5 {
        machine.compute(A, MS);
        let _ = machine.call(A, Call::ARM, &[]);
    }
    assert_eq!(take_events(&machine), 0, "once");
    assert_eq!(machine.state(A).vectors().len(), interrupts);
    machine.set_demand(A, word::NEXT_WAKE, first - 1);
    let _ = machine.cpuid(A, 0, 0);
    assert_eq!(take_events(&machine), TIMER, "another value, past as well");
    machine.set_demand(A, word::NEXT_WAKE, 0);
    let _ = machine.cpuid(A, 0, 0);
    assert_eq!(take_events(&machine), 0, "zero is none");
}

#[test]
fn arm_answers_what_it_promises_and_an_earlier_value_replaces_a_later_one() {
    let mut machine = alone();
    let now = machine.world.now().0;
    for ahead in [9 * MS, 5 * MS, 7 * MS] {
        machine.set_demand(A, word::NEXT_WAKE, now + ahead);
        assert_eq!(machine.call(A, Call::ARM, &[]), (Code::OK, now + ahead));
    }
    block(&mut machine, TIMER);
    machine.compute(A, 0);
    assert_eq!(machine.world.now(), Tsc(now + 7 * MS));
}

#[test]
fn a_next_wake_stored_before_hlt_is_honoured() {
    let mut machine = alone();
    let wake = machine.world.now().0 + 3 * MS;
    machine.state(A).interrupts = true;
    let shared = machine.shared(A);
    let store = Step::act(move |_| shared.demand[word::NEXT_WAKE].store(wake, SeqCst));
    machine.run(A, [store, Step::Exit(Exit::Halt)]);
    assert!(is_asleep(&machine));
    machine.compute(A, 1);
    assert_eq!(machine.world.now(), Tsc(wake + 1));
    assert_eq!(machine.state(A).vectors(), [VECTOR]);
}

#[test]
fn a_next_wake_stored_just_before_the_cpu_is_lost_is_honoured_while_others_run() {
    let mut machine = Machine::boot([Spec::cooperative("one"), Spec::full("two")]);
    machine.register(A, VECTOR);
    machine.state(A).interrupts = true;
    machine.compute(B, 1);
    let wake = machine.world.now().0 + 5 * MS;
    let shared = machine.shared(A);
    let store = Step::act(move |_| shared.demand[word::NEXT_WAKE].store(wake, SeqCst));
    machine.script(A, [store]);
    machine.run(A, call_steps(Call::BLOCK, &[TIMER]));
    machine.compute(A, 1);
    let late = machine.world.now().since(Tsc(wake)).0;
    assert!(late <= 2 * MS, "{late} ticks late beside one other");
}

#[test]
fn a_kick_an_ipi_and_an_nmi_end_block() {
    for (call, arguments, seen) in [
        (Call::KICK, vec![0], vec![]),
        (Call::IPI, vec![0, 0x77], vec![Seen::Interrupt(0x77)]),
        (Call::IPI, vec![0, IPI_NMI], vec![Seen::Nmi]),
    ] {
        let mut machine = pair();
        machine.state(A).interrupts = true;
        block(&mut machine, 0);
        assert!(is_asleep(&machine));
        let before = machine.state(A).seen.len();
        assert_eq!(machine.call(A1, call, &arguments).0, Code::OK);
        assert!(!is_asleep(&machine), "{call:?}");
        machine.compute(A, 1);
        let got: Vec<_> = machine.state(A).seen[before..].iter().map(|(_, seen)| *seen).collect();
        assert_eq!(got, seen, "{call:?} {arguments:x?}");
    }
}

#[test]
fn the_sequence_is_odd_on_cpu_and_even_off_it() {
    let mut machine = pair();
    let shared = machine.shared(A);
    let seen = Rc::new(Cell::new(0));
    let look = |seen: &Rc<Cell<u64>>| {
        let seen = Rc::clone(seen);
        Step::act(move |_| seen.set(shared.dispatch_seq()))
    };
    machine.run(A, [look(&seen)]);
    let first = seen.get();
    assert_eq!(first % 2, 1);
    block(&mut machine, 0);
    assert_eq!(shared.dispatch_seq(), first + 1);
    let _ = machine.call(A1, Call::KICK, &[0]);
    assert_eq!(shared.dispatch_seq(), first + 1, "runnable is not on CPU");
    machine.run(A, [look(&seen)]);
    assert_eq!(seen.get(), first + 2);
}

/// Event and KICK come before, between and after the steps of going to sleep; the sleeper goes on in every order.
#[test]
fn no_order_of_event_kick_and_block_loses_the_wake() {
    for order in 0..3 {
        let mut machine = pair();
        for step in 0..3 {
            // 0 1 2: event, KICK, BLOCK; 0 2 1: event, BLOCK, KICK; 2 0 1: BLOCK, event, KICK
            match [[0, 1, 2], [0, 2, 1], [2, 0, 1]][order][step] {
                0 => machine.set_events(A, 1 << 5),
                1 => assert_eq!(machine.call(A1, Call::KICK, &[0]).0, Code::OK),
                _ => block(&mut machine, 1 << 5),
            }
        }
        machine.compute(A, 1);
        assert!(!is_asleep(&machine), "order {order}");
        assert_eq!(take_events(&machine), 1 << 5);
    }
}

#[test]
fn an_interrupt_that_came_while_they_were_off_ends_block() {
    let mut machine = pair();
    assert!(!machine.state(A).interrupts);
    let _ = machine.call(A1, Call::IPI, &[0, 0x77]);
    machine.compute(A, MS); // it cannot be taken: IF is clear
    assert_eq!(machine.state(A).vectors(), []);
    block(&mut machine, 0);
    assert!(!is_asleep(&machine), "BLOCK returns with IF clear while an interrupt waits");
    machine.run(A, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(1)]);
    assert_eq!(machine.state(A).vectors(), [0x77]);
}

#[test]
fn an_interrupt_that_came_before_sti_hlt_ends_the_hlt() {
    let mut machine = pair();
    let _ = machine.call(A1, Call::IPI, &[0, 0x77]);
    machine.compute(A, MS);
    let sti = Step::act(|vcpu| {
        vcpu.interrupts = true;
        vcpu.shadow = true;
    });
    machine.run(A, [sti, Step::Exit(Exit::Halt), Step::Run(1)]);
    assert_eq!(machine.state(A).vectors(), [0x77]);
}

#[test]
fn an_event_that_came_while_interrupts_were_off_ends_hlt() {
    let mut machine = pair();
    machine.set_events(A, 1 << 5);
    let _ = machine.call(A1, Call::KICK, &[0]);
    machine.compute(A, MS);
    let sti = Step::act(|vcpu| {
        vcpu.interrupts = true;
        vcpu.shadow = true;
    });
    machine.run(A, [sti, Step::Exit(Exit::Halt), Step::Run(1)]);
    assert_eq!(machine.state(A).vectors(), [VECTOR]);
}

#[test]
fn hlt_with_interrupts_off_sleeps_through_interrupts_and_ends_with_an_nmi() {
    let mut machine = pair();
    machine.run(A, [Step::Exit(Exit::Halt)]);
    for _ in 0..3 {
        let _ = machine.call(A1, Call::IPI, &[0, 0x77]);
        let _ = machine.call(A1, Call::KICK, &[0]);
        machine.compute(A1, 5 * MS);
        assert!(is_asleep(&machine));
    }
    let _ = machine.call(A1, Call::IPI, &[0, IPI_NMI]);
    machine.compute(A, 1);
    assert_eq!(machine.state(A).count(Seen::Nmi), 1);
    assert_eq!(machine.state(A).vectors(), []);
    machine.run(A, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(1)]);
    assert_eq!(machine.state(A).vectors(), [0x77], "it was kept");
}

#[test]
fn an_nmi_that_waits_for_the_return_of_the_one_before_ends_no_hlt() {
    let mut machine = pair();
    machine.run(A, [Step::act(|vcpu| (vcpu.interrupts, vcpu.in_nmi) = (true, true)), Step::Exit(Exit::Halt)]);
    for _ in 0..3 {
        let _ = machine.call(A1, Call::IPI, &[0, IPI_NMI]);
        machine.compute(A1, 5 * MS);
        assert!(is_asleep(&machine));
    }
    let _ = machine.call(A1, Call::IPI, &[0, 0x77]);
    machine.compute(A, 1);
    assert_eq!((machine.state(A).vectors(), machine.state(A).count(Seen::Nmi)), (vec![0x77], 0));
    machine.run(A, [Step::act(|vcpu| vcpu.in_nmi = false), Step::Exit(Exit::Window), Step::Run(1)]);
    assert_eq!(machine.state(A).count(Seen::Nmi), 1, "they are one");
}

#[test]
fn an_nmi_that_meets_a_shadow_comes_within_20_us_and_no_timer_is_lost() {
    let shadow = || Step::act(|vcpu| vcpu.shadow = true);
    for wake in [5, 20, 500] {
        let mut machine = alone();
        let start = machine.world.now().0;
        machine.set_demand(A, word::NEXT_WAKE, start + wake * US);
        machine.shared(A).request_attention(Attention::NMI);
        machine.state(A).shadow = true;
        machine.script(A, [Step::Exit(Exit::Handled), shadow(), Step::Run(MS)]);
        machine.finish(A);
        let nmis: Vec<_> = machine.state(A).seen.iter().filter(|(_, seen)| *seen == Seen::Nmi).collect();
        assert_eq!(nmis, [&(Tsc(start + wake.min(20) * US), Seen::Nmi)], "{wake} us");
        assert_eq!(take_events(&machine), TIMER, "{wake} us");
        let soon = |at: &&Tsc| at.0 <= start + MS;
        assert!(machine.world.arms().iter().filter(soon).count() < 8, "{:?}", machine.world.arms());
    }
}

#[test]
fn a_kick_without_an_event_does_not_end_hlt() {
    let mut machine = pair();
    machine.state(A).interrupts = true;
    machine.run(A, [Step::Exit(Exit::Halt)]);
    let _ = machine.call(A1, Call::KICK, &[0]);
    machine.compute(A1, 5 * MS);
    assert!(is_asleep(&machine));
    machine.set_events(A, 1);
    let _ = machine.call(A1, Call::KICK, &[0]);
    machine.compute(A, 1);
    assert_eq!(machine.state(A).vectors(), [VECTOR], "an event is an interrupt to who did not BLOCK");
}

#[test]
fn interrupts_wait_for_the_window_and_the_highest_comes_first() {
    let mut machine = pair();
    for vector in [0x30, 0xf0, 0x90] {
        let _ = machine.call(A1, Call::IPI, &[0, vector]);
    }
    machine.compute(A, US);
    assert_eq!(machine.state(A).vectors(), []);
    machine.run(A, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(1)]);
    assert_eq!(machine.state(A).vectors(), [0xf0, 0x90, 0x30]);
    assert_eq!(machine.shared(A).posted.highest(), None);
}

#[test]
fn a_blocked_vcpu_with_events_left_is_not_interrupted_for_them() {
    let mut machine = pair();
    machine.state(A).interrupts = true;
    block(&mut machine, 1 << 5);
    machine.set_events(A, 1 << 5);
    let _ = machine.call(A1, Call::KICK, &[0]);
    machine.compute(A, MS);
    assert_eq!(machine.state(A).vectors(), [], "it looks at its events by itself");
    assert_eq!(machine.state(A).reg(Reg::Rax), Code::OK.0);
}

#[test]
fn a_flush_request_is_done_before_the_next_entry_and_once() {
    let mut machine = pair();
    block(&mut machine, 0);
    machine.shared(A).event[event::word::FLUSH_REQUEST].store(1, SeqCst);
    let _ = machine.call(A1, Call::KICK, &[0]);
    let before = machine.state(A).count(Seen::Flush);
    machine.compute(A, MS);
    assert_eq!(machine.state(A).count(Seen::Flush), before + 1);
    assert_eq!(machine.shared(A).event[event::word::FLUSH_REQUEST].load(SeqCst), 0);
    block(&mut machine, 0);
    let _ = machine.call(A1, Call::KICK, &[0]);
    machine.compute(A, MS);
    assert_eq!(machine.state(A).count(Seen::Flush), before + 1);
}

#[test]
fn a_pause_exits_once_where_nobody_waits_and_tells_again_as_soon_as_somebody_does() {
    let mut machine = Machine::boot([Spec::full("spins"), Spec::full("wakes")]);
    machine.exit(B, Exit::Halt);
    machine.exit(A, Exit::Pause);
    assert_eq!(machine.state(A).pauses, Pauses::Run, "nobody waits");
    machine.compute(A, 1);
    assert_eq!(machine.state(A).pauses, Pauses::Run);
    let shared = machine.shared(B);
    shared.request_attention(Attention::NMI);
    let now = machine.world.now();
    machine.cpu.core.wake(shared, shared.id.guest, now);
    machine.script(B, [Step::Run(MS)]);
    machine.compute(A, 1);
    assert_eq!(machine.state(A).pauses, Pauses::Exit, "B waits");
    machine.exit(A, Exit::Pause);
    assert_eq!(machine.state(A).pauses, Pauses::Exit, "and B had its turn");
}

#[test]
#[should_panic(expected = "machine check")]
fn a_machine_check_while_a_guest_runs_is_the_machines_and_not_the_guests() {
    let mut machine = Machine::boot([Spec::full("a")]);
    machine.run(A, [Step::Exit(Exit::MachineCheck)]);
}
