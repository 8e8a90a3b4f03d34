//! From the TOML form to a scenario: names resolved, copies expanded, limits kept.

use super::schema::{File, GuestTable};
use super::{Disk, Guest, HYPERVISOR_MIB, MAX_TIMEOUT_S, MachineConfig, Scenario, Source};
use crate::images;
use crate::refusal::Refusal;
use hv_format::addr::PAGE_BYTES;
use hv_format::id::{self, MAX_GUESTS, MAX_VCPUS, MAX_VCPUS_PER_GUEST};
use hv_format::manifest::{
    ChannelConfig, MAX_COMMAND_LINE_BYTES, MAX_MEMORY_MIB, MAX_NAME_BYTES, MAX_NETWORK_CARDS, MAX_NETWORKS,
    MAX_WRITABLE_PAGES, Mode, Visibility, channels_of,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most processors of a machine.
const MAX_CPUS: u8 = 64;
const _: () = assert!(MAX_CPUS as usize == id::MAX_CPUS);

/// Resolves names and expands copies.
pub(super) fn resolve(file: File, source: Source) -> Result<Scenario, Refusal> {
    let machine = machine(&file, &source)?;
    let mut guests = Vec::new();
    for table in &file.guest {
        let at = table.span().start;
        expand(table.get_ref(), at, &source, &mut guests)?;
    }
    let index = |name: &str| guests.iter().position(|guest| guest.name == name);
    let (mut channels, mut channels_at) = (Vec::new(), Vec::new());
    for table in &file.channel {
        let (at, channel) = (table.span().start, table.get_ref());
        let end = |name: &String| {
            let known = index(name).and_then(|number| u16::try_from(number).ok());
            known.ok_or_else(|| source.refuse(at, "ends", format!("key 'ends': no guest is named '{name}'")))
        };
        let [first, second] = &channel.ends;
        if !(1..=64).contains(&channel.pages) {
            let message = format!("key 'pages': {}, expected 1 to 64", channel.pages);
            return Err(source.refuse(at, "pages", message));
        }
        channels.push(ChannelConfig { ends: [end(first)?, end(second)?], pages: channel.pages });
        channels_at.push(at);
    }
    let input = match &file.input {
        None => None,
        Some(table) => {
            let name = &table.get_ref().guest;
            if index(name).is_none() {
                let message = format!("key 'guest': no guest is named '{name}'");
                return Err(source.refuse(table.span().start, "guest", message));
            }
            Some(name.clone())
        }
    };
    let terminal = file.input.as_ref().is_some_and(|input| input.get_ref().terminal);
    Ok(Scenario { machine, guests, channels, input, terminal, channels_at, source })
}

fn machine(file: &File, source: &Source) -> Result<MachineConfig, Refusal> {
    let table = &file.machine;
    let (cpus, timeout_s) = (*table.cpus.get_ref(), *table.timeout_s.get_ref());
    let out_of_bounds = |at: usize, message: String| Refusal {
        file: source.file.clone(),
        line: Some(source.line_at(at)),
        message,
    };
    if !(1..=MAX_CPUS).contains(&cpus) {
        let message = format!("key 'cpus': {cpus}, expected 1 to {MAX_CPUS}");
        return Err(out_of_bounds(table.cpus.span().start, message));
    }
    if !(1..=MAX_TIMEOUT_S).contains(&timeout_s) {
        let message = format!("key 'timeout_s': {timeout_s}, expected 1 to {MAX_TIMEOUT_S}");
        return Err(out_of_bounds(table.timeout_s.span().start, message));
    }
    Ok(MachineConfig {
        memory_mib: table.memory_mib,
        cpus,
        icount: table.icount,
        tsc: table.tsc,
        timeout: Duration::from_secs(u64::from(timeout_s)),
    })
}

/// Adds the guests of one table.
fn expand(table: &GuestTable, at: usize, source: &Source, guests: &mut Vec<Guest>) -> Result<(), Refusal> {
    let refuse = |key: &str, message: String| source.refuse(at, key, format!("key '{key}': {message}"));
    let mode = match table.mode.as_str() {
        "full" => Mode::Full,
        "cooperative" => Mode::Cooperative,
        "kvm" => Mode::Kvm,
        "containers" => return Err(refuse("mode", "'containers' is not in this version".into())),
        other => return Err(refuse("mode", format!("'{other}', expected 'full', 'kvm' or 'cooperative'"))),
    };
    let visibility = match table.visibility.as_str() {
        "none" => Visibility::None,
        "bit" => Visibility::Bit,
        "rows" => return Err(refuse("visibility", "'rows' is not in this version".into())),
        other => return Err(refuse("visibility", format!("'{other}', expected 'none' or 'bit'"))),
    };
    let names = match table.count {
        None => vec![table.name.clone()],
        Some(0) => return Err(refuse("count", "0, expected at least 1".into())),
        Some(count) => (0..count).map(|number| format!("{}-{number}", table.name)).collect(),
    };
    if table.disk.is_none() && table.disk_writable_mib != 0 {
        return Err(refuse("disk_writable_mib", "the guest has no 'disk' that it could change".into()));
    }
    if guests.len() + names.len() > MAX_GUESTS {
        return Err(refuse("count", format!("more than {MAX_GUESTS} guests together")));
    }
    let beside = source.file.parent().unwrap_or(Path::new(""));
    guests.extend(names.into_iter().map(|name| {
        Guest {
            name,
            kernel: kernel(&table.kernel, beside),
            initrd: table.initrd.as_ref().map(|named| match named.as_str() {
                LINUX => images::linux_initrd(),
                path => beside.join(path),
            }),
            disk: table
                .disk
                .as_ref()
                .map(|path| Disk { image: beside.join(path), writable_mib: table.disk_writable_mib }),
            network: table.network.clone(),
            virtio_console: table.virtio_console,
            entropy: table.entropy,
            balloon: table.balloon,
            mode,
            vcpus: table.vcpus,
            memory_mib: table.memory_mib,
            memory_max_mib: table.memory_max_mib,
            weight: table.weight,
            visibility,
            restarts: table.restarts,
            command_line: table.command_line.clone(),
            pin: table.pin.clone(),
            mark_port: table.mark_port,
            table_at: at,
        }
    }));
    Ok(())
}

/// Debian's kernel, and its initial RAM disk.
const LINUX: &str = "linux";

/// A plain word is one of our images; anything else is a path.
fn kernel(named: &str, beside: &Path) -> PathBuf {
    match named {
        LINUX => images::linux_kernel(),
        path if path.contains(['/', '.']) => beside.join(path),
        image => images::guest(image),
    }
}

impl Scenario {
    /// Checks what has no table to blame alone, and every guest's limits.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.guests.is_empty() {
            return Err(Refusal::of_file(&self.source.file, "no [[guest]] in it, nothing to run"));
        }
        for (number, guest) in self.guests.iter().enumerate() {
            self.check_guest(guest)?;
            if self.guests.iter().take(number).any(|earlier| earlier.name == guest.name) {
                let message = format!("key 'name': two guests are named '{}'", guest.name);
                return Err(self.source.refuse(guest.table_at, "name", message));
            }
        }
        self.check_channels()?;
        self.check_together()?;
        self.check_memory(0, 0)
    }

    /// Refuses the first channel that, with all before it, is one too many for one of its guests.
    fn check_channels(&self) -> Result<(), Refusal> {
        for (number, (channel, at)) in self.channels.iter().zip(&self.channels_at).enumerate() {
            let up_to_here = self.channels.get(..=number).unwrap_or_default();
            for end in channel.ends {
                let Some(guest) = self.guests.get(usize::from(end)) else { continue };
                if let Some(what) = guest.mode.too_many_channels(channels_of(up_to_here, end)) {
                    let message = format!("key 'ends': guest '{}': with all before it {what}", guest.name);
                    return Err(self.source.refuse(*at, "ends", message));
                }
            }
        }
        Ok(())
    }

    /// Refuses the first guest that, with all before it, has more of something than the hypervisor has room for.
    fn check_together(&self) -> Result<(), Refusal> {
        let networks = self.networks();
        let (mut vcpus, mut cards, mut writable_mib) = (0, 0, 0);
        for guest in &self.guests {
            vcpus += u64::from(guest.vcpus);
            cards += u64::from(guest.network.is_some());
            writable_mib += guest.disk.as_ref().map_or(0, |disk| u64::from(disk.writable_mib));
            let network = networks.iter().position(|name| Some(*name) == guest.network.as_ref());
            let bounds = [
                ("vcpus", vcpus, MAX_VCPUS as u64, "vCPUs"),
                ("network", cards, MAX_NETWORK_CARDS, "network cards"),
                ("network", network.map_or(0, |number| number as u64 + 1), MAX_NETWORKS.into(), "networks"),
                (
                    "disk_writable_mib",
                    writable_mib,
                    MAX_WRITABLE_PAGES >> 8,
                    "MiB of disks that guests may change",
                ),
            ];
            if let Some((key, wanted, most, what)) =
                bounds.into_iter().find(|(_, wanted, most, _)| wanted > most)
            {
                let message = format!(
                    "guest '{}': key '{key}': with all before it {wanted} {what}, expected at most {most}",
                    guest.name
                );
                return Err(self.source.refuse(guest.table_at, key, message));
            }
        }
        Ok(())
    }

    fn check_guest(&self, guest: &Guest) -> Result<(), Refusal> {
        let refuse = |key: &str, message: String| {
            Err(self.source.refuse(
                guest.table_at,
                key,
                format!("guest '{}': key '{key}': {message}", guest.name),
            ))
        };
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=MAX_NAME_BYTES).contains(&guest.name.len()) || !guest.name.bytes().all(letter) {
            return refuse("name", format!("expected 1 to {MAX_NAME_BYTES} of a-z A-Z 0-9 - _"));
        }
        if !(1..=MAX_VCPUS_PER_GUEST).contains(&usize::from(guest.vcpus)) {
            return refuse("vcpus", format!("{}, expected 1 to {MAX_VCPUS_PER_GUEST}", guest.vcpus));
        }
        if !(4..=MAX_MEMORY_MIB).contains(&guest.memory_mib) || !guest.memory_mib.is_multiple_of(2) {
            let message =
                format!("{}, expected a multiple of 2 from 4 to {MAX_MEMORY_MIB}", guest.memory_mib);
            return refuse("memory_mib", message);
        }
        let (least, most) = (guest.memory_mib, guest.most_mib());
        if !(least..=MAX_MEMORY_MIB).contains(&most) || !most.is_multiple_of(2) {
            let message = format!("{most}, expected a multiple of 2 from {least} to {MAX_MEMORY_MIB}");
            return refuse("memory_max_mib", message);
        }
        if !(1..=10_000).contains(&guest.weight) {
            return refuse("weight", format!("{}, expected 1 to 10000", guest.weight));
        }
        let length = guest.command_line.len();
        if length > MAX_COMMAND_LINE_BYTES {
            return refuse(
                "command_line",
                format!("{length} bytes, expected at most {MAX_COMMAND_LINE_BYTES}"),
            );
        }
        if guest.pin.len() > MAX_VCPUS_PER_GUEST {
            return refuse(
                "pin",
                format!("{} entries, expected at most {MAX_VCPUS_PER_GUEST}", guest.pin.len()),
            );
        }
        if let Some(cpu) = guest.pin.iter().find(|cpu| **cpu >= self.machine.cpus) {
            return refuse(
                "pin",
                format!("processor {cpu}, the machine has {} from 0 on", self.machine.cpus),
            );
        }
        let devices = [
            ("disk", guest.disk.is_some()),
            ("network", guest.network.is_some()),
            ("virtio_console", guest.virtio_console),
            ("entropy", guest.entropy),
            ("balloon", guest.balloon),
        ];
        if let Some((key, _)) = devices.iter().find(|(_, wanted)| *wanted && guest.mode == Mode::Cooperative)
        {
            return refuse(key, "a cooperative guest has no devices; expected mode 'full' or 'kvm'".into());
        }
        if guest.command_line.contains('\0') {
            return refuse("command_line", "a zero byte in it".into());
        }
        Ok(())
    }

    /// Refuses the first guest, or else the first channel, whose memory, with all before it, the bundle and the hypervisor, is
    /// more than there is.
    pub(super) fn check_memory(&self, bundle_bytes: u64, more_heap_bytes: u64) -> Result<(), Refusal> {
        let total_mib = u64::from(self.machine.memory_mib);
        let own_mib = HYPERVISOR_MIB + more_heap_bytes.div_ceil(1 << 20);
        let mut needed_mib = own_mib + bundle_bytes.div_ceil(1 << 20);
        let refuse = |at: usize, who: &str, key: &str, needed_mib: u64| {
            let message = format!(
                "{who}: key '{key}': with all before it {needed_mib} MiB are needed ({own_mib} of them by the hypervisor), the \
                 machine has {total_mib}"
            );
            Err(self.source.refuse(at, key, message))
        };
        for guest in &self.guests {
            needed_mib += u64::from(guest.memory_mib);
            if needed_mib > total_mib {
                return refuse(guest.table_at, &format!("guest '{}'", guest.name), "memory_mib", needed_mib);
            }
        }
        let mut pages = 0;
        for ((channel, at), number) in self.channels.iter().zip(&self.channels_at).zip(0_u32..) {
            pages += u64::from(channel.pages);
            let needed_mib = needed_mib + pages.div_ceil((1 << 20) / PAGE_BYTES);
            if needed_mib > total_mib {
                return refuse(*at, &format!("channel {number}"), "pages", needed_mib);
            }
        }
        Ok(())
    }
}
