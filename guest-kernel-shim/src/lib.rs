//! What a guest kernel links to run bare, as a full guest, or as a cooperative guest of Comity, from one image.
//!
//! Begin with [`entry!`] and `src/bin/hello.rs`. A kernel that has its own entry, tables and drivers calls [`adopt`] on
//! each processor and then uses the modules it needs: [`call`] makes hypercalls, and [`demand`], [`event`], [`timer`],
//! [`critical`] and [`lock`] build on it.
//!
//! Each module works in the native way of the mode that [`platform`] found, so the kernel above need not ask. Where
//! Comity is not announced, this crate publishes to a private cache line that nobody reads.
//!
//! `arch` is the ground floor: it holds the unsafe code and names nothing above it. The modules above register
//! the functions that it calls. No files import one another in a circle; `cargo xtask lint` checks both.
//!
//! ```no_run
//! use guest_kernel_shim::{Boot, clock, entry, platform, println, timer};
//!
//! entry!(kernel);
//!
//! fn kernel(boot: &'static Boot) {
//!     println!("{} KiB of memory, {}", boot.ram_bytes() / 1024, platform::mode().name());
//!     let begin_ns = clock::now_ns();
//!     timer::sleep_ns(1_000_000);
//!     println!("slept {} us", (clock::now_ns() - begin_ns) / 1000);
//! }
//! ```
#![no_std]
#![cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "entered by assembly that only bare machines have")
)]

mod arch;
pub mod boot;
pub mod call;
pub mod channel;
pub mod clock;
pub mod console;
mod cooperative;
pub mod critical;
mod deadline;
pub mod demand;
#[doc(hidden)]
pub mod entry_point;
pub mod event;
mod exception;
pub mod idle;
pub mod interrupt;
pub mod ipi;
pub mod lock;
pub mod mark;
pub mod memory;
pub mod probe;
pub mod shutdown;
pub mod smp;
pub mod thread;
pub mod timer;

pub use arch::percpu::Processor;
pub use arch::platform;
pub use boot::Boot;
pub use entry_point::adopt;
pub use pv_abi;
