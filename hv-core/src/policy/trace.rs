//! Counters that are kept while guests run; hv-format defines the records made from them.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

pub use hv_format::record::{CpuCounters, Ending, ExitClass, GuestCounters, Record};

/// A counter that one processor at a time writes and any processor may read.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts up; wraps after centuries.
    #[inline(always)]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// Replaces the count.
    #[inline(always)]
    pub fn set(&self, count: u64) {
        self.0.store(count, Relaxed);
    }

    /// The count.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of one vCPU since it was made; the processor that holds the vCPU writes them.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct VcpuTally {
    /// Exits by [`ExitClass`].
    pub exits: [Counter; ExitClass::COUNT],
    /// TSC ticks in the hypervisor, by the class of the exit that led there.
    pub hv_ticks: [Counter; ExitClass::COUNT],
    /// TSC ticks in guest mode.
    pub guest_ticks: Counter,
    /// Number of switches to the vCPU.
    pub switches: Counter,
    /// Number of interrupts and events injected.
    pub injections: Counter,
    /// Number of slices that ended inside a critical section although the guest had announced it.
    pub preempted_in_critical: Counter,
    /// Number of migrations to another processor.
    pub migrations: Counter,
    /// Number of periodic timer ticks that were due and never delivered, because the vCPU was off CPU, or held them back, for too long.
    pub lost_ticks: Counter,
    /// Classes of the last sixteen exits, the latest in the lowest four bits.
    pub recent: Counter,
}

/// Bits that an exit's class takes in [`VcpuTally::recent`].
const CLASS_BITS: u32 = 4;
const _: () = assert!(ExitClass::COUNT <= 1 << CLASS_BITS);

impl VcpuTally {
    /// Notes an exit: a shift and an OR.
    #[inline]
    pub fn note_exit(&self, class: ExitClass) {
        self.exits[class as usize].add(1);
        self.recent.set(self.recent.get() << CLASS_BITS | class as u64);
    }

    /// The last exits, the latest first.
    pub fn last_exits(&self) -> impl Iterator<Item = ExitClass> {
        let recent = self.recent.get();
        let mask = (1 << CLASS_BITS) - 1;
        let classes = (0..u64::BITS).step_by(CLASS_BITS as usize).map(move |shift| recent >> shift & mask);
        classes.filter_map(|class| ExitClass::ALL.get(usize::try_from(class).ok()?).copied()).take(8)
    }

    /// The present counts, as a record holds them.
    pub fn counters(&self) -> GuestCounters {
        let all = |counters: &[Counter; ExitClass::COUNT]| core::array::from_fn(|n| counters[n].get());
        GuestCounters {
            exits: all(&self.exits),
            hv_ticks: all(&self.hv_ticks),
            guest_ticks: self.guest_ticks.get(),
            switches: self.switches.get(),
            injections: self.injections.get(),
            preempted_in_critical: self.preempted_in_critical.get(),
            migrations: self.migrations.get(),
            lost_ticks: self.lost_ticks.get(),
        }
    }
}

/// The counters of one processor since boot; the processor itself writes them.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct CpuTally {
    /// TSC ticks in which the processor had no vCPU to run.
    pub idle_ticks: Counter,
    /// Number of times that the timer was programmed.
    pub timer_arms: Counter,
    /// Number of interrupts taken: timer, kicks, devices.
    pub interrupts: Counter,
    /// Number of interrupts sent to other processors.
    pub kicks: Counter,
    /// Number of times that the processor found notifications from other processors.
    pub notifications: Counter,
    /// TSC ticks spent on handing vCPUs to other processors and on taking them in.
    pub move_ticks: Counter,
}

impl CpuTally {
    /// The present counts, as a record holds them.
    pub fn counters(&self) -> CpuCounters {
        CpuCounters {
            idle_ticks: self.idle_ticks.get(),
            timer_arms: self.timer_arms.get(),
            interrupts: self.interrupts.get(),
            kicks: self.kicks.get(),
            notifications: self.notifications.get(),
            move_ticks: self.move_ticks.get(),
        }
    }
}
