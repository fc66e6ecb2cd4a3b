//! One day's file: its tables, what is written to it and what is read from it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::config::DbConfig;
use rusqlite::params;

use crate::archive::Event;
use crate::archive::Message;
use crate::archive::Subject;
use crate::archive::Unmatched;
use crate::archive::blob;
use crate::archive::blob::Flaw;
use crate::archive::error::StoreError;
use crate::archive::homes::Place;
use crate::archive::homes::Put;
use crate::archive::index;
use crate::archive::index::Placing;
use crate::archive::index::Posting;
use crate::archive::pack;
use crate::archive::pack::Bodies;
use crate::archive::pack::Head;
use crate::archive::pack::Pack;
use crate::archive::term;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::State;
use crate::seal::Day;
use crate::seal::Index;
use crate::seal::Sealer;
use crate::time::Time;

/// The day of a message: that of its creation.
pub(crate) fn of_message(id: MessageId) -> Day {
    Day::of(id.created_at())
}

/// The file that holds the day.
pub(crate) fn path(day: Day, dir: &Path) -> PathBuf {
    dir.join(format!("{day}.db"))
}

/// The days that have a file in `dir`.
pub(crate) fn list(dir: &Path) -> Result<Vec<Day>, StoreError> {
    let mut days = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| StoreError::file(dir, error))? {
        let name = entry.map_err(|error| StoreError::file(dir, error))?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".db"));
        days.extend(stem.and_then(|stem| stem.parse::<Day>().ok()));
    }
    days.sort_unstable();
    Ok(days)
}

/// The layout of a day's file, besides the index.
///
/// Messages lie in packs, whose numbers rise; a message that is written again is in a later pack
/// too. `spans` tells when the first and the last message of each bucket of the index was made, in
/// milliseconds; `live` tells until when messages that have not ended may change. Events of a key
/// lie in packs; `inbound` tells those of handsets.
///
/// In the first layout each message was a row of a table `messages`, and nothing was sealed. Such a
/// file is read as it is, and what is written to it is written in this layout.
const SCHEMA: &str = "
    CREATE TABLE packs (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE spans (
        bucket INTEGER PRIMARY KEY,
        oldest INTEGER NOT NULL,
        newest INTEGER NOT NULL
    );
    CREATE TABLE live (position INTEGER PRIMARY KEY, until INTEGER NOT NULL);
";

/// What both layouts have.
const SCHEMA_OF_BOTH: &str = "
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

const VERSION: i64 = 2;

/// A message's place is written as the number of its pack times this, and its slot in it.
const SLOTS: u64 = 256;

impl Place {
    /// The place that the index has as `written`.
    fn of(written: u64) -> Self {
        let [slot, ..] = written.to_le_bytes();
        Self { pack: written / SLOTS, slot }
    }

    /// As the index has it.
    fn written(self) -> u64 {
        self.pack * SLOTS + u64::from(self.slot)
    }
}

/// An open day file.
#[derive(Debug)]
pub(crate) struct DayFile {
    path: PathBuf,
    day: Day,
    db: Connection,
    sealer: Arc<Sealer>,
    /// Whether it began in the first layout.
    has_rows: bool,
    /// The number of the next pack; for the one who writes.
    next_pack: u64,
    /// The packs that were read last.
    opened: RefCell<Vec<(u64, Arc<Pack>)>>,
}

/// How many packs are kept open while a file is read, at about 50 KiB each.
const OPENED: usize = 64;

/// Messages about to be written.
#[derive(Debug)]
pub(crate) struct Rows {
    rows: Vec<PendingRow>,
    bodies: Bodies,
    terms: Vec<Posting>,
    /// What makes terms of numbers; none when the day's key is gone.
    index: Option<Index>,
}

#[derive(Debug)]
struct PendingRow {
    position: Position,
    id: MessageId,
    state: State,
    expires_at: Time,
    stored: bool,
}

impl Rows {
    fn new(index: Option<Index>) -> Self {
        Self { rows: Vec::new(), bodies: Bodies::default(), terms: Vec::new(), index }
    }

    /// Adds a message. Those of its terms that never change are left out when it is `stored`: it
    /// was written before.
    pub(crate) fn push(&mut self, message: &Message, stored: bool) {
        self.bodies.push(message);
        let terms = term::of(message, stored, self.index.as_ref());
        self.terms.extend(terms.map(|hash| (hash, message.position)));
        self.rows.push(PendingRow {
            position: message.position,
            id: message.id,
            state: message.state,
            expires_at: message.expires_at,
            stored,
        });
    }

    /// The places that the messages get when the packs are numbered from `first`.
    fn places(&self, first: u64) -> impl Iterator<Item = (Place, &PendingRow)> {
        (first..).zip(self.rows.chunks(pack::MESSAGES)).flat_map(|(pack, rows)| {
            (0..=u8::MAX).zip(rows).map(move |(slot, row)| (Place { pack, slot }, row))
        })
    }
}

/// What one transaction writes to one day's file.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) rows: Rows,
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) unmatched: Vec<Unmatched>,
}

impl Changes {
    /// Nothing yet, for the file of `day`.
    pub(crate) fn of(day: Day, sealer: &Sealer) -> Result<Self, StoreError> {
        let index = sealer.keys().of(day)?.map(|key| key.index(NUMBERS));
        Ok(Self { rows: Rows::new(index), events: Vec::new(), unmatched: Vec::new() })
    }

    /// Those for the file of `day` among `all`.
    pub(crate) fn entry<'a>(
        all: &'a mut BTreeMap<Day, Self>,
        day: Day,
        sealer: &Sealer,
    ) -> Result<&'a mut Self, StoreError> {
        Ok(match all.entry(day) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => place.insert(Self::of(day, sealer)?),
        })
    }
}

/// The purpose of the key under which numbers become terms.
const NUMBERS: &str = "numbers";

/// The first and the last position of a file's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: Position,
    pub(crate) last: Position,
}

/// Where a pack of events lies in its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackOfEvents {
    row: i64,
    pub(crate) extent: Extent,
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
    pub(crate) fn create(dir: &Path, day: Day, sealer: &Arc<Sealer>) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut file = Self::connect(dir, day, flags, sealer)?;
        file.prepare().map_err(|error| file.fault(error))??;
        file.look().map_err(|error| file.fault(error))?;
        Ok(file)
    }

    /// Opens the day's file to read; nothing when there is none.
    pub(crate) fn open(
        dir: &Path,
        day: Day,
        sealer: &Arc<Sealer>,
    ) -> Result<Option<Self>, StoreError> {
        let path = path(day, dir);
        if !path.try_exists().map_err(|error| StoreError::file(&path, error))? {
            return Ok(None);
        }
        let mut file = Self::connect(dir, day, OpenFlags::SQLITE_OPEN_READ_WRITE, sealer)?;
        file.db.pragma_update(None, "query_only", true).map_err(|error| file.fault(error))?;
        let version = file.version().map_err(|error| file.fault(error))?;
        file.known(version)?;
        file.look().map_err(|error| file.fault(error))?;
        Ok(Some(file))
    }

    fn connect(
        dir: &Path,
        day: Day,
        flags: OpenFlags,
        sealer: &Arc<Sealer>,
    ) -> Result<Self, StoreError> {
        let path = path(day, dir);
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags)
            .and_then(|db| {
                db.busy_timeout(std::time::Duration::from_secs(5))?;
                // Otherwise a statement is made anew for each value that it is given.
                db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
                db.set_prepared_statement_cache_capacity(32);
                Ok(db)
            })
            .map_err(|error| StoreError::sqlite(&path, error))?;
        let sealer = Arc::clone(sealer);
        Ok(Self {
            path,
            day,
            db,
            sealer,
            has_rows: false,
            next_pack: 1,
            opened: RefCell::default(),
        })
    }

    fn prepare(&mut self) -> rusqlite::Result<Result<(), StoreError>> {
        self.db.pragma_update(None, "journal_mode", "wal")?;
        // The journal is trimmed once this file has what was in it, so a commit must reach the disk.
        self.db.pragma_update(None, "synchronous", "full")?;
        self.db.pragma_update(None, "cache_size", -16_384)?;
        self.db.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        self.db.pragma_update(None, "journal_size_limit", 64 << 20)?;
        let transaction = self.db.transaction()?;
        let empty = transaction
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?
            == 0;
        if empty {
            transaction.execute_batch(SCHEMA_OF_BOTH)?;
            transaction.execute_batch(index::SCHEMA)?;
        }
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if empty || found == 1 {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
        let version = self.version()?;
        Ok(self.known(version))
    }

    fn version(&self) -> rusqlite::Result<i64> {
        self.db.pragma_query_value(None, "user_version", |row| row.get(0))
    }

    fn known(&self, found: i64) -> Result<(), StoreError> {
        if found == VERSION {
            Ok(())
        } else {
            Err(StoreError::Version { path: self.path.clone(), found, known: VERSION })
        }
    }

    /// Takes note of what is in the file.
    fn look(&mut self) -> rusqlite::Result<()> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'messages')";
        self.has_rows = self.db.query_row(sql, [], |row| row.get(0))?;
        let sql = "SELECT coalesce(max(number), 0) + 1 FROM packs";
        self.next_pack = self.db.query_row(sql, [], |row| row.get(0).map(unsigned))?;
        Ok(())
    }

    fn fault(&self, error: rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.path, error)
    }

    fn flaw(&self, flaw: Flaw) -> StoreError {
        StoreError::Row { path: self.path.clone(), flaw }
    }

    /// Writes all of `changes` in one transaction. Messages may be written again; events must not.
    /// Returns where the messages lie that have not ended.
    pub(super) fn write(&mut self, changes: &Changes) -> Result<Vec<Put>, StoreError> {
        let packs = changes.rows.bodies.packs(&self.sealer)?;
        let events = EventPack::all(&changes.events, &self.sealer)?;
        let unmatched = changes
            .unmatched
            .iter()
            .map(|receipt| Ok((receipt.position, pack::unmatched(receipt, &self.sealer)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let first = self.next_pack;
        let done = (|| {
            let transaction = self.db.transaction()?;
            write_packs(&transaction, first, &packs)?;
            write_rows(&transaction, first, &changes.rows, self.has_rows)?;
            index::add(&transaction, &changes.rows.terms)?;
            write_events(&transaction, &events)?;
            write_unmatched(&transaction, &unmatched)?;
            transaction.commit()
        })();
        done.map_err(|error| self.fault(error))?;
        self.next_pack = first + packs.len() as u64;
        let live = changes.rows.places(first).filter(|(_, row)| !row.state.is_terminal());
        Ok(live.map(|(place, row)| Put { id: row.id, place, is_new: !row.stored }).collect())
    }

    /// The message with this id.
    pub(crate) fn message(&self, id: MessageId) -> Result<Option<Message>, StoreError> {
        Ok(self.find(id)?.map(|(message, _)| message))
    }

    /// The message with this id, and its place unless it is a row of the first layout.
    pub(super) fn find(
        &self,
        id: MessageId,
    ) -> Result<Option<(Message, Option<Place>)>, StoreError> {
        for position in self.positions_of(id).map_err(|error| self.fault(error))? {
            if let Some(place) = self.place_of(position)?
                && let Some(message) = self.message_in(place, id)?
            {
                return Ok(Some((message, Some(place))));
            }
        }
        let row = self.row("SELECT body FROM messages WHERE id = ?1", id_octets(id).as_slice())?;
        Ok(row.map(|message| (message, None)))
    }

    /// The message at this place, if it is the one with this id.
    pub(super) fn message_in(
        &self,
        place: Place,
        id: MessageId,
    ) -> Result<Option<Message>, StoreError> {
        let message = self.packed(place)?;
        Ok((message.id == id).then_some(message))
    }

    /// The message with this id in this pack, and its place there.
    pub(super) fn message_of(
        &self,
        pack: u64,
        id: MessageId,
    ) -> Result<Option<(Message, Place)>, StoreError> {
        let Some(slot) = self.pack(pack)?.slot_of(id) else { return Ok(None) };
        let place = Place { pack, slot };
        Ok(Some((self.packed(place)?, place)))
    }

    /// Where messages with this id, or with one of the same hash, may lie.
    fn positions_of(&self, id: MessageId) -> rusqlite::Result<Vec<Position>> {
        let made = signed(id.created_at().as_millis());
        let buckets: Vec<i64> = self
            .db
            .prepare_cached(
                "SELECT bucket FROM spans WHERE oldest <= ?1 AND newest >= ?1 ORDER BY bucket DESC",
            )?
            .query_map([made], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut positions = Vec::new();
        for bucket in buckets {
            positions.extend(index::find(&self.db, bucket, term::of_id(id), Position(u64::MAX))?);
        }
        Ok(positions)
    }

    /// The message whose first record is at `position`.
    pub(crate) fn message_at(&self, at: Position) -> Result<Option<Message>, StoreError> {
        match self.place_of(at)? {
            Some(place) => self.packed(place).map(Some),
            None => self.row("SELECT body FROM messages WHERE position = ?1", signed(at.0)),
        }
    }

    /// The latest place of the message whose first record is at `position`.
    fn place_of(&self, position: Position) -> Result<Option<Place>, StoreError> {
        let written = index::place_of(&self.db, position).map_err(|error| self.fault(error))?;
        Ok(written.map(Place::of))
    }

    fn packed(&self, place: Place) -> Result<Message, StoreError> {
        self.pack(place.pack)?.message(place.slot).map_err(|flaw| self.flaw(flaw))
    }

    fn pack(&self, number: u64) -> Result<Arc<Pack>, StoreError> {
        let mut opened = self.opened.borrow_mut();
        if let Some((_, pack)) = opened.iter().find(|(found, _)| *found == number) {
            return Ok(Arc::clone(pack));
        }
        let sql = "SELECT body FROM packs WHERE number = ?1";
        let open = |row: &Row<'_>| Ok(Pack::open(row.get_ref(0)?.as_blob()?, &self.sealer));
        let pack = self
            .db
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([signed(number)], open))
            .map_err(|error| self.fault(error))?
            .map_err(|flaw| self.flaw(flaw))?;
        let pack = Arc::new(pack);
        if opened.len() >= OPENED {
            opened.remove(0);
        }
        opened.push((number, Arc::clone(&pack)));
        Ok(pack)
    }

    /// Forgets what was opened of it: its key may be erased before it is read again.
    pub(crate) fn forget(&self) {
        self.opened.borrow_mut().clear();
    }

    /// A message of the first layout.
    fn row(&self, sql: &str, key: impl rusqlite::ToSql) -> Result<Option<Message>, StoreError> {
        if !self.has_rows {
            return Ok(None);
        }
        let body = self
            .db
            .prepare_cached(sql)
            .and_then(|mut statement| {
                statement.query_row([key], |row| row.get::<_, Vec<u8>>(0)).optional()
            })
            .map_err(|error| self.fault(error))?;
        let read = |body: Vec<u8>| blob::decode(&body).map_err(|flaw| self.flaw(flaw));
        body.map(read).transpose()
    }

    /// Whether messages that may still change at `now` are in the file.
    pub(crate) fn has_open(&self, now: Time) -> Result<bool, StoreError> {
        let live = "SELECT EXISTS (SELECT 1 FROM live WHERE until > ?1)";
        let rows = "SELECT EXISTS (SELECT 1 FROM live WHERE until > ?1) \
                    OR EXISTS (SELECT 1 FROM messages \
                    WHERE open_until IS NOT NULL AND open_until > ?1)";
        let sql = if self.has_rows { rows } else { live };
        self.db
            .query_row(sql, [signed(now.as_millis())], |row| row.get(0))
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

    /// The first pack of one stream that ends at `from` or behind it.
    pub(crate) fn pack_of_events(
        &self,
        (key, inbound): (&str, bool),
        from: Position,
    ) -> Result<Option<PackOfEvents>, StoreError> {
        self.db
            .prepare_cached(
                "SELECT rowid, first, last FROM events \
                 WHERE key = ?1 AND inbound = ?2 AND last >= ?3 ORDER BY last LIMIT 1",
            )
            .and_then(|mut statement| {
                let found = |row: &Row<'_>| {
                    let (first, last) = (position(row.get(1)?), position(row.get(2)?));
                    Ok(PackOfEvents { row: row.get(0)?, extent: Extent { first, last } })
                };
                statement.query_row(params![key, inbound, signed(from.0)], found).optional()
            })
            .map_err(|error| self.fault(error))
    }

    /// The events of a pack of `key`.
    pub(crate) fn events(&self, pack: &PackOfEvents, key: &str) -> Result<Vec<Event>, StoreError> {
        let fault = |error| self.fault(error);
        let mut statement =
            self.db.prepare_cached("SELECT bodies FROM events WHERE rowid = ?1").map_err(fault)?;
        let mut rows = statement.query([pack.row]).map_err(fault)?;
        let Some(row) = rows.next().map_err(fault)? else { return Ok(Vec::new()) };
        let column = row.get_ref(0).map_err(fault)?.as_blob().unwrap_or_default();
        self.read_events(column, key).map_err(|flaw| self.flaw(flaw))
    }

    fn read_events(&self, column: &[u8], key: &str) -> Result<Vec<Event>, Flaw> {
        if blob::is_sealed(column) {
            pack::read_events(column, key, &self.sealer)
        } else {
            OldPack(column).map(blob::decode).collect()
        }
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
        let read = |body: &Vec<u8>| pack::read_unmatched(body, &self.sealer);
        bodies.iter().map(|body| read(body).map_err(|flaw| self.flaw(flaw))).collect()
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

    /// What stands for a destination in this file's index; nothing when its key was erased. A file
    /// that began in the first layout has another one beside it.
    pub(crate) fn numbers_hashes(&self, number: &str) -> Vec<i64> {
        let index = self.sealer.keys().find(self.day).map(|key| key.index(NUMBERS));
        let plain = self.has_rows.then(|| term::hash(term::Field::To, number));
        index.map(|index| term::of_number(&index, number)).into_iter().chain(plain).collect()
    }

    /// The buckets of the index that hold messages below `before`, the newest first.
    pub(crate) fn buckets(&self, before: Position) -> Result<Vec<i64>, StoreError> {
        index::buckets(&self.db, before).map_err(|error| self.fault(error))
    }

    /// Walks over the messages below `before`, the newest first, until `visit` says to stop.
    pub(crate) fn scan(
        &self,
        before: Position,
        mut visit: impl FnMut(&Candidate<'_>) -> Result<Go, StoreError>,
    ) -> Result<(), StoreError> {
        for bucket in self.buckets(before)? {
            let places = self.places(bucket, before).map_err(|error| self.fault(error))?;
            for (position, place) in places.into_iter().rev() {
                let candidate = match place {
                    Some(place) => {
                        let Place { pack, slot } = Place::of(place);
                        let pack = self.pack(pack)?;
                        Candidate { file: self, found: Found::Packed { pack, slot } }
                    }
                    None => {
                        let Some(message) = self.message_at(position)? else { continue };
                        Candidate { file: self, found: Found::Row(Box::new(message)) }
                    }
                };
                if visit(&candidate)? == Go::Stop {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The messages of a bucket below `before`, rising, each with its place unless it is a row.
    fn places(
        &self,
        bucket: i64,
        before: Position,
    ) -> rusqlite::Result<Vec<(Position, Option<u64>)>> {
        let packed = index::places(&self.db, bucket, before)?;
        let mut places: Vec<_> = packed.into_iter().map(|(at, place)| (at, Some(place))).collect();
        if self.has_rows {
            let range = term::positions(bucket);
            let sql = "SELECT position FROM messages \
                       WHERE position >= ?1 AND position < ?2 AND position < ?3";
            let mut rows = self.db.prepare_cached(sql)?;
            let range = [range.start, range.end, before].map(|position| signed(position.0));
            for row in rows.query_map(range, |row| row.get(0).map(position))? {
                places.push((row?, None));
            }
            // A packed one is the later of two, and stands first.
            places.sort_unstable_by_key(|(position, place)| (*position, place.is_none()));
            places.dedup_by_key(|(position, _)| *position);
        }
        Ok(places)
    }

    /// A position above all messages that were created before `until`.
    pub(crate) fn above(&self, until: Time) -> Result<Position, StoreError> {
        if self.has_rows {
            return Ok(Position(u64::MAX));
        }
        self.db
            .prepare_cached("SELECT max(bucket) FROM spans WHERE oldest < ?1")
            .and_then(|mut statement| {
                statement.query_row([signed(until.as_millis())], |row| {
                    row.get(0).map(|bucket: Option<i64>| bucket.map(term::positions))
                })
            })
            .map(|found| found.map_or(Position(0), |range| range.end))
            .map_err(|error| self.fault(error))
    }
}

/// Whether to go on with the next row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Go {
    On,
    Stop,
}

/// A message that a scan has come to.
pub(crate) struct Candidate<'a> {
    file: &'a DayFile,
    found: Found,
}

enum Found {
    Packed { pack: Arc<Pack>, slot: u8 },
    Row(Box<Message>),
}

impl Candidate<'_> {
    /// What a search looks at first.
    pub(crate) fn head(&self) -> Result<Head<'_>, StoreError> {
        match &self.found {
            Found::Packed { pack, slot } => pack.head(*slot).map_err(|flaw| self.file.flaw(flaw)),
            Found::Row(message) => Ok(Head::of(message)),
        }
    }

    /// All of it.
    pub(crate) fn message(&self) -> Result<Message, StoreError> {
        match &self.found {
            Found::Packed { pack, slot } => {
                pack.message(*slot).map_err(|flaw| self.file.flaw(flaw))
            }
            Found::Row(message) => Ok(Message::clone(message)),
        }
    }
}

fn write_packs(db: &Connection, first: u64, packs: &[Vec<u8>]) -> rusqlite::Result<()> {
    let mut row = db.prepare_cached("INSERT INTO packs VALUES (?1, ?2)")?;
    for (number, body) in (first..).zip(packs) {
        row.execute(params![signed(number), body])?;
    }
    Ok(())
}

/// Writes what tells of packed messages: places, spans, which of them are live.
fn write_rows(db: &Connection, first: u64, rows: &Rows, has_rows: bool) -> rusqlite::Result<()> {
    let mut live = db.prepare_cached("INSERT OR REPLACE INTO live VALUES (?1, ?2)")?;
    let mut ended = db.prepare_cached("DELETE FROM live WHERE position = ?1")?;
    let mut places: Vec<Placing> = Vec::with_capacity(rows.rows.len());
    let mut spans: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (place, row) in rows.places(first) {
        places.push((row.position, place.written()));
        let made = signed(row.id.created_at().as_millis());
        let span = spans.entry(term::bucket(row.position)).or_insert((made, made));
        *span = (span.0.min(made), span.1.max(made));
        if !row.state.is_terminal() {
            let until = signed((row.expires_at + GRACE).as_millis());
            live.execute([signed(row.position.0), until])?;
        } else if row.stored {
            ended.execute([signed(row.position.0)])?;
        }
    }
    index::place(db, &places)?;
    if has_rows {
        let mut row = db.prepare_cached("DELETE FROM messages WHERE position = ?1")?;
        for stored in rows.rows.iter().filter(|row| row.stored) {
            row.execute([signed(stored.position.0)])?;
        }
    }
    let mut span = db.prepare_cached(
        "INSERT INTO spans VALUES (?1, ?2, ?3) ON CONFLICT (bucket) DO UPDATE SET \
         oldest = min(oldest, excluded.oldest), newest = max(newest, excluded.newest)",
    )?;
    for (bucket, (oldest, newest)) in spans {
        span.execute([bucket, oldest, newest])?;
    }
    Ok(())
}

/// How long after its time to live a message may still be without an end: longer than carriers'
/// receipt timeouts.
const GRACE: std::time::Duration = std::time::Duration::from_secs(10 * 86_400);

/// Events of one key, packed.
struct EventPack<'a> {
    key: &'a str,
    inbound: bool,
    extent: Extent,
    column: Vec<u8>,
}

impl<'a> EventPack<'a> {
    /// Packs of all `events`, which rise: those of one key together.
    fn all(events: &'a [Arc<Event>], sealer: &Sealer) -> Result<Vec<Self>, StoreError> {
        let mut streams: BTreeMap<(&str, bool), Vec<&Event>> = BTreeMap::new();
        for event in events {
            let inbound = matches!(event.subject, Subject::Inbound(_));
            streams.entry((&event.key, inbound)).or_default().push(event);
        }
        let mut packs = Vec::new();
        for ((key, inbound), events) in streams {
            for events in events.chunks(pack::EVENTS) {
                let (Some(first), Some(last)) = (events.first(), events.last()) else { continue };
                let extent = Extent { first: first.position, last: last.position };
                let column = pack::events(events, sealer)?;
                packs.push(Self { key, inbound, extent, column });
            }
        }
        Ok(packs)
    }
}

fn write_events(db: &Connection, packs: &[EventPack<'_>]) -> rusqlite::Result<()> {
    let mut row = db.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for EventPack { key, inbound, extent, column } in packs {
        let (first, last) = (signed(extent.first.0), signed(extent.last.0));
        row.execute(params![key, inbound, first, last, column])?;
    }
    Ok(())
}

/// Events one behind the other, each with its length in front (four octets, big-endian): a pack of
/// the first layout.
struct OldPack<'a>(&'a [u8]);

impl<'a> Iterator for OldPack<'a> {
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

fn write_unmatched(db: &Connection, receipts: &[(Position, Vec<u8>)]) -> rusqlite::Result<()> {
    let mut row = db.prepare_cached("INSERT OR IGNORE INTO unmatched VALUES (?1, ?2)")?;
    for (position, column) in receipts {
        row.execute(params![signed(position.0), column])?;
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

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn position(number: i64) -> Position {
    Position(unsigned(number))
}

fn id_octets(id: MessageId) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

/// The states whose messages are listed under a term: all that few messages stay in.
pub(crate) const fn is_listed(state: State) -> bool {
    !matches!(state, State::Delivered)
}
