//! Basic types that every other module uses; those that the bundle and the records need as well are in hv-format.

pub use hv_format::{addr, control, error, id};

pub mod hardware;
pub mod lock;
pub mod time;
