//! What people and programs ask the archive: one message, a search, the feed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::archive::Change;
use crate::archive::Event;
use crate::archive::EventKind;
use crate::archive::Interest;
use crate::archive::Message;
use crate::archive::NumberKeeper;
use crate::archive::StoreError;
use crate::archive::Unmatched;
use crate::archive::day;
use crate::archive::day::Candidate;
use crate::archive::day::DayFile;
use crate::archive::day::Go;
use crate::archive::files::Files;
use crate::archive::memory::FeedPart;
use crate::archive::memory::Memory;
use crate::archive::sweep::Sweep;
use crate::archive::term;
use crate::archive::term::Field;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::State;
use crate::seal::Day;
use crate::threads::Threads;
use crate::time::Time;

/// The reading side; clones share everything.
///
/// `owner` is the name of the API key that asks: it sees its own messages and events only. `None`
/// is an operator, who sees all.
#[derive(Clone, Debug)]
pub struct Archive {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    memory: Arc<Memory>,
    files: Arc<Files>,
    numbers: NumberKeeper,
    readers: Threads,
}

/// The most messages or events that one answer holds.
pub const MOST_RESULTS: usize = 200;

/// Which messages to look for: all that have every property that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The destination, E.164 digits with or without `+`.
    pub to: Option<String>,
    /// The owner's reference.
    pub client_ref: Option<String>,
    /// The campaign.
    pub campaign: Option<String>,
    /// A carrier's id for one of its segments, as the answer or a receipt wrote it.
    pub carrier_message_id: Option<String>,
    /// The state.
    pub state: Option<State>,
    /// The carrier that has or had it last.
    pub carrier: Option<String>,
    /// Created at this time or later.
    pub since: Option<Time>,
    /// Created before this time.
    pub until: Option<Time>,
    /// The most messages wanted; 0 and more than [`MOST_RESULTS`] mean [`MOST_RESULTS`].
    pub limit: usize,
    /// Go on where an earlier search stopped.
    pub cursor: Option<SearchCursor>,
}

/// Where a search stopped. Opaque to those who carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SearchCursor {
    day: Day,
    position: Position,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The messages, the newest first.
    pub messages: Vec<Message>,
    /// Where to go on; none when there is nothing more. A search that had to look at very many
    /// messages stops early: then this is given although fewer than wanted were found.
    pub next: Option<SearchCursor>,
}

/// A part of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPage {
    /// The events, in order.
    pub events: Vec<Arc<Event>>,
    /// The cursor that goes on behind them.
    pub next: Position,
}

/// Which part of the feed is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feed {
    /// Every event.
    #[default]
    All,
    /// What handsets sent.
    Inbound,
}

impl Archive {
    pub(super) fn new(
        memory: Arc<Memory>,
        files: Arc<Files>,
        numbers: NumberKeeper,
        readers: usize,
    ) -> Self {
        let readers = Threads::new(readers);
        Self { inner: Arc::new(Inner { memory, files, numbers, readers }) }
    }

    /// How far the archive is behind the journal: every record that begins below is in it.
    pub fn applied(&self) -> watch::Receiver<Position> {
        self.inner.memory.applied()
    }

    /// What the journal may forget as far as the archive is concerned: every record that begins
    /// below is in the archive's files.
    pub fn passed(&self) -> watch::Receiver<Position> {
        self.inner.memory.passed()
    }

    /// Waits until every record that begins below `end` is applied.
    pub async fn caught_up(&self, end: Position) {
        // The sender lives as long as we do.
        let mut applied = self.applied();
        let _closed = applied.wait_for(|applied| *applied >= end).await;
    }

    /// Registers interest in the changes of a message; none when too many wait already.
    pub fn watch(&self, id: MessageId) -> Option<Change> {
        self.inner.memory.watch(id)
    }

    /// The message with this id; none when there is none, or another key owns it.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub async fn message(
        &self,
        id: MessageId,
        owner: Option<&str>,
    ) -> Result<Option<Message>, StoreError> {
        let owned = |message: &Message| owner.is_none_or(|owner| *message.key == *owner);
        let live = self.inner.memory.live.get(&id).map(|live| Message::clone(&live.message));
        if live.is_some() {
            return Ok(live.filter(owned));
        }
        let found = self
            .reading(move |inner| inner.files.read(day::of_message(id), |file| file.message(id)))
            .await?;
        Ok(found.flatten().filter(owned))
    }

    /// The messages that `search` describes.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn search(&self, search: Search, owner: Option<&str>) -> Result<Found, StoreError> {
        let wanted = Wanted::new(search, owner, &self.inner.numbers);
        self.reading(move |inner| inner.search(&wanted)).await
    }

    /// The first `limit` events from `from` on, at most [`MOST_RESULTS`]; the feed begins at
    /// [`Position`] 0, and goes on at [`EventPage::next`] or [`Event::cursor`].
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn events(
        &self,
        feed: Feed,
        from: Position,
        limit: usize,
        owner: Option<&str>,
    ) -> Result<EventPage, StoreError> {
        let limit = within(limit);
        let stream = Stream { feed, owner: owner.map(Into::into) };
        match self.inner.memory.events(from, limit, owner, |event| stream.has(event)) {
            FeedPart::Memory { events, next } => Ok(EventPage { events, next }),
            FeedPart::Files { until } => {
                self.reading(move |inner| inner.events(stream, from..until, limit)).await
            }
        }
    }

    /// Follows a part of the feed from `from` on; see [`FeedReader`].
    pub fn follow(&self, feed: Feed, from: Position, owner: Option<&str>) -> FeedReader {
        let stream = Stream { feed, owner: owner.map(Into::into) };
        FeedReader { archive: self.clone(), stream, next: from, sweep: None, is_at_end: false }
    }

    /// Hears of events of a key that are of interest, once they can be read. Look first, and wait
    /// if there was none.
    pub fn news(&self, owner: &str, interest: Interest) -> watch::Receiver<()> {
        self.inner.memory.news(owner, interest)
    }

    /// Where to go on reading the events of a key from `from` on, when it is known that none of
    /// those that can be read by now is of interest; known for keys with [`Self::news`].
    pub fn skip(&self, owner: &str, interest: Interest, from: Position) -> Option<Position> {
        self.inner.memory.skip(owner, interest, from)
    }

    /// How many packs of events were opened on disk since the start.
    pub fn packs_opened(&self) -> u64 {
        self.inner.files.packs_opened()
    }

    /// The first `limit` receipts from `from` on that no message had when they came.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn unmatched(
        &self,
        from: Position,
        limit: usize,
    ) -> Result<Vec<Unmatched>, StoreError> {
        let limit = within(limit);
        self.reading(move |inner| {
            let mut found: Vec<Unmatched> = Vec::new();
            for day in inner.files.days() {
                if found.len() >= limit {
                    break;
                }
                let more = inner.files.read(day, |file| file.unmatched(from, limit))?;
                found.extend(more.unwrap_or_default());
            }
            found.sort_by_key(|receipt| receipt.position);
            found.truncate(limit);
            Ok(found)
        })
        .await
    }

    /// Reads on a thread that may wait for the disk; not too many at a time.
    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        self.inner.readers.run(move || read(&inner)).await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Reads a part of the feed in order. What it opens on disk it keeps until it has handed it out, so
/// that whoever is far behind opens each pack once, however few events it takes at a time.
#[derive(Debug)]
pub struct FeedReader {
    archive: Archive,
    stream: Stream,
    next: Position,
    sweep: Option<Box<Sweep>>,
    is_at_end: bool,
}

impl FeedReader {
    /// Up to `limit` of the events that come next, at most [`MOST_RESULTS`]; fewer do not mean that
    /// there are no more. All is read when the page's [`next`](EventPage::next) is that of the one
    /// before.
    ///
    /// # Errors
    /// A file cannot be read. The next call tries again.
    pub async fn read(&mut self, limit: usize) -> Result<EventPage, StoreError> {
        let limit = within(limit);
        self.is_at_end = false;
        let mut sweep = match self.sweep.take() {
            Some(sweep) => sweep,
            None => {
                let memory = &self.archive.inner.memory;
                let owner = self.stream.owner.as_deref();
                match memory.events(self.next, limit, owner, |event| self.stream.has(event)) {
                    FeedPart::Memory { events, next } => {
                        self.next = next;
                        self.is_at_end = events.len() < limit;
                        return Ok(EventPage { events, next });
                    }
                    FeedPart::Files { until } if until <= self.next => {
                        return Ok(EventPage { events: Vec::new(), next: self.next });
                    }
                    FeedPart::Files { until } => {
                        let files = &self.archive.inner.files;
                        let stream = self.stream.clone();
                        Box::new(Sweep::new(files, stream, self.next, until))
                    }
                }
            }
        };
        if !sweep.is_ready() {
            let filling = self.archive.reading(move |inner| {
                sweep.fill(&inner.files)?;
                Ok(sweep)
            });
            sweep = filling.await?;
        }
        let page = sweep.take(limit);
        self.next = page.next;
        self.sweep = Some(sweep).filter(|sweep| !sweep.is_over());
        Ok(page)
    }
}

impl FeedReader {
    /// Goes on at `next`, as [`Archive::skip`] says.
    pub fn skip_to(&mut self, next: Position) {
        (self.next, self.sweep, self.is_at_end) = (next, None, true);
    }

    /// Whether the last page was of memory and had all that was there; what comes later is told by
    /// [`Archive::news`].
    pub const fn is_at_end(&self) -> bool {
        self.is_at_end
    }
}

const fn within(limit: usize) -> usize {
    if limit == 0 || limit > MOST_RESULTS { MOST_RESULTS } else { limit }
}

impl SearchCursor {
    fn of(message: &Message) -> Self {
        Self { day: day::of_message(message.id), position: message.position }
    }
}

impl fmt::Display for SearchCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.day.0, self.position.0)
    }
}

/// Why a text is not a cursor of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a cursor as an earlier answer gave it")]
pub struct ParseCursorError;

impl FromStr for SearchCursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let (day, position) = text.split_once('-').ok_or(ParseCursorError)?;
        let day = u32::from_str_radix(day, 16).map_err(|_| ParseCursorError)?;
        let position = u64::from_str_radix(position, 16).map_err(|_| ParseCursorError)?;
        Ok(Self { day: Day(day), position: Position(position) })
    }
}

/// Whose events, and which.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    feed: Feed,
    owner: Option<Box<str>>,
}

impl Stream {
    fn has(&self, event: &Event) -> bool {
        let inbound = event.kind == EventKind::InboundReceived;
        self.takes(&event.key, inbound)
    }

    pub(super) fn takes(&self, key: &str, inbound: bool) -> bool {
        (inbound || self.feed == Feed::All)
            && self.owner.as_deref().is_none_or(|owner| owner == key)
    }
}

impl Inner {
    /// The first `limit` events of `stream` in `range`, all of which is on disk.
    fn events(
        &self,
        stream: Stream,
        range: std::ops::Range<Position>,
        limit: usize,
    ) -> Result<EventPage, StoreError> {
        let mut page = EventPage { events: Vec::new(), next: range.start };
        if range.is_empty() {
            return Ok(page);
        }
        let mut sweep = Sweep::new(&self.files, stream, range.start, range.end);
        while page.events.len() < limit && !sweep.is_over() {
            sweep.fill(&self.files)?;
            let more = sweep.take(limit - page.events.len());
            page.events.extend(more.events);
            page.next = more.next;
        }
        if sweep.is_over() && page.events.len() < limit {
            page.next = range.end;
        }
        Ok(page)
    }

    /// Memory first, then the files, the latest first: what is written meanwhile is in one of them.
    fn search(&self, wanted: &Wanted) -> Result<Found, StoreError> {
        let mut found = self.in_memory(wanted);
        let mut looked_at = 0;
        let mut stopped = None;
        let mut on_disk = 0;
        for day in self.files.days().into_iter().rev().filter(|day| wanted.may_be_in(*day)) {
            let before = match wanted.search.cursor {
                Some(cursor) if cursor.day == day => cursor.position,
                _ => Position(u64::MAX),
            };
            let mut hunt =
                Hunt { wanted, before, found: Vec::new(), on_disk, looked_at, last: before };
            self.files.read(day, |file| hunt.run(file))?;
            let Hunt { found: more, last, .. } = hunt;
            (on_disk, looked_at) = (hunt.on_disk, hunt.looked_at);
            found.extend(more.into_iter().filter_map(|message| self.latest(wanted, message)));
            if on_disk > wanted.limit || looked_at >= MOST_LOOKED_AT {
                stopped = Some(SearchCursor { day, position: last });
                break;
            }
        }
        Ok(wanted.page(found, stopped))
    }

    /// The newest of those in memory that are not on disk as they are, one more than wanted.
    fn in_memory(&self, wanted: &Wanted) -> Vec<Message> {
        let live = self.memory.live.iter().filter(|live| wanted.is(&live.message));
        let mut places: Vec<_> = live
            .map(|live| (std::cmp::Reverse(SearchCursor::of(&live.message)), *live.key()))
            .collect();
        places.sort_unstable();
        places.truncate(wanted.limit + 1);
        // What leaves the memory meanwhile is found on disk.
        let still = places.into_iter().filter_map(|(_, id)| self.memory.live.get(&id));
        still
            .filter(|live| wanted.is(&live.message))
            .map(|live| Message::clone(&live.message))
            .collect()
    }

    /// The message as it is now, when it still is what was wanted.
    fn latest(&self, wanted: &Wanted, stored: Message) -> Option<Message> {
        match self.memory.live.get(&stored.id) {
            Some(live) => wanted.is(&live.message).then(|| Message::clone(&live.message)),
            None => Some(stored),
        }
    }
}

/// The most rows that one search looks at on disk.
const MOST_LOOKED_AT: usize = 100_000;

/// A search as it is carried out.
#[derive(Debug)]
struct Wanted {
    search: Search,
    owner: Option<Box<str>>,
    limit: usize,
    /// The term that fewest messages have.
    term: Option<Term>,
}

/// What a search looks up.
#[derive(Debug)]
enum Term {
    Hash(i64),
    /// A destination, which each day hashes in its own way.
    Number(String),
}

impl Wanted {
    fn new(mut search: Search, owner: Option<&str>, numbers: &NumberKeeper) -> Self {
        let kept = search.to.map(|to| numbers.keep(to.strip_prefix('+').unwrap_or(&to)));
        search.to = kept.map(Into::into);
        let plain = |field, value: &Option<String>| {
            value.as_ref().map(|value| Term::Hash(term::hash(field, value)))
        };
        let term = plain(Field::CarrierMessageId, &search.carrier_message_id)
            .or_else(|| plain(Field::ClientRef, &search.client_ref))
            .or_else(|| search.to.clone().map(Term::Number))
            .or_else(|| plain(Field::Campaign, &search.campaign))
            .or_else(|| search.state.and_then(term::state).map(Term::Hash));
        Self { limit: within(search.limit), search, owner: owner.map(Into::into), term }
    }

    fn may_be_in(&self, day: Day) -> bool {
        // Ids carry milliseconds and times microseconds: a day's last message may seem to lie in
        // the next one, and no further.
        self.search.cursor.is_none_or(|cursor| day <= cursor.day)
            && self.search.since.is_none_or(|since| Day(day.0.saturating_add(1)) >= Day::of(since))
            && self.search.until.is_none_or(|until| day <= Day::of(until))
    }

    fn is(&self, message: &Message) -> bool {
        let Search { to, client_ref, campaign, carrier_message_id, .. } = &self.search;
        let Search { state, carrier, since, until, cursor, .. } = &self.search;
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        self.owner.as_deref().is_none_or(|owner| *message.key == *owner)
            && same(to, Some(&message.to))
            && same(client_ref, message.client_ref.as_deref())
            && same(campaign, message.campaign.as_deref())
            && same(carrier, Some(&message.carrier))
            && carrier_message_id
                .as_deref()
                .is_none_or(|wanted| term::carrier_ids(message).any(|id| id == wanted))
            && state.is_none_or(|state| message.state == state)
            && since.is_none_or(|since| message.created_at >= since)
            && until.is_none_or(|until| message.created_at < until)
            && cursor.is_none_or(|cursor| SearchCursor::of(message) < cursor)
    }

    /// One page of what was found, when the search `stopped` before it had seen all.
    fn page(&self, mut found: Vec<Message>, stopped: Option<SearchCursor>) -> Found {
        found.retain(|message| stopped.is_none_or(|stopped| SearchCursor::of(message) >= stopped));
        found.sort_by_key(|message| std::cmp::Reverse(SearchCursor::of(message)));
        found.dedup_by_key(|message| message.id);
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let last = found.last().filter(|_| more).map(SearchCursor::of);
        Found { messages: found, next: last.or(stopped) }
    }
}

/// A search in one day's file.
struct Hunt<'a> {
    wanted: &'a Wanted,
    before: Position,
    found: Vec<Message>,
    /// How many were found in this and later days.
    on_disk: usize,
    looked_at: usize,
    /// The oldest row that was looked at.
    last: Position,
}

impl Hunt<'_> {
    fn run(&mut self, file: &DayFile) -> Result<(), StoreError> {
        if let Some(until) = self.wanted.search.until {
            // Ids rise with time and positions nearly so: a minute's grace is plenty.
            let above = file.above(until + std::time::Duration::from_secs(60))?;
            self.before = self.before.min(above);
        }
        match &self.wanted.term {
            Some(Term::Hash(hash)) => self.by_terms(file, &[*hash]),
            Some(Term::Number(number)) => self.by_terms(file, &file.numbers_hashes(number)),
            None => file.scan(self.before, |candidate| self.look(candidate)),
        }
    }

    /// All that is listed under one of `hashes`.
    fn by_terms(&mut self, file: &DayFile, hashes: &[i64]) -> Result<(), StoreError> {
        if hashes.is_empty() {
            return Ok(());
        }
        for bucket in file.buckets(self.before)? {
            let mut positions = Vec::new();
            for hash in hashes {
                positions.extend(file.listed(bucket, *hash, self.before)?);
            }
            positions.sort_unstable_by(|a, b| b.cmp(a));
            positions.dedup();
            for position in positions {
                let Some(message) = file.message_at(position)? else { continue };
                if self.take(position, Some(message)) == Go::Stop {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn look(&mut self, candidate: &Candidate<'_>) -> Result<Go, StoreError> {
        let head = candidate.head()?;
        let Search { state, carrier, since, .. } = &self.wanted.search;
        let since = since.map(|since| since - std::time::Duration::from_secs(60));
        if since.is_some_and(|since| head.created_at < since) {
            return Ok(Go::Stop);
        }
        let wanted = self.wanted.owner.as_deref().is_none_or(|owner| owner == head.key)
            && state.is_none_or(|state| state == head.state)
            && carrier.as_deref().is_none_or(|carrier| carrier == head.carrier);
        let message = wanted.then(|| candidate.message()).transpose()?;
        Ok(self.take(head.position, message))
    }

    fn take(&mut self, position: Position, message: Option<Message>) -> Go {
        self.last = position;
        self.looked_at += 1;
        if let Some(message) = message.filter(|message| self.wanted.is(message)) {
            self.found.push(message);
            self.on_disk += 1;
        }
        let enough = self.on_disk > self.wanted.limit || self.looked_at >= MOST_LOOKED_AT;
        if enough { Go::Stop } else { Go::On }
    }
}
