//! Ids: UUIDv7 behind a prefix, strictly rising.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

use crate::time::Time;

/// Names one message: `msg_` and the 32 hexadecimal digits of a UUIDv7 (RFC 9562 §5.7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u128);

/// Names one event of the feed: `evt_` and 32 hexadecimal digits.
///
/// It is made from the journal position of the event's record and the message's id, so the same
/// event has the same id however often it is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u128);

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `{prefix}_` and 32 hexadecimal digits")]
pub struct ParseIdError {
    prefix: &'static str,
}

macro_rules! id {
    ($name:ident, $prefix:literal) => {
        impl $name {
            /// The id with these 128 bits.
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits.
            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digits = digits(self.0);
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let fault = ParseIdError { prefix: $prefix };
                let digits = text.strip_prefix(concat!($prefix, "_")).ok_or(fault)?;
                if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(fault);
                }
                u128::from_str_radix(digits, 16).map(Self).map_err(|_| fault)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.to_be_bytes().serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(deserializer).map(|b| Self(u128::from_be_bytes(b)))
                }
            }
        }
    };
}

/// The 32 hexadecimal digits of a number: ids are written several times a message.
pub(crate) fn digits(bits: u128) -> [u8; 32] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut digits = [0; 32];
    for (pair, octet) in digits.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        pair.copy_from_slice(&[digit(octet >> 4), digit(octet & 0xf)]);
    }
    digits
}

id!(MessageId, "msg");
id!(EventId, "evt");

impl MessageId {
    /// When it was made, to the millisecond.
    pub const fn created_at(self) -> Time {
        Time::from_millis((self.0 >> 80) as u64)
    }
}

/// Makes ids that rise strictly, also when the clock stands still or goes back.
#[derive(Debug)]
pub struct IdSource {
    last_millis: u64,
    counter: u64,
    state: u64,
}

impl IdSource {
    /// A source whose random part comes from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { last_millis: 0, counter: 0, state: seed }
    }

    /// The next id, made at `now`.
    pub fn next(&mut self, now: Time) -> MessageId {
        let millis = now.as_millis() & 0xffff_ffff_ffff;
        if millis > self.last_millis {
            self.last_millis = millis;
            self.counter = self.random() >> 34;
        } else {
            self.counter += 1;
            if self.counter >> 42 != 0 {
                self.last_millis += 1;
                self.counter = 0;
            }
        }
        // RFC 9562 §6.2 method 1: a 42-bit counter fills rand_a and the head of rand_b.
        let rand_a = u128::from(self.counter >> 30);
        let head = u128::from(self.counter & 0x3fff_ffff);
        let tail = u128::from(self.random() >> 32);
        MessageId(
            (u128::from(self.last_millis) << 80)
                | (0x7 << 76)
                | (rand_a << 64)
                | (0b10 << 62)
                | (head << 32)
                | tail,
        )
    }

    /// splitmix64.
    const fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_strictly_even_when_the_clock_goes_back() {
        let mut source = IdSource::new(1);
        let mut last = source.next(Time::from_secs(10));
        for step in [10_000, 10_000, 9_000, 9_999, 10_001, 10_001, 5] {
            let next = source.next(Time::from_millis(step));
            assert!(next > last, "{next} after {last}");
            last = next;
        }
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_and_knows_its_time() {
        let id = IdSource::new(7).next(Time::from_millis(1_795_305_600_123));
        assert_eq!(id.created_at(), Time::from_millis(1_795_305_600_123));
        assert_eq!(uuid::Uuid::from_u128(id.as_u128()).get_version_num(), 7);
        assert_eq!(uuid::Uuid::from_u128(id.as_u128()).get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn an_id_reads_back_what_it_prints_and_nothing_else() {
        let id = IdSource::new(3).next(Time::from_secs(1));
        assert_eq!(id.to_string(), format!("msg_{:032x}", id.as_u128()));
        assert_eq!(id.to_string().parse::<MessageId>(), Ok(id));
        for wrong in ["", "msg_", "evt_00000000000000000000000000000000", "msg_+0", "msg_zz"] {
            assert!(wrong.parse::<MessageId>().is_err(), "{wrong}");
        }
    }
}
