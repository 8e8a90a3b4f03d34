//! Links the small guests by this crate's script; an absolute path, since the linker runs in the workspace's folder.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    let bare = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    if let (true, Ok(folder)) = (bare, env::var("CARGO_MANIFEST_DIR")) {
        println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
    }
}
