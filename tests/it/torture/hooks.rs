//! Webhook endpoints that write down what they were sent, and have their moods.

use std::collections::HashMap;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// An endpoint.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) port: u16,
    mood: watch::Sender<Mood>,
    book: Arc<Mutex<Book>>,
}

/// What an endpoint does with what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Takes it.
    Well,
    /// Refuses it.
    Failing,
    /// Answers nothing.
    Dead,
}

/// What an endpoint was sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    /// How many events it took.
    pub(super) taken: usize,
    /// By event: its place among those, and the digest of what was sent.
    known: HashMap<String, (Option<usize>, u64)>,
    /// How often it was called.
    pub(super) calls: u64,
    /// What should not have happened.
    pub(super) complaints: Vec<String>,
}

impl Hook {
    pub(super) fn open(on: &Handle) -> Self {
        let listen = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = on.block_on(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mood, _) = watch::channel(Mood::Well);
        let hook = Self { port, mood, book: Arc::default() };
        let router = Router::new().fallback(called).with_state(hook.clone());
        on.spawn(async move { axum::serve(listener, router).await });
        hook
    }

    pub(super) fn feel(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub(super) fn calls(&self) -> u64 {
        self.book.lock().unwrap().calls
    }

    pub(super) fn book(&self) -> Book {
        self.book.lock().unwrap().clone()
    }
}

async fn called(State(hook): State<Hook>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut mood = hook.mood.subscribe();
    let now = *mood.borrow();
    hook.book.lock().unwrap().note(&headers, &body, now == Mood::Well);
    match now {
        Mood::Well => StatusCode::NO_CONTENT,
        Mood::Failing => StatusCode::INTERNAL_SERVER_ERROR,
        Mood::Dead => {
            // Whoever waited so long gets nothing for it.
            let _well = mood.wait_for(|mood| *mood != Mood::Dead).await;
            StatusCode::GATEWAY_TIMEOUT
        }
    }
}

impl Book {
    fn note(&mut self, headers: &HeaderMap, body: &Bytes, is_taken: bool) {
        self.calls += 1;
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let digest = hasher.finish();
        let known = self.known.entry(id.clone()).or_insert((None, digest));
        if known.1 != digest {
            self.complaints.push(format!("{id} was sent with two bodies"));
        }
        if is_taken && known.0.is_none() {
            known.0 = Some(self.taken);
            self.taken += 1;
        }
    }

    /// Where in its book the endpoint has an event.
    pub(super) fn place(&self, event: &str) -> Option<usize> {
        self.known.get(event).and_then(|(place, _)| *place)
    }
}
