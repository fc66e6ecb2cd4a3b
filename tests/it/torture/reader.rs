//! A client that reads the feed by its cursor, through everything that happens to the gateway.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::thread::sleep;
use std::time::Duration;

use crate::http::Client;

/// An event of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) cursor: u64,
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) to: String,
    /// Whether it corrects an end that was told before.
    pub(super) is_correction: bool,
    /// What a handset wrote, when it tells of that.
    pub(super) letter: Option<Letter>,
}

/// A message of a handset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) from: String,
    pub(super) text: String,
    /// Whether all its parts are there.
    pub(super) is_whole: bool,
}

impl Event {
    /// Whether it tells how a message ended.
    pub(super) fn is_end(&self) -> bool {
        let is_way = ["message.queued", "message.submitted", "message.fallback"];
        self.letter.is_none() && !is_way.contains(&&*self.kind)
    }

    /// The state that the message is in after it.
    pub(super) fn state(&self) -> &str {
        self.kind.strip_prefix("message.").unwrap_or_default()
    }
}

/// A reader at work.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) events: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Reader {
    pub(super) fn start(client: Client) -> Self {
        let (events, stop) = (Arc::<Mutex<Vec<Event>>>::default(), Arc::<AtomicBool>::default());
        let (book, until) = (events.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut next = None;
            while !until.load(Ordering::Relaxed) {
                match page(&client, next.as_deref(), "2s") {
                    Some((events, cursor)) => {
                        book.lock().unwrap().extend(events);
                        next = Some(cursor);
                    }
                    None => sleep(Duration::from_millis(50)),
                }
            }
        });
        Self { events, stop, thread }
    }

    pub(super) fn count(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    /// Everything that it read, once it has stopped.
    pub(super) fn end(self) -> Vec<Event> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

/// The whole feed, from its beginning.
pub(super) fn whole(client: &Client) -> Vec<Event> {
    let (mut all, mut next) = (Vec::new(), None);
    loop {
        let read = (0..10).find_map(|_| page(client, next.as_deref(), "100ms"));
        let (events, cursor) = read.unwrap();
        all.extend(events);
        // A part without events of ours may lie before one with.
        if next.replace(cursor.clone()) == Some(cursor) {
            return all;
        }
    }
}

/// One page of the feed and the cursor behind it; `None` when the gateway does not answer.
fn page(client: &Client, after: Option<&str>, wait: &str) -> Option<(Vec<Event>, String)> {
    let after = after.map(|cursor| format!("&after={cursor}")).unwrap_or_default();
    let answer = client.get(&format!("/v1/events?limit=200&wait={wait}{after}"))?;
    if answer.status != 200 {
        return None;
    }
    let event = |event: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let data = &event["data"];
        let letter = (event["type"] == "inbound.received").then(|| Letter {
            from: text(&data["from"]).trim_start_matches('+').to_owned(),
            text: text(&data["text"]),
            is_whole: data["complete"].as_bool().unwrap(),
        });
        Event {
            cursor: u64::from_str_radix(event["cursor"].as_str().unwrap(), 16).unwrap(),
            id: text(&event["id"]),
            kind: text(&event["type"]),
            message: text(&data["id"]),
            to: text(&data["to"]),
            is_correction: data.get("corrected_at").is_some(),
            letter,
        }
    };
    let events = answer.body["events"].as_array()?.iter().map(event).collect();
    Some((events, answer.body["next"].as_str()?.to_owned()))
}
