//! The real archive behind the gateway, on files of a real disk that keeps what it is told: what
//! crashes here is the process, between any two of the archive's steps.

use std::time::Duration;

use hikyaku::archive;
use hikyaku::archive::Archive;
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

/// The archive of one world.
pub(super) struct Books {
    dir: TempDir,
    config: archive::Config,
    open: Option<(Tailer, Archive)>,
    /// Where the mark was before the last flush: a crash may come before it is moved.
    mark_before: Option<Position>,
    /// How far behind it follows.
    lag: Duration,
    follow_at: Time,
    draws: Draws,
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books").field("dir", &self.dir.path()).finish_non_exhaustive()
    }
}

fn wrong(error: impl std::fmt::Display) -> Broken {
    Broken { message: None, how: format!("the archive: {error}") }
}

impl Books {
    pub(super) fn new(mut draws: Draws) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let dir = dir.unwrap();
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
        Self { dir, config, open: None, mark_before: None, lag, follow_at: Time::ZERO, draws }
    }

    /// The process starts; the journal ends there.
    pub(super) fn start(&mut self, durable: Position) -> Kept {
        self.open = Some(archive::open(&self.config, durable, &Keys::known(0)).map_err(wrong)?);
        self.follow_at = Time::ZERO;
        Ok(())
    }

    /// The process is gone: what was not written is lost, and perhaps the last move of the mark.
    pub(super) fn die(&mut self, coverage: &mut Coverage) {
        if self.open.take().is_none() {
            return;
        }
        if let Some(before) = self.mark_before.take()
            && self.draws.per_mille(500)
        {
            coverage.count("archive dies before it moves its mark".into());
            let low = i64::try_from(before.0).unwrap();
            let db = rusqlite::Connection::open(self.dir.path().join("archive.db")).unwrap();
            db.execute("UPDATE mark SET low = ?1", [low]).unwrap();
        }
    }

    /// Reads what has become durable, and writes what is due.
    pub(super) fn follow(&mut self, now: Time, reader: &Reader, coverage: &mut Coverage) -> Kept {
        let Some((tailer, archive)) = &mut self.open else { return Ok(()) };
        if now < self.follow_at {
            return Ok(());
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
        if tailer.flush_due() <= now {
            self.mark_before = Some(*archive.passed().borrow());
            tailer.flush(now).map_err(wrong)?;
            coverage.count("archive writes".into());
        }
        Ok(())
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
            let Some((tailer, _)) = &mut self.open else { return Ok(()) };
            if tailer.is_crowded() {
                tailer.flush(now).map_err(wrong)?;
            }
        }
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
        match wanted.next() {
            Some(missing) => broken(None, format!("the feed lacks {missing:?}")),
            None => Ok(()),
        }
    }
}
