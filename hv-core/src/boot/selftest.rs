//! Failing on purpose, so that boot tests see the last words: the word `selftest=panic`, `selftest=stack` or
//! `selftest=machine-check` on the hypervisor's command line. The processor that came up last fails a moment after the guests began.

use hv_core::base::time::Frequency;
use hv_core::machine::arch::{machine_check, time};

/// How long the others run before, in ns.
const MOMENT_NS: u64 = 100_000_000;

/// A way to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selftest {
    /// A panic.
    Panic,
    /// More stack than there is.
    Stack,
    /// What a machine check ends in.
    MachineCheck,
}

impl Selftest {
    /// What the command line asks for.
    pub fn asked(command_line: &str) -> Option<Self> {
        command_line.split_whitespace().find_map(|word| match word {
            "selftest=panic" => Some(Self::Panic),
            "selftest=stack" => Some(Self::Stack),
            "selftest=machine-check" => Some(Self::MachineCheck),
            _ => None,
        })
    }

    /// Fails.
    #[expect(clippy::panic, reason = "on purpose")]
    pub fn fail(self, tsc: Frequency) -> ! {
        time::wait(tsc, MOMENT_NS, || false);
        match self {
            Self::Panic => panic!("selftest"),
            Self::Stack => panic!("selftest {}", deeper(core::hint::black_box(u64::MAX))),
            Self::MachineCheck => machine_check::was_intercepted(),
        }
    }
}

/// Takes a page of stack, and more: as much as a frame may take at once without being probed.
fn deeper(levels: u64) -> u64 {
    let page = core::hint::black_box([levels; 512]);
    if levels == 0 { page[1] } else { deeper(levels - 1) ^ core::hint::black_box(page[2]) }
}
