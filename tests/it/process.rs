//! The real process: its commands, its signals, its death and what is left after it.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use hikyaku::api::NewKey;
use hikyaku::clock::Clock;
use hikyaku::pdu::CommandStatus;
use hikyaku::smsc;
use hikyaku::smsc::Carrier;
use hikyaku::smsc::Server;
use hikyaku::time::Span;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::Client;

pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_hikyaku");

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn hikyaku(arguments: &[&str]) -> Output {
    Command::new(EXE).args(arguments).output().unwrap()
}

pub(crate) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Simulated carriers in this process.
pub(crate) struct Carriers {
    pub(crate) runtime: Runtime,
    shutdown: CancellationToken,
}

impl Carriers {
    pub(crate) fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        Self { runtime, shutdown: CancellationToken::new() }
    }

    pub(crate) fn open(&self, config: smsc::Config) -> (Carrier, u16) {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let bind = async { Server::bind(config, address, Clock::start()).await };
        let server = self.runtime.block_on(bind).unwrap();
        let (carrier, port) = (server.carrier(), server.local_addr().unwrap().port());
        carrier.remember();
        let run = server.run(self.shutdown.clone(), TaskTracker::new());
        self.runtime.spawn(run);
        (carrier, port)
    }
}

impl Drop for Carriers {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A gateway's data and configuration; the process over them may die and come back.
pub(crate) struct House {
    dir: TempDir,
    pub(crate) client: Client,
}

/// A running `hikyaku run`.
pub(crate) struct Daemon {
    child: Child,
}

impl House {
    /// `rest` is the part of the configuration about carriers and routes.
    pub(crate) fn new(rest: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let key = NewKey::generate().unwrap();
        let port = free_port();
        let config = format!(
            "data_dir = {:?}\ndrain = \"5s\"\n[api]\nlisten = \"127.0.0.1:{port}\"\n\
             [api.clients.test]\nkeys = [\"{}\"]\nrate = \"100000/s\"\nrequest_rate = \"100000/s\"\n\
             scopes = [\"messages:write\", \"messages:read\", \"messages:read_content\", \
             \"webhooks\"]\n{rest}",
            dir.path().join("data"),
            key.hash
        );
        std::fs::write(dir.path().join("hikyaku.toml"), config).unwrap();
        Self { dir, client: Client { port, token: key.token } }
    }

    pub(crate) fn config(&self) -> std::path::PathBuf {
        self.dir.path().join("hikyaku.toml")
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("log")
    }

    /// Starts the daemon and returns when it takes messages.
    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(&self.config(), &self.log(), &self.client)
    }

    /// Starts the daemon by this command, which ends before the arguments.
    pub(crate) fn start_by(&self, mut run: Command) -> Daemon {
        run.arg("run").arg("-c").arg(self.config());
        Daemon::of(run, &self.log(), &self.client)
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Polls a message until it is terminal.
    pub(crate) fn end_of(&self, id: &str) -> Value {
        for _ in 0..60 {
            let path = format!("/v1/messages/{id}?wait=10s");
            let Some(answer) = self.client.get(&path) else { continue };
            assert_eq!(answer.status, 200, "{id}: {}\n{}", answer.text, self.said());
            let state = answer.body["state"].as_str().unwrap();
            if !matches!(state, "scheduled" | "queued" | "submitting" | "submitted") {
                return answer.body;
            }
        }
        let timeline = self.client.get(&format!("/v1/messages/{id}/timeline"));
        panic!("{id} does not end: {timeline:?}\n{}", self.said());
    }
}

impl Daemon {
    /// Starts it and returns when it takes messages.
    pub(crate) fn start(config: &Path, log: &Path, client: &Client) -> Self {
        let mut run = Command::new(EXE);
        run.arg("run").arg("-c").arg(config);
        Self::of(run, log, client)
    }

    fn of(mut run: Command, log: &Path, client: &Client) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut child = run.stderr(file).spawn().unwrap();
        loop {
            if client.get("/readyz").is_some_and(|answer| answer.status == 200) {
                return Self { child };
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("ended with {status}: {}", std::fs::read_to_string(log).unwrap());
            }
            std::thread::yield_now();
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and the end of the process.
    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have been waited for.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// One carrier named `one` over everything.
pub(crate) fn one_carrier(port: u16) -> String {
    format!(
        "[carriers.one]\nhost = \"127.0.0.1\"\nport = {port}\nsystem_id = \"t\"\nrate = \"2000/s\"\n\
         [carriers.one.receipts]\ntimeout = \"4s\"\n[carriers.one.session]\nwindow = 50\n\
         [carriers.one.reconnect]\nmin = \"100ms\"\n[[routes]]\nname = \"all\"\ncarriers = [\"one\"]\n"
    )
}

pub(crate) fn quick() -> smsc::Config {
    smsc::Config {
        receipt_delay: [Span::millis(1), Span::millis(300)],
        latency: [Span::millis(1), Span::millis(50)],
        magic_numbers: false,
        ..smsc::Config::default()
    }
}

#[test]
fn a_message_goes_out_and_its_receipt_comes_back() {
    let carriers = Carriers::new();
    let (carrier, port) = carriers.open(quick());
    let house = House::new(&one_carrier(port));
    let daemon = house.start();
    let body = json!({"to": "090-1234-5678", "text": "飛脚".repeat(335)});
    let answer = house.client.post("/v1/messages", &body).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.body["segments"], 10);
    assert_eq!(answer.body["encoding"], "ucs2");
    assert_eq!(answer.body["route"], "all");
    let message = house.end_of(answer.body["id"].as_str().unwrap());
    assert_eq!(message["state"], "delivered", "{message}");
    assert_eq!(carrier.tally().accepted, 10);
    assert!(daemon.stop().success());
    assert!(!house.said().contains("9012345678"), "a number is in the log");
}

#[test]
fn a_daily_quota_survives_a_kill() {
    let house = House::new(&one_carrier(free_port()));
    let config = std::fs::read_to_string(house.config()).unwrap();
    let config = config.replace("[api.clients.test]", "[api.clients.test]\ndaily_quota = 3");
    std::fs::write(house.config(), config).unwrap();
    let send = || house.client.post("/v1/messages", &json!({"to": "+819012345678", "text": "a"}));
    let daemon = house.start();
    let taken = [send(), send()].map(|answer| answer.unwrap().status);
    daemon.kill();
    let daemon = house.start();
    let then = [send(), send()].map(|answer| answer.unwrap());
    assert_eq!((taken, then[0].status, then[1].status), ([202; 2], 202, 429), "{:?}", then[1]);
    assert_eq!(then[1].body["code"], "quota_exceeded");
    assert!(daemon.stop().success());
}

/// What clients were promised: id by destination.
type Promises = Arc<Mutex<BTreeMap<String, String>>>;

/// Hands messages in until told to stop; remembers each that was answered 202.
fn hand_in(client: Client, next: Arc<AtomicU64>, promises: Promises, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let to = format!("8190{:08}", next.fetch_add(1, Ordering::Relaxed));
        let body = json!({"to": format!("+{to}"), "text": "hello"});
        if let Some(answer) = client.post("/v1/messages", &body)
            && answer.status == 202
        {
            let id = answer.body["id"].as_str().unwrap().to_owned();
            promises.lock().unwrap().insert(to, id);
        }
    }
}

#[test]
fn a_kill_in_mid_load_loses_nothing_and_doubles_nothing() {
    let carriers = Carriers::new();
    let (carrier, port) = carriers.open(quick());
    let house = House::new(&one_carrier(port));
    let promises = Promises::default();
    let next = Arc::new(AtomicU64::new(10_000_000));
    for round in 1..=4 {
        let daemon = house.start();
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (client, next) = (house.client.clone(), next.clone());
                let (promises, stop) = (promises.clone(), stop.clone());
                std::thread::spawn(move || hand_in(client, next, promises, stop))
            })
            .collect();
        while promises.lock().unwrap().len() < round * 150 {
            std::thread::yield_now();
        }
        daemon.kill();
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
    }
    let daemon = house.start();
    let mut ends = BTreeMap::<String, usize>::new();
    for id in promises.lock().unwrap().values() {
        let state = house.end_of(id)["state"].as_str().unwrap().to_owned();
        *ends.entry(state).or_default() += 1;
    }
    assert!(ends["delivered"] > promises.lock().unwrap().len() / 2, "{ends:?}");
    assert!(ends.keys().all(|state| state == "delivered" || state == "unknown"), "{ends:?}");
    let mut seen = BTreeMap::<String, usize>::new();
    for submit in carrier.seen() {
        if submit.status == CommandStatus::ESME_ROK {
            *seen.entry(submit.submit.destination.addr.to_text_lossy()).or_default() += 1;
        }
    }
    let doubled: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "no answer is no refusal, yet these went out again: {doubled:?}");
    assert!(daemon.stop().success());
}

#[test]
fn a_stop_leaves_what_waits_for_the_next_start() {
    let carriers = Carriers::new();
    let dead = free_port();
    let house = House::new(&one_carrier(dead));
    let daemon = house.start();
    let body = json!({"to": "+819012345678", "text": "later"});
    let answer = house.client.post("/v1/messages", &body).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert!(daemon.stop().success());
    let (_, port) = carriers.open(quick());
    let config = std::fs::read_to_string(house.config()).unwrap();
    let config = config.replace(&format!("port = {dead}"), &format!("port = {port}"));
    std::fs::write(house.config(), config).unwrap();
    let _daemon = house.start();
    assert_eq!(house.end_of(answer.body["id"].as_str().unwrap())["state"], "delivered");
}

#[test]
fn a_stop_while_it_starts_is_a_stop_in_good_order() {
    let house = House::new(&one_carrier(free_port()));
    for start in 1..=5 {
        let log = std::fs::File::options().create(true).append(true).open(house.log()).unwrap();
        let mut run = Command::new(EXE);
        let child = run.arg("run").arg("-c").arg(house.config()).stderr(log).spawn().unwrap();
        let daemon = Daemon { child };
        while house.said().matches("read the journal").count() < start {
            std::thread::yield_now();
        }
        let status = daemon.stop();
        assert!(status.success(), "{status}: {}", house.said());
        assert_eq!(house.said().matches("stopped").count(), start, "{}", house.said());
    }
}

#[test]
fn as_many_sockets_are_open_as_the_system_allows_and_too_few_are_told() {
    let house = House::new("");
    let mut run = Command::new("sh");
    run.arg("-c").arg("ulimit -Sn 200 && ulimit -Hn 1000 && exec \"$0\" run -c \"$1\"");
    run.arg(EXE).arg(house.config());
    let daemon = Daemon::of(run, &house.log(), &house.client);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("1000"), "{files}");
    assert!(house.said().contains("limit=1000 wanted=16512"), "{}", house.said());
    assert!(house.said().contains("LimitNOFILE"), "{}", house.said());
    assert!(daemon.stop().success());
}

#[test]
fn a_second_process_is_kept_out_of_the_data() {
    let house = House::new(&one_carrier(free_port()));
    let _daemon = house.start();
    let config = std::fs::read_to_string(house.config()).unwrap();
    let other = house.config().with_file_name("other.toml");
    let moved = config.replace(
        &format!("127.0.0.1:{}", house.client.port),
        &format!("127.0.0.1:{}", free_port()),
    );
    std::fs::write(&other, moved).unwrap();
    let output = hikyaku(&["run", "-c", other.to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("journal"), "{}", text(&output.stderr));
}

#[test]
fn init_prints_a_configuration_that_check_accepts() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("hikyaku.toml");
    let sample = hikyaku(&["init"]);
    assert!(sample.status.success());
    std::fs::write(&path, &sample.stdout).unwrap();
    let check = hikyaku(&["check", path.to_str().unwrap()]);
    assert!(check.status.success(), "{}", text(&check.stderr));
    assert!(text(&check.stdout).contains("[carriers.example]"));
}

#[test]
fn check_names_every_fault_with_its_place_and_shows_no_secret() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("hikyaku.toml");
    let bad = "[api]\nlisten = \"nowhere\"\n[carriers.a]\nhost = \"h\"\nsystem_id = \"s\"\n\
               rate = \"fast\"\npasword = \"x\"\n";
    std::fs::write(&path, bad).unwrap();
    let check = hikyaku(&["check", path.to_str().unwrap()]);
    let said = text(&check.stderr);
    assert_eq!(check.status.code(), Some(1), "{said}");
    for place in [":2:10", ":6:8", ":7:1", "3 faults"] {
        assert!(said.contains(place), "{place} is not in\n{said}");
    }
    std::fs::write(&path, bad.lines().take(2).collect::<Vec<_>>().join("\n")).unwrap();
    let one = hikyaku(&["check", path.to_str().unwrap()]);
    let said = text(&one.stderr);
    assert!(said.ends_with(&format!("1 fault in {}\n", path.display())), "{said}");
}

#[test]
fn route_explains_its_choice() {
    let house = House::new(&one_carrier(1));
    let config = house.config();
    let output = hikyaku(&["route", "-c", config.to_str().unwrap(), "090-1234-5678"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(said.contains("route all: taken") && said.contains("carrier 1: one"), "{said}");
}

#[test]
fn a_reload_with_faults_changes_nothing_and_a_good_one_keeps_the_binds() {
    let carriers = Carriers::new();
    let (carrier, port) = carriers.open(quick());
    let house = House::new(&one_carrier(port));
    let daemon = house.start();
    let pid = daemon.child.id().to_string();
    let hang_up = || assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let until_said = |words: &str| {
        while !house.said().contains(words) {
            std::thread::yield_now();
        }
    };
    let good = std::fs::read_to_string(house.config()).unwrap();
    std::fs::write(house.config(), "nonsense = 1\n").unwrap();
    hang_up();
    until_said("reload refused");
    std::fs::write(house.config(), good.replace("rate = \"2000/s\"", "rate = \"1000/s\"")).unwrap();
    hang_up();
    until_said("untouched: one");
    let body = json!({"to": "+819012345678", "text": "still here"});
    let answer = house.client.post("/v1/messages", &body).unwrap();
    assert_eq!(house.end_of(answer.body["id"].as_str().unwrap())["state"], "delivered");
    assert_eq!(carrier.tally().accepted, 1);
    assert!(daemon.stop().success());
}

/// The lines of the README's first block behind the command.
fn first_block() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let block = readme.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    let (command, rest) = block.split_once('\n').unwrap();
    assert_eq!(command, "$ cargo run --release -- demo");
    rest.trim_end().to_owned()
}

#[test]
fn the_readme_shows_what_the_demo_does() {
    let port = free_port();
    let mut child = Command::new(EXE)
        .args(["demo", "--listen", &format!("127.0.0.1:{port}")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (lines, said) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        stdout.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line)));
    });
    let _daemon = Daemon { child };
    let expected = first_block();
    let shown: Vec<String> =
        expected.lines().map(|_| said.recv().unwrap().replace(&port.to_string(), "8080")).collect();
    assert_eq!(shown.join("\n"), expected);
    let curl = shown.iter().skip_while(|line| !line.starts_with("curl")).cloned();
    let curl: Vec<String> = curl.collect();
    let curl = curl.join("\n").replace("8080", &port.to_string());
    let output = Command::new("bash").args(["-c", &format!("{curl} -s")]).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr))
    });
    assert_eq!(answer["encoding"], "ucs2", "{answer}");
    assert_eq!(answer["segments"], 1);
    assert_eq!(answer["route"], "japan");
    let id = answer["id"].as_str().unwrap();
    let told = said.iter().find(|line| line.starts_with("delivered")).unwrap();
    assert!(told.starts_with(&format!("delivered {id} ")), "{told}");
}
