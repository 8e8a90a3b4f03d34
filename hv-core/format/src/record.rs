//! Telemetry: the hypervisor's counters and events, as records for `bench`, `top` and `trace`.
//!
//! On COM2 each record is a [`Record`] in postcard form, framed by COBS with a zero byte at the end. The hypervisor keeps records in
//! memory while guests run and writes them when guests end, so that the writing does not disturb a measured window.

use crate::error::KillReason;
use crate::id::{GuestId, VcpuIndex};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Class of the reason for which a guest leaves guest mode. The order is the index into [`GuestCounters::exits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum ExitClass {
    /// A hypercall.
    Call,
    /// CPUID.
    Cpuid,
    /// RDMSR or WRMSR of any register but x2APIC's.
    Msr,
    /// x2APIC registers: timer, EOI, IPIs.
    Apic,
    /// IN or OUT at any port but the 8254's.
    Port,
    /// IN or OUT at the 8254: a kernel that calibrates its clock polls it.
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

    /// Number of classes.
    pub const COUNT: usize = Self::ALL.len();
}

/// Counters of one guest since it was made.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GuestCounters {
    /// Exits by [`ExitClass`].
    pub exits: [u64; ExitClass::COUNT],
    /// Time-stamp counter ticks in the hypervisor, by the class of the exit that led there.
    pub hv_ticks: [u64; ExitClass::COUNT],
    /// Time-stamp counter ticks in guest mode.
    pub guest_ticks: u64,
    /// Switches of a processor to a vCPU of the guest.
    pub switches: u64,
    /// Interrupts and events injected into the guest's vCPUs.
    pub injections: u64,
    /// Slices that ended inside a critical section that the guest had announced.
    pub preempted_in_critical: u64,
    /// Moves of a vCPU of the guest to another processor.
    pub migrations: u64,
    /// Ticks of the guest's periodic timers that were due and never delivered.
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

/// Counters of one processor since boot.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuCounters {
    /// Time-stamp counter ticks without a vCPU to run.
    pub idle_ticks: u64,
    /// Number of timer programmings, each an MMIO or MSR write on a real machine.
    pub timer_arms: u64,
    /// Interrupts taken: timer, kicks, devices.
    pub interrupts: u64,
    /// Kicks sent to other processors.
    pub kicks: u64,
    /// Checks that found notifications from other processors.
    pub notifications: u64,
    /// Time-stamp counter ticks spent handing vCPUs to other processors and receiving them.
    pub move_ticks: u64,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The guest powered off.
    Off,
    /// The guest asked for a reboot.
    Reboot,
    /// The guest reported a crash.
    Crash,
    /// The hypervisor killed the guest, for this reason.
    Killed(KillReason),
}

/// One telemetry record.
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
    /// A guest set a mark; the record holds the counters of all processors and guests at that moment.
    Mark {
        /// The guest that set the mark.
        guest: GuestId,
        /// The vCPU that set it.
        vcpu: VcpuIndex,
        /// The guest's name for the mark.
        id: u64,
        /// A number that the guest chose.
        value: u64,
        /// Time-stamp counter at that moment.
        tsc: u64,
        /// Counters of each processor, in the order of their ids.
        cpus: Vec<CpuCounters>,
        /// Counters of each guest, in the order of their ids.
        guests: Vec<GuestCounters>,
    },
    /// A guest ended.
    Ended {
        /// The guest that ended.
        guest: GuestId,
        /// The way in which it ended.
        ending: Ending,
        /// Time-stamp counter at the guest's last start.
        began: u64,
        /// Time-stamp counter at that moment.
        tsc: u64,
        /// The guest's counters at its end.
        counters: GuestCounters,
    },
    /// Measured error of the published rate of the time-stamp counter.
    Clock {
        /// Time-stamp counter at that moment.
        tsc: u64,
        /// Error in millionths of the real rate; negative if the published one is too low.
        off_ppm: i64,
    },
    /// Records were lost for lack of room.
    Lost {
        /// Number of lost records.
        records: u64,
    },
}
