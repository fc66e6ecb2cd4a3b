//! One flush: what it writes, and who writes it while the tailer goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use hashbrown::HashSet;

use crate::archive::Event;
use crate::archive::StoreError;
use crate::archive::Unmatched;
use crate::archive::day;
use crate::archive::day::Changes;
use crate::archive::day::DayFile;
use crate::archive::day::Extent;
use crate::archive::files::Files;
use crate::archive::homes::Put;
use crate::archive::mark::MarkFile;
use crate::message::MessageId;
use crate::message::Position;
use crate::seal::Day;
use crate::seal::Sealer;
use crate::time::Time;

/// What is to be written, as it was when it was collected: records that come later change nothing
/// in it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) now: Time,
    /// Records that begin below were applied.
    pub(super) applied: Position,
    /// Records below are in the files once this is.
    pub(super) low: Position,
    pub(super) changes: BTreeMap<Day, Changes>,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) unmatched: Vec<Unmatched>,
    /// Which messages are in it, and the first record of each that was not written before.
    pub(super) messages: Vec<(MessageId, Position)>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Written {
    /// Where the messages lie that may change again.
    pub(super) places: Vec<Put>,
    /// How many keys the events were of.
    pub(super) keys: usize,
    /// Days whose files were deleted.
    pub(super) deleted: Vec<Day>,
}

/// A flush that is to be written, on whichever thread.
#[derive(Debug)]
pub struct Flush {
    pub(super) writer: Writer,
    pub(super) pending: Pending,
}

/// A flush that was written, or not.
#[derive(Debug)]
pub struct Flushed {
    pub(super) writer: Writer,
    pub(super) pending: Pending,
    pub(super) done: Result<Written, StoreError>,
}

impl Flush {
    /// Writes it.
    pub fn write(mut self) -> Flushed {
        let done = self.writer.write(&mut self.pending);
        Flushed { writer: self.writer, pending: self.pending, done }
    }
}

/// Writes the day files, then the mark.
#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    mark: MarkFile,
    files: Arc<Files>,
    sealer: Arc<Sealer>,
    days: BTreeMap<Day, DayFile>,
    keep_days: u32,
    retained_on: Option<Day>,
}

impl Writer {
    pub(super) fn new(
        dir: PathBuf,
        mark: MarkFile,
        files: Arc<Files>,
        sealer: Arc<Sealer>,
        keep_days: u32,
    ) -> Self {
        Self { dir, mark, files, sealer, days: BTreeMap::new(), keep_days, retained_on: None }
    }

    /// Writes all of `pending`, then moves the mark.
    ///
    /// # Errors
    /// A file could not be written. Some of it may be written: the same can be given again.
    pub(super) fn write(&mut self, pending: &mut Pending) -> Result<Written, StoreError> {
        self.sort_in(pending)?;
        let mut places = Vec::new();
        // The latest day first.
        for (day, changes) in pending.changes.iter().rev() {
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
        self.close_idle(&pending.changes.keys().copied().collect());
        self.mark.set(pending.low)?;
        let keys: HashSet<_> = pending.events.iter().map(|event| &*event.key).collect();
        Ok(Written { places, keys: keys.len(), deleted: self.retain_once_a_day(pending.now) })
    }

    /// Puts events and receipts to the day in whose file they belong.
    fn sort_in(&self, pending: &mut Pending) -> Result<(), StoreError> {
        for changes in pending.changes.values_mut() {
            changes.events.clear();
            changes.unmatched.clear();
        }
        for event in &pending.events {
            // Never in an earlier file than its message's row, whatever the clocks said.
            let day = Day::of(event.at).max(day::of_message(event.message_id()));
            // All events that wait are written at once, so a file that has a later one has this
            // one too: from before a restart, or before another file could not be written.
            if self.files.last_event(day).is_none_or(|last| last < event.position) {
                let changes = Changes::entry(&mut pending.changes, day, &self.sealer)?;
                changes.events.push(Arc::clone(event));
            }
        }
        for receipt in &pending.unmatched {
            let day = Day::of(receipt.at);
            let changes = Changes::entry(&mut pending.changes, day, &self.sealer)?;
            changes.unmatched.push(receipt.clone());
        }
        Ok(())
    }

    /// Keeps a few files open besides those just written.
    fn close_idle(&mut self, busy: &HashSet<Day>) {
        while self.days.len() > OPEN_FILES.max(busy.len()) {
            let idle = self.days.keys().find(|day| !busy.contains(*day)).copied();
            let Some(idle) = idle else { break };
            self.days.remove(&idle);
        }
    }

    fn retain_once_a_day(&mut self, now: Time) -> Vec<Day> {
        let mut deleted = Vec::new();
        if self.retained_on != Some(Day::of(now)) {
            self.retained_on = Some(Day::of(now));
            if let Err(error) = self.retain(now, &mut deleted) {
                tracing::warn!(%error, "old day files stay until tomorrow");
            }
        }
        deleted
    }

    /// Deletes the files of days that need not be kept any longer.
    fn retain(&mut self, now: Time, deleted: &mut Vec<Day>) -> Result<(), StoreError> {
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
                deleted.push(day);
                tracing::info!(%day, "day file deleted");
            }
        }
        Ok(())
    }
}

/// How many day files are kept open, by who writes and by who reads.
pub(super) const OPEN_FILES: usize = 4;
