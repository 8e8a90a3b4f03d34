//! Memory is taken away from a guest, one of whose vCPUs runs, comes or goes on another processor: see
//! `policy::mm::shootdown`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a lost thread fails the test")]

use hv_core::base::id::VcpuIndex;
use hv_core::policy::mm::shootdown::{Shootdown, Told};
use hv_core::policy::presence::Attention;
use loom::sync::Arc;
use pv_abi::model::{Barrier, Shared, explore};
use pv_abi::protocol::dispatch::{switch_in, switch_out};
use pv_abi::protocol::word::Word;

const GIVER: VcpuIndex = VcpuIndex(0);
const OTHER: VcpuIndex = VcpuIndex(1);

/// What is left out of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Without {
    Nothing,
    /// The giver's read-modify-write of `attention` orders nothing.
    GiversBarrier,
    /// Publishing as on CPU orders nothing.
    DispatchsBarrier,
    /// The vCPU lets go, and flushes then.
    FlushFirst,
    /// The giver takes everybody off CPU for gone.
    Telling,
}

/// The leaf, what the vCPU's processor has cached of it, and whether the block is somebody else's by now.
#[derive(Clone)]
struct Scene {
    shootdown: Arc<Shootdown<Shared>>,
    attention: Shared,
    seq: Shared,
    leaf: Shared,
    reused: Shared,
    without: Without,
}

const PRESENT: u64 = 1;

impl Scene {
    fn new(seq: u64, without: Without) -> Self {
        Self {
            shootdown: Arc::new(Shootdown::new(|| Shared::new(0))),
            attention: Shared::new(0),
            seq: Shared::new(seq),
            leaf: Shared::new(PRESENT),
            reused: Shared::new(0),
            without,
        }
    }

    fn barrier(&self, missing: Without) -> Barrier {
        if self.without == missing { Barrier::Missing } else { Barrier::Full }
    }

    fn let_go(&self, vcpu: VcpuIndex) {
        if self.shootdown.let_go(vcpu) {
            self.reused.store(1);
        }
    }

    /// As `exit::ballooning::give` does.
    fn give(&self) {
        self.leaf.store_relaxed(0);
        self.shootdown.begin(2);
        let attention = self.attention.with(self.barrier(Without::GiversBarrier));
        match self.shootdown.tell(&attention, &self.seq) {
            Told::Post if self.without != Without::Telling => {}
            Told::Post | Told::Later => self.let_go(OTHER),
        }
        self.let_go(GIVER);
    }

    /// An entry, as `exit::before_entry::handle_pending` does it, and the guest's access by what is cached.
    fn enter(&self, cached: &mut u64) {
        if self.attention.load_relaxed() & Attention::FLUSH.bits() != 0 {
            self.attention.swap(0);
            if self.without == Without::FlushFirst {
                self.let_go(OTHER);
                assert!(*cached == 0 || self.reused.load() == 0, "reaches another one's memory");
            }
            *cached = self.leaf.load_relaxed();
            self.let_go(OTHER);
        }
        if *cached == PRESENT {
            assert_eq!(self.reused.load(), 0, "reaches another one's memory");
        }
    }
}

/// The vCPU comes onto its processor, with the translation still cached there, and looks once more later.
fn a_shootdown_beside_a_dispatch(without: Without) {
    explore(move || {
        let scene = Scene::new(0, without);
        let giver = {
            let scene = scene.clone();
            loom::thread::spawn(move || scene.give())
        };
        let mut cached = PRESENT;
        switch_in(&scene.seq.with(scene.barrier(Without::DispatchsBarrier)));
        scene.enter(&mut cached);
        giver.join().unwrap();
        scene.enter(&mut cached);
        assert_eq!(scene.reused.load(), 1, "nobody hands the block on");
        assert_eq!(cached, 0, "the translation stays");
    });
}

/// The vCPU is on CPU, is told, and leaves.
fn a_shootdown_beside_a_runner(without: Without) {
    explore(move || {
        let scene = Scene::new(1, without);
        let giver = {
            let scene = scene.clone();
            loom::thread::spawn(move || scene.give())
        };
        let mut cached = PRESENT;
        scene.enter(&mut cached);
        switch_out(&scene.seq);
        giver.join().unwrap();
        switch_in(&scene.seq);
        scene.enter(&mut cached);
        assert_eq!(scene.reused.load(), 1, "nobody hands the block on");
    });
}

#[test]
fn a_block_is_handed_on_when_nobody_reaches_it_any_more() {
    a_shootdown_beside_a_dispatch(Without::Nothing);
    a_shootdown_beside_a_runner(Without::Nothing);
}

#[test]
#[should_panic(expected = "reaches another one's memory")]
fn without_the_givers_barrier_a_dispatch_reaches_another_ones_memory() {
    a_shootdown_beside_a_dispatch(Without::GiversBarrier);
}

#[test]
#[should_panic(expected = "reaches another one's memory")]
fn without_the_dispatchs_barrier_it_reaches_another_ones_memory() {
    a_shootdown_beside_a_dispatch(Without::DispatchsBarrier);
}

#[test]
#[should_panic(expected = "reaches another one's memory")]
fn who_lets_go_before_it_flushes_reaches_another_ones_memory() {
    a_shootdown_beside_a_runner(Without::FlushFirst);
}

#[test]
#[should_panic(expected = "reaches another one's memory")]
fn who_runs_and_is_not_waited_for_reaches_another_ones_memory() {
    a_shootdown_beside_a_runner(Without::Telling);
}
