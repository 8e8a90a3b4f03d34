//! Control registers, bit by bit: what CPUID does not announce raises #GP.

use crate::check::Check;
use crate::raw;
use guest_kernel_shim::platform::{Mode, mode};
use guest_kernel_shim::probe::{ControlRegister, Fault, Privileged, cpuid, read_control};

/// Where CPUID announces what a bit of CR4 is for: bit, leaf, register (EAX, EBX, ECX, EDX), bit there.
const ANNOUNCED: [(u32, u32, usize, u32); 22] = [
    (0, 1, 3, 1),
    (1, 1, 3, 1),
    (2, 1, 3, 4),
    (3, 1, 3, 2),
    (4, 1, 3, 3),
    (5, 1, 3, 6),
    (6, 1, 3, 7),
    (7, 1, 3, 13),
    (9, 1, 3, 24),
    (10, 1, 3, 25),
    (11, 7, 2, 2),
    (13, 1, 2, 5),
    (14, 1, 2, 6),
    (16, 7, 1, 0),
    (18, 1, 2, 26),
    (19, 7, 2, 23),
    (20, 7, 1, 7),
    (21, 7, 1, 20),
    (22, 7, 2, 3),
    (23, 7, 2, 7),
    (24, 7, 2, 31),
    (25, 7, 3, 5),
];
/// PCE, which every processor has that this kernel runs on.
const WITHOUT_CPUID: u32 = 8;
/// LA57, PCIDE: refused for other reasons too.
const OTHERWISE: [u32; 2] = [12, 17];
/// PAE, SMEP and SMAP, which this kernel stands on or may trip over.
const KEPT: [u32; 3] = [5, 20, 21];

const NOT_WRITE_THROUGH: u64 = 1 << 29;
const CACHE_DISABLE: u64 = 1 << 30;
const NUMERIC_ERROR: u64 = 1 << 5;

fn is_announced(bit: u32) -> bool {
    let by = |(_, leaf, register, of): &(u32, u32, usize, u32)| {
        let found = cpuid(*leaf, 0);
        [found.eax, found.ebx, found.ecx, found.edx].get(*register).is_some_and(|word| word >> of & 1 != 0)
    };
    bit == WITHOUT_CPUID || ANNOUNCED.iter().any(|row| row.0 == bit && by(row))
}

/// Every bit of CR4; the bits of CR0 that VMX does not switch; EFER is `msrs`'.
pub fn registers(check: &mut Check) {
    if mode() == Mode::Bare {
        check.skip("a bare machine has more than it announces here");
        return;
    }
    let cr4 = read_control(ControlRegister::Cr4);
    for bit in (0..64).filter(|bit| !KEPT.contains(bit)) {
        let answer = raw::write_control(ControlRegister::Cr4, cr4 | 1 << bit);
        let announced = is_announced(bit) && !OTHERWISE.contains(&bit);
        let expected = if announced { Ok(()) } else { Err(Fault::GP) };
        check.holds(format_args!("CR4 with bit {bit} is {expected:?}"), answer == expected);
        if bit == 18 {
            let fault = raw::execute(Privileged::Xsetbv).err();
            check.holds(format_args!("XSETBV is {fault:?}"), fault == Some(Fault::UD));
        }
        let now = read_control(ControlRegister::Cr4);
        check.one_of(
            format_args!("CR4 after bit {bit}"),
            now,
            &[if announced { cr4 | 1 << bit } else { cr4 }],
        );
        let _ = raw::write_control(ControlRegister::Cr4, cr4);
    }
    let cr0 = read_control(ControlRegister::Cr0);
    for bits in [CACHE_DISABLE, CACHE_DISABLE | NOT_WRITE_THROUGH, NUMERIC_ERROR] {
        let answer = raw::write_control(ControlRegister::Cr0, cr0 ^ bits);
        check.holds(format_args!("CR0 with {bits:#x} changed is taken"), answer == Ok(()));
        let now = read_control(ControlRegister::Cr0);
        check.one_of(format_args!("CR0 after {bits:#x}"), now, &[cr0 ^ bits]);
        let _ = raw::write_control(ControlRegister::Cr0, cr0);
    }
    check.holds(
        format_args!("no cache was turned off by a neighbour"),
        cr0 & (CACHE_DISABLE | NOT_WRITE_THROUGH) == 0,
    );
}
