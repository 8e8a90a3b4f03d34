//! vCPUs that move between the queues of two processors, and weights that change.

#![expect(clippy::unwrap_used, reason = "helpers of tests, whose arguments are constants")]

use hv_core::base::time::{Frequency, Ticks, Tsc};
use hv_core::policy::sched::{Departure, EntityId, Params, RunQueue, SliceRequest, Slot};

const US: u64 = 2_000;

fn params() -> Params {
    Params::new(Frequency::from_khz(2_000_000).unwrap())
}

fn at(us: u64) -> Tsc {
    Tsc(us * US)
}

fn us(us: u64) -> Ticks {
    Ticks(us * US)
}

fn ask(us: u64) -> SliceRequest {
    SliceRequest { length: Ticks(us * US), deadline: None }
}

/// Two processors' queues with room for the same guests, of these weights and one vCPU each, all of them attached to the first.
fn two_queues(weights: &[u32]) -> [RunQueue; 2] {
    let mut queues = [RunQueue::new(params()), RunQueue::new(params())];
    for queue in &mut queues {
        queue.prepare(&vec![1; weights.len()]);
    }
    for (weight, guest) in weights.iter().zip(0..) {
        queues[0].attach(Slot(guest), EntityId(guest), 0, *weight, Departure::default(), at(0));
    }
    queues
}

#[test]
fn what_a_vcpu_did_goes_along_when_it_leaves_for_another_queue() {
    let [mut here, mut there] = two_queues(&[1, 1]);
    let _ = here.wake(Slot(0), ask(2_000), at(0));
    assert_eq!(here.pick(at(0)), Some(Slot(0)));
    let departure = here.detach(Slot(0), at(700));
    assert_eq!(departure.run(), us(700));
    assert_eq!(here.pick(at(700)), None);
    there.attach(Slot(0), EntityId(0), 0, 1, departure, at(700));
    let _ = there.wake(Slot(0), ask(2_000), at(700));
    assert_eq!(there.pick(at(700)), Some(Slot(0)));
    there.charge(at(1_000));
    assert_eq!(there.usage(Slot(0)).run, us(1_000));
}

#[test]
fn a_debt_is_not_shed_by_leaving_for_another_queue_and_back() {
    let [mut here, mut there] = two_queues(&[1, 1]);
    for slot in [Slot(0), Slot(1)] {
        let _ = here.wake(slot, ask(10_000), at(0));
    }
    let first = here.pick(at(0)).unwrap();
    let departure = here.detach(first, at(4_000));
    // It had 4 ms, and 2 ms were due.
    let debt = departure.debt();
    assert!(debt >= us(1_999) && debt <= us(2_001), "{debt:?}");
    there.attach(first, EntityId(first.0), 0, 1, departure, at(4_000));
    assert_eq!(there.usage(first).lag, -i64::try_from(debt.0).unwrap());
    let again = there.detach(first, at(4_000));
    assert_eq!(again.debt(), debt);
    here.attach(first, EntityId(first.0), 0, 1, again, at(4_000));
    assert_eq!(here.usage(first).lag, -i64::try_from(debt.0).unwrap(), "and it is not owed twice");
}

#[test]
fn a_guest_that_left_counts_no_more_once_its_debt_is_passed() {
    let [mut here, _] = two_queues(&[1, 3]);
    for slot in [Slot(0), Slot(1)] {
        let _ = here.wake(slot, ask(1_000), at(0));
    }
    let _ = here.pick(at(0));
    let _ = here.detach(Slot(1), at(100));
    let _ = here.pick(at(100));
    here.charge(at(50_000));
    let before = here.usage(Slot(0)).lag;
    here.charge(at(60_000));
    assert_eq!(here.usage(Slot(0)).lag, before, "alone, the clock runs with it");
}

#[test]
fn a_change_of_weight_keeps_what_is_owed_and_changes_what_follows() {
    let [mut queue, _] = two_queues(&[1, 1]);
    for slot in [Slot(0), Slot(1)] {
        let _ = queue.wake(slot, ask(1_000), at(0));
    }
    let _ = queue.pick(at(0));
    queue.charge(at(600));
    let lags = [Slot(0), Slot(1)].map(|slot| queue.usage(slot).lag);
    queue.set_weight(EntityId(0), 3, at(600));
    for (slot, before) in [Slot(0), Slot(1)].into_iter().zip(lags) {
        assert!((queue.usage(slot).lag - before).abs() <= 4, "{slot:?}");
    }
    let mut now = 600;
    let start = [Slot(0), Slot(1)].map(|slot| queue.usage(slot).run.0);
    while now < 200_600 {
        now += 50;
        let _ = queue.pick(at(now));
    }
    let got = [Slot(0), Slot(1)].map(|slot| queue.usage(slot).run.0);
    let share = (got[0] - start[0]) as f64 / (got[0] + got[1] - start[0] - start[1]) as f64;
    assert!((share - 0.75).abs() < 0.01, "{share}");
}

#[test]
fn what_is_not_there_is_neither_attached_nor_detached() {
    let [mut queue, _] = two_queues(&[1]);
    for (slot, guest, index) in [(7, 0, 0), (0, 9, 0), (0, 0, 1), (0, 0, 200), (u16::MAX, u16::MAX, 255)] {
        queue.attach(Slot(slot), EntityId(guest), index, 1, Departure::default(), at(0));
        queue.set_weight(EntityId(guest), 0, at(0));
    }
    assert_eq!(queue.detach(Slot(3), at(0)).debt(), Ticks(0));
    let _ = queue.detach(Slot(0), at(0));
    assert_eq!(queue.pick(at(0)), None);
    assert_eq!(queue.waiting_slots().count(), 0);
}

#[test]
fn a_guest_that_has_just_left_owes_what_is_debited_to_it_then() {
    // One that owed nothing is forgotten at once; one that ran ahead of its share is remembered for a while.
    for ran in [0, 300] {
        let [mut here, _] = two_queues(&[1, 1]);
        let _ = here.wake(Slot(0), ask(2_000), at(0));
        assert_eq!(here.pick(at(0)), Some(Slot(0)));
        let departure = here.detach(Slot(0), at(ran));
        let _ = here.wake(Slot(1), ask(2_000), at(ran));
        assert_eq!(here.pick(at(ran)), Some(Slot(1)));
        here.debit(EntityId(0), Slot(0), us(5_000));
        here.charge(at(ran + 5_000));
        assert_eq!(here.usage(Slot(1)).run, us(0), "who runs meanwhile pays nothing");
        here.attach(Slot(0), EntityId(0), 0, 1, departure, at(ran + 5_000));
        let owes = -here.usage(Slot(0)).lag;
        assert!(owes >= i64::try_from(us(5_000).0).unwrap(), "ran {ran} us, owes {owes}");
    }
}
