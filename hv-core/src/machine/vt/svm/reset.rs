//! How a vCPU begins: the state after reset, and what each way to start adds to it (APM vol 2 §14.1.3).

use super::state::step::{TASK_AVAILABLE, TASK_BUSY};
use super::state::{EFER_SVME, SvmVcpu};
use super::vmcb::{ALL_DEBUG_REGISTERS, Instructions, Segment, VirtualInterrupt};
use crate::base::control::Start;
use crate::guest::general::Registers;
use crate::guest::registers::DR6_CLEAR;
use crate::guest::registers::EFER_GUEST;
use crate::guest::registers::PAT_RESET;
use crate::guest::seam::{Reg, VirtualCpu};
use crate::machine::vt::EXCEPTIONS;
use crate::machine::vt::fpu::Fpu;

impl SvmVcpu {
    /// Puts the vCPU into its state at `start`.
    pub(super) fn begin(&mut self, start: Start) {
        self.reset_common();
        match start {
            Start::Protected { entry, ebx } => {
                let save = &mut self.vmcb.save;
                save.cr0 = 0x11; // PE, ET
                save.cs = Segment { selector: 8, attributes: 0xc9b, limit: u32::MAX, base: 0 };
                save.rip = u64::from(entry);
                *self.saved.get_mut(Reg::Rbx) = u64::from(ebx);
                self.set_data_segments(Segment { selector: 16, attributes: 0xc93, limit: u32::MAX, base: 0 });
            }
            Start::Real { vector } => {
                let save = &mut self.vmcb.save;
                save.cr0 = 0x10; // ET
                let selector = u16::from(vector) << 8;
                save.cs =
                    Segment { selector, attributes: 0x9b, limit: 0xffff, base: u64::from(selector) << 4 };
                save.rip = 0;
                self.set_data_segments(Segment { attributes: 0x93, limit: 0xffff, ..Segment::default() });
            }
            Start::Copy { control, entry, stack, arguments } => {
                let save = &mut self.vmcb.save;
                [save.cr0, save.cr3, save.cr4] = control.cr;
                save.efer = control.efer & EFER_GUEST | EFER_SVME;
                save.pat = control.pat;
                let table = |(base, limit)| Segment { limit, base, ..Segment::default() };
                save.gdtr = table(control.tables[0]);
                save.idtr = table(control.tables[1]);
                let flat =
                    |(selector, attributes)| Segment { selector, attributes, limit: u32::MAX, base: 0 };
                save.cs = flat(control.segments[0]);
                save.rip = entry;
                save.rsp = stack;
                *self.saved.get_mut(Reg::Rdi) = arguments[0];
                *self.saved.get_mut(Reg::Rsi) = arguments[1];
                self.set_data_segments(flat(control.segments[1]));
            }
        }
    }

    fn reset_common(&mut self) {
        self.flush(); // an earlier life's translations
        self.saved = Registers::default();
        self.fpu = Fpu::reset();
        self.debug = [0; 4];
        let (control, save) = (&mut self.vmcb.control, &mut self.vmcb.save);
        control.virtual_interrupt = VirtualInterrupt::MASKING;
        control.intercept_dr = ALL_DEBUG_REGISTERS;
        control.intercept_exceptions = EXCEPTIONS;
        control.intercept_instructions.remove(Instructions::VINTR);
        control.intercept_instructions.insert(Instructions::PAUSE);
        control.event_injection = 0;
        control.interrupt_shadow = 0;
        save.cr2 = 0;
        save.cr3 = 0;
        save.cr4 = 0;
        save.dr6 = DR6_CLEAR;
        save.dr7 = 0x400;
        save.efer = EFER_SVME;
        save.pat = PAT_RESET;
        save.rflags = 2;
        save.rax = 0;
        save.rsp = 0;
        save.cpl = 0;
        save.gdtr = Segment { limit: 0xffff, ..Segment::default() };
        save.idtr = Segment { limit: 0xffff, ..Segment::default() };
        save.ldtr = Segment { attributes: 0x82, limit: 0xffff, ..Segment::default() };
        // QEMU keeps no task register busy, and ends at a stack switch under one that is (`translator`).
        let attributes = if self.translator.is_some() { TASK_AVAILABLE } else { TASK_BUSY };
        save.tr = Segment { attributes, limit: 0xffff, ..Segment::default() };
        save.star = 0;
        save.lstar = 0;
        save.cstar = 0;
        save.sfmask = 0;
        save.kernel_gs_base = 0;
        save.sysenter_cs = 0;
        save.sysenter_esp = 0;
        save.sysenter_eip = 0;
        self.step = None;
        self.in_nmi = false;
        self.watch_instructions();
    }

    fn set_data_segments(&mut self, segment: Segment) {
        let save = &mut self.vmcb.save;
        for data in [&mut save.ds, &mut save.es, &mut save.ss, &mut save.fs, &mut save.gs] {
            *data = segment;
        }
    }
}
