//! How vCPUs start and stop, on whichever processor holds them.

use super::Cpu;
use crate::base::control::Start;
use crate::base::time::{Ticks, Tsc};
use crate::exit::ballooning;
use crate::guest::lifecycle::Stopped;
use crate::guest::parking::Found;
use crate::guest::platform::Platform;
use crate::guest::vcpu::Vcpu;
use crate::policy::presence::Attention;
use crate::policy::vcpu_shared::VcpuShared;
use alloc::boxed::Box;

impl<P: Platform> Cpu<P> {
    /// Starts a vCPU on another one's behalf. Returns false, with nothing done, if the target is not stopped or its guest is
    /// ending.
    pub(super) fn start(&mut self, target: &'static VcpuShared, start: Start, now: Tsc) -> bool {
        let start_up = if let Start::Real { vector } = start { Some(vector) } else { None };
        match self.parking.order_start(target, start_up) {
            Found::Stopped(vcpu) => self.launch(vcpu, start, Ticks(0), now),
            Found::Stopping => true,
            Found::Started => false,
        }
    }

    /// Starts the first vCPU of a guest, all of whose vCPUs are stopped. The vCPU owes `cost`.
    pub(super) fn start_stopped(&mut self, target: &'static VcpuShared, start: Start, cost: Ticks, now: Tsc) {
        if let Found::Stopped(vcpu) = self.parking.order_start(target, None) {
            let _ = self.launch(vcpu, start, cost, now); // refused only where the guest is ending already
        }
    }

    /// Puts a vCPU that the caller owns into its state at `start` and lets it run, here or on its home processor. Returns
    /// false if its guest is ending: then the vCPU stays stopped. Time is accounted for up to `now`: the time since then is
    /// charged to the vCPU's guest, never to another vCPU that runs here.
    fn launch(&mut self, mut vcpu: Box<Vcpu<P>>, start: Start, cost: Ticks, now: Tsc) -> bool {
        let shared = vcpu.shared;
        // The vCPU counts as started from here on: a processor that ends the guest after this finds it so, and stops it.
        let starts = vcpu.guest.life.lifecycle.lock().start();
        if !starts {
            self.parking.retire(vcpu);
            return false;
        }
        begin(&mut vcpu, start);
        vcpu.departure.owe(cost);
        let home = self.core.system.home(shared);
        shared.presence.set_holder(home);
        if home == self.core.cpu {
            self.adopt(vcpu, now);
        } else {
            self.hand_over(vcpu, home);
        }
        true
    }

    /// Stops a vCPU wherever it is: at once if this processor holds it; otherwise its holder is notified.
    pub(super) fn stop(&mut self, target: &'static VcpuShared, now: Tsc) {
        if !self.parking.order_stop(target) {
            return;
        }
        if target.holder() == self.core.cpu {
            self.park(target, now);
        } else {
            self.core.post(target, target.id.guest);
        }
    }

    /// Stops a vCPU that this processor holds, as ordered, and cancels its timer, events and grants; a start-up that came
    /// after that order begins it anew. The last vCPU of an ending guest to stop concludes the guest.
    pub(super) fn park(&mut self, shared: &'static VcpuShared, now: Tsc) {
        let Some(mut vcpu) = self.take_out(shared.slot, now) else { return };
        vcpu.timer = Tsc::NEVER;
        vcpu.lapic.init();
        shared.forget();
        let guest = vcpu.guest;
        ballooning::let_go(guest, shared, self.core.system);
        if let Some((vcpu, page)) = self.parking.lay_up(vcpu) {
            self.restart(vcpu, page);
        }
        let stopped = guest.life.lifecycle.lock().stop();
        match stopped {
            Stopped::OthersRun => {}
            Stopped::Deserted => self.bury(shared, now),
            Stopped::Ended(ending) => self.conclude(guest, ending, now),
            Stopped::Left => self.depart(guest),
        }
    }

    /// Begins a vCPU that has just stopped, at the start-up's page, unless its guest is ending.
    fn restart(&mut self, mut vcpu: Box<Vcpu<P>>, page: u8) {
        let starts = vcpu.guest.life.lifecycle.lock().start();
        if !starts {
            return self.parking.retire(vcpu);
        }
        begin(&mut vcpu, Start::Real { vector: page });
        // By a notification even where its home is this processor: a guest that stops and starts it endlessly must not make
        // the stack grow.
        let home = self.core.system.home(vcpu.shared);
        self.hand_over(vcpu, home);
    }
}

/// Puts a vCPU into its initial state. A processor that waits for its start-up accepts no interrupt; VCPU_START keeps what
/// was sent (docs/src/abi.md, IPI). The bootstrap processor's devices went on without it, so it looks at their timers first.
fn begin<P: Platform>(vcpu: &mut Vcpu<P>, start: Start) {
    if let Start::Real { .. } = start {
        vcpu.shared.drop_interrupts();
        vcpu.shared.request_attention(Attention::TIMER);
    }
    vcpu.begin(start);
}
