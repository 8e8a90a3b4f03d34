//! A guest's own page tables, walked in software: at most four reads, each checked, whatever the tables say.

use crate::base::addr::GuestPhys;
use crate::base::hardware::GuestRam;
use crate::dispatch::vt::Control;

const CR0_PG: u64 = 1 << 31;
const CR4_LA57: u64 = 1 << 12;
const EFER_LMA: u64 = 1 << 10;
const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Where a linear address lies, or `None` when the tables do not say. Without paging it is itself; 4-level long mode is
/// walked (APM vol 2 §5.3); the older modes are not, and nobody here needs them.
pub fn translate(ram: &impl GuestRam, control: &Control, linear: u64) -> Option<GuestPhys> {
    let [cr0, cr3, cr4] = control.cr;
    if cr0 & CR0_PG == 0 {
        return GuestPhys::new(linear & 0xffff_ffff);
    }
    if control.efer & EFER_LMA == 0 || cr4 & CR4_LA57 != 0 {
        return None;
    }
    let mut table = cr3 & FRAME;
    for level in (0..4).rev() {
        let shift = 12 + 9 * level;
        let mut entry = [0; 8];
        ram.read(GuestPhys::new_truncate(table | (linear >> shift & 511) << 3), &mut entry).ok()?;
        let entry = u64::from_le_bytes(entry);
        if entry & PRESENT == 0 {
            return None;
        }
        let is_page = level == 0 || (level < 3 && entry & LARGE != 0);
        if is_page {
            let offset = (1 << shift) - 1;
            return Some(GuestPhys::new_truncate(entry & FRAME & !offset | linear & offset));
        }
        table = entry & FRAME;
    }
    None
}
