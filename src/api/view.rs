//! Messages as the API shows them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use utoipa::ToSchema;

use crate::api::schema;
use crate::archive;
use crate::archive::Entry;
use crate::archive::Message;
use crate::archive::Stamp;
use crate::archive::Step;
use crate::message::Class;
use crate::message::Decision;
use crate::message::Finish;
use crate::message::Reason;
use crate::message::State;
use crate::message::UnansweredCause;
use crate::notify::MessageTry;
use crate::pdu::CommandStatus;

/// A message with its state, segments, attempts and receipts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct MessageView {
    /// Its id.
    #[schema(pattern = "^msg_[0-9a-f]{32}$")]
    id: String,
    /// Where it stands.
    #[schema(schema_with = schema::state)]
    state: State,
    /// Why it stands there.
    #[schema(schema_with = schema::reason)]
    reason: Option<Reason>,
    /// Whether sending the same message again later may succeed, where a reason tells.
    retryable: Option<bool>,
    /// The destination; its middle is masked without the scope `messages:read_content`.
    #[schema(example = "+8190****5678")]
    to: String,
    /// The sender asked for.
    #[schema(value_type = Option<String>)]
    from: Option<Box<str>>,
    /// What it is for.
    #[schema(schema_with = schema::class)]
    class: Class,
    /// The caller's own reference.
    #[schema(value_type = Option<String>)]
    client_ref: Option<Box<str>>,
    /// The campaign.
    #[schema(value_type = Option<String>)]
    campaign: Option<Box<str>>,
    /// The caller's words.
    #[schema(value_type = Vec<String>)]
    tags: Vec<Box<str>>,
    /// The text, where the archive keeps texts and the key has `messages:read_content`.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Box<str>>,
    /// The route.
    #[schema(value_type = String)]
    route: Box<str>,
    /// The coding for the first carrier.
    #[schema(value_type = String)]
    encoding: Box<str>,
    /// Septets, octets or UTF-16 units in all.
    units: u32,
    /// How many segments the first carrier was to be sent.
    segment_count: u8,
    /// The segments that went to carriers, of all attempts.
    segments: Vec<SegmentView>,
    /// The attempts: one for each carrier that it went to.
    attempts: Vec<AttemptView>,
    /// The receipts, in the order in which they came.
    receipts: Vec<ReceiptView>,
    /// The attempt in hand; 0 before the first.
    attempt: u16,
    /// The carrier that has or had it, or gets it next.
    #[schema(value_type = Option<String>)]
    carrier: Option<Box<str>>,
    /// The last refusal of a carrier.
    carrier_status: Option<StatusView>,
    /// The receipt's error code as it came.
    #[schema(value_type = Option<String>)]
    carrier_error: Option<Box<str>>,
    /// When it was accepted.
    #[schema(value_type = String, format = "date-time")]
    created_at: Stamp,
    /// Not to be sent earlier.
    #[schema(value_type = Option<String>, format = "date-time")]
    send_at: Option<Stamp>,
    /// Never sent after that.
    #[schema(value_type = String, format = "date-time")]
    expires_at: Stamp,
    /// When a carrier had all of it.
    #[schema(value_type = Option<String>, format = "date-time")]
    submitted_at: Option<Stamp>,
    /// When it reached its terminal state.
    #[schema(value_type = Option<String>, format = "date-time")]
    done_at: Option<Stamp>,
    /// When a late receipt corrected that state.
    #[schema(value_type = Option<String>, format = "date-time")]
    corrected_at: Option<Stamp>,
}

/// One segment of one attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SegmentView {
    /// The attempt, from 1.
    attempt: u16,
    /// Its number, from 1.
    seq: u16,
    /// The carrier that it was sent to.
    #[schema(value_type = String)]
    carrier: Box<str>,
    /// The carrier's id for it.
    #[schema(value_type = Option<String>)]
    carrier_message_id: Option<Box<str>>,
    /// `waiting`, `sending`, `submitted`, `refused`, `unknown`, `delivered` or `failed`.
    #[schema(value_type = String)]
    state: &'static str,
    /// What the carrier answered.
    carrier_status: Option<StatusView>,
    /// The receipt's error code as it came.
    #[schema(value_type = Option<String>)]
    error: Option<Box<str>>,
}

/// One attempt: the message on its way to one carrier.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AttemptView {
    /// Its number, from 1.
    attempt: u16,
    /// The carrier.
    #[schema(value_type = String)]
    carrier: Box<str>,
    /// When its first segment was sent.
    #[schema(value_type = String, format = "date-time")]
    started_at: Stamp,
    /// How many segments it has.
    segments: u8,
}

/// One receipt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ReceiptView {
    /// When it came.
    #[schema(value_type = String, format = "date-time")]
    at: Stamp,
    /// The attempt that it is about.
    attempt: u16,
    /// The segment that it is about, from 1.
    seq: u16,
    /// The state that it tells, in SMPP's word.
    #[schema(value_type = String, example = "DELIVERED")]
    state: Box<str>,
    /// Whether the state is final.
    is_final: bool,
    /// The error code as it came.
    #[schema(value_type = Option<String>)]
    error: Option<Box<str>>,
}

/// A `command_status`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StatusView {
    /// Its name in SMPP.
    #[schema(example = "ESME_RTHROTTLED")]
    name: String,
    /// Its number.
    number: u32,
}

impl From<CommandStatus> for StatusView {
    fn from(status: CommandStatus) -> Self {
        Self { name: status.to_string(), number: status.0 }
    }
}

/// A text, or nothing for an empty one.
fn some(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// A number from the archive; its middle is masked unless `full`.
pub(crate) fn number(kept: &str, full: bool) -> String {
    let shown = archive::shown(kept);
    if full { shown.into_owned() } else { masked(&shown) }
}

/// A number with its middle masked; a digest, as the archive may keep one, tells nothing as it is.
pub(crate) fn masked(shown: &str) -> String {
    if shown.starts_with("hmac:") { shown.to_owned() } else { archive::masked(shown) }
}

impl MessageView {
    /// The message; with its text and full number when `full`.
    pub(crate) fn of(message: Message, full: bool) -> Self {
        let segments = message.segments.iter().map(SegmentView::of).collect();
        let attempts = attempts(&message.timeline);
        let receipts = message.timeline.iter().filter_map(ReceiptView::of).collect();
        Self {
            id: message.id.to_string(),
            state: message.state,
            reason: message.reason,
            retryable: message.is_retryable(),
            to: number(&message.to, full),
            from: message.from.clone(),
            class: message.class,
            client_ref: message.client_ref.clone(),
            campaign: message.campaign.clone(),
            tags: message.tags.clone(),
            text: message.text.clone().filter(|_| full),
            route: message.plan.route.clone(),
            encoding: message.plan.encoding.clone(),
            units: message.plan.units,
            segment_count: message.plan.segments,
            segments,
            attempts,
            receipts,
            attempt: message.attempt,
            carrier: some(&message.carrier),
            carrier_status: message.carrier_status.map(StatusView::from),
            carrier_error: some(&message.carrier_error),
            created_at: Stamp(message.created_at),
            send_at: message.send_at.map(Stamp),
            expires_at: Stamp(message.expires_at),
            submitted_at: message.submitted_at.map(Stamp),
            done_at: message.done_at.map(Stamp),
            corrected_at: message.corrected_at.map(Stamp),
        }
    }
}

impl SegmentView {
    fn of(segment: &archive::Segment) -> Self {
        Self {
            attempt: segment.attempt,
            seq: u16::from(segment.segment) + 1,
            carrier: (*segment.carrier).into(),
            carrier_message_id: some(&segment.carrier_message_id),
            state: segment.state.as_str(),
            carrier_status: segment.status.map(StatusView::from),
            error: some(&segment.error),
        }
    }
}

impl ReceiptView {
    fn of(entry: &Entry) -> Option<Self> {
        let Step::Receipt { attempt, segment, receipt } = &entry.step else { return None };
        Some(Self {
            at: Stamp(entry.at),
            attempt: *attempt,
            seq: u16::from(*segment) + 1,
            state: receipt.state.clone(),
            is_final: receipt.is_final,
            error: some(&receipt.error),
        })
    }
}

fn attempts(timeline: &[Entry]) -> Vec<AttemptView> {
    let mut attempts = BTreeMap::new();
    for entry in timeline {
        if let Step::Sending { attempt, carrier, total, .. } = &entry.step {
            attempts.entry(*attempt).or_insert_with(|| AttemptView {
                attempt: *attempt,
                carrier: (**carrier).into(),
                started_at: Stamp(entry.at),
                segments: *total,
            });
        }
    }
    attempts.into_values().collect()
}

/// All that happened to a message, in order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Timeline {
    /// The message.
    #[schema(pattern = "^msg_[0-9a-f]{32}$")]
    id: String,
    /// What happened.
    #[schema(value_type = Vec<TimelineEntry>)]
    entries: Vec<Value>,
    /// How many entries in the middle of a very long timeline are left out.
    omitted: u32,
}

/// One thing that happened. Besides `at` and `type`, the fields depend on the type.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes what `Timeline` holds")]
pub(crate) struct TimelineEntry {
    /// When.
    #[schema(format = "date-time")]
    at: String,
    /// `accepted`, `sending`, `answered`, `unanswered`, `receipt`, `requeued`, `finished`,
    /// `corrected`, `resumed` or `webhook`.
    #[schema(example = "answered")]
    r#type: String,
}

impl Timeline {
    pub(crate) fn of(message: &Message, tries: &[MessageTry], full: bool) -> Self {
        let steps = message.timeline.iter().map(|entry| {
            let (kind, fields) = step(&entry.step, message, full);
            (entry.at, kind, fields)
        });
        let tries = tries.iter().map(|attempt| (attempt.result.at, "webhook", webhook(attempt)));
        let mut entries: Vec<_> = steps.chain(tries).collect();
        entries.sort_by_key(|(at, ..)| *at);
        let entry = |(at, kind, mut fields): (_, &str, Value)| {
            if let Value::Object(fields) = &mut fields {
                fields.insert("at".into(), Stamp(at).to_string().into());
                fields.insert("type".into(), kind.into());
            }
            fields
        };
        Self {
            id: message.id.to_string(),
            entries: entries.into_iter().map(entry).collect(),
            omitted: message.omitted,
        }
    }
}

fn status(status: CommandStatus) -> Value {
    json!({ "name": status.to_string(), "number": status.0 })
}

fn numbers(segments: &crate::message::SegmentSet) -> Vec<u16> {
    segments.iter().map(|segment| u16::from(segment) + 1).collect()
}

fn step(step: &Step, message: &Message, full: bool) -> (&'static str, Value) {
    match step {
        Step::Accepted { state } => {
            let plan = &message.plan;
            let fields = json!({
                "state": state, "route": plan.route, "encoding": plan.encoding,
                "segments": plan.segments, "units": plan.units,
            });
            ("accepted", fields)
        }
        Step::Sending { attempt, carrier, bind, reference, total, segments, waited } => {
            let fields = json!({
                "attempt": attempt, "carrier": carrier, "bind": bind, "reference": reference,
                "total": total, "segments": numbers(segments),
                "waited_ms": {
                    "bind": waited.bind_ms, "rate": waited.rate_ms, "window": waited.window_ms,
                },
            });
            ("sending", fields)
        }
        Step::Answered { attempt, segment, answer } => {
            let fields = json!({
                "attempt": attempt, "seq": u16::from(*segment) + 1, "bind": answer.bind,
                "sequence_number": answer.sequence_number, "status": status(answer.status),
                "carrier_message_id": some(&answer.carrier_message_id),
            });
            ("answered", fields)
        }
        Step::Unanswered { attempt, segments, cause } => {
            let cause = match cause {
                UnansweredCause::Timeout => "timeout",
                UnansweredCause::LinkLost => "link_lost",
                UnansweredCause::Restart => "restart",
                UnansweredCause::Unsent => "unsent",
            };
            let fields =
                json!({ "attempt": attempt, "segments": numbers(segments), "cause": cause });
            ("unanswered", fields)
        }
        Step::Receipt { attempt, segment, receipt } => {
            let fields = json!({
                "attempt": attempt, "seq": u16::from(*segment) + 1,
                "carrier_message_id": receipt.carrier_message_id,
                "text_id": some(&receipt.text_id), "number": number(&receipt.source, full),
                "state": receipt.state, "final": receipt.is_final,
                "error": some(&receipt.error), "raw": receipt.raw,
            });
            ("receipt", fields)
        }
        Step::Requeued { due, decision, reason } => {
            let fields = json!({
                "due": Stamp(*due), "decision": decision_of(decision), "reason": reason,
            });
            ("requeued", fields)
        }
        Step::Finished(finish) => ("finished", finish_of(finish)),
        Step::Corrected(finish) => ("corrected", finish_of(finish)),
        Step::Resumed { state } => ("resumed", json!({ "state": state })),
    }
}

fn decision_of(decision: &Decision) -> Value {
    match decision {
        Decision::Retry { attempt_try } => json!({ "kind": "retry", "try": attempt_try }),
        Decision::Throttled => json!({ "kind": "throttled" }),
        Decision::Fallback { from, to, rule, uncertain } => json!({
            "kind": "fallback", "from": from, "to": to, "rule": rule, "uncertain": uncertain,
        }),
    }
}

fn finish_of(finish: &Finish) -> Value {
    json!({
        "state": finish.state, "reason": finish.reason,
        "retryable": finish.reason.map(Reason::is_retryable),
        "carrier": some(&finish.carrier), "carrier_status": finish.carrier_status.map(status),
        "carrier_error": some(&finish.carrier_error),
    })
}

fn webhook(attempt: &MessageTry) -> Value {
    json!({
        "webhook": attempt.endpoint.map(|id| id.to_string()), "event": attempt.event,
        "event_type": attempt.kind.as_str(), "status": attempt.result.status,
        "error": attempt.result.error,
        "took_ms": u64::try_from(attempt.result.took.as_millis()).unwrap_or(u64::MAX),
    })
}
