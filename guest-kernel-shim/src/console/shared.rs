//! The console of a cooperative guest as a ring in shared memory. The guest calls the hypervisor to drain it only if
//! the hypervisor asked for that, if the ring is full, if its text is old, or before a processor idles.

use crate::arch::tables;
use crate::{call, clock};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ring_buffers::bytes::Producer;
use ring_buffers::{Region, RingError};
use spin::Mutex;

static OUT: Mutex<Option<Producer<Region>>> = Mutex::new(None);
/// TSC value since which text has been waiting in the ring; 0 = the ring is drained.
static WAITING_SINCE: AtomicU64 = AtomicU64::new(0);
static GIVEN_UP: AtomicBool = AtomicBool::new(false);
/// How long text may wait before the next write drains the ring, in ns.
const LONG_NS: u64 = 10_000_000;

/// Maps the console's table and creates this side's ring, if the hypervisor offers one.
pub(super) fn start() {
    *OUT.lock() = tables::console().and_then(|region| Producer::create(region).ok());
}

/// Switches to calls for good: a processor faulted, perhaps in the middle of a push.
pub(super) fn give_up() {
    GIVEN_UP.store(true, Ordering::Relaxed);
    drain();
}

/// Puts bytes into the ring; returns whether all of them fit. The caller has interrupts off.
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
            // The hypervisor does not drain the ring, or the ring is corrupt: switch to calls.
            Err(_) => {
                *out = None;
                return false;
            }
        }
    }
    true
}

/// Makes the hypervisor print the ring's text. Processors call this before they idle and at the end; it costs one load
/// if the ring is drained.
#[inline]
pub(crate) fn flush() {
    if WAITING_SINCE.load(Ordering::Relaxed) != 0 {
        drain();
    }
}

/// Records that text is waiting now; returns whether the oldest text has waited too long.
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
