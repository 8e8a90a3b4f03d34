//! How a kernel names its main function, and what a panic does.

/// Makes a function the kernel's main: `entry!(main)` with `fn main(boot: &'static Boot)`. When it returns, the
/// machine is powered off.
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
            main(boot);
        }
    };
}

#[cfg(all(target_os = "none", feature = "boot"))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::console::break_locks();
    crate::println!("{info}");
    crate::shutdown::end(crate::shutdown::Kind::CRASH)
}
