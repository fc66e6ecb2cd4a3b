//! A simulated carrier on real sockets: a task a connection, one [`Model`] behind them.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;

use bytes::Buf;
use bytes::BytesMut;
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
use tokio_util::codec::Decoder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::pdu::Bind;
use crate::pdu::Body;
use crate::pdu::COctetString;
use crate::pdu::CommandStatus;
use crate::pdu::DeliverSm;
use crate::pdu::Frames;
use crate::pdu::SubmitSm;
use crate::pdu::encode;
use crate::session::Event;
use crate::session::Mode;
use crate::session::Session;
use crate::session::SmscConfig;
use crate::session::Version;
use crate::smsc::config::Config;
use crate::smsc::model::Action;
use crate::smsc::model::MOST_HANDED;
use crate::smsc::model::Model;
use crate::smsc::model::Seen;
use crate::smsc::model::SessionId;
use crate::smsc::model::Tally;
use crate::time::Span;
use crate::tls;
use crate::tls::Clients;

/// How many orders besides receipts and answers wait for one connection.
const SPARE_ORDERS: usize = 64;

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

/// What passes a simulated carrier, for whoever measures.
#[derive(Clone, Copy, Debug)]
pub enum Sight<'a> {
    /// A submit came.
    Submit(&'a SubmitSm),
    /// A receipt, or a message of a handset, leaves.
    Receipt(&'a DeliverSm),
    /// It was answered.
    ReceiptTaken(&'a DeliverSm),
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

    /// The most orders of the model that wait for one connection: the receipts that it may be
    /// handed, and an answer to each request that it may take.
    fn mailbox(&self) -> usize {
        let requests = receive_window(self.model().config());
        MOST_HANDED + usize::from(requests) + SPARE_ORDERS
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
    let (sender, orders) = mpsc::channel(shared.mailbox());
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

/// One connection: the stream, its session, and what waits for a place in the window.
struct Connection<S> {
    stream: S,
    session: Session,
    shared: Arc<Shared>,
    id: SessionId,
    frames: Frames,
    input: BytesMut,
    output: BytesMut,
    held: VecDeque<Body>,
    sent: BTreeMap<u64, Body>,
    next_token: u64,
    write_octets: usize,
}

/// Whether the connection goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Going {
    On,
    Over,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, shared: Arc<Shared>, id: SessionId) -> Self {
        let (config, write_octets) = {
            let model = shared.model();
            (session_config(model.config()), model.config().write_octets)
        };
        let session = Session::smsc(shared.clock.now(), &config);
        Self {
            stream,
            session,
            shared,
            id,
            frames: Frames::default(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            held: VecDeque::new(),
            sent: BTreeMap::new(),
            next_token: 0,
            write_octets,
        }
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Action>, shutdown: CancellationToken) {
        let mut going = Going::On;
        while going == Going::On {
            going = self.settle();
            if self.flush().await.is_err() || going == Going::Over {
                break;
            }
            let clock = self.shared.clock;
            let deadline = self.session.poll_timeout();
            let timer = async {
                match deadline {
                    Some(at) => sleep_until(clock.instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => self.session.close(),
                () = timer => self.session.handle_timeout(clock.now()),
                read = self.stream.read_buf(&mut self.input) => self.take(read),
                order = orders.recv() => {
                    let Some(order) = order else { break };
                    going = self.obey(order);
                    while going == Going::On && let Ok(order) = orders.try_recv() {
                        going = self.obey(order);
                    }
                }
            }
        }
        self.give_back(&mut orders);
    }

    /// Hands receipts that did not get through back to the carrier.
    fn give_back(&mut self, orders: &mut mpsc::Receiver<Action>) {
        orders.close();
        let mut model = self.shared.model();
        for body in self.held.drain(..).chain(std::mem::take(&mut self.sent).into_values()) {
            model.undelivered(body);
        }
        while let Ok(order) = orders.try_recv() {
            if let Action::Deliver { body, .. } = order {
                model.undelivered(body);
            }
        }
        drop(model);
        self.shared.wake.notify_one();
    }

    fn take(&mut self, read: io::Result<usize>) {
        let now = self.shared.clock.now();
        if !matches!(read, Ok(octets) if octets > 0) {
            return self.session.handle_eof();
        }
        loop {
            match self.frames.decode(&mut self.input) {
                Ok(Some(frame)) => self.session.handle_frame(now, frame),
                Ok(None) => break,
                Err(error) => {
                    self.session.handle_frame_error(&error);
                    break;
                }
            }
        }
        self.session.handle_partial(now, !self.input.is_empty());
    }

    fn obey(&mut self, order: Action) -> Going {
        let now = self.shared.clock.now();
        match order {
            Action::Respond { sequence_number, status, body, .. } => {
                self.session.respond(now, sequence_number, status, body);
            }
            Action::Deliver { body, .. } => self.held.push_back(body),
            Action::Cut { .. } => return Going::Over,
            Action::Unbind { .. } => self.session.unbind(now),
            Action::Garbage { octets, .. } => self.output.extend_from_slice(&octets),
        }
        Going::On
    }

    /// Acts on what the session says, and sends what its window has room for.
    fn settle(&mut self) -> Going {
        let now = self.shared.clock.now();
        let mut asked = false;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::BindRequested { bind, .. } => self.judge(&bind),
                Event::Bound { mode, .. } => {
                    self.shared.model().bound(self.id, mode != Mode::Tx);
                    asked = true;
                }
                Event::Request { sequence_number, body } => {
                    if let Body::SubmitSm(submit) = &body {
                        self.shared.show(Sight::Submit(submit));
                    }
                    self.shared.model().request(now, self.id, sequence_number, &body);
                    asked = true;
                }
                Event::Answered { token, status, .. } => {
                    self.answered(now, token, status == CommandStatus::ESME_ROK);
                    asked = true;
                }
                Event::TimedOut { token, .. } => {
                    self.answered(now, token, false);
                    asked = true;
                }
                Event::Closed { .. } => return Going::Over,
                _ => {}
            }
        }
        if asked {
            self.shared.wake.notify_one();
        }
        self.deliver(now);
        Going::On
    }

    /// Notes that a receipt was taken, or lets it be tried again. A late answer finds nothing.
    fn answered(&mut self, now: crate::time::Time, token: u64, is_taken: bool) {
        let Some(body) = self.sent.remove(&token) else { return };
        if is_taken {
            if let Body::DeliverSm(deliver) = &body {
                self.shared.show(Sight::ReceiptTaken(deliver));
            }
            self.shared.model().delivered(self.id);
        } else {
            self.shared.model().refused(now, self.id, body);
        }
    }

    fn deliver(&mut self, now: crate::time::Time) {
        while let Some(body) = self.held.pop_front() {
            self.next_token += 1;
            if self.session.submit(now, self.next_token, body.clone()).is_err() {
                self.held.push_front(body);
                return;
            }
            if let Body::DeliverSm(deliver) = &body {
                self.shared.show(Sight::Receipt(deliver));
            }
            self.sent.insert(self.next_token, body);
        }
    }

    fn judge(&mut self, bind: &Bind) {
        let now = self.shared.clock.now();
        let status = self.shared.model().judge_bind(
            now,
            bind.system_id.as_bytes(),
            bind.password.as_bytes(),
        );
        if status == CommandStatus::ESME_ROK {
            self.session.accept_bind();
        } else {
            self.session.refuse_bind(status);
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while let Some(pdu) = self.session.poll_transmit() {
            encode(&pdu, &mut self.output).map_err(io::Error::other)?;
        }
        if self.output.is_empty() {
            return Ok(());
        }
        let whole = self.output.len();
        let step = if self.write_octets == 0 { whole } else { self.write_octets };
        let Self { stream, output, .. } = self;
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

/// How many requests one session may leave unanswered before it is cut short.
const fn receive_window(config: &Config) -> u16 {
    config.window.saturating_mul(2)
}

fn session_config(config: &Config) -> SmscConfig {
    let mut session = SmscConfig {
        system_id: COctetString::new(config.name.clone().into_bytes()).unwrap_or_default(),
        version: match config.version {
            0..0x34 => Version::V3_3,
            0x34..0x50 => Version::V3_4,
            _ => Version::V5_0,
        },
        window: 100,
        receive_window: receive_window(config),
        ..SmscConfig::default()
    };
    session.timers.inactivity = config.inactivity;
    session.timers.enquire_link = Span::secs(30);
    session
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
