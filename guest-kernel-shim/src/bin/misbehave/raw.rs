//! What this guest does past every type.
#![expect(unsafe_code, reason = "a hostile guest; what it is not refused may break it, and it alone")]

use guest_kernel_shim::probe::{self, Fault, Privileged, Registers, Width};
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

/// Halts this processor with interrupts off, again and again.
pub fn halt_for_ever() {
    loop {
        // SAFETY: changes no memory; nothing here is waited for.
        unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Writes a byte of memory to a port by OUTSB.
pub fn string_port(port: u16) {
    let byte = [0u8];
    // SAFETY: reads one byte of `byte`; DF is clear.
    unsafe {
        core::arch::asm!("outsb", in("dx") port, inout("rsi") byte.as_ptr() => _, options(nostack, readonly));
    }
}
