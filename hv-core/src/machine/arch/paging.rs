//! Guard pages in the entry code's page tables, which map physical memory at its own address (APM vol 2 §5.3).
#![expect(unsafe_code, reason = "page tables through raw pointers, and INVLPG")]

use crate::base::addr::{HostPhys, LARGE_PAGE_BYTES, PAGE_BYTES};
use crate::machine::memory::Memory;
use core::ptr;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::Cr3;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Returns the address of an entry of one of the hypervisor's page tables.
///
/// # Safety
///
/// `table` is a page table made by the entry code or by [`unmap`].
unsafe fn entry(table: u64, index: u64) -> *mut u64 {
    let table = ptr::with_exposed_provenance_mut::<u64>(usize::try_from(table & ADDRESS).unwrap_or(0));
    // SAFETY: the caller promises a table, and the index is one of its 512.
    unsafe { table.add(usize::try_from(index & 511).unwrap_or(0)) }
}

/// Unmaps pages for every processor: an access to them faults. Returns false if no memory is left for a table.
///
/// # Safety
///
/// Only one processor runs, or none has touched the pages yet; and the pages hold no data.
pub unsafe fn unmap(memory: &mut Memory, start: HostPhys, len_bytes: u64) -> bool {
    let pages = (start.raw()..start.raw() + len_bytes).step_by(4096);
    // SAFETY: by contract.
    pages.into_iter().all(|at| unsafe { unmap_page(memory, at) })
}

/// # Safety
///
/// As for [`unmap`].
unsafe fn unmap_page(memory: &mut Memory, at: u64) -> bool {
    // SAFETY: CR3 holds the entry code's tables, which map themselves (I-4); two levels down, each entry leads to the next
    // table, and no other code changes them (contract).
    unsafe {
        let pdpt = entry(Cr3::read_raw().0.start_address().as_u64(), at >> 39).read_volatile();
        let directory = entry(pdpt, at >> 30).read_volatile();
        let leaf = entry(directory, at >> 21);
        if leaf.read_volatile() & LARGE != 0 {
            let Some(table) = memory.pages(1, PAGE_BYTES) else { return false };
            let base = at & !(LARGE_PAGE_BYTES - 1);
            for index in 0..512 {
                entry(table.raw(), index).write_volatile((base + index * PAGE_BYTES) | PRESENT | WRITABLE);
            }
            leaf.write_volatile(table.raw() | PRESENT | WRITABLE);
        }
        entry(leaf.read_volatile(), at >> 12).write_volatile(0);
    }
    tlb::flush(VirtAddr::new_truncate(at));
    true
}
