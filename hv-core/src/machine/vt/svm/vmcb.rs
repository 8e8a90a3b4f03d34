//! The virtual-machine control block. AMD APM vol 2, publication 24593, rev 3.42, appendix B.
//! Owns the layout and the meaning of its bits; who sets what when is `super`'s.

use bitflags::bitflags;
use core::mem::offset_of;

/// Control area and state-save area of one vCPU: one page, known to the processor by its physical address.
#[repr(C, align(4096))]
pub struct Vmcb {
    /// What is intercepted, injected and reported.
    pub control: Control,
    _gap: [u8; 0x400 - size_of::<Control>()],
    /// The guest's state.
    pub save: Save,
    _tail: [u8; 0x1000 - 0x400 - size_of::<Save>()],
}

/// What is intercepted, injected and reported (table B-1).
#[repr(C)]
pub struct Control {
    pub intercept_cr: CrIntercepts,           // 0x000
    pub intercept_dr: u32,                    // 0x004
    pub intercept_exceptions: u32,            // 0x008
    pub intercept_instructions: Instructions, // 0x00c
    pub intercept_svm: SvmInstructions,       // 0x010
    _reserved_0: [u8; 0x28],
    pub pause_threshold: u16,                // 0x03c
    pub pause_count: u16,                    // 0x03e
    pub io_map: u64,                         // 0x040
    pub msr_map: u64,                        // 0x048
    pub tsc_offset: u64,                     // 0x050
    pub asid: u32,                           // 0x058
    pub tlb_control: u32,                    // 0x05c
    pub virtual_interrupt: VirtualInterrupt, // 0x060
    pub interrupt_shadow: u64,               // 0x068
    pub exit_code: u64,                      // 0x070
    pub exit_info_1: u64,                    // 0x078
    pub exit_info_2: u64,                    // 0x080
    pub exit_interrupt_info: u64,            // 0x088
    pub nested_paging: u64,                  // 0x090
    _reserved_1: [u8; 0x10],
    pub event_injection: u64, // 0x0a8
    pub nested_cr3: u64,      // 0x0b0
    pub lbr: u64,             // 0x0b8
    pub clean: u64,           // 0x0c0
    pub next_rip: u64,        // 0x0c8
}

/// A segment register as the processor keeps it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Segment {
    pub selector: u16,
    /// Descriptor bits 55:52 and 47:40, packed into 12.
    pub attributes: u16,
    pub limit: u32,
    pub base: u64,
}

/// The guest's state (table B-2). VMRUN switches some of it, VMLOAD and VMSAVE the rest; general registers but RAX and RSP are ours.
#[repr(C)]
pub struct Save {
    pub es: Segment,   // 0x400
    pub cs: Segment,   // 0x410
    pub ss: Segment,   // 0x420
    pub ds: Segment,   // 0x430
    pub fs: Segment,   // 0x440
    pub gs: Segment,   // 0x450
    pub gdtr: Segment, // 0x460
    pub ldtr: Segment, // 0x470
    pub idtr: Segment, // 0x480
    pub tr: Segment,   // 0x490
    _reserved_0: [u8; 0x2b],
    pub cpl: u8, // 0x4cb
    _reserved_1: [u8; 4],
    pub efer: u64, // 0x4d0
    _reserved_2: [u8; 0x70],
    pub cr4: u64,    // 0x548
    pub cr3: u64,    // 0x550
    pub cr0: u64,    // 0x558
    pub dr7: u64,    // 0x560
    pub dr6: u64,    // 0x568
    pub rflags: u64, // 0x570
    pub rip: u64,    // 0x578
    _reserved_3: [u8; 0x58],
    pub rsp: u64, // 0x5d8
    _reserved_4: [u8; 0x18],
    pub rax: u64,            // 0x5f8
    pub star: u64,           // 0x600
    pub lstar: u64,          // 0x608
    pub cstar: u64,          // 0x610
    pub sfmask: u64,         // 0x618
    pub kernel_gs_base: u64, // 0x620
    pub sysenter_cs: u64,    // 0x628
    pub sysenter_esp: u64,   // 0x630
    pub sysenter_eip: u64,   // 0x638
    pub cr2: u64,            // 0x640
    _reserved_5: [u8; 0x20],
    pub pat: u64, // 0x668
}

const _: () = {
    assert!(size_of::<Vmcb>() == 0x1000);
    assert!(offset_of!(Vmcb, save) == 0x400);
    assert!(offset_of!(Control, intercept_svm) == 0x010);
    assert!(offset_of!(Control, pause_count) == 0x03e);
    assert!(offset_of!(Control, io_map) == 0x040);
    assert!(offset_of!(Control, asid) == 0x058);
    assert!(offset_of!(Control, virtual_interrupt) == 0x060);
    assert!(offset_of!(Control, exit_code) == 0x070);
    assert!(offset_of!(Control, nested_paging) == 0x090);
    assert!(offset_of!(Control, event_injection) == 0x0a8);
    assert!(offset_of!(Control, nested_cr3) == 0x0b0);
    assert!(offset_of!(Control, next_rip) == 0x0c8);
    assert!(offset_of!(Save, tr) == 0x090);
    assert!(offset_of!(Save, cpl) == 0x0cb);
    assert!(offset_of!(Save, efer) == 0x0d0);
    assert!(offset_of!(Save, cr4) == 0x148);
    assert!(offset_of!(Save, rip) == 0x178);
    assert!(offset_of!(Save, rsp) == 0x1d8);
    assert!(offset_of!(Save, rax) == 0x1f8);
    assert!(offset_of!(Save, cr2) == 0x240);
    assert!(offset_of!(Save, pat) == 0x268);
};

bitflags! {
    /// Intercept vector 0 (APM vol 2 §15.9 and table B-1, 0x000): reads of control registers in bits 15:0, writes in bits 31:16.
    #[derive(Clone, Copy, Debug)]
    #[repr(transparent)]
    pub struct CrIntercepts: u32 {
        /// MOV to CR4.
        const WRITE_CR4 = 1 << 20;
        /// MOV to CR8.
        const WRITE_CR8 = 1 << 24;
    }

    /// Intercept vector 3 (APM vol 2 §15.9 and table B-1, 0x00c).
    #[derive(Clone, Copy, Debug)]
    #[repr(transparent)]
    pub struct Instructions: u32 {
        /// Physical maskable interrupts.
        const INTR = 1 << 0;
        /// Non-maskable interrupts.
        const NMI = 1 << 1;
        /// INIT signals.
        const INIT = 1 << 3;
        /// The guest became able to take a virtual interrupt.
        const VINTR = 1 << 4;
        /// LTR.
        const TR_WRITE = 1 << 13;
        /// RDPMC.
        const RDPMC = 1 << 15;
        /// CPUID.
        const CPUID = 1 << 18;
        /// IRET.
        const IRET = 1 << 20;
        /// INVD.
        const INVD = 1 << 22;
        /// PAUSE.
        const PAUSE = 1 << 23;
        /// HLT.
        const HLT = 1 << 24;
        /// INVLPGA.
        const INVLPGA = 1 << 26;
        /// IN and OUT, by the I/O permission map.
        const IOIO = 1 << 27;
        /// RDMSR and WRMSR, by the MSR permission map.
        const MSR = 1 << 28;
        /// Task switches.
        const TASK_SWITCH = 1 << 29;
        /// Shutdown: a triple fault.
        const SHUTDOWN = 1 << 31;
    }

    /// Intercept vector 4 (table B-1, 0x010).
    #[derive(Clone, Copy, Debug)]
    #[repr(transparent)]
    pub struct SvmInstructions: u32 {
        /// VMRUN; VMRUN refuses to start without it.
        const VMRUN = 1 << 0;
        /// VMMCALL: our calls.
        const VMMCALL = 1 << 1;
        /// VMLOAD.
        const VMLOAD = 1 << 2;
        /// VMSAVE.
        const VMSAVE = 1 << 3;
        /// STGI.
        const STGI = 1 << 4;
        /// CLGI.
        const CLGI = 1 << 5;
        /// SKINIT.
        const SKINIT = 1 << 6;
        /// RDTSCP and RDPID, whose TSC_AUX is not switched.
        const RDTSCP = 1 << 7;
        /// INT1 (ICEBP).
        const ICEBP = 1 << 8;
        /// WBINVD.
        const WBINVD = 1 << 9;
        /// MONITOR.
        const MONITOR = 1 << 10;
        /// MWAIT.
        const MWAIT = 1 << 11;
        /// XSETBV (not intercepted by QEMU 7.2's TCG).
        const XSETBV = 1 << 13;
        /// RDPRU, which reads the machine's MPERF and APERF.
        const RDPRU = 1 << 14;
    }

    /// Virtual interrupt control (APM vol 2 §15.21, table B-1, 0x060). Bits 3:0 are V_TPR, bits 39:32 V_INTR_VECTOR.
    #[derive(Clone, Copy, Debug)]
    #[repr(transparent)]
    pub struct VirtualInterrupt: u64 {
        /// A virtual interrupt is pending.
        const PENDING = 1 << 8;
        /// V_INTR_PRIO, all bits: it opens above V_TPR.
        const PRIORITY = 0xf << 16;
        /// V_TPR does not hold it back.
        const IGNORE_TPR = 1 << 20;
        /// The guest's IF and CR8 are its own; the host's IF masks physical interrupts.
        const MASKING = 1 << 24;
        const _ = !0;
    }
}

impl VirtualInterrupt {
    /// V_INTR_PRIO for a class of vectors, 0 … 15.
    pub const fn priority(class: u8) -> Self {
        Self::from_bits_retain((class as u64 & 0xf) << 16)
    }

    /// The same with V_INTR_VECTOR.
    pub const fn with_vector(self, vector: u8) -> Self {
        Self::from_bits_retain(self.bits() & !(0xff << 32) | (vector as u64) << 32)
    }

    /// V_INTR_VECTOR.
    pub const fn vector(self) -> u8 {
        self.bits().to_le_bytes()[4]
    }
}

/// EVENTINJ and EXITINTINFO (APM vol 2 §15.20): bit 31 says that the rest means something.
pub mod event {
    /// The field is valid.
    pub const VALID: u64 = 1 << 31;
    /// Bits 10:8: an external interrupt.
    pub const INTERRUPT: u64 = 0 << 8;
    /// Bits 10:8: an NMI.
    pub const NMI: u64 = 2 << 8;
    /// Bits 10:8: an exception.
    pub const EXCEPTION: u64 = 3 << 8;
    /// Bit 11: bits 63:32 are an error code.
    pub const HAS_ERROR: u64 = 1 << 11;
    /// Bits 10:8.
    pub const TYPE_MASK: u64 = 7 << 8;
    /// Bits 10:8: a software interrupt.
    pub const SOFTWARE: u64 = 4 << 8;
    /// Bits 7:0.
    pub const VECTOR_MASK: u64 = 0xff;
    /// Bits 63:32: the error code.
    pub const ERROR_SHIFT: u32 = 32;
}

/// Exit codes (APM vol 2, appendix C) that have an arm; `super::codes` has all.
pub mod code {
    pub const WRITE_CR4: u64 = 0x14;
    pub const WRITE_CR8: u64 = 0x18;
    pub const READ_DR0: u64 = 0x20;
    pub const WRITE_DR15: u64 = 0x3f;
    /// #DE; those of the other exceptions follow in the order of their vectors.
    pub const FIRST_EXCEPTION: u64 = 0x40;
    pub const LAST_EXCEPTION: u64 = 0x5f;
    /// #DB.
    pub const DEBUG: u64 = 0x41;
    /// #AC.
    pub const ALIGNMENT: u64 = 0x51;
    /// #MC.
    pub const MACHINE_CHECK: u64 = 0x52;
    pub const INTR: u64 = 0x60;
    /// Ours, beyond the processor's: an interrupt waited, and the guest was not entered.
    pub const NOT_ENTERED: u64 = 1 << 32;
    pub const NMI: u64 = 0x61;
    pub const INIT: u64 = 0x63;
    pub const VINTR: u64 = 0x64;
    /// LTR.
    pub const TR_WRITE: u64 = 0x6d;
    pub const IRET: u64 = 0x74;
    pub const CPUID: u64 = 0x72;
    pub const PAUSE: u64 = 0x77;
    pub const HLT: u64 = 0x78;
    pub const IOIO: u64 = 0x7b;
    pub const MSR: u64 = 0x7c;
    pub const TASK_SWITCH: u64 = 0x7d;
    pub const SHUTDOWN: u64 = 0x7f;
    pub const VMMCALL: u64 = 0x81;
    /// INT1.
    pub const ICEBP: u64 = 0x88;
    pub const NPF: u64 = 0x400;
    pub const WBINVD: u64 = 0x89;
    pub const INVD: u64 = 0x76;
    /// VMEXIT_INVALID, and as QEMU's TCG writes it.
    pub const INVALID: u64 = u64::MAX;
    pub const INVALID_32: u64 = 0xffff_ffff;
}

/// `intercept_dr`: every read (bits 15:0) and write (bits 31:16) of a debug register.
pub const ALL_DEBUG_REGISTERS: u32 = !0;

/// TLB_CONTROL: flush everything (the only value QEMU's TCG acts on; APM vol 2 §15.16.1).
pub const FLUSH_ALL: u32 = 1;
/// TLB_CONTROL: flush this guest's identifier, where the processor can (§15.16.2).
pub const FLUSH_ASID: u32 = 3;
