//! Comity: a thin x86-64 microhypervisor with a cooperative guest ABI.
//!
//! Nine rooms, one folder each; a module names only rooms below its own, and `cargo xtask lint` checks it:
//!
//! | room | module | unsafe |
//! |---|---|---|
//! | 8 from the loader's handover to the first guest | [`boot`], and the binary | invited per file |
//! | 7 the machine itself | [`machine`] | invited per file |
//! | 6 the life of a processor | [`run`] | forbidden |
//! | 5 what an exit means | [`exit`] | forbidden |
//! | 4 what a guest is, and the vendor's seam | [`guest`] | forbidden |
//! | 3 what a guest starts from | [`image`] | forbidden |
//! | 2 devices of a PC, and virtio's | [`device`] | forbidden |
//! | 1 what is decided | [`policy`] | forbidden |
//! | 0 words that every room is written in | [`base`] | forbidden |
//!
//! Beneath them is the crate hv-format: what the hypervisor and the tools on a host agree on. `testkit` is a machine for
//! tests on the host, and may name any of them.
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "testkit"))]
extern crate std;

#[forbid(unsafe_code)]
pub mod base;
/// What of `boot` is tested on the host: the rest of it is the binary's own.
#[forbid(unsafe_code)]
pub mod boot {
    pub mod firmware;
}
#[forbid(unsafe_code)]
pub mod device;
#[forbid(unsafe_code)]
pub mod exit;
#[forbid(unsafe_code)]
pub mod guest;
#[forbid(unsafe_code)]
pub mod image;
pub mod machine;
#[forbid(unsafe_code)]
pub mod policy;
#[forbid(unsafe_code)]
pub mod run;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
