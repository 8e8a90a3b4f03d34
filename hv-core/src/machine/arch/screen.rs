//! The machine's screen, if the loader passed one: a frame of text cells (VGA text), or of pixels.
//!
//! Output runs from top to bottom and continues at the top, with a blank line below the newest one: the screen never scrolls, since
//! reading or moving video memory takes a PC longer than writing the text.
#![expect(unsafe_code, reason = "video memory through a raw pointer")]

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// The loader's description of the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Physical address of the frame's first byte.
    pub start: u64,
    /// Bytes from one row to the next.
    pub pitch_bytes: u32,
    /// Width and height, in cells or pixels.
    pub size: (u32, u32),
    /// Format of a row.
    pub kind: Kind,
}

/// Format of a screen's rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A character and its colours, a byte each.
    Text,
    /// Pixels of 2, 3 or 4 bytes.
    Pixels {
        /// Bytes per pixel.
        bytes: u32,
        /// Pixel value of a lit point.
        white: u32,
    },
}

/// Light grey on black.
const ATTRIBUTE: u16 = 0x0700;
/// A character's width and height, in pixels.
pub const CELL: (u32, u32) = (8, 16);
const _: () = assert!(get_raster_width(FontWeight::Regular, RasterHeight::Size16) <= CELL.0 as usize);
/// A point of a glyph is drawn if its intensity is above this value.
const HALF: u8 = 96;

/// Whether a character's glyph has a point at (`x`, `y`), in pixels from its upper left corner.
pub fn is_lit(byte: u8, x: u32, y: u32) -> bool {
    let glyph = get_raster(char::from(byte), FontWeight::Regular, RasterHeight::Size16);
    glyph.and_then(|glyph| glyph.pixel(x as usize, y as usize)).is_some_and(|point| point > HALF)
}

impl Frame {
    /// Returns the frame's length in bytes; `None` if a row is shorter than its content, or the frame's end overflows.
    pub fn len_bytes(&self) -> Option<u64> {
        let (width, height) = (u64::from(self.size.0), u64::from(self.size.1));
        let unit = match self.kind {
            Kind::Text => 2,
            Kind::Pixels { bytes, .. } => u64::from(bytes),
        };
        let fits = (2..=4).contains(&unit) && width * unit <= u64::from(self.pitch_bytes);
        let len = u64::from(self.pitch_bytes) * height;
        (fits && self.start.checked_add(len).is_some()).then_some(len)
    }

    /// Returns the number of columns and rows of characters.
    const fn cells(&self) -> (u32, u32) {
        match self.kind {
            Kind::Text => self.size,
            Kind::Pixels { .. } => (self.size.0 / CELL.0, self.size.1 / CELL.1),
        }
    }
}

/// A screen that text is written to.
pub struct Screen {
    frame: Frame,
    column: u32,
    row: u32,
}

impl Screen {
    /// Makes a blank screen; `None` if the frame has no room for a character, or is not valid.
    ///
    /// # Safety
    ///
    /// `frame` is the machine's video memory, mapped at its own address, and nothing else writes to it.
    pub unsafe fn new(frame: Frame) -> Option<Self> {
        frame.len_bytes()?;
        let (columns, rows) = frame.cells();
        if columns == 0 || rows < 2 {
            return None;
        }
        let mut screen = Self { frame, column: 0, row: 0 };
        for row in 0..rows {
            screen.blank(row);
        }
        Some(screen)
    }

    /// Writes text; a character without a glyph is shown as `?`.
    pub fn write(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                _ => {
                    if self.column == self.frame.cells().0 {
                        self.end_line();
                    }
                    let shown = if (b' '..=b'~').contains(byte) { *byte } else { b'?' };
                    self.put(self.column, self.row, shown);
                    self.column += 1;
                }
            }
        }
    }

    fn end_line(&mut self) {
        let rows = self.frame.cells().1;
        self.column = 0;
        self.row = (self.row + 1) % rows;
        self.blank(self.row);
        self.blank((self.row + 1) % rows);
    }

    fn blank(&mut self, row: u32) {
        for column in 0..self.frame.cells().0 {
            self.put(column, row, b' ');
        }
    }

    fn put(&mut self, column: u32, row: u32, byte: u8) {
        match self.frame.kind {
            Kind::Text => self.store(column * 2, row, 2, u32::from(ATTRIBUTE | u16::from(byte))),
            Kind::Pixels { bytes, white } => self.draw(column, row, byte, bytes, white),
        }
    }

    fn draw(&mut self, column: u32, row: u32, byte: u8, bytes: u32, white: u32) {
        for y in 0..CELL.1 {
            for x in 0..CELL.0 {
                let colour = if is_lit(byte, x, y) { white } else { 0 };
                self.store((column * CELL.0 + x) * bytes, row * CELL.1 + y, bytes, colour);
            }
        }
    }

    /// Stores the lower `len` bytes of a value at a byte of a row.
    fn store(&mut self, offset: u32, row: u32, len: u32, value: u32) {
        let [first, second, third, fourth] = value.to_le_bytes();
        let at = self.frame.start + u64::from(row) * u64::from(self.frame.pitch_bytes) + u64::from(offset);
        let at = core::ptr::with_exposed_provenance_mut::<u8>(usize::try_from(at).unwrap_or(0));
        // SAFETY: the caller stays inside the frame's rows and columns, which `len_bytes` found to be inside its memory, and
        // that memory is ours by `new`'s contract. The store need not be aligned or atomic.
        unsafe {
            match len {
                2 => at.cast::<[u8; 2]>().write_volatile([first, second]),
                3 => at.cast::<[u8; 3]>().write_volatile([first, second, third]),
                _ => at.cast::<[u8; 4]>().write_volatile([first, second, third, fourth]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const EDGE: u8 = 0xee;

    /// A frame in a buffer with edges that nobody may touch; a few bytes of each row are no part of it.
    fn frame(kind: Kind, size: (u32, u32), unit: u32, memory: &mut Vec<u8>) -> Frame {
        let pitch_bytes = size.0 * unit + 6;
        *memory = vec![EDGE; (pitch_bytes * size.1) as usize + 16];
        let start = memory.as_mut_ptr().expose_provenance() as u64 + 8;
        Frame { start, pitch_bytes, size, kind }
    }

    fn text_of(memory: &[u8], frame: &Frame) -> Vec<alloc::string::String> {
        let row = |row: u32| {
            let at = 8 + (row * frame.pitch_bytes) as usize;
            let cells = memory[at..at + frame.size.0 as usize * 2].chunks(2);
            let text = cells.map(|cell| char::from(cell[0])).collect::<alloc::string::String>();
            text.trim_end().into()
        };
        (0..frame.size.1).map(row).collect()
    }

    #[test]
    fn text_goes_down_wraps_at_the_edges_and_keeps_a_blank_line_ahead() {
        let mut memory = Vec::new();
        let frame = frame(Kind::Text, (8, 4), 2, &mut memory);
        // SAFETY: the frame lies in `memory`, which nobody else touches.
        let mut screen = unsafe { Screen::new(frame) }.unwrap();
        screen.write(b"one\r\ntwo is long\n");
        assert_eq!(text_of(&memory, &frame), ["", "two is l", "ong", ""]);
        screen.write(b"\x07\xff\nfive\n");
        assert_eq!(text_of(&memory, &frame), ["five", "", "", "??"]);
        assert!(memory[..8].iter().chain(&memory[memory.len() - 8..]).all(|byte| *byte == EDGE));
        assert_eq!(memory[8 + 16..8 + 22], [EDGE; 6], "what is behind a row is not the screen's");
    }

    #[test]
    fn a_glyph_is_drawn_in_pixels_of_each_size() {
        for (bytes, white) in [(2, 0xffff), (3, 0xff_ffff), (4, 0xff_ffff)] {
            let mut memory = Vec::new();
            let size = (CELL.0 * 3 + 1, CELL.1 * 2 + 5);
            let frame = frame(Kind::Pixels { bytes, white }, size, bytes, &mut memory);
            // SAFETY: as above.
            let mut screen = unsafe { Screen::new(frame) }.unwrap();
            screen.write(b"I");
            let lit = |column: u32| {
                let pixels = (0..CELL.1).flat_map(|y| (0..CELL.0).map(move |x| (column * CELL.0 + x, y)));
                let at = |(x, y)| 8 + (y * frame.pitch_bytes + x * bytes) as usize;
                pixels.filter(|pixel| memory[at(*pixel)] == 0xff).count()
            };
            assert!(lit(0) > 10 && lit(1) == 0, "{bytes}: {} {}", lit(0), lit(1));
            assert!(memory[memory.len() - 8..].iter().all(|byte| *byte == EDGE));
        }
    }

    #[test]
    fn a_frame_without_sense_is_no_screen() {
        let good = Frame { start: 0x1000, pitch_bytes: 160, size: (80, 25), kind: Kind::Text };
        assert_eq!(good.len_bytes(), Some(4000));
        let pixels = |bytes| Frame { kind: Kind::Pixels { bytes, white: 0 }, ..good };
        let bad = [
            Frame { pitch_bytes: 159, ..good },
            Frame { start: u64::MAX, ..good },
            pixels(0),
            pixels(5),
            Frame { size: (u32::MAX, u32::MAX), ..good },
        ];
        for frame in bad {
            assert_eq!(frame.len_bytes(), None, "{frame:?}");
        }
        for size in [(0, 25), (80, 1)] {
            // SAFETY: it has no room, so nothing is written.
            assert!(unsafe { Screen::new(Frame { size, ..good }) }.is_none());
        }
    }
}
