//! How a vCPU begins: the state after reset, and what each way to start adds to it (SDM vol 3A §9.1.1).

use super::controls::{Entry, Primary};
use super::fields::{self, SegmentFields};
use super::state::{CR4_HELD, Extra, Stale, VmxVcpu, access};
use super::vmcs::Current;
use crate::base::control::{Control, Start};
use crate::guest::general::Registers;
use crate::guest::registers::PAT_RESET;
use crate::guest::registers::{CR0_NE, CR0_SHADOWED, CR4_GUEST, EFER_GUEST, EFER_LMA};
use crate::guest::seam::{CpuRegisters, Reg};
use crate::machine::vt::fpu::Fpu;

/// A segment that may not be used (§24.4.1).
const UNUSABLE: u32 = 1 << 16;

/// Bit 7 of a segment's attributes.
const PRESENT: u16 = 1 << 7;

/// Everything that the ways to start differ in.
struct Beginning {
    /// All but its segments.
    control: Control,
    code: Segment,
    data: Segment,
    rip: u64,
    rsp: u64,
}

#[derive(Clone, Copy)]
struct Segment {
    selector: u16,
    access: u32,
    limit: u32,
    base: u64,
}

impl Segment {
    const fn flat(selector: u16, access: u32) -> Self {
        Self { selector, access, limit: u32::MAX, base: 0 }
    }

    const fn small(access: u32) -> Self {
        Self { selector: 0, access, limit: 0xffff, base: 0 }
    }

    fn write(self, vmcs: Current, to: SegmentFields) {
        vmcs.write(to.selector, self.selector);
        vmcs.write(to.access, self.access);
        vmcs.write(to.limit, self.limit);
        vmcs.write(to.base, self.base);
    }
}

impl VmxVcpu {
    /// Puts the vCPU into its state at `start`.
    pub(super) fn begin(&mut self, start: Start) {
        self.saved = Registers::default();
        self.fpu = Fpu::reset();
        self.extra = Extra { dr6: 0xffff_0ff0, ..Extra::default() };
        let beginning = self.beginning(start);
        self.rip = beginning.rip;
        self.rflags = 2;
        self.stack_access = beginning.data.access;
        self.event = (0, 0);
        self.interruptibility = 0;
        self.set_cr8(0);
        self.set_threshold(0);
        self.primary.remove(Primary::INTERRUPT_WINDOW | Primary::NMI_WINDOW);
        self.primary.insert(Primary::MOV_DR);
        self.stale = Stale::all(); // an earlier life's translations too
        self.vmcs(|vmcs| beginning.write(vmcs));
    }

    fn beginning(&mut self, start: Start) -> Beginning {
        let after_reset = Beginning {
            control: Control {
                cr: [0x10, 0, 0], // ET
                pat: PAT_RESET,
                tables: [(0, 0xffff); 2],
                ..Control::default()
            },
            code: Segment::small(0x9b),
            data: Segment::small(0x93),
            rip: 0,
            rsp: 0,
        };
        match start {
            Start::Protected { entry, ebx } => {
                *self.saved.get_mut(Reg::Rbx) = u64::from(ebx);
                Beginning {
                    control: Control { cr: [0x11, 0, 0], ..after_reset.control }, // PE, ET
                    code: Segment::flat(8, 0xc09b),
                    data: Segment::flat(16, 0xc093),
                    rip: u64::from(entry),
                    ..after_reset
                }
            }
            Start::Real { vector } => {
                let selector = u16::from(vector) << 8;
                let code = Segment { selector, base: u64::from(selector) << 4, ..after_reset.code };
                Beginning { code, ..after_reset }
            }
            Start::Copy { control, entry, stack, arguments } => {
                *self.saved.get_mut(Reg::Rdi) = arguments[0];
                *self.saved.get_mut(Reg::Rsi) = arguments[1];
                // In 64-bit mode SS and the others may be null.
                let flat = |(selector, attributes): (u16, u16)| {
                    let unusable = if attributes & PRESENT == 0 { UNUSABLE } else { 0 };
                    Segment::flat(selector, access(attributes) | unusable)
                };
                Beginning {
                    control: Control { efer: control.efer & EFER_GUEST, ..control },
                    code: flat(control.segments[0]),
                    data: flat(control.segments[1]),
                    rip: entry,
                    rsp: stack,
                }
            }
        }
    }
}

/// Writes CR0 as the guest wrote it and as it is, and with EFER what the next entry is told of it.
pub(super) fn write_cr0(vmcs: Current, cr0: u64, efer: u64) {
    vmcs.write(fields::CR0, cr0 & !CR0_SHADOWED | CR0_NE);
    vmcs.write(fields::CR0_SHADOW, cr0);
    let mut entry = Entry::from_bits_retain(vmcs.read(fields::ENTRY_CONTROLS));
    entry.set(Entry::LONG_MODE, efer & EFER_LMA != 0);
    vmcs.write(fields::ENTRY_CONTROLS, entry.bits());
    vmcs.write(fields::EFER, efer);
}

impl Beginning {
    fn write(&self, vmcs: Current) {
        let Control { cr: [cr0, cr3, cr4], efer, pat, tables: [gdt, idt], segments: _, pdptes } =
            self.control;
        write_cr0(vmcs, cr0, efer);
        vmcs.write(fields::CR3, cr3);
        vmcs.write(fields::CR4, cr4 & CR4_GUEST | CR4_HELD);
        vmcs.write(fields::CR4_SHADOW, cr4 & CR4_GUEST);
        for (field, entry) in fields::PDPTES.into_iter().zip(pdptes) {
            vmcs.write(field, entry);
        }
        vmcs.write(fields::PAT, pat);
        vmcs.write(fields::GDTR_BASE, gdt.0);
        vmcs.write(fields::GDTR_LIMIT, gdt.1);
        vmcs.write(fields::IDTR_BASE, idt.0);
        vmcs.write(fields::IDTR_LIMIT, idt.1);
        self.code.write(vmcs, fields::CS);
        for data in [fields::SS, fields::DS, fields::ES, fields::FS, fields::GS] {
            self.data.write(vmcs, data);
        }
        Segment::small(UNUSABLE).write(vmcs, fields::LDTR);
        Segment::small(0x8b).write(vmcs, fields::TR);
        vmcs.write(fields::RSP, self.rsp);
        vmcs.write(fields::RFLAGS, 2);
        vmcs.write(fields::DR7, 0x400);
        vmcs.write(fields::PENDING_DEBUG, 0);
        vmcs.write(fields::ACTIVITY, 0);
        vmcs.write(fields::SYSENTER_CS, 0);
        vmcs.write(fields::SYSENTER_ESP, 0);
        vmcs.write(fields::SYSENTER_EIP, 0);
    }
}
