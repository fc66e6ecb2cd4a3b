//! What a record does to a message: the one place that knows, without a file or a clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;

use crate::archive::Entry;
use crate::archive::Event;
use crate::archive::EventKind;
use crate::archive::FallbackStep;
use crate::archive::Inbound;
use crate::archive::Message;
use crate::archive::NumberKeeper;
use crate::archive::Origin;
use crate::archive::Segment;
use crate::archive::SegmentState;
use crate::archive::Snapshot;
use crate::archive::Step;
use crate::archive::Subject;
use crate::message::Answer;
use crate::message::Carried;
use crate::message::CarriedSegment;
use crate::message::Content;
use crate::message::Decision;
use crate::message::Finish;
use crate::message::InboundRecord;
use crate::message::Position;
use crate::message::Reason;
use crate::message::ReceiptRecord;
use crate::message::Record;
use crate::message::SegmentSet;
use crate::message::State;
use crate::message::Submission;
use crate::message::UnansweredCause;
use crate::pdu::CommandStatus;
use crate::time::Time;

/// How records become messages and events: what the config says of it.
#[derive(Clone, Debug)]
pub struct Projection {
    /// How numbers are kept.
    pub numbers: NumberKeeper,
    /// Whether texts are kept.
    pub store_text: bool,
    /// Which key owns what comes to our numbers; `*` for all others.
    pub inbound_owners: BTreeMap<String, String>,
}

/// What a record did to a message.
struct Changed {
    at: Time,
    kind: Option<EventKind>,
    step: Step,
}

/// The entries of a timeline when all goes well.
const USUAL_ENTRIES: usize = 5;

/// The longest timeline that is kept whole; of a longer one the middle is left out.
const TIMELINE_ENTRIES: usize = 256;

impl Projection {
    /// The message that `record` begins, if it begins one, and the event that this makes.
    pub fn begin(&self, position: Position, record: Record) -> Option<(Message, Option<Event>)> {
        match record {
            Record::Accepted(submission) => {
                let at = submission.accepted_at;
                let state = match submission.send_at {
                    Some(send_at) if send_at > at => State::Scheduled,
                    _ => State::Queued,
                };
                let mut message = self.submitted(position, Arc::unwrap_or_clone(submission), state);
                message.push(position, at, Step::Accepted { state });
                let event = message.event(position, at, EventKind::Queued, None, None);
                Some((message, Some(event)))
            }
            Record::Carried(carried) => Some((self.resumed(position, *carried), None)),
            Record::CarriedFinished { carried, finish, at } => {
                let mut message = self.resumed(position, *carried);
                message.done_at = Some(at);
                message.end(&finish);
                Some((message, None))
            }
            _ => None,
        }
    }

    /// Applies `record`, which is about `message`, and returns the event that this makes.
    pub fn apply(
        &self,
        message: &mut Message,
        position: Position,
        record: Record,
    ) -> Option<Event> {
        let before = message.state;
        let Changed { at, kind, step } = self.change(message, record)?;
        message.updated = position;
        let fallback = match &step {
            Step::Requeued {
                decision: Decision::Fallback { from, to, rule, uncertain }, ..
            } => Some(FallbackStep {
                from: from.clone(),
                to: to.clone(),
                rule: rule.clone(),
                uncertain: *uncertain,
            }),
            _ => None,
        };
        message.push(position, at, step);
        Some(message.event(position, at, kind?, Some(before), fallback))
    }

    /// Changes `message` as `record` says; nothing for a record that changes none.
    fn change(&self, message: &mut Message, record: Record) -> Option<Changed> {
        let done = |at, kind, step| Some(Changed { at, kind, step });
        match record {
            Record::Sending {
                at,
                attempt,
                carrier,
                bind,
                reference,
                total,
                segments,
                waited,
                ..
            } => {
                if message.state.is_terminal() {
                    return None;
                }
                let carrier: Arc<str> = carrier.into();
                message.sending(attempt, &carrier, total, segments);
                let step =
                    Step::Sending { attempt, carrier, bind, reference, total, segments, waited };
                done(at, None, step)
            }
            Record::Answered { at, attempt, segment, answer, state, .. } => {
                let kind = message.answered(at, (attempt, segment), &answer, state);
                done(at, kind, Step::Answered { attempt, segment, answer })
            }
            Record::Unanswered { at, attempt, segments, cause, .. } => {
                let state = match cause {
                    UnansweredCause::Unsent => SegmentState::Waiting,
                    _ => SegmentState::Unknown,
                };
                message.each(attempt, segments, |segment| segment.state = state);
                done(at, None, Step::Unanswered { attempt, segments, cause })
            }
            Record::Receipt { at, attempt, segment, receipt, .. } => {
                message.receipt((attempt, segment), &receipt);
                let receipt = Box::new(self.receipt(receipt));
                done(at, None, Step::Receipt { attempt, segment, receipt })
            }
            Record::Requeued { at, due, decision, reason, .. } => {
                let kind = message.requeued(&decision, reason);
                done(at, kind, Step::Requeued { due, decision, reason })
            }
            Record::Finished { at, finish, .. } => {
                message.done_at = Some(at);
                message.end(&finish);
                done(at, EventKind::of_end(finish.state), Step::Finished(finish))
            }
            Record::Corrected { at, finish, .. } => {
                message.corrected_at = Some(at);
                message.end(&finish);
                done(at, EventKind::of_end(finish.state), Step::Corrected(finish))
            }
            // What they tell is known already when the message is.
            Record::Accepted(_)
            | Record::Carried(_)
            | Record::CarriedFinished { .. }
            | Record::CarriedIdempotency { .. }
            | Record::CarriedUsage { .. }
            | Record::CarriedFailure { .. } => None,
            Record::Orphan { .. }
            | Record::OrphanDropped { .. }
            | Record::Inbound(_)
            | Record::InboundWhole { .. } => None,
        }
    }

    /// The event of something that a handset sent; none for a part of a longer message, which
    /// makes one when it is whole.
    pub fn inbound(&self, position: Position, record: Record) -> Option<Event> {
        let (message, complete) = match record {
            Record::Inbound(message) if message.part.is_none() => (message, true),
            Record::InboundWhole { message, complete } => (message, complete),
            _ => return None,
        };
        let inbound = self.received(position, *message, complete);
        Some(Event {
            position,
            at: inbound.at,
            key: Arc::clone(&inbound.key),
            kind: EventKind::InboundReceived,
            subject: Subject::Inbound(Box::new(inbound)),
        })
    }

    fn received(&self, position: Position, message: InboundRecord, complete: bool) -> Inbound {
        let owners = &self.inbound_owners;
        let ours = &*message.to;
        let owner = owners
            .get(ours)
            .or_else(|| owners.get(ours.strip_prefix('+').unwrap_or(ours)))
            .or_else(|| owners.get("*"));
        let octets = if message.text.is_none() { message.octets } else { Box::default() };
        Inbound {
            id: message.id,
            position,
            key: owner.map(|key| key.as_str().into()).unwrap_or_default(),
            at: message.at,
            carrier: message.carrier,
            from: self.numbers.keep(message.from),
            to: message.to,
            data_coding: message.data_coding,
            udh: message.udh,
            text: message.text,
            octets,
            complete,
        }
    }

    /// A receipt as it is kept.
    pub fn receipt(&self, receipt: ReceiptRecord) -> ReceiptRecord {
        ReceiptRecord { source: self.numbers.keep(receipt.source), ..receipt }
    }

    fn submitted(&self, position: Position, submission: Submission, state: State) -> Message {
        let text = match submission.content {
            Content::Text(text) if self.store_text => Some(text),
            _ => None,
        };
        let origin = Origin {
            id: submission.id,
            position,
            key: submission.key.into(),
            to: self.numbers.keep(submission.to),
            from: submission.from,
            class: submission.class,
            client_ref: submission.client_ref,
            campaign: submission.campaign,
            tags: submission.tags,
            plan: submission.plan,
            receipts: submission.receipts,
            callback_url: submission.callback_url,
            created_at: submission.accepted_at,
            send_at: submission.send_at,
            expires_at: submission.expires_at,
        };
        Message {
            origin: Arc::new(origin),
            updated: position,
            text,
            state,
            reason: None,
            carrier: Arc::default(),
            carrier_status: None,
            carrier_error: CompactString::default(),
            attempt: 0,
            submitted_at: None,
            done_at: None,
            corrected_at: None,
            segments: Vec::new(),
            timeline: Vec::with_capacity(1),
            omitted: 0,
        }
    }

    /// A message of which the archive has nothing but what was carried on.
    fn resumed(&self, position: Position, carried: Carried) -> Message {
        let (state, at) = (carried.state, carried.submission.accepted_at);
        let mut message = self.submitted(position, carried.submission, state);
        message.attempt = carried.attempt;
        message.carrier = carried.carrier.into();
        message.submitted_at = carried.submitted_at;
        message.segments = carried.segments.into_iter().map(Segment::carried).collect();
        message.segments.sort_by_key(Segment::place);
        message.push(position, at, Step::Resumed { state });
        message
    }
}

impl Message {
    fn event(
        &self,
        position: Position,
        at: Time,
        kind: EventKind,
        before: Option<State>,
        fallback: Option<FallbackStep>,
    ) -> Event {
        let snapshot = Snapshot::of(self, before, fallback);
        let subject = Subject::Message(Box::new(snapshot));
        Event { position, at, key: Arc::clone(&self.key), kind, subject }
    }

    fn push(&mut self, position: Position, at: Time, step: Step) {
        if self.timeline.len() >= TIMELINE_ENTRIES {
            self.timeline.remove(TIMELINE_ENTRIES / 2);
            self.omitted = self.omitted.saturating_add(1);
        }
        // Many wait for long with the first entry only.
        if self.timeline.len() == self.timeline.capacity() && self.timeline.len() < USUAL_ENTRIES {
            self.timeline.reserve_exact(USUAL_ENTRIES - self.timeline.len());
        }
        self.timeline.push(Entry { position, at, step });
    }

    fn sending(&mut self, attempt: u16, carrier: &Arc<str>, total: u8, segments: SegmentSet) {
        self.state = State::Submitting;
        self.attempt = attempt;
        self.carrier = Arc::clone(carrier);
        for number in 0..total {
            self.segment(attempt, number);
        }
        self.each(attempt, segments, |segment| {
            segment.state = SegmentState::Sending;
            segment.carrier = Arc::clone(carrier);
        });
    }

    fn answered(
        &mut self,
        at: Time,
        (attempt, number): (u16, u8),
        answer: &Answer,
        state: State,
    ) -> Option<EventKind> {
        let taken = answer.status == CommandStatus::ESME_ROK;
        let segment = self.segment(attempt, number);
        segment.status = Some(answer.status);
        segment.carrier_message_id = (&*answer.carrier_message_id).into();
        if !matches!(segment.state, SegmentState::Delivered | SegmentState::Failed) {
            segment.state = if taken { SegmentState::Submitted } else { SegmentState::Refused };
        }
        if !taken {
            self.carrier_status = Some(answer.status);
        }
        // A late answer to a message that has ended is told by the record that corrects it.
        if self.state.is_terminal() || self.state == state {
            return None;
        }
        self.state = state;
        (state == State::Submitted).then(|| {
            self.submitted_at = Some(at);
            self.reason = None;
            self.carrier_status = None;
            EventKind::Submitted
        })
    }

    fn receipt(&mut self, (attempt, number): (u16, u8), receipt: &ReceiptRecord) {
        let segment = self.segment(attempt, number);
        segment.receipt = (&*receipt.state).into();
        segment.error = (&*receipt.error).into();
        if segment.carrier_message_id.is_empty() {
            segment.carrier_message_id = (&*receipt.carrier_message_id).into();
        }
        if receipt.is_final {
            let delivered = &*receipt.state == DELIVERED;
            segment.state = if delivered { SegmentState::Delivered } else { SegmentState::Failed };
        }
    }

    fn requeued(&mut self, decision: &Decision, reason: Reason) -> Option<EventKind> {
        if self.state.is_terminal() {
            return None;
        }
        self.state = State::Queued;
        self.reason = Some(reason);
        let Decision::Fallback { to, .. } = decision else { return None };
        self.carrier = (**to).into();
        Some(EventKind::Fallback)
    }

    fn end(&mut self, finish: &Finish) {
        self.state = finish.state;
        self.reason = finish.reason;
        if *self.carrier != *finish.carrier {
            self.carrier = (*finish.carrier).into();
        }
        self.carrier_status = finish.carrier_status;
        self.carrier_error = (&*finish.carrier_error).into();
    }

    /// The segment with this number, made when it is new.
    fn segment(&mut self, attempt: u16, number: u8) -> &mut Segment {
        let place = self.segments.binary_search_by_key(&(attempt, number), Segment::place);
        let index = place.unwrap_or_else(|index| {
            self.segments.insert(index, Segment::new(attempt, number, Arc::clone(&self.carrier)));
            index
        });
        #[expect(clippy::indexing_slicing, reason = "found there, or put there just now")]
        &mut self.segments[index]
    }

    fn each(&mut self, attempt: u16, set: SegmentSet, mut change: impl FnMut(&mut Segment)) {
        self.segments
            .iter_mut()
            .filter(|segment| segment.attempt == attempt && set.contains(segment.segment))
            .for_each(&mut change);
    }
}

/// The word of a receipt for a message that the handset has.
const DELIVERED: &str = "DELIVERED";

impl Segment {
    fn new(attempt: u16, number: u8, carrier: Arc<str>) -> Self {
        Self {
            attempt,
            segment: number,
            carrier,
            carrier_message_id: CompactString::default(),
            state: SegmentState::Waiting,
            status: None,
            receipt: CompactString::default(),
            error: CompactString::default(),
        }
    }

    fn place(&self) -> (u16, u8) {
        (self.attempt, self.segment)
    }

    fn carried(carried: CarriedSegment) -> Self {
        let state = match carried.standing {
            0 => SegmentState::Waiting,
            1 => SegmentState::Sending,
            2 => SegmentState::Submitted,
            3 => SegmentState::Refused,
            5 => SegmentState::Delivered,
            6 => SegmentState::Failed,
            _ => SegmentState::Unknown,
        };
        Self {
            carrier_message_id: carried.carrier_message_id.into(),
            state,
            status: carried.status,
            ..Self::new(carried.attempt, carried.segment, carried.carrier.into())
        }
    }
}
