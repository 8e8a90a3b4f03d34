//! The kind of machine that a build of the hypervisor runs on, as one type parameter.

use crate::base::hardware::{GuestRam, Hardware};
use crate::guest::seam::Processor;

/// A kind of machine: the PC with one vendor's processors, or the simulated machine of the host tests.
pub trait Platform: 'static {
    /// The processor, and with it the vCPUs' state.
    type Processor: Processor;
    /// The other hardware of each processor: clock, timer, interrupts, random numbers.
    type Hardware: Hardware;
    /// A guest's memory.
    type Ram: GuestRam;
}

/// A vCPU's architectural state.
pub type State<P> = <<P as Platform>::Processor as Processor>::Vcpu;
