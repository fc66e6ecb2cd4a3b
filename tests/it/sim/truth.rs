//! What is true, from what is on the disk, what clients were told and what carriers saw; and the
//! promises that it is held to, at every step.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use hikyaku::dispatch::Reply;
use hikyaku::message::Decision;
use hikyaku::message::Finish;
use hikyaku::message::MessageId;
use hikyaku::message::Record;
use hikyaku::message::State;
use hikyaku::message::UnansweredCause;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::SubmitSm;
use hikyaku::time::Time;

use super::carrier::message_of;
use super::carrier::parts;
use super::coverage::Coverage;
use super::draw::Skew;
use super::story::Kept;
use super::story::broken;

/// One request of a client, and the message that became of it.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) to: String,
    /// Its durable records, in order, with times by the world's clock.
    pub(super) records: Vec<Record>,
    pub(super) finish: Option<Finish>,
    pub(super) correction: Option<Finish>,
    /// What its client was told.
    pub(super) told: Option<MessageId>,
    is_cancelled: bool,
    /// As the last record left it.
    state: Option<State>,
    /// By the gateway's clock.
    expires_at: Time,
    /// When it was durable, and when its first segment left.
    pub(super) accepted_at: Time,
    pub(super) left_at: Option<Time>,
    /// How often each segment left: by carrier, reference and number.
    left: BTreeMap<(usize, Option<u16>, u8), usize>,
}

impl Message {
    /// A request for a message to this number, of which nothing is known yet.
    pub(super) fn to(number: &str) -> Self {
        Self { to: number.to_owned(), ..Self::default() }
    }

    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.records.first(), Some(Record::Accepted(_)))
    }

    /// Counts the way from one state to the next.
    fn moves(&mut self, record: &Record, coverage: &mut Coverage) {
        let next = match record {
            Record::Accepted(it) if it.send_at.is_some_and(|at| at > it.accepted_at) => {
                State::Scheduled
            }
            Record::Accepted(_) | Record::Requeued { .. } => State::Queued,
            Record::Sending { .. } => State::Submitting,
            Record::Answered { state, .. } => *state,
            Record::Finished { finish, .. } | Record::Corrected { finish, .. } => finish.state,
            _ => return,
        };
        if let Some(before) = self.state.replace(next).filter(|before| *before != next) {
            coverage.count(format!("state {before} to {next}"));
        }
    }

    /// How it ended.
    pub(super) fn end(&self) -> Option<&Finish> {
        self.correction.as_ref().or(self.finish.as_ref())
    }
}

/// What is known of a carrier besides its own book.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: String,
    rate: usize,
    /// What it was before the last reload, and when that was.
    rate_before: (usize, Time),
    /// When the last segments left for it.
    left: VecDeque<Time>,
    /// Ids, as receipts write them, of the receipts that are on the disk.
    receipts: BTreeSet<String>,
    /// Messages of handsets, and what looked like a receipt and could not be read.
    inbound: u64,
    inbound_taken: u64,
}

impl Known {
    /// Of a window over a reload each part keeps its own rate, so all of it the larger one.
    fn allows(&self, now: Time) -> usize {
        let (before, until) = self.rate_before;
        if now.since(until) < SECOND { self.rate.max(before) } else { self.rate }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// All that is true.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) messages: Vec<Message>,
    pub(super) by_id: HashMap<MessageId, usize>,
    carriers: Vec<Known>,
    reference_hold: Duration,
    /// The last use of each reference to a number: when, by which message, at which carrier.
    references: HashMap<(String, u16), (Time, usize, usize)>,
    /// The clock of the process whose records come.
    pub(super) skew: Skew,
    /// When the last record was made, by the gateway's clock.
    newest: Time,
    /// Which message each segment was of that left.
    pub(super) departures: Vec<(Time, usize)>,
    /// How many segments have no known outcome, by the durable records.
    pub(super) unknowns: u64,
}

impl Truth {
    pub(super) fn new(carriers: Vec<(String, u64)>, reference_hold: Duration) -> Self {
        let known = |(name, rate)| Known {
            name,
            rate: usize::try_from(rate).unwrap_or(usize::MAX),
            rate_before: (0, Time::ZERO),
            left: VecDeque::new(),
            receipts: BTreeSet::new(),
            inbound: 0,
            inbound_taken: 0,
        };
        Self {
            messages: Vec::new(),
            by_id: HashMap::new(),
            carriers: carriers.into_iter().map(known).collect(),
            reference_hold,
            references: HashMap::new(),
            skew: Skew::default(),
            newest: Time::ZERO,
            departures: Vec::new(),
            unknowns: 0,
        }
    }

    /// A reload gives the carriers these rates.
    pub(super) fn set_rates(&mut self, now: Time, rates: &[Option<u64>]) {
        for (known, rate) in self.carriers.iter_mut().zip(rates) {
            known.rate_before = (known.allows(now), now);
            known.rate = rate.map_or(0, |rate| usize::try_from(rate).unwrap());
        }
    }

    fn carrier(&self, name: &str) -> Option<usize> {
        self.carriers.iter().position(|known| known.name == name)
    }

    /// The message that a record is about.
    pub(super) fn message(&self, record: &Record) -> Option<usize> {
        record.message_id().and_then(|id| self.by_id.get(&id).copied())
    }

    /// A record is on the disk.
    pub(super) fn durable(&mut self, now: Time, record: &Record, coverage: &mut Coverage) -> Kept {
        cover(record, coverage);
        self.keeps_time(record)?;
        match record {
            Record::Unanswered {
                segments,
                cause: UnansweredCause::LinkLost | UnansweredCause::Timeout,
                ..
            } => {
                self.unknowns += segments.iter().count() as u64;
            }
            Record::Receipt { receipt, attempt, .. } => {
                let message = self.message(record);
                if let Some(carrier) = message.and_then(|it| self.carrier_of(it, *attempt)) {
                    let id = receipt.carrier_message_id.to_string();
                    self.carriers[carrier].receipts.insert(id);
                }
            }
            Record::Orphan { carrier, receipt, .. } => {
                let carrier = self.carrier(carrier).unwrap();
                let id = receipt.carrier_message_id.to_string();
                self.carriers[carrier].inbound += u64::from(id.is_empty());
                self.carriers[carrier].receipts.insert(id);
            }
            Record::Inbound(inbound) => {
                let carrier = self.carrier(&inbound.carrier).unwrap();
                self.carriers[carrier].inbound += 1;
            }
            _ => {}
        }
        let Some(about) = self.message(record) else { return Ok(()) };
        self.messages[about].moves(record, coverage);
        self.note(now, about, record)
    }

    /// No record is older than the one before it, whatever the machine's clock says at a start.
    fn keeps_time(&mut self, record: &Record) -> Kept {
        // What is carried on keeps its time, and a door reads the clock before the dispatcher does.
        let is_older = matches!(record, Record::Accepted(_) | Record::CarriedFinished { .. });
        if is_older || record.at() == Time::ZERO {
            return Ok(());
        }
        if record.at() < self.newest {
            return broken(self.message(record), format!("the clock goes back: {record:?}"));
        }
        self.newest = record.at();
        Ok(())
    }

    fn note(&mut self, now: Time, about: usize, record: &Record) -> Kept {
        let skew = self.skew;
        let message = &mut self.messages[about];
        let about = Some(about);
        match record {
            Record::Accepted(_) if message.is_accepted() => {
                return broken(about, "accepted twice for one idempotency key");
            }
            Record::Accepted(submission) => {
                message.expires_at = submission.expires_at;
                message.accepted_at = now;
            }
            Record::Carried(_) | Record::CarriedFinished { .. } => {}
            Record::CarriedIdempotency { .. } | Record::CarriedFailure { .. } => return Ok(()),
            _ if !message.is_accepted() => return broken(about, "a record before it is accepted"),
            Record::Finished { finish, .. } => {
                if message.finish.is_some() {
                    return broken(about, "a second terminal record");
                }
                if !finish.state.is_terminal() {
                    return broken(about, "finished in a state that is not terminal");
                }
                message.finish = Some(finish.clone());
            }
            Record::Corrected { finish, .. } => {
                if message.finish.is_none() || message.correction.is_some() {
                    return broken(about, "corrected before its end, or twice");
                }
                message.correction = Some(finish.clone());
            }
            Record::Sending { .. } | Record::Requeued { .. } if message.finish.is_some() => {
                return broken(about, format!("after its end: {record:?}"));
            }
            _ => {}
        }
        message.records.push(by_world(record, skew));
        Ok(())
    }

    /// The carrier of an attempt.
    fn carrier_of(&self, message: usize, number: u16) -> Option<usize> {
        let of = |record: &Record| match record {
            Record::Sending { attempt, carrier, .. } if *attempt == number => self.carrier(carrier),
            _ => None,
        };
        self.messages[message].records.iter().find_map(of)
    }

    /// A segment leaves for a carrier. All that is on the disk was noted before.
    pub(super) fn leaves(&mut self, now: Time, carrier: usize, submit: &SubmitSm) -> Kept {
        let about = message_of(submit.source.addr.as_bytes()).unwrap();
        let (reference, total, segment) = parts(submit);
        let name = &self.carriers[carrier].name;
        let message = &mut self.messages[about];
        let left = message.left.entry((carrier, reference, segment)).or_default();
        *left += 1;
        message.left_at.get_or_insert(now);
        self.departures.push((now, about));
        let says = |record: &&Record| match record {
            Record::Sending { carrier, reference: written, total: all, segments, .. } => {
                **carrier == **name
                    && *all == total
                    && reference.is_none_or(|sent| sent == *written)
                    && segments.contains(segment)
            }
            _ => false,
        };
        let said = message.records.iter().filter(says).count();
        if *left > said {
            let how = format!("segment {segment} leaves for {name} without a durable record");
            return broken(Some(about), how);
        }
        let local = self.skew.local(now);
        if local >= message.expires_at {
            return broken(Some(about), format!("segment {segment} leaves after its time to live"));
        }
        if message.finish.is_some() {
            return broken(Some(about), format!("segment {segment} leaves after its end"));
        }
        if message.is_cancelled {
            return broken(Some(about), "leaves after it was cancelled");
        }
        self.keeps_rate(now, carrier, about)?;
        self.keeps_reference(local, carrier, about, reference)
    }

    fn keeps_rate(&mut self, now: Time, carrier: usize, about: usize) -> Kept {
        let known = &mut self.carriers[carrier];
        while known.left.front().is_some_and(|at| now.since(*at) >= SECOND) {
            known.left.pop_front();
        }
        let most = known.allows(now);
        if known.left.len() >= most {
            let how = format!("more than {most} segments to {} in a second", known.name);
            return broken(Some(about), how);
        }
        known.left.push_back(now);
        Ok(())
    }

    fn keeps_reference(
        &mut self,
        now: Time,
        carrier: usize,
        about: usize,
        reference: Option<u16>,
    ) -> Kept {
        let Some(reference) = reference else { return Ok(()) };
        let key = (self.messages[about].to.clone(), reference);
        if let Some((at, by, there)) = self.references.insert(key, (now, about, carrier))
            && (by, there) != (about, carrier)
            && now.since(at) < self.reference_hold
        {
            let how = format!("reference {reference} was used by m{by} for the same number");
            return broken(Some(about), how);
        }
        Ok(())
    }

    /// The process began anew: it may have a fresh bucket, since a restart takes a second.
    pub(super) fn restarted(&mut self) {
        self.carriers.iter_mut().for_each(|known| known.left.clear());
    }

    /// A client is told what became of its request.
    pub(super) fn replied(&mut self, about: usize, reply: &Reply) -> Kept {
        let message = &mut self.messages[about];
        let about = Some(about);
        match reply {
            Reply::Accepted { id, .. } | Reply::Replayed { id } => {
                if self.by_id.get(id).copied() != about {
                    return broken(about, format!("told the id of another message: {id}"));
                }
                if !message.is_accepted() {
                    return broken(about, "told accepted before the record is durable");
                }
                if message.told.is_some_and(|told| told != *id) {
                    return broken(about, "an idempotent retry was told another id");
                }
                message.told = Some(*id);
            }
            Reply::Cancelled { .. } => {
                message.is_cancelled = true;
                if message.end().is_none_or(|end| end.state != State::Cancelled) {
                    return broken(about, "told cancelled before the record is durable");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The gateway takes a receipt with this id, as the receipt writes it, about a segment of a
    /// message.
    pub(super) fn takes(
        &self,
        carrier: usize,
        id: &str,
        about: usize,
        segment: Option<u8>,
    ) -> Kept {
        if self.carriers[carrier].receipts.contains(id) {
            return Ok(());
        }
        // Of a segment that was sent twice and has arrived, a second receipt says nothing new.
        let mut records = self.messages[about].records.iter();
        let is_known = records.any(|record| match record {
            Record::Receipt { segment: other, receipt, .. } => {
                Some(*other) == segment && receipt.is_final
            }
            _ => false,
        });
        if is_known {
            return Ok(());
        }
        broken(Some(about), format!("receipt {id} is answered before it is durable"))
    }

    /// The gateway takes a message from a handset.
    pub(super) fn takes_inbound(&mut self, carrier: usize) -> Kept {
        let known = &mut self.carriers[carrier];
        known.inbound_taken += 1;
        if known.inbound_taken > known.inbound {
            return broken(None, "a message of a handset is answered before it is durable");
        }
        Ok(())
    }
}

/// A record with its time by the world's clock.
fn by_world(record: &Record, skew: Skew) -> Record {
    let mut record = record.clone();
    match &mut record {
        Record::Sending { at, .. }
        | Record::Answered { at, .. }
        | Record::Unanswered { at, .. }
        | Record::Receipt { at, .. }
        | Record::Requeued { at, .. }
        | Record::Finished { at, .. }
        | Record::Corrected { at, .. } => *at = skew.world(*at),
        _ => {}
    }
    record
}

/// The name of a status; one for all that have none.
pub(super) fn known(status: CommandStatus) -> String {
    let name = status.to_string();
    if name.starts_with("0x") { "another status".into() } else { name }
}

/// Counts what a record shows to be reached.
fn cover(record: &Record, coverage: &mut Coverage) {
    let name = match record {
        Record::Accepted(submission) => format!("accepted {}", submission.class),
        Record::Sending { .. } => "sending".into(),
        Record::Answered { answer, .. } => format!("answered {}", known(answer.status)),
        Record::Unanswered { cause, .. } => format!("unanswered {cause:?}"),
        Record::Receipt { receipt, .. } => format!("receipt {}", receipt.state),
        Record::Orphan { .. } => "orphan".into(),
        Record::OrphanDropped { .. } => "orphan dropped".into(),
        Record::Requeued { decision, reason, .. } => match decision {
            Decision::Retry { .. } => format!("retry {reason}"),
            Decision::Throttled => format!("again {reason}"),
            Decision::Fallback { rule, .. } => {
                let words: Vec<&str> = rule.split(' ').take(2).collect();
                format!("fallback {}", words.join(" "))
            }
        },
        Record::Finished { finish, .. } => format!("finished {} {:?}", finish.state, finish.reason),
        Record::Corrected { finish, .. } => format!("corrected {}", finish.state),
        Record::Inbound(_) => "inbound".into(),
        Record::InboundWhole { .. } => "inbound whole".into(),
        Record::Carried(_) => "carried".into(),
        Record::CarriedIdempotency { .. } => "carried idempotency".into(),
        Record::CarriedFinished { .. } => "carried finished".into(),
        Record::CarriedUsage { .. } => "carried usage".into(),
        Record::CarriedFailure { .. } => "carried failure".into(),
    };
    coverage.count(format!("record {name}"));
}
