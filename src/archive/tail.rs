//! The one writer of the archive: follows the journal, applies, writes behind.

mod collect;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::archive::Config;
use crate::archive::Event;
use crate::archive::Message;
use crate::archive::Projection;
use crate::archive::StoreError;
use crate::archive::Unmatched;
use crate::archive::day;
use crate::archive::day::DayFile;
use crate::archive::files::Files;
use crate::archive::flush::Pending;
use crate::archive::flush::Writer;
use crate::archive::homes::Homes;
use crate::archive::mark::MarkFile;
use crate::archive::memory::Live;
use crate::archive::memory::Memory;
use crate::archive::memory::Turn;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::Record;
use crate::seal::Day;
use crate::seal::Sealer;
use crate::time::Time;

/// Applies records, in order, and writes what they change to the day files.
///
/// # Exactly once
///
/// A message's row holds the position of the last record in it, and a record is applied to a
/// message only when it lies behind that. Messages are written when they have ended or after a
/// while, so the mark says from where on records must be read again after a crash: from the first
/// that changed a message which was not written since. An event is written before, or in one
/// transaction with, the row that has its record: the row of a message lies in the file of its
/// creation, its events in that file or a later one, and later files are written first. So a
/// record that is read again either finds the row behind it, and its event on disk too, or finds
/// the row as it was, and makes the same event at the same position again. That event is on disk
/// when its file has a later one, since all events that wait are written together.
///
/// What a flush writes is collected at one position. Records that are applied while it is written
/// change nothing in it: a message that they change waits anew, from the first of them on, and stays
/// in memory; one flush at a time is under way.
#[derive(Debug)]
pub struct Tailer {
    dir: PathBuf,
    /// None while it writes elsewhere.
    writer: Option<Writer>,
    /// What is collected and not written.
    pending: Option<Pending>,
    memory: Arc<Memory>,
    files: Arc<Files>,
    sealer: Arc<Sealer>,
    projection: Projection,
    /// To read.
    days: BTreeMap<Day, DayFile>,
    /// Messages that changed since they were last written, in the order of `since`; and some that
    /// were written meanwhile, until those before them are.
    dirty: VecDeque<Dirty>,
    /// How many messages wait to be written.
    waiting: usize,
    /// Those of them that have ended: they are written next.
    ended: Vec<MessageId>,
    /// Where messages lie that may change again and are not in memory.
    homes: Homes,
    events: Vec<Arc<Event>>,
    unmatched: Vec<Unmatched>,
    /// Records that begin below are applied.
    applied: Position,
    /// Records below are in the files.
    low: Position,
    /// Records below may have been applied before a restart.
    replayed_until: Position,
    flushed_at: Time,
    flush_every: Duration,
    write_live_after: Duration,
    pending_messages: usize,
    pending_events: usize,
    /// How many keys the events of the last flush were of.
    keys_flushed: usize,
    strays: u64,
}

#[derive(Clone, Copy, Debug)]
struct Dirty {
    id: MessageId,
    /// The first record that is not in the message's row.
    since: Position,
    /// When that was applied.
    at: Time,
}

/// The parts of a [`Tailer`] that [`super::open`] makes.
pub(super) struct Parts {
    pub(super) mark: MarkFile,
    pub(super) memory: Arc<Memory>,
    pub(super) files: Arc<Files>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) projection: Projection,
    pub(super) replayed_until: Position,
}

impl Tailer {
    pub(super) fn new(parts: Parts, config: &Config) -> Self {
        let (dir, low) = (config.dir.clone(), parts.mark.low());
        let (files, sealer) = (Arc::clone(&parts.files), Arc::clone(&parts.sealer));
        let writer = Writer::new(dir.clone(), parts.mark, files, sealer, config.keep_days);
        Self {
            dir,
            writer: Some(writer),
            pending: None,
            applied: low,
            low,
            memory: parts.memory,
            files: parts.files,
            sealer: parts.sealer,
            projection: parts.projection,
            replayed_until: parts.replayed_until,
            days: BTreeMap::new(),
            dirty: VecDeque::new(),
            waiting: 0,
            ended: Vec::new(),
            homes: Homes::default(),
            events: Vec::new(),
            unmatched: Vec::new(),
            flushed_at: Time::ZERO,
            flush_every: *config.flush_every,
            write_live_after: *config.write_live_after,
            pending_messages: config.pending_messages,
            pending_events: config.recent_events,
            keys_flushed: 0,
            strays: 0,
        }
    }

    /// Where to go on reading the journal.
    pub const fn applied(&self) -> Position {
        self.applied
    }

    /// How many records were about messages that the archive does not have.
    pub const fn strays(&self) -> u64 {
        self.strays
    }

    /// Applies the record at `position`; the next one begins at `next`.
    ///
    /// Readers see it after [`Self::publish`].
    ///
    /// # Errors
    /// A message could not be read from its file. Nothing has changed: give the same record again.
    pub fn apply(
        &mut self,
        now: Time,
        position: Position,
        next: Position,
        record: Record,
    ) -> Result<(), StoreError> {
        match record {
            Record::Inbound(_) | Record::InboundWhole { .. } => {
                if let Some(event) = self.projection.inbound(position, record) {
                    self.keep(event);
                }
            }
            Record::Orphan { at, carrier, receipt } => self.unmatched.push(Unmatched {
                position,
                at,
                carrier,
                receipt: self.projection.receipt(receipt),
            }),
            Record::OrphanDropped { .. }
            | Record::CarriedIdempotency { .. }
            | Record::CarriedUsage { .. }
            | Record::CarriedFailure { .. } => {}
            Record::Accepted(_) | Record::Carried(_) | Record::CarriedFinished { .. } => {
                self.begin(now, position, record)?;
            }
            _ => self.change(now, position, record)?,
        }
        self.applied = next;
        Ok(())
    }

    fn begin(&mut self, now: Time, position: Position, record: Record) -> Result<(), StoreError> {
        let Some(id) = record.message_id() else { return Ok(()) };
        if matches!(record, Record::Carried(_)) && day::of_message(id) < self.sealer.keys().today()
        {
            self.renew(now, position, id)?;
        }
        // What was carried on was in the archive before; what was accepted was not, unless it is
        // read again.
        let may_exist = !matches!(record, Record::Accepted(_)) || position < self.replayed_until;
        if self.memory.live.contains_key(&id) || (may_exist && self.load(id)?.is_some()) {
            return Ok(());
        }
        let Some((message, event)) = self.projection.begin(position, record) else {
            return Ok(());
        };
        if let Some(event) = event {
            self.keep(event);
        }
        self.soil(now, position, message, false);
        self.memory.wake(id);
        Ok(())
    }

    /// Writes a message again that lives longer than its day: the key that it is sealed under may
    /// be about to go.
    fn renew(&mut self, now: Time, position: Position, id: MessageId) -> Result<(), StoreError> {
        if !self.memory.live.contains_key(&id)
            && let Some(message) = self.load(id)?
        {
            self.soil(now, position, message, true);
        }
        Ok(())
    }

    /// Keeps a message that has changed at `position` and not before, since it was `stored`.
    fn soil(&mut self, now: Time, position: Position, message: Message, stored: bool) {
        let id = message.id;
        self.homes.remove(id);
        let mut live =
            Live { message: Box::new(message), stored, since: position, turn: Turn::Waits };
        if live.message.state.is_terminal() {
            live.turn = Turn::Next;
            self.ended.push(id);
        }
        self.memory.live.insert(id, live);
        self.dirty.push_back(Dirty { id, since: position, at: now });
        self.waiting += 1;
    }

    fn change(&mut self, now: Time, position: Position, record: Record) -> Result<(), StoreError> {
        let Some(id) = record.message_id() else { return Ok(()) };
        let mut live = self.memory.live.get_mut(&id);
        if let Some(found) = live.as_deref_mut() {
            if found.message.updated >= position {
                return Ok(());
            }
            let event = self.projection.apply(&mut found.message, position, record);
            if found.turn == Turn::Now {
                // What is being written lacks this.
                (found.turn, found.since) = (Turn::Waits, position);
                self.dirty.push_back(Dirty { id, since: position, at: now });
            }
            if found.message.state.is_terminal() && found.turn == Turn::Waits {
                found.turn = Turn::Next;
                self.ended.push(id);
            }
            drop(live);
            self.changed(id, event);
            return Ok(());
        }
        drop(live);
        let Some(mut message) = self.load(id)? else {
            self.strays += 1;
            return Ok(());
        };
        if message.updated < position {
            let event = self.projection.apply(&mut message, position, record);
            if message.updated == position {
                self.soil(now, position, message, true);
                self.changed(id, event);
            }
        }
        Ok(())
    }

    fn changed(&mut self, id: MessageId, event: Option<Event>) {
        if let Some(event) = event {
            self.keep(event);
        }
        self.memory.wake(id);
    }

    fn keep(&mut self, event: Event) {
        let event = Arc::new(event);
        self.memory.remember(&event);
        self.events.push(event);
    }

    /// The message as its file has it.
    fn load(&mut self, id: MessageId) -> Result<Option<Message>, StoreError> {
        let day = day::of_message(id);
        if !self.days.contains_key(&day) {
            if !self.files.has(day) {
                return Ok(None);
            }
            let Some(file) = DayFile::open(&self.dir, day, &self.sealer)? else { return Ok(None) };
            self.days.insert(day, file);
        }
        let Some(file) = self.days.get(&day) else { return Ok(None) };
        // What changes next was often accepted next: the packs stay open until the next flush.
        // A place that is wrong, since somebody has taken the file away, is looked for in the index.
        if let Some(place) = self.homes.of(id)
            && let Ok(Some(message)) = file.message_in(place, id)
        {
            return Ok(Some(message));
        }
        for pack in self.homes.packs(id) {
            if let Ok(Some((message, place))) = file.message_of(pack, id)
                && self.homes.take(id, place)
            {
                return Ok(Some(message));
            }
        }
        let Some((message, place)) = file.find(id)? else { return Ok(None) };
        if let Some(place) = place {
            self.homes.insert(id, place);
        }
        Ok(Some(message))
    }

    /// Goes on at `position`: what lies before it cannot be read any more.
    pub fn skip_to(&mut self, position: Position) {
        self.applied = self.applied.max(position);
    }

    /// Lets readers see what was applied.
    pub fn publish(&self) {
        self.memory.publish_applied(self.applied);
    }
}
