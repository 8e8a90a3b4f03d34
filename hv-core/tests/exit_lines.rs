//! What people and programs read: consoles, marks.
#![expect(clippy::unwrap_used, reason = "helpers of tests, whose arguments are constants")]

mod common;

use common::{A, B, MS};
use hv_core::base::addr::GuestPhys;
use hv_core::base::hardware::GuestBytes;
use hv_core::base::id::{GuestId, VcpuIndex};
use hv_core::guest::guest::Words;
use hv_core::policy::trace::{ExitClass, Record};
use hv_core::testkit::{Machine, Spec, call_steps};
use proptest::prelude::*;
use pv_abi::call::{Call, Code, ConsoleOp, Shutdown};
use pv_abi::table::CONSOLE_RING_BYTES;
use ring_buffers::bytes::Producer;
use std::sync::atomic::Ordering::SeqCst;

/// Lets the first guest write by CONSOLE, as many calls as it takes.
fn write(machine: &mut Machine, text: &[u8]) {
    for piece in text.chunks(256) {
        machine.guest(0).ram.write(GuestPhys::new_truncate(0x3000), piece).unwrap();
        let len = piece.len() as u64;
        assert_eq!(machine.call(A, Call::CONSOLE, &[ConsoleOp::WRITE.0, 0x3000, len]), (Code::OK, len));
    }
}

fn flush(machine: &mut Machine) {
    assert_eq!(machine.call(A, Call::CONSOLE, &[ConsoleOp::FLUSH.0]), (Code::OK, 0));
}

#[test]
fn lines_appear_whole_with_the_guests_name_in_front() {
    let mut machine = Machine::boot([Spec::cooperative("one"), Spec::full("two")]);
    write(&mut machine, b"hel");
    assert_eq!(machine.world.console(), "");
    for byte in b"other\n" {
        machine.port_out(B, 0x3f8, 1, u32::from(*byte));
    }
    write(&mut machine, b"lo\r\nnext\n\nlast");
    assert_eq!(machine.world.console(), "[two] other\n[one] hello\n[one] next\n[one] \n");
    machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::OFF.0]));
    let console = machine.world.console();
    assert!(console.contains("[one] \n[one] last\ncomity: guest: ended name=one ending=Off"), "{console}");
}

#[test]
fn a_line_that_does_not_end_is_cut_into_pieces() {
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    let text = "0123456789".repeat(60);
    write(&mut machine, text.as_bytes());
    write(&mut machine, b"\n");
    let console = machine.world.console();
    let lines: Vec<_> = console.lines().map(|line| line.strip_prefix("[one] ").unwrap()).collect();
    assert_eq!(lines.concat(), text);
    assert!(lines.iter().all(|line| line.len() <= 256), "{lines:?}");
    assert_eq!(lines.len(), 3);
}

#[test]
fn what_a_killed_guest_wrote_last_is_shown() {
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    write(&mut machine, b"about to");
    machine.exit(A, hv_core::guest::seam::Exit::Shutdown);
    let console = machine.world.console();
    assert!(console.starts_with("[one] about to\ncomity: guest: killed name=one"), "{console}");
}

#[test]
fn typed_bytes_are_read_in_order_and_announced_by_an_event() {
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    machine.register(A, 0);
    machine.run(A, call_steps(Call::BLOCK, &[1 << pv_abi::event::CONSOLE]));
    machine.type_in(b"hello");
    machine.compute(A, 1);
    assert_eq!(machine.shared(A).pending_events(), 1 << pv_abi::event::CONSOLE);
    assert_eq!(machine.call(A, Call::CONSOLE, &[ConsoleOp::READ.0, 0x3000, 2]), (Code::OK, 2));
    assert_eq!(machine.call(A, Call::CONSOLE, &[ConsoleOp::READ.0, 0x3002, 256]), (Code::OK, 3));
    assert_eq!(machine.call(A, Call::CONSOLE, &[ConsoleOp::READ.0, 0x3002, 256]), (Code::OK, 0));
    let mut bytes = [0; 5];
    machine.guest(0).ram.read(GuestPhys::new_truncate(0x3000), &mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
}

fn ring(machine: &Machine) -> Words {
    Words(&machine.guest(0).tables.console.words[..CONSOLE_RING_BYTES / 8])
}

#[test]
fn the_console_ring_is_drained_by_flush_and_when_the_guest_ends() {
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    flush(&mut machine);
    let mut producer = Producer::create(ring(&machine)).unwrap();
    let _ = producer.push(b"by ring\nand").unwrap();
    assert_eq!(machine.world.console(), "");
    flush(&mut machine);
    assert_eq!(machine.world.console(), "[one] by ring\n");
    for n in 0..40 {
        let text = format!(" {n}\n").repeat(100);
        let mut left = text.as_bytes();
        while !left.is_empty() {
            left = &left[producer.push(left).map_or(0, |pushed| pushed.count)..];
            flush(&mut machine);
        }
    }
    assert_eq!(machine.world.console().lines().count(), 4001);
    let _ = producer.push(b"bye").unwrap();
    machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::OFF.0]));
    assert!(machine.world.console().contains("[one] bye\ncomity: guest: ended"));
}

#[test]
fn a_spoilt_console_ring_harms_nobody_and_can_be_made_anew() {
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    let mut producer = Producer::create(ring(&machine)).unwrap();
    let _ = producer.push(b"good\n").unwrap();
    flush(&mut machine);
    let words = machine.guest(0).tables.console.words;
    for (word, value) in [(8, u64::MAX), (8, 1 << 40), (16, 77), (0, 0), (1, u64::MAX)] {
        words[word].store(value, SeqCst);
        flush(&mut machine);
    }
    assert_eq!(machine.world.console(), "[one] good\n");
    let mut producer = Producer::create(ring(&machine)).unwrap();
    let _ = producer.push(b"again\n").unwrap();
    flush(&mut machine);
    flush(&mut machine);
    assert_eq!(machine.world.console(), "[one] good\n[one] again\n");
}

proptest! {
    #[test]
    fn no_console_ring_panics_or_prints_without_bound(
        words in prop::collection::vec((0_usize..1024, prop_oneof![any::<u64>(), 0_u64..5000]), 1..60),
        made in any::<bool>(),
    ) {
        let mut machine = Machine::boot([Spec::cooperative("one")]);
        if made {
            let mut producer = Producer::create(ring(&machine)).unwrap();
            let _ = producer.push(b"some text that is there\n").unwrap();
        }
        for (word, value) in words {
            machine.guest(0).tables.console.words[word].store(value, SeqCst);
            let before = machine.world.console().len();
            flush(&mut machine);
            prop_assert!(machine.world.console().len() - before <= 8 * CONSOLE_RING_BYTES);
        }
    }
}

#[test]
fn a_mark_records_everybodys_counters() {
    let mut machine = Machine::boot([Spec::cooperative("one"), Spec::full("two").mark_port()]);
    let _ = machine.cpuid(B, 0, 0);
    machine.compute(A, 2 * MS);
    machine.run(A, call_steps(Call::MARK, &[7, 99]));
    let when = machine.world.now().0;
    machine.port_out(B, 0xcf4, 4, 55);
    machine.port_out(B, 0xcf0, 4, 3);
    let records = machine.records();
    let [first, second] = &records[..] else { panic!("{records:?}") };
    let Record::Mark { guest, vcpu, id, value, tsc, cpus, guests } = first else { panic!("{first:?}") };
    assert_eq!((*guest, *vcpu, *id, *value, *tsc), (GuestId(0), VcpuIndex(0), 7, 99, when));
    assert_eq!(guests.len(), 2);
    assert!(guests[0].guest_ticks >= 2 * MS);
    assert_eq!(guests[0].exits[ExitClass::Call as usize], 1);
    assert_eq!(guests[1].exits[ExitClass::Cpuid as usize], 1);
    assert_eq!(cpus[0].idle_ticks, 0);
    let Record::Mark { guest, id, value, guests, .. } = second else { panic!("{second:?}") };
    assert_eq!((*guest, *id, *value), (GuestId(1), 3, 55));
    assert_eq!(guests[1].exits[ExitClass::Port as usize], 2);
}

#[test]
fn the_mark_port_is_an_ordinary_port_where_it_is_not_granted() {
    let mut machine = Machine::boot([Spec::full("one")]);
    machine.port_out(A, 0xcf4, 4, 55);
    machine.port_out(A, 0xcf0, 4, 3);
    assert_eq!(machine.records(), []);
}

#[test]
fn how_far_off_the_clock_proved_to_be_is_said_and_recorded() {
    let mut machine = Machine::boot([Spec::cooperative("one")]);
    machine.cpu.core.judge_clock();
    assert_eq!(machine.records(), [], "no other clock tells");
    machine.world.clock_off_ppm.set(Some(-42));
    machine.cpu.core.judge_clock();
    assert!(machine.world.console().contains("comity: clock: tsc_khz=1000000 off_ppm=-42"));
    // Of judgements, which are made as long as the machine runs, the last one is kept.
    machine.world.clock_off_ppm.set(Some(-43));
    machine.cpu.core.judge_clock();
    assert!(matches!(machine.records()[..], [Record::Clock { off_ppm: -43, .. }]));
}
