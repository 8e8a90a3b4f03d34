//! The smallest kernel that loads: an ELF64 with a PVH note and one page, whose code nobody executes.

use alloc::vec::Vec;

/// Where it is entered.
pub const ENTRY: u32 = 0x10_0000;

const HEADER_BYTES: u64 = 64;
const SEGMENT_BYTES: u64 = 56;
const NOTE_AT: u64 = HEADER_BYTES + 2 * SEGMENT_BYTES;
const CODE_AT: u64 = NOTE_AT + 20;

/// The file.
pub fn image() -> Vec<u8> {
    let mut file = Vec::new();
    let halves =
        |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let words = |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let longs = |file: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    file.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    halves(&mut file, &[2, 62]); // an executable for x86-64
    words(&mut file, &[1]);
    longs(&mut file, &[u64::from(ENTRY), HEADER_BYTES, 0]);
    words(&mut file, &[0]);
    halves(&mut file, &[64, 56, 2, 64, 0, 0]);
    words(&mut file, &[1, 5]); // PT_LOAD, readable and executable
    longs(&mut file, &[CODE_AT, u64::from(ENTRY), u64::from(ENTRY), 2, 4096, 4096]);
    words(&mut file, &[4, 4]); // PT_NOTE
    longs(&mut file, &[NOTE_AT, 0, 0, 20, 20, 4]);
    words(&mut file, &[4, 4, 18, u32::from_le_bytes(*b"Xen\0"), ENTRY]);
    file.extend([0xeb, 0xfe]); // jmp .
    file
}
