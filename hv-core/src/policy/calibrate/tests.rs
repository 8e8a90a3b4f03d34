use super::*;
use proptest::prelude::*;

/// A machine from which time is stolen.
struct World {
    now_ps: u64,
    tsc_hz: u64,
    random: u64,
    /// How long it runs before time is stolen, and how long that takes, at most each.
    run_ns: u64,
    stolen_ns: u64,
    next_theft_ps: u64,
    /// The resolution of the clock that the references are worked out from.
    grain_ps: u64,
    /// How fast the 8254 is beside its nominal rate.
    pit_off_ppm: i64,
}

impl World {
    fn new(tsc_hz: u64, seed: u64, run_ns: u64, stolen_ns: u64) -> Self {
        Self {
            now_ps: 77_000_000,
            tsc_hz,
            random: seed | 1,
            run_ns,
            stolen_ns,
            next_theft_ps: 0,
            grain_ps: 1,
            pit_off_ppm: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    /// An instruction passes, and who knows what else.
    fn step(&mut self, ns: u64) {
        self.now_ps += ns * 1000 + self.random(100_000);
        if self.now_ps >= self.next_theft_ps {
            self.now_ps += self.random(self.stolen_ns + 1) * 1000;
            self.next_theft_ps = self.now_ps + (self.run_ns / 2 + self.random(self.run_ns)) * 1000;
        }
    }

    fn tsc(&mut self) -> Tsc {
        self.step(10);
        Tsc(whole(u128::from(self.now_ps) * u128::from(self.tsc_hz) / 1_000_000_000_000))
    }

    fn sample(&mut self, hz: u64, bits: u32, access_ns: u64) -> Sample {
        let before = self.tsc();
        self.step(access_ns);
        let grain_ps = if hz == APIC_HZ { 1 } else { self.grain_ps };
        let at = self.now_ps / grain_ps * grain_ps;
        let count = u128::from(at) * u128::from(hz) / 1_000_000_000_000 % (1 << bits);
        self.step(access_ns);
        Sample { before, count: u32::try_from(count).unwrap(), after: self.tsc() }
    }

    fn pit(&mut self) -> Sample {
        let nominal = Counter::PIT.hz.cast_signed();
        self.sample((nominal + nominal * self.pit_off_ppm / 1_000_000).cast_unsigned(), 16, 300)
    }

    fn pm(&mut self) -> Sample {
        self.sample(Counter::pm_timer(24).hz, 24, 300)
    }

    /// Looks until that is done; how long it took, in ms.
    fn calibrate(&mut self, with_pm: bool) -> (Calibration, u64) {
        let mut calibration = Calibration::new(with_pm.then_some(24));
        let begun = self.now_ps;
        while !calibration.is_done() {
            calibration.pit.add(self.pit());
            if let Some(pm) = &mut calibration.pm {
                pm.add(self.pm());
            }
            calibration.apic.add(self.sample(APIC_HZ, 32, 50));
        }
        (calibration, (self.now_ps - begun) / 1_000_000_000)
    }

    fn is_within(&self, found: &Found, ppm: u64) -> bool {
        (found.tsc.khz() * 1000).abs_diff(self.tsc_hz) <= self.tsc_hz / 1_000_000 * ppm
    }
}

const APIC_HZ: u64 = 100_000_000;
const QUIET: u64 = u64::MAX / 4_000;

#[test]
fn a_quiet_machine_is_measured_in_less_than_a_tenth_of_a_second() {
    let mut world = World::new(2_596_138_200, 1, QUIET, 0);
    let (calibration, ms) = world.calibrate(true);
    let found = calibration.found(None).unwrap();
    assert!(world.is_within(&found, 40), "{found:?}");
    assert_eq!((found.trust, found.apic.khz()), (Trust::Good, 100_000), "{found:?}");
    assert!(ms < 100, "{ms} ms");
}

#[test]
fn hundreds_of_mhz_are_found_to_the_last_digit() {
    for grain_ps in [1, 1_000_000] {
        let mut world = World::new(1_000_000_000, 3, QUIET, 0);
        world.grain_ps = grain_ps;
        let found = world.calibrate(true).0.found(None).unwrap();
        assert_eq!((found.tsc.khz(), found.trust), (1_000_000, Trust::Good), "{grain_ps}: {found:?}");
    }
}

#[test]
fn references_that_disagree_are_not_trusted() {
    let mut world = World::new(2_596_138_200, 5, QUIET, 0);
    world.pit_off_ppm = 5_000;
    let found = world.calibrate(true).0.found(None).unwrap();
    let Trust::Apart([pit, pm]) = found.trust else { panic!("{found:?}") };
    assert!(pit.khz().abs_diff(2_583_222) < 300 && pm.khz().abs_diff(2_596_138) < 300, "{found:?}");
}

#[test]
fn a_counter_that_jumps_is_not_trusted() {
    let mut world = World::new(2_000_000_000, 5, QUIET, 0);
    let mut calibration = Calibration::new(Some(24));
    for n in 0_u32.. {
        if calibration.is_done() {
            break;
        }
        let mut sample = world.pit();
        sample.count = (sample.count + n / 1_000 * 3_000) & 0xffff;
        calibration.pit.add(sample);
        calibration.pm.as_mut().unwrap().add(world.pm());
        calibration.apic.add(world.sample(APIC_HZ, 32, 50));
    }
    let found = calibration.found(None).unwrap();
    assert!(world.is_within(&found, 40), "the other one is: {found:?}");
    assert_eq!(found.trust, Trust::Broken);
}

#[test]
fn a_counter_that_stands_still_counts_for_nothing() {
    let mut world = World::new(2_000_000_000, 5, QUIET, 0);
    let mut calibration = Calibration::new(Some(24));
    let still = |world: &mut World| Sample { count: 0xffff, ..world.pit() };
    while !calibration.is_done() {
        calibration.pit.add(still(&mut world));
        calibration.pm.as_mut().unwrap().add(world.pm());
        calibration.apic.add(world.sample(APIC_HZ, 32, 50));
    }
    let found = calibration.found(None).unwrap();
    assert!(world.is_within(&found, 40) && found.trust == Trust::Good, "{found:?}");

    let mut calibration = Calibration::new(None);
    while !calibration.is_done() {
        calibration.pit.add(still(&mut world));
        calibration.apic.add(world.sample(APIC_HZ, 32, 50));
    }
    assert_eq!(calibration.found(None), Err(NoClock::NoReference));
}

#[test]
fn what_is_told_is_taken_if_a_counter_agrees_and_outvoted_by_two_that_do_not() {
    let told = |khz, is_exact| Some(Told { tsc: Frequency::from_khz(khz).unwrap(), is_exact });
    for (with_pm, told, expected_khz, is_trusted) in [
        (true, told(2_400_000, true), 2_400_000, true),
        (false, told(2_400_000, true), 2_400_000, true),
        (false, told(2_300_000, true), 2_400_010, false),
        (true, told(2_300_000, true), 2_400_010, true),
        (false, told(2_390_000, false), 2_400_010, true),
        (false, told(2_300_000, false), 2_400_010, false),
    ] {
        let mut world = World::new(2_400_010_000, 5, QUIET, 0);
        let found = world.calibrate(with_pm).0.found(told).unwrap();
        assert!(found.tsc.khz().abs_diff(expected_khz) <= 48, "{told:?} {with_pm}: {found:?}");
        assert_eq!(found.trust == Trust::Good, is_trusted, "{told:?} {with_pm}: {found:?}");
    }
}

#[test]
fn a_look_hours_later_says_how_far_off_the_rate_was() {
    let mut world = World::new(2_000_000_000, 5, QUIET, 0);
    let (mut calibration, _) = world.calibrate(true);
    for hours in [0, 1, 5] {
        world.now_ps += hours * 3_600_000_000_000_000 + 20_000_000_000_000;
        let (pit, pm) = (world.pit(), world.pm());
        calibration.revisit(pit, Some(pm));
        for (khz, expected) in [(2_000_000, 0), (2_000_100, 50), (1_999_900, -50)] {
            let off = calibration.off_ppm(Frequency::from_khz(khz).unwrap()).unwrap();
            assert!(off.abs_diff(expected) <= 1, "{hours} h, {khz} kHz: {off}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn stolen_time_makes_bounds_wider_and_never_wrong(
        tsc_hz in 800_000_000_u64..6_000_000_000, seed: u64, run_us in 50_u64..5_000, stolen_us in 0_u64..100_000,
        with_pm: bool, is_coarse: bool,
    ) {
        let mut world = World::new(tsc_hz, seed, run_us * 1_000, stolen_us * 1_000);
        world.grain_ps = if is_coarse { 1_000_000 } else { 1 };
        let (calibration, _) = world.calibrate(with_pm);
        for series in calibration.references() {
            prop_assert!((series.bounds.least_hz..=series.bounds.most_hz).contains(&tsc_hz), "{series:?}");
            prop_assert_eq!(series.breaks, 0);
        }
    }

    #[test]
    fn a_busy_host_leaves_the_rate_within_100_ppm(
        tsc_hz in 800_000_000_u64..6_000_000_000, seed: u64, run_us in 750_u64..5_000, stolen_us in 0_u64..20_000,
    ) {
        let mut world = World::new(tsc_hz, seed, run_us * 1_000, stolen_us * 1_000);
        let found = world.calibrate(true).0.found(None).unwrap();
        prop_assert!(world.is_within(&found, 100), "{found:?}");
        prop_assert!(found.apic.khz().abs_diff(APIC_HZ / 1000) <= 10, "{found:?}");
        prop_assert_eq!(found.trust, Trust::Good);
    }

    #[test]
    fn no_looks_break_anything(samples in prop::collection::vec((any::<u64>(), any::<u32>(), any::<u64>()), 0..60), bits in prop::sample::select([24, 32].as_slice())) {
        let mut calibration = Calibration::new(Some(bits));
        for (before, count, after) in samples {
            let sample = Sample { before: Tsc(before), count, after: Tsc(after) };
            calibration.pit.add(sample);
            calibration.pm.as_mut().unwrap().add(sample);
            calibration.apic.add(sample);
            calibration.revisit(sample, Some(sample));
            let _ = (calibration.is_done(), calibration.found(None), calibration.off_ppm(Frequency::from_khz(1).unwrap()));
        }
    }
}
