//! Kernels of a few bytes, for tests of what loads and runs them.

/// Where it is loaded.
const BASE: u32 = 0x10_0000;
/// Where its code begins in the file.
const CODE_AT: u32 = 196;

/// The smallest kernel that is one: headers, a PVH note, and a segment that holds the file. It begins with `code`, in
/// 32-bit protected mode without paging, interrupts off.
pub fn kernel(code: &[u8]) -> Vec<u8> {
    let length = u64::from(CODE_AT) + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());
    let long = |elf: &mut Vec<u8>, value: u64| elf.extend(value.to_le_bytes());
    half(&mut elf, 2); // an executable
    half(&mut elf, 62); // for x86-64
    word(&mut elf, 1);
    for value in [u64::from(BASE + CODE_AT), 64, 0] {
        long(&mut elf, value); // entry, program headers, section headers
    }
    word(&mut elf, 0);
    for value in [64, 56, 2, 64, 0, 0] {
        half(&mut elf, value); // header sizes and counts
    }
    for (kind, offset, length) in [(1, 0, length), (4, 176, 20)] {
        word(&mut elf, kind); // PT_LOAD, PT_NOTE
        word(&mut elf, 5);
        let at = u64::from(BASE) + offset;
        for value in [offset, at, at, length, length, 4] {
            long(&mut elf, value);
        }
    }
    for value in [4, 4, 18] {
        word(&mut elf, value);
    }
    elf.extend(b"Xen\0");
    word(&mut elf, BASE + CODE_AT);
    elf.extend(code);
    elf
}
