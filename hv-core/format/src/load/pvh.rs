//! Loading a PVH kernel: an ELF64 with a note that says where to enter it in 32-bit protected mode, and a start-info
//! structure in guest memory (Xen's public/arch-x86/hvm/start_info.h, version 1).

use super::{HIGH_BEGIN, LoadError, LoadRequest, Piece, Plan, check_range, place_initrd};
use crate::addr::GuestPhys;
use crate::control::Start;
use alloc::vec::Vec;
use elf::ElfBytes;
use elf::abi::{EI_CLASS, ELFCLASS64, ELFMAGIC, EM_X86_64, ET_EXEC, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;

/// Address of the start-info structure; the command line, the module list and the memory map follow in its page.
const INFO: u64 = 0x6000;
const MODULES: u64 = INFO + 0x80;
const MEMORY_MAP: u64 = INFO + 0x100;
const COMMAND_LINE: u64 = INFO + 0x200;
const START_MAGIC: u32 = 0x336e_c578;
const MEMORY_TYPE_RAM: u32 = 1;
/// XEN_ELFNOTE_PHYS32_ENTRY.
const NOTE_ENTRY: u64 = 18;

/// Plans the places of `kernel` and `initrd` in a guest's `ram_bytes`, and the start info that describes its memory.
///
/// # Errors
///
/// [`LoadError`], if the image cannot be loaded or does not fit into the guest's memory.
pub fn plan<'a>(request: &LoadRequest<'a>) -> Result<Plan<'a>, LoadError> {
    let &LoadRequest { ram_bytes, kernel, initrd, command_line, .. } = request;
    let truncated = LoadError::Truncated(kernel.len());
    if !kernel.starts_with(&ELFMAGIC) {
        return Err(LoadError::NotKernel);
    }
    match kernel.get(EI_CLASS) {
        Some(&ELFCLASS64) => {}
        Some(_) => return Err(LoadError::NotElf64),
        None => return Err(truncated),
    }
    let elf = ElfBytes::<LittleEndian>::minimal_parse(kernel).map_err(|_| truncated)?;
    if elf.ehdr.e_machine != EM_X86_64 {
        return Err(LoadError::Foreign(elf.ehdr.e_machine));
    }
    if elf.ehdr.e_type != ET_EXEC {
        return Err(LoadError::NotExecutable(elf.ehdr.e_type));
    }
    let mut pieces = Vec::new();
    let mut entry = None;
    let mut kernel_end = HIGH_BEGIN;
    for segment in elf.segments().ok_or(truncated)? {
        match segment.p_type {
            PT_LOAD => {
                let data = elf.segment_data(&segment).map_err(|_| truncated)?;
                let at = segment.p_paddr;
                let end = at.saturating_add(segment.p_memsz.max(segment.p_filesz));
                check_range(at, end, ram_bytes)?;
                pieces.push(Piece { at: GuestPhys::new_truncate(at), bytes: data.into() });
                kernel_end = kernel_end.max(end);
            }
            PT_NOTE => {
                for note in elf.segment_data_as_notes(&segment).map_err(|_| truncated)? {
                    entry = entry.or_else(|| entry_of(&note));
                }
            }
            _ => {}
        }
    }
    let entry = entry.ok_or(LoadError::NoEntryNote)?;
    if !(HIGH_BEGIN..kernel_end).contains(&entry.into()) {
        return Err(LoadError::EntryOutside(entry));
    }
    let initrd = initrd.map(|initrd| place_initrd(initrd, ram_bytes, kernel_end)).transpose()?;
    let module = initrd.as_ref().map(|initrd| (initrd.at.raw(), initrd.bytes.len() as u64));
    pieces.extend(initrd);
    let rsdp = request.acpi.as_ref().map_or(0, |acpi| acpi.at.raw());
    pieces.push(start_info(ram_bytes, module, command_line, rsdp));
    Ok(Plan { pieces, start: Start::Protected { entry, ebx: u32::try_from(INFO).unwrap_or(0) } })
}

fn entry_of(note: &Note<'_>) -> Option<u32> {
    let Note::Unknown(note) = note else { return None };
    let desc = note.desc;
    if note.n_type != NOTE_ENTRY || note.name.trim_ascii_end() != b"Xen\0" && note.name != b"Xen" {
        return None;
    }
    desc.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
}

fn start_info(ram_bytes: u64, module: Option<(u64, u64)>, command_line: &str, rsdp: u64) -> Piece<'static> {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let (start, len) = module.unwrap_or_default();
    let modules = u32::from(module.is_some());
    let mut bytes = Vec::new();
    let mut write = |at: u64, words: &[u64]| {
        bytes.resize(usize::try_from(at - INFO).unwrap_or(0), 0);
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    write(
        INFO,
        &[pair(START_MAGIC, 1), pair(0, modules), MODULES, COMMAND_LINE, rsdp, MEMORY_MAP, pair(2, 0)],
    );
    write(MODULES, &[start, len, 0, 0]);
    // A PC's usual hole lies between the two parts of RAM.
    let low = [0, 0x9_f000, pair(MEMORY_TYPE_RAM, 0)];
    let high = [HIGH_BEGIN, ram_bytes.saturating_sub(HIGH_BEGIN), pair(MEMORY_TYPE_RAM, 0)];
    write(MEMORY_MAP, &[low, high].concat());
    write(COMMAND_LINE, &[]);
    bytes.extend(command_line.as_bytes());
    bytes.push(0);
    Piece { at: GuestPhys::new_truncate(INFO), bytes: bytes.into() }
}
