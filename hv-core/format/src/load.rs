//! Making a guest: what goes where in its memory, and how it starts.

mod linux;
mod pvh;

use crate::addr::{GuestPhys, PAGE_BYTES};
use crate::control::Start;
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use elf::abi::{EM_X86_64, ET_EXEC};

/// What a guest is made from, and made from again when it restarts.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// The kernel, in the bundle.
    pub kernel: &'static [u8],
    /// The initial RAM disk, in the bundle.
    pub initrd: Option<&'static [u8]>,
}

/// What a loader is asked.
#[derive(Clone, Debug)]
pub struct LoadRequest<'a> {
    /// RAM from guest-physical 0.
    pub ram_bytes: u64,
    /// A PVH ELF64 or a Linux bzImage.
    pub kernel: &'a [u8],
    /// The initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// Passed to the kernel.
    pub command_line: &'a str,
    /// Tables of ACPI, which begin with the RSDP, in the PC's hole below 1 MiB.
    pub acpi: Option<Piece<'static>>,
}

/// Plans by whichever loader the kernel is for.
///
/// # Errors
///
/// [`LoadError`], of the image.
pub fn plan<'a>(request: &LoadRequest<'a>) -> Result<Plan<'a>, LoadError> {
    let mut plan = if linux::is_one(request.kernel) { linux::plan(request) } else { pvh::plan(request) }?;
    plan.pieces.extend(request.acpi.clone());
    Ok(plan)
}

/// What a loader decided, and did not do yet: everything is checked, nothing is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan<'a> {
    /// What goes where, all of it inside the guest's memory.
    pub pieces: Vec<Piece<'a>>,
    /// How its first vCPU starts.
    pub start: Start,
}

/// Bytes for a guest's memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// Where they go.
    pub at: GuestPhys,
    /// The bytes.
    pub bytes: Cow<'a, [u8]>,
}

/// Why a guest is not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// Begins neither as a bzImage nor as an ELF.
    NotKernel,
    /// An ELF or bzImage that ends before its headers or segments do; its length in bytes.
    Truncated(usize),
    /// An ELF that is not 64 bits wide.
    NotElf64,
    /// An ELF for another machine, by ELF number.
    Foreign(u16),
    /// A library, an object or a position-independent executable, by ELF number.
    NotExecutable(u16),
    /// No PVH note.
    NoEntryNote,
    /// A bzImage of a protocol before 2.14, or without a 64-bit entry; which protocol.
    OldProtocol(u16),
    /// The command line is longer than this bzImage takes; its length in bytes.
    LongCommandLine(usize),
    /// A segment, the entry, or what a bzImage needs to unpack itself begins below 1 MiB; where.
    Low(u64),
    /// It ends past the guest's memory; where.
    High(u64),
    /// The entry lies outside the kernel's segments; where.
    EntryOutside(u32),
    /// The initial RAM disk does not fit above the kernel; its length in bytes.
    NoRoomForInitrd(usize),
    /// Other guests have memory that this one gave back.
    NoMemory,
}

/// Where a PC's memory begins again above 1 MiB: kernels are loaded from here on, and below lies what their loader tells them.
const HIGH_BEGIN: u64 = 0x10_0000;

fn check_range(begin: u64, end: u64, ram_bytes: u64) -> Result<(), LoadError> {
    match begin {
        _ if end > ram_bytes => Err(LoadError::High(end)),
        ..HIGH_BEGIN => Err(LoadError::Low(begin)),
        _ => Ok(()),
    }
}

/// Places an initial RAM disk on the highest page that lets it end at `top` or below it, and above the kernel.
fn place_initrd(initrd: &[u8], top: u64, kernel_end: u64) -> Result<Piece<'_>, LoadError> {
    let start = top.checked_sub(initrd.len() as u64).map(|start| start & !(PAGE_BYTES - 1));
    let start = start.filter(|start| *start >= kernel_end).ok_or(LoadError::NoRoomForInitrd(initrd.len()))?;
    Ok(Piece { at: GuestPhys::new_truncate(start), bytes: initrd.into() })
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotKernel => write!(f, "neither an ELF file nor a bzImage"),
            Self::Truncated(len) => write!(f, "a truncated kernel file of {len} bytes"),
            Self::NotElf64 => write!(f, "not an ELF64 file"),
            Self::Foreign(machine) => {
                write!(f, "an ELF file for machine {machine}, expected x86-64 ({EM_X86_64})")
            }
            Self::NotExecutable(kind) => {
                write!(f, "an ELF file of type {kind}, expected an executable ({ET_EXEC})")
            }
            Self::NoEntryNote => write!(f, "an ELF file without a PVH note (XEN_ELFNOTE_PHYS32_ENTRY)"),
            Self::OldProtocol(version) => {
                let (major, minor) = (version >> 8, version & 0xff);
                write!(f, "a bzImage of protocol {major}.{minor}, expected 2.14 with a 64-bit entry")
            }
            Self::LongCommandLine(len) => write!(f, "a bzImage that takes no command line of {len} bytes"),
            Self::Low(at) => write!(f, "a kernel that begins at {at:#x}, below 1 MiB"),
            Self::High(end) => write!(f, "a kernel that ends at {end:#x}, past the guest's memory"),
            Self::EntryOutside(at) => write!(f, "a kernel with its entry at {at:#x}, where nothing of it is"),
            Self::NoRoomForInitrd(len) => {
                write!(f, "no room above the kernel for an initial RAM disk of {len} bytes")
            }
            Self::NoMemory => write!(f, "the memory that it gave back is not to be had"),
        }
    }
}
