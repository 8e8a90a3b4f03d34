//! An ordinary PC: local APIC, 8259A, ports and MSRs, CPUID, HLT; nothing of Comity is to be seen.

mod common;

use common::{A, A1, B, MS, US};
use hv_core::base::control::Start;
use hv_core::base::id::VcpuId;
use hv_core::base::time::Tsc;
use hv_core::guest::seam::{CpuRegisters, Exception, Exit, Reg};
use hv_core::policy::presence::Life;
use hv_core::policy::trace::{Ending, Record};
use hv_core::testkit::{Machine, Seen, Spec, Step, Stuck, at, write_msr_steps};
use pv_abi::cpuid;

const APIC_BASE: u32 = 0x1b;
const TPR: u32 = 0x808;
const EOI: u32 = 0x80b;
const SVR: u32 = 0x80f;
const ICR: u32 = 0x830;
const LVT_TIMER: u32 = 0x832;
const INITIAL_COUNT: u32 = 0x838;
const DIVIDE: u32 = 0x83e;
const SELF_IPI: u32 = 0x83f;
const TSC_DEADLINE: u32 = 0x6e0;
const GP: Seen = Seen::Exception(Exception::GeneralProtection);

/// Turns a vCPU's APIC on, in x2APIC mode, and its interrupts.
fn apic_on(machine: &mut Machine, id: VcpuId) {
    machine.state(id).interrupts = true;
    let bootstrap = if id.index.0 == 0 { 1 << 8 } else { 0 };
    machine.write_msr(id, APIC_BASE, 0xfee0_0000 | 1 << 11 | 1 << 10 | bootstrap);
    machine.write_msr(id, SVR, 0x1ff);
    assert_eq!(machine.state(id).count(GP), 0);
}

/// A guest of `count` processors, all of them started, with their APICs on.
fn pc(count: u8) -> Machine {
    let mut machine = Machine::boot([Spec::full("pc").vcpus(count)]);
    apic_on(&mut machine, A);
    for index in 1..count {
        machine.write_msr(A, ICR, u64::from(index) << 32 | 0x4500);
        machine.write_msr(A, ICR, u64::from(index) << 32 | 0x0608);
        apic_on(&mut machine, at(0, index));
    }
    machine
}

fn taken_at(machine: &mut Machine, vector: u8) -> Vec<Tsc> {
    let seen = &machine.state(A).seen;
    seen.iter().filter(|(_, seen)| *seen == Seen::Interrupt(vector)).map(|(when, _)| *when).collect()
}

#[test]
fn a_one_shot_timer_interrupts_once_and_to_the_tick() {
    let mut machine = pc(1);
    machine.write_msr(A, DIVIDE, 0xb);
    machine.write_msr(A, LVT_TIMER, 0x50);
    machine.write_msr(A, INITIAL_COUNT, 3 * MS);
    let due = Tsc(machine.world.now().0 + 3 * MS);
    machine.compute(A, 20 * MS);
    let taken = taken_at(&mut machine, 0x50);
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert!(taken[0] >= due && taken[0].since(due).0 <= 2, "{taken:?} due {due:?}");
}

#[test]
fn a_periodic_timer_interrupts_each_period_and_a_deadline_once() {
    let mut machine = pc(1);
    machine.write_msr(A, DIVIDE, 0xb);
    machine.write_msr(A, LVT_TIMER, 0x50 | 1 << 17);
    machine.write_msr(A, INITIAL_COUNT, MS);
    for period in 1..=5 {
        machine.compute(A, MS);
        machine.write_msr(A, EOI, 0);
        assert_eq!(taken_at(&mut machine, 0x50).len(), period);
    }
    machine.write_msr(A, LVT_TIMER, 0x51 | 2 << 17);
    let deadline = machine.world.now().0 + 2 * MS;
    machine.write_msr(A, TSC_DEADLINE, deadline);
    machine.compute(A, 20 * MS);
    assert_eq!(taken_at(&mut machine, 0x51), [Tsc(deadline)]);
    assert_eq!(machine.read_msr(A, TSC_DEADLINE), 0, "it is over");
    assert_eq!(taken_at(&mut machine, 0x50).len(), 5);
}

#[test]
fn hlt_sleeps_until_the_timer_and_costs_nothing_meanwhile() {
    let mut machine = pc(1);
    machine.write_msr(A, LVT_TIMER, 0x51 | 2 << 17);
    let deadline = machine.world.now().0 + 50 * MS;
    machine.write_msr(A, TSC_DEADLINE, deadline);
    let idle = machine.cpu.core.tally().idle_ticks.get();
    machine.run(A, [Step::Exit(Exit::Halt), Step::Run(1)]);
    assert_eq!(machine.world.now(), Tsc(deadline + 1));
    assert_eq!(machine.cpu.core.tally().idle_ticks.get() - idle, 50 * MS);
    assert_eq!(taken_at(&mut machine, 0x51), [Tsc(deadline)]);
}

#[test]
fn hlt_with_nothing_to_come_sleeps_for_good() {
    let mut machine = pc(1);
    machine.run(A, [Step::Exit(Exit::Halt)]);
    machine.script(A, [Step::Run(1)]);
    assert_eq!(machine.go(), Some(Stuck::Asleep));
    assert_eq!(machine.shared(A).life(), Life::Blocked);
    let mut machine = pc(1);
    machine.write_msr(A, LVT_TIMER, 0x51 | 2 << 17);
    let deadline = machine.world.now().0 + MS;
    machine.write_msr(A, TSC_DEADLINE, deadline);
    machine.run(A, [Step::act(|vcpu| vcpu.interrupts = false), Step::Exit(Exit::Halt)]);
    machine.script(A, [Step::Run(1)]);
    assert_eq!(machine.go(), Some(Stuck::Asleep), "IF is clear");
    assert_eq!(taken_at(&mut machine, 0x51), []);
}

#[test]
fn init_and_start_up_begin_a_processor_in_real_mode() {
    let mut machine = Machine::boot([Spec::full("pc").vcpus(2)]);
    apic_on(&mut machine, A);
    assert_eq!(machine.shared(A1).life(), Life::Stopped);
    machine.write_msr(A, ICR, 1 << 32 | 0xc500);
    machine.write_msr(A, ICR, 1 << 32 | 0x8500);
    assert_eq!(machine.shared(A1).life(), Life::Stopped);
    machine.write_msr(A, ICR, 1 << 32 | 0x4400); // an NMI: it takes none now
    machine.write_msr(A, ICR, 1 << 32 | 0x069a);
    machine.write_msr(A, ICR, 1 << 32 | 0x069b);
    machine.compute(A1, 1);
    let started: Vec<_> = machine.state(A1).seen.iter().map(|(_, seen)| *seen).collect();
    assert_eq!(started, [Seen::Start(Start::Real { vector: 0x9a })], "the second start-up is ignored");
    machine.write_msr(A, ICR, 1 << 32 | 0xc500);
    assert_eq!(machine.shared(A1).life(), Life::Stopped, "INIT stops it again");
}

#[test]
fn a_broadcast_starts_and_stops_every_other_processor() {
    let mut machine = Machine::boot([Spec::full("pc").vcpus(4)]);
    apic_on(&mut machine, A);
    let lives = |machine: &Machine| [0, 1, 2, 3].map(|index| machine.shared(at(0, index)).life());
    machine.write_msr(A, ICR, 3 << 18 | 0x4500);
    machine.write_msr(A, ICR, 3 << 18 | 0x0608);
    assert_eq!(lives(&machine), [Life::Runnable; 4]);
    machine.write_msr(A, ICR, 3 << 18 | 0x4500);
    assert_eq!(lives(&machine), [Life::Runnable, Life::Stopped, Life::Stopped, Life::Stopped]);
}

#[test]
fn interprocessor_interrupts_reach_who_is_meant() {
    let mut machine = pc(4);
    for (icr, receivers) in [
        (1_u64 << 32 | 0x4041, [0, 1, 0, 0]),
        (0b1100 << 32 | 1 << 11 | 0x4041, [0, 0, 1, 1]),
        (3 << 18 | 0x4041, [0, 1, 1, 1]),
        (2 << 18 | 0x4041, [1, 1, 1, 1]),
        (1 << 18 | 0x4041, [1, 0, 0, 0]),
        (0xffff_ffff << 32 | 0x4041, [1, 1, 1, 1]),
        (9 << 32 | 0x4041, [0, 0, 0, 0]),
    ] {
        let count = |machine: &mut Machine| {
            [0, 1, 2, 3].map(|index| {
                machine.compute(at(0, index), 1);
                let got = machine.state(at(0, index)).vectors().len();
                machine.write_msr(at(0, index), EOI, 0);
                got
            })
        };
        let before = count(&mut machine);
        machine.write_msr(A, ICR, icr);
        let after = count(&mut machine);
        let got: Vec<_> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(got, receivers, "icr={icr:#x}");
    }
}

#[test]
fn an_interrupt_ends_another_processors_hlt() {
    let mut machine = pc(2);
    machine.run(A1, [Step::Exit(Exit::Halt)]);
    machine.write_msr(A, ICR, 1 << 32 | 0x4042);
    assert_eq!(machine.shared(A1).life(), Life::Runnable);
    machine.compute(A1, 1);
    assert_eq!(machine.state(A1).vectors(), [0x42]);
    machine.run(A1, [Step::act(|vcpu| vcpu.interrupts = false), Step::Exit(Exit::Halt)]);
    machine.write_msr(A, ICR, 1 << 32 | 0x4400);
    machine.compute(A1, 1);
    assert_eq!(machine.state(A1).count(Seen::Nmi), 1);
}

#[test]
fn a_self_interrupt_waits_for_if_and_for_its_priority() {
    let mut machine = pc(1);
    machine.state(A).interrupts = false;
    for vector in [0x31, 0x71] {
        machine.write_msr(A, SELF_IPI, vector);
    }
    machine.compute(A, US);
    assert_eq!(machine.state(A).vectors(), []);
    machine.run(A, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(1)]);
    assert_eq!(machine.state(A).vectors(), [0x71], "the other is of a lower class");
    machine.write_msr(A, EOI, 0);
    machine.compute(A, 1);
    assert_eq!(machine.state(A).vectors(), [0x71, 0x31]);
    machine.write_msr(A, EOI, 0);
    machine.write_msr(A, TPR, 0x40);
    machine.write_msr(A, SELF_IPI, 0x45);
    machine.compute(A, US);
    assert_eq!(machine.state(A).vectors(), [0x71, 0x31]);
    machine.run(A, [Step::act(|vcpu| vcpu.set_cr8(3)), Step::Run(1)]);
    assert_eq!(
        machine.state(A).vectors(),
        [0x71, 0x31, 0x45],
        "MOV CR8 let it in, without an exit of its own"
    );
}

#[test]
fn an_interrupt_that_came_while_they_were_off_ends_hlt() {
    let mut machine = pc(2);
    machine.state(A1).interrupts = false;
    machine.write_msr(A, ICR, 1 << 32 | 0x4042);
    machine.compute(A1, MS);
    let sti = Step::act(|vcpu| {
        vcpu.interrupts = true;
        vcpu.shadow = true;
    });
    machine.run(A1, [sti, Step::Exit(Exit::Halt), Step::Run(1)]);
    assert_eq!(machine.state(A1).vectors(), [0x42]);
}

#[test]
fn the_task_priority_reads_as_it_was_written_until_cr8_is() {
    let mut machine = pc(1);
    for value in [0x3f, 0x30, 0x0f] {
        machine.write_msr(A, TPR, value);
        machine.compute(A, US);
        assert_eq!(machine.read_msr(A, TPR), value, "{value:#x}");
        assert_eq!(u64::from(machine.state(A).cr8()), value >> 4);
    }
    machine.run(A, [Step::act(|vcpu| vcpu.set_cr8(4)), Step::Run(US)]);
    assert_eq!(machine.read_msr(A, TPR), 0x40);
}

#[test]
fn an_apic_that_was_off_has_no_task_priority_left() {
    let mut machine = pc(1);
    machine.write_msr(A, TPR, 0xf0);
    assert_eq!(machine.state(A).cr8(), 0xf);
    for mode in [0, 1 << 11, 1 << 11 | 1 << 10] {
        machine.write_msr(A, APIC_BASE, 0xfee0_0100 | mode);
    }
    assert_eq!(machine.state(A).cr8(), 0, "CR8 is the same register");
    machine.write_msr(A, SVR, 0x1ff);
    machine.write_msr(A, SELF_IPI, 0x45);
    machine.compute(A, US);
    assert_eq!(machine.state(A).vectors(), [0x45]);
}

#[test]
fn hlt_under_a_high_task_priority_sleeps() {
    let mut machine = pc(1);
    machine.write_msr(A, TPR, 0xf0);
    machine.write_msr(A, SELF_IPI, 0x45);
    machine.run(A, [Step::Exit(Exit::Halt)]);
    machine.script(A, [Step::Run(1)]);
    assert_eq!(machine.go(), Some(Stuck::Asleep));
}

#[test]
fn the_8254_interrupts_through_the_8259_and_lint0() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    machine.state(A).interrupts = true;
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0xfe)] {
        machine.port_out(A, port, 1, value);
    }
    let start = machine.world.now();
    for (port, value) in [(0x43, 0x34), (0x40, 0x9c), (0x40, 0x2e)] {
        machine.port_out(A, port, 1, value); // 100 Hz
    }
    for tick in 1..=3_u64 {
        machine.run(A, [Step::Exit(Exit::Halt), Step::Run(1)]);
        let late = machine.world.now().since(start).0.abs_diff(tick * 10 * MS);
        assert!(late < 10 * US, "{late}");
        assert_eq!(machine.state(A).vectors().len() as u64, tick);
        machine.port_out(A, 0x20, 1, 0x20);
    }
    assert!(machine.state(A).vectors().iter().all(|vector| *vector == 0x30));
}

#[test]
fn an_unknown_msr_faults_and_changes_nothing() {
    let mut machine = Machine::boot([Spec::full("pc"), Spec::cooperative("other")]);
    for id in [A, B] {
        for index in [0, 0x11, 0x48, 0x1d9, 0x4b56_4d00, 0x4000_0000, 0xc001_0117, u32::MAX] {
            for exit in [Exit::ReadMsr, Exit::WriteMsr] {
                machine.state(id).set_reg(Reg::Rcx, u64::from(index));
                machine.compute(id, 1);
                let faults = machine.state(id).count(GP);
                let before = (
                    machine.state(id).registers(),
                    machine.state(id).rip,
                    machine.guest(id.guest.0).ram.window(),
                );
                machine.exit(id, exit);
                let after = (
                    machine.state(id).registers(),
                    machine.state(id).rip,
                    machine.guest(id.guest.0).ram.window(),
                );
                assert_eq!(machine.state(id).count(GP), faults + 1, "{index:#x} {exit:?}");
                assert_eq!(after, before, "{index:#x} {exit:?}");
            }
        }
    }
}

#[test]
fn a_reserved_bit_of_efer_and_a_bad_kind_in_pat_fault() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    machine.write_msr(A, 0xc000_0080, 0xd01);
    assert_eq!(machine.read_msr(A, 0xc000_0080), 0x901, "LMA cannot be set");
    machine.write_msr(A, 0x277, 0x0007_0406_0007_0406);
    assert_eq!(machine.read_msr(A, 0x277), 0x0007_0406_0007_0406);
    for (index, value) in [(0xc000_0080, 1 << 12), (0xc000_0080, 1 << 63), (0x277, 2), (0x277, 8 << 56)] {
        let faults = machine.state(A).count(GP);
        machine.write_msr(A, index, value);
        assert_eq!(machine.state(A).count(GP), faults + 1, "{index:#x} {value:#x}");
    }
    assert_eq!(machine.read_msr(A, 0xc000_0080), 0x901);
    assert_eq!(machine.read_msr(A, 0x277), 0x0007_0406_0007_0406);
}

#[test]
fn an_apic_register_in_the_old_mode_faults() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    machine.write_msr(A, ICR, 0x4041);
    assert_eq!(machine.state(A).count(GP), 1);
    assert_eq!(machine.state(A).vectors(), []);
}

/// The machine of these tests announces every feature and fills every leaf: what a guest sees was let through.
#[test]
fn nothing_of_a_hypervisor_is_announced_to_a_full_guest() {
    let mut machine = Machine::boot([Spec::full("pc").vcpus(2)]);
    let [_, _, ecx, _] = machine.cpuid(A, 1, 0);
    assert_eq!(ecx >> 31 & 1, 0, "the hypervisor bit");
    assert_eq!(ecx & (1 << 5 | 1 << 3), 0, "neither VMX nor MONITOR");
    assert_eq!(machine.cpuid(A, 0x8000_0001, 0)[2] & 1 << 2, 0, "no SVM");
    for leaf in [0x4000_0000, 0x4000_0001, 0x4000_0003, 0x4000_0100, 0x4000_00ff, 0x4fff_ffff] {
        assert_eq!(machine.cpuid(A, leaf, 0), [0; 4], "{leaf:#x}");
    }
    for leaf in [0xc, 0xd, 0x1f, 0x2000_0000, 0x8000_000a, 0x8000_001f, 0xc000_0000, u32::MAX] {
        assert_eq!(machine.cpuid(A, leaf, 0), [0; 4], "{leaf:#x}");
    }
}

#[test]
fn the_leaves_of_comity_are_announced_to_a_cooperative_guest() {
    let mut machine = Machine::boot([Spec::cooperative("one").vcpus(3)]);
    assert_eq!(machine.cpuid(A, 1, 0)[2] >> 31 & 1, 1);
    let [last, b, c, d] = machine.cpuid(A, cpuid::BASE, 0);
    assert_eq!(last, u64::from(cpuid::LAST));
    assert_eq!([b, c, d], cpuid::SIGNATURE.map(u64::from));
    let features = u64::from(machine.guest(0).features().bits());
    assert_eq!(
        machine.cpuid(A, cpuid::VERSION_LEAF, 0),
        [u64::from(pv_abi::VERSION.packed()), features, 3, 0]
    );
    assert_eq!(machine.cpuid(A, cpuid::TIME_LEAF, 0), [1_000_000, 1_000_000, 0, 0]);
    assert_eq!(machine.cpuid(A, cpuid::WINDOW_LEAF, 0), [0xc000_0000, 0, 512, 0]);
    assert_eq!(machine.cpuid(A, cpuid::LAST + 1, 0), [0; 4]);
}

#[test]
fn what_leaf_1_hides_its_copy_hides_too() {
    let mut machine = Machine::boot([Spec::full("pc"), Spec::cooperative("b")]);
    for id in [A, B] {
        let [_, _, _, leaf] = machine.cpuid(id, 1, 0);
        let [_, _, _, copy] = machine.cpuid(id, 0x8000_0001, 0);
        // AMD APM vol 3, 8000_0001 EDX: bits 9:0, 17:12, 23, 24 are those of leaf 1.
        assert_eq!(copy & 0x0183_f3ff & !leaf, 0, "{id:?}: shown in the copy only");
        assert_eq!(copy & 1 << 29, 1 << 29, "long mode is not in leaf 1");
    }
}

#[test]
fn the_apics_base_takes_as_many_bits_as_cpuid_says_that_an_address_has() {
    let mut machine = pc(1);
    let [widths, ..] = machine.cpuid(A, 0x8000_0008, 0);
    let bits = widths & 0xff;
    assert_eq!(widths >> 8, 48, "5-level paging is hidden");
    for (bit, expected) in [(bits - 1, 0), (bits, 1)] {
        machine.write_msr(A, APIC_BASE, 1 << bit | 0xfee0_0d00);
        assert_eq!(machine.state(A).count(GP), expected, "bit {bit}");
    }
}

#[test]
fn cpuid_leaves_other_registers_alone_and_clears_upper_halves() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    machine.state(A).set_reg(Reg::Rbx, u64::MAX);
    machine.state(A).set_reg(Reg::Rsi, 0x1234_5678_9abc_def0);
    let rip = machine.state(A).rip;
    let answer = machine.cpuid(A, 0xffff_ffff, 0xffff_ffff);
    assert_eq!(answer, [0; 4]);
    assert_eq!(machine.state(A).reg(Reg::Rsi), 0x1234_5678_9abc_def0);
    assert_eq!(machine.state(A).rip, rip + 2);
}

#[test]
fn ports_read_by_their_width() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    for (size, expected) in [(1, 0x1234_5678_9abc_deff), (2, 0x1234_5678_9abc_ffff), (4, 0xffff_ffff)] {
        machine.state(A).set_reg(Reg::Rax, 0x1234_5678_9abc_def0);
        assert_eq!(machine.port_in(A, 0x5000, size), expected, "{size}");
    }
}

#[test]
fn the_acpi_port_ends_the_guest_and_the_reset_port_starts_it_over() {
    let mut machine = Machine::boot([Spec::full("pc").vcpus(2)]);
    machine.port_out(A, 0xcf9, 1, 6);
    assert_eq!(machine.guest(0).life.generation.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(machine.shared(A).life(), Life::Runnable);
    machine.port_out(A, 0x604, 2, 0x2000);
    assert!(!machine.cpu.step());
    assert!(machine.cpu.run_forever());
    let endings: Vec<_> = machine
        .records()
        .into_iter()
        .filter_map(|record| if let Record::Ended { ending, .. } = record { Some(ending) } else { None })
        .collect();
    assert_eq!(endings, [Ending::Reboot, Ending::Off]);
}

#[test]
fn a_typed_byte_interrupts_by_the_uart() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    machine.state(A).interrupts = true;
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0xef), (0x3f9, 1)] {
        machine.port_out(A, port, 1, value);
    }
    machine.run(A, [Step::Exit(Exit::Halt)]);
    machine.type_in(b"hi");
    machine.compute(A, 1);
    assert_eq!(machine.state(A).vectors(), [0x34]);
    assert_eq!(machine.port_in(A, 0x3f8, 1) & 0xff, u64::from(b'h'));
    assert_eq!(machine.port_in(A, 0x3f8, 1) & 0xff, u64::from(b'i'));
    assert_eq!(machine.port_in(A, 0x3fd, 1) & 1, 0, "no more data");
}

#[test]
fn each_byte_sent_makes_an_interrupt_for_who_does_not_read_iir() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xef), (0x3f9, 2)] {
        machine.port_out(A, port, 1, value);
    }
    let guest = machine.guest(0);
    for n in 0..3 {
        assert!(guest.pc.ports.lock().interrupt_pending(), "byte {n}");
        assert_eq!(guest.pc.ports.lock().acknowledge_interrupt(), 0x24);
        machine.port_out(A, 0x3f8, 1, u32::from(b'x'));
        machine.port_out(A, 0x20, 1, 0x20);
    }
}

#[test]
fn an_undefined_instruction_faults_and_a_cache_flush_does_not() {
    let mut machine = Machine::boot([Spec::full("pc")]);
    machine.exit(A, Exit::CacheFlush);
    assert_eq!(machine.state(A).seen.len(), 1, "it was started, and nothing else");
    let rip = machine.state(A).rip;
    machine.exit(A, Exit::Undefined);
    assert_eq!(machine.state(A).count(Seen::Exception(Exception::InvalidOpcode)), 1);
    assert_eq!(machine.state(A).rip, rip);
}

#[test]
fn steps_of_write_msr_take_the_value_from_two_registers() {
    let mut machine = pc(1);
    machine.write_msr(A, LVT_TIMER, 0x51 | 2 << 17);
    let far = 1 << 40;
    machine.run(A, write_msr_steps(TSC_DEADLINE, far));
    assert_eq!(machine.read_msr(A, TSC_DEADLINE), far);
}

/// Ticks that a guest takes in half a second beside busy neighbours, of 125 by the 8254 or by its local APIC.
fn ticks_beside(neighbours: usize, by: impl Fn(&mut Machine)) -> usize {
    let busy = std::iter::repeat_with(|| Spec::full("busy")).take(neighbours);
    let mut machine = Machine::boot(std::iter::once(Spec::full("pc")).chain(busy));
    apic_on(&mut machine, A);
    let handled = |machine: &mut Machine| machine.state(A).vectors().len();
    by(&mut machine);
    let begun = machine.world.now();
    let before = handled(&mut machine);
    let _ = machine.go_to(Tsc(begun.0 + 500 * MS));
    // The last of them may come after the guest's next turn.
    let last = machine.world.now();
    machine.compute(A, 3 * MS);
    let late = machine.world.now().since(last).0 / (4 * MS);
    let ticks = handled(&mut machine) - before;
    assert_eq!(machine.shared(A).tally.lost_ticks.get(), 0);
    ticks - usize::try_from(late).unwrap_or(0).min(ticks)
}

#[test]
fn a_guest_beside_busy_neighbours_has_each_tick_of_the_8254() {
    for neighbours in [0, 1, 4, 8] {
        let ticks = ticks_beside(neighbours, |machine| {
            // The 8259A's interrupts end by themselves.
            for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 3), (0x21, 0xfe)] {
                machine.port_out(A, port, 1, value);
            }
            for (port, value) in [(0x43, 0x34), (0x40, 0xa5), (0x40, 0x12)] {
                machine.port_out(A, port, 1, value); // 250 Hz
            }
        });
        assert!((123..=127).contains(&ticks), "{ticks} beside {neighbours}");
    }
}
