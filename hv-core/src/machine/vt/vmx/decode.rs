//! From VMX's exit reasons to [`Exit`]. Intel SDM vol 3D appendix C, vol 3C §27.2.

use super::codes::{self, Kind};
use super::controls::Primary;
use super::fields;
use super::state::{VmxVcpu, event};
use super::vmcs::Current;
use crate::base::addr::GuestPhys;
use crate::guest::seam::{Access, CpuEvents, Direction, Exception, Exit, PortAccess};
use crate::machine::arch::machine_check;

/// Basic exit reasons that are told apart before [`codes`] is asked.
pub mod reason {
    pub const EXCEPTION_OR_NMI: u32 = 0;
    pub const INTERRUPT_WINDOW: u32 = 7;
    pub const CPUID: u32 = 10;
    pub const HLT: u32 = 12;
    pub const VMCALL: u32 = 18;
    pub const IO: u32 = 30;
    pub const RDMSR: u32 = 31;
    pub const WRMSR: u32 = 32;
    pub const PAUSE: u32 = 40;
    pub const BELOW_THRESHOLD: u32 = 43;
    pub const EPT_VIOLATION: u32 = 48;
}

/// The reason of accesses to control registers.
const CONTROL_REGISTER: u64 = 28;
/// HLT without prefixes.
const HLT_BYTES: u32 = 1;
/// INT1, which takes none.
const INT1_BYTES: u32 = 1;

/// Decodes the exit that the vCPU of the current VMCS just took.
#[inline]
pub fn exit(vcpu: &mut VmxVcpu, vmcs: Current, why: u32) -> Exit {
    if why == reason::VMCALL {
        return Exit::Call; // whose length is known
    }
    vcpu.instruction_length = vmcs.read(fields::INSTRUCTION_LENGTH);
    match why {
        reason::CPUID => Exit::Cpuid,
        reason::RDMSR => Exit::ReadMsr,
        reason::WRMSR => Exit::WriteMsr,
        reason::IO => port(vmcs.read(fields::QUALIFICATION)),
        reason::HLT => Exit::Halt,
        reason::PAUSE => Exit::Pause,
        reason::INTERRUPT_WINDOW | reason::BELOW_THRESHOLD => Exit::Window,
        other => rare(vcpu, vmcs, other),
    }
}

impl VmxVcpu {
    /// The machine's interrupt: no instruction of the guest's exited. The one that the core may finish all the same is a HLT after STI
    /// (`exit::exit`).
    pub(super) fn interrupted(&mut self) -> Exit {
        self.instruction_length = HLT_BYTES;
        Exit::HostInterrupt
    }
}

#[cold]
fn rare(vcpu: &mut VmxVcpu, vmcs: Current, why: u32) -> Exit {
    vcpu.extra.note_cr2();
    let cut_short = vmcs.read(fields::VECTORING_EVENT);
    if cut_short & event::VALID != 0 {
        deliver_again(vcpu, vmcs, cut_short);
    } else if unblocked_nmi(vmcs, why) {
        vcpu.block_nmi();
    }
    match codes::kind(why) {
        Kind::ExceptionOrNmi => exception_or_nmi(vcpu, vmcs),
        Kind::Interrupted => vcpu.interrupted(),
        Kind::NmiWindow => {
            vcpu.control_primary(Primary::NMI_WINDOW, false);
            Exit::Window
        }
        Kind::TripleFault => Exit::Shutdown,
        Kind::TaskSwitch => Exit::TaskSwitch,
        Kind::Memory => memory(vmcs.read(fields::QUALIFICATION), vmcs.read(fields::GUEST_PHYSICAL)),
        Kind::ControlRegister => control_register(vmcs.read(fields::QUALIFICATION)),
        Kind::DebugRegister => Exit::DebugRegister,
        Kind::CacheFlush => Exit::CacheFlush,
        Kind::BadState => Exit::BadState,
        Kind::MachineCheck => Exit::MachineCheck,
        Kind::Undefined => Exit::Undefined,
        Kind::Frequent | Kind::Never => Exit::Unknown { code: u64::from(why) },
    }
}

/// The qualification of an access to a control register (table 27-3): bits 3:0 which, bits 5:4 how. CLTS and LMSW touch no bit that exits.
fn control_register(qualification: u64) -> Exit {
    match qualification & 0x3f {
        0 => Exit::WriteCr0,
        4 => Exit::WriteCr4,
        _ => Exit::Unknown { code: CONTROL_REGISTER },
    }
}

/// An exit may have cut the delivery of an event short: it is injected again (§27.2.4). A software interrupt's instruction runs
/// again by itself.
fn deliver_again(vcpu: &mut VmxVcpu, vmcs: Current, cut_short: u32) {
    let kind = cut_short & event::TYPE_MASK;
    if kind < event::SOFTWARE {
        if kind == event::NMI {
            vcpu.unblock_nmi();
        }
        vcpu.inject(cut_short & event::MEANING, vmcs.read(fields::VECTORING_ERROR));
    }
}

/// Whether the exit is for a fault of an IRET that has already let NMIs in: it runs again, and must find them held back (§27.2.3, tables
/// 27-7 and 27-14; nothing is said of a double fault, nor where the delivery of an event was cut short).
fn unblocked_nmi(vmcs: Current, why: u32) -> bool {
    match why {
        reason::EXCEPTION_OR_NMI => is_unblocked_nmi(vmcs.read(fields::EXIT_EVENT)),
        reason::EPT_VIOLATION => vmcs.read(fields::QUALIFICATION) & u64::from(event::NMI_UNBLOCKED) != 0,
        _ => false,
    }
}

/// The same, by the exit's interruption information.
const fn is_unblocked_nmi(what: u32) -> bool {
    const DOUBLE_FAULT: u32 = 8;
    what & (event::TYPE_MASK | event::NMI_UNBLOCKED) == event::EXCEPTION | event::NMI_UNBLOCKED
        && what & event::VECTOR_MASK != DOUBLE_FAULT
}

/// An exception takes the place of what was being delivered, as on a processor, since #DB and #AC are benign (SDM vol 3A table 6-5).
/// The exit has left DR6 and DR7 to us (§27.1).
fn exception_or_nmi(vcpu: &mut VmxVcpu, vmcs: Current) -> Exit {
    let what = vmcs.read(fields::EXIT_EVENT);
    if what & event::TYPE_MASK == event::NMI {
        return vcpu.interrupted(); // it was taken from the processor; `Vmx::run` has passed it on
    }
    if what & (event::TYPE_MASK | event::VECTOR_MASK) == event::EXCEPTION | u32::from(machine_check::VECTOR) {
        return Exit::MachineCheck;
    }
    if what & event::TYPE_MASK == event::PRIVILEGED_SOFTWARE {
        vcpu.step_over(INT1_BYTES);
    }
    // What is injected ends the shadow of STI and MOV SS; with one, entry wants a pending single step that is no more (§26.3.1.5).
    vcpu.leave_shadow();
    if what & event::VECTOR_MASK == u32::from(Exception::Debug.vector()) {
        vcpu.raise_debug(vmcs.read(fields::QUALIFICATION));
    } else {
        vcpu.inject_exception(Exception::AlignmentCheck);
    }
    Exit::Exception
}

/// The qualification of an I/O exit (table 27-5): bits 2:0 size less one, bit 3 IN, bit 4 string, bits 31:16 port.
#[expect(clippy::cast_possible_truncation, reason = "bits 31:16 of the word are the port, bits 2:0 the size")]
fn port(qualification: u64) -> Exit {
    let size_bytes = (qualification & 7) as u8 + 1;
    let direction = if qualification & 1 << 3 == 0 { Direction::Out } else { Direction::In };
    let access = PortAccess { port: (qualification >> 16) as u16, size_bytes, direction };
    if qualification & 1 << 4 == 0 { Exit::Port(access) } else { Exit::StringPort(access) }
}

/// The qualification of an EPT violation (table 27-7): bit 0 read, bit 1 write, bit 2 fetch.
fn memory(qualification: u64, address: u64) -> Exit {
    let access = if qualification & 1 << 2 != 0 {
        Access::Execute
    } else if qualification & 1 << 1 != 0 {
        Access::Write
    } else {
        Access::Read
    };
    Exit::MemoryFault { at: GuestPhys::new_truncate(address), access }
}
