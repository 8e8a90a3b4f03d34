//! Samples of one figure, and the line that reports them.

use guest_kernel_shim::{clock, println};

/// Most samples of a figure.
pub const RUNS: usize = 200;
/// Iterations before the first sample, so that code and data are where they will be.
const WARM_UP: usize = 8;

/// Samples of one figure, in TSC ticks: instructions where the emulator counts those.
pub struct Samples {
    values: [u64; RUNS],
    len: usize,
    operations: u64,
}

impl Samples {
    /// No samples.
    pub const fn new() -> Self {
        Self { values: [0; RUNS], len: 0, operations: 0 }
    }

    /// Adds a sample; those past [`RUNS`] are dropped.
    pub fn add(&mut self, value: u64) {
        if let Some(slot) = self.values.get_mut(self.len) {
            *slot = value;
            self.len += 1;
        }
    }

    /// Takes `runs` samples of `action` between two RDTSCs, less what the two themselves show.
    #[inline(always)]
    pub fn measure(runs: usize, mut action: impl FnMut()) -> Self {
        let empty = overhead();
        let mut samples = Self::new();
        for run in 0..runs.min(RUNS) + WARM_UP {
            let begin = clock::ticks();
            action();
            let end = clock::ticks();
            samples.did(1);
            if run >= WARM_UP {
                samples.add((end - begin).saturating_sub(empty));
            }
        }
        samples
    }

    /// Counts operations that ran between the figure's marks, measured or not.
    pub fn did(&mut self, operations: u64) {
        self.operations += operations;
    }

    /// Makes of round trips what one way costs.
    pub fn halve(&mut self) {
        self.values.iter_mut().for_each(|value| *value /= 2);
        self.operations *= 2;
    }

    /// Prints the figure; nothing at all when there is no sample.
    pub fn print(&mut self, name: &str) {
        let Some(used) = self.values.get_mut(..self.len) else { return };
        used.sort_unstable();
        if let (Some(min), Some(median)) = (used.first(), used.get(used.len() / 2)) {
            let (runs, operations) = (used.len(), self.operations);
            println!(
                "#figure {name} unit=instructions min={min} median={median} runs={runs} operations={operations}"
            );
        } else {
            println!("#skip {name} no sample");
        }
    }
}

/// What two RDTSCs in a row show: the least of many.
pub fn overhead() -> u64 {
    let pair = |_| {
        let begin = clock::ticks();
        clock::ticks() - begin
    };
    (0..64).map(pair).min().unwrap_or(0)
}
