//! The world switch.
#![expect(unsafe_code, reason = "VMLAUNCH and VMRESUME in a naked function")]

use super::fields::{HOST_RIP, HOST_RSP};
use crate::guest::general::Registers;
use crate::guest::seam::Reg;
use core::arch::naked_asm;

/// Runs the guest of the current VMCS until it exits. RDI: its registers; RSI: not 0 when its VMCS was launched before. RAX: 0
/// after an exit, 1 when it did not enter at all.
///
/// HOST_RSP and HOST_RIP are written here, so that the exit comes back to this frame.
///
/// # Safety
///
/// The VMCS of this vCPU is current, with the host state of this processor in it; the host's interrupts are off.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn enter(saved: *mut Registers, launched: u64) -> u64 {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15", "push rdi",
        "mov eax, {host_rsp}", "vmwrite rax, rsp",
        "lea rdx, [rip + 2f]", "mov eax, {host_rip}", "vmwrite rax, rdx",
        "test esi, esi",
        "mov rax, [rdi + {rax}]", "mov rbx, [rdi + {rbx}]", "mov rcx, [rdi + {rcx}]", "mov rdx, [rdi + {rdx}]",
        "mov rsi, [rdi + {rsi}]", "mov rbp, [rdi + {rbp}]", "mov r8, [rdi + {r8}]", "mov r9, [rdi + {r9}]",
        "mov r10, [rdi + {r10}]", "mov r11, [rdi + {r11}]", "mov r12, [rdi + {r12}]", "mov r13, [rdi + {r13}]",
        "mov r14, [rdi + {r14}]", "mov r15, [rdi + {r15}]", "mov rdi, [rdi + {rdi}]",
        "jz 5f",
        "vmresume",
        "jmp 3f",
        "5: vmlaunch",
        // It did not enter: no register has changed.
        "3: pop rdi", "mov eax, 1", "jmp 4f",
        "2: push rdi", "mov rdi, [rsp + 8]",
        "mov [rdi + {rax}], rax", "mov [rdi + {rbx}], rbx", "mov [rdi + {rcx}], rcx", "mov [rdi + {rdx}], rdx",
        "mov [rdi + {rsi}], rsi", "mov [rdi + {rbp}], rbp", "mov [rdi + {r8}], r8", "mov [rdi + {r9}], r9",
        "mov [rdi + {r10}], r10", "mov [rdi + {r11}], r11", "mov [rdi + {r12}], r12", "mov [rdi + {r13}], r13",
        "mov [rdi + {r14}], r14", "mov [rdi + {r15}], r15", "pop rax", "mov [rdi + {rdi}], rax",
        "pop rdi", "xor eax, eax",
        "4: pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        host_rsp = const HOST_RSP.encoding(), host_rip = const HOST_RIP.encoding(), rax = const Registers::offset(Reg::Rax),
        rbx = const Registers::offset(Reg::Rbx), rcx = const Registers::offset(Reg::Rcx),
        rdx = const Registers::offset(Reg::Rdx), rsi = const Registers::offset(Reg::Rsi),
        rdi = const Registers::offset(Reg::Rdi), rbp = const Registers::offset(Reg::Rbp), r8 = const Registers::offset(Reg::R8),
        r9 = const Registers::offset(Reg::R9), r10 = const Registers::offset(Reg::R10), r11 = const Registers::offset(Reg::R11),
        r12 = const Registers::offset(Reg::R12), r13 = const Registers::offset(Reg::R13),
        r14 = const Registers::offset(Reg::R14), r15 = const Registers::offset(Reg::R15),
    )
}
