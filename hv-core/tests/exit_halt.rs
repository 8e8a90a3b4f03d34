//! STI; HLT where the processor forgets the shadow between the two, and a host interrupt falls there: the HLT is done for the guest.

mod common;

use common::{A, A1, B, MS};
use hv_core::base::addr::GuestPhys;
use hv_core::base::control::Control;
use hv_core::base::hardware::GuestBytes;
use hv_core::base::id::VcpuId;
use hv_core::guest::seam::Exit;
use hv_core::guest::vcpu::Rest;
use hv_core::testkit::{Machine, ScriptedVcpu, Spec, Step};
use std::rc::Rc;

const CODE: u64 = 0x20_0000;
const HLT: u8 = 0xf4;

fn put(machine: &Machine, at: u64, byte: u8) {
    assert_eq!(machine.guest(0).ram.write(GuestPhys::new_truncate(at), &[byte]), Ok(()));
}

/// A guest at `rip`, behind STI.
fn behind_sti(machine: &mut Machine, id: VcpuId, rip: u64) {
    let state = machine.state(id);
    (state.rip, state.interrupts, state.shadow) = (rip, true, true);
}

fn in_long_mode() -> Machine {
    let mut machine = Machine::boot([Spec::full("pc")]);
    put(&machine, CODE, HLT);
    machine.state(A).control =
        Control { efer: 0x500, segments: [(0x10, 0xa9b), (0x18, 0xc93)], ..Control::default() };
    // 64-bit code has no base, whatever CS holds.
    machine.state(A).code_base = 0x1234_0000;
    behind_sti(&mut machine, A, CODE);
    machine
}

/// A second processor in real mode at 9A00:0010.
fn in_real_mode() -> Machine {
    let mut machine = Machine::boot([Spec::full("pc").vcpus(2)]);
    machine.write_msr(A, 0x1b, 0xfee0_0000 | 1 << 11 | 1 << 10 | 1 << 8);
    machine.write_msr(A, 0x830, 1 << 32 | 0x4500);
    machine.write_msr(A, 0x830, 1 << 32 | 0x069a);
    machine.compute(A1, 1);
    behind_sti(&mut machine, A1, 0x10);
    machine
}

#[test]
fn a_kernels_hlt_is_done_and_stepped_over() {
    let mut machine = in_long_mode();
    machine.script(A, [Step::Exit(Exit::HostInterrupt)]);
    machine.step();
    assert_eq!((machine.state(A).rip, machine.vcpu(A).rest), (CODE + 1, Rest::Halted));
}

#[test]
fn a_program_with_iopl_3_does_not_halt_its_processor() {
    let mut machine = in_long_mode();
    machine.state(A).cpl = 3;
    machine.script(A, [Step::Exit(Exit::HostInterrupt), Step::Run(MS)]);
    machine.step();
    assert_eq!((machine.state(A).rip, machine.vcpu(A).rest), (CODE, Rest::Awake));
}

#[test]
fn a_hlt_in_real_mode_is_found_where_its_segment_begins() {
    let mut machine = in_real_mode();
    put(&machine, 0x9_a010, HLT);
    machine.script(A1, [Step::Exit(Exit::HostInterrupt)]);
    machine.step();
    assert_eq!((machine.state(A1).rip, machine.vcpu(A1).rest), (0x11, Rest::Halted));
}

#[test]
fn a_byte_of_the_vector_table_that_looks_like_hlt_is_no_instruction() {
    let mut machine = in_real_mode();
    put(&machine, 0x9_a010, 0xe8); // a call
    put(&machine, 0x10, HLT);
    machine.script(A1, [Step::Exit(Exit::HostInterrupt), Step::Run(MS)]);
    machine.step();
    assert_eq!((machine.state(A1).rip, machine.vcpu(A1).rest), (0x10, Rest::Awake));
}

#[test]
fn a_hlt_that_ends_at_once_keeps_the_cpu_for_no_longer_than_its_slice() {
    let kicked: fn(&mut Machine) = |machine| machine.vcpu(A).kvm.latch_kick();
    let stepping: fn(&mut Machine) = |machine| machine.state(A).single_step = true;
    for end_at_once in [kicked, stepping] {
        let mut machine = Machine::boot([Spec::kvm("one"), Spec::full("two")]);
        put(&machine, CODE, HLT);
        end_at_once(&mut machine);
        let world = Rc::clone(&machine.world);
        let sti = move |vcpu: &mut ScriptedVcpu| {
            (vcpu.rip, vcpu.interrupts, vcpu.shadow) = (CODE, true, true);
            world.advance(10 * MS); // its slice ends behind STI
        };
        machine.script(A, [Step::act(sti), Step::Run(1_000 * MS)]);
        let before = machine.world.now();
        machine.compute(B, 100 * MS);
        let took = machine.world.now().since(before).0;
        assert!(took <= 210 * MS, "{took}");
    }
}
