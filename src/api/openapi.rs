//! The OpenAPI document, made from the handlers and the table of endpoints, and its pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header;
use axum::response::Html;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::api::admin;
use crate::api::batch;
use crate::api::cancel;
use crate::api::endpoint::ADMIN_ENDPOINTS;
use crate::api::endpoint::ENDPOINTS;
use crate::api::endpoint::Endpoint;
use crate::api::events;
use crate::api::health;
use crate::api::keys::Scope;
use crate::api::message;
use crate::api::preview;
use crate::api::problem::Code;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::api::read;
use crate::api::view;
use crate::api::webhooks;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hikyaku submit API",
        description = "Hand in messages, follow them to their end, hear what handsets send.\n\n\
            Every refusal is an RFC 9457 problem with a stable `code`; `/problems` lists them.",
        license(name = "MIT", identifier = "MIT"),
    ),
    servers((url = "/", description = "This gateway.")),
    tags(
        (name = "messages", description = "Messages: handed in, followed, withdrawn."),
        (name = "events", description = "What happens to messages, and what handsets send."),
        (name = "webhooks", description = "Endpoints of the client that events are sent to."),
        (name = "operation", description = "Health and metrics."),
    ),
    components(schemas(Problem, view::TimelineEntry, events::EventView)),
)]
struct Document;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hikyaku admin API",
        description = "For operators: see the carriers, take the configuration again.\n\n\
            Every refusal is an RFC 9457 problem with a stable `code`; `/problems` lists them.",
        license(name = "MIT", identifier = "MIT"),
    ),
    servers((url = "/", description = "This gateway.")),
    tags(
        (name = "carriers", description = "Binds, rates and queues."),
        (name = "configuration", description = "The configuration in force."),
        (name = "operation", description = "Health and metrics."),
    ),
    components(schemas(Problem)),
)]
struct AdminDocument;

/// The handlers for operators that stand in their document, and the document.
pub(crate) fn documented_for_operators() -> (axum::Router<Arc<Api>>, Value) {
    let (router, document) = OpenApiRouter::with_openapi(AdminDocument::openapi())
        .routes(routes!(admin::carriers))
        .routes(routes!(admin::reload))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .split_for_parts();
    (router, completed(&document, ADMIN_ENDPOINTS))
}

/// The handlers that stand in the document, and the document.
pub(crate) fn documented() -> (axum::Router<Arc<Api>>, Value) {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(message::create, read::search))
        .routes(routes!(batch::create))
        .routes(routes!(preview::show))
        .routes(routes!(cancel::many))
        .routes(routes!(read::one))
        .routes(routes!(read::timeline))
        .routes(routes!(cancel::one))
        .routes(routes!(events::events))
        .routes(routes!(events::stream))
        .routes(routes!(events::inbound))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::one, webhooks::update, webhooks::delete))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::retry))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .split_for_parts();
    (router, completed(&document, ENDPOINTS))
}

/// The document as JSON, with what the table knows.
fn completed(document: &utoipa::openapi::OpenApi, endpoints: &[Endpoint]) -> Value {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    for endpoint in endpoints {
        complete(&mut document, endpoint);
    }
    if let Some(components) = document.pointer_mut("/components").and_then(Value::as_object_mut) {
        components.insert("securitySchemes".into(), security_schemes());
    }
    document
}

/// The document without a path that its listener does not have.
pub(crate) fn without(mut document: Value, path: &str) -> Value {
    if let Some(paths) = document.pointer_mut("/paths").and_then(Value::as_object_mut) {
        paths.remove(path);
    }
    document
}

fn security_schemes() -> Value {
    let scopes = Scope::ALL.map(Scope::as_str).join("`, `");
    json!({
        "key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "hky_<id>_<secret>",
            "description": format!("An API key. Its scopes are among `{scopes}`."),
        }
    })
}

/// Adds to an operation what the table knows of it: the scope, and the problems by status.
fn complete(document: &mut Value, endpoint: &Endpoint) {
    let method = endpoint.method.to_ascii_lowercase();
    let paths = document.pointer_mut("/paths").and_then(Value::as_object_mut);
    let operation = paths.and_then(|paths| paths.get_mut(endpoint.path)?.get_mut(&method));
    let Some(operation) = operation.and_then(Value::as_object_mut) else { return };
    let security = match endpoint.scope {
        Some(scope) => json!([{ "key": [scope.as_str()] }]),
        None => json!([]),
    };
    operation.insert("security".into(), security);
    let responses = operation.entry("responses").or_insert_with(|| Map::new().into());
    let Some(responses) = responses.as_object_mut() else { return };
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in endpoint.problems() {
        by_status.entry(code.status().as_u16()).or_default().push(code);
    }
    for (status, codes) in by_status {
        responses.insert(status.to_string(), response(&codes));
    }
}

fn response(codes: &[Code]) -> Value {
    let lines: Vec<_> =
        codes.iter().map(|code| format!("`{}`: {}.", code.as_str(), code.title())).collect();
    let mut response = json!({
        "description": lines.join(" "),
        "content": {
            "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } },
        },
    });
    if codes.iter().any(|code| matches!(code.status().as_u16(), 429 | 503)) {
        let header = json!({
            "description": "Seconds until it may succeed.",
            "schema": { "type": "integer", "minimum": 1 },
        });
        if let Some(response) = response.as_object_mut() {
            response.insert("headers".into(), json!({ "Retry-After": header }));
        }
    }
    response
}

/// `/openapi.json`.
pub(crate) fn document(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

const CSP: HeaderName = header::CONTENT_SECURITY_POLICY;

/// The page's own files only; its script sets styles on elements.
const DOCS_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// `/docs`.
pub(crate) async fn docs_home() -> Redirect {
    Redirect::permanent("/docs/")
}

/// `/docs/`.
pub(crate) async fn docs_page(State(api): State<Arc<Api>>) -> Result<Response, Refused> {
    file(&api, "index.html")
}

/// The files of `/docs/`.
pub(crate) async fn docs_file(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    file(&api, &name)
}

fn file(api: &Api, name: &str) -> Result<Response, Refused> {
    match utoipa_swagger_ui::serve(name, Arc::clone(&api.docs)) {
        Ok(Some(file)) => {
            let headers = [(header::CONTENT_TYPE, file.content_type.as_str()), (CSP, DOCS_CSP)];
            Ok((headers, file.bytes.into_owned()).into_response())
        }
        Ok(None) => Err(Problem::new(Code::NotFound, "the documentation has no such page")),
        Err(error) => {
            tracing::error!(%error, "the documentation cannot be shown");
            Err(Problem::new(Code::InternalError, "the documentation cannot be shown"))
        }
    }
}

/// `/problems`: what `type` of a problem points to.
pub(crate) async fn problems() -> Response {
    let mut rows = String::new();
    for code in Code::ALL {
        let (word, title) = (code.as_str(), code.title());
        let again = if code.is_retryable() { "yes" } else { "no" };
        let status = code.status().as_u16();
        rows.push_str(&format!(
            "<tr id=\"{word}\"><td><code>{word}</code></td><td>{status}</td><td>{title}</td>\
             <td>{again}</td></tr>\n"
        ));
    }
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Problems</title>\
         </head>\n<body><h1>Problems</h1>\n<table><thead><tr><th>code</th><th>status</th>\
         <th>meaning</th><th>may succeed later</th></tr></thead>\n<tbody>\n{rows}</tbody></table>\
         </body></html>\n"
    );
    ([(CSP, "default-src 'none'; frame-ancestors 'none'")], Html(page)).into_response()
}
