//! Hypercalls: [`decode`] checks everything and changes nothing; [`commit`] acts and cannot fail. The specification is
//! docs/src/abi.md.

pub mod commit;
pub mod console;
pub mod decode;
pub mod outcome;

use crate::base::hardware::GuestBlocks;
use crate::exit::cpu::CpuContext;
use crate::exit::kvm;
use crate::guest::guest::{WINDOW_BASE, WINDOW_PAGES};
use crate::guest::next::{Next, StartAt};
use crate::guest::platform::Platform;
use crate::guest::seam::{CpuEvents, CpuRegisters, Exception, Instruction, Reg, VirtualCpu};
use crate::guest::vcpu::Vcpu;
use core::sync::atomic::Ordering::Relaxed;
use outcome::Outcome;
use pv_abi::call::{Call, Code, Info};

/// Handles the call instruction, which raises #UD in a full guest without KVM's interface, and in user mode of a cooperative
/// guest.
#[inline]
pub fn handle<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Next {
    if vcpu.state.cpl() != 0 || !vcpu.guest.is_cooperative() {
        if vcpu.guest.is_kvm() {
            return kvm::call::handle(vcpu, core);
        }
        vcpu.state.inject_exception(Exception::InvalidOpcode);
        return Next::Resume;
    }
    match Call(vcpu.state.reg(Reg::Rax)) {
        // The two calls that guests make most have nothing to decode.
        Call::YIELD => {
            answer(vcpu, Code::OK, 0);
            if core.queue.wanted() { Next::Yield } else { Next::Resume }
        }
        Call::INFO if Info(vcpu.state.reg(Reg::Rdi)) == Info::VERSION => {
            answer(vcpu, Code::OK, u64::from(pv_abi::VERSION.packed()));
            Next::Resume
        }
        Call::INFO => {
            let value = info(Info(vcpu.state.reg(Reg::Rdi)), vcpu, core);
            answer(vcpu, if value.is_some() { Code::OK } else { Code::BAD_ARGUMENT }, value.unwrap_or(0));
            Next::Resume
        }
        _ => decode_and_commit(vcpu, core),
    }
}

#[inline(never)]
fn decode_and_commit<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Next {
    let outcome = match decode::decode::<P>(&vcpu.state, vcpu.guest) {
        Ok(call) => commit::commit(call, vcpu, core),
        Err(refusal) => Outcome::code(Code::from(refusal)),
    };
    let (code, value, next) = match outcome {
        Outcome::Done(code, value) => (code, value, Next::Resume),
        Outcome::Then(next) => (Code::OK, 0, next),
        Outcome::Retry => return Next::Again,
    };
    answer(vcpu, code, value);
    next
}

/// INFO of any item but the version: the item's value, or `None` if there is no such item.
#[cold]
fn info<P: Platform>(item: Info, vcpu: &Vcpu<P>, core: &CpuContext<P>) -> Option<u64> {
    Some(match item {
        Info::FEATURES => u64::from(vcpu.guest.features().bits()),
        Info::WINDOW_BASE => WINDOW_BASE,
        Info::WINDOW_PAGES => WINDOW_PAGES,
        Info::TSC_KHZ => core.tsc.khz(),
        Info::VCPUS => u64::from(vcpu.guest.vcpu_count()),
        Info::VCPU => u64::from(vcpu.shared.index().0),
        Info::WALL_NS => core.system.wall_ns,
        Info::CHANNELS => vcpu.guest.channels.len() as u64,
        Info::MEMORY_BLOCKS => vcpu.guest.ram.block_count(),
        Info::GENERATION => vcpu.guest.life.generation.load(Relaxed),
        _ => return None,
    })
}

#[inline]
fn answer<P: Platform>(vcpu: &mut Vcpu<P>, code: Code, value: u64) {
    vcpu.state.finish(Instruction::Call);
    vcpu.state.set_reg(Reg::Rax, code.0);
    vcpu.state.set_reg(Reg::Rdx, value);
}

/// VCPU_START found its target started already: the processor learns that only after the call is decoded. A start-up IPI has
/// no answer.
#[cold]
pub fn refuse_start<P: Platform>(starter: &mut Vcpu<P>, at: StartAt) {
    match at {
        StartAt::Copy { .. } => starter.state.set_reg(Reg::Rax, Code::BAD_STATE.0),
        StartAt::Real(_) => {}
    }
}
