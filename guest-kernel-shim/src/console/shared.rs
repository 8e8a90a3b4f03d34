//! The console of a cooperative guest as a ring: what is printed waits in shared memory, and the hypervisor is called only
//! when it asked for it, when there is no room, or before this processor idles.

use crate::arch::tables;
use crate::{call, clock};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ring_buffers::bytes::Producer;
use ring_buffers::{Region, RingError};
use spin::Mutex;

static OUT: Mutex<Option<Producer<Region>>> = Mutex::new(None);
/// Since when something waits in the ring, as a TSC value; 0 = nothing does.
static WAITING_SINCE: AtomicU64 = AtomicU64::new(0);
static GIVEN_UP: AtomicBool = AtomicBool::new(false);
/// Text that is older than this is shown with the next that comes, in ns.
const LONG_NS: u64 = 10_000_000;

/// Places the table and makes this side's ring, where the hypervisor offers one.
pub(super) fn start() {
    *OUT.lock() = tables::console().and_then(|region| Producer::create(region).ok());
}

/// From now on uses calls only: this processor faulted, perhaps in the middle of a push.
pub(super) fn give_up() {
    GIVEN_UP.store(true, Ordering::Relaxed);
    drain();
}

/// Puts bytes into the ring; answers whether all went in. Called with interrupts off.
pub(super) fn write(mut bytes: &[u8]) -> bool {
    if GIVEN_UP.load(Ordering::Relaxed) {
        return false;
    }
    let mut out = OUT.lock();
    let Some(producer) = out.as_mut() else { return false };
    let mut flushed = false;
    while !bytes.is_empty() {
        match producer.push(bytes) {
            Ok(pushed) => {
                bytes = bytes.get(pushed.count..).unwrap_or(&[]);
                if pushed.kick || has_waited_long() {
                    drain();
                }
                flushed = false;
            }
            Err(RingError::Full) if !flushed => {
                drain();
                flushed = true;
            }
            // The hypervisor does not drain, or the ring is spoilt: from now on by calls.
            Err(_) => {
                *out = None;
                return false;
            }
        }
    }
    true
}

/// Makes the hypervisor show what waits. Called before idling and at the end; costs a load where nothing does.
#[inline]
pub(crate) fn flush() {
    if WAITING_SINCE.load(Ordering::Relaxed) != 0 {
        drain();
    }
}

/// Notes that something waits now; answers whether the oldest of it has waited long enough.
fn has_waited_long() -> bool {
    let now = clock::ticks();
    match WAITING_SINCE.load(Ordering::Relaxed) {
        0 => {
            WAITING_SINCE.store(now, Ordering::Relaxed);
            false
        }
        since => now.saturating_sub(since) > clock::ticks_from_ns(LONG_NS),
    }
}

#[cold]
fn drain() {
    WAITING_SINCE.store(0, Ordering::Relaxed);
    call::console_flush();
}
