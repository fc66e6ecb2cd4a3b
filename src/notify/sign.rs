//! Signatures of Standard Webhooks 1.0.0: made for what we send, checked for who receives it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::time::Time;

/// The header with the event's id; it stays the same however often the event is sent.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of the try, in seconds since the epoch.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures, a space between them.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// How far a timestamp may be from the receiver's clock, either way.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// A secret for signing: `whsec_` and the base64 of 24 to 64 octets.
#[derive(Clone)]
pub struct Secret {
    octets: Box<[u8]>,
    /// The same, made ready to sign.
    key: Arc<hmac::Key>,
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.octets, &other.octets).is_ok()
    }
}

impl Eq for Secret {}

const PREFIX: &str = "whsec_";

/// Why a text is not a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `whsec_` and the base64 of 24 to 64 octets")]
pub struct ParseSecretError;

impl Secret {
    /// The secret of these octets, 24 to 64 of them.
    ///
    /// # Errors
    /// There are fewer or more.
    pub fn from_octets(octets: &[u8]) -> Result<Self, ParseSecretError> {
        if (24..=64).contains(&octets.len()) {
            let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, octets));
            Ok(Self { octets: octets.into(), key })
        } else {
            Err(ParseSecretError)
        }
    }

    /// The secret as people copy it. This is the only way to see it.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.octets))
    }

    /// The signature of one try: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let tag = self.tag(id, &timestamp.to_string(), body);
        format!("v1,{}", STANDARD.encode(tag))
    }

    fn tag(&self, id: &str, timestamp: &str, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        context.sign()
    }

    /// Checks what came with a webhook at `now`: that one of the signatures is ours and that the
    /// timestamp is no further than [`TOLERANCE`] from `now`.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub fn verify(&self, now: Time, signed: &Signed<'_>) -> Result<(), VerifyError> {
        let missing = |header: &'static str| VerifyError::Missing { header };
        let id = signed.id.ok_or_else(|| missing(ID_HEADER))?;
        let timestamp = signed.timestamp.ok_or_else(|| missing(TIMESTAMP_HEADER))?;
        let signatures = signed.signature.ok_or_else(|| missing(SIGNATURE_HEADER))?;
        let seconds: u64 = timestamp.parse().map_err(|_| VerifyError::Timestamp)?;
        let sent = Time::from_secs(seconds);
        let apart = now.since(sent).max(sent.since(now));
        if apart > TOLERANCE {
            return Err(VerifyError::Apart { seconds: apart.as_secs() });
        }
        let ours = |signature: &str| {
            let octets = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
            let tag = self.tag(id, timestamp, signed.body);
            octets.is_some_and(|octets| {
                constant_time::verify_slices_are_equal(tag.as_ref(), &octets).is_ok()
            })
        };
        if signatures.split(' ').any(ours) { Ok(()) } else { Err(VerifyError::Signature) }
    }
}

/// What came with a webhook.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signed<'a> {
    /// The `webhook-id` header.
    pub id: Option<&'a str>,
    /// The `webhook-timestamp` header.
    pub timestamp: Option<&'a str>,
    /// The `webhook-signature` header.
    pub signature: Option<&'a str>,
    /// The body as it came.
    pub body: &'a [u8],
}

/// Why a webhook is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header is missing.
    #[error("no {header} header")]
    Missing {
        /// Which.
        header: &'static str,
    },
    /// The timestamp is not a number of seconds.
    #[error("webhook-timestamp: expected seconds since 1970")]
    Timestamp,
    /// The timestamp is too far from our clock.
    #[error("webhook-timestamp is {seconds} s from this machine's clock, at most 300 are allowed")]
    Apart {
        /// How far.
        seconds: u64,
    },
    /// No signature was made with this secret over these octets.
    #[error("no signature matches the secret")]
    Signature,
}

impl FromStr for Secret {
    type Err = ParseSecretError;

    fn from_str(text: &str) -> Result<Self, ParseSecretError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(ParseSecretError)?;
        let octets = STANDARD.decode(digits).map_err(|_| ParseSecretError)?;
        Self::from_octets(&octets)
    }
}

/// Never shows it.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Masks it: configs are shown to people.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("whsec_***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "WebhookSecret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "whsec_ and the base64 of 24 to 64 octets.",
            "pattern": "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification and of its reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secret() -> Secret {
        SECRET.parse().unwrap()
    }

    fn signed(signature: &str) -> Signed<'_> {
        Signed {
            id: Some(ID),
            timestamp: Some("1614265330"),
            signature: Some(signature),
            body: BODY,
        }
    }

    #[test]
    fn the_example_of_the_specification_is_signed_as_written_there() {
        assert_eq!(secret().sign(ID, AT, BODY), SIGNATURE);
        assert_eq!(secret().reveal(), SECRET);
    }

    #[test]
    fn a_signature_counts_among_others_and_within_five_minutes() {
        let now = Time::from_secs(AT);
        let several = format!("v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= {SIGNATURE} v2,x");
        assert_eq!(secret().verify(now, &signed(&several)), Ok(()));
        assert_eq!(secret().verify(now + TOLERANCE, &signed(SIGNATURE)), Ok(()));
        assert_eq!(secret().verify(now - TOLERANCE, &signed(SIGNATURE)), Ok(()));
        let late = now + TOLERANCE + Duration::from_secs(1);
        let apart = VerifyError::Apart { seconds: 301 };
        assert_eq!(secret().verify(late, &signed(SIGNATURE)), Err(apart));
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let now = Time::from_secs(AT);
        let check = |signed: &Signed<'_>| secret().verify(now, signed);
        let other = Signed { body: b"{}", ..signed(SIGNATURE) };
        assert_eq!(check(&other), Err(VerifyError::Signature));
        for wrong in ["", "v1,", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,%"] {
            assert_eq!(check(&signed(wrong)), Err(VerifyError::Signature), "{wrong}");
        }
        let none = Signed { id: None, ..signed(SIGNATURE) };
        assert_eq!(check(&none), Err(VerifyError::Missing { header: "webhook-id" }));
        let odd = Signed { timestamp: Some("now"), ..signed(SIGNATURE) };
        assert_eq!(check(&odd), Err(VerifyError::Timestamp));
    }

    #[test]
    fn a_secret_has_its_prefix_and_enough_octets() {
        for wrong in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA", "whsec_%%%"] {
            assert_eq!(wrong.parse::<Secret>(), Err(ParseSecretError), "{wrong}");
        }
        assert_eq!(format!("{:?}", secret()), "Secret");
        assert_eq!(serde_json::to_string(&secret()).unwrap(), "\"whsec_***\"");
    }
}
