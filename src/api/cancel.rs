//! Withdrawing messages: one, or those of a `client_ref` or campaign.

use std::sync::Arc;

use crate::api::json::Json;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::accept::Unanswered;
use crate::api::extract::Caller;
use crate::api::extract::Params;
use crate::api::message::REF_CHARS;
use crate::api::message::refusal;
use crate::api::problem::Code;
use crate::api::problem::Fault;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::api::read::message_id;
use crate::api::read::no_message;
use crate::api::request;
use crate::api::request::CancelRequest;
use crate::api::schema;
use crate::archive::Search;
use crate::dispatch::Reply;
use crate::message::MessageId;
use crate::message::State as MessageState;

/// A withdrawn message.
#[derive(Serialize, ToSchema)]
pub(crate) struct Cancelled {
    /// The message.
    #[schema(pattern = "^msg_[0-9a-f]{32}$")]
    id: String,
    /// `cancelled`.
    #[schema(schema_with = schema::state)]
    state: MessageState,
}

/// What became of the messages to withdraw.
#[derive(Serialize, ToSchema)]
pub(crate) struct CancelResult {
    /// Those that were withdrawn.
    cancelled: Vec<String>,
    /// Those that a carrier may have already.
    too_late: Vec<String>,
    /// Whether there may be more: ask again.
    more: bool,
}

/// The most messages that one request withdraws.
const MOST: usize = 1_000;

/// Withdraws a message that no carrier has yet. A message that is withdrawn already is as well.
#[utoipa::path(
    post,
    path = "/v1/messages/{id}/cancel",
    tag = "messages",
    operation_id = "cancelMessage",
    params(("id" = String, Path, description = "The message's id.")),
    responses((status = 200, description = "Withdrawn.", body = Cancelled)),
)]
pub(crate) async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Cancelled>, Refused> {
    params.finish()?;
    let id = message_id(&id)?;
    let owned = api.message(id, caller.owner()).await?.ok_or_else(no_message)?;
    let state = match api.dispatcher.cancel(id, false).await {
        Ok(Reply::Cancelled { .. }) => MessageState::Cancelled,
        // It has ended: the archive may know better by now how.
        Ok(Reply::NotLive) => {
            api.message(id, None).await?.map_or(owned.state, |message| message.state)
        }
        reply => return Err(unconfirmed(reply)),
    };
    if state != MessageState::Cancelled {
        return Err(refusal(Ok(Reply::TooLate { state })));
    }
    Ok(Json(Cancelled { id: id.to_string(), state }))
}

fn unconfirmed(reply: Result<Reply, Unanswered>) -> Refused {
    match reply {
        Err(Unanswered::Late) => {
            Problem::new(Code::NotConfirmed, "it was not confirmed in time: ask again")
        }
        reply => refusal(reply),
    }
}

/// Withdraws the messages with a `client_ref`, or of a `campaign`, that no carrier has yet; up to
/// 1,000 of them at a time.
#[utoipa::path(
    post,
    path = "/v1/messages/cancel",
    tag = "messages",
    operation_id = "cancelMessages",
    request_body(content = CancelRequest, description = "Which messages; one of the two."),
    responses((status = 200, description = "What became of them.", body = CancelResult)),
)]
pub(crate) async fn many(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Json<CancelResult>, Refused> {
    let (parts, body) = request.into_parts();
    let octets = api.bodies.read(&parts.headers, body, api.limits.body_octets).await?;
    let (request, mut faults) = request::read::<CancelRequest>(&octets.bytes)?;
    if faults.is_empty() && request.client_ref.is_some() == request.campaign.is_some() {
        let detail = "give either `client_ref` or `campaign`";
        faults.push(Fault::at(Code::InvalidField, "", detail));
    }
    let words = [("/client_ref", &request.client_ref), ("/campaign", &request.campaign)];
    for (pointer, words) in words {
        let length = words.as_ref().map(|words| words.chars().count());
        if length.is_some_and(|length| !(1..=REF_CHARS).contains(&length)) {
            let detail = format!("expected 1 to {REF_CHARS} characters");
            faults.push(Fault::at(Code::InvalidField, pointer, detail));
        }
    }
    if !faults.is_empty() {
        return Err(Problem::of_all(faults));
    }
    api.caught_up().await;
    let (waiting, more) = waiting(&api, &caller, &request).await?;
    let replies = api.dispatcher.cancel_all(waiting.clone()).await;
    let mut result = CancelResult { cancelled: Vec::new(), too_late: Vec::new(), more };
    for (id, reply) in waiting.into_iter().zip(replies) {
        match reply {
            Ok(Reply::Cancelled { .. }) => result.cancelled.push(id.to_string()),
            Ok(Reply::TooLate { .. } | Reply::NotLive) => result.too_late.push(id.to_string()),
            reply => return Err(unconfirmed(reply)),
        }
    }
    Ok(Json(result))
}

/// The messages that may still be withdrawn, and whether there are more.
async fn waiting(
    api: &Api,
    caller: &Caller,
    request: &CancelRequest,
) -> Result<(Vec<MessageId>, bool), Refused> {
    let mut ids = Vec::new();
    for state in [MessageState::Scheduled, MessageState::Queued] {
        let mut search = Search {
            client_ref: request.client_ref.clone(),
            campaign: request.campaign.clone(),
            state: Some(state),
            ..Search::default()
        };
        loop {
            let found = api.reading(api.archive.search(search.clone(), caller.owner())).await?;
            ids.extend(found.messages.iter().map(|message| message.id));
            if ids.len() >= MOST {
                ids.truncate(MOST);
                return Ok((ids, true));
            }
            let Some(next) = found.next else { break };
            search.cursor = Some(next);
        }
    }
    Ok((ids, false))
}
