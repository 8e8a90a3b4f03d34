//! The machine runner that `cargo xtask` and the boot tests share: it boots images, and builds none of what is in them.
//!
//! A [`Scenario`](scenario::Scenario) says what runs; [`bundle`] makes the hypervisor's boot module of it; a
//! [`Machine`](machine::Machine) boots it in QEMU and answers with an [`Outcome`](machine::Outcome).

pub mod bundle;
pub mod images;
pub mod iso;
pub mod machine;
pub mod refusal;
pub mod scenario;
pub mod stress;
pub mod symbols;
pub mod telemetry;

use std::path::Path;

/// The repository's root.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package)
}
