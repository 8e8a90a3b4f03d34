//! Layer 4: from the loader's handover to the first guest.

mod epitaph;
mod init;
mod processors;
mod pvh;
mod selftest;

use hv_core::policy::mm::frames::Frames;

/// What a loader tells us.
pub struct Handover {
    /// RAM that nothing uses.
    pub frames: Frames,
    /// The bundle, or nothing.
    pub bundle: &'static [u8],
    /// The hypervisor's own command line.
    pub command_line: &'static str,
    /// Where the firmware's tables begin; 0 = the loader does not know.
    pub rsdp: u64,
}

pub use init::main;
