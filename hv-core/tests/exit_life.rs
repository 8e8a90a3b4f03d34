//! Lives of vCPUs and guests: started, stopped, ended, killed, started over.

mod common;

use common::{A, A1, B, MS};
use hv_core::base::addr::GuestPhys;
use hv_core::base::control::{Control, Start};
use hv_core::base::error::KillReason;
use hv_core::base::hardware::{GuestBlocks, GuestBytes};
use hv_core::base::time::Tsc;
use hv_core::guest::guest::WINDOW_BASE;
use hv_core::guest::seam::{Access, CpuRegisters, Direction, Exit, PortAccess};
use hv_core::image::manifest::ChannelConfig;
use hv_core::policy::presence::{Attention, Life};
use hv_core::policy::trace::{Ending, ExitClass, Record};
use hv_core::policy::vcpu_shared::NO_COOKIE;
use hv_core::testkit::{Machine, Seen, Spec, Step, call_steps};
use pv_abi::call::{Call, Code, EventOp, IPI_NMI, Info, Shutdown};
use pv_abi::demand::word;
use pv_abi::protocol::dispatch::is_on_cpu;
use pv_abi::status;
use pv_abi::table::Table;
use std::sync::atomic::Ordering::SeqCst;

fn endings(machine: &mut Machine) -> Vec<(u16, Ending)> {
    let records = machine.records().into_iter();
    let ended = records.filter_map(|record| match record {
        Record::Ended { guest, ending, .. } => Some((guest.0, ending)),
        Record::Boot { .. } | Record::Clock { .. } | Record::Mark { .. } | Record::Lost { .. } => None,
    });
    ended.collect()
}

#[test]
fn vcpu_start_copies_the_callers_control_state() {
    let mut machine = Machine::boot([Spec::cooperative("one").vcpus(2)]);
    let control = Control {
        cr: [0x8000_0011, 0x5000, 0x20],
        efer: 0xd00,
        pat: 0x0007_0406_0007_0406,
        tables: [(0x1000, 0x3f), (0x2000, 0xfff)],
        segments: [(8, 0xa9b), (16, 0xc93)],
        pdptes: [1, 2, 3, 4],
    };
    machine.state(A).control = control;
    let (entry, stack, argument) = (0xffff_ffff_8010_0000, 0x7fff_ffff_f000, u64::MAX);
    assert_eq!(machine.call(A, Call::VCPU_START, &[1, entry, stack, argument]), (Code::OK, 0));
    machine.compute(A1, 1);
    let start = Start::Copy { control, entry, stack, arguments: [argument, 0] };
    assert_eq!(machine.state(A1).seen, [(Tsc(0), Seen::Start(start))]);
    assert_eq!(machine.call(A, Call::VCPU_START, &[1, 0, 0, 0]), (Code::BAD_STATE, 0), "it runs");
    assert_eq!(machine.state(A1).seen.len(), 1);
}

#[test]
fn a_stopped_vcpu_is_forgotten_and_starts_afresh() {
    let mut machine = Machine::boot([Spec::cooperative("one").vcpus(2)]);
    let _ = machine.call(A, Call::VCPU_START, &[1, 0, 0, 0]);
    machine.register(A1, 0x40);
    machine.set_demand(A1, word::NEXT_WAKE, machine.world.now().0 + MS);
    let _ = machine.call(A1, Call::ARM, &[]);
    machine.set_events(A1, 7);
    let seq = machine.shared(A1).dispatch_seq();
    assert_eq!(machine.call(A, Call::VCPU_STOP, &[1]), (Code::OK, 0));
    let shared = machine.shared(A1);
    assert_eq!((shared.life(), shared.cookie(), shared.pending_events()), (Life::Stopped, NO_COOKIE, 0));
    assert!(shared.demand.iter().all(|word| word.load(SeqCst) == 0));
    assert_eq!(machine.status(A1, status::word::ARMED_UNTIL), 0);
    assert_eq!(machine.cpu.core.timers.get(shared.slot), Tsc::NEVER);
    assert!(shared.dispatch_seq() >= seq && !is_on_cpu(shared.dispatch_seq()), "the sequence goes on");
    let _ = machine.call(A, Call::VCPU_START, &[1, 0, 0, 0]);
    machine.run(A1, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(5 * MS)]);
    assert_eq!(machine.state(A1).vectors(), [], "neither timer nor events of the life before");
    assert_eq!(shared.pending_events(), 0);
}

#[test]
fn what_is_sent_to_a_stopped_vcpu_is_kept_until_it_is_started() {
    let mut machine = Machine::boot([Spec::cooperative("one").vcpus(2)]);
    for vector in [0x77, IPI_NMI] {
        assert_eq!(machine.call(A, Call::IPI, &[1, vector]).0, Code::OK);
    }
    assert_eq!(machine.call(A, Call::KICK, &[1]).0, Code::OK);
    assert_eq!(machine.shared(A1).life(), Life::Stopped, "none of them starts it");
    let _ = machine.call(A, Call::VCPU_START, &[1, 0, 0, 0]);
    machine.run(A1, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(MS)]);
    assert_eq!(machine.state(A1).vectors(), [0x77]);
    assert_eq!(machine.state(A1).count(Seen::Nmi), 1);
}

#[test]
fn a_vcpu_may_stop_itself_and_the_others_go_on() {
    let mut machine = Machine::boot([Spec::cooperative("one").vcpus(2)]);
    let _ = machine.call(A, Call::VCPU_START, &[1, 0, 0, 0]);
    machine.run(A, call_steps(Call::VCPU_STOP, &[0]));
    assert_eq!(machine.shared(A).life(), Life::Stopped);
    assert_eq!(machine.call(A1, Call::VCPU_START, &[0, 0x1234, 0, 0]), (Code::OK, 0));
    machine.compute(A, 1);
    assert_eq!(machine.state(A).rip(), 0x1234);
}

#[test]
fn a_guest_that_stops_its_last_vcpu_is_killed() {
    let mut machine = Machine::boot([Spec::cooperative("one"), Spec::full("two")]);
    machine.run(A, call_steps(Call::VCPU_STOP, &[0]));
    assert_eq!(endings(&mut machine), [(0, Ending::Killed(KillReason::AllStopped))]);
    machine.compute(B, MS);
}

#[test]
fn a_vcpu_that_fails_while_its_guest_ends_already_adds_no_lines() {
    let mut machine = Machine::boot([Spec::full("one"), Spec::cooperative("two")]);
    let guest = machine.guest(0);
    // Another processor has had the guest end, and has not come to stop this vCPU yet.
    let ends = Step::act(|_| assert!(guest.life.lifecycle.lock().end(Ending::Off)));
    machine.run(A, [ends, Step::Exit(Exit::Shutdown), Step::Exit(Exit::Shutdown), Step::Run(1)]);
    assert_eq!(machine.world.console(), "");
}

#[test]
fn each_way_to_fail_kills_its_guest_with_its_reason_and_no_other() {
    let at = GuestPhys::new_truncate(0xfed0_0300);
    let port = PortAccess { port: 0x3f8, size_bytes: 1, direction: Direction::Out };
    for (exit, reason) in [
        (Exit::MemoryFault { at, access: Access::Read }, KillReason::BadAccess { at, write: false }),
        (Exit::MemoryFault { at, access: Access::Write }, KillReason::BadAccess { at, write: true }),
        (Exit::MemoryFault { at, access: Access::Execute }, KillReason::BadAccess { at, write: false }),
        (Exit::StringPort(port), KillReason::StringPort(1016)),
        (Exit::Shutdown, KillReason::TripleFault),
        (Exit::BadState, KillReason::BadState),
        (Exit::Unknown { code: 0x7b }, KillReason::UnknownExit(123)),
    ] {
        let mut machine = Machine::boot([Spec::full("one").vcpus(2), Spec::cooperative("two")]);
        machine.state(A).rip = 0x1234;
        machine.state(A).rsp = 0x5678;
        machine.exit(A, exit);
        assert_eq!(machine.shared(A).life(), Life::Stopped, "{exit:?}");
        assert_eq!(endings(&mut machine), [(0, Ending::Killed(reason))]);
        let console = machine.world.console();
        assert!(console.contains(&format!("guest: killed name=one vcpu=0 reason={reason:?}\n")), "{console}");
        assert!(console.contains("rip=0x1234 rsp=0x5678"), "{console}");
        assert!(console.contains("guest: last exits name=one latest first ["), "{console}");
        assert_eq!(machine.call(B, Call::INFO, &[Info::VCPUS.0]), (Code::OK, 1), "the other goes on");
        machine.run(B, call_steps(Call::SHUTDOWN, &[Shutdown::OFF.0]));
        assert!(!machine.cpu.run_forever(), "a guest that was killed has not ended well");
    }
}

#[test]
fn a_killed_guest_starts_over_as_often_as_it_may() {
    let mut machine = Machine::boot([Spec::cooperative("one").restarts(2)]);
    for life in 0..3 {
        assert_eq!(machine.call(A, Call::INFO, &[Info::GENERATION.0]), (Code::OK, life));
        machine.exit(A, Exit::Shutdown);
    }
    assert!(!machine.cpu.step());
    assert!(!machine.cpu.run_forever());
    let killed = Ending::Killed(KillReason::TripleFault);
    assert_eq!(endings(&mut machine), [(0, killed), (0, killed), (0, killed)]);
}

#[test]
fn a_crash_counts_as_a_restart_and_a_reboot_does_not() {
    let mut machine = Machine::boot([Spec::cooperative("one").restarts(1)]);
    for _ in 0..5 {
        machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
    }
    machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::CRASH.0]));
    assert_eq!(machine.call(A, Call::INFO, &[Info::GENERATION.0]), (Code::OK, 6));
    machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::OFF.0]));
    assert!(machine.cpu.run_forever(), "it ended well after all");
}

#[test]
fn each_life_begins_once_where_its_memory_is_done() {
    let mut machine = Machine::boot([Spec::full("one")]);
    let mut earlier = 0;
    for life in 0..3 {
        machine.world.advance(MS);
        let due = machine.world.now().0;
        machine.compute(A, MS);
        let began = machine.guest(0).life.began.load(SeqCst);
        assert!(began >= due && began > earlier, "life {life}: {began}, {due}, {earlier}");
        // What brings the vCPU there again, as device work in the same pass does.
        machine.shared(A).request_attention(Attention::POPULATE);
        machine.compute(A, MS);
        assert_eq!(machine.guest(0).life.began.load(SeqCst), began, "life {life}");
        earlier = began;
        machine.port_out(A, 0xcf9, 1, 6);
    }
}

#[test]
fn a_new_life_remembers_nothing_of_the_old_one() {
    let mut machine = Machine::boot([Spec::cooperative("one").vcpus(2)]);
    machine.register(A, 0x40);
    let _ = machine.call(A, Call::VCPU_START, &[1, 0, 0, 0]);
    machine.register(A1, 0x40);
    let _ = machine.call(A, Call::MAP, &[Table::DEMAND.0, WINDOW_BASE]);
    let guest = machine.guest(0);
    guest.ram.write(GuestPhys::new_truncate(0x20_0000), b"secret").unwrap();
    for id in [A, A1] {
        machine.set_demand(id, word::NEXT_WAKE, machine.world.now().0 + 3 * MS);
        let _ = machine.call(id, Call::ARM, &[]);
        machine.set_events(id, 1 << 9);
    }
    machine.type_in(b"old");
    machine.compute(A, 1);
    let _ = machine.call(A, Call::IPI, &[0, 0x77]);
    machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
    machine.compute(A, 1);
    let mut bytes = [1; 6];
    guest.ram.read(GuestPhys::new_truncate(0x20_0000), &mut bytes).unwrap();
    assert_eq!(bytes, [0; 6]);
    assert_eq!(guest.ram.window().len(), 0);
    assert_eq!(guest.console.input.lock().len(), 0);
    assert_eq!(machine.shared(A1).life(), Life::Stopped);
    for id in [A, A1] {
        let shared = machine.shared(id);
        assert_eq!((shared.cookie(), shared.pending_events()), (NO_COOKIE, 0));
        assert!(shared.demand.iter().all(|word| word.load(SeqCst) == 0));
    }
    machine.run(A, [Step::act(|vcpu| vcpu.interrupts = true), Step::Run(20 * MS)]);
    assert_eq!(machine.state(A).vectors(), [], "neither its timer nor its interrupts");
    assert_eq!(machine.shared(A).pending_events(), 0);
    assert_eq!(guest.tables.status.words[4].load(SeqCst), 1, "the header tells the generation");
}

#[test]
fn counters_of_a_guest_count_what_it_did() {
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    for _ in 0..3 {
        let _ = machine.cpuid(A, 0, 0);
    }
    for _ in 0..5 {
        let _ = machine.call(A, Call::INFO, &[0]);
    }
    machine.compute(A, 7 * MS);
    let counters = machine.shared(A).tally.counters();
    assert_eq!(counters.exits[ExitClass::Cpuid as usize], 3);
    assert_eq!(counters.exits[ExitClass::Call as usize], 5);
    assert_eq!(counters.guest_ticks, 7 * MS);
}

#[test]
fn a_guest_is_made_again_in_parts_and_in_its_own_time() {
    let mut machine = Machine::boot([Spec::cooperative("one"), Spec::cooperative("two")]);
    let guest = machine.guest(0);
    let place = |offset: u64| GuestPhys::new_truncate(offset);
    let last = guest.ram.len_bytes() - 8;
    let parts = guest.ram.len_bytes() >> 16;
    guest.ram.write(place(last), b"last").unwrap();
    guest.ram.write(place(0x10_0000), b"changed").unwrap();
    machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
    assert!(guest.memory.populating.lock().is_some());
    let mut turns = 0;
    while guest.memory.populating.lock().is_some() {
        // Between any two parts somebody else may have the CPU.
        assert_eq!(machine.call(B, Call::INFO, &[Info::VCPUS.0]), (Code::OK, 1));
        assert!(machine.step());
        turns += 1;
    }
    assert!(turns <= parts + 8, "{turns} {parts}");
    let mut bytes = [1; 7];
    guest.ram.read(place(last), &mut bytes[..4]).unwrap();
    assert_eq!(bytes[..4], [0; 4]);
    guest.ram.read(place(0x10_0000), &mut bytes).unwrap();
    assert_eq!(bytes[..3], [0xeb, 0xfe, 0], "the kernel as it was");
    assert_eq!(machine.call(A, Call::INFO, &[Info::GENERATION.0]), (Code::OK, 1));
}

/// Two guests that share 16 MiB, with something in every word.
fn sharing_much() -> Machine {
    let channels = [ChannelConfig { ends: [0, 1], pages: 64 }; 64];
    let machine =
        Machine::boot_with_channels([Spec::cooperative("one"), Spec::cooperative("two")], &channels);
    for end in &machine.guest(0).channels {
        end.frames.words.iter().for_each(|word| word.store(1, SeqCst));
    }
    machine
}

fn shared_words_left(machine: &Machine) -> usize {
    let words = machine.guest(0).channels.iter().flat_map(|end| end.frames.words);
    words.filter(|word| word.load(SeqCst) != 0).count()
}

/// Lets a guest end so. Returns how many turns it took until its shared pages were zero.
fn clear_in_parts(machine: &mut Machine, ending: Shutdown) -> usize {
    let mut before = shared_words_left(machine);
    machine.script(A, call_steps(Call::SHUTDOWN, &[ending.0]));
    let mut turns = 0;
    while before > 0 {
        assert!(machine.step());
        turns += 1;
        let now = shared_words_left(machine);
        assert!((before - now) * 8 <= 64 << 10, "{} bytes in one turn", (before - now) * 8);
        let is_connected = machine.guest(0).life.connected.load(SeqCst);
        assert!(
            now * 8 == 16 << 20 || !is_connected,
            "peers learn of the end first, and of a beginning last"
        );
        before = now;
    }
    turns
}

#[test]
fn a_reboot_clears_shared_pages_in_parts_before_peers_find_the_guest_again() {
    let mut machine = sharing_much();
    machine.compute(A, 1);
    assert!(machine.guest(0).life.connected.load(SeqCst));
    let turns = clear_in_parts(&mut machine, Shutdown::REBOOT);
    assert!(turns >= 256, "{turns}");
    machine.compute(A, 1);
    assert!(machine.guest(0).life.connected.load(SeqCst));
}

#[test]
fn a_guest_that_ends_for_good_clears_shared_pages_in_parts_and_then_leaves_its_memory() {
    let mut machine = sharing_much();
    let _ = machine.call(A, Call::EVENT, &[EventOp::BIND.0, 0, 9 << 8]);
    assert_eq!(machine.call(B, Call::EVENT, &[EventOp::QUERY.0, 0]), (Code::OK, 64 | 1 << 16));
    let turns = clear_in_parts(&mut machine, Shutdown::OFF);
    assert!(turns >= 256, "{turns}");
    assert_eq!(machine.call(B, Call::EVENT, &[EventOp::QUERY.0, 0]), (Code::OK, 64));
    assert_eq!(machine.call(B, Call::EVENT, &[EventOp::RING.0, 0]).0, Code::BAD_STATE);
    assert!(machine.step());
    assert_eq!(machine.shared(A).life(), Life::Stopped);
    assert!(!machine.guest(0).ram.has_block(0), "its memory is in the pool");
    machine.run(B, call_steps(Call::SHUTDOWN, &[Shutdown::OFF.0]));
    assert!(machine.cpu.run_forever());
}

#[test]
fn each_channel_of_a_full_guest_lies_where_its_ports_say() {
    let channels = [3, 1, 64, 1, 1, 1, 1, 1, 7].map(|pages| ChannelConfig { ends: [0, 1], pages });
    let mut machine = Machine::boot_with_channels([Spec::full("pc"), Spec::cooperative("b")], &channels);
    assert_eq!(machine.port_in(A, 0xc0f0, 4), 9);
    let there = machine.guest(0).ram.window();
    for (n, channel) in (0..).zip(&channels) {
        let first = machine.port_in(A, 0xc100 + 16 * n, 4) - (WINDOW_BASE >> 12);
        let pages = u64::from(channel.pages);
        assert_eq!(machine.port_in(A, 0xc104 + 16 * n, 4) & 0xffff, pages, "{n}");
        let start = machine.guest(0).channels[usize::from(n)].frames.start;
        for page in 0..pages {
            let expected = start.checked_add(page << 12).map(|frame| (frame, true));
            assert_eq!(there.get(&(first + page)).copied(), expected, "channel {n}, page {page}");
        }
    }
}
