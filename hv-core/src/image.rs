//! What a guest starts from: the bundle's format, and the kernels and tables that are loaded from it.

pub mod bundle;
pub mod load;
pub mod manifest;
