//! The I/O APICs: every line is masked but one, the serial line's. Intel 82093AA data sheet, order number 290566-001.
#![expect(unsafe_code, reason = "memory-mapped registers")]

use super::apic::SERIAL_VECTOR;
use alloc::vec::Vec;

/// The lines that devices interrupt by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inputs {
    /// Every I/O APIC.
    pub io_apics: Vec<IoApic>,
    /// COM1's, counted over all I/O APICs.
    pub com1: u32,
}

/// An I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// Where its registers are mapped.
    pub address: u32,
    /// The number of its first line.
    pub first_line: u32,
}

/// Offset of the register's number, and of its content.
const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
/// Bits 23:16: the last line.
const VERSION: u32 = 1;
/// The redirection table: two registers a line.
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
/// More lines have no place among the registers, which a byte numbers.
const MAX_LINES: u32 = 120;

/// Masks every line, whatever firmware and loader had come by it, but COM1's: that interrupts the processor with this local APIC id,
/// edge-triggered, by [`SERIAL_VECTOR`]. A machine that idles then notices what is typed.
///
/// # Safety
///
/// The pages of the I/O APICs are mapped at their physical addresses, firmware's tables name them (or a PC has one there), and nothing
/// else drives them.
pub unsafe fn take_over(inputs: &Inputs, to: u32) {
    for io_apic in &inputs.io_apics {
        // SAFETY: by contract; the registers written are of lines that there are.
        let count = unsafe { (read(io_apic.address, VERSION) >> 16 & 0xff) + 1 }.min(MAX_LINES);
        let com1 = inputs.com1.wrapping_sub(io_apic.first_line);
        for line in 0..count {
            let entry = REDIRECTION + 2 * line;
            // SAFETY: as before. Masked first: the other half says where to.
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

/// Chooses a register; the page.
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
/// An I/O APIC is at this address, mapped.
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
