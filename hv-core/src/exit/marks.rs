//! MARK by ports: an aid for benchmarks of full guests, where a scenario says `mark_port`.

use crate::device::bus::Width;
use crate::guest::next::Next;
use crate::guest::platform::Platform;
use crate::guest::vcpu::Vcpu;

/// A mark's value is written here, as a doubleword …
const VALUE: u16 = 0xcf4;
/// … and then its id here.
const ID: u16 = 0xcf0;

/// Whether a write is one of these.
pub fn has(port: u16, width: Width) -> bool {
    width == Width::Dword && (port == VALUE || port == ID)
}

/// Does it.
#[cold]
pub fn write<P: Platform>(vcpu: &mut Vcpu<P>, port: u16, value: u32) -> Next {
    if port == ID {
        return Next::Mark { id: u64::from(value), value: u64::from(vcpu.mark_value) };
    }
    vcpu.mark_value = value;
    Next::Resume
}
