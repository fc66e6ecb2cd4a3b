//! The half of the journal that waits for the disk: batches into the log, old files out of it.
#![expect(
    clippy::disallowed_methods,
    reason = "the thread that waits for the disk reads the clock"
)]

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;
use std::time::Instant;

use crate::journal::Batch;
use crate::journal::Config;
use crate::journal::Failure;
use crate::journal::Log;
use crate::journal::Position;
use crate::journal::pace::Pace;
use crate::seal::Day;

/// Makes batches durable; the writer's thread owns it.
///
/// After a [`Failure`] it keeps every batch that is not durable and refuses to write until
/// [`Writer::reopen`] succeeds.
pub struct Writer {
    log: Arc<dyn Log>,
    /// What is not durable, oldest first.
    pending: VecDeque<Batch>,
    failure: Option<Failure>,
    max_records: usize,
    max_octets: usize,
    retry: Duration,
    pace: Pace,
}

impl Writer {
    pub(super) fn new(log: Arc<dyn Log>, config: &Config) -> Self {
        Self {
            log,
            pending: VecDeque::new(),
            failure: None,
            max_records: config.batch_records as usize,
            max_octets: config.batch_bytes as usize,
            retry: config.retry.0,
            pace: Pace::new(config.sync_every.0),
        }
    }

    /// Makes `batch` durable and returns the durable end.
    ///
    /// # Errors
    /// Nothing more is durable than before. The batch is kept; it must not be given again.
    pub fn write(&mut self, batch: Batch) -> Result<Position, Failure> {
        self.queue(batch);
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => self.flush(),
        }
    }

    /// Tries once more to make durable what is kept, in a fresh file, and returns the durable end.
    ///
    /// # Errors
    /// The disk still refuses; everything is kept.
    pub fn reopen(&mut self) -> Result<Position, Failure> {
        self.flush()
    }

    /// Why nothing is written, if so.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Keeps `batch` until the next flush; small neighbours become one group.
    fn queue(&mut self, batch: Batch) {
        match self.pending.back_mut() {
            Some(last)
                if last.records() + batch.records() <= self.max_records
                    && last.length() + batch.length() <= self.max_octets =>
            {
                last.absorb(&batch);
            }
            _ => self.pending.push_back(batch),
        }
    }

    fn flush(&mut self) -> Result<Position, Failure> {
        while !self.pending.is_empty() {
            self.flush_group()?;
        }
        Ok(self.log.end())
    }

    /// Makes the oldest group durable.
    fn flush_group(&mut self) -> Result<Position, Failure> {
        if let Some(group) = self.pending.front() {
            if let Err(failure) = self.log.append(group) {
                self.failure = Some(failure.clone());
                return Err(failure);
            }
            self.pending.pop_front();
            self.failure = None;
        }
        Ok(self.log.end())
    }

    /// Queues what waits in `batches`, up to one full group; false once nothing more can come.
    fn gather(&mut self, batches: &Receiver<Batch>) -> bool {
        // While the disk refuses, all of it: only an empty channel tells that it is closed.
        while self.failure.is_some() || !self.is_full() {
            match batches.try_recv() {
                Ok(batch) => self.queue(batch),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    /// How long what waits is to wait for more, `now` after the writer's thread began.
    fn patience(&self, now: Duration) -> Duration {
        match self.pending.front() {
            Some(group) if !self.is_full() && self.failure.is_none() => {
                self.pace.wait(now, group.records())
            }
            _ => Duration::ZERO,
        }
    }

    /// Whether the next flush would be as large as one may be.
    fn is_full(&self) -> bool {
        self.pending.front().is_some_and(|group| {
            group.records() >= self.max_records || group.length() >= self.max_octets
        }) || self.pending.len() > 1
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("failure", &self.failure).finish_non_exhaustive()
    }
}

/// Writes what comes through `batches` until the last sender is gone, then returns the writer.
///
/// Everything that waits goes into one write and one sync, within the configured limits. While much
/// comes, a sync waits until [`Config::sync_every`] after the last one; while little does, for
/// nothing. `on_durable` hears the durable end after each sync, or why there was none; in that
/// case the same is tried again after [`Config::retry`], and what comes meanwhile waits. The
/// channel needs no limit of its own: the [`Appender`](super::Appender) refuses records when too
/// many octets are not durable. A writer that still has a [`Writer::failure`] at the end has lost
/// what it kept, none of which was ever reported durable.
pub fn run(
    mut writer: Writer,
    batches: &Receiver<Batch>,
    mut on_durable: impl FnMut(Result<Position, Failure>),
) -> Writer {
    let began = Instant::now();
    let mut open = true;
    while open || !writer.pending.is_empty() {
        if writer.pending.is_empty() {
            let Ok(batch) = batches.recv() else { break };
            writer.queue(batch);
        }
        open = writer.gather(batches);
        let patience = writer.patience(began.elapsed());
        if open && !patience.is_zero() {
            std::thread::sleep(patience);
            open = writer.gather(batches);
        }
        let records = writer.pending.front().map_or(0, Batch::records);
        writer.pace.write(began.elapsed(), records);
        let outcome = writer.flush_group();
        let failed = outcome.is_err();
        on_durable(outcome);
        if failed && !open {
            break;
        }
        if failed {
            std::thread::sleep(writer.retry);
        }
    }
    writer
}

/// Drops old records; the thread that may wait for the disk owns it.
#[derive(Clone)]
pub struct Trimmer {
    log: Arc<dyn Log>,
}

impl Trimmer {
    pub(super) fn new(log: Arc<dyn Log>) -> Self {
        Self { log }
    }

    /// The position from which on every record is sealed under the key of `day` or a later one; a
    /// new file is begun when the newest is older.
    ///
    /// # Errors
    /// The disk refused; the log is as good as before.
    pub fn sealed_since(&self, day: Day) -> Result<Position, Failure> {
        self.log.sealed_since(day)
    }

    /// The oldest day whose key is needed to read the log.
    pub fn oldest_day(&self) -> Option<Day> {
        self.log.oldest_day()
    }

    /// Removes the files whose records all lie below `below`, never the newest one, and returns
    /// the oldest position that is still there.
    ///
    /// # Errors
    /// The disk refused; what was removed before that stays removed.
    pub fn trim(&self, below: Position) -> Result<Position, Failure> {
        self.log.trim(below)
    }
}

impl fmt::Debug for Trimmer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trimmer").field("first", &self.log.first()).finish()
    }
}
