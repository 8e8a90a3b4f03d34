//! One instruction of the guest's that runs by itself, after which the hypervisor looks at what it did: single-stepped by RFLAGS.TF.
//!
//! For instructions that are intercepted only to be watched ([`SvmVcpu::watch_instructions`]), and for no others: what stores, loads or
//! clears TF, or delivers an event by itself, cannot be stepped over without a trace. Every exception is intercepted meanwhile, so that TF
//! gets into no exception's frame, and nothing is injected before the step is over. Whatever else ends guest mode in between undoes the
//! step; the instruction begins again with its intercept.

use super::SvmVcpu;
use crate::guest::registers::CR0_PE;
use crate::guest::registers::{DR6_BREAKPOINTS, DR6_CLEAR, DR6_STEP};
use crate::guest::registers::{RFLAGS_RF, RFLAGS_TF};
use crate::guest::seam::{CpuEvents, Exception};
use crate::machine::vt::EXCEPTIONS;
use crate::machine::vt::svm::vmcb::{CrIntercepts, Instructions, Segment, VirtualInterrupt, code, event};

/// A step that is on.
#[derive(Clone, Copy, Debug)]
pub(in crate::machine::vt::svm) struct Step {
    /// What the guest had.
    rip: u64,
    rflags: u64,
    dr6: u64,
    task: Segment,
    shadow: u64,
    of: Of,
    /// A virtual interrupt waited ([`super::Injection::Virtual`]).
    held: bool,
}

/// What a step is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::machine::vt::svm) enum Of {
    /// IRET, which ends an NMI.
    Return,
    /// MOV to CR8, or LTR.
    Other,
}

/// Exception vectors that can be intercepted: all of the first 32 but NMI's (APM vol 2 §15.12).
const ALL_EXCEPTIONS: u32 = !(1 << 2);
/// Those that push an error code (APM vol 2 §8.2).
const WITH_ERROR: u64 = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17;
const PAGE_FAULT: u64 = 14;
/// A task-state segment of 32 or 64 bits that is present and not busy, as a descriptor's attributes say it.
pub(in crate::machine::vt::svm) const TASK_AVAILABLE: u16 = 0x89;
/// The same, busy: as a reset leaves it (APM vol 2 table 14-1).
pub(in crate::machine::vt::svm) const TASK_BUSY: u16 = 0x8b;
/// Present, in a segment's attributes.
const PRESENT: u16 = 1 << 7;

impl SvmVcpu {
    /// Lets the instruction at RIP run by itself. Only when no event is injected.
    #[cold]
    pub(in crate::machine::vt::svm) fn begin_step(&mut self, of: Of) {
        let held = self.holds_virtual_interrupt();
        let (control, save) = (&mut self.vmcb.control, &mut self.vmcb.save);
        self.step = Some(Step {
            rip: save.rip,
            rflags: save.rflags,
            dr6: save.dr6,
            task: save.tr,
            shadow: control.interrupt_shadow,
            of,
            held,
        });
        save.rflags |= RFLAGS_TF | RFLAGS_RF;
        save.dr6 = DR6_CLEAR;
        control.intercept_cr.remove(CrIntercepts::WRITE_CR8);
        control.intercept_instructions.remove(Instructions::TR_WRITE | Instructions::IRET);
        control.intercept_exceptions = ALL_EXCEPTIONS;
        control.virtual_interrupt.remove(VirtualInterrupt::PENDING);
        // Holds interrupts back for this instruction, here and on a processor.
        control.interrupt_shadow |= 1;
    }

    /// An exit in the middle of a step: the guest's flags are its own again, and the instruction is watched again. A guest that is
    /// elsewhere has done another instruction (one of its processors has changed the code), which may have loaded or delivered anything.
    #[cold]
    pub(in crate::machine::vt::svm) fn undo_step(&mut self) {
        if let Some(step) = self.step.take() {
            let save = &mut self.vmcb.save;
            if save.rip == step.rip {
                save.rflags = save.rflags & !(RFLAGS_TF | RFLAGS_RF) | step.rflags & (RFLAGS_TF | RFLAGS_RF);
                save.dr6 = step.dr6;
                self.vmcb.control.interrupt_shadow = step.shadow;
            } else if step.rflags & RFLAGS_TF == 0 {
                save.rflags &= !RFLAGS_TF;
            }
            self.watch_again(step);
        }
    }

    fn watch_again(&mut self, step: Step) {
        self.vmcb.control.intercept_exceptions = EXCEPTIONS;
        let control = &mut self.vmcb.control;
        if step.held {
            control.intercept_instructions.remove(Instructions::VINTR);
            control.virtual_interrupt.insert(VirtualInterrupt::IGNORE_TPR);
        }
        let waits = step.held || control.intercept_instructions.contains(Instructions::VINTR);
        control.virtual_interrupt.set(VirtualInterrupt::PENDING, waits);
        self.watch_instructions();
    }

    /// Intercepts what has to be watched as things are.
    pub(in crate::machine::vt::svm) fn watch_instructions(&mut self) {
        let tcg = self.translator.is_some();
        let control = &mut self.vmcb.control;
        let waits = control.virtual_interrupt.contains(VirtualInterrupt::PENDING);
        control.intercept_cr.set(CrIntercepts::WRITE_CR8, tcg && waits);
        control.intercept_instructions.set(Instructions::TR_WRITE, tcg);
        control.intercept_instructions.set(Instructions::IRET, self.in_nmi);
    }

    /// An exit for an exception during a step; whether it was the step's end.
    #[cold]
    pub(in crate::machine::vt::svm) fn step_exception(&mut self, step: Step, exit_code: u64) -> bool {
        if exit_code == code::DEBUG {
            self.end_step(step);
            return true;
        }
        self.undo_step();
        let vector = exit_code - code::FIRST_EXCEPTION;
        let control = &self.vmcb.control;
        let has_error = WITH_ERROR >> vector & 1 != 0 && self.vmcb.save.cr0 & CR0_PE != 0;
        let error = if has_error { control.exit_info_1 << event::ERROR_SHIFT | event::HAS_ERROR } else { 0 };
        if vector == PAGE_FAULT {
            self.vmcb.save.cr2 = control.exit_info_2; // which an intercepted one does not write (§15.12.15)
        }
        self.vmcb.control.event_injection = event::VALID | event::EXCEPTION | error | vector;
        false
    }

    /// The instruction is done. A #DB that the guest would have had goes to it: for its own TF, or a breakpoint.
    fn end_step(&mut self, step: Step) {
        self.step = None;
        let save = &mut self.vmcb.save;
        // IRET has loaded the guest's flags; the others have left ours.
        if step.of != Of::Return {
            save.rflags = save.rflags & !RFLAGS_TF | step.rflags & RFLAGS_TF;
        }
        let own = if step.rflags & RFLAGS_TF != 0 { DR6_STEP } else { 0 };
        let causes = save.dr6 & DR6_BREAKPOINTS | own;
        save.dr6 = step.dr6 | causes;
        if step.of == Of::Return {
            self.in_nmi = false;
        }
        // QEMU takes an LTR of the null selector, and ends at the next switch of stacks (`translator`); a processor refuses it.
        let refused = self.translator.is_some() && save.tr.attributes & PRESENT == 0;
        if refused {
            (save.rip, save.tr) = (step.rip, step.task);
        }
        self.watch_again(step);
        if refused {
            self.inject_exception(Exception::GeneralProtection);
        } else if causes != 0 {
            self.inject_exception(Exception::Debug);
        }
    }
}
