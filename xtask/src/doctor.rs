//! `cargo xtask doctor`: what this machine can do, and what to type for what it cannot.

use crate::compiler::Compiler;
use crate::failure::{Failure, Outcome};
use crate::linker::Linker;
use crate::workspace;
use ::tests::machine::QEMU;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};

/// One thing looked at: what was found, or what to do about it.
struct Finding {
    subject: &'static str,
    /// Whether a build and a boot need it.
    needed: bool,
    verdict: Result<String, String>,
}

/// Runs the command.
pub fn run() -> Outcome<()> {
    let compiler = Compiler::find();
    let linker = compiler.as_ref().and_then(Linker::find);
    let setup = || "type `cargo xtask setup`".to_owned();
    let findings = [
        Finding { subject: "rust", needed: true, verdict: first_line("rustc", &["--version"]) },
        Finding {
            subject: "bare compiler",
            needed: true,
            verdict: compiler.map(|compiler| compiler.describe()).ok_or_else(setup),
        },
        Finding {
            subject: "linker",
            needed: true,
            verdict: linker.map(|linker| linker.describe().to_owned()).ok_or_else(setup),
        },
        Finding {
            subject: "emulator",
            needed: true,
            verdict: first_line(QEMU, &["--version"]).map_err(|_| setup()),
        },
        Finding { subject: "SVM in TCG", needed: true, verdict: svm_in_tcg() },
        Finding { subject: "/dev/kvm", needed: false, verdict: kvm() },
        Finding { subject: "nested SVM", needed: false, verdict: nested() },
    ];
    for finding in &findings {
        let (mark, text) = match (&finding.verdict, finding.needed) {
            (Ok(found), _) => ("ok     ", found),
            (Err(advice), true) => ("MISSING", advice),
            (Err(advice), false) => ("none   ", advice),
        };
        println!("{mark} {:<14} {text}", finding.subject);
    }
    let missing = findings.iter().filter(|finding| finding.needed && finding.verdict.is_err()).count();
    match missing {
        0 => Ok(()),
        missing => Err(Failure::new(format!("{missing} of what a build and a boot need is missing"))),
    }
}

/// The first line a program prints, or that it is not there.
fn first_line(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned).ok_or_else(|| format!("{program}: says nothing"))
}

/// Asks QEMU for a CPU with SVM and nothing less.
fn svm_in_tcg() -> Result<String, String> {
    if workspace::in_path(QEMU).is_none() {
        return Err("type `cargo xtask setup`".into());
    }
    let old = "this QEMU has no SVM with nested paging: use 7.2 or newer".to_owned();
    let mut child = Command::new(QEMU)
        .args(["-machine", "pc", "-accel", "tcg", "-cpu", "qemu64,+svm,+npt,enforce", "-m", "16", "-S"])
        .args(["-display", "none", "-nodefaults", "-monitor", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{QEMU}: {error}"))?;
    if let Some(mut monitor) = child.stdin.take() {
        // A QEMU that refused the CPU is gone already, and its code says so.
        let _ = monitor.write_all(b"quit\n");
    }
    match child.wait() {
        Ok(status) if status.success() => Ok("svm and npt".into()),
        Ok(_) => Err(old),
        Err(error) => Err(format!("{QEMU}: {error}")),
    }
}

fn kvm() -> Result<String, String> {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Ok("can be opened".into()),
        Err(error) => {
            Err(format!("{error}; only `--accel kvm` needs it (a BIOS setting, or `adduser $USER kvm`)"))
        }
    }
}

/// Whether a guest of this host's KVM may use SVM.
fn nested() -> Result<String, String> {
    let enabled = |module: &str| {
        let switch = fs::read_to_string(format!("/sys/module/{module}/parameters/nested")).ok()?;
        Some(matches!(switch.trim(), "1" | "Y" | "y"))
    };
    match (enabled("kvm_amd"), enabled("kvm_intel")) {
        (Some(true), _) => Ok("kvm_amd".into()),
        (Some(false), _) => {
            Err("off; type `sudo modprobe -r kvm_amd && sudo modprobe kvm_amd nested=1`".into())
        }
        (None, Some(_)) => Err("this is an Intel host, and VMX is not in this version".into()),
        (None, None) => Err("no KVM module is loaded; only `--accel kvm` needs it".into()),
    }
}
