//! Torn and lying demand rows: ignored, clamped or believed, and never a reason to stop this guest.

use crate::check::Check;
use guest_kernel_shim::pv_abi::demand::{State, word};
use guest_kernel_shim::pv_abi::status::StatusFlags;
use guest_kernel_shim::{call, clock, demand, platform, timer};

const ROUNDS: u64 = 2_000;
/// Longest that a timer of 1 ms may take while nobody else wants much.
const LATE_NS: u64 = 200_000_000;

/// A time that does not come while this runs.
const FAR_NS: u64 = 3_600_000_000_000;

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
            1 => call::arm().map_or_else(|code| code, |_| call::Code::OK),
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

/// A row with a wrong cookie is ignored: its timer is not watched. With the right one it is.
fn wrong_cookie(check: &mut Check) {
    for word in [word::DEADLINE, word::REQUEST, word::WAIT_FOR, word::CRITICAL, word::IO, word::SLACK] {
        demand::store_raw(word, 0);
    }
    let far = clock::ticks() + clock::ticks_from_ns(FAR_NS);
    let mut right = 0;
    for cookie in 0..=u16::MAX {
        // No sleeping meanwhile: an ignored row wakes nobody.
        let state = State { cookie, runnable: 9, latency_class: 3, ..State::unpack(0) };
        demand::store_raw(word::STATE, state.pack());
        demand::store_raw(word::NEXT_WAKE, far + u64::from(cookie));
        let promised = call::arm();
        right += u32::from(promised == Ok(far + u64::from(cookie)));
    }
    check.one_of(format_args!("cookies that are believed"), u64::from(right), &[1]);
    demand::store_raw(word::NEXT_WAKE, 0);
}
