//! Taking a lock away from a holder that will not come back.
#![expect(unsafe_code, reason = "after a fault, the holder of a lock never runs again")]

/// Frees a lock, whoever holds it. Only for the last message of a processor that faulted: what the lock protects may be
/// half changed, but is plain data that any bytes are valid for.
pub(crate) fn force_unlock<T: Copy>(lock: &spin::Mutex<T>) {
    // SAFETY: `T` is plain data, and interrupts are off; the interrupted holder is the code below this on the stack, which
    // never goes on.
    unsafe { lock.force_unlock() };
}
