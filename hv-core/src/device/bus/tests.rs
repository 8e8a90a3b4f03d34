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
        bus.expire(now, Tick::Taken);
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
    bus.expire(Tsc(1_000_000_000), Tick::Taken);
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
            bus.expire(now, Tick::Taken);
            prop_assert!(bus.next_timer() > now);
            if bus.interrupt_pending() {
                let _ = bus.acknowledge_interrupt();
            }
        }
    }
}

proptest! {
    #[test]
    fn however_long_its_guest_is_off_cpu_each_tick_of_the_8254_comes_once(
        count in 300_u16..60_000, gaps in prop::collection::vec((0_u64..20, 0_u64..20), 1..12),
    ) {
        let mut bus = bus();
        start_pics(&mut bus, 1);
        let [low, high] = count.to_le_bytes();
        for (port, value) in [(0x43, 0x34), (0x40, low), (0x40, high)] {
            let _ = out(&mut bus, port, value);
        }
        let period = bus.next_timer().0;
        let (mut now, mut taken) = (0, 0);
        for (off, on) in gaps.into_iter().chain([(0, 40)]) {
            now += off * period + 7;
            let until = now + on * period;
            loop {
                bus.expire(Tsc(now), Tick::Taken);
                if bus.interrupt_pending() {
                    prop_assert_eq!(bus.acknowledge_interrupt(), 0x30);
                    let _ = bus.write(0x20, Width::Byte, 0x60, Tsc(now));
                    taken += 1;
                }
                if bus.next_timer() > Tsc(until) {
                    break;
                }
                now = bus.next_timer().0;
            }
            now = until;
        }
        let clocks = now * 1_193_182 / 1_000_000_000;
        let due = clocks / u64::from(count);
        prop_assert!(due.abs_diff(taken) <= u64::from(clocks % u64::from(count) < 2), "{} {}", due, taken);
        prop_assert_eq!(bus.take_lost_ticks(), 0);
    }
}

/// Masked, the ticks are nobody's; not taken, they wait up to a bound.
#[test]
fn ticks_that_nobody_listens_to_are_not_kept_and_those_beyond_the_bound_are_counted() {
    let mut bus = bus();
    start_pics(&mut bus, 0);
    for (port, value) in [(0x43, 0x34), (0x40, 0x9C), (0x40, 0x2E)] {
        let _ = out(&mut bus, port, value); // 100 Hz
    }
    let mut now = Tsc(60_000_000_000);
    bus.expire(now, Tick::Taken);
    assert_eq!(bus.take_lost_ticks(), 0, "masked");
    let _ = bus.write(0x21, Width::Byte, 0xFE, now);
    assert_eq!(bus.acknowledge_interrupt(), 0x30, "the one that the 8259A kept");
    let _ = bus.write(0x20, Width::Byte, 0x60, now);
    now = bus.next_timer();
    bus.expire(now, Tick::Taken);
    let _ = (bus.acknowledge_interrupt(), bus.write(0x20, Width::Byte, 0x60, now));
    assert!(bus.next_timer().since(now).0 > 9_000_000, "and no more");
    // Ten seconds, in which the guest takes nothing: one waits in the 8259A, and the bound behind it.
    for _ in 0..1_000 {
        now = bus.next_timer();
        bus.expire(now, Tick::Taken);
    }
    assert!(now.0.abs_diff(70_000_000_000) < 10_000_000, "it is looked at once a period: {now:?}");
    assert_eq!(bus.take_lost_ticks(), 1_000 - 1 - 256, "{now:?}");
    let mut taken = 0;
    while now < Tsc(71_000_000_000) {
        if bus.interrupt_pending() {
            let _ = (bus.acknowledge_interrupt(), bus.write(0x20, Width::Byte, 0x60, now));
            taken += 1;
        }
        now = bus.next_timer();
        bus.expire(now, Tick::Taken);
    }
    assert!((1 + 256 + 97..=1 + 256 + 101).contains(&taken), "{taken}");
}
