//! The archive of an initial RAM disk: cpio in the form "newc" (Linux `Documentation/driver-api/early-userspace/
//! buffer-format.rst`), uncompressed, the same bytes for the same contents.

use crate::failure::{Failure, Outcome};
use std::collections::BTreeMap;

/// What each header begins with.
const MAGIC: &str = "070701";
/// Name of the entry after the last.
const TRAILER: &str = "TRAILER!!!";
/// Headers and contents begin at multiples of it, in bytes.
const ALIGNMENT: usize = 4;

/// One thing in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Folder,
    File(Vec<u8>),
    Program(Vec<u8>),
    /// A symbolic link to that path.
    Link(String),
    CharacterDevice {
        major: u32,
        minor: u32,
    },
}

impl Entry {
    /// Type and rights, as in `stat`.
    fn mode(&self) -> u32 {
        match self {
            Self::Folder => 0o040_755,
            Self::File(_) => 0o100_644,
            Self::Program(_) => 0o100_755,
            Self::Link(_) => 0o120_777,
            Self::CharacterDevice { .. } => 0o020_600,
        }
    }

    fn contents(&self) -> &[u8] {
        match self {
            Self::File(bytes) | Self::Program(bytes) => bytes,
            Self::Link(to) => to.as_bytes(),
            Self::Folder | Self::CharacterDevice { .. } => &[],
        }
    }

    fn device(&self) -> (u32, u32) {
        match self {
            Self::CharacterDevice { major, minor } => (*major, *minor),
            Self::Folder | Self::File(_) | Self::Program(_) | Self::Link(_) => (0, 0),
        }
    }
}

/// An archive to be written, in order of path: folders come before what is in them.
#[derive(Clone, Debug, Default)]
pub struct Archive(BTreeMap<String, Entry>);

impl Archive {
    /// Adds one thing, and the folders that it lies in. Paths do not begin with a slash.
    pub fn add(&mut self, path: &str, entry: Entry) {
        for (at, _) in path.match_indices('/') {
            let folder = path.split_at(at).0;
            self.0.entry(folder.to_owned()).or_insert(Entry::Folder);
        }
        self.0.insert(path.to_owned(), entry);
    }

    /// Returns its bytes. Everything is root's and of 1970.
    pub fn bytes(&self) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        for (inode, (path, entry)) in (1..).zip(&self.0) {
            append(&mut bytes, inode, path, entry)?;
        }
        append(&mut bytes, 0, TRAILER, &Entry::File(Vec::new()))?;
        Ok(bytes)
    }
}

fn append(bytes: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) -> Outcome<()> {
    let contents = entry.contents();
    let length = u32::try_from(contents.len())
        .map_err(|_| Failure::new(format!("{path}: {} bytes are too many for cpio", contents.len())))?;
    let name_length = u32::try_from(path.len() + 1)
        .map_err(|_| Failure::new(format!("{path}: a name too long for cpio")))?;
    let (major, minor) = entry.device();
    let links = 1;
    let [user, group, time, device_major, device_minor, checksum] = [0; 6];
    let fields = [
        inode,
        entry.mode(),
        user,
        group,
        links,
        time,
        length,
        device_major,
        device_minor,
        major,
        minor,
        name_length,
        checksum,
    ];
    bytes.extend(MAGIC.as_bytes());
    for field in fields {
        bytes.extend(format!("{field:08x}").as_bytes());
    }
    bytes.extend(path.as_bytes());
    bytes.push(0);
    align(bytes);
    bytes.extend(contents);
    align(bytes);
    Ok(())
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entries: &[(&str, Entry)]) -> Vec<u8> {
        let mut archive = Archive::default();
        for (path, entry) in entries {
            archive.add(path, entry.clone());
        }
        archive.bytes().unwrap_or_else(|failure| panic!("{}", failure.message))
    }

    /// An entry that was read back: path, mode, device and contents.
    type Found = (String, u32, (u32, u32), Vec<u8>);

    /// Reads an archive back.
    fn read(mut bytes: &[u8]) -> Vec<Found> {
        let mut entries = Vec::new();
        loop {
            let (header, rest) = bytes.split_at(110);
            assert!(header.starts_with(MAGIC.as_bytes()));
            let field = |number: usize| {
                let digits = std::str::from_utf8(&header[6 + 8 * number..14 + 8 * number]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (length, name_length) = (field(6) as usize, field(11) as usize);
            let name = String::from_utf8(rest[..name_length - 1].to_vec()).unwrap();
            let contents = &rest[(110 + name_length).next_multiple_of(4) - 110..];
            if name == TRAILER {
                return entries;
            }
            entries.push((name, field(1), (field(9), field(10)), contents[..length].to_vec()));
            bytes = &contents[length.next_multiple_of(4)..];
        }
    }

    #[test]
    fn what_goes_in_comes_out_with_its_folders_first() {
        let archive = bytes(&[
            ("dev/console", Entry::CharacterDevice { major: 5, minor: 1 }),
            ("bin/sh", Entry::Link("busybox".into())),
            ("bin/busybox", Entry::Program(b"\x7fELF!".to_vec())),
            ("lib/modules/a.ko", Entry::File(b"abc".to_vec())),
        ]);
        let expected: [(&str, u32, _, &[u8]); 7] = [
            ("bin", 0o040_755, (0, 0), b""),
            ("bin/busybox", 0o100_755, (0, 0), b"\x7fELF!"),
            ("bin/sh", 0o120_777, (0, 0), b"busybox"),
            ("dev", 0o040_755, (0, 0), b""),
            ("dev/console", 0o020_600, (5, 1), b""),
            ("lib", 0o040_755, (0, 0), b""),
            ("lib/modules", 0o040_755, (0, 0), b""),
        ];
        let entries = read(&archive);
        for (entry, (path, mode, device, contents)) in entries.iter().zip(expected) {
            assert_eq!(*entry, (path.to_owned(), mode, device, contents.to_vec()));
        }
        assert_eq!(entries[7].0, "lib/modules/a.ko");
        assert_eq!(archive.len() % ALIGNMENT, 0);
    }

    #[test]
    fn the_same_contents_are_the_same_bytes_in_whatever_order_they_came() {
        let one = ("a", Entry::File(b"1".to_vec()));
        let other = ("b/c", Entry::Folder);
        assert_eq!(bytes(&[one.clone(), other.clone()]), bytes(&[other, one]));
    }

    #[test]
    fn an_empty_archive_is_its_trailer() {
        let header = "07070100000000000081a4";
        let text = String::from_utf8(bytes(&[])).unwrap();
        assert!(text.starts_with(header), "{text}");
        assert!(text.ends_with("0000000b00000000TRAILER!!!\0\0\0\0"), "{text:?}");
    }
}
