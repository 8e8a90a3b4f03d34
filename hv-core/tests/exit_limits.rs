//! What one guest causes is limited by who causes it, and paid by who causes it; whoever runs meanwhile is left alone.

mod common;

use common::{A, A1, B, MS, US};
use hv_core::base::id::CpuId;
use hv_core::base::time::{Ticks, Tsc};
use hv_core::device::bus::Width;
use hv_core::guest::seam::Exit;
use hv_core::image::manifest::ChannelConfig;
use hv_core::policy::presence::Life;
use hv_core::policy::trace::ExitClass;
use hv_core::policy::vcpu_shared::VcpuShared;
use hv_core::testkit::{Machine, Spec, Step, at, call_steps};
use pv_abi::call::{Call, Code, EventOp, Shutdown};
use pv_abi::demand;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// How often whoever runs is interrupted for others: once in 50 µs (DESIGN §5).
const QUIET: u64 = 50 * US;

fn pass(machine: &mut Machine, ticks: u64) {
    let until = machine.world.now() + Ticks(ticks);
    let _ = machine.go_to(until);
}

fn interrupts(vcpu: &VcpuShared) -> u64 {
    vcpu.tally.exits[ExitClass::Interrupt as usize].get()
}

/// Ticks charged to a vCPU of the first processor so far.
fn charged(machine: &mut Machine, vcpu: &VcpuShared) -> u64 {
    let now = machine.world.now();
    let queue = &mut machine.cpu.core.queue;
    queue.charge(now);
    queue.usage(vcpu.slot).run.0
}

/// A guest whose 64 vCPUs sleep, each with a timer `apart` after the one before; the first at the moment that is returned.
fn sleepers(apart: u64) -> (Machine, u64) {
    let mut machine = Machine::boot([Spec::cooperative("storm").vcpus(64), Spec::full("victim")]);
    machine.compute(A, MS);
    for n in 1..64 {
        assert_eq!(machine.call(A, Call::VCPU_START, &[n, 0x1000, 0x2000, 0]).0, Code::OK);
    }
    for n in 0..64 {
        machine.register(at(0, n), 0);
    }
    let first = machine.world.now().0 + 60 * MS;
    for n in 0..64 {
        machine.set_demand(at(0, n), demand::word::NEXT_WAKE, first + u64::from(n) * apart);
        machine.run(at(0, n), call_steps(Call::BLOCK, &[u64::MAX]));
    }
    let lead = first - machine.world.now().0 - US;
    machine.compute(B, lead);
    (machine, first)
}

#[test]
fn timers_of_sleepers_interrupt_whoever_runs_at_most_once_in_50_microseconds() {
    let (mut machine, first) = sleepers(1_500);
    let victim = machine.shared(B);
    let before = interrupts(victim);
    machine.compute(B, 40 * US);
    let span = machine.world.now().0 - first;
    assert!(machine.world.arms().contains(&Tsc(first)), "the first comes at once");
    let most = span / QUIET + 2; // the end of its script is an exit too
    assert!(interrupts(victim) - before <= most, "{} within {span} ns", interrupts(victim) - before);
    // The others come together when the quiet time is over, before the victim has had another 50 µs.
    machine.compute(B, 11 * US);
    let woken = (0..64).filter(|n| machine.shared(at(0, *n)).life() == Life::Runnable);
    assert!(woken.count() > 30);
}

#[test]
fn the_time_of_a_timers_wake_is_paid_by_the_guest_that_armed_it() {
    let (mut machine, _) = sleepers(1_500);
    let victim = machine.shared(B);
    let (mode, paid) = (victim.tally.guest_ticks.get(), charged(&mut machine, victim));
    machine.world.clock_reads.set(100); // each look at the clock costs as much
    machine.compute(B, 40 * US);
    machine.world.clock_reads.set(0);
    let (mode, paid) = (victim.tally.guest_ticks.get() - mode, charged(&mut machine, victim) - paid);
    assert!(paid < mode + US, "{mode} ns in guest mode, charged {paid} ns");
}

#[test]
fn a_vcpus_own_timer_comes_at_its_moment_whatever_others_arm() {
    let (mut machine, first) = sleepers(1_500);
    machine.compute(B, 2 * US);
    // Within the quiet time that the first sleeper's timer began.
    let at = first + 10 * US;
    machine.write_msr(B, 0x1b, 0xfee0_0d00);
    machine.write_msr(B, 0x832, 0x4_0040); // TSC-deadline mode
    machine.write_msr(B, 0x80f, 0x1ff);
    machine.write_msr(B, 0x6e0, at);
    assert!(
        machine.world.arms().last().is_some_and(|armed| armed.0 == at),
        "{:?} {at}",
        machine.world.arms().last()
    );
}

#[test]
fn whoever_runs_on_the_first_processor_waits_for_no_other_guests_devices() {
    let mut machine = Machine::boot([Spec::full("input"), Spec::full("victim")]);
    machine.compute(A, MS);
    machine.compute(B, MS);
    let guest = machine.guest(0);
    let devices = &guest.pc.virtio;
    let has_input = || guest.pc.ports.lock().read(0x3fd, Width::Byte, Tsc(0)) & 1 != 0;
    let (holds, waits, begun) = (&Barrier::new(2), &AtomicBool::new(true), Instant::now());
    thread::scope(|scope| {
        // vCPUs of the guest that has the input do device work on other processors, one step after the other.
        scope.spawn(|| {
            let _step = devices.lock();
            holds.wait();
            while waits.load(SeqCst) && begun.elapsed() < Duration::from_secs(10) {
                thread::yield_now();
            }
        });
        holds.wait();
        machine.type_in(b"x");
        machine.compute(B, 10 * MS);
        waits.store(false, SeqCst);
    });
    assert!(begun.elapsed() < Duration::from_secs(10) && !has_input());
    machine.compute(B, 2 * MS);
    assert!(has_input(), "it is looked for again, without another byte");
}

/// The guest X has a vCPU on each of two processors, the second of which it shares with the victim V, which runs now.
fn shared_processor(pin: &[u8]) -> Machine {
    let specs = [
        Spec::cooperative("x").vcpus(2).pin(pin),
        Spec::full("victim").pin(&[1]),
        Spec::full("other").pin(&[0]),
    ];
    let mut machine = Machine::boot_on(2, specs, &[]);
    assert_eq!(machine.call(A, Call::VCPU_START, &[1, 0x1000, 0x2000, 0]).0, Code::OK);
    let [x, x1, v] = [A, A1, B].map(|id| machine.shared(id).slot);
    let stands = (0..100_000).any(|_| {
        pass(&mut machine, 10 * US);
        let there = &machine.others[0].core.queue;
        let runs = machine.cpu.core.queue.current() == Some(x) && there.current() == Some(v);
        runs && there.is_waiting(x1)
    });
    assert!(stands, "they never stand like this");
    machine
}

/// Has X do this on the first processor, and the second one look at what that left for it; of how many ns V was charged how many.
fn charged_for(machine: &mut Machine, steps: impl IntoIterator<Item = Step>) -> (u64, u64) {
    machine.script(A, steps);
    while !machine.state(A).script.is_empty() {
        machine.cpu.step();
    }
    let (v, from) = (machine.shared(B), machine.world.now());
    let core = &mut machine.others[0].core;
    assert!(!core.mailbox().is_empty(), "a letter waits");
    core.queue.charge(from);
    let before = core.queue.usage(v.slot).run.0;
    machine.world.clock_reads.set(US);
    machine.others[0].step();
    machine.world.clock_reads.set(0);
    let now = machine.world.now();
    let core = &mut machine.others[0].core;
    core.queue.charge(now);
    let in_mode = if v.tally.guest_ticks.get() == 0 { 0 } else { 2 * US }; // a quantum of the scripted machine
    (now.since(from).0, (core.queue.usage(v.slot).run.0 - before).saturating_sub(in_mode))
}

#[test]
fn who_runs_does_not_pay_for_notifications_that_stop_move_or_end_another_guests_vcpu() {
    let mut paid = vec![];
    for what in ["IPI", "VCPU_STOP", "YIELD_TO", "SHUTDOWN"] {
        let mut machine = shared_processor(if what == "YIELD_TO" { &[] } else { &[0, 1] });
        let seq = machine.shared(A1).dispatch_seq();
        let steps = match what {
            "IPI" => call_steps(Call::IPI, &[1, 0x40]),
            "VCPU_STOP" => call_steps(Call::VCPU_STOP, &[1]),
            "SHUTDOWN" => call_steps(Call::SHUTDOWN, &[Shutdown::OFF.0]),
            _ => call_steps(Call::YIELD_TO, &[1, seq]),
        };
        if what == "IPI" {
            let slot = machine.shared(A1).slot;
            let _ = machine.others[0].core.mailbox().post(slot); // nobody tells one that waits for its CPU
        }
        let (passed, charged) = charged_for(&mut machine, steps);
        paid.push((what, passed, charged));
    }
    // What is left is the way to the entry, with one look at the clock, as for the notification that only wakes.
    let usual = paid[0].2;
    assert!(paid.iter().all(|(_, passed, charged)| *charged <= usual && *passed > usual), "{paid:?}");
}

#[test]
fn a_guests_end_is_its_own_time_and_not_that_of_whoever_comes_next() {
    for ending in [Step::Exit(Exit::Shutdown)] {
        let mut machine = Machine::boot([Spec::full("ends"), Spec::full("victim")]);
        machine.compute(A, MS);
        machine.compute(B, MS);
        let victim = machine.shared(B);
        machine.compute(A, MS);
        let (mode, paid) = (victim.tally.guest_ticks.get(), charged(&mut machine, victim));
        machine.script(A, [ending]);
        machine.world.clock_reads.set(10 * US);
        while !machine.state(A).script.is_empty() {
            machine.cpu.step();
        }
        machine.world.clock_reads.set(0);
        let (mode, paid) = (victim.tally.guest_ticks.get() - mode, charged(&mut machine, victim) - paid);
        assert!(paid <= mode + 10 * US, "{mode} ns in guest mode, charged {paid} ns");
    }
}

/// A victim that computes on the second processor is rung 500 times, every 2 µs; how often its processor is interrupted, and how
/// often the limit lets it be.
fn rung(ringer: Spec, mut ring: impl FnMut(&mut Machine)) -> (u64, u64) {
    let channels = [ChannelConfig { ends: [0, 1], pages: 1 }];
    let mut machine =
        Machine::boot_on(2, [ringer.pin(&[0]), Spec::cooperative("victim").pin(&[1])], &channels);
    machine.compute(A, MS);
    machine.register(B, 0x40);
    assert_eq!(machine.call(B, Call::EVENT, &[EventOp::BIND.0, 0, 5 << 8]).0, Code::OK);
    machine.state(B).interrupts = true;
    pass(&mut machine, MS);
    let (before, from) = (machine.world.kicks(CpuId(1)), machine.world.now().0);
    for _ in 0..500 {
        // It is in guest mode, as it is all the time on a machine whose processors do not take turns.
        let _ = machine.others[0].core.mailbox().go_away();
        ring(&mut machine);
        machine.others[0].core.mailbox().come_back();
        machine.compute(A, 1_000);
    }
    let span = machine.world.now().0 - from;
    (machine.world.kicks(CpuId(1)) - before, span / QUIET + 1)
}

#[test]
fn a_peer_that_rings_without_end_by_call_interrupts_a_busy_vcpu_once_in_50_microseconds() {
    let (kicks, most) = rung(Spec::cooperative("ringer"), |machine| {
        assert_eq!(machine.call(A, Call::EVENT, &[EventOp::RING.0, 0, 0]).0, Code::OK);
    });
    assert!(kicks >= 1 && kicks <= most, "{kicks}, allowed {most}");
}

#[test]
fn a_full_peer_that_rings_without_end_by_port_does_so_no_more_often() {
    let (kicks, most) = rung(Spec::full("ringer"), |machine| machine.port_out(A, 0xc108, 4, 0));
    assert!(kicks >= 1 && kicks <= most, "{kicks}, allowed {most}");
}
#[test]
fn who_puts_an_interruption_off_claims_the_quiet_time_when_it_comes() {
    let specs = [
        Spec::cooperative("x").vcpus(2).pin(&[0, 1]),
        Spec::full("victim").pin(&[1]),
        Spec::cooperative("y").vcpus(2).pin(&[0, 1]),
    ];
    let mut machine = Machine::boot_on(2, specs, &[]);
    machine.compute(A, MS);
    assert_eq!(machine.call(A, Call::VCPU_START, &[1, 0x1000, 0x2000, 0]).0, Code::OK);
    pass(&mut machine, MS);
    let line = machine.others[0].core.shared;
    line.publish_running(machine.shared(B).name_tag);
    let _ = machine.others[0].core.mailbox().go_away();
    let now = machine.world.now();
    // X has had its turn to interrupt; what it posts next is put off, and interrupts when the quiet time is over.
    assert_eq!(line.disturb(Some(A.guest), now, Ticks(QUIET)), Ok(()));
    machine.shared(A1).set_life(Life::Blocked);
    machine.cpu.core.post(machine.shared(A1), A.guest);
    let kicks = machine.world.kicks(CpuId(1));
    machine.world.advance(QUIET);
    let now = machine.world.now();
    machine.cpu.core.kick_put_off(now);
    assert_eq!(machine.world.kicks(CpuId(1)) - kicks, 1);
    assert!(line.disturb(Some(at(2, 0).guest), now, Ticks(QUIET)).is_err(), "it is quiet again");
}
