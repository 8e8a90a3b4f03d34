//! Telemetry: what the hypervisor counted, as records for `bench`, `top` and `trace`.
//!
//! On COM2 each record is a [`Record`] in postcard form, framed by COBS with a zero byte at the end. Records are kept in
//! memory while guests run and written when they end, so that writing them costs no measured window anything.

use crate::error::KillReason;
use crate::id::{GuestId, VcpuIndex};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Why guests leave guest mode, by class. The order is the index into [`GuestCounters::exits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum ExitClass {
    /// A hypercall.
    Call,
    /// CPUID.
    Cpuid,
    /// RDMSR or WRMSR, x2APIC registers apart.
    Msr,
    /// x2APIC registers: timer, EOI, IPIs.
    Apic,
    /// IN or OUT, of the 8254 apart.
    Port,
    /// IN or OUT of the 8254: a kernel that calibrates its clock reads it without end.
    Pit,
    /// HLT.
    Halt,
    /// PAUSE.
    Pause,
    /// An interrupt of the machine: slice or wake timer, a kick, a device.
    Interrupt,
    /// The guest became able to take an interrupt.
    Window,
    /// A nested page fault.
    Memory,
    /// Anything else.
    Other,
}

impl ExitClass {
    /// All classes, in index order.
    pub const ALL: [Self; 12] = [
        Self::Call,
        Self::Cpuid,
        Self::Msr,
        Self::Apic,
        Self::Port,
        Self::Pit,
        Self::Halt,
        Self::Pause,
        Self::Interrupt,
        Self::Window,
        Self::Memory,
        Self::Other,
    ];

    /// How many classes there are.
    pub const COUNT: usize = Self::ALL.len();
}

/// What one guest has caused since it was made.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GuestCounters {
    /// Exits by [`ExitClass`].
    pub exits: [u64; ExitClass::COUNT],
    /// Ticks in the hypervisor by the class of the exit that led there.
    pub hv_ticks: [u64; ExitClass::COUNT],
    /// Ticks in guest mode.
    pub guest_ticks: u64,
    /// Times a vCPU of it was switched to.
    pub switches: u64,
    /// Interrupts and events injected.
    pub injections: u64,
    /// Times a slice ended inside a critical section although the guest had announced it.
    pub preempted_in_critical: u64,
    /// Times a vCPU of it came to another processor.
    pub migrations: u64,
    /// Ticks of its periodic timers that were due and never told.
    pub lost_ticks: u64,
}

impl GuestCounters {
    /// Adds another vCPU's counters.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in self.exits.iter_mut().zip(other.exits) {
            *sum = sum.saturating_add(part);
        }
        for (sum, part) in self.hv_ticks.iter_mut().zip(other.hv_ticks) {
            *sum = sum.saturating_add(part);
        }
        self.guest_ticks = self.guest_ticks.saturating_add(other.guest_ticks);
        self.switches = self.switches.saturating_add(other.switches);
        self.injections = self.injections.saturating_add(other.injections);
        self.preempted_in_critical = self.preempted_in_critical.saturating_add(other.preempted_in_critical);
        self.migrations = self.migrations.saturating_add(other.migrations);
        self.lost_ticks = self.lost_ticks.saturating_add(other.lost_ticks);
    }
}

/// What one processor did since boot.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuCounters {
    /// Ticks with nothing to run.
    pub idle_ticks: u64,
    /// Times the timer was programmed: an MMIO or MSR write on a real machine.
    pub timer_arms: u64,
    /// Interrupts taken: timer, kicks, devices.
    pub interrupts: u64,
    /// Interrupts sent to other processors.
    pub kicks: u64,
    /// Times it found notifications from other processors.
    pub notifications: u64,
    /// Ticks of handing vCPUs to other processors, and of taking them in.
    pub move_ticks: u64,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It powered off.
    Off,
    /// It asked for a reboot.
    Reboot,
    /// It said that it crashed.
    Crash,
    /// It could not go on.
    Killed(KillReason),
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "as many records are kept as guests end, and the other kinds are few"
)]
pub enum Record {
    /// The hypervisor is up.
    Boot {
        /// The hypervisor's version.
        version: String,
        /// Frequency of the time-stamp counter.
        tsc_khz: u64,
        /// Names of the guests, in the order of their ids.
        guests: Vec<String>,
    },
    /// A guest set a mark: counters of everybody at that moment.
    Mark {
        /// Who set it.
        guest: GuestId,
        /// Which of its vCPUs.
        vcpu: VcpuIndex,
        /// The guest's name for the mark.
        id: u64,
        /// A number of the guest's own.
        value: u64,
        /// When.
        tsc: u64,
        /// Counters of each processor, in the order of their ids.
        cpus: Vec<CpuCounters>,
        /// Counters of each guest, in the order of their ids.
        guests: Vec<GuestCounters>,
    },
    /// A guest ended.
    Ended {
        /// Which.
        guest: GuestId,
        /// How.
        ending: Ending,
        /// When it was started last.
        began: u64,
        /// When.
        tsc: u64,
        /// Its counters.
        counters: GuestCounters,
    },
    /// How far off the published rate of the time-stamp counter has proved to be.
    Clock {
        /// When.
        tsc: u64,
        /// In millionths of the real rate; negative if the published one is too low.
        off_ppm: i64,
    },
    /// Records were lost for want of room.
    Lost {
        /// How many.
        records: u64,
    },
}
