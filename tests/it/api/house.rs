//! A gateway around the API: real routes and archive, a stand-in for the dispatcher.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::Request;
use axum::http::StatusCode;
use hikyaku::api;
use hikyaku::api::Api;
use hikyaku::api::Dispatcher;
use hikyaku::api::NewKey;
use hikyaku::api::Parts;
use hikyaku::api::Replies;
use hikyaku::api::Scope;
use hikyaku::api::admin;
use hikyaku::api::backend::Surroundings;
use hikyaku::api::backend::Unready;
use hikyaku::api::config::Client;
use hikyaku::archive;
use hikyaku::archive::Archive;
use hikyaku::archive::Tailer;
use hikyaku::clock::Clock;
use hikyaku::dispatch::Event;
use hikyaku::dispatch::Reply;
use hikyaku::dispatch::SheddingConfig;
use hikyaku::message::Class;
use hikyaku::message::Finish;
use hikyaku::message::IdSource;
use hikyaku::message::Idempotency;
use hikyaku::message::MessageId;
use hikyaku::message::Position;
use hikyaku::message::Reason;
use hikyaku::message::Record;
use hikyaku::message::State;
use hikyaku::message::Submission;
use hikyaku::notify;
use hikyaku::notify::Notify;
use hikyaku::notify::Runner;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::route::Carrier;
use hikyaku::route::CarrierConfig;
use hikyaku::route::RouteConfig;
use hikyaku::route::Routes;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// What the stand-in for the dispatcher does with what it is asked.
#[derive(Clone, Debug, Default)]
pub(crate) enum Manner {
    /// What a dispatcher does.
    #[default]
    Well,
    /// It gives this reply to everything.
    Says(Reply),
    /// It takes everything and answers nothing.
    Silent,
}

/// What the stand-in holds.
#[derive(Default)]
struct Ledger {
    end: u64,
    submissions: Vec<Submission>,
    live: HashMap<MessageId, State>,
    idempotency: HashMap<[u8; 16], (Idempotency, MessageId)>,
}

/// The API with everything around it.
pub(crate) struct House {
    pub(crate) api: Arc<Api>,
    pub(crate) router: Router,
    pub(crate) stop: CancellationToken,
    pub(crate) manner: Arc<Mutex<Manner>>,
    pub(crate) around: Arc<Around>,
    pub(crate) config: api::Config,
    pub(crate) replies: Replies,
    runner: Option<Runner>,
    tokens: HashMap<&'static str, String>,
    world: Arc<World>,
    _dir: tempfile::TempDir,
}

/// What the stand-in writes: journal and archive in one.
struct World {
    clock: Clock,
    ledger: Mutex<Ledger>,
    tailer: Mutex<Tailer>,
    durable: watch::Sender<Position>,
}

/// Health and counters that a test sets and reads.
#[derive(Default)]
pub(crate) struct Around {
    pub(crate) unready: Mutex<Vec<Unready>>,
    pub(crate) panics: Mutex<bool>,
    pub(crate) answered: Mutex<Vec<(&'static str, u16)>>,
    pub(crate) accepted: Mutex<Vec<(String, u8)>>,
    pub(crate) replays: Mutex<u32>,
    pub(crate) shed: Mutex<Vec<Class>>,
    pub(crate) reloaded: Mutex<Option<admin::Reloaded>>,
}

impl Surroundings for Around {
    fn unready(&self) -> Vec<Unready> {
        assert!(!*self.panics.lock().unwrap(), "the test asked for it");
        self.unready.lock().unwrap().clone()
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }

    fn carriers(&self) -> Vec<admin::Carrier> {
        Vec::new()
    }

    fn reload(&self) -> admin::Reloading {
        let reloaded = self.reloaded.lock().unwrap().clone();
        Box::pin(std::future::ready(reloaded))
    }

    fn answered(&self, endpoint: &'static str, status: u16, _: Duration) {
        self.answered.lock().unwrap().push((endpoint, status));
    }

    fn accepted(&self, encoding: &str, segments: u8) {
        self.accepted.lock().unwrap().push((encoding.to_owned(), segments));
    }

    fn shed(&self, class: Class) {
        self.shed.lock().unwrap().push(class);
    }

    fn replayed(&self) {
        *self.replays.lock().unwrap() += 1;
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The problem's code; every refusal must have the form of one.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let problem = self.json();
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        for member in ["type", "title", "detail", "instance", "code", "retryable"] {
            assert!(problem.get(member).is_some(), "{member} in {problem}");
        }
        problem["code"].as_str().unwrap().to_owned()
    }

    /// Where the problem's faults are, with their codes.
    pub(crate) fn faults(&self) -> Vec<(String, String)> {
        let problem = self.json();
        let faults = problem["errors"].as_array().cloned().unwrap_or_default();
        let place = |fault: &Value| {
            let names = ["pointer", "parameter", "header"];
            let place = names.into_iter().find_map(|name| fault[name].as_str());
            (place.unwrap_or("").to_owned(), fault["code"].as_str().unwrap().to_owned())
        };
        faults.iter().map(place).collect()
    }
}

/// The routes that the tests send over.
const ROUTES: &str = r#"
    [carriers.alpha]
    rate = "50/s"
    [carriers.beta]
    rate = "50/s"
    [carriers.ascii]
    rate = "50/s"
    [carriers.ascii.text]
    default_alphabet = "ascii"
    max_segments = 1
    charset_short = "shift_jis"

    [[routes]]
    name = "jp"
    match = { prefix = ["81"] }
    carriers = ["alpha", "beta"]

    [[routes]]
    name = "narrow"
    on_request = true
    carriers = ["ascii"]
"#;

#[derive(serde::Deserialize)]
struct RoutesFile {
    carriers: BTreeMap<String, CarrierConfig>,
    routes: Vec<RouteConfig>,
}

fn routes() -> Routes {
    let file: RoutesFile = toml::from_str(ROUTES).unwrap();
    let carrier = |(name, config): (String, _)| Carrier::new(&name, config, InterfaceVersion::V3_4);
    Routes::new(file.carriers.into_iter().map(carrier).collect(), file.routes).unwrap()
}

/// The clients of the tests; the first three letters of a test's key name the client.
fn clients() -> Vec<(&'static str, Client)> {
    use Scope::*;
    let client = |scopes: &[Scope]| Client { scopes: scopes.to_vec(), ..Client::default() };
    let one = NonZeroU32::MIN;
    vec![
        ("shop", client(&[MessagesWrite, MessagesRead, Webhooks])),
        ("full", client(&[MessagesWrite, MessagesRead, MessagesReadContent])),
        ("other", client(&[MessagesWrite, MessagesRead])),
        ("reader", client(&[MessagesRead])),
        ("writer", client(&[MessagesWrite])),
        ("noc", client(&[MessagesRead, Admin])),
        ("nothing", client(&[])),
        (
            "tight",
            Client {
                senders: vec!["0005*".into()],
                sender: Some("0005123456".into()),
                classes: vec![Class::Otp],
                routes: vec!["narrow".into()],
                destinations: vec!["8190".into()],
                ..client(&[MessagesWrite])
            },
        ),
        ("slow", Client { burst: Some(one), ..client(&[MessagesWrite]) }),
        ("small", Client { daily_quota: Some(1), ..client(&[MessagesWrite]) }),
        ("alone", Client { waits: std::num::NonZeroU16::MIN, ..client(&[MessagesRead]) }),
    ]
}

impl House {
    /// A house with default limits.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A house with another config.
    pub(crate) fn with(change: impl FnOnce(&mut api::Config)) -> Self {
        Self::beside(admin::Config::default(), change)
    }

    /// A house with a listener for operators.
    pub(super) fn with_operators() -> Self {
        let operator = |scopes: &[Scope]| {
            let key = NewKey::generate().unwrap();
            (admin::Operator { keys: vec![key.hash], scopes: scopes.to_vec() }, key.token)
        };
        let all = [
            ("viewer", operator(&[Scope::ConsoleView])),
            ("actor", operator(&[Scope::ConsoleAct])),
            ("idler", operator(&[])),
        ];
        let listen = Some("127.0.0.1:1".parse().unwrap());
        let mut admin = admin::Config { listen, ..admin::Config::default() };
        let mut tokens = Vec::new();
        for (name, (operator, token)) in all {
            admin.operators.insert(name.to_owned(), operator);
            tokens.push((name, token));
        }
        let mut house = Self::beside(admin, |_| {});
        house.tokens.extend(tokens);
        house
    }

    fn beside(admin: admin::Config, change: impl FnOnce(&mut api::Config)) -> Self {
        let mut config = api::Config::default();
        let mut tokens = HashMap::new();
        for (name, mut client) in clients() {
            let key = NewKey::generate().unwrap();
            client.keys = vec![key.hash];
            config.clients.insert(name.to_owned(), client);
            tokens.insert(name, key.token);
        }
        change(&mut config);
        assert_eq!((config.faults(), admin.faults(&config)), (vec![], vec![]));
        let dir = tempfile::tempdir().unwrap();
        let (tailer, archive) = open_archive(dir.path());
        let clock = Clock::start();
        let (durable, durable_end) = watch::channel(Position(0));
        let tailer = Mutex::new(tailer);
        let world = Arc::new(World { clock, ledger: Mutex::default(), tailer, durable });
        let (events, inbox) = mpsc::channel(64);
        let replies = Replies::default();
        let patience = *config.limits.answer_timeout;
        let manner = Arc::default();
        let (webhooks, runner) = open_webhooks(dir.path(), archive.clone(), clock);
        let (stop, around) = (CancellationToken::new(), Arc::<Around>::default());
        tokio::spawn(dispatch(inbox, replies.clone(), Arc::clone(&manner), Arc::clone(&world)));
        let all = SheddingConfig { transactional: 100, marketing: 100 };
        let shedding = Arc::new(ArcSwap::from_pointee(all));
        let api = Api::new(Parts {
            config: config.clone(),
            admin,
            clock,
            ids: IdSource::new(1),
            dispatcher: Dispatcher::new(events, replies.clone(), patience, shedding),
            routes: Arc::new(ArcSwap::from_pointee(routes())),
            archive,
            durable: durable_end,
            webhooks,
            surroundings: Arc::clone(&around) as Arc<dyn Surroundings>,
            stop: stop.clone(),
        });
        let router = api.router();
        Self {
            api,
            router,
            stop,
            manner,
            around,
            config,
            replies,
            runner: Some(runner),
            tokens,
            world,
            _dir: dir,
        }
    }

    pub(crate) fn token(&self, client: &str) -> &str {
        &self.tokens[client]
    }

    /// A request with a client's key.
    pub(crate) fn request(&self, client: &str, line: &str) -> axum::http::request::Builder {
        let (method, path) = line.split_once(' ').unwrap();
        let builder = Request::builder().method(method).uri(path);
        match client {
            "" => builder,
            client => builder.header("authorization", format!("Bearer {}", self.token(client))),
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, client: &str, path: &str) -> Answer {
        let request = self.request(client, &format!("GET {path}")).body(Body::empty()).unwrap();
        self.send(request).await
    }

    pub(crate) async fn post(&self, client: &str, path: &str, body: &Value) -> Answer {
        self.json(client, &format!("POST {path}"), body).await
    }

    pub(crate) async fn json(&self, client: &str, line: &str, body: &Value) -> Answer {
        let request = self
            .request(client, line)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        self.send(request).await
    }

    /// Hands in a message and gives its id.
    pub(crate) async fn accept(&self, client: &str, body: &Value) -> String {
        let answer = self.post(client, "/v1/messages", body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Lets webhooks be sent.
    pub(crate) fn send_webhooks(&mut self) {
        let (runner, stop) = (self.runner.take().unwrap(), self.stop.clone());
        tokio::spawn(async move { runner.run(&TaskTracker::new(), stop).await });
    }

    /// Says how the dispatcher behaves from now on.
    pub(crate) fn dispatcher(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// What the dispatcher was given.
    pub(crate) fn submissions(&self) -> Vec<Submission> {
        self.world.ledger.lock().unwrap().submissions.clone()
    }

    /// Writes a record as the gateway would.
    pub(crate) fn record(&self, record: &Record) {
        self.world.write(record);
    }

    pub(crate) fn now(&self) -> hikyaku::time::Time {
        self.world.clock.now()
    }
}

fn open_archive(dir: &std::path::Path) -> (Tailer, Archive) {
    let config = archive::Config {
        dir: dir.to_owned(),
        store_text: true,
        inbound_owners: BTreeMap::from([("*".to_owned(), "shop".to_owned())]),
        ..archive::Config::default()
    };
    archive::open(&config, Position(0), &hikyaku::seal::Keys::known(1)).unwrap()
}

/// Webhooks that may call this machine, and give up at the first failure.
fn open_webhooks(dir: &std::path::Path, archive: Archive, clock: Clock) -> (Notify, Runner) {
    let config = notify::Config {
        file: dir.join("webhooks.db"),
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        retries: Vec::new(),
        endpoints_per_client: 2,
        ..notify::Config::default()
    };
    notify::open(&config, archive, clock, &hikyaku::seal::Keys::known(1)).unwrap()
}

impl World {
    fn write(&self, record: &Record) {
        let mut ledger = self.ledger.lock().unwrap();
        let (at, end) = (Position(ledger.end), Position(ledger.end + 1));
        ledger.end += 1;
        let mut tailer = self.tailer.lock().unwrap();
        tailer.apply(self.clock.now(), at, end, record.clone()).unwrap();
        tailer.publish();
        self.durable.send_replace(end);
    }

    fn accept(&self, submission: Box<Submission>) -> Reply {
        let id = submission.id;
        if let Some(asked) = submission.idempotency {
            match self.recall(asked) {
                Reply::NotSeen => {}
                reply => return reply,
            }
            self.ledger.lock().unwrap().idempotency.insert(asked.key, (asked, id));
        }
        let waits = submission.send_at.is_some();
        let state = if waits { State::Scheduled } else { State::Queued };
        let mut ledger = self.ledger.lock().unwrap();
        ledger.submissions.push((*submission).clone());
        ledger.live.insert(id, state);
        drop(ledger);
        self.write(&Record::Accepted(submission.into()));
        Reply::Accepted { id, state }
    }

    fn recall(&self, asked: Idempotency) -> Reply {
        match self.ledger.lock().unwrap().idempotency.get(&asked.key) {
            None => Reply::NotSeen,
            Some((known, _)) if known.fingerprint != asked.fingerprint => {
                Reply::IdempotencyKeyReused
            }
            Some((_, id)) => Reply::Replayed { id: *id },
        }
    }

    fn cancel(&self, id: MessageId) -> Reply {
        let Some(_) = self.ledger.lock().unwrap().live.remove(&id) else { return Reply::NotLive };
        let finish = Finish {
            state: State::Cancelled,
            reason: Some(Reason::Cancelled),
            carrier: "".into(),
            carrier_status: None,
            carrier_error: "".into(),
        };
        self.write(&Record::Finished { id, at: self.clock.now(), finish });
        Reply::Cancelled { id }
    }
}

async fn dispatch(
    mut inbox: mpsc::Receiver<Event>,
    replies: Replies,
    manner: Arc<Mutex<Manner>>,
    world: Arc<World>,
) {
    while let Some(event) = inbox.recv().await {
        let manner = manner.lock().unwrap().clone();
        let (ticket, reply) = match (event, manner) {
            (_, Manner::Silent) => continue,
            (Event::Accept { ticket, .. } | Event::Cancel { ticket, .. }, Manner::Says(reply)) => {
                (ticket, reply)
            }
            (Event::Accept { ticket, submission }, Manner::Well) => {
                (ticket, world.accept(submission))
            }
            (Event::Recall { ticket, request }, _) => (ticket, world.recall(request)),
            (Event::Cancel { ticket, id, .. }, Manner::Well) => (ticket, world.cancel(id)),
            (other, _) => panic!("a door sent {other:?}"),
        };
        replies.answer(ticket, reply);
    }
}
