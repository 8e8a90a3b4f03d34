//! What no program should do to its machine: every port, every MSR, and two ways to leave the kernel for good. Needs root.
#![expect(unsafe_code, reason = "system calls and port accesses; every block carries SAFETY")]

use super::{PAGE_BYTES, Refused, Text, call, checked, close, system};
use core::arch::asm;
use core::ops::RangeInclusive;

const IOPL: usize = 172;
const REBOOT: usize = 169;
const KEXEC_LOAD: usize = 246;
const PREAD: usize = 17;
const PWRITE: usize = 18;

/// Ports that end this guest when they are written, or that its console is behind: keyboard, fast reset, COM1, power management,
/// PCI and reset control.
const NOT_WRITTEN: [RangeInclusive<u16>; 5] =
    [0x60..=0x64, 0x92..=0x92, 0x3f8..=0x3ff, 0x600..=0x607, 0xcf8..=0xcff];
/// What is written to the others.
const ODD: u32 = 0xdead_be5a;

/// The MSRs of the permission maps, and KVM's.
const MSRS: [RangeInclusive<u32>; 4] =
    [0..=0x1fff, 0xc000_0000..=0xc000_1fff, 0xc001_0000..=0xc001_1fff, 0x4b56_4d00..=0x4b56_4dff];
const MSR_FILE: &[u8] = b"/dev/cpu/0/msr\0";
const READ_WRITE: usize = 2;

/// Where the code lands that takes over from the kernel.
const TAKEOVER: usize = 0x10_0000;
/// CLI; a jump to itself.
const DEAF: &[u8] = &[0xfa, 0xeb, 0xfe];
/// LIDT of the ten zero bytes that follow INT3.
const TRIPLE: &[u8] = &[0x0f, 0x01, 0x1d, 1, 0, 0, 0, 0xcc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What is asked for.
pub fn run(what: &[u8]) -> Result<(), Refused> {
    match what {
        b"ports" => every_port(),
        b"msrs" => every_msr(),
        b"deaf" => take_over(DEAF),
        b"triple" => take_over(TRIPLE),
        _ => Err(Refused("expected spin or mix and seconds, or ports, msrs, deaf, triple", -1)),
    }
}

/// How many bytes a port access moves.
#[derive(Clone, Copy)]
enum Width {
    Byte = 1,
    Word = 2,
    Double = 4,
}

/// Every access by its port, its width and what is read where nothing is. The kernel allows none that goes past the last port.
fn accesses() -> impl Iterator<Item = (u16, Width, u32)> {
    let widths = [(Width::Byte, 0xff), (Width::Word, 0xffff), (Width::Double, u32::MAX)];
    let all = (0..=u16::MAX).flat_map(move |port| widths.map(|(width, nothing)| (port, width, nothing)));
    all.filter(|(port, width, _)| u32::from(*port) + *width as u32 <= 1 << 16)
}

fn every_port() -> Result<(), Refused> {
    const ALL_PORTS: usize = 3;
    // SAFETY: takes a number, and changes what this process may execute.
    checked("iopl", unsafe { system(IOPL, [ALL_PORTS, 0, 0, 0, 0, 0]) })?;
    let mut answered = 0;
    for (port, width, nothing) in accesses() {
        answered += u64::from(read_port(port, width) != nothing);
    }
    Text::new().words(b"#linux ports answered=").number(answered).words(b"\n").print()?;
    let mut written = 0;
    for (port, width, _) in accesses().filter(|(port, width, _)| !is_spared(*port, *width)) {
        write_port(port, width);
        written += 1;
    }
    Text::new().words(b"#linux ports written=").number(written).words(b"\n").print()
}

/// Whether an access reaches a port that is not to be written.
fn is_spared(port: u16, width: Width) -> bool {
    let last = port.saturating_add(width as u16 - 1);
    NOT_WRITTEN.iter().any(|spared| port <= *spared.end() && last >= *spared.start())
}

fn read_port(port: u16, width: Width) -> u32 {
    let mut value = 0_u32;
    // SAFETY: IN changes no memory: no device of a guest does DMA when a port is read. The kernel allowed all ports.
    unsafe {
        match width {
            Width::Byte => asm!("in al, dx", in("dx") port, inlateout("eax") 0_u32 => value, options(nostack)),
            Width::Word => asm!("in ax, dx", in("dx") port, inlateout("eax") 0_u32 => value, options(nostack)),
            Width::Double => asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)),
        }
    }
    value
}

fn write_port(port: u16, width: Width) {
    // SAFETY: OUT changes no memory: no device of a guest does DMA by ports. The kernel allowed all ports.
    unsafe {
        match width {
            Width::Byte => asm!("out dx, al", in("dx") port, in("eax") ODD, options(nostack)),
            Width::Word => asm!("out dx, ax", in("dx") port, in("eax") ODD, options(nostack)),
            Width::Double => asm!("out dx, eax", in("dx") port, in("eax") ODD, options(nostack)),
        }
    }
}

/// Reads them by the module `msr`, and writes back what was read.
fn every_msr() -> Result<(), Refused> {
    // SAFETY: the kernel reads the name, which ends with a zero.
    let file = unsafe { system(call::OPEN, [MSR_FILE.as_ptr() as usize, READ_WRITE, 0, 0, 0, 0]) };
    let file = checked("open msr", file)?;
    let (mut read, mut written) = (0, 0);
    for msr in MSRS.into_iter().flatten() {
        let mut value = 0_u64;
        let at = &raw mut value as usize;
        // SAFETY: the kernel writes one word to `value`.
        let got = unsafe { system(PREAD, [file, at, size_of::<u64>(), msr as usize, 0, 0]) };
        if got != size_of::<u64>() as isize {
            continue;
        }
        read += 1;
        // SAFETY: the kernel reads `value`, and writes back to the register what was in it.
        let put = unsafe { system(PWRITE, [file, at, size_of::<u64>(), msr as usize, 0, 0]) };
        written += u64::from(put == size_of::<u64>() as isize);
    }
    close(file)?;
    let text = Text::new().words(b"#linux msrs read=").number(read);
    text.words(b" written=").number(written).words(b"\n").print()
}

/// Puts code in the kernel's place and jumps there: 64-bit mode, all memory mapped onto itself, interrupts off.
fn take_over(code: &[u8]) -> Result<(), Refused> {
    const MAGIC: [usize; 2] = [0xfee1_dead, 672_274_793];
    const KEXEC: usize = 0x4558_4543;
    // Where the bytes are and how many, and where they go and into how much room.
    let segment = [code.as_ptr() as usize, code.len(), TAKEOVER, PAGE_BYTES];
    let at = segment.as_ptr() as usize;
    // SAFETY: the kernel reads the segment and the code that it names, and copies that when it ends.
    checked("kexec_load", unsafe { system(KEXEC_LOAD, [TAKEOVER, 1, at, 0, 0, 0]) })?;
    let [first, second] = MAGIC;
    // SAFETY: ends this kernel; nothing of ours is left behind.
    checked("reboot", unsafe { system(REBOOT, [first, second, KEXEC, 0, 0, 0]) }).map(|_| ())
}
