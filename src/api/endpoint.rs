//! Every endpoint with its scope, its limit and the problems that it answers with: one table, which
//! the layer that checks keys and the OpenAPI document both read.

use axum::http::Method;

use crate::api::keys::Scope;
use crate::api::problem::Code;

/// One endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// `GET`, `POST`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// The path as the router has it.
    pub path: &'static str,
    /// The scope that a key needs; none for what is open to all.
    pub scope: Option<Scope>,
    /// The limit of the client that a request counts against.
    pub(crate) counts: Counts,
    /// The problems that it answers with, besides those that every endpoint has.
    pub(crate) codes: &'static [Code],
}

/// The limit that a request counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    /// None.
    Nothing,
    /// The rate of messages.
    Message,
    /// The rate of other requests.
    Request,
}

const BODY: [Code; 6] = [
    Code::MalformedBody,
    Code::UnknownField,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidField,
];
const VALUES: [Code; 10] = [
    Code::SenderNotAllowed,
    Code::RouteNotAllowed,
    Code::ClassNotAllowed,
    Code::DestinationNotAllowed,
    Code::InvalidTo,
    Code::InvalidFrom,
    Code::TextTooLong,
    Code::UnencodableText,
    Code::ExpiredOnArrival,
    Code::NoRoute,
];
const SEND: [Code; 3] =
    [Code::IdempotencyInProgress, Code::IdempotencyKeyReused, Code::QuotaExceeded];
/// The ways in which the dispatcher does not do what it is asked.
const BUSY: [Code; 3] = [Code::NotConfirmed, Code::QueueFull, Code::Draining];
const QUERY: &[Code] = &[Code::UnknownField, Code::MalformedBody, Code::InvalidField];
const FIND: &[Code] =
    &[Code::UnknownField, Code::MalformedBody, Code::InvalidField, Code::NotFound];

const fn join<const N: usize>(parts: &[&[Code]]) -> [Code; N] {
    let mut all = [Code::InternalError; N];
    let (mut part, mut to) = (0, 0);
    while part < parts.len() {
        let mut from = 0;
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
        while from < parts[part].len() {
            all[to] = parts[part][from];
            from += 1;
            to += 1;
        }
        part += 1;
    }
    all
}

const CREATE: &[Code] = &join::<22>(&[&BODY, &VALUES, &SEND, &BUSY]);
const BATCH: &[Code] = &join::<10>(&[&BODY, &BUSY, &[Code::RateLimited]]);
const PREVIEW: &[Code] = &join::<16>(&[&BODY, &VALUES]);
const CANCEL: &[Code] =
    &join::<6>(&[&[Code::NotFound, Code::TooLateToCancel, Code::UnknownField], &BUSY]);
const CANCEL_MANY: &[Code] = &join::<9>(&[&BODY, &BUSY]);
const HOOK: &[Code] = &join::<7>(&[&BODY, &[Code::NotFound]]);

const fn row(
    method: &'static str,
    path: &'static str,
    scope: Scope,
    codes: &'static [Code],
) -> Endpoint {
    Endpoint { method, path, scope: Some(scope), counts: Counts::Request, codes }
}

const fn counted(endpoint: Endpoint) -> Endpoint {
    Endpoint { counts: Counts::Message, ..endpoint }
}

const fn open(path: &'static str, codes: &'static [Code]) -> Endpoint {
    Endpoint { method: "GET", path, scope: None, counts: Counts::Nothing, codes }
}

/// Every endpoint.
pub const ENDPOINTS: &[Endpoint] = &[
    counted(row("POST", "/v1/messages", Scope::MessagesWrite, CREATE)),
    row("POST", "/v1/messages/batch", Scope::MessagesWrite, BATCH),
    row("POST", "/v1/messages/preview", Scope::MessagesWrite, PREVIEW),
    row("GET", "/v1/messages", Scope::MessagesRead, QUERY),
    row("GET", "/v1/messages/{id}", Scope::MessagesRead, FIND),
    row("GET", "/v1/messages/{id}/timeline", Scope::MessagesRead, FIND),
    row("POST", "/v1/messages/{id}/cancel", Scope::MessagesWrite, CANCEL),
    row("POST", "/v1/messages/cancel", Scope::MessagesWrite, CANCEL_MANY),
    row("GET", "/v1/events", Scope::MessagesRead, QUERY),
    row("GET", "/v1/events/stream", Scope::MessagesRead, QUERY),
    row("GET", "/v1/inbound", Scope::MessagesRead, QUERY),
    row("GET", "/v1/webhooks", Scope::Webhooks, &[Code::UnknownField]),
    row("POST", "/v1/webhooks", Scope::Webhooks, &BODY),
    row("GET", "/v1/webhooks/{id}", Scope::Webhooks, FIND),
    row("PATCH", "/v1/webhooks/{id}", Scope::Webhooks, HOOK),
    row("DELETE", "/v1/webhooks/{id}", Scope::Webhooks, &[Code::NotFound, Code::InvalidField]),
    row("POST", "/v1/webhooks/{id}/secret", Scope::Webhooks, &[Code::NotFound]),
    row("POST", "/v1/webhooks/{id}/test", Scope::Webhooks, &[Code::NotFound, Code::InvalidField]),
    row("GET", "/v1/webhooks/{id}/deliveries", Scope::Webhooks, FIND),
    row(
        "POST",
        "/v1/webhooks/{id}/deliveries/{delivery}/retry",
        Scope::Webhooks,
        &[Code::NotFound, Code::InvalidField],
    ),
    open("/healthz", &[]),
    open("/readyz", &[Code::QueueFull, Code::Draining]),
    open("/metrics", &[]),
    open("/openapi.json", &[]),
    open("/problems", &[]),
    open("/docs", &[]),
    open("/docs/", &[]),
    open("/docs/{*file}", &[Code::NotFound]),
];

/// Every endpoint of the listener for operators.
pub const ADMIN_ENDPOINTS: &[Endpoint] = &[
    row("GET", "/admin/v1/carriers", Scope::ConsoleView, &[Code::UnknownField]),
    row(
        "POST",
        "/admin/v1/reload",
        Scope::ConsoleAct,
        &[Code::UnknownField, Code::InvalidField, Code::Draining],
    ),
    open("/healthz", &[]),
    open("/readyz", &[Code::QueueFull, Code::Draining]),
    open("/metrics", &[]),
    open("/openapi.json", &[]),
    open("/problems", &[]),
    open("/docs", &[]),
    open("/docs/", &[]),
    open("/docs/{*file}", &[Code::NotFound]),
];

/// The listener that a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// The submit API.
    Submit,
    /// The operators'.
    Admin,
}

impl Face {
    /// Its endpoints.
    pub(crate) const fn endpoints(self) -> &'static [Endpoint] {
        match self {
            Self::Submit => ENDPOINTS,
            Self::Admin => ADMIN_ENDPOINTS,
        }
    }

    /// The endpoint that its router matched.
    pub(crate) fn find(self, method: &Method, path: &str) -> Option<&'static Endpoint> {
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.endpoints().iter().find(|row| row.path == path && row.method == method)
    }
}

impl Endpoint {
    /// Every problem that it answers with.
    pub(crate) fn problems(&self) -> impl Iterator<Item = Code> {
        let keyed: &[Code] = match self.scope {
            None => &[],
            Some(_) => &[
                Code::Unauthenticated,
                Code::ScopeMissing,
                Code::RateLimited,
                Code::StoreUnavailable,
            ],
        };
        let own = self.codes.iter().copied();
        Code::ALL.iter().copied().filter(move |code| {
            *code == Code::InternalError || keyed.contains(code) || own.clone().any(|c| c == *code)
        })
    }
}
