//! The index of a day's file: where the messages with a term are, in sorted runs.
//!
//! A row for each term would cost more than everything else of a message together. So each
//! transaction writes its terms as one run, sorted by hash and cut into chunks; sixteen runs of a
//! level are merged into one of the next. A search reads the few chunks of each run that can hold
//! its hash.

use rusqlite::Connection;
use rusqlite::params;

use crate::archive::term;
use crate::message::Position;

/// The tables of the index. `last` is the highest hash of a chunk.
pub(super) const SCHEMA: &str = "
    CREATE TABLE runs (
        bucket INTEGER NOT NULL,
        level INTEGER NOT NULL,
        run INTEGER NOT NULL,
        PRIMARY KEY (bucket, level, run)
    ) WITHOUT ROWID;
    CREATE TABLE chunks (
        bucket INTEGER NOT NULL,
        level INTEGER NOT NULL,
        run INTEGER NOT NULL,
        last INTEGER NOT NULL,
        number INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE UNIQUE INDEX chunks_place ON chunks (bucket, level, run, last, number);
";

/// A term of a message: its hash, and the message's position.
pub(super) type Posting = (i64, Position);

/// How many runs of a level are merged into one of the next.
const FAN: i64 = 16;

/// How many postings a chunk holds: 16 octets each, so that a chunk fits a page.
const CHUNK: usize = 250;

/// Adds postings, in any order.
pub(super) fn add(db: &Connection, postings: &[Posting]) -> rusqlite::Result<()> {
    let mut sorted: Vec<(i64, i64, Position)> = postings
        .iter()
        .map(|(hash, position)| (term::bucket(*position), *hash, *position))
        .collect();
    sorted.sort_unstable();
    sorted.dedup();
    for same in sorted.chunk_by(|a, b| a.0 == b.0) {
        let Some((bucket, ..)) = same.first() else { continue };
        let run: Vec<Posting> = same.iter().map(|(_, hash, position)| (*hash, *position)).collect();
        write(db, *bucket, 0, &run)?;
        merge(db, *bucket)?;
    }
    Ok(())
}

fn write(db: &Connection, bucket: i64, level: i64, postings: &[Posting]) -> rusqlite::Result<()> {
    let run: i64 = db
        .prepare_cached(
            "SELECT coalesce(max(run), -1) + 1 FROM runs WHERE bucket = ?1 AND level = ?2",
        )?
        .query_row([bucket, level], |row| row.get(0))?;
    db.prepare_cached("INSERT INTO runs VALUES (?1, ?2, ?3)")?.execute([bucket, level, run])?;
    let mut chunk = db.prepare_cached("INSERT INTO chunks VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut body = Vec::with_capacity(CHUNK * 16);
    for (number, postings) in (0_i64..).zip(postings.chunks(CHUNK)) {
        body.clear();
        for (hash, position) in postings {
            body.extend_from_slice(&hash.to_be_bytes());
            body.extend_from_slice(&position.0.to_be_bytes());
        }
        let last = postings.last().map_or(i64::MAX, |(hash, _)| *hash);
        chunk.execute(params![bucket, level, run, last, number, body])?;
    }
    Ok(())
}

/// Merges the runs of every level of the bucket that has too many.
fn merge(db: &Connection, bucket: i64) -> rusqlite::Result<()> {
    for level in 0.. {
        let count: i64 = db
            .prepare_cached("SELECT count(*) FROM runs WHERE bucket = ?1 AND level = ?2")?
            .query_row([bucket, level], |row| row.get(0))?;
        if count < FAN {
            return Ok(());
        }
        let mut postings = Vec::new();
        {
            let mut chunks =
                db.prepare_cached("SELECT body FROM chunks WHERE bucket = ?1 AND level = ?2")?;
            let mut rows = chunks.query([bucket, level])?;
            while let Some(row) = rows.next()? {
                postings.extend(read(row.get_ref(0)?.as_blob().unwrap_or_default()));
            }
        }
        postings.sort_unstable();
        postings.dedup();
        for table in ["chunks", "runs"] {
            let sql = format!("DELETE FROM {table} WHERE bucket = ?1 AND level = ?2");
            db.prepare_cached(&sql)?.execute([bucket, level])?;
        }
        write(db, bucket, level + 1, &postings)?;
    }
    Ok(())
}

/// The positions below `before` that the bucket lists under a hash, the newest first.
pub(super) fn find(
    db: &Connection,
    bucket: i64,
    hash: i64,
    before: Position,
) -> rusqlite::Result<Vec<Position>> {
    let mut found = Vec::new();
    let mut runs = db.prepare_cached("SELECT level, run FROM runs WHERE bucket = ?1")?;
    let runs: Vec<(i64, i64)> = runs
        .query_map([bucket], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut chunks = db.prepare_cached(
        "SELECT body FROM chunks WHERE bucket = ?1 AND level = ?2 AND run = ?3 AND last >= ?4 \
         ORDER BY last, number",
    )?;
    for (level, run) in runs {
        let mut rows = chunks.query([bucket, level, run, hash])?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(0)?.as_blob().unwrap_or_default();
            let mut beyond = false;
            for (found_hash, position) in read(body) {
                beyond = found_hash > hash;
                if found_hash == hash && position < before {
                    found.push(position);
                }
            }
            if beyond {
                break;
            }
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.dedup();
    Ok(found)
}

/// The postings of a chunk.
fn read(body: &[u8]) -> impl Iterator<Item = Posting> {
    body.as_chunks::<8>().0.as_chunks::<2>().0.iter().map(|[hash, position]| {
        (i64::from_be_bytes(*hash), Position(u64::from_be_bytes(*position)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db
    }

    #[test]
    fn every_posting_is_found_whatever_was_merged() {
        let db = open();
        let all = Position(u64::MAX);
        // Two buckets, hashes that repeat, one that fills many chunks.
        let posting = |n: u64| {
            let hash = if n.is_multiple_of(3) { 7 } else { (n % 40).cast_signed() - 20 };
            (hash, Position(n << 17))
        };
        let mut added: Vec<Posting> = Vec::new();
        for batch in 0..300_u64 {
            let batch: Vec<_> = (batch * 4..batch * 4 + 4).map(posting).collect();
            add(&db, &batch).unwrap();
            added.extend(&batch);
        }
        for hash in -21..=21 {
            let mut wanted: Vec<_> =
                added.iter().filter(|(h, _)| *h == hash).map(|(_, position)| *position).collect();
            wanted.sort_unstable_by(|a, b| b.cmp(a));
            let mut found = Vec::new();
            for bucket in (0..=term::bucket(posting(1_200).1)).rev() {
                found.extend(find(&db, bucket, hash, all).unwrap());
            }
            assert_eq!(found, wanted, "{hash}");
        }
        let runs: i64 = db.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap();
        assert!(runs < 60, "{runs} runs");
    }

    #[test]
    fn the_same_posting_twice_is_found_once_and_only_below_the_mark() {
        let db = open();
        add(&db, &[(5, Position(10)), (5, Position(30))]).unwrap();
        add(&db, &[(5, Position(10)), (6, Position(20))]).unwrap();
        assert_eq!(find(&db, 0, 5, Position(31)).unwrap(), [Position(30), Position(10)]);
        assert_eq!(find(&db, 0, 5, Position(30)).unwrap(), [Position(10)]);
        assert_eq!(find(&db, 0, 9, Position(30)).unwrap(), []);
        assert_eq!(find(&db, 1, 5, Position(30)).unwrap(), []);
    }
}
