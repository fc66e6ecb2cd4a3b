//! What a flush writes: collected, given to whoever writes it, and taken back.

use std::collections::BTreeMap;

use super::Tailer;
use crate::archive::StoreError;
use crate::archive::day;
use crate::archive::day::Changes;
use crate::archive::day::DayFile;
use crate::archive::flush::Flush;
use crate::archive::flush::Flushed;
use crate::archive::flush::OPEN_FILES;
use crate::archive::flush::Pending;
use crate::archive::flush::Written;
use crate::archive::memory::Live;
use crate::archive::memory::Turn;
use crate::message::MessageId;
use crate::time::Time;

impl Tailer {
    /// Whether so much waits that it should be written before more is applied.
    pub fn is_crowded(&self) -> bool {
        self.waiting >= self.pending_messages
            || self.events.len() >= self.pending_events
            || self.unmatched.len() >= self.pending_events
    }

    /// Whether anything waits to be written.
    pub fn has_pending(&self) -> bool {
        !(self.dirty.is_empty() && self.events.is_empty() && self.unmatched.is_empty())
            || self.low < self.applied
    }

    /// When [`Self::flush`] is due; at once when much waits.
    pub fn flush_due(&self) -> Time {
        if self.is_crowded() || self.has_enough() {
            Time::ZERO
        } else {
            self.flushed_at + self.flush_every
        }
    }

    /// Whether a flush has enough to write. One of all that a busy second brings would keep disk
    /// and processors from those who wait for the journal; several small ones take no more together,
    /// unless many keys have a few events each, since those of a key lie together.
    fn has_enough(&self) -> bool {
        let events = self.pending_events.div_ceil(FLUSHES_OF_EVENTS);
        let for_keys = self.keys_flushed.saturating_mul(EVENTS_OF_A_KEY).min(self.pending_events);
        let events = events.max(for_keys);
        let messages = self
            .pending_messages
            .saturating_mul(events)
            .div_ceil(self.pending_events.saturating_mul(FLUSHES_OF_MESSAGES / FLUSHES_OF_EVENTS));
        self.ended.len() >= messages || self.events.len() >= events
    }

    /// Writes messages that have ended or changed a while ago, and all events; then moves the mark.
    /// While a flush of [`Self::begin_flush`] is under way it does nothing.
    ///
    /// # Errors
    /// A file could not be written. What waits still waits: try again.
    pub fn flush(&mut self, now: Time) -> Result<(), StoreError> {
        self.settle()?;
        self.collect(now, false)?;
        self.settle()
    }

    /// Writes everything: the mark is then at the applied end.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn flush_all(&mut self, now: Time) -> Result<(), StoreError> {
        self.settle()?;
        self.collect(now, true)?;
        self.settle()
    }

    /// What [`Self::flush`] would write, to be written elsewhere while this goes on;
    /// [`Self::end_flush`] takes it back. None while one is under way.
    ///
    /// # Errors
    /// A day's key cannot be read. What waits still waits: try again.
    pub fn begin_flush(&mut self, now: Time) -> Result<Option<Flush>, StoreError> {
        self.collect(now, false)?;
        let Some(pending) = self.pending.take_if(|_| self.writer.is_some()) else {
            return Ok(None);
        };
        let Some(writer) = self.writer.take() else { return Ok(None) };
        Ok(Some(Flush { writer, pending }))
    }

    /// Takes back what was written.
    ///
    /// # Errors
    /// A file could not be written. What waits still waits: begin again.
    pub fn end_flush(&mut self, flushed: Flushed) -> Result<(), StoreError> {
        let Flushed { writer, pending, done } = flushed;
        self.writer = Some(writer);
        match done {
            Ok(written) => {
                self.finish(pending, written);
                Ok(())
            }
            Err(error) => {
                self.pending = Some(pending);
                Err(error)
            }
        }
    }

    /// Writes what was collected, here and now.
    fn settle(&mut self) -> Result<(), StoreError> {
        let (Some(writer), Some(pending)) = (&mut self.writer, &mut self.pending) else {
            return Ok(());
        };
        let written = writer.write(pending)?;
        if let Some(pending) = self.pending.take() {
            self.finish(pending, written);
        }
        Ok(())
    }

    /// Collects what is to be written, unless something is already: what has ended, and what is due
    /// of the rest, which is looked at from the oldest on.
    fn collect(&mut self, now: Time, all: bool) -> Result<(), StoreError> {
        if self.pending.is_some() || self.writer.is_none() {
            return Ok(());
        }
        self.flushed_at = now;
        let all = all || self.waiting >= self.pending_messages;
        let mut pending = Pending {
            now,
            applied: self.applied,
            low: self.applied,
            changes: BTreeMap::new(),
            events: Vec::new(),
            unmatched: Vec::new(),
            messages: Vec::new(),
        };
        match self.collect_messages(&mut pending, all) {
            Ok(passed) => {
                self.dirty.drain(..passed);
                self.ended.clear();
                pending.events = std::mem::take(&mut self.events);
                pending.unmatched = std::mem::take(&mut self.unmatched);
                self.pending = Some(pending);
                Ok(())
            }
            Err(error) => {
                for (id, _) in pending.messages {
                    if let Some(mut live) = self.memory.live.get_mut(&id) {
                        let ended = live.message.state.is_terminal();
                        live.turn = if ended { Turn::Next } else { Turn::Waits };
                    }
                }
                Err(error)
            }
        }
    }

    /// How many of those that wait need not be looked at again.
    fn collect_messages(&self, pending: &mut Pending, all: bool) -> Result<usize, StoreError> {
        let mut push = |live: &mut Live| {
            let id = live.message.id;
            let changes = Changes::entry(&mut pending.changes, day::of_message(id), &self.sealer)?;
            changes.rows.push(&live.message, live.stored);
            live.turn = Turn::Now;
            pending.messages.push((id, live.since));
            Ok::<_, StoreError>(())
        };
        for id in &self.ended {
            if let Some(mut live) = self.memory.live.get_mut(id) {
                push(&mut live)?;
            }
        }
        for (passed, dirty) in self.dirty.iter().enumerate() {
            let Some(mut live) = self.memory.live.get_mut(&dirty.id) else { continue };
            // Others were collected, or have changed since: there is a later entry for them.
            if live.since == dirty.since && live.turn == Turn::Waits {
                if !all && pending.now.since(dirty.at) < self.write_live_after {
                    pending.low = dirty.since;
                    return Ok(passed);
                }
                push(&mut live)?;
            }
        }
        Ok(self.dirty.len())
    }

    /// Takes that `pending` is on disk: what has not changed meanwhile leaves memory.
    fn finish(&mut self, pending: Pending, written: Written) {
        for (id, since) in &pending.messages {
            let is_same =
                |_: &MessageId, live: &Live| live.turn == Turn::Now && live.since == *since;
            if self.memory.live.remove_if(id, is_same).is_some() {
                self.waiting -= 1;
            } else if let Some(mut live) = self.memory.live.get_mut(id) {
                live.stored = true;
            }
        }
        let mut places = written.places;
        places.retain(|put| !self.memory.live.contains_key(&put.id));
        self.homes.put(&places);
        for day in written.deleted {
            self.days.remove(&day);
            self.homes.forget(day);
        }
        while self.days.len() > OPEN_FILES {
            self.days.pop_first();
        }
        self.days.values().for_each(DayFile::forget);
        if self.waiting == 0 && self.dirty.capacity() > FEW {
            // A burst is over.
            self.dirty.shrink_to(FEW);
            self.memory.live.shrink_to_fit();
        }
        self.keys_flushed = written.keys;
        self.low = pending.low;
        self.memory.flushed(pending.applied);
        self.memory.publish_passed(pending.low);
    }
}

/// A flush is due when so many of them would write as many messages as may wait.
const FLUSHES_OF_MESSAGES: usize = 64;

/// The same for events.
const FLUSHES_OF_EVENTS: usize = 4;

/// Each key's events in a flush should be so many.
const EVENTS_OF_A_KEY: usize = 16;

/// For so many waiting messages room is kept.
const FEW: usize = 4_096;
