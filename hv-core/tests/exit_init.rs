//! What INIT leaves of a processor: no logical id, and no part in what goes to the one of least priority.

mod common;

use common::{A, A1, A2};
use hv_core::base::addr::GuestPhys;
use hv_core::base::control::Control;
use hv_core::base::hardware::GuestBytes;
use hv_core::base::id::VcpuId;
use hv_core::guest::seam::{Access, CpuRegisters, Exit, Reg};
use hv_core::testkit::{Machine, Spec, at};
use std::sync::atomic::Ordering::SeqCst;

const APIC_BASE: u32 = 0x1b;
const ICR: u32 = 0x830;
const CODE: u64 = 0x20_0000;

/// mov [rdi], eax in 64-bit code, without paging.
fn store(machine: &mut Machine, id: VcpuId, at: u64, value: u32) {
    assert_eq!(machine.guest(0).ram.write(GuestPhys::new_truncate(CODE), &[0x89, 0x07]), Ok(()));
    let state = machine.state(id);
    state.control = Control { efer: 0x500, segments: [(0x10, 0xa9b), (0x18, 0xc93)], ..Control::default() };
    state.rip = CODE;
    state.set_reg(Reg::Rax, u64::from(value));
    machine.exit(id, Exit::MemoryFault { at: GuestPhys::new_truncate(at), access: Access::Write });
}

/// Three processors in the old mode; the second and the third have the logical ids 2 and 4.
fn in_the_old_mode() -> Machine {
    let mut machine = Machine::boot([Spec::full("pc").vcpus(3)]);
    for index in 1..3_u8 {
        store(&mut machine, A, 0xfee0_0310, u32::from(index) << 24);
        store(&mut machine, A, 0xfee0_0300, 0x4500);
        store(&mut machine, A, 0xfee0_0300, 0x0608);
        machine.compute(at(0, index), 1);
        store(&mut machine, at(0, index), 0xfee0_00f0, 0x1ff);
        store(&mut machine, at(0, index), 0xfee0_00d0, 1 << (24 + index));
    }
    machine
}

fn is_posted(machine: &Machine, id: VcpuId, vector: u8) -> bool {
    machine.shared(id).posted.has(vector)
}

#[test]
fn a_device_does_not_interrupt_by_a_logical_id_that_init_has_cleared() {
    let mut machine = in_the_old_mode();
    store(&mut machine, A, 0xfee0_0310, 1 << 24);
    store(&mut machine, A, 0xfee0_0300, 0x4500);
    assert_eq!([A1, A2].map(|id| machine.shared(id).flat_id.load(SeqCst)), [0, 4]);
    // Input 4: vector 0x41, lowest priority, to the logical ids 2 and 4.
    for (index, value) in [(0x19, 6 << 24), (0x18, 0x0941)] {
        store(&mut machine, A, 0xfec0_0000, index);
        store(&mut machine, A, 0xfec0_0010, value);
    }
    machine.port_out(A, 0x3f9, 1, 2);
    let is_taken = machine.vcpu(A2).lapic.highest_pending() == Some(0x41);
    assert!(is_posted(&machine, A2, 0x41) || is_taken);
    assert!(!is_posted(&machine, A1, 0x41));
}

#[test]
fn a_processor_that_init_has_stopped_is_not_the_one_of_lowest_priority() {
    let mut machine = Machine::boot([Spec::full("pc").vcpus(3)]);
    machine.write_msr(A, APIC_BASE, 0xfee0_0000 | 1 << 11 | 1 << 10 | 1 << 8);
    for icr in [1 << 32 | 0x4500, 1 << 32 | 0x0608, 2 << 32 | 0x4500, 2 << 32 | 0x0608, 1 << 32 | 0x4500] {
        machine.write_msr(A, ICR, icr);
    }
    machine.write_msr(A2, APIC_BASE, 0xfee0_0c00);
    machine.write_msr(A2, 0x80f, 0x1ff);
    machine.write_msr(A, ICR, 0b110 << 32 | 1 << 11 | 0x4141);
    let is_taken = machine.vcpu(A2).lapic.highest_pending() == Some(0x41);
    assert!(is_posted(&machine, A2, 0x41) || is_taken);
    assert!(!is_posted(&machine, A1, 0x41));
}

#[test]
fn the_logical_id_of_the_flat_model_follows_the_mode() {
    let mut machine = in_the_old_mode();
    let id = |machine: &Machine| machine.shared(A1).flat_id.load(SeqCst);
    assert_eq!(id(&machine), 2);
    store(&mut machine, A1, 0xfee0_00d0, 0x80 << 24);
    assert_eq!(id(&machine), 0x80);
    for (mode, expected) in [(0xc00, 2), (0, 0), (0x800, 0)] {
        machine.write_msr(A1, APIC_BASE, 0xfee0_0000 | mode);
        assert_eq!(id(&machine), expected, "{mode:#x}");
    }
}
