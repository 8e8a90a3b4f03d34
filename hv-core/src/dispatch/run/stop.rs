//! vCPUs start and stop, on whichever processor they are.

use super::Cpu;
use crate::base::hardware::{GuestRam, Hardware};
use crate::base::time::{Ticks, Tsc};
use crate::dispatch::course::Stopped;
use crate::dispatch::memory;
use crate::dispatch::next::StartRequest;
use crate::dispatch::vt::{Processor, Start};
use crate::policy::publish::VcpuShared;
use crate::policy::whereabouts::{Life, attention};

impl<P: Processor, H: Hardware, R: GuestRam> Cpu<P, H, R> {
    /// Starts a stopped vCPU on another one's behalf.
    pub(super) fn start(&mut self, target: &'static VcpuShared, request: StartRequest) {
        // A processor that waits for its start-up takes nothing in; VCPU_START keeps what was sent (docs/src/abi.md, IPI).
        if let StartRequest::Real(_) = request
            && target.life() == Life::Stopped
        {
            target.drop_interrupts();
        }
        let start = match request {
            StartRequest::Copy { control, entry, stack, argument } => {
                Start::Copy { control, entry, stack, arguments: [argument, 0] }
            }
            StartRequest::Real(vector) => Start::Real { vector },
        };
        self.launch(target, start, Ticks(0));
    }

    /// Puts a stopped vCPU into its state at `start` and lets it run, here or where its home is. It pays for what it cost.
    pub(super) fn launch(&mut self, target: &'static VcpuShared, start: Start, cost: Ticks) {
        let Some(mut vcpu) = self.berths.launch(target) else { return };
        vcpu.begin(start);
        vcpu.departure.owe(cost);
        let home = self.core.system.home(target);
        {
            let mut course = vcpu.guest.course.lock();
            if !course.start() {
                drop(course);
                self.berths.lay_up(vcpu);
                return;
            }
            // Under the lock: who has the guest end afterwards finds this one running.
            target.whereabouts.attention.fetch_and(!attention::STOP, core::sync::atomic::Ordering::SeqCst);
            target.whereabouts.set_holder(home);
            target.set_life(Life::Runnable);
        }
        if home == self.core.cpu {
            self.adopt(vcpu, self.core.hardware.now());
        } else {
            self.hand_over(vcpu, home);
        }
    }

    /// Stops a vCPU wherever it is: at once if it is here, else its processor is told.
    pub(super) fn stop(&mut self, target: &'static VcpuShared, now: Tsc) {
        if target.life() == Life::Stopped {
            return;
        }
        target.attend(attention::STOP);
        if target.holder() == self.core.cpu {
            self.park(target, now);
        } else {
            self.core.post(target, target.id.guest);
        }
    }

    /// Stops a vCPU that is here, and cancels its timer, events and grants. The last one of a guest that is to end sees to
    /// the end.
    pub(super) fn park(&mut self, shared: &'static VcpuShared, now: Tsc) {
        let Some(mut vcpu) = self.take_out(shared.slot, now) else { return };
        vcpu.timer = Tsc::NEVER;
        vcpu.lapic.init();
        shared.forget();
        let guest = vcpu.guest;
        memory::let_go(guest, shared, self.core.system);
        self.berths.lay_up(vcpu);
        let stopped = guest.course.lock().stop();
        match stopped {
            Stopped::OthersRun => {}
            Stopped::Deserted => self.bury(shared),
            Stopped::Ended(ending) => self.conclude(guest, ending),
        }
    }
}
