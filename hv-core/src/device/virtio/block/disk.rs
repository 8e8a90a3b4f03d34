//! What is on a disk: an image, and the pages that were changed since.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bytes of a sector: the unit of places on a disk.
pub const SECTOR_BYTES: usize = 512;
/// Bytes of a page: the unit of changes.
pub const PAGE_BYTES: usize = 4096;
const PAGE: u64 = PAGE_BYTES as u64;
const SECTOR: u64 = SECTOR_BYTES as u64;

/// Why there can be no such disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// The image, of so many bytes, is not whole sectors.
    PartOfSector(usize),
    /// There is no memory for so many changed pages.
    NoMemory {
        /// Pages that were wanted.
        pages: u32,
    },
}

/// Changed pages. All memory that they may ever have was taken at the beginning. A sparse set (Briggs and Torczon, 1993), which is
/// emptied without a look at each page of the disk: a guest that reboots would do that in one piece.
#[derive(Debug)]
struct Changes {
    /// For each page of the disk the place of its change, if that place is the page's: see `owners`.
    places: Box<[u32]>,
    pages: Vec<[u8; PAGE_BYTES]>,
    /// For each changed page its number on the disk.
    owners: Vec<u32>,
    most_pages: u32,
}

/// A disk.
#[derive(Debug)]
pub struct Disk {
    image: &'static [u8],
    changes: Option<Changes>,
}

impl Disk {
    /// A disk that nobody can write.
    ///
    /// # Errors
    ///
    /// [`DiskError::PartOfSector`].
    pub const fn read_only(image: &'static [u8]) -> Result<Self, DiskError> {
        if image.len().is_multiple_of(SECTOR_BYTES) {
            Ok(Self { image, changes: None })
        } else {
            Err(DiskError::PartOfSector(image.len()))
        }
    }

    /// A disk of which up to `most_pages` can be written; the image stays what it is. What is written lives as long as this
    /// value.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    pub fn copy_on_write(image: &'static [u8], most_pages: u32) -> Result<Self, DiskError> {
        let disk = Self::read_only(image)?;
        let no_memory = |_| DiskError::NoMemory { pages: most_pages };
        let (mut places, mut pages, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let disk_pages = image.len().div_ceil(PAGE_BYTES);
        places.try_reserve_exact(disk_pages).map_err(no_memory)?;
        places.resize(disk_pages, 0);
        let most = usize::try_from(most_pages).unwrap_or(usize::MAX);
        pages.try_reserve_exact(most).map_err(no_memory)?;
        owners.try_reserve_exact(most).map_err(no_memory)?;
        let changes = Changes { places: places.into_boxed_slice(), pages, owners, most_pages };
        Ok(Self { changes: Some(changes), ..disk })
    }

    /// Its capacity.
    pub const fn sectors(&self) -> u64 {
        self.len_bytes() / SECTOR
    }

    /// Whether nobody can write it.
    pub const fn is_read_only(&self) -> bool {
        self.changes.is_none()
    }

    /// How many pages were changed.
    #[cfg(test)]
    pub fn changed_pages(&self) -> usize {
        self.changes.as_ref().map_or(0, |changes| changes.pages.len())
    }

    /// Forgets what was written: the disk is its image again.
    pub fn revert(&mut self) {
        if let Some(changes) = &mut self.changes {
            changes.pages.clear();
            changes.owners.clear();
        }
    }

    const fn len_bytes(&self) -> u64 {
        self.image.len() as u64
    }

    /// The first byte of a range, if it is whole sectors of this disk.
    pub(super) fn range(&self, sector: u64, len_bytes: u32) -> Option<u64> {
        let start = sector.checked_mul(SECTOR)?;
        let end = start.checked_add(u64::from(len_bytes))?;
        (u64::from(len_bytes) % SECTOR == 0 && end <= self.len_bytes()).then_some(start)
    }

    /// How much of `len` bytes from `at` on lies in one page.
    pub(super) fn piece_bytes(at: u64, len: usize) -> usize {
        let room = PAGE - at % PAGE;
        len.min(usize::try_from(room).unwrap_or(0))
    }

    /// What is in a range that lies in one page; nothing past the disk's end.
    pub(super) fn read(&self, at: u64, len: usize) -> &[u8] {
        let (page, offset) = place(at);
        let changed = self.changes.as_ref().and_then(|changes| changes.page(page));
        let bytes = match changed {
            Some(page) => page.get(offset..),
            None => usize::try_from(at).ok().and_then(|at| self.image.get(at..)),
        };
        bytes.and_then(|bytes| bytes.get(..len)).unwrap_or_default()
    }

    /// The place for what is written to a range that lies in one page; the page is changed from now on. `None` where the disk is read-only or
    /// ends before, and where no page is left.
    pub(super) fn write(&mut self, at: u64, len: usize) -> Option<&mut [u8]> {
        let (page, offset) = place(at);
        let changes = self.changes.as_mut()?;
        let changed = changes.changed_page(page, self.image)?;
        changed.get_mut(offset..).and_then(|bytes| bytes.get_mut(..len))
    }
}

impl Changes {
    /// The place of a page, if it was changed.
    fn place(&self, page: usize) -> Option<usize> {
        let place = usize::try_from(*self.places.get(page)?).ok()?;
        let owner = usize::try_from(*self.owners.get(place)?).ok()?;
        (owner == page).then_some(place)
    }

    /// A page, if it was changed.
    fn page(&self, page: usize) -> Option<&[u8; PAGE_BYTES]> {
        self.pages.get(self.place(page)?)
    }

    /// A page that may be written: one that was changed, or a copy of the image's in a place not yet used.
    fn changed_page(&mut self, page: usize, image: &[u8]) -> Option<&mut [u8; PAGE_BYTES]> {
        let place = match self.place(page) {
            Some(place) => place,
            None => self.add(page, image)?,
        };
        self.pages.get_mut(place)
    }

    /// Copies a page of the image. Returns its place.
    fn add(&mut self, page: usize, image: &[u8]) -> Option<usize> {
        let place = self.places.get_mut(page)?;
        let next = self.pages.len();
        let number = u32::try_from(next).ok().filter(|number| *number < self.most_pages);
        let (number, owner) = number.zip(u32::try_from(page).ok())?;
        let mut copy = [0; PAGE_BYTES];
        let original = image.chunks(PAGE_BYTES).nth(page).unwrap_or_default();
        copy.iter_mut().zip(original).for_each(|(to, from)| *to = *from);
        self.pages.push(copy);
        self.owners.push(owner);
        *place = number;
        Some(next)
    }
}

/// Page of the disk, and offset in it.
fn place(at: u64) -> (usize, usize) {
    let page = usize::try_from(at / PAGE).unwrap_or(usize::MAX);
    (page, usize::try_from(at % PAGE).unwrap_or(0))
}
