//! Instructions of one scheduling decision, counted by callgrind as the difference of two run lengths.
//!
//! `cargo run --release -p hv-core --example sched_cost` (needs `valgrind` in PATH; about half a minute).
//! With arguments `OPERATION GUESTS VCPUS ROUNDS` it only does the work, for `callgrind_annotate` and the like.

use hv_core::base::time::{Frequency, Ticks, Tsc};
use hv_core::policy::sched::{Params, RunQueue, SliceRequest, Slot, Wake};
use std::hint::black_box;
use std::process::{Command, ExitCode};

/// Guests × vCPUs a guest.
const SHAPES: [(u16, u16); 8] = [(1, 2), (2, 1), (4, 4), (16, 1), (4, 16), (64, 1), (4, 64), (256, 1)];
const SHORT: u32 = 2_000;
const LONG: u32 = 12_000;
/// Ticks between two decisions: about what the round trip is.
const STEP: Ticks = Ticks(500);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [operation, guests, vcpus, rounds] = arguments.as_slice()
        && let (Ok(guests), Ok(vcpus), Ok(rounds)) = (guests.parse(), vcpus.parse(), rounds.parse())
    {
        return match work(operation, guests, vcpus, rounds) {
            Some(()) => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        };
    }
    println!(
        "{:>8} {:>6} {:>6} {:>12} {:>12} {:>12}",
        "runnable", "guests", "vcpus", "yield+pick", "expiry+pick", "sleep+wake"
    );
    for (guests, vcpus) in SHAPES {
        let cost = |operation: &str| measure(operation, guests, vcpus);
        let (Some(yields), Some(expiry), Some(sleep)) = (cost("yield"), cost("expiry"), cost("sleep")) else {
            eprintln!("sched_cost: valgrind --tool=callgrind did not run");
            return ExitCode::FAILURE;
        };
        println!("{:>8} {guests:>6} {vcpus:>6} {yields:>12.1} {expiry:>12.1} {sleep:>12.1}", guests * vcpus);
    }
    ExitCode::SUCCESS
}

/// Instructions a round, from two run lengths.
fn measure(operation: &str, guests: u16, vcpus: u16) -> Option<f64> {
    let long = collected(operation, guests, vcpus, LONG)?;
    let short = collected(operation, guests, vcpus, SHORT)?;
    Some((f64::from(long) - f64::from(short)) / f64::from(LONG - SHORT))
}

/// Runs itself under callgrind and reads how many instructions that took.
fn collected(operation: &str, guests: u16, vcpus: u16, rounds: u32) -> Option<u32> {
    let own = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args([operation.to_owned(), guests.to_string(), vcpus.to_string(), rounds.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok())
}

/// Does an operation `rounds` times in a queue of that shape.
fn work(operation: &str, guests: u16, vcpus: u16, rounds: u32) -> Option<()> {
    let params = Params::new(Frequency::from_khz(2_000_000)?);
    let request = SliceRequest::default_for(&params);
    let mut queue = RunQueue::new(params);
    let mut slots: Vec<Slot> = Vec::new();
    for _ in 0..guests {
        let guest = queue.add_entity(100).ok()?;
        for _ in 0..vcpus {
            slots.push(queue.add_vcpu(guest).ok()?);
        }
    }
    for slot in &slots {
        let _: Wake = queue.wake(*slot, request, Tsc(0));
    }
    let mut now = Tsc(0);
    queue.pick(now);
    for _ in 0..rounds {
        now = now + STEP;
        match operation {
            "yield" => {
                yield_and_pick(&mut queue, request, now);
            }
            "expiry" => {
                now = queue.slice_end();
                black_box(queue.pick(now));
            }
            "sleep" => {
                let runner = queue.current()?;
                queue.block_current(now);
                black_box(queue.pick(now));
                now = now + STEP;
                let _: Wake = black_box(queue.wake(runner, request, now));
            }
            _ => return None,
        }
    }
    Some(())
}

/// One call, as the dispatch makes it.
#[inline(never)]
fn yield_and_pick(queue: &mut RunQueue, request: SliceRequest, now: Tsc) -> Option<Slot> {
    queue.yield_current(black_box(request), now);
    queue.pick(now)
}
