//! The hardware of a scripted processor: a clock that tests set, and lines that they read.

use super::World;
use crate::base::hardware::Hardware;
use crate::base::id::CpuId;
use crate::base::time::{Frequency, Tsc};
use alloc::rc::Rc;

/// Clock, timer and lines.
pub struct ScriptedHardware {
    cpu: CpuId,
    world: Rc<World>,
}

impl ScriptedHardware {
    /// The hardware of a processor in this world.
    pub const fn new(cpu: CpuId, world: Rc<World>) -> Self {
        Self { cpu, world }
    }
}

impl Hardware for ScriptedHardware {
    fn now(&self) -> Tsc {
        self.world.look()
    }

    fn arm_timer(&mut self, at: Tsc) {
        self.world.arm(self.cpu, at);
    }

    fn take_interrupts(&mut self) {
        self.world.take_interrupts(self.cpu);
    }

    fn wait(&mut self) -> bool {
        self.world.wait(self.cpu)
    }

    fn kick(&mut self, cpu: CpuId) {
        self.world.kick(cpu);
    }

    fn serve_console(&mut self) {}

    fn console_room(&mut self) -> usize {
        self.world.console_room.get()
    }

    fn console_write(&mut self, text: &[u8]) {
        self.world.console.borrow_mut().extend_from_slice(text);
        let room = &self.world.console_room;
        assert!(text.len() <= room.get(), "more is written than people's line has room for");
        if room.get() != usize::MAX {
            room.set(room.get() - text.len());
        }
    }

    fn console_read(&mut self) -> Option<u8> {
        self.world.input.borrow_mut().pop_front()
    }

    fn random(&mut self) -> u64 {
        self.world.look().0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn has_failed(&self) -> bool {
        false
    }

    #[expect(clippy::panic, reason = "as the machine does: it has no way on")]
    fn fail(&mut self) -> ! {
        panic!("machine check")
    }

    fn telemetry_write(&mut self, bytes: &[u8]) {
        self.world.telemetry.borrow_mut().extend_from_slice(bytes);
    }

    fn clock_off_ppm(&mut self, _: Frequency) -> Option<i64> {
        self.world.clock_off_ppm.get()
    }
}
