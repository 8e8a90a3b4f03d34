//! What each exit means.

use crate::base::addr::low;
use crate::base::error::KillReason;
use crate::base::hardware::{GuestRam, Hardware};
use crate::device::bus::{COM1, PortEffect, Width};
use crate::device::channel::ChannelIndex;
use crate::device::pit;
use crate::exit::channel;
use crate::exit::control;
use crate::exit::cpu::CpuContext;
use crate::exit::hypercall;
use crate::exit::input;
use crate::exit::interrupts::sync_device_interrupts;
use crate::exit::mmio;
use crate::exit::msr;
use crate::exit::walk;
use crate::guest::next::Next;
use crate::guest::platform::Platform;
use crate::guest::seam::{
    ControlRegister, Direction, Exception, Exit, Instruction, Pauses, PortAccess, Reg, VirtualCpu, Window,
};
use crate::guest::vcpu::{Rest, Vcpu};
use crate::policy::demand;
use crate::policy::presence::Attention;
use crate::policy::trace::{Ending, ExitClass};

/// Benchmark aid (`mark_port` in a scenario): a full guest writes a mark's value here, as a doubleword …
const MARK_VALUE: u16 = 0xcf4;
/// … and then its id here.
const MARK_ID: u16 = 0xcf0;

/// Opcode of HLT.
const HLT: u8 = 0xf4;

/// The class an exit is counted under.
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

/// Handles one exit.
#[inline]
pub fn dispatch<P: Platform>(exit: Exit, vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Next {
    match exit {
        Exit::Call => hypercall::handle(vcpu, core),
        Exit::Cpuid => cpuid(vcpu),
        Exit::ReadMsr => msr::read(vcpu, core),
        Exit::WriteMsr => msr::write(vcpu, core),
        Exit::Port(access) => port(vcpu, core, access),
        Exit::Halt => {
            vcpu.state.finish(Instruction::Halt);
            halt(vcpu)
        }
        Exit::Pause => pause(vcpu, core),
        Exit::HostInterrupt => {
            core.take_interrupts();
            // STI; HLT is one step to a kernel. Where the processor forgets the shadow between them (QEMU's TCG), the HLT
            // is done here, or its wake-up would be delivered before it and lost. It did not exit: its length is the decoder's.
            if vcpu.state.in_shadow() && vcpu.state.cpl() == 0 && next_byte(vcpu) == Some(HLT) {
                input::poll(core); // its interrupt is taken, and will not come again
                vcpu.state.finish(Instruction::Decoded(1));
                // One that does not sleep leaves its turn all the same: the timer is taken.
                if matches!(halt(vcpu), Next::Block) { Next::Block } else { Next::Reschedule }
            } else {
                Next::Reschedule
            }
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
        // On AMD CR4.MCE is clear while a guest runs, which makes a shutdown of a machine check (APM vol 2 §9.3.3).
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

/// The byte at RIP, if the guest's own tables lead to it.
fn next_byte<P: Platform>(vcpu: &Vcpu<P>) -> Option<u8> {
    let control = vcpu.state.control();
    let at = walk::translate(&vcpu.guest.ram, &control, walk::code(&vcpu.state, &control))?;
    let mut byte = [0];
    vcpu.guest.ram.read(at, &mut byte).ok()?;
    Some(byte[0])
}

/// The vCPU has stepped over a HLT.
fn halt<P: Platform>(vcpu: &mut Vcpu<P>) -> Next {
    // The #DB of a single step ends it, too.
    if vcpu.state.injects() || vcpu.kvm.take_kick() {
        return Next::Resume;
    }
    vcpu.rest = Rest::Halted;
    if !vcpu.guest.is_cooperative() {
        let idle = vcpu.state.interrupts_on();
        demand::note(vcpu.shared, if idle { demand::Seen::Idle } else { demand::Seen::WaitsForLock });
    }
    // What came while IF was clear, and waits for its window, ends this HLT: here is the window.
    if vcpu.state.interrupts_on() && vcpu.state.watches_window() {
        vcpu.state.watch_window(Window::Closed);
        vcpu.shared.request_attention(Attention::EVENT);
    }
    Next::Block
}

/// A PAUSE exit says that the vCPU spins: somebody else may know better what to do with the CPU. Where nobody waits, the next one
/// does not exit, until somebody does.
fn pause<P: Platform>(vcpu: &mut Vcpu<P>, core: &CpuContext<P>) -> Next {
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

fn port<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, access: PortAccess) -> Next {
    let width = match access.size_bytes {
        1 => Width::Byte,
        2 => Width::Word,
        _ => Width::Dword,
    };
    let mut room = None;
    if access.direction == Direction::Out && width.reaches(access.port, COM1) {
        let written = vcpu.state.reg(Reg::Rax).to_le_bytes();
        let byte = written.get(usize::from(COM1.wrapping_sub(access.port))).copied().unwrap_or(b'\n');
        let is_only_kept = core.is_only_kept(vcpu.guest, byte);
        room = if is_only_kept { None } else { core.console_room(vcpu.guest, &[byte]) };
        if room.is_none() && !is_only_kept {
            return Next::Again;
        }
    }
    let marks = vcpu.guest.config.mark_port && width == Width::Dword;
    let now = core.hardware.now();
    let rax = vcpu.state.reg(Reg::Rax);
    vcpu.state.finish(Instruction::Port);
    match access.direction {
        Direction::In => {
            let value = u64::from(vcpu.guest.devices.lock().read(access.port, width, now));
            // A byte or a word leaves the rest of RAX alone; a doubleword clears its upper half.
            let kept = match width {
                Width::Byte => rax & !0xff,
                Width::Word => rax & !0xffff,
                Width::Dword => 0,
            };
            vcpu.state.set_reg(Reg::Rax, kept | value);
            sync_device_interrupts(vcpu.guest, core, now);
            Next::Resume
        }
        Direction::Out if marks && access.port == MARK_VALUE => {
            vcpu.mark_value = low(rax);
            Next::Resume
        }
        Direction::Out if marks && access.port == MARK_ID => {
            Next::Mark { id: u64::from(low(rax)), value: u64::from(vcpu.mark_value) }
        }
        Direction::Out => {
            let effect = vcpu.guest.devices.lock().write(access.port, width, low(rax), now);
            let next = match effect {
                PortEffect::None => Next::Resume,
                PortEffect::Console(byte) => {
                    match room {
                        Some(room) => core.console(vcpu.guest, &[byte], room),
                        // Where others have filled the line meanwhile, the byte is lost.
                        None => _ = vcpu.guest.line.lock().push(byte),
                    }
                    Next::Resume
                }
                PortEffect::Doorbell(ChannelIndex(channel)) => {
                    let _ = channel::ring(vcpu.guest, core, u8::try_from(channel).unwrap_or(u8::MAX));
                    Next::Resume
                }
                PortEffect::PowerOff => Next::End(Ending::Off),
                PortEffect::Reset => Next::End(Ending::Reboot),
            };
            sync_device_interrupts(vcpu.guest, core, now);
            next
        }
    }
}
