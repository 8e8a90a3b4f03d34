//! The world switch.
#![expect(unsafe_code, reason = "VMRUN in a naked function")]

use super::vmcb::{Vmcb, code};
use crate::guest::general::Registers;
use crate::guest::seam::Reg;
use crate::machine::arch::apic;
use core::arch::naked_asm;

/// A world switch: the vCPU's registers, the physical addresses of its VMCB and of the host's save area.
pub type Enter = unsafe extern "sysv64" fn(*mut Registers, u64, u64);

/// As [`enter`], unless an interrupt of the machine's waits: Bochs never leaves a guest for one while that has IF clear, so it is not
/// entered then, and the VMCB says [`code::NOT_ENTERED`].
///
/// # Safety
///
/// As for [`enter`]; and the VMCB is mapped at its physical address.
pub unsafe extern "sysv64" fn check_and_enter(saved: *mut Registers, vmcb: u64, host: u64) {
    if apic::one_waits() {
        let vmcb = core::ptr::with_exposed_provenance_mut::<Vmcb>(usize::try_from(vmcb).unwrap_or(0));
        // SAFETY: by contract it is there, and this vCPU's; the processor does not use it now.
        unsafe { (&raw mut (*vmcb).control.exit_code).write(code::NOT_ENTERED) };
    } else {
        // SAFETY: by contract.
        unsafe { enter(saved, vmcb, host) };
    }
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
pub unsafe extern "sysv64" fn enter(saved: *mut Registers, vmcb: u64, host: u64) {
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
        rbx = const Registers::offset(Reg::Rbx), rcx = const Registers::offset(Reg::Rcx),
        rdx = const Registers::offset(Reg::Rdx), rsi = const Registers::offset(Reg::Rsi),
        rdi = const Registers::offset(Reg::Rdi), rbp = const Registers::offset(Reg::Rbp), r8 = const Registers::offset(Reg::R8),
        r9 = const Registers::offset(Reg::R9), r10 = const Registers::offset(Reg::R10), r11 = const Registers::offset(Reg::R11),
        r12 = const Registers::offset(Reg::R12), r13 = const Registers::offset(Reg::R13),
        r14 = const Registers::offset(Reg::R14), r15 = const Registers::offset(Reg::R15),
    )
}
