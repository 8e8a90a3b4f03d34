//! A bundle is an untrusted file: the parser checks every field before it uses it.

use crate::addr::PAGE_BYTES;
use crate::id::{MAX_CPUS, MAX_GUESTS, MAX_VCPUS_PER_GUEST};
use crate::manifest::{
    DiskConfig, GuestConfig, HEADER_BYTES, MAGIC, MAX_COMMAND_LINE_BYTES, MAX_MEMORY_MIB, MAX_NAME_BYTES,
    MAX_NETWORK_CARDS, MAX_NETWORKS, MAX_WRITABLE_PAGES, Manifest, Payload, channels_of,
};
use alloc::string::String;
use core::fmt;

/// A checked bundle: the manifest, and the bytes that hold its payloads.
pub struct Bundle<'a> {
    manifest: Manifest,
    bytes: &'a [u8],
}

/// A field of a guest's or a channel's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Empty, too long, or with a letter that is not allowed.
    Name,
    /// Zero, or more than 64.
    Vcpus,
    /// Below 4 MiB, above 3 GiB, or no multiple of 2 MiB.
    MemoryMib,
    /// Less than the guest's initial memory, above 3 GiB, or no multiple of 2 MiB.
    MemoryMaxMib,
    /// Outside 1 … 10,000.
    Weight,
    /// Not on a page, empty, or outside the bundle.
    Kernel,
    /// Not on a page, empty, or outside the bundle.
    Initrd,
    /// Too long, or with a zero byte.
    CommandLine,
    /// Not on a page, empty, outside the bundle, or no multiple of 512 bytes.
    Disk,
    /// Not below 16.
    Network,
    /// More than 64 entries, or a processor beyond the 64th.
    Pin,
    /// More than 64 ends, or more pages than fit into the window, for a guest that has its channels there.
    Channels,
}

/// Why a bundle is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// The file is shorter than its header or its manifest requires; carries the file's length in bytes.
    Truncated(u64),
    /// The first bytes are not [`MAGIC`].
    NotABundle,
    /// The manifest does not decode.
    Manifest,
    /// The bundle has no guest, or more guests than the hypervisor can hold; carries their number.
    GuestCount(usize),
    /// A field of a guest is wrong.
    Guest {
        /// The guest's name, or its number if the name is wrong.
        guest: String,
        /// The field that is wrong.
        field: Field,
    },
    /// Two guests have one name.
    SameName(String),
    /// The bundle wants more of a resource than the hypervisor has room for.
    TooMany {
        /// Name of the resource.
        what: &'static str,
        /// Amount that the bundle wants.
        wanted: u64,
        /// Largest amount allowed.
        most: u64,
    },
    /// A channel names a guest that does not exist, or has no or too many pages; carries the channel's index.
    Channel(usize),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(len) => write!(f, "bundle: truncated at {len} bytes"),
            Self::NotABundle => write!(f, "bundle: does not begin with COMITYB3"),
            Self::Manifest => write!(f, "bundle: the manifest does not decode"),
            Self::GuestCount(n) => write!(f, "bundle: {n} guests, expected 1 to {MAX_GUESTS}"),
            Self::Guest { guest, field } => write!(f, "bundle: guest {guest}: bad field {field:?}"),
            Self::SameName(name) => write!(f, "bundle: two guests are named {name}"),
            Self::TooMany { what, wanted, most } => {
                write!(f, "bundle: {wanted} {what}, expected at most {most}")
            }
            Self::Channel(n) => write!(f, "bundle: channel {n}: unknown guest or bad page count"),
        }
    }
}

impl<'a> Bundle<'a> {
    /// Checks a bundle field by field.
    ///
    /// # Errors
    ///
    /// The first error found.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let truncated = BundleError::Truncated(bytes.len() as u64);
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(truncated.clone())?;
        let (magic, len) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(BundleError::NotABundle);
        }
        let len = <[u8; 8]>::try_from(len).map(u64::from_le_bytes).map_err(|_| truncated.clone())?;
        let len = usize::try_from(len).map_err(|_| truncated.clone())?;
        let manifest = rest.get(..len).ok_or(truncated)?;
        let manifest: Manifest = postcard::from_bytes(manifest).map_err(|_| BundleError::Manifest)?;
        if manifest.guests.is_empty() || manifest.guests.len() > MAX_GUESTS {
            return Err(BundleError::GuestCount(manifest.guests.len()));
        }
        for (number, guest) in manifest.guests.iter().enumerate() {
            check_guest(guest, number, bytes.len() as u64)?;
            if manifest.guests.iter().take(number).any(|earlier| earlier.name == guest.name) {
                return Err(BundleError::SameName(guest.name.clone()));
            }
        }
        let devices = || manifest.guests.iter().map(|guest| guest.devices);
        let cards = devices().filter(|devices| devices.network.is_some()).count() as u64;
        let pages =
            devices().filter_map(|devices| devices.disk).map(|disk| u64::from(disk.writable_pages)).sum();
        let bounds = [
            ("network cards", cards, MAX_NETWORK_CARDS),
            ("pages of disks that may be changed", pages, MAX_WRITABLE_PAGES),
        ];
        if let Some((what, wanted, most)) = bounds.into_iter().find(|(_, wanted, most)| wanted > most) {
            return Err(BundleError::TooMany { what, wanted, most });
        }
        for (number, channel) in manifest.channels.iter().enumerate() {
            let known = channel.ends.iter().all(|end| usize::from(*end) < manifest.guests.len());
            if !known || !(1..=64).contains(&channel.pages) {
                return Err(BundleError::Channel(number));
            }
        }
        for (guest, number) in manifest.guests.iter().zip(0..) {
            let mine = channels_of(&manifest.channels, number);
            if guest.mode.too_many_channels(mine).is_some() {
                return Err(BundleError::Guest { guest: guest.name.clone(), field: Field::Channels });
            }
        }
        Ok(Self { manifest, bytes })
    }

    /// Returns the manifest, whose fields are checked.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the bytes of a payload of this bundle's manifest; empty for a payload outside the bundle.
    pub fn payload(&self, payload: Payload) -> &'a [u8] {
        bounds(payload, self.bytes.len() as u64)
            .and_then(|(start, end)| self.bytes.get(start..end))
            .unwrap_or_default()
    }
}

fn check_guest(guest: &GuestConfig, number: usize, bundle_bytes: u64) -> Result<(), BundleError> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if guest.name.is_empty() || guest.name.len() > MAX_NAME_BYTES || !guest.name.bytes().all(letter) {
        return Err(BundleError::Guest { guest: alloc::format!("#{number}"), field: Field::Name });
    }
    let even = |mib: u32| mib.is_multiple_of(2);
    let sound = |payload: Payload| bounds(payload, bundle_bytes).is_some();
    let sectors = |disk: DiskConfig| sound(disk.image) && disk.image.len_bytes.is_multiple_of(512);
    let GuestConfig { memory_mib: least, memory_max_mib: most, ref command_line, ref pin, .. } = *guest;
    let checks = [
        (Field::Vcpus, (1..=MAX_VCPUS_PER_GUEST).contains(&usize::from(guest.vcpus))),
        (Field::MemoryMib, (4..=MAX_MEMORY_MIB).contains(&least) && even(least)),
        (Field::MemoryMaxMib, (least..=MAX_MEMORY_MIB).contains(&most) && even(most)),
        (Field::Weight, (1..=10_000).contains(&guest.weight)),
        (Field::Kernel, sound(guest.kernel)),
        (Field::Initrd, guest.initrd.is_none_or(sound)),
        (Field::CommandLine, command_line.len() <= MAX_COMMAND_LINE_BYTES && !command_line.contains('\0')),
        (Field::Disk, guest.devices.disk.is_none_or(sectors)),
        (Field::Network, guest.devices.network.is_none_or(|network| network < MAX_NETWORKS)),
        (Field::Pin, pin.len() <= MAX_VCPUS_PER_GUEST && pin.iter().all(|cpu| usize::from(*cpu) < MAX_CPUS)),
    ];
    match checks.into_iter().find(|(_, is_sound)| !is_sound) {
        Some((field, _)) => Err(BundleError::Guest { guest: guest.name.clone(), field }),
        None => Ok(()),
    }
}

/// Returns the first byte and the end of a payload; `None` unless it starts on a page, is not empty, and lies in a bundle of
/// `bundle_bytes`.
fn bounds(payload: Payload, bundle_bytes: u64) -> Option<(usize, usize)> {
    let end = payload.offset_bytes.checked_add(payload.len_bytes).filter(|end| *end <= bundle_bytes)?;
    let sound = payload.offset_bytes.is_multiple_of(PAGE_BYTES) && payload.len_bytes > 0;
    sound.then_some((usize::try_from(payload.offset_bytes).ok()?, usize::try_from(end).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{GuestId, VcpuIndex};
    use crate::manifest::{ChannelConfig, Devices, Mode, TscTrust, Visibility};
    use std::vec::Vec;

    fn guest(name: &str) -> GuestConfig {
        GuestConfig {
            name: name.into(),
            mode: Mode::Full,
            vcpus: 1,
            memory_mib: 4,
            memory_max_mib: 4,
            weight: 100,
            visibility: Visibility::Bit,
            restarts: 0,
            kernel: Payload { offset_bytes: 4096, len_bytes: 10 },
            initrd: None,
            command_line: String::new(),
            pin: Vec::new(),
            devices: Devices::default(),
            mark_port: false,
        }
    }

    fn bundle(manifest: &Manifest) -> Vec<u8> {
        let body = postcard::to_allocvec(manifest).unwrap();
        let mut bytes = MAGIC.to_vec();
        bytes.extend((body.len() as u64).to_le_bytes());
        bytes.extend(body);
        bytes.resize(4096 + 10, 7);
        bytes
    }

    fn verdict(change: impl FnOnce(&mut Manifest)) -> Option<BundleError> {
        let mut manifest =
            Manifest { tsc: TscTrust::Invariant, guests: [guest("a")].into(), channels: Vec::new() };
        change(&mut manifest);
        Bundle::parse(&bundle(&manifest)).err()
    }

    #[test]
    fn a_sound_bundle_gives_its_payloads() {
        let manifest = Manifest { tsc: TscTrust::Trusted, guests: [guest("a")].into(), channels: Vec::new() };
        let bytes = bundle(&manifest);
        let parsed = Bundle::parse(&bytes).ok().unwrap();
        assert_eq!(parsed.manifest(), &manifest);
        assert_eq!(parsed.payload(manifest.guests[0].kernel), [7; 10]);
    }

    #[test]
    fn a_bad_field_is_refused_by_guest_and_field() {
        type Spoil = fn(&mut GuestConfig);
        let cases: [(Spoil, Field); 11] = [
            (|g| g.vcpus = 65, Field::Vcpus),
            (|g| g.vcpus = 0, Field::Vcpus),
            (|g| g.memory_mib = 5, Field::MemoryMib),
            (|g| g.memory_max_mib = 2, Field::MemoryMaxMib),
            (|g| g.memory_max_mib = 3074, Field::MemoryMaxMib),
            (|g| g.weight = 0, Field::Weight),
            (|g| g.kernel.len_bytes = u64::MAX, Field::Kernel),
            (|g| g.initrd = Some(Payload { offset_bytes: 1, len_bytes: 1 }), Field::Initrd),
            (|g| g.command_line = "x".repeat(2048), Field::CommandLine),
            (|g| g.pin = [0, 64].into(), Field::Pin),
            (|g| g.pin = [0; 65].into(), Field::Pin),
        ];
        for (spoil, field) in cases {
            let expected = BundleError::Guest { guest: "a".into(), field };
            assert_eq!(verdict(|m| spoil(&mut m.guests[0])), Some(expected), "{field:?}");
        }
        let nameless = BundleError::Guest { guest: "#0".into(), field: Field::Name };
        assert_eq!(verdict(|m| m.guests[0].name = "a b".into()), Some(nameless));
    }

    #[test]
    fn a_bad_whole_is_refused() {
        assert_eq!(verdict(|m| m.guests.clear()), Some(BundleError::GuestCount(0)));
        assert_eq!(verdict(|m| m.guests.push(guest("a"))), Some(BundleError::SameName("a".into())));
        let stray = ChannelConfig { ends: [0, 1], pages: 1 };
        assert_eq!(verdict(|m| m.channels.push(stray)), Some(BundleError::Channel(0)));
        let full = BundleError::Guest { guest: "a".into(), field: Field::Channels };
        let to_itself = |pages| ChannelConfig { ends: [0, 0], pages };
        for (channel, most) in [(to_itself(64), 4), (to_itself(1), 32)] {
            assert_eq!(verdict(|m| m.channels = [channel].repeat(most)), None, "{channel:?}");
            assert_eq!(verdict(|m| m.channels = [channel].repeat(most + 1)), Some(full.clone()));
        }
        let cooperative = |m: &mut Manifest| m.guests[0].mode = Mode::Cooperative;
        for (many, expected) in [(32, None), (33, Some(full))] {
            let change = |m: &mut Manifest| m.channels = [to_itself(64)].repeat(many);
            assert_eq!(verdict(|m| (cooperative(m), change(m)).1), expected, "{many}");
        }
        assert_eq!(Bundle::parse(b"COMITY").err(), Some(BundleError::Truncated(6)));
        assert_eq!(Bundle::parse(&[0; 64]).err(), Some(BundleError::NotABundle));
    }

    #[test]
    fn who_stays_put_stays_where_it_would_start_and_who_is_pinned_where_it_is_pinned() {
        let at = |guest: &GuestConfig, vcpu| guest.allowed(VcpuIndex(vcpu)).0;
        let mut free = guest("a");
        free.stay_put(GuestId(5), 3);
        assert_eq!([0, 1, 2, 3].map(|vcpu| at(&free, vcpu)), [1 << 2, 1 << 0, 1 << 1, 1 << 2]);
        let mut pinned = GuestConfig { pin: [1].into(), ..guest("a") };
        pinned.stay_put(GuestId(5), 3);
        assert_eq!(at(&pinned, 0), 1 << 1);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_the_parser(mut bytes in proptest::collection::vec(0u8.., 0..200), marked in proptest::bool::ANY) {
            if marked && bytes.len() >= 16 {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes[9..16].fill(0);
            }
            let _ = Bundle::parse(&bytes);
        }
    }
}
