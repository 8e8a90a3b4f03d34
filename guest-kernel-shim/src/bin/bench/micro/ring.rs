//! A record of four words to somebody who waits for it, and one back: half of the round trip.
//!
//! Between guests over a channel: `side=first` measures, `side=second` answers. Where there is no channel, two threads
//! of this kernel do it.

use crate::figure::{RUNS, Samples};
use core::sync::atomic::AtomicU64;
use guest_kernel_shim::channel::{self, Channel, Endpoint, Side};
use guest_kernel_shim::{Boot, thread, timer};
use ring_buffers::records::{Consumer, Producer};

/// Words in a record.
const WORDS: usize = 4;
/// How long the peer may take to come up.
const PATIENCE_NS: u64 = 2_000_000_000;
/// How long the peer has to read the last record.
const LINGER_NS: u64 = 10_000_000;
/// First word of the record that ends the round trips.
const LAST: u64 = u64::MAX;
/// Words of the memory of each ring between threads.
const LOCAL_WORDS: usize = 512;

static THERE: [AtomicU64; LOCAL_WORDS] = [const { AtomicU64::new(0) }; LOCAL_WORDS];
static BACK: [AtomicU64; LOCAL_WORDS] = [const { AtomicU64::new(0) }; LOCAL_WORDS];

/// Takes the samples; the answering side has none.
pub fn message(boot: &'static Boot) -> Result<Samples, &'static str> {
    let side = if boot.value("side") == Some("second") { Side::Second } else { Side::First };
    if channel::count() == 0 {
        return between_threads();
    }
    let channel = Channel::open(0).map_err(|_| "the channel cannot be opened")?;
    let mut peer =
        Endpoint::<WORDS>::connect(channel, side, PATIENCE_NS).map_err(|_| "the peer does not come")?;
    if side == Side::Second {
        return answer(&mut peer);
    }
    let mut failed = false;
    let mut samples = Samples::measure(RUNS, || {
        failed |= peer.send(&[1, 2, 3, 4]).is_err() || peer.receive().is_err();
    });
    failed |= peer.send(&[LAST; WORDS]).is_err();
    // When one end is gone the pages are zero, and what the other did not read is lost.
    timer::sleep_ns(LINGER_NS);
    samples.halve();
    if failed { Err("the ring failed") } else { Ok(samples) }
}

fn answer(peer: &mut Endpoint<WORDS>) -> Result<Samples, &'static str> {
    loop {
        match peer.receive() {
            Ok([LAST, ..]) => return Err("this side answers"),
            Ok(record) => peer.send(&record).map_err(|_| "the ring failed")?,
            Err(_) => return Err("the ring failed"),
        }
    }
}

fn between_threads() -> Result<Samples, &'static str> {
    let mut out = Producer::<_, WORDS>::create(&THERE[..]).map_err(|_| "no ring")?;
    Consumer::<_, WORDS>::create(&BACK[..]).map_err(|_| "no ring")?;
    let mut input = Consumer::<_, WORDS>::attach(&BACK[..]).map_err(|_| "no ring")?;
    thread::spawn(echo, 0).map_err(|_| "no thread")?;
    let mut failed = false;
    let mut samples = Samples::measure(RUNS, || {
        failed |= out.push(&[1, 2, 3, 4]).is_err();
        thread::give_way();
        failed |= input.pop().is_err();
    });
    samples.halve();
    if failed { Err("the ring failed") } else { Ok(samples) }
}

/// The other thread: sends back what comes.
fn echo(_: u64) {
    let (Ok(mut input), Ok(mut out)) =
        (Consumer::<_, WORDS>::attach(&THERE[..]), Producer::<_, WORDS>::attach(&BACK[..]))
    else {
        return;
    };
    loop {
        if let Ok(popped) = input.pop()
            && out.push(&popped.value).is_err()
        {
            return;
        }
        thread::give_way();
    }
}
