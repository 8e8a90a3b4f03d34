//! `docs/src/registers.md` says what `guest::registers` has; `COMITY_WRITE_PAGE=1 cargo test -p hv-core --test registers_page` writes it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use hv_core::guest::cpuid::Word;
use hv_core::guest::registers::{
    Bit, CR0, CR0_DEFINED, CR0_SHADOWED, CR4, CR4_GUEST, EFER, EFER_GUEST, Keeper, MSRS, Needs, untouched,
};
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

const BEGIN: &str = "<!-- computed from hv-core/src/guest/registers.rs -->\n";
const END: &str = "<!-- end -->\n";

fn keeper(keeper: Keeper) -> &'static str {
    match keeper {
        Keeper::World => "entry and exit",
        Keeper::Switch => "switch",
        Keeper::Shadow => "shadow",
        Keeper::Emulated => "emulated",
        Keeper::Zero => "zero",
    }
}

fn needs(needs: Needs) -> String {
    let (word, bit) = match needs {
        Needs::Nothing => return "–".into(),
        Needs::Refused => return "never given".into(),
        Needs::Cpuid(word, bit) => (word, bit),
    };
    let word = match word {
        Word::Leaf1Ecx => "1 ECX",
        Word::Leaf1Edx => "1 EDX",
        Word::Leaf7Ebx => "7 EBX",
        Word::Leaf7Ecx => "7 ECX",
        Word::Leaf7Edx => "7 EDX",
        Word::ExtendedEcx => "8000_0001 ECX",
        Word::ExtendedEdx => "8000_0001 EDX",
    };
    format!("CPUID {word} bit {bit}")
}

fn register(page: &mut String, name: &str, bits: &[Bit], guest: u64) {
    write!(page, "\n### {name}\n\n| bit | name | needs | SVM | VMX |\n|---|---|---|---|---|\n").unwrap();
    for bit in bits {
        let [svm, vmx] = if guest >> bit.number & 1 == 0 { ["#GP"; 2] } else { bit.keepers.map(keeper) };
        writeln!(page, "| {} | {} | {} | {svm} | {vmx} |", bit.number, bit.name, needs(bit.needs)).unwrap();
    }
}

fn page() -> String {
    let mut page = String::new();
    register(&mut page, "CR0", &CR0, u64::MAX);
    register(&mut page, "CR4", &CR4, CR4_GUEST);
    register(&mut page, "EFER", &EFER, EFER_GUEST);
    page.push_str("\n### MSRs\n\n| index | name | SVM | VMX |\n|---|---|---|---|\n");
    for msr in &MSRS {
        let [svm, vmx] = msr.keepers.map(keeper);
        writeln!(page, "| {:#x} | {} | {svm} | {vmx} |", msr.index, msr.name).unwrap();
    }
    page.push('\n');
    page
}

#[test]
fn the_page_of_registers_is_what_the_tables_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/registers.md");
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (computed, after) = rest.split_once(END).unwrap();
    if env::var_os("COMITY_WRITE_PAGE").is_some() {
        fs::write(&file, format!("{before}{BEGIN}{}{END}{after}", page())).unwrap();
        return;
    }
    assert_eq!(computed, page(), "{file:?}: run this test with COMITY_WRITE_PAGE=1");
}

#[test]
fn tables_name_each_bit_and_each_register_once_and_in_order() {
    for bits in [&CR0[..], &CR4[..], &EFER[..]] {
        assert!(bits.is_sorted_by(|a, b| a.number < b.number));
    }
    assert!(MSRS.is_sorted_by(|a, b| a.index < b.index));
}

#[test]
fn a_guest_touches_what_the_world_switch_or_the_switch_of_vcpus_takes_care_of() {
    let expected = [
        0x174,
        0x175,
        0x176,
        0xc000_0081,
        0xc000_0082,
        0xc000_0083,
        0xc000_0084,
        0xc000_0100,
        0xc000_0101,
        0xc000_0102,
    ];
    assert_eq!(untouched().collect::<Vec<_>>(), expected);
}

#[test]
fn masks_of_cr0_are_what_its_table_says() {
    let of = |fits: fn(&&Bit) -> bool| CR0.iter().filter(fits).fold(0, |all, bit| all | 1_u64 << bit.number);
    assert_eq!(of(|_| true), CR0_DEFINED);
    assert_eq!(of(|bit| bit.keepers[1] == Keeper::Shadow), CR0_SHADOWED);
}
