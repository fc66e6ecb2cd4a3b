//! Webhooks: the real queue of an endpoint over the feed, what its loop writes down, and endpoints
//! that are slow, dead, throttling, and well again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

use hikyaku::message::MessageId;
use hikyaku::message::Position;
use hikyaku::notify::queue::Change;
use hikyaku::notify::queue::Limits;
use hikyaku::notify::queue::Outcome;
use hikyaku::notify::queue::Parked;
use hikyaku::notify::queue::Queue;
use hikyaku::time::Time;

use super::coverage::Coverage;
use super::draw::Draws;
use super::feed::Feed;
use super::story::Kept;
use super::story::broken;

/// One endpoint and the loop that feeds it.
#[derive(Debug)]
pub(super) struct Hook {
    limits: Limits,
    /// How the endpoint is from each of these times on.
    moods: Vec<(Time, Mood)>,
    queue: Option<Queue<usize>>,
    disk: Disk,
    /// Changes that are not on the disk yet.
    unsaved: Vec<Change<usize>>,
    save_at: Time,
    flying: Vec<Flight>,
    /// Where in the feed's list it reads on.
    seen: usize,
    draws: Draws,
    /// What the endpoint took, in order.
    taken: Vec<Position>,
    /// Events that a crash or a lost answer may bring again.
    may_repeat: BTreeSet<Position>,
    is_paused: bool,
    turned_at: Time,
}

#[derive(Debug)]
struct Flight {
    ends: Time,
    position: Position,
    outcome: Outcome,
    /// Whether the endpoint takes it, whatever it says.
    is_taken: bool,
}

/// What survives the process.
#[derive(Debug, Default)]
struct Disk {
    cursor: Position,
    parked: BTreeMap<Position, Parked>,
    dead: BTreeSet<Position>,
}

/// How an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Answers after seconds, sometimes too late.
    Slow,
    /// Does not answer, or refuses.
    Dead,
    /// Takes one in two and asks for time.
    Throttling,
}

/// How often what happened is written down.
const SAVE: Duration = Duration::from_secs(1);

/// How long a try may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Hook {
    pub(super) fn new(start: Time, busy: Duration, mut draws: Draws) -> Self {
        let limits = Limits {
            flying: draws.pick(&[1, 3, 10]),
            ready: draws.pick(&[1, 5, 100]),
            parked: draws.pick(&[2, 20, 1_000]),
            // In all longer than any endpoint is dead here.
            waits: [5, 30, 120, 600, 1_800].map(Duration::from_secs).into(),
            breaker_failures: draws.pick(&[1, 5]),
            many_hosts: false,
        };
        let parts = u32::try_from(draws.below(4)).unwrap();
        let mut mood = || draws.pick(&[Mood::Well, Mood::Slow, Mood::Dead, Mood::Throttling]);
        let mut moods: Vec<_> =
            (0..parts).map(|part| (start + busy / parts.max(1) * part, mood())).collect();
        moods.push((start + busy, Mood::Well));
        Self {
            limits,
            moods,
            queue: None,
            disk: Disk::default(),
            unsaved: Vec::new(),
            save_at: Time::ZERO,
            flying: Vec::new(),
            seen: 0,
            draws,
            taken: Vec::new(),
            may_repeat: BTreeSet::new(),
            is_paused: false,
            turned_at: Time::ZERO,
        }
    }

    /// The process starts.
    pub(super) fn start(&mut self) {
        let mut queue = Queue::new(self.limits.clone(), self.disk.cursor);
        for (position, parked) in &self.disk.parked {
            queue.restore(*position, parked.clone());
        }
        for position in self.disk.dead.range(self.disk.cursor..) {
            queue.restore_dead(*position);
        }
        self.queue = Some(queue);
        self.turned_at = Time::ZERO;
        self.seen = 0;
    }

    /// The process is gone: what flies may arrive.
    pub(super) fn die(&mut self, coverage: &mut Coverage) {
        if self.queue.take().is_none() {
            return;
        }
        for flight in std::mem::take(&mut self.flying) {
            self.may_repeat.insert(flight.position);
            if flight.is_taken {
                self.taken.push(flight.position);
                coverage.count("webhook taken as the process dies".into());
            }
        }
        // All that was taken since the last write comes again.
        self.may_repeat.extend(self.taken.iter().filter(|it| **it >= self.disk.cursor));
        self.may_repeat.extend(self.disk.parked.keys());
        self.unsaved.clear();
    }

    fn mood(&self, now: Time) -> Mood {
        let now = self.moods.iter().rev().find(|(from, _)| *from <= now);
        now.map_or(Mood::Well, |(_, mood)| *mood)
    }

    /// When it has something to do next.
    pub(super) fn next(&self, feed: &Feed) -> Option<Time> {
        let queue = self.queue.as_ref()?;
        let soon = self.turned_at + Duration::from_millis(1);
        let flying = self.flying.iter().map(|flight| flight.ends).min();
        let free = self.flying.len() < self.limits.flying;
        // What is due and did not start waits for something in flight.
        let due = queue.timeout(self.turned_at).filter(|_| free).map(|at| at.max(soon));
        let news = !self.unsaved.is_empty() || queue.low() != self.disk.cursor;
        let save = news.then_some(self.save_at);
        let read = (queue.room() > 0 && self.seen < feed.events.len()).then_some(Time::ZERO);
        [flying, due, save, read].into_iter().flatten().min()
    }

    /// Does all that is due.
    pub(super) fn turn(&mut self, now: Time, feed: &Feed, coverage: &mut Coverage) {
        let Some(mut queue) = self.queue.take() else { return };
        self.turned_at = now;
        let ended: Vec<_> = self.flying.extract_if(.., |flight| flight.ends <= now).collect();
        for Flight { position, outcome, is_taken, .. } in ended {
            if is_taken {
                self.taken.push(position);
                if outcome != Outcome::Delivered {
                    self.may_repeat.insert(position);
                }
            }
            let draw = self.draws.next();
            queue.settled(now, position, outcome, draw);
        }
        self.read(&mut queue, feed);
        self.note(&mut queue, coverage);
        if self.unsaved.is_empty() || !queue.is_due(now) {
            self.launch(now, &mut queue, coverage);
        } else {
            self.save(now, &queue);
            self.launch(now, &mut queue, coverage);
        }
        self.note(&mut queue, coverage);
        if self.save_at <= now {
            self.save(now, &queue);
        }
        let is_paused = queue.paused_until(now).is_some();
        coverage.count_if(is_paused && !self.is_paused, "webhook left alone");
        self.is_paused = is_paused;
        self.queue = Some(queue);
    }

    fn read(&mut self, queue: &mut Queue<usize>, feed: &Feed) {
        while queue.room() > 0
            && let Some(event) = feed.events.get(self.seen)
        {
            if event.position >= queue.read() {
                let host = "endpoint".into();
                queue.offer(event.position, event.message_id(), host, self.seen);
            }
            self.seen += 1;
            queue.read_to(event.cursor());
        }
    }

    fn launch(&mut self, now: Time, queue: &mut Queue<usize>, coverage: &mut Coverage) {
        while let Some(job) = queue.next(now) {
            let failed = |retry_after| Outcome::Failed { retry_after };
            let quick = self.draws.millis(1, 300);
            let slow = self.draws.millis(3_000, 14_000);
            let (took, outcome, is_taken) = match self.mood(now) {
                Mood::Well => (quick, Outcome::Delivered, true),
                Mood::Slow if slow < PATIENCE => (slow, Outcome::Delivered, true),
                // It took it, and said so too late.
                Mood::Slow => (PATIENCE, failed(None), self.draws.per_mille(500)),
                Mood::Dead => (self.draws.pick(&[quick, PATIENCE]), failed(None), false),
                Mood::Throttling if self.draws.per_mille(500) => (quick, Outcome::Delivered, true),
                Mood::Throttling => {
                    let wait = Duration::from_secs(self.draws.between(1, 60));
                    (quick, failed(Some(wait)), false)
                }
            };
            coverage.count_if(job.failures > 0, "webhook tried again");
            self.flying.push(Flight {
                ends: now + took,
                position: job.position,
                outcome,
                is_taken,
            });
        }
    }

    fn note(&mut self, queue: &mut Queue<usize>, coverage: &mut Coverage) {
        for change in queue.take_changes() {
            coverage.count(match &change {
                Change::Park { .. } => "webhook parked".into(),
                Change::Repark { .. } => "webhook parked again".into(),
                Change::Done { .. } => "webhook taken after it was parked".into(),
                Change::Dead { .. } => "webhook given up".into(),
            });
            self.unsaved.push(change);
        }
    }

    fn save(&mut self, now: Time, queue: &Queue<usize>) {
        for change in self.unsaved.drain(..) {
            match change {
                Change::Park { position, parked, .. } => {
                    self.disk.parked.insert(position, parked);
                }
                Change::Repark { position, failures, due } => {
                    if let Some(parked) = self.disk.parked.get_mut(&position) {
                        (parked.failures, parked.due) = (failures, due);
                    }
                }
                Change::Done { position } => {
                    self.disk.parked.remove(&position);
                }
                Change::Dead { position, .. } => {
                    self.disk.parked.remove(&position);
                    self.disk.dead.insert(position);
                }
            }
        }
        self.disk.cursor = self.disk.cursor.max(queue.low());
        self.save_at = now + SAVE;
    }

    /// Lets the endpoint have all that is left, and holds what it saw to the promises.
    pub(super) fn settle(&mut self, mut now: Time, feed: &Feed, coverage: &mut Coverage) -> Kept {
        let end = now + Duration::from_secs(24 * 3_600);
        while let Some(next) = self.next(feed) {
            now = now.max(next);
            self.turn(now, feed, coverage);
            now += Duration::from_millis(1);
            if now > end {
                return broken(None, "an endpoint that is well does not get everything");
            }
        }
        self.gets_everything(feed)?;
        self.gets_it_in_order(feed)
    }

    fn gets_everything(&self, feed: &Feed) -> Kept {
        let taken: BTreeSet<_> = self.taken.iter().copied().collect();
        let missing = feed.events.iter().find(|event| !taken.contains(&event.position));
        match missing {
            Some(event) => broken(None, format!("an endpoint never gets {event:?}")),
            None => Ok(()),
        }
    }

    /// Each event once, but for those that may come again; of one message in the feed's order.
    fn gets_it_in_order(&self, feed: &Feed) -> Kept {
        let messages: HashMap<Position, MessageId> =
            feed.events.iter().map(|event| (event.position, event.message_id())).collect();
        let mut last: HashMap<MessageId, Position> = HashMap::new();
        let mut seen = BTreeSet::new();
        for position in &self.taken {
            if !seen.insert(*position) {
                if !self.may_repeat.contains(position) {
                    return broken(None, format!("an endpoint gets {position:?} twice"));
                }
                continue;
            }
            let Some(message) = messages.get(position) else {
                return broken(None, format!("an endpoint gets {position:?}, which is no event"));
            };
            if last.insert(*message, *position).is_some_and(|before| before > *position) {
                return broken(None, format!("an endpoint gets {position:?} after a later event"));
            }
        }
        Ok(())
    }
}
