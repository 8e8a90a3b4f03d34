//! Making a guest: what goes where in its memory, and how it starts.

pub mod acpi;

pub use hv_format::load::{Image, LoadError, LoadRequest, Piece, Plan, plan};
