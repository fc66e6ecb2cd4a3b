//! What operators see and do, on a listener of its own with keys of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use crate::api::json::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::config;
use crate::api::config::Tls;
use crate::api::extract::Caller;
use crate::api::extract::Params;
use crate::api::keys::KeyHash;
use crate::api::keys::Scope;
use crate::api::problem::Code;
use crate::api::problem::Fault;
use crate::api::problem::Problem;
use crate::api::problem::Refused;
use crate::archive::Stamp;

/// The listener for operators: carriers, metrics, reload. Its limits are those of the submit API,
/// counted apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address and port to listen on, such as `127.0.0.1:8081`; without it there is no such
    /// listener. With it, `/metrics` is here and no longer on the submit API.
    pub listen: Option<SocketAddr>,
    /// Speak HTTPS; plain HTTP without it.
    pub tls: Option<Tls>,
    /// The operators: each with its keys and what they may do.
    pub operators: BTreeMap<String, Operator>,
}

/// An operator: who may look, who may act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Operator {
    /// Its live keys, as `hikyaku key add` prints them: one, or two while they rotate.
    pub keys: Vec<KeyHash>,
    /// What the keys may do: `console:view`, `console:act`.
    pub scopes: Vec<Scope>,
}

impl Default for Operator {
    fn default() -> Self {
        Self { keys: Vec::new(), scopes: vec![Scope::ConsoleView] }
    }
}

impl Config {
    /// What is wrong with the values beside a submit API, each with its key below this table.
    pub fn faults(&self, api: &config::Config) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: String, what: String| faults.push((key, what));
        if self.listen == Some(api.listen) {
            fault("listen".into(), "is where the submit API listens; give it its own port".into());
        }
        if self.listen.is_none() && !self.operators.is_empty() {
            fault("operators".into(), "need `listen` in admin: nobody can reach it".into());
        }
        let clients = api
            .clients
            .iter()
            .flat_map(|(name, client)| client.keys.iter().map(move |key| (key.id(), name)));
        let mut seen: BTreeMap<_, _> = clients.collect();
        for (name, operator) in &self.operators {
            let key = format!("operators.{name}");
            if !config::is_name(name) {
                let what = "a name is a small letter, then small letters, digits and `_`";
                fault(key.clone(), what.into());
            }
            if !(1..=2).contains(&operator.keys.len()) {
                fault(format!("{key}.keys"), "one live key, or two: the old and the new".into());
            }
            for (i, scope) in operator.scopes.iter().enumerate() {
                if !matches!(scope, Scope::ConsoleView | Scope::ConsoleAct) {
                    let what = "expected `console:view` or `console:act`";
                    fault(format!("{key}.scopes[{i}]"), what.into());
                }
            }
            for (i, hash) in operator.keys.iter().enumerate() {
                if let Some(other) = seen.insert(hash.id(), name) {
                    let what = format!("the key {} is given to {other} already", hash.id());
                    fault(format!("{key}.keys[{i}]"), what);
                }
            }
        }
        faults
    }

    /// The operators as the layer that checks keys knows callers.
    pub(crate) fn callers(&self) -> BTreeMap<String, config::Client> {
        let caller = |operator: &Operator| config::Client {
            keys: operator.keys.clone(),
            scopes: operator.scopes.clone(),
            ..config::Client::default()
        };
        self.operators.iter().map(|(name, operator)| (name.clone(), caller(operator))).collect()
    }
}

/// The carriers as they stand.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Carriers {
    /// Each carrier of the configuration, and each that was and still has messages.
    pub carriers: Vec<Carrier>,
}

/// One carrier.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Carrier {
    /// Its name.
    pub name: String,
    /// Segments a second in force, such as `50/s`.
    pub rate: String,
    /// For how many milliseconds nothing is sent, since the carrier throttled.
    pub silent_for_ms: Option<u64>,
    /// How many requests may be without an answer.
    pub window: u32,
    /// How many are.
    pub window_used: u32,
    /// Its binds.
    pub binds: Vec<Bind>,
    /// Its queues, the most urgent class first.
    pub queues: Vec<Queue>,
}

/// One bind.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Bind {
    /// Which of the carrier's binds, from 0.
    pub index: u16,
    /// `trx`, `tx` or `rx`.
    pub mode: &'static str,
    /// `connecting`, `binding`, `bound`, `unbinding`, `waiting` or `stopped`.
    pub state: &'static str,
    /// Since when.
    #[schema(value_type = String, format = "date-time")]
    pub since: Stamp,
    /// The carrier's address, once connected.
    pub remote: Option<String>,
    /// Why the last attempt or bind ended.
    pub last_error: Option<String>,
    /// Whether that wants a person's eyes.
    pub alarm: bool,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Queue {
    /// `otp`, `transactional` or `marketing`.
    pub class: &'static str,
    /// How many messages wait.
    pub messages: u64,
    /// For how many milliseconds the first of them has waited.
    pub oldest_ms: Option<u64>,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Changes {
    /// The keys whose values are others than before.
    pub changed: Vec<String>,
    /// Those among them that count from the next start on.
    pub from_next_start: Vec<String>,
    /// Carriers that are new.
    pub started: Vec<String>,
    /// Carriers whose links bind anew since their settings changed.
    pub bound_anew: Vec<String>,
    /// Carriers that are gone.
    pub stopped: Vec<String>,
    /// Carriers whose connections were not touched.
    pub untouched: Vec<String>,
}

/// What came of taking the configuration again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// It is in force.
    Done(Changes),
    /// It has faults, each with its key, and nothing has changed.
    Refused(Vec<(String, String)>),
}

/// A reload under way; nothing comes of it when nobody takes configurations.
pub type Reloading = Pin<Box<dyn Future<Output = Option<Reloaded>> + Send>>;

/// The carriers: binds, rate in force, window, queues with the age of their oldest message.
#[utoipa::path(
    get,
    path = "/admin/v1/carriers",
    tag = "carriers",
    operation_id = "listCarriers",
    responses((status = 200, description = "The carriers.", body = Carriers)),
)]
pub(crate) async fn carriers(
    State(api): State<Arc<Api>>,
    params: Params,
) -> Result<Json<Carriers>, Refused> {
    params.finish()?;
    Ok(Json(Carriers { carriers: api.surroundings.carriers() }))
}

/// Takes the configuration file again, as SIGHUP does: all of it, or nothing of it.
#[utoipa::path(
    post,
    path = "/admin/v1/reload",
    tag = "configuration",
    operation_id = "reload",
    responses((status = 200, description = "It is in force.", body = Changes)),
)]
pub(crate) async fn reload(
    State(api): State<Arc<Api>>,
    caller: Caller,
    params: Params,
) -> Result<Json<Changes>, Refused> {
    params.finish()?;
    let done = api.surroundings.reload().await;
    let result = match &done {
        None => "not taken",
        Some(Reloaded::Done(_)) => "done",
        Some(Reloaded::Refused(_)) => "refused",
    };
    tracing::info!(target: "hikyaku::audit", operator = %caller.client.name, result, "reload");
    match done {
        Some(Reloaded::Done(changes)) => Ok(Json(changes)),
        Some(Reloaded::Refused(faults)) => {
            let fault = |(key, what): (String, String)| {
                Fault::at(Code::InvalidField, format!("/{}", key.replace('.', "/")), what)
            };
            Err(Problem::of_all(faults.into_iter().map(fault).collect()))
        }
        None => Err(Problem::new(Code::Draining, "no configuration is taken now")),
    }
}
