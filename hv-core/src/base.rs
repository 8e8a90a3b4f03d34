//! The words every other room is written in.

pub mod addr;
pub mod control;
pub mod error;
pub mod hardware;
pub mod id;
pub mod lock;
pub mod time;
