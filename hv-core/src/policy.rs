//! Policy: decisions that do not depend on the machine's mechanisms.

pub mod balance;
pub mod calibrate;
pub mod cpu_shared;
pub mod demand;
pub mod mailbox;
pub mod mm;
pub mod posted;
pub mod presence;
pub mod sched;
pub mod skew;
pub mod telemetry;
pub mod timers;
pub mod trace;
pub mod turns;
pub mod vcpu_shared;
