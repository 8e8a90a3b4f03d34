//! How a command fails: one line for the user and a code for the shell.

use std::fmt::Display;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    /// What the process answers; 0 never.
    pub code: u8,
    /// One line, naming what and where; empty when everything has been said already.
    pub message: String,
}

/// What a command answers.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// Returns the ordinary failure, code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_code(1, message)
    }

    /// Returns a failure with a code that says more.
    pub fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Gives an error of the system the name of what was attempted.
pub trait Attempt<T> {
    /// Turns the error into a [`Failure`] that begins with `what`.
    fn attempt(self, what: impl Display) -> Outcome<T>;
}

impl<T, E: Display> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| Failure::new(format!("{what}: {error}")))
    }
}
