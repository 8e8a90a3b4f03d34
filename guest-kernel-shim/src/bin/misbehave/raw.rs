//! What this guest does past every type.
#![expect(unsafe_code, reason = "a hostile guest; what it is not refused may break it, and it alone")]

use core::arch::asm;
use guest_kernel_shim::probe::{self, ControlRegister, Fault, Privileged, Registers, Width};
use guest_kernel_shim::pv_abi::call::Call;

/// A pattern for the registers that a call must leave alone.
const PATTERN: u64 = 0x1122_3344_5566_7700;

/// Makes a call with these arguments; answers code and value, and whether every other register is as it was.
pub fn call(number: u64, [rdi, rsi, rdx, r10]: [u64; 4]) -> Result<(u64, u64, bool), Fault> {
    let mut before = Registers { rax: number, rdx, others: [0; 12] };
    for (n, other) in (0..).zip(&mut before.others) {
        *other = PATTERN + n;
    }
    let [first, second, third, ..] = &mut before.others;
    (*first, *second, *third) = (rdi, rsi, r10);
    // SAFETY: the callers make calls that have to be refused, or that write into `scratch` only.
    let after = unsafe { probe::call(before) }?;
    Ok((after.rax, after.rdx, after.others == before.others))
}

/// As [`call`], by the call's name.
pub fn named(call_number: Call, arguments: [u64; 4]) -> Result<(u64, u64, bool), Fault> {
    call(call_number.0, arguments)
}

/// Writes an MSR that has to be refused, or that does no harm when it is not.
pub fn wrmsr(msr: u32, value: u64) -> Result<(), Fault> {
    // SAFETY: the callers' values move nothing that this kernel stands on.
    unsafe { probe::wrmsr(msr, value) }
}

/// Writes a control register with a bit that has to be refused, or that changes nothing this kernel relies on.
pub fn write_control(register: ControlRegister, value: u64) -> Result<(), Fault> {
    // SAFETY: the callers' values leave paging, protection and what this kernel uses as they are.
    unsafe { probe::write_control(register, value) }
}

/// Writes to a port where there is nothing, or a device that keeps to itself.
pub fn write_port(port: u16, width: Width, value: u32) {
    // SAFETY: no device of the machine does DMA by ports.
    unsafe { probe::write_port(port, width, value) };
}

/// Executes what a guest may not.
pub fn execute(instruction: Privileged) -> Result<(), Fault> {
    // SAFETY: the hypervisor refuses it; if not, the guest is lost, which the test is there to see.
    unsafe { probe::execute(instruction) }
}

/// Stores to memory that is not RAM.
pub fn store(address: u64, value: u64) -> Result<(), Fault> {
    // SAFETY: the callers' addresses lie above RAM, in shared pages or where nothing is.
    unsafe { probe::store(address, value) }
}

/// How many bytes an access to memory moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    One,
    Two,
    Four,
    Eight,
}

impl Size {
    pub const ALL: [Self; 4] = [Self::One, Self::Two, Self::Four, Self::Eight];

    pub const fn bytes(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// Loads by a MOV of that size, from a device or from memory that this kernel uses for nothing else.
pub fn load(address: u64, size: Size) -> u64 {
    let value: u64;
    // SAFETY: a load changes nothing in memory; a device that notices does no DMA to where a Rust object is.
    unsafe {
        match size {
            Size::One => {
                asm!("movzx {0:e}, byte ptr [{1}]", out(reg) value, in(reg) address, options(nostack))
            }
            Size::Two => {
                asm!("movzx {0:e}, word ptr [{1}]", out(reg) value, in(reg) address, options(nostack))
            }
            Size::Four => asm!("mov {0:e}, [{1}]", out(reg) value, in(reg) address, options(nostack)),
            Size::Eight => asm!("mov {0}, [{1}]", out(reg) value, in(reg) address, options(nostack)),
        }
    }
    value
}

/// Stores by a MOV of that size.
pub fn store_sized(address: u64, size: Size, value: u64) {
    // SAFETY: the callers' addresses are a device's, or lie in memory that this kernel uses for nothing else.
    unsafe {
        match size {
            Size::One => {
                asm!("mov [{0}], {1}", in(reg) address, in(reg_byte) value.to_le_bytes()[0], options(nostack))
            }
            Size::Two => asm!("mov [{0}], {1:x}", in(reg) address, in(reg) value, options(nostack)),
            Size::Four => asm!("mov [{0}], {1:e}", in(reg) address, in(reg) value, options(nostack)),
            Size::Eight => asm!("mov [{0}], {1}", in(reg) address, in(reg) value, options(nostack)),
        }
    }
}

/// An instruction that no driver uses for a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Odd {
    /// ADD.
    Add,
    /// MOVS.
    Copy,
    /// LOCK CMPXCHG.
    Exchange,
    /// A call of what is there.
    Call,
}

/// Touches a device by an instruction that no driver uses.
pub fn touch_oddly(address: u64, instruction: Odd) {
    let mut byte = 0_u8;
    // SAFETY: the hypervisor ends this guest; if not, a byte of `byte` was written, or the guest is lost, which the test is to see.
    unsafe {
        match instruction {
            Odd::Add => asm!("add dword ptr [{0}], 1", in(reg) address, options(nostack)),
            Odd::Copy => {
                asm!("movsb", inout("rsi") address => _, inout("rdi") &raw mut byte => _, options(nostack));
            }
            Odd::Exchange => {
                asm!("lock cmpxchg [{0}], {1:e}", in(reg) address, in(reg) 1, inout("eax") 0 => _, options(nostack));
            }
            Odd::Call => asm!("call {0}", in(reg) address, clobber_abi("C")),
        }
    }
    core::hint::black_box(byte);
}

/// Halts this processor with interrupts off, again and again.
pub fn halt_for_ever() {
    loop {
        // SAFETY: changes no memory; nothing here is waited for.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Writes a byte of memory to a port by OUTSB.
pub fn string_port(port: u16) {
    let byte = [0u8];
    // SAFETY: reads one byte of `byte`; DF is clear.
    unsafe {
        asm!("outsb", in("dx") port, inout("rsi") byte.as_ptr() => _, options(nostack, readonly));
    }
}
