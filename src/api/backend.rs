//! What the API needs from the rest of the gateway, besides the dispatcher and the archive.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use crate::api::problem::Code;
use crate::message::EventId;
use crate::message::MessageId;
use crate::time::Time;

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Health and counters.
pub trait Surroundings: Send + Sync + 'static {
    /// Why no messages can be taken now; empty when they can.
    fn unready(&self) -> Vec<Unready>;

    /// The metrics as OpenMetrics text.
    fn metrics(&self) -> String;

    /// Counts an answered request; `endpoint` is a path of the API, `-` for none.
    fn answered(&self, endpoint: &'static str, status: u16, took: Duration);

    /// Counts an accepted message.
    fn accepted(&self, encoding: &str, segments: u8);

    /// Counts a request that was answered from an earlier one.
    fn replayed(&self);
}

/// One reason why no messages can be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// [`Code::StoreUnavailable`], [`Code::QueueFull`] or [`Code::Draining`].
    pub code: Code,
    /// The reason in words, for `/readyz`.
    pub detail: String,
}

/// The webhook endpoints and their deliveries.
///
/// `owner` is the client's name: it sees its own endpoints only.
pub trait Webhooks: Send + Sync + 'static {
    /// The client's endpoints, the oldest first.
    fn list<'a>(&'a self, owner: &'a str) -> Later<'a, Result<Vec<Endpoint>, WebhookError>>;

    /// One endpoint.
    fn find<'a>(
        &'a self,
        owner: &'a str,
        id: WebhookId,
    ) -> Later<'a, Result<Endpoint, WebhookError>>;

    /// Makes an endpoint with a new secret, durable before the answer.
    fn create<'a>(
        &'a self,
        owner: &'a str,
        draft: EndpointDraft,
    ) -> Later<'a, Result<(Endpoint, Secret), WebhookError>>;

    /// Changes an endpoint, durable before the answer; enabling it forgets why it was disabled.
    fn update<'a>(
        &'a self,
        owner: &'a str,
        id: WebhookId,
        change: EndpointDraft,
    ) -> Later<'a, Result<Endpoint, WebhookError>>;

    /// Deletes an endpoint with what waits for it.
    fn delete<'a>(&'a self, owner: &'a str, id: WebhookId) -> Later<'a, Result<(), WebhookError>>;

    /// Gives an endpoint a new secret; the old one signs too for a while.
    fn rotate<'a>(
        &'a self,
        owner: &'a str,
        id: WebhookId,
    ) -> Later<'a, Result<Secret, WebhookError>>;

    /// Sends a test event now, once, and tells what came of it.
    fn test<'a>(&'a self, owner: &'a str, id: WebhookId) -> Later<'a, Result<Try, WebhookError>>;

    /// The latest deliveries of an endpoint, the newest first; only those that were given up when
    /// `dead` is set.
    fn deliveries<'a>(
        &'a self,
        owner: &'a str,
        id: WebhookId,
        dead: bool,
        limit: usize,
    ) -> Later<'a, Result<Vec<Delivery>, WebhookError>>;

    /// Tries a delivery again that was given up.
    fn retry<'a>(
        &'a self,
        owner: &'a str,
        id: WebhookId,
        event: EventId,
    ) -> Later<'a, Result<Delivery, WebhookError>>;

    /// The tries to deliver the events of one message, in order, for its timeline.
    fn tries_of<'a>(&'a self, owner: &'a str, message: MessageId) -> Later<'a, Vec<MessageTry>>;
}

/// Names a webhook endpoint: `whk_` and 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookId(pub u128);

impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whk_{:032x}", self.0)
    }
}

impl fmt::Debug for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not the id of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `whk_` and 32 hexadecimal digits")]
pub struct ParseWebhookIdError;

impl FromStr for WebhookId {
    type Err = ParseWebhookIdError;

    fn from_str(text: &str) -> Result<Self, ParseWebhookIdError> {
        let digits = text.strip_prefix("whk_").ok_or(ParseWebhookIdError)?;
        if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseWebhookIdError);
        }
        u128::from_str_radix(digits, 16).map(Self).map_err(|_| ParseWebhookIdError)
    }
}

/// The secret of an endpoint, `whsec_...`: shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a client asks of an endpoint; in a change, what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointDraft {
    /// Where events are sent: an absolute `https://` or `http://` URL.
    pub url: Option<String>,
    /// The types of events that it gets; empty for all.
    pub events: Option<Vec<Box<str>>>,
    /// What it is for.
    pub description: Option<String>,
    /// Whether events are sent.
    pub enabled: Option<bool>,
}

/// A webhook endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: WebhookId,
    /// Where events are sent.
    pub url: String,
    /// The types of events that it gets; empty for all.
    pub events: Vec<Box<str>>,
    /// What it is for.
    pub description: String,
    /// Whether events are sent.
    pub enabled: bool,
    /// Why it was disabled, when it was not the client who did it.
    pub disabled_reason: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// Events that it has not taken yet.
    pub backlog: u64,
    /// Deliveries that were given up.
    pub dead: u64,
    /// Until when it is left alone since it fails.
    pub paused_until: Option<Time>,
}

/// One event on its way to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event.
    pub event: EventId,
    /// Its type, such as `message.delivered`.
    pub kind: Box<str>,
    /// The message that it is about.
    pub message: Option<MessageId>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Its tries so far, in order.
    pub tries: Vec<Try>,
    /// When it is tried next.
    pub next_try_at: Option<Time>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits for its next try.
    Pending,
    /// The endpoint has taken it.
    Delivered,
    /// It was given up.
    Dead,
}

/// One try to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// When.
    pub at: Time,
    /// How long it took.
    pub took: Duration,
    /// The status that the endpoint answered with.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// One try to deliver an event of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTry {
    /// The endpoint; none for the message's own `callback_url`.
    pub endpoint: Option<WebhookId>,
    /// The event.
    pub event: EventId,
    /// Its type.
    pub kind: Box<str>,
    /// What came of it.
    pub result: Try,
}

/// Why nothing was done with a webhook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The client has no such endpoint or delivery.
    #[error("no such endpoint or delivery")]
    NotFound,
    /// The client has as many endpoints as it may have.
    #[error("a client has at most {most} endpoints")]
    TooMany {
        /// How many it may have.
        most: usize,
    },
    /// The address may not be called.
    #[error("{detail}")]
    Url {
        /// Why not.
        detail: String,
    },
    /// What was asked for cannot be done in its present state.
    #[error("{detail}")]
    State {
        /// Why not.
        detail: String,
    },
    /// The store cannot be read or written.
    #[error("the store of webhooks is not available")]
    Store,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_prints_and_nothing_else() {
        let id = WebhookId(0x0123);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "whk_", "msg_00000000000000000000000000000000", "whk_+0"] {
            assert!(wrong.parse::<WebhookId>().is_err(), "{wrong}");
        }
    }
}
