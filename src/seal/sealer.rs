//! Sealing of octets that lie in a place of their own, each with all that opening needs but the key.
//!
//! A sealed box is: a version (1 octet, 1), the day (4, little-endian; all ones for the key that is
//! never erased), the salt (16), the number (8), the tag (16), the sealed octets.

use std::sync::Mutex;
use std::sync::PoisonError;

use crate::seal::Broken;
use crate::seal::Cipher;
use crate::seal::Day;
use crate::seal::KeyError;
use crate::seal::Keys;
use crate::seal::TAG;

/// Seals under the key of the present day, for one purpose.
#[derive(Debug)]
pub struct Sealer {
    keys: Keys,
    purpose: &'static str,
    inner: Mutex<Option<Present>>,
}

/// A cipher that nobody had before.
#[derive(Debug)]
struct Present {
    day: Day,
    salt: [u8; 16],
    cipher: Cipher,
    /// How often it was used.
    used: u64,
}

const VERSION: u8 = 1;

/// Octets of a box before what is sealed.
const HEADER: usize = 1 + 4 + 16 + 8 + TAG;

/// Stands for the key that is never erased.
const FOR_EVER: Day = Day(u32::MAX);

/// Why a box does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A newer release wrote it.
    #[error("a sealed value of version {found}: this release reads up to {known}")]
    Version {
        /// The version found.
        found: u8,
        /// The newest that this release knows.
        known: u8,
    },
    /// It is too short to be one.
    #[error("{octets} octets that are no sealed value")]
    Short {
        /// How many there are.
        octets: usize,
    },
    /// Not what was sealed.
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl Sealer {
    /// A sealer for `purpose`.
    pub const fn new(keys: Keys, purpose: &'static str) -> Self {
        Self { keys, purpose, inner: Mutex::new(None) }
    }

    /// The keys that it seals with.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Appends `octets` to `out`, sealed under the key of the present day.
    ///
    /// # Errors
    /// The key of the day cannot be made.
    pub fn seal(&self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), KeyError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let today = self.keys.today();
        let present = match &mut *inner {
            Some(present) if present.day == today => present,
            inner => {
                let (day, key) = self.keys.present()?;
                let salt = salt()?;
                let cipher = key.cipher(self.purpose, &salt);
                inner.insert(Present { day, salt, cipher, used: 0 })
            }
        };
        let number = present.used;
        present.used += 1;
        write(present.day, present.salt, number, &present.cipher, octets, out);
        Ok(())
    }

    /// Appends `octets` to `out`, sealed under the key that is never erased.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn seal_for_ever(&self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), KeyError> {
        let salt = salt()?;
        let cipher = self.keys.store().cipher(self.purpose, &salt);
        write(FOR_EVER, salt, 0, &cipher, octets, out);
        Ok(())
    }

    /// Opens a box; nothing when its key was erased.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, sealed: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        let (head, octets) = split(sealed).ok_or(OpenError::Short { octets: sealed.len() })?;
        if head.version != VERSION {
            return Err(OpenError::Version { found: head.version, known: VERSION });
        }
        let key = match head.day {
            FOR_EVER => Some(self.keys.store()),
            day => self.keys.find(day),
        };
        let Some(key) = key else { return Ok(None) };
        let mut octets = octets.to_vec();
        key.cipher(self.purpose, head.salt).open(head.number, &mut octets, head.tag)?;
        Ok(Some(octets))
    }

    /// The day under whose key a box lies; none when it is no box, or is never erased.
    pub fn day_of(sealed: &[u8]) -> Option<Day> {
        split(sealed).map(|(head, _)| head.day).filter(|day| *day != FOR_EVER)
    }
}

struct Head<'a> {
    version: u8,
    day: Day,
    salt: &'a [u8; 16],
    number: u64,
    tag: &'a [u8; TAG],
}

fn split(sealed: &[u8]) -> Option<(Head<'_>, &[u8])> {
    let (version, rest) = sealed.split_first()?;
    let (day, rest) = rest.split_first_chunk()?;
    let (salt, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (tag, rest) = rest.split_first_chunk()?;
    let day = Day(u32::from_le_bytes(*day));
    Some((Head { version: *version, day, salt, number: u64::from_le_bytes(*number), tag }, rest))
}

fn write(day: Day, salt: [u8; 16], number: u64, cipher: &Cipher, octets: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEADER + octets.len());
    out.push(VERSION);
    out.extend(day.0.to_le_bytes());
    out.extend(salt);
    out.extend(number.to_le_bytes());
    let tag = out.len();
    out.extend([0; TAG]);
    let start = out.len();
    out.extend(octets);
    let (head, sealed) = out.split_at_mut(start);
    let made = cipher.seal(number, sealed);
    for (to, from) in head.iter_mut().skip(tag).zip(made) {
        *to = from;
    }
}

fn salt() -> Result<[u8; 16], KeyError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| KeyError::File {
        action: "draw a salt from",
        path: "/dev/urandom".into(),
        error: std::io::Error::other(error.to_string()),
    })?;
    Ok(salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_opens_until_its_key_is_erased() {
        let keys = Keys::known(1);
        let sealer = Sealer::new(keys.clone(), "test");
        let (mut first, mut second, mut store) = (Vec::new(), Vec::new(), Vec::new());
        sealer.seal(b"hello", &mut first).unwrap();
        sealer.seal(b"hello", &mut second).unwrap();
        sealer.seal_for_ever(b"hello", &mut store).unwrap();
        assert_ne!(first[HEADER..], second[HEADER..], "no number is used twice");
        assert_eq!(sealer.open(&first), Ok(Some(b"hello".to_vec())));
        assert_eq!(Sealer::new(keys.clone(), "other").open(&first), Err(Broken.into()));
        let today = keys.today();
        assert_eq!(Sealer::day_of(&first), Some(today));
        assert_eq!(keys.erase_below(Day(today.0 + 1)).unwrap(), [today]);
        assert_eq!(sealer.open(&first), Ok(None));
        assert_eq!(sealer.open(&store), Ok(Some(b"hello".to_vec())));
    }

    #[test]
    fn a_box_that_was_changed_is_refused() {
        let sealer = Sealer::new(Keys::known(1), "test");
        let mut sealed = Vec::new();
        sealer.seal(b"hello", &mut sealed).unwrap();
        for place in 5..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(sealer.open(&changed), Err(Broken.into()), "{place}");
        }
        assert_eq!(sealer.open(&sealed[..9]), Err(OpenError::Short { octets: 9 }));
        sealed[0] = 2;
        assert_eq!(sealer.open(&sealed), Err(OpenError::Version { found: 2, known: 1 }));
    }
}
