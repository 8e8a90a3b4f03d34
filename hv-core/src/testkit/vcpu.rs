//! A vCPU that follows a script, and a record of what reached it.

use crate::base::control::{Control, Start};
use crate::base::time::Tsc;
use crate::guest::registers::efer_paged;
use crate::guest::registers::{EFER_GUEST, EFER_LMA};
use crate::guest::seam::{
    CpuEvents, CpuRegisters, Exception, Exit, Instruction, Nmi, Pauses, Reg, VirtualCpu, Window,
};
use crate::policy::sched::Slot;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

/// One step of a script.
pub enum Step {
    /// The guest computes for so many ticks.
    Run(u64),
    /// The guest changes what it may change; takes no time.
    Do(Box<dyn FnOnce(&mut ScriptedVcpu)>),
    /// The guest does what exits.
    Exit(Exit),
    /// An exception whose delivery raises the next one, each after so many ticks: no instruction ends, so the processor looks for no
    /// interrupt. The last step of a script.
    Endless(u64),
}

impl Step {
    /// A step that changes something.
    pub fn act(act: impl FnOnce(&mut ScriptedVcpu) + 'static) -> Self {
        Self::Do(Box::new(act))
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(ticks) => write!(f, "Run({ticks})"),
            Self::Do(_) => f.write_str("Do"),
            Self::Exit(exit) => write!(f, "{exit:?}"),
            Self::Endless(ticks) => write!(f, "Endless({ticks})"),
        }
    }
}

/// What reached a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// An external interrupt.
    Interrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// An exception.
    Exception(Exception),
    /// It was started, or started over.
    Start(Start),
    /// Its cached translations are forgotten.
    Flush,
}

const REGISTERS: usize = 15;

/// A vCPU. Interrupt handlers return at once and leave IF as it was.
#[derive(Debug)]
pub struct ScriptedVcpu {
    /// What it does next; when that is over, it spins.
    pub script: VecDeque<Step>,
    /// What reached it, and when.
    pub seen: Vec<(Tsc, Seen)>,
    /// RFLAGS.IF.
    pub interrupts: bool,
    /// What PAUSE does.
    pub pauses: Pauses,
    /// Whether the last instruction was STI or MOV SS.
    pub shadow: bool,
    /// Whether an NMI is in service, which holds others back.
    pub in_nmi: bool,
    /// Whether RFLAGS.TF is set.
    pub single_step: bool,
    /// The general register of MOV to a control register, where this processor gives it.
    pub operand: Option<u8>,
    /// Current privilege level.
    pub cpl: u8,
    /// RIP.
    pub rip: u64,
    /// The base of CS.
    pub code_base: u64,
    /// RSP.
    pub rsp: u64,
    /// What another vCPU would start with.
    pub control: Control,
    registers: [u64; REGISTERS],
    pub(super) slot: Slot,
    pub(super) loaded: bool,
    cr8: u8,
    injected: Option<Seen>,
    must_flush: bool,
    window: Window,
}

impl ScriptedVcpu {
    /// A vCPU that is not started.
    pub fn new(slot: Slot) -> Self {
        Self {
            script: VecDeque::new(),
            seen: Vec::new(),
            interrupts: false,
            pauses: Pauses::Exit,
            shadow: false,
            in_nmi: false,
            single_step: false,
            operand: None,
            cpl: 0,
            rip: 0,
            code_base: 0,
            rsp: 0,
            control: Control::default(),
            registers: [0; REGISTERS],
            slot,
            loaded: false,
            cr8: 0,
            injected: None,
            must_flush: false,
            window: Window::Closed,
        }
    }

    /// All general registers, in the order of [`Reg`].
    pub const fn registers(&self) -> [u64; REGISTERS] {
        self.registers
    }

    /// What it waits for before it exits by itself.
    pub const fn window(&self) -> Window {
        self.window
    }

    /// Whether its FPU state is in the processor.
    pub const fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// The vectors it took, in order.
    pub fn vectors(&self) -> Vec<u8> {
        let vector = |(_, seen): &(Tsc, Seen)| match seen {
            Seen::Interrupt(vector) => Some(*vector),
            Seen::Nmi | Seen::Exception(_) | Seen::Start(_) | Seen::Flush => None,
        };
        self.seen.iter().filter_map(vector).collect()
    }

    /// How often it took this.
    pub fn count(&self, what: Seen) -> usize {
        self.seen.iter().filter(|(_, seen)| *seen == what).count()
    }

    pub(super) fn note(&mut self, now: Tsc, seen: Seen) {
        self.seen.push((now, seen));
    }

    pub(super) fn enter(&mut self, now: Tsc) {
        if core::mem::take(&mut self.must_flush) {
            self.note(now, Seen::Flush);
        }
        if let Some(injected) = self.injected.take() {
            self.note(now, injected);
        }
    }

    pub(super) const fn window_is_open(&self) -> bool {
        let priority = match self.window {
            Window::Closed => return false,
            Window::Interrupts => true,
            Window::Priority(class) => self.cr8 < class,
        };
        priority && self.interrupts && !self.shadow
    }
}

impl CpuRegisters for ScriptedVcpu {
    fn reg(&self, reg: Reg) -> u64 {
        self.registers[reg as usize]
    }

    fn set_reg(&mut self, reg: Reg, value: u64) {
        self.registers[reg as usize] = value;
    }

    fn control_operand(&self) -> Option<u8> {
        self.operand
    }

    fn rip(&self) -> u64 {
        self.rip
    }

    fn code_base(&self) -> u64 {
        self.code_base
    }

    fn rsp(&self) -> u64 {
        self.rsp
    }

    fn cr2(&self) -> u64 {
        0
    }

    fn cr3(&self) -> u64 {
        self.control.cr[1]
    }

    fn set_cr0(&mut self, value: u64, pdptes: Option<[u64; 4]>) -> bool {
        let Control { cr, efer, pdptes: loaded, .. } = &mut self.control;
        cr[0] = value;
        *efer = efer_paged(*efer, value);
        *loaded = pdptes.unwrap_or(*loaded);
        true
    }

    fn set_cr4(&mut self, value: u64) {
        self.control.cr[2] = value;
    }

    fn cpl(&self) -> u8 {
        self.cpl
    }

    fn cr8(&self) -> u8 {
        self.cr8
    }

    fn set_cr8(&mut self, value: u8) {
        self.cr8 = value & 0xf;
    }

    fn efer(&self) -> u64 {
        self.control.efer
    }

    fn set_efer(&mut self, value: u64) -> bool {
        if value & !EFER_GUEST != 0 {
            return false;
        }
        self.control.efer = value & !EFER_LMA | self.control.efer & EFER_LMA;
        true
    }

    fn pat(&self) -> u64 {
        self.control.pat
    }

    fn set_pat(&mut self, value: u64) {
        self.control.pat = value;
    }

    fn control(&self) -> Control {
        self.control
    }
}

impl CpuEvents for ScriptedVcpu {
    fn interrupts_on(&self) -> bool {
        self.interrupts
    }

    fn ready_for_interrupt(&self) -> bool {
        self.interrupts && !self.shadow && self.injected.is_none()
    }

    #[expect(clippy::panic, reason = "the caller's bug, which tests are to find")]
    fn inject_interrupt(&mut self, vector: u8) {
        if !self.ready_for_interrupt() {
            panic!("vector {vector} injected into a vCPU that cannot take it");
        }
        self.injected = Some(Seen::Interrupt(vector));
    }

    fn inject_exception(&mut self, exception: Exception) {
        self.injected = Some(Seen::Exception(exception));
    }

    fn inject_nmi(&mut self) -> Nmi {
        if self.in_nmi {
            return Nmi::Blocked;
        }
        if self.injects() || self.shadow {
            return Nmi::Waits;
        }
        self.injected = Some(Seen::Nmi);
        Nmi::Injected
    }

    fn injects(&self) -> bool {
        self.injected.is_some()
    }

    fn watch_window(&mut self, watch: Window) {
        self.window = watch;
    }

    fn watches_window(&self) -> bool {
        self.window != Window::Closed
    }

    fn in_shadow(&self) -> bool {
        self.shadow
    }
}

impl VirtualCpu for ScriptedVcpu {
    fn finish(&mut self, instruction: Instruction) {
        let length = match instruction {
            Instruction::Call => 3,
            Instruction::Cpuid | Instruction::Msr | Instruction::Pause | Instruction::CacheFlush => 2,
            Instruction::Halt | Instruction::Port => 1,
            Instruction::ControlRegister => 3,
            Instruction::Decoded(length) => u64::from(length),
        };
        self.rip = self.rip.wrapping_add(length);
        self.shadow = false;
        if self.single_step {
            self.inject_exception(Exception::Debug);
        }
    }

    fn watch_pauses(&mut self, pauses: Pauses) {
        self.pauses = pauses;
    }

    fn flush(&mut self) {
        self.must_flush = true;
    }

    fn load_debug_registers(&mut self) {}

    fn reset(&mut self, start: Start) {
        let Self { script, seen, slot, loaded, .. } = core::mem::replace(self, Self::new(self.slot));
        *self = Self { script, seen, slot, loaded, ..Self::new(slot) };
        match start {
            Start::Protected { entry, ebx } => {
                self.rip = u64::from(entry);
                self.set_reg(Reg::Rbx, u64::from(ebx));
            }
            Start::Real { vector } => self.code_base = u64::from(vector) << 12,
            Start::Copy { control, entry, stack, arguments } => {
                self.control = control;
                self.rip = entry;
                self.rsp = stack;
                self.set_reg(Reg::Rdi, arguments[0]);
                self.set_reg(Reg::Rsi, arguments[1]);
            }
        }
        self.injected = None;
        self.note(Tsc(0), Seen::Start(start));
    }
}
