//! API keys: who calls, and what the caller may do.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use sha2::Digest;
use sha2::Sha256;
use subtle::ConstantTimeEq;

const ID_CHARS: usize = 8;
const SECRET_CHARS: usize = 43;

/// What a key may do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Scope {
    /// Hand in, preview and cancel messages.
    #[serde(rename = "messages:write")]
    MessagesWrite,
    /// Read the client's own messages and events.
    #[serde(rename = "messages:read")]
    MessagesRead,
    /// See the text and the full numbers of what may be read.
    #[serde(rename = "messages:read_content")]
    MessagesReadContent,
    /// Manage webhooks, and name a callback for one message.
    #[serde(rename = "webhooks")]
    Webhooks,
    /// Look at the console.
    #[serde(rename = "console:view")]
    ConsoleView,
    /// Act in the console.
    #[serde(rename = "console:act")]
    ConsoleAct,
    /// Read every client's messages, and act as an operator.
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::MessagesWrite,
        Self::MessagesRead,
        Self::MessagesReadContent,
        Self::Webhooks,
        Self::ConsoleView,
        Self::ConsoleAct,
        Self::Admin,
    ];

    /// The word for it in the config and in OpenAPI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MessagesWrite => "messages:write",
            Self::MessagesRead => "messages:read",
            Self::MessagesReadContent => "messages:read_content",
            Self::Webhooks => "webhooks",
            Self::ConsoleView => "console:view",
            Self::ConsoleAct => "console:act",
            Self::Admin => "admin",
        }
    }
}

/// The public part of a key, 8 characters: names it in logs and in the config.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; ID_CHARS]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{}", char::from(*octet)))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key as the config holds it: its id and the SHA-256 of the whole token,
/// `ab12cd34:9f86d081...`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash {
    id: KeyId,
    sha256: [u8; 32],
}

/// Why a text is not the hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected the 8 characters of the key's id, `:`, and 64 hexadecimal digits, as \
     `hikyaku key add` prints them"
)]
pub struct KeyHashError;

/// A new key: the token for the client, and what the config is to hold.
#[derive(Clone)]
pub struct NewKey {
    /// `hky_<8>_<43>`: shown once, to the client.
    pub token: String,
    /// For `clients.NAME.keys`.
    pub hash: KeyHash,
}

impl NewKey {
    /// Makes a key of 256 random bits from the system.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0; ID_CHARS + 32];
        getrandom::fill(&mut random)?;
        let (id, secret) = random.split_at(ID_CHARS);
        let mut id: String = id.iter().map(|octet| id_char(*octet)).collect();
        id.truncate(ID_CHARS);
        Ok(Self::of(format!("hky_{id}_{}", BASE64_URL_SAFE_NO_PAD.encode(secret))))
    }

    fn of(token: String) -> Self {
        let id = split(&token).unwrap_or(KeyId(*b"00000000"));
        let hash = KeyHash { id, sha256: Sha256::digest(token.as_bytes()).into() };
        Self { token, hash }
    }
}

/// One of the 32 small letters and digits that cannot be taken for one another.
fn id_char(octet: u8) -> char {
    const CHARS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    char::from(CHARS.get(usize::from(octet & 31)).copied().unwrap_or(b'a'))
}

/// The id of a token that has the form of one.
pub(crate) fn split(token: &str) -> Option<KeyId> {
    let rest = token.strip_prefix("hky_")?.as_bytes();
    let (id, rest) = rest.split_first_chunk::<ID_CHARS>()?;
    let secret = rest.strip_prefix(b"_")?;
    let urlsafe = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (secret.len() == SECRET_CHARS && secret.iter().all(urlsafe) && is_id(id)).then_some(KeyId(*id))
}

fn is_id(id: &[u8]) -> bool {
    id.iter().all(u8::is_ascii_alphanumeric)
}

impl KeyHash {
    /// The hash of no token.
    pub(crate) const NOBODYS: Self = Self { id: KeyId(*b"00000000"), sha256: [0; 32] };

    /// The hash of a token, for configurations that are made and not written.
    ///
    /// # Errors
    /// When it is no `hky_<8>_<43>`.
    pub fn of_token(token: &str) -> Result<Self, KeyHashError> {
        split(token).map(|_| NewKey::of(token.to_owned()).hash).ok_or(KeyHashError)
    }

    /// Whether this is the hash of `token`, in a time that does not depend on where they differ.
    pub fn is_of(&self, token: &str) -> bool {
        let sha256: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        sha256.ct_eq(&self.sha256).into()
    }

    /// The public part.
    pub const fn id(&self) -> KeyId {
        self.id
    }
}

impl FromStr for KeyHash {
    type Err = KeyHashError;

    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        let (id, digits) = text.trim().split_once(':').ok_or(KeyHashError)?;
        let id: [u8; ID_CHARS] = id.as_bytes().try_into().map_err(|_| KeyHashError)?;
        let sha256 = unhex(digits).and_then(|octets| octets.try_into().ok()).ok_or(KeyHashError)?;
        if is_id(&id) { Ok(Self { id: KeyId(id), sha256 }) } else { Err(KeyHashError) }
    }
}

/// The octets that pairs of hexadecimal digits stand for.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let nibble = |octet: u8| char::from(octet).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.id)?;
        self.sha256.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({})", self.id)
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for KeyHash {
    fn schema_name() -> Cow<'static, str> {
        "KeyHash".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A key's id and the SHA-256 of its token, as `hikyaku key add` prints them.",
            "pattern": "^[0-9A-Za-z]{8}:[0-9A-Fa-f]{64}$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_the_form_and_its_hash_reads_back() {
        let key = NewKey::generate().unwrap();
        assert_eq!(key.token.len(), 4 + ID_CHARS + 1 + SECRET_CHARS);
        assert_eq!(key.hash.to_string().parse(), Ok(key.hash));
        assert_eq!(KeyHash::of_token(&key.token), Ok(key.hash));
        assert_ne!(NewKey::generate().unwrap().token, key.token);
        assert!(!format!("{:?}", key.hash).contains(&key.hash.to_string()[9..]));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let good = NewKey::generate().unwrap().hash.to_string();
        for wrong in ["", "abc", &good[1..], &good[..70], &good.replace(':', "-")] {
            assert!(wrong.parse::<KeyHash>().is_err(), "{wrong}");
        }
    }
}
