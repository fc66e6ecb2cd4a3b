//! The feed behind the memory: what whoever is far behind costs, counted in packs opened.

use std::path::Path;
use std::sync::Arc;

use hikyaku::archive::Archive;
use hikyaku::archive::Config;
use hikyaku::archive::Event;
use hikyaku::archive::Feed;
use hikyaku::archive::FeedReader;
use hikyaku::message::Position;

use crate::archive::config;
use crate::archive::keys;
use crate::archive::lives;
use crate::archive::truth;

/// How many packs of events the files below `dir` hold, of one key or of all.
pub(crate) fn packs(dir: &Path, key: Option<&str>) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let days = files.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("20") && name.ends_with(".db")
    });
    let count = |path| {
        let db = rusqlite::Connection::open(path).unwrap();
        let sql = "SELECT count(*) FROM events WHERE ?1 IS NULL OR key = ?1";
        db.query_row(sql, [key], |row| row.get::<_, u32>(0)).unwrap()
    };
    days.map(count).map(u64::from).sum()
}

/// Everything up to `end`, a few events at a time.
async fn all(reader: &mut FeedReader, limit: usize, end: Position) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let page = reader.read(limit).await.unwrap();
        assert!(page.events.len() <= limit);
        events.extend(page.events.iter().map(|event| Event::clone(event)));
        if page.next >= end {
            return events;
        }
    }
}

/// An archive of two days, several keys and handsets, most of it out of memory.
fn written(dir: &Path, seed: u64) -> (Archive, Vec<Event>, Position) {
    let log = lives(seed, 400);
    let config = Config { recent_events: 40, ..config(dir) };
    let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
    for placed in &log.records {
        tailer.apply(placed.at, placed.position, placed.next, placed.record.clone()).unwrap();
        if tailer.is_crowded() {
            tailer.publish();
            tailer.flush(placed.at).unwrap();
        }
    }
    tailer.publish();
    tailer.flush_all(log.records.last().unwrap().at).unwrap();
    (archive, truth(&log).events, log.end())
}

#[tokio::test]
async fn whoever_is_far_behind_opens_each_pack_once_however_little_it_takes() {
    for (seed, owner) in [(5, Some("shop")), (6, None)] {
        let dir = tempfile::tempdir().unwrap();
        let (archive, mut wanted, end) = written(dir.path(), seed);
        wanted.retain(|event| owner.is_none_or(|owner| *event.key == *owner));
        for limit in [1, 7, 200] {
            let before = archive.packs_opened();
            let mut reader = archive.follow(Feed::All, Position(0), owner);
            assert_eq!(all(&mut reader, limit, end).await, wanted, "{owner:?} by {limit}");
            let opened = archive.packs_opened() - before;
            let there = packs(dir.path(), owner);
            assert!(opened > 0 && opened <= there, "{opened} of {there} packs opened by {limit}");
        }
    }
}

#[tokio::test]
async fn a_reader_goes_over_from_the_files_to_what_is_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let log = lives(8, 300);
    let config = Config { recent_events: 20, ..config(dir.path()) };
    let (mut tailer, archive) = hikyaku::archive::open(&config, Position(0), &keys()).unwrap();
    let mut reader = archive.follow(Feed::All, Position(0), Some("bank"));
    let mut found: Vec<Arc<Event>> = Vec::new();
    for (index, placed) in log.records.iter().enumerate() {
        tailer.apply(placed.at, placed.position, placed.next, placed.record.clone()).unwrap();
        if tailer.is_crowded() || index % 50 == 0 {
            tailer.publish();
            tailer.flush(placed.at).unwrap();
        }
        // Now it falls behind, and now it catches up.
        if index % 300 < 100 {
            found.extend(reader.read(3).await.unwrap().events);
        }
    }
    tailer.publish();
    loop {
        let page = reader.read(3).await.unwrap();
        found.extend(page.events);
        if page.next >= log.end() {
            break;
        }
    }
    let found: Vec<Event> = found.iter().map(|event| Event::clone(event)).collect();
    let mut wanted = truth(&log).events;
    wanted.retain(|event| &*event.key == "bank");
    assert_eq!(found, wanted);
}
