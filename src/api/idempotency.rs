//! `Idempotency-Key`: the header's value, and the digests that are kept of it.

use axum::http::HeaderMap;
use sha2::Digest;
use sha2::Sha256;

use crate::api::problem::Code;
use crate::api::problem::Fault;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::message::Idempotency;

const HEADER: &str = "idempotency-key";

/// The most characters of a key.
const MOST: usize = 255;

/// A caller's idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The request's key, if it has one: bare, or a quoted structured-field string
    /// (RFC 9651 §3.3.3).
    ///
    /// # Errors
    /// When it is empty, too long, given twice, or has characters that it cannot have.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Self>, Refused> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let refuse = |detail: &str| {
            Err(Problem::of(Fault::header(Code::InvalidField, "Idempotency-Key", detail)))
        };
        if values.next().is_some() {
            return refuse("given more than once");
        }
        let Some(key) = value.to_str().ok().and_then(unquote) else {
            return refuse("expected visible ASCII characters, bare or in double quotes");
        };
        match key.len() {
            0 => refuse("it is empty"),
            1..=MOST => Ok(Some(Self(key))),
            _ => refuse("at most 255 characters"),
        }
    }

    /// What is kept of the key and of the request, `part` telling the messages of one request
    /// apart.
    pub(crate) fn digests(&self, client: &str, part: usize, request: &Fingerprint) -> Idempotency {
        let mut key = Sha256::new();
        key.update(client.as_bytes());
        key.update([0]);
        key.update(self.0.as_bytes());
        key.update([0]);
        key.update(part.to_be_bytes());
        Idempotency { key: half(key), fingerprint: request.0 }
    }
}

fn unquote(value: &str) -> Option<String> {
    let value = value.trim();
    let Some(rest) = value.strip_prefix('"') else {
        return value.bytes().all(|b| b.is_ascii_graphic() || b == b' ').then(|| value.to_owned());
    };
    let inner = rest.strip_suffix('"')?;
    let mut key = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\') => key.push(escaped),
                _ => return None,
            },
            '"' => return None,
            ' '..='~' => key.push(character),
            _ => return None,
        }
    }
    Some(key)
}

/// Tells one request from another: the first half of SHA-256 over method, path and the body as it
/// was understood.
pub(crate) struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub(crate) fn of(method: &str, path: &str, body: &impl serde::Serialize) -> Self {
        let mut digest = Sha256::new();
        digest.update(method.as_bytes());
        digest.update(b"\n");
        digest.update(path.as_bytes());
        digest.update(b"\n");
        // The requests of this API serialise without fault: they came from JSON.
        digest.update(serde_json::to_vec(body).unwrap_or_default());
        Self(half(digest))
    }
}

fn half(digest: Sha256) -> [u8; 16] {
    let whole: [u8; 32] = digest.finalize().into();
    let mut half = [0; 16];
    half.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    half
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn read(value: &str) -> Result<Option<IdempotencyKey>, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        IdempotencyKey::read(&headers)
    }

    #[test]
    fn a_key_is_the_same_bare_and_quoted() {
        let bare = read("order-123").unwrap();
        assert_eq!(bare, read("\"order-123\"").unwrap());
        assert_eq!(read(r#""a\"b\\c""#).unwrap().unwrap().0, r#"a"b\c"#);
        assert_eq!(IdempotencyKey::read(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_header() {
        let long = "x".repeat(256);
        for wrong in ["", "\"\"", "\"open", "\"a\"b\"", "\"\\n\"", "飛脚", long.as_str()] {
            let problem = read(wrong).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidField, "{wrong}");
            assert_eq!(problem.errors()[0].header, Some("Idempotency-Key"));
        }
    }

    #[test]
    fn keys_of_different_clients_and_parts_are_different() {
        let key = read("k").unwrap().unwrap();
        let request = Fingerprint::of("POST", "/v1/messages", &"body");
        let digests = |client, part| key.digests(client, part, &request).key;
        assert_eq!(digests("a", 0), digests("a", 0));
        assert_ne!(digests("a", 0), digests("b", 0));
        assert_ne!(digests("a", 0), digests("a", 1));
    }
}
