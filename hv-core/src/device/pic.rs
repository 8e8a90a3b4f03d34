//! The pair of 8259A interrupt controllers of a PC: ports 0x20, 0x21, 0xA0, 0xA1, and ELCR at 0x4D0, 0x4D1.
//!
//! Intel 8259A data sheet, order number 231468-003. The second chip is cascaded on input 2 of the first.

mod chip;
#[cfg(test)]
mod tests;

use chip::Chip;

/// The input of the first chip that the second one drives.
const CASCADE: u8 = 2;
/// Inputs that a PC keeps edge-triggered: timer, keyboard, cascade; clock, coprocessor.
const ALWAYS_EDGE: [u8; 2] = [0b0000_0111, 0b0010_0001];

/// Both chips.
#[derive(Clone, Debug)]
pub struct Pics {
    first: Chip,
    second: Chip,
    /// The INT output of the first chip.
    output: bool,
}

impl Pics {
    #[expect(clippy::new_without_default, reason = "the state after firmware is one of several")]
    /// Returns the pair as firmware leaves it: vectors 0x08 and 0x70, everything masked.
    pub fn new() -> Self {
        Self { first: Chip::new(0x08), second: Chip::new(0x70), output: false }
    }

    /// Sets an input, 0 … 15; 2 and others have no effect.
    pub fn set_input(&mut self, irq: u8, level: bool) {
        match irq {
            CASCADE => return,
            0..=7 => self.first.set_input(irq, level),
            8..=15 => self.second.set_input(irq & 7, level),
            _ => return,
        }
        self.update();
    }

    /// Whether input `irq` of the first chip, 0 … 7, is not masked.
    pub const fn listens(&self, irq: u8) -> bool {
        self.first.listens(irq)
    }

    /// Whether input `irq` of the first chip, 0 … 7, has a request that the processor has not taken yet.
    pub const fn waits(&self, irq: u8) -> bool {
        self.first.waits(irq)
    }

    /// Whether the pair requests an interrupt of the processor.
    #[inline]
    pub const fn pending(&self) -> bool {
        self.output
    }

    /// Acknowledges the interrupt for the processor. Returns its vector: the spurious one, input 7, if the request has vanished.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.first.acknowledge() {
            CASCADE => {
                let input = self.second.acknowledge();
                self.second.vector(input)
            }
            input => self.first.vector(input),
        };
        self.update();
        vector
    }

    /// Reads the register at `port`, if the pair has one there; after a poll command the read acknowledges.
    pub fn read(&mut self, port: u16) -> Option<u8> {
        let chip = self.chip(port);
        let value = match port {
            0x20 | 0xA0 => chip.read_command(),
            0x21 | 0xA1 => chip.read_data(),
            0x4D0 | 0x4D1 => chip.level_triggered,
            _ => return None,
        };
        self.update();
        Some(value)
    }

    /// Writes the register at `port`, if the pair has one there.
    pub fn write(&mut self, port: u16, value: u8) {
        let chip = self.chip(port);
        match port {
            0x20 | 0xA0 => chip.write_command(value),
            0x21 | 0xA1 => chip.write_data(value),
            0x4D0 | 0x4D1 => chip.set_level_triggered(value & !ALWAYS_EDGE[usize::from(port & 1)]),
            _ => return,
        }
        self.update();
    }

    /// Returns the chip that has a register at `port`.
    const fn chip(&mut self, port: u16) -> &mut Chip {
        if matches!(port, 0xA0 | 0xA1 | 0x4D1) { &mut self.second } else { &mut self.first }
    }

    /// The cascade follows the second chip's output as a level: no edge of it can be missed.
    fn update(&mut self) {
        self.first.follow(CASCADE, self.second.output());
        self.output = self.first.output();
    }
}
