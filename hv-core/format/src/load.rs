//! Loading a guest: the content of its memory, and the state in which it starts.

mod linux;
mod pvh;

use crate::addr::{GuestPhys, PAGE_BYTES};
use crate::control::Start;
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use elf::abi::{EM_X86_64, ET_EXEC};

/// The images of which a guest is made, at its start and at each restart.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// The kernel, in the bundle.
    pub kernel: &'static [u8],
    /// The initial RAM disk, in the bundle.
    pub initrd: Option<&'static [u8]>,
}

/// The parameters of a loader.
#[derive(Clone, Debug)]
pub struct LoadRequest<'a> {
    /// Bytes of RAM from guest-physical 0.
    pub ram_bytes: u64,
    /// A PVH ELF64 or a Linux bzImage.
    pub kernel: &'a [u8],
    /// The initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// Command line of the kernel.
    pub command_line: &'a str,
    /// ACPI tables, which begin with the RSDP, in the PC's hole below 1 MiB.
    pub acpi: Option<Piece<'static>>,
}

/// Plans with the loader for the kernel's format.
///
/// # Errors
///
/// [`LoadError`], if the image cannot be loaded.
pub fn plan<'a>(request: &LoadRequest<'a>) -> Result<Plan<'a>, LoadError> {
    let mut plan = if linux::is_one(request.kernel) { linux::plan(request) } else { pvh::plan(request) }?;
    plan.pieces.extend(request.acpi.clone());
    Ok(plan)
}

/// The result of a loader, before it is carried out: every check is done, no guest memory is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan<'a> {
    /// The pieces to write, all inside the guest's memory.
    pub pieces: Vec<Piece<'a>>,
    /// Initial state of the guest's first vCPU.
    pub start: Start,
}

/// Bytes to write to a guest's memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece<'a> {
    /// Guest-physical address of the first byte.
    pub at: GuestPhys,
    /// The bytes to write.
    pub bytes: Cow<'a, [u8]>,
}

/// The reason why a guest cannot be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// The kernel begins neither as a bzImage nor as an ELF.
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
    /// A bzImage of a protocol before 2.14, or without a 64-bit entry; carries the protocol's version.
    OldProtocol(u16),
    /// The command line is longer than this bzImage accepts; carries its length in bytes.
    LongCommandLine(usize),
    /// A segment, the entry, or a bzImage's area to unpack itself begins below 1 MiB; carries its address.
    Low(u64),
    /// It ends past the guest's memory; carries its end.
    High(u64),
    /// The entry lies outside the kernel's segments; carries its address.
    EntryOutside(u32),
    /// The initial RAM disk does not fit above the kernel; carries its length in bytes.
    NoRoomForInitrd(usize),
    /// Other guests use memory that this guest returned.
    NoMemory,
}

/// Start of a PC's memory above 1 MiB: loaders place kernels from here on, and put the kernel's parameters below.
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
