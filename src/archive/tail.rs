//! The one writer of the archive: follows the journal, applies, writes behind.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::collections::btree_map::Entry;
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
use crate::archive::day::Changes;
use crate::archive::day::DayFile;
use crate::archive::day::Extent;
use crate::archive::files::Files;
use crate::archive::homes::Homes;
use crate::archive::homes::Place;
use crate::archive::mark::MarkFile;
use crate::archive::memory::Live;
use crate::archive::memory::Memory;
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
#[derive(Debug)]
pub struct Tailer {
    dir: PathBuf,
    mark: MarkFile,
    memory: Arc<Memory>,
    files: Arc<Files>,
    sealer: Arc<Sealer>,
    projection: Projection,
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
    /// Records below may have been applied before a restart.
    replayed_until: Position,
    flushed_at: Time,
    retained_on: Option<Day>,
    flush_every: Duration,
    write_live_after: Duration,
    pending_messages: usize,
    pending_events: usize,
    keep_days: u32,
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
        Self {
            dir: config.dir.clone(),
            applied: parts.mark.low(),
            mark: parts.mark,
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
            retained_on: None,
            flush_every: *config.flush_every,
            write_live_after: *config.write_live_after,
            pending_messages: config.pending_messages,
            pending_events: config.recent_events,
            keep_days: config.keep_days,
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
        let is_next = message.state.is_terminal();
        if is_next {
            self.ended.push(id);
        }
        let live = Live { message: Box::new(message), stored, since: position, is_next };
        self.memory.live.insert(id, live);
        self.dirty.push_back(Dirty { id, since: position, at: now });
        self.waiting += 1;
    }

    fn change(&mut self, now: Time, position: Position, record: Record) -> Result<(), StoreError> {
        let Some(id) = record.message_id() else { return Ok(()) };
        let mut live = self.memory.live.get_mut(&id);
        if let Some(Live { message, is_next, .. }) = live.as_deref_mut() {
            if message.updated >= position {
                return Ok(());
            }
            let event = self.projection.apply(message, position, record);
            if message.state.is_terminal() && !std::mem::replace(is_next, true) {
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
            self.days.insert(day, DayFile::create(&self.dir, day, &self.sealer)?);
        }
        let Some(file) = self.days.get(&day) else { return Ok(None) };
        // What changes next was often accepted next: the packs stay open until the next flush.
        // A place that is wrong, since somebody has taken the file away, is looked for in the index.
        if let Some(place) = self.homes.of(id)
            && let Ok(Some(message)) = file.message_in(place, id)
        {
            return Ok(Some(message));
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

    /// Whether so much waits that it should be written before more is applied.
    pub fn is_crowded(&self) -> bool {
        self.waiting >= self.pending_messages
            || self.events.len() >= self.pending_events
            || self.unmatched.len() >= self.pending_events
    }

    /// Whether anything waits to be written.
    pub fn has_pending(&self) -> bool {
        !(self.dirty.is_empty() && self.events.is_empty() && self.unmatched.is_empty())
            || self.mark.low() < self.applied
    }

    /// Lets readers see what was applied.
    pub fn publish(&self) {
        self.memory.publish_applied(self.applied);
    }

    /// When [`Self::flush`] is due; at once when much waits.
    pub fn flush_due(&self) -> Time {
        if self.is_crowded() { Time::ZERO } else { self.flushed_at + self.flush_every }
    }

    /// Writes messages that have ended or changed a while ago, and all events; then moves the mark.
    ///
    /// # Errors
    /// A file could not be written. What waits still waits: try again.
    pub fn flush(&mut self, now: Time) -> Result<(), StoreError> {
        let crowded = self.waiting >= self.pending_messages;
        self.flush_if(now, |dirty, after| crowded || now.since(dirty.at) >= after)
    }

    /// Writes everything: the mark is then at the applied end.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn flush_all(&mut self, now: Time) -> Result<(), StoreError> {
        self.flush_if(now, |_, _| true)
    }

    /// Writes what has ended, and what is due of the rest, which is looked at from the oldest on.
    fn flush_if(
        &mut self,
        now: Time,
        due: impl Fn(&Dirty, Duration) -> bool,
    ) -> Result<(), StoreError> {
        self.flushed_at = now;
        let mut written = Vec::new();
        let mut changes: BTreeMap<Day, Changes> = BTreeMap::new();
        let mut push = |live: &Live| {
            let id = live.message.id;
            let changes = entry(&mut changes, day::of_message(id), &self.sealer)?;
            changes.rows.push(&live.message, live.stored);
            written.push(id);
            Ok::<_, StoreError>(())
        };
        for id in &self.ended {
            self.memory.live.get(id).map_or(Ok(()), |live| push(&live))?;
        }
        let (mut low, mut passed) = (self.applied, 0);
        for dirty in &self.dirty {
            let live = self.memory.live.get(&dirty.id).filter(|live| live.since == dirty.since);
            if let Some(live) = live.filter(|live| !live.is_next) {
                if !due(dirty, self.write_live_after) {
                    low = dirty.since;
                    break;
                }
                push(&live)?;
            }
            passed += 1;
        }
        let places = self.write(changes)?;
        self.mark.set(low)?;
        self.events.clear();
        self.unmatched.clear();
        self.ended.clear();
        self.dirty.drain(..passed);
        self.waiting -= written.len();
        for (id, place) in places {
            self.homes.insert(id, place);
        }
        for id in written {
            self.memory.live.remove(&id);
        }
        self.days.values().for_each(DayFile::forget);
        self.memory.flushed(self.applied);
        self.memory.publish_passed(low);
        if self.retained_on != Some(Day::of(now)) {
            self.retained_on = Some(Day::of(now));
            if let Err(error) = self.retain(now) {
                tracing::warn!(%error, "old day files stay until tomorrow");
            }
        }
        Ok(())
    }

    /// Writes to each day's file, the latest day first. Returns where the messages lie that may
    /// change again.
    fn write(
        &mut self,
        mut changes: BTreeMap<Day, Changes>,
    ) -> Result<Vec<(MessageId, Place)>, StoreError> {
        for event in &self.events {
            // Never in an earlier file than its message's row, whatever the clocks said.
            let day = Day::of(event.at).max(day::of_message(event.message_id()));
            // All events that wait are written at once, so a file that has a later one has this
            // one too: from before a restart, or before another file could not be written.
            if self.files.last_event(day).is_none_or(|last| last < event.position) {
                entry(&mut changes, day, &self.sealer)?.events.push(Arc::clone(event));
            }
        }
        for receipt in &self.unmatched {
            let changes = entry(&mut changes, Day::of(receipt.at), &self.sealer)?;
            changes.unmatched.push(receipt.clone());
        }
        let mut places = Vec::new();
        for (day, changes) in changes.iter().rev() {
            if !self.days.contains_key(day) {
                self.days.insert(*day, DayFile::create(&self.dir, *day, &self.sealer)?);
            }
            if let Some(file) = self.days.get_mut(day) {
                places.extend(file.write(changes)?);
            }
            let extent = changes
                .events
                .iter()
                .fold(None, |extent, event| Some(Extent::with(extent, event.position)));
            self.files.wrote(*day, extent);
        }
        self.close_idle(&changes.keys().copied().collect());
        Ok(places)
    }

    /// Keeps a few files open besides those just written.
    fn close_idle(&mut self, busy: &HashSet<Day>) {
        while self.days.len() > OPEN_FILES.max(busy.len()) {
            let idle = self.days.keys().find(|day| !busy.contains(day)).copied();
            let Some(idle) = idle else { break };
            self.days.remove(&idle);
        }
    }

    /// Deletes the files of days that need not be kept any longer.
    fn retain(&mut self, now: Time) -> Result<(), StoreError> {
        let oldest = Day(Day::of(now).0.saturating_sub(self.keep_days));
        for day in self.files.days().into_iter().filter(|day| *day < oldest) {
            let open = match self.days.remove(&day) {
                Some(file) => file.has_open(now)?,
                None => DayFile::open(&self.dir, day, &self.sealer)?
                    .map_or(Ok(false), |f| f.has_open(now))?,
            };
            if open {
                tracing::info!(%day, "day file kept: messages in it have not ended");
            } else {
                self.files.delete(day)?;
                self.homes.forget(day);
                tracing::info!(%day, "day file deleted");
            }
        }
        Ok(())
    }
}

const OPEN_FILES: usize = 4;

/// What is to be written to the file of `day`.
fn entry<'a>(
    changes: &'a mut BTreeMap<Day, Changes>,
    day: Day,
    sealer: &Sealer,
) -> Result<&'a mut Changes, StoreError> {
    Ok(match changes.entry(day) {
        Entry::Occupied(found) => found.into_mut(),
        Entry::Vacant(place) => place.insert(Changes::of(day, sealer)?),
    })
}
