//! A message as people see it: its present state and how it got there.

use std::ops::Deref;
use std::sync::Arc;

use compact_str::CompactString;
use serde::Deserialize;
use serde::Serialize;

use crate::message::Answer;
use crate::message::Class;
use crate::message::Decision;
use crate::message::Finish;
use crate::message::MessageId;
use crate::message::PlanSummary;
use crate::message::Position;
use crate::message::Reason;
use crate::message::ReceiptRecord;
use crate::message::ReceiptsWanted;
use crate::message::SegmentSet;
use crate::message::State;
use crate::message::UnansweredCause;
use crate::message::Waited;
use crate::pdu::CommandStatus;
use crate::time::Time;

/// What of a message never changes. Its events share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its id.
    pub id: MessageId,
    /// The position of its first record; newer messages have higher ones.
    pub position: Position,
    /// The name of the API key that owns it.
    pub key: Arc<str>,
    /// The destination as the archive keeps numbers: E.164 digits without `+` when they are kept
    /// plain, see [`Numbers`](crate::archive::Numbers).
    pub to: Box<str>,
    /// The sender as asked for.
    pub from: Option<Box<str>>,
    /// What it is for.
    pub class: Class,
    /// The owner's own reference.
    pub client_ref: Option<Box<str>>,
    /// The campaign that it belongs to.
    pub campaign: Option<Box<str>>,
    /// The owner's words for it.
    pub tags: Vec<Box<str>>,
    /// What the door found out for the first carrier.
    pub plan: PlanSummary,
    /// Which receipts the owner wants.
    pub receipts: ReceiptsWanted,
    /// Where its events go besides the key's own webhooks.
    pub callback_url: Option<Box<str>>,
    /// When it was accepted.
    pub created_at: Time,
    /// Not to be sent earlier.
    pub send_at: Option<Time>,
    /// Never to be sent later.
    pub expires_at: Time,
}

/// One message with all that happened to it; what never changes is in its [`Origin`], whose fields
/// it shows as its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What never changes.
    pub origin: Arc<Origin>,
    /// The position of the last record that changed it.
    pub updated: Position,
    /// The text, when the archive keeps texts and the message has one.
    pub text: Option<Box<str>>,
    /// Where it stands.
    pub state: State,
    /// Why it stands there.
    pub reason: Option<Reason>,
    /// The carrier that has or had it last, or gets it next; empty before the first.
    pub carrier: Arc<str>,
    /// The last status other than `ESME_ROK` that a carrier answered with.
    pub carrier_status: Option<CommandStatus>,
    /// The receipt's error code as it came; empty for none.
    pub carrier_error: CompactString,
    /// The first try on the first carrier is 1; a fallback adds one; 0 before that.
    pub attempt: u16,
    /// When a carrier had all segments of the present attempt.
    pub submitted_at: Option<Time>,
    /// When it reached its terminal state.
    pub done_at: Option<Time>,
    /// When a late receipt corrected that state.
    pub corrected_at: Option<Time>,
    /// The segments of all attempts, in the order of attempt and number.
    pub segments: Vec<Segment>,
    /// All that happened, in order, the middle left out when it is very long.
    pub timeline: Vec<Entry>,
    /// How many entries were left out of the timeline.
    pub omitted: u32,
}

impl Deref for Message {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        &self.origin
    }
}

impl Message {
    /// The segments of the attempt in hand.
    pub fn present_segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.attempt == self.attempt)
    }

    /// Whether sending the same message again later may succeed: known once it has ended badly.
    pub fn is_retryable(&self) -> Option<bool> {
        self.reason.map(Reason::is_retryable)
    }
}

/// One segment of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The attempt, from 1.
    pub attempt: u16,
    /// Its number, from 0.
    pub segment: u8,
    /// The carrier that it was sent to.
    pub carrier: Arc<str>,
    /// The carrier's id for it, in the answer's own form; empty when none is known.
    pub carrier_message_id: CompactString,
    /// Where it stands.
    pub state: SegmentState,
    /// What the carrier answered.
    pub status: Option<CommandStatus>,
    /// The state that the last receipt told, in the words of SMPP; empty before one.
    pub receipt: CompactString,
    /// The receipt's error code as it came; empty for none.
    pub error: CompactString,
}

/// Where a segment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SegmentState {
    /// Not sent in this attempt.
    Waiting,
    /// On its way: the carrier may hold it.
    Sending,
    /// The carrier has taken it.
    Submitted,
    /// The carrier has refused it.
    Refused,
    /// No answer came: the carrier may hold it.
    Unknown,
    /// A receipt said that the handset has it.
    Delivered,
    /// A receipt said that it will not be delivered.
    Failed,
}

impl SegmentState {
    /// The word for it in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Submitted => "submitted",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// One thing that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The position of its record.
    pub position: Position,
    /// When.
    pub at: Time,
    /// What.
    pub step: Step,
}

/// What happened to a message; the fields are those of the record of the same name
/// ([`crate::message::Record`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A door has taken it.
    Accepted {
        /// `Scheduled` or `Queued`.
        state: State,
    },
    /// Segments went to a carrier.
    Sending {
        /// The attempt, from 1.
        attempt: u16,
        /// The carrier.
        carrier: Arc<str>,
        /// Which of its binds, from 0.
        bind: u16,
        /// The concatenation reference.
        reference: u16,
        /// How many segments the attempt has.
        total: u8,
        /// Those that were sent now.
        segments: SegmentSet,
        /// What the message had waited for.
        waited: Waited,
    },
    /// The carrier answered one segment.
    Answered {
        /// The attempt.
        attempt: u16,
        /// The segment, from 0.
        segment: u8,
        /// The answer.
        answer: Answer,
    },
    /// No answer came.
    Unanswered {
        /// The attempt.
        attempt: u16,
        /// The segments.
        segments: SegmentSet,
        /// Why.
        cause: UnansweredCause,
    },
    /// A receipt came; its number is kept as the archive keeps numbers.
    Receipt {
        /// The attempt.
        attempt: u16,
        /// The segment, from 0.
        segment: u8,
        /// What it says.
        receipt: Box<ReceiptRecord>,
    },
    /// It went back to its lane.
    Requeued {
        /// Not to be sent before.
        due: Time,
        /// Where to, by which rule.
        decision: Decision,
        /// Why.
        reason: Reason,
    },
    /// It reached its terminal state.
    Finished(Finish),
    /// A late receipt corrected the terminal state.
    Corrected(Finish),
    /// What is known of it begins here: the records of its first days are gone.
    Resumed {
        /// Its state then.
        state: State,
    },
}

/// A message that a handset sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// Its id.
    pub id: MessageId,
    /// The position of its record.
    pub position: Position,
    /// The API key that it belongs to; empty when nobody owns our number.
    pub key: Arc<str>,
    /// When it came.
    pub at: Time,
    /// The carrier that brought it.
    pub carrier: Box<str>,
    /// The handset's number, as the archive keeps numbers.
    pub from: Box<str>,
    /// Our number as the carrier wrote it.
    pub to: Box<str>,
    /// `data_coding` of the PDU.
    pub data_coding: u8,
    /// The user data header; empty for none.
    pub udh: Box<[u8]>,
    /// The characters, when it is text.
    pub text: Option<Box<str>>,
    /// The user data when it is not text; empty when it is.
    pub octets: Box<[u8]>,
    /// Whether every part of it came.
    pub complete: bool,
}

/// A receipt that no message had within the time for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmatched {
    /// The position of its record.
    pub position: Position,
    /// When it came.
    pub at: Time,
    /// The carrier that sent it.
    pub carrier: Box<str>,
    /// What it says; its number is kept as the archive keeps numbers.
    pub receipt: ReceiptRecord,
}
