//! The I/O APIC: one line of it, the serial line's. Intel 82093AA data sheet, order number 290566-001.
#![expect(unsafe_code, reason = "memory-mapped registers")]

use super::apic::SERIAL_VECTOR;

/// Where a PC has it.
const BASE: usize = 0xfec0_0000;
/// Offset of the register's number, and of its content.
const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
/// The redirection table: two registers a line.
const REDIRECTION: u32 = 0x10;
/// COM1 in the ISA bus's numbering, which the I/O APIC keeps for it.
const COM1_LINE: u32 = 4;

/// Lets COM1 interrupt the first processor, edge-triggered, by [`SERIAL_VECTOR`]: a machine that idles then notices what is
/// typed.
///
/// # Safety
///
/// The page at 0xFEC0_0000 is mapped at its physical address, the I/O APIC is there, and nothing else drives it.
pub unsafe fn route_com1() {
    let entry = REDIRECTION + 2 * COM1_LINE;
    for (register, value) in [(entry + 1, 0), (entry, u32::from(SERIAL_VECTOR))] {
        let base = core::ptr::with_exposed_provenance_mut::<u32>(BASE);
        // SAFETY: the caller promises the page; both offsets lie in it, aligned.
        unsafe {
            base.byte_add(SELECT).write_volatile(register);
            base.byte_add(WINDOW).write_volatile(value);
        }
    }
}
