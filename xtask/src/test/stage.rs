//! One cargo command of a test run: quiet while it works, told in full when it fails.

use super::tally::Tally;
use crate::workspace;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A cargo command.
pub struct Stage {
    command: Command,
}

/// How it ended.
struct Ended {
    /// Its standard output alone: the other one may cut its lines in two.
    output: String,
    succeeded: bool,
}

impl Stage {
    /// Returns a command at the workspace's root.
    pub fn cargo(arguments: &[&str]) -> Self {
        let mut command = Command::new(workspace::cargo());
        command.args(arguments).current_dir(workspace::root());
        Self { command }
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in another folder than the workspace's root.
    pub fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs it as one check.
    pub fn check(self, verbose: bool) -> Tally {
        Tally::of_one(self.run(verbose).succeeded)
    }

    /// Runs it and counts its tests.
    pub fn tests(self, verbose: bool) -> Tally {
        let ended = self.run(verbose);
        Tally::of_cargo(&ended.output, ended.succeeded)
    }

    fn run(mut self, verbose: bool) -> Ended {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) => {
                eprintln!("error: cargo: {error}");
                return Ended { output: String::new(), succeeded: false };
            }
        };
        let heard = Arc::new(Mutex::new(Vec::new()));
        let out = child.stdout.take().map(|out| listen(out, &heard, verbose));
        let err = child.stderr.take().map(|err| listen(err, &heard, verbose));
        // A listener that panicked has said so.
        let output = out.and_then(|out| out.join().ok()).unwrap_or_default();
        let _ = err.map(thread::JoinHandle::join);
        let succeeded = child.wait().is_ok_and(|status| status.success());
        if !succeeded && !verbose {
            print!("{}", String::from_utf8_lossy(&heard.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        Ended { output: String::from_utf8_lossy(&output).into_owned(), succeeded }
    }
}

/// What both outputs said, in the order in which it came.
type Heard = Arc<Mutex<Vec<u8>>>;

/// Collects what comes, and shows it at once if `verbose`.
fn listen(mut from: impl Read + Send + 'static, heard: &Heard, verbose: bool) -> thread::JoinHandle<Vec<u8>> {
    let heard = Arc::clone(heard);
    thread::spawn(move || {
        let mut own = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let new = buffer.get(..length).unwrap_or_default();
            own.extend(new);
            heard.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
            if verbose {
                // Nobody looks any more: the stage counts all the same.
                let _ = io::stdout().write_all(new);
            }
        }
        own
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_counts_by_its_own_output_and_code() {
        let script = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            Stage { command }
        };
        let passing = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured'; echo noise >&2";
        assert_eq!(script(passing).tests(false), Tally { passed: 2, failed: 0, ignored: 0 });
        let aborted = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured'; kill -9 $$";
        assert_eq!(script(aborted).tests(false), Tally { passed: 2, failed: 1, ignored: 0 });
        assert_eq!(script("exit 1").check(false), Tally::of_one(false));
        let missing = Stage { command: Command::new("/nonexistent/cargo") };
        assert_eq!(missing.check(false), Tally::of_one(false));
    }
}
