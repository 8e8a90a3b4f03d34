//! Where people read: COM1 if there is one, and the screen if a loader left one.
#![expect(unsafe_code, reason = "takes the UART and the screen into service")]

use super::screen::{Frame, Screen};
use super::serial::{Serial, Transmit};
use spin::Once;

/// Bytes that a screen takes at a time, where no line says how many.
const AT_ONCE: usize = 16;

/// The screen's frame, for whoever takes the console over.
static FRAME: Once<Frame> = Once::new();

/// From now on a new [`Console`] knows of the screen.
pub fn learn(frame: Frame) {
    FRAME.call_once(|| frame);
}

/// A console that is polled.
pub struct Console {
    com1: Option<Serial>,
    screen: Option<Screen>,
}

impl Console {
    /// Takes what is there into service; the screen is blank then.
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

    /// Whether only a screen shows what is written: it goes dark with the machine.
    pub fn is_screen_only(&self) -> bool {
        self.com1.is_none() && self.screen.is_some()
    }

    /// As [`Serial::interrupt_on_receive_and`].
    pub fn interrupt_on_receive_and(&mut self, wants: Transmit) {
        if let Some(com1) = &mut self.com1 {
            com1.interrupt_on_receive_and(wants);
        }
    }

    /// Shows as many of the bytes as COM1 takes now; how many.
    pub fn offer(&mut self, bytes: &[u8]) -> usize {
        let taken = match &mut self.com1 {
            Some(com1) => com1.offer(bytes),
            None => bytes.len().min(AT_ONCE),
        };
        self.show(bytes.get(..taken).unwrap_or_default());
        taken
    }

    /// Shows everything; COM1 may drop what does not drain.
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

    /// Waits until the last byte has left.
    pub fn finish(&mut self) {
        if let Some(com1) = &mut self.com1 {
            com1.finish();
        }
    }

    /// A received byte.
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
