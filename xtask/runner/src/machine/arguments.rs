//! A machine in QEMU's words.

use super::files::{cd, com2, reset_log};
use super::running::bundle;
use super::{Accelerator, Board, Boot, Kind, Machine};
use std::ffi::OsString;
use std::path::Path;

/// UEFI for QEMU (package ovmf).
pub const UEFI: &str = "/usr/share/ovmf/OVMF.fd";

impl Machine {
    /// QEMU's arguments; its own files lie in `folder`, and COM1, or the monitor where there is none, is its standard input and
    /// output.
    pub(super) fn arguments(&self, folder: &Path) -> Vec<OsString> {
        let mut all: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| all.extend(words.iter().map(OsString::from));
        let board = match &self.boot {
            Boot::Hypervisor { .. } => &Board::Pc,
            Boot::Bare { board, .. } => board,
        };
        let accelerator = match self.accelerator {
            // A host thread for each processor; one for all where instructions are counted.
            Accelerator::Tcg if self.icount => "tcg",
            Accelerator::Tcg => "tcg,thread=multi",
            Accelerator::Kvm => "kvm",
        };
        let model = match (&self.cpu_model, self.accelerator) {
            (Some(model), _) => model,
            (None, Accelerator::Tcg) => "max,+svm,+npt",
            (None, Accelerator::Kvm) => "host",
        };
        let board_name = if self.stick { "q35" } else { board.name() };
        add(&["-machine", board_name, "-accel", accelerator, "-cpu", model]);
        add(&["-m", &self.memory_mib.to_string(), "-smp", &self.cpus.to_string()]);
        add(&["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"]);
        if self.exit_device {
            add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        }
        if self.com1 {
            add(&["-chardev", "stdio,id=com1,signal=off", "-serial", "chardev:com1"]);
        } else {
            add(&["-serial", "none", "-vga", "std", "-no-shutdown", "-monitor", "stdio"]);
        }
        if self.icount {
            let pace = if board.has_cable() { "shift=0" } else { "shift=0,sleep=off" };
            add(&["-icount", pace, "-rtc", "base=2026-01-01T00:00:00,clock=vm"]);
        }
        if let Some(port) = self.gdb_port {
            add(&["-S", "-gdb", &format!("tcp:127.0.0.1:{port}")]);
        }
        if !self.command_line.is_empty() && !self.kind.has_cd() {
            add(&["-append", &self.command_line]);
        }
        all.push("-serial".into());
        all.push(prefixed("file:", &com2(folder)));
        // Tells a triple fault from a power-off.
        add_path(&mut all, &["-d", "cpu_reset", "-D"], &reset_log(folder));
        match &self.boot {
            Boot::Hypervisor { .. } if self.kind.has_cd() => {
                if self.stick {
                    let stick = prefixed("if=none,id=stick,format=raw,readonly=on,file=", &cd(folder));
                    all.extend(["-drive".into(), stick]);
                    let words = ["-device", "qemu-xhci", "-device", "usb-storage,drive=stick,bootindex=0"];
                    all.extend(words.map(OsString::from));
                } else {
                    add_path(&mut all, &["-cdrom"], &cd(folder));
                }
                if self.kind == Kind::QemuUefi {
                    add_path(&mut all, &["-bios"], Path::new(UEFI));
                }
            }
            Boot::Hypervisor { image, .. } => {
                add_path(&mut all, &["-kernel"], image);
                add_path(&mut all, &["-initrd"], &bundle(folder));
            }
            Boot::Bare { kernel, initrd, board } => {
                all.extend(board.arguments());
                add_path(&mut all, &["-kernel"], kernel);
                if let Some(initrd) = initrd {
                    add_path(&mut all, &["-initrd"], initrd);
                }
            }
        }
        all
    }
}

fn add_path(all: &mut Vec<OsString>, words: &[&str], path: &Path) {
    all.extend(words.iter().map(OsString::from));
    all.push(path.into());
}

fn prefixed(prefix: &str, path: &Path) -> OsString {
    let mut whole = OsString::from(prefix);
    whole.push(path);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Device;

    fn spelled(machine: &Machine) -> String {
        let arguments = machine.arguments(Path::new("/run"));
        arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_counted_machine_keeps_its_clock_in_instructions() {
        let machine = Machine::bare("/k.elf").command_line("a").command_line("b=1");
        let plain = spelled(&machine);
        assert!(plain.contains("-append a b=1 ") && plain.contains("-kernel /k.elf"), "{plain}");
        assert!(
            !plain.contains("icount") && !plain.contains("-initrd") && !plain.contains("-gdb"),
            "{plain}"
        );
        let counted = spelled(&machine.icount().gdb(1234));
        assert!(
            counted.contains("-icount shift=0,sleep=off -rtc base=2026-01-01T00:00:00,clock=vm"),
            "{counted}"
        );
        assert!(counted.contains("-S -gdb tcp:127.0.0.1:1234"), "{counted}");
    }

    #[test]
    fn a_bare_kernel_gets_the_devices_of_its_board() {
        let machine = Machine::bare("/k").icount();
        assert!(spelled(&machine).contains("-machine pc "));
        let disk = Device::Disk("/disk".into());
        let words = spelled(&machine.clone().board(Board::MicroVm(vec![disk.clone()])));
        assert!(words.contains("-machine microvm,acpi=on ") && words.contains("sleep=off"), "{words}");
        assert!(words.contains("file=/disk -device virtio-blk-device,drive=disk0"), "{words}");
        let cable = Device::Net { number: 10, own: "/a".into(), other: "/b".into() };
        let words = spelled(&machine.board(Board::MicroVm(vec![disk, cable])));
        assert!(words.contains("local.path=/a,remote.type=unix,remote.path=/b"), "{words}");
        assert!(
            words.contains("netdev=net1,mac=52:54:00:00:00:0a") && !words.contains("sleep=off"),
            "{words}"
        );
    }

    #[test]
    fn the_hypervisor_gets_the_bundle_as_its_module() {
        let machine = Machine::of_bundle(vec![1]).hypervisor("/hv".into()).cpu_model("qemu64,-svm");
        let words = spelled(&machine);
        assert!(words.contains("-kernel /hv -initrd /run/bundle"), "{words}");
        assert!(words.contains("-accel tcg,thread=multi -cpu qemu64,-svm"), "{words}");
        assert!(spelled(&machine.accelerator(Accelerator::Kvm)).contains("-accel kvm"));
    }
}
