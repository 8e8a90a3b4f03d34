//! Releasing a lock whose holder will never run again.
#![expect(unsafe_code, reason = "after a fault, the holder of a lock never runs again")]

/// Releases a lock, whoever holds it. Only a processor that faulted may use this, for its last message. The value may
/// be half changed.
pub(crate) fn force_unlock<T: Copy>(lock: &spin::Mutex<T>) {
    // SAFETY: `T` is plain data, of which every bit pattern is valid, and interrupts are off. The holder is the code that
    // the fault interrupted, which never continues, or another processor, whose text may then mix with ours.
    unsafe { lock.force_unlock() };
}
