//! Loading a PVH kernel: an ELF64 with a note that says where to enter it in 32-bit protected mode, and a start-info
//! structure in guest memory (Xen's public/arch-x86/hvm/start_info.h, version 1).

use crate::base::addr::{GuestPhys, PAGE_BYTES};
use crate::base::hardware::GuestRam;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::note::Note;

/// Where the start-info structure lies; the command line, the module list and the memory map follow in its page.
const INFO: u64 = 0x6000;
const MODULES: u64 = INFO + 0x80;
const MEMORY_MAP: u64 = INFO + 0x100;
const COMMAND_LINE: u64 = INFO + 0x200;
/// Kernels are loaded from here on; below is the start info and what the kernel puts there itself.
const LOWEST_LOAD: u64 = 0x10_0000;
const START_MAGIC: u32 = 0x336e_c578;
const MEMORY_TYPE_RAM: u32 = 1;
/// XEN_ELFNOTE_PHYS32_ENTRY.
const NOTE_ENTRY: u64 = 18;

/// Where a loaded kernel starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// EIP.
    pub entry: u32,
    /// EBX: guest-physical address of the start info.
    pub start_info: u32,
}

/// Why a kernel is refused.
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

/// Loads `kernel` and `initrd`, and describes the guest's memory to it.
///
/// # Errors
///
/// [`LoadError`]; guest memory may be partly written then.
pub fn load(
    ram: &impl GuestRam,
    kernel: &[u8],
    initrd: Option<&[u8]>,
    command_line: &str,
) -> Result<Loaded, LoadError> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(kernel).map_err(|_| LoadError::NotElf)?;
    if elf.ehdr.class != Class::ELF64 || elf.ehdr.e_machine != EM_X86_64 || elf.ehdr.e_type != ET_EXEC {
        return Err(LoadError::Foreign);
    }
    let segments = elf.segments().ok_or(LoadError::NotElf)?;
    let mut entry = None;
    let mut kernel_end = LOWEST_LOAD;
    for segment in segments {
        match segment.p_type {
            PT_LOAD => {
                let data = elf.segment_data(&segment).map_err(|_| LoadError::NotElf)?;
                let at = GuestPhys::new_truncate(segment.p_paddr);
                let end = segment.p_paddr.checked_add(segment.p_memsz.max(segment.p_filesz));
                let end = end.filter(|end| *end <= ram.len_bytes()).ok_or(LoadError::Outside(at))?;
                if segment.p_paddr < LOWEST_LOAD {
                    return Err(LoadError::Outside(at));
                }
                ram.write(at, data).map_err(|outside| LoadError::Outside(outside.0))?;
                kernel_end = kernel_end.max(end);
            }
            PT_NOTE => {
                for note in elf.segment_data_as_notes(&segment).map_err(|_| LoadError::NotElf)? {
                    entry = entry.or_else(|| entry_of(&note));
                }
            }
            _ => {}
        }
    }
    let entry = entry.ok_or(LoadError::NoEntryNote)?;
    if u64::from(entry) < LOWEST_LOAD || u64::from(entry) >= kernel_end {
        return Err(LoadError::Outside(GuestPhys::new_truncate(u64::from(entry))));
    }
    let module = initrd.map(|initrd| place_initrd(ram, initrd, kernel_end)).transpose()?;
    write_start_info(ram, module, command_line).map_err(|outside| LoadError::Outside(outside.0))?;
    Ok(Loaded { entry, start_info: u32::try_from(INFO).unwrap_or(0) })
}

fn entry_of(note: &Note<'_>) -> Option<u32> {
    let Note::Unknown(note) = note else { return None };
    let desc = note.desc;
    if note.n_type != NOTE_ENTRY || note.name.trim_ascii_end() != b"Xen\0" && note.name != b"Xen" {
        return None;
    }
    desc.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Puts the initial RAM disk at the top of memory.
fn place_initrd(ram: &impl GuestRam, initrd: &[u8], kernel_end: u64) -> Result<(u64, u64), LoadError> {
    let len = initrd.len() as u64;
    let start = ram.len_bytes().checked_sub(len).map(|start| start & !(PAGE_BYTES - 1));
    let start = start.filter(|start| *start >= kernel_end).ok_or(LoadError::NoRoomForInitrd)?;
    ram.write(GuestPhys::new_truncate(start), initrd).map_err(|outside| LoadError::Outside(outside.0))?;
    Ok((start, len))
}

fn write_start_info(
    ram: &impl GuestRam,
    module: Option<(u64, u64)>,
    command_line: &str,
) -> Result<(), crate::base::addr::OutsideMemory> {
    let write = |at: u64, words: &[u64]| -> Result<(), _> {
        for (n, word) in (0u64..).zip(words) {
            ram.write(GuestPhys::new_truncate(at + 8 * n), &word.to_le_bytes())?;
        }
        Ok(())
    };
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let modules = u32::from(module.is_some());
    write(INFO, &[pair(START_MAGIC, 1), pair(0, modules), MODULES, COMMAND_LINE, 0, MEMORY_MAP, pair(2, 0)])?;
    if let Some((start, len)) = module {
        write(MODULES, &[start, len, 0, 0])?;
    }
    // The usual hole of a PC lies between the two.
    let low = [0, 0x9_f000, pair(MEMORY_TYPE_RAM, 0)];
    let high = [LOWEST_LOAD, ram.len_bytes() - LOWEST_LOAD, pair(MEMORY_TYPE_RAM, 0)];
    write(MEMORY_MAP, &low)?;
    write(MEMORY_MAP + 24, &high)?;
    ram.write(GuestPhys::new_truncate(COMMAND_LINE), command_line.as_bytes())?;
    ram.write(GuestPhys::new_truncate(COMMAND_LINE + command_line.len() as u64), &[0])
}
