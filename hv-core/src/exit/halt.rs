//! HLT and PAUSE: a vCPU that is idle, or that waits for another vCPU.

use crate::base::hardware::GuestBytes;
use crate::exit::cpu::CpuContext;
use crate::exit::{input, walk};
use crate::guest::next::Next;
use crate::guest::platform::Platform;
use crate::guest::seam::{CpuEvents, CpuRegisters, Instruction, Pauses, VirtualCpu, Window};
use crate::guest::vcpu::{Rest, Vcpu};
use crate::policy::demand;
use crate::policy::presence::Attention;

/// Opcode of HLT.
const HLT: u8 = 0xf4;

/// Halts a vCPU whose RIP is past the HLT already.
pub fn halt<P: Platform>(vcpu: &mut Vcpu<P>) -> Next {
    // The #DB of a single step ends the HLT, too.
    if vcpu.state.injects() || vcpu.kvm.take_kick() {
        return Next::Resume;
    }
    vcpu.rest = Rest::Halted;
    if !vcpu.guest.is_cooperative() {
        let idle = vcpu.state.interrupts_on();
        demand::note(vcpu.shared, if idle { demand::Seen::Idle } else { demand::Seen::WaitsForLock });
    }
    // An interrupt that came while IF was clear, and waits for its window, ends this HLT: the window is open now.
    if vcpu.state.interrupts_on() && vcpu.state.watches_window() {
        vcpu.state.watch_window(Window::Closed);
        vcpu.shared.request_attention(Attention::EVENT);
    }
    Next::Block
}

/// Called when a host interrupt was taken. A kernel relies on STI; HLT being one step. Where the processor loses the
/// interrupt shadow between them (QEMU's TCG), the HLT is emulated here; otherwise its wake-up would be delivered before it
/// and lost. The HLT did not exit, so its length is given as a decoded one.
pub fn after_interrupt<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Next {
    if vcpu.state.in_shadow() && vcpu.state.cpl() == 0 && next_byte(vcpu) == Some(HLT) {
        input::poll(core); // the interrupt for input is taken, and will not come again
        vcpu.state.finish(Instruction::Decoded(1));
        // A vCPU that does not sleep must be rescheduled all the same: the timer interrupt may have been taken.
        if matches!(halt(vcpu), Next::Block) { Next::Block } else { Next::Reschedule }
    } else {
        Next::Reschedule
    }
}

/// The byte at RIP, if the guest's own page tables map it.
fn next_byte<P: Platform>(vcpu: &Vcpu<P>) -> Option<u8> {
    let control = vcpu.state.control();
    let at = walk::translate(&vcpu.guest.ram, &control, walk::code(&vcpu.state, &control))?;
    let mut byte = [0];
    vcpu.guest.ram.read(at, &mut byte).ok()?;
    Some(byte[0])
}

/// A PAUSE exit says that the vCPU spins: it yields the CPU if another vCPU waits for it. If none does, PAUSE does not exit
/// any more until one does.
pub fn pause<P: Platform>(vcpu: &mut Vcpu<P>, core: &CpuContext<P>) -> Next {
    vcpu.state.finish(Instruction::Pause);
    if core.queue.wanted() {
        if !vcpu.guest.is_cooperative() {
            demand::note(vcpu.shared, demand::Seen::Spins);
        }
        return Next::Yield;
    }
    vcpu.state.watch_pauses(Pauses::Run);
    vcpu.shared.let_pauses_run(true);
    Next::Resume
}
