//! What a machine without COM1 shows: its screen, when it has powered off.

use hv_core::machine::arch::screen::{CELL, is_lit};
use runner::machine::{Machine, StartError};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How often QEMU is asked whether the machine has powered off.
const POLL: Duration = Duration::from_millis(200);
/// VGA text: where, and how many bytes.
const TEXT: (u64, usize) = (0xb8000, 80 * 25 * 2);

/// What is on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// 25 lines of 80 characters.
    Text,
    /// Pixels.
    Pixels,
}

/// Runs a [machine without COM1](Machine::without_com1) until it has powered off, and reads its screen from top to bottom. A
/// picture of it stays at `picture`. No lines: it did not power off in its time.
///
/// # Errors
///
/// As [`Machine::start`], and for files.
pub fn read_at_end(machine: &Machine, surface: Surface, picture: &Path) -> Result<Vec<String>, StartError> {
    let mut monitor = machine.start()?;
    loop {
        thread::sleep(POLL);
        monitor.type_text("info status\n");
        match monitor.wait_for(|line| line.text.contains("VM status: ")) {
            Some(line) if line.text.contains("shutdown") => break,
            Some(_) => {}
            None => return Ok(Vec::new()),
        }
    }
    let memory = picture.with_extension("text");
    let (start, len) = TEXT;
    monitor.type_text(&format!("screendump {}\n", picture.display()));
    monitor.type_text(&format!("pmemsave {start:#x} {len} \"{}\"\nquit\n", memory.display()));
    let _ = monitor.finish();
    match surface {
        Surface::Text => fs::read(&memory).map(|cells| text(&cells)),
        Surface::Pixels => fs::read(picture).map(|picture| glyphs(&picture)),
    }
    .map_err(StartError::Files)
}

fn text(cells: &[u8]) -> Vec<String> {
    let line = |line: &[u8]| line.chunks(2).map(|cell| char::from(cell[0])).collect::<String>();
    cells.chunks(160).map(|cells| line(cells).trim_end().to_owned()).collect()
}

/// Reads a picture (PPM, P6) of our own glyphs; what is none is `\u{fffd}`.
fn glyphs(picture: &[u8]) -> Vec<String> {
    let mut fields = picture.splitn(4, |byte| byte.is_ascii_whitespace());
    let mut number = || std::str::from_utf8(fields.next().unwrap_or_default()).ok()?.parse::<u32>().ok();
    let (_, width, height) = (number(), number().unwrap_or(0), number().unwrap_or(0));
    let pixels = picture.len().saturating_sub((width * height * 3) as usize);
    let is_white =
        |x: u32, y: u32| picture.get(pixels + ((y * width + x) * 3) as usize).is_some_and(|red| *red > 127);
    let points = || (0..CELL.1).flat_map(|y| (0..CELL.0).map(move |x| (x, y)));
    let glyph = |column: u32, row: u32| {
        let same = |byte: &u8| {
            points().all(|(x, y)| is_lit(*byte, x, y) == is_white(column * CELL.0 + x, row * CELL.1 + y))
        };
        (b' '..=b'~').find(same).map_or('\u{fffd}', char::from)
    };
    let line = |row| (0..width / CELL.0).map(|column| glyph(column, row)).collect::<String>();
    (0..height / CELL.1).map(|row| line(row).trim_end().to_owned()).collect()
}
