//! Entry by PVH (`qemu -kernel`): 32-bit protected mode, paging off, EBX = start info
//! (Xen's public/arch-x86/hvm/start_info.h).
#![expect(unsafe_code, reason = "entry code, and the loader's structures through raw pointers")]

use super::Handover;
use core::arch::global_asm;
use hv_core::base::addr::HostPhys;
use hv_core::policy::mm::frames::Frames;

// The tables map the first 4 GiB at themselves, by 2 MiB pages. `boot_pml4` and what follows lie in .bss, which the
// loader cleared.
global_asm!(
    ".pushsection .note.pvh, \"a\", @note",
    ".balign 4",
    ".long 4, 4, 18",
    ".asciz \"Xen\"",
    ".long pvh_entry",
    ".popsection",
    ".pushsection .bss.boot, \"aw\", @nobits",
    ".balign 4096",
    "boot_pml4: .skip 4096",
    "boot_pdpt: .skip 4096",
    "boot_pd: .skip 4 * 4096",
    "boot_guard: .skip 4096",
    "boot_stack: .skip 64 * 1024",
    "boot_stack_top:",
    ".popsection",
    ".pushsection .text.boot, \"ax\", @progbits",
    ".code32",
    ".globl pvh_entry",
    ".type pvh_entry, @function",
    "pvh_entry:",
    "cld",
    "mov esp, offset boot_stack_top",
    "mov edi, ebx", // start info, the argument
    // PML4[0] -> PDPT, PDPT[0..4] -> PDs, PDs -> 2 MiB pages
    "mov eax, offset boot_pdpt",
    "or eax, 3",
    "mov dword ptr [boot_pml4], eax",
    "mov eax, offset boot_pd",
    "or eax, 3",
    "mov ecx, 0",
    "2: mov dword ptr [boot_pdpt + ecx * 8], eax",
    "add eax, 4096",
    "inc ecx",
    "cmp ecx, 4",
    "jb 2b",
    "mov eax, 0x83", // present, writable, large
    "mov ecx, 0",
    "3: mov dword ptr [boot_pd + ecx * 8], eax",
    "add eax, 0x200000",
    "inc ecx",
    "cmp ecx, 2048",
    "jb 3b",
    "mov esi, offset boot_first",
    // From here on every processor, with the 64-bit place to go on in ESI and an argument in EDI.
    ".globl boot_long_mode",
    "boot_long_mode:",
    "mov eax, offset boot_pml4",
    "mov cr3, eax",
    "mov eax, cr4",
    "or eax, 0x620", // PAE, OSFXSR, OSXMMEXCPT
    "mov cr4, eax",
    "mov ecx, 0xc0000080", // EFER: LME, NXE
    "rdmsr",
    "or eax, 0x900",
    "wrmsr",
    "mov eax, cr0",
    "and eax, 0x9ffffffb", // no EM; no CD and NW, which INIT sets
    "or eax, 0x80010002",  // PG, WP, MP
    "mov cr0, eax",
    "lgdt [boot_gdt_pointer]",
    "ljmp 8, offset boot_long",
    ".code64",
    "boot_long:",
    "mov eax, 16",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "mov edi, edi",
    "mov esi, esi",
    "xor ebp, ebp",
    "jmp rsi",
    "boot_first:",
    "call {main}",
    "ud2",
    ".balign 8",
    // null, 64-bit code, data, 32-bit code
    ".globl boot_gdt",
    "boot_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff",
    "boot_gdt_pointer: .short 31",
    ".long boot_gdt",
    ".size pvh_entry, . - pvh_entry",
    ".popsection",
    main = sym pvh_main,
);

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
    static boot_guard: u8;
}

/// The page below the first processor's stack: nothing lies there.
pub fn stack_guard() -> HostPhys {
    HostPhys::new_truncate(&raw const boot_guard as u64)
}

const MAGIC: u32 = 0x336e_c578;
const TYPE_RAM: u32 = 1;
/// Longest command line of ours, in bytes.
const MAX_COMMAND_LINE: usize = 1024;
/// Entries of the memory map that are looked at.
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
/// What the entry code maps.
const MAPPED: u64 = 4 << 30;

fn pointer<T>(at: u64) -> *const T {
    core::ptr::with_exposed_provenance(usize::try_from(at).unwrap_or(0))
}

/// A zero-terminated string of the loader's below 1 MiB or in the image's reach; empty when it is none, or too long.
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

/// First Rust code: takes from the start info what the rest needs.
extern "sysv64" fn pvh_main(start_info: u64) -> ! {
    // SAFETY: PVH says that EBX points to the start info, which lies below 4 GiB and so is mapped.
    let info = unsafe { pointer::<StartInfo>(start_info).read_unaligned() };
    let mut frames = Frames::default();
    let mut bundle: &'static [u8] = &[];
    let mut command_line = "";
    if info.magic == MAGIC {
        for n in 0..u64::from(info.memory_map_entries.min(MAX_ENTRIES)) {
            // SAFETY: the loader's map has that many entries, below 4 GiB.
            let entry = unsafe { pointer::<MemoryMapEntry>(info.memory_map + n * 24).read_unaligned() };
            let end = entry.start.saturating_add(entry.len).min(MAPPED);
            if let Some(start) = HostPhys::new(entry.start).filter(|_| entry.kind == TYPE_RAM) {
                frames.add(start, end.saturating_sub(entry.start));
            }
        }
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
    // Below 1 MiB lie the firmware's data and the start info; the image is where it was linked.
    frames.reserve(HostPhys::ZERO, 1 << 20);
    let (start, end) = (&raw const image_start as u64, &raw const image_end as u64);
    frames.reserve(HostPhys::new_truncate(start), end - start);
    super::main(Handover { frames, bundle, command_line, rsdp: info.rsdp })
}
