//! What a record does to a message: the one place that knows, without a file or a clock.

use std::collections::BTreeMap;

use crate::archive::Entry;
use crate::archive::Event;
use crate::archive::EventKind;
use crate::archive::FallbackStep;
use crate::archive::Inbound;
use crate::archive::Message;
use crate::archive::NumberKeeper;
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

/// The longest timeline that is kept whole; of a longer one the middle is left out.
const TIMELINE_ENTRIES: usize = 256;

impl Projection {
    /// The message that `record` begins, if it begins one.
    pub fn begin(&self, position: Position, record: &Record) -> Option<Message> {
        match record {
            Record::Accepted(submission) => {
                let state = match submission.send_at {
                    Some(at) if at > submission.accepted_at => State::Scheduled,
                    _ => State::Queued,
                };
                let mut message = self.submitted(position, submission, state);
                message.push(position, submission.accepted_at, Step::Accepted { state });
                Some(message)
            }
            Record::Carried(carried) => Some(self.resumed(position, carried)),
            Record::CarriedFinished { carried, finish, at } => {
                let mut message = self.resumed(position, carried);
                message.done_at = Some(*at);
                message.end(finish);
                Some(message)
            }
            _ => None,
        }
    }

    /// The event that a message's beginning makes.
    pub fn begun(&self, message: &Message, record: &Record) -> Option<Event> {
        matches!(record, Record::Accepted(_)).then(|| {
            let at = message.created_at;
            message.event(message.position, at, EventKind::Queued, None, None)
        })
    }

    /// Applies `record`, which is about `message`, and returns the event that this makes.
    pub fn apply(
        &self,
        message: &mut Message,
        position: Position,
        record: &Record,
    ) -> Option<Event> {
        let before = message.state;
        let (at, kind, step) = self.change(message, record)?;
        message.updated = position;
        message.push(position, at, step);
        let fallback = match record {
            Record::Requeued {
                decision: Decision::Fallback { from, to, rule, uncertain }, ..
            } => Some(FallbackStep {
                from: from.clone(),
                to: to.clone(),
                rule: rule.clone(),
                uncertain: *uncertain,
            }),
            _ => None,
        };
        Some(message.event(position, at, kind?, Some(before), fallback))
    }

    /// Changes `message` as `record` says; nothing for a record that changes none.
    fn change(
        &self,
        message: &mut Message,
        record: &Record,
    ) -> Option<(Time, Option<EventKind>, Step)> {
        match record {
            Record::Sending { at, .. } => Some((*at, None, message.sending(record)?)),
            Record::Answered { at, attempt, segment, answer, state, .. } => {
                let kind = message.answered(*at, (*attempt, *segment), answer, *state);
                let (attempt, segment, answer) = (*attempt, *segment, answer.clone());
                Some((*at, kind, Step::Answered { attempt, segment, answer }))
            }
            Record::Unanswered { at, attempt, segments, cause, .. } => {
                let (attempt, segments, cause) = (*attempt, *segments, *cause);
                let state = match cause {
                    UnansweredCause::Unsent => SegmentState::Waiting,
                    _ => SegmentState::Unknown,
                };
                message.each(attempt, segments, |segment| segment.state = state);
                Some((*at, None, Step::Unanswered { attempt, segments, cause }))
            }
            Record::Receipt { at, attempt, segment, receipt, .. } => {
                message.receipt((*attempt, *segment), receipt);
                let receipt = self.receipt(receipt);
                let (attempt, segment) = (*attempt, *segment);
                Some((*at, None, Step::Receipt { attempt, segment, receipt }))
            }
            Record::Requeued { at, due, decision, reason, .. } => {
                let kind = message.requeued(decision, *reason);
                let (due, decision, reason) = (*due, decision.clone(), *reason);
                Some((*at, kind, Step::Requeued { due, decision, reason }))
            }
            Record::Finished { at, finish, .. } => {
                message.done_at = Some(*at);
                message.end(finish);
                let kind = EventKind::of_end(finish.state);
                Some((*at, kind, Step::Finished(finish.clone())))
            }
            Record::Corrected { at, finish, .. } => {
                message.corrected_at = Some(*at);
                message.end(finish);
                let kind = EventKind::of_end(finish.state);
                Some((*at, kind, Step::Corrected(finish.clone())))
            }
            // What they tell is known already when the message is.
            Record::Accepted(_)
            | Record::Carried(_)
            | Record::CarriedFinished { .. }
            | Record::CarriedIdempotency { .. } => None,
            Record::Orphan { .. }
            | Record::OrphanDropped { .. }
            | Record::Inbound(_)
            | Record::InboundWhole { .. } => None,
        }
    }

    /// The event of something that a handset sent; none for a part of a longer message, which
    /// makes one when it is whole.
    pub fn inbound(&self, position: Position, record: &Record) -> Option<Event> {
        let (message, complete) = match record {
            Record::Inbound(message) if message.part.is_none() => (message, true),
            Record::InboundWhole { message, complete } => (message, *complete),
            _ => return None,
        };
        let inbound = self.received(position, message, complete);
        Some(Event {
            position,
            at: inbound.at,
            key: inbound.key.clone(),
            kind: EventKind::InboundReceived,
            subject: Subject::Inbound(Box::new(inbound)),
        })
    }

    fn received(&self, position: Position, message: &InboundRecord, complete: bool) -> Inbound {
        let owners = &self.inbound_owners;
        let ours = &*message.to;
        let owner = owners
            .get(ours)
            .or_else(|| owners.get(ours.strip_prefix('+').unwrap_or(ours)))
            .or_else(|| owners.get("*"));
        let octets = if message.text.is_none() { message.octets.clone() } else { Box::default() };
        Inbound {
            id: message.id,
            position,
            key: owner.map(|key| key.as_str().into()).unwrap_or_default(),
            at: message.at,
            carrier: message.carrier.clone(),
            from: self.numbers.keep(&message.from),
            to: message.to.clone(),
            data_coding: message.data_coding,
            udh: message.udh.clone(),
            text: message.text.clone(),
            octets,
            complete,
        }
    }

    /// A receipt as it is kept.
    pub fn receipt(&self, receipt: &ReceiptRecord) -> ReceiptRecord {
        ReceiptRecord { source: self.numbers.keep(&receipt.source), ..receipt.clone() }
    }

    fn submitted(&self, position: Position, submission: &Submission, state: State) -> Message {
        let text = match &submission.content {
            Content::Text(text) if self.store_text => Some(text.clone()),
            _ => None,
        };
        Message {
            id: submission.id,
            position,
            updated: position,
            key: submission.key.clone(),
            to: self.numbers.keep(&submission.to),
            from: submission.from.clone(),
            class: submission.class,
            client_ref: submission.client_ref.clone(),
            campaign: submission.campaign.clone(),
            tags: submission.tags.clone(),
            text,
            plan: submission.plan.clone(),
            receipts: submission.receipts,
            callback_url: submission.callback_url.clone(),
            created_at: submission.accepted_at,
            send_at: submission.send_at,
            expires_at: submission.expires_at,
            state,
            reason: None,
            carrier: Box::default(),
            carrier_status: None,
            carrier_error: Box::default(),
            attempt: 0,
            submitted_at: None,
            done_at: None,
            corrected_at: None,
            segments: Vec::new(),
            timeline: Vec::new(),
            omitted: 0,
        }
    }

    /// A message of which the archive has nothing but what was carried on.
    fn resumed(&self, position: Position, carried: &Carried) -> Message {
        let state = carried.state;
        let mut message = self.submitted(position, &carried.submission, state);
        message.attempt = carried.attempt;
        message.carrier = carried.carrier.clone();
        message.submitted_at = carried.submitted_at;
        message.segments = carried.segments.iter().map(Segment::carried).collect();
        message.segments.sort_by_key(Segment::place);
        message.push(position, carried.submission.accepted_at, Step::Resumed { state });
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
        Event { position, at, key: self.key.clone(), kind, subject }
    }

    fn push(&mut self, position: Position, at: Time, step: Step) {
        if self.timeline.len() >= TIMELINE_ENTRIES {
            self.timeline.remove(TIMELINE_ENTRIES / 2);
            self.omitted = self.omitted.saturating_add(1);
        }
        self.timeline.push(Entry { position, at, step });
    }

    fn sending(&mut self, record: &Record) -> Option<Step> {
        let Record::Sending { attempt, carrier, bind, reference, total, segments, waited, .. } =
            record
        else {
            return None;
        };
        if self.state.is_terminal() {
            return None;
        }
        self.state = State::Submitting;
        self.attempt = *attempt;
        self.carrier = carrier.clone();
        for number in 0..*total {
            self.segment(*attempt, number, carrier);
        }
        self.each(*attempt, *segments, |segment| {
            segment.state = SegmentState::Sending;
            segment.carrier = carrier.clone();
        });
        Some(Step::Sending {
            attempt: *attempt,
            carrier: carrier.clone(),
            bind: *bind,
            reference: *reference,
            total: *total,
            segments: *segments,
            waited: *waited,
        })
    }

    fn answered(
        &mut self,
        at: Time,
        (attempt, number): (u16, u8),
        answer: &Answer,
        state: State,
    ) -> Option<EventKind> {
        let carrier = self.carrier.clone();
        let taken = answer.status == CommandStatus::ESME_ROK;
        let segment = self.segment(attempt, number, &carrier);
        segment.status = Some(answer.status);
        segment.carrier_message_id = answer.carrier_message_id.clone();
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
        let carrier = self.carrier.clone();
        let segment = self.segment(attempt, number, &carrier);
        segment.receipt = receipt.state.clone();
        segment.error = receipt.error.clone();
        if segment.carrier_message_id.is_empty() {
            segment.carrier_message_id = receipt.carrier_message_id.clone();
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
        self.carrier = to.clone();
        Some(EventKind::Fallback)
    }

    fn end(&mut self, finish: &Finish) {
        self.state = finish.state;
        self.reason = finish.reason;
        self.carrier = finish.carrier.clone();
        self.carrier_status = finish.carrier_status;
        self.carrier_error = finish.carrier_error.clone();
    }

    /// The segment with this number, made when it is new.
    fn segment(&mut self, attempt: u16, number: u8, carrier: &str) -> &mut Segment {
        let place = self.segments.binary_search_by_key(&(attempt, number), Segment::place);
        let index = place.unwrap_or_else(|index| {
            self.segments.insert(index, Segment::new(attempt, number, carrier));
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
    fn new(attempt: u16, number: u8, carrier: &str) -> Self {
        Self {
            attempt,
            segment: number,
            carrier: carrier.into(),
            carrier_message_id: Box::default(),
            state: SegmentState::Waiting,
            status: None,
            receipt: Box::default(),
            error: Box::default(),
        }
    }

    fn place(&self) -> (u16, u8) {
        (self.attempt, self.segment)
    }

    fn carried(carried: &CarriedSegment) -> Self {
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
            carrier_message_id: carried.carrier_message_id.clone(),
            state,
            status: carried.status,
            ..Self::new(carried.attempt, carried.segment, &carried.carrier)
        }
    }
}
