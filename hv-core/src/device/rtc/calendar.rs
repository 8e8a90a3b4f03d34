//! Days and dates of the Gregorian calendar, carried back to the year 0.

/// Seconds from 0000-01-01 to 1970-01-01.
pub const UNIX_EPOCH_S: u64 = days_before_year(1970) * DAY_S;
/// The last second of the year 9999.
pub const LAST_S: u64 = days_before_year(10_000) * DAY_S - 1;
/// Seconds of a day.
pub const DAY_S: u64 = 86_400;

/// A moment of the calendar, to the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Date {
    /// 0 … 9999.
    pub year: u64,
    /// 1 … 12.
    pub month: u64,
    /// 1 … 31.
    pub day: u64,
    /// 0 … 23.
    pub hour: u64,
    /// 0 … 59.
    pub minute: u64,
    /// 0 … 59.
    pub second: u64,
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 0000-01-01 to the first of January of `year`, at most 10,000.
const fn days_before_year(year: u64) -> u64 {
    // The year 0 is a leap year.
    let leap_years = year.div_ceil(4) - year.div_ceil(100) + year.div_ceil(400);
    year * 365 + leap_years
}

/// Days of a year before the first of `month`; other numbers are taken as the nearest month.
fn days_before_month(year: u64, month: u64) -> u64 {
    const DAYS: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let days = DAYS[month.clamp(1, 12) as usize - 1];
    if month > 2 && is_leap(year) { days + 1 } else { days }
}

impl Date {
    /// The date `seconds` after 0000-01-01, at most [`LAST_S`].
    pub fn of(seconds: u64) -> Self {
        let seconds = seconds.min(LAST_S);
        let (days, rest) = (seconds / DAY_S, seconds % DAY_S);
        // 400 years have 146,097 days; within them the guess is off by at most one year.
        let guess = days * 400 / 146_097;
        let year = [guess + 1, guess].into_iter().find(|year| days_before_year(*year) <= days);
        let year = year.unwrap_or(guess.saturating_sub(1));
        let day_of_year = days - days_before_year(year);
        let month =
            (2..=12).take_while(|&month| days_before_month(year, month) <= day_of_year).last().unwrap_or(1);
        Self {
            year,
            month,
            day: day_of_year - days_before_month(year, month) + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// Seconds from 0000-01-01. A field past its range counts on into the next one; the result is at most [`LAST_S`].
    pub fn seconds(&self) -> u64 {
        let year = self.year.min(9_999);
        let days = days_before_year(year) + days_before_month(year, self.month) + self.day.saturating_sub(1);
        (days * DAY_S + self.hour * 3600 + self.minute * 60 + self.second).min(LAST_S)
    }

    /// 1 for Sunday … 7 for Saturday.
    pub fn weekday(&self) -> u64 {
        // 0000-01-01 was a Saturday.
        (self.seconds() / DAY_S + 6) % 7 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: u64, month: u64, day: u64) -> Date {
        Date { year, month, day, hour: 0, minute: 0, second: 0 }
    }

    #[test]
    fn known_days_fall_where_calendars_say() {
        // (date, unix day, weekday), from `date -u -d DATE`: `+%s` / 86400 and `+%w` + 1.
        let cases = [
            (date(1970, 1, 1), 0, 5),
            (date(2000, 2, 29), 11_016, 3),
            (date(2000, 3, 1), 11_017, 4),
            (date(2026, 11, 23), 20_780, 2),
            (date(2100, 3, 1), 47_541, 2),
            (date(9999, 12, 31), 2_932_896, 6),
        ];
        for (date, unix_day, weekday) in cases {
            assert_eq!(date.seconds() - UNIX_EPOCH_S, unix_day * DAY_S, "{date:?}");
            assert_eq!(date.weekday(), weekday, "{date:?}");
        }
    }

    #[test]
    fn every_day_comes_after_the_day_before() {
        let mut before = date(0, 1, 1);
        assert_eq!(Date::of(0), before);
        for day in 1..=LAST_S / DAY_S {
            let today = Date::of(day * DAY_S);
            assert_eq!(today.seconds(), day * DAY_S, "{today:?}");
            let follows = if today.day > 1 {
                today.day == before.day + 1 && today.month == before.month && today.year == before.year
            } else {
                before.day >= 28
                    && (today.month == before.month + 1 || today.month == 1 && today.year == before.year + 1)
            };
            assert!(follows, "{before:?} {today:?}");
            before = today;
        }
        assert_eq!(Date::of(u64::MAX), Date { hour: 23, minute: 59, second: 59, ..date(9999, 12, 31) });
    }
}
