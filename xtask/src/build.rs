//! `cargo xtask build`: everything that boots, into `target/images`.

use crate::compiler::{Compiler, Library, TARGET};
use crate::failure::{Attempt, Failure, Outcome};
use crate::linker::Linker;
use crate::{setup, workspace};
use hv_format::load;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where an image ends at the latest: the small code model's bound.
const MAX_IMAGE_END_BYTES: u64 = 2 << 30;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only the hypervisor, or only the guests.
    #[arg(long, value_enum)]
    only: Option<Package>,
}

/// A package with images in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Package {
    /// The hypervisor.
    Hypervisor,
    /// The small guests.
    Guests,
}

impl Package {
    fn name(self) -> &'static str {
        match self {
            Self::Hypervisor => "hv-core",
            Self::Guests => "guest-kernel-shim",
        }
    }

    /// Names of its bootable binaries.
    fn binaries(self, root: &Path) -> Vec<String> {
        match self {
            Self::Hypervisor => vec!["comity".to_owned()],
            Self::Guests => binaries_in(&root.join(self.name()).join("src/bin")),
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let images = match arguments.only {
        Some(package) => build(&[package])?,
        None => all()?,
    };
    let root = workspace::root();
    for image in images {
        println!("image: {}", image.strip_prefix(&root).unwrap_or(&image).display());
    }
    Ok(())
}

/// Builds every image and returns their paths.
pub fn all() -> Outcome<Vec<PathBuf>> {
    build(&[Package::Hypervisor, Package::Guests])
}

fn build(packages: &[Package]) -> Outcome<Vec<PathBuf>> {
    let (compiler, linker) = setup::toolchain()?;
    let root = workspace::root();
    let mut images = Vec::new();
    for package in packages {
        images.extend(build_package(*package, &compiler, &linker, &root)?);
    }
    Ok(images)
}

fn build_package(
    package: Package,
    compiler: &Compiler,
    linker: &Linker,
    root: &Path,
) -> Outcome<Vec<PathBuf>> {
    let name = package.name();
    let binaries = package.binaries(root);
    if binaries.is_empty() {
        return Err(Failure::new(format!("{name}/src/bin: no binary in it, nothing to boot")));
    }
    let script = root.join(name).join("link.ld");
    if !script.is_file() {
        return Err(Failure::new(format!("{name}/link.ld: no linker script, nothing to boot")));
    }
    let target = root.join("target").join(compiler.target_folder());
    let mut cargo = Command::new(workspace::cargo());
    cargo.current_dir(root).args([
        "build",
        "--release",
        "--target",
        TARGET,
        "--features",
        "boot",
        "-p",
        name,
    ]);
    cargo.arg("--target-dir").arg(&target);
    for binary in &binaries {
        cargo.args(["--bin", binary]);
    }
    cargo.env("RUSTC", &compiler.rustc).env_remove("RUSTFLAGS");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", linker.rustflags().join("\u{1f}"));
    match compiler.library {
        Library::Prebuilt => {}
        Library::FromSource => {
            cargo.env("RUSTC_BOOTSTRAP", "1").args([
                "-Zbuild-std=core,alloc,compiler_builtins",
                "-Zbuild-std-features=compiler-builtins-mem",
            ]);
        }
    }
    if !cargo.status().attempt("cargo")?.success() {
        return Err(Failure::new(format!("{name}: not built, see above")));
    }
    let images = workspace::images();
    fs::create_dir_all(&images).attempt(images.display())?;
    let built = target.join(TARGET).join("release");
    binaries.iter().map(|binary| publish(&built.join(binary), &images.join(binary))).collect()
}

/// Refuses what came out of the linker and no loader would take: a linker script that was not applied shows here.
fn check(image: &Path) -> Outcome<()> {
    let bytes = fs::read(image).attempt(image.display())?;
    let request = load::LoadRequest {
        ram_bytes: MAX_IMAGE_END_BYTES,
        kernel: &bytes,
        initrd: None,
        command_line: "",
        acpi: None,
    };
    load::plan(&request).map(|_| ()).attempt(image.display())
}

/// Copies an image to where it is looked for, in one step: a machine may be starting from the old one.
fn publish(from: &Path, to: &Path) -> Outcome<PathBuf> {
    check(from)?;
    let staged = to.with_extension("new");
    fs::copy(from, &staged).attempt(from.display())?;
    fs::rename(&staged, to).attempt(to.display())?;
    Ok(to.to_path_buf())
}

/// The binaries cargo finds in a `src/bin`: `NAME.rs` and `NAME/main.rs`, in order of name.
fn binaries_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let name = |path: PathBuf| {
        let binary =
            path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").is_file();
        binary.then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned())).flatten()
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| name(entry.path())).collect();
    names.sort();
    names
}
