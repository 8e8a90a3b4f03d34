//! One 8259A.

/// The word that the chip expects in the next data write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Expects {
    #[default]
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

const ICW1: u8 = 1 << 4;
const ICW1_SINGLE: u8 = 1 << 1;
const ICW1_HAS_ICW4: u8 = 1 << 0;
const ICW4_AUTO_EOI: u8 = 1 << 1;
const ICW4_SPECIAL_NESTED: u8 = 1 << 4;
const OCW3: u8 = 1 << 3;
const OCW3_POLL: u8 = 1 << 2;
const OCW3_READ: u8 = 1 << 1;
const OCW3_READ_SERVICE: u8 = 1 << 0;
const OCW3_SET_SPECIAL_MASK: u8 = 1 << 6;
const OCW3_SPECIAL_MASK: u8 = 1 << 5;
const POLL_FOUND: u8 = 1 << 7;
/// The input whose vector a vanished request gets.
const SPURIOUS: u8 = 7;

#[derive(Clone, Debug, Default)]
pub(super) struct Chip {
    requested: u8,
    in_service: u8,
    masked: u8,
    lines: u8,
    pub level_triggered: u8,
    vector_base: u8,
    expects: Expects,
    has_icw4: bool,
    single: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_nested: bool,
    special_mask: bool,
    reads_service: bool,
    poll: bool,
    /// The input with the highest priority.
    first_input: u8,
}

const fn bit(input: u8) -> u8 {
    1 << (input & 7)
}

impl Chip {
    pub(super) fn new(vector_base: u8) -> Self {
        Self { vector_base, masked: 0xFF, ..Self::default() }
    }

    pub(super) const fn vector(&self, input: u8) -> u8 {
        self.vector_base | input & 7
    }

    /// Whether an input is not masked.
    pub(super) const fn listens(&self, input: u8) -> bool {
        self.masked & bit(input) == 0
    }

    /// Whether an input has a request that was not taken yet.
    pub(super) const fn waits(&self, input: u8) -> bool {
        self.requested & bit(input) != 0
    }

    pub(super) const fn set_level_triggered(&mut self, inputs: u8) {
        self.level_triggered = inputs;
        self.requested = self.requested & !inputs | self.lines & inputs;
    }

    /// An edge is kept until it is taken; a level is as it is.
    pub(super) const fn set_input(&mut self, input: u8, level: bool) {
        let rises = level && self.lines & bit(input) == 0;
        if rises || level && self.level_triggered & bit(input) != 0 {
            self.requested |= bit(input);
        } else if !level && self.level_triggered & bit(input) != 0 {
            self.requested &= !bit(input);
        }
        self.lines = if level { self.lines | bit(input) } else { self.lines & !bit(input) };
    }

    /// Makes an input's request follow a level, whatever its trigger mode.
    pub(super) const fn follow(&mut self, input: u8, level: bool) {
        self.requested = if level { self.requested | bit(input) } else { self.requested & !bit(input) };
    }

    /// The highest-priority input of a set: rank 0 … 7, 8 for none.
    const fn rank(&self, inputs: u8) -> u32 {
        inputs.rotate_right(self.first_input as u32).trailing_zeros()
    }

    #[expect(clippy::cast_possible_truncation, reason = "a rank is at most 8")]
    const fn input_of(&self, rank: u32) -> u8 {
        self.first_input.wrapping_add(rank as u8) & 7
    }

    /// Returns the input to serve now, if any.
    fn candidate(&self) -> Option<u8> {
        let wanted = self.rank(self.requested & !self.masked);
        let mut serving = self.in_service;
        if self.special_mask {
            serving &= !self.masked;
        }
        if self.special_nested {
            serving &= !bit(super::CASCADE);
        }
        (wanted < self.rank(serving)).then(|| self.input_of(wanted))
    }

    pub(super) fn output(&self) -> bool {
        self.candidate().is_some()
    }

    /// The INTA cycle: returns the input taken, or the spurious one.
    pub(super) fn acknowledge(&mut self) -> u8 {
        self.take().unwrap_or(SPURIOUS)
    }

    fn take(&mut self) -> Option<u8> {
        let input = self.candidate()?;
        if self.level_triggered & bit(input) == 0 {
            self.requested &= !bit(input);
        }
        if !self.auto_eoi {
            self.in_service |= bit(input);
        } else if self.rotate_on_auto_eoi {
            self.make_lowest(input);
        }
        Some(input)
    }

    const fn make_lowest(&mut self, input: u8) {
        self.first_input = input.wrapping_add(1) & 7;
    }

    pub(super) fn read_command(&mut self) -> u8 {
        if self.poll {
            self.answer_poll()
        } else if self.reads_service {
            self.in_service
        } else {
            self.requested
        }
    }

    pub(super) fn read_data(&mut self) -> u8 {
        if self.poll { self.answer_poll() } else { self.masked }
    }

    fn answer_poll(&mut self) -> u8 {
        self.poll = false;
        self.take().map_or(0, |input| POLL_FOUND | input)
    }

    pub(super) fn write_command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            self.initialize(value);
        } else if value & OCW3 != 0 {
            self.control(value);
        } else {
            self.end_of_interrupt(value);
        }
    }

    pub(super) const fn write_data(&mut self, value: u8) {
        let after_icw3 = if self.has_icw4 { Expects::Icw4 } else { Expects::Mask };
        self.expects = match self.expects {
            Expects::Mask => {
                self.masked = value;
                return;
            }
            Expects::Icw2 => {
                self.vector_base = value & 0xF8;
                if self.single { after_icw3 } else { Expects::Icw3 }
            }
            Expects::Icw3 => after_icw3, // the wiring of a PC is fixed
            Expects::Icw4 => {
                self.auto_eoi = value & ICW4_AUTO_EOI != 0;
                self.special_nested = value & ICW4_SPECIAL_NESTED != 0;
                Expects::Mask
            }
        };
    }

    /// Handles ICW1: resets all state but the vector base and the trigger modes.
    fn initialize(&mut self, value: u8) {
        *self = Self {
            requested: self.lines & self.level_triggered,
            lines: self.lines,
            level_triggered: self.level_triggered,
            vector_base: self.vector_base,
            expects: Expects::Icw2,
            has_icw4: value & ICW1_HAS_ICW4 != 0,
            single: value & ICW1_SINGLE != 0,
            ..Self::default()
        };
    }

    /// OCW3.
    const fn control(&mut self, value: u8) {
        if value & OCW3_POLL != 0 {
            self.poll = true;
        }
        if value & OCW3_READ != 0 {
            self.reads_service = value & OCW3_READ_SERVICE != 0;
        }
        if value & OCW3_SET_SPECIAL_MASK != 0 {
            self.special_mask = value & OCW3_SPECIAL_MASK != 0;
        }
    }

    /// OCW2: bits 7:5 are rotate, specific, end of interrupt.
    fn end_of_interrupt(&mut self, value: u8) {
        let named = value & 7;
        match value >> 5 {
            0 => self.rotate_on_auto_eoi = false,
            4 => self.rotate_on_auto_eoi = true,
            code @ (1 | 5) => {
                let rank = self.rank(self.in_service);
                if rank < 8 {
                    let input = self.input_of(rank);
                    self.in_service &= !bit(input);
                    if code == 5 {
                        self.make_lowest(input);
                    }
                }
            }
            3 => self.in_service &= !bit(named),
            6 => self.make_lowest(named),
            7 => {
                self.in_service &= !bit(named);
                self.make_lowest(named);
            }
            _ => {}
        }
    }
}
