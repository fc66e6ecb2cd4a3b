//! The client's webhook endpoints: made, changed, tested, and what became of their deliveries.

use std::sync::Arc;

use crate::api::json::Json;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::extract::Caller;
use crate::api::extract::Params;
use crate::api::problem::Code;
use crate::api::problem::Fault;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::api::read::limit;
use crate::api::request;
use crate::api::request::WebhookRequest;
use crate::archive::Stamp;
use crate::message::EventId;
use crate::notify::Delivery;
use crate::notify::DeliveryState;
use crate::notify::Draft;
use crate::notify::Endpoint;
use crate::notify::Kind;
use crate::notify::NotifyError;
use crate::notify::Try;
use crate::notify::WebhookId;

/// The most event types, and the most characters of a description.
const KINDS: usize = 32;
const DESCRIPTION_CHARS: usize = 200;

/// A webhook endpoint.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookView {
    /// Its id.
    #[schema(pattern = "^whk_[0-9a-f]{32}$")]
    id: String,
    /// Where events are sent.
    #[schema(format = "uri")]
    url: String,
    /// Which events it gets; empty for all.
    events: Vec<&'static str>,
    /// What it is for.
    description: String,
    /// Whether events are sent.
    enabled: bool,
    /// Why it was disabled, when it was not the client who did it.
    disabled_reason: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = "date-time")]
    created_at: Stamp,
    /// Events that it has not taken yet.
    backlog: u64,
    /// Deliveries that were given up.
    dead: u64,
    /// Until when it is left alone since it fails.
    #[schema(value_type = Option<String>, format = "date-time")]
    paused_until: Option<Stamp>,
    /// The secret that signs, only when it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: Option<String>,
}

/// The client's endpoints.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookList {
    /// The endpoints, the oldest first.
    webhooks: Vec<WebhookView>,
}

/// A new secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecretView {
    /// The secret that signs from now on; the old one signs too for a day.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: String,
}

/// Deliveries of one endpoint.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryList {
    /// The deliveries, the newest first.
    deliveries: Vec<DeliveryView>,
}

/// One event on its way to one endpoint.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryView {
    /// The event, also the delivery's id.
    #[schema(pattern = "^evt_[0-9a-f]{32}$")]
    id: String,
    /// The event's type.
    #[schema(value_type = String, example = "message.delivered")]
    r#type: &'static str,
    /// The message that it is about.
    message_id: Option<String>,
    /// `pending`, `delivered` or `dead`.
    #[schema(value_type = String)]
    state: &'static str,
    /// The tries so far, in order.
    tries: Vec<TryView>,
    /// When it is tried next.
    #[schema(value_type = Option<String>, format = "date-time")]
    next_try_at: Option<Stamp>,
}

/// One try to deliver an event.
#[derive(Serialize, ToSchema)]
pub(crate) struct TryView {
    /// When.
    #[schema(value_type = String, format = "date-time")]
    at: Stamp,
    /// How long it took, in milliseconds.
    took_ms: u64,
    /// The status that the endpoint answered with.
    status: Option<u16>,
    /// Why there was no answer.
    error: Option<String>,
}

impl From<Endpoint> for WebhookView {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            id: endpoint.id.to_string(),
            url: endpoint.url,
            events: endpoint.kinds.into_iter().map(Kind::as_str).collect(),
            description: endpoint.description,
            enabled: endpoint.enabled,
            disabled_reason: endpoint.disabled_reason,
            created_at: Stamp(endpoint.created_at),
            backlog: endpoint.backlog,
            dead: endpoint.dead,
            paused_until: endpoint.paused_until.map(Stamp),
            secret: None,
        }
    }
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.event.to_string(),
            r#type: delivery.kind.as_str(),
            message_id: delivery.message.map(|id| id.to_string()),
            state: match delivery.state {
                DeliveryState::Pending => "pending",
                DeliveryState::Delivered => "delivered",
                DeliveryState::Dead => "dead",
            },
            tries: delivery.tries.into_iter().map(TryView::from).collect(),
            next_try_at: delivery.next_try_at.map(Stamp),
        }
    }
}

impl From<Try> for TryView {
    fn from(result: Try) -> Self {
        Self {
            at: Stamp(result.at),
            took_ms: u64::try_from(result.took.as_millis()).unwrap_or(u64::MAX),
            status: result.status,
            error: result.error,
        }
    }
}

/// What a refusal of the webhooks means for the client.
pub(crate) fn refused(error: NotifyError) -> Refused {
    let detail = error.to_string();
    match error {
        NotifyError::NotFound => Problem::new(Code::NotFound, detail),
        NotifyError::TooMany { .. }
        | NotifyError::InConfig
        | NotifyError::IsCallbacks
        | NotifyError::NotDead => Problem::new(Code::InvalidField, detail),
        NotifyError::Url(_) => Problem::of(Fault::at(Code::InvalidField, "/url", detail)),
        NotifyError::Store(error) => {
            tracing::error!(%error, "the store of webhooks cannot be used");
            Problem::new(Code::StoreUnavailable, "the store of webhooks is not available")
        }
    }
}

fn webhook_id(text: &str) -> Result<WebhookId, Refused> {
    text.parse().map_err(|_| refused(NotifyError::NotFound))
}

/// Reads what a client asks of an endpoint.
fn draft(request: WebhookRequest, mut faults: Vec<Fault>) -> Result<Draft, Refused> {
    let mut most = |pointer: &str, what: &str, found: usize, allowed: usize| {
        if found > allowed {
            let detail = format!("{found} {what}, at most {allowed} are allowed");
            faults.push(Fault::at(Code::InvalidField, pointer, detail));
        }
    };
    most("/events", "types", request.events.as_ref().map_or(0, Vec::len), KINDS);
    let characters = request.description.as_deref().map_or(0, |text| text.chars().count());
    most("/description", "characters", characters, DESCRIPTION_CHARS);
    if !faults.is_empty() {
        return Err(Problem::of_all(faults));
    }
    let WebhookRequest { url, events: kinds, description, enabled } = request;
    Ok(Draft { url, kinds, description, enabled })
}

async fn body(api: &Api, request: Request) -> Result<(WebhookRequest, Vec<Fault>), Refused> {
    let (parts, body) = request.into_parts();
    let octets = api.bodies.read(&parts.headers, body, api.limits.body_octets).await?;
    request::read::<WebhookRequest>(&octets.bytes)
}

/// The client's endpoints.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    tag = "webhooks",
    operation_id = "listWebhooks",
    responses((status = 200, description = "The endpoints.", body = WebhookList)),
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    params: Params,
) -> Result<Json<WebhookList>, Refused> {
    params.finish()?;
    let endpoints = api.webhooks.list(&caller.client.name).await.map_err(refused)?;
    let webhooks = endpoints.into_iter().map(WebhookView::from).collect();
    Ok(Json(WebhookList { webhooks }))
}

/// Makes an endpoint. Its secret is in the answer, and nowhere else afterwards.
#[utoipa::path(
    post,
    path = "/v1/webhooks",
    tag = "webhooks",
    operation_id = "createWebhook",
    request_body(content = WebhookRequest, description = "The endpoint."),
    responses((status = 201, description = "Made; events from now on are sent to it.", body = WebhookView,
        headers(("Location" = String, description = "The endpoint's path.")))),
)]
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    let (request, mut faults) = body(&api, request).await?;
    if request.url.is_none() && !faults.iter().any(|f| f.pointer.as_deref() == Some("/url")) {
        faults.push(Fault::at(Code::InvalidField, "/url", "an endpoint needs its address"));
    }
    let draft = draft(request, faults)?;
    let made = api.webhooks.create(&caller.client.name, draft).await.map_err(refused)?;
    let (endpoint, secret) = made;
    let location = format!("/v1/webhooks/{}", endpoint.id);
    let view = WebhookView { secret: Some(secret.reveal()), ..WebhookView::from(endpoint) };
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    if let Ok(location) = HeaderValue::from_maybe_shared(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// One endpoint.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}",
    tag = "webhooks",
    operation_id = "getWebhook",
    params(("id" = String, Path, description = "The endpoint's id.")),
    responses((status = 200, description = "The endpoint.", body = WebhookView)),
)]
pub(crate) async fn one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<WebhookView>, Refused> {
    params.finish()?;
    let id = webhook_id(&id)?;
    let endpoint = api.webhooks.find(&caller.client.name, id).await.map_err(refused)?;
    Ok(Json(endpoint.into()))
}

/// Changes an endpoint: what is absent stays.
#[utoipa::path(
    patch,
    path = "/v1/webhooks/{id}",
    tag = "webhooks",
    operation_id = "updateWebhook",
    params(("id" = String, Path, description = "The endpoint's id.")),
    request_body(content = WebhookRequest, description = "What is to change."),
    responses((status = 200, description = "Changed.", body = WebhookView)),
)]
pub(crate) async fn update(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<WebhookView>, Refused> {
    let id = webhook_id(&id)?;
    let (request, faults) = body(&api, request).await?;
    let change = draft(request, faults)?;
    let endpoint = api.webhooks.update(&caller.client.name, id, change).await.map_err(refused)?;
    Ok(Json(endpoint.into()))
}

/// Deletes an endpoint with what waits for it.
#[utoipa::path(
    delete,
    path = "/v1/webhooks/{id}",
    tag = "webhooks",
    operation_id = "deleteWebhook",
    params(("id" = String, Path, description = "The endpoint's id.")),
    responses((status = 204, description = "Deleted.")),
)]
pub(crate) async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refused> {
    let id = webhook_id(&id)?;
    api.webhooks.delete(&caller.client.name, id).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives an endpoint a new secret. For a day, the old one signs too.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/secret",
    tag = "webhooks",
    operation_id = "rotateWebhookSecret",
    params(("id" = String, Path, description = "The endpoint's id.")),
    responses((status = 200, description = "The new secret.", body = SecretView)),
)]
pub(crate) async fn rotate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<SecretView>, Refused> {
    let id = webhook_id(&id)?;
    let secret = api.webhooks.rotate(&caller.client.name, id).await.map_err(refused)?;
    Ok(Json(SecretView { secret: secret.reveal() }))
}

/// Sends a test event, once, and tells what came of it.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/test",
    tag = "webhooks",
    operation_id = "testWebhook",
    params(("id" = String, Path, description = "The endpoint's id.")),
    responses((status = 200, description = "What came of it.", body = TryView)),
)]
pub(crate) async fn test(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TryView>, Refused> {
    let id = webhook_id(&id)?;
    let result = api.webhooks.test(&caller.client.name, id).await.map_err(refused)?;
    Ok(Json(result.into()))
}

/// The latest deliveries of an endpoint.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}/deliveries",
    tag = "webhooks",
    operation_id = "listDeliveries",
    params(
        ("id" = String, Path, description = "The endpoint's id."),
        ("state" = Option<String>, Query, pattern = "^dead$", description = "`dead` for those only that were given up."),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 200, description = "The most deliveries wanted; 50 when absent."),
    ),
    responses((status = 200, description = "The deliveries, the newest first.", body = DeliveryList)),
)]
pub(crate) async fn deliveries(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Json<DeliveryList>, Refused> {
    let only = |text: &str| if text == "dead" { Ok(()) } else { Err("expected `dead`") };
    let dead = params.read("state", only).is_some();
    let limit = limit(&mut params);
    params.finish()?;
    let id = webhook_id(&id)?;
    let listed = api.webhooks.deliveries(&caller.client.name, id, dead, limit).await;
    let deliveries = listed.map_err(refused)?.into_iter().map(DeliveryView::from).collect();
    Ok(Json(DeliveryList { deliveries }))
}

/// Tries a delivery again that was given up.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/deliveries/{delivery}/retry",
    tag = "webhooks",
    operation_id = "retryDelivery",
    params(
        ("id" = String, Path, description = "The endpoint's id."),
        ("delivery" = String, Path, description = "The delivery's id: that of its event."),
    ),
    responses((status = 200, description = "It waits for its next try.", body = DeliveryView)),
)]
pub(crate) async fn retry(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((id, event)): Path<(String, String)>,
) -> Result<Json<DeliveryView>, Refused> {
    let id = webhook_id(&id)?;
    let event: EventId = event.parse().map_err(|_| refused(NotifyError::NotFound))?;
    let delivery = api.webhooks.retry(&caller.client.name, id, event).await.map_err(refused)?;
    Ok(Json(delivery.into()))
}
