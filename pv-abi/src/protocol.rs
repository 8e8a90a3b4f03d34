//! Orderings that are part of the ABI, as code that both sides run.

pub mod word;
