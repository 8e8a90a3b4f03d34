//! The mode in which this kernel runs, found by CPUID once at boot.
//!
//! ```
//! use guest_kernel_shim::platform::{self, Mode};
//!
//! // Found at boot; a kernel that is not booted takes the machine for a bare one.
//! assert_eq!(platform::mode(), Mode::Bare);
//! assert_eq!(platform::mode().name(), "bare");
//! assert!(platform::features().is_empty());
//! ```

use super::call;
use super::cpu::cpuid;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use pv_abi::cpuid::{BASE, CallInstruction, Features, SIGNATURE, TIME_LEAF, VERSION_LEAF};

/// The mode in which a kernel runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// On a machine without a hypervisor, or under a hypervisor that announces itself and is not Comity.
    Bare,
    /// On a machine that announces no hypervisor and has x2APIC: most likely a full guest of Comity.
    Full,
    /// On Comity, which announces itself.
    Cooperative,
}

impl Mode {
    /// The mode's name in the benchmark's tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Full => "full",
            Self::Cooperative => "cooperative",
        }
    }
}

const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;

static MODE: AtomicU8 = AtomicU8::new(0);
static FEATURES: AtomicU32 = AtomicU32::new(0);

/// The mode in which this kernel runs.
#[inline]
pub fn mode() -> Mode {
    match MODE.load(Ordering::Relaxed) {
        2 => Mode::Cooperative,
        1 => Mode::Full,
        _ => Mode::Bare,
    }
}

/// Whether Comity announces itself.
#[inline]
pub fn is_cooperative() -> bool {
    MODE.load(Ordering::Relaxed) == 2
}

/// The features that Comity offers; empty in the other modes.
pub fn features() -> Features {
    Features::from_bits_truncate(FEATURES.load(Ordering::Relaxed))
}

/// Whether the local APIC has x2APIC mode.
pub(crate) fn has_x2apic() -> bool {
    cpuid(1, 0).ecx & X2APIC != 0
}

/// Whether the local APIC's timer has TSC-deadline mode.
pub(crate) fn has_tsc_deadline() -> bool {
    cpuid(1, 0).ecx & TSC_DEADLINE != 0
}

/// Reads CPUID and sets the mode. Runs before everything that asks for the mode.
pub(crate) fn detect() {
    let one = cpuid(1, 0).ecx;
    if let Some(features) = comity() {
        FEATURES.store(features, Ordering::Relaxed);
        MODE.store(2, Ordering::Relaxed);
        call::choose(CallInstruction(cpuid(TIME_LEAF, 0).ecx));
    } else if one & HYPERVISOR == 0 && one & X2APIC != 0 {
        MODE.store(1, Ordering::Relaxed);
    }
}

/// The features that Comity offers, if it is there with our major version.
fn comity() -> Option<u32> {
    if cpuid(1, 0).ecx & HYPERVISOR == 0 {
        return None;
    }
    let base = cpuid(BASE, 0);
    let known = [base.ebx, base.ecx, base.edx] == SIGNATURE && base.eax >= TIME_LEAF;
    let version = cpuid(VERSION_LEAF, 0);
    (known && version.eax >> 16 == u32::from(pv_abi::VERSION.major)).then_some(version.ebx)
}
