//! A server: requests arrive by a timer of its own, as a Poisson process, and take a fixed time each.
//!
//! `load=P` percent of a processor, `service_ns=N`, `class=N` the latency class it asks for, `window_ms`, `warm_ms`. The
//! latency is from a request's arrival to
//! its end, waiting included. All arrivals are drawn before the window and are the same in every mode.

use super::chance::Chance;
use super::{BEGIN, END, rank, spin, warm_up, window_ticks};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use guest_kernel_shim::{Boot, clock, demand, idle, mark, println, timer};

const SEED: u64 = 1;

/// When each request arrives, in ticks from [`START_TSC`]; then how long it took, in ns.
static REQUESTS: [AtomicU32; rank::MOST] = [const { AtomicU32::new(0) }; rank::MOST];
static START_TSC: AtomicU64 = AtomicU64::new(0);
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Serves all requests of the window.
pub fn run(boot: &'static Boot) {
    let service_ns = boot.number("service_ns").unwrap_or(20_000);
    let mean_ns = service_ns * 100 / boot.number("load").unwrap_or(10).max(1);
    let count = draw(clock::ticks_from_ns(mean_ns), window_ticks(boot));
    let rounds = spin::rounds_worth(boot, service_ns);
    demand::set_latency_class(boot.number("class").and_then(|class| u8::try_from(class).ok()).unwrap_or(0));
    timer::take_when_idle(true);
    warm_up(boot);
    mark::mark(BEGIN, 0);
    START_TSC.store(clock::ticks(), Ordering::Relaxed);
    if count > 0 {
        set_timer(0);
    }
    for request in REQUESTS.iter().take(count).enumerate() {
        serve(request, rounds);
    }
    mark::mark(END, 0);
    println!("#value requests={count} rounds={rounds}");
    rank::print("latency", &REQUESTS, count);
}

/// Draws the arrivals; answers how many there are.
fn draw(mean_ticks: u64, window_ticks: u64) -> usize {
    let mut chance = Chance::new(SEED);
    let mut at = 0_u64;
    let mut count = 0;
    for request in &REQUESTS {
        at = at.saturating_add(chance.exponential(mean_ticks));
        match u32::try_from(at) {
            Ok(ticks) if at < window_ticks => request.store(ticks, Ordering::Relaxed),
            Ok(_) | Err(_) => break,
        }
        count += 1;
    }
    COUNT.store(count, Ordering::Relaxed);
    count
}

fn arrival_tsc(request: usize) -> Option<u64> {
    let ticks = REQUESTS.get(request).filter(|_| request < COUNT.load(Ordering::Relaxed))?;
    Some(START_TSC.load(Ordering::Relaxed) + u64::from(ticks.load(Ordering::Relaxed)))
}

fn set_timer(request: usize) {
    if let Some(at_tsc) = arrival_tsc(request) {
        let _ = timer::at(at_tsc, arrive, 0); // one timer at a time, so that there is room
    }
}

/// The timer: whatever has come by now is in the queue, and the next one is waited for.
fn arrive(_: u64) {
    let now = clock::ticks();
    let mut arrived = ARRIVED.load(Ordering::Relaxed);
    while arrival_tsc(arrived).is_some_and(|at_tsc| at_tsc <= now) {
        arrived += 1;
    }
    ARRIVED.store(arrived, Ordering::Relaxed);
    set_timer(arrived);
}

fn serve((number, request): (usize, &AtomicU32), rounds: u64) {
    idle::wait_until(|| ARRIVED.load(Ordering::Relaxed) > number);
    let arrival = arrival_tsc(number).unwrap_or(0);
    spin::spin(rounds);
    let took_ns = clock::ns_from_ticks(clock::ticks().saturating_sub(arrival));
    request.store(u32::try_from(took_ns).unwrap_or(u32::MAX), Ordering::Relaxed);
}
