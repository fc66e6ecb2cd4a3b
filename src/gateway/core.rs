//! What is opened and read before anything runs: the journal, the archive, the dispatcher.

use std::io;

use crate::archive;
use crate::archive::Archive;
use crate::clock::Clock;
use crate::config::Config;
use crate::dispatch::Dispatch;
use crate::gateway::StartError;
use crate::gateway::behind::BehindParts;
use crate::gateway::faults_told;
use crate::journal;
use crate::journal::Appender;
use crate::journal::Opened;
use crate::journal::Reader;
use crate::journal::disk::Files;
use crate::message::Record;
use crate::route::Routes;
use crate::seal::Keys;
use crate::time::Time;

/// What was opened and read before anything runs.
pub(super) struct Core {
    pub(super) dispatch: Dispatch,
    pub(super) routes: Routes,
    pub(super) clock: Clock,
    pub(super) appender: Appender,
    pub(super) reader: Reader,
    pub(super) archive: Archive,
    pub(super) behind: BehindParts,
    pub(super) keys: Keys,
}

impl Core {
    /// How many messages each key has handed in today.
    pub(super) fn used_today(&self) -> Vec<(String, u64)> {
        let used = self.dispatch.used_today(self.clock.now());
        used.map(|(key, count)| (key.to_owned(), count)).collect()
    }

    /// Opens the journal and takes up what it holds.
    pub(super) fn open(config: &Config) -> Result<Self, StartError> {
        let routes = config.routes().map_err(|faults| StartError::Routes(faults_told(&faults)))?;
        let keys = Keys::open(&config.seal)?;
        let opened = journal::open(Files::new(&config.journal.dir), &config.journal, &keys)?;
        if let Some(torn) = &opened.torn {
            tracing::info!(?torn, "cut octets off the journal's end that a crash left");
        }
        let mut dispatch = Dispatch::new(config.dispatch.clone(), routes.clone(), seed()?);
        let clock = replay(&mut dispatch, &opened.reader)?;
        let (tailer, archive) = archive::open(&config.archive, opened.end, &keys)?;
        let Opened { appender, writer, reader, trimmer, end, .. } = opened;
        let behind = BehindParts {
            writer,
            reader: reader.clone(),
            trimmer,
            tailer,
            archive: archive.clone(),
            clock,
            end,
            keys: keys.clone(),
        };
        Ok(Self { dispatch, routes, clock, appender, reader, archive, behind, keys })
    }
}

/// Tells the dispatcher every record of the journal; the clock begins no earlier than the last.
fn replay(dispatch: &mut Dispatch, reader: &Reader) -> Result<Clock, StartError> {
    let stopwatch = Clock::start();
    let started = stopwatch.now();
    let mut last = Time::ZERO;
    let mut records = 0_u64;
    let mut follow = reader.follow(reader.first());
    while let Some(next) = follow.next_record() {
        let (position, octets) = next?;
        let record = Record::decode(octets)
            .map_err(|source| StartError::Record { position: position.0, source })?;
        last = last.max(record.at());
        dispatch.replay(position, &record);
        records += 1;
    }
    let clock = Clock::start_after(last);
    dispatch.replayed(clock.now());
    let took = stopwatch.now().since(started);
    tracing::info!(records, ?took, "read the journal");
    Ok(clock)
}

/// A number that nobody can guess.
pub(super) fn seed() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(error.to_string()))
}
