//! Builds every part, spawns it, and drains it: the only place that starts tasks which live long.
//!
//! ```text
//!   doors (api) --events--> pump (dispatcher) --batches--> journal thread
//!      ^                     ^   |   |                        | durable end
//!      |  replies            |   |   +--chores--> housekeeper |
//!      +---------------------|---+                            v
//!   carriers <--> links -----+                  archive thread --feed--> webhooks
//! ```

#![expect(clippy::disallowed_methods, reason = "tasks that live long start here and nowhere else")]

mod behind;
mod certificates;
mod core;
mod doors;
mod links;
mod pump;
mod store;
mod surroundings;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::api::Api;
use crate::api::Dispatcher;
use crate::api::Replies;
use crate::api::admin::Reloaded;
use crate::archive;
use crate::archive::Archive;
use crate::clock::Clock;
use crate::config::Config;
use crate::dispatch::BindId;
use crate::dispatch::Dispatch;
use crate::dispatch::Event;
use crate::dispatch::SheddingConfig;
use crate::dispatch::Snapshot;
use crate::gateway::behind::Behind;
use crate::gateway::behind::Lines;
use crate::gateway::certificates::Certificates;
use crate::gateway::core::Core;
use crate::gateway::core::seed;
use crate::gateway::doors::Doors;
use crate::gateway::doors::Places;
use crate::gateway::links::Links;
use crate::gateway::pump::Ends;
use crate::gateway::pump::Order;
use crate::gateway::pump::Pump;
use crate::gateway::pump::PumpError;
use crate::gateway::pump::Store;
use crate::gateway::pump::unanswered;
use crate::gateway::surroundings::Surroundings;
use crate::journal;
use crate::journal::Appender;
use crate::journal::OpenError;
use crate::journal::Reader;
use crate::link;
use crate::link::Board;
use crate::link::Handle;
use crate::message::IdSource;
use crate::message::Position;
use crate::message::RecordError;
use crate::notify;
use crate::notify::Notify;
use crate::ops::Metrics;
use crate::route::Fault;
use crate::route::Routes;
use crate::seal::KeyError;
use crate::tls::FileError;

pub use crate::dispatch::Notice;

pub use self::links::LinkChanges;

/// How many events wait for the dispatcher; doors are refused beyond, links wait.
const EVENTS: usize = 16_384;

/// How many orders wait for the pump.
const ORDERS: usize = 16;

/// How long carriers may take to answer `unbind`.
const UNBIND: Duration = Duration::from_secs(10);

/// A gateway that runs.
pub struct Gateway {
    config: Config,
    links: Links,
    orders: mpsc::Sender<Order>,
    shared: Shared,
    /// `None` once it has ended by itself.
    pump: Option<JoinHandle<Result<Pump, PumpError>>>,
    doors: Doors,
    behind: Behind,
    snapshot: watch::Receiver<Snapshot>,
    routes: Arc<ArcSwap<Routes>>,
    shedding: Arc<ArcSwap<SheddingConfig>>,
    reloads: Option<mpsc::Receiver<ReloadAsked>>,
}

/// That an operator asks for the configuration to be taken again; what came of it is the answer.
pub type ReloadAsked = oneshot::Sender<Reloaded>;

/// What the parts share.
struct Shared {
    clock: Clock,
    events: mpsc::Sender<Event>,
    replies: Replies,
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    draining: Arc<AtomicBool>,
}

/// What the doors read.
struct BehindDoors {
    routes: Arc<ArcSwap<Routes>>,
    archive: Archive,
    webhooks: Notify,
    store: watch::Receiver<Store>,
    durable: watch::Receiver<Position>,
    snapshot: watch::Receiver<Snapshot>,
    reader: Reader,
    shedding: Arc<ArcSwap<SheddingConfig>>,
    /// How many messages each key had handed in today before the start.
    used_today: Vec<(String, u64)>,
    reloads: mpsc::Sender<ReloadAsked>,
}

/// The dispatcher's loop as it runs.
struct Pumping {
    pump: JoinHandle<Result<Pump, PumpError>>,
    orders: mpsc::Sender<Order>,
    snapshot: watch::Receiver<Snapshot>,
}

impl Shared {
    fn new(clock: Clock, events: mpsc::Sender<Event>) -> Self {
        Self {
            clock,
            events,
            replies: Replies::default(),
            metrics: Arc::new(Metrics::default()),
            board: Arc::new(Board::new()),
            draining: Arc::new(AtomicBool::new(false)),
        }
    }

    fn link_context(&self) -> link::Context {
        link::Context {
            clock: self.clock,
            events: self.events.clone(),
            board: self.board.clone(),
            shutdown: CancellationToken::new(),
        }
    }

    /// Starts the dispatcher's loop between what brings events in and what stands behind it.
    fn pump(
        &self,
        (dispatch, appender): (Dispatch, Appender),
        events: mpsc::Receiver<Event>,
        lines: Lines,
        links: HashMap<BindId, Handle>,
        notices: Option<mpsc::Sender<Notice>>,
    ) -> Pumping {
        let (orders, pump_orders) = mpsc::channel(ORDERS);
        let (snapshots, snapshot) = watch::channel(dispatch.snapshot(self.clock.now()));
        let pump = Pump::new(Ends {
            dispatch,
            clock: self.clock,
            events,
            orders: pump_orders,
            store: lines.store,
            appender,
            batches: lines.batches,
            chores: lines.chores,
            links,
            replies: self.replies.clone(),
            metrics: self.metrics.clone(),
            snapshot: snapshots,
            notices,
        });
        Pumping { pump: tokio::spawn(pump.run()), orders, snapshot }
    }

    fn open_doors(
        &self,
        places: Places,
        config: &Config,
        behind: BehindDoors,
    ) -> io::Result<Doors> {
        let certificates = Certificates::new(places.certificates(), &config.carriers);
        let certificates = Arc::new(certificates);
        let surroundings = Surroundings {
            metrics: self.metrics.clone(),
            notify: behind.webhooks.clone(),
            board: self.board.clone(),
            store: behind.store,
            snapshot: behind.snapshot,
            reader: behind.reader,
            applied: behind.archive.applied(),
            draining: self.draining.clone(),
            live_limit: config.dispatch.live_limit,
            certificates: Arc::clone(&certificates),
            reloads: behind.reloads,
        };
        let patience = *config.api.limits.answer_timeout;
        let stop = CancellationToken::new();
        let parts = api::Parts {
            config: config.api.clone(),
            admin: config.admin.clone(),
            clock: self.clock,
            ids: IdSource::new(seed()?),
            dispatcher: Dispatcher::new(
                self.events.clone(),
                self.replies.clone(),
                patience,
                behind.shedding,
            ),
            routes: behind.routes,
            archive: behind.archive,
            durable: behind.durable,
            webhooks: behind.webhooks,
            surroundings: Arc::new(surroundings),
            stop: stop.clone(),
        };
        let api = Api::new(parts);
        for (client, count) in &behind.used_today {
            api.restore_quota(client, *count);
        }
        let doors = Doors::open(places, api, &config.api.limits, certificates, stop)?;
        tracing::info!(address = %doors.address, "takes messages");
        if let Some(address) = doors.admin {
            tracing::info!(%address, "takes operators");
        }
        Ok(doors)
    }
}

/// What a stop leaves for the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Messages that are accepted and not terminal.
    pub live: u64,
    /// Submits whose answer did not come in time: unknown at the next start.
    pub unanswered: u64,
}

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The keys.
    #[error("keys: {0}")]
    Keys(#[from] KeyError),
    /// The journal.
    #[error("journal: {0}")]
    Journal(#[from] OpenError),
    /// The journal cannot be read.
    #[error("journal: {0}")]
    Read(#[from] journal::ReadError),
    /// A record of the journal is not understood.
    #[error("journal: the record at position {position}: {source}")]
    Record {
        /// Where it begins.
        position: u64,
        /// Why.
        source: RecordError,
    },
    /// The archive.
    #[error("archive: {0}")]
    Archive(#[from] archive::StoreError),
    /// The webhooks.
    #[error("webhooks: {0}")]
    Webhooks(#[from] notify::OpenError),
    /// The listening address of a door.
    #[error("{table}.listen: cannot listen on {address}: {source}")]
    Listen {
        /// The table of the config.
        table: &'static str,
        /// As configured.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate of a door.
    #[error("{table}.tls: {source}")]
    Tls {
        /// The table of the config.
        table: &'static str,
        /// Which file, and why.
        source: FileError,
    },
    /// The carriers or routes.
    #[error("{0}")]
    Routes(String),
    /// The system gives no thread or no randomness.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl Gateway {
    /// Opens the journal, takes up what it holds, and opens the doors last.
    ///
    /// `notices` hears what the dispatcher tells, as far as its queue has room.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(
        config: Config,
        notices: Option<mpsc::Sender<Notice>>,
    ) -> Result<Self, StartError> {
        let places = Places::take(&config).await?;
        let core = Core::open(&config)?;
        let used_today = core.used_today();
        let (events, inbox) = mpsc::channel(EVENTS);
        let shared = Shared::new(core.clock, events);
        let (behind, lines) = Behind::start(core.behind, &shared.events, &shared.metrics)?;
        let (webhooks, runner) =
            notify::open(&config.webhooks, core.archive.clone(), core.clock, &core.keys)?;
        behind.send(runner);
        let mut links = Links::new(shared.link_context());
        let (_, ready) = links.apply(&config.carriers).await;
        let (store, durable) = (lines.store.clone(), lines.durable.clone());
        let decided = (core.dispatch, core.appender);
        let pumping = shared.pump(decided, inbox, lines, links.handles(), notices);
        ready.go();
        let routes = Arc::new(ArcSwap::from_pointee(core.routes));
        let shedding = Arc::new(ArcSwap::from_pointee(config.dispatch.shedding));
        let (reloads_asked, reloads) = mpsc::channel(ORDERS);
        let behind_doors = BehindDoors {
            routes: routes.clone(),
            archive: core.archive,
            webhooks,
            store,
            durable,
            snapshot: pumping.snapshot.clone(),
            reader: core.reader,
            shedding: shedding.clone(),
            used_today,
            reloads: reloads_asked,
        };
        let doors = shared.open_doors(places, &config, behind_doors)?;
        Ok(Self {
            config,
            links,
            orders: pumping.orders,
            shared,
            pump: Some(pumping.pump),
            doors,
            behind,
            snapshot: pumping.snapshot,
            routes,
            shedding,
            reloads: Some(reloads),
        })
    }

    /// Where the API listens.
    pub const fn address(&self) -> SocketAddr {
        self.doors.address
    }

    /// Where operators listen, if they do.
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.doors.admin
    }

    /// The configuration in force.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What operators ask for; until this is taken, and after it is dropped, they are told that no
    /// configuration is taken.
    pub fn take_reloads(&mut self) -> Option<mpsc::Receiver<ReloadAsked>> {
        self.reloads.take()
    }

    /// Waits until the process must not go on; the reason is for people.
    pub async fn failed(&mut self) -> String {
        let Some(pump) = &mut self.pump else { return std::future::pending().await };
        let ended = tokio::select! {
            ended = pump => ended,
            failure = self.behind.failed() => return failure,
        };
        self.pump = None;
        match ended {
            Ok(Ok(_)) => "the dispatcher has stopped".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("the dispatcher has failed: {error}"),
        }
    }

    /// Takes over a changed configuration. What did not change is not touched: no bind of a carrier
    /// whose connection settings are the same, and neither listener nor data folders.
    ///
    /// # Errors
    /// What is wrong with it; then nothing has changed.
    pub async fn reload(&mut self, config: Config) -> Result<LinkChanges, String> {
        let (carriers, routes) = config.parts();
        let next = self.routes.load().reload(carriers.clone(), routes.clone());
        let next = next.map_err(|faults| faults_told(&faults))?;
        self.doors.reload(&config)?;
        let dispatch = Box::new(config.dispatch.clone());
        self.order(Order::Reconfigure(dispatch, carriers, routes)).await?;
        self.routes.store(Arc::new(next));
        self.shedding.store(Arc::new(config.dispatch.shedding));
        let (changes, ready) = self.links.apply(&config.carriers).await;
        self.order(Order::Links(self.links.handles())).await?;
        ready.go();
        self.config = config;
        Ok(changes)
    }

    async fn order(&self, order: Order) -> Result<(), String> {
        self.orders.send(order).await.map_err(|_| "the dispatcher has stopped".to_owned())
    }

    /// Stops in good order: closes the doors, lets answers of carriers come in for at most
    /// `deadline`, unbinds, and writes everything that is left.
    pub async fn drain(self, deadline: Duration) -> Left {
        let Self { config, links, orders, shared, pump, doors, behind, snapshot, .. } = self;
        shared.draining.store(true, Ordering::Relaxed);
        // A dispatcher that has failed drains nothing.
        let _failed = shared.events.send(Event::Drain).await;
        doors.close(*config.api.limits.drain_timeout).await;
        let (answer, quiet) = oneshot::channel();
        let _failed = orders.send(Order::Quiet(answer)).await;
        let unanswered = match timeout(deadline, quiet).await {
            Ok(_) => 0,
            Err(_) => unanswered(&snapshot.borrow()),
        };
        links.stop(UNBIND).await;
        let _failed = orders.send(Order::End).await;
        let live = snapshot.borrow().live as u64;
        drop((shared, orders, links));
        let pump = async {
            if let Some(pump) = pump {
                // Why it failed was said when it did.
                let _failed = pump.await;
            }
        };
        behind.end(pump).await;
        Left { live, unanswered }
    }
}

fn faults_told(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
