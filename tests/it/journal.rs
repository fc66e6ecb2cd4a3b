//! The journal's battery: what every engine must do, and what a crash may do to ours.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use hikyaku::journal::Batch;
use hikyaku::journal::Config;
use hikyaku::journal::Failure;
use hikyaku::journal::Flaw;
use hikyaku::journal::Log;
use hikyaku::journal::OpenError;
use hikyaku::journal::Opened;
use hikyaku::journal::Position;
use hikyaku::journal::PushError;
use hikyaku::journal::ReadError;
use hikyaku::journal::Reader;
use hikyaku::journal::Remedy;
use hikyaku::journal::disk::Disk;
use hikyaku::journal::disk::Files;
use hikyaku::journal::local::Local;
use hikyaku::journal::open;
use hikyaku::journal::over;
use hikyaku::journal::run;
use hikyaku::journal::sim::Chances;
use hikyaku::journal::sim::SimDisk;
use hikyaku::journal::sim::open_arbitrary;
use hikyaku::seal::Day;
use hikyaku::seal::Keys;
use hikyaku::time::Span;
use proptest::prelude::*;

type Records = Vec<(Position, Vec<u8>)>;
type Engine<'a> = &'a dyn Fn() -> Result<Arc<dyn Log>, OpenError>;

/// Files so small that a few records fill one.
const SEGMENT: u64 = 1_200;

fn keys() -> Keys {
    Keys::known(1)
}

fn config() -> Config {
    Config { segment_bytes: SEGMENT, retry: Span::millis(0), ..Config::default() }
}

/// Runs `test` on each engine; what it is given opens the same log each time.
fn on_every_engine(test: impl Fn(Engine<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    let local = |disk| Ok(Arc::new(Local::open(disk, SEGMENT, &keys())?.0) as Arc<dyn Log>);
    test(&|| {
        let (log, _) = Local::open(Files::new(dir.path().join("not/there/yet")), SEGMENT, &keys())?;
        Ok(Arc::new(log))
    });
    let disk = SimDisk::new(1);
    test(&|| local(disk.clone()));
    let disk = SimDisk::new(2);
    disk.set_chances(Chances { short_writes: 300, ..Chances::default() });
    test(&|| local(disk.clone()));
}

fn parts(engine: Engine<'_>) -> Opened {
    over(engine().unwrap(), &config())
}

/// A record that no other call gives.
fn record(number: usize, length: usize) -> Vec<u8> {
    format!("{number}.").into_bytes().into_iter().cycle().take(length.max(1)).collect()
}

fn push(journal: &mut Opened, records: &[&[u8]]) -> Vec<Position> {
    records.iter().map(|record| journal.appender.push(record).unwrap()).collect()
}

fn flush(journal: &mut Opened) -> Result<(), Failure> {
    while let Some(batch) = journal.appender.take_batch() {
        journal.writer.write(batch)?;
    }
    Ok(())
}

/// Writes `count` records, a group every third one.
fn fill(journal: &mut Opened, count: usize) -> Records {
    let mut records = Records::new();
    for number in 0..count {
        let record = record(number, 20 + number * 7 % 130);
        records.push((journal.appender.push(&record).unwrap(), record));
        if number % 3 == 2 {
            flush(journal).unwrap();
        }
    }
    flush(journal).unwrap();
    records
}

fn all(reader: &Reader) -> Records {
    reader.follow(reader.first()).collect::<Result<_, _>>().unwrap()
}

// What every engine does.

#[test]
fn records_are_there_after_reopening_at_the_same_positions() {
    on_every_engine(|engine| {
        let mut expected = Records::new();
        for _ in 0..4 {
            let mut journal = parts(engine);
            assert_eq!(all(&journal.reader), expected);
            assert_eq!(journal.end, journal.appender.end());
            expected.extend(fill(&mut journal, 40));
            assert_eq!(all(&journal.reader), expected);
            for (at, record) in &expected {
                assert_eq!(&journal.reader.read(*at).unwrap(), record);
            }
        }
        assert!(expected.is_sorted_by(|(a, _), (b, _)| a < b));
    });
}

#[test]
fn a_reader_follows_up_to_the_durable_end_and_then_on() {
    on_every_engine(|engine| {
        let mut journal = parts(engine);
        let mut follow = journal.reader.follow(journal.first);
        let at = push(&mut journal, &[b"one", b"two"]);
        assert!(follow.next().is_none(), "nothing is durable");
        let unread = journal.reader.read(at[0]);
        assert!(matches!(unread, Err(ReadError::BeyondEnd { .. })), "{unread:?}");
        let batch = journal.appender.take_batch().unwrap();
        assert!(follow.next().is_none(), "still nothing is durable");
        assert_eq!(journal.writer.write(batch).unwrap(), journal.appender.end());
        assert_eq!(follow.next().unwrap().unwrap(), (at[0], b"one".to_vec()));
        push(&mut journal, &[b"three"]);
        flush(&mut journal).unwrap();
        assert_eq!(follow.at(), at[1]);
        let rest: Vec<_> = follow.by_ref().map(|r| r.unwrap().1).collect();
        assert_eq!(rest, [b"two".to_vec(), b"three".to_vec()]);
        assert_eq!(follow.at(), journal.reader.end());
        let first = journal.reader.follow(at[0]).until(at[1]);
        assert_eq!(first.map(|r| r.unwrap().1).collect::<Vec<_>>(), [b"one"]);
    });
}

#[test]
fn trimming_drops_whole_files_but_never_the_newest() {
    on_every_engine(|engine| {
        let mut journal = parts(engine);
        let records = fill(&mut journal, 60);
        let first = journal.trimmer.trim(records[0].0).unwrap();
        assert_eq!(first, records[0].0, "nothing lies below the first record");
        let (wanted, _) = records[30];
        let first = journal.trimmer.trim(wanted).unwrap();
        assert!(records[0].0 < first && first <= wanted, "{first:?}");
        assert_eq!(journal.reader.first(), first);
        let kept: Records = records.iter().filter(|(at, _)| *at >= first).cloned().collect();
        assert_eq!(all(&journal.reader), kept);
        let gone = journal.reader.read(records[0].0);
        assert!(matches!(gone, Err(ReadError::Trimmed { .. })), "{gone:?}");
        let gone = journal.reader.follow(records[0].0).next();
        assert!(matches!(gone, Some(Err(ReadError::Trimmed { .. }))), "{gone:?}");
        drop(journal);

        let mut journal = parts(engine);
        assert_eq!(all(&journal.reader), kept);
        let first = journal.trimmer.trim(Position(u64::MAX)).unwrap();
        assert!(first < journal.end, "the newest file stays");
        let at = push(&mut journal, &[b"next"])[0];
        assert_eq!(at, journal.end, "positions go on");
        drop(journal);
        assert_eq!(parts(engine).end, at, "what was not written is not there");
    });
}

#[test]
fn a_trimmed_log_without_records_keeps_its_position() {
    on_every_engine(|engine| {
        let mut end = Position(0);
        for _ in 0..3 {
            let mut journal = parts(engine);
            assert_eq!(journal.end, end);
            fill(&mut journal, 20);
            journal.trimmer.trim(journal.reader.end()).unwrap();
            end = journal.reader.end();
        }
    });
}

#[test]
fn a_record_has_at_least_one_octet_and_at_most_the_configured_number() {
    on_every_engine(|engine| {
        let config = Config { max_record_bytes: 300_000, batch_bytes: 4_096, ..config() };
        let mut journal = over(engine().unwrap(), &config);
        assert_eq!(journal.appender.push(&[]), Err(PushError::Empty));
        let long = vec![7; 300_001];
        let refused = Err(PushError::TooLong { length: 300_001, max: 300_000 });
        assert_eq!(journal.appender.push(&long), refused);
        let end = journal.appender.end();
        assert_eq!(end, journal.end, "what is refused takes no room");
        let at = push(&mut journal, &[b"before", &long[1..], b"after"]);
        flush(&mut journal).unwrap();
        assert_eq!(journal.reader.read(at[1]).unwrap(), &long[1..]);
        assert_eq!(all(&journal.reader).len(), 3);
    });
}

#[test]
fn records_are_refused_while_too_much_waits_for_the_disk() {
    on_every_engine(|engine| {
        let config = Config { pending_bytes: 100, ..config() };
        let mut journal = over(engine().unwrap(), &config);
        assert_eq!(journal.appender.pending(), 0);
        push(&mut journal, &[&[1; 18], &[2; 18]]);
        let refused = Err(PushError::Full { pending: 133, max: 100 });
        assert_eq!(journal.appender.push(&[3]), refused);
        let batch = journal.appender.take_batch().unwrap();
        assert_eq!(journal.appender.push(&[3]), refused, "what was taken waits too");
        journal.writer.write(batch).unwrap();
        assert_eq!(journal.appender.pending(), 0);
        push(&mut journal, &[&[3]]);
    });
}

#[test]
fn batches_end_at_the_configured_count_and_octets() {
    on_every_engine(|engine| {
        let config = Config { batch_records: 3, batch_bytes: 100, ..config() };
        let mut journal = over(engine().unwrap(), &config);
        assert!(journal.appender.take_batch().is_none());
        push(&mut journal, &[b"1", b"2", b"3", b"4", &[5; 30], &[6; 30], &[7; 200], b"8"]);
        let mut batches: Vec<Batch> = Vec::new();
        while let Some(batch) = journal.appender.take_batch() {
            assert_eq!(batches.last().map_or(journal.end, Batch::end), batch.start());
            batches.push(batch);
        }
        let records = |batch: &Batch| batch.iter().map(|(_, r)| r[0]).collect::<Vec<_>>();
        let expected = [vec![b'1', b'2', b'3'], vec![b'4', 5], vec![6], vec![7], vec![b'8']];
        assert_eq!(batches.iter().map(records).collect::<Vec<_>>(), expected);
        batches.into_iter().for_each(|batch| assert!(journal.writer.write(batch).is_ok()));
        assert_eq!(all(&journal.reader).len(), 8);
    });
}

#[test]
fn the_log_is_open_once_at_a_time() {
    on_every_engine(|engine| {
        let journal = parts(engine);
        let Opened { appender, writer, reader, trimmer, .. } = journal;
        drop((appender, writer, trimmer));
        let second = engine().map(drop);
        assert!(matches!(second, Err(OpenError::Locked { .. })), "{second:?}");
        drop(reader);
        parts(engine);
    });
}

#[test]
fn a_position_that_no_record_has_is_told_from_damage() {
    on_every_engine(|engine| {
        let mut journal = parts(engine);
        let records = fill(&mut journal, 30);
        for at in (0..journal.reader.end().0).map(Position) {
            let read = journal.reader.read(at);
            match records.binary_search_by_key(&at, |(at, _)| *at) {
                Ok(i) => assert_eq!(read.unwrap(), records[i].1),
                Err(_) => assert!(matches!(read, Err(ReadError::NoRecord(_))), "{at:?} {read:?}"),
            }
            let mut follow = journal.reader.follow(at);
            let read = follow.next().unwrap();
            if records.binary_search_by_key(&at, |(at, _)| *at).is_err() {
                assert!(matches!(read, Err(ReadError::NoRecord(_))), "{at:?} {read:?}");
                assert!(follow.next().is_none(), "an error is the end");
            }
        }
        let end = journal.reader.end();
        let beyond = journal.reader.read(end);
        assert!(matches!(beyond, Err(ReadError::BeyondEnd { .. })), "{beyond:?}");
        assert!(journal.reader.follow(end).next().is_none());
        let beyond = journal.reader.follow(Position(end.0 + 1)).next();
        assert!(matches!(beyond, Some(Err(ReadError::BeyondEnd { .. }))), "{beyond:?}");
    });
}

#[test]
fn a_batch_goes_to_the_end_of_the_log_and_nowhere_else() {
    on_every_engine(|engine| {
        let log = engine().unwrap();
        let mut mine = over(Arc::clone(&log), &config());
        let mut deposed = over(Arc::clone(&log), &config());
        push(&mut mine, &[b"mine"]);
        flush(&mut mine).unwrap();
        push(&mut deposed, &[b"late"]);
        let refused = flush(&mut deposed);
        assert!(matches!(refused, Err(Failure::Moved { expected: 0, end: 36 })), "{refused:?}");
        assert_eq!(all(&mine.reader), [(Position(0), b"mine".to_vec())]);
    });
}

#[test]
fn what_waits_becomes_one_group_and_is_reported_once() {
    on_every_engine(|engine| {
        let mut journal = over(engine().unwrap(), &Config { batch_records: 4, ..config() });
        let (sender, receiver) = mpsc::channel();
        let mut ends = Vec::new();
        for number in 0..10 {
            push(&mut journal, &[&record(number, 30)]);
            ends.push(journal.appender.end());
            sender.send(journal.appender.take_batch().unwrap()).unwrap();
        }
        drop(sender);
        let mut reports = Vec::new();
        let writer = run(journal.writer, &receiver, |end| reports.push(end.unwrap()));
        assert!(writer.failure().is_none());
        assert_eq!(reports, [ends[3], ends[7], ends[9]]);
        assert_eq!(all(&journal.reader).len(), 10);
    });
}

#[test]
fn readers_go_on_beside_the_writer() {
    on_every_engine(|engine| {
        const RECORDS: usize = 2_000;
        let Opened { mut appender, writer, reader, .. } = parts(engine);
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let reader = &reader;
            scope.spawn(move || run(writer, &receiver, |end| assert!(end.is_ok())));
            let followers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(move || {
                        let mut follow = reader.follow(Position(0));
                        let mut read = Records::new();
                        while read.len() < RECORDS {
                            match follow.next() {
                                Some(next) => read.push(next.unwrap()),
                                None => thread::yield_now(),
                            }
                            if let Some((at, record)) = read.get(read.len() / 2) {
                                assert_eq!(&reader.read(*at).unwrap(), record);
                            }
                        }
                        read
                    })
                })
                .collect();
            let mut pushed = Records::new();
            for number in 0..RECORDS {
                let record = record(number, 40);
                pushed.push((appender.push(&record).unwrap(), record));
                if number % 5 == 4 {
                    sender.send(appender.take_batch().unwrap()).unwrap();
                }
            }
            drop(sender);
            followers.into_iter().for_each(|f| assert_eq!(f.join().unwrap(), pushed));
        });
    });
}

// What a failing disk may do, and what a crash.

/// What a log may hold: what was durable, and behind it some of what was pushed since.
#[derive(Clone, Debug, Default)]
struct Model {
    durable: Records,
    pushed: Records,
    trimmed_below: Position,
    /// Makes each record another one.
    records: usize,
}

impl Model {
    /// Checks an opened log and takes what it holds as durable.
    fn reopened(&mut self, journal: &Opened) {
        let found = all(&journal.reader);
        self.durable.retain(|(at, _)| *at >= journal.first);
        assert!(journal.first <= self.trimmed_below, "more was trimmed than was asked for");
        assert!(found.len() >= self.durable.len(), "what was durable is gone");
        let (durable, rest) = found.split_at(self.durable.len());
        assert_eq!(durable, self.durable, "what was durable is other records");
        assert!(self.pushed.starts_with(rest), "what was not durable has a gap: {rest:?}");
        assert_eq!(journal.appender.end(), journal.end);
        self.durable = found;
        self.pushed.clear();
    }

    /// Pushes a record as if the journal may refuse nothing.
    fn push(&mut self, journal: &mut Opened, length: usize) {
        self.records += 1;
        let record = record(self.records, length);
        let at = journal.appender.push(&record).unwrap();
        self.pushed.push((at, record));
    }

    /// Takes what lies below `end` as durable.
    fn durable_to(&mut self, journal: &Opened, end: Position) {
        assert_eq!(journal.reader.end(), end);
        let count = self.pushed.partition_point(|(at, _)| *at < end);
        self.durable.extend(self.pushed.drain(..count));
    }

    fn write(&mut self, journal: &mut Opened) -> Result<(), Failure> {
        while let Some(batch) = journal.appender.take_batch() {
            let outcome = journal.writer.write(batch);
            self.durable_to(journal, journal.reader.end());
            outcome?;
        }
        Ok(())
    }

    fn trim(&mut self, journal: &Opened, below: Position) -> Result<(), Failure> {
        self.trimmed_below = self.trimmed_below.max(below);
        journal.trimmer.trim(below).map(drop)
    }
}

/// Opens, writes groups of one to four records, trims now and then; ends at the first failure.
fn life(disk: &SimDisk, model: &mut Model, groups: usize) -> Result<(), OpenError> {
    let mut journal = open(disk.clone(), &config(), &keys())?;
    model.reopened(&journal);
    for group in 0..groups {
        for n in 0..=group % 4 {
            model.push(&mut journal, 10 + (group * 97 + n * 41) % 300);
        }
        model.write(&mut journal)?;
        if group % 5 == 4 {
            let (middle, _) = *model.durable.get(model.durable.len() / 2).unwrap();
            model.trim(&journal, middle)?;
        }
    }
    // These are never written.
    model.push(&mut journal, 5);
    Ok(())
}

/// How many crashes to try at each place; more by `HIKYAKU_SEEDS`.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let wanted = std::env::var("HIKYAKU_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    0..wanted.unwrap_or(usual).max(usual)
}

#[test]
fn a_crash_at_any_operation_loses_nothing_durable() {
    let operations = {
        let disk = SimDisk::new(1);
        life(&disk, &mut Model::default(), 15).unwrap();
        disk.operations()
    };
    assert!(operations > 40, "{operations}");
    for crash in 0..=operations {
        let disk = SimDisk::new(1);
        disk.crash_at(crash);
        let mut model = Model::default();
        let ended = life(&disk, &mut model, 15);
        assert_eq!(ended.is_err(), crash < operations, "{ended:?}");
        for seed in seeds(24) {
            // The second life may crash too, most often while it opens; the third does not.
            let mut model = model.clone();
            let disk = disk.restart(seed);
            disk.crash_at(seed % 12);
            drop(life(&disk, &mut model, 3));
            let disk = disk.restart(seed + 1);
            life(&disk, &mut model, 6).unwrap_or_else(|e| panic!("{crash} {seed}: {e}"));
        }
    }
}

#[test]
fn what_a_killed_process_left_unsynced_is_made_durable() {
    let operations = {
        let disk = SimDisk::new(1);
        life(&disk, &mut Model::default(), 12).unwrap();
        disk.operations()
    };
    for operation in 0..operations {
        for fails_first in [false, true] {
            let disk = SimDisk::new(1);
            match fails_first {
                true => disk.fail_at(operation),
                false => disk.crash_at(operation),
            }
            let mut model = Model::default();
            let ended = life(&disk, &mut model, 12);
            assert!(ended.is_err());
            let disk = disk.kill();
            let journal = open(disk.clone(), &config(), &keys()).unwrap();
            model.reopened(&journal);
            for seed in seeds(10) {
                let journal = open(disk.restart(seed), &config(), &keys()).unwrap();
                model.clone().reopened(&journal);
            }
        }
    }
}

#[test]
fn after_any_failure_everything_can_still_be_written() {
    for operation in 0.. {
        let disk = SimDisk::new(operation);
        let mut journal = open(disk.clone(), &config(), &keys()).unwrap();
        disk.fail_at(operation);
        let mut model = Model::default();
        let mut failures = 0;
        for group in 0..15 {
            (0..=group % 3).for_each(|n| model.push(&mut journal, 30 + 90 * n));
            if model.write(&mut journal).is_err() {
                failures += 1;
                reopen_after_failure(&disk, &mut journal, &mut model);
            }
        }
        assert_eq!(all(&journal.reader), model.durable);
        for seed in seeds(10) {
            let journal = open(disk.restart(seed), &config(), &keys()).unwrap();
            model.clone().reopened(&journal);
        }
        if failures == 0 {
            assert!(operation > 30, "{operation}");
            break;
        }
        assert_eq!(failures, 1, "operation {operation}");
    }
}

fn reopen_after_failure(disk: &SimDisk, journal: &mut Opened, model: &mut Model) {
    assert!(!model.pushed.is_empty() && journal.writer.failure().is_some());
    let before = disk.operations();
    model.push(journal, 30);
    assert!(model.write(journal).is_err(), "refused");
    assert_eq!(disk.operations(), before, "and not even tried");
    for seed in seeds(10) {
        let journal = open(disk.restart(seed), &config(), &keys()).unwrap();
        model.clone().reopened(&journal);
    }
    let end = journal.writer.reopen().unwrap();
    model.durable_to(journal, end);
    assert_eq!(end, journal.appender.end());
    assert!(model.pushed.is_empty() && journal.writer.failure().is_none());
}

#[test]
fn a_file_that_failed_is_never_written_again() {
    let disk = SimDisk::new(1);
    let mut journal = open(disk.clone(), &config(), &keys()).unwrap();
    let mut expected = fill(&mut journal, 3);
    for operation in [0, 1] {
        let (name, _) = disk.contents().pop_last().unwrap();
        let record = record(operation, 50);
        expected.push((journal.appender.push(&record).unwrap(), record));
        disk.fail_at(operation as u64);
        flush(&mut journal).unwrap_err();
        let failed = disk.contents()[&name].clone();
        journal.writer.reopen().unwrap();
        expected.extend(fill(&mut journal, 3));
        assert_eq!(disk.contents()[&name], failed);
        assert_eq!(all(&journal.reader), expected);
    }
}

#[test]
fn a_full_disk_stops_the_writer_until_there_is_room() {
    let disk = SimDisk::new(1);
    let mut journal = open(disk.clone(), &config(), &keys()).unwrap();
    let mut expected = fill(&mut journal, 20);
    disk.set_capacity(Some(
        disk.contents().values().map(|file| file.len() as u64).sum::<u64>() + 50,
    ));
    let end = journal.reader.end();
    for number in 0..5 {
        let record = record(number, 100);
        expected.push((journal.appender.push(&record).unwrap(), record));
        let refused = flush(&mut journal).unwrap_err();
        assert!(refused.is_full(), "{refused}");
        let refused = journal.writer.reopen().unwrap_err();
        assert!(refused.is_full(), "{refused}");
        assert_eq!(refused.to_string(), "cannot write sim/segment.new: no storage space");
        assert_eq!(journal.reader.end(), end);
    }
    disk.set_capacity(None);
    assert_eq!(journal.writer.reopen().unwrap(), journal.appender.end());
    assert_eq!(all(&journal.reader), expected);
    expected.extend(fill(&mut journal, 20));
    assert_eq!(all(&open(disk.restart(1), &config(), &keys()).unwrap().reader), expected);
}

#[test]
fn the_writers_thread_goes_on_when_the_disk_does() {
    let disk = SimDisk::new(3);
    let few = Config { batch_records: 4, ..config() };
    let mut journal = open(disk.clone(), &few, &keys()).unwrap();
    disk.set_chances(Chances {
        failed_writes: 100,
        failed_syncs: 200,
        failed_names: 200,
        ..Chances::default()
    });
    let (sender, receiver) = mpsc::channel();
    let mut expected = Records::new();
    for number in 0..100 {
        let record = record(number, 100);
        expected.push((journal.appender.push(&record).unwrap(), record));
        sender.send(journal.appender.take_batch().unwrap()).unwrap();
    }
    let mut sender = Some(sender);
    let mut failures = 0;
    let end = journal.appender.end();
    let writer = run(journal.writer, &receiver, |outcome| match outcome {
        // As long as there is a sender, it does not give up.
        Ok(durable) if durable == end => sender = None,
        Ok(_) => {}
        Err(_) => failures += 1,
    });
    assert!(failures > 0 && writer.failure().is_none());
    assert_eq!(all(&journal.reader), expected);
}

#[test]
fn the_writers_thread_ends_with_its_last_sender_even_if_the_disk_never_comes_back() {
    let disk = SimDisk::new(3);
    let mut journal = open(disk.clone(), &config(), &keys()).unwrap();
    disk.set_capacity(Some(0));
    let (sender, receiver) = mpsc::channel();
    push(&mut journal, &[b"lost"]);
    sender.send(journal.appender.take_batch().unwrap()).unwrap();
    drop(sender);
    let mut outcomes = Vec::new();
    let writer = run(journal.writer, &receiver, |outcome| outcomes.push(outcome.is_ok()));
    assert_eq!(outcomes, [false]);
    assert!(writer.failure().is_some_and(Failure::is_full));
}

// Damage.

/// A log of several files, closed. The newest file has several groups, the last group two records.
fn closed_log() -> (SimDisk, Records) {
    let disk = SimDisk::new(1);
    let mut journal = open(disk.clone(), &config(), &keys()).unwrap();
    let mut records = fill(&mut journal, 41);
    for number in 0..10 {
        let record = record(100 + number, 20 + number);
        records.push((journal.appender.push(&record).unwrap(), record));
        if number % 2 == 1 {
            flush(&mut journal).unwrap();
        }
    }
    drop(journal);
    let (newest, _) = disk.contents().pop_last().unwrap();
    let in_newest = records.iter().filter(|(at, _)| at.0 >= base(&newest)).count();
    assert!(in_newest >= 8, "{in_newest}");
    (disk.restart(0), records)
}

/// Opens and reads all there is, as a start of the gateway does.
fn replay(disk: SimDisk) -> Result<Records, ReadError> {
    match open(disk, &config(), &keys()) {
        Ok(journal) => journal.reader.follow(journal.first).collect(),
        Err(OpenError::Damaged(damage)) => Err(damage.into()),
        Err(OpenError::Failed(failure)) => Err(failure.into()),
        Err(locked @ OpenError::Locked { .. }) => std::panic::panic_any(locked.to_string()),
    }
}

fn base(name: &str) -> u64 {
    u64::from_str_radix(name.strip_suffix(".log").unwrap(), 16).unwrap()
}

#[test]
fn a_flipped_bit_is_refused_with_its_place() {
    let (disk, records) = closed_log();
    let files = disk.contents();
    assert!(files.len() > 3, "{:?}", files.keys());
    let (newest, _) = files.last_key_value().unwrap();
    // The last group has the last two records.
    let (last_group, _) = records[records.len() - 2];
    for (name, octets) in &files {
        for offset in 0..octets.len() {
            let disk = disk.restart(0);
            disk.flip(name, offset, 1 << (offset % 8));
            let at = base(name) + (offset as u64).saturating_sub(64);
            let before = records.iter().filter(|(start, _)| start.0 <= at).count();
            let outcome = replay(disk);
            if name == newest && at >= last_group.0 {
                // Nothing can tell this from a torn write: none of the group was confirmed by one
                // that follows it.
                assert_eq!(outcome.unwrap(), records[..before - 1]);
                continue;
            }
            let Err(ReadError::Damaged(damage)) = outcome else {
                panic!("{name} octet {offset}: {outcome:?}")
            };
            assert!(damage.file.ends_with(name), "{damage}");
            let frame = records[before - 1].0;
            let place = if offset < 64 { 0 } else { frame.0 - base(name) + 64 };
            assert_eq!(damage.offset, place, "{damage}");
            let remedy = if name == newest { Remedy::KeepEarlier } else { Remedy::KeepLater };
            let future = matches!(damage.flaw, Flaw::Version { .. });
            assert_eq!(damage.remedy, if future { Remedy::Upgrade } else { remedy });
        }
    }
}

#[test]
fn what_was_opened_once_is_refused_when_damaged_even_at_the_very_end() {
    let (disk, records) = closed_log();
    open(disk.clone(), &config(), &keys()).unwrap();
    let (newest, octets) = disk.contents().pop_last().unwrap();
    assert_eq!(
        base(&newest),
        records[records.len() - 2].0.0,
        "the last group has a file of its own"
    );
    for offset in 0..octets.len() {
        let flipped = disk.restart(0);
        flipped.flip(&newest, offset, 0x10);
        let outcome = replay(flipped);
        assert!(matches!(outcome, Err(ReadError::Damaged(_))), "{offset}: {outcome:?}");
        let cut = disk.restart(0);
        cut.put(&newest, &octets[..offset]);
        let outcome = replay(cut);
        assert!(matches!(outcome, Err(ReadError::Damaged(_))), "{offset}: {outcome:?}");
    }
}

#[test]
fn what_was_cut_once_never_comes_back() {
    let disk = SimDisk::new(1);
    let mut journal = open(disk.clone(), &config(), &keys()).unwrap();
    push(&mut journal, &[b"durable"]);
    flush(&mut journal).unwrap();
    let durable = disk.contents();
    push(&mut journal, &[b"cut"]);
    flush(&mut journal).unwrap();
    let (name, octets) = disk.contents().pop_last().unwrap();
    let left = &octets[durable[&name].len()..];

    let disk = SimDisk::new(2);
    disk.put(&name, &durable[&name]);
    open(disk.clone(), &config(), &keys()).unwrap();
    // The new file lies where the old one lay, and the old octets are still behind it.
    let (again, octets) = disk.contents().pop_last().unwrap();
    assert_eq!((&again, octets.len()), (&name, durable[&name].len()));
    disk.put(&name, &[&octets, left].concat());
    assert_eq!(replay(disk).unwrap(), [(Position(0), b"durable".to_vec())]);
}

#[test]
fn octets_that_are_missing_before_the_last_group_are_refused() {
    let (disk, records) = closed_log();
    let files = disk.contents();
    let (newest, _) = files.last_key_value().unwrap();
    for (name, octets) in files.iter().filter(|(name, _)| *name != newest) {
        for length in 0..octets.len() {
            let disk = disk.restart(0);
            disk.put(name, &octets[..length]);
            let outcome = replay(disk);
            let Err(ReadError::Damaged(damage)) = outcome else {
                panic!("{name} {length}: {outcome:?}")
            };
            assert!(damage.file.ends_with(name) && damage.remedy == Remedy::KeepLater, "{damage}");
        }
        let disk = disk.restart(0);
        disk.remove(name).unwrap();
        let outcome = replay(disk);
        match name == files.first_key_value().unwrap().0 {
            // What is missing at the front may have been trimmed.
            true => assert!(records.ends_with(&outcome.unwrap())),
            false => assert!(matches!(outcome, Err(ReadError::Damaged(_))), "{outcome:?}"),
        }
    }
}

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_record_for_good() {
    let (disk, records) = closed_log();
    let files = disk.contents();
    let (newest, octets) = files.last_key_value().unwrap();
    let (last_group, _) = records[records.len() - 2];
    let group = usize::try_from(last_group.0 - base(newest)).unwrap() + 64;
    for length in group..octets.len() {
        for garbage in [&[][..], &[0; 700], &[0xff; 20], b"hikyaku"] {
            let disk = disk.restart(0);
            disk.put(newest, &[&octets[..length], garbage].concat());
            let journal = open(disk.clone(), &config(), &keys()).unwrap();
            let found = all(&journal.reader);
            let ends = |(at, record): &(Position, Vec<u8>)| {
                at.0 + 32 + record.len() as u64 <= base(newest) + length as u64 - 64
            };
            let whole: Records = records.iter().filter(|r| ends(r)).cloned().collect();
            assert_eq!(found, whole, "{length}");
            let torn = journal.torn.map_or(0, |torn| torn.octets);
            let end = journal.end.0 - base(newest) + 64;
            assert_eq!(torn, (length + garbage.len()) as u64 - end);
            drop(journal.appender);
            assert_eq!(replay(disk.restart(1)).unwrap(), whole);
        }
    }
}

#[test]
fn a_group_whose_sectors_came_in_another_order_is_torn_and_not_damaged() {
    let disk = SimDisk::new(1);
    let mut journal = open(disk.clone(), &config(), &keys()).unwrap();
    push(&mut journal, &[b"first"]);
    flush(&mut journal).unwrap();
    push(&mut journal, &[&[1; 600], &[2; 600], &[3; 600]]);
    flush(&mut journal).unwrap();
    let (name, octets) = disk.contents().pop_first().unwrap();
    // The sector with the middle of the group is lost, those before and behind it are there.
    let torn = [&octets[..1024], &[0; 512], &octets[1536..]].concat();
    let disk = SimDisk::new(2);
    disk.put(&name, &torn);
    let records: Vec<_> = replay(disk).unwrap().into_iter().map(|(_, record)| record).collect();
    assert_eq!(records, [b"first".to_vec(), vec![1; 600]]);
}

#[test]
fn octets_of_another_file_or_another_place_are_no_records() {
    let (disk, records) = closed_log();
    let files = disk.contents();
    let (newest, octets) = files.last_key_value().unwrap();
    let others = files.values().map(|other| &other[64..]);
    let moved = [&octets[64..], &octets[65..]];
    for stale in others.chain(moved) {
        let disk = disk.restart(0);
        disk.put(newest, &[octets, stale].concat());
        let journal = open(disk.clone(), &config(), &keys()).unwrap();
        assert_eq!(all(&journal.reader), records);
        assert_eq!(journal.torn.unwrap().octets, stale.len() as u64);
    }
}

#[test]
fn a_file_of_a_newer_program_is_refused() {
    let (disk, _) = closed_log();
    let (name, mut octets) = disk.contents().pop_last().unwrap();
    octets[8] = 3;
    disk.put(&name, &octets);
    assert_eq!(
        open(disk, &config(), &keys()).unwrap_err().to_string(),
        format!(
            "sim/{name}, octet 0: expected format version 2 or older, found version 3, \
             which a newer hikyaku wrote; start the hikyaku that wrote it"
        )
    );
}

#[test]
fn a_renamed_file_is_refused() {
    let (disk, _) = closed_log();
    let (name, octets) = disk.contents().pop_first().unwrap();
    disk.remove(&name).unwrap();
    disk.put("0000000000000001.log", &octets);
    let Err(OpenError::Damaged(damage)) = open(disk, &config(), &keys()) else {
        panic!("it was opened")
    };
    assert_eq!(damage.flaw, Flaw::Renamed { found: 0 });
}

#[test]
fn a_file_that_cannot_be_read_is_refused_and_not_cut() {
    let (disk, _) = closed_log();
    for name in disk.contents().keys() {
        let disk = disk.restart(0);
        disk.spoil(name);
        let outcome = open(disk, &config(), &keys()).map(drop);
        let Err(OpenError::Failed(failure)) = outcome else { panic!("{outcome:?}") };
        let expected = format!("cannot read sim/{name}: the disk does not answer");
        assert_eq!(failure.to_string(), expected);
    }
}

#[test]
fn files_that_are_not_the_journals_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let strangers = ["notes.txt", "12.log", "00000000000000FF.log", "lost+found"];
    strangers.iter().for_each(|name| fs::write(dir.path().join(name), b"mine").unwrap());
    fs::write(dir.path().join("segment.new"), b"left by a crash").unwrap();
    let mut journal = open(Files::new(dir.path()), &config(), &keys()).unwrap();
    let records = fill(&mut journal, 10);
    assert_eq!(all(&journal.reader), records);
    drop(journal);
    strangers.iter().for_each(|name| assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"mine"));
    assert!(!dir.path().join("segment.new").exists());
}

#[test]
fn only_the_owner_may_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    open(Files::new(&journal), &config(), &keys()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&journal), 0o700);
    for entry in fs::read_dir(&journal).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let refused =
        open(Files::new(file.join("journal")), &config(), &keys()).unwrap_err().to_string();
    assert!(refused.starts_with("cannot make ") && refused.contains("file/journal"), "{refused}");
}

// Keys.

#[test]
fn records_lie_sealed_and_open_under_their_key_only() {
    let (disk, records) = closed_log();
    let record = b"a text that nobody else may read";
    let mut journal = open(disk.clone(), &config(), &keys()).unwrap();
    push(&mut journal, &[record]);
    flush(&mut journal).unwrap();
    drop(journal);
    let files = disk.contents();
    let part = &record[2..18];
    assert!(!files.values().any(|octets| octets.windows(16).any(|found| found == part)));
    let other = open(disk.restart(0), &config(), &Keys::known(2)).map(drop);
    let Err(OpenError::Damaged(damage)) = other else { panic!("{other:?}") };
    assert_eq!(damage.flaw, Flaw::Seal, "not taken for torn");
    assert_eq!(replay(disk).unwrap().len(), records.len() + 1);
}

#[test]
fn each_day_has_files_of_its_own_that_go_unread_with_its_key() {
    let disk = SimDisk::new(1);
    let keys = Keys::known(1);
    let today = keys.today();
    let mut journal = open(disk.clone(), &config(), &keys).unwrap();
    let mut records = Records::new();
    for day in 0..4 {
        keys.set_today(Day(today.0 + day));
        let record = record(day as usize, 30);
        records.push((journal.appender.push(&record).unwrap(), record));
        flush(&mut journal).unwrap();
    }
    assert_eq!(disk.contents().len(), 4);
    assert_eq!(journal.trimmer.oldest_day(), Some(today));
    let since = journal.trimmer.sealed_since(Day(today.0 + 2)).unwrap();
    assert_eq!(since, records[2].0);
    assert_eq!(journal.trimmer.trim(since).unwrap(), since);
    assert_eq!(journal.trimmer.oldest_day(), Some(Day(today.0 + 2)));
    assert_eq!(keys.erase_below(Day(today.0 + 2)).unwrap(), [today, Day(today.0 + 1)]);
    assert_eq!(all(&journal.reader), records[2..]);
    // The newest file is older than the day asked for: another one takes its place.
    let end = journal.reader.end();
    assert_eq!(journal.trimmer.sealed_since(Day(today.0 + 3)).unwrap(), records[3].0);
    keys.set_today(Day(today.0 + 9));
    assert_eq!(journal.trimmer.sealed_since(Day(today.0 + 9)).unwrap(), end);
    let at = push(&mut journal, &[b"behind it"])[0];
    flush(&mut journal).unwrap();
    assert_eq!((at, journal.reader.read(at).unwrap()), (end, b"behind it".to_vec()));
    drop(journal);
    let journal = open(disk.restart(1), &config(), &keys).unwrap();
    assert_eq!(all(&journal.reader).len(), 3);
    drop(journal);
    keys.erase_below(Day(today.0 + 3)).unwrap();
    let error = open(disk.restart(2), &config(), &keys).map(drop).unwrap_err().to_string();
    let expected = "octet 0: the records are sealed under the key of 2026-11-24, which is not \
                    there; put back the key of that day";
    assert!(error.contains(expected), "{error}");
}

/// A file of version 1 with these records in one group.
fn version_1(base: u64, records: &[&[u8]]) -> Vec<u8> {
    let salt = 0x5a17_u64.to_le_bytes();
    let mut frames = Vec::new();
    for record in records {
        let back = u32::try_from(frames.len()).unwrap();
        let check = crc32c::crc32c(record);
        let fields = [u32::try_from(record.len()).unwrap(), back, check].map(u32::to_le_bytes);
        let at = (base + u64::from(back)).to_le_bytes();
        let frame_check = crc32c::crc32c(&[&salt, &at, fields.concat().as_slice()].concat());
        frames.extend([fields.concat(), frame_check.to_le_bytes().to_vec()].concat());
        frames.extend(*record);
    }
    let fields = [base.to_le_bytes(), salt, base.to_le_bytes()].concat();
    let head = [b"hikyaku\0".as_slice(), &1_u32.to_le_bytes()].concat();
    let check = crc32c::crc32c(&[head.as_slice(), &fields].concat());
    [head, check.to_le_bytes().to_vec(), fields, frames].concat()
}

#[test]
fn a_log_of_version_1_is_read_and_goes_on_in_this_one() {
    let disk = SimDisk::new(1);
    disk.put("0000000000000100.log", &version_1(0x100, &[b"one", b"two"]));
    disk.put("0000000000000126.log", &version_1(0x126, &[b"three"]));
    let mut expected: Records = vec![
        (Position(0x100), b"one".to_vec()),
        (Position(0x113), b"two".to_vec()),
        (Position(0x126), b"three".to_vec()),
    ];
    let keys = keys();
    for round in 0..3_usize {
        let mut journal = open(disk.clone(), &config(), &keys).unwrap();
        assert_eq!(all(&journal.reader), expected, "{round}");
        let record = record(round, 40);
        expected.push((journal.appender.push(&record).unwrap(), record));
        flush(&mut journal).unwrap();
        assert_eq!(all(&journal.reader), expected);
    }
    let journal = open(disk.restart(1), &config(), &keys).unwrap();
    assert_eq!(all(&journal.reader), expected);
    // What lies open is older than any key.
    let since = journal.trimmer.sealed_since(keys.due()).unwrap();
    assert_eq!(since, expected[3].0);
}

// Whatever is done, in any order.

#[derive(Clone, Debug)]
enum Step {
    Push { length: usize },
    Write,
    FailAt(u64),
    CrashAt(u64),
    Trim { eighths: usize },
    Kill,
    Restart { seed: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..400_usize).prop_map(|length| Step::Push { length }),
        4 => Just(Step::Write),
        1 => (0..6_u64).prop_map(Step::FailAt),
        1 => (0..6_u64).prop_map(Step::CrashAt),
        1 => (0..9_usize).prop_map(|eighths| Step::Trim { eighths }),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(|seed| Step::Restart { seed }),
    ];
    prop::collection::vec(step, 1..80)
}

/// A journal on a machine that may have crashed.
struct Machine {
    disk: SimDisk,
    journal: Option<Opened>,
    model: Model,
}

impl Machine {
    fn step(&mut self, step: Step) {
        let Self { disk, journal, model } = self;
        match (step, journal.as_mut()) {
            (Step::Push { length }, Some(journal)) => model.push(journal, length),
            (Step::Write, Some(journal)) => {
                if model.write(journal).is_err()
                    && let Ok(end) = journal.writer.reopen()
                {
                    model.durable_to(journal, end);
                }
            }
            (Step::FailAt(n), _) => disk.fail_at(n),
            (Step::CrashAt(n), _) => disk.crash_at(n),
            (Step::Trim { eighths }, Some(journal)) => {
                let below = journal.reader.end().0 / 8 * eighths as u64;
                drop(model.trim(journal, Position(below)));
            }
            (Step::Kill, _) => self.start(self.disk.kill()),
            (Step::Restart { seed }, _) => self.start(self.disk.restart(seed)),
            (Step::Push { .. } | Step::Write | Step::Trim { .. }, None) => {}
        }
    }

    fn start(&mut self, disk: SimDisk) {
        let journal = open(disk.clone(), &config(), &keys()).unwrap();
        self.model.reopened(&journal);
        (self.disk, self.journal) = (disk, Some(journal));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_work_and_faults_keeps_what_was_durable(steps in steps(), seed: u64) {
        let disk = SimDisk::new(seed);
        disk.set_chances(Chances { short_writes: 100, ..Chances::default() });
        let mut machine = Machine { disk: disk.clone(), journal: None, model: Model::default() };
        machine.start(disk);
        steps.into_iter().for_each(|step| machine.step(step));
        machine.step(Step::Restart { seed });
    }

    #[test]
    fn arbitrary_octets_are_no_reason_to_panic(octets: Vec<u8>) {
        open_arbitrary(&octets);
    }
}

#[test]
fn the_parts_of_a_real_file_are_no_reason_to_panic() {
    let (disk, _) = closed_log();
    for octets in disk.contents().values() {
        (0..octets.len()).step_by(7).for_each(|n| open_arbitrary(&octets[..n]));
        (0..octets.len()).step_by(31).for_each(|n| open_arbitrary(&octets[n..]));
    }
}

// The configuration.

#[test]
fn the_default_configuration_has_no_fault() {
    assert_eq!(Config::default().faults(), []);
    assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
}

#[test]
fn a_stray_key_is_refused() {
    let refused = serde_json::from_str::<Config>(r#"{"segment_byte": 1}"#).unwrap_err();
    assert!(refused.to_string().contains("unknown field `segment_byte`"), "{refused}");
}

#[test]
fn each_value_out_of_range_is_named() {
    let config = Config {
        dir: "".into(),
        segment_bytes: 1,
        max_record_bytes: 17 << 20,
        batch_records: 0,
        batch_bytes: u32::MAX,
        pending_bytes: 1,
        retry: Span::millis(0),
        sync_every: Span::secs(1),
    };
    let faults: BTreeMap<_, _> = config.faults().into_iter().collect();
    let keys = [
        "batch_bytes",
        "batch_records",
        "dir",
        "max_record_bytes",
        "pending_bytes",
        "retry",
        "segment_bytes",
        "sync_every",
    ];
    assert_eq!(faults.keys().collect::<Vec<_>>(), keys);
    assert_eq!(faults["batch_records"], "expected 1 to 1048576, found 0");
}
