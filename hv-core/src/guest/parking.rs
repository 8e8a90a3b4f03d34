//! Parking spaces hold the vCPUs that no processor holds: those that are stopped, and those that migrate from one processor to
//! another. Orders to stop and to start are handled here too, so that an order tests a vCPU's state and acts on it under one lock.
//!
//! A vCPU is a `Box<Vcpu>`: the owner of the box owns the vCPU, and nobody else can run it. The box is in one processor's table or in
//! the vCPU's parking space.
//!
//! A processor that holds a vCPU obeys an order to stop it later. Until then, later orders treat the vCPU as stopped: a start-up IPI
//! waits in the parking space until the holder lays the vCPU up, and another order to stop cancels that start-up.

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
    /// The page of a pending start-up IPI: the vCPU starts there as soon as it has obeyed its order to stop.
    start_up: Option<u8>,
}

/// The state in which an order to start finds a vCPU.
#[must_use]
pub enum Found<P: Platform> {
    /// The vCPU was stopped; the caller now owns it and must start it.
    Stopped(Box<Vcpu<P>>),
    /// The vCPU is ordered to stop; the processor that lays it up will start it.
    Stopping,
    /// The vCPU runs, or another processor is starting it already.
    Started,
}

/// A parking space for each vCPU, by slot.
pub struct Parking<P: Platform>(Box<[Lock<ParkingSpace<P>>]>);

impl<P: Platform> Parking<P> {
    /// Puts each of `vcpus`, which are in the order of their slots, into its parking space.
    pub fn new(vcpus: Vec<Box<Vcpu<P>>>) -> Self {
        let space = |vcpu| Lock::new(Rank::Leaf, ParkingSpace { vcpu: Some(vcpu), start_up: None });
        Self(vcpus.into_iter().map(space).collect())
    }

    fn space(&self, of: &VcpuShared) -> Option<&Lock<ParkingSpace<P>>> {
        self.0.get(usize::from(of.slot.0))
    }

    /// Leaves a migrating vCPU in its parking space.
    pub fn leave(&self, vcpu: Box<Vcpu<P>>) {
        if let Some(space) = self.space(vcpu.shared) {
            space.lock().vcpu = Some(vcpu);
        }
    }

    /// Takes a migrating vCPU; `None` when the vCPU is not here, or is stopped.
    pub fn pick_up(&self, shared: &VcpuShared) -> Option<Box<Vcpu<P>>> {
        let mut space = self.space(shared)?.lock();
        if shared.life() == Life::Stopped { None } else { space.vcpu.take() }
    }

    /// Takes a stopped vCPU, so that the caller can inspect it; [`Self::retire`] puts it back. `None` when the vCPU is not stopped.
    pub fn take_stopped(&self, shared: &VcpuShared) -> Option<Box<Vcpu<P>>> {
        let mut space = self.space(shared)?.lock();
        if shared.life() == Life::Stopped { space.vcpu.take() } else { None }
    }

    /// Leaves a vCPU and marks it stopped, until an order starts it. Any pending start-up IPI is dropped.
    pub fn retire(&self, vcpu: Box<Vcpu<P>>) {
        let shared = vcpu.shared;
        if let Some(space) = self.space(shared) {
            let mut space = space.lock();
            *space = ParkingSpace { vcpu: Some(vcpu), start_up: None };
            shared.set_life(Life::Stopped);
        }
    }

    /// Leaves a vCPU that obeys its order to stop, and marks it stopped. If a start-up IPI came meanwhile, returns the vCPU and the
    /// page at which it must start instead.
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

    /// Orders a vCPU to stop, and cancels a pending start-up IPI. False when the vCPU is stopped: then the caller need not notify
    /// a processor.
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

    /// Orders a vCPU to start. A vCPU that has not yet obeyed its order to stop can be started by a start-up IPI only: it starts later,
    /// at page `start_up`.
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
            let _ = *space.start_up.get_or_insert(page); // the first start-up IPI wins
            return Found::Stopping;
        }
        Found::Started
    }
}

/// Marks a vCPU runnable and withdraws its order to stop; the next order to stop is for the new life. The caller holds the parking
/// space's lock.
fn revive(shared: &VcpuShared) {
    shared.presence.attention.fetch_and((!Attention::STOP).bits(), SeqCst);
    shared.set_life(Life::Runnable);
}
