//! The entry code. A loader enters it in 32-bit protected mode with paging off and EBX at its boot information; it makes page tables,
//! enters long mode and calls Rust.
#![expect(unsafe_code, reason = "entry code")]

use super::layout::{GUARD_BYTES, image};
use super::{multiboot2, pvh};
use core::arch::global_asm;
use hv_core::base::addr::HostPhys;

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
    "boot_guard: .skip {guard}",
    "boot_stack: .skip 64 * 1024",
    "boot_stack_top:",
    ".popsection",
    ".pushsection .text.boot, \"ax\", @progbits",
    ".code32",
    // A Multiboot2 loader says so in EAX (Multiboot2 3.3).
    ".globl multiboot2_entry",
    ".type multiboot2_entry, @function",
    "multiboot2_entry:",
    "cmp eax, {multiboot2_magic}",
    "jne 1f",
    "mov edi, ebx",
    "mov ebx, {multiboot2}",
    "jmp boot_tables",
    "1: hlt", // an unknown kind of loader
    "jmp 1b",
    ".size multiboot2_entry, . - multiboot2_entry",
    ".globl pvh_entry",
    ".type pvh_entry, @function",
    "pvh_entry:",
    "mov edi, ebx",
    "mov ebx, {pvh}",
    "boot_tables:",
    "cld",
    "mov esp, offset boot_stack_top",
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
    // An access to a debug register raises #DB if a loader has left DR7.GD set, and the delivery clears GD (SDM vol 3B §17.2.4).
    // As long as this mode lasts, the handlers of #DB and of NMI just return.
    "lgdt [boot_gdt_pointer]",
    "ljmp 24, offset boot_flat",
    "boot_return: iretd",
    "boot_flat: mov eax, offset boot_return",
    "mov word ptr [boot_idt + 8], ax",
    "mov word ptr [boot_idt + 16], ax",
    "shr eax, 16",
    "mov word ptr [boot_idt + 14], ax",
    "mov word ptr [boot_idt + 22], ax",
    "lidt [boot_idt_pointer]",
    "mov esi, offset boot_first",
    // Every processor runs the code from here on, with the 64-bit address to continue at in ESI and an argument in EDI.
    ".globl boot_long_mode",
    "boot_long_mode:",
    // Registers that a loader or INIT has set are overwritten whole here. `arch::clean` does the rest.
    "xor eax, eax",
    "mov dr0, eax",
    "mov dr1, eax",
    "mov dr2, eax",
    "mov dr3, eax",
    "mov eax, {dr7}",
    "mov dr7, eax",
    "push 2", // RFLAGS: no NT, with which IRET faults, no TF, no AC
    "popfd",
    "mov eax, offset boot_pml4",
    "mov cr3, eax",
    "mov eax, {cr4}",
    "mov cr4, eax",
    "mov ecx, {pat_index}",
    "mov eax, {pat_half}",
    "mov edx, {pat_half}",
    "wrmsr",
    "mov ecx, {efer_index}",
    "mov eax, {efer}",
    "xor edx, edx",
    "wrmsr",
    "mov eax, {cr0}",
    "mov cr0, eax",
    "ljmp 8, offset boot_long",
    ".code64",
    "boot_long:",
    "mov eax, 16",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "xor eax, eax",
    "mov fs, eax",
    "mov gs, eax",
    "mov edi, edi",
    "mov esi, esi",
    "xor ebp, ebp",
    "jmp rsi",
    "boot_first:",
    "mov esi, ebx",
    "call {main}",
    "ud2",
    ".balign 8",
    // null, 64-bit code, data, 32-bit code
    ".globl boot_gdt",
    "boot_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff",
    "boot_gdt_pointer: .short 31",
    ".long boot_gdt",
    // the gates of #DB and NMI: 32 bits, present
    "boot_idt: .quad 0, 0x00008e0000180000, 0x00008e0000180000",
    "boot_idt_pointer: .short 23",
    ".long boot_idt",
    ".size pvh_entry, . - pvh_entry",
    ".popsection",
    main = sym first,
    multiboot2_magic = const multiboot2::MAGIC,
    multiboot2 = const MULTIBOOT2,
    pvh = const PVH,
    guard = const GUARD_BYTES,
    dr7 = const DR7,
    cr4 = const CR4,
    pat_index = const PAT_INDEX,
    pat_half = const PAT_HALF,
    efer_index = const EFER_INDEX,
    efer = const EFER,
    cr0 = const CR0,
);

/// DR7 after reset: no breakpoint is enabled.
const DR7: u32 = 0x400;
/// PAE, MCE, OSFXSR, OSXMMEXCPT. Other bits that a loader may have left would change the hypervisor's execution: LA57 requires tables of
/// five levels.
const CR4: u32 = 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10;
/// Each half of PAT after reset: write-back, write-through, uncached unless MTRRs say otherwise, uncached.
const PAT_INDEX: u32 = 0x277;
const PAT_HALF: u32 = 0x0007_0406;
/// LME, NXE. Not FFXSR, with which FXSAVE omits the XMM registers.
const EFER_INDEX: u32 = 0xc000_0080;
const EFER: u32 = 1 << 8 | 1 << 11;
/// PE, MP, ET, NE, WP, PG. Not TS, with which FXSAVE faults, nor CD and NW, which INIT sets.
const CR0: u32 = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;

/// Kinds of loader, as the entry code passes them to [`first`].
const PVH: u32 = 0;
const MULTIBOOT2: u32 = 1;

/// Addresses at which a start-up IPI may begin (SDM vol 3A §8.4.4.1: vectors 0xa0 to 0xbf are reserved), above the memory that firmware
/// and loaders use by custom.
const START_PAGES: core::ops::Range<u64> = 0x8000..0xa_0000;

/// First Rust code, on the boot stack, with the first 4 GiB mapped at their physical addresses.
extern "sysv64" fn first(info: u64, loader: u32) -> ! {
    // SAFETY: `info` is the value that this loader left in EBX, and the entry code has written only the image's own data since.
    let mut handover = unsafe { if loader == MULTIBOOT2 { multiboot2::read(info) } else { pvh::read(info) } };
    handover.start_page = handover.frames.lowest_page(START_PAGES);
    // The firmware's data lie below 1 MiB; the image is where it was linked.
    handover.frames.reserve(HostPhys::ZERO, 1 << 20);
    let (start, len) = image();
    handover.frames.reserve(start, len);
    super::init::main(handover)
}
