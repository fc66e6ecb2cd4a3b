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
use hikyaku::pdu::SubmitSm;
use hikyaku::time::Time;

use super::carrier::message_of;
use super::carrier::parts;
use super::coverage::Coverage;
use super::story::Kept;
use super::story::broken;

/// One request of a client, and the message that became of it.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) to: String,
    /// Its durable records, in order.
    pub(super) records: Vec<Record>,
    pub(super) finish: Option<Finish>,
    pub(super) correction: Option<Finish>,
    /// What its client was told.
    pub(super) told: Option<MessageId>,
    is_cancelled: bool,
    expires_at: Time,
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
    /// When the last segments left for it.
    left: VecDeque<Time>,
    /// Ids, as receipts write them, of the receipts that are on the disk.
    receipts: BTreeSet<String>,
    inbound: u64,
    inbound_taken: u64,
}

/// All that is true.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) messages: Vec<Message>,
    pub(super) by_id: HashMap<MessageId, usize>,
    carriers: Vec<Known>,
    reference_hold: Duration,
    /// The last use of each reference to a number: when, by which message, at which carrier.
    references: HashMap<(String, u16), (Time, usize, usize)>,
}

impl Truth {
    pub(super) fn new(carriers: Vec<(String, u64)>, reference_hold: Duration) -> Self {
        let known = |(name, rate)| Known {
            name,
            rate: usize::try_from(rate).unwrap_or(usize::MAX),
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
    pub(super) fn durable(&mut self, record: &Record, coverage: &mut Coverage) -> Kept {
        cover(record, coverage);
        match record {
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
                self.carriers[carrier].receipts.insert(id);
            }
            Record::Inbound(inbound) => {
                let carrier = self.carrier(&inbound.carrier).unwrap();
                self.carriers[carrier].inbound += 1;
            }
            _ => {}
        }
        let Some(about) = self.message(record) else { return Ok(()) };
        self.note(about, record)
    }

    fn note(&mut self, about: usize, record: &Record) -> Kept {
        let message = &mut self.messages[about];
        let about = Some(about);
        match record {
            Record::Accepted(_) if message.is_accepted() => {
                return broken(about, "accepted twice for one idempotency key");
            }
            Record::Accepted(submission) => message.expires_at = submission.expires_at,
            Record::Carried(_) | Record::CarriedFinished { .. } => {}
            Record::CarriedIdempotency { .. } => return Ok(()),
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
        message.records.push(record.clone());
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
        if now >= message.expires_at {
            return broken(Some(about), format!("segment {segment} leaves after its time to live"));
        }
        if message.finish.is_some() {
            return broken(Some(about), format!("segment {segment} leaves after its end"));
        }
        if message.is_cancelled {
            return broken(Some(about), "leaves after it was cancelled");
        }
        self.keeps_rate(now, carrier, about)?;
        self.keeps_reference(now, carrier, about, reference)
    }

    fn keeps_rate(&mut self, now: Time, carrier: usize, about: usize) -> Kept {
        let known = &mut self.carriers[carrier];
        if known.left.len() >= known.rate
            && let Some(first) = known.left.pop_front()
            && now.since(first) < Duration::from_secs(1)
        {
            let how = format!("more than {} segments to {} in a second", known.rate, known.name);
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

/// Counts what a record shows to be reached.
fn cover(record: &Record, coverage: &mut Coverage) {
    let name = match record {
        Record::Accepted(submission) => format!("accepted {}", submission.class),
        Record::Sending { .. } => "sending".into(),
        Record::Answered { answer, .. } => format!("answered {}", answer.status),
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
    };
    coverage.count(format!("record {name}"));
}
