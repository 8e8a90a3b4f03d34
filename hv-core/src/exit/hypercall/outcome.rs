//! The outcome of a call.

use crate::guest::next::Next;
use pv_abi::call::Code;

/// The answer to the caller, and what the processor does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome {
    /// The call is done: the caller continues with this code and value.
    Done(Code, u64),
    /// The answer is OK, and the processor acts on this before the caller enters guest mode again.
    Then(Next),
    /// The call cannot be done yet: the caller makes the same call again in its next turn.
    Retry,
}

impl Outcome {
    /// Done, with code OK and a value.
    pub const fn ok(value: u64) -> Self {
        Self::Done(Code::OK, value)
    }

    /// Done, with this code and value 0.
    pub const fn code(code: Code) -> Self {
        Self::Done(code, 0)
    }
}
