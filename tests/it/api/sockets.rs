//! The server over real sockets: what it survives, and how it stops.
//!
//! The runtime's time stands still while there is work and leaps when there is none, so waiting
//! for a time limit takes no time.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hikyaku::api;
use hikyaku::api::Certificate;
use hikyaku::api::config::ClientCertificates;
use hikyaku::api::config::Limits;
use hikyaku::api::config::Tls;
use hikyaku::time::Span;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_util::task::TaskTracker;

use super::house::House;
use super::messages::hello;
use crate::authority::Authority;

/// The API behind a listener.
struct Listening {
    house: House,
    addr: SocketAddr,
    tasks: TaskTracker,
    serving: tokio::task::JoinHandle<()>,
}

impl Listening {
    async fn new(change: impl FnOnce(&mut Limits)) -> Self {
        Self::with(None, change).await
    }

    async fn with(certificate: Option<Certificate>, change: impl FnOnce(&mut Limits)) -> Self {
        Self::over(House::with(|config| change(&mut config.limits)), certificate).await
    }

    async fn over(house: House, certificate: Option<Certificate>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let tasks = TaskTracker::new();
        let serving = tokio::spawn(api::serve(
            listener,
            house.router.clone(),
            house.config.limits.clone(),
            certificate,
            tasks.clone(),
            house.stop.clone(),
        ));
        Self { house, addr, tasks, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Waits until so many connections live.
    async fn live(&self, count: usize) {
        while self.tasks.len() != count {
            tokio::task::yield_now().await;
        }
    }

    /// A request with a body, as octets.
    fn posting(&self, body: &str) -> String {
        format!(
            "POST /v1/messages HTTP/1.1\r\nhost: gw\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.house.token("shop"),
            body.len()
        )
    }

    /// What stops the gateway ends every task.
    async fn stop(self) {
        self.house.stop.cancel();
        self.serving.await.unwrap();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: gw\r\n\r\n";

/// The head and body of one answer.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let mut octets = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&octets).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap_or("0").parse().unwrap();
            if body.len() >= length {
                return (head.to_owned(), body.to_owned());
            }
        }
        if stream.read_buf(&mut octets).await.unwrap_or(0) == 0 {
            return (text, String::new());
        }
    }
}

async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &str,
) -> (String, String) {
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

/// The code of the problem in a body.
fn code(body: &str) -> String {
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

/// Whether the peer has closed.
async fn closed(stream: &mut TcpStream) -> bool {
    let mut octets = Vec::new();
    matches!(stream.read_buf(&mut octets).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let gateway = Listening::new(|_| {}).await;
    let mut stream = gateway.connect().await;
    for _ in 0..3 {
        let (head, body) = ask(&mut stream, &gateway.posting(&hello().to_string())).await;
        assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
        assert!(body.contains("msg_"), "{body}");
    }
    let (head, _) = ask(&mut stream, HEALTH).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    gateway.stop().await;
}

#[tokio::test]
async fn idle_connections_make_room_the_longest_idle_first() {
    let gateway = Listening::new(|limits| {
        limits.connections = NonZeroU32::new(50).unwrap();
    })
    .await;
    let mut active = gateway.connect().await;
    ask(&mut active, HEALTH).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(gateway.connect().await);
        // One that is used stays, however many idle ones come.
        let (head, _) = ask(&mut active, HEALTH).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
    let mut late = gateway.connect().await;
    assert!(ask(&mut late, HEALTH).await.0.starts_with("HTTP/1.1 200 "));
    assert!(gateway.tasks.len() <= 51, "{}", gateway.tasks.len());
    for stream in &mut idle[..200] {
        assert!(closed(stream).await);
    }
    let half = "GET /healthz HTTP/1.1\r\nho";
    idle.last_mut().unwrap().write_all(half.as_bytes()).await.unwrap();
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn when_all_are_busy_the_next_waits_for_the_first_to_end() {
    let gateway = Listening::new(|limits| limits.connections = NonZeroU32::MIN).await;
    let token = gateway.house.token("shop").to_owned();
    let mut busy = gateway.connect().await;
    let wait = format!(
        "GET /v1/events?after=now&wait=5s HTTP/1.1\r\nhost: gw\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    busy.write_all(wait.as_bytes()).await.unwrap();
    gateway.live(1).await;
    let begun = Instant::now();
    let mut next = gateway.connect().await;
    let (first, second) = tokio::join!(answer(&mut busy), ask(&mut next, HEALTH));
    assert!(first.0.starts_with("HTTP/1.1 200 "), "{}", first.0);
    assert!(second.0.starts_with("HTTP/1.1 200 "), "{}", second.0);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    gateway.stop().await;
}

/// Sends an octet a second until the peer closes; how long that took.
async fn trickle(stream: &mut TcpStream, octets: &[u8]) -> Duration {
    let begun = Instant::now();
    for octet in octets {
        if stream.write_all(&[*octet]).await.is_err() {
            break;
        }
        let mut heard = [0; 1];
        let pause = tokio::time::timeout(Duration::from_secs(1), stream.peek(&mut heard));
        if pause.await.is_ok() {
            break;
        }
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_header_of_an_octet_a_second_is_cut_off() {
    let gateway = Listening::new(|_| {}).await;
    let mut stream = gateway.connect().await;
    let line = format!("GET /{} HTTP/1.1\r\n", "x".repeat(1_000));
    let took = trickle(&mut stream, line.as_bytes()).await;
    assert!((29..=31).contains(&took.as_secs()), "{took:?}");
    gateway.live(0).await;
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_of_an_octet_a_second_is_answered_with_a_problem() {
    let gateway = Listening::new(|_| {}).await;
    let mut stream = gateway.connect().await;
    let request = gateway.posting(&hello().to_string());
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    let took = trickle(&mut stream, body.as_bytes()).await;
    assert!((9..=11).contains(&took.as_secs()), "{took:?}");
    let (head, body) = answer(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(body.contains("\"request_timeout\""), "{body}");
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_cut_off() {
    let gateway = Listening::new(|_| {}).await;
    let mut stream = gateway.connect().await;
    let request = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: gw\r\n\r\n".repeat(30);
    stream.write_all(request.as_bytes()).await.unwrap();
    gateway.live(1).await;
    let begun = Instant::now();
    while !gateway.tasks.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it still lives");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_header_over_the_limit_is_refused() {
    let gateway = Listening::new(|limits| limits.header_octets = 8_192).await;
    let mut stream = gateway.connect().await;
    let request = format!("GET / HTTP/1.1\r\nx-much: {}\r\n\r\n", "x".repeat(20_000));
    let (head, body) = ask(&mut stream, &request).await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    assert!(head.contains("application/problem+json"), "{head}");
    assert_eq!(code(&body), "header_too_large", "{body}");
    let mut stream = gateway.connect().await;
    let many: String = (0..100).map(|n| format!("x-{n}: 1\r\n")).collect();
    let (head, _) = ask(&mut stream, &format!("GET / HTTP/1.1\r\n{many}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    let mut stream = gateway.connect().await;
    let (head, body) = ask(&mut stream, "\u{16}\u{3}\u{1}nonsense\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert_eq!(code(&body), "malformed_request", "{body}");
    assert!(closed(&mut stream).await);
    gateway.stop().await;
}

#[tokio::test]
async fn a_line_that_is_too_long_is_refused() {
    let gateway = Listening::new(|limits| limits.header_octets = 1 << 18).await;
    let mut stream = gateway.connect().await;
    let line = format!("GET /{} HTTP/1.1\r\nhost: gw\r\n\r\n", "x".repeat(70_000));
    let (head, body) = ask(&mut stream, &line).await;
    assert!(head.starts_with("HTTP/1.1 414 "), "{head}");
    assert_eq!(code(&body), "uri_too_long", "{body}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let gateway = Listening::new(|_| {}).await;
    let mut stream = gateway.connect().await;
    let request = gateway.posting("").replace("content-length: 0", "content-length: 4294967296");
    let (head, body) = ask(&mut stream, &request).await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert!(body.contains("\"body_too_large\""), "{body}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_without_end_is_refused_at_the_limit() {
    let gateway = Listening::new(|_| {}).await;
    let mut stream = gateway.connect().await;
    let chunked = "transfer-encoding: chunked";
    let request = gateway.posting("").replace("content-length: 0", chunked);
    stream.write_all(request.as_bytes()).await.unwrap();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    let mut sent = 0;
    let (mut reading, mut writing) = stream.split();
    let flood = async {
        while writing.write_all(chunk.as_bytes()).await.is_ok() {
            sent += 0x1000;
        }
    };
    let ((head, body), ()) = tokio::join!(answer(&mut reading), flood);
    // Who still writes when it is cut off may lose the answer.
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 413 "), "{head}");
    assert!(head.is_empty() || body.contains("\"body_too_large\""), "{body}");
    assert!(sent < 16 << 20, "{sent} octets were taken");
    gateway.stop().await;
}

#[tokio::test]
async fn a_packed_body_is_refused_and_never_unpacked() {
    let gateway = Listening::new(|_| {}).await;
    let mut stream = gateway.connect().await;
    let packed = "content-type: application/json\r\ncontent-encoding: gzip";
    let request = gateway.posting("1234").replace("content-type: application/json", packed);
    let (head, body) = ask(&mut stream, &request).await;
    assert!(head.starts_with("HTTP/1.1 415 "), "{head}");
    assert!(body.contains("\"unsupported_media_type\""), "{body}");
    gateway.stop().await;
}

#[tokio::test]
async fn http_2_is_refused_at_its_first_octets() {
    let gateway = Listening::new(|_| {}).await;
    let mut stream = gateway.connect().await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    let (head, _) = ask(&mut stream, preface).await;
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 4") || head.starts_with("HTTP/1.1 505"));
    assert!(closed(&mut stream).await);
    let upgrade = "GET /healthz HTTP/1.1\r\nhost: gw\r\nconnection: upgrade, http2-settings\r\n\
         upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    let (head, _) = ask(&mut gateway.connect().await, upgrade).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "an upgrade is an offer, and may be left: {head}");
    gateway.stop().await;
}

#[tokio::test]
async fn bombs_of_json_are_refused() {
    let gateway = Listening::new(|_| {}).await;
    let deep = "[".repeat(60_000);
    let objects = "{\"to\":".repeat(9_000);
    let digits = format!("{{\"to\": \"+819012345678\", \"max_segments\": {}}}", "9".repeat(60_000));
    let exponent = "{\"to\": \"+819012345678\", \"text\": \"x\", \"max_segments\": 1e999999999}";
    let fraction = format!("{{\"max_segments\": 0.{}1}}", "0".repeat(60_000));
    let escapes = format!("{{\"to\": \"{}\"}}", "\\ud800".repeat(9_000));
    let fields: String = (0..5_000).map(|n| format!("\"f{n}\": {n},")).collect();
    let fields = format!("{{{fields}\"to\": 1}}");
    let repeated = format!("{{{}\"to\": 1}}", "\"to\": \"+819012345678\",".repeat(2_000));
    for bomb in [&deep, &objects, &digits, exponent, &fraction, &escapes, &fields, &repeated] {
        let mut stream = gateway.connect().await;
        let (head, body) = ask(&mut stream, &gateway.posting(bomb)).await;
        assert!(head.starts_with("HTTP/1.1 4"), "{head} to {:.40}", bomb);
        assert!(head.contains("application/problem+json"), "{head}");
        assert!(body.len() < 1 << 20, "{} octets to {:.40}", body.len(), bomb);
    }
    assert!(gateway.house.submissions().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn absurd_queries_are_refused_with_a_problem() {
    let gateway = Listening::new(|_| {}).await;
    let token = gateway.house.token("shop").to_owned();
    let queries = [
        "limit=1&".repeat(1_500),
        "a=1&".repeat(2_500),
        format!("cursor={}", "%F0%9F".repeat(1_500)),
        format!("to={}", "9".repeat(12_000)),
        "&=&".repeat(3_000),
        format!("{}=1", "[a]".repeat(3_000)),
        format!("since={}", "-".repeat(9_000)),
    ];
    for query in queries {
        let request = format!(
            "GET /v1/messages?{query} HTTP/1.1\r\nhost: gw\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        let (head, body) = ask(&mut gateway.connect().await, &request).await;
        assert!(head.starts_with("HTTP/1.1 4"), "{head} to {query:.40}");
        assert!(head.contains("application/problem+json"), "{head}");
        assert!(body.len() < 1 << 20, "{} octets to {query:.40}", body.len());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_thousand_requests_at_once_are_answered_one_after_the_other() {
    let gateway = Listening::new(|_| {}).await;
    let stream = gateway.connect().await;
    let (mut reading, mut writing) = stream.into_split();
    let asked = tokio::spawn(async move {
        for number in 0..1_000 {
            let request =
                format!("GET /healthz HTTP/1.1\r\nhost: gw\r\nx-request-id: n{number}.\r\n\r\n");
            writing.write_all(request.as_bytes()).await.unwrap();
        }
        writing
    });
    let mut heard = String::new();
    let mut octets = vec![0; 1 << 16];
    while heard.matches("HTTP/1.1 200 OK").count() < 1_000 || !heard.contains("n999.") {
        let count = reading.read(&mut octets).await.unwrap();
        assert!(count > 0, "cut off");
        heard.push_str(&String::from_utf8_lossy(&octets[..count]));
    }
    let places: Vec<_> = (0..1_000).map(|n| heard.find(&format!("n{n}.")).unwrap()).collect();
    assert!(places.is_sorted());
    drop(asked.await.unwrap());
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_is_asked_and_takes_nothing_new() {
    let gateway = Listening::new(|_| {}).await;
    let token = gateway.house.token("shop").to_owned();
    let (mut waiting, mut streaming) = (gateway.connect().await, gateway.connect().await);
    let mut idle = gateway.connect().await;
    let line = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: gw\r\nauthorization: Bearer {token}\r\n\r\n")
    };
    waiting.write_all(line("/v1/events?after=now&wait=60s").as_bytes()).await.unwrap();
    streaming.write_all(line("/v1/events/stream").as_bytes()).await.unwrap();
    let mut head = vec![0; 15];
    streaming.read_exact(&mut head).await.unwrap();
    assert_eq!(head, b"HTTP/1.1 200 OK");
    ask(&mut idle, HEALTH).await;
    let (addr, begun) = (gateway.addr, Instant::now());
    tokio::join!(gateway.stop(), async {
        let (head, body) = answer(&mut waiting).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(body.contains("\"events\":[]"), "{body}");
        assert!(closed(&mut idle).await);
        let mut rest = Vec::new();
        streaming.read_to_end(&mut rest).await.unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let gateway = Listening::new(|limits| limits.drain_timeout = Span::secs(2)).await;
    let mut stream = gateway.connect().await;
    let request = gateway.posting(&hello().to_string());
    stream.write_all(&request.as_bytes()[..request.len() - 1]).await.unwrap();
    gateway.live(1).await;
    let mut heard = [0; 1];
    let pause = tokio::time::timeout(Duration::from_secs(1), stream.peek(&mut heard));
    assert!(pause.await.is_err(), "the body is not whole");
    let begun = Instant::now();
    gateway.stop().await;
    assert_eq!(begun.elapsed().as_secs(), 2);
}

/// A listener's TLS with these files; clients must show what `client_ca_file` has signed.
fn tls(cert_file: PathBuf, key_file: PathBuf, client_ca_file: Option<PathBuf>) -> Tls {
    let client_certificates = ClientCertificates::default();
    let handshake_timeout = Span::secs(5);
    Tls { cert_file, key_file, client_ca_file, client_certificates, handshake_timeout }
}

/// A certificate for `localhost` in a folder of its own.
fn certificate(dir: &std::path::Path) -> (Tls, rustls::pki_types::CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = tls(dir.join("cert.pem"), dir.join("key.pem"), None);
    std::fs::write(&tls.cert_file, made.cert.pem()).unwrap();
    std::fs::write(&tls.key_file, made.signing_key.serialize_pem()).unwrap();
    (tls, made.cert.der().clone())
}

fn connector(trusted: rustls::pki_types::CertificateDer<'static>) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn https_takes_a_new_certificate_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, first) = certificate(dir.path());
    let held = Certificate::load(&tls).unwrap();
    let gateway = Listening::with(Some(held.clone()), |_| {}).await;
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let old = connector(first);
    let mut stream = old.connect(name.clone(), gateway.connect().await).await.unwrap();
    let (head, _) = ask(&mut stream, HEALTH).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (tls, second) = certificate(dir.path());
    held.renewal(&tls).unwrap().apply();
    assert!(old.connect(name.clone(), gateway.connect().await).await.is_err());
    let new = connector(second);
    let mut other = new.connect(name.clone(), gateway.connect().await).await.unwrap();
    assert!(ask(&mut other, HEALTH).await.0.starts_with("HTTP/1.1 200 "));
    assert!(ask(&mut stream, HEALTH).await.0.starts_with("HTTP/1.1 200 "), "the old one lives on");
    std::fs::write(&tls.key_file, "nonsense").unwrap();
    let error = held.renewal(&tls).err().unwrap().to_string();
    assert!(error.contains("key.pem"), "{error}");
    assert!(new.connect(name, gateway.connect().await).await.is_ok(), "the good one stays");
    std::fs::write(&tls.cert_file, "").unwrap();
    assert!(Certificate::load(&tls).is_err());
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_does_not_hold_up_a_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, _) = certificate(dir.path());
    let gateway = Listening::with(Some(Certificate::load(&tls).unwrap()), |_| {}).await;
    let mut silent = gateway.connect().await;
    let begun = Instant::now();
    assert!(closed(&mut silent).await);
    assert_eq!(begun.elapsed().as_secs(), 5);
    let mut plain = gateway.connect().await;
    plain.write_all(HEALTH.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    plain.read_to_end(&mut heard).await.unwrap();
    assert!(!heard.starts_with(b"HTTP"), "a peer without TLS is told nothing");
    gateway.stop().await;
}

/// A listener for `localhost` that asks for certificates of `clients`.
async fn asking(
    authority: &Authority,
    clients: &Authority,
    wanted: ClientCertificates,
) -> (Listening, Certificate) {
    authority.sign("localhost");
    let (cert, key) = (authority.path("localhost.pem"), authority.path("localhost.key"));
    let tls = Tls { client_certificates: wanted, ..tls(cert, key, Some(clients.path("ca.pem"))) };
    let certificate = Certificate::load(&tls).unwrap();
    let house = House::with(|config| {
        config.tls = Some(tls);
        config.clients.get_mut("shop").unwrap().certificate = Some("shop.test".into());
    });
    (Listening::over(house, Some(certificate.clone())).await, certificate)
}

/// The head of the answer to a request over TLS, or nothing when there is none.
async fn over_tls(gateway: &Listening, connector: &TlsConnector, request: &str) -> String {
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    match connector.connect(name, gateway.connect().await).await {
        // With TLS 1.3 a client learns that it is refused after its handshake is done.
        Ok(mut stream) => match stream.write_all(request.as_bytes()).await {
            Ok(()) => answer(&mut stream).await.0,
            Err(_) => String::new(),
        },
        Err(_) => String::new(),
    }
}

#[tokio::test]
async fn only_a_client_with_a_certificate_of_ours_is_heard() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (gateway, _) = asking(&authority, &authority, ClientCertificates::Required).await;
    let ours = authority.connector(Some(authority.sign("any.test")));
    let theirs = authority.connector(Some(stranger.sign("any.test")));
    let expired = authority.connector(Some(authority.sign_until("any.test", 2020)));
    assert!(over_tls(&gateway, &ours, HEALTH).await.starts_with("HTTP/1.1 200 "));
    for refused in [authority.connector(None), theirs, expired] {
        assert_eq!(over_tls(&gateway, &refused, HEALTH).await, "");
    }
    assert_eq!(over_tls(&gateway, &stranger.connector(None), HEALTH).await, "", "it trusts others");
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_that_is_bound_to_a_certificate_opens_nothing_without_it() {
    let authority = Authority::new();
    let (gateway, _) = asking(&authority, &authority, ClientCertificates::Optional).await;
    let request = gateway.posting(&hello().to_string());
    let as_full = request.replace(gateway.house.token("shop"), gateway.house.token("full"));
    let bound = authority.connector(Some(authority.sign("shop.test")));
    assert!(over_tls(&gateway, &bound, &request).await.starts_with("HTTP/1.1 202 "));
    assert!(over_tls(&gateway, &bound, &as_full).await.starts_with("HTTP/1.1 202 "));
    for other in [None, Some(authority.sign("other.test")), Some(authority.sign("a.shop.test"))] {
        let other = authority.connector(other);
        assert!(over_tls(&gateway, &other, &request).await.starts_with("HTTP/1.1 401 "));
        assert!(over_tls(&gateway, &other, &as_full).await.starts_with("HTTP/1.1 202 "));
    }
    let theirs = authority.connector(Some(Authority::new().sign("shop.test")));
    assert_eq!(over_tls(&gateway, &theirs, &request).await, "", "one that is shown must be good");
    gateway.stop().await;
}

#[tokio::test]
async fn a_renewed_authority_counts_from_the_next_handshake_on() {
    let (authority, next) = (Authority::new(), Authority::new());
    let (gateway, certificate) = asking(&authority, &authority, ClientCertificates::Required).await;
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let old = authority.connector(Some(authority.sign("any.test")));
    let mut standing = old.connect(name, gateway.connect().await).await.unwrap();
    assert!(ask(&mut standing, HEALTH).await.0.starts_with("HTTP/1.1 200 "));
    assert!(!certificate.refresh().unwrap(), "nothing has changed");
    std::fs::copy(next.path("ca.pem"), authority.path("ca.pem")).unwrap();
    assert!(certificate.refresh().unwrap());
    assert_eq!(over_tls(&gateway, &old, HEALTH).await, "");
    let new = authority.connector(Some(next.sign("any.test")));
    assert!(over_tls(&gateway, &new, HEALTH).await.starts_with("HTTP/1.1 200 "));
    assert!(ask(&mut standing, HEALTH).await.0.starts_with("HTTP/1.1 200 "), "it stands");
    std::fs::write(authority.path("localhost.key"), "nonsense").unwrap();
    assert!(certificate.refresh().is_err());
    assert!(!certificate.refresh().unwrap(), "told once");
    assert!(
        over_tls(&gateway, &new, HEALTH).await.starts_with("HTTP/1.1 200 "),
        "the old one serves"
    );
    gateway.stop().await;
}

/// The first flight of a client that speaks nothing newer than `version` (RFC 5246 §7.4.1.2).
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = version.to_vec();
    hello.extend([7; 32]);
    // No session; suites for ECDSA of TLS 1.2 and of what was before; no compression; the
    // extensions supported_groups, ec_point_formats, signature_algorithms, extended_master_secret.
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x09, 1, 0, 0, 28]);
    hello.extend([0, 10, 0, 6, 0, 4, 0, 29, 0, 23, 0, 11, 0, 2, 1, 0]);
    hello.extend([0, 13, 0, 4, 0, 2, 4, 3, 0, 23, 0, 0]);
    let mut handshake = vec![1, 0, 0, u8::try_from(hello.len()).unwrap()];
    handshake.extend(hello);
    let mut record = vec![22, 3, 1, 0, u8::try_from(handshake.len()).unwrap()];
    record.extend(handshake);
    record
}

#[tokio::test]
async fn nothing_older_than_tls_1_2_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let gateway =
        Listening::with(Some(Certificate::load(&certificate(dir.path()).0).unwrap()), |_| {}).await;
    let first = async |version| {
        let mut stream = gateway.connect().await;
        stream.write_all(&client_hello(version)).await.unwrap();
        let mut heard = [0; 7];
        stream.read_exact(&mut heard).await.unwrap();
        heard
    };
    assert_eq!(first([3, 3]).await[0], 22, "TLS 1.2 is answered with a handshake");
    for version in [[3, 0], [3, 1], [3, 2]] {
        // A fatal alert: protocol_version.
        let heard = first(version).await;
        assert_eq!((heard[0], heard[5], heard[6]), (21, 2, 70), "{version:?}");
    }
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_of_an_octet_a_second_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, _) = certificate(dir.path());
    let gateway = Listening::with(Some(Certificate::load(&tls).unwrap()), |_| {}).await;
    let mut stream = gateway.connect().await;
    let took = trickle(&mut stream, &client_hello([3, 3])).await;
    assert!((4..=6).contains(&took.as_secs()), "{took:?}");
    gateway.live(0).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_waiting() {
    let gateway = Listening::new(|_| {}).await;
    gateway.house.dispatcher(super::house::Manner::Silent);
    let mut stream = gateway.connect().await;
    stream.write_all(gateway.posting(&json!(hello()).to_string()).as_bytes()).await.unwrap();
    while gateway.house.replies.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    while gateway.house.replies.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    gateway.stop().await;
}
