//! A guest's view of its ports.

use super::*;
use proptest::prelude::*;

fn bus() -> PortBus {
    PortBus::new(&Setup { tsc: Frequency::from_khz(1_000_000).unwrap(), now: Tsc(0) })
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
            if bus.interrupt_pending() {
                let _ = bus.acknowledge_interrupt();
            }
        }
    }
}
