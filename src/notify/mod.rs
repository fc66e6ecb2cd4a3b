//! Webhooks (Standard Webhooks 1.0.0): the event feed, pushed.
//!
//! Each endpoint reads the archive's feed from its own cursor, so the feed is its queue: a slow or
//! dead endpoint holds up nobody and costs no memory. What fails is parked on disk and tried again
//! for two days, then kept as given up until somebody tries it by hand. Cursors are written about
//! once a second: after a crash an event may come twice, with the same `webhook-id`.
//!
//! [`open`] gives two halves: [`Notify`] is what the API asks, [`Runner`] does the sending.

mod config;
mod guard;
mod line;
pub mod queue;
mod schedule;
mod send;
mod sign;
mod store;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use sha2::Digest;
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::config::CarrierKind;
pub use self::config::Config;
pub use self::config::EndpointConfig;
pub use self::config::Fault;
pub use self::config::Kind;
pub use self::guard::Network;
pub use self::guard::ParseNetworkError;
pub use self::line::Counters;
pub use self::schedule::WAITS;
pub use self::send::Addresses;
pub use self::send::ConnectError;
pub use self::send::Names;
pub use self::send::System;
pub use self::send::Target;
pub use self::send::TargetError;
pub use self::send::Try;
pub use self::sign::ID_HEADER;
pub use self::sign::ParseSecretError;
pub use self::sign::SIGNATURE_HEADER;
pub use self::sign::Secret;
pub use self::sign::Signed;
pub use self::sign::TIMESTAMP_HEADER;
pub use self::sign::TOLERANCE;
pub use self::sign::VerifyError;
pub use self::store::StoreError;
pub use self::view::CALLBACKS;
pub use self::view::Delivery;
pub use self::view::DeliveryState;
pub use self::view::Draft;
pub use self::view::Endpoint;
pub use self::view::MessageTry;
pub use self::view::NotifyError;
pub use self::view::ParseWebhookIdError;
pub use self::view::WebhookId;

use self::line::Command;
use self::line::Line;
use self::line::Made;
use self::line::Settings;
use self::line::Shared;
use self::send::Keeping;
use self::send::Sender;
use self::store::Origin;
use self::store::Store;
use self::store::Stored;
use self::store::StoredTry;
use crate::archive::Archive;
use crate::archive::Feed;
use crate::archive::FeedReader;
use crate::archive::MOST_RESULTS;
use crate::archive::Stamp;
use crate::clock::Clock;
use crate::message::EventId;
use crate::message::MessageId;
use crate::message::Position;
use crate::seal::Keys;
use crate::time::Time;

/// The endpoints and their deliveries, for the API. Clones share everything.
///
/// `owner` is the name of a client: it sees its own endpoints only.
#[derive(Clone, Debug)]
pub struct Notify {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    endpoints: Mutex<BTreeMap<WebhookId, Known>>,
    /// One change at a time, so that memory and disk agree on the order.
    changing: tokio::sync::Mutex<()>,
    starts: mpsc::Sender<Arc<Line>>,
    announced: AtomicU64,
}

/// An endpoint: what is on disk of it, and its loop.
#[derive(Clone, Debug)]
struct Known {
    stored: Stored,
    line: Arc<Line>,
}

/// Sends. Give it to [`Runner::run`].
#[derive(Debug)]
pub struct Runner {
    notify: Notify,
    starts: mpsc::Receiver<Arc<Line>>,
}

/// Why the webhooks cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificates cannot be read.
    #[error("webhooks: the certificates to trust cannot be read: {0}")]
    Certificates(io::Error),
    /// The config says something that cannot be.
    #[error("notify.{key}: {fault}")]
    Config {
        /// The key, below the table of webhooks.
        key: String,
        /// What was expected and what was found.
        fault: String,
    },
}

/// The most loops that wait to be started.
const STARTS: usize = 1_024;

/// Opens the webhooks: the endpoints of the config and those that clients made.
///
/// # Errors
/// See [`OpenError`].
pub fn open(
    config: &Config,
    archive: Archive,
    clock: Clock,
    keys: &Keys,
) -> Result<(Notify, Runner), OpenError> {
    open_with(config, archive, clock, keys, Arc::new(System::default()))
}

/// As [`open`], with another look-up of names.
///
/// # Errors
/// See [`OpenError`].
pub fn open_with(
    config: &Config,
    archive: Archive,
    clock: Clock,
    keys: &Keys,
    names: Arc<dyn Names>,
) -> Result<(Notify, Runner), OpenError> {
    let store = Arc::new(Store::open(&config.file, keys)?);
    let sender = Sender::new(config, clock, names).map_err(OpenError::Certificates)?;
    let from = *archive.applied().borrow();
    settle_config(&store, config, clock.now(), from)?;
    if store.mark(SCOUT)?.is_none() {
        // Whatever is accepted from now on is after it, however late the scout sets out.
        store.set_mark(SCOUT, from)?;
    }
    let shared = Arc::new(Shared {
        config: config.clone(),
        archive,
        store,
        sender,
        clock,
        permits: Arc::new(Semaphore::new(config.concurrency_total)),
        counters: Counters::default(),
    });
    let known = shared.store.endpoints()?.into_iter().map(|stored| {
        let line = Arc::new(line_of(&stored, config));
        (stored.id, Known { stored, line })
    });
    let endpoints = Mutex::new(known.collect());
    let (starts, started) = mpsc::channel(STARTS);
    let announced = AtomicU64::new(0);
    let changing = tokio::sync::Mutex::default();
    let inner = Inner { shared, endpoints, changing, starts, announced };
    let notify = Notify { inner: Arc::new(inner) };
    Ok((notify.clone(), Runner { notify, starts: started }))
}

/// Makes the stored endpoints of the config those that the config has now.
fn settle_config(
    store: &Store,
    config: &Config,
    now: Time,
    from: Position,
) -> Result<(), OpenError> {
    let mut old: BTreeMap<WebhookId, Stored> = store
        .endpoints()?
        .into_iter()
        .filter(|stored| stored.origin == Origin::Config)
        .map(|stored| (stored.id, stored))
        .collect();
    for (name, endpoint) in &config.endpoints {
        let secret = endpoint.read_secret().map_err(|fault| OpenError::Config {
            key: format!("endpoints.{name}.secret"),
            fault,
        })?;
        let id = config_id(name);
        let known = old.remove(&id);
        let stored = Stored {
            id,
            owner: endpoint.client.as_str().into(),
            origin: Origin::Config,
            url: endpoint.url.clone(),
            kinds: endpoint.events.clone(),
            description: endpoint.description.clone(),
            enabled: known.as_ref().is_none_or(|known| known.enabled || known.url != endpoint.url),
            disabled_reason: known.as_ref().and_then(|known| known.disabled_reason.clone()),
            secrets: vec![(secret, None)],
            created_at: known.as_ref().map_or(now, |known| known.created_at),
            cursor: known.as_ref().map_or(from, |known| known.cursor),
        };
        if known.as_ref() != Some(&stored) {
            store.save(&stored)?;
        }
    }
    for id in old.into_keys() {
        store.delete(id)?;
    }
    Ok(())
}

/// The id of an endpoint of the config: always the same for its name.
fn config_id(name: &str) -> WebhookId {
    let digest = Sha256::new().chain_update("config endpoint ").chain_update(name).finalize();
    let mut octets = [0; 16];
    octets.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    WebhookId(u128::from_be_bytes(octets))
}

fn line_of(stored: &Stored, config: &Config) -> Line {
    let callbacks = stored.origin == Origin::Callback;
    Line::new(stored.id, &stored.owner, callbacks, settings_of(stored, config))
}

fn settings_of(stored: &Stored, config: &Config) -> Settings {
    Settings {
        target: Target::parse(&stored.url, config.https_only).ok(),
        kinds: stored.kinds.clone(),
        secrets: stored.secrets.clone(),
    }
}

impl Notify {
    fn endpoints(&self) -> MutexGuard<'_, BTreeMap<WebhookId, Known>> {
        self.inner.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, owner: &str, id: WebhookId) -> Result<Known, NotifyError> {
        let known = self.endpoints().get(&id).cloned();
        known.filter(|known| *known.stored.owner == *owner).ok_or(NotifyError::NotFound)
    }

    fn now(&self) -> Time {
        self.inner.shared.clock.now()
    }

    /// How many tries ended how since the start.
    pub fn counters(&self) -> &Counters {
        &self.inner.shared.counters
    }

    /// How many events wait in memory or on disk for all endpoints together.
    pub fn backlog(&self) -> u64 {
        self.endpoints().values().map(|known| known.line.status().backlog).sum()
    }

    /// The client's endpoints, the oldest first.
    ///
    /// # Errors
    /// See [`NotifyError`], here and in all that follow.
    pub async fn list(&self, owner: &str) -> Result<Vec<Endpoint>, NotifyError> {
        let mut known: Vec<_> = self
            .endpoints()
            .values()
            .filter(|known| *known.stored.owner == *owner)
            .cloned()
            .collect();
        known.sort_by_key(|known| (known.stored.created_at, known.stored.id));
        let mut endpoints = Vec::new();
        for known in known {
            endpoints.push(self.show(known).await?);
        }
        Ok(endpoints)
    }

    /// One endpoint.
    pub async fn find(&self, owner: &str, id: WebhookId) -> Result<Endpoint, NotifyError> {
        self.show(self.known(owner, id)?).await
    }

    async fn show(&self, known: Known) -> Result<Endpoint, NotifyError> {
        let Known { stored, line } = known;
        let id = stored.id;
        let store = &self.inner.shared.store;
        let (_, dead) = store.with(move |store| store.counts(id)).await?;
        let status = line.status();
        let unread = self.unread(&line, &stored).await;
        Ok(Endpoint {
            id,
            url: match stored.origin {
                Origin::Callback => CALLBACKS.to_owned(),
                Origin::Client | Origin::Config => stored.url,
            },
            kinds: stored.kinds,
            description: stored.description,
            enabled: stored.enabled,
            disabled_reason: stored.disabled_reason,
            created_at: stored.created_at,
            backlog: status.backlog + unread,
            dead,
            paused_until: status.paused_until,
        })
    }

    /// How many events of the feed the endpoint has not read yet, counted up to some.
    async fn unread(&self, line: &Line, stored: &Stored) -> u64 {
        let mut from = line.status().read.max(stored.cursor);
        let mut feed = self.inner.shared.archive.follow(Feed::All, from, Some(&stored.owner));
        let mut count = 0;
        for _ in 0..UNREAD_PAGES {
            let Ok(page) = feed.read(MOST_RESULTS).await else { break };
            let wanted = page.events.iter().filter(|event| {
                if stored.origin == Origin::Callback {
                    return event.callback_url().is_some();
                }
                stored.kinds.is_empty() || stored.kinds.contains(&Kind::Feed(event.kind))
            });
            count += wanted.count() as u64;
            if page.next == from {
                break;
            }
            from = page.next;
        }
        count
    }

    /// Makes an endpoint with a new secret; events from now on are sent to it. Durable when this
    /// returns.
    pub async fn create(
        &self,
        owner: &str,
        draft: Draft,
    ) -> Result<(Endpoint, Secret), NotifyError> {
        let _one = self.inner.changing.lock().await;
        let most = self.inner.shared.config.endpoints_per_client;
        let theirs =
            |known: &&Known| *known.stored.owner == *owner && known.stored.origin == Origin::Client;
        if self.endpoints().values().filter(theirs).count() >= most {
            return Err(NotifyError::TooMany { most });
        }
        let url =
            draft.url.ok_or_else(|| NotifyError::Url("an endpoint needs its address".into()))?;
        self.check(&url)?;
        let secret = new_secret()?;
        let stored = Stored {
            id: WebhookId(random()?),
            owner: owner.into(),
            origin: Origin::Client,
            url,
            kinds: draft.kinds.unwrap_or_default(),
            description: draft.description.unwrap_or_default(),
            enabled: draft.enabled.unwrap_or(true),
            disabled_reason: None,
            secrets: vec![(secret.clone(), None)],
            created_at: self.now(),
            cursor: *self.inner.shared.archive.applied().borrow(),
        };
        let known = self.add(stored).await?;
        Ok((self.show(known).await?, secret))
    }

    /// Whether `url` may be called, as far as that shows without a look-up of its name.
    ///
    /// # Errors
    /// [`NotifyError::Url`].
    pub(crate) fn check(&self, url: &str) -> Result<(), NotifyError> {
        let config = &self.inner.shared.config;
        let fault = |error: &dyn std::error::Error| NotifyError::Url(error.to_string());
        let target = Target::parse(url, config.https_only).map_err(|error| fault(&error))?;
        match target.refused(&config.networks) {
            Some(error) => Err(fault(&error)),
            None => Ok(()),
        }
    }

    async fn add(&self, stored: Stored) -> Result<Known, NotifyError> {
        let saved = stored.clone();
        self.inner.shared.store.with(move |store| store.save(&saved)).await?;
        let line = Arc::new(line_of(&stored, &self.inner.shared.config));
        let known = Known { stored, line };
        self.endpoints().insert(known.stored.id, known.clone());
        if known.stored.enabled {
            self.start(&known.line).await;
        }
        Ok(known)
    }

    async fn start(&self, line: &Arc<Line>) {
        // When the runner is gone the process ends, and the next one starts it.
        let _closed = self.inner.starts.send(Arc::clone(line)).await;
    }

    /// Changes an endpoint; enabling it forgets why it was disabled. Durable when this returns.
    pub async fn update(
        &self,
        owner: &str,
        id: WebhookId,
        change: Draft,
    ) -> Result<Endpoint, NotifyError> {
        let _one = self.inner.changing.lock().await;
        let mut stored = self.fresh(owner, id).await?;
        let told = change.url.is_some() || change.kinds.is_some() || change.description.is_some();
        match stored.origin {
            Origin::Config if told => return Err(NotifyError::InConfig),
            Origin::Callback if told => return Err(NotifyError::IsCallbacks),
            _ => {}
        }
        if let Some(url) = change.url {
            self.check(&url)?;
            stored.url = url;
        }
        stored.kinds = change.kinds.unwrap_or(stored.kinds);
        stored.description = change.description.unwrap_or(stored.description);
        if let Some(enabled) = change.enabled {
            stored.enabled = enabled;
            stored.disabled_reason = None;
        }
        self.show(self.replace(stored).await?).await
    }

    /// The endpoint as it is on disk: its loop may have disabled it.
    async fn fresh(&self, owner: &str, id: WebhookId) -> Result<Stored, NotifyError> {
        self.known(owner, id)?;
        let stored = self.inner.shared.store.with(Store::endpoints).await?;
        stored.into_iter().find(|stored| stored.id == id).ok_or(NotifyError::NotFound)
    }

    /// Writes a changed endpoint and lets its loop see it.
    async fn replace(&self, stored: Stored) -> Result<Known, NotifyError> {
        let saved = stored.clone();
        self.inner.shared.store.with(move |store| store.save(&saved)).await?;
        let mut known = self.known(&stored.owner, stored.id)?;
        known.line.settings.store(Arc::new(settings_of(&stored, &self.inner.shared.config)));
        known.stored = stored;
        self.endpoints().insert(known.stored.id, known.clone());
        if !known.stored.enabled {
            known.line.stop();
        } else if !known.line.is_running() {
            self.start(&known.line).await;
        }
        Ok(known)
    }

    /// Deletes an endpoint with what waits for it. Durable when this returns.
    pub async fn delete(&self, owner: &str, id: WebhookId) -> Result<(), NotifyError> {
        let _one = self.inner.changing.lock().await;
        let known = self.known(owner, id)?;
        match known.stored.origin {
            Origin::Config => return Err(NotifyError::InConfig),
            Origin::Callback => return Err(NotifyError::IsCallbacks),
            Origin::Client => {}
        }
        self.inner.shared.store.with(move |store| store.delete(id)).await?;
        self.endpoints().remove(&id);
        known.line.stop();
        Ok(())
    }

    /// Gives an endpoint a new secret; the old one signs too for a while. Durable when this
    /// returns.
    pub async fn rotate(&self, owner: &str, id: WebhookId) -> Result<Secret, NotifyError> {
        let _one = self.inner.changing.lock().await;
        let mut stored = self.fresh(owner, id).await?;
        if stored.origin == Origin::Config {
            return Err(NotifyError::InConfig);
        }
        let now = self.now();
        let until = now + *self.inner.shared.config.secret_overlap;
        stored.secrets.retain(|(_, until)| until.is_none_or(|until| now < until));
        for (_, old) in &mut stored.secrets {
            *old = Some(old.map_or(until, |old| old.min(until)));
        }
        let secret = new_secret()?;
        stored.secrets.insert(0, (secret.clone(), None));
        stored.secrets.truncate(SECRETS);
        self.replace(stored).await?;
        Ok(secret)
    }

    /// Sends a test event now, once, and tells what came of it.
    pub async fn test(&self, owner: &str, id: WebhookId) -> Result<Try, NotifyError> {
        let known = self.known(owner, id)?;
        if known.stored.origin == Origin::Callback {
            return Err(NotifyError::IsCallbacks);
        }
        let shared = &self.inner.shared;
        let body = serde_json::json!({
            "type": "webhook.test",
            "timestamp": Stamp(self.now()),
            "data": { "endpoint": id.to_string() },
        });
        let event = EventId::from_u128(random()?);
        let settings = known.line.settings.load_full();
        let target = settings.target.clone();
        let _permit = shared.permits.acquire().await.map_err(|_closed| StoreError::Closed)?;
        Ok(line::call(shared, &settings, (target, Keeping::Kept), event, body.to_string().into())
            .await
            .0)
    }

    /// The latest deliveries of an endpoint, the newest first; with `dead` those only that were
    /// given up.
    pub async fn deliveries(
        &self,
        owner: &str,
        id: WebhookId,
        dead: bool,
        limit: usize,
    ) -> Result<Vec<Delivery>, NotifyError> {
        self.known(owner, id)?;
        let read = move |store: &Store| deliveries(store, id, dead, limit);
        Ok(self.inner.shared.store.with(read).await?)
    }

    /// Tries a delivery again that was given up.
    pub async fn retry(
        &self,
        owner: &str,
        id: WebhookId,
        event: EventId,
    ) -> Result<Delivery, NotifyError> {
        let _one = self.inner.changing.lock().await;
        let line = self.known(owner, id)?.line;
        let position = position_of(event);
        let now = self.now();
        let read = move |store: &Store| {
            let revived = store.revive(id, position, now)?;
            Ok((revived, store.event(id, position)?, store.tries_at(id, position)?))
        };
        let (revived, kept, tries) = self.inner.shared.store.with(read).await?;
        let kept = kept.filter(|kept| kept.event == event).ok_or(NotifyError::NotFound)?;
        if !revived {
            return Err(NotifyError::NotDead);
        }
        line.tell(Command::Restore { position, parked: kept.parked.clone() });
        Ok(Delivery {
            event,
            kind: kept.kind,
            message: message_of(kept.kind, kept.parked.message),
            state: DeliveryState::Pending,
            tries: tries.into_iter().map(|this| this.result).collect(),
            next_try_at: kept.parked.due,
        })
    }

    /// The tries of the last days to deliver the events of one message, in order.
    pub async fn tries_of(
        &self,
        owner: &str,
        message: MessageId,
    ) -> Result<Vec<MessageTry>, NotifyError> {
        let shared = &self.inner.shared;
        let found = shared.archive.message(message, Some(owner)).await.ok().flatten();
        let Some(found) = found else { return Ok(Vec::new()) };
        let positions: Vec<_> = found.timeline.iter().map(|entry| entry.position).collect();
        let endpoints: Vec<_> = self
            .endpoints()
            .values()
            .filter(|known| *known.stored.owner == *owner)
            .map(|known| (known.stored.id, known.stored.origin))
            .collect();
        let read = move |store: &Store| {
            let mut tries = Vec::new();
            for (id, origin) in endpoints {
                let endpoint = (origin != Origin::Callback).then_some(id);
                for position in &positions {
                    tries.extend(store.tries_at(id, *position)?.into_iter().map(|this| {
                        let StoredTry { event, kind, result, .. } = this;
                        MessageTry { endpoint, event, kind, result }
                    }));
                }
            }
            tries.sort_by_key(|this| this.result.at);
            Ok(tries)
        };
        Ok(shared.store.with(read).await?)
    }

    /// Tells the endpoints that asked for it what happened to a carrier.
    pub fn carrier_changed(&self, kind: CarrierKind, carrier: &str, detail: &str) {
        let now = self.now();
        // Behind every position of a journal, and never the same twice.
        let last = self.inner.announced.fetch_max(now.as_micros(), Ordering::Relaxed);
        let number = if last < now.as_micros() {
            now.as_micros()
        } else {
            self.inner.announced.fetch_add(1, Ordering::Relaxed) + 1
        };
        let position = Position(BEHIND_ALL | number);
        let body = serde_json::json!({
            "type": kind.as_str(),
            "timestamp": Stamp(now),
            "data": { "carrier": carrier, "detail": detail },
        });
        let made = Arc::new(Made {
            position,
            id: EventId::from_u128(u128::from(position.0) << 64),
            kind: Kind::Carrier(kind),
            body: Bytes::from(body.to_string()),
        });
        for known in self.endpoints().values() {
            if known.stored.kinds.contains(&made.kind) {
                known.line.tell(Command::Announce(Arc::clone(&made)));
            }
        }
    }
}

/// How many pages of the feed are counted for [`Endpoint::backlog`].
const UNREAD_PAGES: usize = 5;

/// The most secrets of one endpoint that sign at the same time.
const SECRETS: usize = 4;

/// The bit of positions that are not of the feed.
const BEHIND_ALL: u64 = 1 << 62;

/// The position in an event's id; see [`crate::archive::Event::id`].
fn position_of(event: EventId) -> Position {
    Position(u64::try_from(event.as_u128() >> 64).unwrap_or(u64::MAX))
}

fn message_of(kind: Kind, message: MessageId) -> Option<MessageId> {
    matches!(kind, Kind::Feed(_)).then_some(message)
}

fn random() -> Result<u128, StoreError> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).map_err(|_| StoreError::Closed)?;
    Ok(u128::from_be_bytes(octets))
}

fn new_secret() -> Result<Secret, StoreError> {
    let mut octets = [0; 32];
    getrandom::fill(&mut octets).map_err(|_| StoreError::Closed)?;
    Secret::from_octets(&octets).map_err(|_| StoreError::Closed)
}

fn deliveries(
    store: &Store,
    id: WebhookId,
    dead: bool,
    limit: usize,
) -> Result<Vec<Delivery>, StoreError> {
    let mut found = BTreeMap::new();
    for kept in store.events(id, dead, limit)? {
        let state = if kept.dead.is_some() { DeliveryState::Dead } else { DeliveryState::Pending };
        let delivery = Delivery {
            event: kept.event,
            kind: kept.kind,
            message: message_of(kept.kind, kept.parked.message),
            state,
            tries: Vec::new(),
            next_try_at: kept.parked.due,
        };
        found.insert(std::cmp::Reverse(kept.position), delivery);
    }
    let tries = if dead { Vec::new() } else { store.tries(id, limit.saturating_mul(4))? };
    for this in tries {
        found.entry(std::cmp::Reverse(this.position)).or_insert_with(|| Delivery {
            event: this.event,
            kind: this.kind,
            message: message_of(this.kind, this.message),
            state: DeliveryState::Delivered,
            tries: Vec::new(),
            next_try_at: None,
        });
    }
    let latest = found.into_iter().take(limit);
    latest
        .map(|(position, delivery)| {
            let tries = store.tries_at(id, position.0)?;
            Ok(Delivery { tries: tries.into_iter().map(|this| this.result).collect(), ..delivery })
        })
        .collect()
}

impl Runner {
    /// Sends until `stop`: a task for each endpoint in `tracker`, and this one to start them. When
    /// it returns, the tasks still write down where they are: wait for the tracker.
    pub async fn run(mut self, tracker: &TaskTracker, stop: CancellationToken) {
        let notify = self.notify.clone();
        for known in notify.endpoints().values().filter(|known| known.stored.enabled) {
            notify.spawn(&known.line, tracker, &stop);
        }
        if notify.inner.shared.config.callbacks {
            tracker.spawn(scout(notify.clone(), stop.clone()));
        }
        let mut tidy_at = notify.now();
        loop {
            let tidy = notify.inner.shared.clock.instant(tidy_at);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(line) = self.starts.recv() => notify.spawn(&line, tracker, &stop),
                () = tokio::time::sleep_until(tidy) => {
                    notify.tidy().await;
                    tidy_at = notify.now() + AN_HOUR;
                }
            }
        }
    }
}

const AN_HOUR: Duration = Duration::from_secs(3_600);

impl Notify {
    fn spawn(&self, line: &Arc<Line>, tracker: &TaskTracker, stop: &CancellationToken) {
        let ears = line.renew(stop);
        let (shared, line) = (Arc::clone(&self.inner.shared), Arc::clone(line));
        let notify = self.clone();
        tracker.spawn(async move {
            let id = line.id;
            line::run(shared, line, ears).await;
            notify.refresh(id).await;
        });
    }

    /// Reads an endpoint from disk again: its loop may have disabled it.
    async fn refresh(&self, id: WebhookId) {
        let _one = self.inner.changing.lock().await;
        let Ok(stored) = self.inner.shared.store.with(Store::endpoints).await else { return };
        let stored = stored.into_iter().find(|stored| stored.id == id);
        if let Some(stored) = stored
            && let Some(known) = self.endpoints().get_mut(&id)
        {
            known.stored = stored;
        }
    }

    /// Forgets old tries and events that were given up long ago.
    async fn tidy(&self) {
        let config = &self.inner.shared.config;
        let ago = |days: u32| self.now() - Duration::from_secs(u64::from(days) * 86_400);
        let (log, dead) = (ago(config.log_days), ago(config.dead_days));
        if let Err(error) = self.inner.shared.store.with(move |store| store.forget(log, dead)).await
        {
            tracing::warn!(%error, "old deliveries stay for another hour");
        }
    }

    /// Makes the endpoint for the callbacks of a client's messages, if it has none yet; it reads
    /// the feed from `from` on.
    async fn ensure_callbacks(&self, owner: &str, from: Position) -> Result<(), NotifyError> {
        let has_one = || {
            self.endpoints().values().any(|known| {
                *known.stored.owner == *owner && known.stored.origin == Origin::Callback
            })
        };
        if has_one() {
            return Ok(());
        }
        let _one = self.inner.changing.lock().await;
        if has_one() {
            return Ok(());
        }
        let stored = Stored {
            id: WebhookId(random()?),
            owner: owner.into(),
            origin: Origin::Callback,
            url: String::new(),
            kinds: Vec::new(),
            description: "the callback_url of messages".to_owned(),
            enabled: true,
            disabled_reason: None,
            secrets: vec![(new_secret()?, None)],
            created_at: self.now(),
            cursor: from,
        };
        self.add(stored).await.map(drop)
    }
}

/// Follows the whole feed for messages with a `callback_url` whose client has no endpoint for them.
async fn scout(notify: Notify, stop: CancellationToken) {
    let shared = &notify.inner.shared;
    let mut applied = shared.archive.applied();
    let stored = shared.store.with(|store| store.mark(SCOUT)).await.ok().flatten();
    let mut from = stored.unwrap_or_else(|| *applied.borrow());
    let mut feed = shared.archive.follow(Feed::All, from, None);
    let mut written = None;
    let mut write_at = notify.now();
    while !stop.is_cancelled() {
        applied.mark_unchanged();
        let next = look(&notify, &mut feed).await;
        if notify.now() >= write_at && written != Some(from) {
            let marked = shared.store.with(move |store| store.set_mark(SCOUT, from)).await;
            written = marked.is_ok().then_some(from);
            write_at = notify.now() + SCOUT_MARKS;
        }
        match next {
            Some(next) if next > from => from = next,
            _ => {
                feed = shared.archive.follow(Feed::All, from, None);
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = applied.changed() => {}
                }
            }
        }
    }
    let _unwritten = shared.store.with(move |store| store.set_mark(SCOUT, from)).await;
}

const SCOUT: &str = "callbacks";

/// How often the scout's place is written.
const SCOUT_MARKS: Duration = Duration::from_secs(5);

/// Looks at a page of the feed and returns where the next one begins; none when it has to be looked
/// at again.
async fn look(notify: &Notify, feed: &mut FeedReader) -> Option<Position> {
    let page = feed.read(MOST_RESULTS).await.ok()?;
    for event in page.events.iter().filter(|event| event.callback_url().is_some()) {
        if let Err(error) = notify.ensure_callbacks(&event.key, event.position).await {
            tracing::error!(%error, "callbacks wait: no endpoint for them could be made");
            return None;
        }
    }
    Some(page.next)
}
