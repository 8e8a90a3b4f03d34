//! Instructions that may fault, and calls with all registers visible: for kernels that test what a machine allows.
#![expect(unsafe_code, reason = "executes what the caller asks for, and survives the fault")]

use super::call::{HOW, INTEL};
use super::trap;
use core::arch::asm;
use core::sync::atomic::Ordering;

/// An exception vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault(pub u64);

impl Fault {
    /// Invalid opcode (#UD).
    pub const UD: Self = Self(6);
    /// General protection (#GP).
    pub const GP: Self = Self(13);
}

/// The general-purpose registers before or after a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Registers {
    /// The call's number before, its code after.
    pub rax: u64,
    /// The third argument before, the call's value after.
    pub rdx: u64,
    /// RDI RSI R10 R8 R9, RBX RCX R11, R12 … R15: no call changes them.
    pub others: [u64; 12],
}

/// Reads an MSR.
///
/// # Errors
///
/// The fault that RDMSR raised.
#[expect(clippy::cast_possible_truncation, reason = "the halves of the value")]
pub fn rdmsr(msr: u32) -> Result<u64, Fault> {
    let (mut low, mut high) = (0u64, 0u64);
    // SAFETY: RDMSR changes no memory; after a fault, execution resumes behind the instruction.
    let fault = trap::probing(|slot| unsafe {
        asm!("lea {resume}, [rip + 2f]", "mov [{slot}], {resume}", "rdmsr", "2:",
            resume = out(reg) _, slot = in(reg) slot, in("ecx") msr,
            inlateout("rax") 0u64 => low, inlateout("rdx") 0u64 => high, options(nostack));
    });
    answer(fault, u64::from(high as u32) << 32 | u64::from(low as u32))
}

/// Writes an MSR.
///
/// # Errors
///
/// The fault that WRMSR raised.
///
/// # Safety
///
/// As for every WRMSR: the new value must break nothing that Rust relies on.
#[expect(clippy::cast_possible_truncation, reason = "the halves of the value")]
pub unsafe fn wrmsr(msr: u32, value: u64) -> Result<(), Fault> {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the caller answers for the value; after a fault, execution resumes behind the instruction.
    let fault = trap::probing(|slot| unsafe {
        asm!("lea {resume}, [rip + 2f]", "mov [{slot}], {resume}", "wrmsr", "2:",
            resume = out(reg) _, slot = in(reg) slot, in("ecx") msr, in("eax") low, in("edx") high,
            options(nostack));
    });
    answer(fault, ())
}

/// A control register that a kernel may probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlRegister {
    /// CR0.
    Cr0,
    /// CR4.
    Cr4,
}

/// Reads a control register.
pub fn read_control(register: ControlRegister) -> u64 {
    let value;
    // SAFETY: a kernel runs at CPL 0, where this read has no effect.
    unsafe {
        match register {
            ControlRegister::Cr0 => {
                asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags))
            }
            ControlRegister::Cr4 => {
                asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags))
            }
        }
    }
    value
}

/// Writes a control register.
///
/// # Errors
///
/// The fault that the write raised.
///
/// # Safety
///
/// The new value must break nothing that Rust relies on.
pub unsafe fn write_control(register: ControlRegister, value: u64) -> Result<(), Fault> {
    macro_rules! write {
        ($text:literal) => {
            // SAFETY: the caller answers for the value; after a fault, execution resumes behind the instruction.
            trap::probing(|slot| unsafe {
                asm!("lea {resume}, [rip + 2f]", "mov [{slot}], {resume}", $text, "2:",
                    resume = out(reg) _, slot = in(reg) slot, value = in(reg) value, options(nostack));
            })
        };
    }
    let fault = match register {
        ControlRegister::Cr0 => write!("mov cr0, {value}"),
        ControlRegister::Cr4 => write!("mov cr4, {value}"),
    };
    answer(fault, ())
}

/// The size of a port access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Double,
}

/// Reads a port. This may have an effect on the device, but none on memory.
pub fn read_port(port: u16, width: Width) -> u32 {
    let mut value = 0u32;
    // SAFETY: IN changes no memory, except through a device that starts DMA on a read; this machine has none.
    unsafe {
        match width {
            Width::Byte => asm!("in al, dx", in("dx") port, inlateout("eax") 0u32 => value, options(nostack)),
            Width::Word => asm!("in ax, dx", in("dx") port, inlateout("eax") 0u32 => value, options(nostack)),
            Width::Double => asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)),
        }
    }
    value
}

/// Writes a port.
///
/// # Safety
///
/// The device behind the port neither starts DMA nor stops this processor in a way that the caller does not expect.
pub unsafe fn write_port(port: u16, width: Width, value: u32) {
    // SAFETY: the caller answers for the device.
    unsafe {
        match width {
            Width::Byte => asm!("out dx, al", in("dx") port, in("eax") value, options(nostack)),
            Width::Word => asm!("out dx, ax", in("dx") port, in("eax") value, options(nostack)),
            Width::Double => asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)),
        }
    }
}

/// Loads a word from any address.
///
/// # Errors
///
/// The fault that the load raised.
pub fn load(address: u64) -> Result<u64, Fault> {
    let mut value = 0u64;
    // SAFETY: a load changes no memory; after a fault, execution resumes behind it.
    let fault = trap::probing(|slot| unsafe {
        asm!("lea {resume}, [rip + 2f]", "mov [{slot}], {resume}", "mov {value}, [{address}]", "2:",
            resume = out(reg) _, slot = in(reg) slot, address = in(reg) address,
            value = inout(reg) value, options(nostack));
    });
    answer(fault, value)
}

/// Stores a word at any address.
///
/// # Errors
///
/// The fault that the store raised.
///
/// # Safety
///
/// No Rust object lies at `address`.
pub unsafe fn store(address: u64, value: u64) -> Result<(), Fault> {
    // SAFETY: the caller promises that no Rust object lies there; after a fault, execution resumes behind the store.
    let fault = trap::probing(|slot| unsafe {
        asm!("lea {resume}, [rip + 2f]", "mov [{slot}], {resume}", "mov [{address}], {value}", "2:",
            resume = out(reg) _, slot = in(reg) slot, address = in(reg) address, value = in(reg) value,
            options(nostack));
    });
    answer(fault, ())
}

/// An instruction that an ordinary guest may not execute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privileged {
    /// VMRUN.
    Vmrun,
    /// VMLOAD.
    Vmload,
    /// VMSAVE.
    Vmsave,
    /// STGI.
    Stgi,
    /// CLGI.
    Clgi,
    /// SKINIT.
    Skinit,
    /// INVLPGA.
    Invlpga,
    /// VMXON.
    Vmxon,
    /// The other vendor's hypercall: VMCALL if this machine's calls are VMMCALL, VMMCALL if they are VMCALL.
    ForeignCall,
    /// RSM.
    Rsm,
    /// XSETBV with reserved bits.
    Xsetbv,
    /// LTR of the null selector.
    NullTask,
}

impl Privileged {
    /// Every variant.
    pub const ALL: [Self; 12] = [
        Self::Vmrun,
        Self::Vmload,
        Self::Vmsave,
        Self::Stgi,
        Self::Clgi,
        Self::Skinit,
        Self::Invlpga,
        Self::Vmxon,
        Self::ForeignCall,
        Self::Rsm,
        Self::Xsetbv,
        Self::NullTask,
    ];
}

/// Executes an instruction that should fault.
///
/// # Errors
///
/// The fault that the instruction raised.
///
/// # Safety
///
/// The caller expects a fault: if the machine executes the instruction instead, this kernel may be lost.
pub unsafe fn execute(instruction: Privileged) -> Result<(), Fault> {
    macro_rules! execute {
        ($text:literal) => {
            // SAFETY: the caller expects the fault, after which execution resumes behind the instruction; RAX, RCX and
            // RDX are clobbers.
            trap::probing(|slot| unsafe {
                asm!("lea {resume}, [rip + 2f]", "mov [{slot}], {resume}", $text, "2:",
                    resume = out(reg) _, slot = in(reg) slot,
                    inout("rax") 0xffff_f000u64 => _, inout("rcx") 0u64 => _, inout("rdx") u64::MAX => _);
            })
        };
    }
    let fault = match instruction {
        Privileged::Vmrun => execute!(".byte 0x0f, 0x01, 0xd8"),
        Privileged::Vmload => execute!(".byte 0x0f, 0x01, 0xda"),
        Privileged::Vmsave => execute!(".byte 0x0f, 0x01, 0xdb"),
        Privileged::Stgi => execute!(".byte 0x0f, 0x01, 0xdc"),
        Privileged::Clgi => execute!(".byte 0x0f, 0x01, 0xdd"),
        Privileged::Skinit => execute!(".byte 0x0f, 0x01, 0xde"),
        Privileged::Invlpga => execute!(".byte 0x0f, 0x01, 0xdf"),
        Privileged::Vmxon => execute!(".byte 0xf3, 0x0f, 0xc7, 0x30"),
        Privileged::ForeignCall if HOW.load(Ordering::Relaxed) == INTEL => execute!(".byte 0x0f, 0x01, 0xd9"),
        Privileged::ForeignCall => execute!(".byte 0x0f, 0x01, 0xc1"),
        Privileged::Rsm => execute!(".byte 0x0f, 0xaa"),
        Privileged::Xsetbv => execute!(".byte 0x0f, 0x01, 0xd1"),
        Privileged::NullTask => execute!("ltr cx"),
    };
    answer(fault, ())
}

/// Makes a hypercall with these registers, by the instruction that Comity announced (VMMCALL elsewhere), and returns
/// the registers after it.
///
/// # Errors
///
/// The fault, if no hypervisor takes the call.
///
/// # Safety
///
/// The call's effect on memory and on this processor breaks nothing that Rust relies on.
pub unsafe fn call(before: Registers) -> Result<Registers, Fault> {
    let mut after = before;
    // SAFETY: the caller answers for the call. The code saves RBX and RBP itself; during the call its stack holds the
    // address of `after`.
    let fault = trap::probing(|slot| unsafe {
        asm!(
            "push rbx", "push rbp", "push rdi", "mov rbp, rdi",
            "lea rax, [rip + 2f]", "mov [rsi], rax",
            "mov rdi, [rbp + 16]", "mov rsi, [rbp + 24]", "mov r10, [rbp + 32]", "mov r8, [rbp + 40]",
            "mov r9, [rbp + 48]", "mov rbx, [rbp + 56]", "mov rcx, [rbp + 64]", "mov r11, [rbp + 72]",
            "mov r12, [rbp + 80]", "mov r13, [rbp + 88]", "mov r14, [rbp + 96]", "mov r15, [rbp + 104]",
            "mov rax, [rbp]", "mov rdx, [rbp + 8]",
            "cmp byte ptr [rip + {how}], {intel}",
            "je 3f",
            "vmmcall",
            "jmp 2f",
            "3: vmcall",
            "2:",
            "pop rbp",
            "mov [rbp], rax", "mov [rbp + 8], rdx",
            "mov [rbp + 16], rdi", "mov [rbp + 24], rsi", "mov [rbp + 32], r10", "mov [rbp + 40], r8",
            "mov [rbp + 48], r9", "mov [rbp + 56], rbx", "mov [rbp + 64], rcx", "mov [rbp + 72], r11",
            "mov [rbp + 80], r12", "mov [rbp + 88], r13", "mov [rbp + 96], r14", "mov [rbp + 104], r15",
            "pop rbp", "pop rbx",
            how = sym HOW, intel = const INTEL,
            inlateout("rdi") &raw mut after => _,
            inlateout("rsi") slot => _,
            out("rax") _, out("rcx") _, out("rdx") _, out("r8") _, out("r9") _, out("r10") _,
            out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    });
    answer(fault, after)
}

fn answer<T>(fault: Option<u64>, value: T) -> Result<T, Fault> {
    fault.map_or(Ok(value), |vector| Err(Fault(vector)))
}
