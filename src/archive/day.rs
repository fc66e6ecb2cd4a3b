//! One day's file: its tables, what is written to it and what is read from it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rusqlite::CachedStatement;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;

use crate::archive::Event;
use crate::archive::Message;
use crate::archive::Origin;
use crate::archive::Subject;
use crate::archive::Unmatched;
use crate::archive::blob;
use crate::archive::error::StoreError;
use crate::archive::index;
use crate::archive::index::Posting;
use crate::archive::term;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::State;
use crate::time::Time;

/// One day of the calendar in UTC: days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(pub(crate) u32);

impl Day {
    /// The day of `at`.
    pub(crate) fn of(at: Time) -> Self {
        Self(u32::try_from(at.as_secs() / SECONDS_OF_A_DAY).unwrap_or(u32::MAX))
    }

    /// The day of a message: that of its creation.
    pub(crate) fn of_message(id: MessageId) -> Self {
        Self::of(id.created_at())
    }

    /// The file that holds the day.
    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{self}.db"))
    }

    /// The days that have a file in `dir`.
    pub(crate) fn list(dir: &Path) -> Result<Vec<Self>, StoreError> {
        let mut days = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|error| StoreError::file(dir, error))? {
            let name = entry.map_err(|error| StoreError::file(dir, error))?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".db"));
            days.extend(stem.and_then(|stem| stem.parse::<Self>().ok()));
        }
        days.sort_unstable();
        Ok(days)
    }
}

const SECONDS_OF_A_DAY: u64 = 86_400;

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::from(self.0).saturating_mul(86_400);
        match jiff::Timestamp::from_second(seconds) {
            Ok(at) => write!(f, "{}", at.strftime("%Y-%m-%d")),
            Err(_) => write!(f, "day-{}", self.0),
        }
    }
}

impl FromStr for Day {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let found = match text.strip_prefix("day-") {
            Some(number) => number.parse().ok(),
            None => text.parse::<jiff::civil::Date>().ok().and_then(|date| {
                let days = (date - jiff::civil::date(1970, 1, 1)).get_days();
                u32::try_from(days).ok()
            }),
        };
        // Only the name that we would give the file ourselves.
        found.map(Self).filter(|day| day.to_string() == text).ok_or(())
    }
}

/// The layout of a day's file, besides the index. A message's row id is the position of its first
/// record, so rows lie in the order of acceptance. Events of a key lie in packs; `inbound` tells
/// those of handsets.
const SCHEMA: &str = "
    CREATE TABLE messages (
        position INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        created INTEGER NOT NULL,
        key TEXT NOT NULL,
        state TEXT NOT NULL,
        carrier TEXT NOT NULL,
        open_until INTEGER,
        body BLOB NOT NULL
    );
    CREATE INDEX messages_open ON messages (open_until) WHERE open_until IS NOT NULL;
    CREATE TABLE events (
        key TEXT NOT NULL,
        inbound INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        bodies BLOB NOT NULL
    );
    CREATE UNIQUE INDEX events_place ON events (key, inbound, last);
    CREATE TABLE unmatched (position INTEGER PRIMARY KEY, body BLOB NOT NULL);
";

const VERSION: i64 = 1;

/// An open day file.
#[derive(Debug)]
pub(crate) struct DayFile {
    path: PathBuf,
    db: Connection,
}

/// The rows of messages about to be written, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    rows: Vec<PendingRow>,
    bodies: Vec<u8>,
    terms: Vec<Posting>,
}

#[derive(Debug)]
struct PendingRow {
    origin: Arc<Origin>,
    state: State,
    carrier: Arc<str>,
    /// Where its body ends.
    body_end: usize,
}

impl Rows {
    /// Adds a message. Those of its terms that never change are left out when it is `stored`: a
    /// row of it is there already.
    pub(crate) fn push(&mut self, message: &Message, stored: bool) {
        blob::append(message, &mut self.bodies);
        self.terms.extend(term::of(message, stored).map(|hash| (hash, message.position)));
        self.rows.push(PendingRow {
            origin: Arc::clone(&message.origin),
            state: message.state,
            carrier: Arc::clone(&message.carrier),
            body_end: self.bodies.len(),
        });
    }
}

/// What one transaction writes to one day's file.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) rows: Rows,
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) unmatched: Vec<Unmatched>,
}

/// The first and the last position of a file's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: Position,
    pub(crate) last: Position,
}

impl Extent {
    /// The extent with `position` in it.
    pub(crate) fn with(this: Option<Self>, position: Position) -> Self {
        this.map_or(Self { first: position, last: position }, |extent| Self {
            first: extent.first.min(position),
            last: extent.last.max(position),
        })
    }
}

impl DayFile {
    /// Opens the day's file to write, and makes it when it is missing.
    pub(crate) fn create(dir: &Path, day: Day) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut file = Self::connect(day.path(dir), flags)?;
        file.prepare().map_err(|error| file.fault(error))??;
        Ok(file)
    }

    /// Opens the day's file to read; nothing when there is none.
    pub(crate) fn open(dir: &Path, day: Day) -> Result<Option<Self>, StoreError> {
        let path = day.path(dir);
        if !path.try_exists().map_err(|error| StoreError::file(&path, error))? {
            return Ok(None);
        }
        let file = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        file.db.pragma_update(None, "query_only", true).map_err(|error| file.fault(error))?;
        file.check_version().map_err(|error| file.fault(error))??;
        Ok(Some(file))
    }

    fn connect(path: PathBuf, flags: OpenFlags) -> Result<Self, StoreError> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags)
            .and_then(|db| {
                db.busy_timeout(std::time::Duration::from_secs(5))?;
                db.set_prepared_statement_cache_capacity(32);
                Ok(db)
            })
            .map_err(|error| StoreError::sqlite(&path, error))?;
        Ok(Self { path, db })
    }

    fn prepare(&mut self) -> rusqlite::Result<Result<(), StoreError>> {
        self.db.pragma_update(None, "journal_mode", "wal")?;
        // The journal is trimmed once this file has what was in it, so a commit must reach the disk.
        self.db.pragma_update(None, "synchronous", "full")?;
        self.db.pragma_update(None, "cache_size", -32_768)?;
        self.db.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        self.db.pragma_update(None, "journal_size_limit", 64 << 20)?;
        let transaction = self.db.transaction()?;
        let empty = transaction
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?
            == 0;
        if empty {
            transaction.execute_batch(SCHEMA)?;
            transaction.execute_batch(index::SCHEMA)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
        self.check_version()
    }

    fn check_version(&self) -> rusqlite::Result<Result<(), StoreError>> {
        let found: i64 = self.db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok(if found == VERSION {
            Ok(())
        } else {
            Err(StoreError::Version { path: self.path.clone(), found, known: VERSION })
        })
    }

    fn fault(&self, error: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.path, error)
    }

    /// Writes all of `changes` in one transaction. Messages may be written again; events must not.
    pub(crate) fn write(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let done = (|| {
            let transaction = self.db.transaction()?;
            write_messages(&transaction, &changes.rows)?;
            index::add(&transaction, &changes.rows.terms)?;
            write_events(&transaction, &changes.events)?;
            write_unmatched(&transaction, &changes.unmatched)?;
            transaction.commit()
        })();
        done.map_err(|error| self.fault(error))
    }

    /// The message with this id.
    pub(crate) fn message(&self, id: MessageId) -> Result<Option<Message>, StoreError> {
        let body = self
            .db
            .prepare_cached("SELECT body FROM messages WHERE id = ?1")
            .and_then(|mut statement| {
                statement.query_row([id_octets(id)], |row| row.get::<_, Vec<u8>>(0)).optional()
            })
            .map_err(|error| self.fault(error))?;
        body.map(|body| self.decode(&body)).transpose()
    }

    /// Reads a body back.
    pub(crate) fn decode<T: serde::de::DeserializeOwned>(
        &self,
        body: &[u8],
    ) -> Result<T, StoreError> {
        blob::decode(body).map_err(|flaw| StoreError::Row { path: self.path.clone(), flaw })
    }

    /// Whether messages that may still change at `now` are in the file.
    pub(crate) fn has_open(&self, now: Time) -> Result<bool, StoreError> {
        self.db
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM messages \
                 WHERE open_until IS NOT NULL AND open_until > ?1)",
                [signed(now.as_millis())],
                |row| row.get(0),
            )
            .map_err(|error| self.fault(error))
    }

    /// The positions of the first and the last message; none in a file without messages.
    pub(crate) fn message_extent(&self) -> Result<Option<Extent>, StoreError> {
        self.db
            .query_row(
                "SELECT (SELECT min(position) FROM messages), (SELECT max(position) FROM messages)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .map(extent)
            .map_err(|error| self.fault(error))
    }

    /// The positions of the first and the last event; none in a file without events.
    pub(crate) fn event_extent(&self) -> Result<Option<Extent>, StoreError> {
        let mut whole: Option<Extent> = None;
        for (key, inbound) in self.streams()? {
            let found = self
                .db
                .prepare_cached(
                    "SELECT \
                     (SELECT first FROM events WHERE key = ?1 AND inbound = ?2 ORDER BY last), \
                     (SELECT max(last) FROM events WHERE key = ?1 AND inbound = ?2)",
                )
                .and_then(|mut statement| {
                    statement.query_row(params![key, inbound], |row| Ok((row.get(0)?, row.get(1)?)))
                })
                .map(extent)
                .map_err(|error| self.fault(error))?;
            if let Some(found) = found {
                let first = Extent::with(whole, found.first);
                whole = Some(Extent::with(Some(first), found.last));
            }
        }
        Ok(whole)
    }

    /// All (key, inbound) under which the file has events.
    pub(crate) fn streams(&self) -> Result<Vec<(Box<str>, bool)>, StoreError> {
        self.distinct_streams().map_err(|error| self.fault(error))
    }

    /// Jumps from key to key: a plain DISTINCT would walk over the whole index.
    fn distinct_streams(&self) -> rusqlite::Result<Vec<(Box<str>, bool)>> {
        let mut next = self.db.prepare_cached("SELECT min(key) FROM events WHERE key > ?1")?;
        let mut there = self.db.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM events WHERE key = ?1 AND inbound = ?2)",
        )?;
        let mut streams = Vec::new();
        // The empty key is that of nobody.
        let mut key: Option<Box<str>> = Some(Box::default());
        while let Some(this) = key {
            for inbound in [false, true] {
                if there.query_row(params![this, inbound], |row| row.get(0))? {
                    streams.push((this.clone(), inbound));
                }
            }
            key = next.query_row([&this], |row| row.get(0))?;
        }
        Ok(streams)
    }

    /// The first `limit` events of one stream in `from..until`.
    pub(crate) fn events(
        &self,
        (key, inbound): (&str, bool),
        from: Position,
        until: Position,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let fault = |error| self.fault(error);
        let mut packs = self
            .db
            .prepare_cached(
                "SELECT bodies FROM events WHERE key = ?1 AND inbound = ?2 AND last >= ?3 \
                 ORDER BY last",
            )
            .map_err(fault)?;
        let mut rows = packs.query(params![key, inbound, signed(from.0)]).map_err(fault)?;
        let mut events = Vec::new();
        while let Some(row) = rows.next().map_err(fault)? {
            let bodies = row.get_ref(0).map_err(fault)?;
            for event in Pack(bodies.as_blob().unwrap_or_default()) {
                let event: Event = self.decode(event)?;
                if events.len() >= limit || event.position >= until {
                    return Ok(events);
                }
                if event.position >= from {
                    events.push(event);
                }
            }
        }
        Ok(events)
    }

    /// The first `limit` unmatched receipts from `from` on.
    pub(crate) fn unmatched(
        &self,
        from: Position,
        limit: usize,
    ) -> Result<Vec<Unmatched>, StoreError> {
        let range = params![signed(from.0), i64::try_from(limit).unwrap_or(i64::MAX)];
        let bodies: Vec<Vec<u8>> = self
            .db
            .prepare_cached(
                "SELECT body FROM unmatched WHERE position >= ?1 ORDER BY position LIMIT ?2",
            )
            .and_then(|mut statement| statement.query_map(range, |row| row.get(0))?.collect())
            .map_err(|error| self.fault(error))?;
        bodies.iter().map(|body| self.decode(body)).collect()
    }

    /// The positions below `before` that `bucket` lists for a term, the newest first.
    pub(crate) fn listed(
        &self,
        bucket: i64,
        hash: i64,
        before: Position,
    ) -> Result<Vec<Position>, StoreError> {
        index::find(&self.db, bucket, hash, before).map_err(|error| self.fault(error))
    }

    /// The message whose first record is at `position`.
    pub(crate) fn message_at(&self, at: Position) -> Result<Option<Message>, StoreError> {
        let body = self
            .db
            .prepare_cached("SELECT body FROM messages WHERE position = ?1")
            .and_then(|mut statement| {
                statement.query_row([signed(at.0)], |row| row.get::<_, Vec<u8>>(0)).optional()
            })
            .map_err(|error| self.fault(error))?;
        body.map(|body| self.decode(&body)).transpose()
    }

    /// Walks over the rows below `before`, the newest first, until `visit` says to stop.
    pub(crate) fn scan(
        &self,
        before: Position,
        mut visit: impl FnMut(&ScannedRow<'_, '_>) -> Result<Go, StoreError>,
    ) -> Result<(), StoreError> {
        let fault = |error| self.fault(error);
        let mut statement: CachedStatement<'_> = self
            .db
            .prepare_cached(
                "SELECT position, created, key, state, carrier, body FROM messages \
                 WHERE position < ?1 ORDER BY position DESC",
            )
            .map_err(fault)?;
        let mut rows = statement.query([signed(before.0)]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            if visit(&ScannedRow { row, file: self })? == Go::Stop {
                break;
            }
        }
        Ok(())
    }

    /// A position above all messages that were created before `until`.
    pub(crate) fn above(&self, until: Time) -> Result<Position, StoreError> {
        let id = MessageId::from_u128(u128::from(until.as_millis()) << 80);
        self.db
            .prepare_cached("SELECT position FROM messages WHERE id < ?1 ORDER BY id DESC LIMIT 1")
            .and_then(|mut statement| {
                statement.query_row([id_octets(id)], |row| row.get(0).map(position)).optional()
            })
            .map(|found| Position(found.map_or(0, |found| found.0.saturating_add(1))))
            .map_err(|error| self.fault(error))
    }
}

/// Whether to go on with the next row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Go {
    On,
    Stop,
}

/// A row of which only the columns asked for are read.
pub(crate) struct ScannedRow<'a, 'b> {
    row: &'a Row<'b>,
    file: &'a DayFile,
}

impl ScannedRow<'_, '_> {
    fn column<T: rusqlite::types::FromSql>(&self, index: usize) -> Result<T, StoreError> {
        self.row.get(index).map_err(|error| self.file.fault(error))
    }

    pub(crate) fn position(&self) -> Result<Position, StoreError> {
        self.column(0).map(position)
    }

    pub(crate) fn created(&self) -> Result<Time, StoreError> {
        let millis: i64 = self.column(1)?;
        Ok(Time::from_millis(u64::try_from(millis).unwrap_or(0)))
    }

    /// Whether the text column `column` is `wanted`.
    pub(crate) fn is(&self, column: TextColumn, wanted: &str) -> Result<bool, StoreError> {
        let found = self.row.get_ref(column as usize).map_err(|error| self.file.fault(error))?;
        Ok(found.as_str().is_ok_and(|found| found == wanted))
    }

    pub(crate) fn message(&self) -> Result<Message, StoreError> {
        let body = self.row.get_ref(5).map_err(|error| self.file.fault(error))?;
        self.file.decode(body.as_blob().unwrap_or_default())
    }
}

/// The text columns of [`DayFile::scan`], by their place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TextColumn {
    Key = 2,
    State = 3,
    Carrier = 4,
}

fn write_messages(db: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    let mut row = db.prepare_cached(
        "INSERT INTO messages (position, id, created, key, state, carrier, open_until, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         ON CONFLICT (position) DO UPDATE SET state = excluded.state, carrier = excluded.carrier, \
         open_until = excluded.open_until, body = excluded.body",
    )?;
    let mut body = 0;
    for PendingRow { origin, state, carrier, body_end } in &rows.rows {
        row.execute(params![
            signed(origin.position.0),
            id_octets(origin.id),
            signed(origin.created_at.as_millis()),
            &*origin.key,
            state.as_str(),
            &**carrier,
            open_until(*state, origin.expires_at),
            rows.bodies.get(body..*body_end).unwrap_or_default(),
        ])?;
        body = *body_end;
    }
    Ok(())
}

/// Until when the row may change, in milliseconds; none once it has ended.
fn open_until(state: State, expires_at: Time) -> Option<i64> {
    let until = expires_at + GRACE;
    (!state.is_terminal()).then(|| signed(until.as_millis()))
}

/// How long after its time to live a message may still be without an end: longer than carriers'
/// receipt timeouts.
const GRACE: std::time::Duration = std::time::Duration::from_secs(10 * SECONDS_OF_A_DAY);

/// Writes events, rising, in packs: those of one key together.
fn write_events(db: &Connection, events: &[Arc<Event>]) -> rusqlite::Result<()> {
    let mut streams: BTreeMap<(&str, bool), Vec<&Event>> = BTreeMap::new();
    for event in events {
        let inbound = matches!(event.subject, Subject::Inbound(_));
        streams.entry((&event.key, inbound)).or_default().push(event);
    }
    let mut row = db.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut bodies = Vec::new();
    for ((key, inbound), events) in streams {
        for pack in events.chunks(PACK) {
            bodies.clear();
            pack.iter().for_each(|event| Pack::push(&mut bodies, event));
            let [first, .., last] = pack else {
                let only = pack.first().map_or(0, |event| signed(event.position.0));
                row.execute(params![key, inbound, only, only, bodies])?;
                continue;
            };
            let (first, last) = (signed(first.position.0), signed(last.position.0));
            row.execute(params![key, inbound, first, last, bodies])?;
        }
    }
    Ok(())
}

/// The most events in one pack.
const PACK: usize = 32;

/// Events one behind the other, each with its length in front (four octets, big-endian).
struct Pack<'a>(&'a [u8]);

impl Pack<'_> {
    fn push(bodies: &mut Vec<u8>, event: &Event) {
        let start = bodies.len();
        bodies.extend_from_slice(&[0; 4]);
        blob::append(event, bodies);
        let length = u32::try_from(bodies.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(place) = bodies.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

impl<'a> Iterator for Pack<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        // A pack that was cut short ends in a body that cannot be read, and not in silence.
        let (body, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        self.0 = rest;
        Some(body)
    }
}

fn write_unmatched(db: &Connection, receipts: &[Unmatched]) -> rusqlite::Result<()> {
    let mut row = db.prepare_cached("INSERT OR IGNORE INTO unmatched VALUES (?1, ?2)")?;
    let mut body = Vec::new();
    for receipt in receipts {
        blob::encode(receipt, &mut body);
        row.execute(params![signed(receipt.position.0), body])?;
    }
    Ok(())
}

fn extent((first, last): (Option<i64>, Option<i64>)) -> Option<Extent> {
    Some(Extent { first: position(first?), last: position(last?) })
}

/// SQLite's integers are signed; positions and times stay far below 2^63.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn position(number: i64) -> Position {
    Position(u64::try_from(number).unwrap_or(0))
}

fn id_octets(id: MessageId) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

/// The states whose messages are listed under a term: all that few messages stay in.
pub(crate) const fn is_listed(state: State) -> bool {
    !matches!(state, State::Delivered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_reads_the_name_that_it_prints_and_no_other() {
        let day = Day::of(Time::from_secs(1_795_305_600));
        assert_eq!(day.to_string(), "2026-11-22");
        assert_eq!("2026-11-22".parse(), Ok(day));
        assert_eq!("1970-01-01".parse(), Ok(Day(0)));
        for wrong in ["", "archive", "2026-11-22 ", "20261122", "2026-02-30", "1969-12-31"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_day_beyond_the_calendar_has_a_name_too() {
        let day = Day::of(Time::MAX);
        assert_eq!(day.to_string().parse(), Ok(day));
    }
}
