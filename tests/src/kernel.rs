//! Whether a file is a kernel that the hypervisor can load: an ELF64 for x86-64 with a PVH note, whole.

use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PT_LOAD, PT_NOTE};
use elf::endian::AnyEndian;
use elf::file::Class;
use elf::note::Note;
use elf::segment::ProgramHeader;
use std::fmt;

/// Type of the note that holds the PVH entry (Xen `elfnote.h`, XEN_ELFNOTE_PHYS32_ENTRY).
const PHYS32_ENTRY: u64 = 18;
/// Where a bzImage holds its signature (Linux `Documentation/arch/x86/boot.rst`).
const LINUX_SIGNATURE: (usize, &[u8]) = (0x202, b"HdrS");

/// Why a file is no kernel for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFault {
    /// Does not begin as an ELF.
    NotElf,
    /// A Linux bzImage.
    Linux,
    /// Ends before its headers or segments do; its length in bytes.
    Truncated(usize),
    /// Not 64 bits wide.
    NotElf64,
    /// For another machine, by ELF number.
    Foreign(u16),
    /// A library, an object or a position-independent executable, by ELF number.
    NotExecutable(u16),
    /// No PVH entry.
    NoPvhNote,
    /// A segment ends past the guest's memory; its end in bytes.
    OutsideMemory(u64),
}

impl fmt::Display for KernelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => write!(f, "not an ELF file"),
            Self::Linux => {
                write!(f, "a Linux bzImage, which is not in this version; expected an ELF64 with a PVH note")
            }
            Self::Truncated(len) => write!(f, "a truncated ELF file of {len} bytes"),
            Self::NotElf64 => write!(f, "not an ELF64 file"),
            Self::Foreign(machine) => {
                write!(f, "an ELF file for machine {machine}, expected x86-64 ({EM_X86_64})")
            }
            Self::NotExecutable(kind) => {
                write!(f, "an ELF file of type {kind}, expected an executable ({ET_EXEC})")
            }
            Self::NoPvhNote => write!(f, "an ELF file without a PVH note (XEN_ELFNOTE_PHYS32_ENTRY)"),
            Self::OutsideMemory(end) => write!(f, "a kernel that ends at {end:#x}, past the guest's memory"),
        }
    }
}

/// Checks a kernel for a guest of `memory_bytes`.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub fn check(bytes: &[u8], memory_bytes: u64) -> Result<(), KernelFault> {
    let (at, signature) = LINUX_SIGNATURE;
    if bytes.get(at..).is_some_and(|tail| tail.starts_with(signature)) {
        return Err(KernelFault::Linux);
    }
    if !bytes.starts_with(b"\x7fELF") {
        return Err(KernelFault::NotElf);
    }
    let truncated = KernelFault::Truncated(bytes.len());
    match bytes.get(4) {
        Some(2) => {}
        Some(_) => return Err(KernelFault::NotElf64),
        None => return Err(truncated),
    }
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).map_err(|_| truncated)?;
    if file.ehdr.class != Class::ELF64 {
        return Err(KernelFault::NotElf64);
    }
    if file.ehdr.e_machine != EM_X86_64 {
        return Err(KernelFault::Foreign(file.ehdr.e_machine));
    }
    if file.ehdr.e_type != ET_EXEC {
        return Err(KernelFault::NotExecutable(file.ehdr.e_type));
    }
    let segments: Vec<ProgramHeader> =
        file.segments().map(|table| table.iter().collect()).unwrap_or_default();
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD || segment.p_type == PT_NOTE) {
        file.segment_data(segment).map_err(|_| truncated)?;
    }
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
        let end = segment.p_paddr.saturating_add(segment.p_memsz);
        if end > memory_bytes {
            return Err(KernelFault::OutsideMemory(end));
        }
    }
    let noted = |segment: &ProgramHeader| {
        file.segment_data_as_notes(segment).is_ok_and(|mut notes| notes.any(|note| is_pvh(&note)))
    };
    if segments.iter().filter(|segment| segment.p_type == PT_NOTE).any(noted) {
        Ok(())
    } else {
        Err(KernelFault::NoPvhNote)
    }
}

fn is_pvh(note: &Note<'_>) -> bool {
    match note {
        Note::Unknown(any) => {
            any.n_type == PHYS32_ENTRY && any.name.starts_with(b"Xen") && any.desc.len() >= 4
        }
        Note::GnuAbiTag(_) | Note::GnuBuildId(_) => false,
    }
}
