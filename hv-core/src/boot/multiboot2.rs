//! The Multiboot2 header, and the boot information of a loader like GRUB (Multiboot2 specification 2.0 §3.1, §3.4, §3.6).
#![expect(
    unsafe_code,
    reason = "the header in a section of its own, and the loader's structures through raw pointers"
)]

use super::handover::{Handover, MAPPED, area, pointer};
use core::arch::global_asm;
use hv_core::base::addr::HostPhys;
use hv_core::machine::arch::screen::{self, Frame};
use hv_core::policy::mm::frames::Frames;
use multiboot2::{BootInformation, FramebufferField, FramebufferTag, FramebufferType, MemoryAreaType};

/// Value of EAX at the entry, by which a Multiboot2 loader identifies itself.
pub const MAGIC: u32 = multiboot2::MAGIC;

// The header lies within the first 32 KiB of the file, at a multiple of 8. Each tag has a type, flags, a size and a body.
global_asm!(
    ".pushsection .multiboot2, \"a\", @progbits",
    ".balign 8",
    "multiboot2_header:",
    ".long 0xe85250d6, 0, multiboot2_header_end - multiboot2_header", // i386
    ".long -(0xe85250d6 + multiboot2_header_end - multiboot2_header)",
    ".short 3, 0", // where to enter
    ".long 12, multiboot2_entry, 0",
    ".short 6, 0", // modules at pages
    ".long 8",
    ".short 4, 1", // a screen of text is welcome
    ".long 12, 2",
    ".balign 8",
    ".short 5, 1", // a screen of pixels is welcome: any size, 32 bits if that may be chosen
    ".long 20, 0, 0, 32",
    ".balign 8",
    ".short 0, 0", // the end
    ".long 8",
    "multiboot2_header_end:",
    ".popsection",
);

/// Converts the boot information to a [`Handover`], which is empty if the information is damaged.
///
/// # Safety
///
/// `info` is the value that a Multiboot2 loader left in EBX, and the structures it points to are unchanged since.
pub unsafe fn read(info: u64) -> Handover {
    // SAFETY: by contract it points to boot information, which lies below 4 GiB and so is mapped, at a multiple of 8.
    let Ok(info) = (unsafe { BootInformation::load(pointer(info)) }) else {
        return Handover::default();
    };
    let mut frames = Frames::default();
    let areas = info.memory_map_tag().map_or(&[][..], |map| map.memory_areas());
    frames.learn(|| {
        areas.iter().filter_map(|found| {
            area(found.start_address(), found.size(), found.typ() == MemoryAreaType::Available)
        })
    });
    frames.reserve(HostPhys::new_truncate(info.start_address() as u64), info.total_size() as u64);
    let mut bundle: &'static [u8] = &[];
    if let Some(module) = info.module_tags().next() {
        let (start, len) = (module.start_address(), module.module_size());
        frames.reserve(HostPhys::new_truncate(u64::from(start)), u64::from(len));
        // SAFETY: the loader put the module there; the range was just taken out of the free frames, so it never changes.
        bundle = unsafe { core::slice::from_raw_parts(pointer(u64::from(start)), len as usize) };
    }
    let command_line = info.command_line_tag().and_then(|tag| tag.cmdline().ok()).unwrap_or_default();
    // SAFETY: the boot information was just taken out of the free frames, so it never changes.
    let command_line = unsafe { &*core::ptr::from_ref(command_line) };
    // Each of the two tags holds a copy of the firmware's structure after 8 bytes of its own.
    let new = info.rsdp_v2_tag().map(|tag| core::ptr::from_ref(tag).expose_provenance());
    let old = || info.rsdp_v1_tag().map(|tag| core::ptr::from_ref(tag).expose_provenance());
    let rsdp = new.or_else(old).map_or(0, |tag| tag as u64 + 8);
    let screen = info.framebuffer_tag().and_then(Result::ok).and_then(screen);
    Handover { frames, bundle, command_line, rsdp, start_page: None, screen }
}

/// Returns the screen's frame, unless its address is not mapped or it has a palette.
fn screen(tag: &FramebufferTag) -> Option<Frame> {
    let bits = |field: FramebufferField| 1_u32.checked_shl(field.size.into()).unwrap_or(0).wrapping_sub(1);
    let white = |field: FramebufferField| bits(field).checked_shl(field.position.into()).unwrap_or(0);
    let kind = match tag.buffer_type().ok()? {
        FramebufferType::Text => screen::Kind::Text,
        FramebufferType::RGB { red, green, blue } => screen::Kind::Pixels {
            bytes: u32::from(tag.bpp().div_ceil(8)),
            white: white(red) | white(green) | white(blue),
        },
        FramebufferType::Indexed { .. } => return None,
    };
    let frame =
        Frame { start: tag.address(), pitch_bytes: tag.pitch(), size: (tag.width(), tag.height()), kind };
    let end = frame.start + frame.len_bytes()?;
    (end <= MAPPED).then_some(frame)
}
