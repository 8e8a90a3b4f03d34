//! What a call comes to.

use crate::guest::next::Next;
use pv_abi::call::Code;

/// What the caller is answered, and what happens next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome {
    /// The call is done: the caller goes on with this code and value.
    Done(Code, u64),
    /// The caller has OK for an answer, and leaves guest mode for this.
    Then(Next),
    /// It cannot be done yet: the caller makes the same call again in its next turn.
    Retry,
}

impl Outcome {
    /// Done, with a value.
    pub const fn ok(value: u64) -> Self {
        Self::Done(Code::OK, value)
    }

    /// Done, with a code that says all.
    pub const fn code(code: Code) -> Self {
        Self::Done(code, 0)
    }
}
