//! The local APIC of this processor (Intel SDM vol 3 §11): memory-mapped, or accessed by MSRs if firmware hands over in x2APIC mode.
//! The hypervisor keeps that mode, since some processors are locked in it; every processor uses the mode of the first one.
#![expect(unsafe_code, reason = "memory-mapped registers and MSRs")]

use crate::base::addr::low;
use core::marker::PhantomData;
use spin::Once;
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

/// This processor's local APIC.
pub struct LocalApic {
    mode: Mode,
    _this_cpu_only: PhantomData<*mut ()>,
}

/// How software accesses the APIC's registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Memory-mapped, at 0xFEE0_0000.
    Xapic,
    /// By MSRs, one for each 16 bytes of the memory-mapped page (SDM vol 3A §11.12.1.2).
    X2apic,
}

/// The mode in which firmware left the first processor's APIC.
static MODE: Once<Mode> = Once::new();

/// Physical address of every processor's APIC: firmware or a loader may have moved it, and [`LocalApic::enable`] moves it back.
const BASE: usize = 0xfee0_0000;
/// Address of the EOI register in xAPIC mode.
pub const EOI_ADDRESS: usize = BASE + EOI;
/// MSR of the EOI register in x2APIC mode.
pub const EOI_MSR: u32 = msr_of(EOI);

/// Vector of the timer.
pub const TIMER_VECTOR: u8 = 0x20;
/// Vector of COM1's interrupt.
pub const SERIAL_VECTOR: u8 = 0x21;
/// Vector of kicks from other processors.
pub const KICK_VECTOR: u8 = 0x22;
/// Vector of spurious interrupts; its low four bits are ones, as the oldest APICs require.
pub const SPURIOUS_VECTOR: u8 = 0x2f;

/// An inter-processor interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ipi {
    /// An interrupt that makes the target look at the messages the sender left for it.
    Kick,
    /// A non-maskable interrupt.
    Nmi,
    /// INIT: the target resets and waits for a start-up IPI.
    Init,
    /// Start-up IPI: the target begins in real mode at this page number.
    StartUp(u8),
}

impl Ipi {
    /// The lower half of ICR (SDM vol 3A §11.6.1): vector, delivery mode in bits 10:8, assert in bit 14.
    const fn command(self) -> u32 {
        const ASSERT: u32 = 1 << 14;
        match self {
            Self::Kick => ASSERT | KICK_VECTOR as u32,
            Self::Nmi => ASSERT | 4 << 8,
            Self::Init => ASSERT | 5 << 8,
            Self::StartUp(page) => ASSERT | 6 << 8 | page as u32,
        }
    }
}

const IA32_APIC_BASE: u32 = 0x1b;
const BOOTSTRAP: u64 = 1 << 8;
const X2APIC: u64 = 1 << 10;
const ENABLE: u64 = 1 << 11;
const ID: usize = 0x20;
const VERSION: usize = 0x30;
const TASK_PRIORITY: usize = 0x80;
const EOI: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
/// 256 bits in eight words: vectors in service.
const IN_SERVICE: usize = 0x100;
const ERROR_STATUS: usize = 0x280;
const ICR_LOW: usize = 0x300;
const ICR_HIGH: usize = 0x310;
/// Delivery status: the previous IPI has not been accepted yet.
const SEND_PENDING: u32 = 1 << 12;
/// Polls of the delivery status before an IPI is dropped; xAPICs need far fewer.
const SEND_PATIENCE: u32 = 100_000;
/// The word of IRR with vectors 32 to 63: requested interrupts.
const REQUESTED: usize = 0x210;
const LVT_TIMER: usize = 0x320;
/// The local vector table: an entry's register, and the number of the last entry (bits 23:16 of the version, SDM vol 3A §11.4.8) from which
/// on an APIC has it. Every APIC has the first three; then come errors, performance counters, the thermal sensor, corrected machine checks.
const LVT: [(usize, u32); 7] =
    [(LVT_TIMER, 0), (0x350, 0), (0x360, 0), (0x370, 3), (0x340, 4), (0x330, 5), (0x2f0, 6)];
/// AMD's extended entries (APM vol 2 §16.7): bit 31 of the version says that there are some, bits 23:16 of the first register how many.
const EXTENDED: usize = 0x400;
const EXTENDED_LVT: usize = 0x500;
const MAX_EXTENDED: usize = 8;
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDE: usize = 0x3e0;
const MASKED: u32 = 1 << 16;
/// LVT_TIMER: periodic mode (SDM vol 3 §11.5.4).
const PERIODIC: u32 = 1 << 17;
const DIVIDE_BY_1: u32 = 0b1011;

/// Returns the mode of all processors' APICs; the first call, on the first processor, reads it.
pub fn mode() -> Mode {
    *MODE.call_once(|| {
        // SAFETY: every x86-64 processor has this MSR; reading it changes nothing.
        let value = unsafe { Msr::new(IA32_APIC_BASE).read() };
        if value & (X2APIC | ENABLE) == X2APIC | ENABLE { Mode::X2apic } else { Mode::Xapic }
    })
}

/// Whether one of the hypervisor's interrupts is requested and not yet taken (SDM vol 3A §11.8.4).
pub fn one_waits() -> bool {
    mode().read(REQUESTED) != 0
}

/// Sends an EOI if the interrupt of this vector is in service; returns whether it was. Only for a handler that no other handler
/// interrupts: the EOI would otherwise end the other interrupt in service instead.
pub fn end_if_in_service(vector: u8) -> bool {
    let in_service = mode().read(IN_SERVICE + usize::from(vector / 32) * 0x10) >> (vector % 32) & 1 != 0;
    if in_service {
        // SAFETY: the interrupt is in service, and no other code will end it.
        unsafe { mode().write(EOI, 0) };
    }
    in_service
}

/// The MSR of a register in x2APIC mode.
const fn msr_of(offset: usize) -> u32 {
    0x800 + low(offset as u64 >> 4)
}

impl Mode {
    /// Reads one of the registers named in this file from this processor's APIC, which is enabled and in this mode.
    #[inline]
    fn read(self, offset: usize) -> u32 {
        match self {
            // SAFETY: the page is below 4 GiB and so mapped (I-4); the offset lies in it, aligned; what is read has no side effects.
            Self::Xapic => unsafe {
                core::ptr::with_exposed_provenance::<u32>(BASE + offset).read_volatile()
            },
            Self::X2apic => read_msr(offset),
        }
    }

    /// Writes one of the registers named in this file.
    ///
    /// # Safety
    ///
    /// As for `read`, and nothing else drives this APIC.
    #[inline]
    unsafe fn write(self, offset: usize, value: u32) {
        match self {
            // SAFETY: as in `read`.
            Self::Xapic => unsafe {
                core::ptr::with_exposed_provenance_mut::<u32>(BASE + offset).write_volatile(value);
            },
            // SAFETY: by contract.
            Self::X2apic => unsafe { write_msr(offset, value) },
        }
    }
}

/// [`Mode::read`] in x2APIC mode. Cold, so that the xAPIC path stays short: each vCPU switch sets the timer.
#[cold]
#[inline(never)]
fn read_msr(offset: usize) -> u32 {
    // SAFETY: in this mode the register is an MSR; reading it has no side effects.
    unsafe { low(Msr::new(msr_of(offset)).read()) }
}

/// [`Mode::write`] in x2APIC mode.
///
/// # Safety
///
/// As for [`Mode::write`].
#[cold]
#[inline(never)]
unsafe fn write_msr(offset: usize, value: u32) {
    // SAFETY: in this mode the register is an MSR; by contract.
    unsafe { Msr::new(msr_of(offset)).write(value.into()) };
}

impl LocalApic {
    /// Enables the APIC at `BASE` in the mode of all processors, with its timer in one-shot mode, every other source masked and no
    /// interrupt in service, regardless of the state in which firmware and loader left it.
    ///
    /// # Safety
    ///
    /// Runs at CPL 0 with the page at 0xFEE0_0000 mapped at its physical address, and nothing else drives this APIC.
    pub unsafe fn enable() -> Self {
        mask_8259s();
        let mode = mode();
        let mut msr = Msr::new(IA32_APIC_BASE);
        // SAFETY: every x86-64 processor has this MSR; the write changes nothing but the APIC. A processor leaves x2APIC mode by way of
        // "disabled", and enters it directly (SDM vol 3A §11.12.5); it enters only after the first processor was found in that mode.
        unsafe {
            let value = msr.read();
            let wanted = BASE as u64 | value & BOOTSTRAP | ENABLE;
            if value & X2APIC != 0 && mode == Mode::Xapic {
                msr.write(value & !(X2APIC | ENABLE));
            }
            if value & X2APIC == 0 || mode == Mode::Xapic {
                msr.write(wanted);
            }
            if mode == Mode::X2apic {
                msr.write(wanted | X2APIC);
            }
        }
        let mut apic = Self { mode, _this_cpu_only: PhantomData };
        apic.write(SPURIOUS, 1 << 8 | u32::from(SPURIOUS_VECTOR));
        apic.write(TASK_PRIORITY, 0);
        apic.mask_sources();
        apic.end_what_is_in_service();
        apic.write(DIVIDE, DIVIDE_BY_1);
        apic.write(INITIAL_COUNT, 0);
        apic.write(LVT_TIMER, u32::from(TIMER_VECTOR));
        apic
    }

    /// Masks every entry of the local vector table. An interrupt that an entry has already requested still arrives, without an owner.
    fn mask_sources(&mut self) {
        let version = self.read(VERSION);
        let last = version >> 16 & 0xff;
        for (register, _) in LVT.into_iter().filter(|(_, from)| last >= *from) {
            self.write(register, MASKED);
        }
        if version >> 31 != 0 {
            let count = usize::try_from(self.read(EXTENDED) >> 16 & 0xff).unwrap_or(0).min(MAX_EXTENDED);
            for n in 0..count {
                self.write(EXTENDED_LVT + n * 0x10, MASKED);
            }
        }
        self.write(ERROR_STATUS, 0);
    }

    /// Ends interrupts that firmware took and never ended: otherwise their priority class would stay blocked for good.
    fn end_what_is_in_service(&mut self) {
        let words = || (0..8).map(|n| IN_SERVICE + n * 0x10);
        for _ in 0..256 {
            if words().all(|word| self.read(word) == 0) {
                break;
            }
            self.write(EOI, 0);
        }
    }

    /// Returns this processor's APIC in its present state, for the panic report: its previous owner has stopped.
    ///
    /// # Safety
    ///
    /// As for [`Self::enable`], which was called on this processor before.
    pub unsafe fn as_is() -> Self {
        Self { mode: mode(), _this_cpu_only: PhantomData }
    }

    /// Puts the timer into periodic mode.
    pub fn repeat_timer(&mut self) {
        self.write(LVT_TIMER, PERIODIC | u32::from(TIMER_VECTOR));
    }

    /// Puts the timer back into one-shot mode, as after [`Self::enable`].
    pub fn stop_repeating(&mut self) {
        self.write(LVT_TIMER, u32::from(TIMER_VECTOR));
    }

    /// Starts the timer: it interrupts after `count` of its ticks; 0 stops it.
    #[inline]
    pub fn set_timer(&mut self, count: u32) {
        self.write(INITIAL_COUNT, count);
    }

    /// Returns the timer ticks left until it interrupts.
    pub fn timer_left(&self) -> u32 {
        self.read(CURRENT_COUNT)
    }

    /// Returns this APIC's id, by which other processors address it.
    pub fn id(&self) -> u32 {
        match self.mode {
            Mode::Xapic => self.read(ID) >> 24,
            Mode::X2apic => self.read(ID),
        }
    }

    /// Sends an IPI to the processor with this APIC id. An IPI that cannot be sent is lost: this happens only if the bus is broken.
    pub fn send(&mut self, id: u32, ipi: Ipi) {
        match self.mode {
            Mode::Xapic => {
                self.wait_until_sent();
                self.write(ICR_HIGH, id << 24);
                self.write(ICR_LOW, ipi.command());
            }
            // SAFETY: the register is one MSR in this mode. Its write does not wait for earlier stores, which the interrupted
            // processor must see: the fences do (SDM vol 3A §11.12.3).
            Mode::X2apic => unsafe {
                core::arch::x86_64::_mm_mfence();
                core::arch::x86_64::_mm_lfence();
                Msr::new(msr_of(ICR_LOW)).write(u64::from(id) << 32 | u64::from(ipi.command()));
            },
        }
    }

    fn wait_until_sent(&self) {
        for _ in 0..SEND_PATIENCE {
            if self.read(ICR_LOW) & SEND_PENDING == 0 {
                return;
            }
            core::hint::spin_loop();
        }
    }

    #[inline]
    fn write(&mut self, offset: usize, value: u32) {
        // SAFETY: this is the one that drives this APIC, which is in this mode (contract of `enable`).
        unsafe { self.mode.write(offset, value) };
    }

    fn read(&self, offset: usize) -> u32 {
        self.mode.read(offset)
    }
}

/// Masks both 8259s, before LINT0: an interrupt that the firmware's 8254 had raised is withdrawn only while LINT0 still
/// passes it on. Otherwise it stays pending with nobody to name its vector, and QEMU 7.2 delivers vector -1 at the first
/// STI: #GP with error code 0xfffffffffffffff2.
fn mask_8259s() {
    for port in [0x21, 0xa1] {
        // SAFETY: the data ports of the 8259s, which nothing else uses; all inputs masked.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}
