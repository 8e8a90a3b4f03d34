//! The tables, read back: by the hypervisor's own reader, and by offsets from the specification.

use super::*;
use crate::base::time::{Frequency, Tsc};
use crate::boot::firmware::{controllers, soft_off};
use crate::device::acpi_pm::{AcpiPm, Power};

const PAGE: u32 = 0x1000;

fn device(n: u8) -> VirtioMmio {
    VirtioMmio::new(GuestPhys::new(0xD000_0000 + u64::from(n) * 0x1000).unwrap(), PAGE, n % 24).unwrap()
}

fn devices(count: u16) -> Vec<VirtioMmio> {
    (0..count).map(|n| device(n.to_le_bytes()[0])).collect()
}

fn image(vcpus: u8, devices: &[VirtioMmio]) -> Vec<u8> {
    let piece = tables(&Machine { vcpus, devices });
    assert_eq!(piece.at, TABLES);
    piece.bytes.into_owned()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A table by its address, as long as it says.
fn table(image: &[u8], at: u32) -> &[u8] {
    let from = &image[usize::try_from(at - BASE).unwrap()..];
    &from[..usize::try_from(word(from, 4)).unwrap()]
}

/// The tables by name: XSDT, what it names, and what the FADT names.
fn all(image: &[u8]) -> Vec<(u32, &[u8])> {
    let root = table(image, word(image, 24));
    let mut at = vec![word(image, 24)];
    at.extend(root[36..].chunks(8).map(|entry| word(entry, 0)));
    let fadt = named(image, b"FACP");
    at.extend([word(fadt, 36), word(fadt, 40)]);
    at.into_iter().map(|at| (at, table(image, at))).collect()
}

fn named<'a>(image: &'a [u8], name: &[u8; 4]) -> &'a [u8] {
    let root = table(image, word(image, 24));
    let mut found = root[36..].chunks(8).map(|entry| table(image, word(entry, 0)));
    found.find(|table| table.starts_with(name)).unwrap()
}

fn dsdt_of(image: &[u8]) -> &[u8] {
    table(image, word(named(image, b"FACP"), 40))
}

fn reader(image: &[u8]) -> impl Fn(u64, &mut [u8]) -> bool {
    |at, into| {
        let from = at.checked_sub(BASE.into()).and_then(|at| image.get(usize::try_from(at).ok()?..));
        let Some(from) = from.and_then(|from| from.get(..into.len())) else {
            return false;
        };
        into.copy_from_slice(from);
        true
    }
}

#[test]
fn the_rsdp_lies_where_a_search_finds_it() {
    let image = image(1, &[]);
    assert!(TABLES.is_aligned(16) && (0xE_0000..0x10_0000).contains(&TABLES.raw()));
    assert_eq!(&image[..8], b"RSD PTR ");
    assert_eq!((image[15], word(&image, 16), word(&image, 20), word(&image, 28)), (2, 0, 36, 0));
    assert_eq!((sum(&image[..20]), sum(&image[..36])), (0, 0));
}

#[test]
fn every_table_is_whole_inside_and_apart() {
    for (vcpus, count) in [(1, 0), (3, 1), (64, 16), (255, 300)] {
        let devices = devices(count);
        let image = image(vcpus, &devices);
        let mut spans = vec![(BASE, BASE + 36)];
        for (at, table) in all(&image) {
            let name = table[..4].escape_ascii();
            assert!(at.is_multiple_of(64), "{name} at {at:#x}");
            if !table.starts_with(b"FACS") {
                assert_eq!(sum(table), 0, "{name}, {vcpus} {count}");
                assert_eq!(&table[10..16], b"COMITY", "{name}");
            }
            spans.push((at, at + word(table, 4)));
        }
        spans.sort_unstable();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:x?}");
        let end = BASE + u32::try_from(image.len()).unwrap();
        assert_eq!(spans.last().unwrap().1, end, "nothing after the last");
        assert!(image.len() <= MAX_BYTES, "{}", image.len());
        let names: Vec<_> = all(&image).iter().map(|(_, table)| &table[..4]).collect();
        assert_eq!(names, [b"XSDT", b"FACP", b"APIC", b"FACS", b"DSDT"]);
    }
}

#[test]
fn the_hypervisors_own_reader_finds_processors_and_the_way_off() {
    for vcpus in [1, 2, 64] {
        let image = image(vcpus, &devices(2));
        for rsdp in [0, TABLES.raw()] {
            let found = controllers(reader(&image), rsdp, 0).unwrap().others;
            assert_eq!(found, Vec::from_iter(1..u32::from(vcpus)), "rsdp={rsdp:#x}");
        }
        let off = soft_off(reader(&image), 0).unwrap();
        assert_eq!((off.control, off.kind, off.enable), ([acpi_pm::PM1_CONTROL, 0], [0, 0], (0, 0)));
    }
}

fn power() -> AcpiPm {
    AcpiPm::new(Frequency::from_khz(1_000_000).unwrap(), Tsc(0))
}

#[test]
fn what_the_tables_say_switches_off_and_resets_the_device() {
    let image = image(1, &[]);
    let off = soft_off(reader(&image), 0).unwrap();
    let value = 1 << 5 | off.kind[0] << 2;
    assert_eq!(power().write(off.control[0] + 1, value, Tsc(0)), Some(Power::Off));
    let fadt = named(&image, b"FACP");
    assert_eq!(fadt[116..128], [1, 8, 0, 1, 0xF9, 0x0C, 0, 0, 0, 0, 0, 0], "an I/O port, a byte wide");
    assert_eq!(power().write(acpi_pm::RESET_CONTROL, fadt[128], Tsc(0)), Some(Power::Reset));
    assert_eq!(power().read(acpi_pm::PM1_CONTROL, Tsc(0)) & 1, 1, "SCI_EN, as there is no SMI command port");
}

/// Offsets of table 5.9.
#[test]
fn the_fadt_describes_the_devices() {
    let image = image(1, &[]);
    let fadt = named(&image, b"FACP");
    assert_eq!((fadt.len(), fadt[8], fadt[131]), (276, 6, 5));
    assert_eq!(u16::from_le_bytes([fadt[46], fadt[47]]), 9, "SCI_INT");
    assert_eq!(fadt[48..56], [0; 8], "SMI_CMD and its values");
    let blocks = [56, 60, 64, 68, 72, 76, 80, 84].map(|at| word(fadt, at));
    assert_eq!(blocks, [0x600, 0, 0x604, 0, 0, 0x608, 0, 0]);
    assert_eq!(fadt[88..96], [4, 2, 0, 4, 0, 0, 0, 0], "their lengths");
    assert_eq!(fadt[96..100], [0xFF, 0x0F, 0xFF, 0x0F], "no C2, no C3");
    assert_eq!((fadt[106], fadt[107], fadt[108]), (0, 0, 0x32), "no alarm beyond a day; century");
    assert_eq!(u16::from_le_bytes([fadt[109], fadt[110]]), 0b00_1101, "IAPC_BOOT_ARCH");
    assert_eq!(word(fadt, 112), 0b0100_0111_0101, "flags: TMR_VAL_EXT and HW_REDUCED are clear");
    assert_eq!(word(fadt, 140), word(fadt, 40), "X_DSDT");
    for (at, bits, port) in [(148, 32, 0x00), (172, 16, 0x04), (208, 32, 0x08)] {
        assert_eq!(fadt[at..at + 12], [1, bits, 0, 0, port, 6, 0, 0, 0, 0, 0, 0], "{at}");
    }
    let facs = table(&image, word(fadt, 36));
    assert_eq!((facs.len(), &facs[..4]), (64, &b"FACS"[..]));
}

#[test]
fn the_madt_has_processors_the_io_apic_two_overrides_and_nmi() {
    let image = image(3, &[]);
    let madt = named(&image, b"APIC");
    let expected: [&[u8]; 9] = [
        &[0, 0, 0xE0, 0xFE, 1, 0, 0, 0],
        &[0, 8, 0, 0, 1, 0, 0, 0],
        &[0, 8, 1, 1, 1, 0, 0, 0],
        &[0, 8, 2, 2, 1, 0, 0, 0],
        &[1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0x5, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 0xD, 0],
        &[4, 6, 0xFF, 0, 0, 1],
        &[],
    ];
    assert_eq!(madt[36..], expected.concat());
}

/// What an AML package of one of these kinds holds, and what follows it (§20.2.4).
fn package(code: &[u8]) -> (&[u8], &[u8]) {
    let more = usize::from(code[0] >> 6);
    let mut len = usize::from(code[0] & if more == 0 { 0x3F } else { 0x0F });
    for (n, byte) in code[1..=more].iter().enumerate() {
        len |= usize::from(*byte) << (4 + 8 * n);
    }
    let (whole, rest) = code.split_at(len);
    (&whole[more + 1..], rest)
}

/// The devices in the scope \_SB_: name and content.
fn scope(image: &[u8]) -> Vec<(&[u8], &[u8])> {
    const S5: &[u8] = b"\x08_S5_\x12\x06\x04\0\0\0\0\x10";
    let code = dsdt_of(image)[36..].strip_prefix(S5).unwrap();
    let (code, rest) = package(code);
    assert_eq!(rest, b"");
    let mut code = code.strip_prefix(b"\\_SB_").unwrap();
    let mut devices = vec![];
    while let Some(device) = code.strip_prefix(b"\x5B\x82") {
        let (content, rest) = package(device);
        devices.push(content.split_at(4));
        code = rest;
    }
    assert_eq!(code, b"");
    devices
}

#[test]
fn the_dsdt_names_com1_the_clock_and_the_devices() {
    let com1 = b"\x08_HID\x0C\x41\xD0\x05\x01\x08_CRS\x11\x16\x0A\x13\
        \x47\x01\xF8\x03\xF8\x03\x01\x08\x89\x06\0\x03\x01\x04\0\0\0\x79\0";
    let clock = b"\x08_HID\x0C\x41\xD0\x0B\0\x08_CRS\x11\x16\x0A\x13\
        \x47\x01\x70\0\x70\0\x01\x02\x89\x06\0\x03\x01\x08\0\0\0\x79\0";
    let virtio = b"\x08_HID\x0DLNRO0005\0\x08_UID\x0A\x05\x08_CCA\x01\x08_CRS\x11\x1A\x0A\x17\
        \x86\x09\0\x01\0\x50\0\xD0\0\x10\0\0\x89\x06\0\x03\x01\x05\0\0\0\x79\0";
    let image = image(1, &devices(16));
    let found = scope(&image);
    assert_eq!(found.len(), 18);
    assert_eq!(found[0], (&b"COM1"[..], &com1[..]));
    assert_eq!(found[1], (&b"RTC_"[..], &clock[..]));
    assert_eq!(found[7], (&b"VR05"[..], &virtio[..]));
}

#[test]
fn device_names_are_unique_and_the_257th_is_not_described() {
    let devices = devices(300);
    let image = image(1, &devices);
    let mut names: Vec<_> = scope(&image).iter().map(|(name, _)| *name).collect();
    assert_eq!((names.len(), names[257]), (258, &b"VRFF"[..]));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 258);
}

#[test]
fn a_device_beyond_4_gib_or_without_an_input_is_refused() {
    let at = |at| GuestPhys::new(at).unwrap();
    assert!(VirtioMmio::new(at(0xFFFF_E000), PAGE, 23).is_some());
    for (start, len, gsi) in [(0xFFFF_F000, PAGE, 5), (1 << 32, PAGE, 5), (0xD000_0000, PAGE, 24)] {
        assert_eq!(VirtioMmio::new(at(start), len, gsi), None, "{start:#x} {len:#x} {gsi}");
    }
}
