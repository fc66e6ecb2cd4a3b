//! The nouns that outlive a process: ids, submissions, records, states.
//!
//! Whatever must survive a crash is a [`Record`]. Live state is what the records say, and nothing
//! else: the dispatcher applies the same records when they are made and when they are replayed.

mod id;
mod record;
mod submission;

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

pub use self::id::EventId;
pub use self::id::IdSource;
pub use self::id::MessageId;
pub use self::id::ParseIdError;
pub(crate) use self::id::digits;
pub use self::record::Answer;
pub use self::record::Carried;
pub use self::record::CarriedSegment;
pub use self::record::Decision;
pub use self::record::Finish;
pub use self::record::InboundRecord;
pub use self::record::ReceiptRecord;
pub use self::record::Record;
pub use self::record::RecordError;
pub use self::record::SegmentSet;
pub use self::record::UnansweredCause;
pub use self::record::Waited;
pub use self::record::append;
pub use self::submission::Content;
pub use self::submission::Idempotency;
pub use self::submission::PlanSummary;
pub use self::submission::ReceiptsWanted;
pub use self::submission::Submission;
pub use crate::text::EncodingChoice;

/// A place in the journal: the logical octet at which a record's frame begins.
///
/// Positions rise strictly for as long as the journal exists, through restarts and trimming, so a
/// record's position is also the cursor of the event that it makes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position(pub u64);

/// What a message is for; it decides the share of a carrier's rate and the policy for unknown
/// outcomes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Login codes: first out, and worth a second copy rather than none.
    Otp,
    /// Messages that somebody waits for.
    #[default]
    Transactional,
    /// Messages that nobody waits for.
    Marketing,
}

impl Class {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Otp, Self::Transactional, Self::Marketing];

    /// The word for it in the API, the config and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Otp => "otp",
            Self::Transactional => "transactional",
            Self::Marketing => "marketing",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a message stands.
///
/// ```text
/// Scheduled -> Queued -> Submitting -> Submitted -> Delivered | Undeliverable | Expired
///                ^                         |          | Rejected | Cancelled | Unknown
///                +------- fallback --------+
/// ```
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Accepted, and not to be sent before its `send_at`.
    Scheduled,
    /// Waits for a carrier.
    Queued,
    /// Some of its segments are on their way to a carrier.
    Submitting,
    /// A carrier has taken all of its segments.
    Submitted,
    /// The handset has it.
    Delivered,
    /// The carrier could not deliver it.
    Undeliverable,
    /// Its time to live, or the carrier's, ran out.
    Expired,
    /// No carrier would take it.
    Rejected,
    /// Withdrawn before it was sent.
    Cancelled,
    /// Nobody can say: no answer or no receipt came in time.
    Unknown,
}

impl State {
    /// Every state, in the order of a message's life.
    pub const ALL: [Self; 10] = [
        Self::Scheduled,
        Self::Queued,
        Self::Submitting,
        Self::Submitted,
        Self::Delivered,
        Self::Undeliverable,
        Self::Expired,
        Self::Rejected,
        Self::Cancelled,
        Self::Unknown,
    ];

    /// Whether nothing more happens to a message in this state.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Delivered
                | Self::Undeliverable
                | Self::Expired
                | Self::Rejected
                | Self::Cancelled
                | Self::Unknown
        )
    }

    /// The word for it in the API and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Submitting => "submitting",
            Self::Submitted => "submitted",
            Self::Delivered => "delivered",
            Self::Undeliverable => "undeliverable",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a message is in its state: a stable code for programs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The handset was off or out of reach.
    AbsentSubscriber,
    /// The carrier could not deliver it and gave no closer reason.
    Undeliverable,
    /// The carrier's own validity period ran out.
    CarrierExpired,
    /// The carrier deleted it.
    Deleted,
    /// The carrier rejected it after taking it.
    CarrierRejected,
    /// The carrier skipped it.
    Skipped,
    /// The carrier refused the destination.
    InvalidDestination,
    /// The carrier refused the sender.
    InvalidSender,
    /// The carrier refused the content.
    ContentRefused,
    /// The carrier refused the message for another reason.
    Refused,
    /// The carrier asked to slow down, again and again.
    Throttled,
    /// No bind to the carrier was up.
    CarrierDown,
    /// No `submit_sm_resp` came.
    NoAnswer,
    /// No final receipt came within the receipt timeout.
    NoReceipt,
    /// A receipt said that the carrier does not know either.
    CarrierUnknown,
    /// No delivery was reported within the route's time for it.
    NoDelivery,
    /// No route or no further carrier would take it.
    NoRoute,
    /// The text does not fit what the carrier can carry.
    TextTooLong,
    /// The carrier cannot carry a character of the text.
    UnencodableText,
    /// Its time to live ran out.
    Ttl,
    /// Its owner withdrew it.
    Cancelled,
    /// An operator withdrew it.
    CancelledByOperator,
    /// The carrier took it, and no receipt was asked for.
    NoReceiptWanted,
}

impl Reason {
    /// The code as programs read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AbsentSubscriber => "absent_subscriber",
            Self::Undeliverable => "undeliverable",
            Self::CarrierExpired => "carrier_expired",
            Self::Deleted => "deleted",
            Self::CarrierRejected => "carrier_rejected",
            Self::Skipped => "skipped",
            Self::InvalidDestination => "invalid_destination",
            Self::InvalidSender => "invalid_sender",
            Self::ContentRefused => "content_refused",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::CarrierDown => "carrier_down",
            Self::NoAnswer => "no_answer",
            Self::NoReceipt => "no_receipt",
            Self::CarrierUnknown => "carrier_unknown",
            Self::NoDelivery => "no_delivery",
            Self::NoRoute => "no_route",
            Self::TextTooLong => "text_too_long",
            Self::UnencodableText => "unencodable_text",
            Self::Ttl => "ttl",
            Self::Cancelled => "cancelled",
            Self::CancelledByOperator => "cancelled_by_operator",
            Self::NoReceiptWanted => "no_receipt_wanted",
        }
    }

    /// Whether sending the same message again later may succeed.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::AbsentSubscriber
                | Self::CarrierExpired
                | Self::Throttled
                | Self::CarrierDown
                | Self::NoAnswer
                | Self::NoReceipt
                | Self::CarrierUnknown
                | Self::NoDelivery
                | Self::NoRoute
                | Self::Ttl
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
