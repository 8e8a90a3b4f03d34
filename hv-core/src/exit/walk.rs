//! A software walk of a guest's own page tables: at most four reads, each checked, whatever the tables contain.

use crate::base::addr::GuestPhys;
use crate::base::control::Control;
use crate::base::hardware::GuestRam;
use crate::guest::registers::{CR0_PG, CR4_LA57, CR4_PAE, CR4_PSE, EFER_LMA};
use crate::guest::seam::VirtualCpu;

const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// The linear address of the code at RIP.
pub fn code(state: &impl VirtualCpu, control: &Control) -> u64 {
    let rip = state.rip();
    if control.code_bits() == 64 { rip } else { rip.wrapping_add(state.code_base()) & 0xffff_ffff }
}

/// The guest-physical address of a linear address, or `None` if the tables do not map it. Without paging both are equal;
/// 32-bit, PAE and 4-level paging are walked (APM vol 2 §5.2, §5.3; SDM vol 3A §4.3 … §4.5).
pub fn translate(ram: &impl GuestRam, control: &Control, linear: u64) -> Option<GuestPhys> {
    let [cr0, cr3, cr4] = control.cr;
    let is_long = control.efer & EFER_LMA != 0;
    let linear = if is_long { linear } else { linear & 0xffff_ffff };
    if cr0 & CR0_PG == 0 {
        return GuestPhys::new(linear & 0xffff_ffff);
    }
    if is_long && cr4 & CR4_LA57 != 0 {
        return None;
    }
    if !is_long && cr4 & CR4_PAE == 0 {
        return translate_32_bit(ram, control, linear);
    }
    // The table at CR3: 512 entries in a page, or PAE's four at a multiple of 32 bytes.
    let (levels, mut table) = if is_long { (4, cr3 & FRAME) } else { (3, cr3 & 0xffff_ffe0) };
    for level in (0..levels).rev() {
        let shift = 12 + 9 * level;
        let mut entry = [0; 8];
        ram.read(GuestPhys::new_truncate(table + ((linear >> shift & 511) << 3)), &mut entry).ok()?;
        let entry = u64::from_le_bytes(entry);
        if entry & PRESENT == 0 {
            return None;
        }
        let is_page = level == 0 || (level < levels - 1 && entry & LARGE != 0);
        if is_page {
            let offset = (1 << shift) - 1;
            return Some(GuestPhys::new_truncate(entry & FRAME & !offset | linear & offset));
        }
        table = entry & FRAME;
    }
    None
}

/// Two levels of 1024 entries of 4 bytes; a page of 4 MiB has bits 39:32 of its address in bits 20:13 of its entry (PSE-36).
fn translate_32_bit(ram: &impl GuestRam, control: &Control, linear: u64) -> Option<GuestPhys> {
    let [_, cr3, cr4] = control.cr;
    let read = |table: u64, index: u64| {
        let mut entry = [0; 4];
        ram.read(GuestPhys::new_truncate((table & 0xffff_f000) + index * 4), &mut entry).ok()?;
        let entry = u64::from(u32::from_le_bytes(entry));
        (entry & PRESENT != 0).then_some(entry)
    };
    let directory = read(cr3, linear >> 22)?;
    if cr4 & CR4_PSE != 0 && directory & LARGE != 0 {
        let frame = directory & 0xffc0_0000 | (directory >> 13 & 0xff) << 32;
        return Some(GuestPhys::new_truncate(frame | linear & 0x003f_ffff));
    }
    let page = read(directory, linear >> 12 & 1023)?;
    Some(GuestPhys::new_truncate(page & 0xffff_f000 | linear & 0xfff))
}
