//! The other vCPUs of this guest, which do what the first one orders.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest_kernel_shim::platform::{Mode, mode};
use guest_kernel_shim::pv_abi::MAX_VCPUS;
use guest_kernel_shim::{call, clock, idle, ipi, smp};

/// What the crew does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Waits, idle.
    Idle,
    /// Gives its CPU away again and again.
    Yield,
    /// Computes.
    Spin,
}

/// The line on which an order, and a ping's answer, arrives.
const ORDERS: Option<ipi::Line> = ipi::Line::new(1);
/// The line on which the pinged vCPU is called.
const PING: Option<ipi::Line> = ipi::Line::new(2);

static ORDER: AtomicU64 = AtomicU64::new(0);
static STARTED: AtomicBool = AtomicBool::new(false);
static SWITCHES: [AtomicU64; MAX_VCPUS] = [const { AtomicU64::new(0) }; MAX_VCPUS];
/// When the pinged vCPU's handler ran; 0 = not yet.
static PINGED_TSC: AtomicU64 = AtomicU64::new(0);
/// The pinged vCPU answered.
static ANSWERED: AtomicBool = AtomicBool::new(false);

/// Makes every other vCPU do something else, after starting it if need be.
pub fn order(order: Order) -> Result<(), &'static str> {
    ORDER.store(order as u64, Ordering::SeqCst);
    if !STARTED.swap(true, Ordering::SeqCst) {
        if let (Some(orders), Some(ping)) = (ORDERS, PING) {
            ipi::handle(orders, || ());
            ipi::handle(ping, pinged);
        }
        for index in 1..smp::count() {
            smp::start(index, serve, 0).map_err(|_| "a vCPU did not start")?;
        }
    }
    (1..smp::count()).for_each(call_up);
    Ok(())
}

/// How often all vCPUs of the crew came back from yielding.
pub fn switches() -> u64 {
    SWITCHES.iter().map(|count| count.load(Ordering::Relaxed)).sum()
}

/// Calls the second vCPU and waits, idle, for its answer. Returns when it was called, when its handler ran and when
/// this vCPU went on.
pub fn ping() -> (u64, u64, u64) {
    PINGED_TSC.store(0, Ordering::SeqCst);
    ANSWERED.store(false, Ordering::SeqCst);
    let begin = clock::ticks();
    if let Some(line) = PING {
        ipi::send(1, line);
    }
    idle::wait_until(|| ANSWERED.load(Ordering::SeqCst));
    (begin, PINGED_TSC.load(Ordering::SeqCst), clock::ticks())
}

/// On the pinged vCPU. An idle one answers when it is back from idling, a computing one from here.
fn pinged() {
    PINGED_TSC.store(clock::ticks(), Ordering::SeqCst);
    if ORDER.load(Ordering::Relaxed) == Order::Spin as u64 {
        answer();
    }
}

fn answer() {
    ANSWERED.store(true, Ordering::SeqCst);
    call_up(0);
}

fn call_up(index: usize) {
    if let Some(line) = ORDERS {
        ipi::send(index, line);
    }
}

fn serve(_: u64) {
    let is = |order: Order| ORDER.load(Ordering::SeqCst) == order as u64;
    let mine = &SWITCHES[smp::this()];
    loop {
        while is(Order::Yield) {
            call::yield_now();
            mine.store(mine.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        while is(Order::Spin) {
            // An emulator that runs its processors in turn goes on to the next at a PAUSE; a guest only computes.
            if mode() == Mode::Bare {
                ipi::relax();
            }
        }
        let is_pinged = || PINGED_TSC.load(Ordering::SeqCst) != 0 && !ANSWERED.load(Ordering::SeqCst);
        idle::wait_until(|| is_pinged() || !is(Order::Idle));
        if is_pinged() {
            answer();
        }
    }
}
