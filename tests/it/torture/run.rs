//! A run: the process under load, what the plan does to it, and the way to quiet.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::thread::JoinHandle;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use hikyaku::api::NewKey;
use hikyaku::clock::Clock;
use hikyaku::smsc;
use hikyaku::smsc::Carrier;
use hikyaku::smsc::Seen;
use hikyaku::time::Rate;
use hikyaku::time::Span;
use hikyaku::time::Time;

use super::clients;
use super::clients::Desk;
use super::draw::Draws;
use super::ground::Ground;
use super::hooks;
use super::hooks::Hook;
use super::hooks::Mood;
use super::plan::Ill;
use super::plan::Plan;
use super::proxy::Proxy;
use super::reader;
use super::reader::Event;
use super::reader::Reader;
use crate::http::Client;
use crate::process::Carriers;
use crate::process::EXE;
use crate::process::free_port;

/// Binds of each carrier.
pub(super) const BINDS: usize = 2;

/// The window of each bind.
pub(super) const WINDOW: usize = 20;

/// The most live messages.
const LIVE: usize = 600;

/// The octets of memory that the process may have for its data.
const MEMORY: u64 = 128 << 20;

/// How long nothing at all may change before it is taken for stuck.
const STUCK: Duration = Duration::from_secs(90);

/// A carrier and the way to it.
#[derive(Debug)]
struct Way {
    carrier: Carrier,
    proxy: Proxy,
}

/// Everything that takes part.
pub(super) struct Run {
    ground: Ground,
    pub(super) client: Client,
    ways: Vec<Way>,
    pub(super) hooks: Vec<Hook>,
    child: Option<Child>,
    /// When to start the process again.
    start_at: Option<Instant>,
    /// Whether the disk was full since the process was started.
    was_full: bool,
    flood: Option<(Desk, Vec<JoinHandle<()>>)>,
    desk: Desk,
    /// What the clients had accepted when the process was started.
    accepted_before: u64,
    /// Ends of the process that are due, each once so many more messages are accepted.
    ends: VecDeque<(Ill, u64)>,
    draws: Draws,
    clock: Clock,
    /// How often what was done.
    done: BTreeMap<String, u64>,
    exchanges: Vec<Time>,
    starts: u64,
    /// Starts that a full disk forbade.
    vain_starts: u64,
    /// The most KiB of data that a process was seen with.
    most_data: u64,
    _carriers: Carriers,
}

/// What everybody wrote down.
pub(super) struct Books {
    pub(super) desk: Desk,
    pub(super) read: Vec<Event>,
    pub(super) whole: Vec<Event>,
    pub(super) seen: Vec<Vec<Seen>>,
    pub(super) hooks: Vec<hooks::Book>,
    /// How many processes there were.
    pub(super) starts: u64,
    /// When a SIGTERM began an exchange.
    pub(super) exchanges: Vec<Time>,
    /// What is left, when it does not come to its end.
    pub(super) stuck: Option<String>,
}

impl Run {
    pub(super) fn new(draws: Draws) -> Self {
        let carriers = Carriers::new();
        let on = carriers.runtime.handle().clone();
        let ways: Vec<Way> = (0..2_u64)
            .map(|index| {
                let (carrier, port) = carriers.open(manners(index));
                Way { carrier, proxy: Proxy::open(&on, port) }
            })
            .collect();
        let hooks: Vec<Hook> = (0..2).map(|_| Hook::open(&on)).collect();
        let ground = Ground::new();
        let key = NewKey::generate().unwrap();
        let client = Client { port: free_port(), token: key.token };
        let run = Self {
            ground,
            ways,
            hooks,
            child: None,
            start_at: None,
            was_full: false,
            flood: None,
            desk: Desk::new(client.clone()),
            client,
            accepted_before: 0,
            ends: VecDeque::new(),
            draws,
            clock: Clock::start(),
            done: BTreeMap::new(),
            exchanges: Vec::new(),
            starts: 0,
            vain_starts: 0,
            most_data: 0,
            _carriers: carriers,
        };
        std::fs::write(run.config(), run.settings(&key.hash.to_string())).unwrap();
        // What is built meanwhile is another matter.
        std::fs::copy(EXE, run.exe()).unwrap();
        run
    }

    fn config(&self) -> PathBuf {
        self.ground.dir().join("hikyaku.toml")
    }

    fn exe(&self) -> PathBuf {
        self.ground.dir().join("hikyaku")
    }

    fn settings(&self, key: &str) -> String {
        let mut settings = format!(
            "data_dir = {:?}\ndrain = \"2s\"\n\
             [log]\nlevel = \"info,hikyaku::audit=warn\"\n[api]\nlisten = \"127.0.0.1:{}\"\n\
             [api.limits]\nconnections = 256\nbodies_octets = 4194304\nbatch_octets = 1048576\n\
             [api.clients.test]\nkeys = [\"{key}\"]\nrate = \"100000/s\"\n\
             request_rate = \"100000/s\"\nscopes = [\"messages:write\", \"messages:read\", \
             \"messages:read_content\", \"webhooks\"]\n\
             [dispatch]\nlive_limit = {LIVE}\nbody_bytes = 1048576\nclean_above_bytes = 2097152\n\
             [journal]\nsegment_bytes = 262144\nbatch_bytes = 1048576\npending_bytes = 8388608\n\
             retry = \"100ms\"\n\
             [archive]\nflush_every = \"200ms\"\nwrite_live_after = \"1s\"\n\
             pending_messages = 2000\nrecent_events = 1000\n\
             [webhooks]\nnetworks = [\"127.0.0.0/8\"]\ntimeout = \"2s\"\nbreaker_failures = 100000\n\
             retries = [{}]\n",
            self.ground.data(),
            self.client.port,
            ["\"300ms\"", "\"1s\"", "\"1s\""].join(", ") + &", \"2s\"".repeat(40),
        );
        for (index, hook) in self.hooks.iter().enumerate() {
            settings += &format!(
                "[webhooks.endpoints.hook{index}]\nclient = \"test\"\n\
                 url = \"http://127.0.0.1:{}/\"\nsecret = \"whsec_{}\"\n",
                hook.port, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
            );
        }
        for (index, way) in self.ways.iter().enumerate() {
            settings += &format!(
                "[carriers.c{index}]\nhost = \"127.0.0.1\"\nport = {}\nsystem_id = \"t\"\n\
                 rate = \"400/s\"\nbinds = {BINDS}\n[carriers.c{index}.receipts]\n\
                 timeout = \"8s\"\n[carriers.c{index}.session]\nwindow = {WINDOW}\n\
                 [carriers.c{index}.session.timers]\nresponse = \"3s\"\nenquire_link = \"1s\"\n\
                 enquire_link_response = \"2s\"\n[carriers.c{index}.reconnect]\nmin = \"50ms\"\n\
                 max = \"500ms\"\n",
                way.proxy.port
            );
        }
        settings
            + "[[routes]]\nname = \"all\"\ncarriers = [\"c0\", \"c1\"]\n\
               [routes.otp]\nno_bind = \"1s\"\nno_answer = \"2s\"\n"
    }

    /// Starts the process, and somebody who reads its feed.
    pub(super) fn open(&mut self) -> (Desk, Reader) {
        self.start();
        self.until_ready();
        (self.desk.clone(), Reader::start(self.client.clone()))
    }

    /// Puts load on the process while the plan is carried out.
    pub(super) fn suffer(&mut self, plan: &Plan, desk: &Desk) {
        let mut draws = plan.draws.clone();
        let clients = (0..4).map(|_| desk.staff(clients::Manner::Steady, draws.fork()));
        let clients: Vec<_> = clients.collect();
        self.carry_out(plan);
        desk.close();
        self.until_ready();
        self.until_done(clients);
    }

    /// Waits for quiet and takes everybody's books.
    pub(super) fn close(&mut self, desk: Desk, reader: Reader) -> Books {
        let stuck = self.until_quiet(&reader);
        Books {
            desk,
            whole: reader::whole(&self.client),
            read: reader.end(),
            seen: self.ways.iter().map(|way| way.carrier.seen()).collect(),
            hooks: self.hooks.iter().map(Hook::book).collect(),
            starts: self.starts,
            exchanges: self.exchanges.clone(),
            stuck,
        }
    }

    /// Does what the plan says at its times.
    fn carry_out(&mut self, plan: &Plan) {
        let begun = Instant::now();
        let mut dues = plan.dues.iter().copied().peekable();
        let mut lasting = Vec::new();
        loop {
            let now = begun.elapsed();
            while let Some(due) = dues.next_if(|due| due.at <= now) {
                self.begin(due.ill);
                lasting.push(due);
            }
            for due in lasting.extract_if(.., |due| due.until <= now) {
                self.end(due.ill);
            }
            self.look_after();
            self.weigh();
            self.end_process();
            let is_over = lasting.is_empty() && dues.peek().is_none() && self.ends.is_empty();
            if now > plan.load && is_over {
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn begin(&mut self, ill: Ill) {
        *self.done.entry(ill.name()).or_default() += 1;
        match ill {
            // In mid-load, or while it is still starting.
            Ill::Kill | Ill::Exchange => {
                let least = if self.draws.per_cent(20) { 0 } else { self.draws.between(1, 60) };
                self.ends.push_back((ill, least));
            }
            Ill::Freeze => self.signal("STOP"),
            Ill::Full => {
                self.was_full = true;
                self.ground.fill(self.child.as_ref().map(Child::id));
            }
            Ill::Flood => {
                self.ways.iter().for_each(|way| way.proxy.close());
                let desk = self.desk.aside();
                let clients = (0..4).map(|_| desk.staff(clients::Manner::Flood, self.draws.fork()));
                let clients = clients.collect();
                self.flood = Some((desk, clients));
            }
            Ill::Cut(way) => self.ways[way].proxy.cut(self.draws.per_cent(50)),
            Ill::Away(way) => self.ways[way].proxy.close(),
            Ill::StallThere(way) => self.ways[way].proxy.stall(true, false),
            Ill::StallBack(way) => self.ways[way].proxy.stall(false, true),
            Ill::Delay(way) => self.ways[way].proxy.delay(self.draws.millis(5, 300)),
            Ill::Trickle(way) => {
                let piece = self.draws.between(1, 64);
                self.ways[way].proxy.trickle(usize::try_from(piece).unwrap());
            }
            Ill::HookFails => self.hooks[1].feel(Mood::Failing),
            Ill::HookDead => self.hooks[1].feel(Mood::Dead),
        }
    }

    fn end(&mut self, ill: Ill) {
        match ill {
            Ill::Kill | Ill::Exchange | Ill::Cut(_) => {}
            Ill::Freeze => self.signal("CONT"),
            Ill::Full => self.ground.free(self.child.as_ref().map(Child::id)),
            Ill::Flood => {
                self.end_flood();
                self.ways.iter().for_each(|way| way.proxy.calm());
            }
            Ill::Away(way)
            | Ill::StallThere(way)
            | Ill::StallBack(way)
            | Ill::Delay(way)
            | Ill::Trickle(way) => self.ways[way].proxy.calm(),
            Ill::HookFails | Ill::HookDead => self.hooks[1].feel(Mood::Well),
        }
    }

    fn end_flood(&mut self) {
        let Some((desk, clients)) = self.flood.take() else { return };
        desk.close();
        self.until_done(clients);
    }

    /// Waits for clients, which may wait for a process that is to be started.
    fn until_done(&mut self, clients: Vec<JoinHandle<()>>) {
        while clients.iter().any(|client| !client.is_finished()) {
            self.look_after();
            sleep(Duration::from_millis(5));
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
    }

    /// Ends the process that runs when that is due.
    fn end_process(&mut self) {
        let accepted = self.desk.accepted() - self.accepted_before;
        let due = self.ends.front().copied().filter(|(_, least)| *least <= accepted);
        if let Some((ill, _)) = due
            && let Some(child) = self.child.take()
        {
            self.ends.pop_front();
            match ill {
                Ill::Kill => self.kill(child),
                _ => self.exchange(child),
            }
        }
    }

    fn kill(&mut self, mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
        self.start_at = Some(Instant::now() + self.draws.millis(0, 400));
    }

    /// Stops the process in good order and starts another binary.
    fn exchange(&mut self, mut child: Child) {
        self.exchanges.push(self.clock.now());
        signal(&child, "CONT");
        signal(&child, "TERM");
        let status = child.wait().unwrap();
        assert!(self.may_end(status), "stopped with {status}: {}", self.said());
        let next = self.exe().with_extension("next");
        std::fs::copy(self.exe(), &next).unwrap();
        std::fs::rename(next, self.exe()).unwrap();
        self.start_at = Some(Instant::now());
    }

    fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            signal(child, name);
        }
    }

    /// Starts what is to be started, and sees that what runs goes on.
    fn look_after(&mut self) {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().unwrap()
        {
            assert!(self.was_full, "ended by itself with {status}: {}", self.said());
            assert!(self.may_end(status), "ended with {status} on a full disk: {}", self.said());
            self.vain_starts += 1;
            self.child = None;
            self.start_at = Some(Instant::now() + Duration::from_millis(100));
        }
        if self.start_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.start();
        }
    }

    /// Notes how much memory the process has for its data, which is what is limited.
    fn weigh(&mut self) {
        let Some(child) = &self.child else { return };
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
        let data = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        self.most_data = self.most_data.max(data.unwrap_or_default());
    }

    /// Whether the process may end like this: well, or with an error that it tells.
    fn may_end(&self, status: ExitStatus) -> bool {
        status.success() || self.was_full && status.code() == Some(1)
    }

    fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let exe = self.exe();
        let mut command = self.ground.command(exe.to_str().unwrap(), MEMORY);
        command.arg("run").arg("-c").arg(self.config()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        self.starts += 1;
        self.accepted_before = self.desk.accepted();
        self.was_full = self.ground.is_full();
    }

    fn log(&self) -> PathBuf {
        self.ground.dir().join("log")
    }

    /// The last lines of the process's log.
    pub(super) fn said(&self) -> String {
        let log = self.whole_log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// What the process should never have said: that it panicked, a number, or a text.
    pub(super) fn improper(&self) -> Vec<String> {
        let log = self.whole_log();
        let improper = ["panicked", "819010", "4711", "飛脚"];
        let is_improper = |line: &&str| improper.iter().any(|word| line.contains(word));
        log.lines().filter(is_improper).map(|line| format!("the log says: {line}")).collect()
    }

    fn whole_log(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// What was done to the process.
    pub(super) fn told(&self) -> String {
        format!(
            "started {} times, {} times in vain on a full disk; {:?}; the journal could not be \
             written {} times; at most {} MiB of {} MiB for data; {}",
            self.starts,
            self.vain_starts,
            self.done,
            self.whole_log().matches("the journal cannot write").count(),
            self.most_data >> 10,
            MEMORY >> 20,
            self.ground.told()
        )
    }

    fn until_ready(&mut self) {
        loop {
            self.look_after();
            if self.client.get("/readyz").is_some_and(|answer| answer.status == 200) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nothing changes any more; says what is left when it should have changed.
    fn until_quiet(&mut self, reader: &Reader) -> Option<String> {
        let (mut last, mut since) = (None, Instant::now());
        loop {
            self.look_after();
            let live = self.metric("hikyaku_live_messages");
            let backlog = self.metric("hikyaku_webhook_backlog");
            let calls = self.hooks.iter().map(Hook::calls).sum::<u64>();
            let receipts = self.ways.iter().map(|way| way.carrier.tally().receipts).sum::<u64>();
            let now = Some((live, backlog, calls, receipts, reader.count()));
            if now != last {
                (last, since) = (now, Instant::now());
            }
            let is_done = live == Some(0) && backlog == Some(0);
            if is_done && since.elapsed() > Duration::from_secs(3) {
                return None;
            }
            if since.elapsed() > STUCK {
                return Some(format!("live {live:?}, webhooks that wait {backlog:?}"));
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// The sum over all series of a metric.
    pub(super) fn metric(&self, name: &str) -> Option<u64> {
        let text = self.client.get("/metrics")?.text;
        let series = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|it| it.starts_with(['{', ' '])));
        series.map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Keeps what there is for whoever looks into a failure, and says where.
    pub(super) fn keep(&self, seed: u64) -> PathBuf {
        let to = std::env::temp_dir().join(format!("hikyaku-torture-{seed}"));
        self.ground.keep(&to);
        to
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// How a carrier behaves: the second one is slower and bears less.
fn manners(index: u64) -> smsc::Config {
    smsc::Config {
        receipt_delay: [Span::millis(1), Span::millis(800)],
        latency: [Span::millis(1), Span::millis(60 + index * 100)],
        out_of_order_per_mille: 20,
        early_receipt_per_mille: 20,
        rate: (index == 1).then(|| Rate::per_second(150)),
        magic_numbers: false,
        seed: index + 1,
        ..smsc::Config::default()
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    // It may have ended.
    let _ended = Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
}
