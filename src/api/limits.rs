//! What one API key may use: a rate of messages, a rate of other requests, a quota a day.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;

/// How much of a limit is left, as the `RateLimit` fields say it
/// (draft-ietf-httpapi-ratelimit-headers-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The name of the limit.
    pub policy: &'static str,
    /// How many the limit gives.
    pub quota: u64,
    /// In how long.
    pub window: Duration,
    /// How many are left.
    pub left: u64,
    /// When more come.
    pub reset: Duration,
}

impl Standing {
    /// When to come back.
    pub const fn retry_after(&self) -> Duration {
        self.reset
    }

    /// Writes the `RateLimit` and `RateLimit-Policy` fields (RFC 9651 lists).
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let window = self.window.as_secs().max(1);
        let reset = self.reset.as_secs() + u64::from(self.reset.subsec_nanos() > 0);
        let fields = [
            ("ratelimit-policy", format!("\"{}\";q={};w={window}", self.policy, self.quota)),
            ("ratelimit", format!("\"{}\";r={};t={reset}", self.policy, self.left)),
        ];
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_maybe_shared(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}
