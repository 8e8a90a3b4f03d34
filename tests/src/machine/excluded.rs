//! Tests that a bug of an emulator makes impossible there. At most five.

use super::Kind;

/// A machine, a test's name, and the bug.
pub const EXCLUDED: [(Kind, &str, &str); 5] = [
    (Kind::BochsIntel, "a_lone_busy_vcpu_takes_no_exit_for_a_second_but_that_of_its_mark", LOST),
    (Kind::BochsAmd, "a_guest_that_loops_with_interrupts_off_keeps_the_cpu_from_nobody", DEAF),
    (Kind::BochsAmd, "a_guest_that_spins_is_interrupted_in_each_of_its_lives", FATAL),
    (Kind::BochsAmd, "a_guest_that_cannot_go_on_leaves_its_reason_its_registers_and_its_last_exits", FATAL),
    (Kind::BochsAmd, "control_registers_that_no_processor_runs_with_end_their_guest_only", FATAL),
];

const DEAF: &str = "Bochs 2.7 never leaves an SVM guest for an external interrupt while it has IF clear";
const LOST: &str = "Bochs 2.7 loses an external interrupt that comes while a VMX guest has IF clear: guests are left every ms";
const FATAL: &str = "Bochs 2.7 ends when an SVM guest takes a triple fault, instead of leaving it";
