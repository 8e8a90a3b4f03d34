//! The firmware's tables, as far as they name processors: RSDP, RSDT or XSDT, MADT (ACPI 6.5 §5.2.5, §5.2.7, §5.2.8, §5.2.12).
//!
//! Read through a closure that copies physical memory, so that it runs on the host too. Of the tables nothing is believed: each
//! length is bounded, each sum is checked. The crate `acpi` is not used for this: its handler wants port, PCI and time services
//! that nothing here needs (decision 0011).

use crate::base::id::MAX_CPUS;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Longest table that is read, in bytes.
const MAX_TABLE_BYTES: usize = 64 << 10;
/// Most tables that are looked at.
const MAX_TABLES: usize = 256;
/// Bytes of a table's header.
const HEADER_BYTES: usize = 36;
/// Where a PC's firmware leaves the RSDP, if the loader names none.
const BIOS_AREA: core::ops::Range<u64> = 0xe_0000..0x10_0000;

/// Why the processors are not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcpiError {
    /// No RSDP where the loader says, nor in the BIOS area.
    NoRsdp,
    /// A table whose sum or length is wrong: its signature.
    BadTable([u8; 4]),
    /// No MADT.
    NoMadt,
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRsdp => f.write_str("no ACPI RSDP"),
            Self::BadTable(name) => write!(f, "bad ACPI table {}", name.escape_ascii()),
            Self::NoMadt => f.write_str("no ACPI MADT"),
        }
    }
}

/// Returns the local APIC ids of the usable processors, in the order of the firmware's table, at most [`MAX_CPUS`].
/// `read` copies physical memory and says whether it could; `rsdp` is where the loader saw it, or 0.
///
/// # Errors
///
/// What is missing or broken.
pub fn processors(read: impl Fn(u64, &mut [u8]) -> bool, rsdp: u64) -> Result<Vec<u32>, AcpiError> {
    let tables = Tables { read };
    let madt = tables.find(rsdp, *b"APIC")?;
    // After the header: the local APIC's address and flags; then entries of a kind, a length, and the rest.
    let mut rest = madt.get(HEADER_BYTES + 8..).unwrap_or_default();
    let mut ids = Vec::new();
    while let [kind, len, ..] = rest {
        let Some((entry, after)) = rest.split_at_checked(usize::from(*len).max(2)) else { break };
        rest = after;
        let (id, flags) = match kind {
            0 => (entry.get(3).map(|id| u32::from(*id)), word(entry, 4)),
            9 => (word(entry, 4), word(entry, 8)),
            _ => continue,
        };
        // Bit 0: enabled. Bit 1, "could be enabled later", is no use here.
        if let (Some(id), Some(flags)) = (id, flags)
            && flags & 1 != 0
            && !ids.contains(&id)
            && ids.len() < MAX_CPUS
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// A little-endian word at a byte offset.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

struct Tables<F> {
    read: F,
}

impl<F: Fn(u64, &mut [u8]) -> bool> Tables<F> {
    fn bytes<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.read)(at, &mut bytes).then_some(bytes)
    }

    /// Where the root table is, and how wide its entries are.
    fn root(&self, rsdp: u64) -> Option<(u64, usize)> {
        let rsdp: [u8; 36] = self.bytes(rsdp)?;
        if rsdp.get(..8)? != b"RSD PTR " || !sums_to_zero(rsdp.get(..20)?) {
            return None;
        }
        let rsdt = u64::from(word(&rsdp, 16)?);
        let xsdt = u64::from_le_bytes(*rsdp.get(24..)?.first_chunk()?);
        let revision = *rsdp.get(15)?;
        if revision >= 2 && xsdt != 0 && sums_to_zero(&rsdp) { Some((xsdt, 8)) } else { Some((rsdt, 4)) }
    }

    /// A table, whole, if its sum is right.
    fn table(&self, at: u64) -> Result<Vec<u8>, AcpiError> {
        let header: [u8; HEADER_BYTES] = self.bytes(at).ok_or(AcpiError::BadTable(*b"????"))?;
        let name = *header.first_chunk().unwrap_or(b"????");
        let len = word(&header, 4).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|len| (HEADER_BYTES..=MAX_TABLE_BYTES).contains(len));
        let mut table = vec![0; len.ok_or(AcpiError::BadTable(name))?];
        if (self.read)(at, &mut table) && sums_to_zero(&table) {
            Ok(table)
        } else {
            Err(AcpiError::BadTable(name))
        }
    }

    /// The first table of this name.
    fn find(&self, rsdp: u64, name: [u8; 4]) -> Result<Vec<u8>, AcpiError> {
        let given = (rsdp != 0).then(|| self.root(rsdp)).flatten();
        let searched = || BIOS_AREA.step_by(16).find_map(|at| self.root(at));
        let (root, width) = given.or_else(searched).ok_or(AcpiError::NoRsdp)?;
        let root = self.table(root)?;
        let entries = root.get(HEADER_BYTES..).unwrap_or_default().chunks_exact(width).take(MAX_TABLES);
        for entry in entries {
            let low = u64::from(word(entry, 0).unwrap_or(0));
            let at = low | u64::from(word(entry, 4).unwrap_or(0)) << 32;
            if self.bytes::<4>(at) == Some(name) {
                return self.table(at);
            }
        }
        Err(AcpiError::NoMadt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: u64 = 0xe_0000;

    /// A firmware with an RSDP at its beginning, an RSDT and a MADT with these entries.
    fn firmware(entries: &[u8]) -> Vec<u8> {
        let mut memory = vec![0; 4096];
        let mut put = |at: usize, bytes: &[u8], sum_at: usize| {
            memory[at..at + bytes.len()].copy_from_slice(bytes);
            let sum = memory[at..at + bytes.len()].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            memory[at + sum_at] = memory[at + sum_at].wrapping_sub(sum);
        };
        let address = |at: usize| (u32::try_from(BASE).unwrap() + u32::try_from(at).unwrap()).to_le_bytes();
        let mut rsdp = *b"RSD PTR \0OEMOEM\0\0\0\0\0";
        rsdp[16..20].copy_from_slice(&address(0x100));
        put(0, &rsdp, 8);
        let table = |name: &[u8; 4], body: &[u8]| {
            let mut table = vec![0; HEADER_BYTES];
            table[..4].copy_from_slice(name);
            table.extend_from_slice(body);
            let len = u32::try_from(table.len()).unwrap();
            table[4..8].copy_from_slice(&len.to_le_bytes());
            table
        };
        put(0x100, &table(b"RSDT", &[address(0x200), address(0x300)].concat()), 9);
        put(0x200, &table(b"FACP", &[0; 8]), 9);
        put(0x300, &table(b"APIC", &[&[0; 8], entries].concat()), 9);
        memory
    }

    fn find(memory: &[u8], rsdp: u64) -> Result<Vec<u32>, AcpiError> {
        let read = |at: u64, into: &mut [u8]| {
            let from = at.checked_sub(BASE).and_then(|at| memory.get(usize::try_from(at).ok()?..));
            match from.and_then(|from| from.get(..into.len())) {
                Some(from) => {
                    into.copy_from_slice(from);
                    true
                }
                None => false,
            }
        };
        processors(read, rsdp)
    }

    const THREE: [u8; 40] = [
        0, 8, 0, 0, 1, 0, 0, 0, // processor 0, APIC 0, enabled
        0, 8, 1, 4, 1, 0, 0, 0, // processor 1, APIC 4, enabled
        0, 8, 2, 5, 0, 0, 0, 0, // disabled
        9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, // x2APIC 0x100
    ];

    #[test]
    fn enabled_processors_are_named_in_the_tables_order() {
        let memory = firmware(&THREE);
        for rsdp in [0, BASE, 0x1234] {
            assert_eq!(find(&memory, rsdp), Ok(vec![0, 4, 0x100]), "rsdp={rsdp:#x}");
        }
    }

    #[test]
    fn a_broken_table_is_named() {
        let mut memory = firmware(&THREE);
        memory[0x300 + 40] ^= 1;
        assert_eq!(find(&memory, BASE), Err(AcpiError::BadTable(*b"APIC")));
        memory[0x300] = b'X';
        assert_eq!(find(&memory, BASE), Err(AcpiError::NoMadt));
        memory[0x100 + 7] = 0xff;
        assert_eq!(find(&memory, BASE), Err(AcpiError::BadTable(*b"RSDT")));
        assert_eq!(find(&memory[16..], 0), Err(AcpiError::NoRsdp));
    }

    proptest! {
        #[test]
        fn no_firmware_breaks_the_reader(changes in prop::collection::vec((0_usize..0x400, any::<u8>()), 0..8), entries in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut memory = firmware(&entries);
            for (at, byte) in changes {
                memory[at] = byte;
            }
            if let Ok(ids) = find(&memory, BASE) {
                prop_assert!(ids.len() <= MAX_CPUS);
            }
        }
    }
}
