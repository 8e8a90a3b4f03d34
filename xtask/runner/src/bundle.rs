//! Writing the bundle: the manifest and the payloads in the form that `hv_format::manifest` reads.

use hv_format::addr::PAGE_BYTES;
use hv_format::bundle::{Bundle, BundleError};
use hv_format::manifest::{
    ChannelConfig, Devices, DiskConfig, GuestConfig, HEADER_BYTES, MAGIC, Manifest, Payload, TscTrust,
};

/// A file of the bundle, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIndex(usize);

/// What a guest has of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestFiles {
    /// Its kernel.
    pub kernel: FileIndex,
    /// Its initial RAM disk.
    pub initrd: Option<FileIndex>,
    /// What is on its disk, if its configuration has one.
    pub disk: Option<FileIndex>,
}

impl GuestFiles {
    /// A kernel alone.
    pub const fn kernel(kernel: FileIndex) -> Self {
        Self { kernel, initrd: None, disk: None }
    }
}

/// One guest of a bundle to be.
struct Draft {
    config: GuestConfig,
    files: GuestFiles,
}

/// Collects guests and files; a file that many guests share is stored once.
#[derive(Default)]
pub struct BundleWriter {
    files: Vec<Vec<u8>>,
    guests: Vec<Draft>,
    channels: Vec<ChannelConfig>,
    tsc: TscTrust,
}

impl BundleWriter {
    /// Returns an empty bundle for a machine whose time-stamp counter is trusted as said.
    pub fn new(tsc: TscTrust) -> Self {
        Self { tsc, ..Self::default() }
    }

    /// Adds a file.
    pub fn file(&mut self, bytes: Vec<u8>) -> FileIndex {
        self.files.push(bytes);
        FileIndex(self.files.len() - 1)
    }

    /// The bytes of a file that was added; none of a file of another writer's.
    pub fn bytes(&self, file: FileIndex) -> &[u8] {
        self.files.get(file.0).map_or(&[], Vec::as_slice)
    }

    /// Adds a guest; the payloads in `config` are overwritten.
    pub fn guest(&mut self, config: GuestConfig, files: GuestFiles) {
        self.guests.push(Draft { config, files });
    }

    /// Adds a channel between two guests, by number.
    pub fn channel(&mut self, channel: ChannelConfig) {
        self.channels.push(channel);
    }

    /// Returns the bundle's bytes, after the hypervisor's own check of them.
    ///
    /// # Errors
    ///
    /// What the hypervisor would say.
    pub fn finish(self) -> Result<Vec<u8>, BundleError> {
        // The manifest stands before the payloads whose offsets it holds, and offsets have a variable length: room is
        // made for the longest.
        let longest = vec![Payload { offset_bytes: u64::MAX, len_bytes: u64::MAX }; self.files.len()];
        let bound = HEADER_BYTES + encode(&self.manifest(&longest))?.len();
        let mut offset_bytes = (bound as u64).next_multiple_of(PAGE_BYTES);
        let mut places = Vec::new();
        for file in &self.files {
            let len_bytes = file.len() as u64;
            places.push(Payload { offset_bytes, len_bytes });
            offset_bytes = (offset_bytes + len_bytes).next_multiple_of(PAGE_BYTES);
        }
        let manifest = encode(&self.manifest(&places))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend((manifest.len() as u64).to_le_bytes());
        bytes.extend(manifest);
        for (place, file) in places.iter().zip(&self.files) {
            let start =
                usize::try_from(place.offset_bytes).map_err(|_| BundleError::Truncated(offset_bytes))?;
            bytes.resize(start, 0);
            bytes.extend(file);
        }
        Bundle::parse(&bytes)?;
        Ok(bytes)
    }

    fn manifest(&self, places: &[Payload]) -> Manifest {
        let place = |file: FileIndex| places.get(file.0).copied();
        let nowhere = Payload { offset_bytes: 0, len_bytes: 0 };
        let guest = |draft: &Draft| GuestConfig {
            kernel: place(draft.files.kernel).unwrap_or(nowhere),
            initrd: draft.files.initrd.and_then(place),
            devices: Devices {
                disk: draft.config.devices.disk.map(|disk| DiskConfig {
                    image: draft.files.disk.and_then(place).unwrap_or(nowhere),
                    ..disk
                }),
                ..draft.config.devices
            },
            ..draft.config.clone()
        };
        Manifest {
            tsc: self.tsc,
            guests: self.guests.iter().map(guest).collect(),
            channels: self.channels.clone(),
        }
    }
}

fn encode(manifest: &Manifest) -> Result<Vec<u8>, BundleError> {
    postcard::to_allocvec(manifest).map_err(|_| BundleError::Manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv_format::bundle::Bundle;
    use hv_format::manifest::{Mode, Visibility};

    fn config(name: &str) -> GuestConfig {
        GuestConfig {
            name: name.into(),
            mode: Mode::Cooperative,
            vcpus: 2,
            memory_mib: 16,
            memory_max_mib: 16,
            weight: 100,
            visibility: Visibility::Bit,
            restarts: 0,
            kernel: Payload { offset_bytes: 0, len_bytes: 0 },
            initrd: None,
            command_line: "a=1".into(),
            pin: Vec::new(),
            devices: Devices::default(),
            mark_port: false,
        }
    }

    #[test]
    fn the_hypervisor_finds_each_payload_where_the_writer_put_it() {
        let mut writer = BundleWriter::new(TscTrust::Trusted);
        let kernel = writer.file(vec![1; 5000]);
        let initrd = writer.file(vec![2; 10]);
        writer.guest(config("a"), GuestFiles::kernel(kernel));
        writer.guest(config("b"), GuestFiles { initrd: Some(initrd), ..GuestFiles::kernel(kernel) });
        writer.channel(ChannelConfig { ends: [0, 1], pages: 1 });
        let bytes = writer.finish().unwrap();
        let bundle = Bundle::parse(&bytes).unwrap_or_else(|error| panic!("{error}"));
        let [a, b] = &bundle.manifest().guests[..] else { panic!("two guests") };
        assert_eq!(bundle.payload(a.kernel), [1; 5000]);
        assert_eq!(bundle.payload(b.initrd.unwrap()), [2; 10]);
        assert_eq!(a.kernel, b.kernel, "one file is stored once");
        assert_eq!((a.name.as_str(), b.command_line.as_str()), ("a", "a=1"));
        assert_eq!(bundle.manifest().channels.len(), 1);
        assert_eq!(bundle.manifest().tsc, TscTrust::Trusted);
    }

    #[test]
    fn many_guests_outgrow_the_first_page_and_keep_their_payloads() {
        let mut writer = BundleWriter::new(TscTrust::Invariant);
        let kernel = writer.file(vec![3; 4096]);
        for number in 0..200 {
            writer.guest(config(&format!("guest-{number}")), GuestFiles::kernel(kernel));
        }
        let bytes = writer.finish().unwrap();
        let bundle = Bundle::parse(&bytes).unwrap_or_else(|error| panic!("{error}"));
        assert!(bundle.manifest().guests.iter().all(|guest| bundle.payload(guest.kernel) == [3; 4096]));
    }

    #[test]
    fn a_guest_that_the_hypervisor_would_refuse_is_refused() {
        let mut writer = BundleWriter::new(TscTrust::Invariant);
        let kernel = writer.file(vec![1]);
        writer.guest(GuestConfig { vcpus: 0, ..config("a") }, GuestFiles::kernel(kernel));
        let error = writer.finish().unwrap_err();
        assert_eq!(error.to_string(), "bundle: guest a: bad field Vcpus");
    }
}
