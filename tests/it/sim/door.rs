//! The real HTTP door before the dispatcher: the API's router with all its layers, on a runtime of
//! this thread whose clock is the gateway's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::Request;
use hikyaku::api;
use hikyaku::api::Api;
use hikyaku::api::Dispatcher;
use hikyaku::api::NewKey;
use hikyaku::api::Parts;
use hikyaku::api::Replies;
use hikyaku::api::Scope;
use hikyaku::api::admin;
use hikyaku::api::config::Client;
use hikyaku::archive::Archive;
use hikyaku::clock::Clock;
use hikyaku::dispatch::Event;
use hikyaku::dispatch::SheddingConfig;
use hikyaku::message::IdSource;
use hikyaku::message::Position;
use hikyaku::notify;
use hikyaku::notify::Runner;
use hikyaku::route::Routes;
use hikyaku::seal::Keys;
use hikyaku::time::Rate;
use hikyaku::time::Span;
use hikyaku::time::Time;
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::plan::DoorPlan;
use super::story::Kept;
use super::story::broken;
use crate::api::house::Around;

/// The door of one process.
pub(super) struct Door {
    /// The first field, so that what runs on it ends before what it uses.
    flights: Vec<Flight>,
    runtime: Runtime,
    router: Router,
    inbox: mpsc::Receiver<Event>,
    pub(super) replies: Replies,
    durable: watch::Sender<Position>,
    routes: Arc<ArcSwap<Routes>>,
    shedding: Arc<ArcSwap<SheddingConfig>>,
    tokens: BTreeMap<String, String>,
    at: Time,
    _runner: Runner,
    _dir: TempDir,
}

/// What a client asked for over HTTP: which requests of the plan it is about.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Message(usize),
    Batch(Vec<usize>),
    Cancel(usize),
    /// Reads a message; when, and whether it had ended by then.
    Read {
        about: usize,
        at: Time,
        had_ended: bool,
    },
}

struct Flight {
    call: Call,
    /// When it was made, without the time in which nobody could answer.
    begun: Time,
    answer: JoinHandle<Answer>,
}

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    /// Why it is refused.
    pub(super) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// When to come again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

/// What a door is made of.
pub(super) struct Inside<'a> {
    pub(super) plan: DoorPlan,
    pub(super) now: Time,
    pub(super) ids: IdSource,
    pub(super) routes: Routes,
    pub(super) shedding: SheddingConfig,
    pub(super) archive: &'a Archive,
    pub(super) durable: Position,
}

/// How long a request may go without an answer, which the API promises much earlier.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a door waits for the dispatcher and the archive.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the door's time is looked at while a request is there.
const LOOK: Duration = Duration::from_millis(50);

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("flights", &self.flights.len()).finish_non_exhaustive()
    }
}

impl Door {
    pub(super) fn open(with: Inside<'_>) -> Self {
        // One thread for what blocks, so that what waits for it is done in order.
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let inside = runtime.enter();
        let clock = Clock::start_at(with.now);
        let (config, tokens) = settings(with.plan);
        let (durable, durable_end) = watch::channel(with.durable);
        let (events, inbox) = mpsc::channel(with.plan.queue);
        let replies = Replies::default();
        let patience = *config.limits.answer_timeout;
        let dir = tempfile::tempdir().unwrap();
        let webhooks =
            notify::Config { file: dir.path().join("webhooks.db"), ..Default::default() };
        let webhooks =
            notify::open(&webhooks, with.archive.clone(), clock, &Keys::known(0)).unwrap();
        let routes = Arc::new(ArcSwap::from_pointee(with.routes));
        let shedding = Arc::new(ArcSwap::from_pointee(with.shedding));
        let api = Api::new(Parts {
            config,
            admin: admin::Config::default(),
            clock,
            ids: with.ids,
            dispatcher: Dispatcher::new(events, replies.clone(), patience, Arc::clone(&shedding)),
            routes: Arc::clone(&routes),
            archive: with.archive.clone(),
            durable: durable_end,
            webhooks: webhooks.0,
            surroundings: Arc::<Around>::default(),
            stop: CancellationToken::new(),
        });
        drop(inside);
        Self {
            flights: Vec::new(),
            router: api.router(),
            runtime,
            inbox,
            replies,
            durable,
            routes,
            shedding,
            tokens,
            at: with.now,
            _runner: webhooks.1,
            _dir: dir,
        }
    }

    /// Takes over a changed config.
    pub(super) fn reload(&self, routes: Routes, shedding: SheddingConfig) {
        self.routes.store(Arc::new(routes));
        self.shedding.store(Arc::new(shedding));
    }

    /// When it wants to be looked at.
    pub(super) fn next(&self) -> Option<Time> {
        (!self.flights.is_empty()).then(|| self.at + LOOK)
    }

    /// A client of this key makes a request: a method and a path, an idempotency key, a body.
    pub(super) fn call(
        &mut self,
        now: Time,
        call: Call,
        (key, line, idempotency): (u64, &str, Option<String>),
        body: Option<&Value>,
    ) {
        self.catch_up(now);
        let (method, path) = line.split_once(' ').unwrap();
        let token = &self.tokens[&format!("key{key}")];
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        if let Some(idempotency) = idempotency {
            request = request.header("idempotency-key", idempotency);
        }
        let request = request.body(body.map_or_else(Body::empty, |it| it.to_string().into()));
        let answer = self.router.clone().oneshot(request.unwrap());
        let answer = self.runtime.spawn(async move {
            let (parts, body) = answer.await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            Answer { status: parts.status.as_u16(), headers: parts.headers, body }
        });
        self.flights.push(Flight { call, begun: now, answer });
    }

    /// A client goes away without waiting for its answer.
    pub(super) fn hang_up(&mut self, about: usize) {
        self.flights.retain(|flight| {
            let is_it = match &flight.call {
                Call::Message(it) => *it == about,
                Call::Batch(all) => all.contains(&about),
                Call::Cancel(_) | Call::Read { .. } => false,
            };
            if is_it {
                flight.answer.abort();
            }
            !is_it
        });
    }

    fn catch_up(&mut self, now: Time) {
        let passed = now.since(self.at);
        self.at = now;
        // A process that stands still answers nobody.
        let still = passed.saturating_sub(LOOK);
        self.flights.iter_mut().for_each(|flight| flight.begun += still);
        self.runtime.block_on(tokio::time::advance(passed));
    }

    /// Lets everything go on that can; gives what the dispatcher is asked.
    pub(super) fn turn(&mut self, now: Time, durable: Position) -> Vec<Event> {
        /// The most steps that a request takes at once, and the most that block.
        const STEPS: usize = 12;
        const BLOCKS: usize = 3;
        self.durable.send_if_modified(|end| std::mem::replace(end, durable) != durable);
        if self.flights.is_empty() {
            return Vec::new();
        }
        self.catch_up(now);
        self.runtime.block_on(async {
            for _ in 0..BLOCKS {
                for _ in 0..STEPS {
                    tokio::task::yield_now().await;
                }
                tokio::task::spawn_blocking(|| ()).await.unwrap();
            }
        });
        std::iter::from_fn(|| self.inbox.try_recv().ok()).collect()
    }

    /// The answers that have come.
    pub(super) fn answers(&mut self) -> Vec<(Call, Answer)> {
        let done = self.flights.extract_if(.., |flight| flight.answer.is_finished());
        let done: Vec<_> = done.collect();
        let read = |flight: Flight| (flight.call, self.runtime.block_on(flight.answer).unwrap());
        done.into_iter().map(read).collect()
    }

    /// Every request is answered, sooner or later.
    pub(super) fn keeps_nobody(&self, now: Time) -> Kept {
        let late = self.flights.iter().find(|flight| now.since(flight.begun) > PATIENCE);
        late.map_or(Ok(()), |flight| broken(None, format!("{:?} has no answer", flight.call)))
    }
}

/// The API's config, and the tokens of its clients.
fn settings(plan: DoorPlan) -> (api::Config, BTreeMap<String, String>) {
    let mut config = api::Config::default();
    let mut tokens = BTreeMap::new();
    for number in 0..3 {
        let (name, key) = (format!("key{number}"), NewKey::generate().unwrap());
        let rate = plan.rate;
        let client = Client {
            keys: vec![key.hash],
            scopes: vec![Scope::MessagesWrite, Scope::MessagesRead],
            rate: Rate::per_second(rate),
            burst: u32::try_from(rate).ok().and_then(std::num::NonZeroU32::new),
            ..Client::default()
        };
        config.clients.insert(name.clone(), client);
        tokens.insert(name, key.token);
    }
    config.messages.ttl_min = Span::secs(1);
    config.messages.schedule_past = Span::secs(86_400);
    config.limits.answer_timeout = Span(ANSWER_TIMEOUT);
    (config, tokens)
}
