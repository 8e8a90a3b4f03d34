//! Tests that a bug of an emulator makes impossible there. At most five.

use super::Kind;

/// A machine, a test's name, and the bug.
pub const EXCLUDED: [(Kind, &str, &str); 4] = [
    (Kind::Qemu, "a_debug_exception_whose_delivery_raises_the_next_keeps_the_cpu_from_nobody", BROKEN),
    (Kind::BochsIntel, "a_lone_busy_vcpu_takes_no_exit_for_a_second_but_that_of_its_mark", LOST),
    (Kind::BochsAmd, "a_guest_that_loops_with_interrupts_off_keeps_the_cpu_from_nobody", DEAF),
    (Kind::BochsAmd, "debug_exceptions_come_once_and_say_what_they_are_for", SILENT),
];

const BROKEN: &str = "QEMU 7.2 ends when an exception's delivery writes where an SVM guest has a breakpoint";
const DEAF: &str = "Bochs 2.7 never leaves an SVM guest for an external interrupt while it has IF clear";
const LOST: &str = "Bochs 2.7 loses an external interrupt that comes while a VMX guest has IF clear, so the hypervisor leaves guests every ms";
const SILENT: &str = "Bochs 2.7 does not write DR6 for a #DB that SVM intercepts, so nothing tells the hypervisor of a breakpoint";
