//! Finding VMX, turning it on, and what it allows. Intel SDM vol 3C §23.6 … §23.8, vol 3D appendix A.
#![expect(unsafe_code, reason = "VMXON and capability MSRs")]

use super::controls::{self, Controls, LATER, LATER_AT_ENTRY, Pin, Secondary, WANTED};
use super::vmcs::InVmx;
use crate::base::addr::HostPhys;
use crate::machine::arch::bochs;
use crate::machine::arch::cpuid::leaf;
use bitflags::Flags;
use core::arch::asm;
use core::fmt;
use x86_64::registers::model_specific::Msr;

/// What a processor's VMX can do, as far as it is used. All processors of a machine must be able to do the same, since vCPUs
/// move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// What a VMCS begins with.
    pub revision: u32,
    /// What a vCPU runs under.
    pub controls: Controls,
    /// Bits 6:0 of the EPT pointer: write-back tables of four levels, with accessed and dirty bits where there are.
    pub ept_flags: u64,
    /// CR0 and CR4 bits that must be set in VMX operation.
    fixed: [u64; 2],
    /// The preemption timer counts once in so many TSC ticks, as a power of two.
    pub timer_shift: u8,
    /// Whether code in a page of 2 MiB whose size a guest changes can raise a machine check (CVE-2018-12207).
    pub has_multihit: bool,
}

/// What this processor lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// CPUID 1 ECX.VMX.
    Vmx,
    /// IA32_FEATURE_CONTROL is locked without VMX outside SMX: switched off by firmware.
    DisabledByFirmware,
    /// No controls that may all be cleared: IA32_VMX_BASIC bit 55.
    TrueControls,
    /// A control that may not be set, with the register that says so.
    Control(&'static str, &'static str),
    /// An ability of EPT or VPID, by its name in the manual: IA32_VMX_EPT_VPID_CAP.
    Ept(&'static str),
    /// VMXON failed.
    Vmxon,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmx => "this processor has no VT-x (CPUID 1 ECX.VMX)",
            Self::DisabledByFirmware => {
                "VT-x is switched off and locked by firmware (IA32_FEATURE_CONTROL bit 2)"
            }
            Self::TrueControls => "this processor has no flexible VMX controls (IA32_VMX_BASIC bit 55)",
            Self::Vmxon => "VMXON failed",
            Self::Control(which, name) => {
                return write!(f, "this processor's VT-x lacks the {which} control {name}");
            }
            Self::Ept(name) => {
                return write!(f, "this processor's EPT lacks {name} (IA32_VMX_EPT_VPID_CAP)");
            }
        })
    }
}

const FEATURE_CONTROL: u32 = 0x3a;
const LOCKED: u64 = 1 << 0;
const VMX_OUTSIDE_SMX: u64 = 1 << 2;
const ARCH_CAPABILITIES: u32 = 0x10a;
const BASIC: u32 = 0x480;
const MISC: u32 = 0x485;
const CR0_FIXED_0: u32 = 0x486;
const CR4_FIXED_0: u32 = 0x488;
const SECONDARY: u32 = 0x48b;
const EPT_VPID: u32 = 0x48c;
const TRUE_PIN: u32 = 0x48d;
const TRUE_PRIMARY: u32 = 0x48e;
const TRUE_EXIT: u32 = 0x48f;
const TRUE_ENTRY: u32 = 0x490;

/// What of EPT is needed (appendix A.10), by bit.
const EPT_NEEDED: [(u32, &str); 5] = [
    (6, "4-level tables"),
    (14, "write-back tables"),
    (16, "2 MiB pages"),
    (20, "INVEPT"),
    (25, "single-context INVEPT"),
];
const EPT_DIRTY: u32 = 21;

/// Controls with the wanted bits and those that must be set (appendix A.3 … A.5: low half must be 1, high half may be 1).
fn adjust<F: Flags<Bits = u32> + Copy>(
    allowed: u64,
    wanted: F,
    later: F,
    register: &'static str,
) -> Result<F, Missing> {
    let (must, may) = (allowed & 0xffff_ffff, allowed >> 32);
    let missing = u64::from(wanted.bits() | later.bits()) & !may;
    let half = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    if missing != 0 {
        return Err(Missing::Control(register, controls::name(F::from_bits_retain(half(missing)))));
    }
    Ok(F::from_bits_retain(wanted.bits() | half(must)))
}

/// Whether a processor does not say that it is free of iTLB multihit: `edx` is CPUID 7's (SDM vol 4, IA32_ARCH_CAPABILITIES: bit 6,
/// IF_PSCHANGE_MC_NO). Some that say nothing have not got it; their makers' lists by model are not followed here.
fn has_multihit(edx: u32, capabilities: impl FnOnce() -> u64) -> bool {
    edx & 1 << 29 == 0 || capabilities() & 1 << 6 == 0
}

/// What IA32_FEATURE_CONTROL is to be written with, if anything: what firmware left unlocked is ours to decide (§23.7).
fn unlock(feature_control: u64) -> Result<Option<u64>, Missing> {
    match (feature_control & LOCKED != 0, feature_control & VMX_OUTSIDE_SMX != 0) {
        (false, _) => Ok(Some(feature_control | LOCKED | VMX_OUTSIDE_SMX)),
        (true, true) => Ok(None),
        (true, false) => Err(Missing::DisabledByFirmware),
    }
}

impl Capabilities {
    /// Reads and checks them.
    fn find() -> Result<Self, Missing> {
        if leaf(1, 0)[2] & 1 << 5 == 0 {
            return Err(Missing::Vmx);
        }
        // SAFETY: VMX is announced, so that its capability MSRs are there; the true ones are read after bit 55 was seen, the
        // others by each processor that has secondary controls, which is checked first; IA32_ARCH_CAPABILITIES only where CPUID announces
        // it. Reading changes nothing.
        let read = |index| unsafe { Msr::new(index).read() };
        let basic = read(BASIC);
        if basic & 1 << 55 == 0 {
            return Err(Missing::TrueControls);
        }
        let mut controls = Controls {
            pin: adjust(read(TRUE_PIN), WANTED.pin, Pin::empty(), "pin-based")?,
            primary: adjust(read(TRUE_PRIMARY), WANTED.primary, LATER, "primary processor-based")?,
            secondary: adjust(
                read(SECONDARY),
                WANTED.secondary,
                Secondary::empty(),
                "secondary processor-based",
            )?,
            exit: adjust(read(TRUE_EXIT), WANTED.exit, controls::Exit::empty(), "VM-exit")?,
            entry: adjust(read(TRUE_ENTRY), WANTED.entry, LATER_AT_ENTRY, "VM-entry")?,
        };
        // Without it a vCPU that spins keeps its slice.
        let may = |allowed: u64, bits: u32| allowed >> 32 & u64::from(bits) != 0;
        controls.secondary.set(Secondary::PAUSE_LOOP, may(read(SECONDARY), Secondary::PAUSE_LOOP.bits()));
        let timer = bochs::is_it() && may(read(TRUE_PIN), Pin::PREEMPTION_TIMER.bits());
        controls.pin.set(Pin::PREEMPTION_TIMER, timer);
        let ept = read(EPT_VPID);
        if let Some((_, name)) = EPT_NEEDED.iter().find(|(bit, _)| ept >> bit & 1 == 0) {
            return Err(Missing::Ept(name));
        }
        let dirty = if ept >> EPT_DIRTY & 1 != 0 { 1 << 6 } else { 0 };
        Ok(Self {
            revision: u32::try_from(basic & 0x7fff_ffff).unwrap_or(0),
            controls,
            ept_flags: 6 | 3 << 3 | dirty,
            fixed: [read(CR0_FIXED_0), read(CR4_FIXED_0)],
            timer_shift: u8::try_from(read(MISC) & 0x1f).unwrap_or(0),
            has_multihit: has_multihit(leaf(7, 0)[3], || read(ARCH_CAPABILITIES)),
        })
    }
}

/// Turns VMX on. `region` is the frame that the processor keeps for itself.
///
/// # Errors
///
/// What is missing, before anything was changed but what firmware left open.
///
/// # Safety
///
/// Runs at CPL 0 on the processor that will use the proof, and nothing else uses the frame, which is mapped at its own address.
pub unsafe fn enable(region: HostPhys) -> Result<(InVmx, Capabilities), Missing> {
    let capabilities = Capabilities::find()?;
    // SAFETY: VMX is announced, so the MSR is there, and it is written only while it is not locked; CPL 0.
    unsafe {
        let mut feature_control = Msr::new(FEATURE_CONTROL);
        if let Some(value) = unlock(feature_control.read())? {
            feature_control.write(value);
        }
    }
    let [cr0, cr4] = capabilities.fixed;
    let at = region.raw();
    let failed: u8;
    // SAFETY: the bits of CR0 and CR4 that VMX wants (NE, VMXE) change nothing that runs here; the frame is ours and mapped, by
    // contract, and holds the revision before VMXON reads it.
    unsafe {
        core::ptr::with_exposed_provenance_mut::<u32>(usize::try_from(at).unwrap_or(0))
            .write_volatile(capabilities.revision);
        asm!(
            "mov {value}, cr0", "or {value}, {cr0}", "mov cr0, {value}",
            "mov {value}, cr4", "or {value}, {cr4}", "mov cr4, {value}",
            "vmxon [{at}]", "setbe {failed}",
            value = out(reg) _, cr0 = in(reg) cr0, cr4 = in(reg) cr4, at = in(reg) &raw const at,
            failed = out(reg_byte) failed, options(nostack)
        );
        if failed != 0 { Err(Missing::Vmxon) } else { Ok((InVmx::new(), capabilities)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_firmware_left_open_is_locked_with_vmx_and_what_it_locked_counts() {
        assert_eq!(unlock(0), Ok(Some(5)));
        assert_eq!(unlock(1 << 20 | 2), Ok(Some(1 << 20 | 7)), "other bits stay");
        assert_eq!(unlock(5), Ok(None));
        for locked in [1, 1 | 1 << 1] {
            assert_eq!(unlock(locked), Err(Missing::DisabledByFirmware), "{locked:#x}");
        }
        let line = Missing::DisabledByFirmware.to_string();
        assert_eq!(line, "VT-x is switched off and locked by firmware (IA32_FEATURE_CONTROL bit 2)");
    }

    #[test]
    fn a_processor_that_does_not_deny_it_has_itlb_multihit() {
        assert!(has_multihit(0, || panic!("an MSR that is not there")));
        assert!(has_multihit(1 << 29, || !(1 << 6)));
        assert!(!has_multihit(1 << 29, || 1 << 6));
    }

    #[test]
    fn controls_get_what_must_be_set_and_a_missing_one_is_named() {
        let allowed = |must: u32, may: u32| u64::from(may) << 32 | u64::from(must);
        let wanted = Pin::EXTERNAL_INTERRUPTS | Pin::NMI;
        let got = adjust(allowed(0x16, 0x7f), wanted, Pin::VIRTUAL_NMI, "pin-based").unwrap();
        assert_eq!(got.bits(), 0x16 | 0x9, "what is only used later is not set yet");
        for (may, name) in [(0x7f & !0x8, "NMI"), (0x7f & !0x20, "VIRTUAL_NMI"), (0, "EXTERNAL_INTERRUPTS")] {
            let missing = adjust(allowed(0, may), wanted, Pin::VIRTUAL_NMI, "pin-based").unwrap_err();
            assert_eq!(missing, Missing::Control("pin-based", name));
            assert_eq!(
                missing.to_string(),
                alloc::format!("this processor's VT-x lacks the pin-based control {name}")
            );
        }
    }
}
