//! A disk (§5.2) of one queue.

mod disk;
#[cfg(test)]
mod tests;

#[cfg(test)]
use disk::SECTOR_BYTES;
pub use disk::{Disk, DiskError};

use super::io::{Answer, Io, Turn};
use super::queue::{Chain, MAX_SIZE, Malformed};
use super::{CONFIG_BYTES, config_of};
use crate::base::hardware::GuestRam;
use core::ops::ControlFlow;

/// The disk's number among devices.
pub const ID: u32 = 2;
/// Virtqueues.
pub const QUEUES: usize = 1;
/// The queue of requests (§5.2.2).
pub const REQUESTS: u16 = 0;

/// VIRTIO_BLK_F_SEG_MAX: the most buffers of a request's data are told (§5.2.3).
const F_SEG_MAX: u64 = 1 << 2;
/// VIRTIO_BLK_F_RO: the disk cannot be written.
const F_RO: u64 = 1 << 5;
/// Buffers of data in a chain that also has a header and a status.
const SEG_MAX: u16 = MAX_SIZE - 2;

/// Type, reserved, sector (§5.2.6).
const HEADER_BYTES: u32 = 16;
const STATUS_BYTES: u32 = 1;
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const ID_BYTES: u32 = 20;

/// How a request ended (§5.2.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Outcome {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// What is to be done with a request's data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transfer {
    FromDisk,
    ToDisk,
}

/// A request whose data are under way.
#[derive(Clone, Copy, Debug)]
struct BlockRequest {
    transfer: Transfer,
    start_bytes: u64,
    len_bytes: u32,
    done_bytes: u32,
}

/// A disk device.
#[derive(Debug)]
pub struct Block {
    disk: Disk,
    name: [u8; ID_BYTES as usize],
    request: Option<BlockRequest>,
}

impl Block {
    /// A device for this disk. Drivers are told the first 20 bytes of its name.
    pub fn new(disk: Disk, name: &str) -> Self {
        let mut bytes = [0; ID_BYTES as usize];
        bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        Self { disk, name: bytes, request: None }
    }

    /// What is on it.
    #[cfg(test)]
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What is on it, to be reverted where the guest begins anew.
    pub const fn disk_mut(&mut self) -> &mut Disk {
        &mut self.disk
    }

    pub(super) const fn features(&self) -> u64 {
        if self.disk.is_read_only() { F_SEG_MAX | F_RO } else { F_SEG_MAX }
    }

    /// Capacity and seg_max (§5.2.4).
    pub(super) fn config(&self) -> [u8; CONFIG_BYTES] {
        config_of(&[(0, &self.disk.sectors().to_le_bytes()), (12, &u32::from(SEG_MAX).to_le_bytes())])
    }

    pub(super) fn forget(&mut self, index: u16) {
        if index == REQUESTS {
            self.request = None;
        }
    }

    pub(super) fn serve<R: GuestRam>(&mut self, io: &mut Io<'_, R>) -> Result<(), Malformed> {
        while io.answer(REQUESTS, |io, chain| self.handle(io, chain))? == Turn::Answered {}
        Ok(())
    }

    /// Begins a request, or goes on with the one that is under way.
    fn handle<R: GuestRam>(&mut self, io: &mut Io<'_, R>, chain: &Chain) -> Result<Answer, Malformed> {
        let request = match self.request {
            Some(request) => request,
            None => match self.begin(io, chain)? {
                ControlFlow::Continue(request) => *self.request.insert(request),
                ControlFlow::Break(answer) => return Ok(answer),
            },
        };
        let answer = self.transfer(io, chain, request)?;
        if answer != Answer::Later {
            self.request = None;
        }
        Ok(answer)
    }

    /// Decodes a request, and answers it unless there are data to be moved first.
    fn begin<R: GuestRam>(
        &self,
        io: &Io<'_, R>,
        chain: &Chain,
    ) -> Result<ControlFlow<Answer, BlockRequest>, Malformed> {
        let mut header = [0; HEADER_BYTES as usize];
        chain.read(io.ram(), 0, &mut header)?;
        let [t0, t1, t2, t3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = header;
        let data_out = chain.readable_bytes() - HEADER_BYTES;
        let data_in = data_in_bytes(chain)?;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let end = |outcome, filled| finish(io, chain, outcome, filled).map(ControlFlow::Break);
        let (transfer, len_bytes) = match u32::from_le_bytes([t0, t1, t2, t3]) {
            IN => (Transfer::FromDisk, data_in),
            OUT if self.disk.is_read_only() => return end(Outcome::IoError, 0),
            OUT => (Transfer::ToDisk, data_out),
            // What was written is where it stays.
            FLUSH => return end(Outcome::Ok, 0),
            GET_ID => {
                let filled = data_in.min(ID_BYTES);
                let name = usize::try_from(filled).ok().and_then(|filled| self.name.get(..filled));
                chain.write(io.ram(), 0, name.unwrap_or_default())?;
                return end(Outcome::Ok, filled);
            }
            _ => return end(Outcome::Unsupported, 0),
        };
        match self.disk.range(sector, len_bytes) {
            Some(start_bytes) => {
                Ok(ControlFlow::Continue(BlockRequest { transfer, start_bytes, len_bytes, done_bytes: 0 }))
            }
            None => end(Outcome::IoError, 0),
        }
    }

    /// Moves data until the request or the step is over.
    fn transfer<R: GuestRam>(
        &mut self,
        io: &mut Io<'_, R>,
        chain: &Chain,
        mut request: BlockRequest,
    ) -> Result<Answer, Malformed> {
        while request.done_bytes < request.len_bytes {
            let at = request.start_bytes + u64::from(request.done_bytes);
            let rest = usize::try_from(request.len_bytes - request.done_bytes).unwrap_or(usize::MAX);
            let granted = io.grant(Disk::piece_bytes(at, rest));
            if granted == 0 {
                return Ok(Answer::Later);
            }
            match request.transfer {
                Transfer::FromDisk => {
                    chain.write(io.ram(), request.done_bytes, self.disk.read(at, granted))?;
                }
                Transfer::ToDisk => match self.disk.write(at, granted) {
                    Some(place) => chain.read(io.ram(), HEADER_BYTES + request.done_bytes, place)?,
                    None => return finish(io, chain, Outcome::IoError, 0),
                },
            }
            request.done_bytes += u32::try_from(granted).unwrap_or(u32::MAX);
            // What was moved stays moved, whatever stops the next part.
            self.request = Some(request);
        }
        let written = match request.transfer {
            Transfer::FromDisk => request.done_bytes,
            Transfer::ToDisk => 0,
        };
        finish(io, chain, Outcome::Ok, written)
    }
}

/// Bytes for the device to fill before the status, which is the last byte of all.
fn data_in_bytes(chain: &Chain) -> Result<u32, Malformed> {
    chain.writable_bytes().checked_sub(STATUS_BYTES).ok_or(Malformed::TooShort(chain.head()))
}

/// Answers a request of which so many bytes were filled. The status counts as written only where nothing before it was left
/// out: the driver may trust all bytes up to the number it is told (§2.7.8.2).
fn finish<R: GuestRam>(
    io: &Io<'_, R>,
    chain: &Chain,
    outcome: Outcome,
    filled_bytes: u32,
) -> Result<Answer, Malformed> {
    let data_in = data_in_bytes(chain)?;
    chain.write(io.ram(), data_in, &[outcome as u8])?;
    Ok(Answer::Done(if filled_bytes == data_in { filled_bytes + STATUS_BYTES } else { filled_bytes }))
}
