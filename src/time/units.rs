//! Spans and rates as people write them: `"30s"`, `"50/s"`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// A length of time that is written with its unit: `"250ms"`, `"30s"`, `"10m"`, `"73h"`, `"7d"`,
/// or several parts as in `"1h30m"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// How often something may happen, written with its unit: `"50/s"`, `"300/m"`, `"0.5/s"`.
///
/// Kept in thousandths a second, at least 1 (one in 1,000 seconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    millis_per_second: u64,
}

/// Why a text is not a span or a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a span.
    #[error(
        "expected a duration with its unit such as \"250ms\", \"30s\", \"10m\", \"73h\" or \"7d\", \
         found {found:?}"
    )]
    Span {
        /// What was written.
        found: String,
    },
    /// Not a rate.
    #[error(
        "expected a rate with its unit such as \"50/s\", \"0.5/s\" or \"300/m\", found {found:?}"
    )]
    Rate {
        /// What was written.
        found: String,
    },
}

impl Span {
    /// `secs` seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// `millis` milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl Deref for Span {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_span(text).map(Self).ok_or_else(|| UnitError::Span { found: text.to_owned() })
    }
}

fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let end = after.find(|c: char| c.is_ascii_digit());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let scale: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        millis = millis.checked_add(number.parse::<u64>().ok()?.checked_mul(scale)?)?;
        rest = after;
    }
    Some(Duration::from_millis(millis))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if millis >= scale {
                write!(f, "{}{unit}", millis / scale)?;
                millis %= scale;
            }
        }
        if millis > 0 { write!(f, "{millis}ms") } else { Ok(()) }
    }
}

impl Rate {
    /// `count` a second.
    pub const fn per_second(count: u64) -> Self {
        Self::from_millis(count.saturating_mul(1_000))
    }

    /// The rate of this many thousandths a second; 0 becomes 1.
    pub const fn from_millis(millis_per_second: u64) -> Self {
        Self { millis_per_second: if millis_per_second == 0 { 1 } else { millis_per_second } }
    }

    /// Thousandths a second, at least 1.
    pub const fn as_millis(self) -> u64 {
        self.millis_per_second
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_rate(text).ok_or_else(|| UnitError::Rate { found: text.to_owned() })
    }
}

fn parse_rate(text: &str) -> Option<Rate> {
    let (number, unit) = text.trim().split_once('/')?;
    let number = number.trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || fraction.len() > 3 || !(fraction.is_empty() || digits(fraction)) {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").parse::<u64>().ok()?;
    let millis = whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(thousandths)?;
    let millis = match unit.trim() {
        "s" => millis,
        "m" | "min" => millis / 60,
        "h" => millis / 3_600,
        _ => return None,
    };
    (millis > 0).then(|| Rate::from_millis(millis))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.millis_per_second / 1_000, self.millis_per_second % 1_000);
        if rest == 0 {
            write!(f, "{whole}/s")
        } else {
            write!(f, "{whole}.{}/s", format!("{rest:03}").trim_end_matches('0'))
        }
    }
}

macro_rules! written {
    ($name:ident, $description:literal, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description, "pattern": $pattern })
            }
        }
    };
}

written!(Span, "A duration with its unit, such as 30s or 1h30m.", r"^([0-9]+(ms|s|m|min|h|d))+$");
written!(Rate, "A rate with its unit, such as 50/s.", r"^[0-9]+(\.[0-9]{1,3})?/(s|m|min|h)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_reads_what_it_prints() {
        for text in ["250ms", "30s", "10m", "3d1h", "1h30m", "0s", "1s500ms"] {
            assert_eq!(text.parse::<Span>().map(|s| s.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("73h".parse(), Ok(Span::secs(73 * 3600)));
    }

    #[test]
    fn a_span_without_its_unit_is_refused() {
        for text in ["", "30", "s", "-1s", "1 fortnight", "1.5s", "99999999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_reads_what_it_prints() {
        for text in ["50/s", "0.5/s", "0.001/s", "1000/s"] {
            assert_eq!(text.parse::<Rate>().map(|r| r.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("300/m".parse(), Ok(Rate::per_second(5)));
    }

    #[test]
    fn a_rate_without_its_unit_or_of_nothing_is_refused() {
        for text in ["", "50", "/s", "0/s", "-1/s", "1/day", "1.2345/s", "1/h"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
