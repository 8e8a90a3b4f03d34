//! MARK by ports: an aid for benchmarks of full guests, if the scenario sets `mark_port`.

use crate::device::bus::Width;
use crate::guest::next::Next;
use crate::guest::platform::Platform;
use crate::guest::vcpu::Vcpu;

/// Port to which the guest writes a mark's value first, as a doubleword.
const VALUE: u16 = 0xcf4;
/// Port to which the guest then writes the mark's id, as a doubleword; that makes the mark.
const ID: u16 = 0xcf0;

/// Whether a write of `width` to `port` belongs to a mark.
pub fn has(port: u16, width: Width) -> bool {
    width == Width::Dword && (port == VALUE || port == ID)
}

/// Keeps a mark's value, or makes the mark when its id is written.
#[cold]
pub fn write<P: Platform>(vcpu: &mut Vcpu<P>, port: u16, value: u32) -> Next {
    if port == ID {
        return Next::Mark { id: u64::from(value), value: u64::from(vcpu.mark_value) };
    }
    vcpu.mark_value = value;
    Next::Resume
}
