//! IN and OUT of one register, as opposed to INS and OUTS.

use crate::base::addr::low;
use crate::base::hardware::Hardware;
use crate::device::bus::{COM1, PortEffect, Width};
use crate::device::channel::ChannelIndex;
use crate::exit::cpu::CpuContext;
use crate::exit::interrupts::sync_device_interrupts;
use crate::exit::{channel, marks};
use crate::guest::next::Next;
use crate::guest::platform::Platform;
use crate::guest::seam::{CpuRegisters, Direction, Instruction, PortAccess, Reg, VirtualCpu};
use crate::guest::vcpu::Vcpu;
use crate::policy::trace::Ending;

/// Executes the access. OUT to the console is retried in the guest's next turn while the console has no room.
pub fn access<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, access: PortAccess) -> Next {
    let width = match access.size_bytes {
        1 => Width::Byte,
        2 => Width::Word,
        _ => Width::Dword,
    };
    let mut room = None;
    if access.direction == Direction::Out && width.reaches(access.port, COM1) {
        let written = vcpu.state.reg(Reg::Rax).to_le_bytes();
        let byte = written.get(usize::from(COM1.wrapping_sub(access.port))).copied().unwrap_or(b'\n');
        let is_only_kept = core.is_only_kept(vcpu.guest, byte);
        room = if is_only_kept { None } else { core.console_room(vcpu.guest, &[byte]) };
        if room.is_none() && !is_only_kept {
            return Next::Again;
        }
    }
    let now = core.hardware.now();
    let rax = vcpu.state.reg(Reg::Rax);
    vcpu.state.finish(Instruction::Port);
    match access.direction {
        Direction::In => {
            let value = u64::from(vcpu.guest.pc.ports.lock().read(access.port, width, now));
            // A byte or a word leaves the rest of RAX alone; a doubleword clears its upper half.
            let kept = match width {
                Width::Byte => rax & !0xff,
                Width::Word => rax & !0xffff,
                Width::Dword => 0,
            };
            vcpu.state.set_reg(Reg::Rax, kept | value);
            sync_device_interrupts(vcpu.guest, core, now);
            Next::Resume
        }
        Direction::Out if vcpu.guest.config.mark_port && marks::has(access.port, width) => {
            marks::write(vcpu, access.port, low(rax))
        }
        Direction::Out => {
            let effect = vcpu.guest.pc.ports.lock().write(access.port, width, low(rax), now);
            let next = match effect {
                PortEffect::None => Next::Resume,
                PortEffect::Console(byte) => {
                    match room {
                        Some(room) => core.console(vcpu.guest, &[byte], room),
                        // If other vCPUs have filled the line meanwhile, the byte is lost.
                        None => _ = vcpu.guest.console.line.lock().push(byte),
                    }
                    Next::Resume
                }
                PortEffect::Doorbell(ChannelIndex(channel)) => {
                    let _ = channel::ring(vcpu.guest, core, u8::try_from(channel).unwrap_or(u8::MAX));
                    Next::Resume
                }
                PortEffect::PowerOff => Next::End(Ending::Off),
                PortEffect::Reset => Next::End(Ending::Reboot),
            };
            sync_device_interrupts(vcpu.guest, core, now);
            next
        }
    }
}
