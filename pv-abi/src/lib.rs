//! What hypervisor and guests agree on: plain data.
#![no_std]
#![forbid(unsafe_code)]
