//! What the DSDT defines: how to switch off, and the devices that an operating system cannot find by itself.

use super::VirtioMmio;
use crate::device::{bus, rtc};
use acpi_tables::Aml;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, PackageBuilder, ResourceTemplate, Scope,
};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// SLP_TYP of S5, as in [`crate::device::acpi_pm`].
const SOFT_OFF: u8 = 0;
const COM1_PORTS: u8 = 8;
const CLOCK_PORTS: u8 = 2;

pub(super) fn definition(devices: &[VirtioMmio]) -> Vec<u8> {
    let mut scope = Vec::new();
    legacy(&mut scope, "COM1", "PNP0501", &ports(bus::COM1, COM1_PORTS), bus::COM1_IRQ);
    legacy(&mut scope, "RTC_", "PNP0B00", &ports(rtc::INDEX, CLOCK_PORTS), bus::CLOCK_IRQ);
    for (device, index) in devices.iter().zip(0..=u8::MAX) {
        virtio(&mut scope, *device, index);
    }
    let mut code = Vec::new();
    let mut package = PackageBuilder::new();
    // For PM1a and PM1b control; the others are reserved.
    for element in [SOFT_OFF, SOFT_OFF, 0, 0] {
        package.add_element(&element);
    }
    Name::new("_S5_".into(), &package).to_aml_bytes(&mut code);
    code.extend(Scope::raw("\\_SB_".into(), scope));
    code
}

fn ports(first: u16, count: u8) -> IO {
    IO::new(first, first, 1, count)
}

/// A range, and an interrupt that its device consumes: an edge, high, not shared.
fn resources(range: &dyn Aml, gsi: u8) -> Name {
    let interrupt = Interrupt::new(true, true, false, false, gsi.into());
    Name::new("_CRS".into(), &ResourceTemplate::new(vec![range, &interrupt]))
}

fn legacy(code: &mut Vec<u8>, name: &str, id: &str, ports: &IO, irq: u8) {
    let id = Name::new("_HID".into(), &EISAName::new(id));
    Device::new(name.into(), vec![&id, &resources(ports, irq)]).to_aml_bytes(code);
}

/// As in Linux' virtio_mmio.c.
fn virtio(code: &mut Vec<u8>, device: VirtioMmio, index: u8) {
    let id = Name::new("_HID".into(), &"LNRO0005");
    let unique = Name::new("_UID".into(), &index);
    let coherent = Name::new("_CCA".into(), &1_u8);
    let registers = Memory32Fixed::new(true, device.at, device.len_bytes);
    let resources = resources(&registers, device.gsi);
    let name = format!("VR{index:02X}");
    Device::new(name.as_str().into(), vec![&id, &unique, &coherent, &resources]).to_aml_bytes(code);
}
