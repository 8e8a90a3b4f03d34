//! What boots: the machine runner that `cargo xtask` and the boot tests share.
