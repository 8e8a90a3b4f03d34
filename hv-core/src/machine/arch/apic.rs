//! The local APIC of this processor (Intel SDM vol 3 §11): memory-mapped, or by MSRs where firmware hands over in x2APIC mode. That mode
//! is kept, since some processors are locked in it; every processor follows the first one.
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

/// How its registers are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In memory, at 0xFEE0_0000.
    Xapic,
    /// By MSRs, one for 16 bytes (SDM vol 3A §11.12.1.2).
    X2apic,
}

/// The first processor's, as it was found.
static MODE: Once<Mode> = Once::new();

/// Where every processor's is: firmware or a loader may have moved it, and [`LocalApic::enable`] puts it back.
const BASE: usize = 0xfee0_0000;
/// Where an interrupt is ended in xAPIC mode.
pub const EOI_ADDRESS: usize = BASE + EOI;
/// The same in x2APIC mode.
pub const EOI_MSR: u32 = msr_of(EOI);

/// Vector of the timer.
pub const TIMER_VECTOR: u8 = 0x20;
/// Vector of the serial line.
pub const SERIAL_VECTOR: u8 = 0x21;
/// Vector of kicks from other processors.
pub const KICK_VECTOR: u8 = 0x22;
/// Spurious interrupts; its low four bits are ones, as the oldest APICs want.
pub const SPURIOUS_VECTOR: u8 = 0x2f;

/// What one processor sends another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ipi {
    /// An interrupt that says: look at what was left for you.
    Kick,
    /// A non-maskable interrupt.
    Nmi,
    /// INIT: reset, and wait for a start-up.
    Init,
    /// Start-up in real mode at this page.
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
/// Delivery status: the message before has not been accepted yet.
const SEND_PENDING: u32 = 1 << 12;
/// Looks at the delivery status before a message is given up; xAPICs take far fewer.
const SEND_PATIENCE: u32 = 100_000;
/// Vectors 32 to 63 that were requested.
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
/// LVT_TIMER: in periods (SDM vol 3 §11.5.4).
const PERIODIC: u32 = 1 << 17;
const DIVIDE_BY_1: u32 = 0b1011;

/// The mode of all processors. The first question comes from the first one.
pub fn mode() -> Mode {
    *MODE.call_once(|| {
        // SAFETY: every x86-64 processor has this MSR; reading it changes nothing.
        let value = unsafe { Msr::new(IA32_APIC_BASE).read() };
        if value & (X2APIC | ENABLE) == X2APIC | ENABLE { Mode::X2apic } else { Mode::Xapic }
    })
}

/// Whether one of our interrupts was requested and not taken (SDM vol 3A §11.8.4).
pub fn one_waits() -> bool {
    mode().read(REQUESTED) != 0
}

/// Ends the interrupt of this vector if it is in service; whether it was. For a handler, which no other one interrupts: whatever
/// else is in service would be ended in its place.
pub fn end_if_in_service(vector: u8) -> bool {
    let in_service = mode().read(IN_SERVICE + usize::from(vector / 32) * 0x10) >> (vector % 32) & 1 != 0;
    if in_service {
        // SAFETY: it is in service, and nobody else will end it.
        unsafe { mode().write(EOI, 0) };
    }
    in_service
}

/// The MSR of a register in x2APIC mode.
const fn msr_of(offset: usize) -> u32 {
    0x800 + low(offset as u64 >> 4)
}

impl Mode {
    /// Reads one of the registers named here, of this processor's APIC, which is on and in this mode.
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

    /// Writes one.
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

/// [`Mode::read`] in x2APIC mode. Out of the way of the other one, whose timer each switch of vCPUs sets.
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
/// As there.
#[cold]
#[inline(never)]
unsafe fn write_msr(offset: usize, value: u32) {
    // SAFETY: in this mode the register is an MSR; by contract.
    unsafe { Msr::new(msr_of(offset)).write(value.into()) };
}

impl LocalApic {
    /// Turns the APIC on, where and as we drive it, with its timer in one-shot mode, everything else masked and nothing in service:
    /// whatever firmware and loader had it do.
    ///
    /// # Safety
    ///
    /// Runs at CPL 0 with the page at 0xFEE0_0000 mapped at its physical address, and nothing else drives this APIC.
    pub unsafe fn enable() -> Self {
        mask_8259s();
        let mode = mode();
        let mut msr = Msr::new(IA32_APIC_BASE);
        // SAFETY: every x86-64 processor has this MSR; what is written changes nothing but the APIC. From x2APIC mode back the way is
        // through "disabled", and into it directly (SDM vol 3A §11.12.5); a processor goes there only after the first one has been.
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

    /// Masks every entry of the local vector table. What it has requested already comes, and belongs to nobody.
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

    /// Ends what firmware took and left: its priority class would be held back for good.
    fn end_what_is_in_service(&mut self) {
        let words = || (0..8).map(|n| IN_SERVICE + n * 0x10);
        for _ in 0..256 {
            if words().all(|word| self.read(word) == 0) {
                break;
            }
            self.write(EOI, 0);
        }
    }

    /// This processor's APIC as it is, for last words: whoever had it has stopped.
    ///
    /// # Safety
    ///
    /// As for [`Self::enable`], which was called on this processor before.
    pub unsafe fn as_is() -> Self {
        Self { mode: mode(), _this_cpu_only: PhantomData }
    }

    /// Lets the timer start over whenever it has run down, instead of stopping.
    pub fn repeat_timer(&mut self) {
        self.write(LVT_TIMER, PERIODIC | u32::from(TIMER_VECTOR));
    }

    /// Lets the timer stop when it has run down, as after [`Self::enable`].
    pub fn stop_repeating(&mut self) {
        self.write(LVT_TIMER, u32::from(TIMER_VECTOR));
    }

    /// Starts the timer: it interrupts after `count` of its ticks; 0 stops it.
    #[inline]
    pub fn set_timer(&mut self, count: u32) {
        self.write(INITIAL_COUNT, count);
    }

    /// What is left of the count.
    pub fn timer_left(&self) -> u32 {
        self.read(CURRENT_COUNT)
    }

    /// Its id, by which others send to it.
    pub fn id(&self) -> u32 {
        match self.mode {
            Mode::Xapic => self.read(ID) >> 24,
            Mode::X2apic => self.read(ID),
        }
    }

    /// Sends to the processor with this id. A message that cannot be sent is lost: then the bus is broken.
    pub fn send(&mut self, id: u32, ipi: Ipi) {
        match self.mode {
            Mode::Xapic => {
                self.wait_until_sent();
                self.write(ICR_HIGH, id << 24);
                self.write(ICR_LOW, ipi.command());
            }
            // SAFETY: the register is one MSR in this mode. Its write does not wait for the stores before it, which whoever is
            // interrupted is to see: the fences do (SDM vol 3A §11.12.3).
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
