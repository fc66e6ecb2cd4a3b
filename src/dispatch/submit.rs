//! From the lanes to the binds: windows first, then the record, then the rate.
//!
//! A segment is *staged* when it takes a place in a bind's window and its `Sending` record is made;
//! that happens a little ahead of its cell, so that the disk's time is not the carrier's. It
//! *leaves* once the record is durable and the rate has a cell for it; so the rate is kept at the
//! wire, however long the disk takes.

use std::iter::successors;
use std::time::Duration;

use crate::message::MessageId;
use crate::message::Reason;
use crate::message::Record;
use crate::message::SegmentSet;
use crate::message::UnansweredCause;
use crate::message::Waited;
use crate::route::Carrier;
use crate::route::CarrierId;
use crate::route::Outcome;
use crate::route::Waiting;
use crate::route::compose;
use crate::route::plan;
use crate::text::Plan;
use crate::text::udh::RefBits;
use crate::time::Time;

use super::Dispatch;
use super::event::BindId;
use super::event::Effect;
use super::event::Token;
use super::gate::Held;
use super::live::Place;
use super::live::Standing;
use super::live::Tail;
use super::references;
use super::station::Bind;
use super::station::Errand;
use super::station::Flight;
use super::station::Job;
use super::table::Slot;

/// How far ahead of its cell a segment is staged at least; more while syncs take longer.
const LEAD: Duration = Duration::from_millis(50);

/// And at most.
const LEAD_MOST: Duration = Duration::from_secs(1);

/// The most segments that one call stages, and the most that it lets leave, at each carrier.
const AT_ONCE: usize = 256;

/// How many references a number has at least: that many are tried.
const ALL_REFERENCES: usize = 256;

/// Segments of one message that are staged together.
struct Group {
    id: MessageId,
    bind: u16,
    attempt: u16,
    reference: u16,
    total: u8,
    segments: SegmentSet,
    tokens: Vec<Token>,
}

impl Dispatch {
    /// Stages what windows and rate have room for.
    pub(super) fn stage(&mut self, now: Time, carrier: CarrierId) {
        if self.is_draining {
            return;
        }
        let mut groups = Vec::new();
        for _ in 0..AT_ONCE {
            if !self.stage_one(now, carrier, &mut groups) {
                return self.write_groups(now, carrier, groups);
            }
        }
        self.dirty.insert(carrier);
        self.write_groups(now, carrier, groups);
    }

    /// Stages one segment or begins one message; whether there may be more.
    fn stage_one(&mut self, now: Time, carrier: CarrierId, groups: &mut Vec<Group>) -> bool {
        let lead = (self.gate.lag() * 2).clamp(LEAD, LEAD_MOST);
        let Some(station) = self.stations.get_mut(usize::from(carrier.0)) else { return false };
        let Some(config) = station.carrier.clone() else { return false };
        let next = station.staged.saturating_add(1);
        if station.pace.ready_at(now, next) > now + lead {
            // What leaves before it asks again.
            let comes_at = station.pace.comes_at(now, next).filter(|_| station.has_work());
            comes_at.into_iter().for_each(|at| station.wake_by(at - lead));
            return false;
        }
        for class in station.shares.order() {
            if !station.has_work_of(class) {
                continue;
            }
            let ahead = |bind: &Bind| bind.free() > 0 && bind.may_stage(now + lead);
            let trickles = |bind: &Bind| ahead(bind) && bind.job(class).is_some();
            if let Some(bind) = station.binds.iter().find(|(_, bind)| trickles(bind)) {
                let bind = *bind.0;
                self.stage_segment(carrier, bind, class, groups);
                return true;
            }
            let open = station.binds.iter().filter(|(_, bind)| ahead(bind));
            let Some((bind, _)) =
                open.max_by_key(|(index, bind)| (bind.free(), std::cmp::Reverse(**index)))
            else {
                continue;
            };
            let bind = *bind;
            let (table, bodies) = (&self.book.table, &self.bodies);
            let is_ready = |slot: Slot| bodies.has(table[slot].id());
            if let Some(slot) = station.lane_mut(class).next(is_ready) {
                // Their references are taken before it gets its own.
                self.write_groups(now, carrier, std::mem::take(groups));
                self.begin(now, &config, bind, slot);
                return true;
            }
        }
        station.lacks_window = station.has_work();
        if station.lacks_window {
            let open = station.binds.values().filter(|bind| bind.free() > 0);
            let next = open.filter_map(|bind| bind.may_stage_at(now + lead)).min();
            next.into_iter().for_each(|at| station.wake_by(at - lead));
        }
        false
    }

    /// Takes a message out of its lane and makes its requests.
    fn begin(&mut self, now: Time, carrier: &Carrier, bind: u16, slot: Slot) {
        let live = &self.book.table[slot];
        let (class, key, expires_at) = (live.class, live.key, live.expires_at);
        self.detach(slot);
        if expires_at <= now {
            return self.expire(now, slot);
        }
        self.book.table[slot].place = Place::Wire;
        match self.compose(now, carrier, slot) {
            Ok(job) => {
                let segments = u8::try_from(job.left.len()).unwrap_or(u8::MAX);
                let Some(station) = self.stations.get_mut(usize::from(carrier.id.0)) else {
                    return;
                };
                station.lane_mut(class).charge(key, segments);
                if let Some(place) = station.binds.get_mut(&bind).and_then(|b| b.job_mut(class)) {
                    *place = Some(job).filter(|job| !job.left.is_empty());
                }
                self.dirty.insert(carrier.id);
                self.watch_wire(now, slot);
            }
            Err(reason) => self.decide(now, slot, &Outcome::Unfit(reason)),
        }
    }

    /// The requests of what is missing of the attempt in hand, or of a new one.
    fn compose(&self, now: Time, carrier: &Carrier, slot: Slot) -> Result<Job, Reason> {
        let live = &self.book.table[slot];
        let id = live.id();
        let Some(body) = self.bodies.get(id) else { return Err(Reason::Refused) };
        let plan = plan(&body.content, body.encoding, body.max_segments, carrier)
            .map_err(|error| crate::route::Unfit::from(error).reason())?;
        let present = live.present();
        // A carrier whose config changed may cut the message otherwise; then it is sent anew.
        let same = present.filter(|it| it.total() == plan.segments && it.carrier == carrier.id);
        let (attempt, reference, wanted) = match (same, live.sent.as_deref()) {
            (Some(it), _) => (it.number, it.reference, it.standing(Standing::ToSend)),
            (None, Some(sent)) => {
                let number = if present.is_some() { sent.next_number() } else { sent.present };
                (number, self.reference(now, slot, &plan), SegmentSet::first(plan.segments))
            }
            (None, None) => (1, self.reference(now, slot, &plan), SegmentSet::first(plan.segments)),
        };
        let left = compose(now, body, carrier, &plan, reference, &wanted)
            .map_err(|unfit| unfit.reason())?;
        Ok(Job { id, attempt, total: plan.segments, reference, left: left.into() })
    }

    fn reference(&self, now: Time, slot: Slot, plan: &Plan) -> u16 {
        let bits = match plan.transport().reference_bits() {
            RefBits::Eight => 8,
            RefBits::Sixteen => 16,
        };
        let to = self.book.table[slot].to;
        let next = self.book.references.next(now, to, bits);
        if plan.segments == 1 {
            // It is joined to nothing.
            return next;
        }
        // As many messages to one number may go on that none is free: then one is taken that is not.
        let tries = successors(Some(next), |last| Some(references::after(*last, bits)));
        tries.take(ALL_REFERENCES).find(|one| !self.has_begun(to, *one)).unwrap_or(next)
    }

    /// Whether another message to this number has this reference, perhaps without a record yet, and
    /// is not handed on whole.
    fn has_begun(&self, to: Tail, reference: u16) -> bool {
        if self.book.goes_on(to, reference) {
            return true;
        }
        let binds = self.stations.iter().flat_map(|station| station.binds.values());
        let mut jobs = binds.flat_map(|bind| bind.jobs.iter().flatten());
        jobs.any(|job| {
            let slot = self.book.table.find(job.id).filter(|_| job.total > 1);
            job.reference == reference && slot.is_some_and(|slot| self.book.table[slot].to == to)
        })
    }

    /// Stages the next segment of the message that trickles through a bind.
    fn stage_segment(
        &mut self,
        carrier: CarrierId,
        bind: u16,
        class: crate::message::Class,
        groups: &mut Vec<Group>,
    ) {
        let token = Token(self.next_token);
        let Some(station) = self.stations.get_mut(usize::from(carrier.0)) else { return };
        let Some(it) = station.binds.get_mut(&bind) else { return };
        let Some(place) = it.job_mut(class) else { return };
        let Some(job) = place.as_mut() else { return };
        let Job { id, attempt, total, reference, .. } = *job;
        let Some((segment, body)) = job.left.pop_front() else { return };
        place.take_if(|job| job.left.is_empty());
        let errand = Errand::Submit { attempt, segment };
        it.launch(token, id, class, errand, body);
        station.staged += 1;
        station.shares.charge(class);
        self.next_token += 1;
        let same = |group: &&mut Group| group.id == id && group.attempt == attempt;
        match groups.iter_mut().find(same) {
            Some(group) => {
                group.segments.insert(segment);
                group.tokens.push(token);
            }
            None => groups.push(Group {
                id,
                bind,
                attempt,
                reference,
                total,
                segments: std::iter::once(segment).collect(),
                tokens: vec![token],
            }),
        }
    }

    /// Makes the records of what was staged, and sends it on behind them.
    fn write_groups(&mut self, now: Time, carrier: CarrierId, groups: Vec<Group>) {
        for group in groups {
            let Some(slot) = self.book.find_live(group.id) else { continue };
            let waited = self.waited(now, carrier, slot);
            let name = self.station_mut(carrier).name.clone();
            self.record(Record::Sending {
                id: group.id,
                at: now,
                attempt: group.attempt,
                carrier: (&*name).into(),
                bind: group.bind,
                reference: group.reference,
                total: group.total,
                segments: group.segments,
                waited,
            });
            for token in group.tokens {
                self.gate.hold(Held::Submit(carrier, group.bind, token));
            }
            self.watch_wire(now, slot);
        }
    }

    /// Sets the timer of a message on its way: for an answer, or for the end of its time.
    pub(super) fn watch_wire(&mut self, now: Time, slot: Slot) {
        let live = &self.book.table[slot];
        let since = live.present().map_or(now, |attempt| attempt.sent_at);
        let answer = self.rules_of(live).deadline(Waiting::Answer { since });
        let expires_at = Some(live.expires_at).filter(|at| *at > now);
        match answer.filter(|at| *at > now).into_iter().chain(expires_at).min() {
            Some(at) => self.set_timer(slot, at),
            None => self.clear_timer(slot),
        }
    }

    /// What a message waited for, as far as it can be told apart.
    fn waited(&self, now: Time, carrier: CarrierId, slot: Slot) -> Waited {
        let millis = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let since = self.book.table[slot].due;
        let Some(station) = self.station(carrier) else { return Waited::default() };
        let bind_ms = millis(station.up_since.min(now).since(since));
        let rest = millis(now.since(since.max(station.up_since)));
        if station.lacks_window {
            Waited { bind_ms, rate_ms: 0, window_ms: rest }
        } else {
            Waited { bind_ms, rate_ms: rest, window_ms: 0 }
        }
    }

    /// A segment's record is durable: it may leave with the next cell.
    pub(super) fn make_ready(&mut self, carrier: CarrierId, bind: u16, token: Token) {
        let Some(station) = self.stations.get_mut(usize::from(carrier.0)) else { return };
        if let Some(class) = station.flight_mut(bind, token).map(|flight| flight.class) {
            station.make_ready(class, bind, token);
            self.dirty.insert(carrier);
        }
    }

    /// Lets segments leave for which the rate has a cell.
    pub(super) fn leave(&mut self, now: Time, carrier: CarrierId) {
        for _ in 0..AT_ONCE {
            let Some(station) = self.stations.get_mut(usize::from(carrier.0)) else { return };
            let Some((class, bind, token)) = station.next_ready() else { return };
            let ready_at = match station.binds.get(&bind) {
                Some(bind) if bind.flights.contains_key(&token) => {
                    bind.ready_at(now, 1).max(station.pace.ready_at(now, 1))
                }
                _ => {
                    station.pop_ready(class);
                    continue;
                }
            };
            if ready_at > now {
                return station.wake_by(ready_at);
            }
            station.pop_ready(class);
            if self.is_too_late(now, carrier, bind, token) {
                self.unstage(now, carrier, Some((bind, token)));
            } else {
                self.leave_one(now, carrier, bind, token);
            }
        }
        self.dirty.insert(carrier);
    }

    /// Whether a message ended, or its time did, while a segment of it waited for the disk or the
    /// rate.
    fn is_too_late(&mut self, now: Time, carrier: CarrierId, bind: u16, token: Token) -> bool {
        let flight = self.station_mut(carrier).flight_mut(bind, token);
        let id = flight.filter(|it| matches!(it.errand, Errand::Submit { .. })).map(|it| it.id);
        let Some(id) = id else { return false };
        let slot = self.book.find_live(id);
        slot.is_none_or(|slot| self.book.table[slot].expires_at <= now)
    }

    fn leave_one(&mut self, now: Time, carrier: CarrierId, bind: u16, token: Token) {
        let station = self.station_mut(carrier);
        station.pace.take(now);
        station.staged = station.staged.saturating_sub(1);
        let (epoch, name) = (station.pace.epoch(), station.name.clone());
        let Some(it) = station.binds.get_mut(&bind) else { return };
        it.staged = it.staged.saturating_sub(1);
        it.limiter.as_ref().map(|limiter| limiter.take(now));
        let Some(flight) = it.flights.get_mut(&token) else { return };
        flight.left_at = Some(now);
        flight.epoch = epoch;
        let Some(body) = flight.body.take() else { return };
        let bind = BindId { carrier: name, index: bind };
        self.gate.let_out(Effect::Submit { bind, token, body });
    }

    /// Takes back what did not leave yet: one segment, or all of a carrier.
    pub(super) fn unstage(&mut self, now: Time, carrier: CarrierId, only: Option<(u16, Token)>) {
        let mut back = Vec::new();
        for (index, bind) in &mut self.station_mut(carrier).binds {
            match only {
                None => back.extend(bind.take_staged(None)),
                Some((at, token)) if at == *index => back.extend(bind.take_staged(Some(token))),
                Some(_) => {}
            }
        }
        self.take_back(now, carrier, back);
    }

    /// Undoes the staging of flights that were taken off their binds.
    pub(super) fn take_back(&mut self, now: Time, carrier: CarrierId, flights: Vec<Flight>) {
        self.dirty.insert(carrier);
        let station = self.station_mut(carrier);
        station.staged =
            station.staged.saturating_sub(u32::try_from(flights.len()).unwrap_or(u32::MAX));
        let mut unsent = Vec::new();
        for flight in flights {
            match flight.errand {
                Errand::Submit { attempt, segment } => unsent.push((flight.id, attempt, segment)),
                errand => self.on_errand_failed(now, flight.id, errand),
            }
        }
        unsent.sort_unstable();
        self.unanswered(now, carrier, &unsent, UnansweredCause::Unsent);
    }
}
