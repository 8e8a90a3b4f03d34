//! Where an instruction that is emulated meets an event.

mod common;

use common::A;
use hv_core::base::addr::GuestPhys;
use hv_core::base::control::Control;
use hv_core::base::error::KillReason;
use hv_core::base::hardware::GuestBytes;
use hv_core::guest::seam::{Access, CpuEvents, CpuRegisters, Direction, Exception, Exit, PortAccess, Reg};
use hv_core::policy::trace::{Ending, Record};
use hv_core::testkit::{Machine, Seen, Spec, Step, call_steps};
use pv_abi::call::{Call, ConsoleOp, Info};

const DEBUG: Seen = Seen::Exception(Exception::Debug);
const GP: Seen = Seen::Exception(Exception::GeneralProtection);
/// Where code for an access to a device is put: MOV [RDI], EAX.
const CODE: u64 = 0x20_0000;
const STORE: [u8; 2] = [0x89, 0x07];
const IO_APIC: u64 = 0xfec0_0000;

fn port(port: u16, direction: Direction) -> Exit {
    Exit::Port(PortAccess { port, size_bytes: 1, direction })
}

/// Steps over what `exit` is for; what the guest saw.
fn step_over(machine: &mut Machine, exit: Exit) -> Vec<Seen> {
    let before = machine.state(A).seen.len();
    machine.run(A, [Step::act(|vcpu| vcpu.single_step = true), Step::Exit(exit)]);
    machine.run(A, [Step::act(|vcpu| vcpu.single_step = false), Step::Run(1)]);
    machine.state(A).seen[before..].iter().map(|(_, seen)| *seen).collect()
}

#[test]
fn a_single_step_over_an_instruction_that_is_emulated_ends_in_a_debug_exception() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    machine.guest(0).ram.write(GuestPhys::new_truncate(CODE), &STORE).unwrap();
    machine.state(A).control =
        Control { efer: 0x500, segments: [(0x10, 0xa9b), (0x18, 0xc93)], ..Control::default() };
    let store = Exit::MemoryFault { at: GuestPhys::new_truncate(IO_APIC), access: Access::Write };
    let exits = [
        Exit::Cpuid,
        Exit::ReadMsr,
        Exit::WriteMsr,
        port(0x80, Direction::In),
        port(0x80, Direction::Out),
        Exit::Pause,
        Exit::CacheFlush,
        store,
        Exit::Halt,
    ];
    for exit in exits {
        machine.state(A).set_reg(Reg::Rcx, 0x8b);
        machine.state(A).rip = CODE;
        assert_eq!(step_over(&mut machine, exit), [DEBUG], "{exit:?}");
    }
}

#[test]
fn a_call_is_one_step() {
    let mut machine = Machine::boot([Spec::cooperative("steps")]);
    machine.state(A).single_step = true;
    machine.run(A, call_steps(Call::INFO, &[Info::VERSION.0]));
    machine.run(A, [Step::Run(1)]);
    assert_eq!(machine.state(A).count(DEBUG), 1);
}

#[test]
fn an_instruction_that_faults_or_is_to_run_again_is_no_step_yet() {
    let mut machine = Machine::boot([Spec::cooperative("steps")]);
    machine.state(A).set_reg(Reg::Rcx, 0xdead);
    assert_eq!(step_over(&mut machine, Exit::ReadMsr), [GP]);
    machine.world.console_room.set(0);
    machine.state(A).single_step = true;
    machine.script(A, call_steps(Call::CONSOLE, &[ConsoleOp::WRITE.0, 0x3000, 6]));
    for _ in 0..20 {
        machine.cpu.step();
    }
    assert_eq!(machine.state(A).count(DEBUG), 0, "it waits for the line");
}

#[test]
fn hlt_in_a_single_step_does_not_sleep() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    machine.state(A).single_step = true;
    machine.run(A, [Step::Exit(Exit::Halt), Step::Run(1)]);
    assert_eq!(machine.state(A).count(DEBUG), 1);
}

#[test]
fn an_event_that_is_delivered_onto_a_device_ends_its_guest_and_does_no_instruction() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    machine.guest(0).ram.write(GuestPhys::new_truncate(CODE), &STORE).unwrap();
    machine.state(A).control =
        Control { efer: 0x500, segments: [(0x10, 0xa9b), (0x18, 0xc93)], ..Control::default() };
    machine.state(A).rip = CODE;
    let at = GuestPhys::new_truncate(IO_APIC);
    // As the backend leaves an exit that has cut the delivery of an event short.
    let deliver = Step::act(|vcpu| vcpu.inject_exception(Exception::GeneralProtection));
    machine.script(A, [deliver, Step::Exit(Exit::MemoryFault { at, access: Access::Write })]);
    while machine.cpu.step() {}
    let killed = Ending::Killed(KillReason::NotEmulated { at, rip: CODE });
    let ends = machine.records().into_iter().filter_map(|record| match record {
        Record::Ended { ending, .. } => Some(ending),
        Record::Boot { .. } | Record::Mark { .. } | Record::Lost { .. } | Record::Clock { .. } => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [killed]);
}
