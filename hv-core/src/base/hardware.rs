//! What the lower rooms need of a machine: implemented by `machine`, and by the scripted backend in host tests.

use crate::base::addr::{GuestPhys, HostPhys, OutsideMemory};
use crate::base::id::CpuId;
use crate::base::time::{Frequency, Tsc};
use core::sync::atomic::AtomicU64;

/// A 64-byte row of a shared table. The frames are the hypervisor's own; a guest may change a word at any time, so each
/// is read once and the copy is checked.
pub type Row = [AtomicU64; 8];

/// Frames of the hypervisor's own that a guest sees too, as words.
pub type SharedWords = &'static [AtomicU64];

/// What people's line keeps at most until it is written, in bytes.
pub const CONSOLE_BYTES: usize = 32 << 10;

/// Guest memory by its bytes: copied in and out after a check. No reference into it ever exists.
pub trait GuestBytes {
    /// How much there is when the guest begins, from guest-physical 0.
    fn len_bytes(&self) -> u64;

    /// Copies out of guest memory. An aligned word of 2, 4 or 8 bytes is copied in one step.
    ///
    /// # Errors
    ///
    /// [`OutsideMemory`], with nothing copied.
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<(), OutsideMemory>;

    /// Copies into guest memory, words as [`Self::read`] does.
    ///
    /// # Errors
    ///
    /// [`OutsideMemory`], with nothing copied.
    fn write(&self, at: GuestPhys, from: &[u8]) -> Result<(), OutsideMemory>;

    /// Puts a byte into guest memory in one step with taking what was there.
    ///
    /// # Errors
    ///
    /// [`OutsideMemory`], with nothing done.
    fn exchange(&self, at: GuestPhys, byte: u8) -> Result<u8, OutsideMemory>;

    /// Clears what is there of a part that does not cross a block's end, of a guest that does not run.
    fn clear(&self, at: GuestPhys, len_bytes: u64);
}

/// Guest memory by its blocks, which come and go.
pub trait GuestBlocks {
    /// [`LARGE_PAGE_BYTES`](crate::base::addr::LARGE_PAGE_BYTES) of memory that nobody has.
    type Block;

    /// Blocks that there may be at most, from guest-physical 0.
    fn block_count(&self) -> u64;

    /// Whether a block is there.
    fn has_block(&self, n: u64) -> bool;

    /// Takes a block away. Processors may still have translations of it, and be copying from or to it: it is nobody's only
    /// when `policy::mm::shootdown` says so.
    fn remove_block(&self, n: u64) -> Option<Self::Block>;

    /// Puts a block where none is.
    ///
    /// # Errors
    ///
    /// The block, where one is, or none can be.
    fn insert_block(&self, n: u64, block: Self::Block) -> Result<(), Self::Block>;

    /// Clears a part of a block; what lies past its end is left out.
    fn clear_block(block: &mut Self::Block, offset: u64, len_bytes: u64);
}

/// The window through which a guest sees pages of the hypervisor's own.
pub trait SharedWindow {
    /// Empties the window for shared pages.
    fn clear_window(&self);

    /// Whether nothing is placed at a page of the window for shared pages, counted from its base. False past its end.
    fn window_is_free(&self, page: u64) -> bool;

    /// Shows the guest a frame of the hypervisor's at a free page of the window. Nothing happens past its end.
    fn place_in_window(&self, page: u64, frame: HostPhys, writable: bool);
}

/// A guest's memory.
pub trait GuestRam: GuestBytes + GuestBlocks + SharedWindow {}

impl<R: GuestBytes + GuestBlocks + SharedWindow> GuestRam for R {}

/// What a processor has of its own beside its registers: clock, timer, and the lines to people and programs.
pub trait Hardware {
    /// The time-stamp counter.
    fn now(&self) -> Tsc;
    /// Asks for an interrupt at `at`; [`Tsc::NEVER`] withdraws it. A moment past comes at once.
    fn arm_timer(&mut self, at: Tsc);
    /// Takes the interrupts that wait. Afterwards the caller looks at the clock and at its queues.
    fn take_interrupts(&mut self);
    /// Sleeps until an interrupt, and takes it. False: it sleeps on (processors that follow scripts take turns), and the
    /// caller calls again.
    #[must_use]
    fn wait(&mut self) -> bool;
    /// Interrupts another processor: it leaves guest mode, or wakes, and looks at what was left for it.
    fn kick(&mut self, cpu: CpuId);
    /// Gives people's line some of what it keeps.
    fn serve_console(&mut self);
    /// Bytes that people's line keeps now beside what it does, so that writing them waits for nothing.
    fn console_room(&mut self) -> usize;
    /// Writes to people; what is given at once appears whole.
    fn console_write(&mut self, text: &[u8]);
    /// A byte that people typed.
    fn console_read(&mut self) -> Option<u8>;
    /// A number that guests cannot foresee.
    fn random(&mut self) -> u64;
    /// Whether the machine says that it failed: a machine check is not over.
    fn has_failed(&self) -> bool;
    /// Ends everything, with what the machine says of its failure.
    fn fail(&mut self) -> !;
    /// Writes to programs.
    fn telemetry_write(&mut self, bytes: &[u8]);
    /// How far off `tsc` was since boot, in millionths of the rate that the machine's other clocks show; negative if it is too
    /// low. `None` where none tells, or this processor does not ask them.
    fn clock_off_ppm(&mut self, tsc: Frequency) -> Option<i64>;
}
