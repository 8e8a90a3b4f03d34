//! From SVM's exit codes to [`Exit`].

use super::codes;
use super::state::SvmVcpu;
use super::state::step::Of;
use super::vmcb::{code, event};
use crate::base::addr::GuestPhys;
use crate::guest::registers::RFLAGS_TF;
use crate::guest::registers::{DR6_BREAKPOINTS, DR6_GENERAL_DETECT, DR6_STEP, DR7_GENERAL_DETECT};
use crate::guest::seam::{Access, CpuEvents, Direction, Exception, Exit, PortAccess, VirtualCpu};

/// INT1, which takes no prefixes.
const INT1_BYTES: u64 = 1;
/// #BP and #OF, which only INT3 and INTO raise.
const BREAKPOINT: u64 = 3;
const OVERFLOW: u64 = 4;
/// What a #DB is for: one of these is always set.
const DR6_CAUSES: u64 = DR6_BREAKPOINTS | DR6_GENERAL_DETECT | DR6_STEP;
/// The highest vector of an exception.
const LAST_EXCEPTION: u64 = 31;

/// Decodes the exit that `vcpu` just took, by this code.
#[inline]
pub fn exit(vcpu: &mut SvmVcpu, exit_code: u64) -> Exit {
    match exit_code {
        code::VMMCALL => Exit::Call,
        code::CPUID => Exit::Cpuid,
        code::MSR if vcpu.vmcb.control.exit_info_1 & 1 == 0 => Exit::ReadMsr,
        code::MSR => Exit::WriteMsr,
        code::IOIO => port(vcpu.vmcb.control.exit_info_1),
        code::HLT => Exit::Halt,
        code::PAUSE => Exit::Pause,
        code::VINTR => Exit::Window,
        other => asynchronous(vcpu, other),
    }
}

/// Exits that may have cut the delivery of an event short: it is injected again (§15.7.2).
#[inline(always)] // a call would give its answer in memory, and every exit would take it from there
fn asynchronous(vcpu: &mut SvmVcpu, exit_code: u64) -> Exit {
    if exit_code == code::MACHINE_CHECK {
        return Exit::MachineCheck; // whatever the guest was about
    }
    // None of the core's instructions exited; a HLT after STI that it does all the same has its own length.
    if !matches!(exit_code, code::WBINVD | code::INVD | code::WRITE_CR4) {
        vcpu.vmcb.control.next_rip = 0;
    }
    if exit_code == code::NOT_ENTERED {
        vcpu.flush(); // if it was to flush, it has not
        return Exit::HostInterrupt;
    }
    if let Some(step) = vcpu.step {
        if let code::FIRST_EXCEPTION..=code::LAST_EXCEPTION = exit_code {
            let is_over = vcpu.step_exception(step, exit_code);
            // Whatever waited for the end of the step is looked for now.
            return if is_over { Exit::Window } else { Exit::Handled };
        }
        vcpu.undo_step();
    }
    if let code::DEBUG | code::ALIGNMENT = exit_code {
        return exception(vcpu, exit_code);
    }
    deliver_again(vcpu);
    match exit_code {
        code::INTR | code::NMI | code::INIT => Exit::HostInterrupt,
        code::NPF => memory(vcpu.vmcb.control.exit_info_1, vcpu.vmcb.control.exit_info_2),
        code::READ_DR0..=code::WRITE_DR15 => Exit::DebugRegister,
        code::WRITE_CR4 => Exit::WriteCr4,
        code::TASK_SWITCH => Exit::TaskSwitch,
        code::SHUTDOWN => Exit::Shutdown,
        code::WBINVD | code::INVD => Exit::CacheFlush,
        code::IRET => {
            vcpu.begin_step(Of::Return);
            Exit::Handled
        }
        code::WRITE_CR8 | code::TR_WRITE => {
            vcpu.begin_step(Of::Other);
            Exit::Handled
        }
        code::ICEBP => {
            vcpu.step_over(INT1_BYTES);
            vcpu.vmcb.save.dr7 &= !DR7_GENERAL_DETECT;
            vcpu.inject_exception(Exception::Debug);
            Exit::Exception
        }
        code::INVALID | code::INVALID_32 => Exit::BadState,
        undefined if codes::is_undefined(undefined) => Exit::Undefined,
        other => Exit::Unknown { code: other },
    }
}

/// An event whose delivery an exit has cut short is injected again (§15.20). Bits besides `VALID` may be stale.
#[cold]
fn deliver_again(vcpu: &mut SvmVcpu) {
    let cut_short = vcpu.vmcb.control.exit_interrupt_info;
    if cut_short & event::VALID == 0 {
        return;
    }
    let again = match (cut_short & event::TYPE_MASK, cut_short & event::VECTOR_MASK) {
        // INT n, INT3 and INTO run again by themselves: RIP is theirs.
        (event::SOFTWARE, _) | (event::EXCEPTION, BREAKPOINT | OVERFLOW) => false,
        // So QEMU's translator calls a virtual interrupt, which is still pending.
        (event::EXCEPTION, vector) => vector <= LAST_EXCEPTION,
        // An NMI that was being delivered does not hold itself back; it is in service all the same.
        _ => true,
    };
    if again {
        vcpu.vmcb.control.event_injection = cut_short;
    }
}

/// An exception takes the place of what was being delivered, as on a processor: these are benign (§8.2.9). DR6 and DR7 are as its
/// handler wants them (§15.12.2), but for Bochs, which leaves GD set and writes no cause: a step's is known by TF.
#[inline(always)]
fn exception(vcpu: &mut SvmVcpu, exit_code: u64) -> Exit {
    let exception = if exit_code == code::DEBUG {
        let save = &mut vcpu.vmcb.save;
        save.dr7 &= !DR7_GENERAL_DETECT;
        if save.dr6 & DR6_CAUSES == 0 && save.rflags & RFLAGS_TF != 0 {
            save.dr6 |= DR6_STEP;
        }
        Exception::Debug
    } else {
        Exception::AlignmentCheck
    };
    vcpu.inject_exception(exception);
    Exit::Exception
}

/// EXITINFO1 of an I/O exit (§15.10.2): bit 0 IN, bit 2 string, bits 6:4 size, bits 31:16 port.
#[expect(clippy::cast_possible_truncation, reason = "bits 31:16 of the word are the port")]
fn port(info: u64) -> Exit {
    let size_bytes = if info & 1 << 4 != 0 {
        1
    } else if info & 1 << 5 != 0 {
        2
    } else {
        4
    };
    let direction = if info & 1 == 0 { Direction::Out } else { Direction::In };
    let access = PortAccess { port: (info >> 16) as u16, size_bytes, direction };
    if info & 1 << 2 == 0 { Exit::Port(access) } else { Exit::StringPort(access) }
}

/// EXITINFO1 of a nested page fault is a page-fault error code (§15.25.6).
#[inline(always)]
fn memory(info: u64, address: u64) -> Exit {
    let access = if info & 1 << 4 != 0 {
        Access::Execute
    } else if info & 1 << 1 != 0 {
        Access::Write
    } else {
        Access::Read
    };
    Exit::MemoryFault { at: GuestPhys::new_truncate(address), access }
}
