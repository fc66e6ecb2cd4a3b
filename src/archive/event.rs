//! The event feed's items, and the body in which feed and webhooks show them.

use std::borrow::Cow;
use std::fmt;
use std::iter::repeat;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use compact_str::CompactString;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde::Serializer;

use crate::archive::Inbound;
use crate::archive::Message;
use crate::archive::Origin;
use crate::archive::SegmentState;
use crate::archive::number;
use crate::archive::object::Object;
use crate::message::EventId;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::Reason;
use crate::message::State;
use crate::message::digits;
use crate::pdu::CommandStatus;
use crate::time::Time;

/// One event of the feed. Its place in the feed is its record's position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The position of the record that made it.
    pub position: Position,
    /// When it happened.
    pub at: Time,
    /// The API key that it belongs to; empty when nobody owns it.
    pub key: Arc<str>,
    /// What happened.
    pub kind: EventKind,
    /// To what.
    pub subject: Subject,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// One of our messages, as it was right after the event.
    Message(Box<Snapshot>),
    /// A message that a handset sent.
    Inbound(Box<Inbound>),
}

/// What an event tells.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum EventKind {
    /// A message was accepted.
    #[serde(rename = "message.queued")]
    Queued,
    /// A carrier has taken all of its segments.
    #[serde(rename = "message.submitted")]
    Submitted,
    /// The handset has it.
    #[serde(rename = "message.delivered")]
    Delivered,
    /// The carrier could not deliver it.
    #[serde(rename = "message.undeliverable")]
    Undeliverable,
    /// Its time ran out.
    #[serde(rename = "message.expired")]
    Expired,
    /// No carrier would take it.
    #[serde(rename = "message.rejected")]
    Rejected,
    /// It was withdrawn.
    #[serde(rename = "message.cancelled")]
    Cancelled,
    /// Nobody can say what became of it.
    #[serde(rename = "message.unknown")]
    Unknown,
    /// It goes to another carrier.
    #[serde(rename = "message.fallback")]
    Fallback,
    /// A handset sent a message.
    #[serde(rename = "inbound.received")]
    InboundReceived,
}

/// A message as one event found it; it shows the fields of its [`Origin`] as its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What never changes.
    pub origin: Arc<Origin>,
    /// Its state now.
    pub state: State,
    /// Its state before; none when it was accepted.
    pub previous_state: Option<State>,
    /// Why.
    pub reason: Option<Reason>,
    /// The carrier that has or had it, or gets it next; empty before the first.
    pub carrier: Arc<str>,
    /// The status that the carrier refused it with.
    pub carrier_status: Option<CommandStatus>,
    /// The receipt's error code as it came; empty for none.
    pub carrier_error: CompactString,
    /// The attempt, from 1; 0 before the first.
    pub attempt: u16,
    /// The segments of that attempt.
    pub segments: Vec<SnapshotSegment>,
    /// When a carrier had all of it.
    pub submitted_at: Option<Time>,
    /// When it ended.
    pub done_at: Option<Time>,
    /// When a late receipt corrected how it ended.
    pub corrected_at: Option<Time>,
    /// From where to where, for a fallback.
    pub fallback: Option<FallbackStep>,
}

impl Deref for Snapshot {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        &self.origin
    }
}

/// One segment as an event found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSegment {
    /// Its number, from 1 as people count.
    pub seq: u16,
    /// The carrier's id for it; empty when none is known.
    pub carrier_message_id: CompactString,
    /// Where it stands.
    pub state: SegmentState,
    /// The receipt's error code as it came; empty for none.
    pub error: CompactString,
}

/// From where to where a message fell back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackStep {
    /// The carrier that it left.
    pub from: Box<str>,
    /// The carrier that it goes to.
    pub to: Box<str>,
    /// The rule of the route that said so.
    pub rule: Box<str>,
    /// Whether the carrier that it left may still deliver it.
    pub uncertain: bool,
}

impl Event {
    /// Its id: rising with the position, and the same however often it is sent.
    pub fn id(&self) -> EventId {
        let low = self.message_id().as_u128() & 0xffff_ffff_ffff_ffff;
        EventId::from_u128((u128::from(self.position.0) << 64) | low)
    }

    /// The cursor that resumes the feed behind this event.
    pub const fn cursor(&self) -> Position {
        Position(self.position.0.saturating_add(1))
    }

    /// Where its message wants its own events, if anywhere.
    pub fn callback_url(&self) -> Option<&str> {
        match &self.subject {
            Subject::Message(snapshot) => snapshot.callback_url.as_deref(),
            Subject::Inbound(_) => None,
        }
    }

    /// The message, ours or the handset's.
    pub fn message_id(&self) -> MessageId {
        match &self.subject {
            Subject::Message(snapshot) => snapshot.id,
            Subject::Inbound(inbound) => inbound.id,
        }
    }
}

/// Shows the event as webhooks do: `{"type", "timestamp", "data"}` (Standard Webhooks 1.0.0).
impl Event {
    /// The JSON octets that a webhook carries; the same for the same event at any time.
    pub fn body(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(BODY_ROOM);
        let object = Object::begin(&mut octets);
        self.write_fields(object, None);
        octets
    }

    /// Writes the event as the feed shows it: what a webhook carries, with its id and its cursor.
    /// With a mask, the handset's number goes through it, and what the handset wrote is left out.
    pub fn write(&self, mask: Option<Mask>, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.id("id", self.id());
        object.id("cursor", Cursor(self.cursor()));
        self.write_fields(object, mask);
    }

    fn write_fields(&self, mut object: Object<'_>, mask: Option<Mask>) {
        object.word("type", self.kind.as_str());
        object.time("timestamp", Some(self.at));
        let data = Object::begin(object.name("data"));
        match &self.subject {
            Subject::Message(snapshot) => write_snapshot(snapshot, mask, data),
            Subject::Inbound(inbound) => write_inbound(inbound, mask, data),
        }
        object.end();
    }
}

/// A cursor of the feed as clients carry it.
#[derive(Clone, Copy, Debug)]
pub struct Cursor(pub Position);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = digits(self.0.0.into());
        f.write_str(
            std::str::from_utf8(&digits).ok().and_then(|all| all.get(16..)).unwrap_or_default(),
        )
    }
}

/// Octets that most bodies have room in.
const BODY_ROOM: usize = 1_024;

/// Makes of a number what may be shown of it.
pub type Mask = fn(&str) -> String;

/// A number as people read it, through the mask.
fn number(kept: &str, mask: Option<Mask>) -> Cow<'_, str> {
    let shown = number::shown(kept);
    match mask {
        Some(mask) => mask(&shown).into(),
        None => shown,
    }
}

fn write_snapshot(message: &Snapshot, mask: Option<Mask>, mut object: Object<'_>) {
    object.id("id", message.id);
    object.value("client_ref", &message.client_ref);
    object.value("campaign", &message.campaign);
    object.value("to", &number(&message.to, mask));
    object.word("class", message.class.as_str());
    object.word("state", message.state.as_str());
    object.word_or_null("previous_state", message.previous_state.map(State::as_str));
    object.word_or_null("reason", message.reason.map(Reason::as_str));
    object.value("retryable", &message.reason.map(Reason::is_retryable));
    object.value("carrier", &some(&message.carrier));
    match message.carrier_status {
        Some(status) => {
            let mut shown = Object::begin(object.name("carrier_status"));
            shown.value("name", &status.name());
            shown.value("number", &status.0);
            shown.end();
        }
        None => object.word_or_null("carrier_status", None),
    }
    object.value("carrier_error", &some(&message.carrier_error));
    object.value("route", &message.plan.route);
    object.value("attempt", &message.attempt);
    let out = object.name("segments");
    for (segment, before) in message.segments.iter().zip(std::iter::once(b'[').chain(repeat(b',')))
    {
        out.push(before);
        write_segment(segment, Object::begin(out));
    }
    out.extend_from_slice(if message.segments.is_empty() { b"[]" } else { b"]" });
    object.time("created_at", Some(message.created_at));
    object.time("submitted_at", message.submitted_at);
    object.time("done_at", message.done_at);
    if message.corrected_at.is_some() {
        object.time("corrected_at", message.corrected_at);
    }
    if let Some(fallback) = &message.fallback {
        object.value("fallback", fallback);
    }
    object.end();
}

fn write_segment(segment: &SnapshotSegment, mut object: Object<'_>) {
    object.value("seq", &segment.seq);
    object.value("carrier_message_id", &some(&segment.carrier_message_id));
    object.word("state", segment.state.as_str());
    object.value("error", &some(&segment.error));
    object.end();
}

fn write_inbound(inbound: &Inbound, mask: Option<Mask>, mut object: Object<'_>) {
    object.id("id", inbound.id);
    object.value("from", &number(&inbound.from, mask));
    object.value("to", &inbound.to);
    object.value("carrier", &inbound.carrier);
    let is_shown = mask.is_none();
    if is_shown {
        object.value("text", &inbound.text);
    }
    if inbound.text.is_none() {
        if is_shown {
            object.id("hex", Hex(&inbound.octets));
        }
        object.value("data_coding", &inbound.data_coding);
    }
    if is_shown && !inbound.udh.is_empty() {
        object.id("udh", Hex(&inbound.udh));
    }
    object.value("complete", &inbound.complete);
    object.time("received_at", Some(inbound.at));
    object.end();
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// A time as RFC 3339 writes it, in UTC to the millisecond.
#[derive(Clone, Copy, Debug)]
pub struct Stamp(pub Time);

impl Stamp {
    /// Writes it as a JSON text.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.push(b'"');
        match written(self.0.as_millis()) {
            Some(octets) => out.extend_from_slice(&octets),
            None => out.extend(self.to_string().into_bytes()),
        }
        out.push(b'"');
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match written(self.0.as_millis()) {
            Some(octets) => f.write_str(std::str::from_utf8(&octets).unwrap_or_default()),
            None => write!(f, "{:.3}", jiff::Timestamp::MAX),
        }
    }
}

/// Milliseconds since 1970 as `2026-11-22T04:05:06.789Z`; none from the year 10000 on.
///
/// Each message shows half a dozen of them. The calendar is that of RFC 3339, counted in years that
/// begin in March, so that the leap day is the last one.
fn written(millis: u64) -> Option<[u8; 24]> {
    const DAY: u64 = 86_400_000;
    const FOUR_CENTURIES: u64 = 146_097;
    /// From 1 March of the year 0 to 1970.
    const BEFORE_1970: u64 = 719_468;
    let (days, time) = (millis / DAY + BEFORE_1970, millis % DAY);
    let (cycle, day) = (days / FOUR_CENTURIES, days % FOUR_CENTURIES);
    let years = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * years + years / 4 - years / 100);
    let from_march = (5 * day + 2) / 153;
    let day = day - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = cycle * 400 + years + u64::from(month <= 2);
    if year > 9_999 {
        return None;
    }
    let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
    let (second, milli) = (time / 1_000 % 60, time % 1_000);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (at, width, number) in [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, hour),
        (14, 2, minute),
        (17, 2, second),
        (20, 3, milli),
    ] {
        put(text.get_mut(at..at + width).unwrap_or_default(), number);
    }
    Some(text)
}

/// Writes the last digits of a number.
fn put(places: &mut [u8], mut number: u64) {
    for place in places.iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match written(self.0.as_millis()) {
            Some(octets) => serializer.serialize_str(std::str::from_utf8(&octets).unwrap_or("")),
            None => serializer.collect_str(self),
        }
    }
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Submitted,
        Self::Delivered,
        Self::Undeliverable,
        Self::Expired,
        Self::Rejected,
        Self::Cancelled,
        Self::Unknown,
        Self::Fallback,
        Self::InboundReceived,
    ];

    /// The word for it in the feed, in webhooks and in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "message.queued",
            Self::Submitted => "message.submitted",
            Self::Delivered => "message.delivered",
            Self::Undeliverable => "message.undeliverable",
            Self::Expired => "message.expired",
            Self::Rejected => "message.rejected",
            Self::Cancelled => "message.cancelled",
            Self::Unknown => "message.unknown",
            Self::Fallback => "message.fallback",
            Self::InboundReceived => "inbound.received",
        }
    }

    /// The kind that tells of a terminal state; none for a state that is not.
    pub const fn of_end(state: State) -> Option<Self> {
        match state {
            State::Delivered => Some(Self::Delivered),
            State::Undeliverable => Some(Self::Undeliverable),
            State::Expired => Some(Self::Expired),
            State::Rejected => Some(Self::Rejected),
            State::Cancelled => Some(Self::Cancelled),
            State::Unknown => Some(Self::Unknown),
            State::Scheduled | State::Queued | State::Submitting | State::Submitted => None,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a kind of event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an event type such as \"message.delivered\", found {found:?}")]
pub struct ParseKindError {
    found: String,
}

impl FromStr for EventKind {
    type Err = ParseKindError;

    fn from_str(text: &str) -> Result<Self, ParseKindError> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| ParseKindError { found: text.to_owned() })
    }
}

impl Snapshot {
    /// `message` as it is now, which was in `previous_state` before.
    pub fn of(
        message: &Message,
        previous_state: Option<State>,
        fallback: Option<FallbackStep>,
    ) -> Self {
        Self {
            origin: Arc::clone(&message.origin),
            state: message.state,
            previous_state,
            reason: message.reason,
            carrier: Arc::clone(&message.carrier),
            carrier_status: message.carrier_status,
            carrier_error: message.carrier_error.clone(),
            attempt: message.attempt,
            segments: message
                .present_segments()
                .map(|segment| SnapshotSegment {
                    seq: u16::from(segment.segment) + 1,
                    carrier_message_id: segment.carrier_message_id.clone(),
                    state: segment.state,
                    error: segment.error.clone(),
                })
                .collect(),
            submitted_at: message.submitted_at,
            done_at: message.done_at,
            corrected_at: message.corrected_at,
            fallback,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_time_is_written_as_the_calendar_has_it(millis in 0..253_402_000_000_000_u64) {
            let at = jiff::Timestamp::from_millisecond(i64::try_from(millis).unwrap());
            let expected = format!("{:.3}", at.unwrap());
            prop_assert_eq!(Stamp(Time::from_millis(millis)).to_string(), expected);
        }
    }

    #[test]
    fn leap_days_and_the_ends_of_time_are_written() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Stamp(Time::from_millis(millis)).to_string(), text);
        }
        let last = format!("{:.3}", jiff::Timestamp::MAX);
        assert_eq!(Stamp(Time::MAX).to_string(), last);
    }
}
