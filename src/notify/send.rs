//! One try: the HTTP request, over connections to addresses that were checked.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Request;
use hyper::StatusCode;
use hyper::Uri;
use hyper::header;
use hyper::header::HeaderMap;
use hyper_rustls::HttpsConnector;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tower::Service;

use crate::clock::Clock;
use crate::notify::Config;
use crate::notify::guard;
use crate::notify::guard::Network;
use crate::notify::sign::ID_HEADER;
use crate::notify::sign::SIGNATURE_HEADER;
use crate::notify::sign::Secret;
use crate::notify::sign::TIMESTAMP_HEADER;
use crate::threads::Threads;
use crate::time::Time;
use crate::tls;

/// An address that webhooks can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    uri: Uri,
    host: Arc<str>,
}

/// Why a text is no address for webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not an absolute URL.
    #[error("expected an absolute URL such as https://example.com/hook")]
    Malformed,
    /// Another scheme.
    #[error("expected an https:// or http:// address")]
    Scheme,
    /// Plain HTTP, which the config forbids.
    #[error("expected an https:// address")]
    HttpsOnly,
    /// A host that reads as one thing here and as another elsewhere: an IPv4 address in octal, in
    /// hexadecimal or with parts left out, a zone, or octets that no name has.
    #[error("expected a name, four decimal numbers, or an IPv6 address in brackets as the host")]
    Host,
    /// No port that webhooks go to.
    #[error("expected port 80, 443, or one of 1024 to 65535")]
    Port,
    /// A name and password in the address.
    #[error("expected an address without a user name")]
    UserInfo,
    /// Longer than any address need be.
    #[error("expected at most 2,048 characters")]
    TooLong,
}

impl Target {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(url: &str, https_only: bool) -> Result<Self, TargetError> {
        if url.len() > 2_048 {
            return Err(TargetError::TooLong);
        }
        let uri: Uri = url.parse().map_err(|_| TargetError::Malformed)?;
        let authority = uri.authority().ok_or(TargetError::Malformed)?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if !https_only => {}
            Some("http") => return Err(TargetError::HttpsOnly),
            _ => return Err(TargetError::Scheme),
        }
        if authority.as_str().contains('@') {
            return Err(TargetError::UserInfo);
        }
        if authority.host().is_empty() {
            return Err(TargetError::Malformed);
        }
        if !is_plain(authority.host()) {
            return Err(TargetError::Host);
        }
        if !authority.as_str().strip_prefix(authority.host()).is_some_and(is_for_webhooks) {
            return Err(TargetError::Port);
        }
        let host = authority.as_str().to_ascii_lowercase().into();
        Ok(Self { uri, host })
    }

    /// Host and port: what fails together.
    pub fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// Why the address may not be called, when that shows without a look-up of its name.
    pub fn refused(&self, networks: &[Network]) -> Option<ConnectError> {
        let address: IpAddr = bare(self.uri.host()?).parse().ok()?;
        (!guard::allows(networks, address)).then_some(ConnectError::Forbidden)
    }
}

/// Whether a host is written so that everybody reads the same: a name, four decimal numbers, or an
/// IPv6 address in brackets.
fn is_plain(host: &str) -> bool {
    if host.starts_with('[') {
        return bare(host).parse::<Ipv6Addr>().is_ok();
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    // A last part that begins with a digit makes it an address for those who read "127.1" and
    // "0x7f000001" as one (inet_aton), and no top-level domain begins with one (RFC 3696 §2).
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    last.starts_with(|c: char| c.is_ascii_alphabetic()) && host.bytes().all(named)
}

/// Whether what follows a host is no port, or one that webhooks go to: below 1024 live services
/// that might take a webhook for something else.
fn is_for_webhooks(port: &str) -> bool {
    let Some(port) = port.strip_prefix(':') else { return port.is_empty() };
    port.parse::<u16>().is_ok_and(|port| matches!(port, 80 | 443 | 1024..))
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// One try as it is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) target: &'a Target,
    /// The `webhook-id`.
    pub(crate) id: &'a str,
    pub(crate) secrets: &'a [&'a Secret],
    pub(crate) body: Bytes,
    pub(crate) keeping: Keeping,
}

/// Whether a connection is kept for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// For a while: few endpoints are registered.
    Kept,
    /// Closed at once: every message may name a host of its own, and connections kept to each would
    /// take all the sockets of the process.
    Closed,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// When it began.
    pub at: Time,
    /// How long it took.
    pub took: Duration,
    /// The status that the endpoint answered with.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub error: Option<String>,
}

impl Try {
    /// Whether the endpoint has taken the event.
    pub fn is_taken(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether the endpoint wants no more events (410).
    pub fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE.as_u16())
    }
}

/// Makes tries; clones share their connections.
#[derive(Clone)]
pub(crate) struct Sender {
    kept: Client<HttpsConnector<Connector>, Full<Bytes>>,
    closed: Client<HttpsConnector<Connector>, Full<Bytes>>,
    clock: Clock,
    timeout: Duration,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Sender {
    /// # Errors
    /// The certificates cannot be read.
    pub(crate) fn new(config: &Config, clock: Clock, names: Arc<dyn Names>) -> io::Result<Self> {
        let connector = Connector {
            names,
            networks: config.networks.clone().into(),
            timeout: *config.connect_timeout,
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trusting(config)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = |most_idle| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(most_idle)
                .build(connector.clone())
        };
        let (kept, closed) = (client(config.concurrency), client(0));
        Ok(Self { kept, closed, clock, timeout: *config.timeout })
    }

    /// Makes one try, and tells after how long the endpoint wants the next one.
    pub(crate) async fn call(&self, call: Call<'_>) -> (Try, Option<Duration>) {
        let at = self.clock.now();
        let done = match tokio::time::timeout(self.timeout, self.request(at, call)).await {
            Ok(done) => done,
            Err(_elapsed) => Err(format!("no answer within {:?}", self.timeout)),
        };
        let took = self.clock.now().since(at);
        match done {
            Ok((status, retry_after)) => {
                let result = Try { at, took, status: Some(status.as_u16()), error: None };
                (result, retry_after)
            }
            Err(error) => (Try { at, took, status: None, error: Some(error) }, None),
        }
    }

    async fn request(
        &self,
        at: Time,
        call: Call<'_>,
    ) -> Result<(StatusCode, Option<Duration>), String> {
        let client = match call.keeping {
            Keeping::Kept => &self.kept,
            Keeping::Closed => &self.closed,
        };
        let request = request(at, call).map_err(|error| error.to_string())?;
        let response = client.request(request).await.map_err(|error| innermost(&error))?;
        let status = response.status();
        let retry_after = retry_after(at, response.headers());
        // A connection can be used again once its body is read; a long or slow one is not worth it.
        let mut body = response.into_body();
        let reading = async {
            let mut octets = 0;
            while let Some(Ok(frame)) = body.frame().await {
                octets += frame.data_ref().map_or(0, Bytes::len);
                if octets > MOST_ANSWER {
                    break;
                }
            }
        };
        let _slow = tokio::time::timeout(BODY_TIMEOUT, reading).await;
        Ok((status, retry_after))
    }
}

/// How long the body of an answer may take; the status has told all.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection without work is kept.
const IDLE: Duration = Duration::from_secs(30);

/// The most octets of an answer that are read.
const MOST_ANSWER: usize = 16_384;

fn request(at: Time, call: Call<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let seconds = at.as_secs();
    let signatures: Vec<_> =
        call.secrets.iter().map(|secret| secret.sign(call.id, seconds, &call.body)).collect();
    Request::post(&call.target.uri)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("hikyaku/", env!("CARGO_PKG_VERSION")))
        .header(ID_HEADER, call.id)
        .header(TIMESTAMP_HEADER, seconds)
        .header(SIGNATURE_HEADER, signatures.join(" "))
        .body(Full::new(call.body))
}

/// What an error says at its root: hyper's own words are only "client error (Connect)".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// What `Retry-After` asks for: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(now: Time, headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let until = Time::from_millis(u64::try_from(date.as_millisecond()).ok()?);
    Some(until.since(now))
}

fn trusting(config: &Config) -> io::Result<rustls::ClientConfig> {
    let provider = tls::provider();
    let roots = config.ca_file.as_deref().map(tls::certificates).transpose();
    let roots = roots.map_err(io::Error::other)?.unwrap_or_default();
    let verifier =
        rustls_platform_verifier::Verifier::new_with_extra_roots(roots, Arc::clone(&provider))
            .map_err(io::Error::other)?;
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    // "Dangerous" is what rustls calls every verifier that is not its own.
    let verified = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(verified.with_no_client_auth())
}

/// Looks names up.
pub trait Names: Send + Sync + 'static {
    /// The addresses of a host; asked once for each connection.
    fn addresses(&self, host: &str) -> Addresses;
}

/// A look-up under way.
pub type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The system's own look-up, which blocks a thread for as long as a name server is silent.
#[derive(Clone, Debug)]
pub struct System {
    threads: Threads,
}

impl Default for System {
    fn default() -> Self {
        Self { threads: Threads::new(LOOK_UPS) }
    }
}

/// The most look-ups at the same time: half of the threads that the runtime has for all.
const LOOK_UPS: usize = 256;

impl Names for System {
    fn addresses(&self, host: &str) -> Addresses {
        let (threads, host) = (self.threads.clone(), host.to_owned());
        Box::pin(async move {
            let found = threads.run(move || (host, 0).to_socket_addrs()).await;
            let found = found.ok_or_else(|| io::Error::other("the webhooks are stopping"))?;
            Ok(found?.map(|address| address.ip()).collect())
        })
    }
}

/// Connects to addresses that were looked up and checked here, and to no others: nobody can answer
/// the check with one address and the connection with another.
#[derive(Clone)]
pub(crate) struct Connector {
    names: Arc<dyn Names>,
    networks: Arc<[Network]>,
    timeout: Duration,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// Every address of it is one that must not be called.
    #[error("the address is not a public one, and the config does not list its network")]
    Forbidden,
    /// The URL names no host.
    #[error("no host in the URL")]
    NoHost,
    /// It took too long.
    #[error("no connection within {0:?}")]
    TooLong(Duration),
    /// The network refused.
    #[error("{0}")]
    Failed(String),
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(this.timeout, this.connect(&uri)).await {
                Ok(done) => done.map(TokioIo::new),
                Err(_elapsed) => Err(ConnectError::TooLong(this.timeout)),
            }
        })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri) -> Result<TcpStream, ConnectError> {
        let host = bare(uri.host().ok_or(ConnectError::NoHost)?);
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let failed = |error: io::Error| ConnectError::Failed(error.to_string());
        let found = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.names.addresses(host).await.map_err(failed)?,
        };
        if found.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let mut error = ConnectError::Forbidden;
        for address in found.into_iter().filter(|found| guard::allows(&self.networks, *found)) {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(failed)?;
                    return Ok(stream);
                }
                Err(refused) => error = failed(refused),
            }
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_absolute_http_and_without_a_user() {
        for good in ["https://a.example/x?y=1", "http://a.example", "https://[2606::1]:8443/"] {
            assert!(Target::parse(good, false).is_ok(), "{good}");
        }
        let wrong = [
            ("", TargetError::Malformed),
            ("/hook", TargetError::Malformed),
            ("a.example", TargetError::Scheme),
            ("ftp://a.example", TargetError::Scheme),
            ("https://u:p@a.example", TargetError::UserInfo),
            ("https://a.example@127.0.0.1/", TargetError::UserInfo),
            ("http://a.example:0/", TargetError::Port),
            ("http://a.example:/", TargetError::Port),
            ("http://a.example:25/", TargetError::Port),
            ("http://[2606::1]:22/", TargetError::Port),
            ("https://", TargetError::Malformed),
        ];
        for (url, error) in wrong {
            assert_eq!(Target::parse(url, false), Err(error), "{url}");
        }
        assert_eq!(Target::parse("http://a.example", true), Err(TargetError::HttpsOnly));
    }

    #[test]
    fn a_written_private_address_is_refused_before_anything_is_sent() {
        for url in ["http://127.0.0.1:80/", "http://[::1]/", "http://169.254.169.254/latest"] {
            let target = Target::parse(url, false).unwrap();
            assert_eq!(target.refused(&[]), Some(ConnectError::Forbidden), "{url}");
        }
        let named = Target::parse("http://localhost/", false).unwrap();
        assert_eq!(named.refused(&[]), None, "its address is known only after the look-up");
    }

    #[test]
    fn no_other_spelling_of_an_address_is_taken_for_a_name() {
        let odd = [
            "2130706433",
            "017700000001",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "127.0.1",
            "127.0.0.1.",
            "0.0.0.0x0",
            "169.254.43518",
            "1.2.3.4.5",
            "a.1",
            "[::1%25eth0]",
            "[fe80::1%eth0]",
            "[127.0.0.1]",
            "[v1.a]",
            "127%2e0%2e0%2e1",
            "a%00b.example",
            "-",
            "a.example..",
            ".",
            "a,b.example",
            "a;b.example",
        ];
        for host in odd {
            for url in [format!("http://{host}/"), format!("https://{host}:8443/x")] {
                assert!(Target::parse(&url, false).is_err(), "{url}");
            }
        }
        for unreadable in ["http://１２７.0.0.1/", "http://①②⑦.0.0.1/", "http://127。0。0。1/"]
        {
            assert_eq!(Target::parse(unreadable, false), Err(TargetError::Malformed));
        }
        for good in
            ["localhost", "a.example.", "xn--wgv71a119e.xn--zckzah", "8.8.8.8", "3com.example"]
        {
            assert!(Target::parse(&format!("https://{good}/"), true).is_ok(), "{good}");
        }
    }

    /// Answers each look-up with the next of its addresses; the last one stays.
    struct Fickle(std::sync::Mutex<Vec<IpAddr>>, std::sync::atomic::AtomicUsize);

    impl Names for Fickle {
        fn addresses(&self, _: &str) -> Addresses {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut left = self.0.lock().unwrap();
            let next = if left.len() > 1 { left.remove(0) } else { left[0] };
            Box::pin(std::future::ready(Ok(vec![next])))
        }
    }

    #[tokio::test]
    async fn a_connection_is_kept_where_it_is_meant_to_be_only() {
        use tokio::io::AsyncReadExt;
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let target = Target::parse(&url, false).unwrap();
        let networks = vec!["127.0.0.1".parse().unwrap()];
        let config = Config { networks, ..Config::default() };
        let sender = Sender::new(&config, Clock::start(), Arc::new(System::default())).unwrap();
        let (mut standing, mut heard) = (Vec::new(), vec![0; 4_096]);
        for keeping in [Keeping::Closed, Keeping::Kept] {
            let (target, id, secrets) = (&target, "evt_1", &[][..]);
            let call = Call { target, id, secrets, body: Bytes::new(), keeping };
            let ((done, _), stream) = tokio::join!(sender.call(call), async {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut heard).await.unwrap() > 0);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                stream
            });
            assert!(done.is_taken(), "{done:?}");
            standing.push(stream);
        }
        assert_eq!(standing[0].read(&mut heard).await.unwrap(), 0, "it is closed");
        let kept = standing[1].try_read(&mut heard);
        assert!(kept.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock), "it stands");
    }

    #[tokio::test]
    async fn the_address_that_was_judged_is_the_one_that_is_called() {
        let allowed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = allowed.local_addr().unwrap().port();
        let inside = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let (good, bad) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
        let fickle = Arc::new(Fickle(vec![good, bad, good, bad].into(), 0.into()));
        let connector = Connector {
            names: fickle.clone(),
            networks: ["127.0.0.1".parse().unwrap()].into(),
            timeout: Duration::from_secs(5),
        };
        let uri: Uri = format!("http://rebind.test:{port}/").parse().unwrap();
        for (tries, address) in (1..).zip([good, bad, good, bad, bad]) {
            match connector.connect(&uri).await {
                Ok(stream) => {
                    assert_eq!(stream.peer_addr().unwrap().ip(), address);
                    assert_eq!(address, good);
                }
                Err(error) => assert_eq!((error, address), (ConnectError::Forbidden, bad)),
            }
            assert_eq!(
                fickle.1.load(std::sync::atomic::Ordering::Relaxed),
                tries,
                "one look-up each"
            );
        }
        let heard = tokio::time::timeout(Duration::from_millis(1), inside.accept()).await;
        assert!(heard.is_err(), "the forbidden address was called");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Time::from_secs(784_111_777 - 60);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(now, &headers)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Tue, 06 Nov 1990 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(now, &HeaderMap::new()), None);
    }
}
