//! Calibration of the time-stamp counter's rate against counters whose rates are known.
//!
//! Firmware, or a host under this machine, can stop the calibrating processor at any point, for any time. So no single look is trusted.
//! A look shows only that the counter had a value at some moment between two readings of the TSC, and two looks bound the rate from both
//! sides. Stolen time makes bounds wider, never wrong; each further look can only narrow them, and they end up as narrow as the two
//! tightest looks that are far apart allow.
//!
//! Deadlines must not rest on two counters that disagree, or on one that contradicts itself ([`Trust`]).

use crate::base::time::{Frequency, Tsc, scale};
use heapless::Vec;

/// Calibration ends when the bounds are this close to each other: the middle is off by half of that at most, and usually by far less.
const WIDTH_PPM: u64 = 70;
/// Calibration ends after this much of a counter's time if there is any measurement.
const LONG_MS: u64 = 150;
/// Calibration ends after this much of a counter's time even without a measurement.
const LONGEST_MS: u64 = 2_000;
/// Bounds that are wider than this in the end are no measurement.
const VAGUE_PPM: u64 = 1_000;
/// Tolerated difference between two counters: each has its own crystal, which is good to 100 ppm.
const CRYSTALS_PPM: u64 = 200;
/// Number of looks after which a counter that has not moved is taken to stand still.
const STANDING_LOOKS: u32 = 10_000;
/// Number of times that a counter may contradict itself: once when it is set up, and when firmware or a host has moved it.
const MAX_BREAKS: u32 = 3;
/// Number of looks with which later ones are compared; each was the tightest up to its time.
const ANCHORS: usize = 8;
/// Rates that no TSC has: below that of the slowest emulator, and where [`Frequency`] ends.
const NO_LESS_HZ: u64 = 1_000_000;
const NO_MORE_HZ: u64 = 1_000 << 34;

/// A counter that counts up, and wraps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counter {
    /// Counts a second.
    hz: u64,
    /// Width of the counter in bits.
    bits: u32,
    /// Counts by which a reading may be behind. Emulators work out their counters from a clock of a microsecond's resolution.
    lag: u64,
}

impl Counter {
    /// The 8254's input clock (Intel 8254 data sheet, the PC's 14.31818 MHz / 12).
    pub const PIT: Self = Self { hz: 1_193_182, bits: 16, lag: 2 };
    /// The APIC timer: its rate is sought, and comes out relative to this one.
    const APIC: Self = Self { hz: 1_000_000_000, bits: 32, lag: 0 };

    /// The ACPI power-management timer, 24 or 32 bits wide (ACPI 6.5 §4.8.3.3).
    pub const fn pm_timer(bits: u32) -> Self {
        Self { hz: 3_579_545, bits, lag: 4 }
    }

    const fn wrap(self) -> u64 {
        1 << self.bits
    }
}

/// What a counter showed at some moment between two readings of the TSC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Read before the counter.
    pub before: Tsc,
    /// The counter, counting up.
    pub count: u32,
    /// Read after the counter.
    pub after: Tsc,
}

/// A look with the wraps counted.
#[derive(Clone, Copy, Debug)]
struct Seen {
    before: Tsc,
    count: u64,
    after: Tsc,
}

impl Seen {
    fn width(self) -> u64 {
        self.after.since(self.before).0
    }
}

/// The TSC's rate lies between these, ends included, in Hz.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    least_hz: u64,
    most_hz: u64,
}

impl Bounds {
    const ANY: Self = Self { least_hz: NO_LESS_HZ, most_hz: NO_MORE_HZ };

    /// Narrowed by two looks at one counter, of which `b` is the later one.
    fn narrowed(self, counter: Counter, a: Seen, b: Seen) -> Self {
        let counts = b.count.saturating_sub(a.count);
        let unsure = 1 + counter.lag;
        let (longest, shortest) = (b.after.since(a.before).0, b.before.since(a.after).0);
        let mut bounds = self;
        // The divisions are for the few looks that narrow anything.
        let (fewest, most) = (u128::from(counts.saturating_sub(unsure)), u128::from(counts + unsure));
        let (longest, shortest) =
            (u128::from(longest) * u128::from(counter.hz), u128::from(shortest) * u128::from(counter.hz));
        if longest < u128::from(self.most_hz) * fewest {
            bounds.most_hz = whole(longest.div_ceil(fewest));
        }
        if shortest > u128::from(self.least_hz) * most {
            bounds.least_hz = whole(shortest / most);
        }
        bounds
    }

    const fn is_empty(self) -> bool {
        self.least_hz > self.most_hz
    }

    const fn middle_hz(self) -> u64 {
        self.least_hz.midpoint(self.most_hz)
    }

    /// From end to end, in millionths.
    fn width_ppm(self) -> u64 {
        ppm(self.most_hz.abs_diff(self.least_hz), self.least_hz)
    }

    fn is_known(&self) -> bool {
        self.most_hz < NO_MORE_HZ && self.width_ppm() <= VAGUE_PPM
    }

    fn both(self, other: Self) -> Self {
        Self { least_hz: self.least_hz.max(other.least_hz), most_hz: self.most_hz.min(other.most_hz) }
    }

    /// Whether one rate can be in both, give or take `within_ppm`.
    fn meets(self, other: Self, within_ppm: u64) -> bool {
        let both = self.both(other);
        !both.is_empty() || both.width_ppm() <= within_ppm
    }

    /// What is in both; the narrower one, if crystals that differ a little leave nothing.
    fn joined(self, other: Self) -> Self {
        let both = self.both(other);
        if !both.is_empty() {
            both
        } else if other.width_ppm() < self.width_ppm() {
            other
        } else {
            self
        }
    }

    /// The middle. Makers and emulators prefer hundreds of MHz, so one in the middle half of the bounds is it.
    fn frequency(self) -> Option<Frequency> {
        const ROUND_HZ: u64 = 100_000_000;
        let middle = self.middle_hz();
        let round = middle.saturating_add(ROUND_HZ / 2) / ROUND_HZ * ROUND_HZ;
        let is_near = round.abs_diff(middle) <= self.most_hz.saturating_sub(self.least_hz) / 4;
        Frequency::from_khz(if is_near { round / 1000 } else { middle.saturating_add(500) / 1000 })
    }
}

fn ppm(part: u64, of: u64) -> u64 {
    scale(part, 1_000_000, of.max(1))
}

fn whole(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// Looks at one counter, and what follows from them.
#[derive(Clone, Debug)]
pub struct Series {
    counter: Counter,
    /// Each tighter than the one before it.
    anchors: Vec<Seen, ANCHORS>,
    last: Option<Seen>,
    bounds: Bounds,
    /// Counts of the times when it began again.
    before: u64,
    breaks: u32,
    /// Looks since the counter moved.
    standing: u32,
}

impl Series {
    /// A series without looks.
    pub const fn new(counter: Counter) -> Self {
        Self {
            counter,
            anchors: Vec::new(),
            last: None,
            bounds: Bounds::ANY,
            before: 0,
            breaks: 0,
            standing: 0,
        }
    }

    /// Takes a look into account.
    pub fn add(&mut self, sample: Sample) {
        let Some(seen) = self.unwrapped(sample) else { return self.begin(sample) };
        let is_still = self.last.is_some_and(|last| last.count == seen.count);
        self.standing = if is_still { self.standing.saturating_add(1) } else { 0 };
        self.last = Some(seen);
        let counter = self.counter;
        self.bounds = self.anchors.iter().fold(self.bounds, |bounds, a| bounds.narrowed(counter, *a, seen));
        if self.bounds.is_empty() {
            self.breaks += 1;
            return self.begin(sample);
        }
        if self.anchors.last().is_none_or(|tightest| seen.width() < tightest.width()) {
            if self.anchors.is_full() {
                self.anchors.pop();
            }
            // There is room now.
            let _ = self.anchors.push(seen);
        }
    }

    /// Forgets everything but this look, because the counter jumped, or may have wrapped an unknown number of times.
    fn begin(&mut self, sample: Sample) {
        let seen = Seen { before: sample.before, count: u64::from(sample.count), after: sample.after };
        self.before += self.elapsed_here();
        self.last = Some(seen);
        self.bounds = Bounds::ANY;
        self.anchors.clear();
        // It is empty.
        let _ = self.anchors.push(seen);
    }

    /// Counts the wraps since the last look; `None` where the rate as far as it is known leaves that open.
    fn unwrapped(&self, sample: Sample) -> Option<Seen> {
        let last = self.last?;
        let wrap = self.counter.wrap();
        let step = u64::from(sample.count).wrapping_sub(last.count) & (wrap - 1);
        let counts = |ticks: u64, tsc_hz: u64| scale(ticks, self.counter.hz, tsc_hz);
        let unsure = 1 + self.counter.lag;
        let most = counts(sample.after.since(last.before).0, self.bounds.least_hz).saturating_add(unsure);
        let mut passed = step;
        if most >= wrap {
            let fewest =
                counts(sample.before.since(last.after).0, self.bounds.most_hz).saturating_sub(unsure);
            passed = step.checked_add(fewest.saturating_sub(step).div_ceil(wrap).checked_mul(wrap)?)?;
            if passed.checked_add(wrap)? <= most {
                return None;
            }
        }
        Some(Seen { before: sample.before, count: last.count.checked_add(passed)?, after: sample.after })
    }

    /// Notes a look long after the others, which narrows nothing: over hours no two clocks agree to the last digit.
    fn revisit(&mut self, sample: Sample) {
        let bounds = self.bounds;
        match self.unwrapped(sample) {
            Some(seen) => self.last = Some(seen),
            None => self.begin(sample),
        }
        self.bounds = bounds;
    }

    fn elapsed_here(&self) -> u64 {
        let first = self.anchors.first().map_or(0, |first| first.count);
        self.last.map_or(0, |last| last.count.saturating_sub(first))
    }

    /// How long the series is, in ms of the counter's time.
    fn elapsed_ms(&self) -> u64 {
        scale(self.before.saturating_add(self.elapsed_here()), 1_000, self.counter.hz)
    }

    /// Whether the counter does not count, or not evenly.
    fn is_broken(&self) -> bool {
        self.standing >= STANDING_LOOKS || self.breaks > MAX_BREAKS
    }

    /// Bounds of the TSC's rate, if the counter counts.
    fn rate(&self) -> Option<Bounds> {
        (!self.is_broken() && self.bounds.most_hz < NO_MORE_HZ).then_some(self.bounds)
    }

    /// Bounds of the TSC's rate, from the first tight looks to the last look.
    fn rate_to_last(&self) -> Option<Bounds> {
        let (last, counter) = (self.last?, self.counter);
        Some(self.anchors.iter().fold(Bounds::ANY, |bounds, a| bounds.narrowed(counter, *a, last)))
    }
}

/// A TSC rate that the processor, or the hypervisor below this one, reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// The rate.
    pub tsc: Frequency,
    /// Whether the rate is the TSC's own, and not an approximation.
    pub is_exact: bool,
}

impl Told {
    /// A base frequency (CPUID 16h) is a round number.
    const ABOUT_PPM: u64 = 10_000;

    fn fits(self, bounds: Bounds) -> bool {
        let hz = self.tsc.khz().saturating_mul(1000);
        let told = Bounds { least_hz: hz, most_hz: hz };
        told.meets(bounds, if self.is_exact { CRYSTALS_PPM } else { Self::ABOUT_PPM })
    }
}

/// Whether deadlines may rest on the rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// All sources agree.
    Good,
    /// The 8254 and the ACPI timer, or the only one of them and the reported rate, give different rates.
    Apart([Frequency; 2]),
    /// One of the counters contradicts itself.
    Broken,
    /// Too much time was stolen for a measurement: the rate may be off by this many millionths.
    Vague(u64),
}

/// The result of a calibration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The time-stamp counter's rate.
    pub tsc: Frequency,
    /// The APIC timer's, undivided.
    pub apic: Frequency,
    /// Upper bound of the error of the TSC's rate by the counters, in millionths.
    pub within_ppm: u64,
    /// Whether deadlines may rest on it.
    pub trust: Trust,
}

/// Nothing was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoClock {
    /// Neither the 8254 nor an ACPI timer counts.
    NoReference,
    /// The APIC's timer does not count.
    NoApicTimer,
}

/// Looks at all counters.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The 8254.
    pub pit: Series,
    /// The ACPI timer, where there is one.
    pub pm: Option<Series>,
    /// The APIC timer.
    pub apic: Series,
}

impl Calibration {
    /// A calibration without looks; `pm_bits` is the width of the ACPI timer, `None` where there is none.
    pub fn new(pm_bits: Option<u32>) -> Self {
        Self {
            pit: Series::new(Counter::PIT),
            pm: pm_bits.map(|bits| Series::new(Counter::pm_timer(bits))),
            apic: Series::new(Counter::APIC),
        }
    }

    /// The counters of known rate.
    fn references(&self) -> impl Iterator<Item = &Series> {
        [Some(&self.pit), self.pm.as_ref()].into_iter().flatten()
    }

    /// The bounds that all counting references have in common; `None` if none counts.
    fn joint(&self) -> Option<Bounds> {
        self.references().filter_map(Series::rate).reduce(Bounds::joined)
    }

    /// Whether further looks are of no use.
    pub fn is_done(&self) -> bool {
        let both = |fits: fn(&Bounds) -> bool| {
            self.joint().is_some_and(|joint| fits(&joint)) && self.apic.rate().is_some_and(|rate| fits(&rate))
        };
        let elapsed_ms = self.references().map(Series::elapsed_ms).max().unwrap_or(0);
        both(|bounds| bounds.width_ppm() <= WIDTH_PPM)
            || elapsed_ms >= LONG_MS && both(Bounds::is_known)
            || elapsed_ms >= LONGEST_MS
            || self.references().all(Series::is_broken)
            || self.apic.is_broken()
    }

    /// The result of the looks, combined with the reported rate `told`.
    ///
    /// # Errors
    ///
    /// [`NoClock`] names the counter that is missing.
    pub fn found(&self, told: Option<Told>) -> Result<Found, NoClock> {
        let joint = self.joint().ok_or(NoClock::NoReference)?;
        let measured = joint.frequency().ok_or(NoClock::NoReference)?;
        let apic = self.apic_rate(joint).ok_or(NoClock::NoApicTimer)?;
        let trust = self.trust(joint, measured, told);
        // A rate that the processor reports as exact is better than the measured one, if the counters do not contradict it.
        let exact = told.filter(|told| told.is_exact && told.fits(joint));
        let within_ppm = joint.width_ppm().div_ceil(2);
        Ok(Found { tsc: exact.map_or(measured, |told| told.tsc), apic, within_ppm, trust })
    }

    /// The APIC timer's rate, if the TSC's is in `tsc`.
    fn apic_rate(&self, tsc: Bounds) -> Option<Frequency> {
        // Its series says how fast the TSC were if the timer had its nominal rate.
        let relative = self.apic.rate()?;
        let scaled = |hz: u64, by: u64| scale(hz, self.apic.counter.hz, by.max(1));
        let least_hz = scaled(tsc.least_hz, relative.most_hz);
        Bounds { least_hz, most_hz: scaled(tsc.most_hz, relative.least_hz) }.frequency()
    }

    fn trust(&self, joint: Bounds, measured: Frequency, told: Option<Told>) -> Trust {
        let pm = self.pm.as_ref().and_then(Series::rate);
        match (self.pit.rate(), pm) {
            (Some(pit), Some(pm)) if !pit.meets(pm, CRYSTALS_PPM) => {
                let [pit, pm] = [pit, pm].map(|bounds| bounds.frequency().unwrap_or(measured));
                return Trust::Apart([pit, pm]);
            }
            // Two references that agree outvote a reported rate: an emulator reports the rate of the processor whose name it uses.
            (Some(_), Some(_)) => {}
            (Some(_), None) | (None, Some(_)) | (None, None) => {
                if let Some(told) = told.filter(|told| !told.fits(joint)) {
                    return Trust::Apart([measured, told.tsc]);
                }
            }
        }
        if self.references().any(|series| series.breaks > MAX_BREAKS) {
            Trust::Broken
        } else if joint.is_known() {
            Trust::Good
        } else {
            Trust::Vague(joint.width_ppm().div_ceil(2))
        }
    }

    /// Looks again, long after [`Self::found`]: at the 8254, and at the ACPI timer.
    pub fn revisit(&mut self, pit: Sample, pm: Option<Sample>) {
        self.pit.revisit(pit);
        if let Some((series, sample)) = self.pm.as_mut().zip(pm) {
            series.revisit(sample);
        }
    }

    /// How far `tsc` was off, in millionths of what the references say from the beginning to their last looks; negative if
    /// `tsc` is too low. `None` where they say nothing.
    pub fn off_ppm(&self, tsc: Frequency) -> Option<i64> {
        let since = self.references().filter(|series| !series.is_broken()).filter_map(Series::rate_to_last);
        let found = since.filter(|bounds| bounds.is_known()).reduce(Bounds::joined)?;
        let (published, real) = (i128::from(tsc.khz()) * 1000, i128::from(found.middle_hz()));
        i64::try_from((published - real) * 1_000_000 / real.max(1)).ok()
    }
}

#[cfg(test)]
mod tests;
