//! The ACPI tables of a guest that is a whole PC: what the emulated devices are, where they are, and how they interrupt.
//!
//! ACPI specification 6.5. RSDP, FACS, DSDT, FADT, MADT and XSDT, in this order, below 1 MiB where a PC's firmware has them. Nothing
//! wakes, sleeps or is plugged: the machine is on, off or reset.

mod aml;
#[cfg(test)]
mod tests;

use super::Piece;
use crate::base::addr::GuestPhys;
use crate::device::{acpi_pm, ioapic, rtc};
use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use alloc::vec;
use alloc::vec::Vec;

/// Where the tables lie, the RSDP first: also where whoever was not told searches for it (§5.2.5.1).
pub const TABLES: GuestPhys = GuestPhys::new_truncate(BASE as u64);
/// No machine's tables are longer.
pub const MAX_BYTES: usize = 64 << 10;

const BASE: u32 = 0xE_0000;
/// What the FACS needs (§5.2.10).
const ALIGN_BYTES: usize = 64;
const OEM: [u8; 6] = *b"COMITY";
const OEM_TABLE: [u8; 8] = *b"COMITYPC";
const OEM_REVISION: u32 = 1;
/// Where processors have their local APIC.
const LOCAL_APIC: u32 = 0xFEE0_0000;
/// What the I/O APIC's id register reads after reset. No local APIC's id is free in its four bits once there are 16 processors, and
/// none need be: without an APIC bus the two are apart (QEMU's PC has 0 as well).
const IO_APIC_ID: u8 = 0;
/// The line of the 8254, and where it enters the I/O APIC: input 0 is the 8259A's.
const TIMER_IRQ: u8 = 0;
const TIMER_GSI: u8 = 2;
/// The system control interrupt.
const SCI: u8 = 9;
/// Written to the reset control register: a hard reset.
const RESET: u8 = 6;
/// A latency from which on C2 and C3 do not exist (table 5.9).
const NO_C_STATE_US: u16 = 0xFFF;

/// IAPC_BOOT_ARCH (table 5.10): LPC devices, no VGA, no MSI; bit 1 would be the 8042, bit 5 a PC without a clock.
const BOOT_ARCHITECTURE: u16 = 1 << 0 | 1 << 2 | 1 << 3;

/// MADT flags (table 5.20): there is a pair of 8259A too.
const PCAT_COMPAT: u32 = 1 << 0;
/// Enabled, of a processor's entry (table 5.22).
const ENABLED: u8 = 1 << 0;
/// MPS INTI flags (table 5.26), trigger in bits 3:2 and polarity in bits 1:0.
const EDGE_HIGH: u8 = 0b01_01;
const LEVEL_HIGH: u8 = 0b11_01;
const ALL_PROCESSORS: u8 = 0xFF;

/// What is described.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// Processors, their APIC ids counting from 0.
    pub vcpus: u8,
    /// The first 256 are described.
    pub devices: &'a [VirtioMmio],
}

/// A virtio device: a page of registers below 4 GiB, and an edge at an input of the I/O APIC that it has for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VirtioMmio {
    at: u32,
    len_bytes: u32,
    gsi: u8,
}

impl VirtioMmio {
    /// Returns the device, or `None` when its registers do not end below 4 GiB or there is no such input.
    pub fn new(at: GuestPhys, len_bytes: u32, gsi: u8) -> Option<Self> {
        let at = u32::try_from(at.raw()).ok()?;
        at.checked_add(len_bytes)?;
        (gsi < ioapic::INPUTS).then_some(Self { at, len_bytes, gsi })
    }
}

/// Writes the tables of `machine`, to lie at [`TABLES`]: at most [`MAX_BYTES`].
pub fn tables(machine: &Machine<'_>) -> Piece<'static> {
    let mut image = Image(vec![0; Rsdp::len()]);
    let facs = image.put(&FACS::new());
    let dsdt = image.put(&dsdt(machine.devices));
    let fadt = image.put(&fadt(facs, dsdt));
    let madt = image.put(&madt(machine.vcpus));
    let mut root = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    root.add_entry(fadt.into());
    root.add_entry(madt.into());
    let root = image.put(&root);
    let mut bytes = Vec::new();
    Rsdp::new(OEM, root.into()).to_aml_bytes(&mut bytes);
    bytes.extend(image.0.into_iter().skip(Rsdp::len()));
    Piece { at: TABLES, bytes: bytes.into() }
}

/// What lies at [`TABLES`].
struct Image(Vec<u8>);

impl Image {
    /// Appends a table and returns its address.
    fn put(&mut self, table: &dyn Aml) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(ALIGN_BYTES), 0);
        #[expect(clippy::cast_possible_truncation, reason = "below MAX_BYTES")]
        let at = BASE + self.0.len() as u32;
        table.to_aml_bytes(&mut self.0);
        at
    }
}

/// FADT (§5.2.9). There is no SMI command port: ACPI mode is on from the start.
fn fadt(facs: u32, dsdt: u32) -> FADT {
    let block = |port: u16, len_bytes: u8| {
        GAS::new(AddressSpace::SystemIo, len_bytes * 8, 0, AccessSize::Undefined, port.into())
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .firmware_ctrl_32(facs)
        .dsdt_64(dsdt.into())
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // A button in the DSDT, and there is none.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        // No alarm status in PM1.
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup);
    fadt.dsdt = dsdt.into();
    fadt.sci_int = u16::from(SCI).into();
    fadt.pm1a_evt_blk = u32::from(acpi_pm::PM1_EVENT).into();
    fadt.pm1_evt_len = 4;
    fadt.x_pm1a_evt_blk = block(acpi_pm::PM1_EVENT, 4);
    fadt.pm1a_cnt_blk = u32::from(acpi_pm::PM1_CONTROL).into();
    fadt.pm1_cnt_len = 2;
    fadt.x_pm1a_cnt_blk = block(acpi_pm::PM1_CONTROL, 2);
    fadt.pm_tmr_blk = u32::from(acpi_pm::PM_TIMER).into();
    fadt.pm_tmr_len = 4;
    fadt.x_pm_tmr_blk = block(acpi_pm::PM_TIMER, 4);
    fadt.p_lvl2_lat = NO_C_STATE_US.into();
    fadt.p_lvl3_lat = NO_C_STATE_US.into();
    fadt.century = rtc::CENTURY;
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg =
        GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, acpi_pm::RESET_CONTROL.into());
    fadt.reset_value = RESET;
    fadt.finalize()
}

/// MADT (§5.2.12). Not the crate's: that one has no flags, and neither overrides nor NMI.
fn madt(vcpus: u8) -> Sdt {
    const HEADER_BYTES: u32 = 36;
    const REVISION: u8 = 6;
    let mut body = Vec::new();
    body.extend(LOCAL_APIC.to_le_bytes());
    body.extend(PCAT_COMPAT.to_le_bytes());
    for id in 0..vcpus {
        body.extend([0, 8, id, id, ENABLED, 0, 0, 0]);
    }
    body.extend([1, 12, IO_APIC_ID, 0]);
    body.extend(ioapic::ADDRESS.to_le_bytes());
    body.extend(0_u32.to_le_bytes());
    for (irq, gsi, flags) in [(TIMER_IRQ, TIMER_GSI, EDGE_HIGH), (SCI, SCI, LEVEL_HIGH)] {
        body.extend([2, 10, 0, irq, gsi, 0, 0, 0, flags, 0]);
    }
    // NMI at LINT1 of each.
    body.extend([4, 6, ALL_PROCESSORS, 0, 0, 1]);
    let mut madt = Sdt::new(*b"APIC", HEADER_BYTES, REVISION, OEM, OEM_TABLE, OEM_REVISION);
    madt.append_slice(&body);
    madt
}

/// DSDT (§5.2.11.1); revision 2 makes its integers 64 bits wide.
fn dsdt(devices: &[VirtioMmio]) -> Sdt {
    const HEADER_BYTES: u32 = 36;
    const REVISION: u8 = 2;
    let mut dsdt = Sdt::new(*b"DSDT", HEADER_BYTES, REVISION, OEM, OEM_TABLE, OEM_REVISION);
    dsdt.append_slice(&aml::definition(devices));
    dsdt
}
