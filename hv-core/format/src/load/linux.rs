//! Loading a Linux bzImage by the 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst, "64-bit boot protocol").
//!
//! The kernel is entered in long mode, with the first 4 GiB mapped at their physical addresses and flat segments, RSI at `boot_params`
//! (the "zero page", Documentation/arch/x86/zero-page.rst). All loader data but the initial RAM disk lie below 640 KiB.

use super::{HIGH_BEGIN, LoadError, LoadRequest, Piece, Plan, check_range, place_initrd};
use crate::addr::{GuestPhys, LARGE_PAGE_BYTES, PAGE_BYTES};
use crate::control::{Control, Start};
use alloc::vec::Vec;

const GDT: u64 = 0x6000;
const BOOT_PARAMS: u64 = 0x7000;
const STACK_TOP: u64 = 0x9000;
/// Address of the page tables: one of the highest level, one of directory pointers, four directories.
const TABLES: u64 = 0x9000;
const COMMAND_LINE: u64 = 0x2_0000;
/// End of the memory below 1 MiB that a PC's kernel may use.
const LOW_END: u64 = 0x9_f000;

/// Offsets of the setup header's fields, in the file and in `boot_params`.
mod field {
    pub const SETUP_SECTORS: usize = 0x1f1;
    pub const BOOT_FLAG: usize = 0x1fe;
    /// The second byte of a jump: offset of the header's end from the byte after it.
    pub const JUMP: usize = 0x201;
    pub const MAGIC: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const LOADER: usize = 0x210;
    pub const INITRD: usize = 0x218;
    pub const INITRD_BYTES: usize = 0x21c;
    pub const COMMAND_LINE: usize = 0x228;
    pub const HIGHEST_INITRD: usize = 0x22c;
    pub const XLOAD_FLAGS: usize = 0x236;
    pub const COMMAND_LINE_BYTES: usize = 0x238;
    pub const PREFERRED: usize = 0x258;
    pub const INIT_BYTES: usize = 0x260;
    /// `acpi_rsdp_addr`. This field and the following ones exist in `boot_params` only.
    pub const RSDP: usize = 0x70;
    pub const MAP_ENTRIES: usize = 0x1e8;
    pub const MAP: usize = 0x2d0;
}

const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: [u8; 4] = *b"HdrS";
/// Oldest protocol version accepted, 2.14: it has `acpi_rsdp_addr`; 2.12 has the 64-bit entry.
const OLDEST: u16 = 0x20e;
/// XLF_KERNEL_64 in `xloadflags`.
const HAS_64_BIT_ENTRY: u16 = 1 << 0;
/// Offset of the 64-bit entry from the start of the protected-mode kernel.
const ENTRY_64: u64 = 0x200;
const LOADER_UNKNOWN: u8 = 0xff;
const HEADER: usize = field::SETUP_SECTORS;
const SECTOR: usize = 512;
const E820_RAM: u32 = 1;
const E820_ACPI: u32 = 3;

/// Whether a file is a Linux kernel in its own format.
pub fn is_one(kernel: &[u8]) -> bool {
    read::<2>(kernel, field::BOOT_FLAG) == Some(BOOT_FLAG.to_le_bytes())
        && read::<4>(kernel, field::MAGIC) == Some(MAGIC)
}

fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The fields of the setup header that the loader uses.
struct Header<'a> {
    /// The whole header, as it is copied into `boot_params`.
    whole: &'a [u8],
    /// The protected-mode kernel.
    body: &'a [u8],
    preferred: u64,
    init_bytes: u64,
    highest_initrd: u64,
}

fn header<'a>(request: &LoadRequest<'a>) -> Result<Header<'a>, LoadError> {
    let kernel = request.kernel;
    let cut = LoadError::Truncated(kernel.len());
    let word = |at| read::<2>(kernel, at).map(u16::from_le_bytes).ok_or(cut);
    let double = |at| read::<4>(kernel, at).map(|bytes| u64::from(u32::from_le_bytes(bytes))).ok_or(cut);
    let byte = |at| read::<1>(kernel, at).map(|[byte]| usize::from(byte)).ok_or(cut);
    let version = word(field::VERSION)?;
    if version < OLDEST || word(field::XLOAD_FLAGS)? & HAS_64_BIT_ENTRY == 0 {
        return Err(LoadError::OldProtocol(version));
    }
    if request.command_line.len() as u64 > double(field::COMMAND_LINE_BYTES)? {
        return Err(LoadError::LongCommandLine(request.command_line.len()));
    }
    let sectors = match byte(field::SETUP_SECTORS)? {
        0 => 4, // as the protocol has it for old kernels
        sectors => sectors,
    };
    let body = kernel.get((sectors + 1) * SECTOR..).filter(|body| body.len() as u64 > ENTRY_64).ok_or(cut)?;
    let end = field::MAGIC + byte(field::JUMP)?;
    Ok(Header {
        whole: kernel.get(HEADER..end).ok_or(cut)?,
        body,
        preferred: read::<8>(kernel, field::PREFERRED).map(u64::from_le_bytes).ok_or(cut)?,
        init_bytes: double(field::INIT_BYTES)?.max(body.len() as u64),
        highest_initrd: double(field::HIGHEST_INITRD)?,
    })
}

/// Plans where a kernel, its RAM disk and its parameters go.
///
/// # Errors
///
/// [`LoadError`], if the image cannot be loaded or does not fit into the guest's memory.
pub fn plan<'a>(request: &LoadRequest<'a>) -> Result<Plan<'a>, LoadError> {
    let header = header(request)?;
    let begin = header.preferred;
    let end = begin.saturating_add(header.init_bytes);
    check_range(begin, end, request.ram_bytes)?;
    let top = request.ram_bytes.min(header.highest_initrd.saturating_add(1));
    let initrd = request.initrd.map(|initrd| place_initrd(initrd, top, end)).transpose()?;
    let parameters = boot_params(request, &header, initrd.as_ref());
    let mut command_line = request.command_line.as_bytes().to_vec();
    command_line.push(0);
    let mut pieces = Vec::from([
        Piece { at: GuestPhys::new_truncate(GDT), bytes: bytes_of(&GDT_ENTRIES).into() },
        Piece { at: GuestPhys::new_truncate(BOOT_PARAMS), bytes: parameters.into() },
        Piece { at: GuestPhys::new_truncate(TABLES), bytes: tables().into() },
        Piece { at: GuestPhys::new_truncate(COMMAND_LINE), bytes: command_line.into() },
        Piece { at: GuestPhys::new_truncate(begin), bytes: header.body.into() },
    ]);
    pieces.extend(initrd);
    let start = Start::Copy {
        control: CONTROL,
        entry: begin + ENTRY_64,
        stack: STACK_TOP,
        arguments: [0, BOOT_PARAMS],
    };
    Ok(Plan { pieces, start })
}

fn boot_params(request: &LoadRequest<'_>, header: &Header<'_>, initrd: Option<&Piece<'_>>) -> Vec<u8> {
    let mut page = alloc::vec![0; usize::try_from(PAGE_BYTES).unwrap_or(0)];
    let mut write = |at: usize, bytes: &[u8]| {
        if let Some(place) = page.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
        }
    };
    write(HEADER, header.whole);
    write(field::LOADER, &[LOADER_UNKNOWN]);
    let low = |value: u64| u32::try_from(value).unwrap_or(0).to_le_bytes();
    if let Some(initrd) = initrd {
        write(field::INITRD, &low(initrd.at.raw()));
        write(field::INITRD_BYTES, &low(initrd.bytes.len() as u64));
    }
    write(field::COMMAND_LINE, &low(COMMAND_LINE));
    if let Some(acpi) = &request.acpi {
        write(field::RSDP, &acpi.at.raw().to_le_bytes());
    }
    let mut entries = 0;
    for (start, end, kind) in memory_map(request) {
        let at = field::MAP + 20 * usize::from(entries);
        write(at, &start.to_le_bytes());
        write(at + 8, &(end - start).to_le_bytes());
        write(at + 16, &kind.to_le_bytes());
        entries += 1;
    }
    write(field::MAP_ENTRIES, &[entries]);
    page
}

/// Returns the memory map for the kernel. A PC's usual hole lies between the two parts of RAM; the ACPI tables are in it.
fn memory_map(request: &LoadRequest<'_>) -> impl Iterator<Item = (u64, u64, u32)> {
    let acpi = request.acpi.as_ref().map(|acpi| {
        let end = acpi.at.raw() + acpi.bytes.len() as u64;
        (acpi.at.raw(), end.next_multiple_of(PAGE_BYTES), E820_ACPI)
    });
    let low = (0, LOW_END, E820_RAM);
    let high = (HIGH_BEGIN, request.ram_bytes.max(HIGH_BEGIN), E820_RAM);
    [Some(low), acpi, Some(high)].into_iter().flatten()
}

/// The GDT: null, unused, 64-bit code at 0x10, data at 0x18.
const GDT_ENTRIES: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Long mode with these page tables and this GDT, interrupts off.
const CONTROL: Control = Control {
    cr: [0x8000_0033, TABLES, 0x20], // PG NE ET MP PE; PAE
    efer: 0x500,                     // LMA LME
    pat: 0x0007_0406_0007_0406,
    tables: [(GDT, 31), (0, 0)],
    segments: [(0x10, 0xa9b), (0x18, 0xc93)],
    pdptes: [0; 4],
};

/// Makes page tables that map the first 4 GiB at their physical addresses, by 2 MiB pages.
fn tables() -> Vec<u8> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let mut words = alloc::vec![0; 6 * 512];
    let (roots, directories) = words.split_at_mut(2 * 512);
    if let [root, .., _] = roots {
        *root = (TABLES + PAGE_BYTES) | PRESENT_WRITABLE;
    }
    for (pointer, n) in roots.iter_mut().skip(512).zip(2..6) {
        *pointer = (TABLES + n * PAGE_BYTES) | PRESENT_WRITABLE;
    }
    for (entry, n) in directories.iter_mut().zip(0..) {
        *entry = (n * LARGE_PAGE_BYTES) | LARGE | PRESENT_WRITABLE;
    }
    bytes_of(&words)
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RAM: u64 = 64 << 20;

    /// The smallest file that loads: two setup sectors, and a kernel of a page that says where it wants to be.
    fn image() -> Vec<u8> {
        let mut file = alloc::vec![0; 3 * SECTOR + 4096];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(field::SETUP_SECTORS, &[2]);
        put(field::BOOT_FLAG, &BOOT_FLAG.to_le_bytes());
        put(field::JUMP, &[0x6a]);
        put(field::MAGIC, &MAGIC);
        put(field::VERSION, &0x20f_u16.to_le_bytes());
        put(field::HIGHEST_INITRD, &0x7fff_ffff_u32.to_le_bytes());
        put(field::XLOAD_FLAGS, &0x3f_u16.to_le_bytes());
        put(field::COMMAND_LINE_BYTES, &2047_u32.to_le_bytes());
        put(field::PREFERRED, &0x100_0000_u64.to_le_bytes());
        put(field::INIT_BYTES, &0x20_0000_u32.to_le_bytes());
        put(3 * SECTOR, b"body");
        file
    }

    fn request<'a>(kernel: &'a [u8], initrd: Option<&'a [u8]>) -> LoadRequest<'a> {
        let acpi = Piece { at: GuestPhys::new_truncate(0xe_0000), bytes: alloc::vec![1; 100].into() };
        LoadRequest { ram_bytes: RAM, kernel, initrd, command_line: "quiet", acpi: Some(acpi) }
    }

    #[test]
    fn a_kernel_is_entered_in_long_mode_with_its_parameters_in_rsi() {
        let file = image();
        assert!(is_one(&file));
        let plan = plan(&request(&file, Some(b"disk"))).unwrap();
        let Start::Copy { control, entry, arguments, .. } = plan.start else { panic!("{:?}", plan.start) };
        assert_eq!((entry, arguments), (0x100_0200, [0, BOOT_PARAMS]));
        assert_eq!(control.cr[1], TABLES);
        let at =
            |at: u64| plan.pieces.iter().find(|piece| piece.at.raw() == at).map(|piece| &piece.bytes[..]);
        assert_eq!(&at(0x100_0000).unwrap()[..4], b"body");
        assert_eq!(at(RAM - 4096).unwrap(), b"disk");
        assert_eq!(at(COMMAND_LINE).unwrap(), b"quiet\0");
        let page = at(BOOT_PARAMS).unwrap();
        assert_eq!(page[field::MAGIC..][..4], MAGIC);
        assert_eq!(page[field::LOADER], LOADER_UNKNOWN);
        assert_eq!(read::<8>(page, field::RSDP).map(u64::from_le_bytes), Some(0xe_0000));
        assert_eq!(read::<4>(page, field::INITRD).map(u32::from_le_bytes), u32::try_from(RAM - 4096).ok());
        assert_eq!(page[field::MAP_ENTRIES], 3);
        // SDM: 1 GiB + 2 MiB leads to itself.
        let word = |table: usize, index: usize| {
            let bytes = read::<8>(at(TABLES).unwrap(), table * 4096 + index * 8).unwrap();
            u64::from_le_bytes(bytes)
        };
        assert_eq!((word(0, 0), word(1, 1), word(3, 1)), (0xa003, 0xc003, 0x4020_0083));
    }

    #[test]
    fn a_bad_header_is_refused_by_name() {
        let refused = |change: &dyn Fn(&mut Vec<u8>), ram_bytes| {
            let mut file = image();
            change(&mut file);
            plan(&LoadRequest { ram_bytes, ..request(&file, None) }).map(|_| ()).unwrap_err()
        };
        let put = |at: usize, bytes: &'static [u8]| {
            move |file: &mut Vec<u8>| file[at..at + bytes.len()].copy_from_slice(bytes)
        };
        assert_eq!(refused(&put(field::VERSION, &[0x0d, 2]), RAM), LoadError::OldProtocol(0x20d));
        assert_eq!(refused(&put(field::XLOAD_FLAGS, &[0, 0]), RAM), LoadError::OldProtocol(0x20f));
        assert_eq!(
            refused(&put(field::COMMAND_LINE_BYTES, &[4, 0, 0, 0]), RAM),
            LoadError::LongCommandLine(5)
        );
        assert_eq!(refused(&|file| file.truncate(0x240), RAM), LoadError::Truncated(0x240));
        assert_eq!(refused(&put(field::SETUP_SECTORS, &[200]), RAM), LoadError::Truncated(5632));
        assert_eq!(refused(&|_| (), 0x110_0000), LoadError::High(0x120_0000), "init_size does not fit");
        assert_eq!(refused(&put(field::PREFERRED, &[0, 0, 8, 0]), RAM), LoadError::Low(0x8_0000));
        assert_eq!(refused(&put(field::PREFERRED, &[0xff; 8]), RAM), LoadError::High(u64::MAX));
        let file = image();
        let disk = alloc::vec![0; 60 << 20];
        assert_eq!(plan(&request(&file, Some(&disk))).unwrap_err(), LoadError::NoRoomForInitrd(60 << 20));
    }

    proptest! {
        #[test]
        fn no_file_breaks_the_loader_or_leaves_the_guests_memory(
            changes in prop::collection::vec((0usize..0x280, any::<u8>()), 0..40), len in 0usize..6000, ram_mib in 4u64..3072
        ) {
            let mut file = image();
            for (at, byte) in changes {
                file[at] = byte;
            }
            file.truncate(len.max(0x204));
            let ram_bytes = ram_mib << 20;
            if let Ok(plan) = plan(&LoadRequest { ram_bytes, ..request(&file, Some(&[7; 5000])) }) {
                for piece in plan.pieces {
                    prop_assert!(piece.at.raw() + piece.bytes.len() as u64 <= ram_bytes, "{:?}", piece.at);
                }
            }
        }
    }
}
