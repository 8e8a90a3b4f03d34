//! A source of random bytes (§5.4).

use super::io::{Answer, Io, STEP_BYTES, Turn};
use super::queue::{Chain, Malformed};
use crate::base::hardware::GuestRam;

/// The source's number among devices.
pub const ID: u32 = 4;
/// Virtqueues.
pub const QUEUES: usize = 1;
/// The queue of requests (§5.4.2).
pub const REQUESTS: u16 = 0;
/// Most bytes for one request; the driver is told how many it got, and asks again (§5.4.6.2).
pub const REQUEST_BYTES: usize = 256;
/// What a byte costs of a step's bytes: RDRAND takes a processor hundreds of cycles and more for eight. So a whole request is a step.
const BYTE_COST: usize = STEP_BYTES / REQUEST_BYTES;

/// A source that keeps nothing: its numbers come from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entropy;

impl Entropy {
    pub(super) fn serve<R: GuestRam>(
        io: &mut Io<'_, R>,
        mut random: impl FnMut() -> u64,
    ) -> Result<(), Malformed> {
        let mut fill = |io: &mut Io<'_, R>, chain: &Chain| {
            let wanted = usize::try_from(chain.writable_bytes()).unwrap_or(usize::MAX);
            let mut bytes = [0; REQUEST_BYTES];
            let bytes = bytes.get_mut(..wanted.min(REQUEST_BYTES)).unwrap_or_default();
            for part in bytes.chunks_mut(8) {
                part.iter_mut().zip(random().to_le_bytes()).for_each(|(to, from)| *to = from);
            }
            io.charge(bytes.len() * BYTE_COST);
            chain.write(io.ram(), 0, bytes)?;
            Ok(Answer::Done(u32::try_from(bytes.len()).unwrap_or(0)))
        };
        while io.answer(REQUESTS, &mut fill)? == Turn::Answered {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::virtio::Device;
    use crate::device::virtio::driver::{Driver, WRITE};

    const DATA: u64 = 0x8_0000;

    #[test]
    fn buffers_are_filled_with_the_numbers_of_the_source() {
        let mut driver = Driver::ready(Device::Entropy(Entropy));
        let head = driver.offer(0, &[(DATA, 5, WRITE), (DATA + 16, 6, WRITE)]);
        driver.serve();
        assert_eq!(driver.used(0), [(head, 11)]);
        assert_eq!(driver.ram.get(DATA, 6), [1, 0, 0, 0, 0, 0]);
        assert_eq!(driver.ram.get(DATA + 16, 7), [0, 0, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn a_step_makes_as_many_numbers_as_one_request_wants() {
        let mut driver = Driver::ready(Device::Entropy(Entropy));
        let heads = [0; 8].map(|_| driver.offer(0, &[(DATA, 256, WRITE)]));
        let _ = driver.step();
        assert_eq!(driver.seen.random, 32);
        driver.serve();
        assert_eq!(driver.used(0), heads.map(|head| (head, 256)));
    }

    #[test]
    fn a_request_gets_no_more_than_a_part() {
        let mut driver = Driver::ready(Device::Entropy(Entropy));
        let head = driver.offer(0, &[(DATA, 0x1_0000, WRITE)]);
        driver.serve();
        assert_eq!(driver.used(0), [(head, 256)]);
        assert_eq!(driver.seen.random, 32);
        let nothing = driver.offer(0, &[(DATA, 4, 0)]);
        driver.serve();
        assert_eq!(driver.used(0), [(nothing, 0)]);
    }
}
