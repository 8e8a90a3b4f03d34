//! The console of a cooperative guest, by hypercall or by two rings in a shared table.

use crate::base::addr::GuestPhys;
use crate::base::hardware::{GuestBytes, GuestRam};
use crate::exit::cpu::{CpuContext, Room};
use crate::exit::hypercall::outcome::Outcome;
use crate::guest::guest::{Guest, Words};
use crate::guest::platform::Platform;
use pv_abi::call::{CONSOLE_MAX_BYTES, Code};
use pv_abi::table::CONSOLE_RING_BYTES;
use ring_buffers::RingError;
use ring_buffers::bytes::Consumer;

const MAX: usize = 256;
const _: () = assert!(MAX as u64 == CONSOLE_MAX_BYTES);

/// CONSOLE(WRITE): copies text out of guest memory, and writes it to the console.
pub fn write<P: Platform>(
    guest: &Guest<P::Ram>,
    core: &mut CpuContext<P>,
    at: GuestPhys,
    len: usize,
) -> Outcome {
    let mut buffer = [0; MAX];
    let Some(bytes) = buffer.get_mut(..len) else { return Outcome::code(Code::BAD_ARGUMENT) };
    if guest.ram.read(at, bytes).is_err() {
        return Outcome::code(Code::BAD_ADDRESS);
    }
    let Some(room) = core.console_room(guest, bytes) else { return Outcome::Retry };
    core.console(guest, bytes, room);
    Outcome::ok(len as u64)
}

/// CONSOLE(FLUSH): writes out the text that the guest left in its ring.
pub fn flush<P: Platform>(guest: &Guest<P::Ram>, core: &mut CpuContext<P>) -> Outcome {
    let done = drain(guest, core, CpuContext::console_room);
    if done { Outcome::ok(0) } else { Outcome::Retry }
}

/// Writes out the text that the guest left in its ring while there is `room`; returns false if some is left. For a ring that
/// the guest corrupted, it returns true.
pub fn drain<P: Platform>(
    guest: &Guest<P::Ram>,
    core: &mut CpuContext<P>,
    room: impl Fn(&mut CpuContext<P>, &Guest<P::Ram>, &[u8]) -> Option<Room>,
) -> bool {
    let Some(ring) = guest.tables.console.words.get(..CONSOLE_RING_BYTES / 8) else { return true };
    let mut ring_end = guest.console.ring.lock();
    if ring_end.is_none() {
        *ring_end = Consumer::attach(Words(ring)).ok();
    }
    let Some(consumer) = ring_end.as_mut() else { return true };
    let mut buffer = [0; MAX];
    // One call takes no more than the ring holds.
    for _ in 0..=CONSOLE_RING_BYTES / MAX {
        match consumer.take(&mut buffer) {
            Ok(count) if count > 0 => {
                let text = buffer.get(..count).unwrap_or_default();
                let Some(room) = room(core, guest, text) else {
                    *ring_end = None; // text that was taken and not released is found again
                    return false;
                };
                core.console(guest, text, room);
                let _ = consumer.release(); // the guest does not wait for space
            }
            Ok(_) | Err(RingError::Empty) => return true,
            Err(RingError::Full | RingError::Corrupt(_)) => {
                *ring_end = None;
                return true;
            }
        }
    }
    true
}

/// CONSOLE(READ): copies console input to guest memory, up to `len` bytes of what there is.
pub fn read<R: GuestRam>(guest: &Guest<R>, at: GuestPhys, len: usize) -> Outcome {
    let mut input = guest.console.input.lock();
    let mut buffer = [0; MAX];
    let count = len.min(input.len()).min(MAX);
    for (to, from) in buffer.iter_mut().zip(input.iter()).take(count) {
        *to = *from;
    }
    if guest.ram.write(at, buffer.get(..count).unwrap_or_default()).is_err() {
        return Outcome::code(Code::BAD_ADDRESS);
    }
    for _ in 0..count {
        input.pop_front();
    }
    Outcome::ok(count as u64)
}
