//! What a build of the hypervisor runs on, as one parameter.

use crate::base::hardware::{GuestRam, Hardware};
use crate::guest::seam::Processor;

/// A kind of machine: the PC with one of the vendors' processors, or the one that host tests look into.
pub trait Platform: 'static {
    /// The processor, and with it the vCPUs' state.
    type Processor: Processor;
    /// What else a processor has of its own: clock, timer, interrupts, random numbers.
    type Hardware: Hardware;
    /// A guest's memory.
    type Ram: GuestRam;
}

/// A vCPU's architectural state.
pub type State<P> = <<P as Platform>::Processor as Processor>::Vcpu;
