//! One vCPU under SVM: its VMCB, its registers, and what the core reads and writes of them.

pub(super) mod step;

use super::enable::Features;
use super::vmcb::{
    ALL_DEBUG_REGISTERS, CrIntercepts, FLUSH_ALL, FLUSH_ASID, Instructions, SvmInstructions,
    VirtualInterrupt, Vmcb, event,
};
use crate::base::addr::HostPhys;
use crate::base::control::{Control, Start};
use crate::guest::general::Registers;
use crate::guest::registers::{CR0_PE, EFER_GUEST};
use crate::guest::registers::{DR6_STEP, DR7_ENABLES, DR7_GENERAL_DETECT};
use crate::guest::registers::{RFLAGS_IF, RFLAGS_RF, RFLAGS_TF, efer_paged, efer_written};
use crate::guest::seam::{
    CpuEvents, CpuRegisters, Exception, Instruction, Nmi, Pauses, Reg, VirtualCpu, Window,
};
use crate::machine::arch::translator::Translator;
use crate::machine::vt::EXCEPTIONS;
use crate::machine::vt::debug;
use crate::machine::vt::fpu::Fpu;
use step::Step;

/// How an interrupt is injected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Injection {
    /// As an event (§15.20).
    Event,
    /// As a virtual interrupt (§15.21.4), without the intercept: see [`crate::machine::arch::translator`].
    Virtual,
}

/// A vCPU.
pub struct SvmVcpu {
    pub(super) vmcb: &'static mut Vmcb,
    pub(super) vmcb_phys: HostPhys,
    pub(super) saved: Registers,
    pub(super) fpu: Fpu,
    /// DR0 … DR3 while they are not in the processor; VMRUN switches DR6 and DR7 only (§15.5.1).
    pub(super) debug: [u64; 4],
    /// QEMU's translator: DR7 of another vCPU whose breakpoints it still had when this one came; 0 for none.
    pub(super) foreign_breakpoints: u64,
    injection: Injection,
    /// The translator that this machine is, if any.
    pub(super) translator: Option<Translator>,
    /// One instruction runs by itself, to be looked at.
    pub(super) step: Option<Step>,
    /// An NMI was injected, and the IRET that ends it has not come; the next one waits (§8.1.3).
    pub(super) in_nmi: bool,
    /// The general register of MOV to a control register is in EXITINFO1 (§15.33.1).
    pub(super) decodes: bool,
    /// What TLB_CONTROL is for a flush.
    flush: u32,
    /// Unique among vCPUs, from 1: chooses the address-space identifier.
    number: u32,
    /// Unique among vCPUs and their arrivals at a processor: what one cached under another tag is stale.
    pub(super) tag: u64,
}

/// What every vCPU shares: physical addresses of the permission maps, all ones but for what guests may touch.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// 12 KiB (§15.10.1).
    pub io: HostPhys,
    /// 8 KiB (§15.11).
    pub msr: HostPhys,
    /// What every processor can do.
    pub features: Features,
}

/// PAUSEs that are no loop yet, and cycles between two that begin a new count: Linux' values (§15.14.4).
const PAUSE_COUNT: u16 = 3000;
const PAUSE_THRESHOLD: u16 = 128;

pub(super) const EFER_SVME: u64 = 1 << 12;

impl SvmVcpu {
    /// Makes a vCPU that is not started. `vmcb` is a zeroed frame of its own at `vmcb_phys`, `number` is unique from 1.
    pub fn new(
        vmcb: &'static mut Vmcb,
        vmcb_phys: HostPhys,
        maps: Maps,
        nested_root: HostPhys,
        translator: Option<Translator>,
        number: u32,
    ) -> Self {
        let control = &mut vmcb.control;
        control.intercept_instructions = Instructions::INTR // §15.13.1: the machine's interrupts are ours
            | Instructions::NMI | Instructions::INIT // §15.13.2, §15.13.3
            | Instructions::RDPMC | Instructions::CPUID | Instructions::INVD // §15.9
            | Instructions::PAUSE | Instructions::HLT | Instructions::INVLPGA
            | Instructions::IOIO | Instructions::MSR // §15.10, §15.11
            | Instructions::TASK_SWITCH | Instructions::SHUTDOWN; // §15.14.1, §15.14.3
        control.intercept_svm = SvmInstructions::VMRUN
            | SvmInstructions::VMMCALL
            | SvmInstructions::VMLOAD
            | SvmInstructions::VMSAVE
            | SvmInstructions::STGI
            | SvmInstructions::CLGI
            | SvmInstructions::SKINIT
            | SvmInstructions::RDTSCP
            | SvmInstructions::ICEBP // §15.9: else its #DB could not be told from others when its delivery is cut short
            | SvmInstructions::WBINVD
            | SvmInstructions::MONITOR
            | SvmInstructions::MWAIT
            | SvmInstructions::XSETBV
            | SvmInstructions::RDPRU; // all §15.9; without VMRUN's, VMRUN refuses the state (§15.5.1)
        control.intercept_cr = CrIntercepts::WRITE_CR4; // §15.8
        control.intercept_exceptions = EXCEPTIONS; // §15.12.2, §15.12.17, §15.12.15
        control.io_map = maps.io.raw();
        control.msr_map = maps.msr.raw();
        control.virtual_interrupt = VirtualInterrupt::MASKING;
        if maps.features.contains(Features::PAUSE_FILTER) {
            control.pause_count = PAUSE_COUNT;
            control.pause_threshold =
                if maps.features.contains(Features::PAUSE_THRESHOLD) { PAUSE_THRESHOLD } else { 0 };
        }
        control.nested_paging = 1;
        control.nested_cr3 = nested_root.raw();
        let injection = match translator {
            Some(Translator::Counting) => Injection::Virtual,
            Some(Translator::Threaded) | None => Injection::Event,
        };
        Self {
            vmcb,
            vmcb_phys,
            saved: Registers::default(),
            fpu: Fpu::reset(),
            debug: [0; 4],
            foreign_breakpoints: 0,
            injection,
            translator,
            step: None,
            in_nmi: false,
            decodes: maps.features.contains(Features::DECODE_ASSISTS),
            flush: if maps.features.contains(Features::FLUSH_BY_ASID) { FLUSH_ASID } else { FLUSH_ALL },
            number,
            tag: u64::from(number),
        }
    }

    /// Forgets what processors cached for it: it came to another one, or begins anew.
    pub(super) const fn change_tag(&mut self) {
        self.tag = self.tag.wrapping_add(1 << 32);
    }

    /// Takes the debug registers out of the processor if they are this vCPU's; the next vCPU finds none of its values. Answers with what
    /// DR7 its breakpoints stay in QEMU's translator, 0 where there are none.
    #[inline]
    pub(super) fn unload_debug_registers(&mut self) -> Option<u64> {
        (self.vmcb.control.intercept_dr != ALL_DEBUG_REGISTERS).then(|| {
            self.vmcb.control.intercept_dr = ALL_DEBUG_REGISTERS;
            self.debug = debug::swap([0; 4]);
            let dr7 = self.vmcb.save.dr7;
            if dr7 & DR7_ENABLES != 0 && self.translator.is_some() { dr7 } else { 0 }
        })
    }

    /// The vCPU's address-space identifier, among `shared` that start at 1; chosen when it is first switched in.
    #[inline]
    pub(super) fn asid(&mut self, shared: u32) -> u32 {
        let control = &mut self.vmcb.control;
        if control.asid == 0 {
            control.asid = 1 + self.number % shared;
        }
        control.asid
    }

    /// A vCPU whose DR7 enables a breakpoint needs their addresses at once: they fire without an access to intercept.
    #[inline]
    pub(super) fn arm_breakpoints(&mut self) {
        if self.vmcb.save.dr7 & DR7_ENABLES != 0 {
            self.load_debug_registers();
        }
    }

    /// Goes on behind the instruction at RIP, and ends the interrupt shadow.
    pub(super) const fn step_over(&mut self, length_bytes: u64) {
        self.vmcb.save.rip = self.vmcb.save.rip.wrapping_add(length_bytes);
        self.vmcb.control.interrupt_shadow = 0;
    }

    /// An instruction that was emulated is done under TF or RF: RF ends with it, and TF makes a #DB of it.
    #[cold]
    fn finish_flagged(&mut self) {
        self.undo_step();
        let save = &mut self.vmcb.save;
        save.rflags &= !RFLAGS_RF;
        if save.rflags & RFLAGS_TF != 0 {
            save.dr6 |= DR6_STEP;
            save.dr7 &= !DR7_GENERAL_DETECT;
            self.inject_exception(Exception::Debug);
        }
        self.vmcb.control.interrupt_shadow = 0;
    }

    /// Whether an interrupt that was injected as a virtual one was not taken yet.
    pub(super) fn holds_virtual_interrupt(&self) -> bool {
        self.injection == Injection::Virtual
            && !self.watches_window()
            && self.vmcb.control.virtual_interrupt.contains(VirtualInterrupt::PENDING)
    }
}

impl CpuRegisters for SvmVcpu {
    #[inline]
    fn reg(&self, reg: Reg) -> u64 {
        if reg == Reg::Rax { self.vmcb.save.rax } else { self.saved.get(reg) }
    }

    #[inline]
    fn set_reg(&mut self, reg: Reg, value: u64) {
        if reg == Reg::Rax {
            self.vmcb.save.rax = value;
        } else {
            *self.saved.get_mut(reg) = value;
        }
    }

    /// By EXITINFO1, with decode assists (§15.33.1): bit 63 says MOV, bits 3:0 the register.
    fn control_operand(&self) -> Option<u8> {
        let info = self.vmcb.control.exit_info_1;
        (self.decodes && info >> 63 != 0).then_some((info & 0xf) as u8)
    }

    fn rip(&self) -> u64 {
        self.vmcb.save.rip
    }

    fn code_base(&self) -> u64 {
        self.vmcb.save.cs.base
    }

    fn rsp(&self) -> u64 {
        self.vmcb.save.rsp
    }

    fn cr2(&self) -> u64 {
        self.vmcb.save.cr2
    }

    fn cr3(&self) -> u64 {
        self.vmcb.save.cr3
    }

    /// Its processor does all of it without an exit: nobody calls this.
    fn set_cr0(&mut self, value: u64, _pdptes: Option<[u64; 4]>) -> bool {
        let save = &mut self.vmcb.save;
        save.cr0 = value;
        save.efer = efer_paged(save.efer, value);
        true
    }

    fn set_cr4(&mut self, value: u64) {
        self.vmcb.save.cr4 = value;
    }

    #[inline]
    fn cpl(&self) -> u8 {
        self.vmcb.save.cpl
    }

    #[inline]
    fn cr8(&self) -> u8 {
        (self.vmcb.control.virtual_interrupt.bits() & 0xf) as u8
    }

    fn set_cr8(&mut self, value: u8) {
        let bits = self.vmcb.control.virtual_interrupt.bits() & !0xf | u64::from(value & 0xf);
        self.vmcb.control.virtual_interrupt = VirtualInterrupt::from_bits_retain(bits);
    }

    fn efer(&self) -> u64 {
        self.vmcb.save.efer & !EFER_SVME
    }

    fn set_efer(&mut self, value: u64) -> bool {
        let save = &mut self.vmcb.save;
        let written = efer_written(value, save.efer & !EFER_SVME, save.cr0);
        if let Some(efer) = written {
            save.efer = efer | EFER_SVME;
        }
        written.is_some()
    }

    fn pat(&self) -> u64 {
        self.vmcb.save.pat
    }

    fn set_pat(&mut self, value: u64) {
        self.vmcb.save.pat = value;
    }

    fn control(&self) -> Control {
        let save = &self.vmcb.save;
        Control {
            cr: [save.cr0, save.cr3, save.cr4],
            efer: save.efer & EFER_GUEST,
            pat: save.pat,
            tables: [(save.gdtr.base, save.gdtr.limit), (save.idtr.base, save.idtr.limit)],
            segments: [(save.cs.selector, save.cs.attributes), (save.ss.selector, save.ss.attributes)],
            pdptes: [0; 4], // read from memory when one is needed (§15.25.10)
        }
    }
}

impl CpuEvents for SvmVcpu {
    #[inline]
    fn interrupts_on(&self) -> bool {
        self.vmcb.save.rflags & RFLAGS_IF != 0
    }

    #[inline]
    fn ready_for_interrupt(&self) -> bool {
        let control = &self.vmcb.control;
        self.interrupts_on()
            && control.interrupt_shadow & 1 == 0
            && control.event_injection & event::VALID == 0
            && !self.holds_virtual_interrupt()
    }

    #[inline]
    fn inject_interrupt(&mut self, vector: u8) {
        if self.injection == Injection::Virtual && !self.watches_window() {
            let control = &mut self.vmcb.control;
            let (on, off) =
                (VirtualInterrupt::PENDING | VirtualInterrupt::IGNORE_TPR, VirtualInterrupt::PRIORITY);
            control.virtual_interrupt =
                control.virtual_interrupt.difference(off).union(on).with_vector(vector);
            control.intercept_cr.insert(CrIntercepts::WRITE_CR8); // which would end the translator
        } else {
            self.vmcb.control.event_injection = event::VALID | event::INTERRUPT | u64::from(vector);
        }
    }

    fn inject_exception(&mut self, exception: Exception) {
        self.undo_step();
        // Real mode pushes no error code (§15.20).
        let has_error = exception.has_error() && self.vmcb.save.cr0 & CR0_PE != 0;
        let error = if has_error { event::HAS_ERROR } else { 0 };
        self.vmcb.control.event_injection =
            event::VALID | event::EXCEPTION | error | u64::from(exception.vector());
    }

    fn inject_nmi(&mut self) -> Nmi {
        if self.in_nmi {
            return Nmi::Blocked;
        }
        if self.injects() || self.step.is_some() {
            return Nmi::Waits;
        }
        if self.in_shadow() {
            // A window opens behind the shadow where IF is set, but in the translator, whose VMRUN forgets the shadow.
            if self.interrupts_on() && self.translator.is_none() {
                self.watch_window(Window::Interrupts);
            }
            return Nmi::Waits;
        }
        self.vmcb.control.event_injection = event::VALID | event::NMI | 2;
        self.in_nmi = true;
        self.watch_instructions();
        Nmi::Injected
    }

    fn injects(&self) -> bool {
        self.vmcb.control.event_injection & event::VALID != 0 || self.holds_virtual_interrupt()
    }

    fn watch_window(&mut self, watch: Window) {
        if self.holds_virtual_interrupt() {
            // While it cannot be an event, it stays what it is, and the second one waits for it.
            let control = &self.vmcb.control;
            let may_be_event = self.interrupts_on()
                && control.interrupt_shadow & 1 == 0
                && control.event_injection & event::VALID == 0;
            if watch == Window::Closed || !may_be_event {
                return;
            }
            // The window needs what holds the interrupt.
            let vector = self.vmcb.control.virtual_interrupt.vector();
            self.vmcb.control.event_injection = event::VALID | event::INTERRUPT | u64::from(vector);
        }
        let control = &mut self.vmcb.control;
        let (on, off) =
            (VirtualInterrupt::PENDING, VirtualInterrupt::PRIORITY | VirtualInterrupt::IGNORE_TPR);
        let priority = match watch {
            Window::Closed => VirtualInterrupt::empty(),
            Window::Interrupts => on | off,
            // It opens where the class is above V_TPR (§15.21.2); in the translator, where it equals it too.
            Window::Priority(class) => {
                on | VirtualInterrupt::priority(class - u8::from(self.translator.is_some() && class > 0))
            }
        };
        control.virtual_interrupt = control.virtual_interrupt.difference(on | off).union(priority);
        control.intercept_instructions.set(Instructions::VINTR, watch != Window::Closed);
        match self.step {
            // It opens when the step is over.
            Some(_) => control.virtual_interrupt.remove(VirtualInterrupt::PENDING),
            None => self.watch_instructions(),
        }
    }

    fn watches_window(&self) -> bool {
        self.vmcb.control.intercept_instructions.contains(Instructions::VINTR)
    }

    #[inline]
    fn in_shadow(&self) -> bool {
        self.vmcb.control.interrupt_shadow & 1 != 0
    }
}

impl VirtualCpu for SvmVcpu {
    #[inline]
    fn finish(&mut self, instruction: Instruction) {
        // A processor that gives the next RIP does so at each instruction's exit (§15.7.1). QEMU's TCG gives none but for I/O, and
        // leaves the field zero; the lengths of unprefixed instructions stand in.
        let control = &self.vmcb.control;
        let rip = self.vmcb.save.rip;
        let by = |length: u8| match control.next_rip {
            0 => rip.wrapping_add(length.into()),
            given => given,
        };
        self.vmcb.save.rip = match instruction {
            // The most frequent, and nobody puts prefixes before it.
            Instruction::Call => rip.wrapping_add(3),
            Instruction::Cpuid | Instruction::Msr | Instruction::Pause | Instruction::CacheFlush => by(2),
            Instruction::Halt => by(1),
            Instruction::Port => control.exit_info_2,
            Instruction::Decoded(length) => rip.wrapping_add(length.into()),
            Instruction::ControlRegister => by(3),
        };
        self.vmcb.control.interrupt_shadow = 0;
        if self.vmcb.save.rflags & (RFLAGS_TF | RFLAGS_RF) != 0 {
            self.finish_flagged();
        }
    }

    #[inline]
    fn watch_pauses(&mut self, pauses: Pauses) {
        self.vmcb.control.intercept_instructions.set(Instructions::PAUSE, pauses == Pauses::Exit);
    }

    fn flush(&mut self) {
        self.vmcb.control.tlb_control = self.flush;
    }

    fn load_debug_registers(&mut self) {
        if self.foreign_breakpoints != 0 {
            debug::forget(core::mem::take(&mut self.foreign_breakpoints));
        }
        debug::swap(self.debug);
        self.vmcb.control.intercept_dr = 0;
    }

    fn reset(&mut self, start: Start) {
        self.begin(start);
    }
}
