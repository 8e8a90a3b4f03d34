//! What the exit path asks of a vCPU on VMX.

use super::{CR4_HELD, NMI_BLOCKED, SHADOW, Stale, VmxVcpu, event, packed};
use crate::base::control::{Control, Start};
use crate::guest::registers::{CR0_PE, CR0_SHADOWED, CR4_GUEST, EFER_GUEST, EFER_LMA};
use crate::guest::registers::{RFLAGS_IF, RFLAGS_RF, RFLAGS_TF, efer_paged, efer_written};
use crate::guest::seam::{
    CpuEvents, CpuRegisters, Exception, Instruction, Nmi, Pauses, Reg, VirtualCpu, Window,
};
use crate::machine::vt::debug;
use crate::machine::vt::vmx::controls::Primary;
use crate::machine::vt::vmx::fields::{self, Field, SegmentFields};
use crate::machine::vt::vmx::reset::write_cr0;
use core::sync::atomic::Ordering::Relaxed;

/// Type of a busy task-state segment of 32 or, in long mode, 64 bits.
const BUSY_TASK: u32 = 11;

/// Index of the word of the virtual-APIC page that holds the task priority.
const TASK_PRIORITY: usize = 0x80 / 8;

impl CpuRegisters for VmxVcpu {
    #[inline]
    fn reg(&self, reg: Reg) -> u64 {
        self.saved.get(reg)
    }

    #[inline]
    fn set_reg(&mut self, reg: Reg, value: u64) {
        *self.saved.get_mut(reg) = value;
    }

    /// By bits 11:8 of the qualification (table 27-3).
    fn control_operand(&self) -> Option<u8> {
        Some((self.get(fields::QUALIFICATION) >> 8 & 0xf) as u8)
    }

    fn rip(&self) -> u64 {
        self.rip
    }

    fn code_base(&self) -> u64 {
        self.get(fields::CS.base)
    }

    fn rsp(&self) -> u64 {
        self.get(fields::RSP)
    }

    fn cr2(&self) -> u64 {
        self.extra.cr2
    }

    fn cr3(&self) -> u64 {
        self.get(fields::CR3)
    }

    fn set_cr0(&mut self, value: u64, pdptes: Option<[u64; 4]>) -> bool {
        self.vmcs(|vmcs| {
            let before = vmcs.read(fields::EFER);
            let efer = efer_paged(before, value);
            // Long mode does not begin with a task of 16 bits, and entry refuses it (§26.3.1.2).
            if efer & !before & EFER_LMA != 0 && vmcs.read(fields::TR.access) & 0xf != BUSY_TASK {
                return false;
            }
            write_cr0(vmcs, value, efer);
            for (field, entry) in fields::PDPTES.into_iter().zip(pdptes.iter().flatten()) {
                vmcs.write(field, *entry);
            }
            true
        })
    }

    /// Bits that are not a guest's exit and are refused: nobody calls this.
    fn set_cr4(&mut self, value: u64) {
        self.vmcs(|vmcs| {
            vmcs.write(fields::CR4, value & CR4_GUEST | CR4_HELD);
            vmcs.write(fields::CR4_SHADOW, value & CR4_GUEST);
        });
    }

    /// The descriptor privilege level of SS (§24.4.1).
    #[inline]
    fn cpl(&self) -> u8 {
        (self.stack_access >> 5 & 3) as u8
    }

    #[inline]
    fn cr8(&self) -> u8 {
        self.apic.get(TASK_PRIORITY).map_or(0, |word| (word.load(Relaxed) >> 4 & 0xf) as u8)
    }

    fn set_cr8(&mut self, value: u8) {
        if let Some(word) = self.apic.get(TASK_PRIORITY) {
            word.store(u64::from(value & 0xf) << 4, Relaxed);
        }
        self.set_threshold(self.threshold.min(value & 0xf));
    }

    fn efer(&self) -> u64 {
        self.get(fields::EFER)
    }

    fn set_efer(&mut self, value: u64) -> bool {
        let written = efer_written(value, self.get(fields::EFER), self.get(fields::CR0));
        if let Some(efer) = written {
            self.set(fields::EFER, efer);
        }
        written.is_some()
    }

    fn pat(&self) -> u64 {
        self.get(fields::PAT)
    }

    fn set_pat(&mut self, value: u64) {
        self.set(fields::PAT, value);
    }

    fn control(&self) -> Control {
        self.vmcs(|vmcs| {
            let segment = |of: SegmentFields| packed((vmcs.read(of.selector), vmcs.read(of.access)));
            let seen = |real: Field<u64>, shadow: Field<u64>, mask: u64| {
                vmcs.read(real) & !mask | vmcs.read(shadow) & mask
            };
            let cr = [
                seen(fields::CR0, fields::CR0_SHADOW, CR0_SHADOWED),
                vmcs.read(fields::CR3),
                seen(fields::CR4, fields::CR4_SHADOW, !CR4_GUEST),
            ];
            let efer = vmcs.read(fields::EFER) & EFER_GUEST;
            let is_pae = Control::is_pae(cr[0], cr[2], efer);
            Control {
                cr,
                efer,
                pat: vmcs.read(fields::PAT),
                tables: [
                    (vmcs.read(fields::GDTR_BASE), vmcs.read(fields::GDTR_LIMIT)),
                    (vmcs.read(fields::IDTR_BASE), vmcs.read(fields::IDTR_LIMIT)),
                ],
                segments: [segment(fields::CS), segment(fields::SS)],
                pdptes: if is_pae { fields::PDPTES.map(|field| vmcs.read(field)) } else { [0; 4] },
            }
        })
    }
}

impl CpuEvents for VmxVcpu {
    #[inline]
    fn interrupts_on(&self) -> bool {
        self.rflags & RFLAGS_IF != 0
    }

    #[inline]
    fn ready_for_interrupt(&self) -> bool {
        self.interrupts_on() && self.interruptibility & SHADOW == 0 && self.event.0 & event::VALID == 0
    }

    #[inline]
    fn inject_interrupt(&mut self, vector: u8) {
        self.inject(event::VALID | event::INTERRUPT | u32::from(vector), 0);
    }

    fn inject_exception(&mut self, exception: Exception) {
        // Real mode pushes no error code, and entry refuses one (§26.2.1.3).
        let has_error = exception.has_error() && self.get(fields::CR0) & CR0_PE != 0;
        let error = if has_error { event::HAS_ERROR } else { 0 };
        self.inject(event::VALID | event::EXCEPTION | error | u32::from(exception.vector()), 0);
    }

    /// An NMI that cannot come now has its window watched.
    fn inject_nmi(&mut self) -> Nmi {
        let became = if self.interruptibility & NMI_BLOCKED != 0 {
            Nmi::Blocked
        } else if self.injects() || self.in_shadow() {
            Nmi::Waits
        } else {
            self.inject(event::VALID | event::NMI | 2, 0);
            Nmi::Injected
        };
        self.control_primary(Primary::NMI_WINDOW, became != Nmi::Injected);
        became
    }

    fn injects(&self) -> bool {
        self.event.0 & event::VALID != 0
    }

    fn watch_window(&mut self, watch: Window) {
        self.control_primary(Primary::INTERRUPT_WINDOW, watch == Window::Interrupts);
        self.set_threshold(match watch {
            Window::Closed | Window::Interrupts => 0,
            // Entry fails when CR8 is below it already (§26.2.1.1).
            Window::Priority(class) => class.min(self.cr8()),
        });
    }

    fn watches_window(&self) -> bool {
        self.primary.contains(Primary::INTERRUPT_WINDOW) || self.threshold != 0
    }

    #[inline]
    fn in_shadow(&self) -> bool {
        self.interruptibility & SHADOW != 0
    }
}

impl VirtualCpu for VmxVcpu {
    /// An instruction that exits has its length in the VMCS (§27.2.5).
    #[inline]
    fn finish(&mut self, instruction: Instruction) {
        // Where no instruction exits by itself, the length is not the processor's to know (§27.2.5).
        let length = match instruction {
            Instruction::Decoded(length) => length.into(),
            // The most frequent, and nobody puts prefixes before it.
            Instruction::Call => 3,
            Instruction::Cpuid
            | Instruction::Msr
            | Instruction::Halt
            | Instruction::Pause
            | Instruction::Port
            | Instruction::CacheFlush
            | Instruction::ControlRegister => self.instruction_length,
        };
        self.step_over(length);
        if self.rflags & (RFLAGS_TF | RFLAGS_RF) != 0 {
            self.finish_flagged();
        }
    }

    #[inline]
    fn watch_pauses(&mut self, _pauses: Pauses) {
        // Only a loop of them exits, once in its window: nothing to save (§25.1.3).
    }

    fn flush(&mut self) {
        self.stale.insert(Stale::FLUSH);
    }

    fn load_debug_registers(&mut self) {
        debug::swap(self.extra.debug);
        self.has_debug_registers = true;
        self.control_primary(Primary::MOV_DR, false);
    }

    fn reset(&mut self, start: Start) {
        self.begin(start);
    }
}
