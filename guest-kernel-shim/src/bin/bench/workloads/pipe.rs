//! Two guests and a channel: a record there, and one back when it has come. `side=first` counts, `side=second` answers.

use super::{BEGIN, END, warm_up};
use guest_kernel_shim::channel::{Channel, Endpoint, Side};
use guest_kernel_shim::{Boot, mark, println, timer};

/// Words in a record.
const WORDS: usize = 4;
/// First word of the record that ends the round trips.
const LAST: u64 = u64::MAX;
/// How long the peer may take to come up, in ns.
const PATIENCE_NS: u64 = 2_000_000_000;
/// How long the answering side lives on after its last answer, in ns.
const PARTING_NS: u64 = 20_000_000;

/// Sends and answers.
pub fn run(boot: &'static Boot) {
    if let Err(why) = converse(boot) {
        println!("#bad pipe: {why}");
    }
}

fn converse(boot: &'static Boot) -> Result<(), &'static str> {
    let failed = |_| "the ring failed";
    let side = if boot.value("side") == Some("second") { Side::Second } else { Side::First };
    let channel = Channel::open(0).map_err(|_| "the channel cannot be opened")?;
    let mut peer =
        Endpoint::<WORDS>::connect(channel, side, PATIENCE_NS).map_err(|_| "the peer does not come")?;
    if side == Side::Second {
        loop {
            let record = peer.receive().map_err(failed)?;
            peer.send(&record).map_err(failed)?;
            if record[0] == LAST {
                // A guest that ends takes its pages along: the answer is read first.
                timer::sleep_ns(PARTING_NS);
                return Ok(());
            }
        }
    }
    let round_trips = boot.number("round_trips").unwrap_or(1000);
    warm_up(boot);
    mark::mark(BEGIN, 0);
    for number in 0..round_trips {
        peer.send(&[number, 1, 2, 3]).map_err(failed)?;
        if peer.receive().map_err(failed)?[0] != number {
            return Err("another record came back");
        }
    }
    mark::mark(END, 0);
    peer.send(&[LAST; WORDS]).map_err(failed)?;
    peer.receive().map_err(failed)?;
    println!("#value round_trips={round_trips}");
    Ok(())
}
