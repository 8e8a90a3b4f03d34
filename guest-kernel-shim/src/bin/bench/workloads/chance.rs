//! Random numbers that are the same on every run, in integers.

/// xorshift64*, by Marsaglia and Vigna.
pub struct Chance(u64);

/// ln 2, with 32 bits behind the point.
const LN_2: u128 = 2_977_044_472;
/// Bits behind the point of a logarithm.
const FRACTION_BITS: u32 = 24;

impl Chance {
    /// The sequence of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Any number, each as likely.
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        #[expect(clippy::cast_possible_truncation, reason = "the upper half is the better one")]
        let upper = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32;
        upper
    }

    /// The time to the next arrival of a Poisson process: exponentially distributed with this mean.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        let scaled = u128::from(mean) * minus_log2(self.next().max(1)) * LN_2;
        u64::try_from(scaled >> (FRACTION_BITS + 32)).unwrap_or(u64::MAX)
    }
}

/// -log2(u / 2³²), with [`FRACTION_BITS`] bits behind the point: one squaring a bit.
fn minus_log2(u: u32) -> u128 {
    let zeros = u.leading_zeros();
    let mut mantissa = u64::from(u << zeros);
    let mut fraction: u64 = 0;
    for _ in 0..FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> 31;
        fraction <<= 1;
        if mantissa >> 32 != 0 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    (u128::from(zeros + 1) << FRACTION_BITS) - u128::from(fraction)
}
