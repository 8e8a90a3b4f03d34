//! Effects of an access to the emulated local APIC, by MSR or by memory, and interrupts between the vCPUs of a guest.

use crate::base::hardware::Hardware;
use crate::device::lapic::{ApicEffect, Ipi, IpiDelivery};
use crate::exit::cpu::CpuContext;
use crate::exit::interrupts;
use crate::exit::timers;
use crate::guest::next::{Next, StartAt, VcpuSet};
use crate::guest::platform::Platform;
use crate::guest::seam::CpuRegisters;
use crate::guest::vcpu::Vcpu;
use crate::policy::presence::{Attention, Life};

/// Carries out the effect of a write to the APIC.
#[inline(always)] // on the way of every EOI, and both vendors' loops call it
pub fn follow<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, effect: ApicEffect) -> Next {
    match effect {
        ApicEffect::None => {
            vcpu.state.set_cr8(vcpu.lapic.task_priority() >> 4);
            vcpu.shared.request_attention(Attention::INTERRUPT);
        }
        ApicEffect::Eoi(ended) => {
            if let Some(vector) = ended.filter(|vector| vcpu.lapic.is_level(*vector)) {
                interrupts::end(vcpu.guest, core, vector);
            }
            if vcpu.lapic.highest_pending().is_some() {
                vcpu.shared.request_attention(Attention::INTERRUPT);
            }
        }
        ApicEffect::TimerChanged => timers::queue_timer(vcpu, core),
        ApicEffect::SelfIpi(_) => {
            vcpu.shared.request_attention(Attention::INTERRUPT);
        }
        ApicEffect::Ipi(ipi) => return send(vcpu, core, ipi),
    }
    Next::Resume
}

/// Sends an interprocessor interrupt. The number of receivers is bounded by a guest's 64 vCPUs.
pub fn send<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, ipi: Ipi) -> Next {
    let now = core.hardware.now();
    let mut receivers = vcpu.guest.receivers(ipi.to, vcpu.lapic.id());
    let mut lives = VcpuSet::default();
    while receivers != 0 {
        let Some(target) = vcpu.guest.vcpu(u64::from(receivers.trailing_zeros())) else { break };
        receivers &= receivers - 1;
        match ipi.delivery {
            IpiDelivery::Fixed(vector) => target.post_interrupt(vector),
            // A stopped vCPU does not take part in the arbitration.
            IpiDelivery::LowestPriority(_) if target.life() == Life::Stopped => continue,
            IpiDelivery::LowestPriority(vector) => {
                target.post_interrupt(vector);
                receivers = 0;
            }
            IpiDelivery::Nmi => {
                target.request_attention(Attention::NMI);
            }
            // Whether a start-up has an effect is decided only when the target is started, after all orders that came before.
            IpiDelivery::Init | IpiDelivery::StartUp(_) => {
                if target.index() != vcpu.shared.index() {
                    lives = lives.and(VcpuSet::one(target.index()));
                }
                continue;
            }
        }
        core.wake(target, vcpu.guest.id, now);
    }
    match ipi.delivery {
        IpiDelivery::Init if lives != VcpuSet::default() => Next::Stop(lives),
        IpiDelivery::StartUp(page) if lives != VcpuSet::default() => {
            Next::Start { targets: lives, at: StartAt::Real(page) }
        }
        IpiDelivery::Fixed(_)
        | IpiDelivery::LowestPriority(_)
        | IpiDelivery::Nmi
        | IpiDelivery::Init
        | IpiDelivery::StartUp(_) => Next::Resume,
    }
}
