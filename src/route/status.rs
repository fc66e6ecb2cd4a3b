//! What a `command_status` says about a submit: may it be sent again, and where.

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
use serde::de::MapAccess;
use serde::de::Visitor;
use serde::de::value::MapAccessDeserializer;
use serde::de::value::StrDeserializer;

use crate::message::Reason;
use crate::pdu::CommandStatus;
use crate::time::Span;

/// What is to be done after a status.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum StatusClass {
    /// The carrier has taken the segment.
    #[serde(skip_deserializing)]
    Accepted,
    /// Again on the same carrier after a short while, a few times; then the next carrier.
    Retry,
    /// The carrier asks to slow down: the message keeps its place and spends no try.
    Throttle,
    /// This carrier will not take the message; the next one may.
    Fallback,
    /// The same, and the carrier's settings are probably wrong: somebody must look.
    FallbackAlarm,
    /// No carrier will take it.
    Permanent,
    /// The carrier no longer knows the bind: bind anew, then once more on the same carrier.
    SessionFatal,
    /// A `query_sm`, `cancel_sm` or `replace_sm` failed; the message itself is where it was.
    #[serde(skip_deserializing)]
    OperationFailed,
}

impl StatusClass {
    /// The word for it in the config and in explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retry => "retry",
            Self::Throttle => "throttle",
            Self::Fallback => "fallback",
            Self::FallbackAlarm => "fallback_alarm",
            Self::Permanent => "permanent",
            Self::SessionFatal => "session_fatal",
            Self::OperationFailed => "operation_failed",
        }
    }

    /// Whether an operator should look at the carrier's settings.
    pub const fn alarms(self) -> bool {
        matches!(self, Self::FallbackAlarm | Self::SessionFatal)
    }
}

impl fmt::Display for StatusClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one status means on one carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The status itself.
    pub status: CommandStatus,
    /// What is to be done.
    pub class: StatusClass,
    /// What to tell the owner should the message end here.
    pub reason: Reason,
    /// How often the same carrier is worth another try; `None` for the route's own number.
    pub retries: Option<u16>,
    /// The shortest wait before that; `None` for the route's own.
    pub delay: Option<Duration>,
    /// Whether a table names the status; one that none names is counted.
    pub is_known: bool,
}

/// The built-in meaning of `status`.
///
/// `failure_reason` is the `delivery_failure_reason` TLV of the answer; only
/// `ESME_RDELIVERYFAILURE` reads it (SMPP 3.4 §5.3.2.33).
pub fn judge(status: CommandStatus, failure_reason: Option<u8>) -> Verdict {
    if status == CommandStatus::ESME_RDELIVERYFAILURE {
        return delivery_failure(failure_reason);
    }
    match ROWS.binary_search_by_key(&status, |row| row.status) {
        Ok(at) => ROWS.get(at).map_or_else(|| unnamed(status), Row::verdict),
        Err(_) => unnamed(status),
    }
}

/// Vendor codes (0x400 to 0x4FF) and numbers of no table: another carrier may still take it.
const fn unnamed(status: CommandStatus) -> Verdict {
    Verdict {
        status,
        class: StatusClass::Fallback,
        reason: Reason::Refused,
        retries: Some(0),
        delay: None,
        is_known: false,
    }
}

fn delivery_failure(failure_reason: Option<u8>) -> Verdict {
    let (class, reason, retries) = match failure_reason {
        Some(0) => (StatusClass::Retry, Reason::AbsentSubscriber, None),
        Some(1) => (StatusClass::Permanent, Reason::InvalidDestination, None),
        Some(2) => (StatusClass::Permanent, Reason::Undeliverable, None),
        Some(3) => (StatusClass::Retry, Reason::Undeliverable, None),
        _ => (StatusClass::Fallback, Reason::Undeliverable, Some(0)),
    };
    let status = CommandStatus::ESME_RDELIVERYFAILURE;
    Verdict { status, class, reason, retries, delay: None, is_known: true }
}

struct Row {
    status: CommandStatus,
    class: StatusClass,
    reason: Reason,
    retries: Option<u16>,
    delay: Option<Duration>,
}

impl Row {
    const fn verdict(&self) -> Verdict {
        Verdict {
            status: self.status,
            class: self.class,
            reason: self.reason,
            retries: self.retries,
            delay: self.delay,
            is_known: true,
        }
    }

    const fn retries(self, retries: u16) -> Self {
        Self { retries: Some(retries), ..self }
    }

    const fn after_secs(self, secs: u64) -> Self {
        Self { delay: Some(Duration::from_secs(secs)), ..self }
    }
}

const fn row(status: CommandStatus, class: StatusClass, reason: Reason) -> Row {
    Row { status, class, reason, retries: None, delay: None }
}

const fn retry(status: CommandStatus) -> Row {
    row(status, StatusClass::Retry, Reason::Refused)
}

const fn throttle(status: CommandStatus) -> Row {
    row(status, StatusClass::Throttle, Reason::Throttled)
}

const fn fallback(status: CommandStatus, reason: Reason) -> Row {
    row(status, StatusClass::Fallback, reason).retries(0)
}

const fn alarm(status: CommandStatus, reason: Reason) -> Row {
    row(status, StatusClass::FallbackAlarm, reason).retries(0)
}

const fn permanent(status: CommandStatus, reason: Reason) -> Row {
    row(status, StatusClass::Permanent, reason).retries(0)
}

const fn session(status: CommandStatus) -> Row {
    row(status, StatusClass::SessionFatal, Reason::CarrierDown).retries(1)
}

const fn operation(status: CommandStatus) -> Row {
    row(status, StatusClass::OperationFailed, Reason::Refused).retries(0)
}

/// Every status that SMPP 3.4 and 5.0 name, rising, with what practice makes of it.
const ROWS: &[Row] = &[
    row(CommandStatus::ESME_ROK, StatusClass::Accepted, Reason::Refused),
    fallback(CommandStatus::ESME_RINVMSGLEN, Reason::TextTooLong),
    alarm(CommandStatus::ESME_RINVCMDLEN, Reason::Refused),
    alarm(CommandStatus::ESME_RINVCMDID, Reason::Refused),
    session(CommandStatus::ESME_RINVBNDSTS),
    session(CommandStatus::ESME_RALYBND),
    alarm(CommandStatus::ESME_RINVPRTFLG, Reason::Refused),
    alarm(CommandStatus::ESME_RINVREGDLVFLG, Reason::Refused),
    retry(CommandStatus::ESME_RSYSERR),
    alarm(CommandStatus::ESME_RINVSRCADR, Reason::InvalidSender),
    permanent(CommandStatus::ESME_RINVDSTADR, Reason::InvalidDestination),
    operation(CommandStatus::ESME_RINVMSGID),
    session(CommandStatus::ESME_RBINDFAIL),
    session(CommandStatus::ESME_RINVPASWD),
    session(CommandStatus::ESME_RINVSYSID),
    operation(CommandStatus::ESME_RCANCELFAIL),
    operation(CommandStatus::ESME_RREPLACEFAIL),
    // May be one subscriber's queue, so it waits longer than RTHROTTLED.
    throttle(CommandStatus::ESME_RMSGQFUL).after_secs(5),
    alarm(CommandStatus::ESME_RINVSERTYP, Reason::Refused),
    permanent(CommandStatus::ESME_RINVNUMDESTS, Reason::Refused),
    permanent(CommandStatus::ESME_RINVDLNAME, Reason::Refused),
    alarm(CommandStatus::ESME_RINVDESTFLAG, Reason::Refused),
    alarm(CommandStatus::ESME_RINVSUBREP, Reason::Refused),
    alarm(CommandStatus::ESME_RINVESMCLASS, Reason::Refused),
    permanent(CommandStatus::ESME_RCNTSUBDL, Reason::Refused),
    // Some answer it when the window is exceeded, some for blocked content: once more at most.
    fallback(CommandStatus::ESME_RSUBMITFAIL, Reason::Refused).retries(1),
    alarm(CommandStatus::ESME_RINVSRCTON, Reason::InvalidSender),
    alarm(CommandStatus::ESME_RINVSRCNPI, Reason::InvalidSender),
    alarm(CommandStatus::ESME_RINVDSTTON, Reason::InvalidDestination),
    alarm(CommandStatus::ESME_RINVDSTNPI, Reason::InvalidDestination),
    session(CommandStatus::ESME_RINVSYSTYP),
    alarm(CommandStatus::ESME_RINVREPFLAG, Reason::Refused),
    alarm(CommandStatus::ESME_RINVNUMMSGS, Reason::Refused),
    throttle(CommandStatus::ESME_RTHROTTLED).after_secs(1),
    permanent(CommandStatus::ESME_RINVSCHED, Reason::Refused),
    permanent(CommandStatus::ESME_RINVEXPIRY, Reason::Refused),
    alarm(CommandStatus::ESME_RINVDFTMSGID, Reason::Refused),
    retry(CommandStatus::ESME_RX_T_APPN),
    permanent(CommandStatus::ESME_RX_P_APPN, Reason::Refused),
    permanent(CommandStatus::ESME_RX_R_APPN, Reason::ContentRefused),
    operation(CommandStatus::ESME_RQUERYFAIL),
    alarm(CommandStatus::ESME_RINVTLVSTREAM, Reason::Refused),
    alarm(CommandStatus::ESME_RTLVNOTALLWD, Reason::Refused),
    alarm(CommandStatus::ESME_RINVTLVLEN, Reason::Refused),
    alarm(CommandStatus::ESME_RMISSINGTLV, Reason::Refused),
    alarm(CommandStatus::ESME_RINVTLVVAL, Reason::Refused),
    // ESME_RDELIVERYFAILURE has no row: `delivery_failure` reads its TLV.
    fallback(CommandStatus::ESME_RUNKNOWNERR, Reason::Refused).retries(1),
    alarm(CommandStatus::ESME_RSERTYPUNAUTH, Reason::Refused),
    alarm(CommandStatus::ESME_RPROHIBITED, Reason::Refused),
    fallback(CommandStatus::ESME_RSERTYPUNAVAIL, Reason::Refused),
    permanent(CommandStatus::ESME_RSERTYPDENIED, Reason::ContentRefused),
    alarm(CommandStatus::ESME_RINVDCS, Reason::UnencodableText),
    alarm(CommandStatus::ESME_RINVSRCADDRSUBUNIT, Reason::Refused),
    alarm(CommandStatus::ESME_RINVDSTADDRSUBUNIT, Reason::Refused),
    permanent(CommandStatus::ESME_RINVBCASTFREQINT, Reason::Refused),
    permanent(CommandStatus::ESME_RINVBCASTALIAS_NAME, Reason::Refused),
    permanent(CommandStatus::ESME_RINVBCASTAREAFMT, Reason::Refused),
    permanent(CommandStatus::ESME_RINVNUMBCAST_AREAS, Reason::Refused),
    permanent(CommandStatus::ESME_RINVBCASTCNTTYPE, Reason::Refused),
    permanent(CommandStatus::ESME_RINVBCASTMSGCLASS, Reason::Refused),
    permanent(CommandStatus::ESME_RBCASTFAIL, Reason::Refused),
    permanent(CommandStatus::ESME_RBCASTQUERYFAIL, Reason::Refused),
    permanent(CommandStatus::ESME_RBCASTCANCELFAIL, Reason::Refused),
    permanent(CommandStatus::ESME_RINVBCAST_REP, Reason::Refused),
    permanent(CommandStatus::ESME_RINVBCASTSRVGRP, Reason::Refused),
    permanent(CommandStatus::ESME_RINVBCASTCHANIND, Reason::Refused),
];

/// A status as people write it: `"ESME_RSYSERR"`, `"RSYSERR"`, `"0x432"`, `"1074"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusName(pub CommandStatus);

impl StatusName {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = match text.get(..2) {
            Some("0x" | "0X") => u32::from_str_radix(text.get(2..)?, 16).ok(),
            _ => text.parse().ok(),
        };
        match number {
            Some(number) => Some(Self(CommandStatus(number))),
            None => CommandStatus::parse(&text.to_ascii_uppercase()).map(Self),
        }
    }
}

impl fmt::Display for StatusName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for StatusName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StatusName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(StatusNameVisitor)
    }
}

struct StatusNameVisitor;

impl Visitor<'_> for StatusNameVisitor {
    type Value = StatusName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command_status such as \"ESME_RSYSERR\" or \"0x432\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<StatusName, E> {
        let unexpected = serde::de::Unexpected::Str(text);
        StatusName::parse(text).ok_or_else(|| E::invalid_value(unexpected, &self))
    }
}

impl JsonSchema for StatusName {
    fn schema_name() -> Cow<'static, str> {
        "StatusName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A command_status by its SMPP name or its number, such as ESME_RSYSERR or 0x432.",
            "pattern": "^([A-Za-z_0-9]+|0[xX][0-9A-Fa-f]{1,8})$"
        })
    }
}

/// What one carrier means by one status: a class, or a table with more to say.
///
/// ```toml
/// [carriers.docomo.status]
/// ESME_RINVDSTADR = "fallback"
/// "0x432" = { class = "permanent", reason = "content_refused" }
/// ESME_RSYSERR = { class = "retry", retries = 2, delay = "30s" }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StatusConfig {
    /// What is to be done.
    pub class: StatusClass,
    /// How often the same carrier is worth another try.
    pub retries: Option<u16>,
    /// The shortest wait before that.
    pub delay: Option<Span>,
    /// What to tell the owner should the message end here.
    pub reason: Option<Reason>,
}

impl StatusConfig {
    /// What the override makes of a status that `builtin` already judged.
    pub(super) fn apply(&self, builtin: Verdict) -> Verdict {
        let same_class = builtin.class == self.class;
        Verdict {
            status: builtin.status,
            class: self.class,
            reason: self.reason.unwrap_or(match self.class {
                StatusClass::Throttle => Reason::Throttled,
                _ => builtin.reason,
            }),
            retries: self.retries.or_else(|| default_retries(self.class, same_class, builtin)),
            delay: self.delay.map(|span| span.0).or(builtin.delay),
            is_known: true,
        }
    }
}

fn default_retries(class: StatusClass, same_class: bool, builtin: Verdict) -> Option<u16> {
    match class {
        _ if same_class => builtin.retries,
        StatusClass::Retry | StatusClass::Throttle | StatusClass::Accepted => None,
        StatusClass::SessionFatal => Some(1),
        _ => Some(0),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StatusTable {
    class: StatusClass,
    retries: Option<u16>,
    delay: Option<Span>,
    reason: Option<Reason>,
}

impl From<StatusTable> for StatusConfig {
    fn from(table: StatusTable) -> Self {
        let StatusTable { class, retries, delay, reason } = table;
        Self { class, retries, delay, reason }
    }
}

impl<'de> Deserialize<'de> for StatusConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusConfigVisitor)
    }
}

struct StatusConfigVisitor;

impl<'de> Visitor<'de> for StatusConfigVisitor {
    type Value = StatusConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a class such as \"fallback\", or a table with `class`")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<StatusConfig, E> {
        let class = StatusClass::deserialize(StrDeserializer::<E>::new(word))?;
        Ok(StatusConfig { class, retries: None, delay: None, reason: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StatusConfig, A::Error> {
        StatusTable::deserialize(MapAccessDeserializer::new(map)).map(StatusConfig::from)
    }
}

impl JsonSchema for StatusConfig {
    fn schema_name() -> Cow<'static, str> {
        "StatusConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<StatusClass>();
        let table = generator.subschema_for::<StatusTable>();
        json_schema!({ "anyOf": [word, table] })
    }
}
