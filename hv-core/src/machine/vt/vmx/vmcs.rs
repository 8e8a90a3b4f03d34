//! The VMX instructions, and which VMCS is current on this processor. Intel SDM vol 3C §24.11, §30.3.
#![expect(unsafe_code, reason = "VMX instructions; every block carries SAFETY")]

use super::fields::Field;
use crate::base::addr::HostPhys;
use core::arch::asm;

/// What a field's value is made of.
pub trait Value {
    fn widen(self) -> u64;
    fn narrow(raw: u64) -> Self;
}

macro_rules! values {
    ($($type:ty),*) => { $(impl Value for $type {
        #[inline(always)]
        fn widen(self) -> u64 {
            u64::from(self)
        }
        #[inline(always)]
        #[allow(
            clippy::cast_possible_truncation,
            clippy::unnecessary_cast,
            reason = "VMREAD clears what is above the field's width; one of the types is u64"
        )]
        fn narrow(raw: u64) -> Self {
            raw as $type
        }
    })* };
}

values!(u16, u32, u64);

/// Proof that VMX operation is on for this processor. Not sent to another one.
#[derive(Clone, Copy, Debug)]
pub struct InVmx(core::marker::PhantomData<*mut ()>);

impl InVmx {
    /// # Safety
    ///
    /// VMXON succeeded on this processor, and nothing leaves VMX operation.
    pub(super) const unsafe fn new() -> Self {
        Self(core::marker::PhantomData)
    }
}

/// The VMCS that is current on this processor; there is one for as long as this value is in use.
#[derive(Clone, Copy, Debug)]
pub struct Current(core::marker::PhantomData<*mut ()>);

impl Current {
    /// Makes a VMCS active and current.
    ///
    /// # Safety
    ///
    /// `vmcs` is a page of one vCPU's with the revision in it, active on no other processor, and this processor is in VMX
    /// operation.
    #[inline]
    pub unsafe fn load(vmcs: HostPhys) -> Self {
        let at = vmcs.raw();
        // SAFETY: by contract.
        unsafe { asm!("vmptrld [{}]", in(reg) &raw const at, options(nostack)) };
        Self(core::marker::PhantomData)
    }

    /// The one that is current, whichever it is.
    ///
    /// # Safety
    ///
    /// This processor is in VMX operation, and a VMCS is current.
    #[inline(always)]
    pub const unsafe fn assume() -> Self {
        Self(core::marker::PhantomData)
    }

    /// Reads a field.
    #[inline(always)]
    pub fn read<T: Value>(self, field: Field<T>) -> T {
        let value;
        // SAFETY: a VMCS is current (`self`), and `field` is an encoding that every processor with our controls has.
        unsafe {
            asm!("vmread {}, {}", out(reg) value, in(reg) field.encoding(), options(nomem, nostack));
        }
        T::narrow(value)
    }

    /// Writes a field. What it says is checked at the next entry.
    #[inline(always)]
    pub fn write<T: Value>(self, field: Field<T>, value: T) {
        // SAFETY: as in `read`; the field is none of the read-only ones. The VMCS is read by the processor only, when it enters and
        // leaves guest mode: what this may do there is `super::state`'s to answer for.
        unsafe { asm!("vmwrite {}, {}", in(reg) field.encoding(), in(reg) value.widen(), options(nostack)) };
    }
}

/// Where the current VMCS is; all ones for none.
fn current() -> u64 {
    let mut at = u64::MAX;
    // SAFETY: VMX operation is on wherever a vCPU is looked at; the operand is this variable.
    unsafe { asm!("vmptrst [{}]", in(reg) &raw mut at, options(nostack)) };
    at
}

/// Writes a VMCS back to its page; it is active nowhere then, and begins with VMLAUNCH.
///
/// # Safety
///
/// As for [`Current::load`].
pub unsafe fn clear(vmcs: HostPhys) {
    let at = vmcs.raw();
    // SAFETY: by contract.
    unsafe { asm!("vmclear [{}]", in(reg) &raw const at, options(nostack)) };
}

/// Looks at a VMCS that need not be current, and leaves the current one as it was. `stays`: it is active on this processor
/// and remains so; otherwise it is active nowhere, before and after.
///
/// # Safety
///
/// As for [`Current::load`].
pub unsafe fn with<T>(vmcs: HostPhys, stays: bool, act: impl FnOnce(Current) -> T) -> T {
    let before = current();
    if before == vmcs.raw() {
        // SAFETY: it is current.
        return act(unsafe { Current::assume() });
    }
    // SAFETY: by contract; and `before` was current here a moment ago.
    unsafe {
        let found = act(Current::load(vmcs));
        if !stays {
            clear(vmcs);
        }
        if let Some(before) = HostPhys::new(before) {
            Current::load(before);
        }
        found
    }
}

/// Forgets what this processor has cached of the tables at `ept_pointer`, for every VPID (§28.4.3.1: single-context INVEPT).
///
/// # Safety
///
/// This processor is in VMX operation and has single-context INVEPT; `ept_pointer` is one that it accepts.
pub unsafe fn invalidate(ept_pointer: u64) {
    let descriptor = [ept_pointer, 0];
    // SAFETY: by contract; the descriptor is 16 bytes.
    unsafe { asm!("invept {}, [{}]", in(reg) 1_u64, in(reg) &raw const descriptor, options(nostack)) };
}
