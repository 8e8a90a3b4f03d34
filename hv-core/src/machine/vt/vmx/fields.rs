//! Fields of the VMCS by their encodings. Intel SDM vol 3D (order 325462-080US), appendix B.

use core::marker::PhantomData;

/// A field whose values are `T`: its encoding says how wide it is, and a wrong pair does not compile.
#[derive(Clone, Copy, Debug)]
pub struct Field<T>(u32, PhantomData<T>);

impl<T> Field<T> {
    const fn new(encoding: u32) -> Self {
        // Bits 14:13: 16 bits, 64 bits, 32 bits, natural (§24.11.2).
        let width = encoding >> 13 & 0b11;
        assert!(matches!((size_of::<T>(), width), (2, 0) | (4, 2) | (8, 1 | 3)), "a field of another width");
        Self(encoding, PhantomData)
    }

    /// As VMREAD and VMWRITE take it.
    #[inline(always)]
    pub const fn encoding(self) -> u64 {
        self.0 as u64
    }
}

/// The four fields of a segment register.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFields {
    pub selector: Field<u16>,
    pub limit: Field<u32>,
    pub access: Field<u32>,
    pub base: Field<u64>,
}

impl SegmentFields {
    /// The n-th, in the order ES CS SS DS FS GS LDTR TR.
    const fn nth(n: u32) -> Self {
        Self {
            selector: Field::new(0x0800 + 2 * n),
            limit: Field::new(0x4800 + 2 * n),
            access: Field::new(0x4814 + 2 * n),
            base: Field::new(0x6806 + 2 * n),
        }
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $encoding:literal;)*) => {
        $($(#[$doc])* pub const $name: Field<$type> = Field::new($encoding);)*
    };
}

pub const ES: SegmentFields = SegmentFields::nth(0);
pub const CS: SegmentFields = SegmentFields::nth(1);
pub const SS: SegmentFields = SegmentFields::nth(2);
pub const DS: SegmentFields = SegmentFields::nth(3);
pub const FS: SegmentFields = SegmentFields::nth(4);
pub const GS: SegmentFields = SegmentFields::nth(5);
pub const LDTR: SegmentFields = SegmentFields::nth(6);
pub const TR: SegmentFields = SegmentFields::nth(7);

fields! {
    VPID: u16 = 0x0000;
    HOST_ES: u16 = 0x0c00;
    HOST_CS: u16 = 0x0c02;
    HOST_SS: u16 = 0x0c04;
    HOST_DS: u16 = 0x0c06;
    HOST_FS: u16 = 0x0c08;
    HOST_GS: u16 = 0x0c0a;
    HOST_TR: u16 = 0x0c0c;

    IO_MAP_A: u64 = 0x2000;
    IO_MAP_B: u64 = 0x2002;
    MSR_MAP: u64 = 0x2004;
    VIRTUAL_APIC: u64 = 0x2012;
    EPT_POINTER: u64 = 0x201a;
    GUEST_PHYSICAL: u64 = 0x2400;
    LINK_POINTER: u64 = 0x2800;
    DEBUGCTL: u64 = 0x2802;
    PAT: u64 = 0x2804;
    EFER: u64 = 0x2806;
    HOST_PAT: u64 = 0x2c00;
    HOST_EFER: u64 = 0x2c02;

    PIN_CONTROLS: u32 = 0x4000;
    PRIMARY_CONTROLS: u32 = 0x4002;
    EXCEPTION_BITMAP: u32 = 0x4004;
    CR3_TARGET_COUNT: u32 = 0x400a;
    EXIT_CONTROLS: u32 = 0x400c;
    EXIT_MSR_STORE_COUNT: u32 = 0x400e;
    EXIT_MSR_LOAD_COUNT: u32 = 0x4010;
    ENTRY_CONTROLS: u32 = 0x4012;
    ENTRY_MSR_LOAD_COUNT: u32 = 0x4014;
    ENTRY_EVENT: u32 = 0x4016;
    ENTRY_ERROR: u32 = 0x4018;
    ENTRY_LENGTH: u32 = 0x401a;
    TPR_THRESHOLD: u32 = 0x401c;
    SECONDARY_CONTROLS: u32 = 0x401e;
    PLE_GAP: u32 = 0x4020;
    PLE_WINDOW: u32 = 0x4022;
    EXIT_REASON: u32 = 0x4402;
    EXIT_EVENT: u32 = 0x4404;
    VECTORING_EVENT: u32 = 0x4408;
    VECTORING_ERROR: u32 = 0x440a;
    INSTRUCTION_LENGTH: u32 = 0x440c;
    GDTR_LIMIT: u32 = 0x4810;
    IDTR_LIMIT: u32 = 0x4812;
    INTERRUPTIBILITY: u32 = 0x4824;
    ACTIVITY: u32 = 0x4826;
    SYSENTER_CS: u32 = 0x482a;
    PREEMPTION_TIMER: u32 = 0x482e;
    HOST_SYSENTER_CS: u32 = 0x4c00;

    CR0_MASK: u64 = 0x6000;
    CR4_MASK: u64 = 0x6002;
    CR0_SHADOW: u64 = 0x6004;
    CR4_SHADOW: u64 = 0x6006;
    QUALIFICATION: u64 = 0x6400;
    CR0: u64 = 0x6800;
    CR3: u64 = 0x6802;
    CR4: u64 = 0x6804;
    GDTR_BASE: u64 = 0x6816;
    IDTR_BASE: u64 = 0x6818;
    DR7: u64 = 0x681a;
    RSP: u64 = 0x681c;
    RIP: u64 = 0x681e;
    RFLAGS: u64 = 0x6820;
    PENDING_DEBUG: u64 = 0x6822;
    SYSENTER_ESP: u64 = 0x6824;
    SYSENTER_EIP: u64 = 0x6826;
    HOST_CR0: u64 = 0x6c00;
    HOST_CR3: u64 = 0x6c02;
    HOST_CR4: u64 = 0x6c04;
    HOST_FS_BASE: u64 = 0x6c06;
    HOST_GS_BASE: u64 = 0x6c08;
    HOST_TR_BASE: u64 = 0x6c0a;
    HOST_GDTR_BASE: u64 = 0x6c0c;
    HOST_IDTR_BASE: u64 = 0x6c0e;
    HOST_SYSENTER_ESP: u64 = 0x6c10;
    HOST_SYSENTER_EIP: u64 = 0x6c12;
    HOST_RSP: u64 = 0x6c14;
    HOST_RIP: u64 = 0x6c16;
}

/// What PAE paging has loaded of its page-directory-pointer table (§24.4.2).
pub const PDPTES: [Field<u64>; 4] =
    [Field::new(0x280a), Field::new(0x280c), Field::new(0x280e), Field::new(0x2810)];
