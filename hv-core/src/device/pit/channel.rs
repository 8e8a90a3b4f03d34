//! One counter of an 8254. Moments are counted in clocks of its input.

/// Mode of the output (8254 data sheet, "Mode Definitions").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// 0: low until the count ends, then high.
    TerminalCount,
    /// 1: low for the count after the gate rises.
    OneShot,
    /// 2: low for one clock in each count.
    RateGenerator,
    /// 3: half high, half low.
    SquareWave,
    /// 4: low for one clock after the count.
    SoftwareStrobe,
    /// 5: the same, started by the gate.
    HardwareStrobe,
}

/// Progress of the count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CountProgress {
    /// The counter has no count or no trigger yet.
    Idle,
    /// The counter has been counting since this clock.
    Since(u64),
    /// The gate stopped the counter after this number of clocks.
    Held(u64),
}

const ACCESS_LOW: u8 = 1;
const ACCESS_HIGH: u8 = 2;
const STATUS_OUTPUT: u8 = 1 << 7;
const STATUS_NULL_COUNT: u8 = 1 << 6;
const CONTROL_BCD: u8 = 1 << 0;

#[derive(Clone, Debug)]
pub(super) struct Channel {
    /// Bits 5:0 of the last control word: access, mode, BCD.
    control: u8,
    /// 1 … 65536, or 10000 when counting in BCD.
    count: u64,
    loaded: bool,
    progress: CountProgress,
    gate: bool,
    low_written: Option<u8>,
    high_is_next: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    /// A counter as firmware leaves it: stopped, in mode 3.
    pub(super) const fn new(gate: bool) -> Self {
        Self {
            control: 0x36,
            count: 0x1_0000,
            loaded: false,
            progress: CountProgress::Idle,
            gate,
            low_written: None,
            high_is_next: false,
            latched_count: None,
            latched_status: None,
        }
    }

    const fn mode(&self) -> Mode {
        match self.control >> 1 & 7 {
            0 => Mode::TerminalCount,
            1 => Mode::OneShot,
            2 | 6 => Mode::RateGenerator,
            4 => Mode::SoftwareStrobe,
            5 => Mode::HardwareStrobe,
            _ => Mode::SquareWave,
        }
    }

    const fn access(&self) -> u8 {
        self.control >> 4 & 3
    }

    const fn is_bcd(&self) -> bool {
        self.control & CONTROL_BCD != 0
    }

    /// Returns the number of counts after which the counter wraps.
    const fn modulus(&self) -> u64 {
        if self.is_bcd() { 10_000 } else { 0x1_0000 }
    }

    /// A control word: latches the count if its access field is zero, else stops and sets the mode.
    pub(super) fn control(&mut self, word: u8, clock: u64) {
        if word >> 4 & 3 == 0 {
            self.latch(true, false, clock);
            return;
        }
        *self = Self { control: word & 0x3F, ..Self::new(self.gate) };
    }

    /// Latches count and status, each unless one is still unread.
    pub(super) fn latch(&mut self, count: bool, status: bool, clock: u64) {
        if status && self.latched_status.is_none() {
            let output = if self.output(clock) { STATUS_OUTPUT } else { 0 };
            let null = if self.loaded { 0 } else { STATUS_NULL_COUNT };
            self.latched_status = Some(output | null | self.control);
        }
        if count && self.latched_count.is_none() {
            self.latched_count = Some(self.shown(clock));
        }
    }

    pub(super) fn read(&mut self, clock: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self.latched_count.unwrap_or_else(|| self.shown(clock)).to_le_bytes();
        let (value, last) = match self.access() {
            ACCESS_LOW => (low, true),
            ACCESS_HIGH => (high, true),
            _ if self.high_is_next => (high, true),
            _ => (low, false),
        };
        self.high_is_next = !last;
        if last {
            self.latched_count = None;
        }
        value
    }

    pub(super) fn write(&mut self, value: u8, clock: u64) {
        let raw = match (self.access(), self.low_written.take()) {
            (ACCESS_LOW, _) => [value, 0],
            (ACCESS_HIGH, _) => [0, value],
            (_, Some(low)) => [low, value],
            (_, None) => {
                self.low_written = Some(value);
                if self.mode() == Mode::TerminalCount {
                    // The first byte of a new count stops the old one.
                    self.progress = CountProgress::Idle;
                }
                return;
            }
        };
        self.load(u16::from_le_bytes(raw), clock);
    }

    fn load(&mut self, raw: u16, clock: u64) {
        let count = if self.is_bcd() { from_bcd(raw) } else { u64::from(raw) };
        self.count = if count == 0 { self.modulus() } else { count };
        self.loaded = true;
        match self.mode() {
            Mode::OneShot | Mode::HardwareStrobe => {} // the gate starts it
            Mode::TerminalCount | Mode::RateGenerator | Mode::SquareWave | Mode::SoftwareStrobe => {
                self.progress = if self.gate { CountProgress::Since(clock) } else { CountProgress::Held(0) };
            }
        }
    }

    pub(super) fn set_gate(&mut self, gate: bool, clock: u64) {
        if gate == self.gate {
            return;
        }
        self.gate = gate;
        if !self.loaded {
            return;
        }
        self.progress = match (self.mode(), gate, self.progress) {
            (Mode::OneShot | Mode::HardwareStrobe, true, _) => CountProgress::Since(clock),
            (Mode::OneShot | Mode::HardwareStrobe, false, progress) => progress,
            (Mode::RateGenerator | Mode::SquareWave, true, _) => CountProgress::Since(clock),
            (Mode::RateGenerator | Mode::SquareWave, false, _) => CountProgress::Held(0),
            (Mode::TerminalCount | Mode::SoftwareStrobe, true, CountProgress::Held(elapsed)) => {
                CountProgress::Since(clock.saturating_sub(elapsed))
            }
            (Mode::TerminalCount | Mode::SoftwareStrobe, false, CountProgress::Since(since)) => {
                CountProgress::Held(clock.saturating_sub(since))
            }
            (Mode::TerminalCount | Mode::SoftwareStrobe, _, progress) => progress,
        };
    }

    const fn elapsed(&self, clock: u64) -> Option<u64> {
        match self.progress {
            CountProgress::Idle => None,
            CountProgress::Since(since) => Some(clock.saturating_sub(since)),
            CountProgress::Held(elapsed) => Some(elapsed),
        }
    }

    /// The counting element, as it is read.
    fn shown(&self, clock: u64) -> u16 {
        let elapsed = self.elapsed(clock).unwrap_or(0);
        let modulus = self.modulus();
        let value = match self.mode() {
            Mode::RateGenerator => self.count - elapsed % self.count,
            Mode::SquareWave => self.count - elapsed.wrapping_mul(2) % self.count,
            Mode::TerminalCount | Mode::OneShot | Mode::SoftwareStrobe | Mode::HardwareStrobe => {
                (self.count + modulus - elapsed % modulus) % modulus
            }
        } % modulus;
        let value = u16::try_from(value).unwrap_or(0);
        if self.is_bcd() { to_bcd(value) } else { value }
    }

    pub(super) fn output(&self, clock: u64) -> bool {
        let Some(elapsed) = self.elapsed(clock) else {
            return self.mode() != Mode::TerminalCount;
        };
        match self.mode() {
            Mode::TerminalCount | Mode::OneShot => elapsed >= self.count,
            Mode::RateGenerator => !self.gate || elapsed % self.count != self.count - 1,
            Mode::SquareWave => !self.gate || elapsed % self.count < self.count.div_ceil(2),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => elapsed != self.count,
        }
    }

    /// Returns the clocks from one rise of the output to the next, if the mode is periodic.
    pub(super) fn period(&self) -> Option<u64> {
        let is_periodic = matches!(self.mode(), Mode::RateGenerator | Mode::SquareWave);
        (is_periodic && self.count > 1).then_some(self.count)
    }

    /// Returns the state that determines when the output rises.
    pub(super) fn course(&self) -> (Mode, u64, CountProgress) {
        (self.mode(), self.count, self.progress)
    }

    /// Returns the first clock after `clock` at which the output rises.
    pub(super) fn next_rise(&self, clock: u64) -> Option<u64> {
        let CountProgress::Since(since) = self.progress else {
            return None;
        };
        let after = match self.mode() {
            Mode::TerminalCount | Mode::OneShot => self.count,
            Mode::SoftwareStrobe | Mode::HardwareStrobe => self.count + 1,
            // A count of 1 is not allowed: the output stays as it is.
            Mode::RateGenerator | Mode::SquareWave if self.count == 1 => return None,
            Mode::RateGenerator | Mode::SquareWave => {
                let counts = clock.saturating_sub(since) / self.count;
                counts.saturating_add(1).saturating_mul(self.count)
            }
        };
        let rise = since.saturating_add(after);
        (rise > clock).then_some(rise)
    }
}

/// Four decimal digits; a digit above 9 carries.
fn from_bcd(raw: u16) -> u64 {
    let digit = |n: u32| u64::from(raw >> (4 * n) & 0xF);
    (digit(3) * 1000 + digit(2) * 100 + digit(1) * 10 + digit(0)) % 10_000
}

const fn to_bcd(value: u16) -> u16 {
    ((value / 1000 % 10) << 12) | ((value / 100 % 10) << 8) | ((value / 10 % 10) << 4) | (value % 10)
}
