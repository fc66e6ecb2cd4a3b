//! One message at the door: from what a client wrote to a planned submission, and the 202.

use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use crate::api::json::Json;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::accept::Unanswered;
use crate::api::client::Client;
use crate::api::config;
use crate::api::extract::Caller;
use crate::api::idempotency::Fingerprint;
use crate::api::idempotency::IdempotencyKey;
use crate::api::keys::Scope;
use crate::api::keys::unhex;
use crate::api::plan;
use crate::api::problem::Code;
use crate::api::problem::Fault;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::api::request;
use crate::api::request::BinaryRequest;
use crate::api::request::MessageRequest;
use crate::api::schema;
use crate::archive::Message;
use crate::archive::Stamp;
use crate::dispatch::Reply;
use crate::message::Class;
use crate::message::Content;
use crate::message::Idempotency;
use crate::message::MessageId;
use crate::message::PlanSummary;
use crate::message::ReceiptsWanted;
use crate::message::State as MessageState;
use crate::message::Submission;
use crate::notify::Notify;
use crate::route::summary;
use crate::text::EncodingChoice;
use crate::text::address::E164;
use crate::text::address::Sender;
use crate::time::Time;

/// The most characters of a `client_ref` or `campaign`.
pub(crate) const REF_CHARS: usize = 100;
/// The most tags, and the most characters of one.
const TAGS: usize = 10;
const TAG_CHARS: usize = 50;

/// An accepted message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// Its id.
    #[schema(value_type = String, pattern = "^msg_[0-9a-f]{32}$", example = "msg_019a9f2b6c107e3a9c5d0123456789ab")]
    id: MessageId,
    /// `scheduled` or `queued`.
    #[schema(schema_with = schema::state)]
    state: MessageState,
    /// The destination in E.164.
    #[schema(example = "+819012345678")]
    to: String,
    /// The sender asked for; absent when the carrier's own is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Box<str>>,
    /// What it is for.
    #[schema(schema_with = schema::class)]
    class: Class,
    /// `gsm7`, `latin1`, `ascii`, `ucs2` or `binary`, for the first carrier.
    #[schema(value_type = String, example = "ucs2")]
    encoding: Box<str>,
    /// The segments that the first carrier is sent.
    segments: u8,
    /// Septets, octets or UTF-16 units in all.
    units: u32,
    /// The route.
    #[schema(value_type = String, example = "jp-otp")]
    route: Box<str>,
    /// When it was accepted.
    #[schema(value_type = String, format = "date-time")]
    created_at: Stamp,
    /// Not to be sent earlier.
    #[schema(value_type = Option<String>, format = "date-time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    send_at: Option<Stamp>,
    /// Never sent after that.
    #[schema(value_type = String, format = "date-time")]
    expires_at: Stamp,
    /// The caller's own reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    client_ref: Option<Box<str>>,
}

/// A request whose fields are right, before it is planned.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) to: E164,
    pub(crate) from: Option<Sender>,
    pub(crate) content: Content,
    pub(crate) class: Class,
    client_ref: Option<Box<str>>,
    campaign: Option<Box<str>>,
    pub(crate) tags: Vec<Box<str>>,
    send_at: Option<Time>,
    expires_at: Time,
    pub(crate) encoding: EncodingChoice,
    pub(crate) max_segments: NonZeroU8,
    pub(crate) route: Option<Box<str>>,
    receipts: ReceiptsWanted,
    callback_url: Option<Box<str>>,
}

impl Draft {
    /// Reads a request's values; `faults` are those of its types.
    ///
    /// # Errors
    /// Every fault of the request.
    pub(crate) fn read(
        api: &Api,
        request: MessageRequest,
        faults: Vec<Fault>,
        client: &Client,
        now: Time,
    ) -> Result<Self, Refused> {
        let rules = &api.settings.load().messages;
        Reader { request, faults, client, rules, webhooks: &api.webhooks, now }.read()
    }

    pub(crate) fn submission(
        self,
        id: MessageId,
        now: Time,
        client: &Client,
        plan: PlanSummary,
        idempotency: Option<Idempotency>,
    ) -> Box<Submission> {
        Box::new(Submission {
            id,
            accepted_at: now,
            key: client.name.clone(),
            to: (*self.to.digits()).into(),
            from: self.from.map(|from| from.as_str().into()),
            content: self.content,
            class: self.class,
            client_ref: self.client_ref,
            campaign: self.campaign,
            tags: self.tags,
            send_at: self.send_at,
            expires_at: self.expires_at,
            encoding: self.encoding,
            max_segments: self.max_segments.get(),
            receipts: self.receipts,
            callback_url: self.callback_url,
            idempotency,
            plan,
        })
    }
}

/// Reads the values of one request, noting every fault.
struct Reader<'a> {
    request: MessageRequest,
    faults: Vec<Fault>,
    client: &'a Client,
    rules: &'a config::Messages,
    webhooks: &'a Notify,
    now: Time,
}

impl Reader<'_> {
    fn read(mut self) -> Result<Draft, Refused> {
        let to = self.to();
        let from = self.from();
        let content = self.content();
        let class = self.class();
        let client_ref = self.request.client_ref.take();
        let client_ref = self.words("/client_ref", client_ref, REF_CHARS);
        let campaign = self.request.campaign.take();
        let campaign = self.words("/campaign", campaign, REF_CHARS);
        let tags = self.tags();
        let send_at = self.send_at();
        let expires_at = self.expires_at(class, send_at);
        let max_segments = self.max_segments();
        let route = self.request.route.take().filter(|route| route != "auto").map(Into::into);
        let callback_url = self.callback_url();
        match (to, content, expires_at, max_segments) {
            (Some(to), Some(content), Some(expires_at), Some(max_segments))
                if self.faults.is_empty() =>
            {
                let encoding = self.request.encoding.unwrap_or_default();
                let receipts = self.request.receipts.unwrap_or_default();
                Ok(Draft {
                    to,
                    from,
                    content,
                    class,
                    client_ref,
                    campaign,
                    tags,
                    send_at,
                    expires_at,
                    encoding,
                    max_segments,
                    route,
                    receipts,
                    callback_url,
                })
            }
            _ => Err(Problem::of_all(self.faults)),
        }
    }

    fn fault(&mut self, code: Code, pointer: &str, detail: impl Into<String>) {
        self.faults.push(Fault::at(code, pointer, detail));
    }

    /// Whether a field was given but could not be read: then its absence is no fault of its own.
    fn is_noted(&self, pointer: &str) -> bool {
        self.faults.iter().any(|fault| {
            fault.pointer.as_deref().is_some_and(|p| p.is_empty() || p.starts_with(pointer))
        })
    }

    fn to(&mut self) -> Option<E164> {
        let Some(to) = self.request.to.take() else {
            if !self.is_noted("/to") {
                self.fault(Code::InvalidTo, "/to", "a message needs a destination");
            }
            return None;
        };
        match E164::parse(&to, self.rules.region) {
            Ok(to) if self.client.allows_destination(&to.digits()) => Some(to),
            Ok(_) => {
                let detail = "this key may not send to this destination";
                self.fault(Code::DestinationNotAllowed, "/to", detail);
                None
            }
            Err(error) => {
                self.fault(Code::InvalidTo, "/to", error.to_string());
                None
            }
        }
    }

    fn from(&mut self) -> Option<Sender> {
        let given = self.request.from.take();
        let from = given.as_deref().or_else(|| self.client.sender())?;
        match Sender::parse(from) {
            Ok(from) if self.client.allows_sender(from.as_str()) => Some(from),
            Ok(_) => {
                let detail = "this key may not use this sender";
                self.fault(Code::SenderNotAllowed, "/from", detail);
                None
            }
            Err(error) => {
                self.fault(Code::InvalidFrom, "/from", error.to_string());
                None
            }
        }
    }

    fn content(&mut self) -> Option<Content> {
        match (self.request.text.take(), self.request.binary.take()) {
            (Some(text), None) if text.is_empty() => {
                self.fault(Code::InvalidField, "/text", "the text is empty");
                None
            }
            (Some(text), None) => Some(Content::Text(text.into())),
            (None, Some(binary)) => self.binary(binary),
            (Some(_), Some(_)) => {
                self.fault(Code::InvalidField, "/binary", "either `text` or `binary`, not both");
                None
            }
            (None, None) => {
                if !self.is_noted("/text") && !self.is_noted("/binary") {
                    self.fault(Code::InvalidField, "/text", "a message needs `text` or `binary`");
                }
                None
            }
        }
    }

    fn binary(&mut self, binary: BinaryRequest) -> Option<Content> {
        let hex = binary.hex.unwrap_or_default();
        let octets = self.hex("/binary/hex", &hex).filter(|octets| !octets.is_empty());
        if octets.is_none() && !self.is_noted("/binary/hex") {
            self.fault(Code::InvalidField, "/binary/hex", "a message needs at least one octet");
        }
        let udh = self.hex("/binary/udh", &binary.udh.unwrap_or_default())?;
        if let Some((said, rest)) = udh.split_first()
            && usize::from(*said) != rest.len()
        {
            let detail = format!("its first octet says {said} more, {} follow", rest.len());
            self.fault(Code::InvalidField, "/binary/udh", detail);
        }
        Some(Content::Binary { octets: octets?.into(), udh: udh.into() })
    }

    fn hex(&mut self, pointer: &str, digits: &str) -> Option<Vec<u8>> {
        let octets = unhex(digits);
        if octets.is_none() {
            self.fault(Code::InvalidField, pointer, "expected pairs of hexadecimal digits");
        }
        octets
    }

    fn class(&mut self) -> Class {
        let class = self.request.class.unwrap_or_default();
        if !self.client.allows_class(class) {
            let detail = format!("this key may not send {class} messages");
            self.fault(Code::ClassNotAllowed, "/class", detail);
        }
        class
    }

    fn words(&mut self, pointer: &str, words: Option<String>, most: usize) -> Option<Box<str>> {
        let words = words?;
        match words.chars().count() {
            0 => self.fault(Code::InvalidField, pointer, "it is empty"),
            found if found > most => {
                let detail = format!("{found} characters, at most {most} are allowed");
                self.fault(Code::InvalidField, pointer, detail);
            }
            _ if words.chars().any(char::is_control) => {
                self.fault(Code::InvalidField, pointer, "control characters are not allowed");
            }
            _ => return Some(words.into()),
        }
        None
    }

    fn tags(&mut self) -> Vec<Box<str>> {
        let tags = self.request.tags.take().unwrap_or_default();
        if tags.len() > TAGS {
            let detail = format!("{} tags, at most {TAGS} are allowed", tags.len());
            self.fault(Code::InvalidField, "/tags", detail);
            return Vec::new();
        }
        let read = |(i, tag)| self.words(&format!("/tags/{i}"), Some(tag), TAG_CHARS);
        tags.into_iter().enumerate().filter_map(read).collect()
    }

    fn time(&mut self, pointer: &str, text: Option<String>) -> Option<Time> {
        let text = text?;
        let time = text.parse::<jiff::Timestamp>().ok();
        let time = time.and_then(|time| u64::try_from(time.as_microsecond()).ok());
        if time.is_none() {
            let detail = "expected a time such as 2026-11-22T10:00:00+09:00 (RFC 3339)";
            self.fault(Code::InvalidField, pointer, detail);
        }
        time.map(Time::from_micros)
    }

    fn send_at(&mut self) -> Option<Time> {
        let text = self.request.send_at.take();
        let at = self.time("/send_at", text)?;
        if at + *self.rules.schedule_past < self.now {
            let detail = format!("more than {} ago", self.rules.schedule_past);
            self.fault(Code::InvalidField, "/send_at", detail);
        } else if at > self.now + *self.rules.schedule_max {
            let detail = format!("more than {} ahead", self.rules.schedule_max);
            self.fault(Code::InvalidField, "/send_at", detail);
        }
        Some(at).filter(|at| *at > self.now)
    }

    fn expires_at(&mut self, class: Class, send_at: Option<Time>) -> Option<Time> {
        let from = send_at.unwrap_or(self.now);
        let (text, ttl) = (self.request.expires_at.take(), self.request.ttl.take());
        if text.is_some() && ttl.is_some() {
            self.fault(Code::InvalidField, "/expires_at", "either `ttl` or `expires_at`, not both");
            return None;
        }
        if text.is_none() {
            let ttl = ttl.unwrap_or_else(|| self.rules.ttl.of(class));
            let (least, most) = (self.rules.ttl_min, self.rules.ttl_max);
            if !(least..=most).contains(&ttl) {
                let detail = format!("{ttl} is not between {least} and {most}");
                self.fault(Code::InvalidField, "/ttl", detail);
            }
            return Some(from + *ttl);
        }
        let at = self.time("/expires_at", text)?;
        if at <= from {
            let detail = if send_at.is_some() { "not after `send_at`" } else { "in the past" };
            self.fault(Code::ExpiredOnArrival, "/expires_at", detail);
        } else if at.since(from) > *self.rules.ttl_max {
            let detail = format!("more than {} after it may be sent", self.rules.ttl_max);
            self.fault(Code::InvalidField, "/expires_at", detail);
        }
        Some(at)
    }

    fn max_segments(&mut self) -> Option<NonZeroU8> {
        let Some(asked) = self.request.max_segments else { return Some(self.rules.segments) };
        let most = self.rules.segments_max;
        let segments = NonZeroU8::new(asked.0).filter(|asked| *asked <= most);
        if segments.is_none() {
            let detail = format!("{} is not between 1 and {most}", asked.0);
            self.fault(Code::InvalidField, "/max_segments", detail);
        }
        segments
    }

    fn callback_url(&mut self) -> Option<Box<str>> {
        let url = self.request.callback_url.take()?;
        if !self.client.has(Scope::Webhooks) {
            let detail = "this key lacks the scope webhooks, which callback_url needs";
            self.fault(Code::ScopeMissing, "/callback_url", detail);
        } else if let Err(error) = self.webhooks.check(&url) {
            self.fault(Code::InvalidField, "/callback_url", error.to_string());
        }
        Some(url.into())
    }
}

impl Accepted {
    fn of(submission: &Submission) -> Self {
        let waits = submission.send_at.is_some_and(|at| at > submission.accepted_at);
        Self {
            id: submission.id,
            state: if waits { MessageState::Scheduled } else { MessageState::Queued },
            to: format!("+{}", submission.to),
            from: submission.from.clone(),
            class: submission.class,
            encoding: submission.plan.encoding.clone(),
            segments: submission.plan.segments,
            units: submission.plan.units,
            route: submission.plan.route.clone(),
            created_at: Stamp(submission.accepted_at),
            send_at: submission.send_at.map(Stamp),
            expires_at: Stamp(submission.expires_at),
            client_ref: submission.client_ref.clone(),
        }
    }

    /// The answer that was given to the same request before; what is the caller's own is as it
    /// sent it again.
    async fn replayed(self, api: &Api, client: &Client, id: MessageId) -> Self {
        match api.message(id, Some(&client.name)).await {
            Ok(Some(message)) => Self::archived(&message, self.to),
            // Too old for the archive, or that cannot be read now: the id is what matters.
            _ => Self { id, created_at: Stamp(id.created_at()), ..self },
        }
    }

    /// The answer that was given when `message` was accepted; `to` is its destination in E.164.
    fn archived(message: &Message, to: String) -> Self {
        let waits = message.send_at.is_some_and(|at| at > message.created_at);
        Self {
            id: message.id,
            state: if waits { MessageState::Scheduled } else { MessageState::Queued },
            to,
            from: message.from.clone(),
            class: message.class,
            encoding: message.plan.encoding.clone(),
            segments: message.plan.segments,
            units: message.plan.units,
            route: message.plan.route.clone(),
            created_at: Stamp(message.created_at),
            send_at: message.send_at.map(Stamp),
            expires_at: Stamp(message.expires_at),
            client_ref: message.client_ref.clone(),
        }
    }
}

/// A message that has been accepted, now or before.
pub(crate) struct Taken {
    pub(crate) accepted: Accepted,
    pub(crate) is_replay: bool,
}

/// A message that may be handed to the dispatcher, and the answer should it take it.
pub(crate) struct Ready {
    pub(crate) submission: Box<Submission>,
    pub(crate) accepted: Accepted,
}

/// A request that may have been accepted before, when it could still be.
pub(crate) struct Again {
    pub(crate) entry: Idempotency,
    /// The destination as it was given.
    to: String,
}

impl Again {
    /// None for a request without an idempotency key, and for one with `faults` in its types: as it
    /// is written it was never accepted.
    pub(crate) fn of(
        request: &MessageRequest,
        faults: &[Fault],
        idempotency: Option<Idempotency>,
    ) -> Option<Self> {
        let entry = idempotency.filter(|_| faults.is_empty())?;
        Some(Self { entry, to: request.to.clone()? })
    }
}

impl Api {
    /// What becomes of a message that would be refused, now that `reply` tells what the dispatcher
    /// knows of it: the answer of then, if it was accepted.
    pub(crate) async fn recalled(
        &self,
        problem: Refused,
        again: Again,
        client: &Client,
        reply: Result<Reply, Unanswered>,
    ) -> Result<Taken, Refused> {
        let id = match reply {
            Ok(Reply::NotSeen) => return Err(problem),
            Ok(Reply::Replayed { id }) => id,
            reply => return Err(refusal(reply)),
        };
        self.surroundings.replayed();
        let Some(message) = self.message(id, Some(&client.name)).await? else {
            let detail = format!("this was accepted as {id}, which the archive has no more");
            return Err(Problem::new(Code::StoreUnavailable, detail));
        };
        let region = self.settings.load().messages.region;
        let to = E164::parse(&again.to, region);
        let to = to.map_or(again.to, |to| format!("+{}", &*to.digits()));
        Ok(Taken { accepted: Accepted::archived(&message, to), is_replay: true })
    }

    /// Checks and plans one message. It is counted against the client's quota; whoever does not
    /// hand it in after all gives that back.
    pub(crate) fn prepare(
        &self,
        request: MessageRequest,
        faults: Vec<Fault>,
        client: &Client,
        idempotency: Option<Idempotency>,
    ) -> Result<Ready, Refused> {
        let now = self.clock.now();
        let draft = Draft::read(self, request, faults, client, now)?;
        let id = self.next_id(now);
        let plan = {
            let routes = self.routes.load();
            let digits = draft.to.digits();
            let route = plan::route(&routes, &plan::query(&draft, &digits, client), client)?;
            summary(&route.name, &plan::first_fit(&routes, route, &draft, id)?)
        };
        client.quota.take(now).map_err(|standing| {
            Problem::new(Code::QuotaExceeded, "the key's daily quota is used up").standing(standing)
        })?;
        let submission = draft.submission(id, now, client, plan, idempotency);
        let accepted = Accepted::of(&submission);
        Ok(Ready { submission, accepted })
    }

    /// What the dispatcher's reply to an accept means for the client.
    pub(crate) async fn settle(
        &self,
        accepted: Accepted,
        client: &Client,
        reply: Result<Reply, Unanswered>,
    ) -> Result<Taken, Refused> {
        let refused = match reply {
            Ok(Reply::Accepted { id, state }) => {
                self.surroundings.accepted(&accepted.encoding, accepted.segments);
                let accepted = Accepted { id, state, ..accepted };
                return Ok(Taken { accepted, is_replay: false });
            }
            Ok(Reply::Replayed { id }) => {
                client.quota.give_back(self.clock.now());
                self.surroundings.replayed();
                let accepted = accepted.replayed(self, client, id).await;
                return Ok(Taken { accepted, is_replay: true });
            }
            // It may have been accepted: its place in the quota stays taken.
            Err(Unanswered::Late) => return Err(refusal(Err(Unanswered::Late))),
            reply => {
                if matches!(reply, Ok(Reply::QueueFull { .. }) | Err(Unanswered::Full)) {
                    self.surroundings.shed(accepted.class);
                }
                refusal(reply)
            }
        };
        client.quota.give_back(self.clock.now());
        Err(refused)
    }
}

/// Why the dispatcher did not do what a door asked.
pub(crate) fn refusal(reply: Result<Reply, Unanswered>) -> Refused {
    match reply {
        Ok(Reply::IdempotencyKeyReused) => {
            let detail = "this Idempotency-Key was used with another request";
            let code = Code::IdempotencyKeyReused;
            Problem::of(Fault::header(code, "Idempotency-Key", detail))
        }
        Ok(Reply::IdempotencyInProgress) => Problem::new(
            Code::IdempotencyInProgress,
            "the first request with this Idempotency-Key has no answer yet",
        ),
        Ok(Reply::QueueFull { class, retry_after }) => {
            let detail = format!("the gateway is too full for {class} messages");
            Problem::new(Code::QueueFull, detail).retry_after(retry_after)
        }
        // It takes what waits within milliseconds.
        Err(Unanswered::Full) => Problem::new(Code::QueueFull, "too many requests wait already")
            .retry_after(Duration::from_secs(1)),
        Ok(Reply::StoreUnavailable) => {
            Problem::new(Code::StoreUnavailable, "the journal cannot be written")
        }
        Err(Unanswered::Late) => Problem::new(
            Code::NotConfirmed,
            "the message was not confirmed in time and may be accepted all the same: send it again \
             with the same Idempotency-Key",
        ),
        Ok(Reply::Draining) | Err(Unanswered::Stopped) => {
            Problem::new(Code::Draining, "the gateway is stopping")
        }
        Ok(Reply::TooLate { state }) => {
            Problem::new(Code::TooLateToCancel, format!("the message is {state} already"))
        }
        Ok(
            reply @ (Reply::Accepted { .. }
            | Reply::Replayed { .. }
            | Reply::Cancelled { .. }
            | Reply::NotLive
            | Reply::NotSeen),
        ) => {
            tracing::error!(?reply, "a reply that does not answer what was asked");
            Problem::new(Code::InternalError, "the gateway answered something else")
        }
    }
}

/// Hands in one message.
///
/// The answer comes when the message is on disk: from then on it is delivered, or its end is told.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "messages",
    operation_id = "createMessage",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
        pattern = "^[!-~]([ -~]*[!-~])?$",
        description = "The same key with the same body is answered with the first answer again, for 24 hours.")),
    request_body(content = MessageRequest, description = "The message."),
    responses((status = 202, description = "Accepted, and on disk.", body = Accepted, headers(
        ("Location" = String, description = "The message's path."),
        ("Idempotent-Replayed" = String, description = "`true` when this answers an earlier request."),
        ("RateLimit" = String, description = "What is left of the key's rate."),
        ("RateLimit-Policy" = String, description = "The key's rate."),
    ))),
)]
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let key = IdempotencyKey::read(&parts.headers)?;
    let octets = api.bodies.read(&parts.headers, body, api.limits.body_octets).await?;
    let (request, faults) = request::read::<MessageRequest>(&octets.bytes)?;
    drop(octets);
    let client = &caller.client;
    let idempotency = key.map(|key| {
        let fingerprint = Fingerprint::of("POST", "/v1/messages", &request);
        key.digests(&client.name, 0, &fingerprint)
    });
    let again = Again::of(&request, &faults, idempotency);
    let taken = match (api.prepare(request, faults, client, idempotency), again) {
        (Ok(Ready { submission, accepted }), _) => {
            let reply = api.dispatcher.accept(submission).await;
            api.settle(accepted, client, reply).await?
        }
        (Err(problem), None) => return Err(problem),
        (Err(problem), Some(again)) => {
            let reply = api.dispatcher.recall(again.entry).await;
            api.recalled(problem, again, client, reply).await?
        }
    };
    Ok(taken.into_response())
}

impl IntoResponse for Taken {
    fn into_response(self) -> Response {
        let location = format!("/v1/messages/{}", self.accepted.id);
        let mut response = (StatusCode::ACCEPTED, Json(self.accepted)).into_response();
        let headers = response.headers_mut();
        if let Ok(location) = HeaderValue::from_maybe_shared(location) {
            headers.insert(header::LOCATION, location);
        }
        if self.is_replay {
            let name = HeaderName::from_static("idempotent-replayed");
            headers.insert(name, HeaderValue::from_static("true"));
        }
        response
    }
}
