//! Calls: [`decode`] checks everything and changes nothing; [`commit`] acts and cannot fail.
//! The text is docs/src/abi.md.

pub mod commit;
pub mod console;
pub mod decode;

use crate::base::hardware::{GuestRam, Hardware};
use crate::dispatch::core::Core;
use crate::dispatch::next::Next;
use crate::dispatch::vcpu::Vcpu;
use crate::dispatch::vt::{Exception, Instruction, Reg, VirtualCpu};
use pv_abi::call::Code;

/// Handles the call instruction. A full guest has no such instruction, and neither has user mode.
#[inline]
pub fn handle<S: VirtualCpu, H: Hardware, R: GuestRam>(vcpu: &mut Vcpu<S, R>, core: &mut Core<H, R>) -> Next {
    if vcpu.state.cpl() != 0 || !vcpu.guest.is_cooperative() {
        vcpu.state.inject_exception(Exception::InvalidOpcode);
        return Next::Resume;
    }
    vcpu.state.finish(Instruction::Call);
    let (code, value, next) = match decode::decode(&vcpu.state, vcpu.guest) {
        Ok(call) => commit::commit(call, vcpu, core),
        Err(refusal) => (Code::from(refusal), 0, Next::Resume),
    };
    vcpu.state.set_reg(Reg::Rax, code.0);
    vcpu.state.set_reg(Reg::Rdx, value);
    next
}
