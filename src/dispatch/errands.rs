//! `cancel_sm` and `query_sm`: taking a message back, and asking how it stands.
//!
//! Both need the message's body for its addresses, a place in a window and a cell of the rate, and
//! both may fail: then the message is where it was. A restart forgets them; what led to them leads
//! to them again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::message::MessageId;
use crate::message::Reason;
use crate::message::ReceiptRecord;
use crate::message::Record;
use crate::message::SegmentSet;
use crate::message::State;
use crate::message::Submission;
use crate::pdu::Body;
use crate::pdu::CommandStatus;
use crate::receipt::ReceiptState;
use crate::route::Carrier;
use crate::route::Outcome;
use crate::route::cancel;
use crate::route::query;
use crate::time::Time;

use super::Dispatch;
use super::event::Reply;
use super::event::Ticket;
use super::event::Token;
use super::gate::Held;
use super::ledger::Target;
use super::live::Attempt;
use super::live::Place;
use super::live::Standing;
use super::station::Errand;
use super::station::Flight;
use super::table::Slot;

/// Requests about messages that carriers have.
#[derive(Debug, Default)]
pub(super) struct Errands {
    recalls: BTreeMap<MessageId, Recall>,
    /// Messages that were recalled for a fallback, which goes on now.
    recalled: BTreeSet<MessageId>,
    inquiries: BTreeMap<MessageId, Inquiry>,
}

impl Errands {
    /// Whether a carrier is asked about the message, or for it.
    pub(super) fn is_asking(&self, id: MessageId) -> bool {
        self.recalls.contains_key(&id) || self.inquiries.contains_key(&id)
    }

    /// What the carrier still answers is heard; it is asked nothing more.
    pub(super) fn stop_asking(&mut self, id: MessageId) {
        self.inquiries.remove(&id);
    }
}

/// A message that is to come back from its carrier.
#[derive(Debug)]
struct Recall {
    /// Who asked, and whether as an operator; `None` for a fallback.
    asked_by: Option<(Ticket, bool)>,
    /// Whether the requests were made; before that the body is waited for.
    is_sent: bool,
    attempt: u16,
    open: SegmentSet,
    done: SegmentSet,
    has_failed: bool,
}

/// A message that its carrier is asked about.
#[derive(Debug, Default)]
struct Inquiry {
    asked: SegmentSet,
    /// A request is on its way since then.
    open_since: Option<Time>,
    /// The body is waited for since then.
    body_since: Option<Time>,
}

/// How long an answer, or a body, is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two `query_sm` to one carrier (PROTOCOL 3.7).
const QUERY_PAUSE: Duration = Duration::from_secs(1);

impl Dispatch {
    /// Begins to take a message back for its owner; false when that cannot be done.
    pub(super) fn begin_cancel(&mut self, slot: Slot, ticket: Ticket, by_operator: bool) -> bool {
        let live = &self.book.table[slot];
        let id = live.id();
        if live.place != Place::Taken
            || live.unknowns() > 0
            || self.errands.recalls.contains_key(&id)
        {
            return false;
        }
        self.recall(slot, Some((ticket, by_operator)))
    }

    /// Begins to take a message back before it goes to another carrier; false when that cannot be
    /// done, or was.
    pub(super) fn begin_recall(&mut self, slot: Slot) -> bool {
        let id = self.book.table[slot].id();
        if self.errands.recalled.remove(&id) {
            return false;
        }
        self.errands.recalls.contains_key(&id) || self.recall(slot, None)
    }

    fn recall(&mut self, slot: Slot, asked_by: Option<(Ticket, bool)>) -> bool {
        let live = &self.book.table[slot];
        let id = live.id();
        let Some(attempt) = live.present() else { return false };
        let can = self.routes.carrier(attempt.carrier).is_some_and(|it| it.config.cancel_sm);
        let mut segments = attempt.segments().iter();
        let all = segments.all(|it| it.standing == Standing::Taken && !it.id.is_empty());
        if !can || !all {
            return false;
        }
        let recall = Recall {
            asked_by,
            is_sent: false,
            attempt: attempt.number,
            open: attempt.standing(Standing::Taken),
            done: SegmentSet::default(),
            has_failed: false,
        };
        self.errands.recalls.insert(id, recall);
        self.want_body(slot);
        self.send_recall(id);
        true
    }

    /// Sends the `cancel_sm` of each segment, once the body is here.
    fn send_recall(&mut self, id: MessageId) {
        let Some(recall) = self.errands.recalls.get_mut(&id).filter(|it| !it.is_sent) else {
            return;
        };
        let Some(body) = self.bodies.get(id).cloned() else { return };
        recall.is_sent = true;
        let (number, segments) = (recall.attempt, recall.open);
        for segment in segments.iter() {
            let errand = Errand::Cancel { attempt: number, segment };
            let make = |submission: &Submission, carrier: &Carrier, message_id: &str| {
                cancel(submission, carrier, message_id).ok().flatten()
            };
            if !self.send_errand(id, errand, &body, make) {
                self.note_recall(id, segment, false);
            }
        }
    }

    /// Hands a request about a segment to a bind that has room; false when there is none.
    fn send_errand(
        &mut self,
        id: MessageId,
        errand: Errand,
        submission: &Arc<Submission>,
        make: impl Fn(&Submission, &Carrier, &str) -> Option<Body>,
    ) -> bool {
        let (Errand::Submit { attempt, segment }
        | Errand::Query { attempt, segment }
        | Errand::Cancel { attempt, segment }) = errand;
        let Some(slot) = self.book.find_live(id) else { return false };
        let live = &self.book.table[slot];
        let class = live.class;
        let Some(attempt) = live.attempt(attempt) else { return false };
        let Some(carrier) = self.routes.carrier(attempt.carrier) else { return false };
        let message_id = attempt.segment(segment).map_or("", |segment| &segment.id);
        let Some(body) = make(submission, carrier, message_id) else { return false };
        let number = carrier.id;
        let token = Token(self.next_token);
        let station = self.station_mut(number);
        let open = station.binds.iter_mut().find(|(_, bind)| bind.free() > 0);
        let Some((index, bind)) = open else { return false };
        bind.launch(token, id, class, errand, body);
        let index = *index;
        station.staged += 1;
        self.next_token += 1;
        self.gate.hold(Held::Submit(number, index, token));
        self.dirty.insert(number);
        true
    }

    /// Goes on with what waited for a body.
    pub(super) fn resume_errand(&mut self, now: Time, id: MessageId) {
        self.send_recall(id);
        self.conclude_recall(now, id);
        if self.errands.inquiries.contains_key(&id)
            && let Some(slot) = self.book.find_live(id)
        {
            self.ask_carrier(now, slot);
        }
    }

    pub(super) fn on_errand_answered(
        &mut self,
        now: Time,
        flight: &Flight,
        status: CommandStatus,
        body: &Body,
    ) {
        match flight.errand {
            Errand::Cancel { segment, .. } => {
                self.note_recall(flight.id, segment, status == CommandStatus::ESME_ROK);
                self.conclude_recall(now, flight.id);
            }
            Errand::Query { attempt, segment } => {
                self.close_inquiry(now, flight.id);
                if let (CommandStatus::ESME_ROK, Body::QuerySmResp(answer)) = (status, body)
                    && let Some(state) = answer.message_state
                {
                    self.take_query(now, flight.id, attempt, segment, state.into());
                }
            }
            Errand::Submit { .. } => {}
        }
    }

    pub(super) fn on_errand_failed(&mut self, now: Time, id: MessageId, errand: Errand) {
        match errand {
            Errand::Cancel { segment, .. } => {
                self.note_recall(id, segment, false);
                self.conclude_recall(now, id);
            }
            Errand::Query { .. } => self.close_inquiry(now, id),
            Errand::Submit { .. } => {}
        }
    }

    fn note_recall(&mut self, id: MessageId, segment: u8, worked: bool) {
        let Some(recall) = self.errands.recalls.get_mut(&id) else { return };
        recall.open.remove(segment);
        if worked {
            recall.done.insert(segment);
        } else {
            recall.has_failed = true;
        }
    }

    /// Goes on once every `cancel_sm` of a message has an outcome.
    fn conclude_recall(&mut self, now: Time, id: MessageId) {
        let is_over = self.errands.recalls.get(&id).is_some_and(|it| it.open.is_empty());
        let Some(slot) = self.book.find_live(id).filter(|_| is_over) else { return };
        let Some(recall) = self.errands.recalls.remove(&id) else { return };
        match recall.asked_by {
            Some((ticket, by_operator)) if !recall.has_failed => {
                let reason =
                    if by_operator { Reason::CancelledByOperator } else { Reason::Cancelled };
                self.finish(now, slot, State::Cancelled, Some(reason));
                let reply = Reply::Cancelled { id };
                self.gate.hold(Held::Reply(ticket, reply));
            }
            Some((ticket, _)) => {
                self.note_deleted(now, slot, recall.attempt, &recall.done);
                self.weigh_receipts(now, slot, recall.attempt);
                self.reply_too_late(ticket, id);
            }
            None => {
                self.note_deleted(now, slot, recall.attempt, &recall.done);
                self.errands.recalled.insert(id);
                self.decide(now, slot, &Outcome::NotDelivered);
                self.errands.recalled.remove(&id);
            }
        }
    }

    /// Notes segments that the carrier took back, as a receipt would.
    fn note_deleted(&mut self, now: Time, slot: Slot, attempt: u16, segments: &SegmentSet) {
        for segment in segments.iter() {
            let live = &self.book.table[slot];
            let Some(it) = live.attempt(attempt).and_then(|it| it.segment(segment)) else { return };
            let receipt = told(&it.id, ReceiptState::Deleted, true, "cancel_sm");
            let id = live.id();
            self.record(Record::Receipt { id, at: now, attempt, segment, receipt });
        }
    }

    fn reply_too_late(&mut self, ticket: Ticket, id: MessageId) {
        let slot = self.book.table.find(id);
        let state = slot.map_or(State::Unknown, |slot| self.book.table[slot].state);
        let reply = Reply::TooLate { state };
        self.gate.hold(Held::Reply(ticket, reply));
    }

    /// The message ended or its body cannot be read: nothing more is asked about it.
    pub(super) fn drop_errand(&mut self, id: MessageId) {
        self.errands.recalled.remove(&id);
        self.errands.inquiries.remove(&id);
        let recall = self.errands.recalls.remove(&id);
        if let Some((ticket, _)) = recall.and_then(|recall| recall.asked_by) {
            self.reply_too_late(ticket, id);
        }
    }

    /// Asks the carrier how a message stands whose receipts did not come; false once all that can
    /// be asked was.
    pub(super) fn ask_carrier(&mut self, now: Time, slot: Slot) -> bool {
        let live = &self.book.table[slot];
        let id = live.id();
        let Some(attempt) = live.present() else { return false };
        let (number, carrier) = (attempt.number, attempt.carrier);
        if self.routes.carrier(carrier).is_none_or(|it| !it.config.query_sm) {
            // A reload may have come while it was asked.
            self.errands.stop_asking(id);
            return false;
        }
        let inquiry = self.errands.inquiries.entry(id).or_default();
        if let Some(since) = inquiry.open_since.filter(|since| *since + PATIENCE > now) {
            self.set_timer(slot, since + PATIENCE);
            return true;
        }
        let next = next_question(attempt, &inquiry.asked);
        let has_waited = inquiry.body_since.is_some_and(|since| since + PATIENCE <= now);
        let Some(segment) = next.filter(|_| !has_waited) else {
            self.errands.inquiries.remove(&id);
            return false;
        };
        let Some(body) = self.bodies.get(id).cloned() else {
            let since = *inquiry.body_since.get_or_insert(now);
            self.set_timer(slot, since + PATIENCE);
            self.want_body(slot);
            return true;
        };
        let may_ask_at = self.station_mut(carrier).queried_at + QUERY_PAUSE;
        if may_ask_at > now {
            self.set_timer(slot, may_ask_at);
            return true;
        }
        self.send_query(now, slot, number, segment, &body)
    }

    fn send_query(
        &mut self,
        now: Time,
        slot: Slot,
        attempt: u16,
        segment: u8,
        body: &Arc<Submission>,
    ) -> bool {
        let live = &self.book.table[slot];
        let (id, carrier) = (live.id(), live.carrier);
        let errand = Errand::Query { attempt, segment };
        let make = |submission: &Submission, carrier: &Carrier, message_id: &str| {
            query(submission, carrier, message_id).ok().flatten()
        };
        if !self.send_errand(id, errand, body, make) {
            self.errands.inquiries.remove(&id);
            return false;
        }
        self.station_mut(carrier).queried_at = now;
        if let Some(inquiry) = self.errands.inquiries.get_mut(&id) {
            inquiry.asked.insert(segment);
            inquiry.open_since = Some(now);
        }
        self.set_timer(slot, now + PATIENCE);
        true
    }

    /// A question has its outcome: the next one, or the end, follows at once.
    fn close_inquiry(&mut self, now: Time, id: MessageId) {
        let Some(inquiry) = self.errands.inquiries.get_mut(&id) else { return };
        inquiry.open_since = None;
        if let Some(slot) = self.book.find_live(id) {
            self.set_timer(slot, now);
        }
    }

    fn take_query(
        &mut self,
        now: Time,
        id: MessageId,
        attempt: u16,
        segment: u8,
        state: ReceiptState,
    ) {
        let Some(slot) = self.book.find_live(id) else { return };
        let Some(it) = self.book.table[slot].attempt(attempt) else { return };
        let carrier = self.routes.carrier(it.carrier);
        let is_final = carrier.map_or_else(
            || state.is_final(),
            |carrier| carrier.config.receipts.form.is_final(state),
        );
        let message_id = it.segment(segment).map_or("", |segment| &segment.id);
        let receipt = told(message_id, state, is_final, "query_sm");
        if is_final {
            self.take_receipt(now, Target { slot, attempt, segment }, receipt, None);
        }
    }
}

/// The next segment to ask about.
fn next_question(attempt: &Attempt, asked: &SegmentSet) -> Option<u8> {
    let open = attempt.numbered().filter(|(_, it)| it.standing == Standing::Taken);
    let mut open = open.filter(|(_, it)| !it.id.is_empty()).map(|(number, _)| number);
    open.find(|number| !asked.contains(*number))
}

/// What the answer to a request of ours tells, as a receipt.
fn told(id: &str, state: ReceiptState, is_final: bool, raw: &str) -> ReceiptRecord {
    ReceiptRecord {
        carrier_message_id: id.into(),
        text_id: "".into(),
        source: "".into(),
        state: state.as_str().into(),
        is_final,
        error: "".into(),
        raw: raw.into(),
    }
}
