//! The console for people: COM1 if the machine has it, and the screen if the loader passed one.
#![expect(unsafe_code, reason = "takes the UART and the screen into service")]

use super::screen::{Frame, Screen};
use super::serial::{Serial, Transmit};
use spin::Once;

/// Bytes that one offer accepts when only a screen is present; with COM1, its FIFO sets the number.
const AT_ONCE: usize = 16;

/// The screen's frame; each new [`Console`] reads it, including the panic report's.
static FRAME: Once<Frame> = Once::new();

/// Records the screen's frame, so that each [`Console`] made from now on uses the screen.
pub fn learn(frame: Frame) {
    FRAME.call_once(|| frame);
}

/// A console, driven by polling.
pub struct Console {
    com1: Option<Serial>,
    screen: Option<Screen>,
}

impl Console {
    /// Sets up COM1 and the screen, as far as each is present, and blanks the screen.
    ///
    /// # Safety
    ///
    /// Nothing else drives COM1, and nothing writes to the screen that was [learned](learn), which is mapped video memory.
    pub unsafe fn new() -> Self {
        // SAFETY: by contract.
        let (com1, screen) =
            unsafe { (Serial::find(Serial::COM1), FRAME.get().and_then(|frame| Screen::new(*frame))) };
        Self { com1, screen }
    }

    /// Whether output goes to a screen only; its content is lost when the machine powers off.
    pub fn is_screen_only(&self) -> bool {
        self.com1.is_none() && self.screen.is_some()
    }

    /// As [`Serial::interrupt_on_receive_and`].
    pub fn interrupt_on_receive_and(&mut self, wants: Transmit) {
        if let Some(com1) = &mut self.com1 {
            com1.interrupt_on_receive_and(wants);
        }
    }

    /// Writes to both devices the bytes that COM1 accepts without waiting; returns the number of bytes written.
    pub fn offer(&mut self, bytes: &[u8]) -> usize {
        let taken = match &mut self.com1 {
            Some(com1) => com1.offer(bytes),
            None => bytes.len().min(AT_ONCE),
        };
        self.show(bytes.get(..taken).unwrap_or_default());
        taken
    }

    /// Writes all bytes to both devices; COM1 drops the rest if its FIFO does not drain.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(com1) = &mut self.com1 {
            com1.write(bytes);
        }
        self.show(bytes);
    }

    fn show(&mut self, bytes: &[u8]) {
        if let Some(screen) = &mut self.screen {
            screen.write(bytes);
        }
    }

    /// Waits until COM1 has sent the last byte.
    pub fn finish(&mut self) {
        if let Some(com1) = &mut self.com1 {
            com1.finish();
        }
    }

    /// Returns the next byte received by COM1, or `None`.
    pub fn read(&mut self) -> Option<u8> {
        self.com1.as_mut()?.read()
    }
}

impl core::fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}
