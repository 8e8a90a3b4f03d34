//! vCPUs start and stop, on whichever processor they are.

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
    /// Starts a vCPU on another one's behalf. False when it is not stopped, or its guest ends: then nothing happens.
    pub(super) fn start(&mut self, target: &'static VcpuShared, start: Start, now: Tsc) -> bool {
        let start_up = if let Start::Real { vector } = start { Some(vector) } else { None };
        match self.parking.order_start(target, start_up) {
            Found::Stopped(vcpu) => self.launch(vcpu, start, Ticks(0), now),
            Found::Stopping => true,
            Found::Started => false,
        }
    }

    /// Starts the first vCPU of a guest, all of whose vCPUs are stopped. It pays for what it cost.
    pub(super) fn start_stopped(&mut self, target: &'static VcpuShared, start: Start, cost: Ticks, now: Tsc) {
        if let Found::Stopped(vcpu) = self.parking.order_start(target, None) {
            let _ = self.launch(vcpu, start, cost, now); // refused only where somebody has the guest end already
        }
    }

    /// Puts a vCPU that is nobody else's into its state at `start` and lets it run, here or where its home is. False when its
    /// guest is to end: then it is stopped. `now` is up to when the time is accounted for: the time since is for whoever has it begin,
    /// and none of whoever runs here.
    fn launch(&mut self, mut vcpu: Box<Vcpu<P>>, start: Start, cost: Ticks, now: Tsc) -> bool {
        let shared = vcpu.shared;
        // It lives already: who has the guest end after this finds it so, and stops it.
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

    /// Stops a vCPU wherever it is: at once if it is here, else its processor is told.
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

    /// Stops a vCPU that is here, as it was ordered to, and cancels its timer, events and grants; a start-up that came after
    /// that order begins it anew. The last one of a guest that is to end sees to the end.
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

    /// Begins a vCPU that has just stopped, at a page, unless its guest is to end.
    fn restart(&mut self, mut vcpu: Box<Vcpu<P>>, page: u8) {
        let starts = vcpu.guest.life.lifecycle.lock().start();
        if !starts {
            return self.parking.retire(vcpu);
        }
        begin(&mut vcpu, Start::Real { vector: page });
        // By a notification even where it is to be here: whoever stops and starts it without end has no stack grow.
        let home = self.core.system.home(vcpu.shared);
        self.hand_over(vcpu, home);
    }
}

/// A vCPU begins. A processor that waits for its start-up takes nothing in; VCPU_START keeps what was sent (docs/src/abi.md,
/// IPI). The bootstrap processor's devices went on without it: it looks at their timers first.
fn begin<P: Platform>(vcpu: &mut Vcpu<P>, start: Start) {
    if let Start::Real { .. } = start {
        vcpu.shared.drop_interrupts();
        vcpu.shared.request_attention(Attention::TIMER);
    }
    vcpu.begin(start);
}
