//! MEMORY: blocks given back and taken, by whom they are still reached, and what a guest's end does about them.

mod common;

use common::{A, A1, A2, B, MS, US};
use hv_core::base::addr::GuestPhys;
use hv_core::base::hardware::{GuestBlocks, GuestBytes};
use hv_core::base::id::VcpuId;
use hv_core::base::time::Ticks;
use hv_core::device::virtio::ServeProgress;
use hv_core::exit::ballooning;
use hv_core::guest::seam::{Access, CpuRegisters, Direction, Exit, PortAccess, Reg};
use hv_core::image::manifest::Devices;
use hv_core::policy::presence::{Attention, Life};
use hv_core::testkit::{Machine, Seen, Spec, Step, at, call_steps};
use pv_abi::call::{Call, Code, Info, MEMORY_BLOCK_BYTES, MEMORY_MAX_BLOCKS, MemoryOp, Shutdown};
use std::ops::Range;

const GIVE: u64 = MemoryOp::GIVE.0;
const TAKE: u64 = MemoryOp::TAKE.0;
const BLOCK: u64 = MEMORY_BLOCK_BYTES;
/// A PC's reset by port.
const RESET: PortAccess = PortAccess { port: 0xcf9, size_bytes: 1, direction: Direction::Out };

fn spec(vcpus: u8) -> Spec {
    Spec::cooperative("one").vcpus(vcpus).memory_mib(8, 12)
}

fn pass(machine: &mut Machine, ticks: u64) {
    let until = machine.world.now() + Ticks(ticks);
    let _ = machine.go_to(until);
}

fn give(machine: &mut Machine, id: VcpuId, block: u64, count: u64) -> (Code, u64) {
    machine.call(id, Call::MEMORY, &[GIVE, block * BLOCK, count])
}

/// Takes a block to the last byte; how many calls that was.
fn take(machine: &mut Machine, id: VcpuId, block: u64) -> Result<u32, Code> {
    for calls in 1.. {
        match machine.call(id, Call::MEMORY, &[TAKE, block * BLOCK]) {
            (Code::OK, 0) => return Ok(calls),
            (Code::OK, _) => {}
            (code, _) => return Err(code),
        }
    }
    Err(Code::AGAIN)
}

fn pooled(machine: &Machine) -> usize {
    machine.cpu.core.system.pool.lock().len()
}

fn reserved(machine: &Machine, guest: u16) -> usize {
    machine.guest(guest).memory.transit.lock().reserve.len()
}

fn flushes(machine: &mut Machine, id: VcpuId) -> usize {
    machine.state(id).count(Seen::Flush)
}

/// A guest with a balloon.
fn lender(name: &str) -> Spec {
    Spec::kvm(name).memory_mib(64, 64).devices(Devices { balloon: true, ..Devices::default() })
}

/// A guest's balloon reports blocks, and its processors let go of them.
fn lend(machine: &mut Machine, id: VcpuId, blocks: Range<u64>) {
    let (guest, shared) = (machine.guest(id.guest.0), machine.shared(id));
    machine.compute(id, US);
    for block in blocks {
        ballooning::report(guest, block);
        let done = ballooning::shoot_down(guest, shared, &mut machine.cpu.core);
        assert_eq!(done, ServeProgress::Done);
    }
    machine.compute(id, US);
}

fn touch(machine: &mut Machine, id: VcpuId, block: u64) {
    let at = GuestPhys::new_truncate(block * BLOCK);
    machine.exit(id, Exit::MemoryFault { at, access: Access::Write });
}

/// A guest touches blocks that it has lent until they are there: by 32 exits each, since nobody else has them.
fn bring_back(machine: &mut Machine, id: VcpuId, blocks: Range<u64>) {
    for block in blocks {
        for _ in 0..32 {
            touch(machine, id, block);
        }
        assert!(machine.guest(id.guest.0).ram.has_block(block), "{id:?} block {block}");
    }
}

fn start(machine: &mut Machine, index: u8) {
    assert_eq!(machine.call(A, Call::VCPU_START, &[u64::from(index), 0x1000, 0x2000, 0]).0, Code::OK);
}

#[test]
fn a_block_that_was_given_back_is_a_hole_until_it_is_taken_and_comes_back_cleared() {
    let mut machine = Machine::boot([spec(1)]);
    let ram = &machine.guest(0).ram;
    let secret = GuestPhys::new(3 * BLOCK - 2).unwrap();
    ram.write(secret, &[7; 4]).unwrap();
    let before = flushes(&mut machine, A);
    assert_eq!(give(&mut machine, A, 2, 2), (Code::OK, 0));
    machine.compute(A, US);
    assert_eq!(flushes(&mut machine, A), before + 1, "two blocks, one flush");
    assert_eq!(pooled(&machine), 2);
    let mut bytes = [1; 4];
    assert!(ram.read(secret, &mut bytes).is_err() && ram.write(secret, &[9; 4]).is_err());
    assert_eq!(give(&mut machine, A, 1, 2), (Code::BAD_ADDRESS, 0), "half of it is not there");
    assert!(ram.has_block(1));
    // A block is cleared in parts: no call lasts longer than it takes for 64 KiB.
    assert_eq!(take(&mut machine, A, 3), Ok(32));
    assert_eq!(take(&mut machine, A, 2), Ok(32));
    assert_eq!((ram.read(secret, &mut bytes), bytes), (Ok(()), [0; 4]));
    assert_eq!(take(&mut machine, A, 2), Err(Code::BAD_ADDRESS), "it is there");
    assert_eq!(take(&mut machine, A, 4), Err(Code::AGAIN), "it may grow, but the machine has no more");
    assert_eq!(take(&mut machine, A, 6), Err(Code::BAD_ADDRESS), "it may not grow so far");
    assert_eq!(machine.call(A, Call::INFO, &[Info::MEMORY_BLOCKS.0]), (Code::OK, 6));
}

#[test]
fn what_one_guest_gives_back_another_takes_and_sees_nothing_of_it() {
    let mut machine = Machine::boot([spec(1), Spec::cooperative("two").memory_mib(4, 8)]);
    let (one, two) = (&machine.guest(0).ram, &machine.guest(1).ram);
    one.write(GuestPhys::new(3 * BLOCK).unwrap(), &[7; 64]).unwrap();
    assert_eq!(give(&mut machine, A, 3, 1), (Code::OK, 0));
    assert_eq!(take(&mut machine, B, 3), Ok(32));
    let mut bytes = [1; 64];
    two.read(GuestPhys::new(3 * BLOCK).unwrap(), &mut bytes).unwrap();
    assert_eq!(bytes, [0; 64]);
    assert_eq!(take(&mut machine, A, 3), Err(Code::AGAIN));
}

#[test]
fn only_who_is_on_cpu_is_told_and_nobody_gets_the_block_before_it_flushed() {
    let mut machine = Machine::boot_on(3, [spec(3), Spec::cooperative("two").memory_mib(4, 8)], &[]);
    start(&mut machine, 1);
    start(&mut machine, 2);
    machine.run(A2, call_steps(Call::BLOCK, &[u64::MAX]));
    pass(&mut machine, MS);
    assert_eq!(
        [A, A1, A2].map(|id| machine.shared(id).life()),
        [Life::Runnable, Life::Runnable, Life::Blocked]
    );
    let notifications =
        |machine: &Machine| [0, 1].map(|n: usize| machine.others[n].core.tally().notifications.get());
    let before = notifications(&machine);
    let flushed = [A1, A2].map(|id| flushes(&mut machine, id));
    machine.script(A, call_steps(Call::MEMORY, &[GIVE, 2 * BLOCK, 2]));
    // The processors take turns: the second vCPU is on its CPU, and sees nothing of this yet.
    while machine.guest(0).ram.has_block(2) {
        assert!(machine.cpu.step());
    }
    assert_eq!(pooled(&machine), 0, "the second vCPU may still use it");
    assert_eq!(machine.guest(0).memory.shootdown.remaining(), 1);
    pass(&mut machine, 100 * US);
    assert_eq!(pooled(&machine), 2);
    let after = notifications(&machine);
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1, 0], "one letter, to who runs");
    assert_eq!(flushes(&mut machine, A1), flushed[0] + 1);
    assert_eq!(flushes(&mut machine, A2), flushed[1], "it sleeps on");
    assert_eq!(machine.shared(A2).life(), Life::Blocked);
    assert_eq!(machine.call(A, Call::KICK, &[2]).0, Code::OK);
    machine.compute(A2, US);
    assert_eq!(flushes(&mut machine, A2), flushed[1] + 1, "it flushes before it runs");
}

#[test]
fn a_second_batch_waits_until_the_first_is_let_go_of() {
    let mut machine = Machine::boot_on(2, [spec(2)], &[]);
    start(&mut machine, 1);
    pass(&mut machine, MS);
    let again = [GIVE, 3 * BLOCK, 1];
    let first = call_steps(Call::MEMORY, &[GIVE, 2 * BLOCK, 1]);
    machine.script(A, first.into_iter().chain(call_steps(Call::MEMORY, &again)));
    while machine.guest(0).ram.has_block(2) {
        assert!(machine.cpu.step());
    }
    machine.finish(A);
    assert!(machine.guest(0).ram.has_block(3), "answered AGAIN");
    pass(&mut machine, 100 * US);
    assert_eq!(machine.call(A, Call::MEMORY, &[MemoryOp::QUERY.0]), (Code::OK, 0));
    assert_eq!(give(&mut machine, A, 3, 1).0, Code::OK);
}

#[test]
fn a_vcpu_that_is_stopped_instead_of_flushing_lets_go_too() {
    let mut machine = Machine::boot_on(2, [spec(2)], &[]);
    start(&mut machine, 1);
    pass(&mut machine, MS);
    let give = call_steps(Call::MEMORY, &[GIVE, 2 * BLOCK, 1]);
    machine.script(A, give.into_iter().chain(call_steps(Call::VCPU_STOP, &[1])));
    while machine.guest(0).ram.has_block(2) {
        assert!(machine.cpu.step());
    }
    machine.finish(A);
    pass(&mut machine, 100 * US);
    assert_eq!(machine.shared(A1).life(), Life::Stopped);
    assert_eq!(pooled(&machine), 1);
}

#[test]
fn unregistering_drops_no_order_to_flush_or_to_stop() {
    let mut machine = Machine::boot([spec(2)]);
    machine.register(A, 0);
    let shared = machine.shared(A);
    shared.request_attention(Attention::STOP | Attention::FLUSH | Attention::EVENT);
    shared.unregister();
    assert_eq!(shared.attention(), Attention::STOP | Attention::FLUSH);
}

#[test]
fn bad_arguments_are_refused_and_change_nothing() {
    let mut machine = Machine::boot([spec(1)]);
    for (arguments, code) in [
        ([3, 0, 1], Code::BAD_ARGUMENT),
        ([GIVE, 0, 0], Code::BAD_ARGUMENT),
        ([GIVE, 0, MEMORY_MAX_BLOCKS + 1], Code::BAD_ARGUMENT),
        ([GIVE, 4096, 1], Code::BAD_ADDRESS),
        ([GIVE, 0, 5], Code::BAD_ADDRESS),
        ([GIVE, 4 * BLOCK, 1], Code::BAD_ADDRESS),
        ([GIVE, !(BLOCK - 1), 64], Code::BAD_ADDRESS),
        ([TAKE, BLOCK + 8, 0], Code::BAD_ADDRESS),
        ([TAKE, !(BLOCK - 1), 0], Code::BAD_ADDRESS),
        ([TAKE, 0, 0], Code::BAD_ADDRESS),
    ] {
        assert_eq!(machine.call(A, Call::MEMORY, &arguments), (code, 0), "{arguments:x?}");
    }
    assert!((0..4).all(|n| machine.guest(0).ram.has_block(n)));
}

#[test]
fn a_restart_brings_the_memory_back_and_an_end_leaves_it_to_the_others() {
    let mut machine = Machine::boot([spec(1), Spec::cooperative("two").memory_mib(4, 12)]);
    assert_eq!(give(&mut machine, A, 2, 2), (Code::OK, 0));
    assert_eq!(take(&mut machine, A, 5), Ok(32));
    machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
    pass(&mut machine, MS);
    let has = |machine: &Machine, guest| [0, 1, 2, 3, 4, 5].map(|n| machine.guest(guest).ram.has_block(n));
    assert_eq!(has(&machine, 0), [true, true, true, true, false, false]);
    assert_eq!(pooled(&machine), 0);
    machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::OFF.0]));
    pass(&mut machine, MS);
    assert_eq!(pooled(&machine), 4);
    assert_eq!(take(&mut machine, B, 2), Ok(32));
}

#[test]
fn a_guest_whose_memory_others_have_is_not_started_again() {
    let mut machine = Machine::boot([spec(1), Spec::cooperative("two").memory_mib(4, 12)]);
    assert_eq!(give(&mut machine, A, 2, 2), (Code::OK, 0));
    assert_eq!(take(&mut machine, B, 2), Ok(32));
    machine.script(B, [Step::Run(100 * MS)]);
    machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
    pass(&mut machine, MS);
    assert!(
        machine.world.console().contains(
            "guest: not restarted name=one error=\"the memory that it gave back is not to be had\""
        )
    );
    assert_eq!(machine.shared(A).life(), Life::Stopped);
}

#[test]
fn what_a_balloon_reports_comes_back_cleared_in_parts_when_it_is_touched() {
    let lends = Spec::kvm("lends").memory_mib(8, 8).devices(Devices { balloon: true, ..Devices::default() });
    let takes = Spec::cooperative("takes").memory_mib(4, 40);
    let mut machine = Machine::boot([lends, takes]);
    let guest = machine.guest(0);
    let place = GuestPhys::new(3 * BLOCK + 77).unwrap();
    guest.ram.write(place, b"secret").unwrap();
    ballooning::report(guest, 3);
    assert_eq!(pooled(&machine), 0, "somebody may still reach it");
    let shared = machine.shared(A);
    assert_eq!(ballooning::shoot_down(guest, shared, &mut machine.cpu.core), ServeProgress::Done);
    assert_eq!((reserved(&machine, 0), guest.ram.has_block(3)), (1, false));
    assert_eq!(take(&mut machine, B, 2), Err(Code::AGAIN), "it is kept for who lent it");
    let mut touches = 0;
    while !guest.ram.has_block(3) {
        machine.exit(A, Exit::MemoryFault { at: place, access: Access::Read });
        touches += 1;
    }
    assert_eq!(touches, 32, "64 KiB each");
    let mut bytes = [1; 6];
    guest.ram.read(place, &mut bytes).unwrap();
    assert_eq!((bytes, reserved(&machine, 0), pooled(&machine)), ([0; 6], 0, 0));
    assert_eq!(machine.shared(A).life(), Life::Runnable);
    // What no balloon reported is not there, as ever.
    machine.exit(A, Exit::MemoryFault { at: GuestPhys::new(9 * BLOCK).unwrap(), access: Access::Read });
    assert_eq!(machine.shared(A).life(), Life::Stopped);
}

#[test]
fn who_touches_what_others_have_waits_and_goes_on_when_it_is_given_back() {
    let takes = Spec::cooperative("takes").memory_mib(4, 40);
    let mut machine = Machine::boot([lender("lends"), takes]);
    let guest = machine.guest(0);
    machine.cpu.core.system.pool.lock().clear();
    lend(&mut machine, A, 3..20);
    assert_eq!((reserved(&machine, 0), take(&mut machine, B, 2)), (16, Ok(32)));
    bring_back(&mut machine, A, 4..20);
    assert_eq!((pooled(&machine), reserved(&machine, 0)), (0, 0));
    for _ in 0..100 {
        touch(&mut machine, A, 3);
    }
    assert_eq!((machine.shared(A).life(), guest.ram.has_block(3)), (Life::Runnable, false));
    assert_eq!(give(&mut machine, B, 2, 1), (Code::OK, 0));
    machine.compute(B, US);
    bring_back(&mut machine, A, 3..4);
}

/// What a guest has lent beyond its reserve, and has not touched since, is anybody's.
#[test]
fn a_reserve_is_touched_last_and_filled_again() {
    let mut machine = Machine::boot([lender("lends")]);
    let lent = |machine: &Machine| (reserved(machine, 0), pooled(machine));
    lend(&mut machine, A, 3..23);
    assert_eq!(lent(&machine), (16, 4));
    bring_back(&mut machine, A, 3..7);
    assert_eq!(lent(&machine), (16, 0));
    bring_back(&mut machine, A, 7..8);
    assert_eq!(lent(&machine), (15, 0));
    lend(&mut machine, A, 3..8);
    assert_eq!(lent(&machine), (16, 4));
    bring_back(&mut machine, A, 3..23);
    assert_eq!(lent(&machine), (0, 0));
}

#[test]
fn what_is_kept_for_a_lender_is_not_another_lenders() {
    let taker = Spec::cooperative("taker").memory_mib(4, 100);
    let mut machine = Machine::boot([lender("hostile"), lender("victim"), taker]);
    lend(&mut machine, A, 10..30);
    lend(&mut machine, B, 10..14);
    assert_eq!([0, 1].map(|guest| reserved(&machine, guest)), [16, 4]);
    let taken = (2..40).take_while(|block| take(&mut machine, at(2, 0), *block).is_ok()).count();
    assert_eq!((taken, pooled(&machine)), (4, 0));
    for block in 10..30 {
        for _ in 0..32 {
            touch(&mut machine, A, block);
        }
    }
    bring_back(&mut machine, B, 10..14);
}

#[test]
fn what_is_kept_for_a_lender_is_not_what_another_guest_restarts_with() {
    let hostile = Spec::cooperative("hostile").memory_mib(24, 24);
    let taker = Spec::cooperative("taker").memory_mib(4, 100);
    let mut machine = Machine::boot([hostile, lender("victim"), taker]);
    lend(&mut machine, B, 10..14);
    // Given back for good, and taken by somebody else.
    assert_eq!(give(&mut machine, A, 6, 4), (Code::OK, 0));
    machine.compute(A, US);
    let taken = (2..40).take_while(|block| take(&mut machine, at(2, 0), *block).is_ok()).count();
    assert_eq!((taken, pooled(&machine)), (4, 0));
    machine.script(A, call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
    pass(&mut machine, 20 * MS);
    assert!(machine.world.console().contains("guest: not restarted name=hostile"));
    bring_back(&mut machine, B, 10..14);
}

#[test]
fn a_lender_that_restarts_waits_for_what_others_have_of_its_memory_and_begins_with_all_of_it() {
    let taker = Spec::cooperative("taker").memory_mib(4, 100);
    let mut machine = Machine::boot([lender("lends"), taker]);
    let guest = machine.guest(0);
    lend(&mut machine, A, 3..23);
    let taken = (2..40).take_while(|block| take(&mut machine, B, *block).is_ok()).count();
    assert_eq!(taken, 4);
    machine.world.clock_reads.set(US / 10); // the wait lasts
    machine.run(A, [Step::act(|vcpu| vcpu.set_reg(Reg::Rax, 6)), Step::Exit(Exit::Port(RESET))]);
    machine.compute(B, 100 * MS);
    let there = |machine: &Machine| (0..32).filter(|n| machine.guest(0).ram.has_block(*n)).count();
    assert_eq!(
        (there(&machine), guest.memory.populating.lock().is_some(), machine.shared(A).life()),
        (28, true, Life::Runnable)
    );
    assert_eq!(give(&mut machine, B, 2, 4), (Code::OK, 0));
    machine.compute(B, 100 * MS);
    assert_eq!((there(&machine), guest.memory.populating.lock().is_none()), (32, true));
    lend(&mut machine, A, 3..5);
    assert_eq!((reserved(&machine, 0), pooled(&machine)), (2, 0), "it owes nothing of its earlier life");
}
