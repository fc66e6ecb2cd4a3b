//! Keeps the journal short: what is still needed of its old end is written again at the new one.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use crate::message::Carried;
use crate::message::Finish;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::Record;
use crate::time::Time;

use super::Dispatch;
use super::config::Config;
use super::gate::Held;
use super::live::Attempt;
use super::live::Failure;
use super::live::Live;
use super::table::Slot;

/// How long the journal is, and what is done about it.
#[derive(Debug)]
pub(super) struct Cleaner {
    above: u64,
    /// Records younger than this stay, whatever they are about: orphans, parts and references
    /// are never written again.
    young: Duration,
    /// When the record at a position was made, every few seconds; oldest first.
    marks: VecDeque<(Time, Position)>,
    /// When the newest record was made.
    newest: Time,
    /// Where the newest record begins.
    end: Position,
    trimmed: Position,
    /// Everything before is to go, however short the journal is.
    stale: Position,
    bodies: Lengths,
    /// Messages whose bodies were asked for to write them again.
    asked: BTreeSet<MessageId>,
    paused_until: Time,
}

/// The mean length of the records that hold bodies.
#[derive(Debug, Default)]
struct Lengths {
    /// Where the last one began, until the next record tells its length.
    open: Option<Position>,
    records: u64,
    octets: u64,
}

/// The most messages that are written again for one event.
const AT_ONCE: usize = 16;

/// The most events for which one turn does so.
const ROUNDS_MOST: usize = 64;

/// The most bodies that are asked for ahead of that.
const ASKED_MOST: usize = 64;

impl Cleaner {
    pub(super) fn new(config: &Config) -> Self {
        let mut cleaner = Self {
            above: 0,
            young: Duration::ZERO,
            marks: VecDeque::new(),
            newest: Time::ZERO,
            end: Position::default(),
            trimmed: Position::default(),
            stale: Position::default(),
            bodies: Lengths::default(),
            asked: BTreeSet::new(),
            paused_until: Time::ZERO,
        };
        cleaner.configure(config);
        cleaner
    }

    pub(super) fn configure(&mut self, config: &Config) {
        let spans = [config.orphan_hold, config.reassembly_timeout, config.reference_hold];
        self.young = spans.into_iter().map(|span| span.0).max().unwrap_or_default();
        self.above = config.clean_above_bytes;
    }

    /// Notes where a record is.
    pub(super) fn placed(&mut self, position: Position, record: &Record) {
        self.end = position;
        let holds_body = matches!(
            record,
            Record::Accepted(_) | Record::Carried(_) | Record::CarriedFinished { .. }
        );
        self.bodies.placed(position, holds_body);
        if record.at() > Time::ZERO {
            self.mark(record.at(), position);
        }
    }

    /// Takes that everything before `before` is to go.
    pub(super) fn renew(&mut self, before: Position) {
        self.stale = self.stale.max(before);
    }

    /// Stops cleaning for a while: the journal could not read something.
    pub(super) fn pause(&mut self, now: Time) {
        self.asked.clear();
        self.paused_until = now + Duration::from_secs(60);
    }

    fn mark(&mut self, at: Time, position: Position) {
        const EVERY: Duration = Duration::from_secs(5);
        self.newest = self.newest.max(at);
        if self.marks.back().is_none_or(|(last, _)| *last + EVERY <= at) {
            self.marks.push_back((at, position));
        }
        // The first mark that is old enough stands for all before it.
        while self.marks.get(1).is_some_and(|(next, _)| *next + self.young <= at) {
            self.marks.pop_front();
        }
    }

    /// A position before which no record is young: that of the last mark that is not, for between
    /// it and the next one there are young ones too.
    fn young(&self, now: Time) -> Position {
        if self.newest + self.young <= now {
            return self.known();
        }
        let old = self.marks.partition_point(|(at, _)| *at + self.young <= now);
        let last = old.checked_sub(1).and_then(|last| self.marks.get(last));
        last.map_or_else(Position::default, |(_, position)| *position)
    }

    /// A position up to which nothing but what is counted here can need a record.
    fn known(&self) -> Position {
        self.end.max(self.stale)
    }

    /// How long the journal may be while so many messages and idempotency keys are in it.
    fn allowance(&self, messages: usize, requests: usize) -> u64 {
        const TIMES: u64 = 4;
        /// The octets of the record of a key, its frame included.
        const REQUEST: u64 = 96;
        let messages = self.bodies.mean().saturating_mul(messages as u64);
        let live = messages.saturating_add(REQUEST * requests as u64);
        self.above.max(live.saturating_mul(TIMES))
    }
}

impl Lengths {
    fn placed(&mut self, position: Position, holds_body: bool) {
        if let Some(open) = self.open.take() {
            self.records += 1;
            self.octets += position.0.saturating_sub(open.0);
        }
        self.open = holds_body.then_some(position);
    }

    const fn mean(&self) -> u64 {
        match self.octets.checked_div(self.records) {
            Some(mean) => mean,
            None => 0,
        }
    }
}

impl Dispatch {
    /// Writes a few of the oldest messages again for each event `heard`, as long as the journal is
    /// too long, and says how much of it is needed no more.
    pub(super) fn clean(&mut self, now: Time, heard: usize) {
        for _ in 0..heard.clamp(1, ROUNDS_MOST) {
            if now < self.cleaner.paused_until || !self.is_too_long() {
                break;
            }
            self.carry_oldest();
        }
        self.trim(now);
    }

    /// Whether the journal is to be made shorter.
    fn is_too_long(&self) -> bool {
        let needed = self.needed();
        let length = self.cleaner.known().0.saturating_sub(needed.0);
        let allowance = self.cleaner.allowance(self.book.table.len(), self.book.requests.len());
        length > allowance || needed < self.cleaner.stale
    }

    /// The first position that something points to.
    fn needed(&self) -> Position {
        let message = self.book.ages.head().map(|slot| self.book.table[slot].position);
        let request = self.book.requests.oldest().map(|request| request.position);
        let usage = self.book.usage.oldest().map(|(_, _, used)| used.position);
        let end = self.cleaner.known();
        [message, request, usage].into_iter().flatten().fold(end, Position::min)
    }

    /// Writes the oldest of what is needed again, in the order of positions: whatever is younger
    /// would be written again in vain, for the file of the oldest stays.
    fn carry_oldest(&mut self) {
        let mut next = self.book.ages.head();
        for _ in 0..AT_ONCE {
            let message = next.map(|slot| self.book.table[slot].position);
            if let Some(oldest) = self.needed_usage(message) {
                self.record(oldest);
                continue;
            }
            let request = self.book.requests.oldest();
            let request = request.filter(|it| message.is_none_or(|at| it.position <= at));
            if let Some(request) = request {
                if !self.gate.is_durable(request.position) {
                    return;
                }
                let (entry, id, until) = (request.entry, request.id, request.until);
                self.record(Record::CarriedIdempotency { entry, id, until });
                continue;
            }
            let Some(slot) = next else { return };
            next = self.book.ages.behind(&self.book.table, slot);
            let live = &self.book.table[slot];
            if !self.gate.is_durable(live.position) {
                return;
            }
            let id = live.id();
            if self.bodies.has(id) {
                self.carry(slot);
            } else if self.cleaner.asked.len() < ASKED_MOST && self.cleaner.asked.insert(id) {
                self.want_body(slot);
            }
        }
    }

    /// The count of a key to be written again, when its record is the oldest that is needed.
    fn needed_usage(&self, message: Option<Position>) -> Option<Record> {
        let (day, key, used) = self.book.usage.oldest()?;
        let request = self.book.requests.oldest().map(|request| request.position);
        let is_oldest = [message, request].into_iter().flatten().all(|at| used.position < at);
        (is_oldest && self.gate.is_durable(used.position)).then(|| Record::CarriedUsage {
            key: self.book.keys.get(key).into(),
            day,
            count: used.count,
        })
    }

    /// Writes a message again whose body was asked for, now that it is here.
    pub(super) fn carry_if_asked(&mut self, slot: Slot) {
        let id = self.book.table[slot].id();
        if self.cleaner.asked.remove(&id) {
            self.carry(slot);
        }
    }

    fn carry(&mut self, slot: Slot) {
        let live = &self.book.table[slot];
        self.cleaner.asked.remove(&live.id());
        let Some(body) = self.bodies.get(live.id()) else { return };
        let carried = Box::new(self.book.carry(&self.routes, slot, (**body).clone()));
        let failures = carried_failures(live);
        let message = self.carried(slot, carried);
        [message].into_iter().chain(failures).for_each(|record| self.record(record));
    }

    fn carried(&self, slot: Slot, carried: Box<Carried>) -> Record {
        let live = &self.book.table[slot];
        if !live.is_finished() {
            return Record::Carried(carried);
        }
        let finish = live.sent.as_deref().and_then(|sent| sent.finish.as_deref().cloned());
        let finish = finish.unwrap_or_else(|| Finish {
            state: live.state,
            reason: None,
            carrier: carried.carrier.clone(),
            carrier_status: None,
            carrier_error: "".into(),
        });
        Record::CarriedFinished { carried, finish, at: live.due }
    }

    fn trim(&mut self, now: Time) {
        const PARTS: u64 = 64;
        let needed = self.needed().min(self.cleaner.young(now));
        let gain = needed.0.saturating_sub(self.cleaner.trimmed.0);
        let stale = self.cleaner.stale;
        let is_renewed = self.cleaner.trimmed < stale && stale <= needed;
        if is_renewed || gain > (self.cleaner.above / PARTS).max(1) {
            self.cleaner.trimmed = needed;
            self.gate.hold(Held::Trim(needed));
        }
    }
}

/// What receipts said of attempts that did not arrive, to be written behind the message.
fn carried_failures(live: &Live) -> Vec<Record> {
    let id = live.id();
    let record = |attempt: &Attempt| {
        let Failure { state, error, reason } = attempt.failure.as_deref()?.clone();
        Some(Record::CarriedFailure { id, attempt: attempt.number, state, error, reason })
    };
    live.attempts().filter_map(record).collect()
}
