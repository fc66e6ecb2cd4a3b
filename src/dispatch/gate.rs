//! Nothing leaves before what it stands on is on disk.
//!
//! Records are counted as they are made. An effect remembers how many there were, and comes out
//! once that many are durable. Effects keep their order, so what is let through early is only what
//! stands on no record.

use std::collections::VecDeque;
use std::time::Duration;

use crate::message::MessageId;
use crate::message::Position;
use crate::message::Record;
use crate::route::CarrierId;
use crate::time::Time;

use super::event::BindId;
use super::event::Effect;
use super::event::Reply;
use super::event::Ticket;
use super::event::Token;

/// Records on their way to the disk, and effects that wait for them.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Made, and not appended yet.
    outbox: VecDeque<Record>,
    /// Positions of what is appended and not durable yet.
    placed: VecDeque<Position>,
    /// How many records were made.
    made: u64,
    /// How many of them are durable.
    durable: u64,
    /// Where what is durable ends.
    end: Position,
    /// A record whose sync is timed: how many there were with it, and when it was made.
    timed: Option<(u64, Time)>,
    lag: Duration,
    held: VecDeque<(u64, Held)>,
    out: VecDeque<Effect>,
}

/// What waits for records.
#[derive(Debug)]
pub(super) enum Held {
    /// The answer to a door.
    Reply(Ticket, Reply),
    /// The answer `ESME_ROK` to what a carrier delivered.
    Acknowledge(BindId, u32),
    /// The journal may drop what is before.
    Trim(Position),
    /// A segment on its way to a bind; it still has to pass the carrier's rate.
    Submit(CarrierId, u16, Token),
    /// A body to be read back once it is there to be read.
    Fetch(MessageId),
}

impl Gate {
    /// Takes a record that was made.
    pub(super) fn record(&mut self, record: Record) {
        self.made += 1;
        self.outbox.push_back(record);
    }

    /// Holds something until every record made so far is durable.
    pub(super) fn hold(&mut self, held: Held) {
        self.held.push_back((self.made, held));
    }

    /// Lets an effect out that stands on no record.
    pub(super) fn let_out(&mut self, effect: Effect) {
        self.out.push_back(effect);
    }

    /// The oldest record that is not appended yet.
    pub(super) fn next_record(&self) -> Option<&Record> {
        self.outbox.front()
    }

    /// Takes that the oldest record was appended.
    pub(super) fn placed(&mut self, position: Position) -> Option<Record> {
        self.placed.push_back(position);
        self.outbox.pop_front()
    }

    /// How long the disk has lately taken from a record to its sync, at worst.
    pub(super) const fn lag(&self) -> Duration {
        self.lag
    }

    /// Times one record at a time.
    pub(super) fn watch(&mut self, now: Time) {
        if self.timed.is_none() && self.made > self.durable {
            self.timed = Some((self.made, now));
        }
    }

    /// How many records are not durable yet.
    pub(super) const fn backlog(&self) -> u64 {
        self.made - self.durable
    }

    /// Takes that all before `end` is durable; how many more records that is.
    pub(super) fn set_durable(&mut self, now: Time, end: Position) -> u64 {
        let before = self.durable;
        self.end = self.end.max(end);
        while self.placed.front().is_some_and(|position| *position < end) {
            self.placed.pop_front();
            self.durable += 1;
        }
        if let Some((_, since)) = self.timed.take_if(|(made, _)| *made <= self.durable) {
            // A slow sync is remembered for a few quick ones.
            self.lag = now.since(since).max(self.lag * 7 / 8);
        }
        self.durable - before
    }

    /// Takes that a record at `position` was read back.
    pub(super) fn replayed(&mut self, position: Position) {
        self.end = self.end.max(Position(position.0.saturating_add(1)));
    }

    /// What is held no longer, in order.
    pub(super) fn release(&mut self) -> Option<Held> {
        let (after, _) = self.held.front()?;
        if *after > self.durable {
            return None;
        }
        self.held.pop_front().map(|(_, held)| held)
    }

    /// The next effect that may be acted upon.
    pub(super) fn poll(&mut self) -> Option<Effect> {
        self.out.pop_front()
    }

    /// Whether what is at `position` is durable.
    pub(super) fn is_durable(&self, position: Position) -> bool {
        position < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let (carrier, carrier_message_id) = ("a".into(), "1".into());
        Record::OrphanDropped { at: Time::ZERO, carrier, carrier_message_id }
    }

    fn reply(ticket: u64) -> Held {
        Held::Reply(Ticket(ticket), Reply::NotLive)
    }

    #[test]
    fn an_effect_waits_for_the_records_before_it_and_no_others() {
        let mut gate = Gate::default();
        gate.hold(reply(0));
        gate.record(record());
        gate.hold(reply(1));
        gate.record(record());
        gate.hold(reply(2));
        gate.hold(reply(3));
        assert!(gate.release().is_some(), "it stands on nothing");
        assert!(gate.release().is_none());
        gate.placed(Position(100));
        gate.placed(Position(200));
        gate.set_durable(Time::ZERO, Position(100));
        assert!(gate.release().is_none(), "the record begins at the durable end");
        gate.set_durable(Time::ZERO, Position(101));
        assert!(gate.release().is_some());
        assert!(gate.release().is_none());
        gate.set_durable(Time::ZERO, Position(300));
        assert!(gate.release().is_some() && gate.release().is_some());
        assert!(gate.is_durable(Position(299)) && !gate.is_durable(Position(300)));
    }
}
