//! Layer 4: from the loader's handover to the first guest.

mod epitaph;
mod init;
mod pvh;

use hv_core::policy::mm::frames::Frames;

/// What a loader tells us.
pub struct Handover {
    /// RAM that nothing uses.
    pub frames: Frames,
    /// The bundle, or nothing.
    pub bundle: &'static [u8],
    /// The hypervisor's own command line.
    pub command_line: &'static str,
}

pub use init::main;
