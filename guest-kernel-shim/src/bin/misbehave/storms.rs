//! What costs others time if it is let: the same small thing again and again, for as long as a victim runs beside it.

use crate::check::Check;
use crate::raw;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::platform::is_cooperative;
use guest_kernel_shim::pv_abi::demand::word;
use guest_kernel_shim::{
    call, clock, console, critical, demand, event, interrupt, ipi, mark, print, println, probe, smp, timer,
};

/// When all storms begin by the clock of the machine: everybody has started by then.
const BEGIN_NS: u64 = 200_000_000;
/// How long a storm lasts.
const STORM_NS: u64 = 25_000_000;
/// After so many interrupts the timer that never rests is stopped: this kernel would do nothing else.
const MOST_INTERRUPTS: u64 = 1000;
/// Most text of a flood: of two guests, more than the hypervisor keeps for a slow line; a real line takes 2 s for this.
const FLOOD_BYTES: usize = 24 << 10;
/// A vector that nobody handles.
const VECTOR: u8 = 0x77;
const APIC_SELF_IPI: u32 = 0x83f;
const APIC_LVT_TIMER: u32 = 0x832;
const APIC_TIMER_INITIAL: u32 = 0x838;
const APIC_TIMER_DIVIDE: u32 = 0x83e;
const PERIODIC: u64 = 1 << 17;
const MASKED: u64 = 1 << 16;
const DIVIDE_BY_ONE: u64 = 0b1011;

/// Sleeps until everybody has started.
pub fn wait_for_all() {
    let now = clock::now_ns();
    if now < BEGIN_NS {
        timer::sleep_ns(BEGIN_NS - now);
    } else {
        println!("#bad storm: it is {now} ns already");
    }
}

/// Does `step` with growing numbers until the storm is over; answers how often.
pub fn storm(mut step: impl FnMut(u64)) -> u64 {
    wait_for_all();
    let mut times = 0;
    while clock::now_ns() < BEGIN_NS + STORM_NS {
        for _ in 0..16 {
            step(times);
            times += 1;
        }
    }
    times
}

/// Says how often, and that there was some of it.
pub fn report(check: &mut Check, what: &str, times: u64) {
    println!("storm: {what} {times} times");
    check.holds(format_args!("{what} happened"), times > 0);
}

/// PAUSE.
pub fn pause(check: &mut Check) {
    report(check, "PAUSE", storm(|_| ipi::relax()));
}

/// CPUID, every leaf.
pub fn cpuid(check: &mut Check) {
    let leaves = [0, 0x4000_0000, 0x8000_0000, u32::MAX - 8];
    let times = storm(|n| {
        let low = u32::try_from(n % 64).unwrap_or(0);
        for leaf in leaves {
            core::hint::black_box(probe::cpuid(leaf.wrapping_add(low), u32::MAX - low).eax);
        }
    });
    report(check, "CPUID", times);
}

/// Interrupts to itself, taken at once.
pub fn self_ipi(check: &mut Check) {
    let before = interrupt::unexpected();
    let times = storm(|_| {
        if is_cooperative() {
            let _ = call::ipi(0, VECTOR);
        } else {
            let _ = raw::wrmsr(APIC_SELF_IPI, u64::from(VECTOR));
        }
    });
    report(check, "self IPI", times);
    check.holds(format_args!("they arrived"), interrupt::unexpected() > before);
}

/// A timer that is due before it is set: a period of one tick, or a next_wake that is past, none or never.
pub fn timers(check: &mut Check) {
    let times = if is_cooperative() {
        let times = storm(|n| {
            let now = clock::ticks();
            let next_wake = match n % 5 {
                0 => now - n,
                1 => 0,
                2 => u64::MAX,
                3 => now + 1,
                _ => 1,
            };
            demand::store_raw(word::NEXT_WAKE, next_wake);
            match n % 3 {
                0 => {
                    let _ = call::arm();
                }
                1 => {
                    call::kick(0);
                }
                _ => {}
            }
        });
        demand::store_raw(word::NEXT_WAKE, 0);
        demand::republish();
        times
    } else {
        interrupt::handle(VECTOR, expired);
        storm(|n| {
            if n == 0 {
                let _ = raw::wrmsr(APIC_TIMER_DIVIDE, DIVIDE_BY_ONE);
                let _ = raw::wrmsr(APIC_LVT_TIMER, PERIODIC | u64::from(VECTOR));
                let _ = raw::wrmsr(APIC_TIMER_INITIAL, 1);
            }
        });
        let _ = raw::wrmsr(APIC_LVT_TIMER, MASKED);
        EXPIRED.load(Ordering::Relaxed)
    };
    report(check, "timer", times);
}

static EXPIRED: AtomicU64 = AtomicU64::new(0);

fn expired() {
    if EXPIRED.fetch_add(1, Ordering::Relaxed) >= MOST_INTERRUPTS {
        let _ = raw::wrmsr(APIC_LVT_TIMER, MASKED);
    }
}

/// Kicks and interrupts to every vCPU there could be. This guest has one.
pub fn neighbours(check: &mut Check) {
    const ICR: u32 = 0x830;
    // NMI, INIT and SIPI to itself do not count as hostile to others.
    interrupt::handle_nmi(|| ());
    let mut reached = 0u64;
    let times = storm(|n| {
        let index = 1 + n % 300;
        if is_cooperative() {
            let to = usize::try_from(index).unwrap_or(1);
            reached += u64::from(call::kick(to) == call::Code::OK);
            reached += u64::from(call::ipi(to, VECTOR).is_ok()) + u64::from(call::nmi(to).is_ok());
            reached += u64::from(call::vcpu_stop(to).is_ok());
        } else {
            // All delivery modes, to others by number and by shorthand.
            let mode = (n % 8) << 8;
            let shorthand = if n.is_multiple_of(3) { 0b11 << 18 } else { 0 };
            let _ = raw::wrmsr(ICR, index << 32 | shorthand | mode | u64::from(VECTOR));
        }
    });
    report(check, "IPI to others", times);
    check.one_of(format_args!("vCPUs of others that were reached"), reached, &[0]);
}

/// Marks without end.
pub fn marks(check: &mut Check) {
    let times = storm(|n| mark::mark(u32::try_from(n & 0xffff).unwrap_or(0), 1));
    report(check, "MARK", times);
}

/// Text without a line's end.
pub fn flood(check: &mut Check) {
    let mut left = FLOOD_BYTES;
    let times = storm(|_| {
        if left > 0 {
            print!("{:.<64}", "flood");
            left -= 64;
        }
    });
    console::flush();
    println!();
    report(check, "text", times);
}

/// Giving the CPU away to everybody and nobody.
pub fn yields(check: &mut Check) {
    if !is_cooperative() {
        check.skip("PAUSE is what there is in this mode");
        return;
    }
    let times = storm(|n| {
        call::yield_now();
        call::yield_to(0, n);
        call::yield_to(usize::try_from(n % 66).unwrap_or(0), u64::MAX - n);
    });
    report(check, "YIELD", times);
}

/// Events: its own line scribbled over, and looked at.
pub fn events(check: &mut Check) {
    if !is_cooperative() {
        check.skip("no event line in this mode");
        return;
    }
    let times = storm(|n| {
        // With interrupts off: an upcall in between would take them, and nothing would end the BLOCK.
        interrupt::without(|| {
            for event in 0..62 {
                event::set_own(event);
            }
            if n.is_multiple_of(2) { call::kick(0) } else { call::block(u64::MAX) }
        });
    });
    report(check, "event", times);
}

/// A critical section that is never left.
pub fn section(check: &mut Check) {
    core::mem::forget(critical::enter());
    report(check, "critical section", storm(|_| core::hint::black_box(())));
}

/// A processor that halts with interrupts off: nobody wakes it, and nobody else waits for it.
pub fn dead_processor(check: &mut Check) {
    let started = smp::start(1, |_| raw::halt_for_ever(), 0);
    check.holds(format_args!("a second processor started: {started:?}"), started.is_ok());
    for _ in 0..20 {
        timer::sleep_ns(1_000_000);
        if let Some(line) = ipi::Line::new(5) {
            ipi::send(1, line);
        }
    }
    check.holds(format_args!("the first goes on"), true);
}
