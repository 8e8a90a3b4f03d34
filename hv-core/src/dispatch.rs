//! Layer 2: what an exit means.

pub mod device;
