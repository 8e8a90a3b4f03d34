//! Register sequences as kernels issue them, and arbitrary ones.

use super::register::{IA32_APIC_BASE, IA32_TSC_DEADLINE, SELF_IPI, X2APIC_FIRST};
use super::*;
use crate::device::Gp;
use proptest::prelude::*;
use register as r;

const TSC: Frequency = Frequency::from_khz(2_000_000).unwrap();
const BUS: Frequency = Frequency::from_khz(1_000_000).unwrap();

fn nobodys() -> &'static AtomicU8 {
    std::boxed::Box::leak(std::boxed::Box::new(AtomicU8::new(0)))
}

fn apic() -> Lapic {
    let mut apic = Lapic::new(&Setup {
        id: 5,
        role: Role::Bootstrap,
        physical_bits: 40,
        tsc: TSC,
        bus: BUS,
        flat_id: nobodys(),
    });
    assert_eq!(apic.write_msr(IA32_APIC_BASE, 0xFEE0_0D00, Tsc(0)), Ok(ApicEffect::TimerChanged));
    apic
}

#[track_caller]
fn write(apic: &mut Lapic, index: u32, value: u64, now: u64) -> ApicEffect {
    apic.write_msr(index, value, Tsc(now)).unwrap()
}

/// Everything a guest can read.
fn registers(apic: &Lapic, now: Tsc) -> std::vec::Vec<Result<u64, Gp>> {
    [IA32_APIC_BASE, IA32_TSC_DEADLINE]
        .into_iter()
        .chain(X2APIC_FIRST..=SELF_IPI)
        .map(|index| apic.read_msr(index, now))
        .collect()
}

#[test]
fn the_registers_answer_in_x2apic_mode_only() {
    let mut apic = Lapic::new(&Setup {
        id: 0,
        role: Role::Application,
        physical_bits: 40,
        tsc: TSC,
        bus: BUS,
        flat_id: nobodys(),
    });
    assert_eq!(apic.read_msr(IA32_APIC_BASE, Tsc(0)), Ok(0xFEE0_0800));
    for index in X2APIC_FIRST..=SELF_IPI {
        assert_eq!(apic.read_msr(index, Tsc(0)), Err(Gp), "{index:#x}");
        assert_eq!(apic.write_msr(index, 0, Tsc(0)), Err(Gp), "{index:#x}");
    }
    // §11.12.5: the legal path is old mode, x2APIC, off, old mode; everything else faults.
    for (value, legal) in [
        (0x400, false),
        (0xFEE0_0C00, true),
        (0xFEE0_0800, false),
        (0xFEE0_0C00, true),
        (0xFEE0_0000, true),
        (0xFEE0_0C00, false),
        (0xFEE0_0800, true),
        (0xFEE0_0801, false),
        (1 << 40 | 0x800, false),
    ] {
        let before = apic.read_msr(IA32_APIC_BASE, Tsc(0));
        assert_eq!(apic.write_msr(IA32_APIC_BASE, value, Tsc(0)).is_ok(), legal, "{value:#x}");
        let after = apic.read_msr(IA32_APIC_BASE, Tsc(0));
        assert_eq!(after, if legal { Ok(value) } else { before }, "{value:#x}");
    }
}

#[test]
fn identity_registers_tell_id_cluster_and_table_size() {
    let apic = apic();
    assert_eq!(apic.read_msr(r::ID, Tsc(0)), Ok(5));
    assert_eq!(apic.read_msr(r::LDR, Tsc(0)), Ok(1 << 5));
    assert_eq!(apic.read_msr(r::VERSION, Tsc(0)), Ok(0x5_0014));
    assert_eq!(logical_id(0x23), 0x2_0008);
}

#[test]
fn a_reserved_bit_or_a_wrong_direction_faults_and_changes_nothing() {
    let mut apic = apic();
    let cases = [
        (r::TPR, 0x100),
        (r::EOI, 1),
        (r::SVR, 0x400),
        (r::ESR, 1),
        (r::ICR, 1 << 13),
        (r::ICR, 1 << 20),
        (r::INITIAL_COUNT, 1 << 32),
        (r::DIVIDE, 4),
        (r::SELF_IPI, 0x100),
        (0x832, 0x7 << 17),
        (0x832, 0x100),
        (0x833, 1 << 13),
        (0x835, 1 << 17),
        (0x837, 0x700),
        (r::ID, 0),
        (r::VERSION, 0),
        (r::PPR, 0),
        (r::LDR, 0),
        (r::ISR_0, 0),
        (r::TMR_7, 0),
        (r::IRR_0 + 3, 0),
        (r::CURRENT_COUNT, 0),
        (0x800, 0),
        (0x80E, 0),
        (0x82F, 0),
        (0x831, 0),
    ];
    let before = registers(&apic, Tsc(9));
    for (index, value) in cases {
        assert_eq!(apic.write_msr(index, value, Tsc(9)), Err(Gp), "{index:#x} {value:#x}");
        assert_eq!(registers(&apic, Tsc(9)), before, "{index:#x} {value:#x}");
    }
    for index in [r::EOI, r::SELF_IPI, 0x80E, 0x82F, 0x831] {
        assert_eq!(apic.read_msr(index, Tsc(9)), Err(Gp), "{index:#x}");
    }
}

#[test]
fn an_interrupt_nests_only_in_a_lower_class() {
    let mut apic = apic();
    apic.post(0x51);
    assert_eq!(apic.highest_pending(), Some(0x51));
    apic.acknowledge(0x51);
    apic.post(0x5F);
    assert_eq!(apic.highest_pending(), None);
    apic.post(0x60);
    assert_eq!(apic.highest_pending(), Some(0x60));
    apic.acknowledge(0x60);
    assert_eq!(apic.read_msr(r::PPR, Tsc(0)), Ok(0x60));
    assert_eq!(apic.read_msr(r::ISR_0 + 3, Tsc(0)), Ok(1));
    assert_eq!(write(&mut apic, r::EOI, 0, 0), ApicEffect::Eoi(Some(0x60)));
    assert_eq!(apic.highest_pending(), None);
    assert_eq!(write(&mut apic, r::EOI, 0, 0), ApicEffect::Eoi(Some(0x51)));
    assert_eq!(apic.highest_pending(), Some(0x5F));
    assert_eq!(write(&mut apic, r::TPR, 0x50, 0), ApicEffect::None);
    assert_eq!(apic.highest_pending(), None);
    assert_eq!(write(&mut apic, r::TPR, 0x4F, 0), ApicEffect::None);
    assert_eq!(apic.highest_pending(), Some(0x5F));
    apic.acknowledge(0x5F);
    assert_eq!(write(&mut apic, r::EOI, 0, 0), ApicEffect::Eoi(Some(0x5F)));
    assert_eq!(write(&mut apic, r::EOI, 0, 0), ApicEffect::Eoi(None));
}

#[test]
fn a_one_shot_fires_once_at_its_exact_moment() {
    let mut apic = apic();
    let _ = write(&mut apic, 0x832, 0xEC, 0);
    let _ = write(&mut apic, r::DIVIDE, 0b0011, 0); // by 16
    assert_eq!(write(&mut apic, r::INITIAL_COUNT, 100, 1000), ApicEffect::TimerChanged);
    // 100 × 16 bus clocks of 2 ticks each.
    assert_eq!(apic.next_expiry(), Tsc(1000 + 3200));
    assert_eq!(apic.read_msr(r::CURRENT_COUNT, Tsc(1000)), Ok(100));
    assert_eq!(apic.read_msr(r::CURRENT_COUNT, Tsc(1000 + 1600)), Ok(50));
    assert!(!apic.expire(Tsc(4199)));
    assert_eq!(apic.highest_pending(), None);
    assert!(apic.expire(Tsc(4200)));
    assert_eq!((apic.highest_pending(), apic.next_expiry()), (Some(0xEC), Tsc::NEVER));
    assert_eq!(apic.read_msr(r::CURRENT_COUNT, Tsc(4200)), Ok(0));
    assert!(!apic.expire(Tsc(9000)));
}

#[test]
fn a_late_periodic_timer_keeps_its_grid_and_makes_up_for_what_it_missed() {
    let mut apic = apic();
    let _ = write(&mut apic, 0x832, 0x2_00EC, 0);
    let _ = write(&mut apic, r::DIVIDE, 0b1011, 0); // by 1
    let _ = write(&mut apic, r::INITIAL_COUNT, 500, 0);
    assert_eq!(apic.next_expiry(), Tsc(1000));
    assert!(apic.expire(Tsc(4300)));
    assert!(!apic.expire(Tsc(4300)));
    assert_eq!(apic.next_expiry(), Tsc(4362), "sixteen times as fast");
    assert!(!apic.expire(Tsc(4362)), "the first was not taken");
    assert_eq!(apic.next_expiry(), Tsc(5000));
    assert_eq!(apic.read_msr(r::CURRENT_COUNT, Tsc(4400)), Ok(300));
    for now in [5000, 5062, 5124, 5186] {
        apic.acknowledge(0xEC);
        let _ = apic.end_of_interrupt();
        assert_eq!(apic.next_expiry(), Tsc(now));
        assert!(apic.expire(Tsc(now)));
    }
    assert_eq!(apic.next_expiry(), Tsc(6000));
    let _ = write(&mut apic, r::INITIAL_COUNT, 0, 6500);
    assert_eq!(apic.next_expiry(), Tsc::NEVER);
}

#[test]
fn a_late_periodic_timer_that_is_made_one_shot_ends_at_its_count_and_makes_up_for_nothing() {
    let mut apic = apic();
    let _ = write(&mut apic, 0x832, 0x2_00EC, 0);
    let _ = write(&mut apic, r::DIVIDE, 0b1011, 0); // by 1
    let _ = write(&mut apic, r::INITIAL_COUNT, 500, 0);
    assert!(apic.expire(Tsc(4300)));
    assert_eq!(apic.next_expiry(), Tsc(4362), "a tick that is made up for");
    let _ = write(&mut apic, 0x832, 0xEC, 4310);
    assert_eq!(apic.read_msr(r::CURRENT_COUNT, Tsc(4310)), Ok(345));
    assert_eq!(apic.next_expiry(), Tsc(5000));
    let _ = write(&mut apic, r::INITIAL_COUNT, 0, 4320);
    let _ = write(&mut apic, 0x832, 0x2_00EC, 4330);
    let _ = write(&mut apic, 0x832, 0xEC, 4340);
    assert_eq!(apic.next_expiry(), Tsc::NEVER, "one that is stopped stays so");
}

#[test]
fn a_deadline_counts_only_in_its_mode() {
    let mut apic = apic();
    let _ = write(&mut apic, IA32_TSC_DEADLINE, 777, 0);
    assert_eq!(apic.next_expiry(), Tsc::NEVER);
    let _ = write(&mut apic, r::INITIAL_COUNT, 10, 0);
    let _ = write(&mut apic, 0x832, 0x4_00EC, 0);
    assert_eq!(apic.next_expiry(), Tsc::NEVER, "changing to deadline mode disarms");
    let _ = write(&mut apic, IA32_TSC_DEADLINE, 777, 500);
    assert_eq!(apic.read_msr(IA32_TSC_DEADLINE, Tsc(500)), Ok(777));
    let _ = write(&mut apic, r::INITIAL_COUNT, 10, 500);
    assert_eq!(apic.next_expiry(), Tsc(777));
    assert!(apic.expire(Tsc(777)));
    assert_eq!(apic.read_msr(IA32_TSC_DEADLINE, Tsc(800)), Ok(0));
    let _ = write(&mut apic, IA32_TSC_DEADLINE, 100, 800);
    assert!(apic.expire(Tsc(800)), "a past deadline fires at once");
    let _ = write(&mut apic, IA32_TSC_DEADLINE, 900, 800);
    let _ = write(&mut apic, IA32_TSC_DEADLINE, 0, 800);
    assert!(!apic.expire(Tsc(1000)));
}

#[test]
fn a_masked_timer_runs_silently() {
    let mut apic = apic();
    let _ = write(&mut apic, 0x832, 0x1_00EC, 0);
    let _ = write(&mut apic, r::INITIAL_COUNT, 10, 0);
    assert!(!apic.expire(Tsc(1000)));
    assert_eq!((apic.highest_pending(), apic.next_expiry()), (None, Tsc::NEVER));
}

#[test]
fn a_software_disabled_apic_masks_its_table_and_takes_nothing() {
    let mut apic = apic();
    let _ = write(&mut apic, 0x837, 0xFE, 0);
    apic.post(0x40);
    let _ = write(&mut apic, r::SVR, 0xFF, 0);
    assert_eq!(apic.read_msr(0x837, Tsc(0)), Ok(0x1_00FE));
    assert_eq!(apic.read_msr(0x835, Tsc(0)), Ok(0x1_0700));
    let _ = write(&mut apic, 0x837, 0xFE, 0);
    assert_eq!(apic.read_msr(0x837, Tsc(0)), Ok(0x1_00FE));
    apic.post(0x90);
    assert_eq!(apic.highest_pending(), Some(0x40), "what was requested stays");
}

#[test]
fn init_keeps_id_and_mode_and_nothing_else() {
    let mut apic = apic();
    let _ = write(&mut apic, 0x832, 0x2_00EC, 0);
    let _ = write(&mut apic, r::INITIAL_COUNT, 10, 0);
    apic.post(0x80);
    apic.acknowledge(0x80);
    apic.post(0x90);
    apic.init();
    assert!(apic.is_x2apic());
    assert_eq!((apic.highest_pending(), apic.next_expiry()), (None, Tsc::NEVER));
    let expected = [(r::ID, 5), (r::TPR, 0), (r::PPR, 0), (r::SVR, 0xFF), (r::ISR_0 + 4, 0), (r::ICR, 0)];
    for (index, value) in expected {
        assert_eq!(apic.read_msr(index, Tsc(0)), Ok(value), "{index:#x}");
    }
    for index in 0x832..=0x837 {
        assert_eq!(apic.read_msr(index, Tsc(0)), Ok(0x1_0000), "{index:#x}");
    }
}

#[test]
fn power_on_is_the_state_a_new_one_has() {
    for role in [Role::Bootstrap, Role::Application] {
        let setup = Setup { id: 7, role, physical_bits: 40, tsc: TSC, bus: BUS, flat_id: nobodys() };
        let mut used = Lapic::new(&setup);
        for (index, value) in [
            (IA32_APIC_BASE, 0xFEE0_0C00),
            (r::SVR, 0x1FF),
            (r::TPR, 0x30),
            (0x832, 0x2_00EC),
            (r::DIVIDE, 3),
            (r::INITIAL_COUNT, 9),
        ] {
            let _ = write(&mut used, index, value, 0);
        }
        used.post(0x80);
        used.acknowledge(0x80);
        used.power_on();
        let mut new = Lapic::new(&setup);
        assert_eq!(
            (used.takes_external(), used.next_expiry()),
            (new.takes_external(), Tsc::NEVER),
            "{role:?}"
        );
        assert_eq!(used.takes_external(), role == Role::Bootstrap);
        assert!(!used.is_x2apic());
        for apic in [&mut used, &mut new] {
            let _ = write(apic, IA32_APIC_BASE, 0xFEE0_0C00, 0);
        }
        assert_eq!(registers(&used, Tsc(0)), registers(&new, Tsc(0)), "{role:?}");
    }
}

#[test]
fn lint0_passes_the_8259_as_firmware_set_it_until_masked() {
    let mut apic = apic();
    assert!(apic.takes_external());
    let _ = write(&mut apic, 0x835, 0x1_0000, 0);
    assert!(!apic.takes_external());
    let _ = write(&mut apic, 0x835, 0x700, 0);
    assert!(apic.takes_external());
    let _ = write(&mut apic, 0x835, 0x30, 0);
    assert!(!apic.takes_external());
    let _ = write(&mut apic, IA32_APIC_BASE, 0xFEE0_0000, 0);
    assert!(apic.takes_external());
}

#[test]
fn an_illegal_vector_is_an_error_told_once() {
    let mut apic = apic();
    let _ = write(&mut apic, 0x837, 0xFE, 0);
    assert_eq!(write(&mut apic, r::ICR, 5, 0), ApicEffect::None);
    assert_eq!(apic.highest_pending(), Some(0xFE));
    apic.acknowledge(0xFE);
    assert_eq!(write(&mut apic, r::SELF_IPI, 3, 0), ApicEffect::None);
    apic.post(2);
    assert_eq!(apic.read_msr(r::ESR, Tsc(0)), Ok(0));
    let _ = write(&mut apic, r::ESR, 0, 0);
    assert_eq!(apic.read_msr(r::ESR, Tsc(0)), Ok(0x60));
    let _ = write(&mut apic, r::ESR, 0, 0);
    assert_eq!(apic.read_msr(r::ESR, Tsc(0)), Ok(0));
}

#[test]
fn an_ipi_is_handed_out_and_one_to_self_is_posted() {
    let mut apic = apic();
    let ipi = Ipi { to: Destination::Physical(3), delivery: IpiDelivery::Fixed(0xFD) };
    assert_eq!(write(&mut apic, r::ICR, 0x3_0000_00FD, 0), ApicEffect::Ipi(ipi));
    assert_eq!(apic.read_msr(r::ICR, Tsc(0)), Ok(0x3_0000_00FD));
    assert_eq!(apic.highest_pending(), None);
    assert_eq!(write(&mut apic, r::SELF_IPI, 0xF6, 0), ApicEffect::SelfIpi(0xF6));
    assert_eq!(apic.highest_pending(), Some(0xF6));
}

/// `setup_local_APIC` and `__setup_APIC_LVTT` of Linux 6.1 on a machine without an I/O APIC.
#[test]
fn linux_sets_up_its_boot_processor() {
    let mut apic = apic();
    let masked = 0x1_0000;
    let steps = [
        (0x837, 0xFE | masked),
        (0x832, masked),
        (0x835, 0x700 | masked),
        (0x836, 0x400 | masked),
        (0x834, masked),
        (r::ESR, 0),
        (r::TPR, 0x10),
        (r::SVR, 0x1FF),
        (0x835, 0x700),
        (0x836, 0x400),
        (r::ESR, 0),
        (0x837, 0xFE),
        (0x832, 0xEC),
        (r::DIVIDE, 3),
        (r::INITIAL_COUNT, 0xFFFF_FFFF),
    ];
    for (index, value) in steps {
        assert!(apic.write_msr(index, value, Tsc(0)).is_ok(), "{index:#x} {value:#x}");
    }
    // `calibrate_APIC_clock`: the count falls by one in 16 bus clocks.
    assert_eq!(apic.read_msr(r::CURRENT_COUNT, Tsc(200_000_000)), Ok(0xFFFF_FFFF - 6_250_000));
    assert!(apic.takes_external());
}

fn any_step() -> impl Strategy<Value = (u32, u64, u64)> {
    let index = prop_oneof![
        8 => X2APIC_FIRST..=SELF_IPI,
        1 => Just(IA32_APIC_BASE),
        2 => Just(IA32_TSC_DEADLINE),
        2 => Just(0x832_u32),
        2 => Just(r::INITIAL_COUNT),
    ];
    let value = prop_oneof![
        any::<u64>(),
        0_u64..0x400,
        (0_u64..8).prop_map(|mode| mode << 17 | 0xEC),
        any::<u32>().prop_map(u64::from),
        (0_u64..4).prop_map(|mode| 0xFEE0_0000 | mode << 10),
    ];
    (index, value, prop_oneof![0_u64..10_000, any::<u64>()])
}

proptest! {
    #[test]
    fn no_sequence_panics_or_leaves_an_expiry_behind(
        steps in prop::collection::vec(any_step(), 0..60), khz in (1_u64..1 << 34, 1_u64..1 << 34),
    ) {
        let clock = |khz| Frequency::from_khz(khz).unwrap();
        let mut apic = Lapic::new(&Setup {
            id: 1, role: Role::Bootstrap, physical_bits: 48, tsc: clock(khz.0), bus: clock(khz.1), flat_id: nobodys(),
        });
        let mut now = Tsc(0);
        for (index, value, forward) in steps {
            now = Tsc(now.0.saturating_add(forward));
            let before = registers(&apic, now);
            if apic.write_msr(index, value, now).is_err() {
                prop_assert_eq!(registers(&apic, now), before);
            }
            let _ = apic.expire(now);
            prop_assert!(apic.next_expiry() > now || now == Tsc::NEVER);
            prop_assert!(!apic.expire(now));
            if let Some(vector) = apic.highest_pending() {
                apic.acknowledge(vector);
                let shown = apic.read_msr(r::PPR, now);
                prop_assert!(shown.is_err() || shown.is_ok_and(|shown| shown >= u64::from(vector & 0xF0)));
                prop_assert_ne!(apic.highest_pending(), Some(vector));
            }
            if let (Ok(initial), Ok(current)) =
                (apic.read_msr(r::INITIAL_COUNT, now), apic.read_msr(r::CURRENT_COUNT, now))
            {
                prop_assert!(current <= initial);
                prop_assert!(current > 0 || apic.next_expiry() == Tsc::NEVER || apic.read_msr(IA32_TSC_DEADLINE, now) != Ok(0));
            }
        }
    }
}

proptest! {
    #[test]
    fn however_long_its_guest_is_off_cpu_each_period_is_told_once(
        count in 50_u64..5_000, gaps in proptest::collection::vec((0_u64..20, 0_u64..20), 1..12),
    ) {
        let mut apic = apic();
        let _ = write(&mut apic, 0x832, 0x2_00EC, 0);
        let _ = write(&mut apic, r::DIVIDE, 0b1011, 0); // by 1: two ticks of the counter
        let _ = write(&mut apic, r::INITIAL_COUNT, count, 0);
        let (period, mut now, mut told) = (2 * count, 0, 0);
        for (off, on) in gaps.into_iter().chain([(0, 40)]) {
            now += off * period + 7;
            let until = now + on * period;
            loop {
                if apic.expire(Tsc(now)) {
                    apic.acknowledge(0xEC);
                    let _ = apic.end_of_interrupt();
                    told += 1;
                }
                if apic.next_expiry() > Tsc(until) {
                    break;
                }
                now = apic.next_expiry().0;
            }
            now = until;
        }
        prop_assert_eq!(told, now / period);
        prop_assert_eq!(apic.take_lost_ticks(), 0);
    }
}
