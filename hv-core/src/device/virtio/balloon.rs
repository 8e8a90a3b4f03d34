//! A memory balloon (§5.5), for the reports of free pages that come with it.
//!
//! A page that goes into the balloon stays where it is: the guest has promised not to use it, and nobody takes it away. So a
//! guest that inflates its balloon helps nobody, and one that breaks its promise harms nobody. Memory comes back by reports
//! (§5.5.6.7): the guest names ranges that it does not use now and may use again at any time, with anything in them.

#[cfg(test)]
mod tests;

use super::io::{Answer, Io, Turn};
use super::queue::{Chain, Malformed, Segment};
use super::{CONFIG_BYTES, DeviceHost, ServeProgress, config_of};
use crate::base::addr::LARGE_PAGE_BYTES;
use crate::base::hardware::GuestRam;
use core::ops::Range;

/// The balloon's number among devices.
pub const ID: u32 = 5;
/// Virtqueues.
pub const QUEUES: usize = 5;
/// Pages that go into the balloon.
pub const INFLATE: u16 = 0;
/// Pages that leave it.
pub const DEFLATE: u16 = 1;
/// Reports. By §5.5.2 it is the queue 4; drivers that leave out the queues of features nobody wanted, as Linux does over
/// these registers, mean 2, and some have meant 3. The other two have no use here, so that each of them can be it.
pub const REPORTING: Range<u16> = 2..5;
const REPORTS: usize = (REPORTING.end - REPORTING.start) as usize;

/// VIRTIO_BALLOON_F_REPORTING: reports of free pages (§5.5.3).
pub const F_REPORTING: u64 = 1 << 5;

/// Where `actual` lies in the configuration space (§5.5.4); `num_pages` comes first.
const ACTUAL: usize = 4;
/// What a block costs of a step's bytes: taking one away is some microseconds' work for its owner.
pub const BLOCK_COST_BYTES: usize = 4096;

/// How far a report was read.
#[derive(Clone, Copy, Debug, Default)]
struct Report {
    /// The range that is being read, and its first block that was not looked at.
    segment: usize,
    block: u64,
}

/// A balloon.
#[derive(Debug, Default)]
pub struct Balloon {
    target_pages: u32,
    actual_pages: u32,
    /// By queue, from [`REPORTING`]'s first on.
    reports: [Report; REPORTS],
}

impl Balloon {
    /// Asks for a balloon of so many 4 KiB pages; the transport's `config_changed` tells the driver.
    #[cfg(test)]
    pub const fn set_target(&mut self, pages: u32) {
        self.target_pages = pages;
    }

    /// The 4 KiB pages that the driver says are in the balloon.
    #[cfg(test)]
    pub const fn actual_pages(&self) -> u32 {
        self.actual_pages
    }

    /// An empty balloon, of which the same is wanted.
    pub(super) fn power_on(&mut self) {
        *self = Self { target_pages: self.target_pages, ..Self::default() };
    }

    pub(super) fn config(&self) -> [u8; CONFIG_BYTES] {
        config_of(&[(0, &self.target_pages.to_le_bytes()), (ACTUAL, &self.actual_pages.to_le_bytes())])
    }

    pub(super) fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        if let (ACTUAL, Ok(bytes)) = (offset, bytes.try_into()) {
            self.actual_pages = u32::from_le_bytes(bytes);
        }
    }

    pub(super) fn forget(&mut self, index: u16) {
        for (report, queue) in self.reports.iter_mut().zip(REPORTING) {
            if queue == index {
                *report = Report::default();
            }
        }
    }

    pub(super) fn serve<R: GuestRam>(
        &mut self,
        io: &mut Io<'_, R>,
        host: &mut impl DeviceHost,
    ) -> Result<(), Malformed> {
        for queue in [INFLATE, DEFLATE] {
            while io.answer(queue, |_, _| Ok(Answer::Done(0)))? == Turn::Answered {}
        }
        for (report, queue) in self.reports.iter_mut().zip(REPORTING) {
            while io.answer(queue, |io, chain| Ok(read(io, chain, report, host)))? == Turn::Answered {}
        }
        Ok(())
    }
}

/// Hands out the whole blocks of a report, and answers it when no processor reaches them any more.
fn read<R: GuestRam>(
    io: &mut Io<'_, R>,
    chain: &Chain,
    report: &mut Report,
    host: &mut impl DeviceHost,
) -> Answer {
    if host.shootdown() == ServeProgress::More {
        return Answer::Later;
    }
    // The driver gives the pages as buffers to write (§5.5.6.7).
    while let Some(segment) = chain.writable().get(report.segment) {
        let blocks = whole_blocks(segment, io.ram().block_count());
        for block in report.block.max(blocks.start)..blocks.end {
            if io.grant(BLOCK_COST_BYTES) < BLOCK_COST_BYTES {
                report.block = block;
                return Answer::Later;
            }
            if io.ram().has_block(block) {
                host.free_block(block);
            }
        }
        *report = Report { segment: report.segment + 1, block: 0 };
    }
    if host.shootdown() == ServeProgress::More {
        return Answer::Later;
    }
    *report = Report::default();
    Answer::Done(0)
}

/// The blocks that lie in a range as a whole, of those that a guest can have.
fn whole_blocks(segment: &Segment, block_count: u64) -> Range<u64> {
    let start = segment.at.raw();
    let end = start.saturating_add(u64::from(segment.len_bytes));
    start.div_ceil(LARGE_PAGE_BYTES)..(end / LARGE_PAGE_BYTES).min(block_count)
}
