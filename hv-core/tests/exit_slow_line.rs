//! People's line is behind: it is the guest that writes which waits, and nobody else.
#![expect(clippy::unwrap_used, reason = "helpers of tests, whose arguments are constants")]

mod common;

use common::{A, B, MS, US};
use hv_core::base::addr::GuestPhys;
use hv_core::base::hardware::GuestBytes;
use hv_core::guest::guest::Words;
use hv_core::guest::seam::{CpuRegisters, Exit, Reg};
use hv_core::testkit::{Machine, Spec, Step, at, call_steps};
use pv_abi::call::{Call, Code, ConsoleOp, Shutdown};
use pv_abi::table::CONSOLE_RING_BYTES;
use ring_buffers::bytes::Producer;
use std::sync::atomic::Ordering::SeqCst;

const WRITE: [u64; 3] = [ConsoleOp::WRITE.0, 0x3000, 6];

/// A cooperative guest and a full one, and a line that has no room.
fn behind() -> Machine {
    let mut machine = Machine::boot([Spec::cooperative("one"), Spec::full("two")]);
    machine.compute(A, MS);
    machine.compute(B, MS);
    machine.guest(0).ram.write(GuestPhys::new_truncate(0x3000), b"hello\n").unwrap();
    machine.world.console_room.set(1024);
    machine
}

fn catch_up(machine: &Machine) {
    machine.world.console_room.set(32 << 10);
}

#[test]
fn a_write_is_done_when_there_is_room_and_until_then_not_begun() {
    let mut machine = behind();
    let rip = machine.state(A).rip();
    machine.run(A, call_steps(Call::CONSOLE, &WRITE));
    assert_eq!(machine.state(A).rip(), rip, "the same instruction is next");
    assert_eq!(machine.state(A).reg(Reg::Rax), Call::CONSOLE.0);
    assert_eq!(machine.world.console(), "");
    catch_up(&machine);
    machine.exit(A, Exit::Call);
    assert_ne!(machine.state(A).rip(), rip);
    assert_eq!((machine.state(A).reg(Reg::Rax), machine.state(A).reg(Reg::Rdx)), (Code::OK.0, 6));
    assert_eq!(machine.world.console(), "[one] hello\n");
}

#[test]
fn a_byte_for_com1_waits_with_its_instruction_where_it_ends_a_line_and_other_ports_do_not() {
    let mut machine = behind();
    let rip = machine.state(B).rip();
    machine.port_out(B, 0x3f8, 1, u32::from(b'a'));
    let _ = machine.port_in(B, 0x3fd, 1);
    machine.port_out(B, 0x3ff, 1, 0);
    let moved = machine.state(B).rip();
    assert_ne!(moved, rip);
    machine.port_out(B, 0x3f8, 1, u32::from(b'\n'));
    assert_eq!((machine.state(B).rip(), machine.world.console().as_str()), (moved, ""));
    catch_up(&machine);
    machine.port_out(B, 0x3f8, 1, u32::from(b'\n'));
    assert_eq!(machine.world.console(), "[two] a\n");
}

#[test]
fn a_line_that_all_vcpus_may_make_longer_at_once_waits_before_it_is_full() {
    let mut machine = behind();
    for len in 1..=193 {
        machine.port_out(B, 0x3f8, 1, u32::from(b'a'));
        assert_eq!(machine.guest(1).console.line.lock().len(), len);
    }
    machine.port_out(B, 0x3f8, 1, u32::from(b'a'));
    assert_eq!(machine.guest(1).console.line.lock().len(), 193);
}

fn ring(machine: &Machine) -> Producer<Words> {
    Producer::create(Words(&machine.guest(0).tables.console.words[..CONSOLE_RING_BYTES / 8])).unwrap()
}

#[test]
fn a_flush_is_over_when_all_of_the_ring_is_written() {
    let mut machine = behind();
    let _ = ring(&machine).push(b"by ring\n").unwrap();
    let rip = machine.state(A).rip();
    machine.run(A, call_steps(Call::CONSOLE, &[ConsoleOp::FLUSH.0]));
    assert_eq!((machine.state(A).rip(), machine.world.console().as_str()), (rip, ""));
    catch_up(&machine);
    assert_eq!(machine.call(A, Call::CONSOLE, &[ConsoleOp::FLUSH.0]), (Code::OK, 0));
    assert_eq!(machine.world.console(), "[one] by ring\n");
}

#[test]
fn what_a_guest_has_not_said_at_its_end_may_use_more_of_the_room_but_not_all() {
    for (room, heard) in [(12 << 10, "[one] bye\n"), (1 << 10, "comity: guest: last words lost name=one\n")] {
        let mut machine = behind();
        let _ = ring(&machine).push(b"bye\n").unwrap();
        machine.world.console_room.set(room);
        machine.run(A, call_steps(Call::SHUTDOWN, &[Shutdown::OFF.0]));
        let console = machine.world.console();
        assert!(console.starts_with(&format!("{heard}comity: guest: ended name=one")), "{room}: {console}");
    }
}

/// What 256 line ends of the guest become at most, after a full line.
const LONGEST: usize = 256 + 256 + 258 * "[sixteen notifications] \n".len();

#[test]
fn texts_that_many_processors_write_at_once_are_whole_and_leave_what_is_not_theirs() {
    let mut machine = Machine::boot([Spec::cooperative("sixteen notifications!")]);
    machine.compute(A, MS);
    let guest = machine.guest(0);
    assert!(guest.console.line.lock().extend_from_slice(&[b'.'; 256]).is_ok());
    machine.world.console_room.set((8 << 10) + 3 * LONGEST + LONGEST / 2);
    let core = &mut machine.cpu.core;
    let rooms: Vec<_> = (0..10).map_while(|_| core.console_room(guest, &[b'\n'; 256])).collect();
    assert_eq!(rooms.len(), 3);
    for room in rooms {
        core.console(guest, &[b'\n'; 256], room);
    }
    let (written, left) = (machine.world.console().len(), machine.world.console_room.get());
    assert_eq!(written, 256 + 3 * 256 * "[sixteen notifications!] \n".len());
    assert_eq!(left, (8 << 10) + 3 * LONGEST + LONGEST / 2 - written);
}

/// Whether the second guest's byte is taken.
fn takes_a_byte(machine: &mut Machine) -> bool {
    let rip = machine.state(B).rip();
    machine.port_out(B, 0x3f8, 1, u32::from(b'\n'));
    machine.state(B).rip() != rip
}

/// A guest that waits for the line, and another that has written more and may not write before.
fn one_waits_before_two() -> Machine {
    let mut machine = behind();
    catch_up(&machine);
    assert!(takes_a_byte(&mut machine));
    machine.world.console_room.set(1024);
    machine.run(A, call_steps(Call::CONSOLE, &WRITE));
    catch_up(&machine);
    assert!(!takes_a_byte(&mut machine), "there is room, but the other one waits for it");
    machine
}

#[test]
fn a_guest_that_waits_and_does_not_come_back_keeps_others_from_writing_for_half_a_second() {
    let mut machine = one_waits_before_two();
    let begun = machine.world.now();
    while !takes_a_byte(&mut machine) {
        machine.compute(B, MS);
    }
    let ms = machine.world.now().since(begun).0 / MS;
    assert!((490..520).contains(&ms), "{ms} ms");
}

#[test]
fn a_guest_that_ends_keeps_nobody_from_writing() {
    for how in [Shutdown::OFF, Shutdown::CRASH] {
        let mut machine = one_waits_before_two();
        machine.run(A, call_steps(Call::SHUTDOWN, &[how.0]));
        assert!(takes_a_byte(&mut machine), "{how:?}");
    }
}

#[test]
fn what_many_guests_say_at_their_end_is_no_more_than_the_line_keeps_and_people_know_what_is_lost() {
    let specs = (0..60).map(|n| Spec::full(&format!("sixteen letter{n:02}")).pin(&[n % 2]));
    let mut machine = Machine::boot_on(2, specs.chain([Spec::cooperative("last")]), &[]);
    machine.world.console_room.set(32 << 10); // the scripted line refuses to keep more
    for n in 0..60 {
        assert!(machine.guest(n).console.line.lock().extend_from_slice(&[b'.'; 256]).is_ok());
        machine.script(at(n, 0), [Step::Exit(Exit::Shutdown)]);
    }
    machine.compute(at(60, 0), 500 * MS);
    let ended = |n| machine.guest(n).life.lifecycle.lock().has_ended();
    assert!((0..60).all(ended));
    assert!(machine.world.console().len() <= 32 << 10);
    let lines = ["[", "guest: killed", "guest: registers", "guest: last exits", "guest: ended"];
    let said = machine.world.console();
    let said = said
        .lines()
        .filter(|line| lines.iter().any(|start| line.trim_start_matches("comity: ").starts_with(start)));
    let lost = 60 * lines.len() - said.count();
    assert!(lost > 0);
    catch_up(&machine);
    let _ = machine.call(at(60, 0), Call::CONSOLE, &WRITE);
    assert!(machine.world.console().contains(&format!("comity: console: texts lost={lost}\n")), "{lost}");
}

#[test]
fn a_guest_begins_again_when_people_can_be_told_of_its_next_end() {
    let mut machine = behind();
    machine.world.clock_reads.set(100); // who waits for nothing but the line looks at the clock
    machine.script(A, call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
    machine.compute(B, 50 * MS);
    assert!(machine.guest(0).memory.populating.lock().is_some(), "{}", machine.world.console());
    catch_up(&machine);
    machine.compute(B, 50 * MS);
    assert!(machine.guest(0).memory.populating.lock().is_none());
}

/// In which of 2,000 rounds a guest's write is done, beside one that writes to its UART by accesses of this width at this port.
fn served_beside_a_flood(port: u16, size_bytes: u8) -> Option<u32> {
    let mut machine = behind();
    machine.world.console_room.set(9 << 10);
    machine.run(A, call_steps(Call::CONSOLE, &WRITE));
    let rip = machine.state(A).rip();
    let retry = |machine: &mut Machine| {
        machine.exit(A, Exit::Call);
        machine.state(A).rip() != rip
    };
    (0..2000).find(|round| {
        let room = &machine.world.console_room;
        room.set((room.get() + 60).min(32 << 10)); // less than the flood writes
        // They take turns at being the first that sees the room.
        if round % 2 == 0 && retry(&mut machine) {
            return true;
        }
        for n in 0..92 {
            let byte = if n == 91 { b'\n' } else { b'x' };
            let before = machine.state(B).rip();
            machine.port_out(B, port, size_bytes, u32::from(byte) << (8 * (0x3f8 - port)));
            if machine.state(B).rip() == before {
                break;
            }
        }
        retry(&mut machine)
    })
}

#[test]
fn whatever_access_reaches_com1_waits_and_the_others_are_served() {
    for (port, size_bytes) in [(0x3f8, 1), (0x3f8, 2), (0x3f7, 2), (0x3f6, 4), (0x3f5, 4)] {
        assert!(served_beside_a_flood(port, size_bytes).is_some(), "{size_bytes} bytes at {port:#x}");
    }
}

#[test]
fn at_a_terminal_a_guest_waits_for_room_too() {
    let mut machine = Machine::boot_at_terminal([Spec::full("one")]);
    machine.compute(A, MS);
    machine.world.console_room.set(1024);
    let rip = machine.state(A).rip();
    for (port, size_bytes) in [(0x3f8, 1), (0x3f7, 2), (0x3f5, 4)] {
        machine.port_out(A, port, size_bytes, 0x6161_6161);
        assert_eq!((machine.state(A).rip(), machine.world.console().as_str()), (rip, ""), "{port:#x}");
    }
    catch_up(&machine);
    machine.port_out(A, 0x3f8, 1, 0x61);
    assert_eq!(machine.world.console(), "a");
}

/// What a byte takes on a line of 115,200 baud, in ns.
const BYTE: u64 = 1_000_000_000 / 11_520;

/// A guest on the first processor, where a third computes, and on the second one another that, if it floods, writes 256 line ends whenever it may; the line has
/// 115,200 baud. Milliseconds until `done`, which may add to scripts, if that is within 5 s.
fn beside_a_flood(one: Spec, flood: bool, mut done: impl FnMut(&mut Machine) -> bool) -> Option<u64> {
    let others = [Spec::cooperative("flood").pin(&[1]), Spec::full("busy").pin(&[0])];
    let mut machine = Machine::boot_on(2, [one.pin(&[0])].into_iter().chain(others), &[]);
    machine.compute(A, MS);
    machine.compute(B, MS);
    machine.script(at(2, 0), [Step::Run(100_000 * MS)]);
    assert!(machine.guest(1).ram.write(GuestPhys::new_truncate(0x3000), &[b'\n'; 256]).is_ok());
    machine.world.console_room.set(20 << 10);
    machine.world.clock_reads.set(10 * US); // about what a part of 64 KiB takes
    let begun = machine.world.now();
    let mut drained_to = begun.0;
    while machine.world.now().since(begun).0 < 5_000 * MS {
        if done(&mut machine) {
            return Some(machine.world.now().since(begun).0 / MS);
        }
        if flood && machine.state(B).script.is_empty() {
            machine.script(B, call_steps(Call::CONSOLE, &[ConsoleOp::WRITE.0, 0x3000, 256]));
        }
        machine.step();
        let room = &machine.world.console_room;
        while machine.world.now().0 - drained_to >= BYTE {
            drained_to += BYTE;
            room.set((room.get() + 1).min(32 << 10));
        }
    }
    None
}

#[test]
fn a_guest_that_floods_peoples_line_does_not_keep_another_from_beginning_again() {
    let restart = |flood| {
        let mut asked = false;
        beside_a_flood(Spec::cooperative("one").memory_mib(64, 64), flood, |machine| {
            if !asked {
                machine.script(A, call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
                asked = true;
            }
            let one = machine.guest(0);
            one.life.generation.load(SeqCst) == 1 && one.memory.populating.lock().is_none()
        })
    };
    let (alone, beside) = (restart(false), restart(true));
    assert!(
        alone.is_some_and(|ms| ms < 500) && beside.is_some_and(|ms| ms < 2_000),
        "{alone:?} {beside:?} ms"
    );
}

#[test]
fn a_guest_that_writes_a_line_every_ms_waits_for_one_text_of_a_flood_each() {
    let (mut due, mut asked, mut longest, mut written) = (0, false, 0, 0);
    let over = beside_a_flood(Spec::cooperative("one"), true, |machine| {
        let now = machine.world.now().0;
        if due == 0 {
            machine.guest(0).ram.write(GuestPhys::new_truncate(0x3000), b"a\n").unwrap();
            due = now;
        }
        if !machine.state(A).script.is_empty() {
            return false;
        }
        if asked && machine.state(A).reg(Reg::Rax) == Code::OK.0 {
            (longest, written, due) = (longest.max(now - due), written + 1, now + MS);
        }
        asked = due <= now;
        if asked {
            machine.script(A, call_steps(Call::CONSOLE, &[ConsoleOp::WRITE.0, 0x3000, 2]));
        }
        false
    });
    assert!(over.is_none());
    let flood = 256 + 256 + 258 * "[flood] \n".len() as u64;
    assert!(longest <= (flood + 600) * BYTE, "{longest} ns for one of {written} lines");
    assert!(written > 1_500, "{written} lines: on its processor it has a turn every 2 ms");
}

#[test]
fn a_guest_that_has_few_turns_begins_again_beside_a_flood() {
    let light = Spec::cooperative("light").memory_mib(4, 4).weight(1);
    let heavy = [Spec::cooperative("flood").weight(5_000), Spec::full("busy").weight(5_000)];
    let mut machine = Machine::boot([light].into_iter().chain(heavy));
    machine.compute(A, 5 * MS); // from here on it has a turn a second
    machine.guest(1).ram.write(GuestPhys::new_truncate(0x3000), b"\n").unwrap();
    machine.script(at(2, 0), [Step::Run(100_000 * MS)]);
    machine.world.console_room.set(8 << 10);
    machine.world.clock_reads.set(10 * US); // about what a part of 64 KiB takes
    machine.script(A, call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
    let begun = machine.world.now();
    let mut drained_to = begun.0;
    while machine.guest(0).life.generation.load(SeqCst) == 0
        || machine.guest(0).memory.populating.lock().is_some()
    {
        assert!(machine.world.now().since(begun).0 < 40_000 * MS, "without the flood it takes 20 s");
        if machine.state(B).script.is_empty() {
            let write = || call_steps(Call::CONSOLE, &[ConsoleOp::WRITE.0, 0x3000, 1]);
            machine.script(B, (0..100).flat_map(|_| write()));
        }
        machine.step();
        let room = &machine.world.console_room;
        while machine.world.now().0 - drained_to >= BYTE {
            drained_to += BYTE;
            room.set((room.get() + 1).min(32 << 10));
        }
    }
}
