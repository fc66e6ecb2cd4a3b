//! The rules of a route: how long to wait, how often to try, and when the next carrier has its
//! turn.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use super::Fault;
use super::status::StatusClass;
use super::status::StatusName;
use super::status::Verdict;
use crate::message::Class;
use crate::message::State;
use crate::pdu::CommandStatus;
use crate::receipt::ReceiptState;
use crate::time::Span;
use crate::time::Time;

/// What a route's config says of its rules; what is absent comes from the route's rules for all
/// classes, and then from the class (see [`Rules::of_class`]).
///
/// ```toml
/// [routes.fallback]            # for every class on this route
/// no_bind = "5s"
/// no_answer = "10s"
/// no_delivered = "60s"
/// throttles = 5
/// status = ["fallback", "fallback_alarm", "retry", "session_fatal", "ESME_RINVDSTADR"]
/// receipt_states = ["undeliverable", "rejected"]
/// receipt_errors = ["027"]
/// unknown = "fallback"
/// max_unknown = 1
/// retry = { tries = 3, last_tries = 20, delay = "5s", max_delay = "5m" }
///
/// [routes.marketing]           # what differs for one class
/// no_delivered = "never"
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RulesConfig {
    /// Passes a carrier by once it has had no bind for so long; `"never"` waits for it.
    pub no_bind: Option<Patience>,
    /// Takes the outcome for unknown when no `submit_sm_resp` came for so long; `"never"` leaves
    /// it to the bind's response timer.
    pub no_answer: Option<Patience>,
    /// Sends to the next carrier when no receipt has said DELIVERED for so long after the carrier
    /// took the message; the handset may get it twice.
    pub no_delivered: Option<Patience>,
    /// Goes to the next carrier when this one has throttled the message so often; 0 for never.
    pub throttles: Option<u16>,
    /// Which refusals go to the next carrier: classes and single statuses.
    pub status: Option<Vec<StatusMatch>>,
    /// Which final receipts go to the next carrier.
    pub receipt_states: Option<Vec<FailureState>>,
    /// Receipts with which error codes go to the next carrier, whatever their final state.
    pub receipt_errors: Option<Vec<String>>,
    /// What to do when nobody knows whether the carrier took the message.
    pub unknown: Option<UnknownPolicy>,
    /// How many attempts of unknown outcome may be left behind for another carrier; above 1 the
    /// handset may get the message that many times more.
    pub max_unknown: Option<u16>,
    /// Tries on one carrier.
    pub retry: RetryConfig,
}

/// How often and how soon the same carrier is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// How many tries a carrier has before the next one's turn, the first included.
    pub tries: Option<u16>,
    /// How many tries the last carrier has.
    pub last_tries: Option<u16>,
    /// The wait before the second try; it doubles with each.
    pub delay: Option<Span>,
    /// The longest wait.
    pub max_delay: Option<Span>,
}

impl RulesConfig {
    /// These rules, with what they leave open filled in from `base`.
    fn over(self, base: &Self) -> Self {
        let retry = RetryConfig {
            tries: self.retry.tries.or(base.retry.tries),
            last_tries: self.retry.last_tries.or(base.retry.last_tries),
            delay: self.retry.delay.or(base.retry.delay),
            max_delay: self.retry.max_delay.or(base.retry.max_delay),
        };
        Self {
            no_bind: self.no_bind.or(base.no_bind),
            no_answer: self.no_answer.or(base.no_answer),
            no_delivered: self.no_delivered.or(base.no_delivered),
            throttles: self.throttles.or(base.throttles),
            status: self.status.or_else(|| base.status.clone()),
            receipt_states: self.receipt_states.or_else(|| base.receipt_states.clone()),
            receipt_errors: self.receipt_errors.or_else(|| base.receipt_errors.clone()),
            unknown: self.unknown.or(base.unknown),
            max_unknown: self.max_unknown.or(base.max_unknown),
            retry,
        }
    }

    /// What is wrong with the rules at `path` of the config.
    pub(super) fn faults(&self, path: &str, faults: &mut Vec<Fault>) {
        for (key, patience) in [("no_answer", self.no_answer), ("no_delivered", self.no_delivered)]
        {
            if patience.and_then(Patience::limit).is_some_and(|limit| limit.is_zero()) {
                let message = "expected more than 0s; \"never\" turns the rule off";
                faults.push(Fault::error(format!("{path}.{key}"), message));
            }
        }
        if self.retry.tries == Some(0) {
            faults
                .push(Fault::error(format!("{path}.retry.tries"), "expected at least 1, found 0"));
        }
        if self.retry.last_tries == Some(0) {
            let key = format!("{path}.retry.last_tries");
            faults.push(Fault::error(key, "expected at least 1, found 0"));
        }
        if self.retry.delay.is_some_and(|delay| delay.is_zero()) {
            faults.push(Fault::error(format!("{path}.retry.delay"), "expected more than 0s"));
        }
        if let (Some(delay), Some(max)) = (self.retry.delay, self.retry.max_delay)
            && max < delay
        {
            let message = format!("expected at least retry.delay ({delay}), found {max}");
            faults.push(Fault::error(format!("{path}.retry.max_delay"), message));
        }
    }
}

/// The rules of one route for one class, nothing left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a carrier without a bind is waited for; `None` for ever.
    pub no_bind: Option<Duration>,
    /// How long an answer is waited for; `None` for the bind's own response timer.
    pub no_answer: Option<Duration>,
    /// How long a delivery is waited for before the next carrier gets the message; `None` for
    /// ever.
    pub no_delivered: Option<Duration>,
    /// How many throttles the message bears on one carrier; `None` for any number.
    pub throttles: Option<u16>,
    /// Which refusals go to the next carrier.
    pub status: Vec<StatusMatch>,
    /// Which final receipts go to the next carrier.
    pub receipt_states: Vec<ReceiptState>,
    /// Which error codes of receipts do.
    pub receipt_errors: Vec<Box<str>>,
    /// What follows an unknown outcome.
    pub unknown: UnknownPolicy,
    /// How many attempts of unknown outcome may be left behind for another carrier.
    pub max_unknown: u16,
    /// Tries on one carrier.
    pub retry: Retry,
}

/// How often and how soon the same carrier is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries of a carrier while another one is left, the first included.
    pub tries: u16,
    /// Tries of the last carrier.
    pub last_tries: u16,
    /// The wait before the second try; it doubles with each.
    pub delay: Duration,
    /// The longest wait.
    pub max_delay: Duration,
}

impl Rules {
    /// The rules of `class` where a route says nothing.
    ///
    /// An OTP is worth a second copy rather than none, so it leaves a carrier early: after 5 s
    /// without a bind, 10 s without an answer, five throttles, two refusals, or a receipt that
    /// says it will not arrive. Nothing else is ever sent to a second carrier while the first may
    /// hold it. No class waits for `delivered` unless the route says for how long: a handset that
    /// is switched off looks the same.
    pub fn of_class(class: Class) -> Self {
        let status = vec![
            StatusMatch::Class(StatusClass::Retry),
            StatusMatch::Class(StatusClass::Fallback),
            StatusMatch::Class(StatusClass::FallbackAlarm),
            StatusMatch::Class(StatusClass::SessionFatal),
        ];
        let otp = Self {
            no_bind: Some(Duration::from_secs(5)),
            no_answer: Some(Duration::from_secs(10)),
            no_delivered: None,
            throttles: Some(5),
            status,
            receipt_states: vec![
                ReceiptState::Expired,
                ReceiptState::Undeliverable,
                ReceiptState::Rejected,
            ],
            receipt_errors: Vec::new(),
            unknown: UnknownPolicy::Fallback,
            max_unknown: 1,
            retry: Retry {
                tries: 2,
                last_tries: 10,
                delay: Duration::from_secs(1),
                max_delay: Duration::from_secs(30),
            },
        };
        match class {
            Class::Otp => otp,
            Class::Transactional => Self {
                no_bind: Some(Duration::from_secs(30)),
                no_answer: None,
                throttles: Some(20),
                receipt_states: vec![ReceiptState::Rejected],
                unknown: UnknownPolicy::Hold,
                retry: Retry {
                    tries: 3,
                    last_tries: 20,
                    delay: Duration::from_secs(5),
                    max_delay: Duration::from_secs(300),
                },
                ..otp
            },
            Class::Marketing => Self {
                no_bind: Some(Duration::from_secs(300)),
                no_answer: None,
                throttles: None,
                receipt_states: Vec::new(),
                unknown: UnknownPolicy::Hold,
                retry: Retry {
                    tries: 4,
                    last_tries: 20,
                    delay: Duration::from_secs(30),
                    max_delay: Duration::from_secs(600),
                },
                ..otp
            },
        }
    }

    /// The rules of `class` on a route with these tables: the class's own over the one for all.
    pub(super) fn resolve(class: Class, own: &RulesConfig, all: &RulesConfig) -> Self {
        let config = own.clone().over(all);
        let base = Self::of_class(class);
        let states =
            |states: Vec<FailureState>| states.into_iter().map(FailureState::state).collect();
        let errors = |errors: Vec<String>| errors.into_iter().map(Into::into).collect();
        let delay = config.retry.delay.map_or(base.retry.delay, |span| span.0);
        let max_delay = config.retry.max_delay.map_or(base.retry.max_delay, |span| span.0);
        Self {
            no_bind: config.no_bind.map_or(base.no_bind, Patience::limit),
            no_answer: config.no_answer.map_or(base.no_answer, Patience::limit),
            no_delivered: config.no_delivered.map_or(base.no_delivered, Patience::limit),
            throttles: config.throttles.map_or(base.throttles, |most| (most > 0).then_some(most)),
            status: config.status.unwrap_or(base.status),
            receipt_states: config.receipt_states.map_or(base.receipt_states, states),
            receipt_errors: config.receipt_errors.map_or(base.receipt_errors, errors),
            unknown: config.unknown.unwrap_or(base.unknown),
            max_unknown: config.max_unknown.unwrap_or(base.max_unknown),
            retry: Retry {
                tries: config.retry.tries.unwrap_or(base.retry.tries),
                last_tries: config.retry.last_tries.unwrap_or(base.retry.last_tries),
                delay,
                max_delay: max_delay.max(delay),
            },
        }
    }

    /// When the rule for this kind of waiting fires; `None` when the route has none.
    pub fn deadline(&self, waiting: Waiting) -> Option<Time> {
        match waiting {
            Waiting::Bind { since } => self.no_bind.map(|limit| since + limit),
            Waiting::Answer { since } => self.no_answer.map(|limit| since + limit),
            Waiting::Delivery { since } => self.no_delivered.map(|limit| since + limit),
        }
    }

    /// The rule that sends a refused message to the next carrier, if one does.
    pub(super) fn on_status(&self, verdict: &Verdict) -> Option<Rule> {
        let named = StatusMatch::Status(verdict.status);
        let class = StatusMatch::Class(verdict.class);
        let fires = self.status.iter().any(|item| *item == named || *item == class);
        fires.then_some(Rule::Status { status: verdict.status, class: verdict.class })
    }

    /// The rule that sends a message with a failure receipt to the next carrier, if one does.
    pub(super) fn on_receipt(&self, state: ReceiptState, error: &str) -> Option<Rule> {
        if !error.is_empty() && self.receipt_errors.iter().any(|code| **code == *error) {
            return Some(Rule::ReceiptError { error: error.into() });
        }
        self.receipt_states.contains(&state).then_some(Rule::ReceiptState { state })
    }
}

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A bind to its carrier, which has had none since then.
    Bind {
        /// Since when.
        since: Time,
    },
    /// The `submit_sm_resp` of what was sent then.
    Answer {
        /// Since when.
        since: Time,
    },
    /// A receipt that says DELIVERED; the carrier took the message then.
    Delivery {
        /// Since when.
        since: Time,
    },
}

impl Retry {
    /// The wait before try `next`, the first being 1: doubling, 25 % either way by `dice`, at least
    /// `least`.
    pub fn wait(&self, next: u16, least: Option<Duration>, dice: u64) -> Duration {
        let doublings = u32::from(next.saturating_sub(2).min(30));
        let wait = self.delay.saturating_mul(1 << doublings).min(self.max_delay);
        jitter(wait.max(least.unwrap_or_default()), dice)
    }
}

/// The wait after throttle `count` of a message, the first being 1: `least` or a second, doubling
/// to 30 s, 25 % either way by `dice`.
pub(super) fn throttle_wait(count: u16, least: Option<Duration>, dice: u64) -> Duration {
    const MOST: Duration = Duration::from_secs(30);
    let least = least.unwrap_or(Duration::from_secs(1));
    let doublings = u32::from(count.saturating_sub(1).min(5));
    jitter(least.saturating_mul(1 << doublings).min(MOST.max(least)), dice)
}

/// `wait`, less or more by up to a quarter.
fn jitter(wait: Duration, dice: u64) -> Duration {
    const STEPS: u64 = 1 << 16;
    let part = u32::try_from(dice % STEPS).unwrap_or_default();
    // From 3/4 to 5/4 of the wait, in steps of 2^-17 of it.
    let scale = f64::from(part) / 131_072.0 + 0.75;
    wait.mul_f64(scale)
}

/// The rule of a route by which a message goes to another carrier; `Display` is the timeline's
/// wording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The carrier had no bind for so long.
    NoBind {
        /// The route's limit.
        limit: Duration,
    },
    /// The carrier refused.
    Status {
        /// The status.
        status: CommandStatus,
        /// Its class on that carrier.
        class: StatusClass,
    },
    /// The carrier throttled the message so often.
    Throttles {
        /// How often.
        count: u16,
    },
    /// The carrier's next try would be after the message's time to live.
    TooSlow,
    /// No answer came, and the class rather risks a second copy.
    NoAnswer,
    /// No receipt said DELIVERED in time.
    NoDelivered {
        /// The route's limit.
        limit: Duration,
    },
    /// A final receipt said so.
    ReceiptState {
        /// Its state.
        state: ReceiptState,
    },
    /// A final receipt had this error code.
    ReceiptError {
        /// The code as it came.
        error: Box<str>,
    },
    /// The carrier cannot carry this message as it is.
    Unfit,
    /// The carrier is no longer in the config, or an operator takes it out.
    Withdrawn,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBind { limit } => write!(f, "no bind for {}", Span(*limit)),
            Self::Status { status, class } => write!(f, "refused with {status} ({class})"),
            Self::Throttles { count } => write!(f, "throttled {count} times"),
            Self::TooSlow => f.write_str("the next try would be too late"),
            Self::NoAnswer => f.write_str("no answer came"),
            Self::NoDelivered { limit } => write!(f, "not delivered within {}", Span(*limit)),
            Self::ReceiptState { state } => write!(f, "receipt says {state}"),
            Self::ReceiptError { error } => write!(f, "receipt has error {error}"),
            Self::Unfit => f.write_str("the carrier cannot carry this message"),
            Self::Withdrawn => f.write_str("the carrier was taken out"),
        }
    }
}

/// What to do when nobody knows whether a carrier took a message.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum UnknownPolicy {
    /// Send to the next carrier: rather two copies than none.
    Fallback,
    /// Wait for a late answer or receipt; send again only to a carrier whose config says
    /// `resend_unknown`.
    Hold,
}

/// How long to wait before a rule fires: `"10s"`, or `"never"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// So long.
    For(Span),
    /// For ever.
    Never,
}

impl Patience {
    const fn limit(self) -> Option<Duration> {
        match self {
            Self::For(span) => Some(span.0),
            Self::Never => None,
        }
    }
}

impl Serialize for Patience {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::For(span) => span.serialize(serializer),
            Self::Never => serializer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for Patience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        match &*text {
            "never" => Ok(Self::Never),
            text => text.parse().map(Self::For).map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for Patience {
    fn schema_name() -> Cow<'static, str> {
        "Patience".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration with its unit, or never.",
            "pattern": "^(never|([0-9]+(ms|s|m|min|h|d))+)$"
        })
    }
}

/// Which refusals a rule means: a class such as `"fallback"`, or a status such as
/// `"ESME_RINVDSTADR"`, `"0x432"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusMatch {
    /// All of a class.
    Class(StatusClass),
    /// One status, whatever its class.
    Status(CommandStatus),
}

impl Serialize for StatusMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Class(class) => serializer.serialize_str(class.as_str()),
            Self::Status(status) => StatusName(*status).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for StatusMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let class = match &*text {
            "retry" => StatusClass::Retry,
            "fallback" => StatusClass::Fallback,
            "fallback_alarm" => StatusClass::FallbackAlarm,
            "permanent" => StatusClass::Permanent,
            "session_fatal" => StatusClass::SessionFatal,
            text => {
                let status = StatusName::parse(text).ok_or_else(|| unknown_match(text))?;
                return Ok(Self::Status(status.0));
            }
        };
        Ok(Self::Class(class))
    }
}

fn unknown_match<E: serde::de::Error>(text: &str) -> E {
    E::custom(format_args!(
        "expected retry, fallback, fallback_alarm, permanent, session_fatal or a command_status \
         such as ESME_RINVDSTADR or 0x432, found {text:?}"
    ))
}

impl JsonSchema for StatusMatch {
    fn schema_name() -> Cow<'static, str> {
        "StatusMatch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A class (retry, fallback, fallback_alarm, permanent, session_fatal) or a command_status by name or number."
        })
    }
}

/// A final state of a receipt that says the message will not arrive: `"undeliverable"`, in any
/// case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureState(ReceiptState);

impl FailureState {
    const ALL: [ReceiptState; 5] = [
        ReceiptState::Expired,
        ReceiptState::Deleted,
        ReceiptState::Undeliverable,
        ReceiptState::Rejected,
        ReceiptState::Skipped,
    ];

    /// The state, if it is one of these.
    pub fn new(state: ReceiptState) -> Option<Self> {
        Self::ALL.contains(&state).then_some(Self(state))
    }

    /// The state.
    pub const fn state(self) -> ReceiptState {
        self.0
    }
}

impl Serialize for FailureState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FailureState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let named = |state: &ReceiptState| state.as_str().eq_ignore_ascii_case(&text);
        Self::ALL.into_iter().find(named).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "expected expired, deleted, undeliverable, rejected or skipped, found {text:?}"
            ))
        })
    }
}

impl JsonSchema for FailureState {
    fn schema_name() -> Cow<'static, str> {
        "FailureState".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A final state of a receipt that says the message will not arrive.",
            "enum": ["expired", "deleted", "undeliverable", "rejected", "skipped"]
        })
    }
}

/// The terminal state of a message whose carrier reports this final state.
pub const fn end_of(state: ReceiptState) -> State {
    match state {
        ReceiptState::Delivered => State::Delivered,
        ReceiptState::Expired => State::Expired,
        ReceiptState::Deleted | ReceiptState::Undeliverable | ReceiptState::Skipped => {
            State::Undeliverable
        }
        ReceiptState::Rejected => State::Rejected,
        // Final only where the carrier's config says so: taken is as far as it tells.
        ReceiptState::Accepted => State::Delivered,
        ReceiptState::Scheduled | ReceiptState::Enroute | ReceiptState::Unknown => State::Unknown,
    }
}
