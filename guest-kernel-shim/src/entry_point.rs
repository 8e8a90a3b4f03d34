//! How a kernel starts: through its main function, or by adopting processors that it set up itself.

use crate::arch::percpu::Processor;
use crate::arch::platform::{self, Mode};
use crate::arch::tables::Rate;
use crate::boot::Boot;
use crate::shutdown::{self, Kind};
use crate::{clock, console, cooperative, exception, interrupt, println, smp, timer};

/// Makes a function the kernel's main: `entry!(main)` with `fn main(boot: &'static Boot)`. When it returns, the guest
/// powers off.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[expect(
            unsafe_code,
            reason = "the symbol that guest_kernel_shim calls; defined once, by this macro"
        )]
        #[unsafe(no_mangle)]
        fn guest_kernel_main(boot: &'static $crate::Boot) {
            let main: fn(&'static $crate::Boot) = $main;
            $crate::entry_point::run(boot, main)
        }
    };
}

/// Starts the first processor. The symbol that [`entry!`] defines calls this: it sets this crate up, calls the kernel's
/// `main`, and powers off when that returns.
pub fn run(boot: &'static Boot, main: fn(&'static Boot)) -> ! {
    exception::start();
    platform::detect();
    interrupt::start();
    let rate = register_first();
    console::start();
    clock::start(rate);
    clock::set_zero(boot.number("zero_ms").unwrap_or(0).saturating_mul(1_000_000));
    smp::find(boot.number("cpus"));
    timer::start();
    interrupt::enable();
    main(boot);
    shutdown::end(Kind::OFF)
}

/// Makes this library work on a processor that the kernel set up itself. The kernel adopts processor 0 before the
/// others.
///
/// Afterwards [`call`](crate::call), [`demand`](crate::demand), [`event`](crate::event), [`critical`](crate::critical),
/// [`lock`](crate::lock) and [`mark`](crate::mark) work in every mode; in a cooperative guest [`timer`](crate::timer)
/// and [`idle`](crate::idle) work too. The kernel's gate for [`interrupt::EVENT`](crate::interrupt::EVENT) must call
/// [`event::take`](crate::event::take).
pub fn adopt(processor: Processor) -> Mode {
    exception::start();
    if processor.into_index() == 0 {
        platform::detect();
        let rate = register_first();
        smp::find(None);
        if platform::is_cooperative() {
            clock::start(rate);
            timer::start();
        }
    } else {
        cooperative::start_local().unwrap_or_else(|refusal| println!("shim: {refusal}"));
    }
    platform::mode()
}

/// Registers the first vCPU of a cooperative guest and returns the TSC rate, if the hypervisor gives one.
fn register_first() -> Option<Rate> {
    cooperative::start().unwrap_or_else(|refusal| {
        println!("shim: {refusal}");
        None
    })
}

#[cfg(all(target_os = "none", feature = "boot"))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    console::break_locks();
    println!("{info}");
    shutdown::end(Kind::CRASH)
}
