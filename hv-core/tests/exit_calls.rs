//! Every call: what it does, what it answers, and that a refused one changes nothing.

mod common;

use common::{A, A1, B, MS, Picture};
use hv_core::guest::guest::{WINDOW_BASE, WINDOW_PAGES};
use hv_core::guest::seam::{CpuRegisters, Exception, Exit, Reg};
use hv_core::image::manifest::ChannelConfig;
use hv_core::policy::presence::Life;
use hv_core::testkit::{Machine, Seen, Spec, Step, call_steps};
use pv_abi::call::{Call, Code, ConsoleOp, EventOp, IPI_NMI, Info, Shutdown, Stat, VcpuState};
use pv_abi::cpuid::Features;
use pv_abi::demand::word;
use pv_abi::table::Table;
use pv_abi::{header, status};
use std::sync::Barrier;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

/// A cooperative guest of two vCPUs, the second not started, with a channel to a full guest that sleeps.
fn machine() -> Machine {
    let channel = ChannelConfig { ends: [0, 1], pages: 2 };
    let mut machine =
        Machine::boot_with_channels([Spec::cooperative("one").vcpus(2), Spec::full("two")], &[channel]);
    machine.exit(B, Exit::Halt);
    machine
}

/// Calls, and checks that the answer is `code` and that nothing but RAX, RDX and RIP changed.
fn refused(machine: &mut Machine, call: Call, arguments: &[u64], code: Code) {
    // The arguments are set and the CPU taken before the picture.
    let [set, exit] = call_steps(call, arguments);
    machine.run(A, [set, Step::Run(1)]);
    let before = Picture::of(machine);
    let rip = machine.state(A).rip;
    machine.run(A, [exit]);
    assert_eq!(Code(machine.state(A).reg(Reg::Rax)), code, "{call:?} {arguments:x?}");
    assert_eq!(machine.state(A).reg(Reg::Rdx), 0, "{call:?} {arguments:x?}");
    assert_eq!(machine.state(A).rip, rip + 3, "{call:?} {arguments:x?}");
    assert_eq!(Picture::of(machine), before, "{call:?} {arguments:x?}");
}

#[test]
fn an_unknown_call_is_refused_and_changes_nothing() {
    let mut machine = machine();
    let past = Call::ALL.last().unwrap().0.0 + 1;
    for number in [0, 1, past, Call::INFO.0 | 1 << 32, Call::MARK.0 << 1, u64::MAX] {
        refused(&mut machine, Call(number), &[1, 2, 3], Code::NO_SUCH_CALL);
    }
}

#[test]
fn every_refusal_names_its_reason_and_changes_nothing() {
    let mut machine = machine();
    machine.register(A, 0);
    let outside = WINDOW_BASE - 4096;
    let end = WINDOW_BASE + WINDOW_PAGES * 4096;
    let not_canonical = 1 << 47;
    for (call, arguments, code) in [
        (Call::INFO, &[11][..], Code::BAD_ARGUMENT),
        (Call::INFO, &[u64::MAX], Code::BAD_ARGUMENT),
        (Call::REGISTER, &[u64::from(pv_abi::VERSION.minor) + 1, 0], Code::BAD_ARGUMENT),
        (Call::REGISTER, &[0, 31], Code::BAD_ARGUMENT),
        (Call::REGISTER, &[0, 256], Code::BAD_ARGUMENT),
        (Call::REGISTER, &[0, u64::MAX], Code::BAD_ARGUMENT),
        (Call::MAP, &[Table::BOARD.0, WINDOW_BASE], Code::NOT_SUPPORTED),
        (Call::MAP, &[5, WINDOW_BASE], Code::NOT_THERE),
        (Call::MAP, &[Table::channel(1).0, WINDOW_BASE], Code::NOT_THERE),
        (Call::MAP, &[u64::MAX, WINDOW_BASE], Code::NOT_THERE),
        (Call::MAP, &[Table::DEMAND.0, WINDOW_BASE + 1], Code::BAD_ADDRESS),
        (Call::MAP, &[Table::DEMAND.0, WINDOW_BASE + 2048], Code::BAD_ADDRESS),
        (Call::MAP, &[Table::DEMAND.0, 0], Code::BAD_ADDRESS),
        (Call::MAP, &[Table::DEMAND.0, outside], Code::BAD_ADDRESS),
        (Call::MAP, &[Table::DEMAND.0, end - 4096], Code::BAD_ADDRESS),
        (Call::MAP, &[Table::DEMAND.0, end], Code::BAD_ADDRESS),
        (Call::MAP, &[Table::DEMAND.0, !4095], Code::BAD_ADDRESS),
        (Call::YIELD_TO, &[2, 0], Code::NO_SUCH_VCPU),
        (Call::YIELD_TO, &[u64::MAX, 0], Code::NO_SUCH_VCPU),
        (Call::YIELD_TO, &[0, 1], Code::STALE),
        (Call::YIELD_TO, &[1, 0], Code::STALE),
        (Call::KICK, &[2], Code::NO_SUCH_VCPU),
        (Call::KICK, &[1 << 32], Code::NO_SUCH_VCPU),
        (Call::EVENT, &[3, 0, 0], Code::BAD_ARGUMENT),
        (Call::EVENT, &[EventOp::RING.0, 1], Code::NOT_THERE),
        (Call::EVENT, &[EventOp::RING.0, 256], Code::NOT_THERE),
        (Call::EVENT, &[EventOp::QUERY.0, u64::MAX], Code::NOT_THERE),
        (Call::EVENT, &[EventOp::BIND.0, 1, 0], Code::NOT_THERE),
        (Call::EVENT, &[EventOp::BIND.0, 0, 2], Code::NO_SUCH_VCPU),
        (Call::EVENT, &[EventOp::BIND.0, 0, 64 << 8], Code::BAD_ARGUMENT),
        (Call::EVENT, &[EventOp::BIND.0, 0, 1 << 16], Code::BAD_ARGUMENT),
        (Call::EVENT, &[EventOp::RING.0, 0], Code::BAD_STATE),
        (Call::IPI, &[2, 32], Code::NO_SUCH_VCPU),
        (Call::IPI, &[0, 31], Code::BAD_ARGUMENT),
        (Call::IPI, &[0, IPI_NMI + 1], Code::BAD_ARGUMENT),
        (Call::IPI, &[2, IPI_NMI], Code::NO_SUCH_VCPU),
        (Call::MEMORY, &[3, 0, 1], Code::BAD_ARGUMENT),
        (Call::SHARE, &[0, 0], Code::NOT_SUPPORTED),
        (Call::STATS, &[5, 0], Code::BAD_ARGUMENT),
        (Call::STATS, &[Stat::RUN_NS.0, 2], Code::NO_SUCH_VCPU),
        (Call::CONSOLE, &[3, 0, 0], Code::BAD_ARGUMENT),
        (Call::CONSOLE, &[ConsoleOp::WRITE.0, 0, 257], Code::BAD_ARGUMENT),
        (Call::CONSOLE, &[ConsoleOp::WRITE.0, 0, u64::MAX], Code::BAD_ARGUMENT),
        (Call::CONSOLE, &[ConsoleOp::WRITE.0, 4 << 20, 1], Code::BAD_ADDRESS),
        (Call::CONSOLE, &[ConsoleOp::WRITE.0, (4 << 20) - 1, 2], Code::BAD_ADDRESS),
        (Call::CONSOLE, &[ConsoleOp::WRITE.0, u64::MAX, 2], Code::BAD_ADDRESS),
        (Call::CONSOLE, &[ConsoleOp::READ.0, 0, 257], Code::BAD_ARGUMENT),
        (Call::CONSOLE, &[ConsoleOp::READ.0, WINDOW_BASE, 0], Code::BAD_ADDRESS),
        (Call::VCPU_START, &[2, 0, 0, 0], Code::NO_SUCH_VCPU),
        (Call::VCPU_START, &[1, not_canonical, 0, 0], Code::BAD_ADDRESS),
        (Call::VCPU_START, &[1, 0, not_canonical, 0], Code::BAD_ADDRESS),
        (Call::VCPU_START, &[0, 0, 0, 0], Code::BAD_STATE),
        (Call::VCPU_STOP, &[64], Code::NO_SUCH_VCPU),
        (Call::VCPU_STATE, &[2], Code::NO_SUCH_VCPU),
        (Call::SHUTDOWN, &[3], Code::BAD_ARGUMENT),
        (Call::SHUTDOWN, &[u64::MAX], Code::BAD_ARGUMENT),
    ] {
        refused(&mut machine, call, arguments, code);
    }
}

#[test]
fn what_is_typed_is_not_lost_by_a_read_to_a_bad_address() {
    let mut machine = machine();
    machine.type_in(b"abc");
    machine.compute(A, 1);
    refused(&mut machine, Call::CONSOLE, &[ConsoleOp::READ.0, 4 << 20, 3], Code::BAD_ADDRESS);
    assert_eq!(machine.call(A, Call::CONSOLE, &[ConsoleOp::READ.0, 0x2000, 256]), (Code::OK, 3));
}

#[test]
fn a_call_from_user_mode_is_an_invalid_opcode() {
    let mut machine = machine();
    for (number, cpl) in [(Call::INFO, 3), (Call::SHUTDOWN, 3), (Call(0), 1)] {
        machine.state(A).cpl = cpl;
        let rip = machine.state(A).rip;
        let before = machine.state(A).count(Seen::Exception(Exception::InvalidOpcode));
        machine.run(A, call_steps(number, &[0]));
        let state = machine.state(A);
        assert_eq!(state.count(Seen::Exception(Exception::InvalidOpcode)), before + 1);
        assert_eq!((state.rip, state.reg(Reg::Rax)), (rip, number.0), "nothing else happened");
    }
    assert_eq!(machine.shared(A).life(), Life::Runnable);
}

#[test]
fn a_full_guest_has_no_call_instruction() {
    let mut machine = Machine::boot([Spec::full("one")]);
    for (call, _) in Call::ALL {
        let rip = machine.state(A).rip;
        machine.run(A, call_steps(*call, &[0, WINDOW_BASE]));
        let state = machine.state(A);
        assert_eq!((state.rip, state.reg(Reg::Rax)), (rip, call.0), "{call:?}");
    }
    let undefined = Seen::Exception(Exception::InvalidOpcode);
    assert_eq!(machine.state(A).count(undefined), Call::ALL.len());
    assert_eq!(machine.guest(0).ram.window().len(), 0);
}

#[test]
fn info_answers_each_item() {
    let mut machine = machine();
    let features = machine.guest(0).features();
    assert!(features.contains(Features::CHANNELS | Features::ARM_BY_STORE | Features::YIELD_PLEASE));
    for (item, value) in [
        (Info::VERSION, u64::from(pv_abi::VERSION.packed())),
        (Info::FEATURES, u64::from(features.bits())),
        (Info::WINDOW_BASE, WINDOW_BASE),
        (Info::WINDOW_PAGES, WINDOW_PAGES),
        (Info::TSC_KHZ, 1_000_000),
        (Info::VCPUS, 2),
        (Info::VCPU, 0),
        (Info::WALL_NS, machine.cpu.core.system.wall_ns),
        (Info::CHANNELS, 1),
        (Info::GENERATION, 0),
    ] {
        assert_eq!(machine.call(A, Call::INFO, &[item.0]), (Code::OK, value), "{item:?}");
    }
}

#[test]
fn map_places_whole_tables_and_each_page_once() {
    let mut machine = machine();
    let tables = machine.guest(0).tables;
    let at = |page: u64| WINDOW_BASE + page * 4096;
    assert_eq!(machine.call(A, Call::MAP, &[Table::DEMAND.0, at(0)]), (Code::OK, 0));
    assert_eq!(machine.call(A, Call::MAP, &[Table::STATUS.0, at(508)]), (Code::OK, 0));
    let window = machine.guest(0).ram.window();
    let expected = (0..2).map(|n| (n, (tables.demand.start.checked_add(n * 4096).unwrap(), true)));
    let status = (0..4).map(|n| (508 + n, (tables.status.start.checked_add(n * 4096).unwrap(), false)));
    assert_eq!(window, expected.chain(status).collect(), "the status table is read-only");
    for (table, page) in [(Table::DEMAND, 0), (Table::EVENT, 1), (Table::EVENT, 507), (Table::CONSOLE, 510)] {
        refused(&mut machine, Call::MAP, &[table.0, at(page)], Code::BAD_ADDRESS);
    }
    assert_eq!(machine.call(A, Call::MAP, &[Table::DEMAND.0, at(2)]), (Code::OK, 0), "at a second place");
    assert_eq!(machine.call(A, Call::MAP, &[Table::channel(0).0, at(4)]), (Code::OK, 0));
}

#[test]
fn tables_begin_with_a_header_and_are_zero_otherwise() {
    let machine = machine();
    let tables = machine.guest(0).tables;
    for (frames, pages) in [(tables.demand, 2), (tables.status, 4), (tables.event, 2)] {
        let words: Vec<_> = frames.words.iter().map(|word| word.load(SeqCst)).collect();
        assert_eq!(words[0] & 0xffff_ffff, u64::from(header::MAGIC));
        assert_eq!(words[1], (pages * 4096) | (2 << 32), "size and rows");
        assert_eq!(words[2], 64, "row size");
    }
    assert!(tables.demand.words[8..].iter().all(|word| word.load(SeqCst) == 0));
    assert!(tables.console.words.iter().all(|word| word.load(SeqCst) == 0));
}

#[test]
fn a_new_registration_gets_a_new_cookie() {
    let mut machine = machine();
    let first = machine.register(A, 0);
    let second = machine.register(A, 0);
    assert_ne!(first, 0);
    assert_ne!(second, 0);
    assert_ne!(first, second);
}

/// Whether a next_wake in A's row is looked at.
fn row_counts(machine: &mut Machine) -> bool {
    let ahead = machine.world.now().0 + 5 * MS;
    machine.set_demand(A, word::NEXT_WAKE, ahead);
    let (code, armed) = machine.call(A, Call::ARM, &[]);
    assert_eq!(code, Code::OK);
    assert!(armed == 0 || armed == ahead);
    armed == ahead
}

#[test]
fn a_row_counts_only_while_it_carries_the_cookie_of_its_registration() {
    let mut machine = machine();
    assert!(!row_counts(&mut machine), "not registered");
    let cookie = machine.register(A, 0);
    assert!(row_counts(&mut machine));
    machine.set_demand(A, word::STATE, u64::from(cookie ^ 1) << 48);
    assert!(!row_counts(&mut machine), "another cookie");
    machine.set_demand(A, word::STATE, 0);
    assert!(!row_counts(&mut machine), "no cookie");
    machine.set_demand(A, word::STATE, u64::from(cookie) << 48);
    assert!(row_counts(&mut machine));
    let _ = machine.call(A, Call::REGISTER, &[0, 0]);
    assert!(!row_counts(&mut machine), "the cookie of an earlier registration");
}

#[test]
fn unregister_cancels_the_timer_and_ignores_the_row() {
    let mut machine = machine();
    machine.register(A, 0);
    assert!(row_counts(&mut machine));
    assert_ne!(machine.status(A, status::word::ARMED_UNTIL), 0);
    assert_eq!(machine.call(A, Call::UNREGISTER, &[]), (Code::OK, 0));
    assert_eq!(machine.status(A, status::word::ARMED_UNTIL), 0);
    let slot = machine.shared(A).slot;
    assert_eq!(machine.cpu.core.timers.get(slot), hv_core::base::time::Tsc::NEVER);
    assert!(!row_counts(&mut machine));
    machine.compute(A, 20 * MS);
    assert_eq!(machine.shared(A).pending_events(), 0, "no timer event came");
}

#[test]
fn a_ring_reaches_the_event_that_the_peer_bound() {
    let channel = ChannelConfig { ends: [0, 1], pages: 3 };
    let mut machine = Machine::boot_with_channels(
        [Spec::cooperative("one"), Spec::cooperative("two").vcpus(2)],
        &[channel],
    );
    assert_eq!(machine.call(A, Call::EVENT, &[EventOp::QUERY.0, 0]), (Code::OK, 3));
    assert_eq!(machine.call(A, Call::EVENT, &[EventOp::RING.0, 0]), (Code::BAD_STATE, 0), "nobody bound it");
    assert_eq!(machine.call(B, Call::EVENT, &[EventOp::BIND.0, 0, 7 << 8]), (Code::OK, 0));
    assert_eq!(machine.call(A, Call::EVENT, &[EventOp::QUERY.0, 0]), (Code::OK, 3 | 1 << 16));
    machine.run(B, call_steps(Call::BLOCK, &[1 << 7]));
    assert_eq!(machine.shared(B).life(), Life::Blocked);
    assert_eq!(machine.call(A, Call::EVENT, &[EventOp::RING.0, 0]), (Code::OK, 0));
    assert_eq!(machine.shared(B).pending_events(), 1 << 7);
    assert_eq!(machine.shared(B).life(), Life::Runnable);
    assert_eq!(machine.shared(A).pending_events(), 0);
}

#[test]
fn a_ring_while_the_peer_hangs_up_leaves_nothing_for_its_next_life() {
    let channel = ChannelConfig { ends: [0, 1], pages: 1 };
    let specs = [Spec::cooperative("one"), Spec::cooperative("two")];
    let mut machine = Machine::boot_with_channels(specs, &[channel]);
    assert_eq!(machine.call(B, Call::EVENT, &[EventOp::BIND.0, 0, 7 << 8]), (Code::OK, 0));
    let (peer, hangs_up) = (machine.guest(1), &Barrier::new(2));
    let (devices, bound) = (&peer.pc.ports, &peer.channels[0].bound);
    let rung = thread::scope(|scope| {
        scope.spawn(|| {
            let _devices = devices.lock();
            hangs_up.wait();
            thread::sleep(Duration::from_millis(20));
            bound.store(0, SeqCst);
        });
        hangs_up.wait();
        machine.call(A, Call::EVENT, &[EventOp::RING.0, 0])
    });
    assert_eq!((rung, machine.shared(B).pending_events()), ((Code::BAD_STATE, 0), 0));
}

#[test]
fn a_ring_to_a_full_guest_is_an_interrupt_at_the_vector_it_chose() {
    let channel = ChannelConfig { ends: [0, 1], pages: 2 };
    let mut machine = Machine::boot_with_channels([Spec::cooperative("one"), Spec::full("two")], &[channel]);
    machine.state(B).interrupts = true;
    machine.port_out(B, 0xC10C, 4, 0x51);
    machine.run(B, [Step::Exit(Exit::Halt)]);
    assert_eq!(machine.shared(B).life(), Life::Blocked);
    assert_eq!(machine.call(A, Call::EVENT, &[EventOp::RING.0, 0]), (Code::OK, 0));
    machine.compute(B, 1);
    assert_eq!(machine.state(B).vectors(), [0x51]);
}

#[test]
fn stats_tell_of_now_and_not_of_the_last_switch() {
    let mut machine = machine();
    let (code, before) = machine.call(A, Call::STATS, &[Stat::RUN_NS.0, 0]);
    machine.compute(A, 3 * MS);
    let (_, after) = machine.call(A, Call::STATS, &[Stat::RUN_NS.0, 0]);
    assert_eq!((code, after - before), (Code::OK, 3 * MS));
    let exits = machine.call(A, Call::STATS, &[Stat::EXITS.0, 0]).1;
    let counted: u64 = machine.shared(A).tally.counters().exits.iter().sum();
    assert!(exits > 0 && counted - exits <= 2, "told {exits}, counted {counted}");
    assert_eq!(machine.call(A, Call::STATS, &[Stat::SWITCHES.0, 1]), (Code::OK, 0), "it never ran");
}

#[test]
fn vcpu_state_tells_stopped_runnable_and_blocked() {
    let mut machine = machine();
    let state = |machine: &mut Machine| VcpuState(machine.call(A, Call::VCPU_STATE, &[1]).1);
    assert_eq!(state(&mut machine), VcpuState::STOPPED);
    assert_eq!(machine.call(A, Call::VCPU_START, &[1, 0x1000, 0x2000, 7]), (Code::OK, 0));
    assert_eq!(state(&mut machine), VcpuState::RUNNABLE);
    machine.run(A1, call_steps(Call::BLOCK, &[0]));
    assert_eq!(state(&mut machine), VcpuState::BLOCKED);
    assert_eq!(machine.call(A, Call::VCPU_STOP, &[1]), (Code::OK, 0));
    assert_eq!(state(&mut machine), VcpuState::STOPPED);
}

#[test]
fn shutdown_off_ends_the_machine_well_and_crash_does_not() {
    for (kind, well) in [(Shutdown::OFF, true), (Shutdown::CRASH, false)] {
        let mut machine = Machine::boot([Spec::cooperative("one")]);
        machine.run(A, call_steps(Call::SHUTDOWN, &[kind.0]));
        assert!(!machine.cpu.step(), "{kind:?}: nothing is left to do");
        assert_eq!(machine.cpu.run_forever(), well, "{kind:?}");
        assert_eq!(machine.shared(A).life(), Life::Stopped);
    }
}
