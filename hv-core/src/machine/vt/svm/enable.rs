//! Finding SVM and turning it on (§15.4).
#![expect(unsafe_code, reason = "EFER and the host save area by MSR")]

use crate::machine::arch::cpuid::leaf;
use bitflags::bitflags;
use core::arch::asm;
use core::fmt;
use core::marker::PhantomData;
use x86_64::registers::model_specific::Msr;

/// What a processor's SVM can do: CPUID 8000_000A. All processors of a machine must be able to do the same, since vCPUs move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// EBX: address-space identifiers, the host's 0 included.
    asids: u32,
    /// EDX: features.
    features: Features,
}

bitflags! {
    /// CPUID 8000_000A EDX (§15.30, APM vol 3 appendix E.4.9): what is used, where it is there.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u32 {
        /// Nested paging.
        const NESTED_PAGING = 1 << 0;
        /// TLB_CONTROL flushes one address-space identifier (§15.16.2).
        const FLUSH_BY_ASID = 1 << 6;
        /// EXITINFO1 names the general register of MOV to and from a control register (§15.33.1).
        const DECODE_ASSISTS = 1 << 7;
        /// PAUSE exits when a count of them has run down (§15.14.4).
        const PAUSE_FILTER = 1 << 10;
        /// The count begins anew after this many cycles without PAUSE (§15.14.4).
        const PAUSE_THRESHOLD = 1 << 12;
        const _ = !0;
    }
}

/// Proof that SVM is on for this processor.
#[derive(Debug)]
pub struct SvmOn {
    capabilities: Capabilities,
    _this_cpu_only: PhantomData<*mut ()>,
}

/// What this processor lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// CPUID 8000_0001 ECX bit 2.
    Svm,
    /// VM_CR.SVMDIS is set: switched off by firmware.
    DisabledByFirmware,
    /// CPUID 8000_000A EDX bit 0.
    NestedPaging,
    /// Fewer than two address-space identifiers.
    Asids,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Svm => "this processor has no AMD-V (CPUID 8000_0001 ECX.SVM); QEMU: -cpu max or -cpu qemu64,+svm,+npt",
            Self::DisabledByFirmware => "AMD-V is switched off by firmware (VM_CR.SVMDIS)",
            Self::NestedPaging => "this processor has no nested paging (CPUID 8000_000A EDX.NP); QEMU: add +npt",
            Self::Asids => "this processor has fewer than two address-space identifiers",
        })
    }
}

const EFER: u32 = 0xc000_0080;
const VM_CR: u32 = 0xc001_0114;
const VM_HSAVE_PA: u32 = 0xc001_0117;
const SVME: u64 = 1 << 12;
const SVMDIS: u64 = 1 << 4;

impl Capabilities {
    /// What there is.
    pub const fn features(self) -> Features {
        self.features
    }
}

impl SvmOn {
    /// Turns SVM on. `host_save` is the frame in which VMRUN keeps the host's state.
    ///
    /// # Errors
    ///
    /// What is missing, before anything was changed.
    ///
    /// # Safety
    ///
    /// Runs at CPL 0 on the processor that will use the proof, and nothing else uses the frame `host_save`.
    pub unsafe fn enable(host_save: crate::base::addr::HostPhys) -> Result<Self, Missing> {
        if leaf(0x8000_0001, 0)[2] & 1 << 2 == 0 {
            return Err(Missing::Svm);
        }
        let [_, asids, _, features] = leaf(0x8000_000a, 0);
        let features = Features::from_bits_retain(features);
        if !features.contains(Features::NESTED_PAGING) {
            return Err(Missing::NestedPaging);
        }
        if asids < 2 {
            return Err(Missing::Asids);
        }
        // SAFETY: SVM is there, so VM_CR is; CPL 0 and the frame by contract; SVME only adds the SVM instructions.
        unsafe {
            if Msr::new(VM_CR).read() & SVMDIS != 0 {
                return Err(Missing::DisabledByFirmware);
            }
            let mut efer = Msr::new(EFER);
            let value = efer.read();
            efer.write(value | SVME);
            // A hypervisor that went before may have left GIF clear: no interrupt and no NMI would come (§15.17).
            asm!("stgi", options(nomem, nostack, preserves_flags));
            Msr::new(VM_HSAVE_PA).write(host_save.raw());
        }
        let capabilities = Capabilities { asids, features };
        Ok(Self { capabilities, _this_cpu_only: PhantomData })
    }

    /// What it can do.
    pub const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// How many address-space identifiers there are, the host's 0 included.
    pub const fn asids(&self) -> u32 {
        self.capabilities.asids
    }
}
