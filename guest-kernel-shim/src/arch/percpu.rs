//! Per-processor data, found through the GS base.
#![expect(unsafe_code, reason = "the GS base holds the address of this processor's block")]

use super::line::Line;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use pv_abi::MAX_VCPUS;

/// One processor. `index` never changes. Where Comity is not announced, the three lines are private: nobody reads what
/// this kernel publishes there, and it reads zeroes there, which are always valid.
#[repr(C, align(64))]
pub(crate) struct PerCpu {
    /// Address of this block, so that one load through GS finds it.
    own: AtomicUsize,
    index: AtomicUsize,
    demand: AtomicPtr<Line>,
    status: AtomicPtr<Line>,
    event: AtomicPtr<Line>,
    /// The words that this processor last stored to its demand row.
    pub shadow: [AtomicU64; 8],
}

/// The lines that a processor uses until [`PerCpu::share`].
struct Private {
    demand: Line,
    status: Line,
    event: Line,
}

static PRIVATE: [Private; MAX_VCPUS] =
    [const { Private { demand: Line::zero(), status: Line::zero(), event: Line::zero() } }; MAX_VCPUS];
static PER_CPU: [PerCpu; MAX_VCPUS] = {
    let mut blocks = [const { PerCpu::at(0) }; MAX_VCPUS];
    let mut index = 1;
    while index < MAX_VCPUS {
        blocks[index] = PerCpu::at(index);
        index += 1;
    }
    blocks
};

const GS_BASE: u32 = 0xc000_0101;

impl PerCpu {
    const fn at(index: usize) -> Self {
        let private = &PRIVATE[index];
        Self {
            own: AtomicUsize::new(0),
            index: AtomicUsize::new(index),
            demand: AtomicPtr::new((&raw const private.demand).cast_mut()),
            status: AtomicPtr::new((&raw const private.status).cast_mut()),
            event: AtomicPtr::new((&raw const private.event).cast_mut()),
            shadow: [const { AtomicU64::new(0) }; 8],
        }
    }

    /// Number of this processor; the first is 0.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.index.load(Ordering::Relaxed)
    }

    /// The demand row.
    #[inline]
    pub(crate) fn demand(&'static self) -> &'static Line {
        line(&self.demand)
    }

    /// The hot line of this processor's status row.
    #[inline]
    pub(crate) fn status(&'static self) -> &'static Line {
        line(&self.status)
    }

    /// The event line.
    #[inline]
    pub(crate) fn event(&'static self) -> &'static Line {
        line(&self.event)
    }

    /// Switches this processor to lines that the hypervisor shares.
    pub(crate) fn share(&self, demand: &'static Line, status: &'static Line, event: &'static Line) {
        for (slot, line) in [(&self.demand, demand), (&self.status, status), (&self.event, event)] {
            slot.store(core::ptr::from_ref(line).cast_mut(), Ordering::Release);
        }
    }
}

#[inline]
fn line(slot: &AtomicPtr<Line>) -> &'static Line {
    // SAFETY: the pointer is never null; it points to a line of `PRIVATE`, or `share` made it from a `&'static Line`.
    unsafe { &*slot.load(Ordering::Relaxed) }
}

/// Makes `index` the number of the processor that runs this. Processors whose number is too high share the last block.
pub(crate) fn install(index: usize) {
    let block = of(index).unwrap_or(&PER_CPU[MAX_VCPUS - 1]);
    let address = core::ptr::from_ref(block).expose_provenance();
    block.own.store(address, Ordering::Relaxed);
    // SAFETY: every long-mode processor has the MSR, and only `this` uses GS.
    unsafe { super::cpu::wrmsr(GS_BASE, address as u64) };
}

/// A processor that the kernel set up itself and hands to this library.
#[derive(Debug)]
#[must_use = "nothing works before the processor is adopted"]
pub struct Processor {
    index: usize,
    _this_processor_only: PhantomData<*mut ()>,
}

impl Processor {
    /// Hands the processor that runs this to the library. `index` is its number, from 0 on, the same in the kernel and
    /// in the hypervisor.
    ///
    /// # Safety
    ///
    /// - This processor is at CPL 0 in long mode, and the first 4 GiB are mapped at their own addresses, writable. The
    ///   hypervisor places the shared tables at 0xC000_0000, where the kernel has neither RAM nor anything else.
    /// - The GS base belongs to this library from now on: nothing else uses GS at CPL 0, and user code enters the
    ///   kernel through SWAPGS.
    /// - Each processor calls this once, with a number of its own below 64.
    pub unsafe fn claim(index: usize) -> Self {
        install(index);
        Self { index, _this_processor_only: PhantomData }
    }

    /// Number of this processor.
    pub(crate) fn into_index(self) -> usize {
        self.index
    }
}

/// How many processors this kernel may use.
static COUNT: AtomicUsize = AtomicUsize::new(1);

/// Sets how many processors this kernel may use; clamps to 1 … [`MAX_VCPUS`].
pub(crate) fn set_count(count: usize) {
    COUNT.store(count.clamp(1, MAX_VCPUS), Ordering::Relaxed);
}

/// How many processors this kernel may use.
#[inline]
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// The block of processor `index`.
pub(crate) fn of(index: usize) -> Option<&'static PerCpu> {
    PER_CPU.get(index)
}

/// The block of the processor that runs this.
#[inline]
pub(crate) fn this() -> &'static PerCpu {
    #[cfg(target_os = "none")]
    {
        let address: usize;
        // SAFETY: `install` ran first on this processor, so GS points to a block whose first word is its own address.
        unsafe {
            core::arch::asm!("mov {}, gs:[0]", out(reg) address, options(nostack, readonly, pure, preserves_flags));
            &*core::ptr::with_exposed_provenance(address)
        }
    }
    #[cfg(not(target_os = "none"))]
    &PER_CPU[0]
}
