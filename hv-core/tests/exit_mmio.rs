//! Devices in memory, as a full guest's instructions touch them.

mod common;

use common::{A, A1, MS};
use hv_core::base::addr::GuestPhys;
use hv_core::base::addr::low;
use hv_core::base::control::Control;
use hv_core::base::error::KillReason;
use hv_core::base::hardware::GuestBytes;
use hv_core::guest::seam::{Access, CpuRegisters, Exit, Reg};
use hv_core::policy::trace::{Ending, Record};
use hv_core::testkit::{Machine, Seen, Spec, Step};

const APIC: u64 = 0xfee0_0000;
const CODE: u64 = 0x20_0000;
/// mov [rdi], eax, and mov eax, [rdi].
const STORE: [u8; 2] = [0x89, 0x07];
const LOAD: [u8; 2] = [0x8b, 0x07];

/// 64-bit code without paging: what the walk of page tables is for is tested elsewhere.
fn long_mode(machine: &mut Machine) {
    for id in [A, A1] {
        machine.state(id).control =
            Control { efer: 0x500, segments: [(0x10, 0xa9b), (0x18, 0xc93)], ..Control::default() };
    }
}

fn machine() -> Machine {
    let mut machine = Machine::boot([Spec::full("one").vcpus(2)]);
    long_mode(&mut machine);
    machine
}

fn touch(machine: &mut Machine, bytes: &[u8], at: u64, access: Access) {
    assert_eq!(machine.guest(0).ram.write(GuestPhys::new_truncate(CODE), bytes), Ok(()));
    machine.state(A).rip = CODE;
    machine.exit(A, Exit::MemoryFault { at: GuestPhys::new_truncate(at), access });
}

fn store(machine: &mut Machine, offset: u64, value: u32) {
    machine.state(A).set_reg(Reg::Rax, u64::from(value));
    touch(machine, &STORE, APIC + offset, Access::Write);
    assert_eq!(machine.state(A).rip, CODE + 2);
}

fn load(machine: &mut Machine, offset: u64) -> u32 {
    machine.state(A).set_reg(Reg::Rax, u64::MAX);
    touch(machine, &LOAD, APIC + offset, Access::Read);
    let rax = machine.state(A).reg(Reg::Rax);
    assert_eq!(rax >> 32, 0, "a load of 32 bits clears the rest");
    low(rax)
}

#[test]
fn the_apics_page_is_what_linux_finds() {
    let mut machine = machine();
    assert_eq!(load(&mut machine, 0x20), 0, "id");
    assert_eq!(load(&mut machine, 0x30), 0x5_0014, "version");
    store(&mut machine, 0xe0, u32::MAX);
    store(&mut machine, 0xd0, 1 << 24);
    assert_eq!(load(&mut machine, 0xd0), 1 << 24, "logical id");
    store(&mut machine, 0xf0, 0x1ff);
    assert_eq!(load(&mut machine, 0xf0), 0x1ff, "spurious vector");
    store(&mut machine, 0x350, 0x700);
    assert_eq!(load(&mut machine, 0x350), 0x700, "LINT0");
    store(&mut machine, 0x80, 0x1_0020);
    assert_eq!(load(&mut machine, 0x80), 0x20, "what is reserved is ignored");
    assert_eq!(load(&mut machine, 0x3f0), 0, "no self IPI in this mode");
    assert_eq!(load(&mut machine, 0xffc), 0);
}

#[test]
fn an_interrupt_goes_to_oneself_and_ends_with_a_store() {
    let mut machine = machine();
    store(&mut machine, 0xf0, 0x1ff);
    store(&mut machine, 0x300, 0x4_00fd); // fixed, to self
    machine.run(A, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(MS)]);
    assert_eq!(machine.state(A).vectors(), [0xfd]);
    assert_eq!(load(&mut machine, 0x170), 1 << 29, "in service");
    store(&mut machine, 0xb0, 0);
    assert_eq!(load(&mut machine, 0x170), 0);
}

#[test]
fn a_processor_is_started_by_init_and_start_up_in_two_halves() {
    let mut machine = machine();
    store(&mut machine, 0xf0, 0x1ff);
    for low in [0xc500, 0x8500, 0x69b] {
        store(&mut machine, 0x310, 1 << 24);
        store(&mut machine, 0x300, low);
        assert_eq!(load(&mut machine, 0x310), 1 << 24);
    }
    machine.compute(A1, 1);
    let starts = machine.state(A1).seen.iter().filter(|(_, seen)| matches!(seen, Seen::Start(_))).count();
    assert_eq!(starts, 1);
}

#[test]
fn a_flat_destination_reaches_whom_its_logical_id_names() {
    let mut machine = machine();
    store(&mut machine, 0xf0, 0x1ff);
    store(&mut machine, 0xd0, 0x40 << 24);
    store(&mut machine, 0x310, 0x80 << 24);
    store(&mut machine, 0x300, 0x855);
    machine.run(A, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(MS)]);
    assert_eq!(machine.state(A).vectors(), []);
    store(&mut machine, 0x310, 0xc0 << 24);
    store(&mut machine, 0x300, 0x855);
    machine.compute(A, MS);
    assert_eq!(machine.state(A).vectors(), [0x55]);
}

fn ending(machine: &mut Machine) -> Option<Ending> {
    machine.records().into_iter().find_map(|record| match record {
        Record::Ended { ending, .. } => Some(ending),
        Record::Boot { .. } | Record::Clock { .. } | Record::Mark { .. } | Record::Lost { .. } => None,
    })
}

fn killed(reason: KillReason) -> Option<Ending> {
    Some(Ending::Killed(reason))
}

#[test]
fn what_cannot_be_done_ends_the_guest_with_the_place() {
    let at = GuestPhys::new_truncate(APIC + 0x80);
    // add [rdi], eax
    let mut machine = machine();
    touch(&mut machine, &[0x01, 0x07], APIC + 0x80, Access::Write);
    assert_eq!(ending(&mut machine), killed(KillReason::NotEmulated { at, rip: CODE }));
    // no page tables lead to the code
    let mut machine = self::machine();
    machine.state(A).control.cr = [1 << 31, 0x3000, 0x20];
    touch(&mut machine, &LOAD, APIC + 0x80, Access::Read);
    assert_eq!(ending(&mut machine), killed(KillReason::NotEmulated { at, rip: CODE }));
    // nobody is there, or nobody is any more
    for (move_away, at) in [(false, APIC + 0x1000), (true, APIC)] {
        let mut machine = self::machine();
        if move_away {
            machine.write_msr(A, 0x1b, APIC | 0x900);
            machine.write_msr(A, 0x1b, APIC | 0xd00);
        }
        touch(&mut machine, &LOAD, at, Access::Read);
        let at = GuestPhys::new_truncate(at);
        assert_eq!(ending(&mut machine), killed(KillReason::BadAccess { at, write: false }));
    }
    // a cooperative guest has no APIC
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    touch(&mut machine, &LOAD, APIC, Access::Read);
    let at = GuestPhys::new_truncate(APIC);
    assert_eq!(ending(&mut machine), killed(KillReason::BadAccess { at, write: false }));
}

#[test]
fn the_instruction_is_fetched_where_its_code_segment_begins() {
    let mut machine = machine();
    // 32-bit code with a base; at RIP alone lies an instruction that nobody emulates.
    machine.state(A).control = Control { segments: [(0x10, 0xc9b), (0x18, 0xc93)], ..Control::default() };
    machine.state(A).code_base = 0x10_0000;
    assert_eq!(machine.guest(0).ram.write(GuestPhys::new_truncate(CODE + 0x10_0000), &STORE), Ok(()));
    machine.state(A).set_reg(Reg::Rax, 0x1ff);
    touch(&mut machine, &[0x0f, 0x0b], APIC + 0xf0, Access::Write);
    assert_eq!(machine.state(A).rip, CODE + 2);
    assert_eq!(machine.vcpu(A).lapic.read_page(0xf0, hv_core::base::time::Tsc(0)), 0x1ff);
}
