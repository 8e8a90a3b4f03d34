//! Console input, on its way to the guest that receives it.

use crate::base::hardware::Hardware;
use crate::base::id::CpuId;
use crate::exit::cpu::CpuContext;
use crate::exit::{interrupts, virtio};
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use crate::policy::presence::Attention;
use crate::policy::vcpu_shared::VcpuShared;
use pv_abi::event;

/// Delay before input that could not be handed over is tried again, in nanoseconds: shorter than the time between two
/// keystrokes.
const PERIOD_NS: u64 = 1_000_000;

/// Hands console input to the guest that receives it. Only the first processor reads the console.
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

/// Hands over one byte; returns false if there is none, or if the guest has no room for it.
fn hand_over<P: Platform>(
    core: &mut CpuContext<P>,
    guest: &'static Guest<P::Ram>,
    first: &'static VcpuShared,
) -> bool {
    // The guest's vCPUs may hold the lock of its devices step after step on other processors. This processor does not wait
    // for them.
    let Some(mut bus) = guest.pc.virtio.try_lock() else {
        let now = core.hardware.now();
        core.put_off_until(now + core.tsc.ticks(PERIOD_NS));
        return false;
    };
    // The virtio console receives the input once its driver is there, otherwise the UART does. A byte that has no room there
    // stays in the console's input.
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
        let _ = guest.console.input.lock().push_back(byte); // dropped if full, because the guest does not read
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
