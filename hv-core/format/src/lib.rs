//! The formats that the hypervisor shares with tools on a host, and no more: its input and its output.
//!
//! A tool writes a [`bundle`] with a [`manifest`] in it, after the hypervisor's own check, and finds by the same code whether a
//! kernel can be [loaded](load) and how large the [`heap`] will be. The output is telemetry, as [`record`]s. hv-core builds on this
//! crate and re-exports [`addr`], [`control`], [`error`] and [`id`] as its own base.
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
