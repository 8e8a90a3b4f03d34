//! `cargo xtask`: everything a developer or a user types.

fn main() {}
