//! Every control-register bit and MSR that a guest can name, and how the hypervisor handles it.
//!
//! Guest masks, the MSR permission maps and [the page](../../../docs/src/registers.md) are computed from these tables: an access to a
//! bit or an MSR that is in none of them raises #GP. Names are those of AMD APM vol 2 and Intel SDM vol 3 and 4.

use crate::guest::cpuid::{self, Word};

pub use crate::base::control::{CR0_PG, CR4_PAE, EFER_LMA, EFER_LME};

/// The condition on which a guest may set a bit of a control register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// No condition: every processor that runs the hypervisor has the bit.
    Nothing,
    /// The guest's CPUID announces this bit.
    Cpuid(Word, u8),
    /// No guest may set it.
    Refused,
}

/// How the hypervisor keeps the guest's value of a register, or of a bit of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeper {
    /// Every entry loads the guest's value; every exit loads the hypervisor's, or a value that the hypervisor does not use.
    World,
    /// The guest's value stays in the processor until the vCPU is switched out; the hypervisor does not use the register.
    Switch,
    /// The guest reads the value that it wrote; the processor keeps the hypervisor's.
    Shadow,
    /// Each access exits and is emulated.
    Emulated,
    /// Each access exits; reads answer zero and writes have no effect.
    Zero,
}

/// A bit of a control register.
#[derive(Clone, Copy, Debug)]
pub struct Bit {
    /// Its position in the register, 0 … 63.
    pub number: u8,
    /// The manual's name.
    pub name: &'static str,
    /// The condition on which a guest may set it; otherwise the write raises #GP.
    pub needs: Needs,
    /// How it is kept on SVM and on VMX, where a guest may set it.
    pub keepers: [Keeper; 2],
}

/// An MSR. An access to an MSR that is not listed raises #GP.
#[derive(Clone, Copy, Debug)]
pub struct ModelSpecific {
    /// Its number, as ECX of RDMSR and WRMSR gives it.
    pub index: u32,
    /// The manual's name.
    pub name: &'static str,
    /// How it is kept on SVM and on VMX.
    pub keepers: [Keeper; 2],
}

const WORLD: [Keeper; 2] = [Keeper::World; 2];
const SHADOW_ON_VMX: [Keeper; 2] = [Keeper::World, Keeper::Shadow];

const fn bit(number: u8, name: &'static str, needs: Needs, keepers: [Keeper; 2]) -> Bit {
    Bit { number, name, needs, keepers }
}

const fn by(number: u8, name: &'static str, word: Word, of: u8) -> Bit {
    bit(number, name, Needs::Cpuid(word, of), WORLD)
}

/// CR0 (APM vol 2 §3.1.1, SDM vol 3A §2.5). Neither entries nor exits of VMX load CD and NW (§26.3.2.1, §27.5.1), and VMX keeps NE set (§23.8).
pub const CR0: [Bit; 11] = [
    bit(0, "PE", Needs::Nothing, WORLD),
    bit(1, "MP", Needs::Nothing, WORLD),
    bit(2, "EM", Needs::Nothing, WORLD),
    bit(3, "TS", Needs::Nothing, WORLD),
    bit(4, "ET", Needs::Nothing, WORLD),
    bit(5, "NE", Needs::Nothing, SHADOW_ON_VMX),
    bit(16, "WP", Needs::Nothing, WORLD),
    bit(18, "AM", Needs::Nothing, WORLD),
    bit(29, "NW", Needs::Nothing, SHADOW_ON_VMX),
    bit(30, "CD", Needs::Nothing, SHADOW_ON_VMX),
    bit(31, "PG", Needs::Nothing, WORLD),
];

/// CR4 (APM vol 2 §3.1.3, SDM vol 3A §2.5).
pub const CR4: [Bit; 28] = [
    by(0, "VME", Word::Leaf1Edx, 1),
    by(1, "PVI", Word::Leaf1Edx, 1),
    by(2, "TSD", Word::Leaf1Edx, 4),
    by(3, "DE", Word::Leaf1Edx, 2),
    by(4, "PSE", Word::Leaf1Edx, 3),
    by(5, "PAE", Word::Leaf1Edx, 6),
    by(6, "MCE", Word::Leaf1Edx, 7),
    by(7, "PGE", Word::Leaf1Edx, 13),
    bit(8, "PCE", Needs::Nothing, WORLD),
    by(9, "OSFXSR", Word::Leaf1Edx, 24),
    by(10, "OSXMMEXCPT", Word::Leaf1Edx, 25),
    by(11, "UMIP", Word::Leaf7Ecx, 2),
    by(12, "LA57", Word::Leaf7Ecx, 16),
    by(13, "VMXE", Word::Leaf1Ecx, 5),
    by(14, "SMXE", Word::Leaf1Ecx, 6),
    by(16, "FSGSBASE", Word::Leaf7Ebx, 0),
    by(17, "PCIDE", Word::Leaf1Ecx, 17),
    by(18, "OSXSAVE", Word::Leaf1Ecx, 26),
    by(19, "KL", Word::Leaf7Ecx, 23),
    by(20, "SMEP", Word::Leaf7Ebx, 7),
    by(21, "SMAP", Word::Leaf7Ebx, 20),
    by(22, "PKE", Word::Leaf7Ecx, 3),
    by(23, "CET", Word::Leaf7Ecx, 7),
    by(24, "PKS", Word::Leaf7Ecx, 31),
    by(25, "UINTR", Word::Leaf7Edx, 5),
    bit(27, "LASS", Needs::Refused, WORLD),
    bit(28, "LAM_SUP", Needs::Refused, WORLD),
    bit(32, "FRED", Needs::Refused, WORLD),
];

/// EFER (APM vol 2 §3.1.7, SDM vol 3A §2.2.1).
pub const EFER: [Bit; 12] = [
    by(0, "SCE", Word::ExtendedEdx, 11),
    by(8, "LME", Word::ExtendedEdx, 29),
    by(10, "LMA", Word::ExtendedEdx, 29),
    by(11, "NXE", Word::ExtendedEdx, 20),
    by(12, "SVME", Word::ExtendedEcx, 2),
    bit(13, "LMSLE", Needs::Refused, WORLD),
    by(14, "FFXSR", Word::ExtendedEdx, 25),
    by(15, "TCE", Word::ExtendedEcx, 17),
    bit(17, "MCOMMIT", Needs::Refused, WORLD),
    bit(18, "INTWB", Needs::Refused, WORLD),
    bit(20, "UAIE", Needs::Refused, WORLD),
    bit(21, "AIBRSE", Needs::Refused, WORLD),
];

const fn msr(index: u32, name: &'static str, keepers: [Keeper; 2]) -> ModelSpecific {
    ModelSpecific { index, name, keepers }
}

const EMULATED: [Keeper; 2] = [Keeper::Emulated; 2];
const ZERO: [Keeper; 2] = [Keeper::Zero; 2];
/// On SVM the world switch includes VMLOAD and VMSAVE, which move these MSRs; on VMX the hypervisor switches them itself.
const SYSTEM_CALL: [Keeper; 2] = [Keeper::World, Keeper::Switch];

/// MSRs that a guest may access. The MSRs of the local APIC (0x800 … 0x83f) and of KVM's interface are not listed here: they are emulated
/// for the guests that have them.
pub const MSRS: [ModelSpecific; 21] = [
    msr(0x10, "TSC", EMULATED),
    msr(0x1b, "APIC_BASE", EMULATED),
    msr(0x3a, "FEATURE_CONTROL", ZERO),
    msr(0x8b, "microcode revision", ZERO),
    msr(0x174, "SYSENTER_CS", WORLD),
    msr(0x175, "SYSENTER_ESP", WORLD),
    msr(0x176, "SYSENTER_EIP", WORLD),
    msr(0x179, "MCG_CAP", ZERO),
    msr(0x17a, "MCG_STATUS", ZERO),
    msr(0x1a0, "MISC_ENABLE", ZERO),
    msr(0x277, "PAT", EMULATED),
    msr(0x6e0, "TSC_DEADLINE", EMULATED),
    msr(0xc000_0080, "EFER", EMULATED),
    msr(0xc000_0081, "STAR", SYSTEM_CALL),
    msr(0xc000_0082, "LSTAR", SYSTEM_CALL),
    msr(0xc000_0083, "CSTAR", SYSTEM_CALL),
    msr(0xc000_0084, "SFMASK", SYSTEM_CALL),
    msr(0xc000_0100, "FS_BASE", WORLD),
    msr(0xc000_0101, "GS_BASE", WORLD),
    msr(0xc000_0102, "KERNEL_GS_BASE", SYSTEM_CALL),
    msr(0xc001_0055, "interrupt pending message", ZERO),
];

/// PE of CR0: protected mode is on.
pub const CR0_PE: u64 = 1 << 0;
/// ET of CR0: always set in every processor that runs the hypervisor.
pub const CR0_ET: u64 = 1 << 4;
/// NE of CR0: x87 errors raise #MF.
pub const CR0_NE: u64 = 1 << 5;
/// NW of CR0: not write-through.
pub const CR0_NW: u64 = 1 << 29;
/// CD of CR0: caches are off.
pub const CR0_CD: u64 = 1 << 30;
/// PSE of CR4: large pages in page tables whose entries have 4 bytes.
pub const CR4_PSE: u64 = 1 << 4;
/// LA57 of CR4: 5-level paging.
pub const CR4_LA57: u64 = 1 << 12;
/// NXE of EFER: bit 63 of a page-table entry forbids execution.
pub const EFER_NXE: u64 = 1 << 11;

/// All defined bits of CR0; every guest may set each of them.
pub const CR0_DEFINED: u64 = most(&CR0);
/// Bits of CR0 that are shadowed on VMX: the guest reads the value that it wrote, and the processor keeps the hypervisor's.
pub const CR0_SHADOWED: u64 = CR0_NE | CR0_NW | CR0_CD;
/// Bits of CR4 that at least some guest may set; [`Allowed`] has the bits of one vCPU.
pub const CR4_GUEST: u64 = most(&CR4);
/// Bits of EFER that at least some guest may set.
pub const EFER_GUEST: u64 = most(&EFER);

/// Bits that a guest may set on a machine with every feature.
const fn most(bits: &[Bit]) -> u64 {
    let (mut all, mut n) = (0, 0);
    while n < bits.len() {
        let may = match bits[n].needs {
            Needs::Nothing => true,
            Needs::Cpuid(word, of) => cpuid::may_announce(word) >> of & 1 != 0,
            Needs::Refused => false,
        };
        if may {
            all |= 1 << bits[n].number;
        }
        n += 1;
    }
    all
}

/// The bits that a vCPU may set according to its CPUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// Bits of CR4.
    pub cr4: u64,
    /// Bits of EFER.
    pub efer: u64,
}

impl Allowed {
    /// The bits that a vCPU with the CPUID `table` may set.
    pub fn by(table: &cpuid::Table) -> Self {
        let of = |bits: &[Bit]| {
            let may = |bit: &&Bit| match bit.needs {
                Needs::Nothing => true,
                Needs::Cpuid(word, of) => table.word(word) >> of & 1 != 0,
                Needs::Refused => false,
            };
            bits.iter().filter(may).fold(0, |all, bit| all | 1 << bit.number)
        };
        Self { cr4: of(&CR4), efer: of(&EFER) }
    }
}

/// The MSRs that a guest accesses without an exit.
pub fn untouched() -> impl Iterator<Item = u32> {
    let direct = |msr: &&ModelSpecific| {
        msr.keepers.iter().all(|keeper| matches!(keeper, Keeper::World | Keeper::Switch))
    };
    MSRS.iter().filter(direct).map(|msr| msr.index)
}

/// Whether an MSR is kept as [`Keeper::Zero`], because kernels access it without testing whether it exists.
#[cold]
pub fn is_zero(index: u32) -> bool {
    MSRS.iter().any(|msr| msr.index == index && msr.keepers == ZERO)
}

/// L0 … G3 of DR7: the breakpoints' enable bits.
pub const DR7_ENABLES: u64 = 0xff;
/// GD of DR7: the next MOV to or from a debug register raises #DB, whose delivery clears GD.
pub const DR7_GENERAL_DETECT: u64 = 1 << 13;
/// DR6 without a cause: only the bits that are always set (APM vol 2 §13.1.1.3).
pub const DR6_CLEAR: u64 = 0xffff_0ff0;
/// B0 … B3 of DR6: the breakpoints that caused a #DB.
pub const DR6_BREAKPOINTS: u64 = 0b1111;
/// BD of DR6: a MOV to or from a debug register caused the #DB.
pub const DR6_GENERAL_DETECT: u64 = 1 << 13;
/// BS of DR6: a single step caused the #DB.
pub const DR6_STEP: u64 = 1 << 14;
/// TF of RFLAGS: a #DB follows each instruction.
pub const RFLAGS_TF: u64 = 1 << 8;
/// IF of RFLAGS: maskable interrupts are enabled.
pub const RFLAGS_IF: u64 = 1 << 9;
/// RF of RFLAGS: the next instruction meets no instruction breakpoint, and its end clears RF.
pub const RFLAGS_RF: u64 = 1 << 16;
/// Power-on PAT (AMD APM vol 2 §7.8.2, Intel SDM vol 3A §11.12.4).
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// EFER after a guest with this CR0 has written `value`; `None` when the guest may not write that.
pub fn efer_written(value: u64, before: u64, cr0: u64) -> Option<u64> {
    let refused = value & !EFER_GUEST != 0 || cr0 & CR0_PG != 0 && (value ^ before) & EFER_LME != 0;
    // LMA follows LME and paging; software cannot set it (AMD APM vol 2 §2.2.1).
    (!refused).then_some(value & !EFER_LMA | before & EFER_LMA)
}

/// EFER after CR0 was written: LMA follows paging (AMD APM vol 2 §14.6.1).
pub const fn efer_paged(efer: u64, cr0: u64) -> u64 {
    if cr0 & CR0_PG != 0 && efer & EFER_LME != 0 { efer | EFER_LMA } else { efer & !EFER_LMA }
}
