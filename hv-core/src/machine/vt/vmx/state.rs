//! One vCPU under VMX: its VMCS, its registers, and what the core reads and writes of them.
//!
//! What every exit needs is kept here and goes to the VMCS before the next entry, if it changed; the rest is read and written
//! where it is. A VMCS is active on the processor that holds the vCPU, from [`Vmx::arrive`](super::Vmx) to its departure.
#![expect(unsafe_code, reason = "the VMCS, by the instructions of `vmcs`")]

mod vcpu;

use super::controls::{Primary, Secondary};
use super::enable::Capabilities;
use super::fields::{self, Field};
use super::vmcs::{self, Current, Value};
use crate::base::addr::HostPhys;
use crate::base::hardware::SharedWords;
use crate::guest::general::Registers;
use crate::guest::registers::{CR0_SHADOWED, CR4_GUEST};
use crate::guest::registers::{DR6_STEP, DR7_ENABLES, DR7_GENERAL_DETECT};
use crate::guest::registers::{RFLAGS_RF, RFLAGS_TF};
use crate::guest::seam::{CpuEvents, Exception, VirtualCpu};
use crate::machine::vt::EXCEPTIONS;
use crate::machine::vt::debug;
use crate::machine::vt::fpu::Fpu;
use crate::policy::vcpu_shared::SharedFrames;
use bitflags::bitflags;

/// What every vCPU shares: physical addresses of the permission maps, all ones but for what guests may touch, and what the
/// processors can do.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// 8 KiB (§24.6.4).
    pub io: HostPhys,
    /// 4 KiB (§24.6.9).
    pub msr: HostPhys,
    /// Of every processor.
    pub capabilities: Capabilities,
}

bitflags! {
    /// What is not in the VMCS yet.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct Stale: u8 {
        const RIP = 1 << 0;
        const PRIMARY = 1 << 1;
        const INTERRUPTIBILITY = 1 << 2;
        const EVENT = 1 << 3;
        const THRESHOLD = 1 << 4;
        /// Nor in force: its cached translations are to be forgotten.
        const FLUSH = 1 << 5;
    }
}

/// A vCPU.
pub struct VmxVcpu {
    pub(super) vmcs: HostPhys,
    pub(super) saved: Registers,
    pub(super) fpu: Fpu,
    /// Registers that no entry switches, while they are not in the processor.
    pub(super) extra: Extra,
    /// The virtual-APIC page: the task priority is at byte 0x80 (§29.1.1).
    apic: SharedWords,
    pub(super) ept_pointer: u64,
    pub(super) stale: Stale,
    pub(super) rip: u64,
    pub(super) rflags: u64,
    pub(super) stack_access: u32,
    pub(super) interruptibility: u32,
    pub(super) instruction_length: u32,
    pub(super) primary: Primary,
    /// VM-entry interruption information (§24.8.3), and its error code.
    pub(super) event: (u32, u32),
    threshold: u8,
    pub(super) launched: bool,
    /// Its VMCS is active on the processor that holds it; otherwise nowhere.
    pub(super) here: bool,
    /// DR0 … DR3 are in the processor.
    pub(super) has_debug_registers: bool,
}

/// Registers that no entry switches, and that the hypervisor has no use for: a vCPU has them from one switch to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extra {
    pub cr2: u64,
    pub dr6: u64,
    /// DR0 … DR3, only from their first use on.
    pub debug: [u64; 4],
    /// STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE.
    pub system_call: [u64; 5],
}

/// STI, and MOV SS, hold interrupts back for one more instruction (§24.4.2).
const SHADOW: u32 = 0b11;
/// NMIs are held back until IRET (§24.4.2).
const NMI_BLOCKED: u32 = 1 << 3;
/// Set beneath every guest, which sees neither: VMXE, which VMX keeps set (§23.8), and MCE, without which a machine check would not
/// exit but shut the machine down (SDM vol 3B §15.10.4.1).
pub(super) const CR4_HELD: u64 = 1 << 13 | 1 << 6;
const _: () = assert!(CR4_GUEST & CR4_HELD == 0);

/// Entry interruption information (§24.8.3), and that of an exit (§24.9.2).
pub(super) mod event {
    pub const VALID: u32 = 1 << 31;
    pub const INTERRUPT: u32 = 0 << 8;
    pub const NMI: u32 = 2 << 8;
    pub const EXCEPTION: u32 = 3 << 8;
    pub const HAS_ERROR: u32 = 1 << 11;
    pub const VECTOR_MASK: u32 = 0xff;
    pub const TYPE_MASK: u32 = 7 << 8;
    /// Software interrupts and exceptions: their instruction runs again instead.
    pub const SOFTWARE: u32 = 4 << 8;
    /// Bit 12 of an exit's: an IRET had let NMIs in before its fault exited.
    pub const NMI_UNBLOCKED: u32 = 1 << 12;
    /// INT1, which raises #DB.
    pub const PRIVILEGED_SOFTWARE: u32 = 5 << 8;
    /// What means something: vector, type, error code, valid.
    pub const MEANING: u32 = VALID | 0xfff;
}

impl VmxVcpu {
    /// Makes a vCPU that is not started. `vmcs` is a zeroed frame of its own, which holds the revision; `apic` a page of its own
    /// at `apic_phys`; `number` unique from 1.
    ///
    /// # Safety
    ///
    /// This processor is in VMX operation, and nothing else uses the frames.
    pub(super) unsafe fn new(
        vmcs: HostPhys,
        apic: SharedFrames,
        maps: Maps,
        root: HostPhys,
        number: u16,
    ) -> Self {
        let controls = maps.capabilities.controls;
        let ept_pointer = root.raw() | maps.capabilities.ept_flags;
        let vcpu = Self {
            vmcs,
            saved: Registers::default(),
            fpu: Fpu::reset(),
            extra: Extra::default(),
            apic: apic.words,
            ept_pointer,
            stale: Stale::empty(),
            rip: 0,
            rflags: 2,
            stack_access: 0,
            interruptibility: 0,
            instruction_length: 0,
            primary: controls.primary,
            event: (0, 0),
            threshold: 0,
            launched: false,
            here: false,
            has_debug_registers: false,
        };
        // SAFETY: the frame is a VMCS's, active nowhere, by contract.
        unsafe { vmcs::clear(vmcs) };
        vcpu.vmcs(|vmcs| {
            vmcs.write(fields::PIN_CONTROLS, controls.pin.bits());
            vmcs.write(fields::PRIMARY_CONTROLS, controls.primary.bits());
            vmcs.write(fields::SECONDARY_CONTROLS, controls.secondary.bits());
            vmcs.write(fields::EXIT_CONTROLS, controls.exit.bits());
            vmcs.write(fields::ENTRY_CONTROLS, controls.entry.bits());
            for zero in [
                fields::CR3_TARGET_COUNT,
                fields::EXIT_MSR_STORE_COUNT,
                fields::EXIT_MSR_LOAD_COUNT,
                fields::ENTRY_MSR_LOAD_COUNT,
                fields::TPR_THRESHOLD,
                fields::ENTRY_LENGTH,
            ] {
                vmcs.write(zero, 0);
            }
            vmcs.write(fields::EXCEPTION_BITMAP, EXCEPTIONS);
            vmcs.write(fields::VPID, number);
            vmcs.write(fields::IO_MAP_A, maps.io.raw());
            vmcs.write(fields::IO_MAP_B, maps.io.raw() + 4096);
            vmcs.write(fields::MSR_MAP, maps.msr.raw());
            vmcs.write(fields::VIRTUAL_APIC, apic.start.raw());
            vmcs.write(fields::EPT_POINTER, ept_pointer);
            vmcs.write(fields::LINK_POINTER, u64::MAX);
            vmcs.write(fields::DEBUGCTL, 0);
            // §25.1.3: PAUSEs closer together than the gap, for longer than the window, are a loop. Linux' values.
            if controls.secondary.contains(Secondary::PAUSE_LOOP) {
                vmcs.write(fields::PLE_GAP, 128);
                vmcs.write(fields::PLE_WINDOW, 4096);
            }
            vmcs.write(fields::CR0_MASK, CR0_SHADOWED);
            // The others are ours, and read as zero: a guest that sets one exits.
            vmcs.write(fields::CR4_MASK, !CR4_GUEST);
        });
        vcpu
    }

    /// Looks at its VMCS, wherever that is.
    pub(super) fn vmcs<T>(&self, act: impl FnOnce(Current) -> T) -> T {
        // SAFETY: the frame is this vCPU's VMCS. Whoever has the vCPU is the processor on which it is active, if it is (`here`),
        // since a vCPU departs before another processor gets it (I-7).
        unsafe { vmcs::with(self.vmcs, self.here, act) }
    }

    fn get<T: Value>(&self, field: Field<T>) -> T {
        self.vmcs(|vmcs| vmcs.read(field))
    }

    fn set<T: Value>(&self, field: Field<T>, value: T) {
        self.vmcs(|vmcs| vmcs.write(field, value));
    }

    /// What changed since the exit goes to the VMCS.
    #[inline]
    pub(super) fn sync(&mut self, vmcs: Current) {
        let stale = core::mem::replace(&mut self.stale, Stale::empty());
        if stale.contains(Stale::RIP) {
            vmcs.write(fields::RIP, self.rip);
        }
        if stale != Stale::RIP {
            self.sync_rest(vmcs, stale);
        }
    }

    /// What changes less often than at each emulated instruction.
    fn sync_rest(&mut self, vmcs: Current, stale: Stale) {
        if stale.contains(Stale::EVENT) {
            vmcs.write(fields::ENTRY_EVENT, self.event.0);
            vmcs.write(fields::ENTRY_ERROR, self.event.1);
            self.event = (0, 0);
        }
        if stale.contains(Stale::PRIMARY) {
            vmcs.write(fields::PRIMARY_CONTROLS, self.primary.bits());
        }
        if stale.contains(Stale::INTERRUPTIBILITY) {
            vmcs.write(fields::INTERRUPTIBILITY, self.interruptibility);
        }
        if stale.contains(Stale::THRESHOLD) {
            vmcs.write(fields::TPR_THRESHOLD, u32::from(self.threshold));
        }
        if stale.contains(Stale::FLUSH) {
            // SAFETY: single-context INVEPT was checked for, and the pointer is the one that the VMCS has.
            unsafe { vmcs::invalidate(self.ept_pointer) };
        }
    }

    pub(super) fn inject(&mut self, event: u32, error: u32) {
        self.event = (event, error);
        self.stale.insert(Stale::EVENT);
    }

    pub(super) fn control_primary(&mut self, bits: Primary, on: bool) {
        if self.primary.contains(bits) != on {
            self.primary.set(bits, on);
            self.stale.insert(Stale::PRIMARY);
        }
    }

    pub(super) fn set_interruptibility(&mut self, value: u32) {
        if self.interruptibility != value {
            self.interruptibility = value;
            self.stale.insert(Stale::INTERRUPTIBILITY);
        }
    }

    pub(super) fn set_threshold(&mut self, class: u8) {
        if self.threshold != class {
            self.threshold = class;
            self.stale.insert(Stale::THRESHOLD);
        }
    }

    /// The shadow of STI or MOV SS is over.
    #[inline]
    pub(super) fn leave_shadow(&mut self) {
        self.set_interruptibility(self.interruptibility & !SHADOW);
    }

    /// Goes on behind the instruction at RIP, and ends the interrupt shadow.
    #[inline]
    pub(super) fn step_over(&mut self, length_bytes: u32) {
        self.rip = self.rip.wrapping_add(u64::from(length_bytes));
        self.stale.insert(Stale::RIP);
        self.leave_shadow();
    }

    /// An instruction that was emulated is done under TF or RF: RF ends with it, and TF makes a #DB of it. That is injected, and not
    /// left pending (§24.4.2): an interrupt that is injected with the same entry would take its place (§26.7.3).
    #[cold]
    fn finish_flagged(&mut self) {
        self.rflags &= !RFLAGS_RF;
        self.set(fields::RFLAGS, self.rflags);
        if self.rflags & RFLAGS_TF != 0 {
            self.raise_debug(DR6_STEP);
        }
    }

    /// Injects #DB for these causes (bits of DR6), with DR6 and DR7 as its delivery leaves them (SDM vol 3B §17.2.3, §17.2.4).
    pub(super) fn raise_debug(&mut self, causes: u64) {
        self.extra.note_debug(causes);
        self.set(fields::DR7, self.get(fields::DR7) & !DR7_GENERAL_DETECT);
        self.inject_exception(Exception::Debug);
    }

    /// NMIs are held back again: the IRET that let them in was cut short.
    pub(super) fn block_nmi(&mut self) {
        self.set_interruptibility(self.interruptibility | NMI_BLOCKED);
    }

    /// An NMI that was being delivered does not hold itself back.
    pub(super) fn unblock_nmi(&mut self) {
        self.set_interruptibility(self.interruptibility & !NMI_BLOCKED);
    }

    /// A vCPU whose DR7 enables a breakpoint needs their addresses at once: they fire without an access to intercept.
    pub(super) fn arm_breakpoints(&mut self, dr7: u64) {
        if dr7 & DR7_ENABLES != 0 && !self.has_debug_registers {
            self.load_debug_registers();
        }
    }

    /// Takes the debug registers out of the processor if they are this vCPU's; the next vCPU finds none of its values.
    pub(super) fn unload_debug_registers(&mut self) {
        if core::mem::take(&mut self.has_debug_registers) {
            self.extra.debug = debug::swap([0; 4]);
            self.control_primary(Primary::MOV_DR, true);
        }
    }
}

/// Access rights as the VMCS has them (§24.4.1) from the twelve packed bits of the core.
pub(super) fn access(packed: u16) -> u32 {
    u32::from(packed & 0xff) | u32::from(packed & 0xf00) << 4
}

/// And back.
fn packed((selector, access): (u16, u32)) -> (u16, u16) {
    let low = u16::try_from(access & 0xff).unwrap_or(0);
    let high = u16::try_from(access >> 4 & 0xf00).unwrap_or(0);
    (selector, low | high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_rights_survive_both_ways() {
        for bits in 0..0x1000 {
            assert_eq!(packed((8, access(bits))), (8, bits));
        }
        // Code, 64 bits, present, granular: type and P below, L and G from bit 12 on (§24.4.1).
        assert_eq!(access(0xa9b), 0xa09b);
        assert_eq!(packed((0, 1 << 16)), (0, 0), "\"unusable\" has no place in the core's form");
    }
}
