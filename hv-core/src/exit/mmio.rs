//! Memory-mapped devices: the hypervisor fetches, decodes and emulates the instruction that accessed one.
//!
//! It emulates the loads and stores of drivers: MOV, MOVZX, MOVSX and XCHG of 1 to 8 bytes. A guest that accesses a device
//! with any other instruction, or from code that its own page tables do not map, is killed, and the reason is reported.

use crate::base::addr::GuestPhys;
use crate::base::addr::low;
use crate::base::error::KillReason;
use crate::base::hardware::{GuestBytes, Hardware};
use crate::device::ioapic;
use crate::exit::apic;
use crate::exit::ballooning::{self, Backing};
use crate::exit::cpu::CpuContext;
use crate::exit::interrupts;
use crate::exit::kvm;
use crate::exit::virtio;
use crate::exit::walk;
use crate::guest::next::Next;
use crate::guest::platform::Platform;
use crate::guest::seam::{Access, CpuEvents, CpuRegisters, Instruction, Reg, VirtualCpu};
use crate::guest::vcpu::Vcpu;
use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic, OpKind, Register};

/// Longest x86 instruction, in bytes.
const MOST_BYTES: usize = 15;
const PAGE: u64 = crate::base::addr::PAGE_BYTES;

/// What an instruction does with the memory that it accesses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Operation {
    kind: Kind,
    /// Size of the memory operand: 1, 2, 4 or 8 bytes.
    size_bytes: u8,
    length_bytes: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Load(Part, Extension),
    Store(Source),
    Exchange(Part),
}

/// A general register, or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    reg: Reg,
    size_bytes: u8,
    /// Whether the part is AH, BH, CH or DH.
    high: High,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum High {
    Yes,
    No,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extension {
    Zero,
    Sign,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Register(Part),
    Immediate(u64),
}

/// Builds the decoder's tables. That takes some 4 million instructions; otherwise the first guest that accesses a device
/// would delay all others by them.
pub fn prepare() {
    let _ = decode(&[0x90], 64);
}

/// Emulates the access to `at` if a device is there; otherwise brings back ballooned memory, or kills the guest.
#[cold]
pub fn handle<P: Platform>(
    vcpu: &mut Vcpu<P>,
    core: &mut CpuContext<P>,
    at: GuestPhys,
    access: Access,
) -> Next {
    let bad_access = Next::Kill(KillReason::BadAccess { at, write: access == Access::Write });
    let Some(device) = device_at(vcpu, at) else {
        return match ballooning::bring_back(vcpu.guest, vcpu.shared, core, at) {
            Backing::Resident => bad_access,
            Backing::Restoring => Next::Resume,
            Backing::Unavailable => Next::Yield,
        };
    };
    // The delivery of an event accessed the device: no instruction did.
    if vcpu.state.injects() {
        return Next::Kill(KillReason::NotEmulated { at, rip: vcpu.state.rip() });
    }
    let Some(operation) = fetch(vcpu).and_then(|(bytes, bits)| decode(&bytes, bits)) else {
        return Next::Kill(KillReason::NotEmulated { at, rip: vcpu.state.rip() });
    };
    if access == Access::Execute {
        return bad_access;
    }
    vcpu.state.finish(Instruction::Decoded(operation.length_bytes));
    match operation.kind {
        Kind::Load(to, extension) => {
            let value = read(vcpu, core, device, operation.size_bytes);
            set(vcpu, to, extend(value, operation.size_bytes, extension));
            Next::Resume
        }
        Kind::Store(source) => {
            let value = match source {
                Source::Register(part) => get(vcpu, part),
                Source::Immediate(value) => value,
            };
            write(vcpu, core, device, operation.size_bytes, value)
        }
        Kind::Exchange(part) => {
            let old = read(vcpu, core, device, operation.size_bytes);
            let next = write(vcpu, core, device, operation.size_bytes, get(vcpu, part));
            set(vcpu, part, old);
            next
        }
    }
}

/// A device's register.
#[derive(Clone, Copy)]
enum Device {
    /// A register of the vCPU's own local APIC, by its offset in the page.
    LocalApic(u16),
    /// A register of the I/O APIC, by its offset in the page.
    IoApic(u16),
    /// A register of a virtio device: the device's number, and the offset in its page.
    Virtio(usize, u64),
}

fn device_at<P: Platform>(vcpu: &Vcpu<P>, at: GuestPhys) -> Option<Device> {
    if vcpu.guest.is_cooperative() {
        return None;
    }
    let page = at.raw() & !(PAGE - 1);
    let offset = u16::try_from(at.raw() & (PAGE - 1)).unwrap_or(0);
    if vcpu.lapic.page() == Some(page) {
        Some(Device::LocalApic(offset))
    } else if page == u64::from(ioapic::ADDRESS) {
        Some(Device::IoApic(offset))
    } else {
        vcpu.guest.pc.virtio.lock().find(at).map(|(number, offset)| Device::Virtio(number, offset))
    }
}

fn read<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, device: Device, size_bytes: u8) -> u64 {
    match device {
        Device::LocalApic(offset) => {
            vcpu.lapic.set_task_class(vcpu.state.cr8());
            kvm::eoi::take(vcpu);
            u64::from(vcpu.lapic.read_page(offset, core.hardware.now()))
        }
        Device::IoApic(offset) => u64::from(vcpu.guest.pc.ports.lock().ioapic().read(offset)),
        Device::Virtio(number, offset) => vcpu.guest.pc.virtio.lock().read(number, offset, size_bytes),
    }
}

fn write<P: Platform>(
    vcpu: &mut Vcpu<P>,
    core: &mut CpuContext<P>,
    device: Device,
    size_bytes: u8,
    value: u64,
) -> Next {
    match device {
        Device::LocalApic(offset) => {
            vcpu.lapic.set_task_class(vcpu.state.cr8());
            kvm::eoi::take(vcpu);
            let effect = vcpu.lapic.write_page(offset, low(value), core.hardware.now());
            apic::follow(vcpu, core, effect)
        }
        Device::IoApic(offset) => {
            {
                let mut devices = vcpu.guest.pc.ports.lock();
                devices.ioapic().write(offset, low(value));
                vcpu.guest.set_level_vectors(devices.ioapic().level_vectors());
            }
            let now = core.hardware.now();
            interrupts::send(vcpu.guest, core, now);
            Next::Resume
        }
        Device::Virtio(number, offset) => {
            virtio::write(vcpu, core, (number, offset), size_bytes, value);
            Next::Resume
        }
    }
}

/// The instruction bytes at RIP, as far as they are mapped, and the width of the code in bits; `None` if there are no bytes.
pub fn fetch<P: Platform>(vcpu: &Vcpu<P>) -> Option<(heapless::Vec<u8, MOST_BYTES>, u32)> {
    let control = vcpu.state.control();
    let start = walk::code(&vcpu.state, &control);
    let mut bytes = heapless::Vec::new();
    while bytes.len() < MOST_BYTES {
        let linear = start.wrapping_add(bytes.len() as u64);
        let here = usize::try_from(PAGE - linear % PAGE).unwrap_or(0).min(MOST_BYTES - bytes.len());
        let mut part = [0; MOST_BYTES];
        let part = part.get_mut(..here).unwrap_or_default();
        let there = walk::translate(&vcpu.guest.ram, &control, linear);
        if there.and_then(|at| vcpu.guest.ram.read(at, part).ok()).is_none() {
            break; // the instruction may end before
        }
        let _ = bytes.extend_from_slice(part);
    }
    (!bytes.is_empty()).then(|| (bytes, control.code_bits()))
}

fn decode(bytes: &[u8], bits: u32) -> Option<Operation> {
    let instruction = Decoder::new(bits, bytes, DecoderOptions::NONE).decode();
    if instruction.code() == Code::INVALID {
        return None;
    }
    let length_bytes = u8::try_from(instruction.len()).ok()?;
    let size_bytes =
        u8::try_from(instruction.memory_size().size()).ok().filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
    let register = |operand: u32| part(instruction.op_register(operand));
    let kind = match (instruction.mnemonic(), instruction.op0_kind(), instruction.op1_kind()) {
        (Mnemonic::Mov | Mnemonic::Movzx, OpKind::Register, from) if is_memory(from) => {
            Kind::Load(register(0)?, Extension::Zero)
        }
        (Mnemonic::Movsx | Mnemonic::Movsxd, OpKind::Register, from) if is_memory(from) => {
            Kind::Load(register(0)?, Extension::Sign)
        }
        (Mnemonic::Mov, to, OpKind::Register) if is_memory(to) => Kind::Store(Source::Register(register(1)?)),
        (Mnemonic::Mov, to, _) if is_memory(to) => {
            Kind::Store(Source::Immediate(instruction.try_immediate(1).ok()?))
        }
        (Mnemonic::Xchg, to, OpKind::Register) if is_memory(to) => Kind::Exchange(register(1)?),
        _ => return None,
    };
    Some(Operation { kind, size_bytes, length_bytes })
}

const fn is_memory(kind: OpKind) -> bool {
    matches!(kind, OpKind::Memory)
}

const HIGH: [Register; 4] = [Register::AH, Register::BH, Register::CH, Register::DH];

/// The general register, or the part of one, that the decoder named; `None` for any other register.
fn part(register: Register) -> Option<Part> {
    let full = register.full_register();
    let number = u8::try_from(full.number()).ok().filter(|_| full.is_gpr64());
    let reg = number.and_then(Reg::numbered)?;
    let high = if HIGH.contains(&register) { High::Yes } else { High::No };
    Some(Part { reg, size_bytes: u8::try_from(register.size()).ok()?, high })
}

/// A mask of the low `size_bytes` bytes.
const fn mask(size_bytes: u8) -> u64 {
    match size_bytes {
        1 => 0xff,
        2 => 0xffff,
        4 => 0xffff_ffff,
        _ => u64::MAX,
    }
}

fn get<P: Platform>(vcpu: &Vcpu<P>, part: Part) -> u64 {
    let whole = vcpu.state.reg(part.reg);
    match part.high {
        High::Yes => whole >> 8 & 0xff,
        High::No => whole & mask(part.size_bytes),
    }
}

/// Writes a register as the processor does: a 32-bit write clears the upper half, an 8- or 16-bit one leaves the rest alone.
fn set<P: Platform>(vcpu: &mut Vcpu<P>, part: Part, value: u64) {
    let before = vcpu.state.reg(part.reg);
    let kept = match (part.size_bytes, part.high) {
        (4 | 8, _) => 0,
        (_, High::Yes) => before & !0xff00,
        (size_bytes, High::No) => before & !mask(size_bytes),
    };
    let value = match part.high {
        High::Yes => (value & 0xff) << 8,
        High::No => value & mask(part.size_bytes),
    };
    vcpu.state.set_reg(part.reg, kept | value);
}

const fn extend(value: u64, size_bytes: u8, extension: Extension) -> u64 {
    let value = value & mask(size_bytes);
    let sign = mask(size_bytes) ^ mask(size_bytes) >> 1;
    match extension {
        Extension::Sign if value & sign != 0 => value | !mask(size_bytes),
        Extension::Sign | Extension::Zero => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(reg: Reg, size_bytes: u8) -> Part {
        Part { reg, size_bytes, high: High::No }
    }

    #[test]
    fn the_loads_and_stores_of_drivers_are_told_apart() {
        let load = |reg, size, extension| Kind::Load(register(reg, size), extension);
        let store = |reg, size| Kind::Store(Source::Register(register(reg, size)));
        let cases: [(&[u8], u32, Kind, u8); 12] = [
            (&[0x8b, 0x04, 0x25, 0, 0, 0, 0], 64, load(Reg::Rax, 4, Extension::Zero), 4), // mov eax, [0]
            (&[0x4c, 0x8b, 0x7b, 8], 64, load(Reg::R15, 8, Extension::Zero), 8),          // mov r15, [rbx+8]
            (&[0x66, 0x8b, 0x0a], 64, load(Reg::Rcx, 2, Extension::Zero), 2),             // mov cx, [rdx]
            (&[0x0f, 0xb6, 0x2f], 64, load(Reg::Rbp, 4, Extension::Zero), 1), // movzx ebp, byte [rdi]
            (&[0x48, 0x0f, 0xbf, 0x06], 64, load(Reg::Rax, 8, Extension::Sign), 2), // movsx rax, word [rsi]
            (&[0x48, 0x63, 0x06], 64, load(Reg::Rax, 8, Extension::Sign), 4), // movsxd rax, dword [rsi]
            (&[0x89, 0xb7, 0, 0xd0, 0x5f, 0xff], 64, store(Reg::Rsi, 4), 4),  // mov [rdi-…], esi
            (&[0x44, 0x88, 0x00], 64, store(Reg::R8, 1), 1),                  // mov [rax], r8b
            (&[0xc7, 0x00, 0xff, 0xff, 0xff, 0xff], 64, Kind::Store(Source::Immediate(0xffff_ffff)), 4),
            (&[0x48, 0xc7, 0x00, 0xff, 0xff, 0xff, 0xff], 64, Kind::Store(Source::Immediate(u64::MAX)), 8),
            (&[0x87, 0x0a], 32, Kind::Exchange(register(Reg::Rcx, 4)), 4), // xchg [edx], ecx
            (
                &[0x88, 0x20],
                32,
                Kind::Store(Source::Register(Part { reg: Reg::Rax, size_bytes: 1, high: High::Yes })),
                1,
            ),
        ];
        for (bytes, bits, kind, size_bytes) in cases {
            let length_bytes = u8::try_from(bytes.len()).unwrap();
            assert_eq!(decode(bytes, bits), Some(Operation { kind, size_bytes, length_bytes }), "{bytes:x?}");
        }
        for bytes in [
            &[0x90][..],
            &[0x8b],
            &[0xf3, 0xa4],
            &[0x0f, 0x10, 0x00],
            &[0x83, 0x00, 1],
            &[0x8b, 0x20],
            &[0x89, 0xc8],
        ] {
            assert_eq!(decode(bytes, 64), None, "{bytes:x?}");
        }
    }

    #[test]
    fn values_are_extended_as_the_instruction_says() {
        for (size, extension, expected) in [
            (1, Extension::Zero, 0x80),
            (1, Extension::Sign, 0xffff_ffff_ffff_ff80),
            (2, Extension::Sign, 0x7f80),
            (4, Extension::Sign, 0xffff_ffff_aaaa_7f80),
            (8, Extension::Sign, 0x1234_5678_aaaa_7f80),
        ] {
            assert_eq!(extend(0x1234_5678_aaaa_7f80, size, extension), expected, "{size}");
        }
    }
}
