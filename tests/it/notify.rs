//! Webhooks against a server on loopback: what arrives, in which order, and what does not.

use std::collections::HashMap;
use std::collections::HashSet;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Extracted;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::Uri;
use hikyaku::archive::Archive;
use hikyaku::archive::Feed;
use hikyaku::archive::Tailer;
use hikyaku::clock::Clock;
use hikyaku::message::IdSource;
use hikyaku::message::MessageId;
use hikyaku::message::Position;
use hikyaku::message::Reason;
use hikyaku::message::Record;
use hikyaku::message::State;
use hikyaku::notify;
use hikyaku::notify::CarrierKind;
use hikyaku::notify::Config;
use hikyaku::notify::DeliveryState;
use hikyaku::notify::Draft;
use hikyaku::notify::EndpointConfig;
use hikyaku::notify::Kind;
use hikyaku::notify::Notify;
use hikyaku::notify::NotifyError;
use hikyaku::notify::Secret;
use hikyaku::notify::Signed;
use hikyaku::time::Span;
use hikyaku::time::Time;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::archive::Log;
use crate::archive::apply;
use crate::archive::finish;
use crate::archive::submission;

const START: Time = Time::from_secs(1_795_305_600);

/// What came in one request.
#[derive(Clone, Debug)]
struct Heard {
    path: String,
    id: String,
    timestamp: String,
    signature: String,
    body: Vec<u8>,
}

impl Heard {
    fn is_signed_by(&self, secret: &Secret) -> bool {
        let signed = Signed {
            id: Some(&self.id),
            timestamp: Some(&self.timestamp),
            signature: Some(&self.signature),
            body: &self.body,
        };
        let now = Time::from_secs(self.timestamp.parse().unwrap());
        secret.verify(now, &signed).is_ok()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The kind of event and the last digits of the message's number.
    fn name(&self) -> String {
        let json = self.json();
        let kind = json["type"].as_str().unwrap().trim_start_matches("message.").to_owned();
        let to = json["data"]["to"].as_str().unwrap_or("--");
        format!("{kind} {}", &to[to.len() - 2..])
    }
}

/// A server that hears webhooks and answers as it is told to.
#[derive(Clone)]
struct Stub {
    heard: Arc<Mutex<Vec<Heard>>>,
    count: watch::Sender<usize>,
    /// The answers of a path, the next one first; the last one stays.
    answers: Arc<Mutex<HashMap<String, Vec<u16>>>>,
    address: std::net::SocketAddr,
}

impl Stub {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stub = Self {
            heard: Arc::default(),
            count: watch::Sender::new(0),
            answers: Arc::default(),
            address: listener.local_addr().unwrap(),
        };
        let router = Router::new().fallback(hear).with_state(stub.clone());
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        server.detach_all();
        stub
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn answer(&self, path: &str, statuses: &[u16]) {
        self.answers.lock().unwrap().insert(path.to_owned(), statuses.to_vec());
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    fn names(&self) -> Vec<String> {
        self.heard().iter().map(Heard::name).collect()
    }

    /// Waits until so many requests have come.
    async fn hears(&self, count: usize) -> Vec<Heard> {
        let mut watched = self.count.subscribe();
        let enough = watched.wait_for(|heard| *heard >= count);
        let done = tokio::time::timeout(Duration::from_secs(20), enough).await;
        assert!(done.is_ok(), "{count} wanted, heard {:?}", self.names());
        self.heard()
    }
}

async fn hear(
    Extracted(stub): Extracted<Stub>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(HeaderName, String); 1]) {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let heard = Heard {
        path: uri.path().to_owned(),
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body: body.to_vec(),
    };
    let status = {
        let mut answers = stub.answers.lock().unwrap();
        match answers.get_mut(uri.path()) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0],
            None => 204,
        }
    };
    if status == 0 {
        std::future::pending::<()>().await;
    }
    stub.heard.lock().unwrap().push(heard);
    stub.count.send_modify(|count| *count += 1);
    let location = [(HeaderName::from_static("location"), stub.url("/elsewhere"))];
    (StatusCode::from_u16(status).unwrap(), location)
}

/// An archive, the webhooks beside it and what drives both.
struct House {
    tailer: Tailer,
    archive: Archive,
    log: Log,
    ids: IdSource,
    notify: Notify,
    tracker: TaskTracker,
    stop: CancellationToken,
}

fn config(dir: &Path) -> Config {
    Config {
        file: dir.join("webhooks.db"),
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        retries: vec![Span::millis(20); 9],
        breaker_failures: 1_000,
        ..Config::default()
    }
}

/// The webhooks beside `archive`, sending.
fn running(config: &Config, archive: &Archive) -> (Notify, TaskTracker, CancellationToken) {
    let (notify, runner) =
        notify::open(config, archive.clone(), Clock::start(), &crate::archive::keys()).unwrap();
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let (run_tracker, run_stop) = (tracker.clone(), stop.clone());
    tracker.spawn(async move { runner.run(&run_tracker, run_stop).await });
    (notify, tracker, stop)
}

impl House {
    fn open(dir: &Path, config: &Config) -> Self {
        Self::open_at(dir, config, Position(0))
    }

    /// Opens what may be there already; the journal ends at `end`.
    fn open_at(dir: &Path, config: &Config, end: Position) -> Self {
        Self::open_with(config, &crate::archive::config(&dir.join("archive")), end)
    }

    fn open_with(config: &Config, archive: &hikyaku::archive::Config, end: Position) -> Self {
        let (tailer, archive) =
            hikyaku::archive::open(archive, end, &crate::archive::keys()).unwrap();
        let (notify, tracker, stop) = running(config, &archive);
        let (log, ids) = (Log::default(), IdSource::new(1));
        Self { tailer, archive, log, ids, notify, tracker, stop }
    }

    /// Sends again after [`Self::close`].
    fn run_again(&mut self, config: &Config) {
        (self.notify, self.tracker, self.stop) = running(config, &self.archive);
    }

    fn accept(&mut self, number: u64, callback: Option<String>) -> MessageId {
        let id = self.ids.next(START);
        let mut message = submission(id, START, "shop", number);
        message.callback_url = callback.map(Into::into);
        self.log.push(START, Record::Accepted(Arc::new(message)));
        id
    }

    fn end(&mut self, id: MessageId, state: State, reason: Option<Reason>) {
        let finish = finish(state, reason, "alpha");
        self.log.push(START, Record::Finished { id, at: START, finish });
    }

    /// Lets the archive see what was logged.
    fn publish(&mut self) {
        let end = self.log.end();
        apply(&mut self.tailer, &self.log, end);
    }

    async fn endpoint(&self, url: String) -> (notify::Endpoint, Secret) {
        let draft = Draft { url: Some(url), ..Draft::default() };
        self.notify.create("shop", draft).await.unwrap()
    }

    /// Ends the sending, as a process does that is told to stop.
    async fn close(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Asks again and again until there is an answer.
async fn eventually<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let asking = async {
        loop {
            ticks.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.unwrap()
}

#[tokio::test]
async fn an_event_arrives_signed_as_the_feed_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let mut house = House::open(dir.path(), &config(dir.path()));
    let (endpoint, secret) = house.endpoint(stub.url("/hook")).await;
    let id = house.accept(12, None);
    house.end(id, State::Delivered, None);
    house.publish();
    let heard = stub.hears(2).await;
    let page = house.archive.events(Feed::All, Position(0), 9, Some("shop")).await.unwrap();
    for (heard, event) in heard.iter().zip(&page.events) {
        assert_eq!((&heard.body, &heard.id), (&event.body(), &event.id().to_string()));
        assert!(heard.is_signed_by(&secret));
        assert!(!heard.is_signed_by(&Secret::from_octets(&[7; 32]).unwrap()));
    }
    house.close().await;
    let deliveries = house.notify.deliveries("shop", endpoint.id, false, 10).await.unwrap();
    let shown: Vec<_> =
        deliveries.iter().map(|d| (d.kind.as_str(), d.message, d.state, d.tries.len())).collect();
    let delivered = DeliveryState::Delivered;
    let wanted =
        [("message.delivered", Some(id), delivered, 1), ("message.queued", Some(id), delivered, 1)];
    assert_eq!(shown, wanted);
    let tries = house.notify.tries_of("shop", id).await.unwrap();
    let tries: Vec<_> = tries.iter().map(|t| (t.endpoint, t.result.status)).collect();
    assert_eq!(tries, [(Some(endpoint.id), Some(204)); 2]);
    assert_eq!(house.notify.tries_of("bank", id).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_failing_event_holds_back_its_own_message_only() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let mut house = House::open(dir.path(), &config(dir.path()));
    house.endpoint(stub.url("/hook")).await;
    stub.answer("/hook", &[500, 302, 429, 204]);
    let first = house.accept(1, None);
    house.publish();
    stub.hears(1).await;
    house.end(first, State::Delivered, None);
    let second = house.accept(2, None);
    house.end(second, State::Delivered, None);
    house.publish();
    stub.hears(7).await;
    let names = stub.names();
    let of = |digits: &str| -> Vec<&str> {
        let mine = names.iter().filter(|name| name.ends_with(digits));
        mine.map(|name| name.split(' ').next().unwrap()).collect()
    };
    let mut all = of("01");
    let end = all.pop();
    assert_eq!((all.iter().all(|kind| *kind == "queued"), end), (true, Some("delivered")));
    let second: Vec<_> = of("02").into_iter().filter(|kind| *kind == "delivered").collect();
    assert_eq!(second, ["delivered"]);
    assert!(stub.heard().iter().all(|heard| heard.path == "/hook"), "no redirect is followed");
    let ids: Vec<_> =
        stub.heard().iter().filter(|h| h.name() == "queued 01").map(|h| h.id.clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "the id stays the same over retries: {ids:?}");
    house.close().await;
}

#[tokio::test]
async fn a_new_secret_signs_beside_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let mut house = House::open(dir.path(), &config(dir.path()));
    let (endpoint, old) = house.endpoint(stub.url("/hook")).await;
    let new = house.notify.rotate("shop", endpoint.id).await.unwrap();
    house.accept(1, None);
    house.publish();
    let heard = stub.hears(1).await;
    assert!(heard[0].is_signed_by(&old) && heard[0].is_signed_by(&new));
    house.close().await;
}

#[tokio::test]
async fn gone_disables_and_enabling_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let mut house = House::open(dir.path(), &config(dir.path()));
    let (endpoint, _) = house.endpoint(stub.url("/hook")).await;
    stub.answer("/hook", &[410, 204]);
    house.accept(1, None);
    house.publish();
    stub.hears(1).await;
    let disabled = eventually(|| async {
        let endpoint = house.notify.find("shop", endpoint.id).await.unwrap();
        (!endpoint.enabled).then_some(endpoint)
    })
    .await;
    assert_eq!(disabled.disabled_reason.as_deref(), Some("it answered 410 Gone"));
    house.accept(2, None);
    house.publish();
    let enable = Draft { enabled: Some(true), ..Draft::default() };
    let enabled = house.notify.update("shop", endpoint.id, enable).await.unwrap();
    assert_eq!((enabled.enabled, enabled.disabled_reason), (true, None));
    let heard = stub.hears(3).await;
    let mut names: Vec<_> = heard[1..].iter().map(Heard::name).collect();
    names.sort();
    assert_eq!(names, ["queued 01", "queued 02"]);
    house.close().await;
}

#[tokio::test]
async fn a_dead_letter_is_seen_and_tried_again_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let config = Config { retries: vec![Span::millis(5); 2], ..config(dir.path()) };
    let mut house = House::open(dir.path(), &config);
    let (endpoint, _) = house.endpoint(stub.url("/hook")).await;
    stub.answer("/hook", &[500, 500, 503, 204]);
    house.accept(1, None);
    house.publish();
    stub.hears(3).await;
    let dead = eventually(|| async {
        let dead = house.notify.deliveries("shop", endpoint.id, true, 10).await.unwrap();
        dead.into_iter().find(|delivery| delivery.tries.len() == 3)
    })
    .await;
    assert_eq!((dead.state, dead.next_try_at), (DeliveryState::Dead, None));
    let statuses: Vec<_> = dead.tries.iter().map(|result| result.status).collect();
    assert_eq!(statuses, [Some(500), Some(500), Some(503)]);
    assert_eq!(house.notify.find("shop", endpoint.id).await.unwrap().dead, 1);
    assert_eq!(house.notify.counters().dead(), 1);

    let other = house.notify.retry("bank", endpoint.id, dead.event).await;
    assert!(matches!(other, Err(NotifyError::NotFound)));
    let again = house.notify.retry("shop", endpoint.id, dead.event).await.unwrap();
    assert_eq!(again.state, DeliveryState::Pending);
    let heard = stub.hears(4).await;
    assert_eq!(heard[3].id, dead.event.to_string());
    house.close().await;
    let done = house.notify.deliveries("shop", endpoint.id, false, 10).await.unwrap();
    assert_eq!((done.len(), done[0].state), (1, DeliveryState::Delivered));
    let again = house.notify.retry("shop", endpoint.id, dead.event).await;
    assert!(matches!(again, Err(NotifyError::NotFound)));
}

#[tokio::test]
async fn after_a_crash_everything_comes_at_least_once_with_the_same_ids() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let config = config(dir.path());
    stub.answer("/hook", &[204, 500, 204, 500, 204]);
    // The runtime goes down in the middle, with everything that was not written.
    let end = {
        let (url, config, dir) = (stub.url("/hook"), config.clone(), dir.path().to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let mut house = House::open(&dir, &config);
                house.endpoint(url).await;
                for number in 10..40 {
                    house.accept(number, None);
                }
                house.publish();
                house.tailer.flush_all(START).unwrap();
                eventually(|| async { (house.notify.counters().taken() > 5).then_some(()) }).await;
                house.log.end()
            })
        });
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap()
    };
    let before = stub.heard();
    let house = House::open_at(dir.path(), &config, end);
    let all: Vec<_> = (10..40).map(|number| format!("queued {number}")).collect();
    eventually(|| async {
        let names = stub.names();
        all.iter().all(|name| names.contains(name)).then_some(())
    })
    .await;
    house.close().await;
    let mut ids: HashMap<String, String> = HashMap::new();
    for heard in stub.heard() {
        let id = ids.entry(heard.name()).or_insert_with(|| heard.id.clone());
        assert_eq!(*id, heard.id, "the same event, the same id");
    }
    assert!(before.len() > 5 && ids.len() == 30);
}

#[tokio::test]
async fn a_stop_in_between_sends_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let config = config(dir.path());
    let mut house = House::open(dir.path(), &config);
    house.endpoint(stub.url("/hook")).await;
    for number in 10..30 {
        house.accept(number, None);
    }
    house.publish();
    stub.hears(20).await;
    house.tailer.flush_all(START).unwrap();
    house.close().await;
    let (log, ids) = (house.log, house.ids);
    let mut house = House::open_at(dir.path(), &config, log.end());
    (house.log, house.ids) = (log, ids);
    house.accept(99, None);
    house.publish();
    let heard = stub.hears(21).await;
    assert_eq!((heard.len(), heard[20].name().as_str()), (21, "queued 99"));
    house.close().await;
}

#[tokio::test]
async fn private_addresses_are_refused_by_number_and_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let config = Config { networks: Vec::new(), retries: Vec::new(), ..config(dir.path()) };
    let mut house = House::open(dir.path(), &config);
    let draft = |url: &str| Draft { url: Some(url.to_owned()), ..Draft::default() };
    for url in ["http://127.0.0.1/", "http://[::ffff:10.0.0.1]/", "http://169.254.169.254/"] {
        let refused = house.notify.create("shop", draft(url)).await;
        assert!(matches!(&refused, Err(NotifyError::Url(_))), "{url}: {refused:?}");
    }
    let named = format!("http://localhost:{}/hook", stub.address.port());
    let (endpoint, _) = house.notify.create("shop", draft(&named)).await.unwrap();
    let result = house.notify.test("shop", endpoint.id).await.unwrap();
    let error = result.error.unwrap();
    assert!(error.contains("not a public one"), "{error}");
    house.accept(1, Some(stub.url("/callback")));
    house.publish();
    eventually(|| async { (house.notify.counters().dead() == 2).then_some(()) }).await;
    assert_eq!(stub.heard().len(), 0);
    house.close().await;
}

#[tokio::test]
async fn a_message_with_a_callback_tells_it_and_the_endpoints() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let mut house = House::open(dir.path(), &config(dir.path()));
    let (_, secret) = house.endpoint(stub.url("/hook")).await;
    stub.answer("/a", &[503, 204]);
    let with = house.accept(1, Some(stub.url("/a")));
    house.accept(2, None);
    house.end(with, State::Delivered, None);
    house.publish();
    stub.hears(6).await;
    let at = |path: &str| -> Vec<Heard> {
        stub.heard().into_iter().filter(|heard| heard.path == path).collect()
    };
    let names: Vec<_> = at("/a").iter().map(Heard::name).collect();
    assert_eq!(names, ["queued 01", "queued 01", "delivered 01"]);
    assert_eq!(at("/hook").len(), 3);
    let endpoints = house.notify.list("shop").await.unwrap();
    let callbacks = endpoints.iter().find(|e| e.url == notify::CALLBACKS).unwrap();
    let own = house.notify.rotate("shop", callbacks.id).await.unwrap();
    house.accept(3, Some(stub.url("/b")));
    house.publish();
    stub.hears(8).await;
    assert!(at("/b")[0].is_signed_by(&own) && !at("/b")[0].is_signed_by(&secret));
    let change = Draft { url: Some(stub.url("/c")), ..Draft::default() };
    let refused = house.notify.update("shop", callbacks.id, change).await;
    assert!(matches!(refused, Err(NotifyError::IsCallbacks)));
    house.close().await;
    let tries = house.notify.tries_of("shop", with).await.unwrap();
    assert_eq!(tries.iter().filter(|this| this.endpoint.is_none()).count(), 3);
}

#[tokio::test]
async fn an_endpoint_that_never_answers_slows_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let config = Config { concurrency: 2, timeout: Span::secs(60), ..config(dir.path()) };
    let mut house = House::open(dir.path(), &config);
    stub.answer("/black-hole", &[0]);
    house.endpoint(stub.url("/black-hole")).await;
    house.endpoint(stub.url("/hook")).await;
    for number in 0..50 {
        house.accept(number, None);
    }
    house.publish();
    stub.hears(50).await;
    assert!(stub.heard().iter().all(|heard| heard.path == "/hook"));
}

#[tokio::test]
async fn thousands_of_deliveries_wait_for_no_timer() {
    let (stub, dir) = (Stub::start().await, tempfile::tempdir().unwrap());
    let mut house = House::open(dir.path(), &config(dir.path()));
    house.endpoint(stub.url("/hook")).await;
    // The clock stands still for as long as something blocks, or until that takes far too long.
    let (done, blocks) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || blocks.recv_timeout(Duration::from_secs(60)));
    tokio::time::pause();
    const COUNT: u64 = 6_000;
    for number in 0..COUNT {
        house.accept(number, None);
    }
    house.publish();
    stub.hears(COUNT.try_into().unwrap()).await;
    assert!(done.send(()).is_ok(), "it waited until the clock went on");
    tokio::time::resume();
    house.close().await;
}

#[tokio::test]
async fn an_endpoint_gets_what_it_asked_for_and_carriers_only_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let mut house = House::open(dir.path(), &config(dir.path()));
    let kinds = vec![Kind::of("message.delivered").unwrap(), Kind::Carrier(CarrierKind::Down)];
    let url = Some(stub.url("/some"));
    let draft = Draft { url, kinds: Some(kinds), ..Draft::default() };
    house.notify.create("shop", draft).await.unwrap();
    house.endpoint(stub.url("/all")).await;
    let id = house.accept(1, None);
    house.end(id, State::Delivered, None);
    house.publish();
    stub.hears(3).await;
    house.notify.carrier_changed(CarrierKind::Up, "alpha", "");
    house.notify.carrier_changed(CarrierKind::Down, "alpha", "the last bind was lost");
    let heard = stub.hears(4).await;
    let some: Vec<_> =
        heard.iter().filter(|heard| heard.path == "/some").map(Heard::name).collect();
    assert_eq!(some, ["delivered 01", "carrier.down --"]);
    assert_eq!(heard[3].json()["data"]["carrier"], "alpha");
    house.close().await;
}

#[tokio::test]
async fn an_endpoint_that_wants_little_misses_nothing_among_much_that_it_does_not_want() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let mut house = House::open(dir.path(), &config(dir.path()));
    let kinds = vec![Kind::of("message.delivered").unwrap()];
    let draft = Draft { url: Some(stub.url("/some")), kinds: Some(kinds), ..Draft::default() };
    let (endpoint, _) = house.notify.create("shop", draft).await.unwrap();
    let mut wanted = Vec::new();
    let mut draw = crate::archive::Draw(5);
    for number in 0..2_000 {
        let id = house.accept(number, None);
        if draw.below(40) == 0 {
            house.end(id, State::Delivered, None);
            wanted.push(format!("delivered {:02}", number % 100));
        }
        if draw.below(60) == 0 {
            house.publish();
            tokio::task::yield_now().await;
        }
        if draw.below(200) == 0 {
            house.tailer.flush_all(START).unwrap();
        }
    }
    house.publish();
    stub.hears(wanted.len()).await;
    let mut heard = stub.names();
    heard.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(heard, wanted);
    let kinds = Some(vec![Kind::of("message.queued").unwrap()]);
    let change = Draft { kinds, ..Draft::default() };
    house.notify.update("shop", endpoint.id, change).await.unwrap();
    let late = house.accept(77, None);
    house.end(late, State::Delivered, None);
    house.publish();
    assert_eq!(stub.hears(wanted.len() + 1).await.last().unwrap().name(), "queued 77");
    house.close().await;
}

#[tokio::test]
async fn endpoints_are_their_owners_and_limited_and_deleted_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let config = Config { endpoints_per_client: 1, ..config(dir.path()) };
    let mut house = House::open(dir.path(), &config);
    let (endpoint, _) = house.endpoint(stub.url("/hook")).await;
    let draft = Draft { url: Some(stub.url("/two")), ..Draft::default() };
    let more = house.notify.create("shop", draft.clone()).await;
    assert!(matches!(more, Err(NotifyError::TooMany { most: 1 })));
    assert!(house.notify.create("bank", draft).await.is_ok());
    assert!(matches!(house.notify.find("bank", endpoint.id).await, Err(NotifyError::NotFound)));
    assert!(matches!(house.notify.delete("bank", endpoint.id).await, Err(NotifyError::NotFound)));
    house.notify.delete("shop", endpoint.id).await.unwrap();
    assert_eq!(house.notify.list("shop").await.unwrap(), []);
    house.accept(1, None);
    house.publish();
    house.close().await;
    assert_eq!(stub.heard().len(), 0);
    let house = House::open(dir.path(), &config);
    assert_eq!(house.notify.list("shop").await.unwrap(), []);
    house.close().await;
}

#[tokio::test]
async fn an_endpoint_of_the_config_is_changed_there_only() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let secret = Secret::from_octets(&[9; 32]).unwrap();
    let mut config = config(dir.path());
    let endpoint = EndpointConfig {
        client: "shop".to_owned(),
        url: stub.url("/hook"),
        secret: Some(secret.clone()),
        secret_file: None,
        events: Vec::new(),
        description: "the shop's".to_owned(),
    };
    config.endpoints.insert("crm".to_owned(), endpoint);
    let mut house = House::open(dir.path(), &config);
    house.accept(1, None);
    house.publish();
    assert!(stub.hears(1).await[0].is_signed_by(&secret));
    let listed = house.notify.list("shop").await.unwrap();
    assert_eq!((listed.len(), listed[0].description.as_str()), (1, "the shop's"));
    let id = listed[0].id;
    let change = Draft { description: Some(String::new()), ..Draft::default() };
    let changed = house.notify.update("shop", id, change).await;
    assert!(matches!(changed, Err(NotifyError::InConfig)));
    assert!(matches!(house.notify.rotate("shop", id).await, Err(NotifyError::InConfig)));
    assert!(matches!(house.notify.delete("shop", id).await, Err(NotifyError::InConfig)));
    house.close().await;
    config.endpoints.clear();
    let house = House::open(dir.path(), &config);
    assert_eq!(house.notify.list("shop").await.unwrap(), []);
    house.close().await;
}

#[tokio::test]
async fn a_test_event_is_sent_once_and_its_end_told() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let house = House::open(dir.path(), &config(dir.path()));
    let (endpoint, secret) = house.endpoint(stub.url("/hook")).await;
    stub.answer("/hook", &[418]);
    let result = house.notify.test("shop", endpoint.id).await.unwrap();
    assert_eq!((result.status, result.is_taken()), (Some(418), false));
    let heard = stub.hears(1).await;
    assert!(heard[0].is_signed_by(&secret));
    assert_eq!(heard[0].json()["type"], "webhook.test");
    house.close().await;
    assert_eq!(stub.heard().len(), 1);
}

/// All octets of the webhooks' file and of what SQLite keeps beside it.
fn octets_of(dir: &Path) -> Vec<u8> {
    let files = ["webhooks.db", "webhooks.db-wal"];
    files.iter().flat_map(|name| std::fs::read(dir.join(name)).unwrap_or_default()).collect()
}

/// The secrets of this file, in any form in which they could lie open.
fn lies_open(disk: &[u8], words: &str) -> bool {
    disk.windows(words.len()).any(|found| found == words.as_bytes())
}

#[tokio::test]
async fn secrets_urls_and_parked_events_lie_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let config = Config { retries: vec![Span::secs(3_600); 3], ..config(dir.path()) };
    let mut house = House::open(dir.path(), &config);
    stub.answer("/a-hidden-path", &[500]);
    let (endpoint, secret) = house.endpoint(stub.url("/a-hidden-path")).await;
    house.accept(7, None);
    house.publish();
    stub.hears(1).await;
    house.close().await;
    let disk = octets_of(dir.path());
    assert!(lies_open(&disk, "shop"), "what is not sealed");
    for hidden in [&*secret.reveal(), "a-hidden-path", "819000000007", "order-7"] {
        assert!(!lies_open(&disk, hidden), "{hidden} lies open");
    }
    let db = rusqlite::Connection::open(dir.path().join("webhooks.db")).unwrap();
    let parked = db.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, u32>(0));
    assert_eq!(parked.unwrap(), 1);
    let house = House::open_at(dir.path(), &config, house.log.end());
    let again = house.notify.rotate("shop", endpoint.id).await.unwrap();
    assert_ne!(again.reveal(), secret.reveal());
    let listed = house.notify.list("shop").await.unwrap();
    assert!(listed[0].url.ends_with("/a-hidden-path"), "{:?}", listed[0]);
    house.close().await;
}

/// The endpoint was away while the archive wrote much: what it missed is read from the files pack by
/// pack, and each pack once, however many events are under way at a time.
#[tokio::test]
async fn a_backlog_on_disk_is_read_pack_by_pack_and_comes_in_order() {
    const EVENTS: usize = 800;
    let dir = tempfile::tempdir().unwrap();
    let stub = Stub::start().await;
    let config = Config { callbacks: false, window: 20, ..config(dir.path()) };
    let mut archive_config = crate::archive::config(&dir.path().join("archive"));
    archive_config.recent_events = 50;
    let mut house = House::open_with(&config, &archive_config, Position(0));
    house.endpoint(stub.url("/hook")).await;
    house.close().await;
    for number in 0..EVENTS as u64 / 2 {
        let id = house.accept(number % 100, None);
        house.end(id, State::Delivered, None);
        if number % 40 == 39 {
            house.publish();
            house.tailer.flush(START).unwrap();
        }
    }
    let before = house.archive.packs_opened();
    house.run_again(&config);
    let heard = stub.hears(EVENTS).await;
    let mut queued = HashSet::new();
    for heard in &heard {
        let json = heard.json();
        let id = json["data"]["id"].as_str().unwrap().to_owned();
        match json["type"].as_str().unwrap() {
            "message.queued" => assert!(queued.insert(id), "told twice"),
            _ => assert!(queued.remove(&id), "the end before the beginning, or twice"),
        }
    }
    assert_eq!(heard.len(), EVENTS);
    let (opened, there) = (
        house.archive.packs_opened() - before,
        crate::feed::packs(&archive_config.dir, Some("shop")),
    );
    assert!(opened > 0 && opened <= there, "{opened} of {there} packs opened");
    house.close().await;
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_refused_by_name_and_tells_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let db = rusqlite::Connection::open(&config.file).unwrap();
    db.execute_batch("CREATE TABLE t (x); PRAGMA user_version = 9").unwrap();
    drop(db);
    let archive_config = crate::archive::config(&dir.path().join("archive"));
    let keys = crate::archive::keys();
    let (_tailer, archive) = hikyaku::archive::open(&archive_config, Position(0), &keys).unwrap();
    let open = || notify::open(&config, archive.clone(), Clock::start(), &keys);
    let error = open().unwrap_err().to_string();
    let wanted = "webhooks.db: expected layout 2 or older, found layout 9, which a newer hikyaku \
                  wrote; start that one, or move the file away with the endpoints that clients \
                  made and all deliveries under way";
    assert!(error.ends_with(wanted), "{error}");
    std::fs::remove_file(&config.file).unwrap();
    open().unwrap();
}
