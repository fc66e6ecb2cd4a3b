//! The real archive behind the gateway, on files of a real disk: the process may die between any two
//! of the archive's steps, and the machine within any of them.
//!
//! SQLite syncs its log with each commit. So what a power loss leaves of a write is some of its
//! commits, file by file, and of the next one the first octets, with nothing or anything behind them.

use std::collections::BTreeMap;
use std::time::Duration;

use hikyaku::archive;
use hikyaku::archive::Archive;
use hikyaku::archive::Flush;
use hikyaku::archive::Tailer;
use hikyaku::journal::Reader;
use hikyaku::message::Position;
use hikyaku::message::Record;
use hikyaku::seal::Keys;
use hikyaku::time::Span;
use hikyaku::time::Time;
use tempfile::TempDir;

use super::coverage::Coverage;
use super::draw::Draws;
use super::feed::Feed;
use super::story::Broken;
use super::story::Kept;
use super::story::broken;
use super::world::Death;

/// The archive of one world.
pub(super) struct Books {
    dir: TempDir,
    config: archive::Config,
    open: Option<(Tailer, Archive)>,
    /// What is being written while it goes on; a crash forgets it.
    under: Option<Flush>,
    /// Where the mark was before the last flush: a crash may come before it is moved.
    mark_before: Option<Position>,
    doom: Doom,
    /// How long SQLite's logs were before the last flush.
    logs_before: BTreeMap<String, usize>,
    /// How far behind it follows.
    lag: Duration,
    follow_at: Time,
    draws: Draws,
}

/// Whether the machine loses its power within a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doom {
    /// It does not.
    None,
    /// In the next one.
    Next,
    /// In the last one.
    Now,
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books").field("dir", &self.dir.path()).finish_non_exhaustive()
    }
}

fn fresh() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.unwrap()
}

/// The files of a directory.
fn contents(dir: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

fn wrong(error: impl std::fmt::Display) -> Broken {
    Broken { message: None, how: format!("the archive: {error}") }
}

impl Books {
    pub(super) fn new(mut draws: Draws) -> Self {
        let dir = fresh();
        let config = archive::Config {
            dir: dir.path().to_owned(),
            flush_every: Span::secs(draws.pick(&[2, 10, 40])),
            write_live_after: Span::secs(draws.pick(&[0, 5, 60])),
            pending_messages: draws.pick(&[3, 1_000]),
            recent_events: draws.pick(&[5, 1_000]),
            inbound_owners: std::iter::once(("*".to_owned(), "key0".to_owned())).collect(),
            ..archive::Config::default()
        };
        let lag = draws.pick(&[Duration::ZERO, Duration::from_secs(3)]);
        Self {
            dir,
            config,
            open: None,
            under: None,
            mark_before: None,
            doom: Doom::None,
            logs_before: BTreeMap::new(),
            lag,
            follow_at: Time::ZERO,
            draws,
        }
    }

    /// The process starts; the journal ends there.
    pub(super) fn start(&mut self, durable: Position) -> Kept {
        self.under = None;
        self.open = Some(archive::open(&self.config, durable, &Keys::known(0)).map_err(wrong)?);
        self.follow_at = Time::ZERO;
        Ok(())
    }

    /// The process is gone: what was not written is lost, and perhaps the last move of the mark.
    pub(super) fn die(&mut self, death: Death, coverage: &mut Coverage) {
        if self.open.is_none() {
            return;
        }
        if death != Death::Killed {
            return self.lose_power(coverage);
        }
        self.open = None;
        if let Some(before) = self.mark_before.take()
            && self.draws.per_mille(500)
        {
            coverage.count("archive dies before it moves its mark".into());
            let low = i64::try_from(before.0).unwrap();
            let db = rusqlite::Connection::open(self.dir.path().join("archive.db")).unwrap();
            db.execute("UPDATE mark SET low = ?1", [low]).unwrap();
        }
    }

    /// Where messages are read.
    pub(super) fn archive(&self) -> Option<&Archive> {
        self.open.as_ref().map(|(_, archive)| archive)
    }

    /// The next write is torn by a loss of power.
    pub(super) fn doom(&mut self) {
        self.doom = Doom::Next;
    }

    /// Whether that has come.
    pub(super) fn is_torn(&self) -> bool {
        self.doom == Doom::Now
    }

    /// What is on the disk stays: the logs are not taken into the files, as a process does that
    /// closes them.
    fn lose_power(&mut self, coverage: &mut Coverage) {
        coverage.count("archive loses power".into());
        let mut files = contents(self.dir.path());
        files.retain(|name, _| !name.ends_with("-shm"));
        if std::mem::replace(&mut self.doom, Doom::None) == Doom::Now {
            self.tear(&mut files, coverage);
        }
        self.mark_before = None;
        self.open = None;
        self.dir = fresh();
        self.config.dir = self.dir.path().to_owned();
        for (name, octets) in files {
            std::fs::write(self.dir.path().join(name), octets).unwrap();
        }
    }

    /// Takes a part of the last write back: the days are written one after the other, then the mark.
    fn tear(&mut self, files: &mut BTreeMap<String, Vec<u8>>, coverage: &mut Coverage) {
        let before = |name: &str| self.logs_before.get(name).copied().unwrap_or_default();
        let logs = files.iter_mut().filter(|(name, _)| name.ends_with("-wal"));
        // One that is shorter began anew, after it was taken into its file.
        let logs = logs.map(|(name, octets)| (before(name), name, octets));
        let mut logs: Vec<_> = logs.filter(|(before, _, log)| log.len() > *before).collect();
        logs.sort_by_key(|(_, name, _)| (name.starts_with("archive.db"), (*name).clone()));
        let torn = self.draws.index(logs.len() + 1);
        for (place, (before, name, log)) in logs.into_iter().enumerate().skip(torn) {
            let keep = if place > torn { 0 } else { self.draws.index(log.len() - before + 1) };
            if place == torn {
                let is_mark = name.starts_with("archive.db");
                coverage.count_if(is_mark, "archive torn in its mark");
                coverage.count_if(!is_mark, "archive torn in a day");
            }
            let rest = log.len() - before - keep;
            log.truncate(before + keep);
            match self.draws.below(3) {
                0 if place == torn => log.resize(before + keep + rest, 0),
                1 if place == torn => {
                    let draws = &mut self.draws;
                    log.extend((0..rest).map(|_| draws.next().to_le_bytes()[0]));
                }
                _ => {}
            }
        }
    }

    /// Reads what has become durable, and writes what is due.
    pub(super) fn follow(&mut self, now: Time, reader: &Reader, coverage: &mut Coverage) -> Kept {
        let Some((tailer, _)) = &mut self.open else { return Ok(()) };
        if now < self.follow_at {
            return Ok(());
        }
        if self.under.is_some() && (tailer.is_crowded() || self.draws.per_mille(300)) {
            coverage.count("archive writes beside".into());
            return self.write();
        }
        if tailer.applied() == reader.end() && now < tailer.flush_due() {
            return Ok(());
        }
        self.follow_at = now + self.lag;
        let mut follow = reader.follow(tailer.applied());
        if tailer.applied() < reader.first() {
            return broken(None, "the journal forgot what the archive does not have");
        }
        // A few records at a time, so that it is behind now and then.
        for _ in 0..self.draws.between(1, 400) {
            if tailer.is_crowded() {
                break;
            }
            let Some(next) = follow.next_record() else { break };
            let (position, octets) = next.map_err(wrong)?;
            let record = Record::decode(octets).map_err(wrong)?;
            tailer.apply(now, position, follow.at(), record).map_err(wrong)?;
        }
        tailer.publish();
        if self.under.is_none() && tailer.flush_due() <= now {
            self.under = tailer.begin_flush(now).map_err(wrong)?;
            if self.draws.per_mille(700) {
                coverage.count("archive writes".into());
                return self.write();
            }
        }
        Ok(())
    }

    /// Writes what is to be written.
    fn write(&mut self) -> Kept {
        let Some((tailer, archive)) = &mut self.open else { return Ok(()) };
        let Some(flush) = self.under.take() else { return Ok(()) };
        self.mark_before = Some(*archive.passed().borrow());
        if self.doom == Doom::Next {
            let logs = contents(self.dir.path());
            self.logs_before = logs.iter().map(|(name, log)| (name.clone(), log.len())).collect();
            self.doom = Doom::Now;
        }
        tailer.end_flush(flush.write()).map_err(wrong)
    }

    /// The journal forgets what lies below: a mark that stood there before is moved for certain, for
    /// the archive says what it has passed when that is on disk.
    pub(super) fn forget(&mut self, below: Position) {
        self.mark_before = self.mark_before.filter(|before| *before >= below);
    }

    /// Below this the journal may forget.
    pub(super) fn passed(&self) -> Position {
        self.open.as_ref().map_or(Position(0), |(_, archive)| *archive.passed().borrow())
    }

    /// The feed that the archive gives is the one that must be.
    pub(super) fn settle(&mut self, now: Time, reader: &Reader, feed: &Feed) -> Kept {
        let end = reader.end();
        while self.open.as_ref().is_some_and(|(tailer, _)| tailer.applied() < end) {
            self.follow_at = Time::ZERO;
            self.follow(now, reader, &mut Coverage::default())?;
            self.write()?;
            let Some((tailer, _)) = &mut self.open else { return Ok(()) };
            if tailer.is_crowded() {
                tailer.flush(now).map_err(wrong)?;
            }
        }
        self.write()?;
        let Some((tailer, archive)) = &mut self.open else { return Ok(()) };
        // What is read again after a crash is seen once it is written.
        let all = self.draws.per_mille(500);
        let flushed = if all { tailer.flush_all(now) } else { tailer.flush(now) };
        flushed.map_err(wrong)?;
        if tailer.strays() > 0 {
            return broken(None, format!("{} records of unknown messages", tailer.strays()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut wanted = feed.events.iter();
        let mut from = Position(0);
        loop {
            let page = archive.events(archive::Feed::All, from, 100, None);
            let page = runtime.block_on(page).map_err(wrong)?;
            if page.next == from {
                break;
            }
            from = page.next;
            for event in page.events {
                let Some(expected) = wanted.next() else {
                    return broken(None, format!("the feed has one event more: {event:?}"));
                };
                if *event != *expected {
                    let how = format!("the feed has {event:?}, must have {expected:?}");
                    return broken(None, how);
                }
            }
        }
        if let Some(missing) = wanted.next() {
            return broken(None, format!("the feed lacks {missing:?}"));
        }
        for (id, expected) in feed.messages() {
            let found = runtime.block_on(archive.message(*id, None)).map_err(wrong)?;
            if found.as_ref() != Some(expected) {
                return broken(None, format!("the archive has {found:?}, must have {expected:?}"));
            }
        }
        Ok(())
    }
}
