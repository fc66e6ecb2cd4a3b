//! The front doors: HTTP. Every door ends in [`Dispatcher::accept`].
//!
//! [`Api::new`] takes what the gateway has built ([`Parts`]), [`Api::router`] gives the routes, and
//! [`serve()`] answers requests with them. A request passes these layers, from outside in:
//!
//! 1. *outer*: names the request, catches what failed, renders problems, counts and logs;
//! 2. *guard*: looks the endpoint up in [`ENDPOINTS`], checks the key, its scope and its rate;
//! 3. the handler: reads the request, and reads or asks.

pub mod accept;
pub mod admin;
pub mod backend;
mod bare;
mod batch;
mod cancel;
mod client;
pub mod config;
mod endpoint;
mod events;
mod extract;
mod health;
mod idempotency;
mod json;
pub mod keys;
mod limits;
mod message;
mod openapi;
mod plan;
mod preview;
pub mod problem;
mod read;
mod request;
mod schema;
mod serve;
mod tls;
mod view;
mod webhooks;

use std::any::Any;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Bytes;
use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header;
use axum::middleware::Next;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

pub use self::accept::Dispatcher;
pub use self::accept::Replies;
pub use self::accept::Unanswered;
pub use self::config::Config;
pub use self::endpoint::ADMIN_ENDPOINTS;
pub use self::endpoint::ENDPOINTS;
pub use self::endpoint::Endpoint;
pub use self::keys::KeyHash;
pub use self::keys::NewKey;
pub use self::keys::Scope;
pub use self::limits::Standing;
pub use self::serve::Shown;
pub use self::serve::serve;
pub use self::tls::Certificate;
pub use self::tls::Renewal;

use self::backend::Surroundings;
use self::client::Client;
use self::client::Clients;
use self::endpoint::Counts;
use self::endpoint::Face;
use self::extract::Bodies;
use self::extract::Caller;
use self::problem::Code;
use self::problem::Problem;
use self::problem::Refused;
use crate::archive::Archive;
use crate::clock::Clock;
use crate::message::IdSource;
use crate::message::MessageId;
use crate::message::Position;
use crate::notify::Notify;
use crate::route::Routes;
use crate::time::Time;

/// What the gateway builds the API from.
pub struct Parts {
    /// Its table of the config.
    pub config: Config,
    /// The config's table of the listener for operators.
    pub admin: admin::Config,
    /// The shell's clock.
    pub clock: Clock,
    /// Makes the ids of messages.
    pub ids: IdSource,
    /// The way into the dispatcher.
    pub dispatcher: Dispatcher,
    /// The routes in force; the gateway swaps them when the config changes.
    pub routes: Arc<ArcSwap<Routes>>,
    /// Where messages and events are read.
    pub archive: Archive,
    /// The durable end of the journal.
    pub durable: watch::Receiver<Position>,
    /// The webhook endpoints.
    pub webhooks: Notify,
    /// Health and counters.
    pub surroundings: Arc<dyn Surroundings>,
    /// Cancelled when the gateway stops: ends waits and streams.
    pub stop: CancellationToken,
}

/// The submit API.
pub struct Api {
    settings: ArcSwap<Settings>,
    limits: config::Limits,
    clock: Clock,
    ids: Mutex<IdSource>,
    dispatcher: Dispatcher,
    routes: Arc<ArcSwap<Routes>>,
    archive: Archive,
    durable: watch::Receiver<Position>,
    webhooks: Notify,
    surroundings: Arc<dyn Surroundings>,
    stop: CancellationToken,
    bodies: Bodies,
    document: Bytes,
    admin_document: Bytes,
    /// Whether operators have a listener, which then has the metrics.
    has_admin: bool,
    docs: Arc<utoipa_swagger_ui::Config<'static>>,
}

/// What a reload of the config changes.
struct Settings {
    messages: config::Messages,
    clients: Clients,
    operators: Clients,
}

impl Settings {
    const fn callers(&self, face: Face) -> &Clients {
        match face {
            Face::Submit => &self.clients,
            Face::Admin => &self.operators,
        }
    }
}

/// Tells the outer layer whom a request was answered for.
#[derive(Clone)]
struct Served {
    endpoint: &'static Endpoint,
    client: Option<Arc<Client>>,
}

impl Api {
    /// The API over these parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        let clients = Clients::new(&parts.config.clients, parts.clock);
        let operators = Clients::new(&parts.admin.callers(), parts.clock);
        let has_admin = parts.admin.listen.is_some();
        let (_, mut document) = openapi::documented();
        if has_admin {
            document = openapi::without(document, METRICS);
        }
        let (_, admin_document) = openapi::documented_for_operators();
        let written = |document| serde_json::to_vec_pretty(document).unwrap_or_default().into();
        let docs = utoipa_swagger_ui::Config::from("/openapi.json").validator_url("none");
        Arc::new(Self {
            settings: ArcSwap::from_pointee(Settings {
                messages: parts.config.messages,
                clients,
                operators,
            }),
            bodies: Bodies::new(&parts.config.limits),
            limits: parts.config.limits,
            clock: parts.clock,
            ids: Mutex::new(parts.ids),
            dispatcher: parts.dispatcher,
            routes: parts.routes,
            archive: parts.archive,
            durable: parts.durable,
            webhooks: parts.webhooks,
            surroundings: parts.surroundings,
            stop: parts.stop,
            document: written(&document),
            admin_document: written(&admin_document),
            has_admin,
            docs: Arc::new(docs),
        })
    }

    /// The routes of the API.
    pub fn router(self: &Arc<Self>) -> Router {
        self.face(Face::Submit, openapi::documented().0, self.document.clone())
    }

    /// The routes for operators.
    pub fn admin_router(self: &Arc<Self>) -> Router {
        let (documented, _) = openapi::documented_for_operators();
        self.face(Face::Admin, documented, self.admin_document.clone())
    }

    fn face(
        self: &Arc<Self>,
        face: Face,
        documented: Router<Arc<Self>>,
        document: Bytes,
    ) -> Router {
        let document = move || std::future::ready(openapi::document(document.clone()));
        documented
            .route("/openapi.json", get(document))
            .route("/problems", get(openapi::problems))
            .route("/docs", get(openapi::docs_home))
            .route("/docs/", get(openapi::docs_page))
            .route("/docs/{*file}", get(openapi::docs_file))
            .route_layer(from_fn_with_state((Arc::clone(self), face), guard))
            .fallback(nothing_here)
            .method_not_allowed_fallback(no_such_method)
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn_with_state(Arc::clone(self), outer))
            .with_state(Arc::clone(self))
    }

    /// Takes over clients and the rules for messages from a changed config; what clients have used
    /// of limits that did not change stays used. The listener and its limits stay as they are.
    pub fn reload(&self, config: &Config, admin: &admin::Config) {
        let old = self.settings.load();
        let clients = old.clients.renewed(&config.clients, self.clock);
        let operators = old.operators.renewed(&admin.callers(), self.clock);
        let messages = config.messages.clone();
        self.settings.store(Arc::new(Settings { messages, clients, operators }));
    }

    /// Counts what a client handed in today before the process started.
    pub fn restore_quota(&self, client: &str, count: u64) {
        self.settings.load().clients.restore_quota(client, self.clock.now(), count);
    }

    fn next_id(&self, now: Time) -> MessageId {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).next(now)
    }

    fn authenticate(&self, face: Face, request: &Request) -> Result<Arc<Client>, Refused> {
        let Some(value) = request.headers().get(header::AUTHORIZATION) else {
            return Err(Problem::unauthenticated("send Authorization: Bearer and an API key"));
        };
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let client = token.and_then(|token| self.settings.load().callers(face).authenticate(token));
        let shown = request.extensions().get::<Shown>();
        let client = client.filter(|client| {
            let takes = client.takes(shown);
            if !takes {
                tracing::warn!(client = &*client.name, "a key came without its certificate");
            }
            takes
        });
        client.ok_or_else(|| Problem::unauthenticated("this API key is not valid"))
    }

    /// The caller, when it may use the endpoint now, and how its limit stands.
    fn admit(
        &self,
        endpoint: &Endpoint,
        scope: Scope,
        client: &Client,
    ) -> Result<Option<Standing>, Refused> {
        if !client.has(scope) {
            let detail = format!("this key lacks the scope {}", scope.as_str());
            return Err(Problem::new(Code::ScopeMissing, detail));
        }
        let limiter = match endpoint.counts {
            Counts::Nothing => return Ok(None),
            Counts::Message => &client.messages,
            Counts::Request => &client.requests,
        };
        limiter.take().map(Some).map_err(|standing| {
            let detail = format!("the key's rate of {} is used up", standing.policy);
            Problem::new(Code::RateLimited, detail).standing(standing)
        })
    }
}

/// What operators' listener takes over.
const METRICS: &str = "/metrics";

/// Checks the key, its scope and its rate for the endpoint that the router matched.
async fn guard(
    State((api, face)): State<(Arc<Api>, Face)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let endpoint = path.and_then(|path| face.find(request.method(), path));
    let moved =
        |endpoint: &&Endpoint| face == Face::Submit && api.has_admin && endpoint.path == METRICS;
    let endpoint = endpoint.filter(|endpoint| !moved(endpoint));
    let Some(endpoint) = endpoint else { return nothing_here().await.into_response() };
    let mut served = Served { endpoint, client: None };
    let mut response = match endpoint.scope {
        None => next.run(request).await,
        Some(scope) => match api.authenticate(face, &request) {
            Err(problem) => problem.into_response(),
            Ok(client) => {
                let admitted = api.admit(endpoint, scope, &client);
                served.client = Some(Arc::clone(&client));
                match admitted {
                    Err(problem) => problem.into_response(),
                    Ok(standing) => {
                        request.extensions_mut().insert(Caller { client });
                        let mut response = next.run(request).await;
                        if let Some(standing) = standing {
                            standing.write(response.headers_mut());
                        }
                        response
                    }
                }
            }
        },
    };
    response.extensions_mut().insert(served);
    response
}

/// Names the request, renders problems, counts and logs.
async fn outer(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    let started = api.clock.now();
    // No less unique than a message's id, and asks the system for nothing.
    let request_id = uuid::Uuid::from_u128(api.next_id(started).as_u128());
    let given_id = request.headers().get(REQUEST_ID).filter(|id| id.len() <= 128).cloned();
    let method = request.method().clone();
    let span = tracing::info_span!("request", %request_id);
    let mut response = next.run(request).instrument(span).await;
    let problem = response.extensions_mut().remove::<Refused>();
    let code = problem.as_ref().map(|problem| problem.code());
    if let Some(problem) = problem {
        let rendered = problem.instance(format!("urn:uuid:{request_id}")).render();
        let (parts, body) = rendered.into_parts();
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().extend(parts.headers);
        *response.body_mut() = body;
    }
    let headers = response.headers_mut();
    let own_id = || HeaderValue::from_maybe_shared(request_id.to_string()).ok();
    if let Some(id) = given_id.or_else(own_id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let served = response.extensions_mut().remove::<Served>();
    let endpoint = served.as_ref().map_or("-", |served| served.endpoint.path);
    let client = served.as_ref().and_then(|served| served.client.as_ref());
    let client = client.map_or("-", |client| &client.name);
    let (status, took) = (response.status().as_u16(), api.clock.now().since(started));
    api.surroundings.answered(endpoint, status, took);
    let code = code.map_or("-", Code::as_str);
    if status < 500 {
        tracing::debug!(%request_id, %method, endpoint, status, code, client, ?took, "answered");
    } else {
        tracing::warn!(%request_id, %method, endpoint, status, code, client, ?took, "answered");
    }
    response
}

async fn nothing_here() -> Refused {
    Problem::new(Code::NotFound, "the API has no such path; /docs shows those that it has")
}

async fn no_such_method() -> Refused {
    Problem::new(Code::MethodNotAllowed, "Allow names the methods that this path takes")
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::new(Code::InternalError, "the gateway failed while it answered").into_response()
}
