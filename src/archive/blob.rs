//! Values as octets in a column: one octet of version, then postcard's wire format.

use serde::Serialize;
use serde::de::DeserializeOwned;

const VERSION: u8 = 1;

/// Why octets are not a value of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A newer release wrote them.
    #[error("version {found} of a row, this release reads up to {known}; run the newer one")]
    Version {
        /// The version found.
        found: u8,
        /// The newest that this release knows.
        known: u8,
    },
    /// They say nothing.
    #[error("a row of {octets} octets that cannot be read")]
    Unreadable {
        /// How many there are.
        octets: usize,
    },
}

/// Writes `value` over what is in `out`.
pub(super) fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    out.clear();
    append(value, out);
}

/// Writes `value` behind what is in `out`.
pub(super) fn append<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    out.push(VERSION);
    // Writing to memory fails only for a sequence of unknown length, and our types have none.
    let _infallible = postcard::to_io(value, &mut *out);
}

/// Reads back what [`encode`] wrote.
pub(super) fn decode<T: DeserializeOwned>(octets: &[u8]) -> Result<T, Flaw> {
    let unreadable = Flaw::Unreadable { octets: octets.len() };
    let (version, rest) = octets.split_first().ok_or(unreadable)?;
    if *version != VERSION {
        return Err(Flaw::Version { found: *version, known: VERSION });
    }
    postcard::from_bytes(rest).map_err(|_| unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_that_say_nothing_are_told_from_those_of_a_newer_release() {
        let mut octets = Vec::new();
        encode(&("a", 5_u32), &mut octets);
        assert_eq!(decode(&octets), Ok(("a".to_owned(), 5_u32)));
        assert_eq!(decode::<(String, u32)>(&[]), Err(Flaw::Unreadable { octets: 0 }));
        assert_eq!(decode::<(String, u32)>(&[1, 9]), Err(Flaw::Unreadable { octets: 2 }));
        assert_eq!(decode::<String>(&[2, 0]), Err(Flaw::Version { found: 2, known: 1 }));
    }
}
