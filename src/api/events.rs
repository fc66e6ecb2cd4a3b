//! The event feed, pulled or streamed, and what handsets sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::num::ParseIntError;
use std::sync::Arc;
use std::time::Duration;

use crate::api::json::Written;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse;
use axum::response::sse::KeepAlive;
use axum::response::sse::Sse;
use futures_util::Stream;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::extract::Caller;
use crate::api::extract::Params;
use crate::api::problem::Code;
use crate::api::problem::Fault;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::api::read::limit;
use crate::api::read::wait;
use crate::api::read::waiting;
use crate::api::view;
use crate::archive;
use crate::archive::Cursor;
use crate::archive::Event;
use crate::archive::EventPage;
use crate::archive::Feed;
use crate::archive::Mask;
use crate::message::Position;

/// How often a stream that has nothing to say says so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Octets that most events have room in.
const EVENT_ROOM: usize = 1_024;

/// A part of the feed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes what `feed` writes")]
pub(crate) struct EventsResult {
    /// The events, in order.
    events: Vec<EventView>,
    /// The cursor that goes on behind them: give it as `after`.
    next: String,
}

/// An event, as webhooks carry it, with its place in the feed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes what `EventsResult` holds")]
pub(crate) struct EventView {
    /// Its id: the same however often it is sent, also in `webhook-id`.
    #[schema(pattern = "^evt_[0-9a-f]{32}$")]
    id: String,
    /// The cursor that goes on behind it.
    cursor: String,
    /// What happened.
    #[schema(example = "message.delivered")]
    r#type: String,
    /// When.
    #[schema(format = "date-time")]
    timestamp: String,
    /// The message right after it.
    #[schema(additional_properties = true)]
    data: serde_json::Map<String, Value>,
}

/// The events of this key's messages, in order, from a cursor on.
///
/// With `wait`, an empty answer comes only after that time.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    operation_id = "getEvents",
    params(
        ("after" = Option<String>, Query, pattern = "^([0-9a-f]{16}|now)$", description = "`next` of the answer before, or `now`; from the beginning when absent."),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 200, description = "The most events wanted; 50 when absent."),
        ("wait" = Option<String>, Query, pattern = "^([0-9]+(ms|s|m))+$", example = "30s", description = "How long to wait for an event, such as `30s`; at most `60s`."),
    ),
    responses((status = 200, description = "The events.", body = EventsResult)),
)]
pub(crate) async fn events(
    State(api): State<Arc<Api>>,
    caller: Caller,
    params: Params,
) -> Result<Written, Refused> {
    feed(&api, &caller, params, Feed::All).await
}

/// What handsets sent to this key's numbers, in order, from a cursor on.
#[utoipa::path(
    get,
    path = "/v1/inbound",
    tag = "events",
    operation_id = "getInbound",
    params(
        ("after" = Option<String>, Query, pattern = "^([0-9a-f]{16}|now)$", description = "`next` of the answer before, or `now`; from the beginning when absent."),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 200, description = "The most messages wanted; 50 when absent."),
        ("wait" = Option<String>, Query, pattern = "^([0-9]+(ms|s|m))+$", example = "30s", description = "How long to wait for a message, such as `30s`; at most `60s`."),
    ),
    responses((status = 200, description = "The messages, as events of type `inbound.received`.", body = EventsResult)),
)]
pub(crate) async fn inbound(
    State(api): State<Arc<Api>>,
    caller: Caller,
    params: Params,
) -> Result<Written, Refused> {
    feed(&api, &caller, params, Feed::Inbound).await
}

async fn feed(
    api: &Api,
    caller: &Caller,
    mut params: Params,
    feed: Feed,
) -> Result<Written, Refused> {
    let after = params.read("after", |text| cursor(api, text)).unwrap_or_default();
    let limit = limit(&mut params);
    let wait = wait(api, &mut params);
    params.finish()?;
    api.caught_up().await;
    let mut page = api.reading(api.archive.events(feed, after, limit, caller.owner())).await?;
    if let Some(wait) = wait.filter(|_| page.events.is_empty()) {
        let _place = waiting(caller)?;
        let mut follower = Follower::new(api, caller, feed, page.next, limit);
        tokio::select! {
            next = timeout(wait, follower.next_page(api)) => {
                if let Ok(next) = next {
                    page = next?;
                }
            }
            () = api.stop.cancelled() => {}
        }
    }
    let mask = mask(caller.reads_content());
    api.audit(caller, "events", page.events.len());
    let mut octets = Vec::with_capacity(page.events.len() * EVENT_ROOM + 64);
    octets.extend_from_slice(b"{\"events\":[");
    for (event, number) in page.events.iter().zip(0_usize..) {
        if number > 0 {
            octets.push(b',');
        }
        event.write(mask, &mut octets);
    }
    octets.extend_from_slice(b"],\"next\":\"");
    octets.extend(Cursor(page.next).to_string().into_bytes());
    octets.extend_from_slice(b"\"}");
    Ok(Written(octets))
}

/// The same events as a stream of server-sent events, each with its cursor as `id`.
#[utoipa::path(
    get,
    path = "/v1/events/stream",
    tag = "events",
    operation_id = "streamEvents",
    params(
        ("after" = Option<String>, Query, pattern = "^([0-9a-f]{16}|now)$", description = "The cursor to go on from, or `now`; from the beginning when absent."),
        ("Last-Event-ID" = Option<String>, Header, pattern = "^([0-9a-f]{16}|now)$", description = "The `id` of the last event that came, instead of `after`."),
    ),
    responses((status = 200, description = "The events; it ends when the gateway stops.", body = String, content_type = "text/event-stream")),
)]
pub(crate) async fn stream(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Refused> {
    let after = params.read("after", |text| cursor(&api, text));
    params.finish()?;
    let last = headers.get("last-event-id").map(|value| {
        value.to_str().ok().and_then(|text| cursor(&api, text).ok()).ok_or_else(|| {
            let detail = "expected the id of an event of this stream";
            Problem::of(Fault::header(Code::InvalidField, "Last-Event-ID", detail))
        })
    });
    let from = last.transpose()?.or(after).unwrap_or_default();
    let place = waiting(&caller)?;
    api.audit(&caller, "event stream", 1);
    let follower = Follower::new(&api, &caller, Feed::All, from, archive::MOST_RESULTS);
    let full = caller.reads_content();
    let streaming = Streaming { api, follower, ready: VecDeque::new(), full, _place: place };
    let events = stream::unfold(streaming, |mut streaming| async move {
        let event = streaming.next().await?;
        Some((Ok(event), streaming))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Follows the feed from a cursor on.
struct Follower {
    feed: Feed,
    from: Position,
    limit: usize,
    owner: Option<String>,
    applied: watch::Receiver<Position>,
}

impl Follower {
    fn new(api: &Api, caller: &Caller, feed: Feed, from: Position, limit: usize) -> Self {
        let owner = caller.owner().map(ToOwned::to_owned);
        Self { feed, from, limit, owner, applied: api.archive.applied() }
    }

    /// The next page that is not empty; waits for it as long as it takes.
    async fn next_page(&mut self, api: &Api) -> Result<EventPage, Refused> {
        loop {
            self.applied.mark_unchanged();
            let read = api.archive.events(self.feed, self.from, self.limit, self.owner.as_deref());
            let page = api.reading(read).await?;
            // A part without events of ours may lie before one with: go on there at once.
            let moved = page.next > self.from;
            self.from = page.next;
            if !page.events.is_empty() {
                return Ok(page);
            }
            if !moved && self.applied.changed().await.is_err() {
                return Err(Problem::new(Code::Draining, "the gateway is stopping"));
            }
        }
    }
}

/// A stream of events on its way to a client.
struct Streaming {
    api: Arc<Api>,
    follower: Follower,
    ready: VecDeque<Arc<Event>>,
    full: bool,
    _place: OwnedSemaphorePermit,
}

impl Streaming {
    /// The next event; none when the stream is to end.
    async fn next(&mut self) -> Option<sse::Event> {
        if self.ready.is_empty() {
            let page = tokio::select! {
                biased;
                () = self.api.stop.cancelled() => return None,
                page = self.follower.next_page(&self.api) => page,
            };
            // The client comes back with the last id when the archive can be read again.
            self.ready.extend(page.ok()?.events);
        }
        let event = self.ready.pop_front()?;
        let mut octets = Vec::with_capacity(EVENT_ROOM);
        event.write(mask(self.full), &mut octets);
        let data = String::from_utf8_lossy(&octets);
        let id = Cursor(event.cursor()).to_string();
        Some(sse::Event::default().id(id).event(event.kind.as_str()).data(data))
    }
}

fn cursor(api: &Api, text: &str) -> Result<Position, &'static str> {
    if text == "now" {
        return Ok(*api.archive.applied().borrow());
    }
    let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let read = |text| u64::from_str_radix(text, 16).map_err(|_: ParseIntError| ());
    match digits.then(|| read(text)) {
        Some(Ok(position)) => Ok(Position(position)),
        _ => Err("expected a cursor as an earlier answer gave it, or `now`"),
    }
}

/// What hides the numbers from a key that may not read contents.
fn mask(full: bool) -> Option<Mask> {
    if full { None } else { Some(view::masked) }
}
