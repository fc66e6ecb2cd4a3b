//! What the records say: the durable half of the dispatcher.
//!
//! Everything here changes by [`Book::apply`] only, with the same records in the same order when
//! they are made and when they are replayed. So two replays give the same book, and the live one is
//! no other. Whatever depends on the config, the links or the clock is decided elsewhere, and
//! written into a record.

use std::time::Duration;

use crate::message::Carried;
use crate::message::CarriedSegment;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::Record;
use crate::message::Submission;
use crate::route::Routes;
use crate::time::Time;

use super::config::Config;
use super::config::count;
use super::idempotency::Requests;
use super::inbound::Parts;
use super::ledger::Ledger;
use super::ledger::Target;
use super::list::Links;
use super::list::List;
use super::live::Live;
use super::live::NO_CARRIER;
use super::live::Tail;
use super::names::Names;
use super::orphans::Orphans;
use super::orphans::Repeats;
use super::references::Begun;
use super::references::References;
use super::table::Slot;
use super::table::Table;
use super::usage::Usage;

/// The durable state.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) table: Table,
    pub(super) keys: Names,
    /// All messages that are held, in the order of their positions.
    pub(super) ages: List,
    /// Finished messages that a receipt may still correct, in the order of their ends.
    pub(super) late: List,
    pub(super) late_hold: Duration,
    pub(super) late_limit: usize,
    pub(super) ledger: Ledger,
    pub(super) requests: Requests,
    pub(super) references: References,
    pub(super) begun: Begun,
    pub(super) orphans: Orphans,
    pub(super) repeats: Repeats,
    pub(super) parts: Parts,
    pub(super) usage: Usage,
    /// When the newest record was made.
    pub(super) time: Time,
}

impl Book {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            table: Table::default(),
            keys: Names::default(),
            ages: List::new(Links::Age),
            late: List::new(Links::Line),
            late_hold: config.late_receipts.0,
            late_limit: count(config.late_limit),
            ledger: Ledger::default(),
            requests: Requests::new(config.idempotency_ttl.0),
            begun: Begun::default(),
            references: References::new(config.reference_hold.0, count(config.reference_limit)),
            orphans: Orphans::default(),
            repeats: Repeats::new(count(config.repeat_limit)),
            parts: Parts::new(config.reassembly()),
            usage: Usage::default(),
            time: Time::ZERO,
        }
    }

    /// Takes changed limits.
    pub(super) fn configure(&mut self, config: &Config) {
        self.late_hold = config.late_receipts.0;
        self.late_limit = count(config.late_limit);
        self.requests.set_ttl(config.idempotency_ttl.0);
        self.references.configure(config.reference_hold.0, count(config.reference_limit));
        self.repeats.set_limit(count(config.repeat_limit));
    }

    /// How many messages are not finished.
    pub(super) const fn live(&self) -> usize {
        self.table.len() - self.late.len()
    }

    /// The slot of a message that is not finished.
    pub(super) fn find_live(&self, id: MessageId) -> Option<Slot> {
        self.table.find(id).filter(|slot| !self.table[*slot].is_finished())
    }

    /// Whether a message goes on to send segments under this reference.
    pub(super) fn goes_on(&self, to: Tail, reference: u16) -> bool {
        self.begun.with(to, reference).any(|id| {
            let present = self.find_live(id).and_then(|slot| self.table[slot].present());
            present.is_some_and(|it| it.reference == reference && !it.is_taken())
        })
    }

    /// Notes where a record is.
    pub(super) fn place(&mut self, record: &Record, position: Position) {
        match record {
            Record::Accepted(submission) => {
                self.place_message(submission.id, position);
                let key = self.keys.intern(&submission.key);
                self.usage.place(submission.accepted_at, key, position);
                if let Some(entry) = &submission.idempotency {
                    self.requests.place(&entry.key, position);
                }
            }
            Record::Carried(carried) | Record::CarriedFinished { carried, .. } => {
                self.place_message(carried.submission.id, position);
            }
            Record::CarriedIdempotency { entry, .. } => self.requests.place(&entry.key, position),
            Record::CarriedUsage { key, day, .. } => {
                let key = self.keys.intern(key);
                self.usage.place_carried(*day, key, position);
            }
            _ => {}
        }
    }

    fn place_message(&mut self, id: MessageId, position: Position) {
        if let Some(slot) = self.table.find(id) {
            self.table[slot].position = position;
        }
    }

    /// A message with all that happened to it, to be written again; `submission` is its body.
    pub(super) fn carry(&self, routes: &Routes, slot: Slot, submission: Submission) -> Carried {
        let live = &self.table[slot];
        let name = |carrier| -> Box<str> { (&*routes.carrier_name(carrier)).into() };
        let sent = live.sent.as_deref();
        let present = live.present();
        let at = |time: Time| Some(time).filter(|time| *time > Time::ZERO);
        Carried {
            submission,
            state: live.state,
            due: live.due,
            attempt: sent.map_or(0, |sent| sent.present),
            tries: sent.map_or(0, |sent| sent.tries),
            throttles: sent.map_or(0, |sent| sent.throttles),
            unknowns: live.unknowns(),
            carrier: if live.carrier == NO_CARRIER { "".into() } else { name(live.carrier) },
            past_carriers: sent.map_or_else(Vec::new, |sent| sent.past().map(name).collect()),
            sent_at: present.and_then(|attempt| at(attempt.sent_at)),
            submitted_at: present.and_then(|attempt| at(attempt.taken_at)),
            segments: carried_segments(live, name),
        }
    }

    /// Takes a message out, with all that points to it.
    pub(super) fn remove(&mut self, slot: Slot) {
        self.forget_ids(slot);
        self.ages.remove(&mut self.table, slot);
        self.table.remove(slot);
    }

    pub(super) fn forget_ids(&mut self, slot: Slot) {
        let Some(sent) = self.table[slot].sent.as_deref() else { return };
        for attempt in sent.attempts() {
            for (segment, it) in attempt.numbered().filter(|(_, segment)| !segment.id.is_empty()) {
                let target = Target { slot, attempt: attempt.number, segment };
                self.ledger.remove(attempt.carrier, &it.id, target);
            }
        }
    }

    pub(super) fn note_ids(&mut self, slot: Slot) {
        let Some(sent) = self.table[slot].sent.as_deref() else { return };
        for attempt in sent.attempts() {
            for (segment, it) in attempt.numbered().filter(|(_, segment)| !segment.id.is_empty()) {
                let target = Target { slot, attempt: attempt.number, segment };
                self.ledger.insert(attempt.carrier, &it.id, target);
            }
        }
    }
}

fn carried_segments(
    live: &Live,
    name: impl Fn(crate::route::CarrierId) -> Box<str>,
) -> Vec<CarriedSegment> {
    let mut carried = Vec::new();
    for attempt in live.attempts() {
        carried.extend(attempt.numbered().map(|(segment, it)| CarriedSegment {
            attempt: attempt.number,
            segment,
            total: attempt.total(),
            reference: attempt.reference,
            carrier: name(attempt.carrier),
            carrier_message_id: it.id.clone(),
            standing: it.standing as u8 | if it.is_doubtful { CarriedSegment::DOUBTFUL } else { 0 },
            status: it.refusal.map(|(status, _)| status),
        }));
    }
    carried
}
