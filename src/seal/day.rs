//! A day of the calendar in UTC.

use std::fmt;
use std::str::FromStr;

use crate::time::Time;

/// One day of the calendar in UTC: days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

const SECONDS_OF_A_DAY: u64 = 86_400;

impl Day {
    /// The day that it is for known keys unless they are told another one: 2026-11-22.
    pub(super) const KNOWN: Self = Self(20_779);

    /// The day of `at`.
    pub fn of(at: Time) -> Self {
        Self(u32::try_from(at.as_secs() / SECONDS_OF_A_DAY).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::from(self.0).saturating_mul(86_400);
        match jiff::Timestamp::from_second(seconds) {
            Ok(at) => write!(f, "{}", at.strftime("%Y-%m-%d")),
            Err(_) => write!(f, "day-{}", self.0),
        }
    }
}

/// A text is not the name of a day as we write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a day such as 2026-11-22")]
pub struct ParseDayError;

impl FromStr for Day {
    type Err = ParseDayError;

    fn from_str(text: &str) -> Result<Self, ParseDayError> {
        let found = match text.strip_prefix("day-") {
            Some(number) => number.parse().ok(),
            None => text.parse::<jiff::civil::Date>().ok().and_then(|date| {
                let days = (date - jiff::civil::date(1970, 1, 1)).get_days();
                u32::try_from(days).ok()
            }),
        };
        // Only the name that we would give the file ourselves.
        found.map(Self).filter(|day| day.to_string() == text).ok_or(ParseDayError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_reads_the_name_that_it_prints_and_no_other() {
        let day = Day::of(Time::from_secs(1_795_305_600));
        assert_eq!(day, Day::KNOWN);
        assert_eq!(day.to_string(), "2026-11-22");
        assert_eq!("2026-11-22".parse(), Ok(day));
        assert_eq!("1970-01-01".parse(), Ok(Day(0)));
        for wrong in ["", "archive", "2026-11-22 ", "20261122", "2026-02-30", "1969-12-31"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_day_beyond_the_calendar_has_a_name_too() {
        let day = Day::of(Time::MAX);
        assert_eq!(day.to_string().parse(), Ok(day));
    }
}
