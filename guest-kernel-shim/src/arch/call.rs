//! The hypercall instruction.
#![expect(unsafe_code, reason = "VMMCALL; the hypervisor writes where the arguments say")]

use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};
use pv_abi::call::{Call, Code};
use pv_abi::cpuid::CallInstruction;

/// Which instruction makes a call: 0 = none, [`AMD`] or [`INTEL`]. Every call loads this once.
pub(super) static HOW: AtomicU8 = AtomicU8::new(0);
const AMD: u8 = 1;
pub(super) const INTEL: u8 = 2;

/// Selects the instruction that makes calls from now on. The caller has found that Comity is there.
pub(crate) fn choose(instruction: CallInstruction) {
    let how = if instruction == CallInstruction::VMCALL { INTEL } else { AMD };
    HOW.store(how, Ordering::Relaxed);
}

/// Makes a hypercall. Where Comity is not announced, returns [`Code::NOT_SUPPORTED`].
///
/// # Safety
///
/// The call's effect on memory and on this processor breaks nothing that Rust relies on.
#[inline(always)]
pub(crate) unsafe fn call<const N: usize>(call: Call, arguments: [u64; N]) -> (Code, u64) {
    let how = HOW.load(Ordering::Relaxed);
    if how == AMD {
        let (code, value);
        // Sets only the registers that the call reads: each one costs an instruction on the path of every call.
        let argument = |n: usize| arguments.get(n).copied().unwrap_or(0);
        // SAFETY: Comity is there, and by the ABI it changes RAX and RDX only. The caller answers for the call's
        // effect.
        unsafe {
            match N {
                0 => asm!("vmmcall", inlateout("rax") call.0 => code, out("rdx") value, options(nostack)),
                1 => asm!("vmmcall", inlateout("rax") call.0 => code, lateout("rdx") value,
                    in("rdi") argument(0), options(nostack)),
                2 => asm!("vmmcall", inlateout("rax") call.0 => code, lateout("rdx") value,
                    in("rdi") argument(0), in("rsi") argument(1), options(nostack)),
                _ => asm!("vmmcall", inlateout("rax") call.0 => code, inlateout("rdx") argument(2) => value,
                    in("rdi") argument(0), in("rsi") argument(1), in("r10") argument(3), options(nostack)),
            }
        }
        (Code(code), value)
    } else {
        // SAFETY: the caller's promise is the same.
        unsafe { call_otherwise(call, core::array::from_fn(|n| arguments.get(n).copied().unwrap_or(0))) }
    }
}

/// As [`call`], for Intel and for machines without Comity.
///
/// # Safety
///
/// As [`call`].
#[cold]
unsafe fn call_otherwise(call: Call, [rdi, rsi, rdx, r10]: [u64; 4]) -> (Code, u64) {
    if HOW.load(Ordering::Relaxed) != INTEL {
        return (Code::NOT_SUPPORTED, 0);
    }
    let (code, value);
    // SAFETY: as in `call`.
    unsafe {
        asm!("vmcall", inlateout("rax") call.0 => code, inlateout("rdx") rdx => value,
            in("rdi") rdi, in("rsi") rsi, in("r10") r10, options(nostack));
    }
    (Code(code), value)
}

/// Makes a call that cannot break memory safety, whatever its arguments: the returned values are its only effect on
/// Rust.
#[inline(always)]
pub(crate) fn harmless<const N: usize>(number: Harmless, arguments: [u64; N]) -> (Code, u64) {
    // SAFETY: no call in `Harmless` writes to memory that Rust knows of.
    unsafe { call(number.0, arguments) }
}

/// A call that, with the arguments that this crate gives it through [`harmless`], neither writes to memory of this
/// guest nor takes any away.
#[derive(Clone, Copy)]
pub(crate) struct Harmless(Call);

impl Harmless {
    pub const INFO: Self = Self(Call::INFO);
    pub const REGISTER: Self = Self(Call::REGISTER);
    pub const UNREGISTER: Self = Self(Call::UNREGISTER);
    pub const BLOCK: Self = Self(Call::BLOCK);
    pub const YIELD: Self = Self(Call::YIELD);
    pub const YIELD_TO: Self = Self(Call::YIELD_TO);
    pub const KICK: Self = Self(Call::KICK);
    pub const ARM: Self = Self(Call::ARM);
    pub const EVENT: Self = Self(Call::EVENT);
    pub const IPI: Self = Self(Call::IPI);
    pub const MEMORY: Self = Self(Call::MEMORY);
    pub const CONSOLE: Self = Self(Call::CONSOLE);
    pub const STATS: Self = Self(Call::STATS);
    pub const VCPU_STOP: Self = Self(Call::VCPU_STOP);
    pub const VCPU_STATE: Self = Self(Call::VCPU_STATE);
    pub const SHUTDOWN: Self = Self(Call::SHUTDOWN);
    pub const MARK: Self = Self(Call::MARK);
}

/// Writes bytes to the console, at most [`pv_abi::call::CONSOLE_MAX_BYTES`] at once.
pub fn console_write(bytes: &[u8]) -> (Code, u64) {
    // Guest-physical addresses equal linear ones: the first 4 GiB are mapped at their own addresses.
    let address = bytes.as_ptr().expose_provenance() as u64;
    let write = pv_abi::call::ConsoleOp::WRITE.0;
    // SAFETY: the call only reads the slice.
    unsafe { call(Call::CONSOLE, [write, address, bytes.len() as u64, 0]) }
}

/// Reads console input into `bytes`.
pub fn console_read(bytes: &mut [u8]) -> (Code, u64) {
    let address = bytes.as_mut_ptr().expose_provenance() as u64;
    let read = pv_abi::call::ConsoleOp::READ.0;
    // SAFETY: the call writes to the slice only, which is mutably borrowed.
    unsafe { call(Call::CONSOLE, [read, address, bytes.len() as u64, 0]) }
}

/// Maps a shared table at `gpa` and returns the hypervisor's code.
///
/// # Safety
///
/// `gpa` lies in the window, where no Rust object is, and the pages of the table from there on are unused.
pub(crate) unsafe fn map(table: pv_abi::table::Table, gpa: u64) -> Code {
    // SAFETY: the caller promises that the pages are unused; the hypervisor refuses addresses outside the window.
    unsafe { call(Call::MAP, [table.0, gpa, 0, 0]) }.0
}
