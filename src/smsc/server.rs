//! A simulated carrier on real sockets: a task a connection, one [`Model`] behind them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;

use bytes::Buf;
use rustls::ServerConfig;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::pdu::Body;
use crate::pdu::DeliverSm;
use crate::smsc::config::Config;
use crate::smsc::conversation::Conversation;
use crate::smsc::conversation::Going;
use crate::smsc::conversation::Sight;
use crate::smsc::model::Action;
use crate::smsc::model::Model;
use crate::smsc::model::Seen;
use crate::smsc::model::SessionId;
use crate::smsc::model::Tally;
use crate::tls;
use crate::tls::Clients;

/// How long a TLS handshake, or one write, may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// A simulated carrier that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    carrier: Carrier,
}

/// A hold on a simulated carrier while it runs.
#[derive(Clone, Debug)]
pub struct Carrier {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    model: Mutex<Model>,
    mailboxes: Mutex<BTreeMap<SessionId, mpsc::Sender<Action>>>,
    wake: Notify,
    watch: OnceLock<Watch>,
}

struct Watch(Box<dyn Fn(Sight<'_>) + Send + Sync>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// Why a simulated carrier does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate or key cannot be used.
    #[error("tls_cert and tls_key: {0}")]
    Tls(String),
}

impl Server {
    /// A carrier that listens on `address`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(
        config: Config,
        address: SocketAddr,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let tls = tls(&config)?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| StartError::Listen { address, source })?;
        let shared = Shared {
            model: Mutex::new(Model::new(config, clock.now())),
            mailboxes: Mutex::default(),
            wake: Notify::new(),
            watch: OnceLock::new(),
            clock,
        };
        Ok(Self { listener, tls, carrier: Carrier { shared: Arc::new(shared) } })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A hold on it.
    pub fn carrier(&self) -> Carrier {
        self.carrier.clone()
    }

    /// Runs it until `shutdown`; its connections run on `tasks`.
    pub async fn run(self, shutdown: CancellationToken, tasks: TaskTracker) {
        let Self { listener, tls, carrier } = self;
        let shared = carrier.shared;
        tasks.spawn(keep_time(shared.clone(), shutdown.clone()));
        let mut next = 0;
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            next += 1;
            let session = SessionId(next);
            let connection =
                connect(stream, tls.clone(), shared.clone(), session, shutdown.clone());
            tasks.spawn(connection);
        }
    }
}

impl Carrier {
    /// What it has seen so far.
    pub fn tally(&self) -> Tally {
        self.shared.model().tally()
    }

    /// Keeps every submit from now on for [`Self::seen`].
    pub fn remember(&self) {
        self.shared.model().remember();
    }

    /// Every submit since [`Self::remember`], in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.model().seen().to_vec()
    }

    /// Shows `watch` what passes from now on; only the first one that watches sees anything.
    pub fn watch(&self, watch: impl Fn(Sight<'_>) + Send + Sync + 'static) {
        let _first = self.shared.watch.set(Watch(Box::new(watch)));
    }

    /// A handset writes: `message` goes to whoever is bound to receive, until it is taken.
    pub fn receive(&self, message: DeliverSm) {
        self.shared.model().undelivered(Body::DeliverSm(message));
        self.shared.wake.notify_one();
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        let sessions: Vec<SessionId> = self.shared.mailboxes().keys().copied().collect();
        for session in sessions {
            self.shared.route(Action::Cut { session });
        }
    }
}

impl Shared {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mailboxes(&self) -> MutexGuard<'_, BTreeMap<SessionId, mpsc::Sender<Action>>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, sight: Sight<'_>) {
        if let Some(Watch(watch)) = self.watch.get() {
            watch(sight);
        }
    }

    /// Hands an action to its connection; a receipt for one that is gone waits again.
    fn route(&self, action: Action) {
        let mailbox = self.mailboxes().get(&action.session()).cloned();
        let refused = match mailbox {
            Some(mailbox) => {
                mailbox.try_send(action).err().map(mpsc::error::TrySendError::into_inner)
            }
            None => Some(action),
        };
        if let Some(Action::Deliver { body, .. }) = refused {
            self.model().undelivered(body);
            self.wake.notify_one();
        }
    }

    /// Does what is due, and says when to come again.
    fn tick(&self) -> Option<crate::time::Time> {
        let (actions, next) = {
            let mut model = self.model();
            (model.poll(self.clock.now()), model.next())
        };
        for action in actions {
            self.route(action);
        }
        next
    }
}

impl Action {
    const fn session(&self) -> SessionId {
        match self {
            Self::Respond { session, .. }
            | Self::Deliver { session, .. }
            | Self::Cut { session }
            | Self::Unbind { session }
            | Self::Garbage { session, .. } => *session,
        }
    }
}

async fn keep_time(shared: Arc<Shared>, shutdown: CancellationToken) {
    loop {
        let next = shared.tick();
        let due = async {
            match next {
                Some(at) => sleep_until(shared.clock.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = due => {}
            () = shared.wake.notified() => {}
        }
    }
}

async fn connect(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    shared: Arc<Shared>,
    id: SessionId,
    shutdown: CancellationToken,
) {
    // A carrier that delays its answers is a fault to be asked for, not an accident.
    let _best_effort = stream.set_nodelay(true);
    let most_orders = Conversation::most_orders(shared.model().config());
    let (sender, orders) = mpsc::channel(most_orders);
    shared.mailboxes().insert(id, sender);
    match tls {
        None => Connection::new(stream, shared.clone(), id).run(orders, shutdown).await,
        Some(config) => {
            let handshake = TlsAcceptor::from(config).accept(stream);
            if let Ok(Ok(stream)) = timeout(PATIENCE, handshake).await {
                Connection::new(stream, shared.clone(), id).run(orders, shutdown).await;
            }
        }
    }
    shared.mailboxes().remove(&id);
    shared.model().lost(id);
}

/// One connection: the stream, and what is said on it.
struct Connection<S> {
    stream: S,
    conversation: Conversation,
    shared: Arc<Shared>,
    write_octets: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, shared: Arc<Shared>, id: SessionId) -> Self {
        let now = shared.clock.now();
        let (conversation, write_octets) = {
            let model = shared.model();
            (Conversation::new(now, id, model.config()), model.config().write_octets)
        };
        Self { stream, conversation, shared, write_octets }
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Action>, shutdown: CancellationToken) {
        let mut going = Going::On;
        while going != Going::Over {
            going = self.settle();
            if self.flush().await.is_err() || going == Going::Over {
                break;
            }
            let clock = self.shared.clock;
            let deadline = self.conversation.poll_timeout();
            let timer = async {
                match deadline {
                    Some(at) => sleep_until(clock.instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => self.conversation.close(),
                () = timer => self.conversation.take_timeout(clock.now()),
                read = self.stream.read_buf(self.conversation.input()) => match read {
                    Ok(octets) if octets > 0 => self.conversation.take(clock.now()),
                    _ => self.conversation.take_end(),
                },
                order = orders.recv() => {
                    let Some(order) = order else { break };
                    going = self.conversation.obey(clock.now(), order);
                    while going != Going::Over && let Ok(order) = orders.try_recv() {
                        going = self.conversation.obey(clock.now(), order);
                    }
                }
            }
        }
        orders.close();
        let left = std::iter::from_fn(|| orders.try_recv().ok());
        self.conversation.give_back(&mut self.shared.model(), left);
        self.shared.wake.notify_one();
    }

    fn settle(&mut self) -> Going {
        let Self { conversation, shared, .. } = self;
        let now = shared.clock.now();
        let going = conversation.settle(now, &mut shared.model(), &|sight| shared.show(sight));
        if going == Going::Told {
            shared.wake.notify_one();
        }
        going
    }

    async fn flush(&mut self) -> io::Result<()> {
        let Self { stream, conversation, write_octets, .. } = self;
        let output = conversation.output().map_err(io::Error::other)?;
        if output.is_empty() {
            return Ok(());
        }
        let step = if *write_octets == 0 { output.len() } else { *write_octets };
        let write = async {
            while output.has_remaining() {
                let mut piece = output.split_to(step.min(output.len()));
                stream.write_all_buf(&mut piece).await?;
                stream.flush().await?;
            }
            Ok(())
        };
        timeout(PATIENCE, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn tls(config: &Config) -> Result<Option<Arc<ServerConfig>>, StartError> {
    let clients = config.tls_client_ca.as_deref().map_or(Clients::Unasked, Clients::Required);
    match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => tls::server(cert, key, clients)
            .map(|(server, _)| Some(Arc::new(server)))
            .map_err(|error| StartError::Tls(error.to_string())),
        (None, None) if config.tls_client_ca.is_none() => Ok(None),
        _ => Err(StartError::Tls("set both or none".into())),
    }
}
