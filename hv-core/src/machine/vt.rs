//! The vendors behind the seam of [`crate::dispatch::vt`]: private, so that nothing else can name their insides.

#[cfg(any(test, feature = "testkit"))]
#[forbid(unsafe_code)]
pub mod scripted;
pub mod svm;
