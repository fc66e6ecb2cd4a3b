//! What stands behind the dispatcher: the journal's threads, the archive's, and the webhooks.

use std::io;
use std::sync::Arc;
use std::sync::mpsc as threads;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::archive;
use crate::archive::Archive;
use crate::archive::Follower;
use crate::archive::Hand;
use crate::archive::Tailer;
use crate::clock::Clock;
use crate::dispatch::Event;
use crate::gateway::pump::Chore;
use crate::gateway::pump::Store;
use crate::gateway::store;
use crate::gateway::store::Keeper;
use crate::journal::Batch;
use crate::journal::Reader;
use crate::journal::Trimmer;
use crate::journal::Writer;
use crate::message::Position;
use crate::notify::Runner;
use crate::ops::Metrics;
use crate::seal::Keys;

/// How many chores wait for the journal's housekeeper.
const CHORES: usize = 65_536;

/// How long the archive may still catch up with the journal at the end.
const CATCHING_UP: Duration = Duration::from_secs(10);

/// How long all of it may take to write what is left.
const CLOSING: Duration = Duration::from_secs(30);

/// What stands behind the dispatcher and ends after it.
pub(super) struct Behind {
    stop: CancellationToken,
    tasks: TaskTracker,
    threads: Vec<JoinHandle<()>>,
    /// Which of the threads has ended first.
    ended: watch::Receiver<Option<&'static str>>,
}

/// Tells that a thread ends, in whatever way, when it is dropped there.
pub(super) struct End {
    thread: &'static str,
    told: watch::Sender<Option<&'static str>>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.told.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(self.thread);
            is_first
        });
    }
}

/// The parts that [`Behind::start`] takes over.
pub(super) struct BehindParts {
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) trimmer: Trimmer,
    pub(super) tailer: Tailer,
    pub(super) archive: Archive,
    pub(super) clock: Clock,
    pub(super) end: Position,
    pub(super) keys: Keys,
}

/// The dispatcher's side of what stands behind it.
pub(super) struct Lines {
    pub(super) batches: threads::Sender<Batch>,
    pub(super) chores: threads::SyncSender<Chore>,
    pub(super) store: watch::Receiver<Store>,
    pub(super) durable: watch::Receiver<Position>,
}

impl Behind {
    /// Starts the threads behind the dispatcher.
    pub(super) fn start(
        parts: BehindParts,
        events: &mpsc::Sender<Event>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<(Self, Lines)> {
        let BehindParts { writer, reader, trimmer, tailer, archive, clock, end, keys } = parts;
        let (batches, journal_batches) = threads::channel();
        let (chores, keeper_chores) = threads::sync_channel(CHORES);
        let (store_told, store) = watch::channel(Store { end, failed: false });
        let (durable_told, durable) = watch::channel(end);
        let stop = CancellationToken::new();
        let keeper = Keeper {
            reader: reader.clone(),
            trimmer,
            passed: archive.passed(),
            events: events.clone(),
            keys,
        };
        let durable_too = durable.clone();
        let follower = Follower {
            reader,
            durable: durable_too,
            clock,
            stop: stop.clone(),
            patience: CATCHING_UP,
        };
        let (told, ended) = watch::channel(None);
        let end = |thread| End { thread, told: told.clone() };
        let metrics = Arc::clone(metrics);
        let threads = vec![
            store::write(
                writer,
                journal_batches,
                store_told,
                durable_told,
                metrics,
                end("journal"),
            )?,
            store::keep(keeper, keeper_chores, end("housekeeper"))?,
            follow(tailer, follower, end("archive"))?,
        ];
        let behind = Self { stop, tasks: TaskTracker::new(), threads, ended };
        Ok((behind, Lines { batches, chores, store, durable }))
    }

    /// Lets webhooks be sent.
    pub(super) fn send(&self, runner: Runner) {
        let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
        self.tasks.spawn(async move { runner.run(&tasks, stop).await });
    }

    /// Waits until a thread has ended that should not have: nobody would write, or be told, what
    /// goes on without it. What is left the next start reads from the journal.
    pub(super) async fn failed(&mut self) -> String {
        match self.ended.wait_for(Option::is_some).await.map(|first| *first) {
            Ok(thread) => format!("the thread {} has failed", thread.unwrap_or_default()),
            Err(_) => "the threads have failed".to_owned(),
        }
    }

    /// Ends the dispatcher, then what stands behind it, each once it has nothing left to do.
    pub(super) async fn end(self, pump: impl Future<Output = ()>) {
        let Self { stop, tasks, threads, ended: _ } = self;
        let all = async {
            // Its end closes the journal's queue, so the journal's thread ends behind it.
            pump.await;
            stop.cancel();
            tasks.close();
            tasks.wait().await;
            let joined = tokio::task::spawn_blocking(move || {
                threads.into_iter().filter(|thread| !thread.is_finished()).for_each(|thread| {
                    if thread.join().is_err() {
                        tracing::error!("a thread has failed");
                    }
                });
            });
            if joined.await.is_err() {
                tracing::error!("a thread has failed");
            }
        };
        if timeout(CLOSING, all).await.is_err() {
            tracing::warn!("stopped before everything was written; the next start reads it again");
        }
    }
}

/// Starts the archive's thread, which tells `end` when it ends.
fn follow(tailer: Tailer, follower: Follower, end: End) -> io::Result<JoinHandle<()>> {
    let (runtime, hand) = (Handle::current(), Hand::start()?);
    thread::Builder::new().name("archive".into()).spawn(move || {
        let _end = end;
        archive::run(tailer, follower, hand, &runtime);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_thread_that_ends_is_named() {
        let (told, ended) = watch::channel(None);
        let mut threads = Vec::new();
        for name in ["archive", "journal"] {
            let end = End { thread: name, told: told.clone() };
            let thread = thread::Builder::new().name(name.into());
            let thread = thread.spawn(move || {
                let _end = end;
                panic!("a planned bug");
            });
            while !thread.as_ref().unwrap().is_finished() {
                thread::yield_now();
            }
            threads.push(thread.unwrap());
        }
        let stop = CancellationToken::new();
        let mut behind = Behind { stop, tasks: TaskTracker::new(), threads, ended };
        assert_eq!(behind.failed().await, "the thread archive has failed");
    }
}
