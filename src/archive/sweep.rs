//! Reads the feed off the day files in order, and opens each pack once.
//!
//! Packs of one key in one file lie one behind the other; those of different keys, of handsets and
//! of different days overlap. So a sweep opens the pack that begins first, and hands an event out
//! once every pack that is still closed begins behind it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::archive::Event;
use crate::archive::StoreError;
use crate::archive::day::Extent;
use crate::archive::day::PackOfEvents;
use crate::archive::files::Files;
use crate::archive::read::EventPage;
use crate::archive::read::Stream;
use crate::message::Position;
use crate::seal::Day;

/// A walk through a part of the feed that is on disk.
#[derive(Debug)]
pub(super) struct Sweep {
    stream: Stream,
    /// Everything below was handed out.
    from: Position,
    until: Position,
    /// Days that were not looked into yet, in the order of their first events.
    days: VecDeque<(Day, Extent)>,
    lanes: Vec<Lane>,
    /// Events of opened packs, rising.
    ahead: VecDeque<Arc<Event>>,
}

/// The packs of one key in one file that are still closed.
#[derive(Debug)]
struct Lane {
    day: Day,
    key: Box<str>,
    inbound: bool,
    next: PackOfEvents,
}

impl Sweep {
    /// A walk through `from..until`, all of which is on disk.
    pub(super) fn new(files: &Files, stream: Stream, from: Position, until: Position) -> Self {
        let mut days = files.extents();
        days.retain(|(_, extent)| extent.last >= from && extent.first < until);
        days.sort_by_key(|(_, extent)| extent.first);
        Self { stream, from, until, days: days.into(), lanes: Vec::new(), ahead: VecDeque::new() }
    }

    /// Whether events can be handed out without the disk, or there is none left.
    pub(super) fn is_ready(&self) -> bool {
        let front = self.ahead.front();
        front.is_some_and(|event| event.position < self.horizon()) || self.is_over()
    }

    /// Whether everything was handed out.
    pub(super) fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.lanes.is_empty() && self.days.is_empty()
    }

    /// Opens packs until [`Self::is_ready`].
    pub(super) fn fill(&mut self, files: &Files) -> Result<(), StoreError> {
        while !self.is_ready() {
            let lane = self.lanes.iter().enumerate().min_by_key(|(_, lane)| lane.next.extent.first);
            let lane = lane.map(|(index, lane)| (index, lane.next.extent.first));
            match (self.days.front(), lane) {
                (Some((day, extent)), lane) if lane.is_none_or(|(_, at)| extent.first <= at) => {
                    let day = *day;
                    self.enter(files, day)?;
                    self.days.pop_front();
                }
                (_, Some((index, _))) => self.open(files, index)?,
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Hands out what may be, at most `limit` events, and tells how far all is known.
    pub(super) fn take(&mut self, limit: usize) -> EventPage {
        let horizon = self.horizon();
        let ready = self.ahead.partition_point(|event| event.position < horizon);
        let events: Vec<_> = self.ahead.drain(..ready.min(limit)).collect();
        let next = match events.last() {
            Some(last) if events.len() < ready || events.len() >= limit => last.cursor(),
            _ => horizon,
        };
        self.from = self.from.max(next);
        EventPage { events, next: self.from }
    }

    /// Every pack that is still closed begins here or behind it.
    fn horizon(&self) -> Position {
        let lanes = self.lanes.iter().map(|lane| lane.next.extent.first);
        let day = self.days.front().map(|(_, extent)| extent.first);
        lanes.chain(day).fold(self.until, Position::min)
    }

    /// Looks which packs a day has.
    fn enter(&mut self, files: &Files, day: Day) -> Result<(), StoreError> {
        let lanes = files.read(day, |file| {
            let mut lanes = Vec::new();
            for (key, inbound) in file.streams()? {
                if !self.stream.takes(&key, inbound) {
                    continue;
                }
                let next = file.pack_of_events((&key, inbound), self.from)?;
                lanes.extend(next.map(|next| Lane { day, key, inbound, next }));
            }
            Ok(lanes)
        })?;
        // A day that is gone by now has no events any more.
        let lanes = lanes.unwrap_or_default().into_iter();
        self.lanes.extend(lanes.filter(|lane| lane.next.extent.first < self.until));
        Ok(())
    }

    /// Opens the next pack of a lane.
    fn open(&mut self, files: &Files, index: usize) -> Result<(), StoreError> {
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(()) };
        let read = files.read(lane.day, |file| {
            let events = file.events(&lane.next, &lane.key)?;
            let behind = Position(lane.next.extent.last.0.saturating_add(1));
            Ok((events, file.pack_of_events((&lane.key, lane.inbound), behind)?))
        })?;
        files.opened_pack();
        let (events, next) = read.unwrap_or_default();
        match next.filter(|next| next.extent.first < self.until) {
            Some(next) => lane.next = next,
            None => drop(self.lanes.swap_remove(index)),
        }
        let wanted = self.from..self.until;
        let events = events.into_iter().filter(|event| wanted.contains(&event.position));
        let sorted = self.ahead.len();
        self.ahead.extend(events.map(Arc::new));
        if sorted > 0 {
            self.ahead.make_contiguous().sort_by_key(|event| event.position);
        }
        Ok(())
    }
}
