//! A key, what is derived from it, and sealing with that: the only file that does cryptography.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead;
use aws_lc_rs::hkdf;
use aws_lc_rs::hmac;

/// A secret of 32 octets.
#[derive(Clone)]
pub struct Key(Arc<[u8; 32]>);

/// Octets of a [`Tag`].
pub const TAG: usize = 16;

/// What proves that sealed octets are those that were sealed, under this key and number.
pub type Tag = [u8; TAG];

/// Sealed octets do not open: they, their tag, their number or the key are not the right ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed octets do not open with their key")]
pub struct Broken;

impl Key {
    /// A key of these octets.
    pub(super) fn new(octets: [u8; 32]) -> Self {
        Self(Arc::new(octets))
    }

    /// Another key that only who has this one can make.
    pub(super) fn child(&self, name: &[u8]) -> Self {
        Self::new(self.expand(name, &[]))
    }

    /// The cipher for `purpose` with `salt`.
    pub fn cipher(&self, purpose: &str, salt: &[u8]) -> Cipher {
        Cipher::new(&self.expand(purpose.as_bytes(), salt))
    }

    /// The index for `purpose`.
    pub fn index(&self, purpose: &str) -> Index {
        let key = self.expand(purpose.as_bytes(), &[]);
        Index(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    #[expect(clippy::expect_used, reason = "32 octets are far below what HKDF can give")]
    fn expand(&self, purpose: &[u8], salt: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&*self.0);
        let purpose = [b"hikyaku 1 ", purpose];
        let made = key.expand(&purpose, hkdf::HKDF_SHA256).and_then(|key| key.fill(&mut out));
        made.expect("a key of 32 octets");
        out
    }
}

/// Shows nothing.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Seals and opens, AES-256-GCM.
pub struct Cipher(aead::LessSafeKey);

impl Cipher {
    #[expect(clippy::expect_used, reason = "the key has the length that the algorithm wants")]
    fn new(key: &[u8; 32]) -> Self {
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, key).expect("a key of 32 octets");
        Self(aead::LessSafeKey::new(key))
    }

    /// Seals `octets` in place. Under one cipher no `number` may be used twice.
    #[expect(clippy::expect_used, reason = "only texts above 64 GiB are refused")]
    pub fn seal(&self, number: u64, octets: &mut [u8]) -> Tag {
        let sealed = self.0.seal_in_place_separate_tag(nonce(number), aead::Aad::empty(), octets);
        let mut tag = [0; TAG];
        tag.copy_from_slice(sealed.expect("a short text").as_ref());
        tag
    }

    /// Opens in place what was sealed as `number`.
    ///
    /// # Errors
    /// [`Broken`]; the octets are of no use then.
    pub fn open(&self, number: u64, octets: &mut [u8], tag: &[u8]) -> Result<(), Broken> {
        self.0
            .open_in_place_separate_tag(nonce(number), aead::Aad::empty(), tag, octets)
            .map(drop)
            .map_err(|_| Broken)
    }
}

/// Shows nothing.
impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

fn nonce(number: u64) -> aead::Nonce {
    let mut octets = [0; aead::NONCE_LEN];
    for (to, from) in octets.iter_mut().zip(number.to_le_bytes()) {
        *to = from;
    }
    aead::Nonce::assume_unique_for_key(octets)
}

/// Turns words into numbers that say nothing to who lacks the key: HMAC-SHA-256, its first eight
/// octets.
#[derive(Clone)]
pub struct Index(hmac::Key);

impl Index {
    /// The number for `word`.
    pub fn number(&self, word: &[u8]) -> u64 {
        let digest = hmac::sign(&self.0, word);
        digest.as_ref().first_chunk().map_or(0, |octets| u64::from_le_bytes(*octets))
    }
}

/// Shows nothing.
impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Index(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_key_purpose_salt_and_number_only() {
        let key = Key::new([7; 32]);
        let mut octets = *b"819012345678";
        let tag = key.cipher("journal", &[1; 16]).seal(5, &mut octets);
        assert!(!octets.windows(4).any(|part| b"819012345678".windows(4).any(|w| w == part)));
        let open = |key: &Key, purpose, salt, number, tag: &[u8]| {
            let mut octets = octets;
            key.cipher(purpose, salt).open(number, &mut octets, tag).map(|()| octets)
        };
        assert_eq!(open(&key, "journal", &[1; 16], 5, &tag), Ok(*b"819012345678"));
        assert_eq!(open(&key, "journal", &[1; 16], 6, &tag), Err(Broken));
        assert_eq!(open(&key, "journal", &[2; 16], 5, &tag), Err(Broken));
        assert_eq!(open(&key, "archive", &[1; 16], 5, &tag), Err(Broken));
        assert_eq!(open(&Key::new([8; 32]), "journal", &[1; 16], 5, &tag), Err(Broken));
        assert_eq!(open(&key, "journal", &[1; 16], 5, &[0; 16]), Err(Broken));
        assert_eq!(open(&key, "journal", &[1; 16], 5, &[]), Err(Broken));
    }

    #[test]
    fn what_files_hold_does_not_change_its_key() {
        // Files on disk are opened by these: a change of them needs a version of its own.
        let key = Key::new([7; 32]);
        let mut octets = *b"text";
        let tag = key.cipher("journal", &[1; 16]).seal(5, &mut octets);
        assert_eq!((octets, tag[0]), ([215, 177, 97, 139], 218));
        assert_eq!(key.index("number").number(b"819012345678"), 10_450_646_438_130_582_772);
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let key = Key::new([7; 32]);
        assert_eq!(format!("{key:?}{:?}", key.cipher("a", &[])), "Key(..)Cipher(..)");
    }
}
