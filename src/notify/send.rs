//! One try: the HTTP request, over connections to addresses that were checked.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
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
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
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
use crate::time::Time;

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
    pub(crate) secrets: &'a [Secret],
    pub(crate) body: Bytes,
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
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
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
    pub(crate) fn new(config: &Config, clock: Clock) -> io::Result<Self> {
        let connector = Connector {
            networks: config.networks.clone().into(),
            timeout: *config.connect_timeout,
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(config)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.concurrency)
            .build(connector);
        Ok(Self { client, clock, timeout: *config.timeout })
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
        let request = request(at, call).map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| innermost(&error))?;
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

fn tls(config: &Config) -> io::Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots: Vec<CertificateDer<'static>> = Vec::new();
    if let Some(file) = &config.ca_file {
        let read = CertificateDer::pem_file_iter(file).map_err(io::Error::other)?;
        for certificate in read {
            roots.push(certificate.map_err(io::Error::other)?);
        }
    }
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

/// Connects to addresses that were looked up and checked here, and to no others: nobody can answer
/// the check with one address and the connection with another.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
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
        let found: Vec<SocketAddr> =
            tokio::net::lookup_host((host, port)).await.map_err(failed)?.collect();
        if found.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let mut error = ConnectError::Forbidden;
        for address in found.iter().filter(|found| guard::allows(&self.networks, found.ip())) {
            match TcpStream::connect(address).await {
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
