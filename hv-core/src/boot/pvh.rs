//! The start info of a PVH loader, such as `qemu -kernel` (Xen's public/arch-x86/hvm/start_info.h).
#![expect(unsafe_code, reason = "the loader's structures through raw pointers")]

use super::handover::{Handover, area, pointer};
use hv_core::base::addr::HostPhys;
use hv_core::policy::mm::frames::Frames;

const MAGIC: u32 = 0x336e_c578;
const TYPE_RAM: u32 = 1;
/// Longest command line of the hypervisor, in bytes.
const MAX_COMMAND_LINE: usize = 1024;
/// Most entries of the memory map that are read.
const MAX_ENTRIES: u32 = 128;

/// Version 1 of the start info.
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Module {
    start: u64,
    len: u64,
    command_line: u64,
    reserved: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct MemoryMapEntry {
    start: u64,
    len: u64,
    kind: u32,
    reserved: u32,
}

const _: () =
    assert!(size_of::<StartInfo>() == 56 && size_of::<Module>() == 32 && size_of::<MemoryMapEntry>() == 24);

/// Returns the loader's zero-terminated string at `at`; empty if the loader passed none, or if it is too long.
fn text(at: u64) -> &'static str {
    let mut len = 0;
    while at != 0 && len < MAX_COMMAND_LINE {
        // SAFETY: the string lies below 4 GiB, which is mapped, and is read up to its zero.
        if unsafe { pointer::<u8>(at + len as u64).read_volatile() } == 0 {
            // SAFETY: the bytes were just read, and the caller takes them out of the free frames.
            let bytes = unsafe { core::slice::from_raw_parts(pointer::<u8>(at), len) };
            return core::str::from_utf8(bytes).unwrap_or_default();
        }
        len += 1;
    }
    ""
}

/// Converts the start info to a [`Handover`].
///
/// # Safety
///
/// `start_info` is the value that a PVH loader left in EBX, and the structures it points to are unchanged since.
pub unsafe fn read(start_info: u64) -> Handover {
    // SAFETY: PVH says that EBX points to the start info, which lies below 4 GiB and so is mapped.
    let info = unsafe { pointer::<StartInfo>(start_info).read_unaligned() };
    let mut frames = Frames::default();
    let mut bundle: &'static [u8] = &[];
    let mut command_line = "";
    if info.magic == MAGIC {
        let entries = || {
            (0..u64::from(info.memory_map_entries.min(MAX_ENTRIES))).filter_map(|n| {
                // SAFETY: the loader's map has that many entries, below 4 GiB.
                let entry = unsafe { pointer::<MemoryMapEntry>(info.memory_map + n * 24).read_unaligned() };
                area(entry.start, entry.len, entry.kind == TYPE_RAM)
            })
        };
        frames.learn(entries);
        command_line = text(info.command_line);
        frames.reserve(HostPhys::new_truncate(info.command_line), command_line.len() as u64);
        if info.modules > 0 {
            // SAFETY: the module list has that many entries, below 4 GiB.
            let module = unsafe { pointer::<Module>(info.module_list).read_unaligned() };
            if let (Some(start), Ok(len)) = (HostPhys::new(module.start), usize::try_from(module.len)) {
                frames.reserve(start, module.len);
                // SAFETY: the loader put the module there; the range was just taken out of the free frames, so it never
                // changes.
                bundle = unsafe { core::slice::from_raw_parts(pointer(module.start), len) };
            }
        }
    }
    Handover { frames, bundle, command_line, rsdp: info.rsdp, start_page: None, screen: None }
}
