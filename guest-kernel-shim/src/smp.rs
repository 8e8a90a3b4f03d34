//! Other processors: how many there are, and how to start them.
//!
//! ```
//! use guest_kernel_shim::smp::{self, NotStarted};
//!
//! /// What another processor runs.
//! fn work(share: u64) {
//!     core::hint::black_box(share);
//! }
//!
//! // Starts every processor that this kernel may use.
//! for index in 1..smp::count() {
//!     smp::start(index, work, index as u64).expect("no processor");
//! }
//! assert_eq!(smp::start(smp::count(), work, 0), Err(NotStarted::NoSuchProcessor));
//! ```

use crate::arch::{cpu, entry, lapic, percpu, trampoline};
use crate::call::{self, Code, Info};
use crate::{clock, cooperative, idle, interrupt, platform, println, timer};
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Mutex;

/// The function that a started processor runs. When it returns, the processor idles forever.
pub type Task = fn(u64);

/// How long a started processor may take to report, in ns.
const START_TIMEOUT_NS: u64 = 1_000_000_000;
/// ICR: INIT IPI, level assert.
const INIT: u32 = 0x4500;
/// ICR: start-up IPI.
const SIPI: u32 = 0x4600;

static STARTED: AtomicUsize = AtomicUsize::new(0);
static TASK: Mutex<Option<(Task, u64)>> = Mutex::new(None);

/// Why a processor was not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotStarted {
    /// There is no such processor, or it is the caller's own.
    NoSuchProcessor,
    /// The hypervisor refused.
    Refused(Code),
    /// It did not report within a second.
    Silent,
}

/// Number of the processor that runs this.
#[inline]
pub fn this() -> usize {
    percpu::this().index()
}

/// How many processors this kernel may use. The hypervisor tells a cooperative guest; the other modes read `cpus=N`
/// from the command line, and use 1 without it. Local APIC ids count from 0 without gaps.
pub fn count() -> usize {
    percpu::count()
}

/// Sets how many processors this kernel may use, and registers the function that other processors run.
pub(crate) fn find(command_line: Option<u64>) {
    entry::run_others(run);
    let told = call::info(Info::VCPUS).ok().or(command_line).unwrap_or(1);
    percpu::set_count(usize::try_from(told).unwrap_or(1));
}

/// Starts processor `index`, which runs `task(argument)` with interrupts on. Only one processor may start others, one
/// at a time.
pub fn start(index: usize, task: Task, argument: u64) -> Result<(), NotStarted> {
    if index == this() || index >= count() {
        return Err(NotStarted::NoSuchProcessor);
    }
    *TASK.lock() = Some((task, argument));
    STARTED.store(0, Ordering::SeqCst);
    if platform::is_cooperative() {
        let code = trampoline::start_vcpu(index).ok_or(NotStarted::NoSuchProcessor)?;
        if code != Code::OK {
            return Err(NotStarted::Refused(code));
        }
    } else {
        trampoline::prepare(index).ok_or(NotStarted::NoSuchProcessor)?;
        by_sipi(index)?;
    }
    let until = clock::now_ns().saturating_add(START_TIMEOUT_NS);
    while STARTED.load(Ordering::SeqCst) != index {
        if clock::now_ns() > until {
            return Err(NotStarted::Silent);
        }
        // Both vCPUs often share one pCPU; without this yield, the new one would wait for the end of the caller's
        // slice.
        call::yield_now();
        cpu::pause();
    }
    Ok(())
}

/// Intel SDM vol 3, 10.4.4.1: INIT, 10 ms, SIPI. Only old 32-bit processors need a second SIPI.
fn by_sipi(index: usize) -> Result<(), NotStarted> {
    let apic = u32::try_from(index).map_err(|_| NotStarted::NoSuchProcessor)?;
    lapic::command(apic, INIT);
    while lapic::is_sending() {
        cpu::pause();
    }
    timer::sleep_ns(10_000_000);
    lapic::command(apic, SIPI | trampoline::SIPI_VECTOR);
    while lapic::is_sending() {
        cpu::pause();
    }
    Ok(())
}

/// The function that a started processor runs.
fn run(index: usize) {
    interrupt::start_local();
    cooperative::start_local().unwrap_or_else(|refusal| println!("shim: {refusal}"));
    timer::start_local();
    let task = TASK.lock().take();
    STARTED.store(index, Ordering::SeqCst);
    interrupt::enable();
    if let Some((task, argument)) = task {
        task(argument);
    }
    idle::wait_until(|| false);
}
