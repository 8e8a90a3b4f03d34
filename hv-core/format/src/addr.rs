//! Addresses: one type per address space, no conversion between them.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Bytes in a small page.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes in a large page, and the alignment of guest memory.
pub const LARGE_PAGE_BYTES: u64 = 2 << 20;

/// A host-physical address, below 2^52.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct HostPhys(u64);

/// A guest-physical address, below 2^52.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[repr(transparent)]
pub struct GuestPhys(u64);

macro_rules! physical_address {
    ($name:ident, $prefix:literal) => {
        impl $name {
            /// Address zero.
            pub const ZERO: Self = Self(0);

            /// Returns the address, or `None` from 2^52 on.
            pub const fn new(raw: u64) -> Option<Self> {
                if raw >> 52 == 0 { Some(Self(raw)) } else { None }
            }

            /// Returns the address with bits 52 and up cleared, as a page-table walker sees it.
            pub const fn new_truncate(raw: u64) -> Self {
                Self(raw & ((1 << 52) - 1))
            }

            /// The address as a number.
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// Returns the address `bytes` further on, or `None` past the end of the space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(raw) => Self::new(raw),
                    None => None,
                }
            }

            /// The start of the small page that holds this address.
            pub const fn page(self) -> Self {
                Self(self.0 & !(PAGE_BYTES - 1))
            }

            /// Whether the address is a multiple of `bytes`, a power of two.
            pub const fn is_aligned(self, bytes: u64) -> bool {
                self.0 & (bytes - 1) == 0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, ":{:#x}"), self.0)
            }
        }
    };
}

physical_address!(HostPhys, "hpa");
physical_address!(GuestPhys, "gpa");

/// A range that does not lie in guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutsideMemory(pub GuestPhys);

impl GuestPhys {
    /// Checks a guest's claim to `len_bytes` from this address on against the size of its memory.
    ///
    /// # Errors
    ///
    /// [`OutsideMemory`], with the first byte outside, if the end overflows or lies past `memory_bytes`.
    pub const fn check_range(self, len_bytes: u64, memory_bytes: u64) -> Result<(), OutsideMemory> {
        match self.0.checked_add(len_bytes) {
            Some(end) if end <= memory_bytes => Ok(()),
            _ if self.0 < memory_bytes => Err(OutsideMemory(Self::new_truncate(memory_bytes))),
            _ => Err(OutsideMemory(self)),
        }
    }
}

/// Returns the lower 32 bits of a register.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is meant")]
pub const fn low(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_past_2_52_is_refused() {
        assert_eq!(HostPhys::new(1 << 52), None);
        assert_eq!(HostPhys::new((1 << 52) - 1).map(HostPhys::raw), Some((1 << 52) - 1));
        assert_eq!(GuestPhys::new_truncate(u64::MAX).checked_add(1), None);
    }

    #[test]
    fn a_range_ends_inside_memory_or_is_refused() {
        let at = |raw| GuestPhys::new(raw).unwrap();
        assert_eq!(at(0x1000).check_range(0x1000, 0x2000), Ok(()));
        assert_eq!(at(0x1001).check_range(0x1000, 0x2000), Err(OutsideMemory(at(0x2000))));
        assert_eq!(at(0x1000).check_range(u64::MAX, 0x2000), Err(OutsideMemory(at(0x2000))));
    }

    #[test]
    fn debug_names_the_space() {
        assert_eq!(std::format!("{:?}", GuestPhys::new_truncate(0xfee0_0000)), "gpa:0xfee00000");
    }
}
