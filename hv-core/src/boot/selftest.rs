//! Failing on purpose, so that boot tests see the last words: the word `selftest=panic` or `selftest=stack` on the
//! hypervisor's command line. The processor that came up last fails a moment after the guests began.

use hv_core::base::time::Frequency;
use hv_core::machine::arch::time;

/// How long the others run before, in ns.
const MOMENT_NS: u64 = 100_000_000;

/// A way to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selftest {
    /// A panic.
    Panic,
    /// More stack than there is.
    Stack,
}

impl Selftest {
    /// What the command line asks for.
    pub fn asked(command_line: &str) -> Option<Self> {
        command_line.split_whitespace().find_map(|word| match word {
            "selftest=panic" => Some(Self::Panic),
            "selftest=stack" => Some(Self::Stack),
            _ => None,
        })
    }

    /// Fails.
    #[expect(clippy::panic, reason = "on purpose")]
    pub fn fail(self, tsc: Frequency) -> ! {
        let until = time::now() + tsc.ticks(MOMENT_NS);
        while time::now() < until {
            core::hint::spin_loop();
        }
        if self == Self::Stack {
            let _ = core::hint::black_box(deeper(core::hint::black_box(u64::MAX)));
        }
        panic!("selftest")
    }
}

/// Takes some stack, and more. Less than a page at once: what is touched below the stack is its guard, with the stack pointer in it.
fn deeper(levels: u64) -> u64 {
    let some = core::hint::black_box([levels; 64]);
    if levels == 0 { some[1] } else { deeper(levels - 1) ^ core::hint::black_box(some[2]) }
}
