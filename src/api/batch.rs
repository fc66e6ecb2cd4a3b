//! Many messages in one request: each judged alone, all of them in one commit.

use std::sync::Arc;

use crate::api::json::Json;
use axum::extract::Request;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::client::Client;
use crate::api::config::BATCH_MAX;
use crate::api::extract::Caller;
use crate::api::idempotency::Fingerprint;
use crate::api::idempotency::IdempotencyKey;
use crate::api::message::Accepted;
use crate::api::message::Again;
use crate::api::message::Ready;
use crate::api::message::Taken;
use crate::api::problem::Code;
use crate::api::problem::Fault;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::api::request;
use crate::api::request::BatchRequest;
use crate::api::request::MessageRequest;

/// What became of the messages of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchResult {
    /// How many were accepted.
    accepted: usize,
    /// How many were refused.
    rejected: usize,
    /// What became of each, in the order of the request.
    results: Vec<ItemResult>,
}

/// What became of one message.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum ItemResult {
    /// It was accepted.
    Accepted(AcceptedItem),
    /// It was refused.
    Refused(RefusedItem),
}

/// An accepted message of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct AcceptedItem {
    /// Its place in the request, from 0.
    index: usize,
    /// Whether an earlier request had it accepted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    replayed: bool,
    /// The message.
    #[serde(flatten)]
    accepted: Accepted,
}

/// A refused message of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct RefusedItem {
    /// Its place in the request, from 0.
    index: usize,
    /// Why it was refused.
    #[schema(value_type = Problem)]
    problem: Refused,
}

/// Hands in up to 1,000 messages.
///
/// Each is judged alone; those that are right are accepted in one durable commit. An
/// `Idempotency-Key` holds for each message by its place: after a failure, send the same batch
/// again, and only what was not accepted is judged anew.
#[utoipa::path(
    post,
    path = "/v1/messages/batch",
    tag = "messages",
    operation_id = "createMessages",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
        pattern = "^[!-~]([ -~]*[!-~])?$",
        description = "The same key with the same body accepts no message twice, for 24 hours.")),
    request_body(content = BatchRequest, description = "The messages."),
    responses((status = 200, description = "Judged: what became of each message.", body = BatchResult)),
)]
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Json<BatchResult>, Refused> {
    let (parts, body) = request.into_parts();
    let key = IdempotencyKey::read(&parts.headers)?;
    let octets = api.bodies.read(&parts.headers, body, api.limits.batch_octets).await?;
    let (messages, fingerprint) = read(&octets.bytes, key.is_some())?;
    drop(octets);
    let client = &caller.client;
    let mut items = Vec::with_capacity(messages.len());
    for (index, (request, faults)) in messages.into_iter().enumerate() {
        let idempotency = key.as_ref().zip(fingerprint.as_ref());
        let idempotency =
            idempotency.map(|(key, fingerprint)| key.digests(&client.name, index, fingerprint));
        let again = Again::of(&request, &faults, idempotency);
        let item = take_rate(client)
            .and_then(|()| api.prepare(request, faults, client, idempotency))
            .map_err(|problem| (problem.below(&format!("/messages/{index}")), again));
        items.push(item);
    }
    Ok(Json(hand_in(&api, client, items).await))
}

type Read = (Vec<(MessageRequest, Vec<Fault>)>, Option<Fingerprint>);

/// The messages of a batch, each with the faults of its types; and the fingerprint of the whole,
/// when it `is_keyed`.
fn read(octets: &[u8], is_keyed: bool) -> Result<Read, Refused> {
    const PATH: &str = "/v1/messages/batch";
    // What is right is by far the most, and is read once.
    let typed = serde_json::from_slice::<BatchRequest>(octets).unwrap_or_default();
    if let Some(messages) = &typed.messages {
        check_count(messages.len())?;
        let fingerprint = is_keyed.then(|| Fingerprint::of("POST", PATH, &typed));
        let messages = typed.messages.into_iter().flatten();
        return Ok((messages.map(|message| (message, Vec::new())).collect(), fingerprint));
    }
    let body: Value = serde_json::from_slice(octets).map_err(request::malformed)?;
    let fingerprint = is_keyed.then(|| Fingerprint::of("POST", PATH, &body));
    let messages = messages(body)?;
    check_count(messages.len())?;
    let read = |message| request::of_value::<MessageRequest>(message, "");
    Ok((messages.into_iter().map(read).collect(), fingerprint))
}

fn messages(body: Value) -> Result<Vec<Value>, Refused> {
    let refuse = |code, pointer: &str, detail| Err(Problem::of(Fault::at(code, pointer, detail)));
    let Value::Object(mut fields) = body else {
        return refuse(Code::MalformedBody, "", "expected an object with `messages`");
    };
    let messages = fields.remove("messages");
    if let Some(name) = fields.keys().next() {
        let pointer = format!("/{}", request::escape(name));
        return refuse(Code::UnknownField, &pointer, "a batch has `messages` only");
    }
    match messages {
        Some(Value::Array(messages)) => Ok(messages),
        _ => refuse(Code::MalformedBody, "/messages", "expected an array of messages"),
    }
}

fn check_count(count: usize) -> Result<(), Refused> {
    if count == 0 {
        let detail = "a batch needs at least one message";
        return Err(Problem::of(Fault::at(Code::InvalidField, "/messages", detail)));
    }
    if count > BATCH_MAX.into() {
        let detail = format!("{count} messages, a batch has at most {BATCH_MAX}");
        return Err(Problem::new(Code::BodyTooLarge, detail));
    }
    Ok(())
}

fn take_rate(client: &Client) -> Result<(), Refused> {
    match client.messages.take() {
        Ok(_) => Ok(()),
        Err(standing) => {
            let detail = "the key's rate of messages is used up";
            Err(Problem::new(Code::RateLimited, detail).standing(standing))
        }
    }
}

/// A message that may be handed in, or why not and whether it was before.
type Item = Result<Ready, (Refused, Option<Again>)>;

async fn hand_in(api: &Api, client: &Client, items: Vec<Item>) -> BatchResult {
    let (mut submissions, mut recalls) = (Vec::new(), Vec::new());
    let mut judged = Vec::with_capacity(items.len());
    for item in items {
        judged.push(item.map(|Ready { submission, accepted }| {
            submissions.push(submission);
            accepted
        }));
        if let Some(Err((_, Some(again)))) = judged.last() {
            recalls.push(again.entry);
        }
    }
    let mut replies = api.dispatcher.accept_all(submissions).await.into_iter();
    let mut recalled = api.dispatcher.recall_all(recalls).await.into_iter();
    let mut results = Vec::with_capacity(judged.len());
    let lost = || Problem::new(Code::InternalError, "no reply to this message");
    for (index, item) in judged.into_iter().enumerate() {
        let settled = match item {
            Ok(accepted) => match replies.next() {
                Some(reply) => api.settle(accepted, client, reply).await,
                None => Err(lost()),
            },
            Err((problem, None)) => Err(problem),
            Err((problem, Some(again))) => match recalled.next() {
                Some(reply) => api.recalled(problem, again, client, reply).await,
                None => Err(lost()),
            },
        };
        results.push(match settled {
            Ok(Taken { accepted, is_replay }) => {
                ItemResult::Accepted(AcceptedItem { index, replayed: is_replay, accepted })
            }
            Err(problem) => ItemResult::Refused(RefusedItem { index, problem }),
        });
    }
    let accepted = results.iter().filter(|result| matches!(result, ItemResult::Accepted(_)));
    let accepted = accepted.count();
    BatchResult { accepted, rejected: results.len() - accepted, results }
}
