//! One endpoint's loop: reads the feed, makes tries, writes down what came of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task;
use tokio::task::JoinError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::archive::Archive;
use crate::archive::Event;
use crate::archive::Feed;
use crate::archive::FeedReader;
use crate::archive::Interest;
use crate::clock::Clock;
use crate::message::EventId;
use crate::message::MessageId;
use crate::message::Position;
use crate::notify::Config;
use crate::notify::config::Kind;
use crate::notify::queue::Change;
use crate::notify::queue::Job;
use crate::notify::queue::Limits;
use crate::notify::queue::Outcome;
use crate::notify::queue::Parked;
use crate::notify::queue::Queue;
use crate::notify::send::Call;
use crate::notify::send::Keeping;
use crate::notify::send::Sender;
use crate::notify::send::Target;
use crate::notify::send::Try;
use crate::notify::sign::Secret;
use crate::notify::store::Batch;
use crate::notify::store::Edit;
use crate::notify::store::Store;
use crate::notify::store::StoreError;
use crate::notify::store::StoredEvent;
use crate::notify::store::StoredTry;
use crate::notify::store::Waiting;
use crate::notify::view::WebhookId;
use crate::time::Time;

/// What all lines share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) archive: Archive,
    pub(crate) store: Arc<Store>,
    pub(crate) sender: Sender,
    pub(crate) clock: Clock,
    /// Bounds the tries in all.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) counters: Counters,
}

/// How many tries ended how.
#[derive(Debug, Default)]
pub struct Counters {
    taken: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
}

impl Counters {
    /// Tries that the endpoint took.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Tries that failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Events that were given up.
    pub fn dead(&self) -> u64 {
        self.dead.load(Ordering::Relaxed)
    }
}

/// One endpoint as the process has it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: WebhookId,
    pub(crate) owner: Box<str>,
    /// Whether each event has an address of its own.
    pub(crate) is_callbacks: bool,
    pub(crate) settings: ArcSwap<Settings>,
    pub(crate) status: Mutex<Status>,
    /// Held by the loop that runs, so that there is never a second one.
    pub(crate) running: tokio::sync::Mutex<()>,
    commands: Mutex<Option<(mpsc::Sender<Command>, CancellationToken)>>,
}

/// What may change while the loop runs.
#[derive(Debug)]
pub(crate) struct Settings {
    /// None for callbacks.
    pub(crate) target: Option<Target>,
    /// Empty for all of the feed.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) secrets: Vec<(Secret, Option<Time>)>,
}

impl Settings {
    /// The secrets that sign at `now`.
    pub(crate) fn signing(&self, now: Time) -> Vec<&Secret> {
        let valid = |until: &Option<Time>| until.is_none_or(|until| now < until);
        self.secrets.iter().filter(|(_, until)| valid(until)).map(|(secret, _)| secret).collect()
    }
}

/// How the loop is doing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Status {
    pub(crate) backlog: u64,
    /// Where it reads the feed.
    pub(crate) read: Position,
    pub(crate) paused_until: Option<Time>,
}

/// What a loop is told from outside.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take up what was revived on disk.
    Restore { position: Position, parked: Parked },
    /// Send an event that is not of the feed.
    Announce(Arc<Made>),
}

/// An event that is not of the feed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) position: Position,
    pub(crate) id: EventId,
    pub(crate) kind: Kind,
    pub(crate) body: Bytes,
}

/// What is on its way.
#[derive(Clone, Debug)]
enum Payload {
    Feed(Arc<Event>),
    Made(Arc<Made>),
}

impl Payload {
    fn kind(&self) -> Kind {
        match self {
            Self::Feed(event) => Kind::Feed(event.kind),
            Self::Made(made) => made.kind,
        }
    }

    fn id(&self) -> EventId {
        match self {
            Self::Feed(event) => event.id(),
            Self::Made(made) => made.id,
        }
    }

    fn body(&self) -> Bytes {
        match self {
            Self::Feed(event) => event.body().into(),
            Self::Made(made) => made.body.clone(),
        }
    }

    fn message(&self) -> MessageId {
        match self {
            Self::Feed(event) => event.message_id(),
            // Events of their own: none has to wait for another.
            Self::Made(made) => MessageId::from_u128(made.id.as_u128()),
        }
    }

    fn callback(&self) -> Option<&str> {
        match self {
            Self::Feed(event) => event.callback_url(),
            Self::Made(_) => None,
        }
    }
}

impl Line {
    pub(crate) fn new(id: WebhookId, owner: &str, callbacks: bool, settings: Settings) -> Self {
        Self {
            id,
            owner: owner.into(),
            is_callbacks: callbacks,
            settings: ArcSwap::from_pointee(settings),
            status: Mutex::default(),
            running: tokio::sync::Mutex::default(),
            commands: Mutex::default(),
        }
    }

    pub(crate) fn status(&self) -> Status {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the loop something; false when none runs.
    pub(crate) fn tell(&self, command: Command) -> bool {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.as_ref().is_some_and(|(sender, _)| sender.try_send(command).is_ok())
    }

    /// Whether a loop runs, or is about to.
    pub(crate) fn is_running(&self) -> bool {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.as_ref().is_some_and(|(sender, stop)| !sender.is_closed() && !stop.is_cancelled())
    }

    /// Ends the loop, if one runs or is about to.
    pub(crate) fn stop(&self) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, stop)) = commands.take() {
            stop.cancel();
        }
    }

    /// What a new loop listens to; an older one ends.
    pub(crate) fn renew(&self, parent: &CancellationToken) -> Ears {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let stop = parent.child_token();
        let mut current = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, old)) = current.replace((sender, stop.clone())) {
            old.cancel();
        }
        Ears { commands, stop }
    }

    fn wants(&self, settings: &Settings, event: &Event) -> bool {
        if self.is_callbacks {
            return event.callback_url().is_some();
        }
        settings.kinds.is_empty() || settings.kinds.contains(&Kind::Feed(event.kind))
    }

    /// Which events it is to be woken for.
    fn interest(&self) -> Interest {
        if self.is_callbacks {
            return Interest::CALLBACKS;
        }
        let settings = self.settings.load();
        if settings.kinds.is_empty() {
            return Interest::ALL;
        }
        Interest::in_kinds(settings.kinds.iter().filter_map(|kind| match kind {
            Kind::Feed(kind) => Some(*kind),
            Kind::Carrier(_) => None,
        }))
    }
}

/// The most commands that wait for a loop.
const COMMANDS: usize = 256;

/// What a loop listens to.
#[derive(Debug)]
pub(crate) struct Ears {
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
}

/// The loop of one endpoint.
#[derive(Debug)]
pub(crate) struct Loop {
    shared: Arc<Shared>,
    line: Arc<Line>,
    feed: FeedReader,
    queue: Queue<Payload>,
    tasks: JoinSet<Done>,
    flying: HashMap<task::Id, Position>,
    /// What is to be written at the next checkpoint.
    tries: Vec<StoredTry>,
    edits: Vec<Edit>,
    /// Whether an event to be parked is among them.
    is_parking: bool,
    /// Whether they could not be written when that was tried last.
    is_failing: bool,
    written: Position,
    checkpoint_at: Time,
    /// When the cursor is written although nothing else is.
    move_on_at: Time,
    /// Not to read the feed before.
    read_at: Time,
    caught_up: bool,
    gone: bool,
    draw: u64,
}

/// What came of one try.
#[derive(Debug)]
struct Done {
    position: Position,
    came: Came,
}

#[derive(Debug)]
enum Came {
    /// It was made.
    Made {
        message: MessageId,
        event: EventId,
        kind: Kind,
        result: Try,
        retry_after: Option<Duration>,
    },
    /// What was parked is not there any more.
    Missing,
    /// It could not be made, and the endpoint is not to blame.
    Failed,
}

/// Runs the loop of `line` until it is told to stop.
pub(crate) async fn run(shared: Arc<Shared>, line: Arc<Line>, mut ears: Ears) {
    let held = Arc::clone(&line);
    let _only = held.running.lock().await;
    if ears.stop.is_cancelled() {
        return;
    }
    let mut this = match Loop::start(shared, line).await {
        Ok(this) => this,
        Err(error) => {
            tracing::error!(%error, endpoint = %held.id, "an endpoint gets nothing: restart to try again");
            return;
        }
    };
    this.follow(&mut ears).await;
    this.finish().await;
}

impl Loop {
    async fn start(shared: Arc<Shared>, line: Arc<Line>) -> Result<Self, StoreError> {
        let id = line.id;
        let (cursor, Waiting { parked, dead }) = shared
            .store
            .with(move |store| {
                let cursor = store.cursor(id)?.unwrap_or(Position(u64::MAX));
                Ok((cursor, store.parked(id, cursor)?))
            })
            .await?;
        let config = &shared.config;
        let limits = Limits {
            flying: config.concurrency,
            ready: config.window,
            parked: config.parked,
            waits: config.retries.iter().map(|span| **span).collect(),
            breaker_failures: config.breaker_failures,
            many_hosts: line.is_callbacks,
        };
        let mut queue = Queue::new(limits, cursor);
        for (position, parked) in parked {
            queue.restore(position, parked);
        }
        dead.into_iter().for_each(|position| queue.restore_dead(position));
        let now = shared.clock.now();
        let draw = getrandom::u64().unwrap_or(now.as_micros());
        let feed = shared.archive.follow(Feed::All, cursor, Some(&line.owner));
        Ok(Self {
            shared,
            line,
            feed,
            queue,
            tasks: JoinSet::new(),
            flying: HashMap::new(),
            tries: Vec::new(),
            edits: Vec::new(),
            is_parking: false,
            is_failing: false,
            written: cursor,
            checkpoint_at: now,
            move_on_at: now + A_MINUTE,
            read_at: now,
            caught_up: false,
            gone: false,
            draw,
        })
    }

    async fn follow(&mut self, ears: &mut Ears) {
        let mut interest = self.line.interest();
        let mut news = self.shared.archive.news(&self.line.owner, interest);
        while !self.gone && !ears.stop.is_cancelled() {
            let wanted = self.line.interest();
            if wanted != interest {
                interest = wanted;
                news = self.shared.archive.news(&self.line.owner, interest);
            }
            news.mark_unchanged();
            self.read(interest).await;
            self.launch().await;
            self.checkpoint_if_due().await;
            let wake = self.wake_at();
            tokio::select! {
                Some(done) = self.tasks.join_next_with_id() => {
                    self.ended(done).await;
                    while let Some(done) = self.tasks.try_join_next_with_id() {
                        self.ended(done).await;
                    }
                }
                Some(command) = ears.commands.recv() => self.obey(command),
                changed = news.changed(), if self.caught_up => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(self.shared.clock.instant(wake)) => {}
                () = ears.stop.cancelled() => {}
            }
        }
    }

    /// When something is to be done although nothing happens.
    fn wake_at(&self) -> Time {
        let now = self.shared.clock.now();
        let next =
            self.queue.timeout(now).filter(|_| self.tasks.len() < self.shared.config.concurrency);
        // What is ready may not start now: it is due later, or something in flight must end first.
        let next = next.map(|at| at.max(now + Duration::from_millis(1)));
        let read = (!self.caught_up && self.room() > 0).then_some(self.read_at);
        let checkpoint = self.has_news().then_some(self.checkpoint_at);
        let move_on = self.has_moved().then_some(self.move_on_at);
        [next, read, checkpoint, move_on].into_iter().flatten().min().unwrap_or(now + A_WHILE)
    }

    /// How many events are to be read now: none while plenty are ready.
    fn room(&self) -> usize {
        let room = self.queue.room();
        if room >= self.shared.config.window.div_ceil(2) { room } else { 0 }
    }

    /// Reads some of the feed, if there is room.
    async fn read(&mut self, interest: Interest) {
        let room = self.room();
        if room == 0 || self.shared.clock.now() < self.read_at {
            return;
        }
        let from = self.queue.read();
        if let Some(next) = self.shared.archive.skip(&self.line.owner, interest, from) {
            self.feed.skip_to(next);
            self.queue.read_to(next);
            self.caught_up = true;
            return;
        }
        match self.feed.read(room).await {
            Ok(page) => {
                let settings = self.line.settings.load();
                for event in page.events {
                    if self.line.wants(&settings, &event) {
                        let host = self.host_of(&settings, event.callback_url());
                        let (position, message) = (event.position, event.message_id());
                        self.queue.offer(position, message, host, Payload::Feed(event));
                    }
                }
                self.caught_up = page.next == from || self.feed.is_at_end();
                self.queue.read_to(page.next);
            }
            Err(error) => {
                tracing::error!(%error, endpoint = %self.line.id, "the feed cannot be read");
                self.read_at = self.shared.clock.now() + A_WHILE;
            }
        }
    }

    fn host_of(&self, settings: &Settings, callback: Option<&str>) -> Arc<str> {
        if !self.line.is_callbacks {
            return settings.target.as_ref().map_or_else(|| "".into(), |t| Arc::clone(t.host()));
        }
        let url = callback.unwrap_or_default();
        let target = Target::parse(url, self.shared.config.https_only);
        target.map_or_else(|_| "".into(), |target| Arc::clone(target.host()))
    }

    /// Starts as many tries as may be.
    async fn launch(&mut self) {
        let now = self.shared.clock.now();
        self.note_changes();
        // A parked event is read from disk, so it has to be there.
        let missing = |this: &Self| this.is_parking && this.queue.is_due(now);
        if missing(self) || self.is_full() && !self.is_failing {
            self.checkpoint().await;
        }
        if missing(self) || self.is_full() {
            return;
        }
        while let Some(job) = self.queue.next(now) {
            let position = job.position;
            let (shared, line) = (Arc::clone(&self.shared), Arc::clone(&self.line));
            let task = self.tasks.spawn(attempt(shared, line, job));
            self.flying.insert(task.id(), position);
        }
        self.note_changes();
    }

    async fn ended(&mut self, done: Result<(task::Id, Done), JoinError>) {
        match done {
            Ok((id, done)) => {
                self.flying.remove(&id);
                self.settle(done).await;
            }
            Err(error) => {
                tracing::error!(%error, endpoint = %self.line.id, "a try came to a bad end");
                if let Some(position) = self.flying.remove(&error.id()) {
                    self.settle(Done { position, came: Came::Failed }).await;
                }
            }
        }
    }

    /// Takes note of what came of a try.
    async fn settle(&mut self, Done { position, came }: Done) {
        let now = self.shared.clock.now();
        let failed = |retry_after| Outcome::Failed { retry_after };
        let (outcome, gone) = match came {
            Came::Missing => (Outcome::Delivered, false),
            Came::Failed => (failed(None), false),
            Came::Made { message, event, kind, result, retry_after } => {
                let gone = result.is_gone();
                // Whoever is gone for good must not be asked again for this message.
                let taken = result.is_taken() || (gone && self.line.is_callbacks);
                let counters = &self.shared.counters;
                let counter = if taken { &counters.taken } else { &counters.failed };
                counter.fetch_add(1, Ordering::Relaxed);
                self.tries.push(StoredTry { position, message, event, kind, result });
                let outcome = if taken { Outcome::Delivered } else { failed(retry_after) };
                (outcome, gone && !self.line.is_callbacks)
            }
        };
        self.queue.settled(now, position, outcome, self.draw);
        self.draw = self.draw.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        self.note_changes();
        if gone {
            self.disable().await;
        }
    }

    /// The endpoint has answered that it wants no more events (410).
    async fn disable(&mut self) {
        self.gone = true;
        let id = self.line.id;
        tracing::warn!(endpoint = %id, "an endpoint answered 410 and is disabled");
        let disabled = self.shared.store.with(move |store| store.disable(id, GONE)).await;
        if let Err(error) = disabled {
            tracing::error!(%error, endpoint = %id, "an endpoint could not be disabled");
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Restore { position, parked } => self.queue.restore(position, parked),
            Command::Announce(made) => {
                let settings = self.line.settings.load();
                let payload = Payload::Made(Arc::clone(&made));
                let host = self.host_of(&settings, None);
                let parked = Parked { message: payload.message(), host, failures: 0, due: None };
                let now = self.shared.clock.now();
                self.queue.announce(now, made.position, parked, payload);
            }
        }
    }

    /// Turns the queue's changes into those of the store.
    fn note_changes(&mut self) {
        let changes = self.queue.take_changes();
        if changes.is_empty() {
            return;
        }
        let now = self.shared.clock.now();
        for change in changes {
            let edit = match change {
                Change::Park { position, parked, event } => keep(position, parked, None, &event),
                Change::Repark { position, failures, due } => {
                    Edit::Change { position, failures, due }
                }
                Change::Done { position } => Edit::Forget { position },
                Change::Dead { position, message, host, failures, event } => {
                    self.shared.counters.dead.fetch_add(1, Ordering::Relaxed);
                    match event {
                        Some(event) => {
                            let parked = Parked { message, host, failures, due: None };
                            keep(position, parked, Some(now), &event)
                        }
                        None => Edit::Bury { position, failures, at: now },
                    }
                }
            };
            self.is_parking |= matches!(edit, Edit::Keep(_));
            self.edits.push(edit);
        }
        // What is parked is read from disk again, so it has to get there soon.
        self.checkpoint_at = self.checkpoint_at.min(now + SOON);
    }

    fn is_full(&self) -> bool {
        self.edits.len() + self.tries.len() >= MOST_NEWS
    }

    fn has_news(&self) -> bool {
        !self.tries.is_empty() || !self.edits.is_empty()
    }

    /// Whether the feed went on. When nothing of it was this endpoint's, a crash makes it read that
    /// again and no more, so it is seldom written: thousands of endpoints may have nothing to do.
    fn has_moved(&self) -> bool {
        self.queue.low() != self.written
    }

    async fn checkpoint_if_due(&mut self) {
        let now = self.shared.clock.now();
        let is_due = self.has_moved() && now >= self.move_on_at;
        if is_due || now >= self.checkpoint_at {
            if is_due || self.has_news() {
                self.checkpoint().await;
            }
            self.checkpoint_at = self.shared.clock.now() + A_WHILE;
        }
        let backlog = self.queue.backlog() as u64;
        let status =
            Status { backlog, read: self.queue.read(), paused_until: self.queue.paused_until(now) };
        *self.line.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    async fn checkpoint(&mut self) {
        let low = self.queue.low();
        let batch = Batch {
            tries: std::mem::take(&mut self.tries),
            edits: std::mem::take(&mut self.edits),
            cursor: low,
        };
        let (id, batch) = (self.line.id, Arc::new(batch));
        let writing = Arc::clone(&batch);
        match self.shared.store.with(move |store| store.write(id, &writing)).await {
            Ok(()) => {
                (self.written, self.is_parking, self.is_failing) = (low, false, false);
                self.move_on_at = self.shared.clock.now() + A_MINUTE;
            }
            Err(error) => {
                tracing::error!(%error, endpoint = %id, "deliveries cannot be written down");
                self.is_failing = true;
                // Nobody else holds it once the write has ended.
                if let Ok(batch) = Arc::try_unwrap(batch) {
                    self.tries = batch.tries;
                    self.edits = batch.edits;
                }
            }
        }
    }

    /// Waits a little for what is in flight, and writes down where to go on.
    async fn finish(mut self) {
        let landing = async {
            while let Some(done) = self.tasks.join_next_with_id().await {
                self.ended(done).await;
            }
        };
        let _late = tokio::time::timeout(LAST_WAIT, landing).await;
        self.tasks.abort_all();
        if self.has_news() || self.has_moved() {
            self.checkpoint().await;
        }
    }
}

/// How often cursors and tries are written, and how long to wait after something failed.
const A_WHILE: Duration = Duration::from_secs(1);

/// How often a cursor is written that moved over nothing of its endpoint's.
const A_MINUTE: Duration = Duration::from_secs(60);

/// How soon parked events are written.
const SOON: Duration = Duration::from_millis(50);

/// How long tries in flight may take when the loop ends.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// So many changes are written at once; while they cannot be, no more tries are made.
const MOST_NEWS: usize = 5_000;

/// Why an endpoint was disabled that answered 410.
const GONE: &str = "it answered 410 Gone";

fn keep(position: Position, parked: Parked, dead: Option<Time>, payload: &Payload) -> Edit {
    Edit::Keep(Box::new(StoredEvent {
        position,
        parked,
        dead,
        kind: payload.kind(),
        event: payload.id(),
        url: payload.callback().unwrap_or_default().into(),
        body: payload.body().as_ref().into(),
    }))
}

/// Makes one try.
async fn attempt(shared: Arc<Shared>, line: Arc<Line>, job: Job<Payload>) -> Done {
    let came = make(&shared, &line, &job).await;
    Done { position: job.position, came }
}

async fn make(shared: &Shared, line: &Line, job: &Job<Payload>) -> Came {
    let Ok(_permit) = shared.permits.acquire().await else { return Came::Failed };
    let (message, event, kind, url, body) = match &job.event {
        Some(payload) => {
            let url = payload.callback().map(Box::<str>::from);
            (payload.message(), payload.id(), payload.kind(), url, payload.body())
        }
        None => match parked(shared, line.id, job.position).await {
            Ok(Some(kept)) => {
                let url = (!kept.url.is_empty()).then_some(kept.url);
                let body = Bytes::from(kept.body.into_vec());
                (kept.parked.message, kept.event, kept.kind, url, body)
            }
            Ok(None) => return Came::Missing,
            Err(error) => {
                tracing::error!(%error, endpoint = %line.id, "a parked event cannot be read");
                return Came::Failed;
            }
        },
    };
    let settings = line.settings.load_full();
    let target = match url.filter(|_| line.is_callbacks) {
        Some(url) => Target::parse(&url, shared.config.https_only).ok(),
        None => settings.target.clone(),
    };
    let keeping = if line.is_callbacks { Keeping::Closed } else { Keeping::Kept };
    let (result, retry_after) = call(shared, &settings, (target, keeping), event, body).await;
    Came::Made { message, event, kind, result, retry_after }
}

async fn parked(
    shared: &Shared,
    id: WebhookId,
    position: Position,
) -> Result<Option<StoredEvent>, StoreError> {
    shared.store.with(move |store| store.event(id, position)).await
}

/// Sends one event to `target`.
pub(crate) async fn call(
    shared: &Shared,
    settings: &Settings,
    (target, keeping): (Option<Target>, Keeping),
    id: EventId,
    body: Bytes,
) -> (Try, Option<Duration>) {
    let now = shared.clock.now();
    let refused = match &target {
        None => Some("the address is not one that webhooks can be sent to".to_owned()),
        Some(target) => target.refused(&shared.config.networks).map(|error| error.to_string()),
    };
    match (target, refused) {
        (Some(target), None) => {
            let secrets = settings.signing(now);
            let id = id.to_string();
            let call = Call { target: &target, id: &id, secrets: &secrets, body, keeping };
            shared.sender.call(call).await
        }
        (_, refused) => (Try { at: now, took: Duration::ZERO, status: None, error: refused }, None),
    }
}
