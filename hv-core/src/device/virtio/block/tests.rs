//! What drivers ask of a disk.

use super::*;
use crate::device::virtio::driver::{Driver, WRITE};
use crate::device::virtio::{Device, ServeProgress};
use alloc::boxed::Box;
use alloc::vec::Vec;

const HEADER: u64 = 0x6_0000;
const STATUS: u64 = 0x6_1000;
const DATA: u64 = 0x8_0000;

/// An image of which every sector is another one.
fn image(sectors: usize) -> &'static [u8] {
    let bytes: Vec<u8> = (0..sectors * SECTOR_BYTES)
        .map(|n| u8::try_from((n / SECTOR_BYTES * 7 + n % 251) & 0xFF).unwrap())
        .collect();
    Box::leak(bytes.into_boxed_slice())
}

fn driver(disk: Disk) -> Driver {
    Driver::ready(Device::Block(Block::new(disk, "disk-0")))
}

fn offer(driver: &mut Driver, kind: u32, sector: u64, data: &[(u64, u32, u16)]) {
    driver.ram.put(HEADER, &kind.to_le_bytes());
    driver.ram.put(HEADER + 8, &sector.to_le_bytes());
    driver.ram.put(STATUS, &[0xEE]);
    let mut chain = alloc::vec![(HEADER, 16, 0)];
    chain.extend(data);
    chain.push((STATUS, 1, WRITE));
    driver.offer(0, &chain);
}

/// Status and length of one request.
fn ask(driver: &mut Driver, kind: u32, sector: u64, data: &[(u64, u32, u16)]) -> (u8, u32) {
    offer(driver, kind, sector, data);
    driver.serve();
    let used = driver.used(0);
    assert_eq!(used.len(), 1);
    (driver.ram.get(STATUS, 1)[0], used[0].1)
}

#[test]
fn the_capacity_is_told_in_sectors() {
    let driver = driver(Disk::read_only(image(10)).unwrap());
    assert_eq!((driver.transport.read(0x100, 8), driver.transport.read(0x10C, 4)), (10, 254));
    assert_eq!(driver.transport.device().features(), 1 << 2 | 1 << 5);
    assert_eq!(Disk::read_only(&[0; 700]).unwrap_err(), DiskError::PartOfSector(700));
}

#[test]
fn sectors_are_read_into_buffers_of_any_shape() {
    let image = image(64);
    for disk in [Disk::read_only(image).unwrap(), Disk::copy_on_write(image, 1).unwrap()] {
        let mut driver = driver(disk);
        let data = [(DATA, 100, WRITE), (DATA + 0x1000, 412, WRITE), (DATA + 0x2000, 8192, WRITE)];
        assert_eq!(ask(&mut driver, IN, 5, &data), (0, 512 + 8192 + 1));
        let read = [(DATA, 100), (DATA + 0x1000, 412), (DATA + 0x2000, 8192)]
            .map(|(at, len)| driver.ram.get(at, len))
            .concat();
        assert!(read == image[5 * 512..5 * 512 + 8704]);
    }
}

#[test]
fn a_range_that_is_not_whole_sectors_of_the_disk_is_an_error() {
    let mut driver = driver(Disk::copy_on_write(image(10), 2).unwrap());
    for (sector, len) in [(9, 1024), (10, 512), (u64::MAX, 512), (u64::MAX / 512, 512), (0, 100)] {
        for (kind, flags, length) in [(IN, WRITE, 0), (OUT, 0, 1)] {
            let answer = ask(&mut driver, kind, sector, &[(DATA, len, flags)]);
            assert_eq!(answer, (1, length), "kind={kind} sector={sector} len={len}");
        }
    }
    assert_eq!(ask(&mut driver, IN, 10, &[]), (0, 1), "nothing at the end");
}

#[test]
fn a_disk_that_cannot_be_written_is_not() {
    let mut driver = driver(Disk::read_only(image(8)).unwrap());
    assert_eq!(ask(&mut driver, OUT, 0, &[(DATA, 512, 0)]), (1, 1));
}

#[test]
fn what_was_written_is_read_and_the_rest_is_the_image() {
    let image = image(20);
    let mut driver = driver(Disk::copy_on_write(image, 3).unwrap());
    driver.ram.put(DATA, &[0xAB; 1024]);
    assert_eq!(ask(&mut driver, OUT, 7, &[(DATA, 1000, 0), (DATA + 1000, 24, 0)]), (0, 1));
    assert_eq!(ask(&mut driver, FLUSH, 0, &[]), (0, 1));
    assert_eq!(ask(&mut driver, IN, 0, &[(DATA, 20 * 512, WRITE)]), (0, 20 * 512 + 1));
    let mut expected = image.to_vec();
    expected[7 * 512..9 * 512].fill(0xAB);
    assert!(driver.ram.get(DATA, 20 * 512) == expected);
    driver.put(0x70, 0);
    driver.set_up(u64::MAX);
    assert_eq!(ask(&mut driver, IN, 7, &[(DATA, 512, WRITE)]), (0, 513));
    assert!(driver.ram.get(DATA, 512) == [0xAB; 512], "a reset of the device keeps the disk");
}

#[test]
fn when_the_pages_for_changes_are_used_up_writing_fails_and_reading_goes_on() {
    let image = image(32);
    let mut driver = driver(Disk::copy_on_write(image, 2).unwrap());
    driver.ram.put(DATA, &[0xCD; 512]);
    for (sector, status) in [(0, 0), (1, 0), (8, 0), (16, 1), (7, 0)] {
        assert_eq!(ask(&mut driver, OUT, sector, &[(DATA, 512, 0)]), (status, 1), "sector={sector}");
    }
    assert_eq!(ask(&mut driver, IN, 16, &[(DATA, 512, WRITE)]), (0, 513));
    assert!(driver.ram.get(DATA, 512) == image[16 * 512..17 * 512]);
    let Device::Block(block) = driver.transport.device_mut() else { panic!("not a disk") };
    assert_eq!(block.disk().changed_pages(), 2);
    block.disk_mut().revert();
    assert_eq!(ask(&mut driver, IN, 0, &[(DATA, 512, WRITE)]), (0, 513));
    assert!(driver.ram.get(DATA, 512) == image[..512]);
}

#[test]
fn the_last_page_may_be_a_part_of_one() {
    let mut driver = driver(Disk::copy_on_write(image(9), 2).unwrap());
    driver.ram.put(DATA, &[1; 512]);
    assert_eq!(ask(&mut driver, OUT, 8, &[(DATA, 512, 0)]), (0, 1));
    assert_eq!(ask(&mut driver, IN, 8, &[(DATA + 512, 512, WRITE)]), (0, 513));
    assert_eq!(driver.ram.get(DATA + 512, 512), [1; 512]);
}

#[test]
fn the_name_is_told_and_what_is_unknown_is_unsupported() {
    let mut driver = driver(Disk::read_only(image(1)).unwrap());
    assert_eq!(ask(&mut driver, GET_ID, 0, &[(DATA, 20, WRITE)]), (0, 21));
    assert_eq!(driver.ram.get(DATA, 20), b"disk-0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(ask(&mut driver, GET_ID, 0, &[(DATA, 4, WRITE)]), (0, 5));
    assert_eq!(ask(&mut driver, GET_ID, 0, &[(DATA, 64, WRITE)]), (0, 20));
    for kind in [2, 11, 13, u32::MAX] {
        assert_eq!(ask(&mut driver, kind, 0, &[(DATA, 512, WRITE)]), (2, 0), "kind={kind}");
    }
}

#[test]
fn a_request_without_header_or_status_breaks_the_queue() {
    for chain in [alloc::vec![(HEADER, 15, 0), (STATUS, 1, WRITE)], alloc::vec![(HEADER, 16, 0)]] {
        let mut driver = driver(Disk::read_only(image(1)).unwrap());
        driver.offer(0, &chain);
        driver.serve();
        assert!(driver.is_broken());
    }
}

#[test]
fn a_large_request_goes_on_where_it_was() {
    let image = image(1024);
    let mut driver = driver(Disk::copy_on_write(image, 128).unwrap());
    offer(&mut driver, IN, 1, &[(DATA, 400_000, WRITE), (DATA + 400_000, 112_000, WRITE)]);
    assert_eq!(driver.step(), ServeProgress::More);
    assert_eq!(driver.ram.get(STATUS, 1), [0xEE]);
    assert_eq!(driver.serve(), 7);
    assert_eq!(driver.used(0), [(0, 512_001)]);
    assert!(driver.ram.get(DATA, 512_000) == image[512..512_512]);
    driver.ram.put(DATA, &[9; 300_032]);
    assert_eq!(ask(&mut driver, OUT, 3, &[(DATA, 300_032, 0)]), (0, 1));
    assert_eq!(ask(&mut driver, IN, 0, &[(DATA, 302_080, WRITE)]), (0, 302_081));
    assert!(driver.ram.get(DATA, 1536) == image[..1536]);
    assert!(driver.ram.get(DATA + 1536, 300_032) == [9; 300_032]);
}

#[test]
fn many_requests_take_several_steps() {
    let mut driver = driver(Disk::read_only(image(1)).unwrap());
    driver.ram.put(HEADER, &FLUSH.to_le_bytes());
    for _ in 0..40 {
        driver.offer(0, &[(HEADER, 16, 0), (STATUS, 1, WRITE)]);
    }
    assert_eq!(driver.step(), ServeProgress::More);
    assert_eq!(driver.used(0).len(), 16);
    assert_eq!(driver.serve(), 2);
    assert_eq!(driver.used(0).len(), 24);
}

#[test]
fn a_request_is_forgotten_at_a_reset() {
    let mut driver = driver(Disk::read_only(image(1024)).unwrap());
    offer(&mut driver, IN, 0, &[(DATA, 512_000, WRITE)]);
    assert_eq!(driver.step(), ServeProgress::More);
    driver.put(0x70, 0);
    driver.set_up(u64::MAX);
    let _ = driver.ram.take_written();
    driver.serve();
    assert!(driver.used(0).is_empty());
    for written in driver.ram.take_written() {
        assert!(written.end < HEADER, "{written:x?}: only the rings");
    }
}

#[test]
fn a_page_that_was_changed_before_a_revert_is_the_images_again_though_another_has_its_place() {
    let image: &'static [u8] = Box::leak(Box::new([7; 8 * 4096]));
    let mut disk = Disk::copy_on_write(image, 2).unwrap();
    disk.write(5 * 4096, 1).unwrap()[0] = 1;
    disk.write(6 * 4096, 1).unwrap()[0] = 2;
    disk.revert();
    assert_eq!(disk.changed_pages(), 0);
    disk.write(3 * 4096, 1).unwrap()[0] = 3;
    let first = |page: u64| disk.read(page * 4096, 1)[0];
    assert_eq!([3, 5, 6].map(first), [3, 7, 7]);
}
