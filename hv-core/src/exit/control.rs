//! MOV to CR0 and CR4 where it exits: its checks and its side effects (SDM vol 2B MOV, vol 3A §2.5; APM vol 2 §3.1).
//!
//! On VMX, MOV to CR0 exits if it changes a bit whose value the guest only sees in the read shadow, and MOV to CR4 if it sets
//! a bit that no guest may set. On SVM, every MOV to CR4 exits, since a processor checks the value against its own CPUID and
//! not the guest's.

use crate::base::addr::GuestPhys;
use crate::base::control::Control;
use crate::base::error::KillReason;
use crate::base::hardware::GuestBytes;
use crate::exit::mmio;
use crate::guest::next::Next;
use crate::guest::platform::Platform;
use crate::guest::registers::{
    CR0_CD, CR0_DEFINED, CR0_ET, CR0_NW, CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME,
};
use crate::guest::seam::{ControlRegister, CpuEvents, CpuRegisters, Exception, Instruction, VirtualCpu};
use crate::guest::vcpu::Vcpu;

/// Executes the MOV that exited, or injects #GP.
#[cold]
pub fn write<P: Platform>(vcpu: &mut Vcpu<P>, register: ControlRegister) -> Next {
    let control = vcpu.state.control();
    let decoded = || mmio::fetch(vcpu).and_then(|(bytes, bits)| operand(&bytes, bits, register));
    let found = match vcpu.state.control_operand() {
        Some(number) => Some((number, Instruction::ControlRegister)),
        None => decoded().map(|(number, length)| (number, Instruction::Decoded(length))),
    };
    let Some((number, instruction)) = found else {
        return Next::Kill(KillReason::UnreadableCode { rip: vcpu.state.rip() });
    };
    let whole = vcpu.state.general(number);
    let value = if control.code_bits() == 64 { whole } else { whole & 0xffff_ffff };
    let done = match register {
        ControlRegister::Cr0 => write_cr0(vcpu, &control, value),
        ControlRegister::Cr4 => write_cr4(vcpu, &control, value),
    };
    if done {
        vcpu.state.finish(instruction);
    } else {
        vcpu.state.inject_exception(Exception::GeneralProtection);
    }
    Next::Resume
}

/// Writes CR0; returns false if the write raises #GP.
fn write_cr0<P: Platform>(vcpu: &mut Vcpu<P>, control: &Control, value: u64) -> bool {
    let [before, cr3, cr4] = control.cr;
    let changed = value ^ before;
    let is_set = |bit| value & bit != 0;
    let turns = |bit, on| changed & bit != 0 && is_set(bit) == on;
    let bits = control.code_bits();
    let bad = value >> 32 != 0
        || is_set(CR0_PG) && !is_set(CR0_PE)
        || is_set(CR0_NW) && !is_set(CR0_CD)
        // Entering long mode requires PAE, and a code segment that is not 64-bit already; 64-bit code cannot leave it.
        || turns(CR0_PG, true) && control.efer & EFER_LME != 0 && (cr4 & CR4_PAE == 0 || has_long_code(control))
        || turns(CR0_PG, false) && bits == 64;
    if bad {
        return false;
    }
    let loads = changed & (CR0_PG | CR0_CD | CR0_NW) != 0 && Control::is_pae(value, cr4, control.efer);
    let pdptes = if loads { pdptes(vcpu, cr3) } else { None };
    if loads && pdptes.is_none() || !vcpu.state.set_cr0(value & CR0_DEFINED | CR0_ET, pdptes) {
        return false;
    }
    if changed & CR0_PG != 0 {
        vcpu.state.flush(); // SDM vol 3A §4.10.4.1
    }
    true
}

/// Whether the code segment is a 64-bit one (CS.L), in long mode or not.
const fn has_long_code(control: &Control) -> bool {
    Control { efer: EFER_LMA, ..*control }.code_bits() == 64
}

/// Writes CR4; returns false if the write raises #GP. Loading the PAE page-directory-pointer entries is left to the
/// processor: on SVM it reads the table when it needs an entry of it (APM vol 2 §15.25.10), and on VMX only writes that are
/// refused come here.
fn write_cr4<P: Platform>(vcpu: &mut Vcpu<P>, control: &Control, value: u64) -> bool {
    let [_, _, before] = control.cr;
    if value & !vcpu.allowed.cr4 != 0 || control.efer & EFER_LMA != 0 && value & CR4_PAE == 0 {
        return false;
    }
    vcpu.state.set_cr4(value);
    if value != before {
        vcpu.state.flush(); // owed for PSE, PAE, PGE and SMEP
    }
    true
}

/// The four entries of the page-directory-pointer table at `cr3`; `None` if they are not in RAM, or if one has a reserved bit
/// set (SDM vol 3A §4.4.1).
fn pdptes<P: Platform>(vcpu: &Vcpu<P>, cr3: u64) -> Option<[u64; 4]> {
    let mut bytes = [0; 32];
    vcpu.guest.ram.read(GuestPhys::new_truncate(cr3 & 0xffff_ffe0), &mut bytes).ok()?;
    let [widths, ..] = vcpu.cpuid.answer(0x8000_0008, 0);
    let frames = (1_u64 << (widths & 0xff).clamp(32, 52)) - (1 << 12);
    let present_and_used = 1 | 1 << 3 | 1 << 4 | 0b111 << 9 | frames;
    let mut entries = [0; 4];
    for (entry, bytes) in entries.iter_mut().zip(bytes.as_chunks().0) {
        *entry = u64::from_le_bytes(*bytes);
        if *entry & 1 != 0 && *entry & !present_and_used != 0 {
            return None;
        }
    }
    Some(entries)
}

/// The number of the general register of a MOV to `register` (0F 22 /n), and the instruction's length in bytes.
fn operand(bytes: &[u8], bits: u32, register: ControlRegister) -> Option<(u8, u8)> {
    let (mut rex, mut bytes_before) = (0, 0_u8);
    let mut rest = bytes;
    loop {
        match *rest {
            [0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3, ref more @ ..] => (rex, rest) = (0, more),
            [prefix @ 0x40..=0x4f, ref more @ ..] if bits == 64 => (rex, rest) = (prefix, more),
            [0x0f, 0x22, operands, ..] => {
                let number = operands >> 3 & 7 | (rex & 0b100) << 1;
                let expected = match register {
                    ControlRegister::Cr0 => 0,
                    ControlRegister::Cr4 => 4,
                };
                let general = operands & 7 | (rex & 1) << 3;
                return (number == expected).then_some((general, bytes_before.saturating_add(3)));
            }
            _ => return None,
        }
        bytes_before = bytes_before.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_general_register_of_a_write_is_found_behind_any_prefixes() {
        type Case<'a> = (&'a [u8], u32, Option<(u8, u8)>);
        let cr4 = ControlRegister::Cr4;
        let cases: [Case<'_>; 12] = [
            (&[0x0f, 0x22, 0xe0], 64, Some((0, 3))),
            (&[0x0f, 0x22, 0xe7, 0x90], 64, Some((7, 3))),
            (&[0x0f, 0x22, 0xe4], 16, Some((4, 3))),
            (&[0x41, 0x0f, 0x22, 0xe7], 64, Some((15, 4))),
            (&[0x48, 0x0f, 0x22, 0xe1], 64, Some((1, 4))),
            (&[0x66, 0x2e, 0x0f, 0x22, 0xe3], 32, Some((3, 5))),
            (&[0x41, 0x66, 0x0f, 0x22, 0xe3], 64, Some((3, 5))), // a REX prefix before another prefix is ignored
            (&[0x41, 0x0f, 0x22, 0xe7], 32, None),               // INC
            (&[0x44, 0x0f, 0x22, 0xe0], 64, None),               // CR12
            (&[0x0f, 0x22, 0xc0], 64, None),                     // CR0
            (&[0x0f, 0x22], 64, None),
            (&[0x66; 15], 64, None),
        ];
        for (bytes, bits, expected) in cases {
            assert_eq!(operand(bytes, bits, cr4), expected, "{bytes:x?}");
        }
        assert_eq!(operand(&[0x0f, 0x22, 0xc3], 32, ControlRegister::Cr0), Some((3, 3)));
    }
}
