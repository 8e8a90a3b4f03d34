//! The loader's information, in a form common to all loaders.

use hv_core::base::addr::HostPhys;
use hv_core::machine::arch::screen::Frame;
pub use hv_core::machine::memory::MAPPED;
use hv_core::policy::mm::frames::Frames;

/// The information that a loader hands over.
#[derive(Default)]
pub struct Handover {
    /// Free RAM.
    pub frames: Frames,
    /// The bundle; empty if the loader passed none.
    pub bundle: &'static [u8],
    /// The hypervisor's own command line.
    pub command_line: &'static str,
    /// Physical address of the RSDP; 0 = the loader does not know.
    pub rsdp: u64,
    /// A free page below 1 MiB that is RAM in the loader's map: other processors start there.
    pub start_page: Option<HostPhys>,
    /// The screen, if the machine has one that is usable.
    pub screen: Option<Frame>,
}

/// Returns a pointer to an object that a loader left below [`MAPPED`].
pub fn pointer<T>(at: u64) -> *const T {
    core::ptr::with_exposed_provenance(usize::try_from(at).unwrap_or(0))
}

/// Converts an area of a loader's memory map for [`Frames::learn`]: start, length, and whether it is RAM. The part past [`MAPPED`] is
/// cut off.
pub fn area(start: u64, len_bytes: u64, is_ram: bool) -> Option<(HostPhys, u64, bool)> {
    let len = start.saturating_add(len_bytes).min(MAPPED).checked_sub(start)?;
    Some((HostPhys::new(start)?, len, is_ram))
}
