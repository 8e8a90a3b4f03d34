//! The bootable ELF.
#![no_std]
#![no_main]
