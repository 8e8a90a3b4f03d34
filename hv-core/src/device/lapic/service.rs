//! The interrupts in service, kept as a stack.
//!
//! The processor takes only a vector of a higher class than all in service, so vectors nest and the last one is the highest; with 15
//! classes at most 15 are in service. An end of interrupt is a shift.

/// Vectors in service, the innermost in the lowest byte; 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct InService(u128);

impl InService {
    pub(super) const NONE: Self = Self(0);

    /// The innermost vector, 0 for none.
    #[inline]
    pub(super) const fn highest(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// Whether this vector is the only one.
    pub(super) const fn is_only(self, vector: u8) -> bool {
        self.0 == vector as u128
    }

    #[inline]
    pub(super) const fn begin(&mut self, vector: u8) {
        self.0 = self.0 << 8 | vector as u128;
    }

    #[inline]
    pub(super) const fn end(&mut self) {
        self.0 >>= 8;
    }

    /// The `n`th 32 bits of ISR.
    pub(super) fn register(self, n: u32) -> u32 {
        let vectors = self.0.to_le_bytes().into_iter();
        vectors
            .filter(|&vector| vector != 0 && u32::from(vector) / 32 == n)
            .fold(0, |bits, vector| bits | 1 << (vector & 31))
    }
}
