//! The local APIC of this processor, memory-mapped (Intel SDM vol 3 §11; QEMU's TCG has no x2APIC).
#![expect(unsafe_code, reason = "memory-mapped registers")]

use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

/// This processor's local APIC.
pub struct LocalApic {
    base: *mut u32,
}

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
const ENABLE: u64 = 1 << 11;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ID: usize = 0x20;
const TASK_PRIORITY: usize = 0x80;
const SPURIOUS: usize = 0xf0;
const ICR_LOW: usize = 0x300;
const ICR_HIGH: usize = 0x310;
/// Delivery status: the message before has not been accepted yet.
const SEND_PENDING: u32 = 1 << 12;
/// Looks at the delivery status before a message is given up; xAPICs take far fewer.
const SEND_PATIENCE: u32 = 100_000;
/// Vectors 32 to 63 that were requested, where every PC has the page.
const REQUESTED: usize = 0xfee0_0210;
const LVT_TIMER: usize = 0x320;
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDE: usize = 0x3e0;
const MASKED: u32 = 1 << 16;
/// LVT_TIMER: in periods (SDM vol 3 §11.5.4).
const PERIODIC: u32 = 1 << 17;
const DIVIDE_BY_1: u32 = 0b1011;

/// Whether one of our interrupts was requested and not taken (SDM vol 3A §11.8.4).
pub fn one_waits() -> bool {
    // SAFETY: the register page is mapped below 4 GiB, and reading a request register has no effect.
    unsafe { core::ptr::with_exposed_provenance::<u32>(REQUESTED).read_volatile() != 0 }
}

impl LocalApic {
    /// Turns the APIC on with its timer in one-shot mode and everything else masked.
    ///
    /// # Safety
    ///
    /// Runs at CPL 0 with the APIC's page mapped at its physical address, and nothing else drives this APIC.
    pub unsafe fn enable() -> Self {
        let mut msr = Msr::new(IA32_APIC_BASE);
        // SAFETY: every x86-64 processor has this MSR; the enable bit changes nothing but the APIC.
        let address = unsafe {
            let value = msr.read();
            msr.write(value | ENABLE);
            value & ADDRESS
        };
        let mut apic =
            Self { base: core::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0)) };
        mask_8259s();
        apic.write(SPURIOUS, 1 << 8 | u32::from(SPURIOUS_VECTOR));
        apic.write(TASK_PRIORITY, 0);
        apic.write(LVT_LINT0, MASKED);
        apic.write(LVT_LINT1, MASKED);
        apic.write(DIVIDE, DIVIDE_BY_1);
        apic.write(INITIAL_COUNT, 0);
        apic.write(LVT_TIMER, u32::from(TIMER_VECTOR));
        apic
    }

    /// This processor's APIC as it is, for last words: whoever had it has stopped.
    ///
    /// # Safety
    ///
    /// As for [`Self::enable`], which was called on this processor before.
    pub unsafe fn as_is() -> Self {
        // SAFETY: every x86-64 processor has this MSR.
        let address = unsafe { Msr::new(IA32_APIC_BASE).read() } & ADDRESS;
        Self { base: core::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0)) }
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
        self.read(ID) >> 24
    }

    /// Sends to the processor with this id. A message that cannot be sent is lost: then the bus is broken.
    pub fn send(&mut self, id: u32, ipi: Ipi) {
        self.wait_until_sent();
        self.write(ICR_HIGH, id << 24);
        self.write(ICR_LOW, ipi.command());
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
    fn write(&mut self, register: usize, value: u32) {
        // SAFETY: `base` is this APIC's page (contract of `enable`), and the registers named above lie in it, aligned.
        unsafe { self.base.byte_add(register).write_volatile(value) };
    }

    fn read(&self, register: usize) -> u32 {
        // SAFETY: as in `write`; the registers read have no side effects.
        unsafe { self.base.byte_add(register).read_volatile() }
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
