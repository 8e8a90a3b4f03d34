//! A guest's view of its ports.

use super::*;
use crate::base::addr::GuestPhys;
use proptest::prelude::*;

fn bus() -> PortBus {
    PortBus::new(&Setup {
        tsc: Frequency::from_khz(1_000_000).unwrap(),
        now: Tsc(0),
        unix_s: 1_800_000_000,
        memory_mib: 64,
        channels: alloc::vec![Placement { at: GuestPhys::new(0x4000_0000).unwrap(), pages: 4 }],
    })
}

fn out(bus: &mut PortBus, port: u16, value: u8) -> PortEffect {
    bus.write(port, Width::Byte, u32::from(value), Tsc(0))
}

#[test]
fn an_unused_port_reads_all_ones_and_ignores_writes() {
    let mut bus = bus();
    for port in [0x2F8, 0x60, 0x80, 0xCF0, 0x4000, 0xFFFF] {
        assert_eq!(out(&mut bus, port, 0), PortEffect::None);
        assert_eq!(bus.read(port, Width::Byte, Tsc(0)), 0xFF, "{port:#x}");
    }
    assert_eq!(bus.read(0x4000, Width::Word, Tsc(0)), 0xFFFF);
    assert_eq!(bus.read(0xFFFF, Width::Dword, Tsc(0)), 0xFFFF_FFFF);
    assert_eq!(bus.write(0xFFFF, Width::Dword, 0, Tsc(0)), PortEffect::None);
}

/// `pci_check_type1`: the address register must not keep what is written, and must not reset the machine.
#[test]
fn linux_finds_no_pci() {
    let mut bus = bus();
    assert_eq!(out(&mut bus, 0xCFB, 1), PortEffect::None);
    let _ = bus.read(0xCF8, Width::Dword, Tsc(0));
    assert_eq!(bus.write(0xCF8, Width::Dword, 0x8000_0000, Tsc(0)), PortEffect::None);
    assert_ne!(bus.read(0xCF8, Width::Dword, Tsc(0)), 0x8000_0000);
    assert_eq!(bus.write(0xCF8, Width::Dword, 0xFFFF_FFFF, Tsc(0)), PortEffect::None);
    assert_eq!(bus.read(0xCFC, Width::Word, Tsc(0)), 0xFFFF);
}

#[test]
fn a_guest_powers_off_and_resets_as_on_a_pc() {
    assert_eq!(bus().write(0x604, Width::Word, 0x2000, Tsc(0)), PortEffect::PowerOff);
    assert_eq!(bus().write(0x604, Width::Word, 0x2401, Tsc(0)), PortEffect::None);
    assert_eq!(out(&mut bus(), 0x64, 0xFE), PortEffect::Reset);
    assert_eq!(out(&mut bus(), 0x64, 0xAA), PortEffect::None);
    assert_eq!(out(&mut bus(), 0x92, 0x03), PortEffect::Reset);
    let mut bus = bus();
    assert_eq!(out(&mut bus, 0xCF9, 0x02), PortEffect::None);
    assert_eq!(out(&mut bus, 0xCF9, 0x06), PortEffect::Reset);
}

#[test]
fn console_bytes_leave_and_input_interrupts_by_irq_4() {
    let mut bus = bus();
    assert_eq!(out(&mut bus, 0x3F8, b'A'), PortEffect::Console(b'A'));
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0xEF), (0x3F9, 1)] {
        assert_eq!(out(&mut bus, port, value), PortEffect::None);
    }
    assert!(!bus.interrupt_pending());
    assert!(bus.receive(b'x'));
    assert!(bus.interrupt_pending());
    assert_eq!(bus.acknowledge_interrupt(), 0x34);
    assert_eq!(bus.read(0x3F8, Width::Byte, Tsc(0)), u32::from(b'x'));
    let _ = out(&mut bus, 0x20, 0x20);
    assert!(!bus.interrupt_pending());
}

/// `init_8259A` for vectors 0x30 and 0x38 with these inputs open.
fn start_pics(bus: &mut PortBus, open: u16) {
    let [first, second] = (!open).to_le_bytes();
    for (port, value) in [
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 4),
        (0x21, 1),
        (0xA0, 0x11),
        (0xA1, 0x38),
        (0xA1, 2),
        (0xA1, 1),
        (0x21, first),
        (0xA1, second),
    ] {
        assert_eq!(out(bus, port, value), PortEffect::None);
    }
}

#[test]
fn the_timer_interrupts_by_irq_0_each_period() {
    let mut bus = bus();
    start_pics(&mut bus, 1);
    for (port, value) in [(0x43, 0x34), (0x40, 0x9C), (0x40, 0x2E)] {
        let _ = out(&mut bus, port, value); // 100 Hz
    }
    let mut now = Tsc(0);
    for n in 1..=5_u64 {
        let due = bus.next_timer();
        assert!(due.since(now).0.abs_diff(10_000_000) < 2_000, "{n} {due:?}");
        now = due;
        assert!(!bus.interrupt_pending());
        bus.expire(now);
        assert!(bus.interrupt_pending());
        assert_eq!(bus.acknowledge_interrupt(), 0x30);
        let _ = bus.write(0x20, Width::Byte, 0x60, now);
    }
}

#[test]
fn the_clock_interrupts_by_irq_8() {
    let mut bus = bus();
    start_pics(&mut bus, 0x0104);
    for (port, value) in [(0x70, 0x0B), (0x71, 0x12)] {
        let _ = out(&mut bus, port, value);
    }
    assert_eq!(bus.next_timer(), Tsc(1_000_000_000));
    bus.expire(Tsc(1_000_000_000));
    assert_eq!(bus.next_timer(), Tsc::NEVER);
    assert_eq!(bus.acknowledge_interrupt(), 0x38);
    let _ = out(&mut bus, 0x70, 0x0C);
    // Update, and the periodic flag, which needs no enable to be set.
    assert_eq!(bus.read(0x71, Width::Byte, Tsc(1_000_000_000)), 0xD0);
    assert_eq!(bus.next_timer(), Tsc(2_000_000_000));
}

#[test]
fn a_timer_due_before_a_write_is_not_lost_by_it() {
    let mut bus = bus();
    start_pics(&mut bus, 1);
    for (port, value) in [(0x43, 0x34), (0x40, 0), (0x40, 0x10)] {
        let _ = out(&mut bus, port, value);
    }
    let late = bus.next_timer() + crate::base::time::Ticks(5);
    assert_eq!(bus.write(0x43, Width::Byte, 0x30, late), PortEffect::None);
    assert!(bus.interrupt_pending());
    assert_eq!(bus.next_timer(), Tsc::NEVER);
}

#[test]
fn a_doorbell_rings_whatever_its_width() {
    let mut bus = bus();
    assert_eq!(bus.read(0xC0F0, Width::Dword, Tsc(0)), 1);
    assert_eq!(bus.read(0xC100, Width::Dword, Tsc(0)), 0x4_0000);
    bus.set_peer(ChannelIndex(0), Peer::Present);
    assert_eq!(bus.read(0xC104, Width::Dword, Tsc(0)), 0x8000_0004);
    for width in [Width::Byte, Width::Word, Width::Dword] {
        assert_eq!(bus.write(0xC108, width, 0, Tsc(0)), PortEffect::Doorbell(ChannelIndex(0)));
    }
    assert_eq!(bus.doorbell_vector(ChannelIndex(0)), None);
    assert_eq!(bus.write(0xC10C, Width::Dword, 0x51, Tsc(0)), PortEffect::None);
    assert_eq!(bus.doorbell_vector(ChannelIndex(0)), Some(0x51));
    assert_eq!(bus.write(0xC118, Width::Dword, 0, Tsc(0)), PortEffect::None, "there is one channel");
}

proptest! {
    #[test]
    fn no_access_panics(
        steps in prop::collection::vec((any::<bool>(), any::<u16>(), 0_usize..3, any::<u32>(), any::<u32>()), 0..200),
    ) {
        let mut bus = bus();
        let mut now = Tsc(0);
        let known = [0x20, 0x3F8, 0x40, 0x61, 0x70, 0x64, 0xA0, 0x4D0, 0x600, 0xCF8, 0xC0F0, 0xC100];
        for (write, port, width, value, forward) in steps {
            now = now + crate::base::time::Ticks(u64::from(forward));
            let port = if port & 0x8000 == 0 { known[usize::from(port & 0xFFF) % known.len()] + (port >> 12) } else { port };
            let width = [Width::Byte, Width::Word, Width::Dword][width];
            if write {
                let _ = bus.write(port, width, value, now);
            } else {
                let read = bus.read(port, width, now);
                prop_assert!(width == Width::Dword || read >> (8 * width.bytes()) == 0);
            }
            bus.expire(now);
            prop_assert!(bus.next_timer() > now);
            if bus.interrupt_pending() {
                let _ = bus.acknowledge_interrupt();
            }
        }
    }
}
