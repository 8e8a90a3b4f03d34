//! Scenarios: what is in the repository is sound, and every mistake gets one line with file, line and key.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail the test")]

mod common;

use hv_format::bundle::Bundle;
use hv_format::manifest::{Mode, TscTrust, Visibility};
use runner::scenario::{MachineConfig, Scenario};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A kernel that is one, and does nothing.
fn kernel() -> Vec<u8> {
    common::kernel(&[0xf4])
}

/// A folder with a kernel in it, and what a scenario there answers.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("k.elf"), kernel()).unwrap();
        Self { folder }
    }

    fn add(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    fn load(&self, text: &str) -> Result<Scenario, String> {
        let file = self.folder.path().join("x.toml");
        fs::write(&file, text).unwrap();
        Scenario::load(&file).map_err(|refusal| self.shorten(&refusal.to_string()))
    }

    /// The one line that a scenario with a mistake is refused with, file names shortened.
    fn refusal(&self, text: &str) -> String {
        match self.load(text).map(|scenario| scenario.bundle()) {
            Ok(Ok(_)) => panic!("not refused:\n{text}"),
            Ok(Err(refusal)) => self.shorten(&refusal.to_string()),
            Err(line) => line,
        }
    }

    fn shorten(&self, line: &str) -> String {
        line.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

const GUEST: &str = "[[guest]]\nname = \"a\"\nkernel = \"k.elf\"\n";

#[test]
fn every_scenario_of_the_repository_is_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    assert!(!files.is_empty());
    for file in files {
        let scenario = Scenario::load(&file).unwrap_or_else(|refusal| panic!("{refusal}"));
        assert!(!scenario.guests.is_empty(), "{}", file.display());
    }
}

#[test]
fn the_least_a_scenario_says_gets_the_documented_defaults() {
    let scenario = Bench::new().load(GUEST).unwrap();
    let expected = MachineConfig {
        memory_mib: 512,
        cpus: 1,
        icount: false,
        tsc: TscTrust::Invariant,
        timeout: Duration::from_secs(60),
    };
    assert_eq!(scenario.machine, expected);
    let [guest] = &scenario.guests[..] else { panic!("one guest") };
    assert_eq!((guest.mode, guest.vcpus, guest.memory_mib, guest.weight), (Mode::Full, 1, 16, 100));
    assert_eq!((guest.visibility, guest.restarts, guest.mark_port), (Visibility::Bit, 0, false));
    assert_eq!(scenario.input, None);
}

#[test]
fn copies_are_numbered_and_share_one_kernel_in_the_bundle() {
    let text = "[machine]\ntsc = \"trusted\"\n[[guest]]\nname = \"a\"\nkernel = \"k.elf\"\nmode = \"cooperative\"\n\
                initrd = \"k.elf\"\nvisibility = \"none\"\ncount = 3\n[[channel]]\nends = [\"a-0\", \"a-2\"]\npages = 2\n\
                [input]\nguest = \"a-1\"\n";
    let scenario = Bench::new();
    let scenario = scenario.load(text).unwrap();
    let bytes = scenario.bundle().unwrap();
    let bundle = Bundle::parse(&bytes).unwrap_or_else(|error| panic!("{error}"));
    let manifest = bundle.manifest();
    let names: Vec<&str> = manifest.guests.iter().map(|guest| guest.name.as_str()).collect();
    assert_eq!(names, ["a-0", "a-1", "a-2"]);
    assert_eq!(manifest.tsc, TscTrust::Trusted);
    assert!(manifest.guests.iter().all(|guest| guest.mode == Mode::Cooperative));
    assert!(manifest.guests.iter().all(|guest| guest.visibility == Visibility::None));
    assert!(manifest.guests.iter().all(|guest| bundle.payload(guest.kernel) == kernel()));
    assert_eq!(manifest.guests[0].initrd, Some(manifest.guests[2].kernel));
    assert_eq!((manifest.channels[0].ends, manifest.channels[0].pages), ([0, 2], 2));
    assert_eq!(scenario.input.as_deref(), Some("a-1"));
}

#[test]
fn a_mistake_is_refused_by_line_and_key() {
    let bench = Bench::new();
    let cases = [
        ("", "x.toml: no [[guest]] in it, nothing to run"),
        ("[machine]\nmemory = 5\n", "x.toml:2: unknown key 'memory', expected one of 'memory_mib', 'cpus'"),
        (
            "[machine]\nmemory_mib = -5\n",
            "x.toml:2: key 'memory_mib': invalid value: integer '-5', expected u32",
        ),
        ("[machine]\ncpus = 0\n", "x.toml:2: key 'cpus': 0, expected 1 to 64"),
        (
            "[[guest]]\nname = \"a\"\nkernel = \"hello\"\npin = [0, 1]\n",
            "x.toml:4: guest 'a': key 'pin': processor 1, the machine has 1 from 0 on",
        ),
        ("[machine]\n\ntimeout_s = 0\n", "x.toml:3: key 'timeout_s': 0, expected 1 to 86400"),
        (
            "[machine]\ntsc = \"maybe\"\n",
            "x.toml:2: key 'tsc': unknown variant 'maybe', expected 'invariant'",
        ),
        ("[[guest]]\nname = \"a\"\n", "x.toml:1: missing key 'kernel'"),
        ("[[guest]]\nname = \"a\nkernel = 1", "x.toml:2: key 'name': invalid basic string"),
        ("[surprise]\n", "x.toml:1: unknown key 'surprise'"),
    ];
    for (text, expected) in cases {
        let line = bench.refusal(text);
        assert!(line.starts_with(expected), "{text}\n{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn a_bad_guest_is_refused_by_name_line_and_key() {
    let bench = Bench::new();
    let cases = [
        ("vcpu = 2", "x.toml:4: unknown key 'vcpu', expected one of"),
        ("vcpus = 65", "x.toml:4: guest 'a': key 'vcpus': 65, expected 1 to 64"),
        ("vcpus = 0", "x.toml:4: guest 'a': key 'vcpus': 0, expected 1 to 64"),
        ("vcpus = \"two\"", "x.toml:4: key 'vcpus': invalid type"),
        (
            "memory_mib = 5",
            "x.toml:4: guest 'a': key 'memory_mib': 5, expected a multiple of 2 from 4 to 3072",
        ),
        (
            "memory_mib = 0",
            "x.toml:4: guest 'a': key 'memory_mib': 0, expected a multiple of 2 from 4 to 3072",
        ),
        (
            "memory_mib = 3074",
            "x.toml:4: guest 'a': key 'memory_mib': 3074, expected a multiple of 2 from 4 to 3072",
        ),
        ("weight = 0", "x.toml:4: guest 'a': key 'weight': 0, expected 1 to 10000"),
        ("mode = \"containers\"", "x.toml:4: key 'mode': 'containers' is not in this version"),
        ("mode = \"fast\"", "x.toml:4: key 'mode': 'fast', expected 'full', 'kvm' or 'cooperative'"),
        ("visibility = \"rows\"", "x.toml:4: key 'visibility': 'rows' is not in this version"),
        ("visibility = \"all\"", "x.toml:4: key 'visibility': 'all', expected 'none' or 'bit'"),
        (
            "disk_writable_mib = 5",
            "x.toml:4: key 'disk_writable_mib': the guest has no 'disk' that it could change",
        ),
        ("count = 0", "x.toml:4: key 'count': 0, expected at least 1"),
        ("count = 257", "x.toml:4: key 'count': more than 256 guests together"),
        ("initrd = \"none.gz\"", "x.toml:4: guest 'a': initrd none.gz: No such file"),
        ("command_line = \"\\u0000\"", "x.toml:4: guest 'a': key 'command_line': a zero byte in it"),
        (
            "memory_mib = 450",
            "x.toml:4: guest 'a': key 'memory_mib': with all before it 514 MiB are needed (64 of them",
        ),
        // 448 would just fit, but the bundle needs room too.
        (
            "memory_mib = 448",
            "x.toml:4: guest 'a': key 'memory_mib': with all before it 513 MiB are needed (64 of them",
        ),
    ];
    for (key, expected) in cases {
        let line = bench.refusal(&format!("{GUEST}{key}\n"));
        assert!(line.starts_with(expected), "{key}\n{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    let long = bench.refusal(&format!("{GUEST}command_line = \"{}\"\n", "x".repeat(2048)));
    assert_eq!(long, "x.toml:4: guest 'a': key 'command_line': 2048 bytes, expected at most 2047");
    let nameless = bench.refusal("[[guest]]\nkernel = \"k.elf\"\nname = \"a b\"\n");
    assert_eq!(nameless, "x.toml:3: guest 'a b': key 'name': expected 1 to 16 of a-z A-Z 0-9 - _");
}

#[test]
fn guests_that_do_not_fit_together_are_refused() {
    let bench = Bench::new();
    let twice = bench.refusal(&format!("{GUEST}{GUEST}"));
    assert_eq!(twice, "x.toml:5: key 'name': two guests are named 'a'");
    let greedy =
        format!("{GUEST}memory_mib = 256\n[[guest]]\nname = \"b\"\nkernel = \"k.elf\"\nmemory_mib = 256\n");
    let line = bench.refusal(&greedy);
    let expected = "x.toml:8: guest 'b': key 'memory_mib': with all before it 576 MiB are needed (64 of them by the hypervisor), \
                    the machine has 512";
    assert_eq!(line, expected);
    let stray = bench.refusal(&format!("{GUEST}[[channel]]\npages = 1\nends = [\"a\", \"b\"]\n"));
    assert_eq!(stray, "x.toml:6: key 'ends': no guest is named 'b'");
    let wide = bench.refusal(&format!("{GUEST}[[channel]]\nends = [\"a\", \"a\"]\npages = 65\n"));
    assert_eq!(wide, "x.toml:6: key 'pages': 65, expected 1 to 64");
    let pair = |mode: &str| format!("{GUEST}mode = \"{mode}\"\n");
    let many = |count: usize, pages: u16| {
        format!("[[channel]]\npages = {pages}\nends = [\"a\", \"a\"]\n").repeat(count)
    };
    let ends = bench.refusal(&format!("{}{}", pair("cooperative"), many(33, 1)));
    assert_eq!(
        ends,
        "x.toml:103: key 'ends': guest 'a': with all before it 66 ends of channels, expected at most 64"
    );
    let pages = bench.refusal(&format!("{}{}", pair("full"), many(5, 64)));
    assert_eq!(
        pages,
        "x.toml:19: key 'ends': guest 'a': with all before it 640 pages of channels, expected at most 512"
    );
    let deaf = bench.refusal(&format!("{GUEST}[input]\nguest = \"c\"\n"));
    assert_eq!(deaf, "x.toml:5: key 'guest': no guest is named 'c'");
}

#[test]
fn a_file_that_is_no_kernel_is_refused_by_guest_and_path() {
    let bench = Bench::new();
    let whole = kernel();
    let spoilt = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let mut linux = vec![0; 0x300];
    linux[0x1fe..0x208].copy_from_slice(b"\x55\xaa\xeb\x6aHdrS\x0d\x02");
    let cases = [
        ("missing", None, "No such file"),
        ("empty", Some(vec![]), "an empty file"),
        ("text", Some(b"#!/bin/sh\n".to_vec()), "neither an ELF file nor a bzImage"),
        ("magic", Some(b"\x7fELF".to_vec()), "a truncated kernel file of 4 bytes"),
        ("header", Some(whole[..40].to_vec()), "a truncated kernel file of 40 bytes"),
        ("half", Some(whole[..150].to_vec()), "a truncated kernel file of 150 bytes"),
        ("short", Some(whole[..195].to_vec()), "a truncated kernel file of 195 bytes"),
        ("elf32", Some(spoilt(4, 1)), "not an ELF64 file"),
        ("arm", Some(spoilt(18, 183)), "an ELF file for machine 183, expected x86-64 (62)"),
        ("pie", Some(spoilt(16, 3)), "an ELF file of type 3, expected an executable (2)"),
        ("noteless", Some(spoilt(184, 17)), "an ELF file without a PVH note"),
        ("other-note", Some(spoilt(188, b'Z')), "an ELF file without a PVH note"),
        ("high", Some(spoilt(64 + 27, 1)), "a kernel that ends at 0x11000c5, past the guest's memory"),
        ("bzimage", Some(linux), "a bzImage of protocol 2.13, expected 2.14 with a 64-bit entry"),
    ];
    for (name, bytes, expected) in cases {
        if let Some(bytes) = bytes {
            bench.add(&format!("{name}.bin"), &bytes);
        }
        let line = bench.refusal(&format!("[[guest]]\nname = \"a\"\nkernel = \"{name}.bin\"\n"));
        assert!(line.starts_with(&format!("x.toml:3: guest 'a': kernel {name}.bin: {expected}")), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    let unbuilt = bench.refusal("[[guest]]\nname = \"a\"\nkernel = \"no-such-image\"\n");
    assert!(unbuilt.ends_with("no-such-image: no such image; `cargo xtask build` makes them"), "{unbuilt}");
    let missing = Scenario::load(Path::new("/nonexistent/x.toml")).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/x.toml: No such file"), "{missing}");
}

/// Beside the usual kernel: one that ends at 8 MiB, and a file of 1 MiB that is no kernel and no whole number of sectors.
fn bench_of_big_files() -> Bench {
    let bench = Bench::new();
    let mut big = kernel();
    // The first program header begins at 64; its segment's size in memory.
    big[64 + 40..64 + 48].copy_from_slice(&(7_u64 << 20).to_le_bytes());
    bench.add("big.elf", &big);
    bench.add("disk.bin", &vec![1; (1 << 20) - 1]);
    bench
}

fn guest(name: &str, kernel: &str, keys: &str) -> String {
    format!("[[guest]]\nname = \"{name}\"\nkernel = \"{kernel}\"\n{keys}\n")
}

#[test]
fn a_file_is_checked_for_each_guest_that_has_it() {
    let bench = bench_of_big_files();
    let (roomy, narrow) = (guest("a", "big.elf", "memory_mib = 16"), guest("b", "big.elf", "memory_mib = 4"));
    let line = bench.refusal(&format!("{roomy}{narrow}"));
    let expected =
        "x.toml:7: guest 'b': kernel big.elf: a kernel that ends at 0x800000, past the guest's memory";
    assert_eq!(line, expected, "an earlier guest with more memory has it too");
    let (first, second) = (guest("a", "k.elf", "initrd = \"disk.bin\""), guest("b", "disk.bin", ""));
    let line = bench.refusal(&format!("{first}{second}"));
    let expected = "x.toml:7: guest 'b': kernel disk.bin: neither an ELF file nor a bzImage";
    assert_eq!(line, expected, "an earlier guest has it for its initial RAM disk");
    let line = bench.refusal(&guest("a", "big.elf", "memory_mib = 8\ninitrd = \"disk.bin\""));
    let expected = "x.toml:5: guest 'a': initrd disk.bin: no room above the kernel for an initial RAM disk of 1048575 \
                    bytes";
    assert_eq!(line, expected);
}

#[test]
fn a_file_that_is_a_ram_disk_and_a_disk_is_filled_up_for_the_disk_only() {
    let text = guest("a", "k.elf", "initrd = \"disk.bin\"\ndisk = \"disk.bin\"");
    let bytes = bench_of_big_files().load(&text).unwrap().bundle().unwrap();
    let bundle = Bundle::parse(&bytes).unwrap_or_else(|error| panic!("{error}"));
    let guest = &bundle.manifest().guests[0];
    assert_eq!(guest.initrd.unwrap().len_bytes, (1 << 20) - 1);
    assert_eq!(guest.devices.disk.unwrap().image.len_bytes, 1 << 20);
}

#[test]
fn words_of_the_machine_count_as_the_command_line() {
    let text = guest("a", "k.elf", &format!("command_line = \"{}\"", "x".repeat(2040)));
    let bench = Bench::new();
    let scenario = bench.load(&text).unwrap();
    let line = bench.shorten(&scenario.bundle_with(" zero_ms=1").unwrap_err().to_string());
    let expected = "x.toml:4: guest 'a': key 'command_line': 2050 bytes with the machine's own \" zero_ms=1\", expected at \
                    most 2047";
    assert_eq!(line, expected);
}

#[test]
fn what_all_guests_have_together_is_bounded_by_line_and_key() {
    let bench = bench_of_big_files();
    let networks: String =
        (0..17).map(|n| guest(&format!("g{n}"), "k.elf", &format!("network = \"n{n}\""))).collect();
    let crowd: String = (0..16)
        .map(|n| guest(&format!("g{n}"), "k.elf", &format!("memory_mib = {}", 192 + n / 15 * 2)))
        .collect();
    let channels: String = (0..64)
        .map(|n| {
            format!(
                "[[channel]]
ends = [\"g{}\", \"g{}\"]
pages = 64
",
                n / 8 * 2,
                n / 8 * 2 + 1
            )
        })
        .collect();
    let cases = [
        (
            guest("a", "k.elf", "count = 17\nvcpus = 64"),
            "x.toml:8: guest 'a-16': key 'vcpus': with all before it 1088 vCPUs, expected at most 1024",
        ),
        (
            guest("a", "k.elf", "count = 65\nnetwork = \"n\""),
            "x.toml:8: guest 'a-64': key 'network': with all before it 65 network cards, expected at most 64",
        ),
        (
            networks,
            "x.toml:71: guest 'g16': key 'network': with all before it 17 networks, expected at most 16",
        ),
        (
            guest("a", "k.elf", "count = 3\ndisk = \"disk.bin\"\ndisk_writable_mib = 6"),
            "x.toml:9: guest 'a-2': key 'disk_writable_mib': with all before it 18 MiB of disks that guests may change, expected at \
             most 16",
        ),
        // 56 channels of 64 pages are the 14 MiB that guests and hypervisor leave.
        (
            format!("{crowd}{channels}"),
            "x.toml:238: channel 56: key 'pages': with all before it 3153 MiB are needed (64 of them by the hypervisor), the \
             machine has 3152",
        ),
    ];
    for (text, expected) in cases {
        let line = bench.refusal(&format!("[machine]\nmemory_mib = 3152\n\n{text}"));
        assert!(line.starts_with(expected), "{line}\n{text}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn what_the_heap_takes_beyond_its_least_counts_as_the_hypervisors() {
    let text = guest("a", "k.elf", "count = 9\nvcpus = 64");
    let line = Bench::new().refusal(&format!("[machine]\ncpus = 64\nmemory_mib = 210\n{text}"));
    let expected = "x.toml:4: guest 'a-8': key 'memory_mib': with all before it 217 MiB are needed (72 of them by the hypervisor), \
                    the machine has 210";
    assert_eq!(line, expected);
}
