//! Comity: a thin x86-64 microhypervisor with a cooperative guest ABI.
//!
//! Five layers, one folder each; a module names only layers below its own, and `cargo xtask lint` checks it:
//!
//! | layer | module | unsafe |
//! |---|---|---|
//! | 4 composition | `boot`, and the binary | invited per file |
//! | 3 mechanism | [`machine`] | invited per file |
//! | 2 dispatch | [`dispatch`] | forbidden |
//! | 1 policy | [`policy`] | forbidden |
//! | 0 base | [`base`] | forbidden |
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "testkit"))]
extern crate std;

#[forbid(unsafe_code)]
pub mod base;
#[forbid(unsafe_code)]
pub mod dispatch;
pub mod machine;
#[forbid(unsafe_code)]
pub mod policy;
