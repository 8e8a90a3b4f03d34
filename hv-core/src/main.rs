//! The bootable ELF: finds out what the machine is, makes the guests of the bundle, and runs them.
//!
//! `boot` is the binary's own: the processor loop of each vendor is instantiated here, where the compiler sees all of it.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
