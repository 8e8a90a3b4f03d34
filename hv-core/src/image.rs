//! What a guest starts from: the bundle and its kernels, which hv-format reads, and a PC's tables of ACPI.

pub use hv_format::{bundle, manifest};

pub mod load;
