//! Detection of Bochs, whose deviations from the manuals the hypervisor works around.
#![expect(unsafe_code, reason = "PCI configuration by ports")]

use x86_64::instructions::port::Port;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
/// Intel's 440FX host bridge: a PC of 1996, which no processor with VMX ever sat in.
const HOST_BRIDGE: u32 = 0x1237_8086;

/// Whether this machine is Bochs: its host bridge is a 440FX, as QEMU's, but without a subsystem.
pub fn is_it() -> bool {
    // SAFETY: the configuration ports of PCI, which no other code uses; reading configuration space changes nothing.
    let read = |offset: u32| unsafe {
        Port::<u32>::new(ADDRESS).write(1 << 31 | offset);
        Port::<u32>::new(DATA).read()
    };
    read(0) == HOST_BRIDGE && read(0x2c) == 0
}
