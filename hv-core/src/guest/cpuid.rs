//! The CPUID that a guest sees: one table per vCPU, built when the guest is built and read by leaf index.
//!
//! Rule: a table hides every feature that the hypervisor neither switches nor emulates; the reason stands beside the mask.

use crate::base::hardware::GuestRam;
use crate::base::time::Frequency;
use crate::guest::guest::{Guest, WINDOW_BASE, WINDOW_PAGES};
use crate::guest::kvm_state;
use crate::image::manifest::Mode;
use alloc::boxed::Box;
use core::ops::RangeInclusive;
use pv_abi::cpuid::{self as abi, CallInstruction};

/// EAX, EBX, ECX, EDX.
pub type Leaf = [u32; 4];

/// Reads the machine's own CPUID: leaf and subleaf in.
pub type Machine = fn(u32, u32) -> Leaf;

const PER_RANGE: usize = 32;
/// Ranges by leaf >> 28: 0 basic, 4 hypervisor, 8 extended.
const RANGES: usize = 3;

/// All leaves of one vCPU.
#[derive(Debug)]
pub struct Table {
    leaves: [[Leaf; PER_RANGE]; RANGES],
}

impl Table {
    /// The registers that CPUID returns. They are zero for a leaf past the last, and for any subleaf but 0 of a leaf that has several.
    #[inline]
    pub fn answer(&self, leaf: u32, subleaf: u32) -> Leaf {
        let range = match leaf >> 28 {
            0 => 0,
            4 => 1,
            8 => 2,
            _ => return [0; 4],
        };
        let index = leaf & 0x0fff_ffff;
        if subleaf != 0 && has_subleaves(leaf) {
            return [0; 4];
        }
        let leaves = &self.leaves[range];
        usize::try_from(index).ok().and_then(|index| leaves.get(index)).copied().unwrap_or([0; 4])
    }

    /// The feature bits that this vCPU's table announces in `word`.
    pub fn word(&self, word: Word) -> u32 {
        let [basic, _, extended] = &self.leaves;
        match word {
            Word::Leaf1Ecx => basic[1][2],
            Word::Leaf1Edx => basic[1][3],
            Word::Leaf7Ebx => basic[7][1],
            Word::Leaf7Ecx => basic[7][2],
            Word::Leaf7Edx => basic[7][3],
            Word::ExtendedEcx => extended[1][2],
            Word::ExtendedEdx => extended[1][3],
        }
    }
}

/// The CPUID words that announce the features on which control-register bits depend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "leaf and register")]
pub enum Word {
    Leaf1Ecx,
    Leaf1Edx,
    Leaf7Ebx,
    Leaf7Ecx,
    Leaf7Edx,
    ExtendedEcx,
    ExtendedEdx,
}

/// The feature bits that `word` may announce to any guest; a vCPU's table may have fewer.
pub const fn may_announce(word: Word) -> u32 {
    match word {
        Word::Leaf1Ecx => LEAF_1_ECX,
        Word::Leaf1Edx => LEAF_1_EDX,
        Word::Leaf7Ebx => LEAF_7_EBX,
        Word::Leaf7Ecx | Word::Leaf7Edx => 0,
        Word::ExtendedEcx => EXTENDED_ECX,
        Word::ExtendedEdx => EXTENDED_EDX,
    }
}

const fn has_subleaves(leaf: u32) -> bool {
    matches!(leaf, 4 | 7 | 0xb)
}

/// Facts about the machine from which every vCPU's table is built.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The machine's CPUID.
    pub machine: Machine,
    /// Frequency of the guest's time-stamp counter.
    pub tsc: Frequency,
    /// Frequency of the emulated APIC timer.
    pub apic_bus: Frequency,
    /// The instruction by which guests make hypercalls: VMMCALL or VMCALL.
    pub call: CallInstruction,
}

/// Leaf 1 ECX of a guest: SSE3, PCLMULQDQ, SSSE3, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND.
/// Hidden: MONITOR (not switched), VMX and SMX, XSAVE and with it AVX, FMA and F16C (XCR0 would be shared; FXSAVE is what
/// is switched), PCID (not tagged), DCA, PDCM.
const LEAF_1_ECX: u32 =
    1 << 0 | 1 << 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 25 | 1 << 30;
const X2APIC: u32 = 1 << 21;
/// Leaf 1 EDX: hidden from a cooperative guest, which has events instead.
const APIC: u32 = 1 << 9;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: everything but machine check (bits 7, 14: no banks), MTRR (12: none emulated), DS, ACPI thermal, SS, TM, PBE.
const LEAF_1_EDX: u32 = 0x0789_afff & !(1 << 7 | 1 << 12);
/// Leaf 7 EBX: FSGSBASE, BMI1, SMEP, BMI2, ERMS, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB. Hidden: everything AVX, MPX, PT, SGX, RTM.
const LEAF_7_EBX: u32 =
    1 << 0 | 1 << 3 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 23 | 1 << 24;
/// 8000_0001 ECX: LAHF, ABM, SSE4a, misaligned SSE, PREFETCHW. Hidden: SVM (not nested), extended APIC space, IBS, XOP, WDT.
const EXTENDED_ECX: u32 = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;
/// 8000_0001 EDX: SYSCALL, NX, 1 GiB pages, long mode. Hidden: FFXSR, RDTSCP (TSC_AUX is not switched).
const EXTENDED_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 29;
/// 8000_0001 EDX: copies of leaf 1 on AMD's processors (APM vol 3, appendix E.4.2); a copy is hidden where leaf 1 hides the feature.
const COPIES_OF_LEAF_1_EDX: u32 = 0x0183_f3ff;
const INVARIANT_TSC: u32 = 1 << 8;

/// Leaf 8000_0008 EAX: the width of linear addresses with 4-level paging, since 5-level paging is hidden.
const LINEAR_BITS: u32 = 48;
/// Range of the width of guest-physical addresses: from the width assumed for a processor that reports none (SDM vol 3A §4.1.4) to
/// the widest that a guest gets.
const PHYSICAL_BITS: RangeInclusive<u8> = 36..=40;

/// Width of guest-physical addresses, as CPUID leaf 8000_0008 shows it and the emulated APIC's base register checks it.
pub fn physical_bits(facts: &Facts) -> u8 {
    let [bits, ..] = (facts.machine)(0x8000_0008, 0)[0].to_le_bytes();
    bits.clamp(*PHYSICAL_BITS.start(), *PHYSICAL_BITS.end())
}

/// Makes the table of vCPU `index` of `guest`.
pub fn table<R: GuestRam>(facts: &Facts, guest: &Guest<R>, index: u8) -> Box<Table> {
    let mut table = Box::new(Table { leaves: [[[0; 4]; PER_RANGE]; RANGES] });
    let [basic, hypervisor, extended] = &mut table.leaves;
    let cooperative = guest.is_cooperative();
    let id = u32::from(index);
    let count = u32::from(guest.vcpu_count());

    let vendor = (facts.machine)(0, 0);
    basic[0] = [0xb, vendor[1], vendor[2], vendor[3]];
    let features = (facts.machine)(1, 0);
    let announced = match guest.config.mode {
        Mode::Cooperative => HYPERVISOR,
        Mode::Full => X2APIC | TSC_DEADLINE,
        Mode::Kvm => X2APIC | TSC_DEADLINE | HYPERVISOR,
    };
    let unavailable = if cooperative { APIC } else { 0 };
    basic[1] = [
        features[0],
        features[1] & 0xff00 | count << 16 | id << 24,
        features[2] & LEAF_1_ECX | announced,
        features[3] & LEAF_1_EDX & !unavailable | if count > 1 { 1 << 28 } else { 0 },
    ];
    let structured = (facts.machine)(7, 0);
    basic[7] = [0, structured[1] & LEAF_7_EBX, 0, 0];
    basic[0xb] = [0, 1, 1 << 8, id]; // one thread a core; the x2APIC id

    extended[0] = [0x8000_0008, vendor[1], vendor[2], vendor[3]];
    let more = (facts.machine)(0x8000_0001, 0);
    let shown = EXTENDED_EDX | COPIES_OF_LEAF_1_EDX & basic[1][3];
    extended[1] = [more[0], 0, more[2] & EXTENDED_ECX, more[3] & shown];
    for (to, leaf) in extended.iter_mut().skip(2).zip(0x8000_0002..=0x8000_0004) {
        *to = (facts.machine)(leaf, 0); // the brand string
    }
    extended[7] = [0, 0, 0, if guest.usable_tsc { INVARIANT_TSC } else { 0 }];
    extended[8] = [LINEAR_BITS << 8 | u32::from(physical_bits(facts)), 0, 0, 0];

    if cooperative {
        let [b, c, d] = abi::SIGNATURE;
        hypervisor[0] = [abi::LAST, b, c, d];
        hypervisor[1] = [pv_abi::VERSION.packed(), guest.features().bits(), count, id];
        let khz = |clock: Frequency| u32::try_from(clock.khz()).unwrap_or(0);
        hypervisor[2] = [khz(facts.tsc), khz(facts.apic_bus), facts.call.0, 0];
        let (low, pages) =
            (u32::try_from(WINDOW_BASE).unwrap_or(0), u32::try_from(WINDOW_PAGES).unwrap_or(0));
        hypervisor[3] = [low, 0, pages, 0];
    }
    if guest.is_kvm() {
        let [b, c, d] = kvm_state::SIGNATURE;
        hypervisor[0] = [kvm_state::LAST_LEAF, b, c, d];
        let stable = if guest.usable_tsc { kvm_state::feature::STABLE_CLOCK } else { 0 };
        hypervisor[1] = [kvm_state::FEATURES | stable, 0, 0, 0];
    }
    table
}
