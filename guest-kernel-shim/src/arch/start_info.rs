//! Reading the PVH start info. Cites: Xen `public/arch-x86/hvm/start_info.h`.
#![expect(unsafe_code, reason = "follows physical addresses that the loader gave")]

use super::boot::{Boot, MAX_COMMAND_LINE, MAX_REGIONS, Region};
use spin::Once;

const MAGIC: u32 = 0x336e_c578;

#[derive(Clone, Copy)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    // Version 1 and later only.
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Module {
    address: u64,
    bytes: u64,
    command_line: u64,
    reserved: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct MapEntry {
    address: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

const _: () =
    assert!(size_of::<StartInfo>() == 56 && size_of::<Module>() == 32 && size_of::<MapEntry>() == 24);

/// Copies what the loader handed over, so that the kernel may reuse the loader's memory; the module stays in place.
///
/// # Safety
///
/// `address` is that of a PVH start info, or of other mapped memory. Memory below 4 GiB is mapped, and nobody will
/// write to the module.
pub(crate) unsafe fn read(address: u32) -> &'static Boot {
    static BOOT: Once<Boot> = Once::new();
    BOOT.call_once(|| {
        let mut boot = Boot::empty();
        // SAFETY: the caller promises that the address is mapped, and every bit pattern is valid for the type.
        let info = unsafe { load::<StartInfo>(u64::from(address)) };
        let Some(info) = info.filter(|info| info.magic == MAGIC) else { return boot };
        // SAFETY: as above, for each address.
        unsafe {
            copy_text(info.command_line, &mut boot);
            if info.version >= 1 {
                for n in 0..u64::from(info.memory_map_entries).min(MAX_REGIONS as u64) {
                    let at = info.memory_map.saturating_add(n * size_of::<MapEntry>() as u64);
                    if let Some(entry) = load::<MapEntry>(at) {
                        boot.add_region(Region {
                            start: entry.address,
                            bytes: entry.bytes,
                            kind: entry.kind,
                        });
                    }
                }
            }
            if info.modules > 0 {
                boot.module = load::<Module>(info.module_list).and_then(|module| slice(module));
            }
        }
        boot
    })
}

/// Reads a structure below 4 GiB.
unsafe fn load<T: Copy>(address: u64) -> Option<T> {
    let end = address.checked_add(size_of::<T>() as u64)?;
    let pointer = core::ptr::with_exposed_provenance::<T>(usize::try_from(address).ok()?);
    // SAFETY: the caller of `read` promises mapped memory, and every bit pattern is valid for the types read here.
    (address != 0 && end <= 1 << 32).then(|| unsafe { pointer.read_unaligned() })
}

unsafe fn copy_text(address: u64, boot: &mut Boot) {
    for n in 0..MAX_COMMAND_LINE as u64 {
        // SAFETY: the caller of `read` promises mapped memory.
        match unsafe { load::<u8>(address.saturating_add(n)) } {
            Some(byte) if byte != 0 && address != 0 => boot.add_command_line_byte(byte),
            _ => return,
        }
    }
}

unsafe fn slice(module: Module) -> Option<&'static [u8]> {
    let end = module.address.checked_add(module.bytes)?;
    let bytes = usize::try_from(module.bytes).ok()?;
    let start = core::ptr::with_exposed_provenance(usize::try_from(module.address).ok()?);
    // SAFETY: the loader put the module there, and the caller of `read` promises that nobody writes to it.
    (module.address != 0 && end <= 1 << 32).then(|| unsafe { core::slice::from_raw_parts(start, bytes) })
}
