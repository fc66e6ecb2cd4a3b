//! What tailer and readers share: messages not yet written, the latest events, how far all is.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use dashmap::DashMap;
use hashbrown::DefaultHashBuilder;
use tokio::sync::watch;

use crate::archive::Event;
use crate::archive::Message;
use crate::archive::blob;
use crate::message::MessageId;
use crate::message::Position;

/// A message in memory.
#[derive(Debug)]
pub(super) enum Live {
    /// It has changed since its row was written, or has none.
    Dirty {
        message: Box<Message>,
        /// Whether a row of it exists, of whatever age.
        stored: bool,
    },
    /// It is as its row has it.
    Clean(Packed),
}

impl Live {
    /// The message; none never happens, since what was packed can be unpacked.
    pub(super) fn message(&self) -> Option<Message> {
        match self {
            Self::Dirty { message, .. } => Some(Message::clone(message)),
            Self::Clean(packed) => packed.message(),
        }
    }
}

/// A message as octets, for those that are kept only to be found quickly: they take far less so.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    pub(super) fn of(message: &Message) -> Self {
        let mut octets = Vec::with_capacity(512);
        blob::push(message, &mut octets);
        Self(octets.into())
    }

    pub(super) fn message(&self) -> Option<Message> {
        blob::take(&mut &*self.0).ok()
    }
}

/// What tailer and readers share.
#[derive(Debug)]
pub(super) struct Memory {
    /// Messages that changed lately.
    pub(super) live: DashMap<MessageId, Live, DefaultHashBuilder>,
    recent: Mutex<Recent>,
    waiters: Mutex<HashMap<MessageId, watch::Sender<()>>>,
    most_waiters: usize,
    applied: watch::Sender<Position>,
    passed: watch::Sender<Position>,
}

/// The latest events.
#[derive(Debug)]
struct Recent {
    /// Every event from here to the applied end is in `events`.
    start: Position,
    /// Every event below is on disk.
    flushed: Position,
    events: VecDeque<Arc<Event>>,
    most: usize,
}

/// Where to read events from.
#[derive(Debug)]
pub(super) enum FeedPart {
    /// From memory: these, and the feed is known up to `next`.
    Memory { events: Vec<Arc<Event>>, next: Position },
    /// From the files, below `until`.
    Files { until: Position },
}

impl Memory {
    /// Nothing in it: the files hold what is below `low`, and may hold some of what is below
    /// `end`.
    pub(super) fn new(
        low: Position,
        end: Position,
        most_events: usize,
        most_waiters: usize,
    ) -> Self {
        let recent =
            Recent { start: end, flushed: low, events: VecDeque::new(), most: most_events };
        Self {
            live: DashMap::default(),
            recent: Mutex::new(recent),
            waiters: Mutex::new(HashMap::new()),
            most_waiters,
            applied: watch::Sender::new(low),
            passed: watch::Sender::new(low),
        }
    }

    /// How far the records are applied: every one that begins below is.
    pub(super) fn applied(&self) -> watch::Receiver<Position> {
        self.applied.subscribe()
    }

    /// How far the records are on disk: every one that begins below is.
    pub(super) fn passed(&self) -> watch::Receiver<Position> {
        self.passed.subscribe()
    }

    pub(super) fn publish_applied(&self, end: Position) {
        self.applied.send_if_modified(|applied| std::mem::replace(applied, end) != end);
    }

    pub(super) fn publish_passed(&self, low: Position) {
        self.passed.send_if_modified(|passed| std::mem::replace(passed, low) != low);
    }

    /// Adds an event to the latest ones, unless it is older than they are.
    pub(super) fn remember(&self, event: &Arc<Event>) {
        let mut recent = locked(&self.recent);
        if event.position >= recent.start {
            recent.events.push_back(Arc::clone(event));
        }
    }

    /// Takes note that every event below `end` is on disk, and forgets the oldest.
    pub(super) fn flushed(&self, end: Position) {
        let mut recent = locked(&self.recent);
        recent.flushed = end;
        while recent.events.len() > recent.most
            && recent.events.front().is_some_and(|event| event.position < end)
        {
            if let Some(event) = recent.events.pop_front() {
                recent.start = event.cursor();
            }
        }
        let visible_now = end <= recent.start;
        drop(recent);
        if visible_now {
            // Nothing more was applied, but events that were read again can be read now.
            self.applied.send_modify(|_| {});
        }
    }

    /// The first `limit` events from `from` on that `wanted` lets through, or where they are.
    pub(super) fn events(
        &self,
        from: Position,
        limit: usize,
        wanted: impl Fn(&Event) -> bool,
    ) -> FeedPart {
        let recent = locked(&self.recent);
        if from < recent.start {
            return FeedPart::Files { until: recent.flushed };
        }
        let applied = *self.applied.borrow();
        let begin = recent.events.partition_point(|event| event.position < from);
        let events: Vec<_> = recent
            .events
            .range(begin..)
            .take_while(|event| event.position < applied)
            .filter(|event| wanted(event))
            .take(limit)
            .cloned()
            .collect();
        let next = match events.last() {
            Some(last) if events.len() >= limit => last.cursor(),
            _ => applied.max(from),
        };
        FeedPart::Memory { events, next }
    }

    /// Registers interest in the changes of a message; none when too many wait already.
    pub(super) fn watch(self: &Arc<Self>, id: MessageId) -> Option<Change> {
        let mut waiters = locked(&self.waiters);
        if !waiters.contains_key(&id) && waiters.len() >= self.most_waiters {
            return None;
        }
        let sender = waiters.entry(id).or_insert_with(|| watch::Sender::new(()));
        if sender.receiver_count() >= self.most_waiters {
            return None;
        }
        let changed = Some(sender.subscribe());
        Some(Change { id, memory: Arc::clone(self), changed })
    }

    /// Wakes those who wait for a change of `id`.
    pub(super) fn wake(&self, id: MessageId) {
        if let Some(sender) = locked(&self.waiters).get(&id) {
            sender.send_replace(());
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is whole between any two statements, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for changes of one message. Register first, then read the message, then wait.
#[derive(Debug)]
pub struct Change {
    id: MessageId,
    memory: Arc<Memory>,
    changed: Option<watch::Receiver<()>>,
}

impl Change {
    /// Waits until the message has changed since this was made, or since the last call.
    pub async fn changed(&mut self) {
        if let Some(changed) = &mut self.changed {
            // The sender stays in the table for as long as this is there.
            let _closed = changed.changed().await;
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.changed = None;
        let mut waiters = locked(&self.memory.waiters);
        if waiters.get(&self.id).is_some_and(|sender| sender.receiver_count() == 0) {
            waiters.remove(&self.id);
        }
    }
}
