//! Where a vCPU lies while no processor holds it: stopped, or on its way from one to another. Orders to stop and to start are
//! taken here too: what an order finds, and what it does about that, are under one lock.
//!
//! A vCPU is a `Box<Vcpu>`: whoever has the box owns it, and nobody else can run it. It is in one processor's table, or in its
//! parking space.
//!
//! An order to stop a vCPU that another processor holds is obeyed later. Until then, later orders find the vCPU as it will be: a
//! start-up waits in the parking space until the vCPU is laid up, and another order to stop takes it away again.

use crate::base::lock::{Lock, Rank};
use crate::guest::platform::Platform;
use crate::guest::vcpu::Vcpu;
use crate::policy::presence::{Attention, Life};
use crate::policy::vcpu_shared::VcpuShared;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

/// One parking space.
struct ParkingSpace<P: Platform> {
    vcpu: Option<Box<Vcpu<P>>>,
    /// The page at which a start-up IPI starts the vCPU as soon as it has stopped, as it was ordered to.
    start_up: Option<u8>,
}

/// What an order to start finds.
#[must_use]
pub enum Found<P: Platform> {
    /// The vCPU was stopped; it is the caller's to start.
    Stopped(Box<Vcpu<P>>),
    /// It is ordered to stop, and whoever lays it up starts it.
    Stopping,
    /// It runs, or somebody else starts it already.
    Started,
}

/// A parking space for each vCPU, by slot.
pub struct Parking<P: Platform>(Box<[Lock<ParkingSpace<P>>]>);

impl<P: Platform> Parking<P> {
    /// All vCPUs in their parking spaces, by slot.
    pub fn new(vcpus: Vec<Box<Vcpu<P>>>) -> Self {
        let space = |vcpu| Lock::new(Rank::Leaf, ParkingSpace { vcpu: Some(vcpu), start_up: None });
        Self(vcpus.into_iter().map(space).collect())
    }

    fn space(&self, of: &VcpuShared) -> Option<&Lock<ParkingSpace<P>>> {
        self.0.get(usize::from(of.slot.0))
    }

    /// Leaves a vCPU that is on its way.
    pub fn leave(&self, vcpu: Box<Vcpu<P>>) {
        if let Some(space) = self.space(vcpu.shared) {
            space.lock().vcpu = Some(vcpu);
        }
    }

    /// Takes a vCPU that is on its way; `None` for one that is not here, or stopped.
    pub fn pick_up(&self, shared: &VcpuShared) -> Option<Box<Vcpu<P>>> {
        let mut space = self.space(shared)?.lock();
        if shared.life() == Life::Stopped { None } else { space.vcpu.take() }
    }

    /// Takes a vCPU that is stopped, to look at it; [`Self::retire`] puts it back. `None` for one that is not stopped.
    pub fn take_stopped(&self, shared: &VcpuShared) -> Option<Box<Vcpu<P>>> {
        let mut space = self.space(shared)?.lock();
        if shared.life() == Life::Stopped { space.vcpu.take() } else { None }
    }

    /// Leaves a vCPU that is stopped, for good or until somebody starts it. No earlier start-up counts.
    pub fn retire(&self, vcpu: Box<Vcpu<P>>) {
        let shared = vcpu.shared;
        if let Some(space) = self.space(shared) {
            let mut space = space.lock();
            *space = ParkingSpace { vcpu: Some(vcpu), start_up: None };
            shared.set_life(Life::Stopped);
        }
    }

    /// Leaves a vCPU that has obeyed its order to stop, and so is stopped; or gives it back with the page at which a start-up
    /// has it begin, which came meanwhile.
    pub fn lay_up(&self, vcpu: Box<Vcpu<P>>) -> Option<(Box<Vcpu<P>>, u8)> {
        let shared = vcpu.shared;
        let mut space = self.space(shared)?.lock();
        if let Some(page) = space.start_up.take() {
            revive(shared);
            return Some((vcpu, page));
        }
        space.vcpu = Some(vcpu);
        shared.set_life(Life::Stopped);
        None
    }

    /// Orders a vCPU to stop, and overtakes a start-up that waits for that. False when it is stopped: then nobody is to be told.
    pub fn order_stop(&self, shared: &VcpuShared) -> bool {
        let Some(space) = self.space(shared) else { return false };
        let mut space = space.lock();
        space.start_up = None;
        let lives = shared.life() != Life::Stopped;
        if lives {
            shared.request_attention(Attention::STOP);
        }
        lives
    }

    /// Orders a vCPU to start. One that has not yet obeyed its order to stop begins later, by a start-up IPI only: at `start_up`.
    pub fn order_start(&self, shared: &VcpuShared, start_up: Option<u8>) -> Found<P> {
        let Some(space) = self.space(shared) else { return Found::Started };
        let mut space = space.lock();
        if shared.life() == Life::Stopped {
            let Some(vcpu) = space.vcpu.take() else { return Found::Started };
            revive(shared);
            return Found::Stopped(vcpu);
        }
        if let Some(page) = start_up
            && shared.attention().intersects(Attention::STOP)
        {
            let _ = *space.start_up.get_or_insert(page); // the first counts
            return Found::Stopping;
        }
        Found::Started
    }
}

/// From here on, under the parking space's lock, a vCPU is one that lives: the next order to stop is for this life.
fn revive(shared: &VcpuShared) {
    shared.presence.attention.fetch_and((!Attention::STOP).bits(), SeqCst);
    shared.set_life(Life::Runnable);
}
