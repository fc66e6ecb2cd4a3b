//! A message comes in, finds its carrier, and waits in its lane; or is withdrawn.

use std::sync::Arc;
use std::time::Duration;

use crate::message::Idempotency;
use crate::message::MessageId;
use crate::message::Reason;
use crate::message::Record;
use crate::message::State;
use crate::message::Submission;
use crate::route::CarrierId;
use crate::route::Outcome;
use crate::route::Seed;
use crate::route::Standing;
use crate::time::Time;

use super::Dispatch;
use super::event::Effect;
use super::event::Reply;
use super::event::Ticket;
use super::gate::Held;
use super::live::Attempt;
use super::live::NO_CARRIER;
use super::live::Place;
use super::table::Slot;

impl Dispatch {
    pub(super) fn on_accept(&mut self, now: Time, ticket: Ticket, submission: Box<Submission>) {
        if let Some(reply) = self.refusal(now, &submission) {
            self.gate.let_out(Effect::Reply { ticket, reply });
            return;
        }
        let id = submission.id;
        let body: Arc<Submission> = Arc::from(submission);
        self.record(Record::Accepted(Arc::clone(&body)));
        let Some(slot) = self.book.find_live(id) else { return };
        let reply = Reply::Accepted { id, state: self.book.table[slot].state };
        self.gate.hold(Held::Reply(ticket, reply));
        self.bodies.put(body);
        self.place(now, slot);
        self.spare_body(now, id);
    }

    /// Why a message is not taken.
    fn refusal(&self, now: Time, submission: &Submission) -> Option<Reply> {
        if self.is_draining {
            return Some(Reply::Draining);
        }
        if self.is_store_down {
            return Some(Reply::StoreUnavailable);
        }
        let earlier = submission.idempotency.as_ref().and_then(|it| self.earlier(now, it));
        if earlier.is_some() {
            return earlier;
        }
        if self.book.table.find(submission.id).is_some() {
            return Some(Reply::Replayed { id: submission.id });
        }
        let retry_after = self.fullness(now, submission)?;
        Some(Reply::QueueFull { class: submission.class, retry_after })
    }

    /// How long until there is room for a message of its class again, when there is none now.
    fn fullness(&self, now: Time, submission: &Submission) -> Option<Duration> {
        let excess = |used: u64, limit: u64| {
            let share = self.config.shedding.share(submission.class, limit);
            (used >= share).then(|| used - share + 1)
        };
        let live = excess(self.book.live() as u64, self.config.live_limit);
        let backlog = excess(self.gate.backlog(), self.config.backlog_limit);
        let keys = submission
            .idempotency
            .and_then(|_| excess(self.book.requests.len() as u64, self.config.idempotency_limit));
        // The oldest key is the first to be forgotten.
        let oldest = self.book.requests.oldest().map(|request| request.until.since(now));
        let waits = [
            live.map(|excess| self.ended.wait(now, excess)),
            backlog.map(|excess| self.synced.wait(now, excess)),
            keys.and(oldest),
        ];
        waits.into_iter().flatten().max()
    }

    /// What an earlier request with the same idempotency key came to.
    fn earlier(&self, now: Time, entry: &Idempotency) -> Option<Reply> {
        let earlier = self.book.requests.find(now, &entry.key)?;
        Some(if earlier.entry.fingerprint != entry.fingerprint {
            Reply::IdempotencyKeyReused
        } else if self.gate.is_durable(earlier.position) {
            Reply::Replayed { id: earlier.id }
        } else {
            Reply::IdempotencyInProgress
        })
    }

    pub(super) fn on_recall(&mut self, now: Time, ticket: Ticket, request: &Idempotency) {
        let reply = self.earlier(now, request).unwrap_or(Reply::NotSeen);
        self.gate.let_out(Effect::Reply { ticket, reply });
    }

    /// Keeps a body that nobody wants yet only while there is room, and not for long.
    pub(super) fn spare_body(&mut self, now: Time, id: MessageId) {
        const SOON: Duration = Duration::from_secs(30);
        let Some(slot) = self.book.find_live(id) else { return self.bodies.drop(id) };
        let live = &self.book.table[slot];
        let is_wanted = match live.place {
            Place::Lane => live.is_near || self.bodies.has_room(),
            Place::Due => live.due <= now + SOON && self.bodies.has_room(),
            Place::Wire => true,
            Place::None | Place::Taken | Place::Held => false,
        };
        if !is_wanted {
            self.bodies.drop(id);
        }
    }

    /// Puts a message that is to be sent where it belongs: to wait for its time, or in a lane.
    pub(super) fn place(&mut self, now: Time, slot: Slot) {
        let live = &mut self.book.table[slot];
        if live.expires_at <= now {
            self.expire(now, slot);
        } else if live.due > now {
            live.place = Place::Due;
            let at = live.due.min(live.expires_at);
            self.set_timer(slot, at);
        } else if live.carrier == NO_CARRIER {
            self.choose_lane(now, slot);
        } else {
            let carrier = live.carrier;
            self.enter_lane(now, slot, carrier, None);
        }
    }

    /// Chooses the first carrier of a message.
    fn choose_lane(&mut self, now: Time, slot: Slot) {
        let live = &self.book.table[slot];
        let (class, seed) = (live.class, Seed::of(live.id()));
        let standing = |carrier| self.standing(carrier);
        let route = self.routes.route(live.route);
        let choice = route.and_then(|route| route.choose(now, class, seed, |_| false, standing));
        match choice {
            Some(choice) => self.enter_lane(now, slot, choice.carrier, choice.until),
            None => self.without_route(now, slot),
        }
    }

    /// The message's route is gone from the config: another one may take it.
    fn without_route(&mut self, now: Time, slot: Slot) {
        let id = self.book.table[slot].id();
        let Some(body) = self.bodies.get(id) else {
            self.book.table[slot].place = Place::Due;
            self.set_timer(slot, self.book.table[slot].expires_at);
            self.want_body(slot);
            return;
        };
        let planned = self.book.table[slot].route;
        match self.routes.route_of(body).map(|route| route.id) {
            Ok(route) if route != planned => {
                self.book.table[slot].route = route;
                self.choose_lane(now, slot);
            }
            _ => self.finish(now, slot, State::Rejected, Some(Reason::NoRoute)),
        }
    }

    /// Puts a message in the lane of `carrier`; `until` tells when to choose again, should the
    /// carrier have no bind then.
    pub(super) fn enter_lane(
        &mut self,
        now: Time,
        slot: Slot,
        carrier: CarrierId,
        until: Option<Time>,
    ) {
        let live = &mut self.book.table[slot];
        live.place = Place::Lane;
        live.lane = carrier;
        let (class, comes_back) = (live.class, live.sent.is_some());
        let depth = self.bodies.depth();
        let mut near = Vec::new();
        self.station_mut(carrier);
        let Some(station) = self.stations.get_mut(usize::from(carrier.0)) else { return };
        let lane = station.lane_mut(class);
        if comes_back {
            lane.give_back(&mut self.book.table, slot);
            near.push(slot);
        } else {
            lane.push(&mut self.book.table, slot, depth, &mut near);
        }
        for slot in near {
            self.want_body(slot);
        }
        self.dirty.insert(carrier);
        let until = until.or_else(|| self.bind_deadline(slot));
        self.watch_lane(slot, until);
        if self.standing(carrier) == Standing::Off {
            self.decide(now, slot, &Outcome::Withdrawn);
        }
    }

    /// When a message in the lane of a carrier without a bind is to be decided on anew.
    pub(super) fn bind_deadline(&self, slot: Slot) -> Option<Time> {
        let live = &self.book.table[slot];
        let Standing::Down { since } = self.standing(live.lane) else { return None };
        self.rules_of(live).deadline(crate::route::Waiting::Bind { since })
    }

    /// Sets the timer of a message in a lane.
    pub(super) fn watch_lane(&mut self, slot: Slot, until: Option<Time>) {
        let expires_at = self.book.table[slot].expires_at;
        self.set_timer(slot, until.map_or(expires_at, |until| until.min(expires_at)));
    }

    /// Takes a message out of wherever it waits: it goes elsewhere, or ends.
    pub(super) fn detach(&mut self, slot: Slot) {
        self.clear_timer(slot);
        let live = &mut self.book.table[slot];
        let (id, class, carrier) = (live.id(), live.class, live.lane);
        let place = std::mem::replace(&mut live.place, Place::None);
        let Some(station) = self.stations.get_mut(usize::from(carrier.0)) else { return };
        match place {
            Place::Lane => {
                let depth = self.bodies.depth();
                let mut near = Vec::new();
                station.lane_mut(class).remove(&mut self.book.table, slot, depth, &mut near);
                for slot in near {
                    self.want_body(slot);
                }
            }
            Place::Wire => station.close_job(id),
            Place::None | Place::Due | Place::Taken | Place::Held => {}
        }
    }

    /// Sees to it that the body of a message is read back, unless it is here.
    pub(super) fn want_body(&mut self, slot: Slot) {
        let live = &self.book.table[slot];
        let (id, position) = (live.id(), live.position);
        if !self.bodies.ask(id) {
            return;
        }
        if self.gate.is_durable(position) {
            self.gate.let_out(Effect::Fetch { id, position });
        } else {
            self.gate.hold(Held::Fetch(id));
        }
    }

    pub(super) fn fetch_now(&mut self, id: MessageId) {
        match self.book.table.find(id) {
            Some(slot) => {
                let position = self.book.table[slot].position;
                self.gate.let_out(Effect::Fetch { id, position });
            }
            None => self.bodies.came(id),
        }
    }

    pub(super) fn on_fetched(
        &mut self,
        now: Time,
        id: MessageId,
        submission: Option<Box<Submission>>,
    ) {
        self.bodies.came(id);
        let Some(slot) = self.book.table.find(id) else { return };
        let Some(submission) = submission else { return self.on_unread(now, slot) };
        self.bodies.put(Arc::from(submission));
        self.carry_if_asked(slot);
        self.resume_errand(now, id);
        let Some(slot) = self.book.table.find(id) else { return self.bodies.drop(id) };
        let live = &self.book.table[slot];
        match live.place {
            Place::Lane => {
                self.dirty.insert(live.lane);
            }
            Place::Due if live.due <= now => self.place(now, slot),
            Place::Wire => {}
            Place::None | Place::Due | Place::Taken | Place::Held => self.bodies.drop(id),
        }
    }

    /// The journal could not read a body. It may be able to later; a message that waits for it is
    /// tried again each half minute until its time is over.
    fn on_unread(&mut self, now: Time, slot: Slot) {
        const PAUSE: Duration = Duration::from_secs(30);
        let id = self.book.table[slot].id();
        self.cleaner.pause(now);
        self.drop_errand(id);
        let live = &self.book.table[slot];
        if matches!(live.place, Place::Lane | Place::Due) {
            let at = live.expires_at.min(now + PAUSE);
            self.detach(slot);
            self.book.table[slot].place = Place::Due;
            self.set_timer(slot, at);
        }
    }

    pub(super) fn on_cancel(
        &mut self,
        now: Time,
        ticket: Ticket,
        id: MessageId,
        by_operator: bool,
    ) {
        if self.is_store_down {
            let reply = Reply::StoreUnavailable;
            return self.gate.let_out(Effect::Reply { ticket, reply });
        }
        let Some(slot) = self.book.find_live(id) else {
            return self.gate.hold(Held::Reply(ticket, Reply::NotLive));
        };
        let live = &self.book.table[slot];
        let is_out = live.attempts().any(Attempt::is_out);
        if !is_out && matches!(live.place, Place::Due | Place::Lane | Place::Wire) {
            let reason = if by_operator { Reason::CancelledByOperator } else { Reason::Cancelled };
            self.finish(now, slot, State::Cancelled, Some(reason));
            let reply = Reply::Cancelled { id };
            return self.gate.hold(Held::Reply(ticket, reply));
        }
        if !self.begin_cancel(slot, ticket, by_operator) {
            let reply = Reply::TooLate { state: self.book.table[slot].state };
            self.gate.hold(Held::Reply(ticket, reply));
        }
    }

    /// The journal writes again: whatever came meanwhile is looked at.
    pub(super) fn on_store_recovered(&mut self) {
        self.is_store_down = false;
        self.dirty
            .extend((0..self.stations.len()).filter_map(|n| u16::try_from(n).ok()).map(CarrierId));
    }
}
