//! What drivers say of their memory.

use super::*;
use crate::device::virtio::driver::{Driver, WRITE};
use crate::device::virtio::{Device, ServeProgress};
use alloc::vec::Vec;

const BLOCK: u64 = LARGE_PAGE_BYTES;
const DATA: u64 = 0x8_0000;

fn balloon() -> Driver {
    Driver::ready(Device::Balloon(Balloon::default()))
}

/// A block as a driver reports it.
fn block(n: u64) -> (u64, u32, u16) {
    (n * BLOCK, 2 << 20, WRITE)
}

#[test]
fn the_driver_is_told_a_target_and_tells_what_it_reached() {
    let mut driver = balloon();
    let Device::Balloon(balloon) = driver.transport.device_mut() else { panic!("not a balloon") };
    balloon.set_target(512);
    driver.transport.config_changed();
    assert_eq!((driver.get(0x60), driver.get(0x100), driver.get(0x104)), (2, 512, 0));
    for (offset, value) in [(0x100, 7), (0x104, 300), (0x108, 9)] {
        driver.put(offset, value);
    }
    let _ = driver.transport.write(0x104, 2, 5);
    assert_eq!([0x100, 0x104, 0x108].map(|at| driver.get(at)), [512, 300, 0]);
    let Device::Balloon(balloon) = driver.transport.device() else { panic!("not a balloon") };
    assert_eq!(balloon.actual_pages(), 300);
}

#[test]
fn pages_in_the_balloon_are_accepted_and_stay_where_they_are() {
    let mut driver = balloon();
    for queue in [0, 1] {
        let head = driver.offer(queue, &[(DATA, 1024, 0)]);
        driver.serve();
        assert_eq!(driver.used(queue), [(head, 0)]);
    }
    assert!(driver.seen.freed.is_empty());
}

#[test]
fn reported_blocks_are_given_back_before_the_report_is_answered() {
    for queue in [2, 3, 4] {
        let mut driver = balloon();
        let head = driver.offer(queue, &[block(8), (12 * BLOCK, 4 << 20, WRITE)]);
        driver.serve();
        assert_eq!(driver.seen.freed, [8, 12, 13]);
        assert_eq!(driver.used(queue), [(head, 0)]);
    }
}

#[test]
fn only_whole_blocks_that_are_there_are_given_back() {
    let mut driver = balloon();
    let most = u32::MAX - 4095;
    driver.offer(
        2,
        &[
            (4096, 1 << 20, WRITE),
            (BLOCK - 4096, (2 << 20) + 4096, WRITE),
            (2 * BLOCK + 4096, (2 << 20) - 4096, WRITE),
            (3 * BLOCK, 2 << 20, WRITE), // a block that is not there
            (4095 * BLOCK, 8 << 20, WRITE),
            ((1 << 52) - 4096, 4096, WRITE),
            ((1 << 52) - 4096, most - (32 << 20), WRITE),
        ],
    );
    driver.serve();
    assert_eq!(driver.seen.freed, [1]);
    assert_eq!(driver.used(2).len(), 1);
}

#[test]
fn what_the_driver_only_lets_read_is_no_report() {
    let mut driver = balloon();
    driver.offer(2, &[(BLOCK, 2 << 20, 0)]);
    driver.serve();
    assert!(driver.seen.freed.is_empty() && driver.used(2).len() == 1);
}

#[test]
fn a_large_report_takes_several_steps_and_leaves_out_nothing() {
    let mut driver = balloon();
    driver.offer(2, &[(4 * BLOCK, 80 << 20, WRITE), block(100)]);
    driver.offer(2, &[block(104)]);
    assert_eq!(driver.step(), ServeProgress::More);
    assert_eq!((driver.seen.freed.len(), driver.used(2).len()), (12, 0));
    assert_eq!(driver.serve(), 2);
    let expected: Vec<u64> = (4..44).filter(|n| n % 4 != 3).chain([100, 104]).collect();
    assert_eq!(driver.seen.freed, expected);
    assert_eq!(driver.used(2).len(), 2);
}

#[test]
fn a_report_is_forgotten_with_its_queue() {
    let mut driver = balloon();
    driver.offer(2, &[(0, 200 << 20, WRITE)]);
    assert_eq!(driver.step(), ServeProgress::More);
    let given = driver.seen.freed.len();
    driver.put(0x70, 0);
    driver.set_up(u64::MAX);
    driver.serve();
    assert_eq!((driver.seen.freed.len(), driver.used(2).len()), (given, 0));
}

#[test]
fn a_report_is_not_answered_while_processors_have_translations() {
    let mut driver = balloon();
    driver.seen.shootdown_steps = 2;
    driver.offer(2, &[block(8)]);
    driver.offer(2, &[block(9)]);
    for _ in 0..2 {
        assert_eq!(driver.step(), ServeProgress::More);
        assert_eq!(driver.used(2), []);
        assert_eq!(driver.seen.freed, [8]);
    }
    driver.serve();
    assert_eq!(driver.used(2).len(), 2);
    assert_eq!(driver.seen.freed, [8, 9]);
}

#[test]
fn no_more_blocks_are_given_while_processors_have_translations_of_the_last() {
    let mut driver = balloon();
    driver.seen.shootdown_steps = 1;
    driver.offer(2, &[(4 * BLOCK, 40 << 20, WRITE)]);
    for given in [12, 12, 15] {
        assert_eq!(driver.step(), ServeProgress::More);
        assert_eq!(driver.seen.freed.len(), given);
    }
    driver.serve();
    assert_eq!(driver.used(2).len(), 1);
}
