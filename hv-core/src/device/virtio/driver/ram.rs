//! Guest memory that remembers what was written to it.

use crate::base::addr::{GuestPhys, HostPhys, OutsideMemory};
use crate::base::hardware::{GuestBlocks, GuestBytes, SharedWindow};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;

/// Bytes of a test's guest memory.
pub const RAM_BYTES: u64 = 1 << 20;

/// Guest memory.
#[derive(Debug)]
pub struct Ram {
    bytes: RefCell<Vec<u8>>,
    /// What was written since the last look.
    written: RefCell<Vec<Range<u64>>>,
    /// What is not there.
    absent: RefCell<Vec<Range<u64>>>,
}

impl Ram {
    /// Memory of zeros.
    pub fn new() -> Self {
        let bytes = alloc::vec![0; usize::try_from(RAM_BYTES).unwrap()];
        Self { bytes: RefCell::new(bytes), written: RefCell::default(), absent: RefCell::default() }
    }

    /// Takes a part away.
    pub fn lend(&self, part: Range<u64>) {
        self.absent.borrow_mut().push(part);
    }

    /// The part around this address comes back.
    pub fn come(&self, at: u64) {
        self.absent.borrow_mut().retain(|part| !part.contains(&at));
    }

    fn check(&self, at: GuestPhys, len_bytes: usize) -> Result<(), OutsideMemory> {
        at.check_range(len_bytes as u64, RAM_BYTES)?;
        let end = at.raw() + len_bytes as u64;
        match self.absent.borrow().iter().find(|part| part.start < end && at.raw() < part.end) {
            Some(part) => Err(OutsideMemory(GuestPhys::new_truncate(part.start.max(at.raw())))),
            None => Ok(()),
        }
    }

    /// The places that were written since the last call.
    pub fn take_written(&self) -> Vec<Range<u64>> {
        self.written.take()
    }

    /// Writes as the guest does.
    pub fn put(&self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        self.bytes.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Reads as the guest does.
    pub fn get(&self, at: u64, len: usize) -> Vec<u8> {
        let at = usize::try_from(at).unwrap();
        self.bytes.borrow()[at..at + len].to_vec()
    }

    /// Two bytes.
    pub fn get_u16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.get(at, 2).try_into().unwrap())
    }

    /// Writes a descriptor at index `n` of a table.
    pub fn put_descriptor(&self, table: u64, n: u16, (at, len, flags, next): (u64, u32, u16, u16)) {
        let mut bytes = Vec::new();
        bytes.extend(at.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.put(table + 16 * u64::from(n), &bytes);
    }
}

impl GuestBytes for Ram {
    fn len_bytes(&self) -> u64 {
        RAM_BYTES
    }

    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<(), OutsideMemory> {
        self.check(at, into.len())?;
        into.copy_from_slice(&self.get(at.raw(), into.len()));
        Ok(())
    }

    fn write(&self, at: GuestPhys, from: &[u8]) -> Result<(), OutsideMemory> {
        self.check(at, from.len())?;
        self.put(at.raw(), from);
        self.written.borrow_mut().push(at.raw()..at.raw() + from.len() as u64);
        Ok(())
    }

    fn exchange(&self, at: GuestPhys, byte: u8) -> Result<u8, OutsideMemory> {
        let mut before = [0];
        self.read(at, &mut before)?;
        self.write(at, &[byte])?;
        Ok(before[0])
    }

    fn clear(&self, _at: GuestPhys, _len_bytes: u64) {}
}

impl GuestBlocks for Ram {
    type Block = ();

    fn block_count(&self) -> u64 {
        4096
    }

    /// All but every fourth.
    fn has_block(&self, n: u64) -> bool {
        n % 4 != 3
    }

    fn remove_block(&self, _n: u64) -> Option<()> {
        None
    }

    fn insert_block(&self, _n: u64, block: ()) -> Result<(), ()> {
        Err(block)
    }

    fn clear_block(_block: &mut (), _offset: u64, _len_bytes: u64) {}
}

impl SharedWindow for Ram {
    fn clear_window(&self) {}

    fn window_is_free(&self, _page: u64) -> bool {
        false
    }

    fn place_in_window(&self, _page: u64, _frame: HostPhys, _writable: bool) {}
}
