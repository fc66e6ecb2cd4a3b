//! The index of a day's file: where the messages with a term are, in sorted runs.
//!
//! A row for each term would cost more than everything else of a message together. So each
//! transaction writes its terms as one run, sorted by hash and cut into chunks; sixteen runs of a
//! level are merged into one of the next. A search reads the few chunks of each run that can hold
//! its hash.
//!
//! Where a message lies is a term too: its position, with the places of its packs for positions,
//! in buckets of their own that are numbered downwards from -1.

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

/// Where a message lies: its position, and the place, of which the highest is the latest.
pub(super) type Placing = (Position, u64);

/// The bucket of the places of messages in `bucket`.
const fn places_of(bucket: i64) -> i64 {
    -1 - bucket
}

/// How many runs of a level are merged into one of the next.
const FAN: i64 = 16;

/// How many postings a chunk holds: 16 octets each, so that a chunk fits a page.
const CHUNK: usize = 250;

/// Adds postings, in any order.
pub(super) fn add(db: &Connection, postings: &[Posting]) -> rusqlite::Result<()> {
    let sorted = postings
        .iter()
        .map(|(hash, position)| (term::bucket(*position), *hash, position.0))
        .collect();
    add_sorted(db, sorted)
}

/// Adds places, in any order.
pub(super) fn place(db: &Connection, placings: &[Placing]) -> rusqlite::Result<()> {
    let sorted = placings
        .iter()
        .map(|(at, place)| (places_of(term::bucket(*at)), at.0.cast_signed(), *place))
        .collect();
    add_sorted(db, sorted)
}

fn add_sorted(db: &Connection, mut sorted: Vec<(i64, i64, u64)>) -> rusqlite::Result<()> {
    sorted.sort_unstable();
    sorted.dedup();
    for same in sorted.chunk_by(|a, b| a.0 == b.0) {
        let Some((bucket, ..)) = same.first() else { continue };
        let run: Vec<Entry> = same.iter().map(|(_, hash, value)| (*hash, *value)).collect();
        write(db, *bucket, 0, &run)?;
        merge(db, *bucket)?;
    }
    Ok(())
}

/// What a chunk holds: a hash and a position, or a position and a place.
type Entry = (i64, u64);

fn write(db: &Connection, bucket: i64, level: i64, postings: &[Entry]) -> rusqlite::Result<()> {
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
            body.extend_from_slice(&position.to_be_bytes());
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
        // Sorted runs one behind the other, which this sort takes as such.
        postings.sort();
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
    let mut found: Vec<_> = values(db, bucket, hash)?.into_iter().map(Position).collect();
    found.retain(|position| *position < before);
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.dedup();
    Ok(found)
}

/// The latest place of the message at `position`.
pub(super) fn place_of(db: &Connection, position: Position) -> rusqlite::Result<Option<u64>> {
    let bucket = places_of(term::bucket(position));
    Ok(values(db, bucket, position.0.cast_signed())?.into_iter().max())
}

/// The latest places of all messages of a bucket below `before`, in any order.
pub(super) fn places(
    db: &Connection,
    bucket: i64,
    before: Position,
) -> rusqlite::Result<Vec<Placing>> {
    let mut found = Vec::new();
    let mut chunks = db.prepare_cached("SELECT body FROM chunks WHERE bucket = ?1")?;
    let mut rows = chunks.query([places_of(bucket)])?;
    while let Some(row) = rows.next()? {
        let body = read(row.get_ref(0)?.as_blob().unwrap_or_default());
        let body = body.map(|(position, place)| (Position(position.cast_unsigned()), place));
        found.extend(body.filter(|(position, _)| *position < before));
    }
    found.sort_unstable_by_key(|(position, place)| (*position, std::cmp::Reverse(*place)));
    found.dedup_by_key(|(position, _)| *position);
    Ok(found)
}

/// The buckets that hold terms of messages below `before`, the newest first.
pub(super) fn buckets(db: &Connection, before: Position) -> rusqlite::Result<Vec<i64>> {
    db.prepare_cached(
        "SELECT DISTINCT bucket FROM runs WHERE bucket >= 0 AND bucket <= ?1 ORDER BY bucket DESC",
    )?
    .query_map([term::bucket(before)], |row| row.get(0))?
    .collect()
}

/// The values that stand under a hash in a bucket.
fn values(db: &Connection, bucket: i64, hash: i64) -> rusqlite::Result<Vec<u64>> {
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
            for (found_hash, value) in read(body) {
                beyond = found_hash > hash;
                if found_hash == hash {
                    found.push(value);
                }
            }
            if beyond {
                break;
            }
        }
    }
    Ok(found)
}

/// The entries of a chunk.
fn read(body: &[u8]) -> impl Iterator<Item = Entry> {
    body.as_chunks::<8>()
        .0
        .as_chunks::<2>()
        .0
        .iter()
        .map(|[hash, value]| (i64::from_be_bytes(*hash), u64::from_be_bytes(*value)))
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

    #[test]
    fn the_latest_place_of_a_message_is_found_and_no_other() {
        let db = open();
        let far = Position(3 << 26);
        place(&db, &[(Position(10), 256), (Position(20), 257), (far, 258)]).unwrap();
        place(&db, &[(Position(10), 512)]).unwrap();
        add(&db, &[(7, Position(10)), (7, far)]).unwrap();
        assert_eq!(place_of(&db, Position(10)).unwrap(), Some(512));
        assert_eq!(place_of(&db, Position(20)).unwrap(), Some(257));
        assert_eq!(place_of(&db, Position(11)).unwrap(), None);
        let all = [(Position(10), 512), (Position(20), 257)];
        assert_eq!(places(&db, 0, Position(99)).unwrap(), all);
        assert_eq!(places(&db, 0, Position(20)).unwrap(), all[..1]);
        assert_eq!(places(&db, 3, Position(u64::MAX)).unwrap(), [(far, 258)]);
        assert_eq!(buckets(&db, Position(u64::MAX)).unwrap(), [3, 0]);
        assert_eq!(buckets(&db, Position(5)).unwrap(), [0]);
        assert_eq!(find(&db, 0, 7, far).unwrap(), [Position(10)], "terms and places are apart");
    }
}
