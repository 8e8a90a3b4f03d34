//! The laws of the scheduler, one by one, on its public interface.

#![expect(clippy::unwrap_used, reason = "helpers of tests, whose arguments are constants")]

use hv_core::base::time::{Frequency, Ticks, Tsc};
use hv_core::policy::sched::{EntityId, Params, RunQueue, SliceRequest, Slot, Wake};

const US: u64 = 2_000;
const MS: u64 = 1_000 * US;

fn queue() -> RunQueue {
    RunQueue::new(Params::new(Frequency::from_khz(2_000_000).unwrap()))
}

fn at(us: u64) -> Tsc {
    Tsc(us * US)
}

fn request(us: u64) -> SliceRequest {
    SliceRequest { length: Ticks(us * US), deadline: None }
}

fn by(us: u64, deadline: Tsc) -> SliceRequest {
    SliceRequest { length: Ticks(us * US), deadline: Some(deadline) }
}

/// Guests of one vCPU each, all awake at tick 0 with a request of 2 ms.
fn awake(weights: &[u32]) -> (RunQueue, Vec<Slot>) {
    let mut queue = queue();
    let slots = weights
        .iter()
        .map(|weight| {
            let guest = queue.add_entity(*weight).unwrap();
            queue.add_vcpu(guest).unwrap()
        })
        .collect::<Vec<_>>();
    for slot in &slots {
        let _ = queue.wake(*slot, request(2_000), Tsc(0));
    }
    (queue, slots)
}

/// Runs until `end`, deciding only when the queue asks for it; returns how often it did.
fn run(queue: &mut RunQueue, mut now: Tsc, end: Tsc) -> u64 {
    let mut decisions = 0;
    while now < end {
        queue.pick(now);
        decisions += 1;
        now = queue.slice_end().min(end);
    }
    queue.charge(end);
    decisions
}

#[test]
fn weights_1_2_4_share_a_second_within_one_percent() {
    let (mut queue, slots) = awake(&[1, 2, 4]);
    run(&mut queue, Tsc(0), at(1_000_000));
    for (slot, weight) in slots.iter().zip([1u64, 2, 4]) {
        let due = 1_000 * MS * weight / 7;
        let got = queue.usage(*slot).run.0;
        assert!(got.abs_diff(due) <= due / 100, "weight={weight} got={got} due={due}");
    }
}

#[test]
fn extreme_weights_share_as_they_say() {
    let (mut queue, slots) = awake(&[1, 9_999]);
    run(&mut queue, Tsc(0), at(100_000_000));
    let due = 10 * MS;
    let got = queue.usage(slots[0]).run.0;
    assert!(got.abs_diff(due) <= 2 * MS, "got={got} due={due}");
}

#[test]
fn a_lone_vcpu_needs_no_timer() {
    let (mut queue, slots) = awake(&[5]);
    assert_eq!(queue.pick(Tsc(0)), Some(slots[0]));
    assert_eq!(queue.slice_end(), Tsc::NEVER);
    assert!(!queue.wanted());
    assert_eq!(run(&mut queue, Tsc(0), at(3_600_000_000)), 1);
    assert_eq!(queue.usage(slots[0]).run.0, at(3_600_000_000).0);
    queue.yield_current(request(500), at(3_600_000_000));
    assert_eq!(queue.pick(at(3_600_000_000)), Some(slots[0]));
    assert_eq!(queue.slice_end(), Tsc::NEVER);
}

#[test]
fn an_idle_queue_picks_nobody_and_starts_with_whoever_wakes() {
    let (mut queue, slots) = awake(&[1]);
    assert_eq!(queue.pick(Tsc(0)), Some(slots[0]));
    queue.block_current(at(10));
    assert_eq!(queue.pick(at(10)), None);
    assert_eq!((queue.current(), queue.slice_end(), queue.wanted()), (None, Tsc::NEVER, false));
    assert_eq!(queue.wake(slots[0], request(2_000), at(20)), Wake::Idle);
    assert_eq!(queue.wake(slots[0], request(2_000), at(20)), Wake::AlreadyRunnable);
    assert_eq!(queue.pick(at(20)), Some(slots[0]));
    assert_eq!(queue.usage(slots[0]).run, Ticks(10 * US));
}

#[test]
fn sleep_earns_no_credit() {
    let (mut queue, slots) = awake(&[1, 1]);
    queue.pick(Tsc(0));
    queue.block_current(Tsc(0));
    run(&mut queue, Tsc(0), at(1_000_000));
    let before = queue.usage(slots[1]).run.0;
    let _ = queue.wake(slots[0], request(2_000), at(1_000_000));
    run(&mut queue, at(1_000_000), at(1_100_000));
    let other = queue.usage(slots[1]).run.0 - before;
    assert!(other.abs_diff(50 * MS) <= 2 * MS, "other={other}");
}

#[test]
fn debt_is_kept_over_sleep() {
    let (mut queue, slots) = awake(&[1, 1]);
    assert_eq!(queue.pick(Tsc(0)), Some(slots[0]));
    queue.block_current(at(2_000));
    assert_eq!(queue.usage(slots[0]).lag, -(1_000 * US as i64));
    assert_eq!(queue.pick(at(2_000)), Some(slots[1]));
    let woken = queue.wake(slots[0], request(100), at(2_001));
    assert!(matches!(woken, Wake::Queued { decide_at } if decide_at > at(2_900)), "{woken:?}");
}

#[test]
fn debt_survives_removal_and_an_empty_account_carries_none() {
    let mut queue = queue();
    let ids: Vec<EntityId> = (0..2).map(|_| queue.add_entity(1).unwrap()).collect();
    let slots: Vec<Slot> = ids.iter().map(|id| queue.add_vcpu(*id).unwrap()).collect();
    let _ = queue.wake(slots[0], request(2_000), Tsc(0));
    let _ = queue.wake(slots[1], request(2_000), Tsc(0));
    assert_eq!(queue.pick(Tsc(0)), Some(slots[0]));
    let carried = queue.remove_entity(ids[0], at(2_000));
    assert_eq!(carried.debt, Ticks(1_000 * US));
    assert_eq!(queue.pick(at(2_000)), Some(slots[1]));
    let back = queue.add_entity_with(1, carried).unwrap();
    let slot = queue.add_vcpu(back).unwrap();
    assert_eq!(queue.usage(slot).lag, -(1_000 * US as i64));
    assert_eq!(queue.remove_entity(ids[1], at(2_000)).debt, Ticks(0));
    assert_eq!(queue.pick(at(2_000)), None);
}

#[test]
fn an_earlier_deadline_preempts_after_q0_and_not_before() {
    let (mut queue, slots) = awake(&[1, 1]);
    queue.pick(Tsc(0));
    queue.block_current(at(0));
    assert_eq!(queue.pick(at(0)), Some(slots[1]));
    let woken = queue.wake(slots[0], request(200), at(10));
    assert_eq!(woken, Wake::Queued { decide_at: at(100) });
    assert_eq!(queue.slice_end(), at(100));
    assert_eq!(queue.pick(at(99)), Some(slots[1]));
    assert_eq!(queue.pick(at(100)), Some(slots[0]));
}

#[test]
fn a_later_deadline_waits_for_the_end_of_the_request() {
    let (mut queue, slots) = awake(&[1, 1]);
    queue.pick(Tsc(0));
    queue.block_current(at(0));
    queue.pick(at(0));
    let woken = queue.wake(slots[0], request(5_000), at(10));
    assert_eq!(woken, Wake::Queued { decide_at: at(2_000) });
    assert_eq!(queue.pick(at(1_999)), Some(slots[1]));
    assert_eq!(queue.pick(at(2_000)), Some(slots[0]));
}

#[test]
fn two_yielders_take_turns() {
    let (mut queue, slots) = awake(&[1, 1]);
    let mut now = 0;
    let mut runs = vec![queue.pick(at(0)).unwrap()];
    for _ in 0..100 {
        now += 1;
        queue.yield_current(request(2_000), at(now));
        runs.push(queue.pick(at(now)).unwrap());
    }
    assert!(runs.windows(2).all(|pair| pair[0] != pair[1]), "{runs:?}");
    assert_eq!(queue.usage(slots[0]).run, Ticks(50 * US));
}

#[test]
fn a_yielder_is_skipped_once_and_loses_nothing() {
    let (mut queue, slots) = awake(&[1, 1]);
    // The first one runs 500 µs ahead and sleeps; the second one, who is next, yields.
    assert_eq!(queue.pick(at(0)), Some(slots[0]));
    queue.block_current(at(500));
    assert_eq!(queue.pick(at(500)), Some(slots[1]));
    let _ = queue.wake(slots[0], request(2_000), at(500));
    queue.yield_current(request(2_000), at(500));
    assert_eq!(queue.pick(at(500)), Some(slots[0]));
    run(&mut queue, at(500), at(200_500));
    let (first, second) = (queue.usage(slots[0]).run.0, queue.usage(slots[1]).run.0);
    assert!(first.abs_diff(second) <= 2 * MS, "first={first} second={second}");
}

#[test]
fn constant_yielding_neither_wins_nor_loses_share() {
    let (mut queue, slots) = awake(&[1, 1]);
    let mut now = Tsc(0);
    while now < at(1_000_000) {
        let runner = queue.pick(now).unwrap();
        let end = queue.slice_end();
        if runner == slots[1] {
            now = end.min(now + Ticks(20 * US));
            if now < end {
                queue.yield_current(request(100), now);
            }
        } else {
            now = end;
        }
    }
    queue.charge(now);
    let (hog, polite) = (queue.usage(slots[0]).run.0, queue.usage(slots[1]).run.0);
    assert!(hog.abs_diff(polite) <= 4 * MS, "hog={hog} polite={polite}");
}

#[test]
fn starting_vcpus_buys_no_share() {
    let mut queue = queue();
    let one = queue.add_entity(1).unwrap();
    let many = queue.add_entity(1).unwrap();
    let lone = queue.add_vcpu(one).unwrap();
    let crowd: Vec<Slot> = (0..64).map(|_| queue.add_vcpu(many).unwrap()).collect();
    for slot in crowd.iter().chain([&lone]) {
        let _ = queue.wake(*slot, request(2_000), Tsc(0));
    }
    assert_eq!(queue.waiting(), 65);
    run(&mut queue, Tsc(0), at(1_280_000));
    let got = queue.usage(lone).run.0;
    assert!(got.abs_diff(640 * MS) <= 2 * MS, "got={got}");
    for slot in crowd {
        let got = queue.usage(slot).run.0;
        assert!(got.abs_diff(10 * MS) <= 2 * MS, "slot={slot:?} got={got}");
    }
}

#[test]
fn siblings_with_a_deadline_go_first_and_the_earliest_of_them() {
    let mut queue = queue();
    let guest = queue.add_entity(1).unwrap();
    let slots: Vec<Slot> = (0..3).map(|_| queue.add_vcpu(guest).unwrap()).collect();
    let _ = queue.wake(slots[0], request(2_000), Tsc(0));
    assert_eq!(queue.pick(Tsc(0)), Some(slots[0]));
    let late = queue.wake(slots[1], by(200, at(900)), at(10));
    let soon = queue.wake(slots[2], by(200, at(800)), at(20));
    assert_eq!((late, soon), (Wake::Queued { decide_at: at(100) }, Wake::Queued { decide_at: at(100) }));
    assert_eq!(queue.pick(at(100)), Some(slots[2]));
    queue.block_current(at(110));
    assert_eq!(queue.pick(at(110)), Some(slots[1]));
    queue.block_current(at(120));
    assert_eq!(queue.pick(at(120)), Some(slots[0]));
}

#[test]
fn a_directed_yield_runs_the_target_on_the_donors_account() {
    let (mut queue, slots) = awake(&[1, 1]);
    assert_eq!(queue.pick(at(0)), Some(slots[0]));
    let end = queue.slice_end();
    assert!(queue.yield_to(slots[1], at(300)));
    assert_eq!((queue.current(), queue.slice_end(), queue.waiting()), (Some(slots[1]), end, 1));
    queue.charge(at(1_300));
    let (donor, target) = (queue.usage(slots[0]), queue.usage(slots[1]));
    assert_eq!((donor.run.0, target.run.0), (300 * US, 1_000 * US));
    // 1.3 ms were paid by the donor: 0.65 more than its half of what passed.
    assert_eq!((donor.lag, target.lag), (-(650 * US as i64), 650 * US as i64));
    queue.block_current(at(1_300));
    assert_eq!(queue.pick(at(1_300)), Some(slots[0]));
}

#[test]
fn a_directed_yield_to_a_sleeper_the_runner_or_nobody_changes_nothing() {
    let (mut queue, slots) = awake(&[1, 1, 1]);
    assert_eq!(queue.pick(at(0)), Some(slots[0]));
    assert_eq!(queue.pick(at(0)), Some(slots[0]));
    queue.block_current(at(0));
    assert_eq!(queue.pick(at(0)), Some(slots[1]));
    let before = format!("{queue:?}");
    for target in [slots[0], slots[1], Slot(99), Slot(u16::MAX)] {
        assert!(!queue.yield_to(target, at(50)));
    }
    assert_eq!(format!("{queue:?}"), before);
}

#[test]
fn an_extension_is_short_comes_once_a_turn_and_is_paid_for() {
    let (mut queue, slots) = awake(&[1, 1]);
    assert_eq!(queue.pick(at(0)), Some(slots[0]));
    assert_eq!(queue.extend(at(1_000)), None);
    let end = queue.slice_end();
    assert_eq!(queue.extend(end), Some(at(2_010)));
    assert_eq!(queue.slice_end(), at(2_010));
    assert_eq!(queue.pick(at(2_005)), Some(slots[0]));
    assert_eq!(queue.extend(at(2_010)), None);
    assert_eq!(queue.pick(at(2_010)), Some(slots[1]));
    assert_eq!(queue.usage(slots[0]).lag, -(1_005 * US as i64));
}

#[test]
fn overrun_extensions_are_refused_for_longer_and_longer_until_one_is_kept() {
    let (mut queue, slots) = awake(&[1, 1]);
    let mut now = Tsc(0);
    let (mut asked, mut granted) = (0, Vec::new());
    while asked < 20 {
        let runner = queue.pick(now);
        now = queue.slice_end();
        if runner == Some(slots[0]) {
            if let Some(end) = queue.extend(now) {
                granted.push(asked);
                now = end;
            }
            asked += 1;
        }
    }
    queue.pick(now);
    assert_eq!(granted, [0, 2, 6, 14]);
    assert_eq!(queue.usage(slots[0]).overruns, 4);
    // One kept extension ends it.
    while asked < 40 {
        let runner = queue.pick(now);
        now = queue.slice_end();
        if runner == Some(slots[0]) {
            if queue.extend(now).is_some() {
                granted.push(asked);
                queue.yield_current(request(2_000), now);
            }
            asked += 1;
        }
    }
    assert_eq!(granted[4..], [30, 31, 32, 33, 34, 35, 36, 37, 38, 39]);
}

#[test]
fn hypervisor_time_is_paid_by_the_guest_that_caused_it() {
    let (mut queue, slots) = awake(&[1, 1]);
    assert_eq!(queue.pick(at(0)), Some(slots[0]));
    queue.charge(at(500));
    queue.debit(EntityId(1), slots[1], Ticks(100 * US));
    assert_eq!(queue.slice_end(), at(2_100));
    queue.charge(at(1_000));
    assert_eq!(queue.usage(slots[0]).run.0, 900 * US);
    assert_eq!(queue.usage(slots[1]).run.0, 100 * US);
    run(&mut queue, at(1_000), at(400_000));
    let (first, second) = (queue.usage(slots[0]).run.0, queue.usage(slots[1]).run.0);
    assert_eq!(first + second, 400 * MS);
    assert!(first.abs_diff(second) <= 2 * MS, "first={first} second={second}");
}

#[test]
fn steal_is_the_time_waited_for_the_cpu() {
    let (mut queue, slots) = awake(&[1, 1]);
    run(&mut queue, Tsc(0), at(100_000));
    let (first, second) = (queue.usage(slots[0]), queue.usage(slots[1]));
    assert_eq!(first.run.0 + first.wait.0, 100 * MS);
    assert_eq!(second.run.0 + second.wait.0, 100 * MS);
    assert!(first.run.0 > 10 * MS && second.run.0 > 10 * MS);
}

#[test]
fn unknown_slots_and_guests_are_ignored() {
    let (mut queue, _) = awake(&[1, 1]);
    queue.pick(at(0));
    let before = format!("{queue:?}");
    for raw in [2, 77, u16::MAX] {
        assert_eq!(queue.wake(Slot(raw), request(1), at(0)), Wake::AlreadyRunnable);
        queue.debit(EntityId(raw), Slot(raw), Ticks(5));
        queue.remove_vcpu(Slot(raw), at(0));
        queue.stop(Slot(raw), at(0));
        assert!(queue.add_vcpu(EntityId(raw)).is_err());
        let _ = queue.remove_entity(EntityId(raw), at(0));
    }
    assert_eq!(format!("{queue:?}"), before);
}

#[test]
fn any_request_length_is_clamped() {
    let (mut queue, slots) = awake(&[1, 1]);
    queue.pick(at(0));
    queue.yield_current(SliceRequest { length: Ticks(0), deadline: None }, at(1));
    assert_eq!(queue.pick(at(1)), Some(slots[1]));
    queue.yield_current(SliceRequest { length: Ticks(u64::MAX), deadline: Some(Tsc::NEVER) }, at(2));
    assert_eq!(queue.pick(at(2)), Some(slots[0]));
    assert_eq!(queue.slice_end(), at(102));
}

#[test]
fn a_lone_guest_runs_up_no_debt() {
    let (mut queue, slots) = awake(&[1, 3]);
    assert_eq!(queue.pick(at(0)), Some(slots[1]));
    queue.block_current(at(0));
    assert_eq!(queue.pick(at(0)), Some(slots[0]));
    queue.block_current(at(1_000_000));
    assert_eq!(queue.usage(slots[0]).lag, 0);
    assert_eq!(queue.pick(at(1_000_000)), None);
}

#[test]
fn hours_alone_change_nothing_for_those_who_wake_later() {
    let (mut queue, slots) = awake(&[1, 2]);
    assert_eq!(queue.pick(at(0)), Some(slots[1]));
    queue.block_current(at(1_000));
    assert_eq!(queue.pick(at(1_000)), Some(slots[0]));
    // Ten hours without an exit: the base of virtual time moves many times.
    let later = at(36_000_000_000);
    let _ = queue.wake(slots[1], request(2_000), later);
    let before = (queue.usage(slots[0]).run.0, queue.usage(slots[1]).run.0);
    run(&mut queue, later, at(36_000_300_000));
    let got = (queue.usage(slots[0]).run.0 - before.0, queue.usage(slots[1]).run.0 - before.1);
    assert!(got.0.abs_diff(100 * MS) <= 2 * MS && got.1.abs_diff(200 * MS) <= 2 * MS, "{got:?}");
}

#[test]
fn debt_of_any_size_is_kept() {
    let (mut queue, slots) = awake(&[1, 1]);
    queue.pick(at(0));
    // An hour of interrupts for a guest of the smallest weight: more than a start can hold.
    let hour = Ticks(3_600_000 * MS);
    queue.debit(EntityId(1), slots[1], hour);
    assert_eq!(queue.usage(slots[1]).lag, -i64::try_from(hour.0).unwrap());
    let mut now = Tsc(0) + hour;
    for _ in 0..10 {
        assert_eq!(queue.pick(now), Some(slots[0]));
        now = queue.slice_end();
    }
    let carried = queue.remove_entity(EntityId(1), now);
    assert!(carried.debt.0 > hour.0 - 100 * MS, "{carried:?}");
}
