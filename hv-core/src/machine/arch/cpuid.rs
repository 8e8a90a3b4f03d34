//! The CPUID instruction, for the hypervisor's own queries.

use core::arch::x86_64::{__cpuid, __cpuid_count};

/// Returns EAX, EBX, ECX and EDX of a CPUID leaf of this processor; all zero if the processor has no such leaf.
pub fn leaf(number: u32, subleaf: u32) -> [u32; 4] {
    if number > __cpuid(number & 0x8000_0000).eax {
        return [0; 4];
    }
    let answer = __cpuid_count(number, subleaf);
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// Whether another hypervisor runs below this one and reports itself (CPUID 1 ECX bit 31), as QEMU does.
pub fn is_virtual() -> bool {
    __cpuid(1).ecx & 1 << 31 != 0
}
