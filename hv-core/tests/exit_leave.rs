//! What a guest lends while others look, and what it leaves when it has ended.

mod common;

use common::{A, A1, A2, B, MS, US};
use hv_core::base::addr::GuestPhys;
use hv_core::base::hardware::GuestBlocks;
use hv_core::base::id::VcpuId;
use hv_core::base::time::Ticks;
use hv_core::device::virtio::ServeProgress;
use hv_core::exit::ballooning;
use hv_core::guest::seam::{Access, Exit};
use hv_core::image::manifest::{ChannelConfig, Devices};
use hv_core::policy::presence::{Attention, Life};
use hv_core::testkit::{Machine, Seen, Spec, Step};
use pv_abi::call::{Call, Code, MEMORY_BLOCK_BYTES, MemoryOp};
use pv_abi::protocol::dispatch::is_on_cpu;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

const BLOCK: u64 = MEMORY_BLOCK_BYTES;
const BALLOON: Devices = Devices { console: false, disk: None, network: None, entropy: false, balloon: true };

fn pass(machine: &mut Machine, ticks: u64) {
    let until = machine.world.now() + Ticks(ticks);
    let _ = machine.go_to(until);
}

/// Blocks that are free, for all or for the first guest.
fn free(machine: &Machine) -> usize {
    let reserved = machine.guest(0).memory.transit.lock().reserve.len();
    machine.cpu.core.system.pool.lock().len() + reserved
}

fn flushes(machine: &mut Machine, id: VcpuId) -> usize {
    machine.state(id).count(Seen::Flush)
}

/// Starts a vCPU of the first guest by INIT and a start-up IPI of its bootstrap processor, in x2APIC mode.
fn start(machine: &mut Machine, index: u64) {
    machine.write_msr(A, 0x1b, 0xfee0_0d00);
    machine.write_msr(A, 0x830, index << 32 | 0x4500);
    machine.write_msr(A, 0x830, index << 32 | 0x4601);
}

#[test]
fn a_block_that_joins_a_batch_after_the_flush_was_ordered_is_not_free_before_another_flush() {
    let lends = Spec::full("lends").vcpus(3).pin(&[0, 1, 2]).memory_mib(16, 16).devices(BALLOON);
    let mut machine = Machine::boot_on(3, [lends], &[]);
    machine.compute(A, MS);
    start(&mut machine, 1);
    start(&mut machine, 2);
    pass(&mut machine, MS);
    let guest = machine.guest(0);
    for id in [A, A1, A2] {
        assert!(is_on_cpu(machine.shared(id).dispatch_seq()), "{id:?} is on its CPU");
    }
    // vCPU 0 serves its balloon: `GuestDeviceHost::free_block` for the first block of a report.
    ballooning::report(guest, 3);
    // vCPU 1 touches that block meanwhile. The pool is empty, so the fault orders the flush of what is in quarantine.
    machine.script(
        A1,
        [Step::Exit(Exit::MemoryFault { at: GuestPhys::new_truncate(3 * BLOCK), access: Access::Read })],
    );
    while !machine.shared(A2).attention().intersects(Attention::FLUSH) {
        assert!(machine.others[0].step());
    }
    // vCPU 2 flushes, lets go, and runs on: it may use block 4, which is still the guest's, and cache where it lies.
    let before = flushes(&mut machine, A2);
    while machine.guest(0).memory.shootdown.remaining() > 1 {
        assert!(machine.others[1].step());
    }
    for _ in 0..4 {
        machine.others[1].step();
    }
    assert_eq!(flushes(&mut machine, A2), before + 1);
    assert!(guest.ram.has_block(4));
    // vCPU 0 goes on with its report: the second block; then it ends its step, and flushes before it enters guest mode.
    ballooning::report(guest, 4);
    let shared = machine.shared(A);
    assert_eq!(ballooning::shoot_down(guest, shared, &mut machine.cpu.core), ServeProgress::More);
    while machine.shared(A).attention().intersects(Attention::FLUSH) {
        assert!(machine.cpu.step());
    }
    // vCPU 2 has not flushed since block 4 was taken away: what it cached leads to a block that is anybody's now.
    let flushed_since = flushes(&mut machine, A2) - before - 1;
    assert!(
        free(&machine) < 2 || flushed_since > 0,
        "{} blocks are free, and vCPU 2 has flushed {flushed_since} times since the second one was taken away",
        free(&machine)
    );
}
/// A guest's balloon reports blocks, and its processors let go of them.
fn lend(machine: &mut Machine, id: VcpuId, blocks: core::ops::Range<u64>) {
    let (guest, shared) = (machine.guest(id.guest.0), machine.shared(id));
    for block in blocks {
        ballooning::report(guest, block);
        let done = ballooning::shoot_down(guest, shared, &mut machine.cpu.core);
        assert_eq!(done, ServeProgress::Done);
    }
    machine.compute(id, US);
}

/// Takes a block to the last byte.
fn take(machine: &mut Machine, id: VcpuId, block: u64) -> Result<(), Code> {
    loop {
        match machine.call(id, Call::MEMORY, &[MemoryOp::TAKE.0, block * BLOCK]) {
            (Code::OK, 0) => return Ok(()),
            (Code::OK, _) => {}
            (code, _) => return Err(code),
        }
    }
}

fn lender(name: &str) -> Spec {
    Spec::kvm(name).memory_mib(64, 64).devices(BALLOON)
}
#[test]
fn nothing_is_kept_for_a_lender_that_has_ended() {
    let taker = Spec::cooperative("taker").memory_mib(4, 200);
    let mut machine = Machine::boot([lender("ends"), taker]);
    machine.compute(A, US);
    machine.compute(B, US);
    lend(&mut machine, A, 10..26);
    machine.run(A, [Step::Exit(Exit::Shutdown)]);
    pass(&mut machine, MS);
    let free = free(&machine);
    assert_eq!(free, 32, "it has ended, and its memory is anybody's");
    let taken = (2..90).take_while(|block| take(&mut machine, B, *block).is_ok()).count();
    assert_eq!(taken, free, "the others are kept for nobody");
}

#[test]
fn a_guest_that_has_ended_enters_guest_mode_no_more_whatever_its_network_peers_send_meanwhile() {
    // The frame has to come within the last look at the work: a race, which is met once in some rounds.
    for round in 0..50 {
        assert_eq!(
            after_an_end_beside_frames(),
            (Life::Stopped, 0, 1),
            "round {round}: its life, its ticks in guest mode after its end, and how often it was killed"
        );
    }
}

fn after_an_end_beside_frames() -> (Life, u64, usize) {
    let card = Devices { network: Some(0), ..Devices::default() };
    let channels = [ChannelConfig { ends: [0, 1], pages: 64 }];
    let specs = [Spec::full("ends").devices(card), Spec::full("peer").devices(card)];
    let mut machine = Machine::boot_with_channels(specs, &channels);
    machine.compute(A, MS);
    machine.compute(B, MS);
    machine.script(A, [Step::Exit(Exit::Shutdown)]);
    while machine.guest(0).memory.populating.lock().is_none() {
        assert!(machine.step());
    }
    // It has ended, and clears what it shared. A peer on another processor sends it frames: what `virtio::look` does for each.
    let shared = machine.shared(A);
    let (sends, begins) = (&AtomicBool::new(true), &Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            begins.wait();
            while sends.load(SeqCst) {
                shared.request_attention(Attention::VIRTIO);
            }
        });
        begins.wait();
        while machine.guest(0).memory.populating.lock().is_some() {
            // The peer's processor is at it just now.
            shared.take_attention(Attention::VIRTIO);
            while !shared.attention().intersects(Attention::VIRTIO) {}
            machine.step();
        }
        sends.store(false, SeqCst);
    });
    let entered = shared.tally.guest_ticks.get();
    for _ in 0..5 {
        machine.script(A, [Step::Run(MS), Step::Exit(Exit::Shutdown)]);
        pass(&mut machine, 5 * MS);
    }
    let entered = shared.tally.guest_ticks.get() - entered;
    let obituaries = machine.world.console().matches("guest: killed name=ends").count();
    (shared.life(), entered, obituaries)
}
