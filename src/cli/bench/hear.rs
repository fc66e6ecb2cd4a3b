//! Hears what became of the messages: as a webhook's endpoint, or from the feed.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cli::Failure;
use crate::cli::bench::http::Connection;
use crate::cli::bench::http::find;
use crate::cli::bench::kannel::REPORT;
use crate::cli::bench::marks::Marks;

/// Takes webhooks until it is dropped.
pub(super) async fn webhooks(listener: TcpListener, marks: Arc<Marks>) {
    let mut peers = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        if let Ok(connection) = Connection::new(stream) {
            peers.spawn(endpoint(connection, Arc::clone(&marks)));
        }
    }
}

async fn endpoint(mut connection: Connection, marks: Arc<Marks>) {
    while let Ok(Some(request)) = connection.next().await {
        note(&request.body, &marks);
        note_report(&request.head, &marks);
        if connection.write(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
            return;
        }
    }
}

/// Follows the feed until it is dropped.
///
/// # Errors
/// When the gateway refuses, or goes away.
pub(super) async fn feed(
    mut connection: Connection,
    token: String,
    marks: Arc<Marks>,
) -> Result<(), Failure> {
    let mut after = "now".to_owned();
    loop {
        let request = format!(
            "GET /v1/events?after={after}&limit=200&wait=30s HTTP/1.1\r\nhost: bench\r\n\
             authorization: Bearer {token}\r\n\r\n"
        );
        let answer = connection.call(request.as_bytes()).await?;
        if answer.status() != 200 {
            return Err(String::from_utf8_lossy(&answer.body).into_owned().into());
        }
        let page: Page = serde_json::from_slice(&answer.body)?;
        for event in page.events.iter().filter(|event| event.r#type == "message.delivered") {
            event.data.message().into_iter().for_each(|message| marks.told(message));
        }
        after = page.next;
    }
}

/// A page of the feed, as far as the bench needs it.
#[derive(serde::Deserialize)]
struct Page {
    events: Vec<Event>,
    next: String,
}

#[derive(serde::Deserialize)]
struct Event {
    r#type: String,
    data: Data,
}

#[derive(serde::Deserialize)]
struct Data {
    client_ref: Option<String>,
}

impl Data {
    fn message(&self) -> Option<u64> {
        self.client_ref.as_deref()?.strip_prefix('n')?.parse().ok()
    }
}

/// Notes the message that the webhook's `client_ref` names.
fn note(body: &[u8], marks: &Marks) {
    let number = text_behind(body, b"\"client_ref\":\"n").and_then(|digits| digits.parse().ok());
    if let Some(message) = number {
        marks.told(message);
    }
}

/// Notes the message that a delivery report of Kannel's is about.
fn note_report(head: &[u8], marks: &Marks) {
    let Some(rest) = find(head, REPORT).and_then(|at| head.get(at + REPORT.len()..)) else {
        return;
    };
    let digits = rest.split(|octet| !octet.is_ascii_digit()).next();
    let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    if let Some(message) = number {
        marks.told(message);
    }
}

/// What stands between `before` and the next quotation mark.
fn text_behind<'a>(body: &'a [u8], before: &[u8]) -> Option<&'a str> {
    let rest = body.get(find(body, before)? + before.len()..)?;
    let end = rest.iter().position(|octet| *octet == b'"')?;
    std::str::from_utf8(rest.get(..end)?).ok()
}
