//! The firmware's tables, as far as they name processors and the way to power off: RSDP, RSDT or XSDT, MADT, FADT, and the package
//! \_S5 of the DSDT (ACPI 6.5 §5.2.5, §5.2.7 … §5.2.9, §5.2.12, §7.4.2).
//!
//! The parser reads through a closure that copies physical memory, so that it runs on the host too. It does not trust the tables: each
//! length is bounded, each sum is checked. The crate `acpi` is not used for this: its handler requires port, PCI and time services
//! that this parser does not need (decision 0011).

use crate::base::id::MAX_CPUS;
use crate::machine::arch::calibrate::PmTimer;
use crate::machine::arch::exit::SoftOff;
use crate::machine::arch::ioapic::{Inputs, IoApic};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Longest table that the parser reads, in bytes.
const MAX_TABLE_BYTES: usize = 1 << 20;
/// Most entries of the root table that the parser follows.
const MAX_TABLES: usize = 256;
/// Length of a table's header, in bytes.
const HEADER_BYTES: usize = 36;
/// Physical addresses at which a PC's firmware leaves the RSDP, searched if the loader passes none.
const BIOS_AREA: core::ops::Range<u64> = 0xe_0000..0x10_0000;

/// The reason why the tables do not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcpiError {
    /// No RSDP lies at the loader's address, nor in the BIOS area.
    NoRsdp,
    /// A table's sum or length is wrong; carries its signature.
    BadTable([u8; 4]),
    /// The root table names no table of this signature.
    Missing([u8; 4]),
    /// The DSDT has no \_S5 package that can be read without interpreting it.
    NoS5,
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRsdp => f.write_str("no ACPI RSDP"),
            Self::BadTable(name) => write!(f, "bad ACPI table {}", name.escape_ascii()),
            Self::Missing(name) => write!(f, "no ACPI table {}", name.escape_ascii()),
            Self::NoS5 => f.write_str("no ACPI \\_S5"),
        }
    }
}

/// Lowest local APIC id that is no destination for an xAPIC: 255 addresses all processors, and higher ids need x2APIC mode. The
/// hypervisor does not use processors with such ids.
const FIRST_WIDE_ID: u32 = 255;
/// Most I/O APICs that the hypervisor uses.
const MAX_IO_APICS: usize = 64;
/// COM1's interrupt on the ISA bus.
const COM1_IRQ: u8 = 4;

/// The machine's interrupt controllers, as the MADT lists them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Controllers {
    /// Local APIC ids of the usable processors but the first, in the order of the table: at most [`MAX_CPUS`] less one.
    pub others: Vec<u32>,
    /// Enabled processors that the hypervisor does not use.
    pub left_out: LeftOut,
    /// The inputs of the I/O APICs, by which devices interrupt.
    pub inputs: Inputs,
}

/// Numbers of enabled processors that the hypervisor does not use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeftOut {
    /// Processors beyond [`MAX_CPUS`].
    pub too_many: u32,
    /// Processors with local APIC ids from 255 on.
    pub wide: u32,
}

impl Controllers {
    /// The controllers that every PC has, for a machine whose tables list none.
    pub fn of_pc() -> Self {
        let io_apics = vec![IoApic { address: 0xfec0_0000, first_line: 0 }];
        Self {
            others: Vec::new(),
            left_out: LeftOut::default(),
            inputs: Inputs { io_apics, com1: COM1_IRQ.into() },
        }
    }

    /// Adds an enabled processor. `first` is the id of the one that runs already.
    fn note(&mut self, id: u32, first: u32) {
        if id == first || self.others.contains(&id) {
            return;
        }
        if id >= FIRST_WIDE_ID {
            self.left_out.wide += 1;
        } else if self.others.len() + 1 < MAX_CPUS {
            self.others.push(id);
        } else {
            self.left_out.too_many += 1;
        }
    }
}

/// Finds the machine's interrupt controllers. `read` copies physical memory and returns whether it could; `rsdp` is the RSDP's address
/// from the loader, or 0; `first` is the local APIC id of the processor that runs.
///
/// # Errors
///
/// What is missing or broken.
pub fn controllers(
    read: impl Fn(u64, &mut [u8]) -> bool,
    rsdp: u64,
    first: u32,
) -> Result<Controllers, AcpiError> {
    let tables = Tables { read };
    let madt = tables.find(rsdp, *b"APIC")?;
    // The local APIC's address and flags follow the header; then entries, each with a kind, a length and a body.
    let mut rest = madt.get(HEADER_BYTES + 8..).unwrap_or_default();
    let mut found = Controllers::of_pc();
    let mut io_apics = Vec::new();
    while let [kind, len, ..] = rest {
        let Some((entry, after)) = rest.split_at_checked(usize::from(*len).max(2)) else { break };
        rest = after;
        // Bit 0 of a processor's flags means enabled. Bit 1, "could be enabled later", is ignored.
        match kind {
            0 if word(entry, 4).is_some_and(|flags| flags & 1 != 0) => {
                found.note(entry.get(3).copied().unwrap_or(u8::MAX).into(), first);
            }
            9 if word(entry, 8).is_some_and(|flags| flags & 1 != 0) => {
                found.note(word(entry, 4).unwrap_or(u32::MAX), first);
            }
            1 => {
                if let (Some(address), Some(first_line)) = (word(entry, 4), word(entry, 8))
                    && io_apics.len() < MAX_IO_APICS
                {
                    io_apics.push(IoApic { address, first_line });
                }
            }
            // An override: an interrupt of the ISA bus (0) that is not on the input of its own number.
            2 if entry.get(2..4) == Some(&[0, COM1_IRQ]) => {
                found.inputs.com1 = word(entry, 4).unwrap_or(found.inputs.com1);
            }
            _ => {}
        }
    }
    if !io_apics.is_empty() {
        found.inputs.io_apics = io_apics;
    }
    Ok(found)
}

/// Finds the power-management timer; `None` if the machine has none. `read` and `rsdp` as for [`controllers`].
///
/// # Errors
///
/// What is missing or broken.
pub fn pm_timer(read: impl Fn(u64, &mut [u8]) -> bool, rsdp: u64) -> Result<Option<PmTimer>, AcpiError> {
    /// TMR_VAL_EXT in the FADT's flags: the timer has 32 bits.
    const WIDE: u32 = 1 << 8;
    let fadt = Tables { read }.find(rsdp, *b"FACP")?;
    let bits = if word(&fadt, 112).is_some_and(|flags| flags & WIDE != 0) { 32 } else { 24 };
    let port = word(&fadt, 76).and_then(|port| u16::try_from(port).ok());
    Ok(port.filter(|port| *port != 0).map(|port| PmTimer { port, bits }))
}

/// Finds the registers and values for powering off. `read` and `rsdp` as for [`controllers`].
///
/// # Errors
///
/// What is missing or broken.
pub fn soft_off(read: impl Fn(u64, &mut [u8]) -> bool, rsdp: u64) -> Result<SoftOff, AcpiError> {
    let tables = Tables { read };
    let fadt = tables.find(rsdp, *b"FACP")?;
    let port = |at| word(&fadt, at).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    let wide = u64::from(word(&fadt, 140).unwrap_or(0)) | u64::from(word(&fadt, 144).unwrap_or(0)) << 32;
    let narrow = word(&fadt, 40).map_or(0, u64::from);
    let dsdt = tables.table(if wide != 0 { wide } else { narrow })?;
    let kind = s5(&dsdt).ok_or(AcpiError::NoS5)?;
    let enable = (port(48), fadt.get(52).copied().unwrap_or(0));
    Ok(SoftOff { control: [port(64), port(68)], kind, enable })
}

/// Returns the first two elements of the package named _S5_ (§20.2.5: name, PackageOp, length, count, elements), if they are small
/// integers, as on all known machines.
fn s5(dsdt: &[u8]) -> Option<[u8; 2]> {
    const NAME: &[u8] = b"_S5_\x12";
    let at = dsdt.windows(NAME.len()).position(|window| window == NAME)?;
    let rest = dsdt.get(at + NAME.len()..)?;
    // Bits 7:6 of the length's first byte are the number of length bytes that follow; then comes the count.
    let after_length = rest.get(1 + usize::from(rest.first()? >> 6)..)?;
    let elements = after_length.get(1..)?;
    let (first, rest) = small(elements)?;
    let (second, _) = small(rest)?;
    Some([first, second])
}

/// Decodes an integer that is valid for SLP_TYP; returns it and the code after it.
fn small(code: &[u8]) -> Option<(u8, &[u8])> {
    let (value, rest) = match code {
        [value @ (0 | 1), rest @ ..] | [0x0a, value, rest @ ..] => (*value, rest),
        _ => return None,
    };
    (value < 8).then_some((value, rest))
}

/// Returns the 32-bit little-endian word at a byte offset.
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

    /// Returns the root table's address and the width of its entries, in bytes.
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

    /// Reads a whole table and checks its sum.
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

    /// Returns the first table with this signature.
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
        Err(AcpiError::Missing(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: u64 = 0xe_0000;

    /// A firmware with an RSDP at its beginning, an RSDT and a MADT with these entries.
    fn firmware(entries: &[u8]) -> Vec<u8> {
        let mut memory = vec![0; 8192];
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
        put(0x100, &table(b"RSDT", &[address(0x700), address(0x300)].concat()), 9);
        let mut fadt = [0; 240];
        fadt[40 - 36..44 - 36].copy_from_slice(&address(0x500));
        fadt[48 - 36..53 - 36].copy_from_slice(&[0xb2, 0, 0, 0, 2]);
        fadt[64 - 36..66 - 36].copy_from_slice(&[0x04, 0xb0]);
        fadt[76 - 36..78 - 36].copy_from_slice(&[0x08, 0xb0]);
        put(0x700, &table(b"FACP", &fadt), 9);
        put(0x500, &table(b"DSDT", b"\x10\x05junk\x08_S5_\x12\x06\x04\x0a\x05\x01\0\0more"), 9);
        put(0x300, &table(b"APIC", &[&[0; 8], entries].concat()), 9);
        memory
    }

    fn reader(memory: &[u8]) -> impl Fn(u64, &mut [u8]) -> bool {
        |at: u64, into: &mut [u8]| {
            let from = at.checked_sub(BASE).and_then(|at| memory.get(usize::try_from(at).ok()?..));
            match from.and_then(|from| from.get(..into.len())) {
                Some(from) => {
                    into.copy_from_slice(from);
                    true
                }
                None => false,
            }
        }
    }

    fn find(memory: &[u8], rsdp: u64) -> Result<Vec<u32>, AcpiError> {
        controllers(reader(memory), rsdp, 0).map(|found| found.others)
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
            assert_eq!(find(&memory, rsdp), Ok(vec![4]), "rsdp={rsdp:#x}");
        }
        let found = controllers(reader(&memory), BASE, 4).unwrap();
        assert_eq!((found.others, found.left_out), (vec![0], LeftOut { too_many: 0, wide: 1 }));
        assert_eq!(found.inputs, Controllers::of_pc().inputs);
    }

    /// Processors of these ids, enabled.
    fn processors(ids: impl Iterator<Item = u8>) -> Vec<u8> {
        ids.flat_map(|id| [0, 8, 0, id, 1, 0, 0, 0]).collect()
    }

    #[test]
    fn more_processors_than_are_used_are_left_out_and_the_first_one_is_always_one_of_them() {
        let wide = [9, 16, 0, 0, 255, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0];
        for first in [0, 1, 63, 64, 99] {
            // Ids that are repeated, disabled, or no destination take no slot.
            let mut entries = processors([255, 5, 5].into_iter());
            entries.extend(wide.repeat(3));
            entries.extend([0, 8, 0, 77, 2, 0, 0, 0]);
            entries.extend(processors(0..100));
            let found = controllers(reader(&firmware(&entries)), BASE, first).unwrap();
            assert_eq!(found.others.len(), MAX_CPUS - 1, "first={first}");
            assert!(!found.others.contains(&first) && !found.others.contains(&255), "first={first}");
            assert_eq!(found.left_out, LeftOut { too_many: 36, wide: 4 }, "first={first}");
            assert_eq!(found.others[0], 5);
        }
        let found = controllers(reader(&firmware(&processors(0..64))), BASE, 63).unwrap();
        assert_eq!((found.others.len(), found.left_out), (63, LeftOut::default()));
    }

    #[test]
    fn every_io_apic_is_found_and_com1_on_the_line_that_firmware_says() {
        let entries = [
            1, 12, 8, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0, // at 0xfec00000, from line 0
            1, 12, 9, 0, 0, 0x10, 0xc0, 0xfe, 24, 0, 0, 0, // at 0xfec01000, from line 24
            2, 10, 0, 0, 2, 0, 0, 0, 0, 0, // the timer is on line 2
            2, 10, 0, 4, 28, 0, 0, 0, 0, 0, // COM1 on line 28
        ];
        let inputs = controllers(reader(&firmware(&entries)), BASE, 0).unwrap().inputs;
        let [first, second] =
            [(0xfec0_0000, 0), (0xfec0_1000, 24)].map(|(address, first_line)| IoApic { address, first_line });
        assert_eq!(inputs, Inputs { io_apics: vec![first, second], com1: 28 });
        let many = entries[..12].repeat(MAX_IO_APICS + 5);
        assert_eq!(
            controllers(reader(&firmware(&many)), BASE, 0).unwrap().inputs.io_apics.len(),
            MAX_IO_APICS
        );
    }

    #[test]
    fn a_broken_table_is_named() {
        let mut memory = firmware(&THREE);
        memory[0x300 + 40] ^= 1;
        assert_eq!(find(&memory, BASE), Err(AcpiError::BadTable(*b"APIC")));
        memory[0x300] = b'X';
        assert_eq!(find(&memory, BASE), Err(AcpiError::Missing(*b"APIC")));
        memory[0x100 + 7] = 0xff;
        assert_eq!(find(&memory, BASE), Err(AcpiError::BadTable(*b"RSDT")));
        assert_eq!(find(&memory[16..], 0), Err(AcpiError::NoRsdp));
    }

    #[test]
    fn the_power_management_timer_is_24_bits_wide_unless_it_says_32() {
        let timer = |memory: &[u8]| pm_timer(reader(memory), BASE);
        let memory = firmware(&THREE);
        assert_eq!(timer(&memory), Ok(Some(PmTimer { port: 0xb008, bits: 24 })));
        let with = |changes: &[(usize, u8)]| {
            let mut memory = memory.clone();
            for (at, byte) in changes {
                memory[0x700 + 9] = memory[0x700 + 9].wrapping_add(memory[0x700 + at]).wrapping_sub(*byte);
                memory[0x700 + at] = *byte;
            }
            memory
        };
        assert_eq!(timer(&with(&[(113, 1)])), Ok(Some(PmTimer { port: 0xb008, bits: 32 })));
        assert_eq!(timer(&with(&[(76, 0), (77, 0)])), Ok(None));
        assert_eq!(timer(&with(&[(78, 1)])), Ok(None), "no port");
    }

    #[test]
    fn the_way_to_power_off_is_read_from_two_tables() {
        let memory = firmware(&THREE);
        let expected = SoftOff { control: [0xb004, 0], kind: [5, 1], enable: (0xb2, 2) };
        assert_eq!(soft_off(reader(&memory), BASE), Ok(expected));
        let mut other = memory.clone();
        other[0x500 + HEADER_BYTES + 7] = b'X'; // no more _S5_, and a wrong sum
        assert_eq!(soft_off(reader(&other), BASE), Err(AcpiError::BadTable(*b"DSDT")));
        assert_eq!(s5(b"_S5_\x12"), None);
        assert_eq!(s5(b"_S5_\x12\x06\x02\x0a\x09\0"), None, "no SLP_TYP");
        assert_eq!(s5(b"_S5_\x12\x46\x02\x04\0\x0a\x07"), Some([0, 7]), "a long length");
    }

    proptest! {
        #[test]
        fn no_firmware_breaks_the_reader(changes in prop::collection::vec((0_usize..0x900, any::<u8>()), 0..8), entries in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut memory = firmware(&entries);
            for (at, byte) in changes {
                memory[at] = byte;
            }
            if let Ok(found) = controllers(reader(&memory), BASE, 0) {
                prop_assert!(found.others.len() < MAX_CPUS && found.others.iter().all(|id| (1..255).contains(id)));
                prop_assert!(found.inputs.io_apics.len() <= MAX_IO_APICS);
            }
            if let Ok(off) = soft_off(reader(&memory), BASE) {
                prop_assert!(off.kind.iter().all(|kind| *kind < 8));
            }
            if let Ok(Some(timer)) = pm_timer(reader(&memory), BASE) {
                prop_assert!(timer.port != 0);
            }
        }
    }
}
