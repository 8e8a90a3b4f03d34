//! The I/O APICs: every input is masked but COM1's. Intel 82093AA data sheet, order number 290566-001.
#![expect(unsafe_code, reason = "memory-mapped registers")]

use super::apic::SERIAL_VECTOR;
use alloc::vec::Vec;

/// The I/O APICs' inputs, by which devices interrupt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inputs {
    /// All I/O APICs of the machine.
    pub io_apics: Vec<IoApic>,
    /// Global number of COM1's input, counted over all I/O APICs.
    pub com1: u32,
}

/// An I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u32,
    /// Global number of its first input.
    pub first_line: u32,
}

/// Offsets of IOREGSEL, which takes a register's number, and of IOWIN, its content.
const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
/// Version register; bits 23:16 are the number of the last input.
const VERSION: u32 = 1;
/// First register of the redirection table, which has two registers per input.
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
/// Most inputs that fit into the register numbers, which are one byte wide.
const MAX_LINES: u32 = 120;

/// Masks every input, regardless of its use by firmware and loader, except COM1's: that one interrupts the processor with local APIC
/// id `to`, edge-triggered, by [`SERIAL_VECTOR`], so that an idle machine notices input from the terminal.
///
/// # Safety
///
/// The pages of the I/O APICs are mapped at their physical addresses, firmware's tables name them (or a PC has one there), and nothing
/// else drives them.
pub unsafe fn take_over(inputs: &Inputs, to: u32) {
    for io_apic in &inputs.io_apics {
        // SAFETY: by contract; the registers written belong to inputs that the I/O APIC has.
        let count = unsafe { (read(io_apic.address, VERSION) >> 16 & 0xff) + 1 }.min(MAX_LINES);
        let com1 = inputs.com1.wrapping_sub(io_apic.first_line);
        for line in 0..count {
            let entry = REDIRECTION + 2 * line;
            // SAFETY: as before. The half with the mask bit is written first; the other half holds the destination.
            unsafe {
                write(io_apic.address, entry, MASKED);
                if line == com1 && to < 0xff {
                    write(io_apic.address, entry + 1, to << 24);
                    write(io_apic.address, entry, u32::from(SERIAL_VECTOR));
                }
            }
        }
    }
}

/// Selects a register; returns the address of the I/O APIC's page.
///
/// # Safety
///
/// As for [`read`].
unsafe fn select(address: u32, number: u32) -> *mut u32 {
    let base = core::ptr::with_exposed_provenance_mut::<u32>(address as usize);
    // SAFETY: by contract; the offset lies in the page, aligned.
    unsafe { base.byte_add(SELECT).write_volatile(number) };
    base
}

/// # Safety
///
/// An I/O APIC is mapped at this address.
unsafe fn read(address: u32, number: u32) -> u32 {
    // SAFETY: by contract.
    unsafe { select(address, number).byte_add(WINDOW).read_volatile() }
}

/// # Safety
///
/// As for [`read`], and nothing else drives the I/O APIC.
unsafe fn write(address: u32, number: u32, value: u32) {
    // SAFETY: by contract.
    unsafe { select(address, number).byte_add(WINDOW).write_volatile(value) };
}
