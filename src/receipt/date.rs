//! The dates of receipts, in the forms that carriers write.

use jiff::civil::DateTime;

/// A date by the SMSC's clock; its zone is seldom told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptDate {
    /// What the clock showed.
    pub local: DateTime,
    /// How far it is from UTC in quarters of an hour, east positive, when the date says so.
    pub offset_quarters: Option<i8>,
}

impl ReceiptDate {
    /// Reads `YYMMDDhhmm`, `YYMMDDhhmmss`, `YYYYMMDDhhmm`, `YYYYMMDDhhmmss` or SMPP's 16
    /// characters. Twelve digits are of the first kind that makes a date.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let digits = octets.iter().take_while(|octet| octet.is_ascii_digit()).count();
        match (digits, octets) {
            (10 | 12, _) if digits == octets.len() => {
                Self::local(octets, 2).or_else(|| Self::local(octets, 4))
            }
            (14, _) if digits == octets.len() => Self::local(octets, 4),
            (15, [when @ .., sign @ (b'+' | b'-')]) if when.len() == digits => {
                Self::absolute(when, *sign)
            }
            _ => None,
        }
    }

    /// Digits with a year of `year` digits, down to the minute or the second.
    fn local(digits: &[u8], year: usize) -> Option<Self> {
        let (year, rest) = digits.split_at_checked(year)?;
        let year = match number(year)? {
            short @ 0..100 => short + 2_000,
            long => long,
        };
        let mut parts =
            rest.chunks(2).map(|part| number(part).and_then(|it| i8::try_from(it).ok()));
        let (month, day) = (parts.next()??, parts.next()??);
        let (hour, minute) = (parts.next()??, parts.next()??);
        let second = parts.next().unwrap_or(Some(0))?;
        let local = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        Some(Self { local, offset_quarters: None })
    }

    /// `YYMMDDhhmmsstnn` with its sign: tenths of a second, which are left out, and quarters.
    fn absolute(digits: &[u8], sign: u8) -> Option<Self> {
        let (local, rest) = digits.split_at_checked(12)?;
        let quarters = i8::try_from(number(rest.get(1..)?)?).ok().filter(|it| *it <= 48)?;
        let offset_quarters = Some(if sign == b'-' { -quarters } else { quarters });
        Self::local(local, 2).map(|date| Self { offset_quarters, ..date })
    }
}

fn number(digits: &[u8]) -> Option<i16> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> Option<String> {
        ReceiptDate::parse(text.as_bytes()).map(|date| date.local.to_string())
    }

    #[test]
    fn dates_are_read_in_every_form() {
        for (text, expected) in [
            ("2611211204", "2026-11-21T12:04:00"),
            ("261121120459", "2026-11-21T12:04:59"),
            ("202611211204", "2026-11-21T12:04:00"),
            ("20261121120459", "2026-11-21T12:04:59"),
            ("261121120459736+", "2026-11-21T12:04:59"),
        ] {
            assert_eq!(date(text).as_deref(), Some(expected), "{text}");
        }
        let offset = |text: &str| ReceiptDate::parse(text.as_bytes()).unwrap().offset_quarters;
        assert_eq!(offset("261121120459036+"), Some(36));
        assert_eq!(offset("261121120459020-"), Some(-20));
        assert_eq!(offset("2611211204"), None);
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "-",
            "N/A",
            "0000000000",
            "2602292359",
            "2613011200",
            "2611212460",
            "26112112",
            "26112112041",
            "261121120459049+",
            "000007000000000R",
            "2611211204\u{0}",
            "２６",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }
}
