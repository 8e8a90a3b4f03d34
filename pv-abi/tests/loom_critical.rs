//! A guest in a critical section beside the end of its slice: see `protocol::critical`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a poisoned lock or a lost thread fails the test")]

use loom::sync::{Arc, Mutex};
use pv_abi::model::{Shared, explore};
use pv_abi::protocol::critical::{Leave, SliceEnd, dispatched, enter, leave, slice_end};
use pv_abi::protocol::word::Word;
use pv_abi::status::StatusFlags;

/// Where the guest is, by its own account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Outside,
    /// Between the two: either answer of the hypervisor is right.
    OnTheThreshold,
    Inside,
}

type LeaveBy = fn(&Shared, &Shared) -> Leave;

/// The mutation: the flag is tested before the depth goes down.
fn leave_by_test_first(depth: &Shared, flags: &Shared) -> Leave {
    let granted = flags.load_relaxed() & StatusFlags::CRIT_GRANTED.bits() != 0;
    depth.decrement();
    if granted && depth.load_relaxed() == 0 { Leave::Yield } else { Leave::GoOn }
}

/// A guest goes `levels` deep and out again; the slice ends once, anywhere.
fn a_section_beside_the_end_of_a_slice(levels: usize, leave_by: LeaveBy) {
    explore(move || {
        let cpu = Arc::new(Mutex::new(()));
        let (depth, flags) = (Shared::new(0), Shared::new(0));
        dispatched(&flags);
        let place = Arc::new(Mutex::new(Place::Outside));
        let slice = {
            let (cpu, depth, flags, place) = (cpu.clone(), depth.clone(), flags.clone(), place.clone());
            loom::thread::spawn(move || {
                let _outside_the_guest = cpu.lock().unwrap();
                let end = slice_end(&depth, &flags);
                match *place.lock().unwrap() {
                    Place::Inside => assert_eq!(end, SliceEnd::Extend, "cut in two"),
                    Place::Outside => assert_eq!(end, SliceEnd::Preempt, "extended for nothing"),
                    Place::OnTheThreshold => {}
                }
                end
            })
        };
        let go = |to| {
            let _between_exits = cpu.lock().unwrap();
            *place.lock().unwrap() = to;
        };
        let (depth, flags) = (depth.on(&cpu), flags.on(&cpu));
        go(Place::OnTheThreshold);
        (0..levels).for_each(|_| enter(&depth));
        go(Place::Inside);
        for _ in 1..levels {
            assert_eq!(leave_by(&depth, &flags), Leave::GoOn, "yields inside");
        }
        go(Place::OnTheThreshold);
        let left = leave_by(&depth, &flags);
        go(Place::Outside);
        let extended = slice.join().unwrap() == SliceEnd::Extend;
        assert_eq!(left == Leave::Yield, extended, "an extension is paid back, and nothing else");
    });
}

#[test]
fn a_holder_is_not_preempted_and_pays_its_extension_back() {
    a_section_beside_the_end_of_a_slice(1, leave::<Shared>);
    a_section_beside_the_end_of_a_slice(2, leave::<Shared>);
}

#[test]
#[should_panic(expected = "an extension is paid back")]
fn tested_before_the_decrement_an_extension_is_not_paid_back() {
    a_section_beside_the_end_of_a_slice(1, leave_by_test_first);
}

#[test]
fn a_slice_is_extended_once() {
    explore(|| {
        let (depth, flags) = (Shared::new(0), Shared::new(0));
        enter(&depth);
        assert_eq!(slice_end(&depth, &flags), SliceEnd::Extend);
        assert_eq!(slice_end(&depth, &flags), SliceEnd::Preempt);
        dispatched(&flags);
        assert_eq!(slice_end(&depth, &flags), SliceEnd::Extend);
    });
}
