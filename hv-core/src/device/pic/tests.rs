//! What kernels do to the pair.

use super::*;
use proptest::prelude::*;

fn write(pics: &mut Pics, port: u16, value: u8) {
    pics.write(port, value);
}

fn read(pics: &mut Pics, port: u16) -> u8 {
    pics.read(port).unwrap()
}

/// `init_8259A` of Linux 6.1, vectors 0x30 and 0x38, then the mask given.
fn started(masks: [u8; 2]) -> Pics {
    let mut pics = Pics::new();
    let sequence = [
        (0x21, 0xFF),
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 0x04),
        (0x21, 0x01),
        (0xA0, 0x11),
        (0xA1, 0x38),
        (0xA1, 0x02),
        (0xA1, 0x01),
        (0x21, masks[0]),
        (0xA1, masks[1]),
    ];
    for (port, value) in sequence {
        write(&mut pics, port, value);
    }
    pics
}

/// `probe_8259A`: the mask register of the first chip keeps what is written.
#[test]
fn linux_finds_the_pair() {
    let mut pics = Pics::new();
    write(&mut pics, 0xA1, 0xFF);
    write(&mut pics, 0x21, !(1 << 2));
    assert_eq!(read(&mut pics, 0x21), 0xFB);
}

#[test]
fn an_edge_is_delivered_once_and_blocks_until_its_end() {
    let mut pics = started([0xEE, 0xFF]);
    pics.set_input(4, true);
    assert!(pics.pending());
    assert_eq!(pics.acknowledge(), 0x34);
    assert!(!pics.pending());
    pics.set_input(4, false);
    pics.set_input(4, true);
    assert!(!pics.pending(), "in service");
    pics.set_input(0, true);
    assert!(pics.pending(), "input 0 is above input 4");
    assert_eq!(pics.acknowledge(), 0x30);
    write(&mut pics, 0x20, 0x60); // specific end of 0
    assert!(!pics.pending());
    write(&mut pics, 0x20, 0x64); // specific end of 4
    assert_eq!(pics.acknowledge(), 0x34);
    write(&mut pics, 0x20, 0x20);
    assert!(!pics.pending());
}

#[test]
fn a_masked_edge_is_kept() {
    let mut pics = started([0xFF, 0xFF]);
    pics.set_input(4, true);
    pics.set_input(4, false);
    assert!(!pics.pending());
    write(&mut pics, 0x21, 0xEF);
    assert!(pics.pending());
}

#[test]
fn the_second_chip_comes_through_the_cascade() {
    let mut pics = started([0xFB, 0xFE]);
    pics.set_input(8, true);
    assert_eq!(pics.acknowledge(), 0x38);
    write(&mut pics, 0x20, 0x0B);
    write(&mut pics, 0xA0, 0x0B);
    assert_eq!((read(&mut pics, 0x20), read(&mut pics, 0xA0)), (4, 1));
    pics.set_input(8, false);
    write(&mut pics, 0xA0, 0x60);
    write(&mut pics, 0x20, 0x62);
    assert_eq!((read(&mut pics, 0x20), read(&mut pics, 0xA0)), (0, 0));
    assert!(!pics.pending());
}

#[test]
fn a_level_asks_again_until_it_falls() {
    let mut pics = started([0xDF, 0xFF]);
    write(&mut pics, 0x4D0, 0xFF);
    assert_eq!(read(&mut pics, 0x4D0), 0xF8, "timer, keyboard and cascade stay edge-triggered");
    pics.set_input(5, true);
    assert_eq!(pics.acknowledge(), 0x35);
    write(&mut pics, 0x20, 0x20);
    assert!(pics.pending());
    pics.set_input(5, false);
    assert!(!pics.pending());
}

#[test]
fn a_request_that_vanished_is_spurious_and_not_in_service() {
    let mut pics = started([0, 0]);
    assert_eq!(pics.acknowledge(), 0x37);
    write(&mut pics, 0x20, 0x0B);
    assert_eq!(read(&mut pics, 0x20), 0);
}

#[test]
fn automatic_end_and_poll_work() {
    let mut pics = Pics::new();
    for (port, value) in [(0x20, 0x13), (0x21, 0x40), (0x21, 0x03)] {
        write(&mut pics, port, value);
    }
    pics.set_input(3, true);
    assert_eq!(pics.acknowledge(), 0x43);
    pics.set_input(3, false);
    pics.set_input(3, true);
    write(&mut pics, 0x20, 0x0C);
    assert_eq!(read(&mut pics, 0x20), 0x83);
    write(&mut pics, 0x20, 0x0C);
    assert_eq!(read(&mut pics, 0x20), 0);
    assert!(!pics.pending());
}

#[test]
fn rotation_makes_the_ended_input_the_lowest() {
    let mut pics = started([0, 0xFF]);
    pics.set_input(1, true);
    assert_eq!(pics.acknowledge(), 0x31);
    write(&mut pics, 0x20, 0xA0);
    pics.set_input(1, false);
    pics.set_input(1, true);
    pics.set_input(6, true);
    assert_eq!(pics.acknowledge(), 0x36);
}

proptest! {
    #[test]
    fn a_pending_interrupt_is_never_spurious_or_masked(
        steps in prop::collection::vec((0_u8..4, 0_u8..32, any::<u8>()), 0..200),
    ) {
        let ports = [0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1];
        let mut pics = Pics::new();
        for (kind, n, value) in steps {
            let port = ports[usize::from(n) % 6];
            match kind {
                0 => write(&mut pics, port, value),
                1 => { let _ = read(&mut pics, port); }
                2 => pics.set_input(n, value & 1 != 0),
                _ if pics.pending() => {
                    let mut probe = pics.clone();
                    let wanted = probe.first.acknowledge();
                    prop_assert!(pics.first.output());
                    if wanted == CASCADE {
                        prop_assert!(pics.second.output());
                    }
                    let vector = pics.acknowledge();
                    prop_assert_eq!(vector & 0xF8, if wanted == CASCADE { pics.second.vector(0) } else { pics.first.vector(0) });
                }
                _ => {}
            }
        }
    }
}
