//! Making a guest: what goes where in its memory, and how it starts.

pub mod birth;
mod linux;
mod pvh;

use crate::base::addr::GuestPhys;
use crate::dispatch::vt::Start;
use alloc::borrow::Cow;
use alloc::vec::Vec;

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
pub struct Request<'a> {
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
pub fn plan<'a>(request: &Request<'a>) -> Result<Plan<'a>, LoadError> {
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
    /// Neither a bzImage nor an ELF, or an ELF that is cut short or damaged.
    NotElf,
    /// An ELF, but no 64-bit x86 executable.
    Foreign,
    /// No PVH note.
    NoEntryNote,
    /// A bzImage that ends before its header says; its length in bytes.
    CutShort(u64),
    /// A bzImage of a protocol before 2.14, or without a 64-bit entry; which protocol.
    OldProtocol(u16),
    /// The command line is longer than this bzImage takes; its length in bytes.
    LongCommandLine(u64),
    /// A segment, the entry, or what a bzImage needs to unpack itself lies below 1 MiB or outside the guest's memory.
    Outside(GuestPhys),
    /// The initial RAM disk does not fit above the kernel.
    NoRoomForInitrd,
    /// Other guests have memory that this one gave back.
    NoMemory,
}
