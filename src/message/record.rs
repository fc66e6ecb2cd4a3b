//! The records of the journal: everything that must survive a crash, and nothing else.

use std::sync::Arc;

use postcard::ser_flavors::Flavor;
use serde::Deserialize;
use serde::Serialize;

use crate::message::MessageId;
use crate::message::Reason;
use crate::message::State;
use crate::message::Submission;
use crate::pdu::CommandStatus;
use crate::time::Time;

/// One fact that survives a crash.
///
/// Records are written in the order in which they became true. Variants are only ever added at the
/// end, and a field of a variant never changes its meaning: the journal of an older release must
/// read (see [`Record::decode`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A door has taken a message.
    Accepted(Arc<Submission>),
    /// Segments of a message are about to be sent: from here to their [`Record::Answered`] the
    /// carrier may hold them.
    Sending {
        /// The message.
        id: MessageId,
        /// When.
        at: Time,
        /// The first try on the first carrier is 1; a fallback adds one, a retry does not.
        attempt: u16,
        /// The carrier's name.
        carrier: Box<str>,
        /// Which of the carrier's binds, from 0.
        bind: u16,
        /// The concatenation reference that all segments of this attempt share.
        reference: u16,
        /// How many segments the attempt has in all.
        total: u8,
        /// Those that leave together now: all of them when the window has room, only the missing
        /// ones in a retry. An attempt that trickles through a small window has several of these
        /// records, with one reference.
        segments: SegmentSet,
        /// What the message waited for before this.
        waited: Waited,
    },
    /// A carrier answered one segment.
    Answered {
        /// The message.
        id: MessageId,
        /// When.
        at: Time,
        /// The attempt that the segment belongs to.
        attempt: u16,
        /// The segment, from 0.
        segment: u8,
        /// What was answered.
        answer: Answer,
        /// The message's state after this: `Submitting` while other segments are open,
        /// `Submitted` when the carrier has all.
        state: State,
    },
    /// No answer came for segments: the carrier may or may not hold them.
    Unanswered {
        /// The message.
        id: MessageId,
        /// When that was certain.
        at: Time,
        /// The attempt.
        attempt: u16,
        /// The segments without an answer.
        segments: SegmentSet,
        /// Why none came.
        cause: UnansweredCause,
    },
    /// A receipt was read and matched to a segment.
    Receipt {
        /// The message.
        id: MessageId,
        /// When it came.
        at: Time,
        /// The attempt that the segment belongs to; it may be an earlier one.
        attempt: u16,
        /// The segment, from 0.
        segment: u8,
        /// What it says.
        receipt: ReceiptRecord,
    },
    /// A receipt that nothing matches yet: kept, and tried again with each answer.
    Orphan {
        /// When it came.
        at: Time,
        /// The carrier's name.
        carrier: Box<str>,
        /// What it says.
        receipt: ReceiptRecord,
    },
    /// A receipt that nothing matched in time leaves the table of orphans.
    OrphanDropped {
        /// When.
        at: Time,
        /// The carrier's name.
        carrier: Box<str>,
        /// The id that nothing had.
        carrier_message_id: Box<str>,
    },
    /// The message goes back to its lane.
    Requeued {
        /// The message.
        id: MessageId,
        /// When.
        at: Time,
        /// Not to be sent before.
        due: Time,
        /// To the same carrier or to another one, and by which rule.
        decision: Decision,
        /// Why.
        reason: Reason,
    },
    /// The message has reached its terminal state.
    Finished {
        /// The message.
        id: MessageId,
        /// When.
        at: Time,
        /// How it ended.
        finish: Finish,
    },
    /// A late receipt corrects the terminal state, once.
    Corrected {
        /// The message.
        id: MessageId,
        /// When.
        at: Time,
        /// How it really ended.
        finish: Finish,
    },
    /// Something that a handset sent: one PDU.
    Inbound(Box<InboundRecord>),
    /// The parts of an inbound message, joined or given up on.
    InboundWhole {
        /// The joined message; its own id, the parts' text in order.
        message: Box<InboundRecord>,
        /// Whether every part came.
        complete: bool,
    },
    /// A live message written again, so that the segment file of its first record can go.
    Carried(Box<Carried>),
    /// An idempotency entry whose message has finished, written again for the same reason.
    CarriedIdempotency {
        /// The digests.
        entry: crate::message::Idempotency,
        /// The message that it answers with.
        id: MessageId,
        /// When the entry ends.
        until: Time,
    },
    /// A finished message that a late receipt may still correct, written again for the same
    /// reason.
    CarriedFinished {
        /// The message with its segments.
        carried: Box<Carried>,
        /// How it ended.
        finish: Finish,
        /// When.
        at: Time,
    },
    /// How many messages a key has handed in on a day, written again for the same reason: it
    /// stands for all that were counted before it.
    CarriedUsage {
        /// The name of the key.
        key: Box<str>,
        /// The UTC day, in days since 1970-01-01.
        day: u32,
        /// How many.
        count: u64,
    },
    /// What a receipt said of an attempt that did not arrive whole, written again behind the message
    /// that has it.
    CarriedFailure {
        /// The message.
        id: MessageId,
        /// The attempt.
        attempt: u16,
        /// The receipt's state, as in [`ReceiptRecord::state`].
        state: Box<str>,
        /// The carrier's error code as it came; empty when it gave none.
        error: Box<str>,
        /// What the receipt made of both.
        reason: Option<Reason>,
    },
}

/// A set of segments of one message, at most 255.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SegmentSet([u64; 4]);

impl SegmentSet {
    /// The set `0..total`.
    pub fn first(total: u8) -> Self {
        (0..total).collect()
    }

    /// Puts a segment in.
    pub fn insert(&mut self, segment: u8) {
        if let Some(word) = self.0.get_mut(usize::from(segment >> 6)) {
            *word |= 1 << (segment & 63);
        }
    }

    /// Takes a segment out.
    pub fn remove(&mut self, segment: u8) {
        if let Some(word) = self.0.get_mut(usize::from(segment >> 6)) {
            *word &= !(1 << (segment & 63));
        }
    }

    /// Whether the segment is in it.
    pub fn contains(&self, segment: u8) -> bool {
        self.0.get(usize::from(segment >> 6)).is_some_and(|word| word & (1 << (segment & 63)) != 0)
    }

    /// How many segments are in it.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether no segment is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The segments, rising.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        let words = self.0.iter().zip([0, 64, 128, 192]);
        words.filter(|(word, _)| **word != 0).flat_map(|(word, first)| {
            (0..64).filter(move |bit| *word & (1 << bit) != 0).map(move |bit: u8| first + bit)
        })
    }
}

impl FromIterator<u8> for SegmentSet {
    fn from_iter<I: IntoIterator<Item = u8>>(segments: I) -> Self {
        let mut set = Self::default();
        for segment in segments {
            set.insert(segment);
        }
        set
    }
}

impl std::fmt::Debug for SegmentSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What a message waited for between its lane and the wire, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// For a bind to come up.
    pub bind_ms: u32,
    /// For its turn and the carrier's rate.
    pub rate_ms: u32,
    /// For a place in the window.
    pub window_ms: u32,
}

/// A carrier's answer to one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The bind that it came on, from 0.
    pub bind: u16,
    /// The `sequence_number` of the submit.
    pub sequence_number: u32,
    /// `ESME_ROK` when the carrier has taken the segment.
    pub status: CommandStatus,
    /// The carrier's id for it, in the answer's own form; empty when it gave none.
    pub carrier_message_id: Box<str>,
    /// The `delivery_failure_reason` TLV, when there was one.
    pub failure_reason: Option<u8>,
}

/// Why a `submit_sm` has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnansweredCause {
    /// The response timer ran out.
    Timeout,
    /// The link was lost first.
    LinkLost,
    /// The gateway stopped before an answer was recorded.
    Restart,
    /// It never left us: it is known that the carrier does not hold it.
    Unsent,
}

/// A receipt as it is kept: without the text of the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// The carrier's id for the segment, in the receipt's own form.
    pub carrier_message_id: Box<str>,
    /// The second id that the receipt holds in its text, when it differs; empty otherwise.
    pub text_id: Box<str>,
    /// The number that the receipt is about, as the carrier wrote it.
    pub source: Box<str>,
    /// The word of PROTOCOL for the state: `DELIVERED`, `EXPIRED`, ...
    pub state: Box<str>,
    /// Whether the state is final.
    pub is_final: bool,
    /// The carrier's error code as it came; empty when it gave none.
    pub error: Box<str>,
    /// The receipt's text up to its `text:` field.
    pub raw: Box<str>,
}

/// Where a message goes after it came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// The same carrier again, only what is missing.
    Retry {
        /// Which try on this carrier this will be; the first is 1.
        attempt_try: u16,
    },
    /// The same carrier, its place kept and no try spent: the carrier asked to slow down.
    Throttled,
    /// Another carrier, the whole message anew.
    Fallback {
        /// The carrier that it leaves.
        from: Box<str>,
        /// The carrier that it goes to.
        to: Box<str>,
        /// The rule of the route, in words for the timeline.
        rule: Box<str>,
        /// Whether the carrier that it leaves may still deliver it.
        uncertain: bool,
    },
}

/// How a message ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// A terminal state.
    pub state: State,
    /// Why; absent when it was delivered.
    pub reason: Option<Reason>,
    /// The carrier that had it last; empty when none had.
    pub carrier: Box<str>,
    /// The status that the carrier refused it with.
    pub carrier_status: Option<CommandStatus>,
    /// The receipt's error code as it came; empty for none.
    pub carrier_error: Box<str>,
}

/// A message that a handset sent, or one part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundRecord {
    /// Its id.
    pub id: MessageId,
    /// When it came.
    pub at: Time,
    /// The carrier that brought it.
    pub carrier: Box<str>,
    /// The handset's number as the carrier wrote it.
    pub from: Box<str>,
    /// Our number as the carrier wrote it.
    pub to: Box<str>,
    /// `data_coding` of the PDU.
    pub data_coding: u8,
    /// The user data header; empty for none.
    pub udh: Box<[u8]>,
    /// The user data without its header.
    pub octets: Box<[u8]>,
    /// The characters, when it is text.
    pub text: Option<Box<str>>,
    /// Which part of a longer message: reference, its bits (8 or 16), total, number from 1.
    pub part: Option<(u16, u8, u8, u8)>,
}

/// A live message with all that happened to it so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// What its owner handed in.
    pub submission: Submission,
    /// Its state.
    pub state: State,
    /// Not to be sent before.
    pub due: Time,
    /// The attempt in hand, 0 before the first.
    pub attempt: u16,
    /// How many tries the present carrier has had.
    pub tries: u16,
    /// How many times the present carrier throttled it.
    pub throttles: u16,
    /// How many attempts ended unknown.
    pub unknowns: u16,
    /// The present or next carrier; empty when none was chosen.
    pub carrier: Box<str>,
    /// The carriers that have had it, in order.
    pub past_carriers: Vec<Box<str>>,
    /// When the present attempt was first sent.
    pub sent_at: Option<Time>,
    /// When the carrier had all segments.
    pub submitted_at: Option<Time>,
    /// The segments of all attempts that may still be answered or receipted.
    pub segments: Vec<CarriedSegment>,
}

/// One segment of a [`Carried`] message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedSegment {
    /// The attempt that it belongs to.
    pub attempt: u16,
    /// Its number, from 0.
    pub segment: u8,
    /// How many segments the attempt has.
    pub total: u8,
    /// The attempt's concatenation reference.
    pub reference: u16,
    /// The carrier that has it.
    pub carrier: Box<str>,
    /// The carrier's id for it; empty when none is known.
    pub carrier_message_id: Box<str>,
    /// 0 to send, 1 being sent, 2 taken, 3 refused, 4 unknown, 5 delivered, 6 failed by receipt;
    /// [`Self::DOUBTFUL`] is added when it was sent before and nobody answered.
    pub standing: u8,
    /// What it was refused with.
    pub status: Option<CommandStatus>,
}

impl CarriedSegment {
    /// Added to the standing of a segment that the carrier may have from an earlier try.
    pub const DOUBTFUL: u8 = 0x80;
}

/// Why octets are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer release.
    #[error("record of version {found}: this release reads up to {known}; run the newer one")]
    Version {
        /// The version in the record.
        found: u8,
        /// The newest that this release knows.
        known: u8,
    },
    /// The octets say no record.
    #[error("a record of {octets} octets that cannot be read")]
    Unreadable {
        /// How many octets it has.
        octets: usize,
    },
}

/// Appends the octets of `value` (postcard's wire format), which must hold no sequence of unknown
/// length.
pub fn append<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // Writing to memory fails only for a sequence of unknown length.
    let _infallible = postcard::serialize_with_flavor(value, Grow(out));
}

/// Memory that grows.
struct Grow<'a>(&'a mut Vec<u8>);

impl Flavor for Grow<'_> {
    type Output = ();

    fn try_extend(&mut self, octets: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(octets);
        Ok(())
    }

    fn try_push(&mut self, octet: u8) -> postcard::Result<()> {
        self.0.push(octet);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// The newest version of a record. A kind that was added later has the version that brought it, so
/// that an older release names what it cannot read.
const VERSION: u8 = 2;

impl Record {
    /// Appends the record's octets: one of version, then the fields (postcard's wire format).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.version());
        append(self, out);
    }

    /// The version that brought this kind of record.
    const fn version(&self) -> u8 {
        match self {
            Self::CarriedFailure { .. } => 2,
            _ => 1,
        }
    }

    /// Reads back what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`RecordError::Version`] when a newer release wrote it, [`RecordError::Unreadable`] when
    /// the octets are no record.
    pub fn decode(octets: &[u8]) -> Result<Self, RecordError> {
        let unreadable = RecordError::Unreadable { octets: octets.len() };
        let (version, rest) = octets.split_first().ok_or(unreadable)?;
        if !(1..=VERSION).contains(version) {
            return Err(RecordError::Version { found: *version, known: VERSION });
        }
        postcard::from_bytes(rest).map_err(|_| unreadable)
    }

    /// When what it says became true.
    pub fn at(&self) -> Time {
        match self {
            Self::Accepted(submission) => submission.accepted_at,
            Self::Sending { at, .. }
            | Self::Answered { at, .. }
            | Self::Unanswered { at, .. }
            | Self::Receipt { at, .. }
            | Self::Orphan { at, .. }
            | Self::OrphanDropped { at, .. }
            | Self::Requeued { at, .. }
            | Self::Finished { at, .. }
            | Self::Corrected { at, .. }
            | Self::CarriedFinished { at, .. } => *at,
            Self::Inbound(inbound) | Self::InboundWhole { message: inbound, .. } => inbound.at,
            Self::Carried(_)
            | Self::CarriedIdempotency { .. }
            | Self::CarriedUsage { .. }
            | Self::CarriedFailure { .. } => Time::ZERO,
        }
    }

    /// The message that the record is about, when it is about one.
    pub fn message_id(&self) -> Option<MessageId> {
        match self {
            Self::Accepted(submission) => Some(submission.id),
            Self::Sending { id, .. }
            | Self::Answered { id, .. }
            | Self::Unanswered { id, .. }
            | Self::Receipt { id, .. }
            | Self::Requeued { id, .. }
            | Self::Finished { id, .. }
            | Self::Corrected { id, .. } => Some(*id),
            Self::Carried(carried) | Self::CarriedFinished { carried, .. } => {
                Some(carried.submission.id)
            }
            Self::CarriedIdempotency { id, .. } | Self::CarriedFailure { id, .. } => Some(*id),
            Self::Inbound(_)
            | Self::InboundWhole { .. }
            | Self::Orphan { .. }
            | Self::OrphanDropped { .. }
            | Self::CarriedUsage { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_what_it_wrote() {
        let record = Record::Answered {
            id: MessageId::from_u128(5),
            at: Time::from_secs(9),
            attempt: 1,
            segment: 3,
            answer: Answer {
                bind: 0,
                sequence_number: 77,
                status: CommandStatus::ESME_RTHROTTLED,
                carrier_message_id: "".into(),
                failure_reason: None,
            },
            state: State::Submitting,
        };
        let mut octets = Vec::new();
        record.encode(&mut octets);
        assert_eq!(octets[0], 1, "an older release reads it too");
        assert_eq!(Record::decode(&octets), Ok(record));
    }

    #[test]
    fn a_kind_that_came_later_is_no_riddle_to_an_older_release() {
        let record = Record::CarriedFailure {
            id: MessageId::from_u128(5),
            attempt: 2,
            state: "EXPIRED".into(),
            error: "001".into(),
            reason: None,
        };
        let mut octets = Vec::new();
        record.encode(&mut octets);
        assert_eq!(octets[0], 2);
        assert_eq!(Record::decode(&octets), Ok(record));
    }

    #[test]
    fn a_record_of_a_newer_release_is_named_as_such() {
        assert_eq!(Record::decode(&[9, 0]), Err(RecordError::Version { found: 9, known: 2 }));
        assert_eq!(Record::decode(&[]), Err(RecordError::Unreadable { octets: 0 }));
        assert_eq!(Record::decode(&[1, 200]), Err(RecordError::Unreadable { octets: 2 }));
    }

    #[test]
    fn a_segment_set_holds_every_number_of_an_octet() {
        let mut set = SegmentSet::first(255);
        assert_eq!(set.len(), 255);
        assert!(!set.contains(255));
        set.insert(255);
        set.remove(0);
        assert_eq!(set.iter().next(), Some(1));
        assert_eq!(set.iter().last(), Some(255));
    }
}
