//! A guest: its vCPUs, memory and lifecycle, and the traits that hide the processor vendor from the core.

pub mod build;
pub mod channel_end;
pub mod cpuid;
pub mod general;
#[expect(clippy::module_inception, reason = "the room is named after its first file")]
pub mod guest;
pub mod kvm_state;
pub mod lifecycle;
pub mod make_error;
pub mod next;
pub mod parking;
pub mod platform;
pub mod populate;
pub mod registers;
pub mod seam;
pub mod system;
pub mod transit;
pub mod vcpu;
pub mod virtio_bus;
