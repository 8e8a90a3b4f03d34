//! The vendor seam: what the core asks of a virtual CPU, and the exits as it wants to see them.
//!
//! AMD-V implements it in `machine::vt::svm`, Intel's in `machine::vt::vmx`, a script in `testkit`. Nothing above names a vendor.

use crate::base::addr::GuestPhys;
use crate::base::control::{Control, Start};

/// Why a vCPU left guest mode. The backend decodes; the core matches without a wildcard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The call instruction.
    Call,
    /// CPUID.
    Cpuid,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// IN or OUT of a register.
    Port(PortAccess),
    /// INS or OUTS.
    StringPort(PortAccess),
    /// HLT.
    Halt,
    /// PAUSE.
    Pause,
    /// A physical interrupt waits.
    HostInterrupt,
    /// The vCPU became able to take an interrupt, or an NMI.
    Window,
    /// Memory that is not there, or not writable.
    MemoryFault {
        /// Where.
        at: GuestPhys,
        /// What was tried.
        access: Access,
    },
    /// An instruction that this virtual machine does not have.
    Undefined,
    /// WBINVD or INVD: caches are coherent, nothing is owed.
    CacheFlush,
    /// A debug register that is not switched with every entry: it is loaded, and the instruction runs again.
    DebugRegister,
    /// The backend has done what was owed.
    Handled,
    /// MOV to CR0; [`CpuRegisters::control_operand`] says from where. It is no payload: an exit with more than one kind of them is taken
    /// apart on the way of every exit.
    WriteCr0,
    /// MOV to CR4.
    WriteCr4,
    /// A task switch: by a far JMP, CALL or IRET, or by a task gate.
    TaskSwitch,
    /// An exception that a guest can have delivered without end (#DB, #AC). It is on its way again; each one ends the stay in guest
    /// mode, since a processor looks for interrupts only between instructions, and there may be none in between.
    Exception,
    /// A triple fault.
    Shutdown,
    /// A machine check: the machine failed, whoever ran.
    MachineCheck,
    /// The processor refused the vCPU's state.
    BadState,
    /// Anything else, with the vendor's code.
    Unknown {
        /// The vendor's exit code.
        code: u64,
    },
}

/// A control register whose writes exit on some processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlRegister {
    /// CR0.
    Cr0,
    /// CR4.
    Cr4,
}

/// What a memory access tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// IN or OUT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortAccess {
    /// Which port.
    pub port: u16,
    /// 1, 2 or 4.
    pub size_bytes: u8,
    /// Which way.
    pub direction: Direction,
}

/// Which way a port access goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// IN.
    In,
    /// OUT.
    Out,
}

/// A general register, but for RSP, which no device access of a sane kernel loads or stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are the manual's")]
pub enum Reg {
    Rax,
    Rbx,
    Rcx,
    Rdx,
    Rsi,
    Rdi,
    Rbp,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Reg {
    /// By its number in an instruction, where that is not RSP's.
    pub const fn numbered(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Rax,
            1 => Self::Rcx,
            2 => Self::Rdx,
            3 => Self::Rbx,
            5 => Self::Rbp,
            6 => Self::Rsi,
            7 => Self::Rdi,
            8 => Self::R8,
            9 => Self::R9,
            10 => Self::R10,
            11 => Self::R11,
            12 => Self::R12,
            13 => Self::R13,
            14 => Self::R14,
            15 => Self::R15,
            _ => return None,
        })
    }
}

/// An emulated instruction: the backend knows its length, or learns it from the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instruction {
    /// VMMCALL or VMCALL.
    Call,
    /// CPUID.
    Cpuid,
    /// RDMSR or WRMSR.
    Msr,
    /// HLT.
    Halt,
    /// PAUSE.
    Pause,
    /// IN or OUT.
    Port,
    /// WBINVD or INVD.
    CacheFlush,
    /// MOV to a control register, whose length the processor gives with its general register.
    ControlRegister,
    /// One that was decoded, of so many bytes.
    Decoded(u8),
}

/// What a vCPU waits for before it can take an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// Nothing.
    Closed,
    /// IF, and no shadow.
    Interrupts,
    /// The same, and CR8 below this class (1 … 15).
    Priority(u8),
}

/// What became of an NMI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Nmi {
    /// It comes before the next instruction.
    Injected,
    /// It comes when what is injected already, or the shadow of STI or MOV SS, is over: it is to be tried again.
    Waits,
    /// One is in service. [`Exit::Window`] says when its IRET is done.
    Blocked,
}

/// What PAUSE does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pauses {
    /// It exits: somebody else may know better what to do with the CPU.
    Exit,
    /// Nothing: nobody waits.
    Run,
}

/// An exception that is raised in a guest. Error codes are 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exception {
    /// #DB.
    Debug,
    /// #UD.
    InvalidOpcode,
    /// #GP.
    GeneralProtection,
    /// #AC.
    AlignmentCheck,
}

impl Exception {
    /// Its vector.
    pub const fn vector(self) -> u8 {
        match self {
            Self::Debug => 1,
            Self::InvalidOpcode => 6,
            Self::GeneralProtection => 13,
            Self::AlignmentCheck => 17,
        }
    }

    /// Whether it has an error code.
    pub const fn has_error(self) -> bool {
        matches!(self, Self::GeneralProtection | Self::AlignmentCheck)
    }

    /// Those that a guest can have delivered without end, by their vectors' bits: CVE-2015-8104, CVE-2015-5307.
    pub const ENDLESS: u32 = 1 << Self::Debug.vector() | 1 << Self::AlignmentCheck.vector();
}

/// Registers of a virtual CPU.
pub trait CpuRegisters {
    /// Reads a general register.
    fn reg(&self, reg: Reg) -> u64;
    /// Writes a general register.
    fn set_reg(&mut self, reg: Reg, value: u64);
    /// After MOV to a control register has exited: the number of its general register, where the processor gives it.
    fn control_operand(&self) -> Option<u8>;
    /// A general register by its number in an instruction.
    fn general(&self, number: u8) -> u64 {
        Reg::numbered(number).map_or_else(|| self.rsp(), |reg| self.reg(reg))
    }
    /// The instruction pointer.
    fn rip(&self) -> u64;
    /// Where the code segment begins; it is 0 to 64-bit code, whatever this says.
    fn code_base(&self) -> u64;
    /// The stack pointer.
    fn rsp(&self) -> u64;
    /// Where the last page fault was.
    fn cr2(&self) -> u64;
    /// The page-table root.
    fn cr3(&self) -> u64;
    /// Does what MOV to CR0 does, but for what it checks: `pdptes` are what PAE paging begins with, where it loads them. False when the
    /// task register does not allow long mode.
    fn set_cr0(&mut self, value: u64, pdptes: Option<[u64; 4]>) -> bool;
    /// Sets CR4 as the guest sees it.
    fn set_cr4(&mut self, value: u64);
    /// Current privilege level, 0 … 3.
    fn cpl(&self) -> u8;
    /// CR8, the task priority's upper four bits.
    fn cr8(&self) -> u8;
    /// Sets CR8.
    fn set_cr8(&mut self, value: u8);
    /// EFER as the guest sees it.
    fn efer(&self) -> u64;
    /// Sets EFER as the guest sees it; false when a bit is reserved.
    fn set_efer(&mut self, value: u64) -> bool;
    /// PAT.
    fn pat(&self) -> u64;
    /// Sets PAT.
    fn set_pat(&mut self, value: u64);
    /// Its control state, to start another with.
    fn control(&self) -> Control;
}

/// What is injected into a virtual CPU, and when it can take it.
pub trait CpuEvents {
    /// Whether RFLAGS.IF is set.
    fn interrupts_on(&self) -> bool;
    /// Whether an interrupt could be injected now: IF set, no shadow, nothing injected already.
    fn ready_for_interrupt(&self) -> bool;
    /// Injects an external interrupt; only when [`Self::ready_for_interrupt`].
    fn inject_interrupt(&mut self, vector: u8);
    /// Injects an exception at the current instruction.
    fn inject_exception(&mut self, exception: Exception);
    /// Injects an NMI, if it can come now.
    fn inject_nmi(&mut self) -> Nmi;
    /// Whether an event is injected: the guest takes it before its next instruction.
    fn injects(&self) -> bool;
    /// Asks for [`Exit::Window`] as soon as an interrupt could be taken, or withdraws that.
    fn watch_window(&mut self, watch: Window);
    /// Whether it waits for an [`Exit::Window`].
    fn watches_window(&self) -> bool;
    /// Whether an instruction that holds interrupts back for one more (STI, MOV SS) was the last.
    fn in_shadow(&self) -> bool;
}

/// One virtual CPU's architectural state, as far as the core handles it.
pub trait VirtualCpu: CpuRegisters + CpuEvents {
    /// Steps over an instruction that was emulated, and ends the interrupt shadow. Under TF a #DB follows, which is injected.
    fn finish(&mut self, instruction: Instruction);
    /// Sets what PAUSE does from the next entry on.
    fn watch_pauses(&mut self, pauses: Pauses);
    /// Makes its next entry forget its cached translations.
    fn flush(&mut self);
    /// Gives the vCPU its own debug registers until it is switched out.
    fn load_debug_registers(&mut self);
    /// Puts the vCPU into its state at `start`.
    fn reset(&mut self, start: Start);
}

/// A processor that runs virtual CPUs of one vendor's kind.
pub trait Processor {
    /// The vCPU it runs.
    type Vcpu: VirtualCpu + 'static;
    /// Runs a vCPU until it exits.
    fn run(&mut self, vcpu: &mut Self::Vcpu) -> Exit;
    /// Loads what is not switched on every exit: FPU state and address-space tags.
    fn switch_in(&mut self, vcpu: &mut Self::Vcpu);
    /// Takes in a vCPU that ran elsewhere or begins anew: nothing that this processor has cached for it is true any more.
    fn arrive(&mut self, vcpu: &mut Self::Vcpu);
    /// Lets a vCPU go that is switched out: another processor takes it in, or none does.
    fn depart(&mut self, vcpu: &mut Self::Vcpu);
    /// Saves it.
    fn switch_out(&mut self, vcpu: &mut Self::Vcpu);
}
