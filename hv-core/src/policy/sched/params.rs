//! The constants of the scheduler, in ticks of this machine, and a vCPU's request.

use crate::base::time::{Frequency, Ticks, Tsc};

/// Length of the default request: 2 ms, as long as a slice of Xen's credit2 at its default rate limit.
const DEFAULT_REQUEST_NS: u64 = 2_000_000;
/// Shortest request (DESIGN §4, demand row word 2).
const MIN_REQUEST_NS: u64 = 100_000;
/// Longest request (DESIGN §4, demand row word 2).
const MAX_REQUEST_NS: u64 = 10_000_000;
/// Minimum length of a turn before preemption (DESIGN §5, q0).
const MIN_TURN_NS: u64 = 100_000;
/// Longest extension for a critical section (DESIGN §4).
const EXTENSION_NS: u64 = 10_000;

/// The scheduler's constants, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Params {
    /// q0: time that a turn lasts before an earlier deadline may end it; 100 µs.
    pub min_turn: Ticks,
    /// Length of the default request; 2 ms.
    pub default_request: Ticks,
    /// Shortest request; 100 µs.
    pub min_request: Ticks,
    /// Longest request; 10 ms.
    pub max_request: Ticks,
    /// The one extension a slice may get for a critical section; 10 µs.
    pub extension: Ticks,
}

impl Params {
    /// Returns the constants for a counter of this frequency.
    pub const fn new(tsc: Frequency) -> Self {
        Self {
            min_turn: tsc.ticks(MIN_TURN_NS),
            default_request: tsc.ticks(DEFAULT_REQUEST_NS),
            min_request: tsc.ticks(MIN_REQUEST_NS),
            max_request: tsc.ticks(MAX_REQUEST_NS),
            extension: tsc.ticks(EXTENSION_NS),
        }
    }
}

/// A vCPU's request: a turn of some length, by some deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SliceRequest {
    /// Length of the turn in ticks; clamped to [`Params::min_request`] … [`Params::max_request`] when the request is issued.
    pub length: Ticks,
    /// The time by which the vCPU must be done. It orders the vCPUs of one guest among each other, and has no other effect.
    pub deadline: Option<Tsc>,
}

impl SliceRequest {
    /// The request of a vCPU that published nothing.
    pub const fn default_for(params: &Params) -> Self {
        Self { length: params.default_request, deadline: None }
    }
}
