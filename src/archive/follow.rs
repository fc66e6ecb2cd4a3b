//! The tailer's loop: from the journal's durable end to the day files, for as long as we run.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::archive::Flush;
use crate::archive::Flushed;
use crate::archive::StoreError;
use crate::archive::Tailer;
use crate::clock::Clock;
use crate::journal::Follow;
use crate::journal::ReadError;
use crate::journal::Reader;
use crate::message::Position;
use crate::message::Record;
use crate::time::Time;

/// What [`run`] needs besides the tailer.
#[derive(Debug)]
pub struct Follower {
    /// Reads the journal.
    pub reader: Reader,
    /// Rises with the journal's durable end.
    pub durable: watch::Receiver<Position>,
    /// Tells the time.
    pub clock: Clock,
    /// Ends the loop.
    pub stop: CancellationToken,
    /// For how long it still catches up then; what is left the next start reads from the journal.
    pub patience: Duration,
}

/// Follows the journal until `stop`, then catches up for a while and writes what it has. It waits
/// for the disk, so it takes a thread of its own; `hand` has another, and `runtime` is for timers.
///
/// When a file cannot be read or written it says so in the log and tries again: the archive falls
/// behind and the journal keeps the records meanwhile. When the thread of `hand` has failed it
/// returns, since what that had is to be read again.
pub fn run(mut tailer: Tailer, mut follower: Follower, mut hand: Hand, runtime: &Handle) {
    let _inside = runtime.enter();
    let (mut follow, mut until) = (None, None);
    loop {
        let stopping = follower.stop.is_cancelled();
        let now = follower.clock.now();
        if stopping && until.is_none() {
            until = Some(now + follower.patience);
        }
        let is_last = until.is_some_and(|until| until <= now);
        let done = step(&mut tailer, &follower, &mut follow, &mut hand, (stopping, is_last));
        match done {
            Ok(Caught::Behind) if is_last => {
                tracing::info!(
                    at = tailer.applied().0,
                    "the archive goes on here at the next start"
                );
                return;
            }
            Ok(Caught::Behind) => {}
            Ok(Caught::Up) if stopping => return,
            Ok(Caught::Up) => runtime.block_on(follower.wait(&tailer, &mut hand)),
            Err(StepError::Store(StoreError::Closed)) => {
                tracing::error!("the thread that writes the archive has failed");
                return;
            }
            Err(error) => {
                tracing::error!(%error, at = tailer.applied().0, "the archive stands still");
                if stopping {
                    return;
                }
                follow = None;
                runtime.block_on(follower.pause());
            }
        }
    }
}

/// A thread that writes while the tailer goes on applying, so that nobody who waits for an event
/// waits for the disk.
#[derive(Debug)]
pub struct Hand {
    given: mpsc::Sender<Flush>,
    done: mpsc::Receiver<Flushed>,
    /// What was done while nobody looked.
    ready: Option<Flushed>,
    is_busy: bool,
}

impl Hand {
    /// Starts the thread, which ends with this.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start() -> io::Result<Self> {
        let (given, mut takes) = mpsc::channel::<Flush>(1);
        let (gives, done) = mpsc::channel(1);
        thread::Builder::new().name("archive-write".into()).spawn(move || {
            while let Some(flush) = takes.blocking_recv() {
                if gives.blocking_send(flush.write()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { given, done, ready: None, is_busy: false })
    }

    /// Gives it what is to be written, if there is anything.
    fn give(&mut self, tailer: &mut Tailer, now: Time) -> Result<(), StoreError> {
        if let Some(flush) = tailer.begin_flush(now)? {
            self.is_busy = true;
            self.given.try_send(flush).map_err(|_| StoreError::Closed)?;
        }
        Ok(())
    }

    /// Takes back what was written, if it was; fails once the thread has.
    fn take(&mut self, tailer: &mut Tailer) -> Result<(), StoreError> {
        let flushed = match self.ready.take() {
            Some(flushed) => flushed,
            None => match self.done.try_recv() {
                Ok(flushed) => flushed,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(StoreError::Closed),
            },
        };
        self.is_busy = false;
        tailer.end_flush(flushed)
    }

    /// Waits for what is being written, and takes it back.
    fn wait(&mut self, tailer: &mut Tailer) -> Result<(), StoreError> {
        if self.is_busy && self.ready.is_none() {
            self.ready = Some(self.done.blocking_recv().ok_or(StoreError::Closed)?);
        }
        self.take(tailer)
    }

    /// Waits until something was written, or never will be; for ever if nothing is being.
    async fn written(&mut self) {
        if let Some(flushed) = self.done.recv().await {
            self.ready = Some(flushed);
        }
    }
}

/// Whether more is durable than was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caught {
    Up,
    Behind,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Applies some records and writes what is due; all of it when that ends a loop that is to stop.
fn step(
    tailer: &mut Tailer,
    follower: &Follower,
    follow: &mut Option<Follow>,
    hand: &mut Hand,
    (stopping, is_last): (bool, bool),
) -> Result<Caught, StepError> {
    let follow = match follow {
        Some(follow) => follow,
        None => follow.insert(begin(tailer, &follower.reader)),
    };
    let applied = apply_some(tailer, follower, follow);
    tailer.publish();
    let caught = applied?;
    let now = follower.clock.now();
    if stopping && (is_last || caught == Caught::Up) {
        hand.wait(tailer)?;
        tailer.flush_all(now)?;
        return Ok(caught);
    }
    hand.take(tailer)?;
    if tailer.is_crowded() {
        // Nothing more is applied before there is room.
        hand.wait(tailer)?;
    }
    if now >= tailer.flush_due() {
        hand.give(tailer, now)?;
    }
    Ok(caught)
}

fn begin(tailer: &mut Tailer, reader: &Reader) -> Follow {
    let (from, first) = (tailer.applied(), reader.first());
    if from < first {
        tracing::warn!(from = from.0, first = first.0, "the journal begins behind the archive");
        tailer.skip_to(first);
    }
    reader.follow(tailer.applied())
}

fn apply_some(
    tailer: &mut Tailer,
    follower: &Follower,
    follow: &mut Follow,
) -> Result<Caught, StepError> {
    let now = follower.clock.now();
    for _ in 0..RECORDS_A_STEP {
        // While files cannot be written, what waits must not grow.
        if tailer.is_crowded() {
            break;
        }
        let Some(next) = follow.next_record() else { return Ok(Caught::Up) };
        let (position, octets) = next?;
        let record = Record::decode(octets);
        let next = follow.at();
        match record {
            Ok(record) => tailer.apply(now, position, next, record)?,
            // The dispatcher reads every record at the start, so this is a bug or a bad disk; the
            // messages of other records must not suffer from it.
            Err(error) => {
                tracing::error!(%error, at = position.0, "a record is left out of the archive");
                tailer.skip_to(next);
            }
        }
    }
    Ok(Caught::Behind)
}

/// So many records are applied before readers see them and the time is looked at.
const RECORDS_A_STEP: usize = 1_024;

impl Follower {
    /// Waits until there is something to do.
    async fn wait(&mut self, tailer: &Tailer, hand: &mut Hand) {
        let is_due = tailer.has_pending() && !hand.is_busy;
        let due = is_due.then(|| self.clock.instant(tailer.flush_due()));
        tokio::select! {
            () = hand.written() => {}
            changed = self.durable.changed() => {
                if changed.is_err() {
                    // The journal's writer is gone, so nothing more becomes durable.
                    self.idle(due).await;
                }
            }
            () = self.stop.cancelled() => {}
            () = sleep_until(due) => {}
        }
    }

    async fn idle(&self, due: Option<tokio::time::Instant>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep_until(due) => {}
        }
    }

    async fn pause(&self) {
        let _elapsed = tokio::time::timeout(RETRY, self.stop.cancelled()).await;
    }
}

/// How long to wait after a file could not be read or written.
const RETRY: Duration = Duration::from_secs(1);

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Config;
    use crate::seal::Keys;

    #[tokio::test]
    async fn a_hand_whose_thread_has_failed_says_so_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { dir: dir.path().into(), ..Config::default() };
        let (mut tailer, _archive) =
            crate::archive::open(&config, Position(0), &Keys::known(1)).unwrap();
        let (given, done) = (mpsc::channel(1).0, mpsc::channel(1).1);
        let mut hand = Hand { given, done, ready: None, is_busy: true };
        hand.written().await;
        assert!(matches!(hand.take(&mut tailer), Err(StoreError::Closed)));
    }
}
