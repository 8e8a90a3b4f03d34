//! A full guest's virtio devices: where they are, which vCPU does their work, and how they interrupt.
//!
//! An exit only notes that a device has work. The vCPU that exited does the work before it enters guest mode again, part by
//! part and on its own CPU time: other vCPUs have their turns in between. A guest's bootstrap processor takes in the network
//! frames for it.

use crate::base::addr::GuestPhys;
use crate::base::hardware::Hardware;
use crate::base::id::GuestId;
use crate::device::virtio::mmio::Effect;
use crate::device::virtio::switch::{Port, Ports};
use crate::device::virtio::{DeviceHost, Memory, ServeProgress};
use crate::exit::ballooning::{self, Backing};
use crate::exit::cpu::CpuContext;
use crate::exit::interrupts;
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use crate::guest::vcpu::Vcpu;
use crate::guest::virtio_bus::{Bus, Told};
use crate::policy::presence::Attention;
use crate::policy::vcpu_shared::VcpuShared;

/// Executes a store to a device's register.
pub fn write<P: Platform>(
    vcpu: &Vcpu<P>,
    core: &mut CpuContext<P>,
    (number, offset): (usize, u64),
    size_bytes: u8,
    value: u64,
) {
    let guest = vcpu.guest;
    let store = |bus: &mut Bus| bus.write(number, offset, size_bytes, value);
    let (effect, told) = guest.pc.virtio.lock().with(&guest.pc.ports, store);
    if effect == Effect::Serve {
        vcpu.shared.request_attention(Attention::VIRTIO);
    }
    send(guest, core, told);
}

/// Does the next part of the work of a guest's devices.
pub fn serve<P: Platform>(vcpu: &Vcpu<P>, core: &mut CpuContext<P>) -> ServeProgress {
    let guest = vcpu.guest;
    let mut host = GuestDeviceHost { guest, server: vcpu.shared, core };
    let step = |bus: &mut Bus| bus.step(&guest.ram, &mut host);
    let (progress, told) = guest.pc.virtio.lock().with(&guest.pc.ports, step);
    send(guest, core, told);
    progress
}

fn send<P: Platform>(guest: &Guest<P::Ram>, core: &mut CpuContext<P>, told: Told) {
    if told == Told::Changes {
        let now = core.hardware.now();
        interrupts::send(guest, core, now);
    }
}

/// Has a guest's bootstrap processor look at the guest's devices, because guest `cause` left them work.
pub fn notify<P: Platform>(guest: &Guest<P::Ram>, cause: GuestId, core: &mut CpuContext<P>) {
    if let Some(bootstrap) = guest.vcpu(0) {
        bootstrap.request_attention(Attention::VIRTIO);
        let now = core.hardware.now();
        core.wake(bootstrap, cause, now);
    }
}

/// What a guest's devices can reach outside of the guest.
struct GuestDeviceHost<'a, P: Platform> {
    guest: &'static Guest<P::Ram>,
    /// The vCPU that does the work, on its own CPU time.
    server: &'static VcpuShared,
    core: &'a mut CpuContext<P>,
}

impl<P: Platform> DeviceHost for GuestDeviceHost<'_, P> {
    fn console(&mut self, text: &[u8]) -> bool {
        let room = self.core.console_room(self.guest, text);
        room.map(|room| self.core.console(self.guest, text, room)).is_some()
    }

    fn wake(&mut self, ports: Ports) {
        let system = self.core.system;
        let number = self.guest.config.devices.network;
        let network = number.and_then(|number| system.networks.get(usize::from(number)));
        let members = network.into_iter().flat_map(|network| network.members.iter()).zip((0..).map(Port));
        for (id, _) in members.filter(|(_, port)| ports.contains(*port)) {
            if let Some(member) = system.guest(*id) {
                notify(member, self.guest.id, self.core);
            }
        }
    }

    fn random(&mut self) -> u64 {
        self.core.hardware.random()
    }

    fn free_block(&mut self, block: u64) {
        ballooning::report(self.guest, block);
    }

    fn shootdown(&mut self) -> ServeProgress {
        ballooning::shoot_down(self.guest, self.server, self.core)
    }

    fn bring_back(&mut self, at: u64) -> Memory {
        let lent =
            GuestPhys::new(at).map(|at| ballooning::bring_back(self.guest, self.server, self.core, at));
        match lent {
            Some(Backing::Restoring | Backing::Unavailable) => Memory::Comes,
            Some(Backing::Resident) | None => Memory::None,
        }
    }
}
