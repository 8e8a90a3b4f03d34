//! Records to another guest and from it, in order; and a peer that goes away.

use guest_kernel_shim::call::{self, Code};
use guest_kernel_shim::channel::{Channel, Endpoint, Side};
use guest_kernel_shim::pv_abi::PAGE_BYTES;
use guest_kernel_shim::{Boot, clock, idle, println, probe, timer};
use ring_buffers::RingError;

const WORDS: usize = 4;
const PATIENCE_NS: u64 = 5_000_000_000;

fn connect(boot: &'static Boot) -> Result<(Endpoint<WORDS>, Side, Channel), &'static str> {
    let side = if boot.value("side") == Some("second") { Side::Second } else { Side::First };
    let channel = Channel::open(0).map_err(|_| "the channel cannot be opened")?;
    let end = Endpoint::connect(channel, side, PATIENCE_NS).map_err(|_| "the peer does not come")?;
    Ok((end, side, channel))
}

/// What record `n` of a side holds.
const fn record(n: u64) -> [u64; WORDS] {
    [n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), !n, n ^ 0x5555]
}

/// `side=first` sends `records=` and then takes as many; `side=second` takes first. Prints `#channel records=N`.
pub fn run(boot: &'static Boot) -> Result<(), &'static str> {
    let records = boot.number("records").unwrap_or(100);
    let (mut end, side, channel) = connect(boot)?;
    if side == Side::Second {
        take(&mut end, records)?;
    }
    send(&mut end, records)?;
    // Whoever ends takes the channel's content along, so the second waits until the first has everything.
    match side {
        Side::First => take(&mut end, records)?,
        Side::Second => {
            let until_ns = clock::now_ns() + PATIENCE_NS;
            while channel.is_peer_there() && clock::now_ns() < until_ns {
                timer::sleep_ns(1_000_000);
            }
        }
    }
    println!("#channel records={records}");
    Ok(())
}

fn send(end: &mut Endpoint<WORDS>, records: u64) -> Result<(), &'static str> {
    let until_ns = clock::now_ns() + PATIENCE_NS;
    for n in 0..records {
        loop {
            match end.send(&record(n)) {
                Ok(()) => break,
                Err(RingError::Full) if clock::now_ns() < until_ns => {
                    idle::yield_if_wanted();
                    timer::sleep_ns(50_000);
                }
                Err(_) => return Err("the ring failed"),
            }
        }
    }
    Ok(())
}

fn take(end: &mut Endpoint<WORDS>, records: u64) -> Result<(), &'static str> {
    for n in 0..records {
        if end.receive().map_err(|_| "the ring failed")? != record(n) {
            return Err("a record is missing or out of order");
        }
    }
    Ok(())
}

/// Pages from the window's begin to the first channel of a cooperative guest of the shim.
const CHANNEL_AT: u64 = 10;

/// Meets the peer, waits until the doorbell leads nowhere, and then for what is left to become zeroes. Cooperative only.
pub fn abandoned(boot: &'static Boot) -> Result<(), &'static str> {
    let (mut end, ..) = connect(boot)?;
    end.send(&record(0)).map_err(|_| "the ring failed")?;
    println!("#abandoned met");
    let until_ns = clock::now_ns() + PATIENCE_NS;
    while call::ring(0) == Code::OK && clock::now_ns() < until_ns {
        timer::sleep_ns(1_000_000);
    }
    let (pages, bound) = call::query(0).map_err(|_| "QUERY was refused")?;
    let code = call::ring(0);
    let at = call::info(call::Info::WINDOW_BASE).unwrap_or(0) + CHANNEL_AT * PAGE_BYTES as u64;
    let words = 0..u64::from(pages) * PAGE_BYTES as u64 / 8;
    let words_left = || words.clone().filter(|word| probe::load(at + word * 8) != Ok(0)).count();
    let mut left = words_left();
    while left != 0 && clock::now_ns() < until_ns {
        timer::sleep_ns(1_000_000);
        left = words_left();
    }
    println!("#abandoned ring={} bound={bound} pages={pages} words_left={left}", code.0);
    Ok(())
}
