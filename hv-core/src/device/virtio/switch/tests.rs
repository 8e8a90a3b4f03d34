//! Where frames go.

use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

const ALL: Mac = [0xFF; 6];

const fn mac(n: u8) -> Mac {
    [2, 0, 0, 0, 0, n]
}

fn frame(to: Mac, from: Mac) -> Vec<u8> {
    [&to[..], &from, &[8, 0, 42]].concat()
}

fn send(switch: &Switch, port: u8, to: Mac, from: Mac) -> u64 {
    switch.send(Port(port), &frame(to, from)).0
}

#[test]
fn an_unknown_station_is_looked_for_at_all_other_ports_and_a_known_one_at_its_own() {
    let switch = Switch::new(4);
    assert_eq!(send(&switch, 0, mac(1), mac(0)), 0b1110);
    assert_eq!(send(&switch, 1, mac(0), mac(1)), 0b0001);
    assert_eq!(send(&switch, 0, mac(1), mac(0)), 0b0010);
    assert_eq!(send(&switch, 0, ALL, mac(0)), 0b1110);
    assert_eq!(send(&switch, 0, [1, 0, 0x5E, 0, 0, 1], mac(0)), 0b1110, "a group");
}

#[test]
fn what_is_sent_to_a_station_at_the_same_port_goes_nowhere() {
    let switch = Switch::new(2);
    assert_eq!(send(&switch, 0, ALL, mac(0)), 0b10);
    assert_eq!(send(&switch, 0, mac(0), mac(7)), 0);
}

#[test]
fn a_station_may_move() {
    let switch = Switch::new(3);
    send(&switch, 0, ALL, mac(9));
    assert_eq!(send(&switch, 2, mac(9), mac(2)), 0b001);
    send(&switch, 1, ALL, mac(9));
    assert_eq!(send(&switch, 2, mac(9), mac(2)), 0b010);
}

#[test]
fn a_group_is_no_station() {
    let switch = Switch::new(3);
    send(&switch, 0, ALL, ALL);
    send(&switch, 0, ALL, [3, 0, 0, 0, 0, 0]);
    assert_eq!(send(&switch, 1, [3, 0, 0, 0, 0, 0], mac(1)), 0b101);
}

#[test]
fn who_claims_to_be_many_forgets_only_its_own() {
    let switch = Switch::new(4);
    send(&switch, 1, ALL, mac(200));
    for n in 0..100 {
        send(&switch, 0, ALL, mac(n));
    }
    let mut into = [0; MAX_FRAME_BYTES];
    for port in 0..4 {
        while switch.receive(Port(port), &mut into).is_some() {}
    }
    assert_eq!(send(&switch, 2, mac(200), mac(2)), 0b0010);
    assert_eq!(send(&switch, 2, mac(99), mac(2)), 0b0001);
    assert_eq!(send(&switch, 2, mac(84), mac(2)), 0b0001);
    assert_eq!(send(&switch, 2, mac(83), mac(2)), 0b1011, "a share is 16");
}

#[test]
fn frames_come_in_order_and_whole() {
    let switch = Switch::new(2);
    let mut into = [0; MAX_FRAME_BYTES];
    for round in 0..200_u8 {
        for len in [14, 15 + usize::from(round), MAX_FRAME_BYTES] {
            let mut frame = alloc::vec![round; len];
            frame[0] = 0xFF;
            assert_eq!(switch.send(Port(0), &frame).0, 0b10);
        }
        for len in [14, 15 + usize::from(round), MAX_FRAME_BYTES] {
            assert_eq!(switch.receive(Port(1), &mut into), Some(len));
            assert!(into[1..len].iter().all(|byte| *byte == round));
        }
        assert!(!switch.has_frame(Port(1)) && switch.receive(Port(1), &mut into).is_none());
    }
}

#[test]
fn a_full_inbox_loses_and_the_others_get_theirs() {
    let switch = Switch::new(3);
    let mut into = [0; MAX_FRAME_BYTES];
    for _ in 0..INBOX_FRAMES {
        assert_eq!(send(&switch, 0, ALL, mac(0)), 0b110);
        assert!(switch.receive(Port(2), &mut into).is_some());
    }
    assert_eq!(send(&switch, 0, ALL, mac(0)), 0b100);
    switch.clear(Port(1));
    assert!(!switch.has_frame(Port(1)));
    assert_eq!(send(&switch, 0, ALL, mac(0)), 0b110);
}

#[test]
fn a_switch_has_64_ports_at_most_and_nothing_past_them() {
    let switch = Switch::new(255);
    assert_eq!(send(&switch, 63, ALL, mac(1)), u64::MAX >> 1);
    assert_eq!(send(&switch, 64, ALL, mac(1)), 0);
    assert!(!switch.has_frame(Port(64)) && !Ports(u64::MAX).contains(Port(64)));
    let none = Switch::new(0);
    assert_eq!(send(&none, 0, ALL, mac(1)), 0);
}

proptest! {
    /// A frame reaches nobody twice, never its sender, and its station if that is known; the table stays bounded.
    #[test]
    fn frames_go_where_they_may(
        ports in 1..=64_u8,
        sent in prop::collection::vec((any::<u8>(), prop::collection::vec(0..4_u8, 0..24)), 1..200),
    ) {
        let switch = Switch::new(ports);
        let mut into = [0; MAX_FRAME_BYTES];
        for (port, frame) in sent {
            let port = port % 66;
            let reached = switch.send(Port(port), &frame);
            prop_assert!(!reached.contains(Port(port)));
            prop_assert!(ports == 64 || reached.0 >> ports == 0);
            for n in 0..ports {
                let got = switch.receive(Port(n), &mut into);
                prop_assert_eq!(got.is_some(), reached.contains(Port(n)));
                if let Some(len) = got {
                    prop_assert_eq!(&into[..len], &frame[..]);
                }
            }
        }
    }
}
