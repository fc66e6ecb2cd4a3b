//! Whether the process lives, whether it takes messages, and what it counts.

use std::sync::Arc;

use crate::api::json::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::problem::Problem;
use crate::api::problem::Refused;

/// That all is well.
#[derive(Serialize, ToSchema)]
pub(crate) struct Well {
    /// `ok`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
    /// The release that runs.
    #[schema(value_type = String)]
    version: &'static str,
}

const WELL: Well = Well { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Whether the process lives.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operation",
    operation_id = "getHealth",
    responses((status = 200, description = "It lives.", body = Well)),
)]
pub(crate) async fn healthz() -> Json<Well> {
    Json(WELL)
}

/// Whether messages are taken, and why not.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    operation_id = "getReadiness",
    responses((status = 200, description = "Messages are taken.", body = Well)),
)]
pub(crate) async fn readyz(State(api): State<Arc<Api>>) -> Result<Json<Well>, Refused> {
    let unready = api.surroundings.unready();
    let Some(first) = unready.first() else { return Ok(Json(WELL)) };
    let reasons: Vec<_> = unready.iter().map(|reason| reason.detail.as_str()).collect();
    Err(Problem::new(first.code, reasons.join("; ")))
}

/// The metrics.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    operation_id = "getMetrics",
    responses((status = 200, description = "The metrics as OpenMetrics text.", body = String,
        content_type = "application/openmetrics-text")),
)]
pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, TYPE)], api.surroundings.metrics()).into_response()
}
