//! What people type, on its way to the guest that has the input.

use crate::base::hardware::Hardware;
use crate::base::id::CpuId;
use crate::exit::cpu::CpuContext;
use crate::exit::{interrupts, virtio};
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use crate::policy::presence::Attention;
use crate::policy::vcpu_shared::VcpuShared;
use pv_abi::event;

/// Input that could not be handed over is looked for again after this; nobody types faster.
const PERIOD_NS: u64 = 1_000_000;

/// Hands what people typed to the guest that has the input. The line is the first processor's.
pub fn poll<P: Platform>(core: &mut CpuContext<P>) {
    if core.cpu != CpuId(0) {
        return;
    }
    let Some(guest) = core.system.guest(core.system.input_guest) else { return };
    let Some(first) = guest.vcpu(0) else { return };
    while hand_over(core, guest, first) {
        let now = core.hardware.now();
        core.wake(first, guest.id, now);
    }
}

/// Hands over one byte; false when there is none, or no room for it.
fn hand_over<P: Platform>(
    core: &mut CpuContext<P>,
    guest: &'static Guest<P::Ram>,
    first: &'static VcpuShared,
) -> bool {
    // The guest's vCPUs may hold its devices step after step on other processors. Whoever runs here does not wait for them.
    let Some(mut bus) = guest.pc.virtio.try_lock() else {
        let now = core.hardware.now();
        core.put_off_until(now + core.tsc.ticks(PERIOD_NS));
        return false;
    };
    // Virtio's console has the input once its driver is there, else the UART. What has no room there stays in the line.
    let virtio_has_room = bus.takes_input();
    let has_room = || virtio_has_room.unwrap_or_else(|| guest.pc.ports.lock().has_room());
    if !guest.is_cooperative() && !has_room() {
        return false;
    }
    let Some(byte) = core.hardware.console_read() else { return false };
    if virtio_has_room.is_some() {
        bus.receive(byte);
    }
    drop(bus);
    if guest.is_cooperative() {
        let _ = guest.console.input.lock().push_back(byte); // what nobody reads is dropped
        first.post_event(event::CONSOLE);
    } else if virtio_has_room.is_some() {
        virtio::notify(guest, guest.id, core);
    } else {
        guest.pc.ports.lock().receive(byte);
        first.request_attention(Attention::DEVICE);
        let now = core.hardware.now();
        interrupts::send(guest, core, now);
    }
    true
}
