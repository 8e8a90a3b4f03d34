//! Every register of every device in memory, with every kind of value, by accesses of every size.
//!
//! The local APIC is put into its old mode for that, in which its page is there, and back; its timer is lost by that, so nothing sleeps
//! afterwards.

use crate::check::Check;
use crate::queue::{Device, PAGES, disk_works, id, register, status};
use crate::raw::{self, Odd, Size};
use crate::storms;
use guest_kernel_shim::platform::{Mode, mode};
use guest_kernel_shim::{Boot, console, interrupt, println, probe};

const LOCAL_APIC: u64 = 0xfee0_0000;
const IO_APIC: u64 = 0xfec0_0000;
const PAGE: u64 = 0x1000;
/// Bytes that the registers of an APIC, and of a virtio device, take.
const APIC_BYTES: u64 = 0x400;
const VIRTIO_BYTES: u64 = 0x200;
/// Offsets around the end of a page.
const LAST: [u64; 6] = [0xff0, 0xff8, 0xffc, 0xffd, 0xffe, 0xfff];

const APIC_BASE: u32 = 0x1b;
const OFF: u64 = 0xfee0_0100;
const OLD_MODE: u64 = OFF | 1 << 11;
const X2APIC: u64 = OLD_MODE | 1 << 10;
/// TPR, in both modes.
const PRIORITY: u64 = 0x80;
const PRIORITY_MSR: u32 = 0x808;

const IO_APIC_WINDOW: u64 = 0x10;
/// The I/O APIC's first entry, and how many registers they have.
const ENTRIES: core::ops::Range<u64> = 0x10..0x40;
const MASKED: u64 = 1 << 16;

const MAGIC: u64 = 0x7472_6976;
const VALUES: [u64; 10] = [
    0,
    1,
    u64::MAX,
    0xffff_ffff,
    0x8000_0000_8000_0000,
    0x7fff_ffff_7fff_ffff,
    0xdead_beef_dead_beef,
    0x0000_0001_0000_0000,
    0x5a5a_5a5a_5a5a_5a5a,
    0x0000_c000_0001_ff20,
];

/// Tries them all.
pub fn registers(check: &mut Check) {
    if mode() != Mode::Full {
        check.skip("no devices in memory in this mode");
        return;
    }
    storms::wait_for_all();
    interrupt::disable();
    interrupt::handle_nmi(|| ());
    local_apic(check);
    io_apic(check);
    for page in PAGES {
        virtio(check, page);
    }
    let disk = Device::of(id::DISK, 0);
    check.holds(format_args!("the disk works"), disk.is_some_and(|disk| disk_works(&disk, 0x6d6d_696f)));
}

/// Reads and writes at every offset and around the page's end, in every size; `spare` says which writes are left out.
fn all(page: u64, bytes: u64, spare: impl Fn(u64, u64) -> bool) -> u64 {
    let mut accesses = 0;
    for value in VALUES {
        for offset in (0..bytes).chain(LAST) {
            // Of the unaligned ones some.
            if offset % 4 != 0 && offset % 61 != 0 && offset < bytes {
                continue;
            }
            for size in Size::ALL.into_iter().filter(|size| offset + size.bytes() <= PAGE) {
                core::hint::black_box(raw::load(page + offset, size));
                if !spare(offset, value) {
                    raw::store_sized(page + offset, size, value);
                }
                accesses += 2;
            }
        }
    }
    accesses
}

fn local_apic(check: &mut Check) {
    for base in [OFF, OLD_MODE] {
        check.holds(format_args!("APIC_BASE {base:#x}"), raw::wrmsr(APIC_BASE, base) == Ok(()));
    }
    let version = raw::load(LOCAL_APIC + 0x30, Size::Four);
    check.holds(format_args!("the page is there, version {version:#x}"), version & 0xff == 0x14);
    raw::store_sized(LOCAL_APIC + PRIORITY, Size::Four, 0xf0);
    let priority = raw::load(LOCAL_APIC + PRIORITY, Size::Four);
    check.one_of(format_args!("TPR"), priority, &[0xf0]);
    let accesses = all(LOCAL_APIC, APIC_BYTES, |_, _| false);
    println!("mmio: {accesses} accesses to the local APIC");
    raw::store_sized(LOCAL_APIC + PRIORITY, Size::Four, 0xf0);
    for base in [OFF, OLD_MODE, X2APIC] {
        check.holds(format_args!("APIC_BASE {base:#x}, back"), raw::wrmsr(APIC_BASE, base) == Ok(()));
    }
    check.holds(format_args!("TPR after a reset"), probe::rdmsr(PRIORITY_MSR) == Ok(0));
}

fn io_apic(check: &mut Check) {
    let mut accesses = all(IO_APIC, 0x80, |_, _| false);
    for index in 0..=0xff {
        for value in VALUES {
            for size in Size::ALL {
                raw::store_sized(IO_APIC, Size::Four, index);
                core::hint::black_box(raw::load(IO_APIC + IO_APIC_WINDOW, size));
                raw::store_sized(IO_APIC + IO_APIC_WINDOW, size, value);
                accesses += 3;
            }
        }
    }
    println!("mmio: {accesses} accesses to the I/O APIC");
    for index in ENTRIES {
        raw::store_sized(IO_APIC, Size::Four, index);
        raw::store_sized(IO_APIC + IO_APIC_WINDOW, Size::Four, if index % 2 == 0 { MASKED } else { 0 });
        let entry = raw::load(IO_APIC + IO_APIC_WINDOW, Size::Four);
        check.holds(format_args!("entry {index:#x} is masked"), index % 2 != 0 || entry == MASKED);
    }
}

/// Without features agreed on no queue is used: what happens then is for `virtio`.
fn virtio(check: &mut Check, page: u64) {
    let agrees = |offset, value| offset == register::STATUS && value & status::FEATURES_OK != 0;
    let accesses = all(page, VIRTIO_BYTES, agrees);
    println!("mmio: {accesses} accesses to {page:#x}");
    check.holds(
        format_args!("nothing at {:#x}", page + PAGE - 4),
        raw::load(page + PAGE - 4, Size::Four) == 0,
    );
    for size in [Size::One, Size::Two, Size::Eight] {
        let read = raw::load(page + register::MAGIC, size);
        check.one_of(format_args!("{page:#x} by {size:?}"), read, &[0]);
    }
    raw::store_sized(page + register::STATUS, Size::Four, 0);
    for (register, value) in [(register::MAGIC, MAGIC), (register::STATUS, 0)] {
        let read = raw::load(page + register, Size::Four);
        check.one_of(format_args!("{page:#x} {register:#x}"), read, &[value]);
    }
}

/// Touches the device at `at=` by the instruction `what=`, which nobody does there.
pub fn touch_oddly(boot: &Boot) {
    let instruction = match boot.value("what") {
        Some("add") => Odd::Add,
        Some("copy") => Odd::Copy,
        Some("exchange") => Odd::Exchange,
        Some("call") => Odd::Call,
        Some(_) | None => return,
    };
    let at = boot.number("at").unwrap_or(0);
    println!("odd: {instruction:?} at {at:#x}");
    console::flush();
    raw::touch_oddly(at, instruction);
}
