//! What the hypervisor and the tools on a host agree on, and no more: what goes in, and what comes out.
//!
//! A tool writes a [`bundle`] by the [`manifest`] in it, after the hypervisor's own check, and knows by the same code whether a
//! kernel can be [loaded](load) and how large the [`heap`] will be. Out comes telemetry, as [`record`]s. hv-core builds on this
//! crate and shows [`addr`], [`control`], [`error`] and [`id`] as its own ground floor.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
pub mod bundle;
pub mod control;
pub mod error;
pub mod heap;
pub mod id;
pub mod load;
pub mod manifest;
pub mod record;
