//! Reading messages: one, its timeline, a search.

use std::sync::Arc;
use std::time::Duration;

use crate::api::json::Json;
use axum::extract::Path;
use axum::extract::State;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::extract::Caller;
use crate::api::extract::Params;
use crate::api::problem::Code;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::api::view::MessageView;
use crate::api::view::Timeline;
use crate::api::webhooks;
use crate::archive::MOST_RESULTS;
use crate::archive::Message;
use crate::archive::Search;
use crate::archive::StoreError;
use crate::message::MessageId;
use crate::message::State as MessageState;
use crate::text::address::E164;
use crate::time::Span;
use crate::time::Time;

/// How many messages or events an answer holds when the caller does not say.
const DEFAULT_RESULTS: usize = 50;

/// What a search found.
#[derive(Serialize, ToSchema)]
pub(crate) struct SearchResult {
    /// The messages, the newest first.
    messages: Vec<MessageView>,
    /// The cursor that goes on behind them; null when there is nothing more.
    next: Option<String>,
}

impl Api {
    /// Waits until all that was durable when this was called can be read; false when that takes
    /// too long.
    pub(crate) async fn caught_up(&self) -> bool {
        let end = *self.durable.borrow();
        timeout(*self.limits.answer_timeout, self.archive.caught_up(end)).await.is_ok()
    }

    /// One message, with all that was durable when this was called.
    pub(crate) async fn message(
        &self,
        id: MessageId,
        owner: Option<&str>,
    ) -> Result<Option<Message>, Refused> {
        let whole = self.caught_up().await;
        match self.reading(self.archive.message(id, owner)).await? {
            None if !whole => {
                Err(Problem::new(Code::StoreUnavailable, "the archive is behind: ask again"))
            }
            found => Ok(found),
        }
    }

    pub(crate) async fn reading<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Refused> {
        match timeout(*self.limits.answer_timeout, read).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                tracing::error!(%error, "the archive cannot be read");
                Err(Problem::new(Code::StoreUnavailable, "the archive cannot be read"))
            }
            Err(_) => Err(Problem::new(Code::StoreUnavailable, "the archive is too busy")),
        }
    }

    /// Notes in the log that a key was shown texts or full numbers.
    pub(crate) fn audit(&self, caller: &Caller, what: &'static str, count: usize) {
        if caller.reads_content() && count > 0 {
            tracing::info!(target: "hikyaku::audit", key = %caller.client.name, what, count, "content read");
        }
    }
}

/// The message that a path names.
pub(crate) fn message_id(text: &str) -> Result<MessageId, Refused> {
    text.parse().map_err(|_| no_message())
}

pub(crate) fn no_message() -> Refused {
    Problem::new(Code::NotFound, "no message of this key has this id")
}

/// One message.
///
/// With `wait`, the answer comes when its state has changed, or after that time.
#[utoipa::path(
    get,
    path = "/v1/messages/{id}",
    tag = "messages",
    operation_id = "getMessage",
    params(
        ("id" = String, Path, description = "The message's id."),
        ("wait" = Option<String>, Query, pattern = "^([0-9]+(ms|s|m))+$", example = "30s", description = "How long to wait for a change of its state, such as `30s`; at most `60s`."),
    ),
    responses((status = 200, description = "The message.", body = MessageView)),
)]
pub(crate) async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Json<MessageView>, Refused> {
    let wait = wait(&api, &mut params);
    params.finish()?;
    let id = message_id(&id)?;
    let mut message = api.message(id, caller.owner()).await?.ok_or_else(no_message)?;
    if let Some(wait) = wait.filter(|_| !message.state.is_terminal()) {
        let _place = waiting(&caller)?;
        let known = message.state;
        let change = changed(&api, &caller, id, known);
        tokio::select! {
            changed = timeout(wait, change) => {
                if let Ok(changed) = changed {
                    message = changed?;
                }
            }
            () = api.stop.cancelled() => {}
        }
    }
    api.audit(&caller, "message", 1);
    Ok(Json(MessageView::of(message, caller.reads_content())))
}

/// The message once its state is not `known` any more.
async fn changed(
    api: &Api,
    caller: &Caller,
    id: MessageId,
    known: MessageState,
) -> Result<Message, Refused> {
    let too_many = || Problem::new(Code::QueueFull, "too many requests wait for messages");
    let mut change = api.archive.watch(id).ok_or_else(too_many)?;
    loop {
        let message = api.reading(api.archive.message(id, caller.owner())).await?;
        let message = message.ok_or_else(no_message)?;
        if message.state != known {
            return Ok(message);
        }
        change.changed().await;
    }
}

/// The `wait` parameter, in its bounds.
pub(crate) fn wait(api: &Api, params: &mut Params) -> Option<Duration> {
    let wait = params.parse::<Span>("wait")?;
    let most = api.limits.wait;
    if wait > most {
        params.fault("wait", format!("{wait} is more than {most}"));
    }
    Some(*wait)
}

/// A place of the client to wait in.
pub(crate) fn waiting(caller: &Caller) -> Result<tokio::sync::OwnedSemaphorePermit, Refused> {
    caller.client.wait().ok_or_else(|| {
        let detail = "too many waits and streams of this key are open";
        Problem::new(Code::RateLimited, detail).retry_after(Duration::from_secs(5))
    })
}

/// The `limit` parameter, in its bounds.
pub(crate) fn limit(params: &mut Params) -> usize {
    let limit = params.parse::<usize>("limit").unwrap_or(DEFAULT_RESULTS);
    if !(1..=MOST_RESULTS).contains(&limit) {
        params.fault("limit", format!("{limit} is not between 1 and {MOST_RESULTS}"));
    }
    limit
}

/// All that happened to a message and why.
#[utoipa::path(
    get,
    path = "/v1/messages/{id}/timeline",
    tag = "messages",
    operation_id = "getTimeline",
    params(("id" = String, Path, description = "The message's id.")),
    responses((status = 200, description = "What happened, in order.", body = Timeline)),
)]
pub(crate) async fn timeline(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Timeline>, Refused> {
    params.finish()?;
    let id = message_id(&id)?;
    let message = api.message(id, caller.owner()).await?.ok_or_else(no_message)?;
    let tries = api.webhooks.tries_of(&message.key, id).await.map_err(webhooks::refused)?;
    api.audit(&caller, "timeline", 1);
    Ok(Json(Timeline::of(&message, &tries, caller.reads_content())))
}

/// Finds messages: those that have all the properties given.
#[utoipa::path(
    get,
    path = "/v1/messages",
    tag = "messages",
    operation_id = "findMessages",
    params(
        ("to" = Option<String>, Query, example = "+819012345678", description = "The destination, as for sending."),
        ("client_ref" = Option<String>, Query, description = "The caller's own reference."),
        ("carrier_message_id" = Option<String>, Query, description = "A carrier's id for a segment, in any form."),
        ("campaign" = Option<String>, Query, description = "The campaign."),
        ("state" = Option<String>, Query, pattern = "^(scheduled|queued|submitting|submitted|delivered|undeliverable|expired|rejected|cancelled|unknown)$", description = "The state."),
        ("carrier" = Option<String>, Query, description = "The carrier that has or had it last."),
        ("since" = Option<String>, Query, format = DateTime, description = "Accepted at this time or later (RFC 3339)."),
        ("until" = Option<String>, Query, format = DateTime, description = "Accepted before this time (RFC 3339)."),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 200, description = "The most messages wanted; 50 when absent."),
        ("cursor" = Option<String>, Query, pattern = "^[0-9a-f]+-[0-9a-f]+$", description = "`next` of the answer before."),
    ),
    responses((status = 200, description = "The messages, the newest first.", body = SearchResult)),
)]
pub(crate) async fn search(
    State(api): State<Arc<Api>>,
    caller: Caller,
    mut params: Params,
) -> Result<Json<SearchResult>, Refused> {
    let region = api.settings.load().messages.region;
    let to = params.read("to", |text| E164::parse(text, region));
    let search = Search {
        to: to.map(|to| to.digits().to_string()),
        client_ref: params.text("client_ref"),
        carrier_message_id: params.text("carrier_message_id"),
        campaign: params.text("campaign"),
        state: params.read("state", state),
        carrier: params.text("carrier"),
        since: params.read("since", time),
        until: params.read("until", time),
        limit: limit(&mut params),
        cursor: params.parse("cursor"),
    };
    params.finish()?;
    api.caught_up().await;
    let found = api.reading(api.archive.search(search, caller.owner())).await?;
    let full = caller.reads_content();
    api.audit(&caller, "search", found.messages.len());
    let next = found.next.map(|cursor| cursor.to_string());
    let messages = found.messages.into_iter().map(|message| MessageView::of(message, full));
    Ok(Json(SearchResult { messages: messages.collect(), next }))
}

fn state(text: &str) -> Result<MessageState, String> {
    let state = MessageState::ALL.into_iter().find(|state| state.as_str() == text);
    state.ok_or_else(|| {
        let known = MessageState::ALL.map(MessageState::as_str).join(", ");
        format!("no such state; there are {known}")
    })
}

fn time(text: &str) -> Result<Time, &'static str> {
    let time = text.parse::<jiff::Timestamp>().ok();
    let time = time.and_then(|time| u64::try_from(time.as_microsecond()).ok());
    time.map(Time::from_micros)
        .ok_or("expected a time such as 2026-11-22T10:00:00+09:00 (RFC 3339)")
}
