//! Hands messages in, over keep-alive connections.
#![expect(clippy::disallowed_methods, reason = "the shell reads the clock and waits")]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::cli::Failure;
use crate::cli::bench::http::Connection;
use crate::cli::bench::http::find;
use crate::cli::bench::kannel;
use crate::cli::bench::marks::Marks;
use crate::cli::bench::marks::destination;
use crate::cli::bench::process::Gateway;

/// What is handed in, and how.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) messages: u64,
    pub(super) connections: u64,
    /// How many messages a request has; 1 for `POST /v1/messages`.
    pub(super) batch: u64,
    pub(super) text: String,
    /// Messages a second; as fast as they are taken when there is none.
    pub(super) rate: Option<u32>,
    pub(super) door: Door,
}

/// Whose front door it is.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// Ours, with the clients' tokens, which take turns.
    Hikyaku(Vec<String>),
    /// Kannel's, with the port of its delivery reports.
    Kannel(u16),
}

impl Load {
    /// Hands everything in.
    pub(super) async fn run(self, gateway: &Gateway, marks: &Arc<Marks>) -> Result<(), Failure> {
        let (load, next) = (Arc::new(self), Arc::new(AtomicU64::new(0)));
        let mut clients = JoinSet::new();
        for _ in 0..load.connections {
            let client = Client {
                connection: gateway.connect().await?,
                load: Arc::clone(&load),
                next: Arc::clone(&next),
                marks: Arc::clone(marks),
            };
            clients.spawn(client.run());
        }
        while let Some(done) = clients.join_next().await {
            done?.map_err(Failure::from)?;
        }
        Ok(())
    }

    /// The request that hands in messages `first` to `last`.
    fn request(&self, first: u64, last: u64) -> Vec<u8> {
        match &self.door {
            Door::Hikyaku(tokens) => {
                let turn = first.checked_div(self.batch).unwrap_or(0) % tokens.len() as u64;
                let token = tokens.get(usize::try_from(turn).unwrap_or(0));
                self.own_request(token.map_or("", String::as_str), first, last)
            }
            Door::Kannel(reports) => kannel::request(first, &self.text, *reports),
        }
    }

    fn own_request(&self, token: &str, first: u64, last: u64) -> Vec<u8> {
        let message = |number: u64| {
            format!(
                "{{\"to\":\"{}\",\"text\":\"{}\",\"client_ref\":\"n{number}\"}}",
                destination(number),
                self.text
            )
        };
        let (path, body) = if self.batch == 1 {
            ("/v1/messages", message(first))
        } else {
            let messages: Vec<String> = (first..last).map(message).collect();
            ("/v1/messages/batch", format!("{{\"messages\":[{}]}}", messages.join(",")))
        };
        format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len(),
        )
        .into_bytes()
    }

    /// When a message is to be handed in.
    fn due(&self, start: Instant, message: u64) -> Option<Instant> {
        let nanos = message.checked_mul(1_000_000_000)?.checked_div(self.rate?.into())?;
        Some(start + Duration::from_nanos(nanos))
    }
}

/// One connection and what it hands in.
struct Client {
    connection: Connection,
    load: Arc<Load>,
    next: Arc<AtomicU64>,
    marks: Arc<Marks>,
}

impl Client {
    async fn run(mut self) -> Result<(), String> {
        loop {
            let first = self.next.fetch_add(self.load.batch, Ordering::Relaxed);
            if first >= self.load.messages {
                return Ok(());
            }
            let last = (first + self.load.batch).min(self.load.messages);
            let request = self.load.request(first, last);
            let mut at = Instant::now();
            if let Some(due) = self.load.due(self.marks.start(), first) {
                sleep_until(due.into()).await;
                // What comes too late for its time has waited since then.
                at = due;
            }
            (first..last).for_each(|message| self.marks.posted(message, at));
            let answer = self.connection.call(&request).await.map_err(|error| error.to_string())?;
            let refused = self.load.batch > 1 && find(&answer.body, b"\"problem\"").is_some();
            if !(200..300).contains(&answer.status()) || refused {
                return Err(String::from_utf8_lossy(&answer.body).into_owned());
            }
            (first..last).for_each(|message| self.marks.accepted(message));
        }
    }
}
