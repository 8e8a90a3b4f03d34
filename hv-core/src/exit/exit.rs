//! Dispatch of exits: what the processor does for each kind.

use crate::base::addr::low;
use crate::base::error::KillReason;
use crate::base::hardware::Hardware;
use crate::device::pit;
use crate::exit::control;
use crate::exit::cpu::CpuContext;
use crate::exit::halt;
use crate::exit::hypercall;
use crate::exit::mmio;
use crate::exit::msr;
use crate::exit::port;
use crate::guest::next::Next;
use crate::guest::platform::Platform;
use crate::guest::seam::{
    ControlRegister, CpuEvents, CpuRegisters, Exception, Exit, Instruction, Reg, VirtualCpu, Window,
};
use crate::guest::vcpu::Vcpu;
use crate::policy::presence::Attention;
use crate::policy::trace::ExitClass;

/// The class that an exit is counted under.
#[inline]
pub fn class<S: VirtualCpu>(exit: &Exit, state: &S) -> ExitClass {
    match exit {
        Exit::Call => ExitClass::Call,
        Exit::Cpuid => ExitClass::Cpuid,
        Exit::ReadMsr | Exit::WriteMsr if msr::is_apic(state.reg(Reg::Rcx)) => ExitClass::Apic,
        Exit::ReadMsr | Exit::WriteMsr => ExitClass::Msr,
        Exit::Port(access) if pit::owns(access.port) => ExitClass::Pit,
        Exit::Port(_) | Exit::StringPort(_) => ExitClass::Port,
        Exit::Halt => ExitClass::Halt,
        Exit::Pause => ExitClass::Pause,
        Exit::HostInterrupt => ExitClass::Interrupt,
        Exit::Window => ExitClass::Window,
        Exit::MemoryFault { .. } => ExitClass::Memory,
        Exit::DebugRegister
        | Exit::Undefined
        | Exit::CacheFlush
        | Exit::Handled
        | Exit::WriteCr0
        | Exit::WriteCr4
        | Exit::TaskSwitch
        | Exit::Exception
        | Exit::Shutdown
        | Exit::MachineCheck
        | Exit::BadState
        | Exit::Unknown { .. } => ExitClass::Other,
    }
}

/// Handles one exit, and returns what the processor does next with the vCPU.
#[inline]
pub fn dispatch<P: Platform>(exit: Exit, vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Next {
    match exit {
        Exit::Call => hypercall::handle(vcpu, core),
        Exit::Cpuid => cpuid(vcpu),
        Exit::ReadMsr => msr::read(vcpu, core),
        Exit::WriteMsr => msr::write(vcpu, core),
        Exit::Port(access) => port::access(vcpu, core, access),
        Exit::Halt => {
            vcpu.state.finish(Instruction::Halt);
            halt::halt(vcpu)
        }
        Exit::Pause => halt::pause(vcpu, core),
        Exit::HostInterrupt => {
            core.take_interrupts();
            halt::after_interrupt(vcpu, core)
        }
        Exit::Window => {
            vcpu.state.watch_window(Window::Closed);
            let nmi =
                if core::mem::take(&mut vcpu.nmi_blocked) { Attention::NMI } else { Attention::empty() };
            vcpu.shared.request_attention(Attention::EVENT | nmi);
            Next::Resume
        }
        Exit::MemoryFault { at, access } => mmio::handle(vcpu, core, at, access),
        Exit::Undefined => {
            vcpu.state.inject_exception(Exception::InvalidOpcode);
            Next::Resume
        }
        Exit::DebugRegister => {
            vcpu.state.load_debug_registers();
            Next::Resume
        }
        Exit::CacheFlush => {
            vcpu.state.finish(Instruction::CacheFlush);
            Next::Resume
        }
        Exit::Handled => Next::Resume,
        Exit::WriteCr0 => control::write(vcpu, ControlRegister::Cr0),
        Exit::WriteCr4 => control::write(vcpu, ControlRegister::Cr4),
        Exit::Exception => {
            core.take_interrupts();
            Next::Reschedule
        }
        Exit::StringPort(access) => Next::Kill(KillReason::StringPort(access.port)),
        Exit::TaskSwitch => Next::Kill(KillReason::TaskSwitch),
        // On AMD, CR4.MCE is clear while a guest runs, so a machine check causes a shutdown (APM vol 2 §9.3.3).
        Exit::Shutdown if core.hardware.has_failed() => core.hardware.fail(),
        Exit::MachineCheck => core.hardware.fail(),
        Exit::Shutdown => Next::Kill(KillReason::TripleFault),
        Exit::BadState => Next::Kill(KillReason::BadState),
        Exit::Unknown { code } => Next::Kill(KillReason::UnknownExit(code)),
    }
}

#[inline]
fn cpuid<P: Platform>(vcpu: &mut Vcpu<P>) -> Next {
    let leaf = low(vcpu.state.reg(Reg::Rax));
    let subleaf = low(vcpu.state.reg(Reg::Rcx));
    let [a, b, c, d] = vcpu.cpuid.answer(leaf, subleaf);
    vcpu.state.set_reg(Reg::Rax, u64::from(a));
    vcpu.state.set_reg(Reg::Rbx, u64::from(b));
    vcpu.state.set_reg(Reg::Rcx, u64::from(c));
    vcpu.state.set_reg(Reg::Rdx, u64::from(d));
    vcpu.state.finish(Instruction::Cpuid);
    Next::Resume
}
