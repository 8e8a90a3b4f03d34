//! The registers of x87, MMX and SSE, which VMRUN does not switch.
#![expect(unsafe_code, reason = "FXSAVE, FXRSTOR, and the registers one by one")]

use crate::machine::arch::cpuid::leaf;
use crate::machine::arch::translator::Translator;
use core::arch::asm;

/// FXSAVE's image (APM vol 2 §11.5.5).
#[derive(Clone)]
#[repr(C, align(16))]
pub struct Fpu([u8; 512]);

/// After reset: FCW 0x037f, FSW 0, all registers empty.
const X87_RESET: [u8; 5] = [0x7f, 0x03, 0, 0, 0];

/// How the registers come back from their image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restore {
    /// By FXRSTOR.
    Whole,
    /// Where x87 is as after reset, without FXRSTOR; elsewhere with what FXRSTOR leaves of the last guest's overwritten before.
    Parts,
}

/// RstrFpErrPtrs of CPUID 8000_0008 EBX (AMD APM vol 3 appendix E.4.7). Without it, FXRSTOR leaves x87's pointers alone where no exception
/// is pending (AMD APM vol 2 §11.5.5; CVE-2006-1056).
const RESTORES_POINTERS: u32 = 1 << 2;

impl Restore {
    /// The way for an AMD machine: in parts where a thread runs each processor (see [`crate::machine::arch::translator`]), and where
    /// FXRSTOR does not restore all. The translator keeps no pointers.
    pub fn of_machine(translator: Option<Translator>) -> Self {
        let leaks = || leaf(0x8000_0008, 0)[1] & RESTORES_POINTERS == 0;
        match translator {
            Some(Translator::Threaded) => Self::Parts,
            None if leaks() => Self::Parts,
            Some(Translator::Counting) | None => Self::Whole,
        }
    }
}

impl Fpu {
    /// State after reset: besides x87's, MXCSR 0x1f80.
    pub fn reset() -> Self {
        let mut image = [0; 512];
        image[..X87_RESET.len()].copy_from_slice(&X87_RESET);
        image[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        Self(image)
    }

    /// Takes the processor's registers. The hypervisor is soft-float, so they are the last guest's.
    #[inline]
    pub fn save(&mut self) {
        // SAFETY: the image is 512 bytes and 16-byte aligned.
        unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut self.0, options(nostack, preserves_flags)) };
    }

    /// Gives the processor these registers.
    #[inline]
    pub fn load(&self, restore: Restore) {
        if restore == Restore::Parts && self.is_loaded_in_parts() {
            return;
        }
        // SAFETY: the image is 512 bytes, 16-byte aligned, and holds what FXSAVE stored or the state after reset.
        unsafe { asm!("fxrstor64 [{}]", in(reg) &raw const self.0, options(nostack, preserves_flags)) };
    }

    /// Gives the processor these registers where x87 is as after reset; elsewhere makes x87's pointers those of an instruction of ours.
    #[cold]
    fn is_loaded_in_parts(&self) -> bool {
        static OPERAND: u32 = 0;
        if self.0.starts_with(&X87_RESET) {
            self.load_sse();
            return true;
        }
        // SAFETY: what is in x87 was saved, and is overwritten next; without a pending exception, and with all registers empty, the
        // load of a zero raises none.
        unsafe {
            asm!("fnclex", "emms", "fild dword ptr [{}]", in(reg) &raw const OPERAND, options(nostack, preserves_flags));
        }
        false
    }

    /// Gives the processor the image's SSE registers and MXCSR, and x87 as after reset, with nothing of anybody's in it.
    fn load_sse(&self) {
        // SAFETY: as in `load`; XMM0 … XMM15 lie from byte 160 on, aligned, and FXSAVE stored a valid MXCSR.
        unsafe {
            asm!(
                "fninit", "fldz", "fldz", "fldz", "fldz", "fldz", "fldz", "fldz", "fldz", "fninit",
                "ldmxcsr [{image} + 24]",
                "movaps xmm0, [{image} + 160]", "movaps xmm1, [{image} + 176]",
                "movaps xmm2, [{image} + 192]", "movaps xmm3, [{image} + 208]",
                "movaps xmm4, [{image} + 224]", "movaps xmm5, [{image} + 240]",
                "movaps xmm6, [{image} + 256]", "movaps xmm7, [{image} + 272]",
                "movaps xmm8, [{image} + 288]", "movaps xmm9, [{image} + 304]",
                "movaps xmm10, [{image} + 320]", "movaps xmm11, [{image} + 336]",
                "movaps xmm12, [{image} + 352]", "movaps xmm13, [{image} + 368]",
                "movaps xmm14, [{image} + 384]", "movaps xmm15, [{image} + 400]",
                image = in(reg) &raw const self.0, options(nostack, preserves_flags)
            );
        }
    }
}
