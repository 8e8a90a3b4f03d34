//! The rate of a counter against the TSC, from two readings that are precise and far apart.
//!
//! The hypervisor, or its host, may deschedule the reader at any point. A reading that took long is imprecise, so the
//! fit uses the most precise ones and knows the error of its result.

/// How many readings at the start the fit chooses its first end from.
const FIRST_SAMPLES: u32 = 8;
/// Most TSC ticks between two readings before the fit is usable. The PIT, which wraps after 55 ms, cannot wrap in that
/// time on a TSC of 100 MHz or more.
const BLIND_TICKS: u64 = 1 << 22;
/// Error in millionths below which the fit can tell how often the counter wrapped between two readings.
const USABLE_PPM: u64 = 100_000;

/// TSC ticks between two readings once the fit is usable.
const LOOK_EVERY_TICKS: u64 = 1 << 21;

/// A reading of a counter that counts up, with the TSC before and after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub before: u64,
    pub count: u64,
    pub after: u64,
}

impl Sample {
    const fn width(self) -> u64 {
        self.after.saturating_sub(self.before)
    }
}

/// Counts of the counter and TSC ticks over the same span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub counts: u64,
    pub ticks: u64,
    /// Error of the ratio, in millionths.
    pub off_ppm: u64,
}

/// The readings of one counter, and the best span among them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    /// The value at which the counter wraps: a power of two.
    wrap: u64,
    /// The first and the last reading, with wraps added to their counts.
    ends: Option<(Sample, Sample)>,
    samples: u32,
    best: Option<Span>,
}

impl Fit {
    pub(super) const fn new(wrap: u64) -> Self {
        Self { wrap, ends: None, samples: 0, best: None }
    }

    /// The best span so far.
    pub(super) const fn best(&self) -> Option<Span> {
        self.best
    }

    /// How long the reader should wait before the next reading, in TSC ticks. This is 0 until the fit is usable,
    /// because a vCPU with very short slices would otherwise never read twice within [`BLIND_TICKS`].
    pub(super) fn pause_ticks(&self) -> u64 {
        if self.usable().is_some() { LOOK_EVERY_TICKS } else { 0 }
    }

    fn usable(&self) -> Option<Span> {
        self.best.filter(|best| best.off_ppm <= USABLE_PPM)
    }

    pub(super) fn add(&mut self, sample: Sample) {
        let counted = self.ends.and_then(|(first, last)| Some((first, self.unwrapped(last, sample)?)));
        let Some((first, sample)) = counted else {
            (self.ends, self.samples, self.best) = (Some((sample, sample)), 1, None);
            return;
        };
        self.samples = self.samples.saturating_add(1);
        if self.samples <= FIRST_SAMPLES && sample.width() < first.width() {
            (self.ends, self.best) = (Some((sample, sample)), None);
            return;
        }
        self.ends = Some((first, sample));
        let span = span(first, sample);
        if span.is_some_and(|span| self.best.is_none_or(|best| span.off_ppm < best.off_ppm)) {
            self.best = span;
        }
    }

    /// Adds the wraps since the last reading; returns `None` if their number cannot be known yet.
    fn unwrapped(&self, last: Sample, sample: Sample) -> Option<Sample> {
        let step = sample.count.wrapping_sub(last.count) & (self.wrap - 1);
        let gap = sample.after.saturating_sub(last.before);
        let passed = match self.usable() {
            Some(best) => {
                let near = u128::from(gap) * u128::from(best.counts) / u128::from(best.ticks);
                let more = u64::try_from(near).unwrap_or(u64::MAX).saturating_sub(step);
                step.saturating_add(more.saturating_add(self.wrap / 2) / self.wrap * self.wrap)
            }
            None if gap <= BLIND_TICKS => step,
            None => return None,
        };
        Some(Sample { count: last.count.saturating_add(passed), ..sample })
    }
}

fn span(first: Sample, last: Sample) -> Option<Span> {
    let counts = last.count.saturating_sub(first.count);
    let middle = |sample: Sample| sample.before.midpoint(sample.after);
    let ticks = middle(last).saturating_sub(middle(first));
    // Half the width of each reading, and half a count at either end.
    let unsure = (first.width() + last.width()) / 2 + ticks / counts.max(1);
    let off_ppm = u128::from(unsure) * 1_000_000 / u128::from(ticks.max(1));
    (counts > 0 && ticks > 0).then_some(Span {
        counts,
        ticks,
        off_ppm: u64::try_from(off_ppm).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIT_HZ: u64 = 1_193_182;
    const TSC_KHZ: u64 = 2_596_138;

    /// Reads the PIT at `at_ns`, while the reader loses `stolen_ns`.
    fn sample(at_ns: u64, stolen_ns: u64) -> Sample {
        let ticks = |ns: u64| ns * TSC_KHZ / 1_000_000;
        let count = (u128::from(at_ns) * u128::from(PIT_HZ) / 1_000_000_000) & 0xffff;
        Sample {
            before: ticks(at_ns - 1_000),
            count: u64::try_from(count).unwrap(),
            after: ticks(at_ns + 1_000 + stolen_ns),
        }
    }

    fn khz(fit: &Fit) -> u64 {
        let best = fit.best().unwrap();
        best.ticks * PIT_HZ / best.counts / 1000
    }

    #[test]
    fn samples_that_took_long_and_wraps_that_nobody_saw_do_no_harm() {
        for seed in 1..200_u64 {
            let mut fit = Fit::new(1 << 16);
            let (mut at_ns, mut random) = (1_000_000, seed);
            for _ in 0..60 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Every other reading loses up to 4 ms in its middle, and every fourth pause takes up to 130 ms more.
                let stolen_ns = if random >> 33 & 1 == 0 { 0 } else { (random >> 40) % 4_000_000 };
                let pause_ns = if random >> 34 & 3 == 0 { (random >> 37) % 130_000_000 } else { 0 };
                fit.add(sample(at_ns, stolen_ns));
                at_ns += stolen_ns + pause_ns + 800_000;
            }
            let off = khz(&fit).abs_diff(TSC_KHZ) * 1_000_000 / TSC_KHZ;
            assert!(off <= fit.best().unwrap().off_ppm + 1 && off < 100, "seed {seed}: {off} ppm, {fit:?}");
        }
    }

    #[test]
    fn turns_that_are_shorter_than_a_pause_and_far_apart_do_no_harm() {
        for (turn_ns, away_ns) in [(2_000_000, 6_000_000), (500_000, 20_000_000), (100_000, 40_000_000)] {
            let mut fit = Fit::new(1 << 16);
            let mut at_ns = 1_000_000;
            for _ in 0..60 {
                fit.add(sample(at_ns, 0));
                let ready_ns = at_ns + 3_000 + fit.pause_ticks() * 1_000_000 / TSC_KHZ;
                at_ns = ready_ns;
                // In between, other vCPUs run.
                while at_ns % (turn_ns + away_ns) >= turn_ns {
                    at_ns += turn_ns + away_ns - at_ns % (turn_ns + away_ns);
                }
            }
            let best = fit.best().unwrap();
            assert!(best.off_ppm <= 60, "{turn_ns} {away_ns}: {best:?}");
            let off = khz(&fit).abs_diff(TSC_KHZ) * 1_000_000 / TSC_KHZ;
            assert!(off <= best.off_ppm + 1, "{turn_ns} {away_ns}: {off} ppm, {best:?}");
        }
    }

    #[test]
    fn a_counter_that_stands_still_has_no_rate() {
        let mut fit = Fit::new(1 << 16);
        for ms in 1..100 {
            fit.add(Sample { count: 7, ..sample(ms * 1_000_000, 0) });
        }
        assert_eq!(fit.best(), None);
    }
}
