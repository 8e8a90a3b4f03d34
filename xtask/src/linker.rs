//! The linker of everything that boots, and the flags that make a plain executable of it.

use crate::compiler::Compiler;
use crate::workspace;

/// Whether functions keep a frame pointer, so that a panic can name its callers. Costs 0 to 3 % of the instructions of
/// an exit (`bench` under icount, with and without: null call 152 and 153, yield to another vCPU 1,275 and 1,248).
const FRAME_POINTERS: bool = true;

/// A linker that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linker {
    program: String,
    flavor: &'static str,
}

impl Linker {
    /// Returns LLVM's linker, the compiler's own copy of it, or GNU's, whichever is there first.
    pub fn find(compiler: &Compiler) -> Option<Self> {
        let named = |program: &str, flavor| {
            workspace::in_path(program).map(|_| Self { program: program.to_owned(), flavor })
        };
        let shipped = || {
            let rustlib = compiler.sysroot.join("lib/rustlib").read_dir().ok()?;
            let found =
                rustlib.flatten().map(|host| host.path().join("bin/rust-lld")).find(|lld| lld.is_file())?;
            Some(Self { program: found.to_str()?.to_owned(), flavor: "ld.lld" })
        };
        named("ld.lld", "ld.lld").or_else(shipped).or_else(|| named("ld", "ld"))
    }

    /// One line for `doctor`.
    pub fn describe(&self) -> &str {
        &self.program
    }

    /// Flags for the compiler. The target's own defaults are a static PIE and code model kernel.
    pub fn rustflags(&self) -> Vec<String> {
        let mut flags = vec![
            "-Crelocation-model=static".to_owned(),
            "-Ccode-model=small".to_owned(),
            format!("-Clinker={}", self.program),
            format!("-Clinker-flavor={}", self.flavor),
            "-Clink-arg=-no-pie".to_owned(),
            "-Clink-arg=-zmax-page-size=4096".to_owned(),
        ];
        if FRAME_POINTERS {
            flags.push("-Cforce-frame-pointers=yes".to_owned());
        }
        flags
    }
}
