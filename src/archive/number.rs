//! How telephone numbers are kept: as they are, as a keyed digest, or masked.

use std::borrow::Cow;
use std::fmt::Write;

use aws_lc_rs::hmac;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// How the archive keeps the numbers of handsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// As they are.
    #[default]
    Plain,
    /// As a digest under a key that stays with the archive: the same number can be found again,
    /// and read by nobody.
    Hashed,
    /// With its middle left out: a search by number finds all that look alike.
    Masked,
}

/// Turns a number into what is kept of it.
#[derive(Clone)]
pub struct NumberKeeper {
    numbers: Numbers,
    salt: [u8; 32],
}

impl NumberKeeper {
    /// Keeps numbers as `numbers` says; `salt` keys the digests.
    pub const fn new(numbers: Numbers, salt: [u8; 32]) -> Self {
        Self { numbers, salt }
    }

    /// What is kept of `number`, which is digits with or without `+`, or a name.
    pub fn keep(&self, number: impl Into<Box<str>>) -> Box<str> {
        let number = number.into();
        match self.numbers {
            Numbers::Plain => number,
            Numbers::Hashed => self.digest(&number).into_boxed_str(),
            Numbers::Masked => masked(&number).into(),
        }
    }

    fn digest(&self, number: &str) -> String {
        let digits = number.strip_prefix('+').unwrap_or(number);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.salt);
        let mut text = String::from("hmac:");
        for octet in hmac::sign(&key, digits.as_bytes()).as_ref().iter().take(16) {
            let _infallible = write!(text, "{octet:02x}");
        }
        text
    }
}

/// Shows the mode only: the salt is a secret.
impl std::fmt::Debug for NumberKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NumberKeeper").field(&self.numbers).finish()
    }
}

/// `number` with its middle left out: `819012345678` is `8190****5678`. One of fewer than nine
/// characters keeps its last two.
pub fn masked(number: &str) -> String {
    let count = number.chars().count();
    let (head, tail) = match count {
        0..=2 => (0, 0),
        3..=8 => (0, 2),
        _ => (if number.starts_with('+') { 5 } else { 4 }, if count < 11 { 2 } else { 4 }),
    };
    let octet = |place| number.char_indices().nth(place).map_or(number.len(), |(at, _)| at);
    let (first, _) = number.split_at(octet(head));
    let (_, last) = number.split_at(octet(count - tail));
    let mut masked = String::with_capacity(number.len());
    masked.push_str(first);
    masked.extend(std::iter::repeat_n('*', count - head - tail));
    masked.push_str(last);
    masked
}

/// A kept number as people read it: digits get their `+`.
pub fn shown(kept: &str) -> Cow<'_, str> {
    if kept.starts_with(|c: char| c.is_ascii_digit()) {
        let mut shown = String::with_capacity(1 + kept.len());
        shown.push('+');
        shown.push_str(kept);
        Cow::Owned(shown)
    } else {
        Cow::Borrowed(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_number_keeps_its_ends_only() {
        let cases = [
            ("819012345678", "8190****5678"),
            ("+819012345678", "+8190****5678"),
            ("0312345678", "0312****78"),
            ("12345", "***45"),
            ("12", "**"),
            ("", ""),
        ];
        for (number, wanted) in cases {
            assert_eq!(masked(number), wanted);
        }
    }

    #[test]
    fn a_hashed_number_is_found_again_and_only_under_its_salt() {
        let keeper = NumberKeeper::new(Numbers::Hashed, [1; 32]);
        let other = NumberKeeper::new(Numbers::Hashed, [2; 32]);
        assert_eq!(keeper.keep("819012345678"), keeper.keep("+819012345678"));
        assert_ne!(keeper.keep("819012345678"), other.keep("819012345678"));
        assert!(!keeper.keep("819012345678").contains("345678"));
    }

    #[test]
    fn only_digits_are_shown_with_a_plus() {
        assert_eq!(shown("819012345678"), "+819012345678");
        assert_eq!(shown("8190****5678"), "+8190****5678");
        assert_eq!(shown("hmac:00"), "hmac:00");
    }
}
