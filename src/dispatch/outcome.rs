//! What became of a submit, and what follows from it.

use crate::message::Answer;
use crate::message::Decision;
use crate::message::Finish;
use crate::message::MessageId;
use crate::message::Reason;
use crate::message::Record;
use crate::message::SegmentSet;
use crate::message::State;
use crate::message::UnansweredCause;
use crate::pdu::Body;
use crate::pdu::CommandStatus;
use crate::pdu::Tag;
use crate::receipt::ReceiptState;
use crate::route::CarrierId;
use crate::route::Choice;
use crate::route::Next;
use crate::route::Outcome;
use crate::route::Progress;
use crate::route::Rule;
use crate::route::Rules;
use crate::route::Seed;
use crate::route::StatusClass;
use crate::route::Verdict;
use crate::route::judge;
use crate::time::Time;

use super::Dispatch;
use super::event::BindId;
use super::event::Notice;
use super::event::Token;
use super::live::Attempt;
use super::live::Failure;
use super::live::Live;
use super::live::NO_CARRIER;
use super::live::Place;
use super::live::Standing;
use super::station::Errand;
use super::station::Flight;
use super::table::Slot;

impl Dispatch {
    pub(super) fn on_answered(
        &mut self,
        now: Time,
        bind: &BindId,
        token: Token,
        sequence_number: u32,
        status: CommandStatus,
        body: &Body,
    ) {
        let Some((carrier, flight)) = self.land(bind, token) else { return };
        self.heed_congestion(now, carrier, &flight, body);
        let verdict = self.verdict(carrier, status, failure_reason(body));
        self.adjust_pace(now, carrier, &flight, &verdict);
        let Errand::Submit { attempt, segment } = flight.errand else {
            return self.on_errand_answered(now, &flight, status, body);
        };
        self.notice_answer(now, carrier, &flight, &verdict);
        let Some(slot) = self.book.table.find(flight.id) else { return };
        let carrier_message_id = message_id(status, body);
        let answer = Answer {
            bind: bind.index,
            sequence_number,
            status,
            carrier_message_id: carrier_message_id.clone(),
            failure_reason: failure_reason(body),
        };
        let state = self.state_after(slot, attempt, segment, status);
        let id = flight.id;
        self.record(Record::Answered { id, at: now, attempt, segment, answer, state });
        self.after_answer(now, carrier, id, attempt, &carrier_message_id);
    }

    /// Goes on with a message one of whose segments was answered.
    fn after_answer(
        &mut self,
        now: Time,
        carrier: CarrierId,
        id: MessageId,
        attempt: u16,
        carrier_message_id: &str,
    ) {
        if !carrier_message_id.is_empty() {
            self.bring_home(now, carrier, carrier_message_id);
        }
        let Some(slot) = self.book.find_live(id) else { return };
        let live = &self.book.table[slot];
        if live.state == State::Submitted && live.place != Place::Taken {
            // Also an earlier attempt, whose late answers completed it before another was sent.
            self.detach(slot);
            return self.taken(now, slot);
        }
        let in_hand = live.attempt_number() == attempt && live.place == Place::Wire;
        if in_hand || live.place == Place::Held {
            self.settle(now, slot);
        }
    }

    /// The state of a message once this answer counts.
    fn state_after(&self, slot: Slot, number: u16, segment: u8, status: CommandStatus) -> State {
        let live = &self.book.table[slot];
        let Some(attempt) = live.attempt(number) else { return live.state };
        let others = attempt.numbered().filter(|(other, _)| *other != segment);
        let completes = status == CommandStatus::ESME_ROK
            && others.into_iter().all(|(_, other)| other.standing.was_taken());
        let in_hand = number == live.attempt_number();
        // An earlier attempt is taken up again only while nothing of the present one was sent.
        let may_take_up = live.present().is_none() && live.state == State::Queued;
        match live.state {
            State::Submitting | State::Queued if completes && (in_hand || may_take_up) => {
                State::Submitted
            }
            state => state,
        }
    }

    /// Takes a request off its bind; `None` for one that nobody waits for.
    pub(super) fn land(&mut self, bind: &BindId, token: Token) -> Option<(CarrierId, Flight)> {
        let carrier = self.routes.carrier_id(&bind.carrier)?;
        let station = self.stations.get_mut(usize::from(carrier.0))?;
        let bind = station.binds.get_mut(&bind.index)?;
        let flight = bind.flights.remove(&token)?;
        if flight.holds_place {
            bind.used = bind.used.saturating_sub(1);
        }
        self.dirty.insert(carrier);
        Some((carrier, flight))
    }

    pub(super) fn verdict(
        &self,
        carrier: CarrierId,
        status: CommandStatus,
        failure_reason: Option<u8>,
    ) -> Verdict {
        match self.routes.carrier(carrier) {
            Some(carrier) => carrier.judge(status, failure_reason),
            None => judge(status, failure_reason),
        }
    }

    fn adjust_pace(&mut self, now: Time, carrier: CarrierId, flight: &Flight, verdict: &Verdict) {
        let station = self.station_mut(carrier);
        match verdict.class {
            StatusClass::Accepted => station.pace.accepted(flight.epoch),
            StatusClass::Throttle if station.pace.throttled(now, flight.epoch) => {
                self.notice_rate(carrier);
                self.unstage(now, carrier, None);
            }
            _ => {}
        }
    }

    fn heed_congestion(&mut self, now: Time, carrier: CarrierId, flight: &Flight, body: &Body) {
        let Some(state) = body.tlvs().and_then(|tlvs| tlvs.get_u8(Tag::CONGESTION_STATE)) else {
            return;
        };
        if self.station_mut(carrier).pace.congested(now, flight.epoch, state) {
            self.notice_rate(carrier);
        }
    }

    fn notice_rate(&mut self, carrier: CarrierId) {
        let station = self.station_mut(carrier);
        let (carrier, rate) = (station.name.clone(), station.pace.rate());
        self.notice(Notice::RateChanged { carrier, millis_per_second: rate.as_millis() });
    }

    fn notice_answer(&mut self, now: Time, carrier: CarrierId, flight: &Flight, verdict: &Verdict) {
        let name = self.station_mut(carrier).name.clone();
        let took = flight.left_at.map(|left_at| now.since(left_at)).unwrap_or_default();
        let (class, status) = (flight.class, verdict.status);
        self.notice(Notice::SegmentAnswered { carrier: name.clone(), class, status, took });
        if verdict.class.alarms() {
            self.notice(Notice::Alarm { carrier: name, status });
        }
    }

    pub(super) fn on_timed_out(&mut self, now: Time, bind: &BindId, token: Token) {
        let Some(carrier) = self.routes.carrier_id(&bind.carrier) else { return };
        let Some(station) = self.stations.get_mut(usize::from(carrier.0)) else { return };
        let Some(it) = station.binds.get_mut(&bind.index) else { return };
        let Some(flight) = it.flights.get_mut(&token) else { return };
        // The answer may still come; the window is the session's, which has its place back.
        if std::mem::take(&mut flight.holds_place) {
            it.used = it.used.saturating_sub(1);
        }
        let (id, errand) = (flight.id, flight.errand);
        it.forget_late();
        self.dirty.insert(carrier);
        match errand {
            Errand::Submit { attempt, segment } => {
                let lost = [(id, attempt, segment)];
                self.unanswered(now, carrier, &lost, UnansweredCause::Timeout);
            }
            Errand::Query { .. } | Errand::Cancel { .. } => self.on_errand_failed(now, id, errand),
        }
    }

    /// Notes that segments have no answer, or never left, and goes on with their messages.
    pub(super) fn unanswered(
        &mut self,
        now: Time,
        carrier: CarrierId,
        lost: &[(MessageId, u16, u8)],
        cause: UnansweredCause,
    ) {
        let mut rest = lost;
        while let Some((id, attempt, _)) = rest.first().copied() {
            let same = rest.iter().take_while(|(i, a, _)| (*i, *a) == (id, attempt)).count();
            let (these, behind) = rest.split_at(same);
            rest = behind;
            let segments = these.iter().map(|(_, _, segment)| *segment).collect();
            self.unanswered_of(now, carrier, id, attempt, &segments, cause);
        }
    }

    fn unanswered_of(
        &mut self,
        now: Time,
        carrier: CarrierId,
        id: MessageId,
        attempt: u16,
        segments: &SegmentSet,
        cause: UnansweredCause,
    ) {
        let Some(slot) = self.book.table.find(id) else { return };
        let live = &self.book.table[slot];
        let sending = live.attempt(attempt).map(|it| it.standing(Standing::Sending));
        let sending = sending.unwrap_or_default();
        let segments: SegmentSet = segments.iter().filter(|it| sending.contains(*it)).collect();
        if segments.is_empty() {
            return;
        }
        let class = live.class;
        if cause != UnansweredCause::Unsent {
            let name = self.station_mut(carrier).name.clone();
            for _ in segments.iter() {
                self.notice(Notice::SegmentUnknown { carrier: name.clone(), class });
            }
        }
        self.record(Record::Unanswered { id, at: now, attempt, segments, cause });
        let Some(slot) = self.book.find_live(id) else { return };
        let live = &self.book.table[slot];
        if live.place == Place::Wire && live.attempt_number() == attempt {
            self.settle(now, slot);
        }
    }

    /// Looks at the attempt in hand once something about it changed: waits, goes on, or decides.
    pub(super) fn settle(&mut self, now: Time, slot: Slot) {
        let live = &self.book.table[slot];
        let Some(attempt) = live.present() else { return self.settle_unsent(now, slot) };
        let is_bad = [Standing::Refused, Standing::Unknown, Standing::Failed]
            .into_iter()
            .any(|standing| attempt.has(standing));
        let (is_waiting, is_taken) = (attempt.has(Standing::Sending), attempt.is_taken());
        // After a restart it stands in no lane.
        let (id, carrier) = (live.id(), attempt.carrier);
        if is_bad {
            // One segment that will not arrive is enough: the rest stays here.
            if let Some(station) = self.stations.get_mut(usize::from(carrier.0)) {
                station.close_job(id);
            }
        }
        if is_waiting {
            return;
        }
        if is_bad {
            self.decide_on_attempt(now, slot);
        } else if is_taken {
            self.detach(slot);
            self.taken(now, slot);
        } else if self.station(carrier).is_some_and(|station| station.has_job(id)) {
            self.dirty.insert(carrier);
        } else {
            self.detach(slot);
            self.place(now, slot);
        }
    }

    /// Nothing of the attempt in hand was sent: the message is held for an earlier one, which may
    /// be lost now.
    fn settle_unsent(&mut self, now: Time, slot: Slot) {
        let live = &self.book.table[slot];
        if live.place == Place::Held && !live.attempts().any(Attempt::may_arrive) {
            self.detach(slot);
            self.place(now, slot);
        }
    }

    /// Decides what follows the worst that happened to the attempt in hand.
    fn decide_on_attempt(&mut self, now: Time, slot: Slot) {
        let Some(attempt) = self.book.table[slot].present() else { return };
        if attempt.has(Standing::Unknown) {
            return self.decide(now, slot, &Outcome::Unanswered);
        }
        if let Some(verdict) = self.worst_refusal(attempt) {
            return self.decide(now, slot, &Outcome::Refused(verdict));
        }
        let failure = attempt.failure.as_deref().cloned().unwrap_or_else(Failure::untold);
        let carrier = self.routes.carrier(attempt.carrier);
        let own = carrier.and_then(|it| it.config.receipts.form.errors.get(&*failure.error));
        let state = ReceiptState::from_word(&failure.state);
        let reason = own.copied().or(failure.reason).or_else(|| state.reason());
        let (reason, error) = (reason.unwrap_or(Reason::Undeliverable), &*failure.error);
        self.decide(now, slot, &Outcome::Failed { state, error, reason });
    }

    /// Of several refusals of one attempt the one that leaves least hope.
    fn worst_refusal(&self, attempt: &Attempt) -> Option<Verdict> {
        let refusals = attempt.segments().iter().filter(|it| it.standing == Standing::Refused);
        let verdicts = refusals
            .filter_map(|it| it.refusal)
            .map(|(status, failure_reason)| self.verdict(attempt.carrier, status, failure_reason));
        verdicts.max_by_key(|verdict| match verdict.class {
            StatusClass::Accepted => 0,
            StatusClass::Throttle => 1,
            StatusClass::Retry => 2,
            StatusClass::SessionFatal => 3,
            StatusClass::OperationFailed => 4,
            StatusClass::Fallback => 5,
            StatusClass::FallbackAlarm => 6,
            StatusClass::Permanent => 7,
        })
    }

    /// Asks the routes what follows, and does it.
    pub(super) fn decide(&mut self, now: Time, slot: Slot, outcome: &Outcome<'_>) {
        let live = &self.book.table[slot];
        let sent = live.sent.as_deref();
        let past: Vec<CarrierId> = sent.map_or_else(Vec::new, |sent| sent.past().collect());
        let is_throttle =
            matches!(outcome, Outcome::Refused(verdict) if verdict.class == StatusClass::Throttle);
        let throttles = sent.map_or(0, |sent| sent.throttles);
        let progress = Progress {
            route: live.route,
            class: live.class,
            seed: Seed::of(live.id()),
            carrier: if live.carrier == NO_CARRIER { live.lane } else { live.carrier },
            past: &past,
            tries: sent.map_or(0, |sent| sent.tries),
            throttles: throttles.saturating_add(u16::from(is_throttle)),
            unknowns: live.unknowns(),
            in_doubt: live.present().is_some_and(Attempt::may_arrive),
            expires_at: live.expires_at,
        };
        let next = self.routes.decide(now, &progress, outcome, |carrier| self.standing(carrier));
        self.act(now, slot, outcome, next);
    }

    fn act(&mut self, now: Time, slot: Slot, outcome: &Outcome<'_>, next: Next) {
        match next {
            Next::Retry { due, reason } => {
                let tries = self.book.table[slot].sent.as_deref().map_or(0, |sent| sent.tries);
                let decision = Decision::Retry { attempt_try: tries.saturating_add(1) };
                self.requeue(now, slot, due, decision, reason);
            }
            Next::Again { due } if matches!(outcome, Outcome::Refused(_)) => {
                let due = self.due_after_throttle(now, slot, due);
                self.requeue(now, slot, due, Decision::Throttled, Reason::Throttled);
            }
            Next::Again { .. } => self.watch_lane(slot, None),
            Next::Fallback { cancel: true, .. } if self.begin_recall(slot) => {}
            Next::Fallback { choice, rule, reason, uncertain, .. } => {
                self.fall_back(now, slot, choice, &rule, reason, uncertain);
            }
            Next::Wait { until } => self.watch_lane(slot, until),
            Next::Hold { .. } => self.hold(now, slot),
            Next::End { state, reason } => self.finish(now, slot, state, Some(reason)),
        }
    }

    /// A throttled message keeps its place at the front, where it waits for the end of the
    /// carrier's silence like all others. But one that is throttled again and again waits for
    /// itself, since it may be the cause (a subscriber's own queue), and others get through.
    fn due_after_throttle(&self, now: Time, slot: Slot, due: Time) -> Time {
        const OFTEN: u16 = 3;
        match self.book.table[slot].sent.as_deref() {
            Some(sent) if sent.throttles >= OFTEN => due,
            _ => now,
        }
    }

    /// Sends a message back to wait for its next try.
    fn requeue(&mut self, now: Time, slot: Slot, due: Time, decision: Decision, reason: Reason) {
        self.detach(slot);
        let id = self.book.table[slot].id();
        self.record(Record::Requeued { id, at: now, due, decision, reason });
        self.place(now, slot);
        self.spare_body(now, id);
    }

    fn fall_back(
        &mut self,
        now: Time,
        slot: Slot,
        choice: Choice,
        rule: &Rule,
        reason: Reason,
        uncertain: bool,
    ) {
        self.detach(slot);
        let live = &self.book.table[slot];
        let id = live.id();
        let from = if live.carrier == NO_CARRIER { live.lane } else { live.carrier };
        let (from, to) = (self.routes.carrier_name(from), self.routes.carrier_name(choice.carrier));
        let decision = Decision::Fallback {
            from: (&*from).into(),
            to: (&*to).into(),
            rule: rule.to_string().into(),
            uncertain,
        };
        self.notice(Notice::Fallback { from, to, reason });
        self.drop_errand(id);
        self.record(Record::Requeued { id, at: now, due: now, decision, reason });
        self.enter_lane(now, slot, choice.carrier, choice.until);
    }

    /// The carrier has all of the message: now for its receipts.
    pub(super) fn taken(&mut self, now: Time, slot: Slot) {
        let live = &mut self.book.table[slot];
        live.place = Place::Taken;
        live.lane = live.carrier;
        let (id, carrier, wanted) = (live.id(), live.carrier, live.receipts);
        let Some(number) = live.present().map(|attempt| attempt.number) else { return };
        self.bodies.drop(id);
        let config = self.routes.carrier(carrier).map(|carrier| &carrier.config);
        let asked = config.is_none_or(|config| config.submit.receipts);
        if wanted == crate::message::ReceiptsWanted::None || !asked {
            return self.finish(now, slot, State::Unknown, Some(Reason::NoReceiptWanted));
        }
        self.watch_taken(slot);
        self.weigh_receipts(now, slot, number);
    }

    /// Sets the timer of a message that waits for receipts.
    pub(super) fn watch_taken(&mut self, slot: Slot) {
        let live = &self.book.table[slot];
        let Some(attempt) = live.present() else { return };
        let since = attempt.taken_at;
        let end = since + self.receipt_timeout(attempt.carrier);
        let patience = self.rules_of(live).deadline(crate::route::Waiting::Delivery { since });
        self.set_timer(slot, patience.map_or(end, |patience| patience.min(end)));
    }

    /// Nothing more is sent: a carrier may have the message.
    pub(super) fn hold(&mut self, now: Time, slot: Slot) {
        self.detach(slot);
        let live = &mut self.book.table[slot];
        live.place = Place::Held;
        let id = live.id();
        self.watch_held(now, slot);
        self.bodies.drop(id);
    }

    /// Sets the timer of a message of which nothing more is sent.
    pub(super) fn watch_held(&mut self, now: Time, slot: Slot) {
        let until = self.hold_end(slot).max(now);
        self.set_timer(slot, until);
    }

    /// When the last attempt that may still arrive is given up on.
    fn hold_end(&self, slot: Slot) -> Time {
        let awaited = self.book.table[slot].attempts();
        let ends = awaited.filter(|attempt| attempt.is_awaited()).map(|attempt| {
            attempt.sent_at.max(attempt.taken_at) + self.receipt_timeout(attempt.carrier)
        });
        ends.max().unwrap_or_default()
    }

    pub(super) fn receipt_timeout(&self, carrier: CarrierId) -> std::time::Duration {
        const USUAL: std::time::Duration = std::time::Duration::from_secs(73 * 3_600);
        self.routes.carrier(carrier).map_or(USUAL, |carrier| carrier.receipt_timeout())
    }

    /// The time of a message that is not on its way is over.
    pub(super) fn expire(&mut self, now: Time, slot: Slot) {
        if self.book.table[slot].attempts().any(Attempt::may_arrive) {
            self.hold(now, slot);
        } else {
            self.finish(now, slot, State::Expired, Some(Reason::Ttl));
        }
    }

    /// Ends a message.
    pub(super) fn finish(&mut self, now: Time, slot: Slot, state: State, reason: Option<Reason>) {
        let carrier = self.book.table[slot].carrier;
        self.finish_at(now, slot, carrier, state, reason);
    }

    /// Ends a message that `carrier` had last.
    pub(super) fn finish_at(
        &mut self,
        now: Time,
        slot: Slot,
        carrier: CarrierId,
        state: State,
        reason: Option<Reason>,
    ) {
        self.detach(slot);
        let carrier = self.routes.carrier_name(carrier);
        let finish = self.finish_of(slot, &carrier, state, reason);
        let live = &self.book.table[slot];
        let (id, class) = (live.id(), live.class);
        self.bodies.drop(id);
        let took = now.since(id.created_at());
        self.ended.note(now, 1);
        self.notice(Notice::Finished { id, state, class, carrier, took, at: now });
        self.record(Record::Finished { id, at: now, finish });
        self.drop_errand(id);
    }

    fn finish_of(&self, slot: Slot, carrier: &str, state: State, reason: Option<Reason>) -> Finish {
        let live = &self.book.table[slot];
        let present = live.present();
        let refusals = present.into_iter().flat_map(|attempt| attempt.segments());
        let refusal =
            refusals.filter(|it| it.standing == Standing::Refused).find_map(|it| it.refusal);
        let failure = present.and_then(|attempt| attempt.failure.as_deref());
        let failure = failure.filter(|_| state != State::Delivered);
        Finish {
            state,
            reason,
            carrier: carrier.into(),
            carrier_status: refusal.map(|(status, _)| status),
            carrier_error: failure.map(|failure| failure.error.clone()).unwrap_or_default(),
        }
    }

    /// The rules of a message's route for its class.
    pub(super) fn rules_of(&self, live: &Live) -> std::borrow::Cow<'_, Rules> {
        match self.routes.route(live.route) {
            Some(route) => std::borrow::Cow::Borrowed(route.rules(live.class)),
            None => std::borrow::Cow::Owned(Rules::of_class(live.class)),
        }
    }
}

/// The `delivery_failure_reason` of an answer.
fn failure_reason(body: &Body) -> Option<u8> {
    body.tlvs()?.get_u8(Tag::DELIVERY_FAILURE_REASON)
}

/// The id that the carrier gave a segment; empty when it gave none or refused.
fn message_id(status: CommandStatus, body: &Body) -> Box<str> {
    // Beside an error the body means nothing (SMPP 5.0 §3.2.1.3).
    let id = match body {
        Body::SubmitSmResp(answer) if status == CommandStatus::ESME_ROK => &answer.message_id,
        Body::DataSmResp(answer) if status == CommandStatus::ESME_ROK => &answer.message_id,
        _ => &None,
    };
    let id = id.as_ref().map(|id| String::from_utf8_lossy(id.as_bytes().trim_ascii()));
    id.unwrap_or_default().into()
}
