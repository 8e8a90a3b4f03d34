//! A load for a Linux guest: `load spin SECONDS`, `load mix SECONDS`, `load sleep SECONDS`; `marked` behind them sets the benchmark's
//! two marks around what is done. `load mark ID VALUE` sets a mark, `load tsc` prints the time-stamp counter; what is in [`wild`] takes
//! no arguments. One static file with nothing beneath it but the kernel's calls (Linux `arch/x86/entry/syscalls/syscall_64.tbl`); xtask
//! builds it alone, and the initial RAM disk has it.
#![no_std]
#![no_main]
// No loop of ours becomes a call of strlen.
#![no_builtins]
#![expect(unsafe_code, reason = "system calls and the first instruction; every block carries SAFETY")]

mod wild;

use core::arch::{asm, naked_asm};
use core::hint::black_box;
use core::panic::PanicInfo;

/// Calls by number.
mod call {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const OPEN: usize = 2;
    pub const CLOSE: usize = 3;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const PIPE: usize = 22;
    pub const NANOSLEEP: usize = 35;
    pub const FORK: usize = 57;
    pub const WAIT4: usize = 61;
    pub const UNLINK: usize = 87;
    pub const IOPERM: usize = 173;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
}

/// How many iterations of the spin loop go between two looks at the clock.
const ITERATIONS_A_LOOK: u64 = 1_000;
/// Steps of arithmetic in one iteration: enough that looking at the clock is less than 1 % of the work.
const STEPS: u32 = 16;
/// What is mapped in each round of the mix, in pages.
const PAGES: usize = 64;
const PAGE_BYTES: usize = 4096;
/// What is written to a file in each round of the mix.
const FILE_BYTES: usize = 1024;
const FILE: &[u8] = b"/tmp/mix\0";
const NS_A_SECOND: u64 = 1_000_000_000;
/// A mark's id, written after its value, sets it (hv-core, `exit/exit.rs`).
const MARK_ID: u16 = 0xcf0;
/// See [`MARK_ID`].
const MARK_VALUE: u16 = 0xcf4;
/// Ports from the first of these to the last byte of the second.
const MARK_PORTS: usize = 8;
/// Marks of a window's begin and end, as the benchmark has them (xtask, `bench/window.rs`).
const BEGIN: u64 = 1;
/// See [`BEGIN`].
const END: u64 = 2;

/// A call that failed: which, and the kernel's code for why.
struct Refused(&'static str, isize);

const USAGE: Refused = Refused("expected spin, mix or sleep and seconds, mark and two numbers, or tsc", -1);

/// Calls the kernel; a negative answer is an error.
///
/// # Safety
///
/// The arguments are what the call wants, and memory that it writes is the caller's to have written.
unsafe fn system(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the kernel changes rax, rcx and r11, and what the arguments allow it to, for which the caller vouches.
    unsafe {
        asm!("syscall", inlateout("rax") number => answer, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, out("rcx") _, out("r11") _, options(nostack));
    }
    answer
}

fn checked(name: &'static str, answer: isize) -> Result<usize, Refused> {
    usize::try_from(answer).map_err(|_| Refused(name, answer))
}

fn write(file: usize, bytes: &[u8]) -> Result<(), Refused> {
    // SAFETY: the kernel reads `bytes` and nothing else.
    let answer = unsafe { system(call::WRITE, [file, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) };
    match checked("write", answer)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(Refused("write", answer)),
    }
}

/// Reads at most `bytes.len()`; 0 at the end.
fn read(file: usize, bytes: &mut [u8]) -> Result<usize, Refused> {
    // SAFETY: the kernel writes at most `bytes.len()` bytes to `bytes`, which is borrowed for it.
    let answer = unsafe { system(call::READ, [file, bytes.as_mut_ptr() as usize, bytes.len(), 0, 0, 0]) };
    checked("read", answer)
}

fn close(file: usize) -> Result<(), Refused> {
    // SAFETY: takes a number.
    checked("close", unsafe { system(call::CLOSE, [file, 0, 0, 0, 0, 0]) }).map(|_| ())
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: takes a number, and does not come back.
        let _ = unsafe { system(call::EXIT_GROUP, [code, 0, 0, 0, 0, 0]) };
    }
}

/// CLOCK_MONOTONIC, in nanoseconds, asked of the kernel.
fn now_ns() -> Result<u64, Refused> {
    const MONOTONIC: usize = 1;
    let mut time = [0_u64; 2];
    // SAFETY: the kernel writes a timespec, two words, to `time`.
    let answer = unsafe { system(call::CLOCK_GETTIME, [MONOTONIC, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    checked("clock_gettime", answer)?;
    let [seconds, ns] = time;
    Ok(seconds * NS_A_SECOND + ns)
}

/// Returns the child's number, or 0 in the child.
fn fork() -> Result<usize, Refused> {
    // SAFETY: the child gets a copy of all memory and goes on from here; there are no threads whose locks it could miss.
    checked("fork", unsafe { system(call::FORK, [0; 6]) })
}

fn wait(child: usize) -> Result<(), Refused> {
    let mut status = 0_u32;
    let to = &raw mut status as usize;
    // SAFETY: the kernel writes one word to `status`.
    let answer = unsafe { system(call::WAIT4, [child, to, 0, 0, 0, 0]) };
    checked("wait4", answer)?;
    if status == 0 { Ok(()) } else { Err(Refused("child", -1)) }
}

/// The reading and the writing end.
fn pipe() -> Result<(usize, usize), Refused> {
    let mut ends = [0_u32; 2];
    // SAFETY: the kernel writes two words to `ends`.
    checked("pipe", unsafe { system(call::PIPE, [ends.as_mut_ptr() as usize, 0, 0, 0, 0, 0]) })?;
    let [reading, writing] = ends;
    Ok((reading as usize, writing as usize))
}

/// Sleeps, and returns the time that it took, in nanoseconds.
fn sleep(duration_ns: u64) -> Result<u64, Refused> {
    let start = now_ns()?;
    let time = [duration_ns / NS_A_SECOND, duration_ns % NS_A_SECOND];
    // SAFETY: the kernel reads a timespec, two words, from `time`, and is not asked to write what remains.
    checked("nanosleep", unsafe { system(call::NANOSLEEP, [time.as_ptr() as usize, 0, 0, 0, 0, 0]) })?;
    Ok(now_ns()? - start)
}

/// Asks the kernel for the ports of marks.
fn open_marks() -> Result<(), Refused> {
    // SAFETY: allows this process two ports, behind which nothing is but the hypervisor that it is run to measure.
    let answer = unsafe { system(call::IOPERM, [usize::from(MARK_ID), MARK_PORTS, 1, 0, 0, 0]) };
    checked("ioperm", answer).map(|_| ())
}

/// Sets a mark. The ports have been opened; of each number the lower half goes through.
fn mark(id: u64, value: u64) {
    for (port, word) in [(MARK_VALUE, value), (MARK_ID, id)] {
        // SAFETY: the port is opened, and its device touches no memory of ours.
        unsafe { asm!("out dx, eax", in("dx") port, in("eax") word as u32, options(nostack, preserves_flags)) };
    }
}

/// The time-stamp counter.
fn tsc() -> u64 {
    let (high, low): (u32, u32);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("edx") high, out("eax") low, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Counts iterations of a fixed loop until the time is over; with the time that it took, in nanoseconds.
fn spin(duration_ns: u64) -> Result<(u64, u64), Refused> {
    let (mut iterations, mut value) = (0_u64, 1_u64);
    let start = now_ns()?;
    loop {
        for _ in 0..ITERATIONS_A_LOOK {
            for _ in 0..STEPS {
                // Marsaglia's xorshift: each step needs the one before.
                value ^= value << 13;
                value ^= value >> 7;
                value ^= value << 17;
            }
            value = black_box(value);
        }
        iterations += ITERATIONS_A_LOOK;
        let passed = now_ns()? - start;
        if passed >= duration_ns {
            return Ok((iterations, passed));
        }
    }
}

/// Counts rounds of what kernels do for programs until the time is over; with the time that it took, in nanoseconds.
fn mix(duration_ns: u64) -> Result<(u64, u64), Refused> {
    let (there_read, there_write) = pipe()?;
    let (back_read, back_write) = pipe()?;
    let echo = fork()?;
    if echo == 0 {
        // The pipe is at its end when nobody holds this end of it.
        let _ = close(there_write);
        exit(usize::from(repeat(there_read, back_write).is_err()));
    }
    close(there_read)?;
    let start = now_ns()?;
    let mut rounds = 0;
    let passed = loop {
        one_child()?;
        round_trip(there_write, back_read, rounds)?;
        one_mapping()?;
        one_file()?;
        rounds += 1;
        let passed = now_ns()? - start;
        if passed >= duration_ns {
            break passed;
        }
    };
    close(there_write)?;
    wait(echo)?;
    Ok((rounds, passed))
}

/// Sends back what comes, until the end.
fn repeat(from: usize, to: usize) -> Result<(), Refused> {
    let mut byte = [0];
    while read(from, &mut byte)? == 1 {
        write(to, &byte)?;
    }
    Ok(())
}

fn one_child() -> Result<(), Refused> {
    match fork()? {
        0 => exit(0),
        child => wait(child),
    }
}

fn round_trip(there: usize, back: usize, round: u64) -> Result<(), Refused> {
    let [sent, ..] = round.to_le_bytes();
    let mut received = [!sent];
    write(there, &[sent])?;
    match read(back, &mut received)? {
        1 if received == [sent] => Ok(()),
        _ => Err(Refused("pipe", -1)),
    }
}

fn one_mapping() -> Result<(), Refused> {
    const READ_WRITE: usize = 3;
    const PRIVATE_ANONYMOUS: usize = 0x22;
    const NO_FILE: usize = usize::MAX;
    let bytes = PAGES * PAGE_BYTES;
    // SAFETY: asks for new memory at an address that the kernel chooses: nobody's memory changes.
    let answer = unsafe { system(call::MMAP, [0, bytes, READ_WRITE, PRIVATE_ANONYMOUS, NO_FILE, 0]) };
    let start = checked("mmap", answer)?;
    for page in 0..PAGES {
        let to = (start + page * PAGE_BYTES) as *mut u8;
        // SAFETY: `to` lies in the mapping just made, which nobody else knows of.
        unsafe { to.write_volatile(1) };
    }
    // SAFETY: the mapping is ours, and no reference into it was ever made.
    checked("munmap", unsafe { system(call::MUNMAP, [start, bytes, 0, 0, 0, 0]) }).map(|_| ())
}

fn one_file() -> Result<(), Refused> {
    const READ_WRITE_CREATE_EXCLUSIVE: usize = 0o302;
    const READ_ONLY: usize = 0;
    let open = |flags| {
        // SAFETY: the kernel reads the name, which ends with a zero.
        checked("open", unsafe { system(call::OPEN, [FILE.as_ptr() as usize, flags, 0o600, 0, 0, 0]) })
    };
    let written = [7; FILE_BYTES];
    let file = open(READ_WRITE_CREATE_EXCLUSIVE)?;
    write(file, &written)?;
    close(file)?;
    let file = open(READ_ONLY)?;
    let mut found = [0; FILE_BYTES];
    let length = read(file, &mut found)?;
    close(file)?;
    // SAFETY: the kernel reads the name, which ends with a zero.
    checked("unlink", unsafe { system(call::UNLINK, [FILE.as_ptr() as usize, 0, 0, 0, 0, 0]) })?;
    if length == FILE_BYTES && found.iter().all(|byte| *byte == 7) {
        Ok(())
    } else {
        Err(Refused("file", -1))
    }
}

/// A line to be printed whole: the console gets it in one write.
struct Text {
    bytes: [u8; 128],
    length: usize,
}

impl Text {
    fn new() -> Self {
        Self { bytes: [0; 128], length: 0 }
    }

    /// Adds words; what does not fit is left out.
    fn words(mut self, words: &[u8]) -> Self {
        for byte in words {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length += 1;
            }
        }
        self
    }

    fn number(self, number: u64) -> Self {
        let text = if number >= 10 { self.number(number / 10) } else { self };
        let [digit, ..] = (number % 10).to_le_bytes();
        text.words(&[b'0' + digit])
    }

    fn print(self) -> Result<(), Refused> {
        self.bytes.get(..self.length).map_or(Ok(()), |bytes| write(1, bytes))
    }
}

/// Keeps the processor busy, or does not, between two marks if they are wanted, and says how much was done.
fn run(what: &[u8], seconds: u64, marked: bool) -> Result<(), Refused> {
    let duration_ns = seconds.saturating_mul(NS_A_SECOND);
    if marked {
        open_marks()?;
        mark(BEGIN, 0);
    }
    let (key, (count, passed)) = match what {
        b"spin" => (b" iterations=".as_slice(), spin(duration_ns)?),
        b"mix" => (b" rounds=".as_slice(), mix(duration_ns)?),
        b"sleep" => (b" seconds=".as_slice(), (seconds, sleep(duration_ns)?)),
        _ => return Err(USAGE),
    };
    if marked {
        mark(END, 0);
    }
    let text = Text::new().words(b"#linux ").words(what).words(key).number(count);
    text.words(b" ns=").number(passed).words(b"\n").print()
}

/// What is asked for.
fn obey(words: [Option<&[u8]>; 3]) -> Result<(), Refused> {
    match words {
        [Some(b"tsc"), None, None] => {
            let now = tsc();
            Text::new().words(b"#linux tsc=").number(now).words(b"\n").print()
        }
        [Some(b"mark"), Some(id), Some(value)] => {
            let (id, value) = number(id).zip(number(value)).ok_or(USAGE)?;
            open_marks()?;
            mark(id, value);
            Ok(())
        }
        [Some(what), None, None] => wild::run(what),
        [Some(what), Some(seconds), None] => run(what, number(seconds).ok_or(USAGE)?, false),
        [Some(what), Some(seconds), Some(b"marked")] => run(what, number(seconds).ok_or(USAGE)?, true),
        _ => Err(USAGE),
    }
}

/// A decimal number.
fn number(digits: &[u8]) -> Option<u64> {
    let add = |sum: u64, digit: &u8| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(value)
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// The bytes of a string that ends with a zero.
///
/// # Safety
///
/// `text` points to such a string, which nobody changes.
unsafe fn string(text: *const u8) -> &'static [u8] {
    let mut length = 0;
    // SAFETY: every byte before the zero, and the zero, are of the string.
    while unsafe { text.add(length).read() } != 0 {
        length += 1;
    }
    // SAFETY: so many bytes were just read, and nobody changes them.
    unsafe { core::slice::from_raw_parts(text, length) }
}

/// Runs with what the kernel left on the stack: the number of arguments, and a pointer to each.
///
/// # Safety
///
/// `stack` is the stack pointer with which the process began.
unsafe extern "sysv64" fn start(stack: *const usize) -> ! {
    // SAFETY: the number of arguments is there (System V ABI, AMD64 supplement, 3.4.1).
    let count = unsafe { stack.read() };
    let argument = |index: usize| {
        // SAFETY: as many pointers to strings follow the number as it says; they stay as they are.
        (index < count).then(|| unsafe { string(stack.add(1 + index).read() as *const u8) })
    };
    let ended = obey([argument(1), argument(2), argument(3)]);
    if let Err(Refused(call, answer)) = ended {
        let text = Text::new().words(b"#bad linux load=").words(call.as_bytes()).words(b" error=");
        let _ = text.number(answer.unsigned_abs() as u64).words(b"\n").print();
        exit(1);
    }
    exit(0)
}

/// The first instruction: hands the stack pointer in `rdi` to [`start`], on a stack aligned for it.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "sysv64" fn _start() -> ! {
    naked_asm!("mov rdi, rsp", "and rsp, -16", "call {start}", "ud2", start = sym start)
}

/// What the compiler calls to copy; one instruction, so that it never calls itself.
///
/// # Safety
///
/// As in C: `to` and `from` are `length` bytes long, and do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: writes `length` bytes at `to`, which the caller allows; the direction flag is clear (System V ABI, 3.2.1).
    unsafe {
        asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// What the compiler calls to fill; see [`memcpy`].
///
/// # Safety
///
/// As in C: `to` is `length` bytes long.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    let [byte, ..] = value.to_le_bytes();
    // SAFETY: writes `length` bytes at `to`, which the caller allows; the direction flag is clear (System V ABI, 3.2.1).
    unsafe {
        asm!("rep stosb", inout("rcx") length => _, inout("rdi") to => _, in("al") byte,
            options(nostack, preserves_flags));
    }
    to
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    let _ = write(1, b"#bad linux load=panic\n");
    exit(101)
}
