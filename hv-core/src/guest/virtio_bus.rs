//! The virtio devices of one guest: their addresses, their turns, and their interrupt lines.

use crate::base::addr::{GuestPhys, PAGE_BYTES};
use crate::base::hardware::GuestRam;
use crate::base::id::GuestId;
use crate::base::lock::Lock;
use crate::device::bus::PortBus;
use crate::device::ioapic::Level;
use crate::device::virtio::balloon::Balloon;
use crate::device::virtio::block::{Block, Disk, DiskError};
use crate::device::virtio::console::Console;
use crate::device::virtio::entropy::Entropy;
use crate::device::virtio::io::Budget;
use crate::device::virtio::mmio::{Effect, Status, Transport, WINDOW_BYTES};
use crate::device::virtio::net::Net;
use crate::device::virtio::switch::{Port, Switch};
use crate::device::virtio::{Device, DeviceHost, ServeProgress};
use crate::image::load::acpi::VirtioMmio;
use crate::image::manifest::{Devices, GuestConfig};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The first device's page; the other devices' pages follow. The pages lie above RAM and the window for shared pages, and below the
/// APICs.
const BASE: u64 = 0xd000_0000;

/// The I/O APIC input of the first device, above the inputs of a PC's own devices.
const FIRST_INPUT: u8 = 16;

/// A switch, and the guests at its ports.
#[derive(Debug)]
pub struct Network {
    switch: &'static Switch,
    /// The guest at each port, by port number.
    pub members: Vec<GuestId>,
}

/// The networks that connect `guests`, by number.
pub fn networks(guests: &[GuestConfig]) -> Vec<Network> {
    let of = |guest: &GuestConfig| guest.devices.network;
    let count = guests.iter().filter_map(of).max().map_or(0, |most| most + 1);
    let network = |number| {
        let members = guests.iter().zip((0_u16..).map(GuestId));
        let members: Vec<_> =
            members.filter(|(guest, _)| of(guest) == Some(number)).map(|(_, id)| id).collect();
        let ports = u8::try_from(members.len()).unwrap_or(u8::MAX);
        Network { switch: Box::leak(Box::new(Switch::new(ports))), members }
    };
    (0..count).map(network).collect()
}

/// A device, and the state of its line that the I/O APIC was last told.
#[derive(Debug)]
struct Slot {
    device: Transport,
    line: bool,
}

/// The devices of one guest.
#[derive(Debug, Default)]
pub struct Bus {
    slots: Vec<Slot>,
    /// Index of the device that has the first turn in the next step.
    first: usize,
}

impl Bus {
    /// Makes the devices that `config` asks for; `disk` is the image of the guest's disk.
    ///
    /// # Errors
    ///
    /// The image is not usable as a disk.
    pub fn new(
        id: GuestId,
        config: &Devices,
        disk: &'static [u8],
        networks: &[Network],
    ) -> Result<Self, DiskError> {
        let mut devices = Vec::new();
        if config.console {
            devices.push(Device::Console(Console::default()));
        }
        if let Some(wanted) = config.disk {
            let disk = match wanted.writable_pages {
                0 => Disk::read_only(disk),
                pages => Disk::copy_on_write(disk, pages),
            };
            devices.push(Device::Block(Block::new(disk?, "comity")));
        }
        let network = config.network.and_then(|number| networks.get(usize::from(number)));
        if let Some(network) = network {
            let port = network.members.iter().position(|member| *member == id);
            let port = Port(port.and_then(|port| u8::try_from(port).ok()).unwrap_or(0));
            // A locally administered MAC address that is unique to the guest.
            let [high, low] = id.0.to_be_bytes();
            devices.push(Device::Net(Net::new([0x52, b'C', b'o', b'm', high, low], network.switch, port)));
        }
        if config.entropy {
            devices.push(Device::Entropy(Entropy));
        }
        if config.balloon {
            devices.push(Device::Balloon(Balloon::default()));
        }
        let slots = devices.into_iter().map(|device| Slot { device: Transport::new(device), line: false });
        Ok(Self { slots: slots.collect(), first: 0 })
    }

    /// The devices as the guest's firmware tables describe them.
    pub fn described(&self) -> Vec<VirtioMmio> {
        let bytes = u32::try_from(WINDOW_BYTES).unwrap_or(0);
        let at = |n: u64| GuestPhys::new_truncate(BASE + n * PAGE_BYTES);
        (0..)
            .zip(FIRST_INPUT..)
            .take(self.slots.len())
            .filter_map(|(n, input)| VirtioMmio::new(at(n), bytes, input))
            .collect()
    }

    /// Resets all devices to their power-on state. The contents of disks stay.
    pub fn power_on(&mut self) {
        for slot in &mut self.slots {
            slot.device.power_on();
            slot.line = false;
        }
    }

    /// The number of the device whose page holds `at`, and the offset in that page.
    pub fn find(&self, at: GuestPhys) -> Option<(usize, u64)> {
        let offset = at.raw().checked_sub(BASE)?;
        let number = usize::try_from(offset / PAGE_BYTES).ok().filter(|number| *number < self.slots.len())?;
        Some((number, offset % PAGE_BYTES))
    }

    /// Reads a device register; 0 where there is no device.
    pub fn read(&self, number: usize, offset: u64, size_bytes: u8) -> u64 {
        self.slots.get(number).map_or(0, |slot| slot.device.read(offset, usize::from(size_bytes)))
    }

    /// Writes a device register.
    pub fn write(&mut self, number: usize, offset: u64, size_bytes: u8, value: u64) -> Effect {
        let slot = self.slots.get_mut(number);
        slot.map_or(Effect::None, |slot| slot.device.write(offset, usize::from(size_bytes), value))
    }

    /// The virtio console, once the guest's driver has taken it over.
    fn console(&mut self) -> Option<&mut Console> {
        let mut consoles =
            self.slots.iter_mut().filter(|slot| slot.device.status().contains(Status::DRIVER_OK));
        consoles.find_map(|slot| match slot.device.device_mut() {
            Device::Console(console) => Some(console),
            Device::Block(_) | Device::Net(_) | Device::Entropy(_) | Device::Balloon(_) => None,
        })
    }

    /// Whether the virtio console has room for typed input; `None` when typed input is not for this console.
    pub fn takes_input(&mut self) -> Option<bool> {
        self.console().map(|console| console.has_room())
    }

    /// Gives the virtio console a byte of typed input.
    pub fn receive(&mut self, byte: u8) {
        if let Some(console) = self.console() {
            let _ = console.receive(byte);
        }
    }

    /// Does the next part of the devices' pending work. The devices share the step's budget, and the first turn rotates among them, so
    /// that no device starves another.
    pub fn step<R: GuestRam>(&mut self, ram: &R, host: &mut impl DeviceHost) -> ServeProgress {
        let mut budget = Budget::of_step();
        let mut progress = ServeProgress::Done;
        let count = self.slots.len();
        let (later, sooner) = self.slots.split_at_mut(self.first.min(count));
        for slot in sooner.iter_mut().chain(later) {
            if slot.device.serve(ram, host, &mut budget) == ServeProgress::More {
                progress = ServeProgress::More;
            }
        }
        self.first = if self.first + 1 < count { self.first + 1 } else { 0 };
        progress
    }

    /// Calls `act` on the devices, and tells the I/O APIC of each line that changed. The caller holds the lock of the devices, so it
    /// reports a change before another processor can change the line again: two changes never overtake one another.
    pub fn with<T>(&mut self, ports: &Lock<PortBus>, act: impl FnOnce(&mut Self) -> T) -> (T, Told) {
        let outcome = act(self);
        let mut told = Told::Nothing;
        for (slot, input) in self.slots.iter_mut().zip(FIRST_INPUT..) {
            let line = slot.device.line();
            if line != slot.line {
                slot.line = line;
                ports.lock().ioapic().set_level(input, if line { Level::High } else { Level::Low });
                told = Told::Changes;
            }
        }
        (outcome, told)
    }
}

/// Whether the I/O APIC was told of a line that changed, and may have messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Told {
    /// No line changed.
    Nothing,
    /// At least one line changed.
    Changes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lock::Rank;
    use crate::base::time::{Frequency, Tsc};
    use crate::device::bus::Setup;
    use std::thread;
    use std::time::Duration;

    const ROUNDS: usize = 32;
    const VECTOR: u8 = 0x50;

    fn ports() -> PortBus {
        let tsc = Frequency::from_khz(1_000_000).unwrap();
        PortBus::new(&Setup { tsc, now: Tsc(0), unix_s: 0, memory_mib: 4, channels: Vec::new() })
    }

    /// An entropy device whose driver is ready, at a level-triggered input.
    fn level_triggered() -> (Lock<Bus>, Lock<PortBus>) {
        let config = Devices { entropy: true, ..Devices::default() };
        let mut bus = Bus::new(GuestId(0), &config, &[], &[]).unwrap();
        for (register, value) in [(0x70, 1), (0x70, 3), (0x24, 1), (0x20, 1), (0x70, 0xb), (0x70, 0xf)] {
            let _ = bus.write(0, register, 4, value);
        }
        let mut ports = ports();
        ports.ioapic().write(0, 0x10 + 2 * u32::from(FIRST_INPUT));
        ports.ioapic().write(0x10, 0x8000 | u32::from(VECTOR));
        (Lock::new(Rank::Virtio, bus), Lock::new(Rank::Leaf, ports))
    }

    /// Calls `act` on the device, as an exit or a step of its work does.
    fn with(bus: &Lock<Bus>, ports: &Lock<PortBus>, act: impl FnOnce(&mut Bus)) {
        let ((), _) = bus.lock().with(ports, act);
    }

    fn complete(bus: &mut Bus) {
        bus.slots[0].device.config_changed();
    }

    fn acknowledge(bus: &mut Bus) {
        let _ = bus.write(0, 0x64, 4, 3);
    }

    #[test]
    fn a_completion_beside_an_acknowledgement_leaves_the_line_as_the_device_has_it() {
        let (bus, ports) = &level_triggered();
        let sends = || {
            let mut ports = ports.lock();
            ports.ioapic().end_of_interrupt(VECTOR);
            ports.ioapic().take_message().is_some()
        };
        for round in 0..ROUNDS {
            // One interrupt is in service: its handler acknowledges it while the next completion comes.
            with(bus, ports, complete);
            assert!(sends(), "round {round}");
            thread::scope(|scope| {
                let busy = ports.lock(); // a thread that changed a line waits here to tell the I/O APIC
                scope.spawn(|| with(bus, ports, acknowledge));
                thread::sleep(Duration::from_millis(2));
                scope.spawn(|| with(bus, ports, complete));
                thread::sleep(Duration::from_millis(2));
                drop(busy);
            });
            let line = bus.lock().slots[0].device.line();
            assert_eq!(sends(), line, "round {round}");
            with(bus, ports, acknowledge);
            assert!(!sends(), "round {round}");
        }
    }
}
