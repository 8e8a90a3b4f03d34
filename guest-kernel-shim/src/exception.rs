//! The report of an unexpected exception, after which the kernel ends.

use crate::arch::percpu;
use crate::arch::trap::{self, Frame};
use crate::{console, println, shutdown};
use x86_64::registers::control::Cr2;

/// Registers the report, so that an unexpected exception prints it and ends this kernel.
pub(crate) fn start() {
    trap::end_by(end);
}

fn end(frame: &Frame) -> ! {
    report(frame);
    shutdown::end(shutdown::Kind::CRASH)
}

fn report(frame: &Frame) {
    console::break_locks();
    println!(
        "exception: cpu={} vector={} error={:#x} cr2={:#x} cs={:#x} ss={:#x} rflags={:#x}",
        percpu::this().index(),
        frame.vector,
        frame.error,
        Cr2::read_raw(),
        frame.cs,
        frame.ss,
        frame.rflags
    );
    let rows = [
        [("rip", frame.rip), ("rsp", frame.rsp), ("rbp", frame.rbp), ("rax", frame.rax)],
        [("rbx", frame.rbx), ("rcx", frame.rcx), ("rdx", frame.rdx), ("rsi", frame.rsi)],
        [("rdi", frame.rdi), ("r8 ", frame.r8), ("r9 ", frame.r9), ("r10", frame.r10)],
        [("r11", frame.r11), ("r12", frame.r12), ("r13", frame.r13), ("r14", frame.r14)],
    ];
    for [a, b, c, d] in rows {
        println!("  {}={:016x} {}={:016x} {}={:016x} {}={:016x}", a.0, a.1, b.0, b.1, c.0, c.1, d.0, d.1);
    }
    println!("  r15={:016x}", frame.r15);
}
