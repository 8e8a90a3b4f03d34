//! What only boot tests need beside the runner.

pub mod screen;
