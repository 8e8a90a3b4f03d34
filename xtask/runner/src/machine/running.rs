//! A machine that runs: its process, its console, its end.

use super::console::{self, Line};
use super::files::{cd, com2, reset_log};
use super::{BOCHS, Boot, Ended, Kind, Machine, Outcome, QEMU, StartError, bochs};
use crate::{iso, telemetry};
use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Most lines of COM1 kept for the outcome.
const MAX_KEPT_LINES: usize = 200_000;
/// Most lines that wait for a reader; then the machine waits.
const MAX_WAITING_LINES: usize = 4096;
/// Most bytes kept of what QEMU itself says.
const MAX_EMULATOR_BYTES: u64 = 64 << 10;
/// How often a process that closed its console is asked whether it has ended.
const END_POLL: Duration = Duration::from_millis(5);
/// How long to wait for lines of a process that has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What QEMU's reset log says at a triple fault.
const TRIPLE_FAULT: &str = "Triple fault";

/// The typing end of COM1.
pub type Input = Box<dyn Write + Send>;

/// A running machine. Dropping it kills it.
pub struct Running {
    image: PathBuf,
    kind: Kind,
    emulator: Child,
    input: Option<Input>,
    lines: Receiver<Line>,
    kept: Vec<Line>,
    lost_lines: usize,
    emulator_says: Option<JoinHandle<String>>,
    com2: File,
    resets: File,
    /// Taken away with the first line: QEMU has opened its files then, and nothing is left behind however we end.
    folder: Option<TempDir>,
    started: Instant,
    deadline: Option<Instant>,
    timed_out: bool,
}

/// Where the bundle lies in a machine's folder.
pub(super) fn bundle(folder: &Path) -> PathBuf {
    folder.join("bundle")
}

impl Running {
    pub(super) fn start(machine: &Machine) -> Result<Self, StartError> {
        if let Some(misnamed) = &machine.misnamed {
            return Err(StartError::Environment(misnamed.clone()));
        }
        if !machine.image().is_file() {
            return Err(StartError::NoImage(machine.image().to_path_buf()));
        }
        let folder = tempfile::Builder::new().prefix("comity-").tempdir().map_err(StartError::Files)?;
        let hypervised = match &machine.boot {
            Boot::Hypervisor { bundle: bytes, image } if machine.kind.has_cd() => {
                iso::make(image, bytes, &machine.command_line, &cd(folder.path())).map_err(StartError::Cd)?;
                true
            }
            Boot::Hypervisor { bundle: bytes, .. } => {
                fs::write(bundle(folder.path()), bytes).map_err(StartError::Files)?;
                true
            }
            Boot::Bare { .. } => false,
        };
        let com2 = create(&com2(folder.path())).map_err(StartError::Files)?;
        let resets = create(&reset_log(folder.path())).map_err(StartError::Files)?;
        let started = Instant::now();
        let deadline = machine.timeout.and_then(|timeout| deadline(started, timeout, machine.kind));
        let (mut emulator, socket) = spawn(machine, folder.path())?;
        let says = emulator.stderr.take();
        let (com1, input): (Option<Output>, Option<Input>) = match socket {
            Some(socket) => match connected(&socket, &mut emulator, deadline) {
                Some(com1) => {
                    (com1.try_clone().ok().map(|com1| Box::new(com1) as Output), Some(Box::new(com1)))
                }
                None => (None, None),
            },
            None => (
                emulator.stdout.take().map(|stdout| Box::new(stdout) as Output),
                emulator.stdin.take().map(|stdin| Box::new(stdin) as Input),
            ),
        };
        let (sender, lines) = sync_channel(MAX_WAITING_LINES);
        if let Some(com1) = com1 {
            let terminal = machine.terminal.then(io::stdout);
            thread::spawn(move || console::read(com1, hypervised, terminal, &sender));
        }
        Ok(Self {
            image: machine.image().to_path_buf(),
            kind: machine.kind,
            input,
            emulator_says: says.map(|says| thread::spawn(move || hear(says))),
            emulator,
            lines,
            kept: Vec::new(),
            lost_lines: 0,
            com2,
            resets,
            folder: Some(folder),
            started,
            deadline,
            timed_out: false,
        })
    }

    /// Waits for the next line of COM1; `None` after the last one, or when the time is up.
    pub fn next_line(&mut self) -> Option<Line> {
        let line = match self.deadline {
            None => self.lines.recv().ok(),
            Some(deadline) => {
                match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(line) => Some(line),
                    Err(RecvTimeoutError::Timeout) => {
                        self.stop_late();
                        None
                    }
                    Err(RecvTimeoutError::Disconnected) => None,
                }
            }
        }?;
        // Bochs opens its files one by one, and after its first word.
        if !self.kind.is_bochs() {
            self.folder = None;
        }
        self.keep(line.clone());
        Some(line)
    }

    fn keep(&mut self, line: Line) {
        if self.kept.len() < MAX_KEPT_LINES {
            self.kept.push(line);
        } else {
            self.lost_lines += 1;
        }
    }

    /// Waits for a line that `wanted` accepts; `None` when it never came.
    pub fn wait_for(&mut self, wanted: impl Fn(&Line) -> bool) -> Option<Line> {
        loop {
            let line = self.next_line()?;
            if wanted(&line) {
                return Some(line);
            }
        }
    }

    /// The lines so far.
    pub fn heard(&self) -> &[Line] {
        &self.kept
    }

    /// Types text on COM1; lost when the machine has ended.
    pub fn type_text(&mut self, text: &str) {
        if let Some(input) = &mut self.input {
            // A machine that has ended does not listen, and its outcome says so.
            let _ = input.write_all(text.as_bytes()).and_then(|()| input.flush());
        }
    }

    /// Hands out the typing end of COM1, once.
    pub fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// Waits for the end and collects what the machine left.
    pub fn finish(mut self) -> Outcome {
        while self.next_line().is_some() {}
        let exit_code = self.wait().and_then(|status| status.code());
        // What came between the deadline and the kill.
        while let Ok(line) = self.lines.recv_timeout(LAST_WORDS) {
            self.keep(line);
        }
        let resets = String::from_utf8_lossy(&whole(&mut self.resets)).into_owned();
        let fault = resets.contains(TRIPLE_FAULT);
        let ended = if self.timed_out {
            Ended::TimedOut
        } else if self.kind.is_bochs() {
            Ended::of_words(&self.kept)
        } else {
            Ended::of_exit(exit_code, fault)
        };
        let says = self.emulator_says.take().and_then(|says| says.join().ok()).unwrap_or_default();
        // Bochs talks about its plugins before it has its log.
        let talks = self.kind.is_bochs() && !matches!(ended, Ended::Emulator(_));
        Outcome {
            image: self.image.clone(),
            ended,
            exit_code,
            console: std::mem::take(&mut self.kept),
            console_lost_lines: self.lost_lines,
            telemetry: telemetry::decode(&whole(&mut self.com2)),
            wall: self.started.elapsed(),
            emulator_says: if talks { String::new() } else { says },
        }
    }

    /// Waits for the process, which may live on after its console is closed, but not past the deadline.
    fn wait(&mut self) -> Option<ExitStatus> {
        loop {
            match self.emulator.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => {}
                Err(_) => return None,
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.stop_late();
                return self.emulator.wait().ok();
            }
            thread::sleep(END_POLL);
        }
    }

    fn stop_late(&mut self) {
        self.timed_out = true;
        // Already gone is as good.
        let _ = self.emulator.kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

/// What the machine writes on COM1.
type Output = Box<dyn Read + Send>;

/// When a machine's time is up; `None` when that lies beyond what the clock counts.
fn deadline(started: Instant, timeout: Duration, kind: Kind) -> Option<Instant> {
    timeout.checked_mul(kind.patience()).and_then(|timeout| started.checked_add(timeout))
}

/// Waits for an emulator to connect its COM1; `None` when it ended before, or when the time is up.
fn connected(socket: &TcpListener, emulator: &mut Child, deadline: Option<Instant>) -> Option<TcpStream> {
    loop {
        if let Ok((com1, _)) = socket.accept() {
            return com1.set_nonblocking(false).ok().map(|()| com1);
        }
        let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late || !matches!(emulator.try_wait(), Ok(None)) {
            return None;
        }
        thread::sleep(END_POLL);
    }
}

/// Starts the emulator, killed by the kernel when the thread that starts it ends in whatever way; with where its COM1 connects,
/// if that is not its standard input and output.
fn spawn(machine: &Machine, folder: &Path) -> Result<(Child, Option<TcpListener>), StartError> {
    let (program, arguments, socket) = if machine.kind.is_bochs() {
        let socket = bochs::prepare(machine, folder).map_err(StartError::Files)?;
        (BOCHS, bochs::arguments(folder), Some(socket))
    } else {
        (QEMU, machine.arguments(folder), None)
    };
    let in_path = |program: &str| {
        env::var_os("PATH")
            .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
    };
    if !in_path(program) {
        return Err(StartError::Emulator(program, io::Error::from(io::ErrorKind::NotFound)));
    }
    let mut command = if in_path("setpriv") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        command
    } else {
        Command::new(program)
    };
    command.args(arguments).stderr(Stdio::piped());
    if machine.kind.is_bochs() {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
    }
    let emulator = command.spawn().map_err(|error| StartError::Emulator(program, error))?;
    Ok((emulator, socket))
}

/// A file that QEMU writes by its name and we read by this handle.
fn create(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).open(path)
}

/// What QEMU has written to a file; what was read before an error is kept.
fn whole(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    bytes
}

fn hear(says: impl Read) -> String {
    let mut heard = Vec::new();
    // What was heard before an error is kept.
    let _ = says.take(MAX_EMULATOR_BYTES).read_to_end(&mut heard);
    String::from_utf8_lossy(&heard).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_time_that_no_clock_counts_never_comes() {
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        assert_eq!(deadline(now, minute, Kind::Qemu), Some(now + minute));
        assert_eq!(deadline(now, minute, Kind::BochsAmd), Some(now + 16 * minute));
        assert_eq!(deadline(now, Duration::from_secs(u64::MAX), Kind::Qemu), None);
        assert_eq!(deadline(now, Duration::MAX, Kind::BochsIntel), None);
    }

    #[test]
    fn who_never_connects_is_not_waited_for_beyond_the_deadline() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut mute = Command::new("sleep").arg("20").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_millis(50);
        assert!(connected(&socket, &mut mute, Some(deadline)).is_none());
        let lives = matches!(mute.try_wait(), Ok(None));
        let _ = mute.kill();
        let _ = mute.wait();
        assert!(lives, "it was given up before it ended");
        assert!(Instant::now() >= deadline, "and not before the time was up");
    }
}
