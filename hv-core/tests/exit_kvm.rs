//! KVM's paravirtual interface, as a stock kernel uses it.

mod common;

use common::{A, A1, A2, B, MS};
use hv_core::base::addr::GuestPhys;
use hv_core::base::hardware::GuestBytes;
use hv_core::base::id::VcpuId;
use hv_core::guest::seam::{CpuRegisters, Exit, Reg};
use hv_core::policy::presence::{Attention, Life};
use hv_core::testkit::{Machine, Seen, Spec, Step};
use pv_abi::protocol::dispatch::is_on_cpu;
use std::sync::atomic::Ordering::SeqCst;

const WALL_CLOCK: u32 = 0x4b56_4d00;
const SYSTEM_TIME: u32 = 0x4b56_4d01;
const STEAL_TIME: u32 = 0x4b56_4d03;
const PV_EOI: u32 = 0x4b56_4d04;
const KICK_CPU: u64 = 5;
const CLOCK_PAIRING: u64 = 9;
const SEND_IPI: u64 = 10;
const SCHED_YIELD: u64 = 11;
const PLACE: u64 = 0x20_0040;

fn machine(vcpus: u8) -> Machine {
    let mut machine = Machine::boot([Spec::kvm("linux").vcpus(vcpus), Spec::full("other")]);
    for index in 1..vcpus {
        for low in [0x500, 0x69b] {
            machine.write_msr(A, 0x1b, 0xfee0_0d00);
            machine.write_msr(A, 0x830, u64::from(index) << 32 | low);
        }
    }
    machine
}

fn call(machine: &mut Machine, id: VcpuId, number: u64, arguments: [u64; 4]) -> i64 {
    let registers = [Reg::Rbx, Reg::Rcx, Reg::Rdx, Reg::Rsi];
    machine.state(id).set_reg(Reg::Rax, number);
    for (reg, value) in registers.into_iter().zip(arguments) {
        machine.state(id).set_reg(reg, value);
    }
    machine.exit(id, Exit::Call);
    machine.state(id).reg(Reg::Rax).cast_signed()
}

fn bytes<const N: usize>(machine: &Machine, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    assert_eq!(machine.guest(0).ram.read(GuestPhys::new_truncate(at), &mut bytes), Ok(()));
    bytes
}

fn put(machine: &Machine, at: u64, bytes: &[u8]) {
    assert_eq!(machine.guest(0).ram.write(GuestPhys::new_truncate(at), bytes), Ok(()));
}

fn word(machine: &Machine, at: u64) -> u64 {
    u64::from_le_bytes(bytes(machine, at))
}

#[test]
fn the_leaves_of_kvm_are_announced_to_its_guest_only() {
    let mut machine = machine(1);
    let [_, b, c, d] = machine.cpuid(A, 0x4000_0000, 0);
    assert_eq!([b, c, d], [0x4b4d_564b, 0x564b_4d56, 0x4d]);
    let [features, _, _, hints] = machine.cpuid(A, 0x4000_0001, 0);
    for bit in [0, 1, 3, 5, 6, 7, 9, 11, 13, 24] {
        assert_ne!(features & 1 << bit, 0, "{bit}");
    }
    assert_eq!(hints, 0, "no REALTIME");
    assert_ne!(machine.cpuid(A, 1, 0)[2] & 1 << 31, 0);
    assert_eq!(machine.cpuid(B, 0x4000_0000, 0), [0; 4]);
    machine.state(B).rip = 0;
    machine.write_msr(B, SYSTEM_TIME, PLACE | 1);
    assert_eq!(machine.state(B).rip, 0, "#GP");
    machine.exit(B, Exit::Call);
    assert_eq!(machine.state(B).rip, 0, "#UD");
}

#[test]
fn an_unknown_call_and_one_from_user_mode_have_their_answers() {
    let mut machine = machine(1);
    assert_eq!(call(&mut machine, A, 99, [0; 4]), -1000);
    machine.state(A).cpl = 3;
    assert_eq!(call(&mut machine, A, KICK_CPU, [0; 4]), -1);
}

#[test]
fn the_clock_counts_nanoseconds_from_the_guests_begin() {
    let mut machine = machine(1);
    machine.compute(A, 5 * MS);
    machine.write_msr(A, SYSTEM_TIME, PLACE | 1);
    let now = machine.world.now().0;
    assert_eq!(word(&machine, PLACE) & 1, 0, "an even version");
    let (stamp, system) = (word(&machine, PLACE + 8), word(&machine, PLACE + 16));
    assert!(stamp <= now && stamp >= 5 * MS);
    assert!(stamp - system <= MS, "a tick is a nanosecond here: {system} {stamp}");
    assert_eq!(bytes::<1>(&machine, PLACE + 29), [1], "stable");
    machine.write_msr(A, WALL_CLOCK, PLACE + 64);
    let [_, sec] = [0, 4].map(|at| u32::from_le_bytes(bytes(&machine, PLACE + 64 + at)));
    assert_eq!(u64::from(sec), machine.cpu.core.system.wall_ns / 1_000_000_000);
    assert_eq!(call(&mut machine, A, CLOCK_PAIRING, [PLACE + 128, 0, 0, 0]), 0);
    assert!(word(&machine, PLACE + 144) >= stamp);
    assert_eq!(call(&mut machine, A, CLOCK_PAIRING, [PLACE, 1, 0, 0]), -95);
    assert_eq!(call(&mut machine, A, CLOCK_PAIRING, [1 << 40, 0, 0, 0]), -14);
    // Outside the guest's memory nothing is written, and nobody is harmed.
    machine.write_msr(A, SYSTEM_TIME, 1 << 40 | 1);
    machine.write_msr(A, WALL_CLOCK, u64::MAX);
}

#[test]
fn steal_is_what_a_vcpu_waited_and_who_is_off_the_cpu_is_marked() {
    let mut machine = machine(1);
    machine.write_msr(A, STEAL_TIME, PLACE | 1);
    assert_eq!(bytes::<1>(&machine, PLACE + 16), [0], "it is on the CPU");
    let steal = word(&machine, PLACE);
    machine.script(A, [Step::Run(20 * MS)]);
    machine.run(B, [Step::Run(20 * MS)]);
    machine.finish(A);
    let now = word(&machine, PLACE);
    assert!(now - steal >= 9 * MS, "{steal} {now}");
    assert_eq!(word(&machine, PLACE + 8) & 1, 0);
    machine.exit(A, Exit::Halt);
    assert_eq!(bytes::<1>(&machine, PLACE + 16), [1], "asleep");
}

#[test]
fn a_reserved_bit_of_an_address_faults() {
    let mut machine = machine(1);
    for (register, value) in [(STEAL_TIME, PLACE | 3), (STEAL_TIME, PLACE | 0x21), (PV_EOI, PLACE | 3)] {
        machine.state(A).rip = 0;
        machine.write_msr(A, register, value);
        assert_eq!(machine.state(A).rip, 0, "{register:#x} {value:#x}");
        assert_eq!(machine.read_msr(A, register), 0);
    }
}

#[test]
fn an_order_to_flush_left_in_the_record_is_done_before_the_next_entry() {
    let mut machine = machine(2);
    machine.write_msr(A1, STEAL_TIME, PLACE | 1);
    machine.exit(A1, Exit::Halt);
    assert_eq!(bytes::<1>(&machine, PLACE + 16), [1]);
    let before = machine.state(A1).count(Seen::Flush);
    put(&machine, PLACE + 16, &[3]);
    assert_eq!(call(&mut machine, A, KICK_CPU, [0, 1, 0, 0]), 0);
    machine.compute(A1, MS);
    assert_eq!(machine.state(A1).count(Seen::Flush), before + 1);
    assert_eq!(bytes::<1>(&machine, PLACE + 16), [0]);
    machine.exit(A1, Exit::Halt);
    let _ = call(&mut machine, A, KICK_CPU, [0, 1, 0, 0]);
    machine.compute(A1, MS);
    assert_eq!(machine.state(A1).count(Seen::Flush), before + 1, "nobody asked");
}

#[test]
fn a_halt_with_interrupts_off_ends_by_a_kick_and_an_early_kick_is_kept() {
    let mut machine = machine(2);
    machine.exit(A1, Exit::Halt);
    machine.compute(A, 5 * MS);
    assert_eq!(machine.shared(A1).life(), Life::Blocked);
    let _ = call(&mut machine, A, KICK_CPU, [0, 1, 0, 0]);
    machine.compute(A1, MS);
    let _ = call(&mut machine, A, KICK_CPU, [0, 1, 0, 0]);
    machine.compute(A1, MS);
    machine.exit(A1, Exit::Halt);
    assert_eq!(machine.shared(A1).life(), Life::Runnable, "it was kicked before");
    machine.compute(A1, MS);
    machine.exit(A1, Exit::Halt);
    assert_eq!(machine.shared(A1).life(), Life::Blocked, "once");
    assert_eq!(call(&mut machine, A, KICK_CPU, [0, 77, 0, 0]), 0, "nobody there");
}

#[test]
fn an_interrupt_that_is_alone_ends_without_an_exit() {
    let mut machine = machine(1);
    machine.write_msr(A, 0x1b, 0xfee0_0d00);
    machine.write_msr(A, 0x80f, 0x1ff);
    machine.write_msr(A, PV_EOI, PLACE | 1);
    machine.write_msr(A, 0x83f, 0x55);
    machine.run(A, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(MS)]);
    assert_eq!(machine.state(A).vectors(), [0x55]);
    assert_eq!(bytes::<1>(&machine, PLACE), [1]);
    put(&machine, PLACE, &[0]); // the guest ends it
    assert_eq!(machine.read_msr(A, 0x812), 0, "the APIC learns of it");
    // One that the guest did not end by the flag ends by the APIC.
    machine.write_msr(A, 0x83f, 0x56);
    machine.compute(A, MS);
    assert_eq!(bytes::<1>(&machine, PLACE), [1]);
    assert_ne!(machine.read_msr(A, 0x812), 0);
    assert_eq!(bytes::<1>(&machine, PLACE), [0], "it was taken back");
    machine.write_msr(A, 0x80b, 0);
    assert_eq!(machine.read_msr(A, 0x812), 0);
}

#[test]
fn an_interrupt_goes_to_a_set_of_processors_in_one_call() {
    let mut machine = machine(3);
    for id in [A, A1, A2] {
        machine.write_msr(id, 0x1b, 0xfee0_0c00 | u64::from(id == A) << 8);
        machine.write_msr(id, 0x80f, 0x1ff);
        machine.run(id, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(1)]);
    }
    assert_eq!(call(&mut machine, A, SEND_IPI, [0b11, 0, 1, 0xfd]), 2);
    for id in [A1, A2] {
        machine.compute(id, MS);
        assert_eq!(machine.state(id).vectors(), [0xfd]);
    }
    assert_eq!(machine.state(A).vectors(), []);
    assert_eq!(call(&mut machine, A, SEND_IPI, [u64::MAX, u64::MAX, 0, 0x500]), -22, "no INIT this way");
    assert_eq!(call(&mut machine, A, SEND_IPI, [u64::MAX, 0, 60, 0xfd]), 0, "nobody there");
    assert_eq!(call(&mut machine, A, SEND_IPI, [1, 0, u64::MAX, 0xfd]), 0);
}

#[test]
fn a_yield_names_who_gets_the_cpu_and_not_oneself() {
    let mut machine = machine(3);
    machine.script(A2, [Step::Run(MS)]);
    assert_eq!(call(&mut machine, A, SCHED_YIELD, [2, 0, 0, 0]), 0);
    assert_eq!(call(&mut machine, A, SCHED_YIELD, [0, 0, 0, 0]), 0);
    assert_eq!(call(&mut machine, A, SCHED_YIELD, [u64::MAX, 0, 0, 0]), 0);
}

/// How long a vCPU that waits for a lock, or only for an interrupt, waits for its turn beside a busy guest once it is woken.
fn turn_after_wake(waits_for_lock: bool) -> u64 {
    let mut machine = machine(2);
    for id in [A, A1] {
        machine.write_msr(id, STEAL_TIME, (PLACE + 64 * u64::from(id == A1)) | 1);
    }
    machine.run(A1, [Step::act(move |vcpu| vcpu.interrupts = !waits_for_lock), Step::Exit(Exit::Halt)]);
    let row = machine.shared(A1).demand[0].load(SeqCst) >> 16 & 0xf;
    assert_eq!(row, if waits_for_lock { 4 } else { 1 }, "LOCK_WAIT or IDLE");
    // Both have their share; the other guest has just begun a turn.
    machine.exit(A, Exit::Halt);
    machine.compute(B, 5 * MS);
    machine.script(B, [Step::Run(40 * MS)]);
    let shared = machine.shared(A1);
    shared.request_attention(Attention::KICK);
    let now = machine.world.now();
    machine.cpu.core.wake(shared, shared.id.guest, now);
    machine.compute(A1, 1);
    assert_eq!(machine.shared(A1).demand[0].load(SeqCst), 0, "it runs");
    machine.world.now().0 - now.0
}

#[test]
fn who_is_kicked_for_a_lock_has_an_earlier_turn() {
    let (lock, idle) = (turn_after_wake(true), turn_after_wake(false));
    assert!(lock * 4 < idle, "{lock} {idle}");
}

/// I-9: a vCPU that is off CPU has let go of its guest's memory.
#[test]
fn the_hypervisor_touches_a_guests_memory_only_while_the_vcpu_that_it_does_so_for_is_on_cpu() {
    let mut machine = machine(2);
    let shared = [A, A1].map(|id| machine.shared(id));
    let touched = std::rc::Rc::new(std::cell::Cell::new([0_u32; 2]));
    let seen = touched.clone();
    machine.guest(0).ram.watch(move |at| {
        // Each vCPU's record and flag lie in a page of its own.
        let n = usize::from(at.raw() >= PLACE + 0x1000);
        assert!(is_on_cpu(shared[n].dispatch_seq()), "vCPU {n} is off CPU, {at:?}");
        let mut counts = seen.get();
        counts[n] += 1;
        seen.set(counts);
    });
    for (n, id) in [A, A1].into_iter().enumerate() {
        let place = PLACE + 0x1000 * n as u64;
        let bootstrap = u64::from(n == 0) << 8;
        machine.write_msr(id, 0x1b, 0xfee0_0c00 | bootstrap);
        machine.write_msr(id, 0x80f, 0x1ff);
        machine.write_msr(id, SYSTEM_TIME, (place + 0x80) | 1);
        machine.write_msr(id, STEAL_TIME, place | 1);
        machine.write_msr(id, PV_EOI, (place + 0x100) | 1);
        machine.state(id).interrupts = true;
    }
    // It is preempted, yields, sleeps, is woken, is interrupted, is stopped and starts again.
    for id in [A, A1] {
        machine.script(id, [Step::Run(9 * MS), Step::Exit(Exit::Pause), Step::Run(MS)]);
    }
    machine.run(B, [Step::Run(20 * MS)]);
    machine.exit(A1, Exit::Halt);
    machine.write_msr(A, 0x830, 1 << 32 | 0x4055);
    machine.compute(A1, MS);
    machine.exit(A, Exit::Halt);
    machine.write_msr(A1, 0x830, 0x4055);
    machine.compute(A, 5 * MS);
    machine.write_msr(A, 0x830, 1 << 32 | 0x4500);
    machine.write_msr(A, 0x830, 1 << 32 | 0x0608);
    machine.compute(A1, 5 * MS);
    let touched = touched.get();
    assert!(touched.iter().all(|count| *count > 10), "{touched:?}");
}
