//! Debian's Linux above the hypervisor: what it does with nothing beneath it, it does here, and nobody beside it suffers.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

mod linux;

use linux::{COUNTED, did, guest, guest_of, line, number, run, served, victim};
use lz4_flex::frame::FrameDecoder;
use runner::images;
use runner::machine::{Ended, Outcome};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use tempfile::TempDir;

/// Size of the disk, in MiB.
const DISK_MIB: u64 = 4;
/// When two of them that share a processor have loaded their drivers.
const WORK_BEGINS_MS: u32 = 3300;
/// From due to done, of 99 in 100 wakes, and of all: as beside hostile guests of our own.
const P99_NS: i64 = 200_000;
const MAX_NS: i64 = 2_500_000;

/// A server with a disk and a client without one, each of a mode, that run the acceptance script and talk to each other.
fn pair(folder: &Path, [server, client]: [&str; 2], vcpus: u8, words: &str) -> String {
    let disk = folder.join("disk");
    File::create(&disk)
        .and_then(|file| file.set_len(DISK_MIB << 20))
        .unwrap_or_else(|error| panic!("{error}"));
    let joined = format!("vcpus = {vcpus}\nnetwork = \"lan\"");
    let with_disk = format!("{joined}\ndisk = {:?}\ndisk_writable_mib = {DISK_MIB}", disk.display());
    let talk = |role, own, peer| {
        format!(
            "{words} comity.do=script comity.role={role} comity.ip=10.0.0.{own} comity.peer=10.0.0.{peer}"
        )
    };
    guest("server", server, &with_disk, &talk("server", 1, 2))
        + &guest("client", client, &joined, &talk("client", 2, 1))
}

/// Boots such a pair and whoever is beside it, and checks that both pass the script and switch off.
fn passed(machine: &str, modes: [&str; 2], vcpus: u8, words: &str, beside: &str) -> Outcome {
    let folder = TempDir::new().unwrap_or_else(|error| panic!("{error}"));
    let outcome = run(machine, &(pair(folder.path(), modes, vcpus, words) + beside));
    println!("{modes:?} {vcpus}: {:.1?}", outcome.wall);
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    for name in ["server", "client"] {
        assert_eq!(number(line(&outcome, name, "#linux up"), "cpus"), u64::from(vcpus));
        for part in ["timers", "signals", "pipes", "disk", "net found=yes"] {
            line(&outcome, name, &format!("#linux part={part}"));
        }
        did(&outcome, name, "script");
    }
    let sectors = number(line(&outcome, "server", "#linux part=disk found=yes"), "sectors");
    assert_eq!(sectors * 512, DISK_MIB << 20);
    outcome
}

#[test]
fn two_of_two_processors_pass_the_acceptance_script_in_full_mode() {
    passed("", ["full", "full"], 2, "quiet", "");
}

#[test]
fn two_of_two_processors_pass_it_in_kvm_mode_and_use_what_kvm_offers() {
    let outcome = passed("", ["kvm", "kvm"], 2, "", "");
    for name in ["server", "client"] {
        for words in [
            "Hypervisor detected: KVM",
            "Switched to clocksource kvm-clock",
            "PV spinlocks enabled",
            "KVM setup pv remote TLB flush",
            "setup PV sched yield",
            "setup PV IPIs",
        ] {
            line(&outcome, name, words);
        }
    }
}

#[test]
fn one_of_each_mode_passes_it_beside_a_cooperative_guest_that_is_served_all_the_while() {
    let wakes = 1000;
    let words = format!("quiet {COUNTED}");
    let outcome = passed("icount = true", ["full", "kvm"], 1, &words, &victim(wakes, WORK_BEGINS_MS));
    let (p99, max) = served(&outcome, wakes);
    assert!(p99 <= P99_NS && max <= MAX_NS, "p99 {p99} ns, max {max} ns: {}", outcome.transcript());
}

#[test]
fn one_of_each_mode_passes_it_on_two_processors() {
    passed("cpus = 2", ["kvm", "full"], 2, "quiet", "");
}

#[test]
fn who_shares_a_processor_sees_half_of_its_time_stolen() {
    let words = format!("quiet {COUNTED} comity.do=steal comity.seconds=2");
    let guests = guest("one", "kvm", "", &words) + &guest("two", "kvm", "", &words);
    let outcome = run("icount = true", &guests);
    for name in ["one", "two"] {
        did(&outcome, name, "steal");
        let said = line(&outcome, name, "#linux steal_ms=");
        let share = number(said, "steal_ms") as f64 / number(said, "total_ms") as f64;
        println!("{name}: {share:.3} stolen, {:.1?}", outcome.wall);
        assert!((0.4..0.55).contains(&share), "{name}: {said}");
    }
}

/// The kernel in Debian's bzImage: an ELF with a PVH note, packed by LZ4 (Linux `Documentation/arch/x86/boot.rst`).
fn vmlinux(folder: &Path) -> io::Result<String> {
    const SECTORS_AT: usize = 0x1f1;
    const PAYLOAD_AT: usize = 0x248;
    let image = fs::read(images::linux_kernel())?;
    let word =
        |at: usize| image.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let payload = image.get(SECTORS_AT).zip(word(PAYLOAD_AT)).zip(word(PAYLOAD_AT + 4));
    // Its last word is its size when unpacked.
    let payload = payload.and_then(|((sectors, offset), length)| {
        let start = (usize::from(*sectors) + 1) * 512 + usize::try_from(offset).ok()?;
        image.get(start..start + usize::try_from(length).ok()? - 4)
    });
    let kernel = folder.join("vmlinux");
    io::copy(&mut FrameDecoder::new(payload.unwrap_or_default()), &mut File::create(&kernel)?)?;
    Ok(kernel.display().to_string())
}

#[test]
fn it_boots_by_pvh_too() {
    let folder = TempDir::new().unwrap_or_else(|error| panic!("{error}"));
    let kernel = vmlinux(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let outcome = run("", &guest_of(&kernel, "pvh", "full", "", "quiet"));
    println!("{:.1?}", outcome.wall);
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    did(&outcome, "pvh", "hello");
}
