//! Calls: [`decode`] checks everything and changes nothing; [`commit`] acts and cannot fail.
//! The text is docs/src/abi.md.

pub mod commit;
pub mod console;
pub mod decode;

use crate::exit::cpu::CpuContext;
use crate::exit::kvm;
use crate::guest::next::{Next, StartRequest};
use crate::guest::platform::Platform;
use crate::guest::seam::{Exception, Instruction, Reg, VirtualCpu};
use crate::guest::vcpu::Vcpu;
use pv_abi::call::{Call, Code, Info};

/// Handles the call instruction. A full guest has no such instruction, and neither has user mode.
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
        // The two that guests make most have nothing to decode.
        Call::YIELD => {
            answer(vcpu, Code::OK, 0);
            if core.queue.wanted() { Next::Yield } else { Next::Resume }
        }
        Call::INFO if Info(vcpu.state.reg(Reg::Rdi)) == Info::VERSION => {
            answer(vcpu, Code::OK, u64::from(pv_abi::VERSION.packed()));
            Next::Resume
        }
        _ => decode_and_commit(vcpu, core),
    }
}

#[inline(never)]
fn decode_and_commit<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Next {
    let (code, value, next) = match decode::decode::<P>(&vcpu.state, vcpu.guest) {
        Ok(call) => commit::commit(call, vcpu, core),
        Err(refusal) => (Code::from(refusal), 0, Next::Resume),
    };
    if next != Next::Again {
        answer(vcpu, code, value);
    }
    next
}

#[inline]
fn answer<P: Platform>(vcpu: &mut Vcpu<P>, code: Code, value: u64) {
    vcpu.state.finish(Instruction::Call);
    vcpu.state.set_reg(Reg::Rax, code.0);
    vcpu.state.set_reg(Reg::Rdx, value);
}

/// VCPU_START found its target started after all: whoever starts a vCPU learns it after the call is decoded. A start-up IPI has
/// no answer.
#[cold]
pub fn refuse_start<P: Platform>(starter: &mut Vcpu<P>, request: StartRequest) {
    match request {
        StartRequest::Copy { .. } => starter.state.set_reg(Reg::Rax, Code::BAD_STATE.0),
        StartRequest::Real(_) => {}
    }
}
