//! Comparing what was answered with what may be answered.

use guest_kernel_shim::println;

/// Most `#bad` lines of one deed.
const MAX_LINES: u32 = 20;

/// The checks of one deed.
pub struct Check {
    deed: &'static str,
    checks: u32,
    bad: u32,
}

impl Check {
    pub fn new(deed: &'static str) -> Self {
        Self { deed, checks: 0, bad: 0 }
    }

    /// Notes whether `got` is one of `allowed`; says so when it is not.
    pub fn one_of(&mut self, what: core::fmt::Arguments<'_>, got: u64, allowed: &[u64]) {
        self.checks += 1;
        if !allowed.contains(&got) {
            self.bad += 1;
            if self.bad <= MAX_LINES {
                println!("#bad {}: {what}: got {got:#x}, allowed {allowed:x?}", self.deed);
            }
        }
    }

    /// Notes whether something holds.
    pub fn holds(&mut self, what: core::fmt::Arguments<'_>, holds: bool) {
        self.one_of(what, u64::from(holds), &[1]);
    }

    /// Says that something does not apply in this mode.
    pub fn skip(&mut self, why: &str) {
        println!("#skip {}: {why}", self.deed);
    }

    /// Says how it ended; answers how many were bad.
    pub fn finish(self) -> u32 {
        if self.bad == 0 {
            println!("#ok {} checks={}", self.deed, self.checks);
        } else {
            println!("#bad {} checks={} bad={}", self.deed, self.checks, self.bad);
        }
        self.bad
    }
}
