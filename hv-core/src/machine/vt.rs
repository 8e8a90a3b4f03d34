//! The vendors behind the seam of [`crate::guest::seam`]: private, so that nothing else can name their insides.
#![expect(unsafe_code, reason = "turning a processor's ability on is a promise of the caller's")]

mod debug;
mod fpu;
mod svm;
mod vmx;

use crate::base::addr::HostPhys;
use crate::base::time::Frequency;
use crate::guest::seam::{Exception, Processor, VirtualCpu};
use crate::machine::arch::cpuid::leaf;
use crate::machine::arch::machine_check;
use crate::machine::memory::Memory;
use crate::policy::mm::nested::EntryFormat;
use core::fmt;
use pv_abi::cpuid::CallInstruction;

pub use svm::Amd;
pub use vmx::Intel;

/// What is always intercepted of exceptions, by their vectors' bits: those that a guest could have delivered without end, and machine
/// checks, which are the machine's.
pub const EXCEPTIONS: u32 = Exception::ENDLESS | 1 << machine_check::VECTOR;

/// A vendor, as the boot sees it. One match on [`Kind`] makes everything above generic over it.
pub trait Vendor: Copy + 'static {
    /// How nested page tables are spelt.
    type Format: EntryFormat;
    /// A processor.
    type Processor: Processor<Vcpu = Self::Vcpu>;
    /// A virtual one.
    type Vcpu: VirtualCpu + 'static;
    /// What a processor can do: all of a machine must be able to do the same, since vCPUs move.
    type Capabilities: Copy + PartialEq + fmt::Debug;
    /// What a processor lacks.
    type Missing: fmt::Display;
    /// What every vCPU shares.
    type Maps: Copy;

    /// The vendor's name for it.
    const NAME: &'static str;
    /// How guests call.
    const CALL: CallInstruction;
    /// Pages that a processor needs for itself, one after another.
    const PROCESSOR_PAGES: u64;

    /// Takes this processor into service. `tsc` is its time-stamp counter's frequency.
    ///
    /// # Errors
    ///
    /// What is missing.
    ///
    /// # Safety
    ///
    /// Runs at CPL 0 on the processor that the result stands for, and nothing else uses the pages, which are mapped at their own
    /// addresses.
    unsafe fn enable(pages: HostPhys, tsc: Frequency) -> Result<Self::Processor, Self::Missing>;

    /// What it can do.
    fn capabilities(processor: &Self::Processor) -> Self::Capabilities;

    /// An erratum of these processors by which a guest can stop the machine, where there is one that is not worked around.
    fn weakness(capabilities: Self::Capabilities) -> Option<&'static str>;

    /// Makes the permission maps: guests touch no port, and no MSR but `untouched`. `None` when memory is out.
    fn maps(memory: &mut Memory, capabilities: Self::Capabilities, untouched: &[u32]) -> Option<Self::Maps>;

    /// Makes a vCPU that is not started, with its nested tables at `root`. On the first processor, in service. `None` when memory is
    /// out.
    fn vcpu(memory: &mut Memory, maps: Self::Maps, root: HostPhys, setup: Setup) -> Option<Self::Vcpu>;
}

/// What a vCPU is made from.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Unique among vCPUs, from 1.
    pub number: u32,
    /// The time-stamp counter's frequency.
    pub tsc: Frequency,
}

/// Which vendor's way a processor has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// [`Amd`].
    Svm,
    /// [`Intel`].
    Vmx,
}

impl Kind {
    /// This processor's; `None` when it has neither.
    pub fn find() -> Option<Self> {
        if leaf(0x8000_0001, 0)[2] & 1 << 2 != 0 {
            Some(Self::Svm)
        } else if leaf(1, 0)[2] & 1 << 5 != 0 {
            Some(Self::Vmx)
        } else {
            None
        }
    }
}
