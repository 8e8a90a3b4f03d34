//! A dispatch beside two vCPUs that change the page table: see `protocol::flush`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a poisoned lock or a lost thread fails the test")]

use pv_abi::model::{Barrier, Shared, explore};
use pv_abi::protocol::flush::{Flush, Shootdown, dispatch, request};
use pv_abi::protocol::word::Word;

const OLD: u64 = 0;
const NEW: u64 = 1;

/// The target was switched out with both old entries in its TLB.
fn a_dispatch_beside_two_senders(hypervisor: Barrier, sender: Barrier) {
    explore(move || {
        let (flush_request, seq) = (Shared::new(0), Shared::new(0));
        let page_table = [Shared::new(OLD), Shared::new(OLD)];
        let senders = page_table.clone().map(|entry| {
            let (flush_request, seq) = (flush_request.with(sender), seq.clone());
            loom::thread::spawn(move || {
                entry.store_relaxed(NEW);
                request(&flush_request, &seq)
            })
        });
        let flush = dispatch(&seq.with(hypervisor), &flush_request.with(hypervisor));
        let used = page_table.map(|entry| match flush {
            Flush::Needed => entry.load_relaxed(),
            Flush::NotNeeded => OLD,
        });
        for (sender, used) in senders.into_iter().zip(used) {
            let shootdown = sender.join().unwrap();
            assert!(shootdown == Shootdown::Interrupt || used == NEW, "runs on a stale translation");
        }
    });
}

#[test]
fn a_deferred_flush_happens_before_the_vcpu_runs() {
    a_dispatch_beside_two_senders(Barrier::Full, Barrier::Full);
}

#[test]
#[should_panic(expected = "runs on a stale translation")]
fn without_the_dispatchs_barrier_the_vcpu_runs_on_a_stale_translation() {
    a_dispatch_beside_two_senders(Barrier::Missing, Barrier::Full);
}

#[test]
#[should_panic(expected = "runs on a stale translation")]
fn without_the_senders_barrier_the_vcpu_runs_on_a_stale_translation() {
    a_dispatch_beside_two_senders(Barrier::Full, Barrier::Missing);
}
