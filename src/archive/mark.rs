//! How far the archive is, and the salt of its digests: one small file beside the days'.

use std::path::Path;
use std::path::PathBuf;

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::params;

use crate::archive::StoreError;
use crate::archive::day::signed;
use crate::message::Position;

/// The file with the mark: every record below it is in the day files.
#[derive(Debug)]
pub(super) struct MarkFile {
    path: PathBuf,
    db: Connection,
    low: Position,
    salt: [u8; 32],
}

const NAME: &str = "archive.db";

const VERSION: i64 = 1;

impl MarkFile {
    /// Opens the file in `dir`, or makes it with `salt`.
    pub(super) fn open(dir: &Path, salt: [u8; 32]) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        let opened = Connection::open(&path).and_then(|db| {
            let found = prepare(&db, salt)?;
            Ok((db, found))
        });
        let (db, found) = opened.map_err(|error| StoreError::sqlite(&path, error))?;
        match found {
            Ok((low, salt)) => Ok(Self { path, db, low, salt }),
            Err(found) => Err(StoreError::Version { path, found, known: VERSION }),
        }
    }

    pub(super) const fn low(&self) -> Position {
        self.low
    }

    pub(super) const fn salt(&self) -> [u8; 32] {
        self.salt
    }

    /// Moves the mark.
    pub(super) fn set(&mut self, low: Position) -> Result<(), StoreError> {
        if low == self.low {
            return Ok(());
        }
        self.db
            .prepare_cached("UPDATE mark SET low = ?1")
            .and_then(|mut statement| statement.execute([signed(low.0)]))
            .map_err(|error| StoreError::sqlite(&self.path, error))?;
        self.low = low;
        Ok(())
    }
}

type Found = Result<(Position, [u8; 32]), i64>;

fn prepare(db: &Connection, salt: [u8; 32]) -> rusqlite::Result<Found> {
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > VERSION {
        return Ok(Err(version));
    }
    db.execute_batch("CREATE TABLE IF NOT EXISTS mark (low INTEGER NOT NULL, salt BLOB NOT NULL)")?;
    db.pragma_update(None, "user_version", VERSION)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
    let found = db.query_row("SELECT low, salt FROM mark", [], read).optional()?;
    let (low, salt) = match found {
        Some(found) => found,
        None => {
            db.execute("INSERT INTO mark VALUES (0, ?1)", params![salt])?;
            (0, salt)
        }
    };
    Ok(Ok((Position(u64::try_from(low).unwrap_or(0)), salt)))
}
