//! Data that an older release left: this one opens it, finds everything, and goes on with it.
//!
//! `tests/fixtures/format-*` are data folders as each released format left them after a SIGKILL,
//! with `told.json`: what the clients and endpoints of that time knew. When a format changes,
//! `HIKYAKU_BLESS=1 cargo test --test it upgrade` keeps one of the new format beside the others.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use hikyaku::api::KeyHash;
use hikyaku::api::NewKey;
use hikyaku::message::Record;
use hikyaku::pdu::CommandStatus;
use hikyaku::smsc;
use hikyaku::smsc::Carrier;
use hikyaku::time::Span;
use hikyaku::time::Time;
use rusqlite::Connection;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::http::Client;
use crate::process::Carriers;
use crate::process::Daemon;
use crate::process::EXE;
use crate::process::free_port;

/// A data folder and what surrounds it: two carriers, of which the second may be away, and an
/// endpoint for webhooks.
struct Place {
    dir: TempDir,
    client: Client,
    hash: KeyHash,
    near: (Carrier, u16),
    far_port: u16,
    hook: Hook,
    _carriers: Carriers,
}

/// An endpoint that takes every event, or none while it is closed.
#[derive(Clone)]
struct Hook {
    /// Who opens a fixture listens where no fixture was made: whatever holds by now the port that a
    /// fixture's endpoint had would take what is owed to it.
    address: SocketAddr,
    /// Event ids, in the order in which they were taken.
    taken: Arc<Mutex<Vec<String>>>,
}

impl Hook {
    fn open(on: &Handle, takes: bool) -> Self {
        let last = if takes { 2 } else { 1 };
        let listen = TcpListener::bind(SocketAddr::from(([127, 0, 0, last], 0)));
        let listener = on.block_on(listen).unwrap();
        let hook = Self { address: listener.local_addr().unwrap(), taken: Arc::default() };
        let taken = Arc::clone(&hook.taken);
        let router = Router::new().fallback(async move |headers: HeaderMap, _: Bytes| {
            if !takes {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            taken.lock().unwrap().push(id);
            StatusCode::NO_CONTENT
        });
        on.spawn(async move { axum::serve(listener, router).await });
        hook
    }
}

fn manners() -> smsc::Config {
    smsc::Config { receipt_delay: [Span::millis(1), Span::millis(50)], ..smsc::Config::default() }
}

impl Place {
    fn new(client: Client, hash: KeyHash, takes_webhooks: bool, far_is_there: bool) -> Self {
        let carriers = Carriers::new();
        let near = carriers.open(manners());
        let far_port = if far_is_there { carriers.open(manners()).1 } else { free_port() };
        let hook = Hook::open(carriers.runtime.handle(), takes_webhooks);
        let place = Self {
            dir: TempDir::new().unwrap(),
            client,
            hash,
            near,
            far_port,
            hook,
            _carriers: carriers,
        };
        fs::write(place.config(), place.settings()).unwrap();
        place
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("hikyaku.toml")
    }

    /// Nothing here runs out: a fixture must be as good in years as it is today.
    fn settings(&self) -> String {
        let carrier = |name: &str, port: u16| {
            format!(
                "[carriers.{name}]\nhost = \"127.0.0.1\"\nport = {port}\nsystem_id = \"t\"\n\
                 rate = \"1000/s\"\n[carriers.{name}.receipts]\ntimeout = \"3650d\"\n\
                 [carriers.{name}.reconnect]\nmin = \"100ms\"\n"
            )
        };
        format!(
            "data_dir = {:?}\ndrain = \"1s\"\n[api]\nlisten = \"127.0.0.1:{}\"\n\
             [api.messages]\nttl_max = \"3650d\"\nschedule_max = \"3650d\"\n\
             [api.messages.ttl]\notp = \"3650d\"\ntransactional = \"3650d\"\n\
             marketing = \"3650d\"\n\
             [api.clients.shop]\nkeys = [\"{}\"]\nrequest_rate = \"10000/s\"\n\
             scopes = [\"messages:write\", \"messages:read\", \"messages:read_content\", \
             \"webhooks\"]\n\
             [dispatch]\nidempotency_ttl = \"366d\"\n[archive]\nkeep_days = 3660\n\
             flush_every = \"100ms\"\nwrite_live_after = \"200ms\"\nstore_text = true\n\
             [archive.inbound_owners]\n\"*\" = \"shop\"\n\
             [seal]\nkeep = \"3660d\"\n\
             [webhooks]\nnetworks = [\"{}/32\"]\nbreaker_failures = 100000\n\
             retries = [{}]\n[webhooks.endpoints.written]\nclient = \"shop\"\n\
             url = \"http://{}/\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
             {}{}[[routes]]\nname = \"near\"\ncarriers = [\"near\"]\n\
             [[routes]]\nname = \"far\"\ncarriers = [\"far\"]\n[routes.match]\n\
             class = [\"marketing\"]\n",
            self.data(),
            self.client.port,
            self.hash,
            self.hook.address.ip(),
            ["\"2s\""; 50].join(", "),
            self.hook.address,
            carrier("near", self.near.1),
            carrier("far", self.far_port),
        )
    }

    fn start(&self) -> Daemon {
        Daemon::start(&self.config(), &self.dir.path().join("log"), &self.client)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn accept(&self, key: &str, body: &Value) -> String {
        let headers = format!("idempotency-key: {key}\r\n");
        let answer = self.client.call_with("POST", "/v1/messages", &headers, Some(body)).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    fn state(&self, id: &str) -> String {
        let answer = self.client.get(&format!("/v1/messages/{id}")).unwrap();
        assert_eq!(answer.status, 200, "{id}: {}\n{}", answer.text, self.said());
        answer.body["state"].as_str().unwrap().to_owned()
    }

    fn until(&self, id: &str, state: &str) {
        while self.state(id) != state {
            sleep(Duration::from_millis(10));
        }
    }

    /// The feed from a cursor on.
    fn feed(&self, after: Option<&str>) -> Vec<Value> {
        let (mut events, mut next) = (Vec::new(), after.map(ToOwned::to_owned));
        loop {
            let after = next.as_ref().map(|it| format!("&after={it}")).unwrap_or_default();
            let page = self.client.get(&format!("/v1/events?limit=200{after}")).unwrap().body;
            events.extend(page["events"].as_array().unwrap().iter().cloned());
            let cursor = page["next"].as_str().unwrap().to_owned();
            if next.replace(cursor.clone()) == Some(cursor) {
                return events;
            }
        }
    }
}

/// Versions of everything that is written, by what it is.
fn formats(data: &Path) -> BTreeMap<String, u32> {
    let mut formats = BTreeMap::new();
    let segment = files(&data.join("journal"), "log").pop().unwrap();
    let octets = fs::read(segment).unwrap();
    formats.insert("segment".into(), u32::from_le_bytes(octets[8..12].try_into().unwrap()));
    let (carrier, carrier_message_id) = ("a".into(), "1".into());
    let mut record = Vec::new();
    Record::OrphanDropped { at: Time::ZERO, carrier, carrier_message_id }.encode(&mut record);
    formats.insert("record".into(), record[0].into());
    for name in DATABASES {
        let db = Connection::open(database(data, name)).unwrap();
        let version = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        formats.insert(name.to_owned(), version);
    }
    formats
}

/// What lies in SQLite's files: a day's messages, how far the archive is, the webhooks.
const DATABASES: [&str; 3] = ["day", "archive", "webhooks"];

fn database(data: &Path, name: &str) -> PathBuf {
    let archive = data.join("archive").join("archive.db");
    match name {
        "webhooks" => data.join("webhooks.db"),
        "archive" => archive,
        _ => files(&data.join("archive"), "db").into_iter().rfind(|it| *it != archive).unwrap(),
    }
}

/// The files of a folder with this ending, by name.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|it| it.extension().is_some_and(|e| e == ending)).collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Each fixture with what was known of it.
fn all_fixtures() -> Vec<(PathBuf, Value)> {
    let folders = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|it| it.join("told.json").is_file()).collect();
    folders.sort();
    let told =
        |it: &Path| serde_json::from_slice(&fs::read(it.join("told.json")).unwrap()).unwrap();
    folders.into_iter().map(|it| (it.clone(), told(&it))).collect()
}

fn body(to: &str, class: &str) -> Value {
    json!({ "to": to, "text": "飛脚", "class": class })
}

/// Makes a data folder with some of everything, ended by a SIGKILL; gives what its clients know.
fn make() -> (Place, Value) {
    let key = NewKey::generate().unwrap();
    let client = Client { port: free_port(), token: key.token.clone() };
    let place = Place::new(client, key.hash, false, false);
    let daemon = place.start();
    let hook = json!({ "url": format!("http://{}/made", place.hook.address) });
    let hook = place.client.post("/v1/webhooks", &hook).unwrap();
    assert_eq!(hook.status, 201, "{}", hook.text);
    let long = json!({ "to": "+819012341111", "text": "飛脚".repeat(335) });
    let mut ids = BTreeMap::new();
    for (name, body, state) in [
        ("delivered", body("+819012342222", "otp"), "delivered"),
        ("long", long, "delivered"),
        ("undeliverable", body("+819012340002", "transactional"), "undeliverable"),
        ("rejected", body("+819012340001", "transactional"), "rejected"),
        ("no_receipt", body("+819012340004", "transactional"), "submitted"),
        ("no_answer", body("+819012340009", "transactional"), "submitting"),
        ("waiting", body("+819012343333", "marketing"), "queued"),
    ] {
        let id = place.accept(name, &body);
        place.until(&id, state);
        ids.insert(name, (id, state));
    }
    let scheduled = json!({
        "to": "+819012344444", "text": "飛脚", "send_at": "2036-01-01T00:00:00Z",
    });
    ids.insert("scheduled", (place.accept("scheduled", &scheduled), "scheduled"));
    let events = place.feed(None);
    // What has been there for a while is in the archive's file.
    sleep(Duration::from_millis(500));
    daemon.kill();
    let made_at = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let told = json!({
        "formats": formats_of_copy(&place.data()), "made_at": made_at, "token": key.token,
        "hash": key.hash.to_string(), "hook": hook.body["id"], "events": events,
        "messages": ids.iter().map(|(name, (id, state))| {
            ((*name).to_owned(), json!({ "id": id, "state": state }))
        }).collect::<serde_json::Map<_, _>>(),
    });
    (place, told)
}

/// Looks into a copy: opening a database may change its files.
fn formats_of_copy(data: &Path) -> BTreeMap<String, u32> {
    let aside = TempDir::new().unwrap();
    copy(data, aside.path());
    formats(aside.path())
}

#[test]
fn every_format_that_is_written_is_kept() {
    let (place, told) = make();
    let is_kept = all_fixtures().iter().any(|(_, kept)| kept["formats"] == told["formats"]);
    if !is_kept && std::env::var_os("HIKYAKU_BLESS").is_some() {
        let to = (1..).map(|n| fixtures().join(format!("format-{n}"))).find(|it| !it.exists());
        let to = to.unwrap();
        let data = to.join("data");
        copy(&place.data(), &data);
        // SQLite makes these anew.
        for shared in
            files(&data, "db-shm").into_iter().chain(files(&data.join("archive"), "db-shm"))
        {
            fs::remove_file(shared).unwrap();
        }
        let told = serde_json::to_string_pretty(&told).unwrap() + "\n";
        fs::write(to.join("told.json"), told).unwrap();
        return;
    }
    assert!(is_kept, "a format is new: {}; HIKYAKU_BLESS=1 keeps a fixture of it", told["formats"]);
}

/// A place with a copy of a fixture's data.
fn opened(fixture: &Path, told: &Value) -> Place {
    let text = |key: &str| told[key].as_str().unwrap().to_owned();
    let client = Client { port: free_port(), token: text("token") };
    let place = Place::new(client, text("hash").parse().unwrap(), true, true);
    copy(&fixture.join("data"), &place.data());
    place
}

#[test]
fn what_an_older_release_left_is_found_and_goes_on() {
    for (fixture, told) in all_fixtures() {
        let place = opened(&fixture, &told);
        let daemon = place.start();
        let hook = format!("/v1/webhooks/{}", told["hook"].as_str().unwrap());
        let moved = json!({ "url": format!("http://{}/made", place.hook.address) });
        let moved = place.client.call("PATCH", &hook, Some(&moved)).unwrap();
        assert_eq!(moved.status, 200, "{}: {}", fixture.display(), moved.text);
        finds_all(&place, &told);
        takes_up_what_lives(&place, &told);
        sends_what_webhooks_are_owed(&place, &told);
        // What is written now and what was there before are one again.
        daemon.kill();
        let daemon = place.start();
        finds_all(&place, &told);
        assert_eq!(place.state(told["messages"]["waiting"]["id"].as_str().unwrap()), "delivered");
        assert!(daemon.stop().success(), "{}", place.said());
    }
}

/// What had ended is as it was, the feed begins as it did, and keys are remembered.
fn finds_all(place: &Place, told: &Value) {
    for (name, message) in told["messages"].as_object().unwrap() {
        let (id, state) = (message["id"].as_str().unwrap(), message["state"].as_str().unwrap());
        if name != "waiting" && name != "scheduled" {
            assert_eq!(place.state(id), state, "{name}\n{}", place.said());
        }
        let found = place.client.get(&format!("/v1/messages/{id}")).unwrap().body;
        let text = if name == "long" { "飛脚".repeat(335) } else { "飛脚".to_owned() };
        assert_eq!(found["text"], text, "{name}");
    }
    let before = told["events"].as_array().unwrap();
    let now = place.feed(None);
    assert_eq!(&now[..before.len()], before, "{}", place.said());
    let middle = &before[before.len() / 2];
    let resumed = place.feed(middle["cursor"].as_str());
    // More may have happened between the two.
    let rest = &now[before.len() / 2 + 1..];
    assert_eq!(&resumed[..rest.len()], rest);
    let age = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let age = age - told["made_at"].as_u64().unwrap();
    // The longest time that a key can be remembered is 366 days.
    if age < 360 * 86_400 {
        let delivered = &told["messages"]["delivered"]["id"];
        assert_eq!(place.accept("delivered", &body("+819012342222", "otp")), *delivered);
    }
}

/// What waited for its carrier goes out, what waits for its time can be withdrawn, and nothing is
/// sent that was sent before.
fn takes_up_what_lives(place: &Place, told: &Value) {
    let id = |name: &str| told["messages"][name]["id"].as_str().unwrap();
    place.until(id("waiting"), "delivered");
    let scheduled = id("scheduled");
    assert_eq!(place.state(scheduled), "scheduled");
    let cancel = format!("/v1/messages/{scheduled}/cancel");
    let cancelled = place.client.post(&cancel, &json!({})).unwrap();
    assert_eq!(cancelled.body["state"], "cancelled", "{}", cancelled.text);
    let again = place.near.0.seen();
    let again = again.iter().filter(|seen| seen.status == CommandStatus::ESME_ROK).count();
    assert_eq!(again, 0, "sent again, although the class forbids it");
}

/// Both endpoints, the written one and the one that the client made, get what they were owed.
fn sends_what_webhooks_are_owed(place: &Place, told: &Value) {
    let owed = place.feed(None);
    assert!(owed.len() > told["events"].as_array().unwrap().len());
    loop {
        let taken = place.hook.taken.lock().unwrap().clone();
        let times = |event: &Value| taken.iter().filter(|id| event["id"] == **id).count();
        if owed.iter().all(|event| times(event) >= 2) {
            return;
        }
        sleep(Duration::from_millis(20));
    }
}

/// Makes one change to a copy of the newest fixture and gives what the start says to it.
fn refused(change: impl FnOnce(&Path)) -> String {
    let (fixture, told) = all_fixtures().pop().unwrap();
    let place = opened(&fixture, &told);
    change(&place.data());
    let mut run = std::process::Command::new(EXE);
    let output = run.arg("run").arg("-c").arg(place.config()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_a_newer_release_wrote_is_refused_by_name() {
    let segment = refused(|data| {
        let newest = files(&data.join("journal"), "log").pop().unwrap();
        let mut octets = fs::read(&newest).unwrap();
        octets[8] = 99;
        fs::write(newest, octets).unwrap();
    });
    assert!(segment.contains("version 99, which a newer hikyaku wrote"), "{segment}");
    for name in DATABASES {
        let said = refused(|data| {
            let db = Connection::open(database(data, name)).unwrap();
            db.pragma_update(None, "user_version", 99).unwrap();
        });
        assert!(
            said.contains("layout 99, which a newer hikyaku wrote; start that one"),
            "{name}: {said}"
        );
    }
}
