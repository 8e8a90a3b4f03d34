//! A stand-in for a kernel: the same file with another first instruction, so that firmware and setup code do the same work. It prints the
//! time-stamp counter and ends the machine.

/// What stands where 32-bit code begins, `startup_32`: the registers are free, and paging and interrupts are off (Linux,
/// `Documentation/arch/x86/boot.rst`, "32-bit boot protocol"). The line on COM1 is the counter in sixteen hexadecimal digits; then
/// isa-debug-exit gets 0x10, which is "well".
const CODE: [&[u8]; 22] = [
    &[0x0f, 0x31],                     // rdtsc
    &[0x89, 0xc6],                     // mov esi, eax
    &[0x89, 0xd7],                     // mov edi, edx
    &[0xb9, 16, 0, 0, 0],              // mov ecx, 16
    &[0x66, 0xba, 0xf8, 0x03],         // mov dx, 0x3f8
    &[0x89, 0xf8],                     // digit: mov eax, edi
    &[0xc1, 0xe8, 28],                 // shr eax, 28
    &[0x0f, 0xa4, 0xf7, 4],            // shld edi, esi, 4
    &[0xc1, 0xe6, 4],                  // shl esi, 4
    &[0x04, b'0'],                     // add al, '0'
    &[0x3c, b'9'],                     // cmp al, '9'
    &[0x76, 2],                        // jbe decimal
    &[0x04, b'a' - b'9' - 1],          // add al, 'a' - '9' - 1
    &[0xee],                           // decimal: out dx, al
    &[0xe2, (-23_i8).cast_unsigned()], // loop digit
    &[0xb0, b'\n'],                    // mov al, '\n'
    &[0xee],                           // out dx, al
    &[0xb0, 0x10],                     // mov al, 0x10
    &[0xe6, 0xf4],                     // out 0xf4, al
    &[0xfa],                           // cli
    &[0xf4],                           // halt: hlt
    &[0xeb, (-3_i8).cast_unsigned()],  // jmp halt
];

/// Where the header says how many sectors of setup code follow the first one.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC_AT: usize = 0x202;
const MAGIC: &[u8] = b"HdrS";
const SECTOR: usize = 512;

/// Makes the stand-in of a bzImage; `None` when it is none.
pub fn stand_in(mut kernel: Vec<u8>) -> Option<Vec<u8>> {
    let magic = kernel.get(MAGIC_AT..)?.starts_with(MAGIC);
    let sectors = usize::from(*kernel.get(SETUP_SECTORS)?);
    let code = CODE.concat();
    let place = kernel.get_mut((sectors + 1) * SECTOR..)?.get_mut(..code.len())?;
    place.copy_from_slice(&code);
    magic.then_some(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_instructions_of_the_kernel_differ() {
        let mut kernel = vec![0x90; 8 * SECTOR];
        assert_eq!(stand_in(kernel.clone()), None, "no bzImage");
        kernel[SETUP_SECTORS] = 3;
        kernel[MAGIC_AT..MAGIC_AT + MAGIC.len()].copy_from_slice(MAGIC);
        let made = stand_in(kernel.clone()).unwrap();
        assert_eq!(made.len(), kernel.len());
        let (entry, end) = (4 * SECTOR, 4 * SECTOR + CODE.concat().len());
        assert_eq!((&made[..entry], &made[end..]), (&kernel[..entry], &kernel[end..]));
        assert_eq!(made[entry..entry + 2], [0x0f, 0x31]);
        assert_eq!(stand_in(kernel[..entry].to_vec()), None, "no room for it");
    }
}
