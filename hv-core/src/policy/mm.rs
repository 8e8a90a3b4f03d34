//! Memory: the free frames, nested page tables, and TLB shootdown.

pub mod frames;
pub mod nested;
pub mod shootdown;
