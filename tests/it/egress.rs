//! What the gateway calls: only addresses that were judged, only peers that prove their name.
#![expect(clippy::disallowed_methods, reason = "tests run servers")]

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use hikyaku::clock::Clock;
use hikyaku::message::Position;
use hikyaku::notify;
use hikyaku::notify::Addresses;
use hikyaku::notify::Config;
use hikyaku::notify::Draft;
use hikyaku::notify::Names;
use hikyaku::notify::Notify;
use hikyaku::notify::Try;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;

/// Says the same addresses for every name.
struct Always(Vec<IpAddr>);

impl Names for Always {
    fn addresses(&self, _: &str) -> Addresses {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

fn home() -> IpAddr {
    "127.0.0.1".parse().unwrap()
}

/// Webhooks that may call this address only, by names that all lead to `found`.
fn webhooks(dir: &Path, ca_file: Option<&Path>, found: Vec<IpAddr>) -> Notify {
    let archive_config = crate::archive::config(&dir.join("archive"));
    let (_, archive) =
        hikyaku::archive::open(&archive_config, Position(0), &crate::archive::keys()).unwrap();
    let config = Config {
        file: dir.join("webhooks.db"),
        networks: vec!["127.0.0.1".parse().unwrap()],
        ca_file: ca_file.map(Into::into),
        endpoints_per_client: 1_000,
        ..Config::default()
    };
    notify::open_with(
        &config,
        archive,
        Clock::start(),
        &crate::archive::keys(),
        Arc::new(Always(found)),
    )
    .unwrap()
    .0
}

/// What comes of a call of `url`.
async fn call(webhooks: &Notify, url: &str) -> Try {
    let draft = Draft { url: Some(url.to_owned()), ..Draft::default() };
    let (endpoint, _) = webhooks.create("shop", draft).await.unwrap();
    webhooks.test("shop", endpoint.id).await.unwrap()
}

/// Takes one request and answers it.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) {
    let mut heard = Vec::new();
    while !heard.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut heard).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let answer = format!("{head}content-length: 0\r\nconnection: close\r\n\r\n");
    // A peer that went away asked for nothing.
    let _gone = stream.write_all(answer.as_bytes()).await;
    let _gone = stream.shutdown().await;
}

/// A server that answers every request with this head; its port.
async fn server(tls: Option<TlsAcceptor>, head: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match &tls {
                None => answer(stream, &head).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, &head).await;
                    }
                }
            }
        }
    });
    port
}

const TAKEN: &str = "HTTP/1.1 204 No Content\r\n";

#[tokio::test]
async fn a_webhook_goes_to_who_proves_the_name_only() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let webhooks = webhooks(dir.path(), Some(&authority.path("ca.pem")), vec![home()]);
    let cases = [
        (authority.acceptor("hook.test", false, false), None),
        (authority.acceptor("hook.test", false, true), None),
        (authority.acceptor("other.test", false, false), Some("not valid for name")),
        (
            authority.acceptor_of(authority.sign_until("hook.test", 2020), false, false),
            Some("expired"),
        ),
        (stranger.acceptor("hook.test", false, false), Some("invalid peer certificate")),
    ];
    for (tls, refused) in cases {
        let port = server(Some(tls), TAKEN.to_owned()).await;
        let done = call(&webhooks, &format!("https://hook.test:{port}/h")).await;
        match refused {
            None => assert_eq!(done.status, Some(204), "{done:?}"),
            Some(words) => {
                let error = done.error.unwrap_or_default();
                assert!(error.to_lowercase().contains(words), "{words}: {error}");
                assert_eq!(done.status, None);
            }
        }
    }
    let port = server(None, TAKEN.to_owned()).await;
    let done = call(&webhooks, &format!("https://hook.test:{port}/h")).await;
    assert_eq!(done.status, None, "a peer without TLS is told nothing: {done:?}");
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_trusted_where_the_config_names_it() {
    let made = rcgen::generate_simple_self_signed(vec!["hook.test".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("own.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let tls = Authority::new().acceptor_of((made.cert, made.signing_key), false, false);
    let port = server(Some(tls), TAKEN.to_owned()).await;
    let url = format!("https://hook.test:{port}/h");
    let trusting = webhooks(dir.path(), Some(&ca), vec![home()]);
    assert_eq!(call(&trusting, &url).await.status, Some(204));
    let other = tempfile::tempdir().unwrap();
    let done = call(&webhooks(other.path(), None, vec![home()]), &url).await;
    assert!(done.error.unwrap_or_default().contains("certificate"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_leads_nowhere() {
    let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let webhooks = webhooks(dir.path(), None, vec![home()]);
    let inside_url = format!("http://{}/secret", inside.local_addr().unwrap());
    for to in ["http://169.254.169.254/latest/meta-data/", &inside_url, "//127.0.0.1/", "/again"] {
        for status in [301, 302, 303, 307, 308] {
            let head = format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {to}\r\n");
            let port = server(None, head).await;
            let done = call(&webhooks, &format!("http://hook.test:{port}/h")).await;
            assert_eq!((done.status, done.is_taken()), (Some(status), false), "{to}");
        }
    }
    let heard = tokio::time::timeout(std::time::Duration::from_millis(1), inside.accept()).await;
    assert!(heard.is_err(), "it was followed");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_called_however_it_is_written() {
    let port = server(None, TAKEN.to_owned()).await;
    let forbidden = [
        "127.0.0.2",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "::1",
        "::",
        "::ffff:127.0.0.2",
        "::ffff:169.254.169.254",
        "::127.0.0.2",
        "64:ff9b::7f00:2",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:2",
        "2002:7f00:2::1",
        "2001:0:7f00:2::1",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
    ];
    for address in forbidden {
        let dir = tempfile::tempdir().unwrap();
        let only = webhooks(dir.path(), None, vec![address.parse().unwrap()]);
        let done = call(&only, &format!("http://hook.test:{port}/h")).await;
        let error = done.error.unwrap_or_default();
        assert!(error.contains("not a public one"), "{address}: {error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut found: Vec<IpAddr> = forbidden.iter().map(|a| a.parse().unwrap()).collect();
    found.push(home());
    let among = webhooks(dir.path(), None, found);
    let done = call(&among, &format!("http://hook.test:{port}/h")).await;
    assert_eq!(done.status, Some(204), "the one that is listed is called: {done:?}");
}
