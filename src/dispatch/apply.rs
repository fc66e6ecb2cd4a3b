//! What each record changes in the book.

use crate::message::Answer;
use crate::message::Carried;
use crate::message::CarriedSegment;
use crate::message::Decision;
use crate::message::Finish;
use crate::message::MessageId;
use crate::message::Reason;
use crate::message::ReceiptRecord;
use crate::message::Record;
use crate::message::SegmentSet;
use crate::message::State;
use crate::message::Submission;
use crate::message::UnansweredCause;
use crate::pdu::CommandStatus;
use crate::receipt::ReceiptState;
use crate::route::CarrierId;
use crate::route::Routes;
use crate::time::Time;

use super::book::Book;
use super::ledger::Target;
use super::live::Attempt;
use super::live::Failure;
use super::live::Live;
use super::live::NO_CARRIER;
use super::live::NO_ROUTE;
use super::live::Sent;
use super::live::Standing;
use super::live::UNPLACED;
use super::orphans::Orphan;
use super::table::Slot;

/// A segment of a message's attempt.
#[derive(Clone, Copy)]
struct Place {
    id: MessageId,
    attempt: u16,
    segment: u8,
}

impl Book {
    /// Takes what a record says. `routes` gives names their numbers.
    ///
    /// A record about a message that is not held changes nothing: the file with its beginning is
    /// gone, since it is finished or was carried further.
    pub(super) fn apply(&mut self, routes: &mut Routes, record: &Record) {
        let at = match record {
            Record::Accepted(submission) => self.accept(routes, submission),
            Record::Sending { at, .. } => self.sending(routes, record, *at),
            Record::Answered { id, at, attempt, segment, answer, state } => {
                let place = Place { id: *id, attempt: *attempt, segment: *segment };
                self.answered(*at, place, answer, *state)
            }
            Record::Unanswered { id, at, attempt, segments, cause } => {
                self.unanswered(*at, *id, *attempt, segments, *cause)
            }
            Record::Receipt { id, at, attempt, segment, receipt } => {
                let place = Place { id: *id, attempt: *attempt, segment: *segment };
                self.receipt(routes, *at, place, receipt)
            }
            Record::Orphan { at, carrier, receipt } => self.orphan(routes, *at, carrier, receipt),
            Record::OrphanDropped { at, carrier, carrier_message_id } => {
                self.drop_orphan(routes, *at, carrier, carrier_message_id)
            }
            Record::Requeued { id, at, due, decision, reason } => {
                self.requeued(routes, *id, *due, decision, *reason);
                *at
            }
            Record::Finished { id, at, finish } => self.finished(routes, *at, *id, finish),
            Record::Corrected { id, at, finish } => self.corrected(*at, *id, finish),
            Record::Inbound(part) => self.parts.push(part),
            Record::InboundWhole { message, .. } => self.parts.done(message),
            Record::Carried(carried) => self.carried(routes, carried, None),
            Record::CarriedIdempotency { entry, id, until } => {
                self.requests.carry(*entry, *id, *until);
                return;
            }
            Record::CarriedUsage { key, day, count } => {
                let key = self.keys.intern(key);
                return self.usage.carry(*day, key, *count);
            }
            Record::CarriedFinished { carried, finish, at } => {
                self.carried(routes, carried, Some((finish, *at)))
            }
            Record::CarriedFailure { id, attempt, state, error, reason } => {
                let (state, error, reason) = (state.clone(), error.clone(), *reason);
                return self.fail(*id, *attempt, Failure { state, error, reason });
            }
        };
        self.forget(at);
    }

    fn accept(&mut self, routes: &Routes, submission: &Submission) -> Time {
        let at = submission.accepted_at;
        let key = self.keys.intern(&submission.key);
        self.usage.accept(at, key);
        if self.table.find(submission.id).is_none() {
            let route = routes.route_id(&submission.plan.route).unwrap_or(NO_ROUTE);
            let slot = self.table.insert(Live::new(submission, key, route));
            self.ages.push_back(&mut self.table, slot);
        }
        if let Some(entry) = submission.idempotency {
            self.requests.accept(at, entry, submission.id);
        }
        at
    }

    fn sending(&mut self, routes: &mut Routes, record: &Record, at: Time) -> Time {
        let Record::Sending { id, attempt, carrier, reference, total, segments, .. } = record
        else {
            return at;
        };
        let Some(slot) = self.find_live(*id) else { return at };
        let carrier = routes.intern_carrier(carrier).unwrap_or(NO_CARRIER);
        let live = &mut self.table[slot];
        live.state = State::Submitting;
        live.carrier = carrier;
        let begun = || Attempt::new(*attempt, carrier, *reference, *total);
        let begins = live.attempt(*attempt).is_none();
        let sent = live.sent.get_or_insert_with(|| Box::new(Sent::new(begun())));
        if sent.attempt(*attempt).is_none() {
            sent.push(begun());
        }
        sent.present = *attempt;
        sent.tries = sent.tries.max(1);
        let Some(present) = sent.attempt_mut(*attempt) else { return at };
        present.sent_at = at;
        for segment in segments.iter() {
            if let Some(segment) = present.segment_mut(segment) {
                segment.standing = Standing::Sending;
                segment.refusal = None;
            }
        }
        if *total > 1 {
            self.references.note(at, live.to, *reference, begins);
            self.begun.note(live.to, *id, *reference);
        }
        at
    }

    fn answered(&mut self, at: Time, place: Place, answer: &Answer, state: State) -> Time {
        let Some(slot) = self.table.find(place.id) else { return at };
        let carrier = self.settle_segment(slot, place, answer);
        let live = &mut self.table[slot];
        if live.is_finished() {
            return at;
        }
        let was = std::mem::replace(&mut live.state, state);
        // A late answer to an attempt that was left changes nothing once another is taken.
        if let (State::Submitted, Some(carrier)) = (state, carrier)
            && was != State::Submitted
        {
            live.carrier = carrier;
            let Some(sent) = live.sent.as_deref_mut() else { return at };
            sent.present = place.attempt;
            if let Some(attempt) = sent.attempt_mut(place.attempt) {
                attempt.taken_at = at;
            }
        }
        at
    }

    /// Notes the answer to one segment; returns the carrier that gave it.
    fn settle_segment(&mut self, slot: Slot, place: Place, answer: &Answer) -> Option<CarrierId> {
        let sent = self.table[slot].sent.as_deref_mut()?;
        let attempt = sent.attempt_mut(place.attempt)?;
        let carrier = attempt.carrier;
        let segment = attempt.segment_mut(place.segment)?;
        if answer.status != CommandStatus::ESME_ROK {
            if !segment.standing.was_taken() {
                segment.standing = Standing::Refused;
                segment.refusal = Some((answer.status, answer.failure_reason));
            }
            return Some(carrier);
        }
        if !segment.standing.was_taken() {
            segment.standing = Standing::Taken;
        }
        let before = std::mem::replace(&mut segment.id, answer.carrier_message_id.clone());
        let target = Target { slot, attempt: place.attempt, segment: place.segment };
        if !before.is_empty() {
            self.ledger.remove(carrier, &before, target);
        }
        self.ledger.insert(carrier, &answer.carrier_message_id, target);
        Some(carrier)
    }

    fn unanswered(
        &mut self,
        at: Time,
        id: MessageId,
        number: u16,
        segments: &SegmentSet,
        cause: UnansweredCause,
    ) -> Time {
        let Some(slot) = self.table.find(id) else { return at };
        let live = &mut self.table[slot];
        let Some(attempt) = live.sent.as_deref_mut().and_then(|sent| sent.attempt_mut(number))
        else {
            return at;
        };
        let after = match cause {
            UnansweredCause::Unsent => Standing::ToSend,
            _ => Standing::Unknown,
        };
        for segment in segments.iter() {
            let segment = attempt.segment_mut(segment);
            if let Some(segment) = segment.filter(|it| it.standing == Standing::Sending) {
                segment.standing = after;
            }
        }
        let waits = |standing| matches!(standing, Standing::ToSend | Standing::Taken);
        let idle = attempt.segments().iter().all(|segment| waits(segment.standing));
        if idle && live.state == State::Submitting && !attempt.is_taken() {
            live.state = State::Queued;
        }
        at
    }

    fn receipt(
        &mut self,
        routes: &Routes,
        at: Time,
        place: Place,
        receipt: &ReceiptRecord,
    ) -> Time {
        let Some(slot) = self.table.find(place.id) else {
            // Its beginning is gone with an old file; the receipt may have waited for it here. Where
            // two carriers wrote the same, both stay: one too many is dropped in its time.
            let message = &receipt.carrier_message_id;
            let waits =
                |carrier: &CarrierId| self.orphans.find(*carrier, message, Some(receipt)).is_some();
            if let [carrier] = routes.known_carriers().filter(waits).collect::<Vec<_>>()[..] {
                self.take_orphan(carrier, receipt);
            }
            return at;
        };
        let sent = self.table[slot].sent.as_deref_mut();
        let Some(attempt) = sent.and_then(|sent| sent.attempt_mut(place.attempt)) else {
            return at;
        };
        let carrier = attempt.carrier;
        if receipt.is_final {
            note_final(attempt, place.segment, receipt);
            self.repeats.note(&routes.carrier_name(carrier), receipt);
        }
        self.take_orphan(carrier, receipt);
        let live = &self.table[slot];
        let is_awaited = live.attempts().any(Attempt::is_awaited);
        if live.is_finished() && !is_awaited && !is_correctable(live.state) {
            self.late.remove(&mut self.table, slot);
            self.remove(slot);
        }
        at
    }

    /// Takes a receipt out of those that wait, now that it has found its message.
    fn take_orphan(&mut self, carrier: CarrierId, receipt: &ReceiptRecord) {
        let message = &receipt.carrier_message_id;
        if let Some(orphan) = self.orphans.find(carrier, message, Some(receipt)) {
            self.orphans.remove(orphan);
        }
    }

    fn orphan(
        &mut self,
        routes: &mut Routes,
        at: Time,
        carrier: &str,
        receipt: &ReceiptRecord,
    ) -> Time {
        // What cannot be read is kept in the journal, and waits for nothing.
        if receipt.carrier_message_id.is_empty() {
            return at;
        }
        if let Some(carrier) = routes.intern_carrier(carrier) {
            self.orphans.push(Orphan { at, carrier, receipt: receipt.clone() });
        }
        at
    }

    fn drop_orphan(&mut self, routes: &Routes, at: Time, carrier: &str, message: &str) -> Time {
        let carrier = routes.carrier_id(carrier);
        let found = carrier.and_then(|carrier| self.orphans.find(carrier, message, None));
        if let Some(orphan) = found {
            self.orphans.remove(orphan);
        }
        at
    }

    fn requeued(
        &mut self,
        routes: &mut Routes,
        id: MessageId,
        due: Time,
        decision: &Decision,
        reason: Reason,
    ) {
        let Some(slot) = self.find_live(id) else { return };
        let live = &mut self.table[slot];
        live.due = due;
        live.state = State::Queued;
        if let Decision::Fallback { to, .. } = decision {
            live.carrier = routes.intern_carrier(to).unwrap_or(NO_CARRIER);
        }
        let Some(sent) = live.sent.as_deref_mut() else { return };
        match decision {
            Decision::Retry { attempt_try } => sent.tries = *attempt_try,
            Decision::Throttled if reason == Reason::Throttled => {
                sent.throttles = sent.throttles.saturating_add(1);
            }
            Decision::Throttled => {}
            Decision::Fallback { .. } => {
                sent.present = sent.next_number();
                sent.tries = 0;
                sent.throttles = 0;
                return;
            }
        }
        let present = sent.present;
        for segment in sent.attempt_mut(present).into_iter().flat_map(Attempt::segments_mut) {
            if matches!(segment.standing, Standing::Refused | Standing::Unknown) {
                segment.is_doubtful |= segment.standing == Standing::Unknown;
                segment.standing = Standing::ToSend;
            }
        }
    }

    fn finished(&mut self, routes: &Routes, at: Time, id: MessageId, finish: &Finish) -> Time {
        let Some(slot) = self.find_live(id) else { return at };
        let live = &mut self.table[slot];
        live.state = finish.state;
        live.carrier = routes.carrier_id(&finish.carrier).unwrap_or(NO_CARRIER);
        live.due = at;
        self.begun.end(live.to, id);
        if is_kept(live) {
            if let Some(sent) = live.sent.as_deref_mut() {
                sent.finish = Some(Box::new(finish.clone()));
            }
            self.late.push_back(&mut self.table, slot);
        } else {
            self.remove(slot);
        }
        at
    }

    fn corrected(&mut self, at: Time, id: MessageId, finish: &Finish) -> Time {
        let found = self.table.find(id).filter(|slot| self.table[*slot].is_finished());
        let Some(slot) = found else { return at };
        let live = &mut self.table[slot];
        live.state = finish.state;
        if let Some(sent) = live.sent.as_deref_mut() {
            sent.finish = Some(Box::new(finish.clone()));
        }
        if !is_kept(live) {
            self.late.remove(&mut self.table, slot);
            self.remove(slot);
        }
        at
    }

    /// Takes a message as it was written again, in place of what is known of it.
    fn carried(
        &mut self,
        routes: &mut Routes,
        carried: &Carried,
        finish: Option<(&Finish, Time)>,
    ) -> Time {
        let submission = &carried.submission;
        let slot = match self.table.find(submission.id) {
            Some(slot) => {
                self.forget_ids(slot);
                self.ages.remove(&mut self.table, slot);
                if self.table[slot].is_finished() {
                    self.late.remove(&mut self.table, slot);
                }
                slot
            }
            None => {
                let route = routes.route_id(&submission.plan.route).unwrap_or(NO_ROUTE);
                let key = self.keys.intern(&submission.key);
                self.table.insert(Live::new(submission, key, route))
            }
        };
        self.ages.push_back(&mut self.table, slot);
        restore(&mut self.table[slot], routes, carried);
        let live = &mut self.table[slot];
        if let Some((finish, at)) = finish {
            (live.state, live.due) = (finish.state, at);
            if let Some(sent) = live.sent.as_deref_mut() {
                sent.finish = Some(Box::new(finish.clone()));
            }
        }
        // Its first record may be gone when this one is read again: its place is here, then too.
        if live.is_finished() {
            self.late.push_back(&mut self.table, slot);
        }
        self.note_begun(slot);
        self.note_ids(slot);
        // A carried record says nothing of the present time.
        Time::ZERO
    }

    /// Notes the reference of a message that was written again.
    fn note_begun(&mut self, slot: Slot) {
        let live = &self.table[slot];
        let (id, to) = (live.id(), live.to);
        self.begun.end(to, id);
        let present = live.present().filter(|it| it.total() > 1 && !live.is_finished());
        if let Some(reference) = present.map(|it| it.reference) {
            self.begun.note(to, id, reference);
        }
    }

    fn fail(&mut self, id: MessageId, attempt: u16, failure: Failure) {
        let sent = self.table.find(id).and_then(|slot| self.table[slot].sent.as_deref_mut());
        if let Some(attempt) = sent.and_then(|sent| sent.attempt_mut(attempt)) {
            attempt.failure = Some(Box::new(failure));
        }
    }

    /// Forgets what is too old or too much, a little with each record.
    fn forget(&mut self, at: Time) {
        const AT_ONCE: usize = 4;
        self.time = self.time.max(at);
        self.requests.forget(self.time);
        self.usage.turn(at);
        for _ in 0..AT_ONCE {
            let Some(slot) = self.late.head() else { return };
            if !self.is_too_late(slot) && self.late.len() <= self.late_limit {
                return;
            }
            self.late.remove(&mut self.table, slot);
            self.remove(slot);
        }
    }

    /// Whether the time is over in which a receipt could correct a finished message.
    pub(super) fn is_too_late(&self, slot: Slot) -> bool {
        self.table[slot].due + self.late_hold < self.time
    }
}

fn note_final(attempt: &mut Attempt, number: u8, receipt: &ReceiptRecord) {
    let arrived = [ReceiptState::Delivered, ReceiptState::Accepted]
        .iter()
        .any(|state| state.as_str() == &*receipt.state);
    let Some(segment) = attempt.segment_mut(number) else { return };
    if arrived {
        segment.standing = Standing::Delivered;
    } else if segment.standing != Standing::Delivered {
        segment.standing = Standing::Failed;
        let (state, error) = (receipt.state.clone(), receipt.error.clone());
        attempt.failure = Some(Box::new(Failure { state, error, reason: None }));
    }
}

/// Whether a finished message is held on to: a receipt may still come, or tell better.
fn is_kept(live: &Live) -> bool {
    live.attempts().any(|attempt| {
        let has_id = attempt.segments().iter().any(|segment| !segment.id.is_empty());
        attempt.is_awaited() || (has_id && is_correctable(live.state))
    })
}

/// Whether a late receipt may correct this state.
pub(super) const fn is_correctable(state: State) -> bool {
    matches!(state, State::Unknown | State::Expired)
}

fn restore(live: &mut Live, routes: &mut Routes, carried: &Carried) {
    let mut intern = |name: &str| match name {
        "" => NO_CARRIER,
        name => routes.intern_carrier(name).unwrap_or(NO_CARRIER),
    };
    live.position = UNPLACED;
    live.state = carried.state;
    live.due = carried.due;
    live.carrier = intern(&carried.carrier);
    let before = live.sent.take();
    for segment in &carried.segments {
        restore_segment(live, intern(&segment.carrier), segment);
    }
    let Some(sent) = live.sent.as_deref_mut() else { return };
    // The record that has it stands behind this one, and may be lost with the end of the journal.
    let failed = before.as_deref().into_iter().flat_map(Sent::attempts);
    for (number, failure) in failed.filter_map(|it| Some((it.number, it.failure.as_ref()?))) {
        if let Some(attempt) = sent.attempt_mut(number) {
            attempt.failure = Some(failure.clone());
        }
    }
    sent.present = carried.attempt;
    sent.tries = carried.tries;
    sent.throttles = carried.throttles;
    if let Some(present) = sent.attempt_mut(carried.attempt) {
        present.sent_at = carried.sent_at.unwrap_or_default();
        present.taken_at = carried.submitted_at.unwrap_or_default();
    }
}

fn restore_segment(live: &mut Live, carrier: CarrierId, carried: &CarriedSegment) {
    let CarriedSegment { attempt: number, segment, total, reference, .. } = *carried;
    let begun = || Attempt::new(number, carrier, reference, total);
    let sent = live.sent.get_or_insert_with(|| Box::new(Sent::new(begun())));
    if sent.attempt(number).is_none() {
        sent.push(begun());
    }
    let attempt = sent.attempt_mut(number);
    if let Some(segment) = attempt.and_then(|attempt| attempt.segment_mut(segment)) {
        segment.standing = Standing::from_number(carried.standing & !CarriedSegment::DOUBTFUL);
        segment.is_doubtful = carried.standing & CarriedSegment::DOUBTFUL != 0;
        segment.refusal = carried.status.map(|status| (status, None));
        segment.id = carried.carrier_message_id.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Config;
    use crate::pdu::InterfaceVersion;
    use crate::route::Carrier;
    use crate::route::CarrierConfig;

    #[test]
    fn a_receipt_of_a_forgotten_message_takes_no_other_carriers_receipt_along() {
        let config: CarrierConfig = toml::from_str("rate = \"1/s\"").unwrap();
        let carrier = |name| Carrier::new(name, config.clone(), InterfaceVersion::V3_4);
        let route = toml::from_str("name = \"main\"\ncarriers = [\"alpha\", \"beta\"]").unwrap();
        let mut routes = Routes::new(vec![carrier("alpha"), carrier("beta")], vec![route]).unwrap();
        let receipt = ReceiptRecord {
            carrier_message_id: "17".into(),
            text_id: "".into(),
            source: "819012345678".into(),
            state: "DELIVERED".into(),
            is_final: true,
            error: "".into(),
            raw: "id:17 stat:DELIVRD".into(),
        };
        // The config has gamma no more.
        for carriers in [vec!["alpha"], vec!["gamma"], vec!["alpha", "beta"]] {
            let mut book = Book::new(&Config::default());
            for carrier in &carriers {
                let (at, carrier) = (Time::from_secs(1), (*carrier).into());
                let receipt = receipt.clone();
                book.apply(&mut routes, &Record::Orphan { at, carrier, receipt });
            }
            let (at, receipt) = (Time::from_secs(2), receipt.clone());
            let id = MessageId::from_u128(7);
            book.apply(&mut routes, &Record::Receipt { id, at, attempt: 1, segment: 0, receipt });
            let left = if carriers.len() == 1 { 0 } else { 2 };
            assert_eq!(book.orphans.len(), left, "{carriers:?}");
        }
    }
}
