//! Unknown calls, arguments out of range, bad addresses. A refusal says why and changes no register but RAX and RDX.

use crate::check::Check;
use crate::raw;
use guest_kernel_shim::call::{self, Info};
use guest_kernel_shim::platform::is_cooperative;
use guest_kernel_shim::probe::Fault;
use guest_kernel_shim::pv_abi::PAGE_BYTES;
use guest_kernel_shim::pv_abi::call::{Call, Code, PREFIX};

const OK: u64 = Code::OK.0;
const NO_SUCH_CALL: u64 = Code::NO_SUCH_CALL.0;
const BAD_ARGUMENT: u64 = Code::BAD_ARGUMENT.0;
const NO_SUCH_VCPU: u64 = Code::NO_SUCH_VCPU.0;
const NOT_THERE: u64 = Code::NOT_THERE.0;
const BAD_ADDRESS: u64 = Code::BAD_ADDRESS.0;
const BAD_STATE: u64 = Code::BAD_STATE.0;
const NOT_SUPPORTED: u64 = Code::NOT_SUPPORTED.0;

/// Far past everything.
const FAR: u64 = u64::MAX;
const PAGE: u64 = PAGE_BYTES as u64;

/// Makes a call, checks the code, and that it left the other registers alone.
fn refused(check: &mut Check, number: u64, arguments: [u64; 4], allowed: &[u64]) {
    match raw::call(number, arguments) {
        Ok((code, _, untouched)) => {
            check.one_of(format_args!("call {number:#x} {arguments:x?}"), code, allowed);
            check.holds(format_args!("call {number:#x} {arguments:x?}: other registers kept"), untouched);
        }
        Err(fault) => check.holds(format_args!("call {number:#x}: exception {}", fault.0), false),
    }
}

/// Where nobody takes calls, the instruction is not there.
fn is_absent(check: &mut Check) -> bool {
    if is_cooperative() {
        return false;
    }
    for number in [Call::INFO.0, Call::SHUTDOWN.0, FAR] {
        let fault = raw::call(number, [0; 4]).err();
        check.holds(format_args!("call {number:#x} is #UD"), fault == Some(Fault::UD));
    }
    true
}

/// Unknown calls, unknown items and operations, vCPUs that are not there.
pub fn unknown_and_out_of_range(check: &mut Check) {
    if is_absent(check) {
        return;
    }
    let past = Call::ALL.last().map_or(PREFIX, |(last, _)| last.0 + 1);
    for number in [past, past + 1, PREFIX | 0xffff, 0, 5, FAR, FAR - 19, PREFIX << 16, 1 << 32 | PREFIX] {
        refused(check, number, [FAR; 4], &[NO_SUCH_CALL]);
    }
    let vcpus = call::info(Info::VCPUS).unwrap_or(64);
    for vcpu in [vcpus, 64, 255, 256, 1 << 32, FAR] {
        for number in
            [Call::YIELD_TO, Call::KICK, Call::IPI, Call::VCPU_START, Call::VCPU_STOP, Call::VCPU_STATE]
        {
            let arguments = if number == Call::IPI { [vcpu, 0x40, 0, 0] } else { [vcpu, 0, 0, 0] };
            refused(check, number.0, arguments, &[NO_SUCH_VCPU]);
        }
        refused(check, Call::STATS.0, [0, vcpu, 0, 0], &[NO_SUCH_VCPU]);
    }
    for item in [11, 255, 1 << 32, FAR] {
        refused(check, Call::INFO.0, [item, 0, 0, 0], &[BAD_ARGUMENT]);
        refused(check, Call::STATS.0, [item, 0, 0, 0], &[BAD_ARGUMENT]);
        refused(check, Call::EVENT.0, [item, 0, 0, 0], &[BAD_ARGUMENT]);
        refused(check, Call::CONSOLE.0, [item, PAGE, 1, 0], &[BAD_ARGUMENT]);
        refused(check, Call::SHUTDOWN.0, [item, 0, 0, 0], &[BAD_ARGUMENT]);
    }
    for vector in [0, 31, 257, 1 << 32, FAR] {
        refused(check, Call::IPI.0, [0, vector, 0, 0], &[BAD_ARGUMENT]);
    }
    for vector in [1, 31, 256, FAR] {
        refused(check, Call::REGISTER.0, [0, vector, 0, 0], &[BAD_ARGUMENT]);
    }
    for channel in [64, 255, 1 << 32, FAR] {
        refused(check, Call::EVENT.0, [0, channel, 0, 0], &[NOT_THERE]);
        refused(check, Call::EVENT.0, [1, channel, 0, 0], &[NOT_THERE]);
        refused(check, Call::EVENT.0, [2, channel, 0, 0], &[NOT_THERE]);
    }
    refused(check, Call::MEMORY.0, [FAR; 4], &[BAD_ARGUMENT]);
    for at in [1, 4096, FAR, FAR << 21, 3 << 30] {
        refused(check, Call::MEMORY.0, [0, at, 64, 0], &[BAD_ADDRESS]);
        refused(check, Call::MEMORY.0, [1, at, 0, 0], &[BAD_ADDRESS]);
    }
    refused(check, Call::SHARE.0, [FAR; 4], &[NOT_SUPPORTED]);
    refused(check, Call::VCPU_START.0, [0, FAR, FAR, FAR], &[BAD_STATE]);
    refused(check, Call::YIELD_TO.0, [0, FAR, 0, 0], &[OK, Code::STALE.0, BAD_STATE]);
    refused(check, Call::YIELD.0, [FAR; 4], &[OK]);
    refused(check, Call::INFO.0, [0; 4], &[OK]);
}

/// Addresses outside of memory and of the window, unaligned ones, ranges that wrap.
pub fn addresses(check: &mut Check) {
    if is_absent(check) {
        return;
    }
    let window = call::info(Info::WINDOW_BASE).unwrap_or(0);
    let window_end = window + call::info(Info::WINDOW_PAGES).unwrap_or(0) * PAGE;
    for table in [0, 1, 2] {
        for gpa in [
            0,
            PAGE,
            window - PAGE,
            window + 1,
            window + 8,
            window_end - PAGE,
            window_end,
            FAR,
            FAR - PAGE + 1,
        ] {
            refused(check, Call::MAP.0, [table, gpa, 0, 0], &[BAD_ADDRESS]);
        }
    }
    for table in [5, 15, 16 + 64, 255, 1 << 32, FAR] {
        refused(check, Call::MAP.0, [table, window, 0, 0], &[NOT_THERE, BAD_ARGUMENT]);
    }
    refused(check, Call::MAP.0, [3, window, 0, 0], &[NOT_THERE, NOT_SUPPORTED]);
    for operation in [0, 1] {
        for (gpa, bytes) in
            [(FAR, 1), (FAR - 3, 8), (1 << 40, 16), (window - 1, 2), (1 << 52, 1), (1 << 63, 256)]
        {
            refused(check, Call::CONSOLE.0, [operation, gpa, bytes, 0], &[BAD_ADDRESS]);
        }
        for bytes in [257, 1 << 32, FAR] {
            refused(check, Call::CONSOLE.0, [operation, PAGE, bytes, 0], &[BAD_ARGUMENT]);
        }
    }
    // What was refused moved nothing: the tables are where they were, and a call with them works.
    let alive = call::info(Info::VERSION);
    check.holds(format_args!("the guest is still answered"), alive.is_ok());
    check.holds(
        format_args!("the status table is where it was"),
        guest_kernel_shim::demand::status_flags().bits() >> 4 == 0,
    );
}
