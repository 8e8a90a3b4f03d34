//! Why a scenario is refused: one line that names file, line and key.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// A refused scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file with the mistake in it.
    pub file: PathBuf,
    /// Its line, counted from 1, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong, in one line.
    pub message: String,
}

impl Refusal {
    /// Returns a refusal of a whole file.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_path_buf(), line: None, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.line {
            Some(line) => write!(f, "{file}:{line}: {}", self.message),
            None => write!(f, "{file}: {}", self.message),
        }
    }
}

impl Error for Refusal {}
