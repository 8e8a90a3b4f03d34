//! Layer 0: the words every other layer is written in.

pub mod addr;
pub mod id;
pub mod time;
