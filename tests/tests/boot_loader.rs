//! A loader that leaves everything behind that it should not: `tests/loader/dirty.s` runs before the hypervisor's entry.
#![cfg(feature = "boot")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "the helpers of a test fail the test")]

use elf::ElfBytes;
use elf::endian::LittleEndian;
use runner::images;
use runner::machine::{Ended, Kind, Machine, Outcome};
use runner::scenario::Scenario;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Interrupts that the loader has requested.
const REQUESTED: u64 = 7;
/// The page before the hypervisor's code, which is filled up to its end: from its headers on.
const FREE: std::ops::Range<usize> = 0x100..0x1000;
/// Where it is loaded.
const BASE: usize = 0x10_0000;
/// Room for one loader.
const LOADER_BYTES: usize = 0x600;
/// Multiboot2's header, and in it the tag that says where to enter.
const MULTIBOOT2_MAGIC: [u8; 4] = 0xe852_50d6_u32.to_le_bytes();
const ENTRY_TAG: [u8; 8] = [3, 0, 0, 0, 12, 0, 0, 0];
/// A PVH note up to its content.
const PVH_NOTE: [u8; 16] = *b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0";

/// The assembled loader.
fn loader(folder: &Path) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("loader/dirty.s");
    let object = folder.join("loader.o");
    let done = Command::new("as").arg("--32").arg("-o").arg(&object).arg(&source).status();
    assert!(done.unwrap_or_else(|error| panic!("as (package binutils): {error}")).success());
    let object = fs::read(object).unwrap();
    let object = ElfBytes::<LittleEndian>::minimal_parse(&object).unwrap();
    let text = object.section_header_by_name(".text").unwrap().unwrap();
    object.section_data(&text).unwrap().0.to_vec()
}

/// Puts `code` before the entry whose address follows `marker`, into the free page at `at`.
fn precede(image: &mut [u8], page: usize, marker: &[u8], at: usize, code: &[u8]) {
    let found = image[page..page + FREE.start].windows(marker.len()).position(|window| window == marker);
    let field = page + found.unwrap_or_else(|| panic!("no entry in the image")) + marker.len();
    let entry = u32::from_le_bytes(*image[field..].first_chunk().unwrap());
    let mut loader = vec![0xbc]; // mov esp, imm32
    loader.extend(u32::try_from(BASE + FREE.end).unwrap().to_le_bytes());
    loader.extend(code);
    loader.push(0xe9); // jmp rel32
    let end = u32::try_from(BASE + at + loader.len() + 4).unwrap();
    loader.extend(entry.wrapping_sub(end).to_le_bytes());
    assert!(loader.len() <= LOADER_BYTES, "the loader has {} bytes", loader.len());
    let room = &mut image[page + at..page + at + loader.len()];
    assert!(room.iter().all(|byte| *byte == 0), "the page is not free");
    room.copy_from_slice(&loader);
    image[field..field + 4].copy_from_slice(&u32::try_from(BASE + at).unwrap().to_le_bytes());
}

/// Runs two guests on what that loader leaves.
fn hello(change: impl FnOnce(Scenario) -> Scenario, machine: impl FnOnce(Machine) -> Machine) -> Outcome {
    let folder = TempDir::new().unwrap();
    let mut image = fs::read(images::hypervisor()).unwrap();
    let first = ElfBytes::<LittleEndian>::minimal_parse(&image).unwrap();
    let segment = first.segments().unwrap().iter().find(|segment| segment.p_vaddr == BASE as u64).unwrap();
    let page = usize::try_from(segment.p_offset).unwrap();
    let code = loader(folder.path());
    precede(&mut image, page, &PVH_NOTE, FREE.start, &code);
    precede(&mut image, page, &ENTRY_TAG, FREE.start + LOADER_BYTES, &code);
    assert!(image[page..].windows(4).any(|window| window == MULTIBOOT2_MAGIC));
    let file = folder.path().join("comity");
    fs::write(&file, image).unwrap();
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/hello.toml");
    let scenario = change(Scenario::load(&scenario).unwrap_or_else(|refusal| panic!("{refusal}")));
    let booted = Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"));
    machine(booted.hypervisor(file)).run().unwrap_or_else(|error| panic!("{error}"))
}

fn runs_well(outcome: &Outcome) {
    let transcript = outcome.transcript();
    assert_eq!(outcome.ended, Ended::Well, "{transcript}");
    assert_eq!(transcript.matches("powering off").count(), 2, "{transcript}");
    // What was requested before we came is taken, and belongs to nobody.
    let (_, strays) =
        transcript.split_once("interrupts: nobody's count=").unwrap_or_else(|| panic!("{transcript}"));
    let count: u64 = strays.split_whitespace().next().unwrap_or_default().parse().unwrap_or(0);
    assert!(count >= REQUESTED, "{transcript}");
}

#[test]
fn what_a_loader_leaves_in_the_processor_changes_nothing() {
    runs_well(&hello(|scenario| scenario, |machine| machine));
}

#[test]
fn what_a_loader_leaves_changes_nothing_on_several_processors_either() {
    let two = |mut scenario: Scenario| {
        scenario.machine.cpus = 2;
        scenario
    };
    let outcome = hello(two, |machine| machine);
    runs_well(&outcome);
    assert!(outcome.transcript().contains(" cpus=2 "), "{}", outcome.transcript());
}

#[test]
fn what_a_loader_leaves_changes_nothing_where_grub_came_before() {
    runs_well(&hello(|scenario| scenario, |machine| machine.on(Kind::QemuCd)));
}

/// Where DR7.GD counts.
#[test]
fn what_a_loader_leaves_changes_nothing_on_bochs() {
    runs_well(&hello(|scenario| scenario, |machine| machine.on(Kind::BochsIntel)));
}
