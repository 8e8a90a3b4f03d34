//! The words every other room is written in; those that the bundle and the records need too are hv-format's.

pub use hv_format::{addr, control, error, id};

pub mod hardware;
pub mod lock;
pub mod time;
