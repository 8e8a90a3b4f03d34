//! Hands the linker the script of the bootable ELF, by absolute path: a workspace has no other way.

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rerun-if-changed=link.ld");
    println!("cargo::rustc-link-arg-bin=comity=-T{here}/link.ld");
}
