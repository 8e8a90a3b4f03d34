//! Torn and lying demand rows: ignored, clamped or believed, and never a reason to stop this guest.

use crate::check::Check;
use guest_kernel_shim::pv_abi::demand::{State, word};
use guest_kernel_shim::pv_abi::status::StatusFlags;
use guest_kernel_shim::{call, clock, demand, platform, timer};

const ROUNDS: u64 = 2_000;
/// Longest that a timer of 1 ms may take while nobody else wants much.
const LATE_NS: u64 = 200_000_000;

/// Words that somebody might trip over.
const ODD: [u64; 10] = [
    0,
    1,
    u64::MAX,
    1 << 63,
    i64::MAX as u64,
    0xffff_ffff,
    1 << 32,
    0x00ff_00ff_00ff_00ff,
    0xdead_beef_dead_beef,
    40,
];

/// Fills the row with lies while yielding and arming, then tells the truth and checks that it is believed.
pub fn lies(check: &mut Check) {
    if !platform::is_cooperative() {
        check.skip("no row in this mode");
        return;
    }
    let mut random = clock::ticks() | 1;
    for round in 0..ROUNDS {
        for word in 0..8 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let odd = usize::try_from(random % 20).ok().and_then(|n| ODD.get(n)).copied();
            // The timer's word may make the row fire at once; the state's word changes the cookie.
            demand::store_raw(word, odd.unwrap_or(random));
        }
        match round % 4 {
            0 => call::yield_now(),
            1 => call::arm(),
            2 => call::kick(0),
            _ => call::yield_to(0, random),
        };
    }
    wrong_cookie(check);
    demand::republish();
    call::yield_now();
    let begin_ns = clock::now_ns();
    timer::sleep_ns(1_000_000);
    let slept_ns = clock::now_ns() - begin_ns;
    check.holds(format_args!("a timer still works, {slept_ns} ns"), (1_000_000..LATE_NS).contains(&slept_ns));
    check.holds(
        format_args!("the true row is used again"),
        !demand::status_flags().contains(StatusFlags::HINTS_IGNORED),
    );
}

/// A row with a wrong cookie is ignored, and the guest is told.
fn wrong_cookie(check: &mut Check) {
    demand::republish();
    for word in [word::DEADLINE, word::REQUEST, word::WAIT_FOR, word::CRITICAL] {
        demand::store_raw(word, 0);
    }
    let stale = State { runnable: 9, latency_class: 3, ..State::unpack(0) };
    let state = |cookie| State { cookie, ..stale }.pack();
    for cookie in [0x5a5a, 0xa5a5] {
        // No sleeping meanwhile: an ignored row wakes nobody.
        demand::store_raw(word::STATE, state(cookie));
        call::yield_now();
        call::arm();
    }
    let ignored = demand::status_flags().contains(StatusFlags::HINTS_IGNORED);
    check.holds(format_args!("a wrong cookie shows HINTS_IGNORED"), ignored);
}
