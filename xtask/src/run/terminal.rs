//! The user's terminal while a guest has it: keys go to the guest one by one, and nothing else makes them appear.

use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};

/// As long as it lives, the terminal is the guest's. Nothing happens where there is none.
pub struct Raw {
    /// What `stty` calls the settings from before.
    before: Option<String>,
}

impl Raw {
    /// Hands the terminal over.
    pub fn set() -> Self {
        let before = io::stdin().is_terminal().then(|| stty(&["-g"])).flatten();
        if before.is_some() {
            let _ = stty(&["-icanon", "-echo", "-isig", "-icrnl", "min", "1"]);
        }
        Self { before }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = stty(&[before.trim()]);
        }
    }
}

/// Runs `stty` on the terminal; what it says, if it succeeds.
fn stty(arguments: &[&str]) -> Option<String> {
    let said = Command::new("stty").args(arguments).stdin(Stdio::inherit()).output().ok()?;
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}
