//! For kernels that have an entry, tables and drivers of their own.
#![expect(unsafe_code, reason = "takes the GS base of a processor that somebody else set up")]

use super::percpu;
use super::platform::{self, Mode};
use crate::{clock, cooperative, smp, timer};

/// Makes this library work on a processor that the kernel set up itself; `index` is the kernel's number of it, 0 first,
/// the same as the hypervisor's. Afterwards [`call`](crate::call), [`demand`](crate::demand), [`event`](crate::event),
/// [`critical`](crate::critical), [`lock`](crate::lock) and [`mark`](crate::mark) work in every mode, and in a cooperative
/// guest [`timer`](crate::timer) and [`idle`](crate::idle) too. The kernel's gate for
/// [`interrupt::EVENT`](crate::interrupt::EVENT) calls [`event::take`](crate::event::take).
///
/// # Safety
///
/// - This processor is at CPL 0 in long mode, and the first 4 GiB are mapped onto themselves, writable: the shared tables
///   are placed at 0xC000_0000, where neither RAM nor anything of the kernel's is.
/// - The GS base belongs to this library from now on: nobody else uses GS here, and SWAPGS brings it back in time.
/// - Each processor calls this once, with a number of its own below 64, and the first one before the others.
pub unsafe fn adopt(index: usize) -> Mode {
    percpu::install(index);
    if index == 0 {
        platform::detect();
        cooperative::start();
        smp::find(None);
        if platform::is_cooperative() {
            clock::start();
            timer::start();
        }
    } else {
        cooperative::start_local();
    }
    platform::mode()
}
