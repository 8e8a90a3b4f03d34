//! Where a vCPU lies while no processor holds it: stopped, or on its way from one to another.
//!
//! A vCPU is a `Box<Vcpu>`: whoever has the box owns it, and nobody else can run it. It is in one processor's table, or in its
//! berth. A berth's lock is held only to put the box in or to take it out.

use crate::base::hardware::GuestRam;
use crate::base::lock::{Lock, Rank};
use crate::dispatch::vcpu::Vcpu;
use crate::policy::publish::VcpuShared;
use crate::policy::whereabouts::Life;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// One berth.
type Berth<S, R> = Lock<Option<Box<Vcpu<S, R>>>>;

/// A berth for each vCPU, by slot.
pub struct Berths<S, R: GuestRam + 'static>(Box<[Berth<S, R>]>);

impl<S, R: GuestRam> Berths<S, R> {
    /// All vCPUs in their berths, by slot.
    pub fn new(vcpus: Vec<Box<Vcpu<S, R>>>) -> Self {
        Self(vcpus.into_iter().map(|vcpu| Lock::new(Rank::Leaf, Some(vcpu))).collect())
    }

    fn berth(&self, of: &VcpuShared) -> Option<&Berth<S, R>> {
        self.0.get(usize::from(of.slot.0))
    }

    /// Leaves a vCPU that is on its way.
    pub fn leave(&self, vcpu: Box<Vcpu<S, R>>) {
        if let Some(berth) = self.berth(vcpu.shared) {
            *berth.lock() = Some(vcpu);
        }
    }

    /// Leaves a vCPU that is stopped. Whoever sees that it is finds it here.
    pub fn lay_up(&self, vcpu: Box<Vcpu<S, R>>) {
        let shared = vcpu.shared;
        if let Some(berth) = self.berth(shared) {
            let mut berth = berth.lock();
            *berth = Some(vcpu);
            shared.set_life(Life::Stopped);
        }
    }

    /// Takes a vCPU that is on its way; `None` for one that is not here, or stopped.
    pub fn pick_up(&self, shared: &VcpuShared) -> Option<Box<Vcpu<S, R>>> {
        let mut berth = self.berth(shared)?.lock();
        if shared.life() == Life::Stopped { None } else { berth.take() }
    }

    /// Takes a vCPU that is stopped, to start it; `None` for one that is not, or that somebody else starts already.
    pub fn launch(&self, shared: &VcpuShared) -> Option<Box<Vcpu<S, R>>> {
        let mut berth = self.berth(shared)?.lock();
        if shared.life() == Life::Stopped { berth.take() } else { None }
    }
}
