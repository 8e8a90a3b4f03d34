//! The world switch.
#![expect(unsafe_code, reason = "VMRUN in a naked function")]

use core::arch::naked_asm;
use core::mem::offset_of;

/// General registers of a guest that VMRUN leaves to us; RAX, RSP, RIP and RFLAGS are in the VMCB.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Saved {
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// Runs a guest until #VMEXIT. RDI: its registers; RSI: physical address of its VMCB; RDX: of the host's save area.
///
/// GIF is clear from before the guest's state is loaded until the host's is back (§15.17), so nothing can fault or
/// interrupt on the guest's TR, GS or system-call MSRs. IF is set meanwhile: with V_INTR_MASKING the *host's* IF decides
/// whether a physical interrupt ends guest mode (§15.21.1), and with IF clear it would not.
///
/// # Safety
///
/// EFER.SVME is set; `vmcb` and `host` are physical addresses of VMCB pages of this vCPU and this CPU that nothing else
/// uses meanwhile; the host's interrupts are off, and a handler for each enabled one is installed.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn enter(saved: *mut Saved, vmcb: u64, host: u64) {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "push rdi", "push rdx",
        "mov rax, rsi",
        "mov rbx, [rdi + {rbx}]", "mov rcx, [rdi + {rcx}]", "mov rdx, [rdi + {rdx}]", "mov rsi, [rdi + {rsi}]",
        "mov rbp, [rdi + {rbp}]", "mov r8, [rdi + {r8}]", "mov r9, [rdi + {r9}]", "mov r10, [rdi + {r10}]",
        "mov r11, [rdi + {r11}]", "mov r12, [rdi + {r12}]", "mov r13, [rdi + {r13}]", "mov r14, [rdi + {r14}]",
        "mov r15, [rdi + {r15}]", "mov rdi, [rdi + {rdi}]",
        "clgi", "sti",
        "vmload rax", "vmrun rax", "vmsave rax",
        "pop rax", "vmload rax", "pop rax",
        "mov [rax + {rbx}], rbx", "mov [rax + {rcx}], rcx", "mov [rax + {rdx}], rdx", "mov [rax + {rsi}], rsi",
        "mov [rax + {rdi}], rdi", "mov [rax + {rbp}], rbp", "mov [rax + {r8}], r8", "mov [rax + {r9}], r9",
        "mov [rax + {r10}], r10", "mov [rax + {r11}], r11", "mov [rax + {r12}], r12", "mov [rax + {r13}], r13",
        "mov [rax + {r14}], r14", "mov [rax + {r15}], r15",
        "cli", "stgi",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        rbx = const offset_of!(Saved, rbx), rcx = const offset_of!(Saved, rcx), rdx = const offset_of!(Saved, rdx),
        rsi = const offset_of!(Saved, rsi), rdi = const offset_of!(Saved, rdi), rbp = const offset_of!(Saved, rbp),
        r8 = const offset_of!(Saved, r8), r9 = const offset_of!(Saved, r9), r10 = const offset_of!(Saved, r10),
        r11 = const offset_of!(Saved, r11), r12 = const offset_of!(Saved, r12), r13 = const offset_of!(Saved, r13),
        r14 = const offset_of!(Saved, r14), r15 = const offset_of!(Saved, r15),
    )
}
