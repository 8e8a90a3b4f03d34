//! What is counted while guests run; hv-format has the records that it becomes.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

pub use hv_format::record::{CpuCounters, Ending, ExitClass, GuestCounters, Record};

/// A number that one processor at a time counts up and any may read.
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

/// What one vCPU has caused since it was made; the processor that holds it counts.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct VcpuTally {
    /// Exits by [`ExitClass`].
    pub exits: [Counter; ExitClass::COUNT],
    /// Ticks in the hypervisor by the class of the exit that led there.
    pub hv_ticks: [Counter; ExitClass::COUNT],
    /// Ticks in guest mode.
    pub guest_ticks: Counter,
    /// Times it was switched to.
    pub switches: Counter,
    /// Interrupts and events injected.
    pub injections: Counter,
    /// Times a slice ended inside a critical section although the guest had announced it.
    pub preempted_in_critical: Counter,
    /// Times it came to another processor.
    pub migrations: Counter,
    /// Ticks of its periodic timers that were due and never told: it was off CPU, or held them back, for too long.
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

    /// What it holds now.
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

/// What one processor did since boot; it counts itself.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct CpuTally {
    /// Ticks with nothing to run.
    pub idle_ticks: Counter,
    /// Times the timer was programmed.
    pub timer_arms: Counter,
    /// Interrupts taken: timer, kicks, devices.
    pub interrupts: Counter,
    /// Interrupts sent to other processors.
    pub kicks: Counter,
    /// Times it found notifications from other processors.
    pub notifications: Counter,
    /// Ticks of handing vCPUs to other processors, and of taking them in.
    pub move_ticks: Counter,
}

impl CpuTally {
    /// What it holds now.
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
