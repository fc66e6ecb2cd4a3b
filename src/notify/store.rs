//! What webhooks must remember: endpoints with their secrets and cursors, parked and dead events,
//! the tries of the last days. One SQLite file.
//!
//! URLs and secrets of endpoints lie sealed under the key that is never erased; the bodies of events
//! with their URLs under that of the day on which they were parked ([`seal`](crate::seal)). An event
//! whose key was erased is gone.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;
use rusqlite::types::FromSql;
use rusqlite::types::Type;

use crate::message::EventId;
use crate::message::MessageId;
use crate::message::Position;
use crate::notify::config::Kind;
use crate::notify::queue::Parked;
use crate::notify::send::Try;
use crate::notify::sign::Secret;
use crate::notify::view::WebhookId;
use crate::seal::KeyError;
use crate::seal::Keys;
use crate::seal::Sealer;
use crate::threads::Threads;
use crate::time::Time;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("webhooks file {}: {error}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: rusqlite::Error,
    },
    /// The directory could not be made.
    #[error("webhooks file {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A newer release wrote it.
    #[error(
        "webhooks file {}: expected layout {known} or older, found layout {found}, which a newer \
         hikyaku wrote; start that one, or move the file away with the endpoints that clients made \
         and all deliveries under way",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The process is ending.
    #[error("the webhooks are stopping")]
    Closed,
}

/// The file. Its calls wait for the disk.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    db: Mutex<Connection>,
    /// The one that may wait for `db`.
    thread: Threads,
    sealer: Sealer,
}

/// Who made an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client, through the API.
    Client,
    /// The config file.
    Config,
    /// We did, for the `callback_url`s of a client's messages.
    Callback,
}

/// An endpoint as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: WebhookId,
    pub(crate) owner: Box<str>,
    pub(crate) origin: Origin,
    /// Empty for callbacks: each event has its own.
    pub(crate) url: String,
    /// Empty for all of the feed.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) description: String,
    pub(crate) enabled: bool,
    pub(crate) disabled_reason: Option<String>,
    /// The newest first; the others sign too until their time is over.
    pub(crate) secrets: Vec<(Secret, Option<Time>)>,
    pub(crate) created_at: Time,
    /// Everything of the feed below is delivered, parked, given up or not for it.
    pub(crate) cursor: Position,
}

/// A parked or dead event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredEvent {
    pub(crate) position: Position,
    pub(crate) parked: Parked,
    /// When it was given up.
    pub(crate) dead: Option<Time>,
    pub(crate) kind: Kind,
    pub(crate) event: EventId,
    pub(crate) url: Box<str>,
    pub(crate) body: Box<[u8]>,
}

/// A try as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredTry {
    pub(crate) position: Position,
    pub(crate) message: MessageId,
    pub(crate) event: EventId,
    pub(crate) kind: Kind,
    pub(crate) result: Try,
}

/// What one endpoint changes in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) tries: Vec<StoredTry>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) cursor: Position,
}

/// What of an endpoint's events is on disk.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) parked: Vec<(Position, Parked)>,
    /// The latest of those that were given up.
    pub(crate) dead: Vec<Position>,
}

/// One change of what is parked.
#[derive(Debug)]
pub(crate) enum Edit {
    Keep(Box<StoredEvent>),
    Change { position: Position, failures: u32, due: Option<Time> },
    Bury { position: Position, failures: u32, at: Time },
    Forget { position: Position },
}

/// In the first layout nothing was sealed, and all else was the same.
const VERSION: i64 = 2;

const SCHEMA: &str = "
    CREATE TABLE endpoints (
        id BLOB PRIMARY KEY,
        owner TEXT NOT NULL,
        origin INTEGER NOT NULL,
        url TEXT NOT NULL,
        kinds TEXT NOT NULL,
        description TEXT NOT NULL,
        enabled INTEGER NOT NULL,
        disabled_reason TEXT,
        created INTEGER NOT NULL,
        cursor INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE secrets (
        endpoint BLOB NOT NULL,
        made INTEGER NOT NULL,
        secret TEXT NOT NULL,
        until INTEGER,
        PRIMARY KEY (endpoint, made)
    ) WITHOUT ROWID;
    CREATE TABLE events (
        endpoint BLOB NOT NULL,
        position INTEGER NOT NULL,
        message BLOB NOT NULL,
        event BLOB NOT NULL,
        kind TEXT NOT NULL,
        host TEXT NOT NULL,
        url TEXT NOT NULL,
        failures INTEGER NOT NULL,
        due INTEGER,
        dead INTEGER,
        body BLOB NOT NULL,
        PRIMARY KEY (endpoint, position)
    ) WITHOUT ROWID;
    CREATE INDEX events_dead ON events (endpoint, position) WHERE dead IS NOT NULL;
    CREATE TABLE marks (name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
";

impl Store {
    /// Opens the file, or makes it, readable by its owner only.
    pub(crate) fn open(path: &Path, keys: &Keys) -> Result<Self, StoreError> {
        let sealer = Sealer::new(keys.clone(), "webhooks");
        let file = |error| StoreError::File { path: path.to_owned(), error };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(file)?;
        }
        make_private(path).map_err(file)?;
        let opened = Connection::open(path).and_then(|mut db| {
            let version = prepare(&mut db, &sealer)?;
            Ok((db, version))
        });
        let (db, found) =
            opened.map_err(|error| StoreError::Sqlite { path: path.to_owned(), error })?;
        if found != VERSION {
            return Err(StoreError::Version { path: path.to_owned(), found, known: VERSION });
        }
        Ok(Self { path: path.to_owned(), db: Mutex::new(db), thread: Threads::new(1), sealer })
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A transaction that a panic left open is rolled back by the next one's failure to begin.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done<T>(&self, done: rusqlite::Result<T>) -> Result<T, StoreError> {
        done.map_err(|error| StoreError::Sqlite { path: self.path.clone(), error })
    }

    /// Does `work` on a thread that may wait for the disk, one call at a time.
    pub(crate) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = Arc::clone(self);
        self.thread.run(move || work(&this)).await.unwrap_or(Err(StoreError::Closed))
    }

    /// All endpoints, the oldest first.
    pub(crate) fn endpoints(&self) -> Result<Vec<Stored>, StoreError> {
        let db = self.db();
        let read = || -> rusqlite::Result<Vec<Stored>> {
            let mut statement = db.prepare_cached(
                "SELECT id, owner, origin, url, kinds, description, enabled, disabled_reason, \
                 created, cursor FROM endpoints ORDER BY created, id",
            )?;
            let read = |row: &Row<'_>| stored(row, &self.sealer);
            let mut endpoints: Vec<Stored> =
                statement.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
            for endpoint in &mut endpoints {
                endpoint.secrets = secrets(&db, endpoint.id, &self.sealer)?;
            }
            Ok(endpoints)
        };
        self.done(read())
    }

    /// How far an endpoint has come; none when it is not there.
    pub(crate) fn cursor(&self, id: WebhookId) -> Result<Option<Position>, StoreError> {
        let db = self.db();
        let read = || -> rusqlite::Result<Option<Position>> {
            let mut statement = db.prepare_cached("SELECT cursor FROM endpoints WHERE id = ?1")?;
            let read = |row: &Row<'_>| Ok(Position(unsigned(row.get(0)?)));
            statement.query_row([octets(id)], read).optional()
        };
        self.done(read())
    }

    /// Writes an endpoint, new or changed, durably. The cursor of one that exists stays.
    pub(crate) fn save(&self, endpoint: &Stored) -> Result<(), StoreError> {
        let mut db = self.db();
        self.done(durably(&mut db, |db| save(db, endpoint, &self.sealer)))
    }

    /// Deletes an endpoint with all that waits for it, durably.
    pub(crate) fn delete(&self, id: WebhookId) -> Result<(), StoreError> {
        let mut db = self.db();
        self.done(durably(&mut db, |db| {
            for table in ["events", "secrets", "endpoints"] {
                let column = if table == "endpoints" { "id" } else { "endpoint" };
                db.execute(&format!("DELETE FROM {table} WHERE {column} = ?1"), [octets(id)])?;
            }
            Ok(())
        }))
    }

    /// Disables an endpoint for `reason`.
    pub(crate) fn disable(&self, id: WebhookId, reason: &str) -> Result<(), StoreError> {
        let mut db = self.db();
        self.done(durably(&mut db, |db| {
            let sql = "UPDATE endpoints SET enabled = 0, disabled_reason = ?2 WHERE id = ?1";
            db.execute(sql, params![octets(id), reason]).map(drop)
        }))
    }

    /// Writes what an endpoint's loop has done since the last time, in one transaction.
    pub(crate) fn write(&self, id: WebhookId, batch: &Batch) -> Result<(), StoreError> {
        let mut db = self.db();
        self.done((|| {
            let transaction = db.transaction()?;
            let found = transaction
                .prepare_cached("UPDATE endpoints SET cursor = max(cursor, ?2) WHERE id = ?1")?
                .execute(params![octets(id), signed(batch.cursor.0)])?;
            if found == 0 {
                // Deleted meanwhile: what its loop still has to say is of no use.
                return Ok(());
            }
            write_tries(&transaction, id, &batch.tries)?;
            for edit in &batch.edits {
                write_edit(&transaction, id, edit, &self.sealer)?;
            }
            transaction.commit()
        })())
    }

    /// The parked events of an endpoint without their bodies, and the positions from `from` on of
    /// those that were given up.
    pub(crate) fn parked(&self, id: WebhookId, from: Position) -> Result<Waiting, StoreError> {
        let db = self.db();
        self.done((|| {
            let mut statement = db.prepare_cached(
                "SELECT position, message, host, failures, due FROM events \
                 WHERE endpoint = ?1 AND dead IS NULL ORDER BY position",
            )?;
            let parked = statement
                .query_map([octets(id)], |row| {
                    let parked = Parked {
                        message: MessageId::from_u128(u128::from_be_bytes(row.get(1)?)),
                        host: row.get::<_, String>(2)?.into(),
                        failures: row.get(3)?,
                        due: row.get::<_, Option<i64>>(4)?.map(time),
                    };
                    Ok((Position(unsigned(row.get(0)?)), parked))
                })?
                .collect::<rusqlite::Result<_>>()?;
            let mut statement = db.prepare_cached(
                "SELECT position FROM events \
                 WHERE endpoint = ?1 AND dead IS NOT NULL AND position >= ?2",
            )?;
            let dead = statement
                .query_map(params![octets(id), signed(from.0)], |row| {
                    row.get(0).map(|position| Position(unsigned(position)))
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Waiting { parked, dead })
        })())
    }

    /// A parked or dead event; none when its key was erased.
    pub(crate) fn event(
        &self,
        id: WebhookId,
        position: Position,
    ) -> Result<Option<StoredEvent>, StoreError> {
        let db = self.db();
        self.done(
            db.prepare_cached(
                "SELECT position, message, host, failures, due, dead, kind, event, body \
                 FROM events WHERE endpoint = ?1 AND position = ?2",
            )
            .and_then(|mut statement| {
                let read = |row: &Row<'_>| event(row, &self.sealer);
                let found = statement.query_row(params![octets(id), signed(position.0)], read);
                found.optional()
            }),
        )
        .map(|found| found.filter(|event| !event.body.is_empty()))
    }

    /// The latest parked and dead events, the newest first; only the dead ones with `dead`. One whose
    /// key was erased has no body.
    pub(crate) fn events(
        &self,
        id: WebhookId,
        dead: bool,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let db = self.db();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.done((|| {
            let mut statement = db.prepare_cached(
                "SELECT position, message, host, failures, due, dead, kind, event, body \
                 FROM events WHERE endpoint = ?1 AND (dead IS NOT NULL OR NOT ?2) \
                 ORDER BY position DESC LIMIT ?3",
            )?;
            let read = |row: &Row<'_>| event(row, &self.sealer);
            statement.query_map(params![octets(id), dead, limit], read)?.collect()
        })())
    }

    /// How many events of an endpoint are parked, and how many were given up.
    pub(crate) fn counts(&self, id: WebhookId) -> Result<(u64, u64), StoreError> {
        let db = self.db();
        let count = "SELECT count(*), count(dead) FROM events WHERE endpoint = ?1";
        self.done(
            db.prepare_cached(count)
                .and_then(|mut statement| {
                    let read = |row: &Row<'_>| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?)));
                    statement.query_row([octets(id)], read)
                })
                .map(|(all, dead)| (all - dead, dead)),
        )
    }

    /// Makes a dead event wait for a try at `now`, as if it had never been tried.
    pub(crate) fn revive(
        &self,
        id: WebhookId,
        position: Position,
        now: Time,
    ) -> Result<bool, StoreError> {
        let mut db = self.db();
        self.done(durably(&mut db, |db| {
            let sql = "UPDATE events SET dead = NULL, failures = 0, due = ?3 \
                       WHERE endpoint = ?1 AND position = ?2 AND dead IS NOT NULL";
            let key = params![octets(id), signed(position.0), signed(now.as_micros())];
            db.execute(sql, key).map(|changed| changed > 0)
        }))
    }

    /// The latest tries of an endpoint, those of the newest events first.
    pub(crate) fn tries(&self, id: WebhookId, limit: usize) -> Result<Vec<StoredTry>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = |table: &str| {
            format!(
                "SELECT position, message, event, kind, at, took, status, error FROM {table} \
                 WHERE endpoint = ?1 ORDER BY position DESC, at LIMIT ?2"
            )
        };
        let db = self.db();
        let read = |table: &String| -> rusqlite::Result<Vec<StoredTry>> {
            let mut statement = db.prepare_cached(&sql(table))?;
            statement.query_map(params![octets(id), limit], stored_try)?.collect()
        };
        let mut tries = Vec::new();
        for table in &self.done(days(&db))? {
            tries.extend(self.done(read(table))?);
        }
        tries.sort_by_key(|this| (std::cmp::Reverse(this.position), this.result.at));
        Ok(tries)
    }

    /// The tries of an endpoint to deliver the event at `position`, in order.
    pub(crate) fn tries_at(
        &self,
        id: WebhookId,
        position: Position,
    ) -> Result<Vec<StoredTry>, StoreError> {
        let db = self.db();
        let read = |table: &String| -> rusqlite::Result<Vec<StoredTry>> {
            let mut statement = db.prepare_cached(&format!(
                "SELECT position, message, event, kind, at, took, status, error FROM {table} \
                 WHERE endpoint = ?1 AND position = ?2 ORDER BY at"
            ))?;
            statement.query_map(params![octets(id), signed(position.0)], stored_try)?.collect()
        };
        let mut tries = Vec::new();
        for table in &self.done(days(&db))? {
            tries.extend(self.done(read(table))?);
        }
        Ok(tries)
    }

    /// Forgets tries of days before `log` and events that were given up before `dead`.
    pub(crate) fn forget(&self, log: Time, dead: Time) -> Result<(), StoreError> {
        let db = self.db();
        let oldest = table_of(log);
        self.done((|| {
            for table in days(&db)?.into_iter().filter(|table| *table < oldest) {
                db.execute(&format!("DROP TABLE {table}"), [])?;
            }
            db.execute(
                "DELETE FROM events WHERE dead IS NOT NULL AND dead < ?1",
                [signed(dead.as_micros())],
            )
            .map(drop)
        })())
    }

    /// A position that is kept under a name.
    pub(crate) fn mark(&self, name: &str) -> Result<Option<Position>, StoreError> {
        let db = self.db();
        let found = db
            .query_row("SELECT position FROM marks WHERE name = ?1", [name], |row| row.get(0))
            .optional();
        self.done(found).map(|found| found.map(|position| Position(unsigned(position))))
    }

    /// Keeps a position under a name.
    pub(crate) fn set_mark(&self, name: &str, position: Position) -> Result<(), StoreError> {
        let db = self.db();
        let sql = "INSERT INTO marks VALUES (?1, ?2) \
                   ON CONFLICT (name) DO UPDATE SET position = excluded.position";
        self.done(db.execute(sql, params![name, signed(position.0)]).map(drop))
    }
}

fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn prepare(db: &mut Connection, sealer: &Sealer) -> rusqlite::Result<i64> {
    db.busy_timeout(Duration::from_secs(5))?;
    db.set_prepared_statement_cache_capacity(64);
    db.pragma_update(None, "journal_mode", "wal")?;
    // What loops write may be lost in a power failure: then it is sent again. See `durably`.
    db.pragma_update(None, "synchronous", "normal")?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => {
            db.execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT"))?
        }
        1 => seal_all(db, sealer)?,
        found => return Ok(found),
    }
    Ok(VERSION)
}

/// Seals what a release before this one left open, and overwrites what it was.
fn seal_all(db: &mut Connection, sealer: &Sealer) -> rusqlite::Result<()> {
    db.pragma_update(None, "secure_delete", true)?;
    durably(db, |db| {
        for (id, url) in pairs::<Vec<u8>, String>(db, "SELECT id, url FROM endpoints")? {
            let url = seal_for_ever(sealer, url.as_bytes())?;
            db.execute("UPDATE endpoints SET url = ?2 WHERE id = ?1", params![id, url])?;
        }
        // No two secrets are the same.
        for (secret, _) in pairs::<String, i64>(db, "SELECT secret, made FROM secrets")? {
            let sealed = seal_for_ever(sealer, secret.as_bytes())?;
            db.execute(
                "UPDATE secrets SET secret = ?2 WHERE secret = ?1",
                params![secret, sealed],
            )?;
        }
        let mut events = db.prepare("SELECT endpoint, position, url, body FROM events")?;
        let mut rows = events.query([])?;
        while let Some(row) = rows.next()? {
            let (endpoint, position): (Vec<u8>, i64) = (row.get(0)?, row.get(1)?);
            let body = seal_event(sealer, &row.get::<_, String>(2)?, &row.get::<_, Vec<u8>>(3)?)?;
            let sql = "UPDATE events SET url = '', body = ?3 WHERE endpoint = ?1 AND position = ?2";
            db.execute(sql, params![endpoint, position, body])?;
        }
        db.pragma_update(None, "user_version", VERSION)
    })?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn pairs<A: FromSql, B: FromSql>(db: &Connection, sql: &str) -> rusqlite::Result<Vec<(A, B)>> {
    let mut statement = db.prepare(sql)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn unsealable(error: KeyError) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

fn seal_for_ever(sealer: &Sealer, octets: &[u8]) -> rusqlite::Result<Vec<u8>> {
    let mut out = Vec::new();
    sealer.seal_for_ever(octets, &mut out).map_err(unsealable)?;
    Ok(out)
}

/// The URL and the body of an event in one box.
fn seal_event(sealer: &Sealer, url: &str, body: &[u8]) -> rusqlite::Result<Vec<u8>> {
    let length = u32::try_from(url.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = Vec::new();
    let octets = [&length, url.as_bytes(), body].concat();
    sealer.seal(&octets, &mut out).map_err(unsealable)?;
    Ok(out)
}

/// The URL and the body of an event; both empty when its key was erased.
fn open_event(
    row: &Row<'_>,
    column: usize,
    sealer: &Sealer,
) -> rusqlite::Result<(Box<str>, Box<[u8]>)> {
    let Some(octets) = open(row, column, sealer)? else { return Ok(Default::default()) };
    let broken = || rusqlite::Error::InvalidColumnType(column, "body".into(), Type::Blob);
    let (length, rest) = octets.split_first_chunk().ok_or_else(broken)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (url, body) = rest.split_at_checked(length).ok_or_else(broken)?;
    let url = str::from_utf8(url).map_err(|_| broken())?;
    Ok((url.into(), body.into()))
}

/// What is in a box; nothing when its key was erased.
fn open(row: &Row<'_>, column: usize, sealer: &Sealer) -> rusqlite::Result<Option<Vec<u8>>> {
    let sealed = row.get_ref(column)?.as_blob()?;
    sealer.open(sealed).map_err(|error| unreadable(column, Box::new(error)))
}

fn open_text(row: &Row<'_>, column: usize, sealer: &Sealer) -> rusqlite::Result<String> {
    let octets = open(row, column, sealer)?.unwrap_or_default();
    String::from_utf8(octets).map_err(|error| unreadable(column, Box::new(error.utf8_error())))
}

fn unreadable(column: usize, error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, error)
}

/// Does `work` in one transaction that is on disk when this returns.
fn durably<T>(
    db: &mut Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    db.pragma_update(None, "synchronous", "full")?;
    let done = (|| {
        let transaction = db.transaction()?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    })();
    db.pragma_update(None, "synchronous", "normal")?;
    done
}

fn save(db: &Connection, endpoint: &Stored, sealer: &Sealer) -> rusqlite::Result<()> {
    let kinds: Vec<_> = endpoint.kinds.iter().map(|kind| kind.as_str()).collect();
    db.execute(
        "INSERT INTO endpoints VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
         ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, url = excluded.url, \
         kinds = excluded.kinds, description = excluded.description, enabled = excluded.enabled, \
         disabled_reason = excluded.disabled_reason",
        params![
            octets(endpoint.id),
            endpoint.owner,
            endpoint.origin as u8,
            seal_for_ever(sealer, endpoint.url.as_bytes())?,
            kinds.join(" "),
            endpoint.description,
            endpoint.enabled,
            endpoint.disabled_reason,
            signed(endpoint.created_at.as_micros()),
            signed(endpoint.cursor.0),
        ],
    )?;
    db.execute("DELETE FROM secrets WHERE endpoint = ?1", [octets(endpoint.id)])?;
    for (index, (secret, until)) in (0_i64..).zip(&endpoint.secrets) {
        let until = until.map(|until| signed(until.as_micros()));
        let secret = seal_for_ever(sealer, secret.reveal().as_bytes())?;
        let row = params![octets(endpoint.id), index, secret, until];
        db.execute("INSERT INTO secrets VALUES (?1, ?2, ?3, ?4)", row)?;
    }
    Ok(())
}

fn stored(row: &Row<'_>, sealer: &Sealer) -> rusqlite::Result<Stored> {
    let kinds: String = row.get(4)?;
    Ok(Stored {
        id: WebhookId(u128::from_be_bytes(row.get(0)?)),
        owner: row.get(1)?,
        origin: match row.get(2)? {
            1_u8 => Origin::Config,
            2 => Origin::Callback,
            _ => Origin::Client,
        },
        url: open_text(row, 3, sealer)?,
        kinds: kinds.split(' ').filter_map(Kind::of).collect(),
        description: row.get(5)?,
        enabled: row.get(6)?,
        disabled_reason: row.get(7)?,
        secrets: Vec::new(),
        created_at: time(row.get(8)?),
        cursor: Position(unsigned(row.get(9)?)),
    })
}

fn secrets(
    db: &Connection,
    id: WebhookId,
    sealer: &Sealer,
) -> rusqlite::Result<Vec<(Secret, Option<Time>)>> {
    let mut statement =
        db.prepare_cached("SELECT secret, until FROM secrets WHERE endpoint = ?1 ORDER BY made")?;
    let rows = statement.query_map([octets(id)], |row| {
        let text = open_text(row, 0, sealer)?;
        let secret = text.parse().map_err(|error| unreadable(0, Box::new(error)))?;
        Ok((secret, row.get::<_, Option<i64>>(1)?.map(time)))
    })?;
    rows.collect()
}

fn event(row: &Row<'_>, sealer: &Sealer) -> rusqlite::Result<StoredEvent> {
    let kind: String = row.get(6)?;
    let unknown = || {
        let column = Type::Text;
        rusqlite::Error::InvalidColumnType(6, kind.clone(), column)
    };
    let (url, body) = open_event(row, 8, sealer)?;
    Ok(StoredEvent {
        position: Position(unsigned(row.get(0)?)),
        parked: Parked {
            message: MessageId::from_u128(u128::from_be_bytes(row.get(1)?)),
            host: row.get::<_, String>(2)?.into(),
            failures: row.get(3)?,
            due: row.get::<_, Option<i64>>(4)?.map(time),
        },
        dead: row.get::<_, Option<i64>>(5)?.map(time),
        kind: Kind::of(&kind).ok_or_else(unknown)?,
        event: EventId::from_u128(u128::from_be_bytes(row.get(7)?)),
        url,
        body,
    })
}

fn stored_try(row: &Row<'_>) -> rusqlite::Result<StoredTry> {
    let kind: String = row.get(3)?;
    let unknown = || {
        let column = Type::Text;
        rusqlite::Error::InvalidColumnType(3, kind.clone(), column)
    };
    Ok(StoredTry {
        position: Position(unsigned(row.get(0)?)),
        message: MessageId::from_u128(u128::from_be_bytes(row.get(1)?)),
        event: EventId::from_u128(u128::from_be_bytes(row.get(2)?)),
        kind: Kind::of(&kind).ok_or_else(unknown)?,
        result: Try {
            at: time(row.get(4)?),
            took: Duration::from_micros(unsigned(row.get(5)?)),
            status: row.get(6)?,
            error: row.get(7)?,
        },
    })
}

fn write_tries(db: &Connection, id: WebhookId, tries: &[StoredTry]) -> rusqlite::Result<()> {
    for tries in tries.chunk_by(|a, b| day_of(a.result.at) == day_of(b.result.at)) {
        let Some(first) = tries.first() else { continue };
        let table = table_of(first.result.at);
        db.prepare_cached(&format!(
            "CREATE TABLE IF NOT EXISTS {table} (endpoint BLOB NOT NULL, \
             position INTEGER NOT NULL, at INTEGER NOT NULL, message BLOB NOT NULL, \
             event BLOB NOT NULL, kind TEXT NOT NULL, took INTEGER NOT NULL, status INTEGER, \
             error TEXT, PRIMARY KEY (endpoint, position, at)) WITHOUT ROWID"
        ))?
        .execute([])?;
        let mut row = db.prepare_cached(&format!(
            "INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        ))?;
        for this in tries {
            let took = u64::try_from(this.result.took.as_micros()).unwrap_or(u64::MAX);
            row.execute(params![
                octets(id),
                signed(this.position.0),
                signed(this.result.at.as_micros()),
                this.message.as_u128().to_be_bytes(),
                this.event.as_u128().to_be_bytes(),
                this.kind.as_str(),
                signed(took),
                this.result.status,
                this.result.error,
            ])?;
        }
    }
    Ok(())
}

fn write_edit(
    db: &Connection,
    id: WebhookId,
    edit: &Edit,
    sealer: &Sealer,
) -> rusqlite::Result<()> {
    let due = |due: Option<Time>| due.map(|due| signed(due.as_micros()));
    match edit {
        Edit::Keep(kept) => db
            .prepare_cached(
                "INSERT OR REPLACE INTO events \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                octets(id),
                signed(kept.position.0),
                kept.parked.message.as_u128().to_be_bytes(),
                kept.event.as_u128().to_be_bytes(),
                kept.kind.as_str(),
                &*kept.parked.host,
                "",
                kept.parked.failures,
                due(kept.parked.due),
                due(kept.dead),
                seal_event(sealer, &kept.url, &kept.body)?,
            ]),
        Edit::Change { position, failures, due: at } => db
            .prepare_cached(
                "UPDATE events SET failures = ?3, due = ?4 WHERE endpoint = ?1 AND position = ?2",
            )?
            .execute(params![octets(id), signed(position.0), failures, due(*at)]),
        Edit::Bury { position, failures, at } => db
            .prepare_cached(
                "UPDATE events SET failures = ?3, due = NULL, dead = ?4 \
                 WHERE endpoint = ?1 AND position = ?2",
            )?
            .execute(params![octets(id), signed(position.0), failures, due(Some(*at))]),
        Edit::Forget { position } => db
            .prepare_cached("DELETE FROM events WHERE endpoint = ?1 AND position = ?2")?
            .execute(params![octets(id), signed(position.0)]),
    }
    .map(drop)
}

/// The tables with tries, one a day, the oldest first.
fn days(db: &Connection) -> rusqlite::Result<Vec<String>> {
    db.prepare_cached(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'tries_[0-9]*' \
         ORDER BY name",
    )?
    .query_map([], |row| row.get(0))?
    .collect()
}

/// The table with the tries of a day; the names rise with the days.
fn table_of(at: Time) -> String {
    format!("tries_{:08}", day_of(at))
}

const fn day_of(at: Time) -> u64 {
    at.as_secs() / 86_400
}

fn octets(id: WebhookId) -> [u8; 16] {
    id.0.to_be_bytes()
}

/// SQLite's integers are signed; positions and times stay far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn time(micros: i64) -> Time {
    Time::from_micros(unsigned(micros))
}
