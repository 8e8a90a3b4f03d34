//! A full guest's virtio devices on their way between its driver, its processors and the memory that its balloon has lent.

#![expect(clippy::unwrap_used, reason = "memory that is not there fails the test")]

mod common;

use common::{A, A1, B, MS};
use hv_core::base::addr::GuestPhys;
use hv_core::base::addr::low;
use hv_core::base::control::Control;
use hv_core::base::hardware::{GuestBlocks, GuestBytes};
use hv_core::base::id::VcpuId;
use hv_core::base::time::Ticks;
use hv_core::device::virtio::ServeProgress;
use hv_core::exit::ballooning;
use hv_core::guest::seam::{Access, CpuRegisters, Exit, Reg};
use hv_core::image::manifest::Devices;
use hv_core::policy::presence::Attention;
use hv_core::testkit::{Machine, Seen, Spec, Step, call_steps};
use pv_abi::call::{Call, Code, MEMORY_BLOCK_BYTES, MemoryOp};

const BLOCK: u64 = MEMORY_BLOCK_BYTES;
/// Where the first device's registers are, and the I/O APIC's.
const DEVICE: u64 = 0xd000_0000;
const IO_APIC: u64 = 0xfec0_0000;
/// Registers (VIRTIO 1.2 §4.2.2).
const QUEUE_NOTIFY: u64 = 0x50;
const STATUS: u64 = 0x70;
const NEEDS_RESET: u64 = 1 << 6;
/// Where a driver has its rings.
const DESCRIPTORS: u64 = 2 * BLOCK;
const AVAILABLE: u64 = DESCRIPTORS + 0x1000;
const USED: u64 = DESCRIPTORS + 0x2000;
/// Descriptors of a queue.
const SIZE: u32 = 16;
/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const CODE: u64 = 0x20_0000;
const BALLOON: Devices = Devices { balloon: true, ..NONE };
const NONE: Devices = Devices { console: false, disk: None, network: None, entropy: false, balloon: false };
const ENTROPY: Devices = Devices { entropy: true, ..BALLOON };
/// The queue of the balloon's reports, and VIRTIO_BALLOON_F_REPORTING.
const REPORTS: u32 = 2;
const REPORTING: u32 = 1 << 5;

fn place(at: u64) -> GuestPhys {
    GuestPhys::new_truncate(at)
}

/// 64-bit code without paging.
fn long_mode(machine: &mut Machine, id: VcpuId) {
    machine.state(id).control =
        Control { efer: 0x500, segments: [(0x10, 0xa9b), (0x18, 0xc93)], ..Control::default() };
}

/// A machine of two processors, each with a vCPU of the guest that lends; the second guest takes.
fn machine(devices: Devices, vcpus: u8) -> Machine {
    let pin: &[u8] = if vcpus == 1 { &[0] } else { &[0, 1] };
    let lends = Spec::full("lends").vcpus(vcpus).pin(pin).memory_mib(80, 80).devices(devices);
    let takes = Spec::cooperative("takes").memory_mib(4, 40).pin(&[1]);
    let mut machine = Machine::boot_on(2, [lends, takes], &[]);
    machine.compute(A, MS);
    long_mode(&mut machine, A);
    machine
}

/// Steps of a store of 32 bits.
fn store_steps(at: u64, value: u32) -> [Step; 2] {
    let set = Step::act(move |vcpu| {
        vcpu.set_reg(Reg::Rax, u64::from(value));
        vcpu.rip = CODE;
    });
    [set, Step::Exit(Exit::MemoryFault { at: place(at), access: Access::Write })]
}

fn store(machine: &mut Machine, at: u64, value: u32) {
    machine.guest(0).ram.write(place(CODE), &[0x89, 0x07]).unwrap(); // mov [rdi], eax
    machine.run(A, store_steps(at, value));
}

/// Starts the first device with one queue.
fn start(machine: &mut Machine, features: u32, queue: u32) {
    for (register, value) in [
        (STATUS, 0),
        (STATUS, 1),
        (STATUS, 3),
        (0x24, 0),
        (0x20, features),
        (0x24, 1),
        (0x20, 1), // VIRTIO_F_VERSION_1
        (STATUS, 0xb),
        (0x30, queue),
        (0x38, SIZE),
        (0x80, low(DESCRIPTORS)),
        (0x90, low(AVAILABLE)),
        (0xa0, low(USED)),
        (0x44, 1),
        (STATUS, 0xf),
    ] {
        store(machine, DEVICE + register, value);
    }
}

/// Offers the queue's first chain: buffers for the device to write.
fn offer(machine: &Machine, buffers: &[(u64, u32)]) {
    let ram = &machine.guest(0).ram;
    for ((at, len_bytes), n) in buffers.iter().zip(0_u16..) {
        let is_last = usize::from(n) + 1 == buffers.len();
        let mut bytes = at.to_le_bytes().to_vec();
        bytes.extend(len_bytes.to_le_bytes());
        bytes.extend((if is_last { WRITE } else { WRITE | NEXT }).to_le_bytes());
        bytes.extend((n + 1).to_le_bytes());
        ram.write(place(DESCRIPTORS + 16 * u64::from(n)), &bytes).unwrap();
    }
    ram.write(place(AVAILABLE), &[0, 0, 1, 0, 0, 0]).unwrap();
}

/// Chains that were answered.
fn answered(machine: &Machine) -> u16 {
    let mut index = [0; 2];
    machine.guest(0).ram.read(place(USED + 2), &mut index).unwrap();
    u16::from_le_bytes(index)
}

fn flushes(machine: &mut Machine, id: VcpuId) -> usize {
    machine.state(id).count(Seen::Flush)
}

fn pass(machine: &mut Machine, ticks: u64) {
    let until = machine.world.now() + Ticks(ticks);
    let _ = machine.go_to(until);
}

#[test]
fn who_reports_a_block_flushes_before_guest_mode() {
    let mut machine = machine(BALLOON, 1);
    start(&mut machine, REPORTING, REPORTS);
    offer(&machine, &[(25 * BLOCK, low(BLOCK))]);
    let (before, entries) = (flushes(&mut machine, A), machine.world.entries());
    store(&mut machine, DEVICE + QUEUE_NOTIFY, REPORTS);
    assert!(!machine.guest(0).ram.has_block(25));
    assert_eq!((answered(&machine), machine.guest(0).memory.transit.lock().reserve.len()), (1, 1));
    assert!(machine.world.entries() - entries >= 2, "it went on");
    assert_eq!(flushes(&mut machine, A) - before, 1);
    assert!(machine.shared(A).attention().is_empty());
}

#[test]
fn nobody_has_a_block_that_its_reporter_still_has_a_translation_of() {
    let mut machine = machine(BALLOON, 1);
    let (guest, shared) = (machine.guest(0), machine.shared(A));
    // The blocks that are kept for lenders were reported before.
    for n in 5..22 {
        ballooning::report(guest, n);
    }
    assert_eq!(ballooning::shoot_down(guest, shared, &mut machine.cpu.core), ServeProgress::Done);
    start(&mut machine, REPORTING, REPORTS);
    offer(&machine, &[(25 * BLOCK, low(BLOCK))]);
    let before = flushes(&mut machine, A);
    store(&mut machine, DEVICE + QUEUE_NOTIFY, REPORTS);
    assert!(!guest.ram.has_block(25));
    // The reporter stays in guest mode, and nothing exits; the other processor goes on.
    while !machine.guest(1).ram.has_block(2) {
        machine.script(B, call_steps(Call::MEMORY, &[MemoryOp::TAKE.0, 2 * BLOCK]));
        while !machine.state(B).script.is_empty() {
            machine.others[0].step();
        }
        assert_eq!(Code(machine.state(B).reg(Reg::Rax)), Code::OK);
    }
    assert_eq!(flushes(&mut machine, A) - before, 1);
}

#[test]
fn an_nmi_of_a_device_comes_before_the_next_instruction_of_who_served_it() {
    let mut machine = machine(Devices { entropy: true, ..NONE }, 1);
    // Input 16: NMI, edge.
    store(&mut machine, IO_APIC, 0x10 + 2 * 16);
    store(&mut machine, IO_APIC + 0x10, 0x400);
    start(&mut machine, 0, 0);
    offer(&machine, &[(DESCRIPTORS + 0x3000, 8)]);
    store(&mut machine, DEVICE + QUEUE_NOTIFY, 0);
    assert_eq!(answered(&machine), 1);
    assert_eq!(machine.state(A).count(Seen::Nmi), 1);
}

#[test]
fn a_vcpu_that_has_device_work_flushes_for_the_others_meanwhile() {
    let mut machine = machine(BALLOON, 2);
    let guest = machine.guest(0);
    start(&mut machine, REPORTING, REPORTS);
    offer(&machine, &[(25 * BLOCK, low(BLOCK))]);
    machine.write_msr(A, 0x1b, 0xfee0_0d00); // x2APIC
    for icr in [0x1_0000_c500, 0x1_0000_8500, 0x1_0000_0610] {
        machine.write_msr(A, 0x830, icr);
    }
    machine.compute(A1, 1);
    long_mode(&mut machine, A1);
    // The second vCPU is on CPU, and about to be asked to flush and to do device work at once.
    let second = machine.shared(A1);
    machine.script(A1, [Step::Run(50 * MS)]);
    while !pv_abi::protocol::dispatch::is_on_cpu(second.dispatch_seq()) {
        machine.step();
    }
    second.request_attention(Attention::VIRTIO);
    let before = flushes(&mut machine, A1);
    store(&mut machine, DEVICE + QUEUE_NOTIFY, REPORTS);
    second.request_attention(Attention::VIRTIO);
    pass(&mut machine, 20 * MS);
    assert!(!guest.ram.has_block(25));
    assert_eq!(flushes(&mut machine, A1) - before, 1);
    assert_eq!(answered(&machine), 1);
}

/// A source of random bytes whose driver offers one chain: a byte in each of `lent`, all of which its balloon has reported. So many
/// blocks are left of them.
fn offers_lent_memory(lent: std::ops::Range<u64>, left: usize) -> Machine {
    let mut machine = machine(ENTROPY, 1);
    let (guest, shared) = (machine.guest(0), machine.shared(A));
    start(&mut machine, 0, 0);
    for n in lent.clone() {
        ballooning::report(guest, n);
    }
    assert_eq!(ballooning::shoot_down(guest, shared, &mut machine.cpu.core), ServeProgress::Done);
    guest.memory.transit.lock().reserve.truncate(left);
    let buffers: Vec<_> = lent.map(|n| (n * BLOCK, 1)).collect();
    offer(&machine, &buffers);
    store(&mut machine, DEVICE + QUEUE_NOTIFY, 0);
    machine
}

fn is_broken(machine: &Machine) -> bool {
    machine.guest(0).pc.virtio.lock().read(0, STATUS, 4) & NEEDS_RESET != 0
}

#[test]
fn a_device_waits_for_lent_memory_that_others_have() {
    let mut machine = offers_lent_memory(5..8, 2);
    for _ in 0..1000 {
        machine.step();
    }
    let there = |machine: &Machine| (5..8).filter(|n| machine.guest(0).ram.has_block(*n)).count();
    assert_eq!((there(&machine), is_broken(&machine), answered(&machine)), (2, false, 0));
    machine.cpu.core.system.pool.lock().push(Default::default());
    for _ in 0..1000 {
        machine.step();
    }
    assert_eq!((there(&machine), is_broken(&machine), answered(&machine)), (3, false, 1));
    assert!(machine.guest(0).pc.virtio.lock().read(0, 0x60, 4) == 1, "it interrupts");
}

#[test]
fn a_step_of_a_device_clears_no_more_lent_memory_than_it_may_move() {
    let mut machine = offers_lent_memory(5..20, 15);
    let there = |machine: &Machine| (5..20).filter(|n| machine.guest(0).ram.has_block(*n)).count();
    let (mut steps, mut before) = (0, there(&machine));
    assert_eq!(before, 0);
    while answered(&machine) == 0 {
        machine.cpu.step();
        steps += 1;
        assert!(there(&machine) <= before + 1 && steps < 1000, "step {steps}");
        before = there(&machine);
    }
    assert!(steps >= 15 * 32 - 1, "64 KiB each, not 2 MiB in {steps}");
    assert!(!is_broken(&machine));
}

#[test]
fn what_was_typed_and_told_in_an_earlier_life_is_not_in_the_next() {
    let devices = Devices { console: true, balloon: true, ..NONE };
    let mut machine = Machine::boot([Spec::full("pc").devices(devices)]);
    let set_up = |machine: &mut Machine| {
        long_mode(machine, A);
        for (register, value) in [(STATUS, 1), (STATUS, 3), (0x24, 1), (0x20, 1), (STATUS, 11), (STATUS, 15)]
        {
            store(machine, DEVICE + register, value);
        }
    };
    set_up(&mut machine);
    store(&mut machine, DEVICE + 0x1000 + 0x104, 77); // pages in the balloon
    machine.type_in(&[b'x'; 256]);
    machine.run(A, [Step::Run(MS), Step::Exit(Exit::HostInterrupt), Step::Run(MS)]);
    let guest = machine.guest(0);
    assert_eq!(guest.pc.virtio.lock().takes_input(), Some(false), "it is full");
    assert_eq!(guest.pc.virtio.lock().read(1, 0x104, 4), 77);
    machine.port_out(A, 0xcf9, 1, 6);
    machine.compute(A, MS);
    set_up(&mut machine);
    assert_eq!(guest.pc.virtio.lock().takes_input(), Some(true));
    assert_eq!(guest.pc.virtio.lock().read(1, 0x104, 4), 0);
}
