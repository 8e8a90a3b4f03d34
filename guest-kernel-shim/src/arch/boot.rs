//! What the loader handed over: the command line, the memory map, and one module.
//!
//! Only [`super::start_info`] fills it in, because [`super::blocks`] trusts the memory map when it claims blocks.

/// How many memory regions are kept.
pub const MAX_REGIONS: usize = 16;
/// How many bytes of the command line are kept.
pub(super) const MAX_COMMAND_LINE: usize = 2048;

/// A region of physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Region {
    /// Address of the first byte.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// As in the E820 map: 1 = usable RAM.
    pub kind: u32,
}

impl Region {
    const RAM: u32 = 1;

    /// Whether the region is RAM that the kernel may use.
    pub fn is_ram(&self) -> bool {
        self.kind == Self::RAM
    }
}

/// What the loader handed over.
#[derive(Debug)]
pub struct Boot {
    command_line: [u8; MAX_COMMAND_LINE],
    command_line_bytes: usize,
    regions: [Region; MAX_REGIONS],
    region_count: usize,
    pub(super) module: Option<&'static [u8]>,
}

impl Boot {
    pub(super) const fn empty() -> Self {
        Self {
            command_line: [0; MAX_COMMAND_LINE],
            command_line_bytes: 0,
            regions: [Region { start: 0, bytes: 0, kind: 0 }; MAX_REGIONS],
            region_count: 0,
            module: None,
        }
    }

    pub(super) fn add_command_line_byte(&mut self, byte: u8) {
        if let Some(slot) = self.command_line.get_mut(self.command_line_bytes) {
            *slot = byte;
            self.command_line_bytes += 1;
        }
    }

    pub(super) fn add_region(&mut self, region: Region) {
        if let Some(slot) = self.regions.get_mut(self.region_count) {
            *slot = region;
            self.region_count += 1;
        }
    }

    /// A value with a command line and nothing else.
    #[cfg(test)]
    pub(crate) fn with_command_line(line: &str) -> Self {
        let mut boot = Self::empty();
        line.bytes().for_each(|byte| boot.add_command_line_byte(byte));
        boot
    }

    /// The whole command line; empty if it is not UTF-8.
    pub fn command_line(&self) -> &str {
        let bytes = self.command_line.get(..self.command_line_bytes).unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
    }

    /// The memory map.
    pub fn regions(&self) -> &[Region] {
        self.regions.get(..self.region_count).unwrap_or(&[])
    }

    /// Usable RAM, in bytes.
    pub fn ram_bytes(&self) -> u64 {
        self.regions().iter().filter(|region| region.is_ram()).map(|region| region.bytes).sum()
    }

    /// The module that the loader placed in memory (QEMU's `-initrd`).
    pub fn module(&self) -> Option<&'static [u8]> {
        self.module
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_and_nothing_else_changes() {
        let mut boot = Boot::empty();
        (0..MAX_COMMAND_LINE + 5).for_each(|_| boot.add_command_line_byte(b'a'));
        (0..MAX_REGIONS + 1).for_each(|_| boot.add_region(Region { start: 0, bytes: 10, kind: 1 }));
        assert_eq!(boot.command_line().len(), MAX_COMMAND_LINE);
        assert_eq!(boot.ram_bytes(), 10 * MAX_REGIONS as u64);
        assert_eq!(boot.module(), None);
    }
}
