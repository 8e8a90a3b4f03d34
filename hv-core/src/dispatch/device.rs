//! Emulated devices: safe code that no guest value can panic.
