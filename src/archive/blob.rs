//! Values as octets: postcard's wire format, in columns with one octet of version in front, and the
//! form of a column of which a part is sealed.
//!
//! Such a column has one octet of version (2), the length of its open part (4, little-endian), the
//! open part, and a box of the [`Sealer`] with the rest.

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message;
use crate::seal;
use crate::seal::KeyError;
use crate::seal::Sealer;

/// The version of columns that are open.
const OPEN: u8 = 1;

/// The version of columns of which a part is sealed.
const SEALED: u8 = 2;

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
    /// What is sealed does not open.
    #[error(transparent)]
    Sealed(#[from] seal::OpenError),
}

/// Writes `value` behind what is in `out`, without a version.
pub(super) fn push<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    message::append(value, out);
}

/// Reads a value off the front of `octets`.
pub(super) fn take<'a, T: Deserialize<'a>>(octets: &mut &'a [u8]) -> Result<T, Flaw> {
    let unreadable = Flaw::Unreadable { octets: octets.len() };
    let (value, rest) = postcard::take_from_bytes(octets).map_err(|_| unreadable)?;
    *octets = rest;
    Ok(value)
}

/// Reads a value that a release before this one wrote into an open column.
pub(super) fn decode<T: DeserializeOwned>(octets: &[u8]) -> Result<T, Flaw> {
    let unreadable = Flaw::Unreadable { octets: octets.len() };
    let (version, mut rest) = octets.split_first().ok_or(unreadable)?;
    if *version != OPEN {
        return Err(Flaw::Version { found: *version, known: OPEN });
    }
    take(&mut rest)
}

/// Whether the column has a sealed part.
pub(super) fn is_sealed(octets: &[u8]) -> bool {
    octets.first().is_some_and(|version| *version >= SEALED)
}

/// A column with `open` as it is and `secret` sealed.
pub(super) fn seal(open: &[u8], secret: &[u8], sealer: &Sealer) -> Result<Vec<u8>, KeyError> {
    let mut out = Vec::with_capacity(64 + open.len() + secret.len());
    out.push(SEALED);
    // Far below 4 GiB: a column holds a pack.
    out.extend(u32::try_from(open.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(open);
    sealer.seal(secret, &mut out)?;
    Ok(out)
}

/// The open part of a column and the box behind it.
pub(super) fn part(octets: &[u8]) -> Result<(&[u8], &[u8]), Flaw> {
    let unreadable = Flaw::Unreadable { octets: octets.len() };
    let (version, rest) = octets.split_first().ok_or(unreadable)?;
    if *version != SEALED {
        return Err(Flaw::Version { found: *version, known: SEALED });
    }
    let (length, rest) = rest.split_first_chunk().ok_or(unreadable)?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Keys;

    #[test]
    fn octets_that_say_nothing_are_told_from_those_of_a_newer_release() {
        let mut octets = vec![OPEN];
        push(&("a", 5_u32), &mut octets);
        assert_eq!(decode(&octets), Ok(("a".to_owned(), 5_u32)));
        assert_eq!(decode::<(String, u32)>(&[]), Err(Flaw::Unreadable { octets: 0 }));
        assert_eq!(decode::<(String, u32)>(&[1, 9]), Err(Flaw::Unreadable { octets: 1 }));
        assert_eq!(decode::<String>(&[2, 0]), Err(Flaw::Version { found: 2, known: 1 }));
    }

    #[test]
    fn a_column_has_an_open_and_a_sealed_part() {
        let sealer = Sealer::new(Keys::known(1), "archive");
        let column = seal(b"open", b"a secret", &sealer).unwrap();
        assert!(is_sealed(&column) && !is_sealed(&[0, 0, 1, 4]) && !is_sealed(&[]));
        let (open, sealed) = part(&column).unwrap();
        assert_eq!(open, b"open");
        assert_eq!(sealer.open(sealed), Ok(Some(b"a secret".to_vec())));
        for wrong in [&column[..0], &column[..4], &[2, 9, 0, 0, 0, 1]] {
            let flaw = Flaw::Unreadable { octets: wrong.len() };
            assert_eq!(part(wrong), Err(flaw));
        }
        assert_eq!(part(&[3]), Err(Flaw::Version { found: 3, known: 2 }));
    }
}
