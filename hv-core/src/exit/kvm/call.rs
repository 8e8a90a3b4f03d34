//! KVM's hypercalls: number in RAX, arguments in RBX, RCX, RDX, RSI, answer in RAX.

use super::clock;
use crate::base::addr::GuestPhys;
use crate::base::hardware::Hardware;
use crate::device::lapic::IpiDelivery;
use crate::exit::cpu::CpuContext;
use crate::guest::next::Next;
use crate::guest::platform::Platform;
use crate::guest::seam::{CpuRegisters, Instruction, Reg, VirtualCpu};
use crate::guest::vcpu::Vcpu;
use crate::policy::demand;
use crate::policy::presence::{Attention, Life};
use pv_abi::protocol::dispatch::is_on_cpu;

const KICK_CPU: u64 = 5;
const CLOCK_PAIRING: u64 = 9;
const SEND_IPI: u64 = 10;
const SCHED_YIELD: u64 = 11;

/// Answers in RAX: KVM's error numbers, negated.
const NO_SUCH_CALL: i64 = -1000;
const NOT_PERMITTED: i64 = -1;
const BAD_ADDRESS: i64 = -14;
const INVALID: i64 = -22;
const NOT_SUPPORTED: i64 = -95;

/// CLOCK_PAIRING's clock type for the wall clock, the only one offered.
const WALL_CLOCK: u64 = 0;

/// Handles the call instruction of a KVM guest; user mode is not permitted any call.
#[inline(never)]
pub fn handle<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Next {
    vcpu.state.finish(Instruction::Call);
    let [rbx, rcx, rdx, rsi] = [Reg::Rbx, Reg::Rcx, Reg::Rdx, Reg::Rsi].map(|reg| vcpu.state.reg(reg));
    let mut next = Next::Resume;
    let answer = match vcpu.state.reg(Reg::Rax) {
        _ if vcpu.state.cpl() != 0 => NOT_PERMITTED,
        // Flags in RBX, none defined; an APIC id in RCX, which is the vCPU's index.
        KICK_CPU => {
            if let Some(target) = vcpu.guest.vcpu(rcx) {
                target.request_attention(Attention::KICK);
                core.wake(target, vcpu.guest.id, core.hardware.now());
            }
            0
        }
        CLOCK_PAIRING if rcx != WALL_CLOCK || !vcpu.guest.usable_tsc => NOT_SUPPORTED,
        CLOCK_PAIRING => {
            let written = clock::write_pairing(vcpu.guest, core, GuestPhys::new_truncate(rbx));
            if written { 0 } else { BAD_ADDRESS }
        }
        SEND_IPI => send_ipi(vcpu, core, [rbx, rcx], rdx, rsi),
        SCHED_YIELD => {
            next = yield_to(vcpu, core, rbx);
            0
        }
        _ => NO_SUCH_CALL,
    };
    vcpu.state.set_reg(Reg::Rax, answer.cast_unsigned());
    next
}

/// Sends an interrupt to the APIC ids in a bit map whose bit 0 is id `first`; returns the number of vCPUs that received it.
fn send_ipi<P: Platform>(
    vcpu: &Vcpu<P>,
    core: &mut CpuContext<P>,
    map: [u64; 2],
    first: u64,
    icr: u64,
) -> i64 {
    let Some(delivery) = IpiDelivery::without_destination(icr) else { return INVALID };
    let [low, high] = map;
    let ids =
        (u128::from(low) | u128::from(high) << 64).checked_shl(u32::try_from(first).unwrap_or(u32::MAX));
    // A guest has at most 64 vCPUs, by ids from 0.
    let mut receivers = u64::try_from(ids.unwrap_or(0) & u128::from(u64::MAX)).unwrap_or(0);
    let mut got = 0;
    while receivers != 0 {
        let Some(target) = vcpu.guest.vcpu(u64::from(receivers.trailing_zeros())) else { break };
        receivers &= receivers - 1;
        match delivery {
            IpiDelivery::Fixed(vector) => target.post_interrupt(vector),
            IpiDelivery::Nmi => target.request_attention(Attention::NMI),
            IpiDelivery::LowestPriority(_) | IpiDelivery::Init | IpiDelivery::StartUp(_) => return INVALID,
        }
        core.wake(target, vcpu.guest.id, core.hardware.now());
        got += 1;
    }
    got
}

/// Yields the CPU to the vCPU with APIC id `id`, if that vCPU waits for a CPU. Does nothing if the caller names itself.
fn yield_to<P: Platform>(vcpu: &Vcpu<P>, core: &mut CpuContext<P>, id: u64) -> Next {
    let Some(target) = vcpu.guest.vcpu(id) else { return Next::Resume };
    let waits = target.life() == Life::Runnable && !is_on_cpu(target.dispatch_seq());
    if !waits || target.index() == vcpu.shared.index() {
        return Next::Resume;
    }
    demand::note_wait(vcpu.shared, target);
    if target.holder() != core.cpu {
        core.pull(target);
        return Next::Resume;
    }
    Next::YieldTo { target: target.index() }
}
