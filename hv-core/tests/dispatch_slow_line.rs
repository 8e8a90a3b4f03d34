//! People's line is behind: it is the guest that writes which waits, and nobody else.
#![expect(clippy::unwrap_used, reason = "helpers of tests, whose arguments are constants")]

mod common;

use common::{A, B, MS, US};
use hv_core::base::addr::GuestPhys;
use hv_core::base::hardware::GuestRam;
use hv_core::guest::guest::Words;
use hv_core::guest::seam::{Exit, Reg, VirtualCpu};
use hv_core::testkit::{Machine, Spec, call_steps};
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
fn a_byte_for_com1_waits_with_its_instruction_and_other_ports_do_not() {
    let mut machine = behind();
    let rip = machine.state(B).rip();
    machine.port_out(B, 0x3f8, 1, u32::from(b'a'));
    assert_eq!(machine.state(B).rip(), rip);
    let _ = machine.port_in(B, 0x3fd, 1);
    machine.port_out(B, 0x3ff, 1, 0);
    assert_ne!(machine.state(B).rip(), rip);
    catch_up(&machine);
    for byte in b"a\n" {
        machine.port_out(B, 0x3f8, 1, u32::from(*byte));
    }
    assert_eq!(machine.world.console(), "[two] a\n");
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

#[test]
fn lines_that_too_many_processors_found_room_for_are_lost_one_by_one() {
    let mut machine = behind();
    machine.world.console_room.set((8 << 10) + 2 * "[one] a\n".len());
    let guest = machine.guest(0);
    let room = machine.cpu.core.last_words_room().unwrap();
    machine.cpu.core.console(guest, b"a\nb\nc\nd\n", room);
    assert_eq!(machine.world.console(), "[one] a\n[one] b\n[one] c\n");
}

#[test]
fn a_guest_begins_again_when_people_can_be_told_of_its_next_end() {
    let mut machine = behind();
    machine.world.look_ticks.set(100); // who waits for nothing but the line looks at the clock
    machine.script(A, call_steps(Call::SHUTDOWN, &[Shutdown::REBOOT.0]));
    machine.compute(B, 50 * MS);
    assert!(machine.guest(0).birth.lock().is_some(), "{}", machine.world.console());
    catch_up(&machine);
    machine.compute(B, 50 * MS);
    assert!(machine.guest(0).birth.lock().is_none());
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
fn at_a_terminal_a_guest_waits_for_room_too_and_what_found_none_is_lost() {
    let mut machine = Machine::boot_at_terminal([Spec::full("one")]);
    machine.compute(A, MS);
    machine.world.console_room.set(1024);
    let rip = machine.state(A).rip();
    for (port, size_bytes) in [(0x3f8, 1), (0x3f7, 2), (0x3f5, 4)] {
        machine.port_out(A, port, size_bytes, 0x6161_6161);
        assert_eq!((machine.state(A).rip(), machine.world.console().as_str()), (rip, ""), "{port:#x}");
    }
    catch_up(&machine);
    let room = machine.cpu.core.console_room().unwrap();
    machine.world.console_room.set(1024); // others were quicker
    let guest = machine.guest(0);
    machine.cpu.core.console(guest, b"lost", room);
    assert_eq!(machine.world.console(), "");
}

/// What a byte takes on a line of 115,200 baud, in ns.
const BYTE: u64 = 1_000_000_000 / 11_520;

/// A guest on the first processor, and on the second one another that, if it floods, writes 256 line ends whenever it may; the line has
/// 115,200 baud. Milliseconds until `done`, which may add to scripts, if that is within 5 s.
fn beside_a_flood(one: Spec, flood: bool, mut done: impl FnMut(&mut Machine) -> bool) -> Option<u64> {
    let mut machine = Machine::boot_on(2, [one.pin(&[0]), Spec::cooperative("flood").pin(&[1])], &[]);
    machine.compute(A, MS);
    machine.compute(B, MS);
    assert!(machine.guest(1).ram.write(GuestPhys::new_truncate(0x3000), &[b'\n'; 256]).is_ok());
    machine.world.console_room.set(20 << 10);
    machine.world.look_ticks.set(10 * US); // about what a part of 64 KiB takes
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
            one.generation.load(SeqCst) == 1 && one.birth.lock().is_none()
        })
    };
    let (alone, beside) = (restart(false), restart(true));
    assert!(
        alone.is_some_and(|ms| ms < 500) && beside.is_some_and(|ms| ms < 2_000),
        "{alone:?} {beside:?} ms"
    );
}
