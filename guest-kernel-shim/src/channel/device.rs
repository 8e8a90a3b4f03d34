//! The channel device of a full guest: 16 ports for each channel from 0xc100 on; port 0xc0f0 says how many channels
//! there are.

use crate::arch::port::SafePort;
use crate::arch::shared::Pages;

/// The value of a port that no device answers.
const NOTHING: u32 = u32::MAX;

/// Registers of a channel, as offsets.
const FRAME: u16 = 0;
const PAGES: u16 = 4;
const DOORBELL: u16 = 8;
const VECTOR: u16 = 12;

/// Bit of [`PAGES`]: the peer has bound its end.
const PEER: u32 = 1 << 31;

fn port(channel: u8, register: u16) -> SafePort {
    SafePort::CHANNEL_0.plus(u16::from(channel) * 16 + register)
}

/// How many channels there are.
pub(super) fn count() -> u32 {
    match SafePort::CHANNELS.read_u32() {
        NOTHING => 0,
        count => count,
    }
}

/// The shared pages of a channel that exists.
pub(super) fn pages(channel: u8) -> Option<Pages> {
    let frame = u64::from(port(channel, FRAME).read_u32());
    #[expect(clippy::cast_possible_truncation, reason = "the number is bits 15:0")]
    let pages = port(channel, PAGES).read_u32() as u16;
    Pages::of_device(frame << 12, pages)
}

pub(super) fn is_peer_there(channel: u8) -> bool {
    port(channel, PAGES).read_u32() & PEER != 0
}

pub(super) fn listen(channel: u8, vector: u8) {
    port(channel, VECTOR).write_u32(u32::from(vector));
}

#[inline]
pub(super) fn ring(channel: u8) {
    port(channel, DOORBELL).write_u32(1);
}
