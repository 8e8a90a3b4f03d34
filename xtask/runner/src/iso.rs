//! A CD image that boots the hypervisor by GRUB: on a PC's BIOS or UEFI, from a disc or a USB stick, and in Bochs.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What makes it: GRUB's own tool, with its parts for BIOS and for UEFI.
pub const GRUB: &str = "grub-mkrescue";

/// Why there is no image.
#[derive(Debug)]
pub enum IsoError {
    /// A file could not be read or written.
    Files(PathBuf, io::Error),
    /// GRUB's tool is not there.
    NoGrub(io::Error),
    /// GRUB's tool failed: what it said.
    Grub(String),
    /// The command line has what GRUB would take for its own.
    CommandLine(String),
}

impl fmt::Display for IsoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NoGrub(error) => {
                write!(
                    f,
                    "{GRUB}: {error}; packages grub-common grub-pc-bin grub-efi-amd64-bin xorriso mtools"
                )
            }
            Self::Grub(said) => write!(f, "{GRUB}: {said}"),
            Self::CommandLine(words) => {
                write!(f, "command line {words:?}: GRUB passes on only letters, digits and -_=.,:/")
            }
        }
    }
}

impl std::error::Error for IsoError {}

/// Makes an image at `to` of a hypervisor, a bundle, and the hypervisor's command line.
///
/// # Errors
///
/// As [`IsoError`] says.
pub fn make(hypervisor: &Path, bundle: &[u8], command_line: &str, to: &Path) -> Result<(), IsoError> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || " -_=.,:/".contains(letter);
    if !command_line.chars().all(plain) {
        return Err(IsoError::CommandLine(command_line.into()));
    }
    let of = |path: &Path| {
        let path = path.to_path_buf();
        move |error| IsoError::Files(path, error)
    };
    let folder = tempfile::Builder::new().prefix("comity-iso-").tempdir().map_err(of(to))?;
    let boot = folder.path().join("boot");
    let grub = boot.join("grub");
    fs::create_dir_all(&grub).map_err(of(&grub))?;
    fs::copy(hypervisor, boot.join("comity")).map_err(of(hypervisor))?;
    fs::write(boot.join("bundle"), bundle).map_err(of(&boot))?;
    fs::write(grub.join("grub.cfg"), config(command_line)).map_err(of(&grub))?;
    // It takes nothing but what is in that folder, and GRUB's parts.
    let made = Command::new(GRUB).arg("-o").arg(to).arg(folder.path()).stdin(Stdio::null()).output();
    let made = made.map_err(IsoError::NoGrub)?;
    if made.status.success() {
        Ok(())
    } else {
        Err(IsoError::Grub(String::from_utf8_lossy(&made.stderr).trim().to_owned()))
    }
}

/// What GRUB is told: no menu, no question; text on a PC's BIOS, pixels where there is no text (UEFI).
fn config(command_line: &str) -> String {
    format!(
        r#"set timeout=0
menuentry comity {{
  if [ "$grub_platform" = efi ]; then insmod all_video; fi
  multiboot2 /boot/comity {command_line}
  if [ "$grub_platform" = pc ]; then set gfxpayload=text; fi
  module2 /boot/bundle
  boot
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_that_grub_would_read_itself_is_refused() {
        let refused = make(Path::new("/nowhere"), &[], "input=a; halt", Path::new("/nowhere.iso"));
        assert!(matches!(refused, Err(IsoError::CommandLine(_))), "{refused:?}");
        assert!(config("input=a").contains("multiboot2 /boot/comity input=a\n"));
    }
}
