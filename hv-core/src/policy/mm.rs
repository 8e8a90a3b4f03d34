//! Memory: which frames are free, and what a guest's physical addresses mean.

pub mod frames;
pub mod nested;
pub mod shootdown;
