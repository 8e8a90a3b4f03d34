//! The bootable ELF: finds out what the machine is, makes the guests of the bundle, and runs them.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
