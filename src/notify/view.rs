//! Endpoints and deliveries as clients see them.

use std::fmt;
use std::str::FromStr;

use crate::message::EventId;
use crate::message::MessageId;
use crate::notify::config::Kind;
use crate::notify::send::Try;
use crate::notify::store::StoreError;
use crate::time::Time;

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

/// What a client asks of an endpoint; in a change, what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// Where events are sent.
    pub url: Option<String>,
    /// The kinds of events that it gets; empty for all of the feed.
    pub kinds: Option<Vec<Kind>>,
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
    /// Where events are sent; [`CALLBACKS`] for the one that stands for the `callback_url`s of a
    /// client's messages.
    pub url: String,
    /// The kinds of events that it gets; empty for all of the feed.
    pub kinds: Vec<Kind>,
    /// What it is for.
    pub description: String,
    /// Whether events are sent.
    pub enabled: bool,
    /// Why it was disabled, when it was not its owner who did it.
    pub disabled_reason: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// Events that it has not taken yet, counted up to a thousand beyond those read ahead.
    pub backlog: u64,
    /// Events that were given up.
    pub dead: u64,
    /// Until when it is left alone since it fails.
    pub paused_until: Option<Time>,
}

/// The URL that is shown for the callbacks of a client's messages.
pub const CALLBACKS: &str = "urn:hikyaku:callbacks";

/// One event on its way to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event.
    pub event: EventId,
    /// Its kind.
    pub kind: Kind,
    /// The message that it is about; none for an event about a carrier.
    pub message: Option<MessageId>,
    /// Where it stands.
    pub state: DeliveryState,
    /// Its tries of the last days, in order.
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

/// One try to deliver an event of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTry {
    /// The endpoint; none for the message's own `callback_url`.
    pub endpoint: Option<WebhookId>,
    /// The event.
    pub event: EventId,
    /// Its kind.
    pub kind: Kind,
    /// What came of it.
    pub result: Try,
}

/// Why nothing was done with a webhook.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
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
    #[error("{0}")]
    Url(String),
    /// It is written down in the config and changed there.
    #[error("this endpoint is written down in the gateway's config and is changed there")]
    InConfig,
    /// It stands for the callbacks of messages and has neither an address nor kinds.
    #[error("this endpoint stands for the callback_url of messages: it has no address of its own")]
    IsCallbacks,
    /// The event was not given up, so it needs no help.
    #[error("the delivery was not given up")]
    NotDead,
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
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
