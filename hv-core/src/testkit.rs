//! The third backend: a processor whose vCPUs follow a script, and a machine around it that host tests look into.
//!
//! Nothing here executes anything. A vCPU takes its [`Step`]s one by one: it lets the clock pass, changes what a guest may
//! change, or exits. The clock stands still otherwise, so that a test knows every moment to the tick.

mod hardware;
mod kernel;
mod machine;
mod ram;
mod spec;
mod vcpu;
mod world;

pub use hardware::ScriptedHardware;
pub use machine::{Machine, at, call_steps, write_msr_steps};
pub use ram::TestRam;
pub use spec::Spec;
pub use vcpu::{ScriptedVcpu, Seen, Step};
pub use world::{Stuck, World};

use crate::base::id::CpuId;
use crate::guest::platform::Platform;
use crate::guest::seam::{Exit, Processor};
use alloc::rc::Rc;
use core::ops::ControlFlow;

/// A processor that runs scripts.
pub struct Scripted {
    cpu: CpuId,
    world: Rc<World>,
}

impl Scripted {
    /// A processor in this world.
    pub const fn new(cpu: CpuId, world: Rc<World>) -> Self {
        Self { cpu, world }
    }
}

impl Platform for Scripted {
    type Processor = Self;
    type Hardware = ScriptedHardware;
    type Ram = TestRam;
}

impl Processor for Scripted {
    type Vcpu = ScriptedVcpu;

    fn run(&mut self, vcpu: &mut ScriptedVcpu) -> Exit {
        self.world.count_entry();
        vcpu.enter(self.world.now());
        loop {
            match self.step(vcpu) {
                ControlFlow::Break(exit) => return exit,
                ControlFlow::Continue(()) => {}
            }
        }
    }

    fn switch_in(&mut self, vcpu: &mut ScriptedVcpu) {
        vcpu.loaded = true;
    }

    fn arrive(&mut self, vcpu: &mut ScriptedVcpu) {
        vcpu.loaded = false;
    }

    fn depart(&mut self, vcpu: &mut ScriptedVcpu) {
        vcpu.loaded = false;
    }

    fn switch_out(&mut self, vcpu: &mut ScriptedVcpu) {
        vcpu.loaded = false;
    }
}

impl Scripted {
    fn step(&mut self, vcpu: &mut ScriptedVcpu) -> ControlFlow<Exit> {
        if !matches!(vcpu.script.front(), Some(Step::Endless(_))) {
            if vcpu.window_is_open() {
                return ControlFlow::Break(Exit::Window);
            }
            if self.world.interrupt_waits(self.cpu) {
                return ControlFlow::Break(Exit::HostInterrupt);
            }
        }
        match vcpu.script.pop_front() {
            Some(Step::Run(ticks)) => {
                vcpu.shadow = false;
                let left = self.world.pass(self.cpu, ticks);
                if left > 0 {
                    vcpu.script.push_front(Step::Run(left));
                    if self.world.takes_turns() {
                        return ControlFlow::Break(Exit::HostInterrupt);
                    }
                }
                ControlFlow::Continue(())
            }
            Some(Step::Do(act)) => {
                act(vcpu);
                ControlFlow::Continue(())
            }
            Some(Step::Exit(exit)) => ControlFlow::Break(exit),
            Some(Step::Endless(ticks)) => {
                self.world.advance(ticks);
                vcpu.script.push_front(Step::Endless(ticks));
                ControlFlow::Break(Exit::Exception)
            }
            // A vCPU whose script is over spins until an interrupt comes.
            None => {
                self.world.spin(self.cpu, vcpu.slot);
                ControlFlow::Break(Exit::HostInterrupt)
            }
        }
    }
}
