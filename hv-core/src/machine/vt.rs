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

/// The exceptions that are always intercepted, bit n for vector n: those whose delivery a guest could make endless, and machine
/// checks, which concern the machine.
pub const EXCEPTIONS: u32 = Exception::ENDLESS | 1 << machine_check::VECTOR;

/// A vendor, as the boot code sees it. One match on [`Kind`] selects the vendor; all code above is generic over it.
pub trait Vendor: Copy + 'static {
    /// Format of nested page-table entries.
    type Format: EntryFormat;
    /// A physical processor with its virtualization enabled.
    type Processor: Processor<Vcpu = Self::Vcpu>;
    /// A virtual processor.
    type Vcpu: VirtualCpu + 'static;
    /// Capabilities of a processor: all processors of a machine must have the same, since vCPUs migrate.
    type Capabilities: Copy + PartialEq + fmt::Debug;
    /// The required feature that a processor lacks.
    type Missing: fmt::Display;
    /// The permission maps, shared by all vCPUs.
    type Maps: Copy;

    /// The vendor's name for its virtualization.
    const NAME: &'static str;
    /// The instruction by which guests make hypercalls.
    const CALL: CallInstruction;
    /// Contiguous pages that each processor needs for itself.
    const PROCESSOR_PAGES: u64;

    /// Enables virtualization on this processor. `tsc` is its time-stamp counter's frequency.
    ///
    /// # Errors
    ///
    /// The feature that the processor lacks.
    ///
    /// # Safety
    ///
    /// Runs at CPL 0 on the processor that the result stands for, and nothing else uses the pages, which are mapped at their own
    /// addresses.
    unsafe fn enable(pages: HostPhys, tsc: Frequency) -> Result<Self::Processor, Self::Missing>;

    /// Returns the processor's capabilities.
    fn capabilities(processor: &Self::Processor) -> Self::Capabilities;

    /// Returns an erratum of these processors by which a guest can stop the machine, if they have one without a workaround here.
    fn weakness(capabilities: Self::Capabilities) -> Option<&'static str>;

    /// Makes the permission maps: guests access no port, and no MSR but `untouched`, without an exit. `None` if no memory is left.
    fn maps(memory: &mut Memory, capabilities: Self::Capabilities, untouched: &[u32]) -> Option<Self::Maps>;

    /// Makes a vCPU that is not started, with its nested tables at `root`. The caller runs on the first processor, with virtualization
    /// enabled. `None` if no memory is left.
    fn vcpu(memory: &mut Memory, maps: Self::Maps, root: HostPhys, setup: Setup) -> Option<Self::Vcpu>;
}

/// Parameters of a new vCPU.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Unique among vCPUs, from 1.
    pub number: u32,
    /// The time-stamp counter's frequency.
    pub tsc: Frequency,
}

/// The virtualization that a processor has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// [`Amd`].
    Svm,
    /// [`Intel`].
    Vmx,
}

impl Kind {
    /// Returns this processor's kind; `None` if it has neither.
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
