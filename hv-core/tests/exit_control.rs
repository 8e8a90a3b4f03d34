//! Control registers and EFER: what MOV and WRMSR check, and what they do besides.

mod common;

use common::A;
use hv_core::base::addr::GuestPhys;
use hv_core::base::control::Control;
use hv_core::base::error::KillReason;
use hv_core::base::hardware::GuestBytes;
use hv_core::guest::registers::{Allowed, CR4_GUEST, EFER_GUEST};
use hv_core::guest::seam::{ControlRegister, CpuRegisters, Exception, Exit, Reg};
use hv_core::policy::trace::{Ending, Record};
use hv_core::testkit::{Machine, Seen, Spec};

const PE: u64 = 1 << 0;
const ET: u64 = 1 << 4;
const NE: u64 = 1 << 5;
const WP: u64 = 1 << 16;
const NW: u64 = 1 << 29;
const CD: u64 = 1 << 30;
const PG: u64 = 1 << 31;
const PSE: u64 = 1 << 4;
const PAE: u64 = 1 << 5;
const PGE: u64 = 1 << 7;
const LME: u64 = 1 << 8;
const LMA: u64 = 1 << 10;
const NXE: u64 = 1 << 11;
const RAX: Option<u8> = Some(0);
const TABLE: u64 = 0x30_0020;

/// CS and SS: 16, 32 and 64 bits.
const CODE_16: (u16, u16) = (8, 0x09b);
const CODE_32: (u16, u16) = (8, 0xc9b);
const CODE_64: (u16, u16) = (8, 0xa9b);

fn machine(cr0: u64, cr4: u64, efer: u64, code: (u16, u16)) -> Machine {
    let mut machine = Machine::boot([Spec::full("one")]);
    let segments = [code, (16, 0xc93)];
    machine.state(A).control = Control { cr: [cr0, TABLE, cr4], efer, segments, ..Control::default() };
    machine
}

fn exit_of(register: ControlRegister) -> Exit {
    match register {
        ControlRegister::Cr0 => Exit::WriteCr0,
        ControlRegister::Cr4 => Exit::WriteCr4,
    }
}

/// Writes `value`, and says whether it was taken; one that was not has changed nothing.
fn writes(machine: &mut Machine, register: ControlRegister, value: u64) -> bool {
    let state = machine.state(A);
    let (control, rip) = (state.control, state.rip);
    let faults = state.count(Seen::Exception(Exception::GeneralProtection));
    state.set_reg(Reg::Rax, value);
    machine.state(A).operand = RAX;
    machine.exit(A, exit_of(register));
    machine.compute(A, 1);
    let state = machine.state(A);
    let refused = state.count(Seen::Exception(Exception::GeneralProtection)) != faults;
    if refused {
        assert_eq!((state.control, state.rip), (control, rip), "{register:?} {value:#x}");
    } else {
        assert_eq!(state.rip, rip + 3, "{register:?} {value:#x}");
    }
    !refused
}

fn flushes(machine: &mut Machine) -> usize {
    machine.state(A).count(Seen::Flush)
}

#[test]
fn a_bit_of_cr4_that_cpuid_does_not_announce_raises_gp() {
    let paging = machine(PE | PG, PAE, LME | LMA, CODE_64);
    let mut machine = paging;
    for number in (0..64).filter(|number| *number != 5) {
        let allowed = CR4_GUEST >> number & 1 != 0;
        assert_eq!(writes(&mut machine, ControlRegister::Cr4, PAE | 1 << number), allowed, "bit {number}");
    }
    // OSXSAVE is what XSETBV needs, PKE gives PKRU, which nobody switches.
    for refused in [1 << 18, 1 << 22, 1 << 12, 1 << 17, 1 << 23, 1 << 6] {
        assert_eq!(CR4_GUEST & refused, 0, "{refused:#x}");
    }
    assert_eq!(CR4_GUEST, 0x31_07bf, "VME … PAE, PGE … OSXMMEXCPT, FSGSBASE, SMEP, SMAP");
    assert_eq!(EFER_GUEST, 0xd01);
}

#[test]
fn what_a_machine_lacks_its_guests_may_not_set() {
    let mut machine = machine(PE, 0, 0, CODE_32);
    let vcpu = machine.vcpu(A);
    assert_eq!(vcpu.allowed, Allowed { cr4: CR4_GUEST, efer: EFER_GUEST });
    vcpu.allowed = Allowed { cr4: CR4_GUEST & !PGE, efer: EFER_GUEST & !NXE };
    assert!(!writes(&mut machine, ControlRegister::Cr4, PGE));
    assert!(writes(&mut machine, ControlRegister::Cr4, PSE));
    for (value, taken) in [(NXE, false), (LME, true)] {
        let rip = machine.state(A).rip;
        let state = machine.state(A);
        state.set_reg(Reg::Rcx, 0xc000_0080);
        state.set_reg(Reg::Rax, value);
        state.set_reg(Reg::Rdx, 0);
        machine.exit(A, Exit::WriteMsr);
        assert_eq!(machine.state(A).rip != rip, taken, "{value:#x}");
    }
}

#[test]
fn cr4_flushes_when_it_changes_and_keeps_pae_in_long_mode() {
    let mut machine = machine(PE | PG, PAE, LME | LMA, CODE_64);
    assert!(!writes(&mut machine, ControlRegister::Cr4, PGE), "long mode needs PAE");
    assert!(!writes(&mut machine, ControlRegister::Cr4, PAE | 1 << 63));
    let before = flushes(&mut machine);
    assert!(writes(&mut machine, ControlRegister::Cr4, PAE));
    assert_eq!(flushes(&mut machine), before);
    assert!(writes(&mut machine, ControlRegister::Cr4, PAE | PGE));
    assert_eq!(flushes(&mut machine), before + 1);
}

#[test]
fn code_that_is_not_64_bit_writes_32_bits() {
    let mut machine = machine(PE, 0, 0, CODE_32);
    assert!(writes(&mut machine, ControlRegister::Cr4, PAE | 0xffff_ffff << 32));
    assert_eq!(machine.state(A).control.cr[2], PAE);
    assert!(writes(&mut machine, ControlRegister::Cr0, PE | NE | 1 << 40));
    assert_eq!(machine.state(A).control.cr[0], PE | NE | ET);
}

#[test]
fn cr0_is_checked_as_a_processor_does() {
    let long = |code| machine(PE | PG, PAE, LME | LMA, code);
    let cases = [
        (machine(0, 0, 0, CODE_16), PG, false, "paging without protection"),
        (machine(0, 0, 0, CODE_16), NW, false, "NW without CD"),
        (machine(0, 0, 0, CODE_16), NW | CD, true, "both"),
        (machine(PE, 0, LME, CODE_32), PE | PG, false, "long mode without PAE"),
        (machine(PE, PAE, LME, CODE_64), PE | PG, false, "long mode with CS.L"),
        (machine(PE, PAE, LME, CODE_32), PE | PG, true, "long mode"),
        (long(CODE_64), PE, false, "64-bit code without paging"),
        (long(CODE_32), PE, true, "compatibility mode leaves long mode"),
        (long(CODE_64), PE | PG | 1 << 32, false, "the upper half"),
        (long(CODE_64), PE | PG | WP, true, "write protection"),
    ];
    for (mut machine, value, taken, why) in cases {
        let [before, ..] = machine.state(A).control.cr;
        let flushed = flushes(&mut machine);
        assert_eq!(writes(&mut machine, ControlRegister::Cr0, value), taken, "{why}");
        let control = machine.state(A).control;
        if taken {
            assert_eq!(control.cr[0], value | ET, "{why}");
            let long = value & PG != 0 && control.efer & LME != 0;
            assert_eq!(control.efer & LMA != 0, long, "{why}");
        }
        let expected = usize::from(taken && (value ^ before) & PG != 0);
        assert_eq!(flushes(&mut machine) - flushed, expected, "{why}");
    }
}

#[test]
fn reserved_bits_of_cr0_stay_clear() {
    let mut machine = machine(PE, 0, 0, CODE_32);
    assert!(writes(&mut machine, ControlRegister::Cr0, 0x1fff_ffff));
    assert_eq!(machine.state(A).control.cr[0], 0x0005_003f);
}

fn table(machine: &Machine, entries: [u64; 4]) {
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    assert_eq!(machine.guest(0).ram.write(GuestPhys::new_truncate(TABLE), &bytes), Ok(()));
}

#[test]
fn pae_paging_loads_its_four_entries_when_it_begins_and_when_caching_changes() {
    let entries = [0x21_1001, 0x21_2019, 0, 0x0062_0000_0e01];
    let mut machine = machine(PE, PAE, 0, CODE_32);
    table(&machine, entries);
    assert!(writes(&mut machine, ControlRegister::Cr0, PE | NE | PG));
    assert_eq!(machine.state(A).control.pdptes, entries);
    let other = [0x40_0001, 0x8, 0, 1 << 62];
    table(&machine, other);
    assert!(writes(&mut machine, ControlRegister::Cr0, PE | PG));
    assert_eq!(machine.state(A).control.pdptes, entries, "NE loads nothing");
    assert!(writes(&mut machine, ControlRegister::Cr0, PE | PG | CD));
    assert_eq!(machine.state(A).control.pdptes, other, "what is not present may say anything");
    for reserved in [1 << 1, 1 << 2, 1 << 5, 1 << 8, 1 << 40, 1 << 52, 1 << 63] {
        table(&machine, [0, 0, 0, 0x40_0001 | reserved]);
        assert!(!writes(&mut machine, ControlRegister::Cr0, PE | PG), "{reserved:#x}");
        assert_eq!(machine.state(A).control.pdptes, other);
    }
}

#[test]
fn a_table_that_is_not_there_raises_gp() {
    let mut machine = machine(PE, PAE, 0, CODE_32);
    machine.state(A).control.cr[1] = 0xffff_ffe0;
    assert!(!writes(&mut machine, ControlRegister::Cr0, PE | PG));
}

fn endings(machine: &mut Machine) -> Vec<Ending> {
    let ended = machine.records().into_iter().filter_map(|record| match record {
        Record::Ended { ending, .. } => Some(ending),
        Record::Boot { .. } | Record::Clock { .. } | Record::Mark { .. } | Record::Lost { .. } => None,
    });
    ended.collect()
}

/// Tables of each kind of paging that lead from 0x40_0123 to 0x20_0123.
#[test]
fn a_register_that_the_processor_does_not_name_is_found_in_the_code_by_every_kind_of_paging() {
    const CODE: u64 = 0x20_0123;
    let page = |machine: &Machine, at: u64, entry: u64, bytes: usize| {
        let at = GuestPhys::new_truncate(at);
        assert_eq!(machine.guest(0).ram.write(at, &entry.to_le_bytes()[..bytes]), Ok(()));
    };
    // mov cr4, ebx
    let code = [0x0f, 0x22, 0xe3];
    let none = machine(PE, 0, 0, CODE_32);
    let legacy = machine(PE | PG, 0, 0, CODE_32);
    page(&legacy, 0x30_0000 + 4, 0x31_0001, 4);
    page(&legacy, 0x31_0000, 0x20_0001, 4);
    let large = machine(PE | PG, PSE, 0, CODE_32);
    page(&large, 0x30_0000 + 4, 0x81, 4);
    let pae = machine(PE | PG, PAE, 0, CODE_32);
    page(&pae, TABLE, 0x31_0001, 8);
    page(&pae, 0x31_0000 + 2 * 8, 0x20_0081, 8);
    let long = machine(PE | PG, PAE, LME | LMA, CODE_64);
    page(&long, 0x30_0000, 0x31_0001, 8);
    page(&long, 0x31_0000, 0x32_0001, 8);
    page(&long, 0x32_0000 + 2 * 8, 0x33_0001, 8);
    page(&long, 0x33_0000, 0x20_0001, 8);
    for (mut machine, linear, physical, what) in [
        (none, CODE, CODE, "none"),
        (legacy, 0x40_0123, CODE, "32-bit"),
        (large, 0x60_0123, CODE, "4 MiB"),
        (pae, 0x40_0123, CODE, "PAE"),
        (long, 0x40_0123, CODE, "long mode"),
    ] {
        assert_eq!(machine.guest(0).ram.write(GuestPhys::new_truncate(physical), &code), Ok(()));
        let state = machine.state(A);
        let before = state.control.cr[2];
        state.rip = linear;
        state.set_reg(Reg::Rbx, before | PGE);
        machine.exit(A, Exit::WriteCr4);
        assert_eq!(endings(&mut machine), [], "{what}");
        assert_eq!(machine.state(A).control.cr[2], before | PGE, "{what}");
        assert_eq!(machine.state(A).rip, linear + 3, "{what}");
    }
}

#[test]
fn code_that_cannot_be_fetched_and_a_task_switch_end_the_guest_by_name() {
    let mut machine = machine(PE, 0, 0, CODE_32);
    machine.state(A).rip = 0xfff0_0000;
    machine.exit(A, Exit::WriteCr4);
    assert_eq!(endings(&mut machine), [Ending::Killed(KillReason::UnreadableCode { rip: 0xfff0_0000 })]);
    let mut machine = self::machine(PE, 0, 0, CODE_32);
    machine.exit(A, Exit::TaskSwitch);
    assert_eq!(endings(&mut machine), [Ending::Killed(KillReason::TaskSwitch)]);
}

#[test]
fn efer_flushes_when_execution_becomes_forbidden() {
    let mut machine = machine(PE | PG, PAE, LME | LMA, CODE_64);
    for (value, flushed) in [(LME | 1, 0), (LME | NXE, 1), (LME | NXE, 1), (LME, 2)] {
        let state = machine.state(A);
        state.set_reg(Reg::Rcx, 0xc000_0080);
        state.set_reg(Reg::Rax, value);
        state.set_reg(Reg::Rdx, 0);
        machine.exit(A, Exit::WriteMsr);
        machine.compute(A, 1);
        assert_eq!(flushes(&mut machine), flushed, "{value:#x}");
    }
}
