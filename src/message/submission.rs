//! What a client asked for, parsed: the part of a message that never changes.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::message::Class;
use crate::message::MessageId;
use crate::text::EncodingChoice;
use crate::time::Time;

/// One message as its owner handed it in, checked and normalised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Its id, made by the door.
    pub id: MessageId,
    /// When the door took it.
    pub accepted_at: Time,
    /// The name of the API key that it came with.
    pub key: Box<str>,
    /// The destination: E.164 digits without `+`.
    pub to: Box<str>,
    /// The sender as asked for: digits, or an alphanumeric name.
    pub from: Option<Box<str>>,
    /// What to send.
    pub content: Content,
    /// What it is for.
    pub class: Class,
    /// The owner's own reference, at most 100 characters.
    pub client_ref: Option<Box<str>>,
    /// The campaign that it belongs to, at most 100 characters.
    pub campaign: Option<Box<str>>,
    /// Words for routing and search, at most 10 of at most 50 characters.
    pub tags: Vec<Box<str>>,
    /// Not to be sent earlier.
    pub send_at: Option<Time>,
    /// Never to be sent later.
    pub expires_at: Time,
    /// The coding asked for.
    pub encoding: EncodingChoice,
    /// The most segments that the owner will pay for.
    pub max_segments: u8,
    /// Which receipts the owner wants.
    pub receipts: ReceiptsWanted,
    /// Where events of this message go besides the key's own webhooks.
    pub callback_url: Option<Box<str>>,
    /// The owner's idempotency key and what it was used for.
    pub idempotency: Option<Idempotency>,
    /// What the door found out for the first carrier.
    pub plan: PlanSummary,
}

/// What a message carries.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Characters, to be coded as the carrier can.
    Text(Box<str>),
    /// Octets, sent as they are with data_coding 0x04.
    Binary {
        /// The user data without its header.
        octets: Box<[u8]>,
        /// The user data header, length octet included; empty for none (3GPP 23.040 §9.2.3.24).
        udh: Box<[u8]>,
    },
}

/// Shows the size only: message text is in no log (promise 9).
impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} octets)", text.len()),
            Self::Binary { octets, udh } => {
                write!(f, "Binary({} octets, header {})", octets.len(), udh.len())
            }
        }
    }
}

/// Which receipts the owner wants to hear of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptsWanted {
    /// The final one of each segment.
    #[default]
    Final,
    /// Intermediate ones too, where the carrier sends them.
    All,
    /// None: the message ends when the carrier has taken it.
    None,
}

/// An `Idempotency-Key`, reduced to digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Idempotency {
    /// The first half of SHA-256 over the API key's name and the header's value.
    pub key: [u8; 16],
    /// The first half of SHA-256 over method, path and canonical body.
    pub fingerprint: [u8; 16],
}

/// What `text` and `route` said of a message at the door, for its first carrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// The route that matched.
    pub route: Box<str>,
    /// `gsm7`, `latin1`, `ascii`, `ucs2` or `binary`.
    pub encoding: Box<str>,
    /// How many segments the first carrier would be sent.
    pub segments: u8,
    /// Septets, octets or UTF-16 units in all.
    pub units: u32,
}
