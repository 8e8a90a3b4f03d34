//! A machine in Bochs' words: a configuration file, and commands for its debugger.

use super::files::{cd, com2};
use super::{Kind, Machine};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

/// Most triple faults that one run goes on after.
const MAX_TRIPLE_FAULTS: usize = 1000;

/// Makes the files that Bochs wants. Its COM1 connects to what is answered.
pub(super) fn prepare(machine: &Machine, folder: &Path) -> io::Result<TcpListener> {
    let com1 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    com1.set_nonblocking(true)?;
    fs::write(folder.join("bochsrc"), configuration(machine, folder, com1.local_addr()?))?;
    // Its debugger is compiled in: it waits for commands before the first instruction, and after the machine's end.
    // It stops at each triple fault besides, a guest's too.
    fs::write(folder.join("commands"), "c\n".repeat(MAX_TRIPLE_FAULTS) + "q\n")?;
    Ok(com1)
}

/// Its arguments.
pub(super) fn arguments(folder: &Path) -> Vec<OsString> {
    let words = ["-q", "-f", "bochsrc", "-rc", "commands"];
    let in_folder = |word: &str| match word {
        "bochsrc" | "commands" => folder.join(word).into(),
        _ => word.into(),
    };
    words.into_iter().map(in_folder).collect()
}

/// What Bochs is asked for. Time is counted in instructions, one a nanosecond. Its screen is for whoever connects by VNC (port 5900
/// and up): the one for terminals writes to a pseudo-terminal that nobody reads, and stops for good when that is full. A triple fault,
/// which it calls a panic of its processor's, is left to the machine.
fn configuration(machine: &Machine, folder: &Path, com1: SocketAddr) -> String {
    let usual = if machine.kind == Kind::BochsAmd { "ryzen" } else { "corei7_skylake_x" };
    let on_triple_fault: String = (0..machine.cpus).map(|cpu| format!(", cpu{cpu}=report")).collect();
    let model = machine.cpu_model.as_deref().unwrap_or(usual);
    format!(
        "display_library: rfb, options=\"timeout=0\"\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
         vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
         memory: guest={mib}, host={mib}\n\
         cpu: model={model}, count={cpus}, ips=1000000000, reset_on_triple_fault=0\n\
         clock: sync=none, time0=1000000000\n\
         ata0-master: type=cdrom, path={cd}, status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, mode=socket-client, dev={com1}\n\
         com2: enabled=1, mode=file, dev={com2}\n\
         panic: action=fatal{on_triple_fault}\nerror: action=ignore\ninfo: action=ignore\ndebug: action=ignore\n\
         log: {log}\n\
         sound: waveoutdrv=dummy\n",
        mib = machine.memory_mib,
        cpus = machine.cpus,
        cd = cd(folder).display(),
        com2 = com2(folder).display(),
        log = folder.join("log").display(),
    )
}
