//! What a loader tells us.

use hv_core::base::addr::HostPhys;
use hv_core::machine::arch::screen::Frame;
pub use hv_core::machine::memory::MAPPED;
use hv_core::policy::mm::frames::Frames;

/// All of it.
#[derive(Default)]
pub struct Handover {
    /// RAM that nothing uses.
    pub frames: Frames,
    /// The bundle, or nothing.
    pub bundle: &'static [u8],
    /// The hypervisor's own command line.
    pub command_line: &'static str,
    /// Where the firmware's tables begin; 0 = the loader does not know.
    pub rsdp: u64,
    /// A page below 1 MiB that the loader's map has for RAM and nothing needs: other processors start there.
    pub start_page: Option<HostPhys>,
    /// The screen, if there is one.
    pub screen: Option<Frame>,
}

/// Something that a loader left below [`MAPPED`].
pub fn pointer<T>(at: u64) -> *const T {
    core::ptr::with_exposed_provenance(usize::try_from(at).unwrap_or(0))
}

/// An area of a loader's memory map as [`Frames::learn`] takes it: start, length, and whether it is RAM. What lies past [`MAPPED`] is
/// left out.
pub fn area(start: u64, len_bytes: u64, is_ram: bool) -> Option<(HostPhys, u64, bool)> {
    let len = start.saturating_add(len_bytes).min(MAPPED).checked_sub(start)?;
    Some((HostPhys::new(start)?, len, is_ram))
}
