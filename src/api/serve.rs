//! The HTTP server: a bounded number of connections, each bounded in time and octets.
//!
//! A connection holds a place while it lives. When all places are taken, the connection that has
//! been idle longest (no request of it is being answered, even if half of a header has come) makes
//! room; when none is idle, new ones wait in the system's backlog. So neither ten thousand idle
//! connections nor a peer that sends one octet a second keeps others out.
#![expect(clippy::disallowed_methods, reason = "the shell reads the clock and waits")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::body::Bytes;
use axum::body::HttpBody;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::http::Response;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::body::SizeHint;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use rustls::client::verify_server_name;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::api::bare::Dressed;
use crate::api::config::Limits;
use crate::api::tls::Certificate;

/// Answers requests on `listener` with `router` until `stop`, then lets what is being answered
/// finish; wait for that on `tasks`, which holds a task for each connection.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    certificate: Option<Certificate>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let server = Arc::new(Server { router, limits, certificate, stop: stop.clone() });
    let mut places = Places::new(usize::try_from(server.limits.connections.get()).unwrap_or(1));
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    places.recover(&error).await;
                    continue;
                }
            },
        };
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            place = places.take() => place,
        };
        let server = Arc::clone(&server);
        tasks.spawn(async move { server.connection(stream, peer, place).await });
    }
}

struct Server {
    router: Router,
    limits: Limits,
    certificate: Option<Certificate>,
    stop: CancellationToken,
}

impl Server {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr, place: Place) {
        // Answers are small and written whole: waiting for more only delays them.
        let _without = stream.set_nodelay(true);
        let stream = Bounded::new(stream, *self.limits.write_timeout);
        let Some(certificate) = &self.certificate else {
            return self.http(stream, peer, None, place).await;
        };
        let acceptor = TlsAcceptor::from(certificate.current());
        let handshake = timeout(certificate.handshake_timeout(), acceptor.accept(stream));
        let stream = tokio::select! {
            () = place.evicted() => return,
            () = self.stop.cancelled() => return,
            stream = handshake => stream,
        };
        match stream {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let shown = shown.map(|shown| Shown(shown.clone().into_owned()));
                self.http(stream, peer, shown, place).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "tls handshake failed"),
            Err(_) => tracing::debug!(%peer, "tls handshake took too long"),
        }
    }

    async fn http<S>(&self, stream: S, peer: SocketAddr, shown: Option<Shown>, place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let answering = place.answering();
            self.answer(request, peer, shown.clone(), answering)
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(*self.limits.header_timeout)
            .max_headers(self.limits.header_fields.into())
            .max_buf_size(usize::try_from(self.limits.header_octets).unwrap_or(8_192).max(8_192));
        let mut connection =
            std::pin::pin!(builder.serve_connection(TokioIo::new(Dressed::new(stream)), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = place.evicted() => return,
            () = self.stop.cancelled() => {
                if place.is_idle() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                match timeout(*self.limits.drain_timeout, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return tracing::warn!(%peer, "connection cut: it did not end in time"),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection failed");
        }
    }

    fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        shown: Option<Shown>,
        answering: Answering,
    ) -> impl Future<Output = Result<Response<Answer>, Infallible>> + use<> {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        if let Some(shown) = shown {
            request.extensions_mut().insert(shown);
        }
        let answer = self.router.clone().call(request);
        async move {
            let response = answer.await?;
            Ok(response.map(|body| Answer { body, _answering: answering }))
        }
    }
}

/// The certificate that a client has shown, and that is signed as it must be.
#[derive(Clone, Debug)]
pub struct Shown(pub CertificateDer<'static>);

impl Shown {
    /// Whether it is for `name`.
    pub(crate) fn is_for(&self, name: &str) -> bool {
        let parsed = ParsedCertificate::try_from(&self.0);
        let name = ServerName::try_from(name);
        parsed.is_ok_and(|parsed| name.is_ok_and(|name| verify_server_name(&parsed, &name).is_ok()))
    }
}

/// The places for connections.
struct Places {
    free: Arc<Semaphore>,
    idle: Arc<Idle>,
    /// When the log was last told that connections cannot be accepted.
    complained: Option<Instant>,
}

/// The connections that wait for a request, the longest idle first.
#[derive(Default)]
struct Idle {
    queue: Mutex<Queue>,
    /// Woken whenever a connection becomes idle.
    entered: Notify,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

impl Idle {
    fn enter(&self, evict: &CancellationToken) -> u64 {
        let mut queue = self.locked();
        queue.next += 1;
        let number = queue.next;
        queue.waiting.insert(number, evict.clone());
        drop(queue);
        self.entered.notify_waiters();
        number
    }

    fn leave(&self, number: u64) {
        self.locked().waiting.remove(&number);
    }

    fn evict_longest(&self) {
        if let Some((_, evict)) = self.locked().waiting.pop_first() {
            evict.cancel();
        }
    }

    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn new(count: usize) -> Self {
        let free = Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self { free, idle: Arc::default(), complained: None }
    }

    /// A place for one connection; the longest idle one makes room if need be.
    async fn take(&self) -> Place {
        let mut permit = std::pin::pin!(Arc::clone(&self.free).acquire_owned());
        let permit = loop {
            let mut idle = std::pin::pin!(self.idle.entered.notified());
            // From here on no connection becomes idle unnoticed.
            idle.as_mut().enable();
            if self.free.available_permits() == 0 {
                self.idle.evict_longest();
            }
            tokio::select! {
                biased;
                permit = permit.as_mut() => break permit.ok(),
                () = idle => {}
            }
        };
        let evict = CancellationToken::new();
        let number = Mutex::new(Some(self.idle.enter(&evict)));
        let presence = Presence { idle: Arc::clone(&self.idle), evict, number };
        Place { presence: Arc::new(presence), _permit: permit }
    }

    /// After `accept` failed: a peer that is gone already costs nothing, a system without free
    /// descriptors gets some back, also for whoever else in this process needs one.
    async fn recover(&mut self, error: &io::Error) {
        use io::ErrorKind::ConnectionAborted;
        use io::ErrorKind::ConnectionRefused;
        use io::ErrorKind::ConnectionReset;
        const EVICTED: usize = 64;
        const QUIET: Duration = Duration::from_secs(10);
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return;
        }
        if self.complained.is_none_or(|at| at.elapsed() > QUIET) {
            self.complained = Some(Instant::now());
            tracing::error!(%error, "cannot accept connections; the longest idle make room");
        }
        (0..EVICTED).for_each(|_| self.idle.evict_longest());
        sleep(Duration::from_millis(10)).await;
    }
}

/// The place of one connection.
struct Place {
    presence: Arc<Presence>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Whether a connection is idle, and since when in the order of all.
struct Presence {
    idle: Arc<Idle>,
    evict: CancellationToken,
    number: Mutex<Option<u64>>,
}

impl Presence {
    fn set_idle(&self, idle: bool) {
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = number.take() {
            self.idle.leave(old);
        }
        *number = idle.then(|| self.idle.enter(&self.evict));
    }
}

impl Place {
    async fn evicted(&self) {
        self.presence.evict.cancelled().await;
    }

    fn is_idle(&self) -> bool {
        self.presence.number.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn answering(&self) -> Answering {
        self.presence.set_idle(false);
        Answering(Arc::clone(&self.presence))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.presence.set_idle(false);
    }
}

/// Keeps a connection from being taken for idle while a request of it is answered.
struct Answering(Arc<Presence>);

impl Drop for Answering {
    fn drop(&mut self) {
        // The last one belongs to a connection that has ended, which is idle no more.
        if Arc::strong_count(&self.0) > 1 {
            self.0.set_idle(true);
        }
    }
}

/// The body of an answer; the request is answered when it has been sent.
struct Answer {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose writes fail when the peer takes nothing for too long.
struct Bounded<S> {
    stream: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Bounded<S> {
    const fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, stalled: None }
    }

    /// `progress`, or a failure once there has been none for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stalled = None;
            return progress;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(context, octets);
        self.watch(context, progress)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
