//! The vendors behind the seam of [`crate::dispatch::vt`]: private, so that nothing else can name their insides.

pub mod svm;
