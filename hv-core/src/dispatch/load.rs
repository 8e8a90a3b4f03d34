//! Making a guest: what goes where in its memory, and how it starts.

pub mod acpi;
pub mod birth;
pub mod pvh;

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
    /// No ELF, or one that is cut short or damaged.
    NotElf,
    /// An ELF, but no 64-bit x86 executable.
    Foreign,
    /// No PVH note.
    NoEntryNote,
    /// A segment or the entry lies below 1 MiB or outside the guest's memory.
    Outside(GuestPhys),
    /// The initial RAM disk does not fit above the kernel.
    NoRoomForInitrd,
    /// Other guests have memory that this one gave back.
    NoMemory,
}
