//! The smallest kernel that shows the shim: one image, three ways to run.
//!
//! It says where it is, sleeps on a timer three times, does a critical section, and powers the machine off. With `echo` on
//! its command line it first repeats what is typed, up to a `q`.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, Ordering};
use guest_kernel_shim::{
    Boot, clock, console, critical, entry, idle, lock::Lock, platform, println, smp, timer,
};

entry!(main);

static QUIT: AtomicBool = AtomicBool::new(false);
static SLEEPS: Lock<u32> = Lock::new(0);

const SLEEP_NS: u64 = 1_000_000;

fn main(boot: &'static Boot) {
    println!("hello: mode={} cpus={}", platform::mode().name(), smp::count());
    println!("hello: memory={} KiB tsc={} kHz", boot.ram_bytes() / 1024, clock::tsc_khz());
    println!("hello: command line \"{}\"", boot.command_line());

    if boot.has("echo") {
        console::on_input(repeat);
        idle::wait_until(|| QUIT.load(Ordering::Relaxed));
    }
    for _ in 0..3 {
        let begin_ns = clock::now_ns();
        timer::sleep_ns(SLEEP_NS);
        *SLEEPS.lock() += 1;
        println!("hello: slept {} us", (clock::now_ns() - begin_ns) / 1000);
    }

    let begin = clock::ticks();
    {
        let _no_preemption_here = critical::enter();
        core::hint::black_box(&SLEEPS);
    }
    println!("hello: critical section ticks={}", clock::ticks() - begin);
    println!("hello: sleeps={}, powering off", *SLEEPS.lock());
}

/// Takes what was typed; called by its interrupt or event.
fn repeat() {
    let mut typed = [0; 64];
    loop {
        let count = console::read(&mut typed);
        let Some(typed) = typed.get(..count).filter(|typed| !typed.is_empty()) else { return };
        println!("hello: typed {:?}", core::str::from_utf8(typed).unwrap_or("?"));
        if typed.contains(&b'q') {
            QUIT.store(true, Ordering::Relaxed);
        }
    }
}
