//! Nested page tables: one walker for both vendors; a zero-sized type defines the vendor's entry format.

use crate::base::addr::{GuestPhys, HostPhys, LARGE_PAGE_BYTES, PAGE_BYTES};

/// A guest's access rights to a page. The guest may read every mapped page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// Read only, no execution: the pages that the hypervisor publishes.
    Read,
    /// Read and write, no execution: shared tables.
    ReadWrite,
    /// Read, write and execute: RAM.
    All,
}

/// A vendor's format of page-table entries.
pub trait EntryFormat {
    /// An entry that maps a page of 4 KiB, or of 2 MiB when `large`.
    fn leaf(frame: HostPhys, rights: Rights, large: bool) -> u64;
    /// An entry that points to a lower table.
    fn table(frame: HostPhys) -> u64;
    /// Whether the entry is present.
    fn is_present(entry: u64) -> bool;
    /// The frame that a present entry maps or points to.
    fn frame(entry: u64) -> HostPhys {
        HostPhys::new_truncate(entry & 0x000f_ffff_ffff_f000)
    }
}

/// AMD's nested page tables: ordinary long-mode tables, whose accesses count as user accesses (APM vol 2 §15.25.5, §5.3).
pub struct Npt;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

impl EntryFormat for Npt {
    fn leaf(frame: HostPhys, rights: Rights, large: bool) -> u64 {
        let rights = match rights {
            Rights::Read => NO_EXECUTE,
            Rights::ReadWrite => WRITE | NO_EXECUTE,
            Rights::All => WRITE,
        };
        frame.raw() | rights | PRESENT | USER | if large { LARGE } else { 0 }
    }

    fn table(frame: HostPhys) -> u64 {
        frame.raw() | PRESENT | WRITE | USER
    }

    fn is_present(entry: u64) -> bool {
        entry & PRESENT != 0
    }
}

/// Intel's extended page tables: entries with their own rights bits, and a memory type in each leaf (SDM vol 3C §28.3.2).
pub struct Ept;

const EPT_READ: u64 = 1 << 0;
const EPT_WRITE: u64 = 1 << 1;
const EPT_EXECUTE: u64 = 1 << 2;
const EPT_ALL: u64 = EPT_READ | EPT_WRITE | EPT_EXECUTE;
/// Write-back, unless the guest's own PAT says otherwise.
const EPT_WRITE_BACK: u64 = 6 << 3;

impl EntryFormat for Ept {
    fn leaf(frame: HostPhys, rights: Rights, large: bool) -> u64 {
        let rights = match rights {
            Rights::Read => EPT_READ,
            Rights::ReadWrite => EPT_READ | EPT_WRITE,
            Rights::All => EPT_ALL,
        };
        frame.raw() | rights | EPT_WRITE_BACK | if large { LARGE } else { 0 }
    }

    fn table(frame: HostPhys) -> u64 {
        frame.raw() | EPT_ALL
    }

    fn is_present(entry: u64) -> bool {
        entry & EPT_ALL != 0
    }
}

/// The memory that holds the page tables.
pub trait TableMemory {
    /// Allocates a zeroed table of 512 entries; `None` when no memory is left.
    fn new_table(&mut self) -> Option<HostPhys>;
    /// Reads an entry; `index` is below 512.
    fn entry(&self, table: HostPhys, index: usize) -> u64;
    /// Sets an entry.
    fn set_entry(&mut self, table: HostPhys, index: usize, value: u64);
}

/// Why a page could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// No frame is left for a table.
    OutOfFrames,
    /// A page or a table is there already.
    Occupied(GuestPhys),
    /// An address or the length is not a multiple of 4 KiB, or the address is past 2^48.
    Unaligned,
}

/// Maps `len_bytes` at `at` to `to`, with 2 MiB pages where both addresses allow. A new mapping in place of an absent one needs no flush,
/// because processors do not cache absent entries (APM vol 2 §5.5.2).
///
/// # Errors
///
/// As [`MapError`] says; pages before the failing one stay mapped.
pub fn map<F: EntryFormat>(
    memory: &mut impl TableMemory,
    root: HostPhys,
    at: GuestPhys,
    to: HostPhys,
    len_bytes: u64,
    rights: Rights,
) -> Result<(), MapError> {
    let unaligned = |value: u64| !value.is_multiple_of(PAGE_BYTES);
    if unaligned(at.raw()) || unaligned(to.raw()) || unaligned(len_bytes) || (at.raw() | len_bytes) >> 47 != 0
    {
        return Err(MapError::Unaligned);
    }
    let mut done = 0;
    while done < len_bytes {
        let (at, hpa) = (GuestPhys::new_truncate(at.raw() + done), to.raw() + done);
        let large = (at.raw() | hpa).is_multiple_of(LARGE_PAGE_BYTES) && len_bytes - done >= LARGE_PAGE_BYTES;
        let leaf = F::leaf(HostPhys::new_truncate(hpa), rights, large);
        let level = u32::from(large);
        let table = prepare::<F>(memory, root, at, level)?;
        if F::is_present(memory.entry(table, index(at.raw(), level))) {
            return Err(MapError::Occupied(at));
        }
        memory.set_entry(table, index(at.raw(), level), leaf);
        done += if large { LARGE_PAGE_BYTES } else { PAGE_BYTES };
    }
    Ok(())
}

/// Whether an entry above the lowest level maps a page, in either format.
const fn is_large(entry: u64) -> bool {
    entry & LARGE != 0
}

fn index(gpa: u64, level: u32) -> usize {
    usize::try_from(gpa >> (12 + 9 * level) & 511).unwrap_or(0)
}

/// Makes the tables around `at` down to `level` (0: of small pages, 1: of large ones), so that later mappings there need no allocation,
/// and returns the lowest table.
///
/// # Errors
///
/// [`MapError::OutOfFrames`], or [`MapError::Occupied`] by a large page.
pub fn prepare<F: EntryFormat>(
    memory: &mut impl TableMemory,
    root: HostPhys,
    at: GuestPhys,
    level: u32,
) -> Result<HostPhys, MapError> {
    let mut table = root;
    for above in (level + 1..4).rev() {
        let index = index(at.raw(), above);
        let entry = memory.entry(table, index);
        table = if !F::is_present(entry) {
            let new = memory.new_table().ok_or(MapError::OutOfFrames)?;
            memory.set_entry(table, index, F::table(new));
            new
        } else if is_large(entry) {
            return Err(MapError::Occupied(at));
        } else {
            F::frame(entry)
        };
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Tables in a vector: table `n` has frame number `n`.
    struct Tables(Vec<[u64; 512]>, usize);

    impl Tables {
        fn new(limit: usize) -> (Self, HostPhys) {
            let mut tables = Self(std::vec![[0; 512]], limit);
            let root = tables.new_table().unwrap();
            (tables, root)
        }

        /// The frame and the entry that an MMU would find.
        fn walk<F: EntryFormat>(&self, root: HostPhys, gpa: u64) -> Option<(u64, u64)> {
            let mut table = root;
            for level in (0..4).rev() {
                let entry = self.entry(table, index(gpa, level));
                if !F::is_present(entry) {
                    return None;
                }
                if level == 0 || level == 1 && is_large(entry) {
                    let mask = (PAGE_BYTES << (9 * level)) - 1;
                    return Some((F::frame(entry).raw() & !mask | gpa & mask, entry));
                }
                table = F::frame(entry);
            }
            None
        }
    }

    impl TableMemory for Tables {
        fn new_table(&mut self) -> Option<HostPhys> {
            if self.0.len() > self.1 {
                return None;
            }
            self.0.push([0; 512]);
            HostPhys::new((self.0.len() as u64 - 1) * PAGE_BYTES)
        }
        fn entry(&self, table: HostPhys, index: usize) -> u64 {
            self.0[(table.raw() / PAGE_BYTES) as usize][index]
        }
        fn set_entry(&mut self, table: HostPhys, index: usize, value: u64) {
            self.0[(table.raw() / PAGE_BYTES) as usize][index] = value;
        }
    }

    fn gpa(raw: u64) -> GuestPhys {
        GuestPhys::new(raw).unwrap()
    }

    fn hpa(raw: u64) -> HostPhys {
        HostPhys::new(raw).unwrap()
    }

    /// The frame that `address` leads to when `pages` pages from `at` on are mapped to `to`.
    fn reaches<F: EntryFormat>(at: u64, to: u64, pages: u64, address: u64) -> Option<u64> {
        let (mut tables, root) = Tables::new(4000);
        map::<F>(&mut tables, root, gpa(at), hpa(to), pages * PAGE_BYTES, Rights::All).unwrap();
        tables.walk::<F>(root, address).map(|hit| hit.0)
    }

    proptest! {
        #[test]
        fn every_mapped_address_reaches_its_frame_and_no_other_is_mapped(
            page in 0u64..1 << 20, frame in 0u64..1 << 20, pages in 1u64..1200, probe in 0u64..1 << 21
        ) {
            let (at, to) = (page * PAGE_BYTES, frame * PAGE_BYTES);
            let address = probe * PAGE_BYTES + 5;
            let reached = (page..page + pages).contains(&probe).then(|| address - at + to);
            prop_assert_eq!(reaches::<Npt>(at, to, pages, address), reached);
            prop_assert_eq!(reaches::<Ept>(at, to, pages, address), reached);
        }
    }

    #[test]
    fn aligned_ranges_get_large_pages() {
        let (mut tables, root) = Tables::new(100);
        map::<Npt>(&mut tables, root, gpa(0), hpa(2 << 20), 4 << 20, Rights::All).unwrap();
        assert_eq!(tables.0.len(), 1 + 3, "root, one directory pointer table, one directory");
    }

    #[test]
    fn a_read_only_page_is_neither_written_nor_executed() {
        let (mut tables, root) = Tables::new(100);
        map::<Npt>(&mut tables, root, gpa(0x1000), hpa(0x1000), 0x1000, Rights::Read).unwrap();
        let entry = tables.walk::<Npt>(root, 0x1000).unwrap().1;
        assert_eq!(entry & (WRITE | NO_EXECUTE), NO_EXECUTE);
    }

    #[test]
    fn an_ept_entry_has_its_rights_and_write_back_memory() {
        // SDM vol 3C §28.3.2: bits 2:0 read, write, execute; 5:3 memory type, 6 is write-back; 7 a large page.
        let cases = [(Rights::Read, 0b001), (Rights::ReadWrite, 0b011), (Rights::All, 0b111)];
        for (rights, bits) in cases {
            assert_eq!(Ept::leaf(hpa(0x20_0000), rights, true) & 0xbf, bits | 6 << 3 | 1 << 7, "{rights:?}");
            assert_eq!(Ept::leaf(hpa(0x5000), rights, false) & 0xbf, bits | 6 << 3, "{rights:?}");
        }
        assert_eq!(Ept::table(hpa(0x7000)) & 0xfff, 0b111, "a table says no memory type");
    }

    #[test]
    fn a_second_mapping_is_refused_and_the_first_stays() {
        let (mut tables, root) = Tables::new(100);
        map::<Npt>(&mut tables, root, gpa(0x1000), hpa(0x5000), 0x1000, Rights::All).unwrap();
        let again = map::<Npt>(&mut tables, root, gpa(0x1000), hpa(0x9000), 0x1000, Rights::All);
        assert_eq!(again, Err(MapError::Occupied(gpa(0x1000))));
        assert_eq!(tables.walk::<Npt>(root, 0x1000).unwrap().0, 0x5000);
    }

    #[test]
    fn a_prepared_window_needs_no_more_tables() {
        let (mut tables, root) = Tables::new(100);
        prepare::<Npt>(&mut tables, root, gpa(0xc000_0000), 0).unwrap();
        tables.1 = 0;
        map::<Npt>(&mut tables, root, gpa(0xc000_5000), hpa(0x5000), 0x1000, Rights::ReadWrite).unwrap();
        let elsewhere = map::<Npt>(&mut tables, root, gpa(0x1_0000_0000), hpa(0), 0x1000, Rights::All);
        assert_eq!(elsewhere, Err(MapError::OutOfFrames));
    }

    #[test]
    fn unaligned_and_huge_requests_are_refused() {
        let (mut tables, root) = Tables::new(100);
        for (at, to, len) in [(1, 0, 4096), (0, 1, 4096), (0, 0, 1), (1 << 48, 0, 4096), (0, 0, 1 << 50)] {
            let refused = map::<Npt>(&mut tables, root, gpa(at), hpa(to), len, Rights::All);
            assert_eq!(refused, Err(MapError::Unaligned), "at={at:#x} to={to:#x} len={len:#x}");
        }
    }
}
