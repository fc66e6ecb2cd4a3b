//! The journal's two threads: one makes batches durable, one reads bodies back and trims.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::dispatch::Event;
use crate::gateway::behind::End;
use crate::gateway::pump::Chore;
use crate::gateway::pump::Store;
use crate::journal;
use crate::journal::Batch;
use crate::journal::Reader;
use crate::journal::Trimmer;
use crate::journal::Writer;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::Record;
use crate::message::Submission;
use crate::ops::Metrics;
use crate::seal::Keys;

/// How often the housekeeper looks whether the archive has passed what may go.
const LOOK: Duration = Duration::from_secs(1);

/// After so many looks, or so many chores times [`CHORES_A_LOOK`], it looks for keys that have
/// served their time.
const LOOKS_FOR_KEYS: u32 = 60;

const CHORES_A_LOOK: u32 = 64;

/// Starts the thread that makes batches durable; it ends with the last sender of batches, and tells
/// `end` when it does.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn write(
    writer: Writer,
    batches: Receiver<Batch>,
    store: watch::Sender<Store>,
    durable: watch::Sender<Position>,
    metrics: Arc<Metrics>,
    end: End,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("journal".into()).spawn(move || {
        let _end = end;
        let writer = journal::run(writer, &batches, |outcome| match outcome {
            Ok(end) => {
                metrics.synced();
                // Readers first: who hears of an accepted message may ask for it at once.
                durable.send_replace(end);
                store.send_modify(|store| *store = Store { end, failed: false });
            }
            Err(failure) => {
                if !store.borrow().failed {
                    tracing::error!(%failure, "the journal cannot write: nothing is accepted");
                }
                store.send_modify(|store| store.failed = true);
            }
        });
        if let Some(failure) = writer.failure() {
            tracing::error!(%failure, "the journal stopped with records that are not durable");
        }
    })
}

/// What the housekeeper works with.
pub(super) struct Keeper {
    pub(super) reader: Reader,
    pub(super) trimmer: Trimmer,
    /// Below this the archive needs nothing.
    pub(super) passed: watch::Receiver<Position>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) keys: Keys,
}

/// Starts the thread that reads bodies back and drops old files; it ends with the last sender of
/// chores, and tells `end` when it does.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn keep(
    keeper: Keeper,
    chores: Receiver<Chore>,
    end: End,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("housekeeper".into()).spawn(move || {
        let _end = end;
        let mut wanted = Position::default();
        let mut first = keeper.reader.first();
        let mut since_keys = u32::MAX;
        loop {
            let chore = chores.recv_timeout(LOOK);
            let step = if chore.is_err() { CHORES_A_LOOK } else { 1 };
            since_keys = since_keys.saturating_add(step);
            if since_keys >= LOOKS_FOR_KEYS * CHORES_A_LOOK {
                since_keys = 0;
                keeper.age();
            }
            match chore {
                Ok(Chore::Fetch { id, position }) => {
                    let submission = keeper.fetch(id, position);
                    if keeper.events.blocking_send(Event::Fetched { id, submission }).is_err() {
                        return;
                    }
                }
                Ok(Chore::Trim { before }) => wanted = wanted.max(before),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let below = wanted.min(*keeper.passed.borrow());
            if below > first {
                first = keeper.trim(below).unwrap_or(first);
            }
        }
    })
}

impl Keeper {
    fn fetch(&self, id: MessageId, position: Position) -> Option<Box<Submission>> {
        let octets = match self.reader.read(position) {
            Ok(octets) => octets,
            Err(error) => {
                tracing::error!(%id, %error, "a body cannot be read back");
                return None;
            }
        };
        match Record::decode(&octets) {
            Ok(Record::Accepted(submission)) => Some(Box::new(Arc::unwrap_or_clone(submission))),
            Ok(Record::Carried(carried) | Record::CarriedFinished { carried, .. }) => {
                Some(Box::new(carried.submission))
            }
            Ok(_) => {
                tracing::error!(%id, at = position.0, "no body at its position");
                None
            }
            Err(error) => {
                tracing::error!(%id, %error, "a body cannot be read back");
                None
            }
        }
    }

    /// Erases the keys that have served their time, once the journal needs them no more: until then
    /// it has what is still live written again under a younger one.
    fn age(&self) {
        let due = self.keys.due();
        match self.trimmer.sealed_since(due) {
            Ok(before) if self.reader.first() < before => {
                // A full queue is tried again with the next look.
                let _told = self.events.try_send(Event::Renew { before });
            }
            Ok(_) if self.keys.has_below(due) => match self.keys.erase_below(due) {
                Ok(days) => tracing::info!(count = days.len(), before = %due, "erased keys"),
                Err(error) => tracing::error!(%error, "old keys stay"),
            },
            Ok(_) => {}
            Err(failure) => tracing::warn!(%failure, "old keys stay"),
        }
    }

    /// Drops what is below; `None` when the disk refused, to be tried again.
    fn trim(&self, below: Position) -> Option<Position> {
        match self.trimmer.trim(below) {
            // Whole files only: until the next one is below, there is nothing more to drop.
            Ok(_) => Some(below),
            Err(failure) => {
                tracing::warn!(%failure, "old journal files stay");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::sim::SimDisk;
    use crate::seal::Day;

    #[test]
    fn a_key_goes_once_the_journal_needs_it_no_more() {
        let keys = Keys::known(1);
        let today = keys.today();
        let config = journal::Config::default();
        let mut journal = journal::open(SimDisk::new(1), &config, &keys).unwrap();
        journal.appender.push(b"a record").unwrap();
        journal.writer.write(journal.appender.take_batch().unwrap()).unwrap();
        let (events, mut told) = mpsc::channel(4);
        let (_archive, passed) = watch::channel(Position(0));
        let keeper = Keeper {
            reader: journal.reader.clone(),
            trimmer: journal.trimmer.clone(),
            passed,
            events,
            keys: keys.clone(),
        };
        keeper.age();
        assert!(told.try_recv().is_err(), "the key is young");
        keys.set_today(Day(today.0 + 31));
        keeper.age();
        let Ok(Event::Renew { before }) = told.try_recv() else { panic!("nobody was told") };
        assert_eq!(before, journal.reader.end());
        assert!(keys.find(today).is_some(), "the journal needs it still");
        keeper.trim(before);
        keeper.age();
        assert!(keys.find(today).is_none());
        assert!(told.try_recv().is_err(), "nothing is left to be written again");
        let at = journal.appender.push(b"another").unwrap();
        journal.writer.write(journal.appender.take_batch().unwrap()).unwrap();
        assert_eq!(journal.reader.read(at).unwrap(), b"another");
    }
}
