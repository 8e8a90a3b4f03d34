//! `cargo xtask doctor`: what this machine can do, and what to type for what it cannot.

use crate::compiler::Compiler;
use crate::failure::{Failure, Outcome};
use crate::linker::Linker;
use crate::workspace;
use runner::machine::{BOCHS, QEMU};
use runner::{images, iso};
use std::collections::BTreeSet;
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
        Finding { subject: "nested KVM", needed: false, verdict: nested() },
        Finding { subject: "this processor", needed: false, verdict: abilities() },
        Finding {
            subject: "Bochs",
            needed: false,
            verdict: program(BOCHS, "`cargo xtask test` and `bench --all` install it"),
        },
        Finding {
            subject: "CD images",
            needed: false,
            verdict: program(iso::GRUB, "`cargo xtask iso` installs what it needs"),
        },
        Finding { subject: "Linux images", needed: false, verdict: linux() },
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
    text.lines().next().map(str::to_owned).ok_or_else(|| format!("{program}: printed nothing"))
}

/// Where a program is, or what brings it.
fn program(name: &str, advice: &str) -> Result<String, String> {
    workspace::in_path(name).map(|path| path.display().to_string()).ok_or_else(|| advice.to_owned())
}

/// Whether Debian's kernel has been fetched, or could be.
fn linux() -> Result<String, String> {
    let kernel = images::linux_kernel();
    if kernel.is_file() {
        return Ok(kernel.display().to_string());
    }
    match ["apt-get", "dpkg"].iter().find(|tool| workspace::in_path(tool).is_none()) {
        None => Err("`cargo xtask linux` and `cargo xtask test` fetch them".into()),
        Some(tool) => Err(format!("no {tool} here to fetch them with; `cargo xtask linux` says what to do")),
    }
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

/// Whether a guest of this host's KVM may use SVM or VMX, and what to type where a module says no.
fn nested() -> Result<String, String> {
    let modules = ["kvm_amd", "kvm_intel"].map(|module| {
        let switch = fs::read_to_string(format!("/sys/module/{module}/parameters/nested")).ok();
        (module, switch)
    });
    judge_modules(&modules)
}

fn judge_modules(modules: &[(&str, Option<String>)]) -> Result<String, String> {
    let loaded = modules.iter().find_map(|(module, switch)| Some((*module, switch.as_ref()?)));
    match loaded {
        Some((module, switch)) if matches!(switch.trim(), "1" | "Y" | "y") => Ok(module.to_owned()),
        Some((module, _)) => {
            Err(format!("off; type `sudo modprobe -r {module} && sudo modprobe {module} nested=1`"))
        }
        None => Err("no KVM module is loaded; only `--accel kvm` needs it".into()),
    }
}

/// What the hypervisor needs of a host's processor by the names of /proc/cpuinfo, and what it uses besides.
const ABILITIES: [(&str, &[&str], &[&str]); 2] = [
    ("svm", &["npt"], &[]),
    ("vmx", &["ept", "vpid", "unrestricted_guest", "vnmi", "vtpr"], &["preemption_timer", "ept_ad", "ple"]),
];

/// What the hypervisor would use of this host's processor, nested or on the bare machine.
fn abilities() -> Result<String, String> {
    let info = fs::read_to_string("/proc/cpuinfo").map_err(|error| format!("/proc/cpuinfo: {error}"))?;
    judge_processor(&info)
}

fn judge_processor(info: &str) -> Result<String, String> {
    let flags: BTreeSet<&str> = info
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| matches!(key.trim(), "flags" | "vmx flags"))
        .flat_map(|(_, flags)| flags.split_ascii_whitespace())
        .collect();
    let found = ABILITIES.iter().find(|(name, _, _)| flags.contains(name));
    let (name, needed, useful) =
        found.ok_or("neither svm nor vmx: switched off in the firmware, or hidden by a hypervisor")?;
    let missing: Vec<&str> = needed.iter().copied().filter(|flag| !flags.contains(flag)).collect();
    if !missing.is_empty() {
        return Err(format!("{name} without {}", missing.join(", ")));
    }
    let used = needed.iter().chain(*useful).copied().filter(|flag| flags.contains(flag));
    Ok(format!("{name}: {}", used.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_off_is_named_with_what_to_type() {
        let of = |amd: Option<&str>, intel: Option<&str>| {
            judge_modules(&[("kvm_amd", amd.map(Into::into)), ("kvm_intel", intel.map(Into::into))])
        };
        assert_eq!(of(Some("1\n"), None), Ok("kvm_amd".into()));
        assert_eq!(of(None, Some("Y\n")), Ok("kvm_intel".into()));
        assert!(of(None, Some("N\n")).is_err_and(|advice| advice.contains("modprobe kvm_intel nested=1")));
        assert!(of(None, None).is_err());
    }

    #[test]
    fn what_a_processor_lacks_is_named() {
        let amd = "flags\t\t: fpu svm npt lbrv\nflags\t\t: fpu svm npt\n";
        assert_eq!(judge_processor(amd), Ok("svm: npt".into()));
        let intel = "flags : fpu vmx ept vpid\nvmx flags : vnmi preemption_timer vtpr ept_ad\n";
        assert_eq!(judge_processor(intel), Err("vmx without unrestricted_guest".into()));
        assert!(judge_processor("flags : fpu").is_err());
    }
}
