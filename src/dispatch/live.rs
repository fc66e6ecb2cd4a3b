//! One message as it is held in memory.
//!
//! A message that waits in a lane is one [`Live`] of 88 octets; what was sent of it hangs on that as
//! [`Sent`]. The body is elsewhere: in the journal, and in [`super::bodies`] when it is near.

use crate::message::Class;
use crate::message::Finish;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::Reason;
use crate::message::ReceiptsWanted;
use crate::message::SegmentSet;
use crate::message::State;
use crate::message::Submission;
use crate::pdu::CommandStatus;
use crate::receipt::ReceiptState;
use crate::route::CarrierId;
use crate::route::RouteId;
use crate::time::Time;

use super::names::Name;
use super::table::Link;
use super::timers;

/// What is known of one message.
///
/// The fields of the first group are what the records say. Those of the second are where the
/// message is at the moment; a restart finds them anew.
#[derive(Debug)]
pub(super) struct Live {
    id: [u64; 2],
    /// Where its `Accepted` or newest `Carried` record is; [`UNPLACED`] until that is appended.
    pub(super) position: Position,
    pub(super) expires_at: Time,
    /// Not to be sent before.
    pub(super) due: Time,
    pub(super) sent: Option<Box<Sent>>,
    pub(super) key: Name,
    pub(super) to: Tail,
    pub(super) route: RouteId,
    /// The carrier that has it or that a fallback chose; [`NO_CARRIER`] before.
    pub(super) carrier: CarrierId,
    pub(super) class: Class,
    pub(super) state: State,
    pub(super) receipts: ReceiptsWanted,
    /// As planned for the first carrier.
    pub(super) segments: u8,

    /// Its neighbours in the order of positions.
    pub(super) older: Link,
    pub(super) newer: Link,
    /// Its neighbours in its lane, or among the finished.
    pub(super) before: Link,
    pub(super) behind: Link,
    /// Whose lane it waits in.
    pub(super) lane: CarrierId,
    pub(super) place: Place,
    /// Where its timer is.
    pub(super) timer: timers::Place,
    /// Whether its lane has asked for its body.
    pub(super) is_near: bool,
}

/// The position of a record that is not appended yet.
pub(super) const UNPLACED: Position = Position(u64::MAX);

/// The number of no carrier.
pub(super) const NO_CARRIER: CarrierId = CarrierId(u16::MAX);

/// The number of no route.
pub(super) const NO_ROUTE: RouteId = RouteId(u16::MAX);

/// Where a message is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: the slot is empty or the message is finished.
    None,
    /// Waits for its due time.
    Due,
    /// Waits in a lane.
    Lane,
    /// Some of its segments are with a bind, or about to be.
    Wire,
    /// A carrier has it: waits for receipts.
    Taken,
    /// Nothing more is sent: waits for a late answer or receipt.
    Held,
}

impl Live {
    pub(super) fn new(submission: &Submission, key: Name, route: RouteId) -> Self {
        let scheduled = submission.send_at.filter(|at| *at > submission.accepted_at);
        Self {
            id: halves(submission.id),
            position: UNPLACED,
            expires_at: submission.expires_at,
            due: scheduled.unwrap_or(submission.accepted_at),
            sent: None,
            key,
            to: Tail::of(&submission.to),
            route,
            carrier: NO_CARRIER,
            class: submission.class,
            state: if scheduled.is_some() { State::Scheduled } else { State::Queued },
            receipts: submission.receipts,
            segments: submission.plan.segments,
            older: Link::NONE,
            newer: Link::NONE,
            before: Link::NONE,
            behind: Link::NONE,
            lane: NO_CARRIER,
            place: Place::None,
            timer: timers::Place::NONE,
            is_near: false,
        }
    }

    pub(super) const fn id(&self) -> MessageId {
        let [high, low] = self.id;
        MessageId::from_u128(((high as u128) << 64) | low as u128)
    }

    /// Empties the slot.
    pub(super) fn clear(&mut self) {
        self.sent = None;
        self.place = Place::None;
        self.id = [0; 2];
    }

    pub(super) const fn is_finished(&self) -> bool {
        self.state.is_terminal()
    }

    /// The attempt in hand, once something of it was sent.
    pub(super) fn present(&self) -> Option<&Attempt> {
        let sent = self.sent.as_deref()?;
        sent.attempt(sent.present)
    }

    /// All attempts, in their order.
    pub(super) fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.sent.iter().flat_map(|sent| sent.attempts())
    }

    /// The attempt with this number.
    pub(super) fn attempt(&self, number: u16) -> Option<&Attempt> {
        self.sent.as_deref()?.attempt(number)
    }

    /// The number of the attempt that is in hand, or that the next submit begins.
    pub(super) fn attempt_number(&self) -> u16 {
        self.sent.as_deref().map_or(1, |sent| sent.present)
    }

    /// How many attempts that were left behind may still deliver it.
    pub(super) fn unknowns(&self) -> u16 {
        self.sent.as_deref().map_or(0, Sent::unknowns)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of 128 bits")]
const fn halves(id: MessageId) -> [u64; 2] {
    [(id.as_u128() >> 64) as u64, id.as_u128() as u64]
}

/// The last nine digits of a number: enough to tell whether a receipt is about it, however the
/// carrier wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Tail(pub(super) u32);

impl Tail {
    const MODULUS: u32 = 1_000_000_000;

    pub(super) fn of(number: &str) -> Self {
        let digits = number.bytes().filter(u8::is_ascii_digit);
        let tail = digits.fold(0_u64, |tail, digit| {
            (tail * 10 + u64::from(digit - b'0')) % u64::from(Self::MODULUS)
        });
        Self(u32::try_from(tail).unwrap_or_default())
    }

    /// Whether both may be the same number; a short one is compared by what it has.
    pub(super) fn fits(self, number: &str) -> bool {
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        let Some(modulus) = u32::try_from(digits.min(9)).ok().and_then(|n| 10_u32.checked_pow(n))
        else {
            return false;
        };
        digits > 0 && self.0 % modulus == Self::of(number).0 % modulus
    }
}

/// What was sent of a message.
#[derive(Debug)]
pub(super) struct Sent {
    /// The number of the attempt in hand, or of the one that the next submit begins.
    pub(super) present: u16,
    /// Which try on the present carrier this is, from 1; 0 before it.
    pub(super) tries: u16,
    /// How often the present carrier has throttled it.
    pub(super) throttles: u16,
    /// How it ended, once it has.
    pub(super) finish: Option<Box<Finish>>,
    /// Most messages have one.
    first: Attempt,
    #[expect(clippy::box_collection, reason = "most messages have none, and 8 octets count")]
    later: Option<Box<Vec<Attempt>>>,
}

impl Sent {
    pub(super) fn new(first: Attempt) -> Self {
        Self { present: first.number, tries: 0, throttles: 0, finish: None, first, later: None }
    }

    pub(super) fn attempts(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        std::iter::once(&self.first).chain(self.later.iter().flat_map(|later| later.iter()))
    }

    pub(super) fn attempts_mut(&mut self) -> impl Iterator<Item = &mut Attempt> {
        let later = self.later.iter_mut().flat_map(|later| later.iter_mut());
        std::iter::once(&mut self.first).chain(later)
    }

    pub(super) fn attempt(&self, number: u16) -> Option<&Attempt> {
        self.attempts().find(|attempt| attempt.number == number)
    }

    pub(super) fn attempt_mut(&mut self, number: u16) -> Option<&mut Attempt> {
        self.attempts_mut().find(|attempt| attempt.number == number)
    }

    pub(super) fn push(&mut self, attempt: Attempt) {
        self.later.get_or_insert_default().push(attempt);
    }

    /// The number that no attempt has yet.
    pub(super) fn next_number(&self) -> u16 {
        self.attempts().map(|attempt| attempt.number).max().unwrap_or_default().saturating_add(1)
    }

    /// The carriers of the attempts that were left behind.
    pub(super) fn past(&self) -> impl Iterator<Item = CarrierId> {
        let left = self.attempts().filter(|attempt| attempt.number != self.present);
        left.map(|attempt| attempt.carrier)
    }

    fn unknowns(&self) -> u16 {
        let left = self.attempts().filter(|attempt| attempt.number != self.present);
        u16::try_from(left.filter(|attempt| attempt.may_arrive()).count()).unwrap_or(u16::MAX)
    }
}

/// One attempt: the message, whole, at one carrier.
#[derive(Debug)]
pub(super) struct Attempt {
    /// When a segment of it was last sent.
    pub(super) sent_at: Time,
    /// When the carrier had all of it; [`Time::ZERO`] before.
    pub(super) taken_at: Time,
    pub(super) number: u16,
    pub(super) carrier: CarrierId,
    pub(super) reference: u16,
    pub(super) failure: Option<Box<Failure>>,
    segments: Segments,
}

/// What a receipt said of a segment that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The receipt's state, as in the record.
    pub(super) state: Box<str>,
    /// The carrier's error code as it came.
    pub(super) error: Box<str>,
    /// What the receipt made of both, when it was read in this process.
    pub(super) reason: Option<Reason>,
}

impl Failure {
    /// Of a message that a release wrote again which did not write this.
    pub(super) fn untold() -> Self {
        Self { state: ReceiptState::Undeliverable.as_str().into(), error: "".into(), reason: None }
    }
}

/// Segments without a list where there is one only.
#[derive(Debug)]
enum Segments {
    One(Segment),
    Many(Box<[Segment]>),
}

/// One segment of an attempt.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) standing: Standing,
    /// What it was refused with, and the `delivery_failure_reason` beside that.
    pub(super) refusal: Option<(CommandStatus, Option<u8>)>,
    /// Whether it is, or was, to be sent again although nobody knows whether the carrier has it.
    pub(super) is_doubtful: bool,
    /// The carrier's id for it; empty when none is known.
    pub(super) id: Box<str>,
}

impl Segment {
    /// Whether an earlier try without an answer may be what the carrier has of it.
    pub(super) const fn is_in_doubt(&self) -> bool {
        let is_open = matches!(
            self.standing,
            Standing::ToSend | Standing::Sending | Standing::Refused | Standing::Failed
        );
        self.is_doubtful && is_open
    }
}

/// How a segment stands; the numbers are those of [`crate::message::CarriedSegment::standing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Standing {
    /// To be sent.
    #[default]
    ToSend = 0,
    /// On its way: no answer yet.
    Sending = 1,
    /// The carrier has it.
    Taken = 2,
    /// The carrier refused it.
    Refused = 3,
    /// Nobody knows whether the carrier has it.
    Unknown = 4,
    /// The handset has it.
    Delivered = 5,
    /// A receipt says that the handset will not get it.
    Failed = 6,
}

impl Standing {
    const ALL: [Self; 7] = [
        Self::ToSend,
        Self::Sending,
        Self::Taken,
        Self::Refused,
        Self::Unknown,
        Self::Delivered,
        Self::Failed,
    ];

    /// The standing with this number; an unknown number stands for [`Standing::Unknown`].
    pub(super) fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }

    /// Whether the carrier has taken the segment, whatever became of it.
    pub(super) const fn was_taken(self) -> bool {
        matches!(self, Self::Taken | Self::Delivered | Self::Failed)
    }
}

impl Attempt {
    /// An attempt of `total` segments, none of them sent.
    pub(super) fn new(number: u16, carrier: CarrierId, reference: u16, total: u8) -> Self {
        let segments = match total {
            1 => Segments::One(Segment::default()),
            _ => Segments::Many((0..total).map(|_| Segment::default()).collect()),
        };
        Self {
            sent_at: Time::ZERO,
            taken_at: Time::ZERO,
            number,
            carrier,
            reference,
            failure: None,
            segments,
        }
    }

    pub(super) fn segments(&self) -> &[Segment] {
        match &self.segments {
            Segments::One(segment) => std::slice::from_ref(segment),
            Segments::Many(segments) => segments,
        }
    }

    pub(super) fn segments_mut(&mut self) -> &mut [Segment] {
        match &mut self.segments {
            Segments::One(segment) => std::slice::from_mut(segment),
            Segments::Many(segments) => segments,
        }
    }

    pub(super) fn segment(&self, number: u8) -> Option<&Segment> {
        self.segments().get(usize::from(number))
    }

    pub(super) fn segment_mut(&mut self, number: u8) -> Option<&mut Segment> {
        self.segments_mut().get_mut(usize::from(number))
    }

    pub(super) fn total(&self) -> u8 {
        u8::try_from(self.segments().len()).unwrap_or(u8::MAX)
    }

    /// The segments that stand so.
    pub(super) fn standing(&self, standing: Standing) -> SegmentSet {
        self.numbered().filter(|(_, s)| s.standing == standing).map(|(number, _)| number).collect()
    }

    pub(super) fn has(&self, standing: Standing) -> bool {
        self.segments().iter().any(|segment| segment.standing == standing)
    }

    /// Whether the carrier has taken all of it.
    pub(super) fn is_taken(&self) -> bool {
        !self.segments().is_empty() && self.segments().iter().all(|s| s.standing.was_taken())
    }

    /// Whether the carrier may hold all of it, and the handset may get what is not there yet.
    pub(super) fn may_arrive(&self) -> bool {
        let may = |segment: &Segment| {
            let standing = segment.standing;
            matches!(standing, Standing::Taken | Standing::Unknown | Standing::Delivered)
                || segment.is_in_doubt()
        };
        let segments = self.segments();
        segments.iter().all(may)
            && segments.iter().any(|segment| segment.standing != Standing::Delivered)
    }

    /// Whether a receipt for any of it may still come.
    pub(super) fn is_awaited(&self) -> bool {
        let awaited = |segment: &Segment| {
            let standing = segment.standing;
            matches!(standing, Standing::Sending | Standing::Taken | Standing::Unknown)
                || segment.is_in_doubt()
        };
        self.segments().iter().any(awaited)
    }

    /// Whether it is unknown of any of it whether the carrier has it.
    pub(super) fn lacks_answers(&self) -> bool {
        let lacks = |it: &Segment| it.standing == Standing::Unknown || it.is_in_doubt();
        self.segments().iter().any(lacks)
    }

    /// Whether the carrier may hold any of it, or the handset has some.
    pub(super) fn is_out(&self) -> bool {
        self.is_awaited() || self.has(Standing::Delivered)
    }

    pub(super) fn numbered(&self) -> impl Iterator<Item = (u8, &Segment)> {
        (0..=u8::MAX).zip(self.segments())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_a_lane_is_88_octets() {
        assert!(size_of::<Live>() <= 88, "{}", size_of::<Live>());
        assert!(size_of::<Sent>() <= 88, "{}", size_of::<Sent>());
    }

    #[test]
    fn a_number_fits_however_the_carrier_writes_it() {
        let to = Tail::of("819012345678");
        for source in ["819012345678", "+819012345678", "09012345678", "9012345678", "345678"] {
            assert!(to.fits(source), "{source}");
        }
        for source in ["", "+", "819012345679", "SHOP"] {
            assert!(!to.fits(source), "{source}");
        }
    }
}
