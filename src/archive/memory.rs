//! What tailer and readers share: messages not yet written, the latest events, how far all is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use dashmap::DashMap;
use hashbrown::DefaultHashBuilder;
use hashbrown::HashMap;
use tokio::sync::watch;

use crate::archive::Event;
use crate::archive::Interest;
use crate::archive::Message;
use crate::archive::interest::KINDS;
use crate::message::MessageId;
use crate::message::Position;

/// A message that has changed since its row was written, or has none.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) message: Box<Message>,
    /// Whether a row of it exists, of whatever age.
    pub(super) stored: bool,
    /// The first record that is not in that row.
    pub(super) since: Position,
    pub(super) turn: Turn,
}

/// When a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// After a while.
    Waits,
    /// Next, since it has ended.
    Next,
    /// Now, as it stands: it has not changed since it was collected.
    Now,
}

/// What tailer and readers share.
#[derive(Debug)]
pub(super) struct Memory {
    /// Messages that changed and are not on disk as they are.
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
    /// The same events by the key that they belong to: of many keys each reads its own.
    owners: HashMap<Arc<str>, Owned>,
    /// Keys with events that were applied and not told yet.
    touched: Vec<Arc<str>>,
}

/// The latest events of one key.
#[derive(Debug)]
struct Owned {
    /// Every event of the key from here on is in `events`.
    start: Position,
    events: VecDeque<Arc<Event>>,
    /// Told when there are more, each when some are of interest.
    news: Vec<(Interest, watch::Sender<()>)>,
    /// What was applied and not told yet is of interest for this.
    untold: Interest,
    /// Behind the last event for each interest, of those from `known_from` on.
    ends: [Position; KINDS],
    known_from: Position,
}

impl Recent {
    /// The latest events of a key; those that are there already are looked for once.
    fn owned(&mut self, key: &Arc<str>) -> &mut Owned {
        let (start, events) = (self.start, &self.events);
        self.owners.entry(Arc::clone(key)).or_insert_with(|| {
            let mut owned = Owned {
                start,
                events: events.iter().filter(|event| event.key == *key).cloned().collect(),
                news: Vec::new(),
                untold: Interest::NONE,
                ends: [Position(0); KINDS],
                known_from: start,
            };
            for event in events.iter().filter(|event| event.key == *key) {
                owned.note(event);
            }
            owned
        })
    }

    /// Adds an event, unless it is older than the others, and takes note that its key is to be told.
    fn push(&mut self, event: &Arc<Event>) {
        let is_latest = event.position >= self.start;
        // In front of the general list, which a new key's own is made from.
        let owned = self.owned(&event.key);
        if is_latest {
            owned.events.push_back(Arc::clone(event));
        }
        owned.note(event);
        let untold = owned.untold.and(Interest::of(event));
        if std::mem::replace(&mut owned.untold, untold) == Interest::NONE {
            self.touched.push(Arc::clone(&event.key));
        }
        if is_latest {
            self.events.push_back(Arc::clone(event));
        }
    }

    fn pop(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        self.start = event.cursor();
        if let Some(owned) = self.owners.get_mut(&event.key) {
            owned.events.pop_front();
            owned.start = event.cursor();
        }
    }

    /// The events from `from` on, of `owner` only if there is one; none when they are not all here.
    fn from(&self, from: Position, owner: Option<&str>) -> Option<&VecDeque<Arc<Event>>> {
        match owner.and_then(|owner| self.owners.get(owner)) {
            Some(owned) if from >= owned.start => Some(&owned.events),
            _ if from >= self.start => Some(&self.events),
            _ => None,
        }
    }

    /// Tells the keys that have more, or all of them.
    fn tell(&mut self, all: bool) {
        for key in self.touched.drain(..) {
            if let Some(owned) = self.owners.get_mut(&key) {
                let untold = std::mem::take(&mut owned.untold);
                owned.tell(untold);
            }
        }
        if all {
            self.owners.values().for_each(|owned| owned.tell(Interest::ALL));
        }
    }
}

impl Owned {
    /// Who is interested in this hears of it.
    fn hear(&mut self, interest: Interest) -> watch::Receiver<()> {
        if let Some((_, news)) = self.news.iter().find(|(found, _)| *found == interest) {
            return news.subscribe();
        }
        self.news.retain(|(_, news)| news.receiver_count() > 0);
        let (news, hearing) = watch::channel(());
        self.news.push((interest, news));
        hearing
    }

    /// Takes note of where an event ends.
    fn note(&mut self, event: &Event) {
        for number in Interest::of(event).numbers() {
            if let Some(end) = self.ends.get_mut(number) {
                *end = event.cursor().max(*end);
            }
        }
    }

    /// Whether it is known that no event from `from` on is of interest.
    fn has_none(&self, interest: Interest, from: Position) -> bool {
        let is_before = |number: usize| self.ends.get(number).is_some_and(|end| *end <= from);
        from >= self.known_from && interest.numbers().all(is_before)
    }

    fn tell(&self, what: Interest) {
        for (_, news) in self.news.iter().filter(|(interest, _)| interest.meets(what)) {
            news.send_replace(());
        }
    }
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
        let recent = Recent {
            start: end,
            flushed: low,
            events: VecDeque::new(),
            most: most_events,
            owners: HashMap::new(),
            touched: Vec::new(),
        };
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
        // What they are told of can be read by now.
        locked(&self.recent).tell(false);
    }

    /// Hears of events of a key that are of interest: look, and wait if there was none.
    pub(super) fn news(&self, key: &str, interest: Interest) -> watch::Receiver<()> {
        locked(&self.recent).owned(&key.into()).hear(interest)
    }

    /// Where to go on reading a key's events from `from` on, when it is known that none of those
    /// that can be read is of interest.
    pub(super) fn skip(&self, key: &str, interest: Interest, from: Position) -> Option<Position> {
        let recent = locked(&self.recent);
        let owned = recent.owners.get(key)?;
        // All that lies below was pushed before.
        owned.has_none(interest, from).then(|| from.max(*self.applied.borrow()))
    }

    pub(super) fn publish_passed(&self, low: Position) {
        self.passed.send_if_modified(|passed| std::mem::replace(passed, low) != low);
    }

    /// Adds an event to the latest ones, unless it is older than they are.
    pub(super) fn remember(&self, event: &Arc<Event>) {
        locked(&self.recent).push(event);
    }

    /// Takes note that every event below `end` is on disk, and forgets the oldest.
    pub(super) fn flushed(&self, end: Position) {
        let mut recent = locked(&self.recent);
        // Between what is on disk and what is in memory: read again after a restart.
        let was_hidden = recent.flushed < recent.start;
        recent.flushed = end;
        while recent.events.len() > recent.most
            && recent.events.front().is_some_and(|event| event.position < end)
        {
            recent.pop();
        }
        drop(recent);
        if was_hidden {
            // Whether or not more was applied, what was hidden can be read now, and what is behind.
            self.applied.send_modify(|_| {});
            locked(&self.recent).tell(true);
        }
    }

    /// The first `limit` events from `from` on that `wanted` lets through, which wants none but
    /// those of `owner` if there is one; or where they are.
    pub(super) fn events(
        &self,
        from: Position,
        limit: usize,
        owner: Option<&str>,
        wanted: impl Fn(&Event) -> bool,
    ) -> FeedPart {
        let recent = locked(&self.recent);
        let Some(latest) = recent.from(from, owner) else {
            return FeedPart::Files { until: recent.flushed };
        };
        let applied = *self.applied.borrow();
        let begin = latest.partition_point(|event| event.position < from);
        let events: Vec<_> = latest
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::EventKind;
    use crate::archive::Inbound;
    use crate::archive::Subject;
    use crate::time::Time;

    fn event(position: u64, key: &str) -> Arc<Event> {
        let (position, at) = (Position(position), Time::ZERO);
        let inbound = Inbound {
            id: MessageId::from_u128(position.0.into()),
            position,
            key: key.into(),
            at,
            carrier: "alpha".into(),
            from: "819012345678".into(),
            to: "0005".into(),
            data_coding: 0,
            udh: [].into(),
            text: None,
            octets: [].into(),
            complete: true,
        };
        let subject = Subject::Inbound(Box::new(inbound));
        Arc::new(Event { position, at, key: key.into(), kind: EventKind::InboundReceived, subject })
    }

    fn keys() -> impl Iterator<Item = (u64, &'static str)> {
        (0..60).map(|n| (n * 10, if n % 7 == 0 { "bank" } else { "shop" }))
    }

    #[test]
    fn a_key_reads_its_own_events_as_if_it_read_all() {
        let memory = Memory::new(Position(0), Position(0), 8, 4);
        for (position, key) in keys() {
            memory.remember(&event(position, key));
            memory.publish_applied(Position(position + 1));
            if position % 50 == 0 {
                memory.flushed(Position(position.saturating_sub(30)));
            }
        }
        let found = |from, limit, owner: Option<&str>| {
            let wanted = |event: &Event| owner.is_none_or(|owner| *event.key == *owner);
            match memory.events(Position(from), limit, owner, wanted) {
                FeedPart::Memory { events, next } => {
                    Some((events.iter().map(|it| it.position.0).collect::<Vec<_>>(), next))
                }
                FeedPart::Files { .. } => None,
            }
        };
        let mut in_memory = 0;
        for from in 0..620 {
            for (owner, limit) in [("bank", 2), ("shop", 3), ("shop", 100), ("nobody", 5)] {
                let Some((events, next)) = found(from, limit, Some(owner)) else { continue };
                in_memory += 1;
                let own = keys().filter(|(at, key)| *at >= from && *key == owner);
                let own: Vec<_> = own.map(|(at, _)| at).take(limit).collect();
                assert_eq!(events, own, "{owner} from {from}");
                let last = own.last().filter(|_| own.len() >= limit);
                let end = last.map_or_else(|| 591.max(from), |at| at + 1);
                assert_eq!(next, Position(end), "{owner} from {from}");
            }
        }
        assert!(in_memory > 500, "{in_memory}");
        assert_eq!(found(0, 5, None), None, "the oldest are on disk only");
    }

    #[test]
    fn only_who_has_events_is_told_and_not_before_they_can_be_read() {
        let memory = Memory::new(Position(0), Position(0), 8, 4);
        let mut bank = memory.news("bank", Interest::ALL);
        let mut shop = memory.news("shop", Interest::ALL);
        memory.remember(&event(0, "bank"));
        assert!(!bank.has_changed().unwrap());
        memory.publish_applied(Position(1));
        assert!(bank.has_changed().unwrap() && !shop.has_changed().unwrap());
        bank.mark_unchanged();
        memory.publish_applied(Position(2));
        assert!(!bank.has_changed().unwrap());
        memory.remember(&event(5, "shop"));
        memory.publish_applied(Position(6));
        assert!(shop.has_changed().unwrap() && !bank.has_changed().unwrap());
        shop.mark_unchanged();
    }

    #[test]
    fn what_a_restart_hid_is_told_once_it_is_on_disk_although_more_came_meanwhile() {
        let memory = Memory::new(Position(10), Position(30), 8, 4);
        let mut shop = memory.news("shop", Interest::ALL);
        for position in [10, 20, 40] {
            memory.remember(&event(position, "shop"));
        }
        memory.publish_applied(Position(41));
        let read = |from| memory.events(Position(from), 9, Some("shop"), |_| true);
        assert!(matches!(read(10), FeedPart::Files { until: Position(10) }), "hidden");
        shop.mark_unchanged();
        memory.flushed(Position(41));
        assert!(shop.has_changed().unwrap());
        assert!(matches!(read(10), FeedPart::Files { until: Position(41) }));
    }

    #[test]
    fn what_is_skipped_holds_nothing_of_interest() {
        let kinds = [EventKind::Delivered, EventKind::Expired, EventKind::InboundReceived];
        let memory = Memory::new(Position(0), Position(40), 8, 4);
        let _early = memory.news("bank", Interest::ALL);
        let mut all: Vec<Arc<Event>> = Vec::new();
        let mut skipped = 0;
        for (position, key) in keys() {
            let kind = kinds[(position / 10 % 7 % 3) as usize];
            let event = Arc::new(Event { kind, ..Event::clone(&event(position, key)) });
            memory.remember(&event);
            all.push(event);
            if position % 30 == 0 {
                memory.publish_applied(Position(position + 1));
                memory.flushed(Position(position.saturating_sub(30)));
            }
            for (key, from) in [("bank", 0), ("shop", 40), ("shop", position), ("bank", position)] {
                for kind in kinds {
                    let interest = Interest::in_kinds([kind]);
                    let Some(next) = memory.skip(key, interest, Position(from)) else { continue };
                    let between = |it: &&Arc<Event>| (from..next.0).contains(&it.position.0);
                    let of_interest = |it: &&Arc<Event>| *it.key == *key && it.kind == kind;
                    assert_eq!(all.iter().filter(between).filter(of_interest).count(), 0);
                    skipped += 1;
                }
            }
        }
        assert!(skipped > 100, "{skipped}");
        assert_eq!(memory.skip("bank", Interest::NONE, Position(39)), None, "not known");
        assert_eq!(memory.skip("bank", Interest::NONE, Position(40)), Some(Position(571)));
        assert_eq!(memory.skip("nobody", Interest::NONE, Position(600)), None);
    }

    #[test]
    fn only_who_is_interested_is_told() {
        let memory = Memory::new(Position(0), Position(0), 8, 4);
        let ends = Interest::in_kinds([EventKind::Delivered, EventKind::Expired]);
        let mut ends = memory.news("shop", ends);
        let mut inbound = memory.news("shop", Interest::in_kinds([EventKind::InboundReceived]));
        let callbacks = memory.news("shop", Interest::CALLBACKS);
        let none = memory.news("shop", Interest::NONE);
        memory.remember(&event(0, "shop"));
        memory.publish_applied(Position(1));
        assert!(inbound.has_changed().unwrap() && !ends.has_changed().unwrap());
        inbound.mark_unchanged();
        let other = Event { kind: EventKind::Expired, ..Event::clone(&event(1, "shop")) };
        memory.remember(&Arc::new(other));
        memory.publish_applied(Position(2));
        assert!(!inbound.has_changed().unwrap() && ends.has_changed().unwrap());
        ends.mark_unchanged();
        assert!(!callbacks.has_changed().unwrap() && !none.has_changed().unwrap());
    }
}
