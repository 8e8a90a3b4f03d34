//! Layer 0: the words every other layer is written in.

pub mod addr;
pub mod error;
pub mod hardware;
pub mod id;
pub mod lock;
pub mod time;
