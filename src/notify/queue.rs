//! What an endpoint is sent next: order, holds, retries. No clock, no file, no socket.
//!
//! ```text
//! feed -> ready -> flying -> done
//!           |        | fails
//!           v        v
//!         parked (on disk, an entry here) -> flying -> done | dead (on disk)
//! ```
//!
//! Events of one message go in order: while one of them is flying or parked, the later ones wait,
//! and nothing else does. The feed itself is the queue for whatever is not read yet, so what is in
//! memory is bounded: a window of ready events and one entry for each parked one.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::message::MessageId;
use crate::message::Position;
use crate::notify::schedule;
use crate::notify::schedule::Breaker;
use crate::notify::schedule::Permission;
use crate::time::Time;

/// The limits of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tries at the same time.
    pub flying: usize,
    /// Events read ahead of them.
    pub ready: usize,
    /// Events parked for a later try.
    pub parked: usize,
    /// How long after each failed try the next one follows.
    pub waits: Arc<[Duration]>,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// Whether the events have hosts of their own, so that a dead one must not stop the others.
    pub many_hosts: bool,
}

/// The queue of one endpoint for events of type `E`.
#[derive(Debug)]
pub struct Queue<E> {
    limits: Limits,
    ready: VecDeque<Ready<E>>,
    flying: BTreeMap<Position, Flying<E>>,
    /// How many events of a message are flying.
    in_the_air: HashMap<MessageId, usize>,
    parked: BTreeMap<Position, Parked>,
    due: BTreeSet<(Time, Position)>,
    /// The parked events of each message.
    held: HashMap<MessageId, BTreeSet<Position>>,
    /// Events of the feed that were given up already.
    dead: HashSet<Position>,
    /// Before when the host asked not to be sent a parked event again.
    asked: HashMap<Position, Time>,
    /// When those were due that are tried early: a failure then costs them nothing.
    hurried: HashMap<Position, Time>,
    breakers: HashMap<Arc<str>, Breaker>,
    /// Where to go on reading the feed.
    read: Position,
    changes: Vec<Change<E>>,
}

#[derive(Debug)]
struct Ready<E> {
    position: Position,
    message: MessageId,
    host: Arc<str>,
    event: E,
}

#[derive(Debug)]
struct Flying<E> {
    message: MessageId,
    host: Arc<str>,
    failures: u32,
    /// The event itself; none when it was parked and is on disk.
    event: Option<E>,
}

/// An event that waits on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The message that it is about.
    pub message: MessageId,
    /// Where it goes.
    pub host: Arc<str>,
    /// Its failed tries.
    pub failures: u32,
    /// When it is tried next; none while it waits for an earlier event of its message.
    pub due: Option<Time>,
}

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Job<E> {
    /// Its place in the feed.
    pub position: Position,
    /// Its failed tries so far.
    pub failures: u32,
    /// The event; none when it is parked on disk.
    pub event: Option<E>,
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint has taken it.
    Delivered,
    /// It has not; it may have asked for some time.
    Failed {
        /// How long.
        retry_after: Option<Duration>,
    },
}

/// What is to be changed on disk, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<E> {
    /// Park an event.
    Park {
        /// Its place in the feed.
        position: Position,
        /// What is known of it.
        parked: Parked,
        /// The event.
        event: E,
    },
    /// Change what is parked there.
    Repark {
        /// Its place in the feed.
        position: Position,
        /// Its failed tries.
        failures: u32,
        /// When it is tried next.
        due: Option<Time>,
    },
    /// Forget what is parked there.
    Done {
        /// Its place in the feed.
        position: Position,
    },
    /// Keep an event as given up.
    Dead {
        /// Its place in the feed.
        position: Position,
        /// The message that it is about.
        message: MessageId,
        /// Where it was to go.
        host: Arc<str>,
        /// Its failed tries.
        failures: u32,
        /// The event; none when it was parked before.
        event: Option<E>,
    },
}

impl<E: Clone> Queue<E> {
    /// An empty queue that reads the feed from `read` on.
    pub fn new(limits: Limits, read: Position) -> Self {
        Self {
            limits,
            ready: VecDeque::new(),
            flying: BTreeMap::new(),
            in_the_air: HashMap::new(),
            parked: BTreeMap::new(),
            due: BTreeSet::new(),
            held: HashMap::new(),
            dead: HashSet::new(),
            asked: HashMap::new(),
            hurried: HashMap::new(),
            breakers: HashMap::new(),
            read,
            changes: Vec::new(),
        }
    }

    /// Takes back what was parked before a restart, or is to be tried again by hand.
    pub fn restore(&mut self, position: Position, parked: Parked) {
        self.dead.remove(&position);
        self.held.entry(parked.message).or_default().insert(position);
        self.due.extend(parked.due.map(|due| (due, position)));
        self.parked.insert(position, parked);
    }

    /// Takes note that the event at `position` was given up before a restart.
    pub fn restore_dead(&mut self, position: Position) {
        self.dead.insert(position);
    }

    /// How many more events fit.
    pub fn room(&self) -> usize {
        self.limits.ready.saturating_sub(self.ready.len())
    }

    /// Where to go on reading the feed.
    pub const fn read(&self) -> Position {
        self.read
    }

    /// Everything of the feed below `next` has been offered, or is not for this endpoint.
    pub fn read_to(&mut self, next: Position) {
        self.read = self.read.max(next);
    }

    /// Adds an event of the feed; one that was parked or given up before a restart is left out.
    pub fn offer(&mut self, position: Position, message: MessageId, host: Arc<str>, event: E) {
        if !self.parked.contains_key(&position) && !self.dead.contains(&position) {
            self.ready.push_back(Ready { position, message, host, event });
        }
    }

    /// Parks an event that is not of the feed, to be sent at once.
    pub fn announce(&mut self, now: Time, position: Position, parked: Parked, event: E) {
        let parked = Parked { due: Some(now), ..parked };
        self.park(position, parked, event);
    }

    /// What to send now, if anything. [`Self::settled`] must follow.
    pub fn next(&mut self, now: Time) -> Option<Job<E>> {
        if self.flying.len() >= self.limits.flying {
            return None;
        }
        self.next_parked(now).or_else(|| self.next_ready(now))
    }

    fn next_parked(&mut self, now: Time) -> Option<Job<E>> {
        while let Some((due, position)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, position));
            let Some(parked) = self.parked.get_mut(&position) else { continue };
            let breaker = self.breakers.get(&parked.host).copied().unwrap_or_default();
            let later = match breaker.permits(now) {
                Permission::Yes => {
                    let (message, host) = (parked.message, Arc::clone(&parked.host));
                    let failures = parked.failures;
                    parked.due = None;
                    self.start(position, Flying { message, host, failures, event: None });
                    return Some(Job { position, failures, event: None });
                }
                Permission::NotBefore(until) => until,
                Permission::Probing => now + PROBE_POLL,
            };
            parked.due = Some(later);
            self.due.insert((later, position));
        }
        None
    }

    fn next_ready(&mut self, now: Time) -> Option<Job<E>> {
        let mut waiting = HashSet::new();
        let mut index = 0;
        loop {
            let ready = self.ready.get(index)?;
            if self.held.contains_key(&ready.message) {
                self.park_behind(index);
                continue;
            }
            if waiting.contains(&ready.message) || self.in_the_air.contains_key(&ready.message) {
                waiting.insert(ready.message);
                index += 1;
                continue;
            }
            let breaker = self.breakers.get(&ready.host).copied().unwrap_or_default();
            let until = match breaker.permits(now) {
                Permission::Yes if self.limits.many_hosts || !self.is_parked_full() => {
                    return self.take(index);
                }
                Permission::Yes => return None,
                Permission::NotBefore(until) => until,
                Permission::Probing => now + PROBE_POLL,
            };
            if !self.limits.many_hosts {
                return None;
            }
            self.park_until(index, until);
        }
    }

    fn is_parked_full(&self) -> bool {
        self.parked.len() >= self.limits.parked
    }

    fn take(&mut self, index: usize) -> Option<Job<E>> {
        let Ready { position, message, host, event } = self.ready.remove(index)?;
        let flying = Flying { message, host, failures: 0, event: Some(event.clone()) };
        self.start(position, flying);
        Some(Job { position, failures: 0, event: Some(event) })
    }

    fn start(&mut self, position: Position, flying: Flying<E>) {
        *self.in_the_air.entry(flying.message).or_default() += 1;
        if let Some(breaker) = self.breakers.get_mut(&flying.host) {
            breaker.started();
        }
        self.flying.insert(position, flying);
    }

    /// Parks a ready event behind a parked one of its message.
    fn park_behind(&mut self, index: usize) {
        if let Some(Ready { position, message, host, event }) = self.ready.remove(index) {
            self.park(position, Parked { message, host, failures: 0, due: None }, event);
        }
    }

    /// Parks a ready event because its host is left alone, or gives it up when too many are.
    fn park_until(&mut self, index: usize, until: Time) {
        let full = self.is_parked_full();
        let Some(Ready { position, message, host, event }) = self.ready.remove(index) else {
            return;
        };
        if full {
            self.bury(position, message, host, 0, Some(event));
        } else {
            self.park(position, Parked { message, host, failures: 0, due: Some(until) }, event);
        }
    }

    fn park(&mut self, position: Position, parked: Parked, event: E) {
        self.restore(position, parked.clone());
        self.changes.push(Change::Park { position, parked, event });
    }

    fn bury(
        &mut self,
        position: Position,
        message: MessageId,
        host: Arc<str>,
        failures: u32,
        event: Option<E>,
    ) {
        self.dead.insert(position);
        self.changes.push(Change::Dead { position, message, host, failures, event });
    }

    /// A try of the event at `position` has ended. `draw` is any number, for the jitter.
    pub fn settled(&mut self, now: Time, position: Position, outcome: Outcome, draw: u64) {
        let Some(flying) = self.flying.remove(&position) else { return };
        if let Some(count) = self.in_the_air.get_mut(&flying.message) {
            *count -= 1;
            if *count == 0 {
                self.in_the_air.remove(&flying.message);
            }
        }
        self.tell_breaker(now, &flying.host, outcome);
        match outcome {
            Outcome::Delivered if flying.event.is_none() => {
                self.changes.push(Change::Done { position });
                self.release(now, position, flying.message);
            }
            Outcome::Delivered => {}
            Outcome::Failed { retry_after } => {
                // One that was only tried early waits on for when it was due.
                let was_due = self.hurried.remove(&position).filter(|due| *due > now);
                let failures = flying.failures.saturating_add(u32::from(was_due.is_none()));
                if let Some(wait) = retry_after {
                    self.asked.insert(position, now + wait.min(schedule::LONGEST_RETRY_AFTER));
                }
                let next = match was_due {
                    Some(due) => {
                        Some(self.asked.get(&position).map_or(due, |asked| due.max(*asked)))
                    }
                    None => {
                        schedule::next_try(now, &self.limits.waits, failures, retry_after, draw)
                    }
                };
                match next {
                    Some(due) => self.put_off(position, flying, failures, due),
                    None => self.give_up(now, position, flying, failures),
                }
            }
        }
    }

    fn tell_breaker(&mut self, now: Time, host: &Arc<str>, outcome: Outcome) {
        let breaker = self.breakers.entry(Arc::clone(host)).or_default();
        match outcome {
            Outcome::Delivered => {
                let was_left_alone = breaker.is_open();
                breaker.succeeded();
                if was_left_alone {
                    self.hurry(now, host);
                }
            }
            Outcome::Failed { .. } => breaker.failed(now, self.limits.breaker_failures),
        }
        if self.breakers.get(host).is_some_and(Breaker::is_idle) {
            self.breakers.remove(host);
        } else if self.breakers.len() > MOST_BREAKERS {
            self.breakers.retain(|_, breaker| breaker.open_until(now).is_some());
        }
    }

    /// A host is well again: what is parked for it only because it failed goes at once, but for
    /// events that the host itself asked to have later.
    fn hurry(&mut self, now: Time, host: &Arc<str>) {
        let later: Vec<_> = self.due.iter().copied().filter(|(due, _)| *due > now).collect();
        for (due, position) in later {
            let Some(parked) = self.parked.get_mut(&position) else { continue };
            if parked.host == *host {
                let sooner = self.asked.get(&position).map_or(now, |asked| due.min(*asked));
                self.hurried.entry(position).or_insert(due);
                parked.due = Some(sooner);
                self.due.remove(&(due, position));
                self.due.insert((sooner, position));
            }
        }
    }

    fn put_off(&mut self, position: Position, flying: Flying<E>, failures: u32, due: Time) {
        let Flying { message, host, event, .. } = flying;
        let due = Some(due);
        match event {
            Some(event) => self.park(position, Parked { message, host, failures, due }, event),
            None => {
                self.restore(position, Parked { message, host, failures, due });
                self.changes.push(Change::Repark { position, failures, due });
            }
        }
    }

    fn give_up(&mut self, now: Time, position: Position, flying: Flying<E>, failures: u32) {
        let Flying { message, host, event, .. } = flying;
        self.bury(position, message, host, failures, event);
        self.release(now, position, message);
    }

    /// Forgets what was parked at `position` and lets the next event of its message go.
    fn release(&mut self, now: Time, position: Position, message: MessageId) {
        self.parked.remove(&position);
        self.asked.remove(&position);
        self.hurried.remove(&position);
        let Some(held) = self.held.get_mut(&message) else { return };
        held.remove(&position);
        let Some(next) = held.first().copied() else {
            self.held.remove(&message);
            return;
        };
        if let Some(parked) = self.parked.get_mut(&next)
            && parked.due.is_none()
            && !self.flying.contains_key(&next)
        {
            parked.due = Some(now);
            self.due.insert((now, next));
            let failures = parked.failures;
            self.changes.push(Change::Repark { position: next, failures, due: Some(now) });
        }
    }

    /// What is to be changed on disk since the last call.
    pub fn take_changes(&mut self) -> Vec<Change<E>> {
        std::mem::take(&mut self.changes)
    }

    /// Everything of the feed below is delivered, parked or given up.
    pub fn low(&self) -> Position {
        let fresh = self.flying.iter().filter(|(_, flying)| flying.event.is_some());
        let flying = fresh.map(|(position, _)| *position).next();
        let ready = self.ready.front().map(|ready| ready.position);
        [flying, ready].into_iter().flatten().fold(self.read, Position::min)
    }

    /// When [`Self::next`] may have something although nothing has happened.
    pub fn timeout(&self, now: Time) -> Option<Time> {
        let due = self.due.first().map(|(due, _)| *due);
        // What a breaker lets through by now and did not start waits for something else.
        let open = self.breakers.values().filter_map(|breaker| breaker.open_until(now));
        let open = open.filter(|until| *until > now).min().filter(|_| !self.ready.is_empty());
        [due, open].into_iter().flatten().min()
    }

    /// How many events are in memory or parked.
    pub fn backlog(&self) -> usize {
        let fresh = self.flying.values().filter(|flying| flying.event.is_some()).count();
        self.ready.len() + fresh + self.parked.len()
    }

    /// Until when a host is left alone, the longest.
    pub fn paused_until(&self, now: Time) -> Option<Time> {
        self.breakers.values().filter_map(|breaker| breaker.open_until(now)).max()
    }

    /// Whether a parked event is to be tried at `now`.
    pub fn is_due(&self, now: Time) -> bool {
        self.due.first().is_some_and(|(due, _)| *due <= now)
    }
}

/// How soon to look again when a probe is in flight.
const PROBE_POLL: Duration = Duration::from_secs(1);

/// The most hosts whose failures are remembered.
const MOST_BREAKERS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Time = Time::from_secs(1_000);
    const NONE: [u64; 0] = [];
    const OK: Outcome = Outcome::Delivered;
    const FAILED: Outcome = Outcome::Failed { retry_after: None };

    fn limits() -> Limits {
        Limits {
            flying: 4,
            ready: 8,
            parked: 5,
            waits: schedule::WAITS.into(),
            breaker_failures: 100,
            many_hosts: false,
        }
    }

    fn queue(limits: Limits, events: &[(u64, u128)]) -> Queue<u64> {
        let mut queue = Queue::new(limits, Position(0));
        for (position, message) in events {
            offer(&mut queue, *position, *message, "a");
        }
        queue
    }

    fn offer(queue: &mut Queue<u64>, position: u64, message: u128, host: &str) {
        let message = MessageId::from_u128(message);
        queue.offer(Position(position), message, host.into(), position);
        queue.read_to(Position(position + 1));
    }

    fn starts(queue: &mut Queue<u64>, now: Time) -> Vec<u64> {
        std::iter::from_fn(|| queue.next(now)).map(|job| job.position.0).collect()
    }

    fn settle(queue: &mut Queue<u64>, now: Time, position: u64, outcome: Outcome) {
        queue.settled(now, Position(position), outcome, 0);
    }

    #[test]
    fn events_of_one_message_go_one_after_the_other_and_others_beside_them() {
        let mut queue = queue(limits(), &[(0, 7), (10, 7), (20, 8), (30, 7)]);
        assert_eq!(starts(&mut queue, T0), [0, 20]);
        settle(&mut queue, T0, 20, OK);
        assert_eq!(starts(&mut queue, T0), NONE);
        settle(&mut queue, T0, 0, OK);
        assert_eq!(starts(&mut queue, T0), [10]);
        settle(&mut queue, T0, 10, OK);
        assert_eq!(starts(&mut queue, T0), [30]);
        assert_eq!(queue.low(), Position(30));
        settle(&mut queue, T0, 30, OK);
        assert_eq!(queue.low(), Position(31));
        assert_eq!(queue.take_changes(), []);
    }

    /// An endpoint with its queue, the tries in flight, and what is on disk and what has arrived.
    struct Endpoint {
        queue: Queue<u64>,
        flying: BTreeSet<(Time, u64)>,
        stored: BTreeSet<u64>,
        arrived: Vec<(Time, u64)>,
        tries: usize,
        most: (usize, usize),
    }

    impl Endpoint {
        fn new(limits: Limits) -> Self {
            let queue = queue(limits, &[]);
            let (flying, stored, arrived) = Default::default();
            Self { queue, flying, stored, arrived, tries: 0, most: (0, 0) }
        }

        /// Reads the feed up to `end`, ends tries after `took`, starts new ones.
        fn turn(&mut self, now: Time, end: u64, took: Duration, outcome: Outcome) {
            while self.queue.room() > 0 && self.queue.read().0 < end {
                let position = self.queue.read().0;
                offer(&mut self.queue, position, u128::from(position / 3), "a");
            }
            while let Some(first) = self.flying.first().copied().filter(|(at, _)| *at <= now) {
                self.flying.remove(&first);
                let position = first.1;
                settle(&mut self.queue, now, position, outcome);
                if outcome == OK {
                    self.arrived.push((now, position));
                }
            }
            for position in starts(&mut self.queue, now) {
                self.tries += 1;
                self.flying.insert((now + took, position));
            }
            for change in self.queue.take_changes() {
                match change {
                    Change::Park { position, .. } => assert!(self.stored.insert(position.0)),
                    Change::Done { position } => assert!(self.stored.remove(&position.0)),
                    Change::Repark { .. } => {}
                    Change::Dead { .. } => panic!("given up within a day"),
                }
            }
            self.most =
                (self.most.0.max(self.queue.ready.len()), self.most.1.max(self.stored.len()));
        }

        fn wake(&self, now: Time) -> Option<Time> {
            let landing = self.flying.first().map(|(at, _)| *at);
            [landing, self.queue.timeout(now)].into_iter().flatten().min()
        }
    }

    #[test]
    fn an_endpoint_that_is_dead_for_a_day_costs_little_and_gets_everything_in_order_afterwards() {
        const EVERY: Duration = Duration::from_secs(3);
        let day = T0 + Duration::from_secs(86_400);
        let limits = Limits { parked: 1_000, breaker_failures: 10, flying: 16, ..limits() };
        let (mut dead, mut well) = (Endpoint::new(limits.clone()), Endpoint::new(limits.clone()));
        let (mut now, mut end, mut next) = (T0, 0, T0);
        while now < day || dead.queue.backlog() > 0 || dead.queue.read().0 < end {
            if next <= now && now < day {
                (end, next) = (end + 1, next + EVERY);
            }
            let is_dead = now < day;
            let (took, outcome) = if is_dead {
                (Duration::from_secs(15), FAILED)
            } else {
                (Duration::from_millis(20), OK)
            };
            dead.turn(now, end, took, outcome);
            well.turn(now, end, Duration::from_millis(20), OK);
            let feed = (now < day).then_some(next);
            let wakes = [dead.wake(now), well.wake(now), feed];
            let least = now + Duration::from_millis(1);
            now = wakes.into_iter().flatten().min().map_or(least, |wake| wake.max(least));
        }
        assert_eq!(end, 28_800);
        let late = well
            .arrived
            .iter()
            .map(|(at, position)| at.since(T0 + EVERY * u32::try_from(*position).unwrap()));
        assert_eq!(late.max(), Some(Duration::from_millis(20)), "the other one is not slowed");
        assert!(dead.tries < 28_800 + 300, "{} tries", dead.tries);
        assert!(dead.most.0 <= limits.ready, "{:?}", dead.most);
        assert!(dead.most.1 <= limits.parked + limits.ready + limits.flying, "{:?}", dead.most);
        assert_eq!((dead.stored.len(), dead.arrived.len()), (0, 28_800), "each arrives once");
        let mut last = HashMap::new();
        for (_, position) in &dead.arrived {
            let before = last.insert(position / 3, *position);
            assert!(before.is_none_or(|before| before < *position), "{position} overtook");
        }
        let (over, _) = dead.arrived.last().unwrap();
        assert!(over.since(day) < Duration::from_secs(3_600), "{:?}", over.since(day));
    }

    #[test]
    fn a_host_that_comes_and_goes_uses_up_no_events_tries() {
        let waits = [600, 600].map(Duration::from_secs).into();
        let limits = Limits { breaker_failures: 1, waits, ..limits() };
        let mut queue = queue(limits, &[(0, 1), (10, 2)]);
        assert_eq!(starts(&mut queue, T0), [0, 10]);
        settle(&mut queue, T0, 0, FAILED);
        settle(&mut queue, T0, 10, FAILED);
        let mut now = T0;
        for round in 0..5 {
            now = queue.paused_until(now).unwrap();
            let fresh = 20 + 10 * round;
            offer(&mut queue, fresh, 100 + u128::from(round), "a");
            assert_eq!(starts(&mut queue, now), [fresh], "the probe");
            settle(&mut queue, now, fresh, OK);
            assert_eq!(starts(&mut queue, now), [0, 10], "early");
            settle(&mut queue, now, 0, FAILED);
            settle(&mut queue, now, 10, FAILED);
        }
        let dead = queue.take_changes().into_iter().filter(|it| matches!(it, Change::Dead { .. }));
        assert_eq!(dead.count(), 0);
    }

    #[test]
    fn when_a_host_is_well_again_only_what_it_asked_to_have_later_still_waits() {
        let limits = Limits { breaker_failures: 3, ..limits() };
        let mut queue = queue(limits, &[(0, 1), (10, 2), (20, 3)]);
        assert_eq!(starts(&mut queue, T0), [0, 10, 20]);
        settle(&mut queue, T0, 0, FAILED);
        settle(&mut queue, T0, 10, Outcome::Failed { retry_after: Some(Duration::from_secs(600)) });
        settle(&mut queue, T0, 20, FAILED);
        let probe = T0 + Duration::from_secs(5);
        assert_eq!(starts(&mut queue, probe), [0], "one probe");
        settle(&mut queue, probe, 0, FAILED);
        let well = probe + Duration::from_secs(30);
        assert_eq!(starts(&mut queue, well), [20], "another probe");
        settle(&mut queue, well, 20, OK);
        assert_eq!(starts(&mut queue, well), [0], "not 30 s after its second failure");
        assert_eq!(starts(&mut queue, T0 + Duration::from_secs(599)), NONE);
        assert_eq!(starts(&mut queue, T0 + Duration::from_secs(600)), [10]);
    }

    #[test]
    fn a_failed_event_holds_back_the_later_ones_of_its_message_only() {
        let mut queue = queue(limits(), &[(0, 7), (10, 7), (20, 8)]);
        assert_eq!(starts(&mut queue, T0), [0, 20]);
        settle(&mut queue, T0, 0, FAILED);
        settle(&mut queue, T0, 20, OK);
        assert_eq!(starts(&mut queue, T0), NONE);
        assert_eq!(queue.low(), Position(21), "both of 7 are on disk");
        let retry = T0 + Duration::from_secs(4);
        assert_eq!(queue.timeout(T0), Some(retry));
        assert_eq!(starts(&mut queue, retry), [0]);
        settle(&mut queue, retry, 0, OK);
        assert_eq!(starts(&mut queue, retry), [10]);
        settle(&mut queue, retry, 10, OK);
        let kinds: Vec<_> = queue.take_changes().iter().map(name).collect();
        assert_eq!(kinds, ["park 0", "park 10", "done 0", "repark 10", "done 10"]);
        assert_eq!((queue.backlog(), queue.timeout(retry)), (0, None));
    }

    #[test]
    fn a_host_that_may_be_tried_again_wakes_nobody_while_there_is_no_room_to_park() {
        let limits = Limits { breaker_failures: 1, parked: 1, ..limits() };
        let mut queue = queue(limits, &[(0, 7), (10, 8)]);
        assert_eq!(starts(&mut queue, T0), [0, 10]);
        settle(&mut queue, T0, 0, FAILED);
        offer(&mut queue, 20, 9, "a");
        settle(&mut queue, T0, 10, FAILED);
        let open = queue.paused_until(T0).unwrap();
        let retry = queue.timeout(open).unwrap();
        assert_eq!(starts(&mut queue, open), [0], "the parked one is the probe");
        assert!(queue.timeout(open).is_none_or(|at| at > open), "{retry:?} {open:?}");
    }

    fn name(change: &Change<u64>) -> String {
        match change {
            Change::Park { position, .. } => format!("park {}", position.0),
            Change::Repark { position, .. } => format!("repark {}", position.0),
            Change::Done { position } => format!("done {}", position.0),
            Change::Dead { position, .. } => format!("dead {}", position.0),
        }
    }

    #[test]
    fn after_the_last_try_an_event_is_dead_and_the_next_of_its_message_goes() {
        let mut queue = queue(limits(), &[(0, 7), (10, 7)]);
        let mut now = T0;
        let mut tries = Vec::new();
        loop {
            let started = starts(&mut queue, now);
            if started == [10] {
                break;
            }
            assert_eq!(started, [0]);
            tries.push(now.since(T0).as_secs());
            settle(&mut queue, now, 0, FAILED);
            now = queue.timeout(now).unwrap_or(now);
        }
        // The shortest the jitter allows: four fifths of 5 s, 30 s, 2 m, 10 m, 30 m, 2, 6, 12, 24 h.
        let waits: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(waits, [4, 24, 96, 480, 1_440, 5_760, 17_280, 34_560, 69_120]);
        assert!(queue.take_changes().iter().any(|change| name(change) == "dead 0"));
    }

    #[test]
    fn what_was_parked_or_given_up_before_a_restart_is_not_sent_twice() {
        let mut queue = queue(limits(), &[]);
        let parked = |message, due| Parked {
            message: MessageId::from_u128(message),
            host: "a".into(),
            failures: 2,
            due,
        };
        queue.restore(Position(10), parked(7, Some(T0)));
        queue.restore_dead(Position(0));
        for (position, message) in [(0, 6), (10, 7), (20, 7), (30, 8)] {
            offer(&mut queue, position, message, "a");
        }
        assert_eq!(starts(&mut queue, T0), [10, 30]);
        settle(&mut queue, T0, 10, OK);
        assert_eq!(starts(&mut queue, T0), [20]);
    }

    #[test]
    fn a_dead_endpoint_is_left_alone_and_the_feed_waits() {
        let limits = Limits { breaker_failures: 2, ..limits() };
        let mut queue = queue(limits, &[(0, 1), (10, 2), (20, 3), (30, 4)]);
        assert_eq!(starts(&mut queue, T0), [0, 10, 20, 30]);
        offer(&mut queue, 40, 5, "a");
        for position in [0, 10, 20, 30] {
            settle(&mut queue, T0, position, FAILED);
        }
        assert_eq!(starts(&mut queue, T0 + Duration::from_secs(4)), NONE);
        let probe = T0 + Duration::from_secs(5);
        assert_eq!(queue.paused_until(T0), Some(probe));
        assert_eq!(starts(&mut queue, probe).len(), 1, "one probe");
        settle(&mut queue, probe, 0, OK);
        assert_eq!(starts(&mut queue, probe + PROBE_POLL), [10, 20, 30, 40]);
    }

    #[test]
    fn a_dead_host_does_not_stop_the_others() {
        let limits = Limits { breaker_failures: 1, many_hosts: true, parked: 2, ..limits() };
        let mut queue = queue(limits, &[]);
        offer(&mut queue, 0, 1, "dead.example");
        assert_eq!(starts(&mut queue, T0), [0]);
        settle(&mut queue, T0, 0, FAILED);
        offer(&mut queue, 10, 2, "dead.example");
        offer(&mut queue, 20, 3, "dead.example");
        offer(&mut queue, 30, 4, "good.example");
        assert_eq!(starts(&mut queue, T0), [30]);
        let kinds: Vec<_> = queue.take_changes().iter().map(name).collect();
        assert_eq!(kinds, ["park 0", "park 10", "dead 20"], "no more than two are parked");
        assert_eq!(queue.low(), Position(30));
    }

    #[test]
    fn when_too_many_are_parked_nothing_more_is_read() {
        let mut queue = queue(limits(), &[]);
        for position in 0..5 {
            offer(&mut queue, position, u128::from(position), "a");
            assert_eq!(starts(&mut queue, T0), [position]);
            settle(&mut queue, T0, position, FAILED);
        }
        for position in 5..13 {
            offer(&mut queue, position, u128::from(position), "a");
        }
        assert_eq!((starts(&mut queue, T0), queue.room()), (vec![], 0));
        assert_eq!(queue.low(), Position(5));
    }
}
