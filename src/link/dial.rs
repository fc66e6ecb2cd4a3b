//! Making a connection: the name, the socket, TLS.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustls::ClientConfig;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::link::config::Config;
use crate::link::tls::TlsError;
use crate::time::Span;

/// Octets both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that stands.
pub struct Connection {
    /// Its octets.
    pub stream: Box<dyn Stream>,
    /// The other end, if it has an address.
    pub remote: Option<SocketAddr>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// Makes connections for a link; what it gives up on half-way must be closed by then.
pub trait Dial: Send {
    /// Makes one connection.
    fn dial(&mut self) -> Dialled<'_>;
}

/// A connection in the making.
pub type Dialled<'a> = Pin<Box<dyn Future<Output = Result<Connection, DialError>> + Send + 'a>>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("{host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The address of ours cannot be used.
    #[error("source_address: {0}")]
    Source(io::Error),
    /// No connection to the address.
    #[error("{address}: {source}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nothing came of it in time.
    #[error("no connection within {}", Span(*.0))]
    TimedOut(std::time::Duration),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The TLS handshake failed.
    #[error("tls to {address}: {source}")]
    Handshake {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Connects over TCP, and TLS where the config says so.
#[derive(Debug)]
pub struct Tcp {
    config: Arc<Config>,
    port: u16,
    /// The TLS of the last connection whose files could be used.
    tls: Mutex<Option<Arc<ClientConfig>>>,
}

impl Tcp {
    /// Connects as `config` says, to `port`.
    pub const fn new(config: Arc<Config>, port: u16) -> Self {
        Self { config, port, tls: Mutex::new(None) }
    }

    async fn connect(&self) -> Result<Connection, DialError> {
        let limit = self.config.connect_timeout.0;
        let host = self.config.host.trim();
        let resolve = |source| DialError::Resolve { host: host.to_owned(), source };
        let resolved = timeout(limit, tokio::net::lookup_host((host, self.port))).await;
        let addresses = resolved.map_err(|_| DialError::TimedOut(limit))?.map_err(resolve)?;
        let mut last = resolve(io::Error::from(io::ErrorKind::NotFound));
        for address in addresses.filter(|address| self.can_reach(*address)).take(MOST_ADDRESSES) {
            match timeout(limit, self.connect_to(address)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => last = DialError::TimedOut(limit),
            }
        }
        Err(last)
    }

    /// Whether the address is of the same family as ours.
    fn can_reach(&self, address: SocketAddr) -> bool {
        self.config.source_address.is_none_or(|source| source.is_ipv4() == address.is_ipv4())
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<Connection, DialError> {
        let connect = |source| DialError::Connect { address, source };
        let socket = self.socket(address)?;
        let stream = socket.connect(address).await.map_err(connect)?;
        if leads_back(&stream) {
            let nobody = "nobody listens there, and the connection led back to where it began";
            return Err(connect(io::Error::new(io::ErrorKind::ConnectionRefused, nobody)));
        }
        // Batches are written whole, and many SMSCs are slow to acknowledge.
        stream.set_nodelay(true).map_err(connect)?;
        let stream = if self.config.tls.enabled {
            self.handshake(address, stream).await?
        } else {
            Box::new(stream) as Box<dyn Stream>
        };
        Ok(Connection { stream, remote: Some(address) })
    }

    fn socket(&self, address: SocketAddr) -> Result<TcpSocket, DialError> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(DialError::Source)?;
        let Some(source) = self.config.source_address else {
            return Ok(socket);
        };
        if self.config.source_port.is_some() {
            // The port may still be in TIME_WAIT from the bind before.
            socket.set_reuseaddr(true).map_err(DialError::Source)?;
        }
        let port = self.config.source_port.unwrap_or(0);
        socket.bind(SocketAddr::new(source, port)).map_err(DialError::Source)?;
        Ok(socket)
    }

    async fn handshake(
        &self,
        address: SocketAddr,
        stream: TcpStream,
    ) -> Result<Box<dyn Stream>, DialError> {
        let tls = &self.config.tls;
        let name = tls.name(self.config.host.trim())?;
        let connector = TlsConnector::from(self.tls().await?);
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|source| DialError::Handshake { address, source })?;
        Ok(Box::new(stream))
    }
}

/// Whether a connection has both its ends in one socket.
///
/// Who connects to a port of this machine on which nobody listens may be given that port for its
/// own end; TCP calls that a simultaneous open (RFC 9293 §3.5), and it succeeds. Whoever means to
/// listen there then finds the port in use.
fn leads_back(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(near), Ok(far)) if near == far)
}

impl Tcp {
    /// What the files hold now, or held when they could be used last.
    async fn tls(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let config = self.config.tls.clone();
        // The files may lie on a disk that is slow.
        let loaded = tokio::task::spawn_blocking(move || config.load()).await;
        let loaded = loaded.map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut last = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        match (loaded, &*last) {
            (Ok(loaded), _) => {
                *last = Some(loaded.clone());
                Ok(loaded)
            }
            (Err(error), Some(last)) => {
                let host = &self.config.host;
                tracing::error!(host, %error, "the TLS files cannot be used; those before are");
                Ok(last.clone())
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// More addresses of one name are not tried.
const MOST_ADDRESSES: usize = 8;

impl Dial for Tcp {
    fn dial(&mut self) -> Dialled<'_> {
        Box::pin(self.connect())
    }
}
