//! The limits and shares of the dispatcher, as the config says.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::message::Class;
use crate::text::reassembly;
use crate::time::Span;

use super::shares::Weights;
use super::shedding::SheddingConfig;

/// How many messages are held, how long things are remembered, and who gets which share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The most live messages; more are refused with `queue_full`. One that waits takes about 120
    /// octets of memory, one that was sent about 310.
    pub live_limit: u64,
    /// The most records that are not on disk yet: while the disk is slower than what comes in,
    /// messages are refused with `queue_full` beyond it.
    pub backlog_limit: u64,
    /// At which percentages of `live_limit`, `backlog_limit` and `idempotency_limit`, and of the
    /// queue before the dispatcher, a class is refused; otp has the whole of them.
    pub shedding: SheddingConfig,
    /// The most octets of message bodies in memory; others are read back from the journal when
    /// their turn is near.
    pub body_bytes: u64,
    /// The shares of the classes in each carrier's rate, against one another.
    pub weights: WeightsConfig,
    /// The percentage of each carrier's rate that otp can count on while other classes wait too.
    pub otp_reserve: u8,
    /// How long an `Idempotency-Key` is remembered.
    pub idempotency_ttl: Span,
    /// The most idempotency keys, of about 80 octets each; more are refused with `queue_full`.
    pub idempotency_limit: u64,
    /// How long a receipt that fits no message waits for its `submit_sm_resp`.
    pub orphan_hold: Span,
    /// The most receipts that wait so; the oldest one gives way.
    pub orphan_limit: u64,
    /// How long a late receipt may correct a message that ended as `unknown` or `expired`.
    pub late_receipts: Span,
    /// The most messages that are kept for that; the oldest gives way.
    pub late_limit: u64,
    /// Of how many finished messages a repeated receipt is known as such.
    pub repeat_limit: u64,
    /// How long a handset may hold parts of a long message: a concatenation reference is not used
    /// again for the same number within it.
    pub reference_hold: Span,
    /// The most numbers whose references are remembered.
    pub reference_limit: u64,
    /// How long the parts of a long inbound message wait for one another.
    pub reassembly_timeout: Span,
    /// The most inbound messages that wait for parts.
    pub reassembly_limit: u64,
    /// The most octets of such parts.
    pub reassembly_bytes: u64,
    /// The journal is not cleaned below this size. Above it live messages are written again and
    /// old files dropped once it is four times as large as the live messages in it.
    pub clean_above_bytes: u64,
}

/// A share for each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WeightsConfig {
    /// For login codes.
    pub otp: u32,
    /// For messages that somebody waits for.
    pub transactional: u32,
    /// For messages that nobody waits for.
    pub marketing: u32,
}

impl Default for WeightsConfig {
    fn default() -> Self {
        Self { otp: 8, transactional: 3, marketing: 1 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            live_limit: 10_000_000,
            backlog_limit: 100_000,
            shedding: SheddingConfig::default(),
            body_bytes: 32 << 20,
            weights: WeightsConfig::default(),
            otp_reserve: 50,
            idempotency_ttl: Span::secs(24 * 3_600),
            idempotency_limit: 10_000_000,
            orphan_hold: Span::secs(60),
            orphan_limit: 100_000,
            late_receipts: Span::secs(7 * 24 * 3_600),
            late_limit: 1_000_000,
            repeat_limit: 1_000_000,
            reference_hold: Span::secs(600),
            reference_limit: 1_000_000,
            reassembly_timeout: Span::secs(300),
            reassembly_limit: 10_000,
            reassembly_bytes: 16 << 20,
            clean_above_bytes: 1 << 30,
        }
    }
}

impl Config {
    /// What is wrong with the values, each with its key below this table.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, message: String| faults.push((key.to_owned(), message));
        if self.live_limit == 0 || self.live_limit > LIVE_LIMIT_MAX {
            let found = self.live_limit;
            fault("live_limit", format!("expected 1 to {LIVE_LIMIT_MAX}, found {found}"));
        }
        if self.backlog_limit == 0 {
            fault("backlog_limit", "expected at least 1, found 0".to_owned());
        }
        if self.otp_reserve > 90 {
            fault("otp_reserve", format!("expected 0 to 90 percent, found {}", self.otp_reserve));
        }
        let WeightsConfig { otp, transactional, marketing } = self.weights;
        let weights = [(Class::Otp, otp), (Class::Transactional, transactional)];
        for (class, weight) in weights.into_iter().chain([(Class::Marketing, marketing)]) {
            if weight == 0 || weight > WEIGHT_MAX {
                let message = format!("expected 1 to {WEIGHT_MAX}, found {weight}");
                fault(&format!("weights.{class}"), message);
            }
        }
        faults.extend(self.shedding.faults());
        let mut fault = |key: &str, message: String| faults.push((key.to_owned(), message));
        for (key, span) in [
            ("idempotency_ttl", self.idempotency_ttl),
            ("orphan_hold", self.orphan_hold),
            ("late_receipts", self.late_receipts),
            ("reference_hold", self.reference_hold),
            ("reassembly_timeout", self.reassembly_timeout),
        ] {
            if span.is_zero() || *span > SPAN_MAX {
                let most = Span(SPAN_MAX);
                fault(key, format!("expected more than 0s and at most {most}, found {span}"));
            }
        }
        faults
    }

    pub(super) fn weights(&self) -> Weights {
        let WeightsConfig { otp, transactional, marketing } = self.weights;
        let by_class = [otp, transactional, marketing].map(|weight| weight.clamp(1, WEIGHT_MAX));
        Weights { by_class, otp_reserve: self.otp_reserve.min(90) }
    }

    pub(super) fn reassembly(&self) -> reassembly::Limits {
        reassembly::Limits {
            timeout: self.reassembly_timeout.0,
            messages: count(self.reassembly_limit),
            octets: count(self.reassembly_bytes),
        }
    }
}

/// A limit of the config as a number of things in memory.
pub(super) fn count(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

const LIVE_LIMIT_MAX: u64 = 100_000_000;
const WEIGHT_MAX: u32 = 1_000;
const SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_fault() {
        assert_eq!(Config::default().faults(), []);
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    }

    #[test]
    fn every_fault_is_named_with_its_key() {
        let config: Config = toml::from_str(
            r#"
            live_limit = 0
            backlog_limit = 0
            shedding = { marketing = 96 }
            otp_reserve = 91
            weights = { otp = 0 }
            orphan_hold = "0s"
            late_receipts = "999999d"
            "#,
        )
        .unwrap();
        let keys: Vec<_> = config.faults().into_iter().map(|(key, _)| key).collect();
        let expected = [
            "live_limit",
            "backlog_limit",
            "otp_reserve",
            "weights.otp",
            "shedding.marketing",
            "orphan_hold",
            "late_receipts",
        ];
        assert_eq!(keys, expected);
        assert!(toml::from_str::<Config>("live = 1").is_err());
    }
}
