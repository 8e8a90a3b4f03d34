//! Cooperative kernel threads on the first processor, for tests that need two parties in one kernel.
//!
//! ```no_run
//! use guest_kernel_shim::thread;
//!
//! fn pong(rounds: u64) {
//!     for _ in 0..rounds {
//!         thread::give_way();
//!     }
//! }
//!
//! thread::spawn(pong, 10).expect("all threads are in use");
//! for _ in 0..10 {
//!     thread::give_way(); // the other one runs, and gives way in turn
//! }
//! ```

pub use crate::arch::thread::{NoThread, give_way, spawn};
