//! A run: the process under load, what the plan does to it, and the way to quiet.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
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
use super::handsets;
use super::handsets::Handsets;
use super::hooks;
use super::hooks::Hook;
use super::hooks::Mood;
use super::plan::Due;
use super::plan::Ill;
use super::plan::Plan;
use super::proxy::Proxy;
use super::reader;
use super::reader::Event;
use super::reader::Reader;
use super::settings::Base;
use super::settings::Settings;
use crate::http::Client;
use crate::process::Carriers;
use crate::process::EXE;
use crate::process::free_port;
use crate::wrong_clock::WrongClock;

/// The octets of memory that the process may have for its data.
const MEMORY: u64 = 128 << 20;

/// SIGTERM.
const TERM: i32 = 15;

/// How long nothing at all may change before it is taken for stuck.
const STUCK: Duration = Duration::from_secs(90);

/// How long what was left at the end of the load may keep a process busy.
const LONGEST: Duration = Duration::from_secs(1_200);

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
    handsets: Handsets,
    /// What the configuration has of the clients' key.
    key: String,
    /// Whether the process is to be told that its configuration has changed.
    is_reload_due: bool,
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
    wrong_clock: WrongClock,
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
    pub(super) handsets: handsets::Book,
    /// How many processes there were.
    pub(super) starts: u64,
    /// When a SIGTERM began an exchange.
    pub(super) exchanges: Vec<Time>,
    /// What is left, when it does not come to its end.
    pub(super) stuck: Option<String>,
}

impl Run {
    pub(super) fn new(ground: Ground, draws: Draws) -> Self {
        let carriers = Carriers::new();
        let on = carriers.runtime.handle().clone();
        let ways: Vec<Way> = (0..2_u64)
            .map(|index| {
                let (carrier, port) = carriers.open(manners(index));
                Way { carrier, proxy: Proxy::open(&on, port) }
            })
            .collect();
        let hooks: Vec<Hook> = (0..2).map(|_| Hook::open(&on)).collect();
        let handsets = Handsets::new(ways.iter().map(|way| way.carrier.clone()).collect());
        let key = NewKey::generate().unwrap();
        let client = Client { port: free_port(), token: key.token };
        let run = Self {
            ground,
            ways,
            hooks,
            handsets,
            key: key.hash.to_string(),
            is_reload_due: false,
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
            wrong_clock: WrongClock::new(),
            done: BTreeMap::new(),
            exchanges: Vec::new(),
            starts: 0,
            vain_starts: 0,
            most_data: 0,
            _carriers: carriers,
        };
        run.settle_on(Settings::FIRST);
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

    /// Puts a configuration in the place of the one that is there, whole.
    fn settle_on(&self, settings: Settings) {
        let base = Base {
            data: &self.ground.data(),
            port: self.client.port,
            key: &self.key,
            hooks: &self.hooks,
            ways: self.ways.iter().map(|way| way.proxy.port).collect(),
        };
        let next = self.config().with_extension("next");
        std::fs::write(&next, settings.written(&base)).unwrap();
        std::fs::rename(next, self.config()).unwrap();
    }

    /// Has the process take another configuration.
    fn reload(&mut self, settings: Settings) {
        self.settle_on(settings);
        self.is_reload_due = true;
    }

    /// Tells the process that its configuration has changed, once it listens for that: one that is
    /// starting may have read the file before.
    fn tell_of_reload(&mut self) {
        if self.is_reload_due && self.child.as_ref().is_some_and(listens) {
            self.is_reload_due = false;
            self.signal("HUP");
        }
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
            handsets: self.handsets.book(),
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
            // First, since what cannot be there twice may begin again in the same turn.
            for due in lasting.extract_if(.., |due: &mut Due| due.until <= now) {
                self.end(due.ill);
            }
            while let Some(due) = dues.next_if(|due| due.at <= now) {
                // A turn may take longer than an ill and the pause behind it.
                for over in lasting.extract_if(.., |it: &mut Due| it.until <= due.at) {
                    self.end(over.ill);
                }
                self.begin(due.ill);
                lasting.push(due);
            }
            if self.draws.per_cent(3) {
                self.handsets.write(&mut self.draws);
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

    pub(super) fn begin(&mut self, ill: Ill) {
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
            Ill::Reload => {
                let settings = Settings::drawn(&mut self.draws);
                self.reload(settings);
            }
            Ill::HookFails => self.hooks[1].feel(Mood::Failing),
            Ill::HookDead => self.hooks[1].feel(Mood::Dead),
        }
    }

    pub(super) fn end(&mut self, ill: Ill) {
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
            Ill::Reload => self.reload(Settings::FIRST),
            Ill::HookFails | Ill::HookDead => self.hooks[1].feel(Mood::Well),
        }
    }

    fn end_flood(&mut self) {
        let Some((desk, clients)) = self.flood.take() else { return };
        desk.close();
        self.until_done(clients);
    }

    /// Waits for something, and sees that the process goes on.
    pub(super) fn until(&mut self, mut is_so: impl FnMut(&Self) -> bool) {
        while !is_so(self) {
            self.look_after();
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits for clients, which may wait for a process that is to be started.
    pub(super) fn until_done(&mut self, clients: Vec<JoinHandle<()>>) {
        self.until(|_| clients.iter().all(JoinHandle::is_finished));
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

    /// Kills the process that runs, if one does.
    pub(super) fn fell(&mut self) {
        if let Some(child) = self.child.take() {
            self.kill(child);
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
        let hears = hears_term(&child);
        signal(&child, "TERM");
        let status = child.wait().unwrap();
        let may_end = self.may_end(status) || !hears && status.signal() == Some(TERM);
        assert!(may_end, "stopped with {status}: {}", self.said());
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
        self.tell_of_reload();
    }

    /// Notes how much memory the process has for its data, which is what is limited.
    fn weigh(&mut self) {
        let Some(child) = &self.child else { return };
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        // On its way there it is a shell, and before that a copy of this process.
        if !status.starts_with("Name:\thikyaku\n") {
            return;
        }
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
        if self.draws.per_cent(50) {
            let shift = self.draws.between(0, 20).cast_signed() - 10;
            self.wrong_clock.shift(&mut command, shift);
        }
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

    /// What the process should never have said: that it panicked, that it does not take its
    /// configuration, a number, or a text.
    pub(super) fn improper(&self) -> Vec<String> {
        let log = self.whole_log();
        let improper = ["panicked", "reload refused", "kotoba4711", "飛脚"];
        // Times and ids have digits too, but not so many in a row.
        let is_number = |digits: &str| {
            digits.len() > 8 && ["819010", "819020"].iter().any(|start| digits.starts_with(start))
        };
        let is_improper = |line: &&str| {
            improper.iter().any(|word| line.contains(word))
                || line.split(|c: char| !c.is_ascii_digit()).any(is_number)
        };
        log.lines().filter(is_improper).map(|line| format!("the log says: {line}")).collect()
    }

    fn whole_log(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// What was done to the process.
    pub(super) fn told(&self) -> String {
        format!(
            "started {} times, {} times in vain on a full disk; {:?}; its configuration was taken \
             again {} times; the journal could not be written {} times; at most {} MiB of {} MiB for data; {}",
            self.starts,
            self.vain_starts,
            self.done,
            self.reloads(),
            self.failures(),
            self.most_data >> 10,
            MEMORY >> 20,
            self.ground.told()
        )
    }

    /// How often the journal could not be written.
    fn failures(&self) -> usize {
        self.whole_log().matches("the journal cannot write").count()
    }

    /// How often a full disk forbade a start.
    pub(super) const fn vain_starts(&self) -> u64 {
        self.vain_starts
    }

    /// How often a process took another configuration.
    fn reloads(&self) -> usize {
        self.whole_log().matches("reloaded: ").count()
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

    /// Waits until nothing changes any more; says what is left when it should have changed, or when
    /// it still does after a time in which all could have ended.
    fn until_quiet(&mut self, reader: &Reader) -> Option<String> {
        let begun = Instant::now();
        let (mut last, mut since) = (None, begun);
        loop {
            self.look_after();
            let live = self.metric("hikyaku_live_messages");
            let backlog = self.metric("hikyaku_webhook_backlog");
            let calls = self.hooks.iter().map(Hook::calls).sum::<u64>();
            let receipts = self.ways.iter().map(|way| way.carrier.tally().receipts).sum::<u64>();
            let untaken = self.handsets.untaken();
            let now = Some((live, backlog, calls, receipts, reader.count(), untaken));
            if now != last {
                (last, since) = (now, Instant::now());
            }
            let is_done = live == Some(0) && backlog == Some(0) && untaken == 0;
            if is_done && since.elapsed() > Duration::from_secs(3) {
                return None;
            }
            if since.elapsed() > STUCK || begun.elapsed() > LONGEST {
                return Some(format!(
                    "live {live:?}, webhooks that wait {backlog:?}, parts of handsets' messages \
                     that are not taken {untaken}, unchanged for {:.0?}; the log ends with\n{}",
                    since.elapsed(),
                    self.said()
                ));
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

/// Whether the process is there that was started, and catches SIGHUP, which ends others.
fn listens(child: &Child) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let is_there = std::fs::read_to_string(proc.join("comm")).is_ok_and(|it| it == "hikyaku\n");
    let status = std::fs::read_to_string(proc.join("status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    is_there && caught.is_some_and(|mask| mask & 1 != 0)
}

/// Whether the process takes SIGTERM itself: it may still be on its way to its program.
fn hears_term(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    let status = status.unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (TERM - 1)) != 0)
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    // It may have ended.
    let _ended = Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
}
