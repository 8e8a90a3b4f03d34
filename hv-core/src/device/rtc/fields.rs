//! The time as the clock's registers hold it.

use super::calendar::{DAY_S, Date};

/// Data mode: bits DM and 24/12 of register B.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Format {
    pub(super) is_binary: bool,
    pub(super) has_24_hours: bool,
}

/// Set in an hour after noon, in 12-hour mode.
const AFTERNOON: u8 = 1 << 7;
/// An alarm field from here on matches everything.
const ALARM_ANY: u8 = 0xC0;

impl Format {
    /// `value` below 100, or 24 for hours.
    fn encode(self, value: u64) -> u8 {
        let value = u8::try_from(value % 100).unwrap_or(0);
        if self.is_binary { value } else { ((value / 10) << 4) | (value % 10) }
    }

    fn decode(self, value: u8) -> u64 {
        u64::from(if self.is_binary { value } else { (value >> 4) * 10 + (value & 0xF) })
    }

    fn encode_hour(self, hour: u64) -> u8 {
        if self.has_24_hours {
            return self.encode(hour);
        }
        let afternoon = if hour >= 12 { AFTERNOON } else { 0 };
        self.encode((hour + 11) % 12 + 1) | afternoon
    }

    fn decode_hour(self, value: u8) -> u64 {
        if self.has_24_hours {
            return self.decode(value);
        }
        let afternoon = if value & AFTERNOON != 0 { 12 } else { 0 };
        self.decode(value & !AFTERNOON) % 12 + afternoon
    }

    /// Seconds from `second` of the calendar to the next one that matches an alarm: 1 … 86,400, or `None` for never.
    pub(super) fn seconds_to_alarm(self, alarm: [u8; 3], second: u64) -> Option<u64> {
        let [at_second, at_minute, at_hour] = alarm;
        let field = |value: u8, decoded: u64| (value < ALARM_ANY).then_some(decoded);
        let wanted_second = field(at_second, self.decode(at_second));
        let wanted_minute = field(at_minute, self.decode(at_minute));
        let wanted_hour = field(at_hour, self.decode_hour(at_hour));
        let in_range = |wanted: Option<u64>, end: u64| wanted.is_none_or(|value| value < end);
        if !in_range(wanted_second, 60) || !in_range(wanted_minute, 60) || !in_range(wanted_hour, 24) {
            return None;
        }
        let now = second % DAY_S;
        // From the next second on; a field that moves on starts the smaller ones from their beginning.
        let start = (now + 1) % DAY_S;
        let (hour, minute, second) = (start / 3600, start / 60 % 60, start % 60);
        let second_in_minute = next_match(wanted_second, second, 60);
        let minute_from = if second_in_minute.is_some() { minute } else { minute + 1 };
        let minute_in_hour = next_match(wanted_minute, minute_from, 60);
        let hour_from = if minute_in_hour.is_some() { hour } else { hour + 1 };
        let hit_hour = next_match(wanted_hour, hour_from, 24).or_else(|| next_match(wanted_hour, 0, 24))?;
        let same_hour = hit_hour == hour && minute_in_hour.is_some();
        let hit_minute = if same_hour { minute_in_hour? } else { wanted_minute.unwrap_or(0) };
        let same_minute = same_hour && hit_minute == minute && second_in_minute.is_some();
        let hit_second = if same_minute { second_in_minute? } else { wanted_second.unwrap_or(0) };
        let hit = hit_hour * 3600 + hit_minute * 60 + hit_second;
        Some((hit + DAY_S - start) % DAY_S + 1)
    }
}

/// The first value of `from` … `end` - 1 that is wanted.
fn next_match(wanted: Option<u64>, from: u64, end: u64) -> Option<u64> {
    let value = match wanted {
        Some(value) if value >= from => value,
        Some(_) => return None,
        None => from,
    };
    (value < end).then_some(value)
}

/// The registers of time, encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fields([u8; 8]);

/// The registers of the fields: second, minute, hour, weekday, day, month, year, and the century, which is BCD in either data mode, as
/// firmware keeps it.
const REGISTERS: [u8; 8] = [0, 2, 4, 6, 7, 8, 9, super::CENTURY];
const CENTURY_FORMAT: Format = Format { is_binary: false, has_24_hours: true };

impl Fields {
    pub(super) fn of(date: &Date, format: Format) -> Self {
        Self([
            format.encode(date.second),
            format.encode(date.minute),
            format.encode_hour(date.hour),
            format.encode(date.weekday()),
            format.encode(date.day),
            format.encode(date.month),
            format.encode(date.year),
            CENTURY_FORMAT.encode(date.year / 100),
        ])
    }

    /// The date they mean; the weekday follows from it.
    pub(super) fn date(&self, format: Format) -> Date {
        let Self([second, minute, hour, _, day, month, year, century]) = *self;
        Date {
            year: CENTURY_FORMAT.decode(century) * 100 + format.decode(year),
            month: format.decode(month),
            day: format.decode(day),
            hour: format.decode_hour(hour),
            minute: format.decode(minute),
            second: format.decode(second),
        }
    }

    fn register(&mut self, index: u8) -> Option<&mut u8> {
        let n = REGISTERS.iter().position(|register| *register == index)?;
        self.0.get_mut(n)
    }

    pub(super) fn get(mut self, index: u8) -> Option<u8> {
        self.register(index).copied()
    }

    /// Returns whether `index` is one of them.
    pub(super) fn set(&mut self, index: u8, value: u8) -> bool {
        self.register(index).map(|register| *register = value).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_alarm_is_the_first_second_that_matches(
            second in 0_u64..3 * DAY_S,
            alarm in [prop_oneof![0_u8..60, Just(0xFF)], prop_oneof![0_u8..60, Just(0xC0)], prop_oneof![0_u8..24, Just(0xFF)]],
        ) {
            let format = Format { is_binary: true, has_24_hours: true };
            let matches = |at: u64| {
                let shown = Fields::of(&Date::of(at), format);
                shown.0.iter().zip(alarm).all(|(shown, wanted)| wanted >= ALARM_ANY || wanted == *shown)
            };
            let first = (1..=DAY_S).find(|step| matches(second + step));
            prop_assert_eq!(format.seconds_to_alarm(alarm, second), first);
        }

        #[test]
        fn fields_read_back_in_every_format(
            seconds in 0..=super::super::calendar::LAST_S, is_binary: bool, has_24_hours: bool,
        ) {
            let format = Format { is_binary, has_24_hours };
            let date = Date::of(seconds);
            prop_assert_eq!(Fields::of(&date, format).date(format), date);
        }
    }
}
