//! Deliberate failure, so that boot tests see the panic report: the word `selftest=panic`, `selftest=stack` or
//! `selftest=machine-check` on the hypervisor's command line asks for it. The last processor fails a moment after the guests began.

use hv_core::base::time::Frequency;
use hv_core::machine::arch::{machine_check, time};

/// Time for which the guests run before the failure, in ns.
const MOMENT_NS: u64 = 100_000_000;

/// A way to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selftest {
    /// A panic.
    Panic,
    /// A stack overflow.
    Stack,
    /// A call of the machine-check handler.
    MachineCheck,
}

impl Selftest {
    /// Returns the failure that the command line asks for, if any.
    pub fn asked(command_line: &str) -> Option<Self> {
        command_line.split_whitespace().find_map(|word| match word {
            "selftest=panic" => Some(Self::Panic),
            "selftest=stack" => Some(Self::Stack),
            "selftest=machine-check" => Some(Self::MachineCheck),
            _ => None,
        })
    }

    /// Fails in this way; does not return.
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

/// Recurses with at least a page of stack per level: about the largest frame that the compiler does not probe.
fn deeper(levels: u64) -> u64 {
    let page = core::hint::black_box([levels; 512]);
    if levels == 0 { page[1] } else { deeper(levels - 1) ^ core::hint::black_box(page[2]) }
}
