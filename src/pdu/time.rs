//! The 16 characters in which SMPP writes a time (SMPP 3.4 §7.1.1).

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::pdu::COctetString;
use crate::time::Time;

/// A time as `schedule_delivery_time` and `validity_period` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmppTime {
    /// `YYMMDDhhmmsstnn+`: an instant, here to the tenth of a second.
    Absolute(Time),
    /// `YYMMDDhhmmss000R`: so long after the SMSC takes the message, in whole seconds.
    Relative(Duration),
}

/// Why octets are no SMPP time, or a time has no such octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeError {
    /// Not 16 octets.
    Length(usize),
    /// Another octet where a digit, or at the end `+`, `-` or `R`, is expected.
    Octet {
        /// Its position.
        at: usize,
    },
    /// No such day or hour, or an offset over 48 quarters.
    NoDate,
    /// Before 2000, after 2099, or longer than 99 years.
    Range,
}

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "SMPP time of {len} octets, expected 16"),
            Self::Octet { at } => write!(f, "SMPP time has a wrong character at {at}"),
            Self::NoDate => f.write_str("SMPP time names no date"),
            Self::Range => f.write_str("time outside 2000 to 2099 or over 99 years"),
        }
    }
}

impl std::error::Error for TimeError {}

impl SmppTime {
    /// Reads the 16 characters. A year is one of 2000 to 2099; a relative month counts 30 days
    /// and a year 365.
    ///
    /// # Errors
    /// When they are no SMPP time; the empty string is none either.
    pub fn parse(octets: &[u8]) -> Result<Self, TimeError> {
        let &[ref digits @ .., sign] = octets else { return Err(TimeError::Length(0)) };
        if digits.len() != 15 {
            return Err(TimeError::Length(octets.len()));
        }
        if let Some(at) = digits.iter().position(|octet| !octet.is_ascii_digit()) {
            return Err(TimeError::Octet { at });
        }
        let fields = Fields::of(digits);
        match sign {
            b'R' => Ok(Self::Relative(fields.span())),
            b'+' => fields.instant(1),
            b'-' => fields.instant(-1),
            _ => Err(TimeError::Octet { at: 15 }),
        }
    }

    /// Writes the 16 characters; an absolute time in UTC.
    ///
    /// # Errors
    /// [`TimeError::Range`].
    pub fn format(self) -> Result<COctetString<17>, TimeError> {
        let text = match self {
            Self::Absolute(at) => absolute(at)?,
            Self::Relative(span) => relative(span)?,
        };
        COctetString::new(text.to_vec()).map_err(|_| TimeError::Range)
    }
}

/// The numbers that the digits say.
struct Fields {
    year: u8,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    tenth: u8,
    quarters: u8,
}

impl Fields {
    fn of(digits: &[u8]) -> Self {
        let number = |at: usize, len: usize| {
            let digits = digits.iter().skip(at).take(len);
            digits.fold(0_u8, |number, digit| number * 10 + (digit - b'0'))
        };
        Self {
            year: number(0, 2),
            month: number(2, 2),
            day: number(4, 2),
            hour: number(6, 2),
            minute: number(8, 2),
            second: number(10, 2),
            tenth: number(12, 1),
            quarters: number(13, 2),
        }
    }

    fn span(&self) -> Duration {
        let days = u64::from(self.year) * DAYS_PER_YEAR
            + u64::from(self.month) * DAYS_PER_MONTH
            + u64::from(self.day);
        let hours = days * 24 + u64::from(self.hour);
        let minutes = hours * 60 + u64::from(self.minute);
        Duration::from_secs(minutes * 60 + u64::from(self.second))
    }

    fn instant(&self, sign: i32) -> Result<SmppTime, TimeError> {
        if self.quarters > MAX_QUARTERS {
            return Err(TimeError::NoDate);
        }
        let part = |number: u8| i8::try_from(number).map_err(|_| TimeError::NoDate);
        let local = DateTime::new(
            2_000 + i16::from(self.year),
            part(self.month)?,
            part(self.day)?,
            part(self.hour)?,
            part(self.minute)?,
            part(self.second)?,
            i32::from(self.tenth) * 100_000_000,
        );
        let offset = Offset::from_seconds(sign * i32::from(self.quarters) * 15 * 60);
        let (Ok(local), Ok(offset)) = (local, offset) else { return Err(TimeError::NoDate) };
        let instant = offset.to_timestamp(local).map_err(|_| TimeError::NoDate)?;
        let micros = u64::try_from(instant.as_microsecond()).map_err(|_| TimeError::Range)?;
        Ok(SmppTime::Absolute(Time::from_micros(micros)))
    }
}

fn absolute(at: Time) -> Result<[u8; 16], TimeError> {
    let micros = i64::try_from(at.as_micros()).map_err(|_| TimeError::Range)?;
    let instant = Timestamp::from_microsecond(micros).map_err(|_| TimeError::Range)?;
    let utc = Offset::UTC.to_datetime(instant);
    if !(2_000..2_100).contains(&utc.year()) {
        return Err(TimeError::Range);
    }
    let tenth = utc.subsec_nanosecond() / 100_000_000;
    let year = (utc.year() % 100).unsigned_abs();
    let date = [utc.month(), utc.day(), utc.hour(), utc.minute(), utc.second()];
    let [month, day, hour, minute, second] = date.map(|part| part.unsigned_abs().into());
    let numbers = [year, month, day, hour, minute, second].map(u64::from);
    Ok(digits(numbers, u64::from(tenth.unsigned_abs()), b'+'))
}

fn relative(span: Duration) -> Result<[u8; 16], TimeError> {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    // Up to a month only days are said, since a peer's month may be longer than ours.
    let (years, months, days) = match days {
        0..=31 => (0, 0, days),
        _ => {
            let rest = days % DAYS_PER_YEAR;
            (days / DAYS_PER_YEAR, rest / DAYS_PER_MONTH, rest % DAYS_PER_MONTH)
        }
    };
    if years > 99 {
        return Err(TimeError::Range);
    }
    let (hour, minute, second) = (hours % 24, minutes % 60, seconds % 60);
    Ok(digits([years, months, days, hour, minute, second], 0, b'R'))
}

/// Two digits each, the tenth of a second, no quarters of an hour, and the sign.
fn digits(numbers: [u64; 6], tenth: u64, sign: u8) -> [u8; 16] {
    let mut text = [b'0'; 16];
    let tens_and_ones = numbers.into_iter().flat_map(|number| [number / 10, number]);
    for (to, number) in text.iter_mut().zip(tens_and_ones.chain([tenth])) {
        *to = b'0' + u8::try_from(number % 10).unwrap_or(0);
    }
    if let Some(last) = text.last_mut() {
        *last = sign;
    }
    text
}

const DAYS_PER_MONTH: u64 = 30;
const DAYS_PER_YEAR: u64 = 365;
/// Twelve hours.
const MAX_QUARTERS: u8 = 48;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn written(time: SmppTime) -> String {
        time.format().unwrap().to_text_lossy()
    }

    #[test]
    fn an_instant_is_written_in_utc() {
        // 2026-11-21T04:05:06.7Z
        let at = Time::from_millis(1_795_233_906_700);
        assert_eq!(written(SmppTime::Absolute(at)), "261121040506700+");
        assert_eq!(SmppTime::parse(b"261121040506700+"), Ok(SmppTime::Absolute(at)));
    }

    #[test]
    fn an_offset_is_taken_off_the_local_time() {
        let utc = SmppTime::parse(b"261121040506700+");
        assert_eq!(SmppTime::parse(b"261121130506736+"), utc);
        assert_eq!(SmppTime::parse(b"261120230506720-"), utc);
    }

    #[test]
    fn a_span_is_written_in_days_up_to_a_month() {
        let span = |secs| SmppTime::Relative(Duration::from_secs(secs));
        assert_eq!(written(span(0)), "000000000000000R");
        assert_eq!(written(span(300)), "000000000500000R");
        assert_eq!(written(span(3 * DAY + 3_723)), "000003010203000R");
        assert_eq!(written(span(31 * DAY)), "000031000000000R");
        assert_eq!(written(span(32 * DAY)), "000102000000000R");
        assert_eq!(written(span(366 * DAY)), "010001000000000R");
    }

    #[test]
    fn a_span_is_read_as_it_was_written() {
        for secs in [0, 1, 59, 60, 86_399, DAY, 30 * DAY, 31 * DAY, 364 * DAY, 1_000 * DAY] {
            let time = SmppTime::Relative(Duration::from_secs(secs));
            assert_eq!(SmppTime::parse(written(time).as_bytes()), Ok(time));
        }
    }

    #[test]
    fn what_is_no_time_says_why() {
        let parse = |text: &str| SmppTime::parse(text.as_bytes());
        assert_eq!(parse(""), Err(TimeError::Length(0)));
        assert_eq!(parse("261121040506"), Err(TimeError::Length(12)));
        assert_eq!(parse("26112104x506700+"), Err(TimeError::Octet { at: 8 }));
        assert_eq!(parse("261121040506700Z"), Err(TimeError::Octet { at: 15 }));
        assert_eq!(parse("261321040506700+"), Err(TimeError::NoDate));
        assert_eq!(parse("260230040506700+"), Err(TimeError::NoDate));
        assert_eq!(parse("261121040506749+"), Err(TimeError::NoDate));
        assert_eq!(SmppTime::Absolute(Time::ZERO).format(), Err(TimeError::Range));
        assert_eq!(SmppTime::Absolute(Time::MAX).format(), Err(TimeError::Range));
        assert_eq!(SmppTime::Relative(Duration::MAX).format(), Err(TimeError::Range));
    }
}
