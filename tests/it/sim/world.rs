//! One world: everything there is, on one thread and one clock.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use hikyaku::dispatch::Effect;
use hikyaku::dispatch::Event;
use hikyaku::dispatch::Notice;
use hikyaku::dispatch::Reply;
use hikyaku::dispatch::Ticket;
use hikyaku::dispatch::Token;
use hikyaku::journal::sim::Chances;
use hikyaku::journal::sim::SimDisk;
use hikyaku::message::Content;
use hikyaku::message::EncodingChoice;
use hikyaku::message::IdSource;
use hikyaku::message::Idempotency;
use hikyaku::message::MessageId;
use hikyaku::message::Position;
use hikyaku::message::Record;
use hikyaku::message::Submission;
use hikyaku::pdu::Body;
use hikyaku::pdu::CommandStatus;
use hikyaku::route::Query;
use hikyaku::route::Routes;
use hikyaku::route::Seed;
use hikyaku::time::Time;

use super::books::Books;
use super::carrier::Carrier;
use super::carrier::SENDER;
use super::carrier::message_of;
use super::carrier::receipt_id;
use super::coverage::Coverage;
use super::door::Door;
use super::door::Inside;
use super::draw::Draws;
use super::feed::Feed;
use super::hooks::Hook;
use super::plan::BUSY;
use super::plan::Fault;
use super::plan::Plan;
use super::plan::Request;
use super::plan::Version;
use super::process::NoStart;
use super::process::Process;
use super::process::Start;
use super::story::Broken;
use super::story::Kept;
use super::story::Story;
use super::story::broken;
use super::truth::Message;
use super::truth::Truth;
use super::wire::Net;

/// When every world begins.
pub(super) const START: Time = Time::from_secs(1_800_000_000);

/// When every message must have ended.
const DEADLINE: Duration = Duration::from_secs(3 * 3_600);

/// How long nothing may happen before all is checked: longer than early receipts wait.
const QUIET: Duration = Duration::from_secs(100);

/// The first ticket of those who ask the dispatcher itself; a door counts from zero.
const DIRECT: u64 = 1 << 40;

/// The longest that a client waits to ask again when it is told to.
const PATIENT: Duration = Duration::from_secs(90);

/// The longest that is waited for something when nothing is to happen.
const TICK: Duration = Duration::from_secs(1);

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Time,
    pub(super) plan: Plan,
    /// Of each version of the config.
    pub(super) routes: Vec<Routes>,
    /// From when on each version was in force.
    versions: Vec<Time>,
    pub(super) draws: Draws,
    net: Net,
    pub(super) carriers: Vec<Carrier>,
    pub(super) disk: SimDisk,
    pub(super) process: Option<Process>,
    restart_at: Time,
    suspended_until: Time,
    /// How far the log was read as it became durable.
    pub(super) tail: Position,
    /// Each record that was read so: where it is, and a hash of it.
    pub(super) log: Vec<(Position, u64)>,
    /// Below this the dispatcher needs nothing, and what was trimmed last.
    trim: (Position, Position),
    pub(super) feed: Feed,
    pub(super) books: Option<Books>,
    pub(super) hooks: Vec<Hook>,
    /// How often the counter of unknown outcomes went up, and whether a crash lost any record.
    pub(super) unknowns: u64,
    pub(super) has_crashed: bool,
    /// Whether the disk lies by now, and whether the power has failed on that.
    is_lied_to: bool,
    is_ended: bool,
    pub(super) clients: Vec<Client>,
    /// When who reads how it stands with its message.
    pub(super) reads: Vec<(Time, usize)>,
    cancels: Vec<(Time, MessageId)>,
    pub(super) tickets: BTreeMap<Ticket, (usize, Asked)>,
    next_ticket: u64,
    /// For the story.
    tokens: HashMap<Token, usize>,
    ids: IdSource,
    faults: VecDeque<(Duration, Fault)>,
    /// When the disk's troubles are over.
    disk_well_at: Option<Time>,
    slow_until: (Time, Duration),
    pub(super) truth: Truth,
    pub(super) coverage: Coverage,
    pub(super) story: Story,
    pub(super) steps: u64,
    /// How many turns there were since when.
    turns: (Time, u32),
}

/// One request and who makes it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) request: Request,
    pub(super) next: Next,
    pub(super) tries: u32,
}

/// What a client does next.
#[derive(Debug)]
pub(super) enum Next {
    Ask(Time),
    Await { until: Time },
    Rest,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    Killed,
    /// With its machine; perhaps nobody tells its peers.
    PowerLost {
        is_silent: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Accept,
    Cancel,
}

impl World {
    pub(super) fn new(seed: u64, is_told: bool) -> Self {
        let mut plan = Plan::draw(seed);
        let mut draws = Draws::new(!seed);
        let delays = plan.carriers.iter().map(|carrier| carrier.delay).collect();
        let known = plan.carriers.iter().map(|it| (it.name.clone(), it.rate)).collect();
        let truth = Truth::new(known, plan.versions[0].dispatch.reference_hold.0);
        let carriers = (0..).zip(&plan.carriers);
        let carriers = carriers
            .map(|(number, it)| Carrier::new(it.clone(), number, START, draws.fork()))
            .collect();
        let requests = std::mem::take(&mut plan.requests);
        let clients = requests.into_iter().map(|request| Client {
            next: Next::Ask(START + request.at),
            request,
            tries: 0,
        });
        let mut world = Self {
            now: START,
            routes: plan.versions.iter().map(Version::routes).collect(),
            versions: vec![START],
            net: Net::new(draws.fork(), delays),
            carriers,
            disk: SimDisk::new(draws.next()),
            process: None,
            restart_at: START,
            suspended_until: START,
            tail: Position(0),
            log: Vec::new(),
            trim: (Position(0), Position(0)),
            feed: Feed::new(),
            books: plan.has_archive.then(|| Books::new(draws.fork())),
            hooks: (0..plan.hooks).map(|_| Hook::new(START, BUSY, draws.fork())).collect(),
            unknowns: 0,
            has_crashed: false,
            is_lied_to: false,
            is_ended: false,
            clients: clients.collect(),
            reads: Vec::new(),
            cancels: Vec::new(),
            tickets: BTreeMap::new(),
            next_ticket: DIRECT,
            tokens: HashMap::new(),
            ids: IdSource::new(draws.next()),
            faults: plan.faults.iter().copied().collect(),
            disk_well_at: None,
            slow_until: (START, Duration::ZERO),
            truth,
            coverage: Coverage::default(),
            story: Story::new(is_told),
            steps: 0,
            turns: (START, 0),
            draws,
            plan,
        };
        for client in &world.clients {
            world.truth.messages.push(Message::to(&client.request.to));
        }
        world
    }

    /// Lives until nothing more happens, and holds everything to the promises.
    pub(super) fn live(&mut self) -> Kept {
        let mut quiet_since = START + BUSY;
        while self.now < quiet_since + QUIET || !self.is_quiet() {
            if !self.is_over() {
                quiet_since = self.now.max(START + BUSY);
            }
            if self.now > START + DEADLINE {
                let stuck = |it: &Message| it.is_accepted() && it.finish.is_none();
                let message = self.truth.messages.iter().position(stuck);
                return broken(message, "never ends");
            }
            let next =
                self.next().unwrap_or(Time::MAX).min((quiet_since + QUIET).max(self.now + TICK));
            self.stands_still(next)?;
            self.now = self.now.max(next);
            self.step()?;
            if self.is_ended {
                return Ok(());
            }
        }
        self.settle_up()
    }

    /// What the gateway's clock says.
    pub(super) fn local(&self) -> Time {
        self.truth.skew.local(self.now)
    }

    /// Which versions of the config were in force in that instant, in which more than one reload
    /// may be.
    pub(super) fn versions_at(&self, at: Time) -> RangeInclusive<usize> {
        let before = self.versions.iter().rposition(|from| *from < at).unwrap_or(0);
        before..=self.versions.iter().rposition(|from| *from <= at).unwrap_or(0)
    }

    /// Whether the config had no such carrier then.
    pub(super) fn lacked_carrier(&self, number: usize, at: Time) -> bool {
        self.versions_at(at).any(|version| self.plan.versions[version].rates[number].is_none())
    }

    fn version(&self) -> &Version {
        &self.plan.versions[self.versions.len() - 1]
    }

    /// Whether something wants its turn again and again and does nothing with it.
    fn stands_still(&mut self, next: Time) -> Kept {
        /// Thirty times what the busiest second of any world was seen to take.
        const TURNS_A_SECOND: u32 = 20_000;
        let (since, turns) = &mut self.turns;
        if next >= *since + Duration::from_secs(1) {
            (*since, *turns) = (next, 0);
        }
        *turns += 1;
        if *turns < TURNS_A_SECOND {
            return Ok(());
        }
        let process = self.process.as_ref().and_then(Process::next);
        let carriers: Vec<_> = self.carriers.iter().map(Carrier::next).collect();
        let net = self.net.next(self.suspended_until);
        broken(None, format!("time hardly passes: {process:?} {carriers:?} {net:?}"))
    }

    /// Whether all that was to happen has, and every message has ended.
    fn is_over(&self) -> bool {
        self.faults.is_empty()
            && self.clients.iter().all(|client| matches!(client.next, Next::Rest))
            && self.truth.messages.iter().all(|it| !it.is_accepted() || it.finish.is_some())
    }

    /// Whether nothing is under way.
    fn is_quiet(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_idle)
            && self.carriers.iter().all(Carrier::is_quiet)
    }

    fn next(&self) -> Option<Time> {
        let clients = self.clients.iter().filter_map(|client| match client.next {
            Next::Ask(at) | Next::Await { until: at } => Some(at),
            Next::Rest => None,
        });
        let process = match &self.process {
            Some(process) => {
                let hooks = self.hooks.iter().filter_map(|hook| hook.next(&self.feed));
                process.next().into_iter().chain(hooks).min().map(|at| at.max(self.suspended_until))
            }
            None => Some(self.restart_at),
        };
        let [from, end] = self.plan.lie.map_or([None; 2], |(from, end)| [from, end].map(Some));
        let lie = if self.is_lied_to { end } else { from }.map(|at| START + at);
        let carriers = self.carriers.iter().filter_map(Carrier::next);
        let fault = self.faults.front().map(|(at, _)| START + *at);
        let cancels = self.cancels.iter().map(|(at, _)| *at);
        let reads = self.reads.iter().map(|(at, _)| *at);
        let rest = [self.net.next(self.suspended_until), process, fault, self.disk_well_at, lie];
        clients.chain(carriers).chain(cancels).chain(reads).chain(rest.into_iter().flatten()).min()
    }

    /// Everything that is due now.
    fn step(&mut self) -> Kept {
        self.steps += 1;
        self.heal_disk();
        self.lie()?;
        if self.is_ended {
            return Ok(());
        }
        while self.faults.front().is_some_and(|(at, _)| START + *at <= self.now) {
            if let Some((_, fault)) = self.faults.pop_front() {
                self.strike(fault)?;
            }
            if self.is_ended {
                return Ok(());
            }
        }
        for carrier in &mut self.carriers {
            carrier.turn(self.now, &mut self.net, &mut self.coverage);
        }
        if self.process.is_none() && self.restart_at <= self.now {
            self.start()?;
        }
        self.ask();
        if self.now < self.suspended_until {
            return Ok(());
        }
        self.turn()?;
        self.turn_behind()
    }

    // The process.

    fn start(&mut self) -> Kept {
        let clock = self.wall_clock();
        let start = Start {
            world: self.now,
            clock,
            plan: &self.plan,
            version: &self.plan.versions[self.versions.len() - 1],
            disk: &self.disk,
            durable: self.tail,
        };
        match Process::start(&start, &mut self.net, &mut self.draws) {
            Ok(process) => {
                let skew = process.skew;
                self.story.tell(self.now, None, || format!("the process starts, {skew:?}"));
                self.coverage.count_if(skew.local(self.now) > clock, "clock behind its records");
                self.coverage.count_if(clock > self.now, "clock ahead");
                self.truth.restarted();
                if let Some(books) = &mut self.books {
                    books.start(process.reader.end())?;
                }
                let process = self.with_door(process);
                self.hooks.iter_mut().for_each(Hook::start);
                self.process = Some(process);
                // What is durable by now was written by the clock of the process before.
                self.follow_log()?;
                self.truth.skew = skew;
                self.net.skew = skew;
                Ok(())
            }
            Err(NoStart::Later) => {
                self.coverage.count("start put off: the disk refuses".into());
                self.restart_at = self.now + Duration::from_secs(1);
                Ok(())
            }
            Err(NoStart::Crashed) if self.is_lied_to => self.lose_what_was_lied_of(),
            Err(NoStart::Crashed) => {
                self.coverage.count("fault crash while starting".into());
                self.disk = self.disk.restart(self.draws.next());
                self.restart_at = self.now + Duration::from_secs(1);
                Ok(())
            }
            Err(NoStart::Broken(how)) => Err(how),
        }
    }

    /// The process with a door before it, when this world has one.
    fn with_door(&mut self, mut process: Process) -> Process {
        let archive = self.books.as_ref().and_then(Books::archive);
        let (Some(plan), Some(archive)) = (self.plan.door, archive) else { return process };
        let version = &self.plan.versions[self.versions.len() - 1];
        process.door = Some(Door::open(Inside {
            plan,
            now: process.skew.local(self.now),
            ids: IdSource::new(self.draws.next()),
            routes: version.routes(),
            shedding: version.dispatch.shedding,
            archive,
            durable: process.reader.end(),
        }));
        process
    }

    /// What the machine says when the process starts: it may have been set wrong, or right.
    fn wall_clock(&mut self) -> Time {
        let error = self.draws.millis(1_000, 400_000);
        match self.draws.below(6) {
            0 => self.now - error,
            1 => self.now + error,
            _ => self.now,
        }
    }

    /// The process is gone; what the disk keeps is in `self.disk` already.
    fn die(&mut self, death: Death) {
        let Some(process) = self.process.take() else { return };
        let is_silent = death == Death::PowerLost { is_silent: true };
        for connection in process.links.iter().filter_map(super::link::Link::connection) {
            self.net.abandon(self.now, connection, is_silent);
        }
        self.restart_at = self.now + self.draws.millis(1_000, 20_000);
        self.suspended_until = self.now;
        self.trim = (Position(0), Position(0));
        if let Some(books) = &mut self.books {
            books.die(death, &mut self.coverage);
        }
        for hook in &mut self.hooks {
            hook.die(&mut self.coverage);
        }
        for (about, asked) in std::mem::take(&mut self.tickets).into_values() {
            if asked == Asked::Accept {
                self.lost_answer(about);
            }
        }
    }

    fn turn(&mut self) -> Kept {
        let here = self.local();
        let Some(process) = &mut self.process else { return Ok(()) };
        for link in &mut process.links {
            let before = link.connection();
            link.turn(here, &mut self.net);
            if let Some(connection) = link.connection().filter(|it| Some(*it) != before) {
                self.carriers[link.carrier].accept(self.now, connection);
            }
        }
        let mut told = Vec::new();
        if let Some(failed) = process.end_sync(here) {
            self.coverage.count_if(failed, "sync failed");
            if self.disk.crashed() {
                return self.crash();
            }
            if failed {
                self.story.tell(self.now, None, || "a sync fails".into());
            }
        }
        self.turn_door()?;
        let Some(process) = &mut self.process else { return Ok(()) };
        process.think(here, &mut told)?;
        for event in told {
            self.tell_event(&event);
        }
        self.follow_log()?;
        self.act()?;
        self.turn_door()?;
        let sync = if self.now < self.slow_until.0 {
            self.slow_until.1
        } else {
            Duration::from_micros(self.draws.between(self.plan.sync[0], self.plan.sync[1]))
        };
        if let Some(process) = &mut self.process {
            process.commit()?;
            process.begin_sync(here, sync);
        }
        Ok(())
    }

    /// What stands behind the dispatcher: the archive, the webhooks, the housekeeper.
    fn turn_behind(&mut self) -> Kept {
        let here = self.local();
        let Some(process) = &mut self.process else { return Ok(()) };
        if let Some(books) = &mut self.books {
            books.follow(here, &process.reader, &mut self.coverage)?;
            if books.is_torn() {
                self.story.tell(self.now, None, || "power lost as the archive writes".into());
                return self.strike(Fault::PowerLoss);
            }
        }
        for hook in &mut self.hooks {
            hook.turn(self.now, &self.feed, &mut self.coverage);
        }
        let passed = self.books.as_ref().map_or(self.tail, Books::passed);
        let below = self.trim.0.min(self.tail).min(passed);
        if below <= self.trim.1 {
            return Ok(());
        }
        self.trim.1 = below;
        if let Some(books) = &mut self.books {
            books.forget(below);
        }
        let trimmed = process.trimmer.trim(below);
        self.coverage.count_if(trimmed.is_ok(), "effect trim");
        if self.disk.crashed() {
            return self.crash();
        }
        Ok(())
    }

    fn crash(&mut self) -> Kept {
        if self.is_lied_to {
            return self.lose_what_was_lied_of();
        }
        self.story.tell(self.now, None, || "power lost within an operation of the disk".into());
        self.coverage.count("fault crash at an operation".into());
        self.has_crashed = true;
        self.disk = self.disk.restart(self.draws.next());
        self.die(Death::PowerLost { is_silent: true });
        Ok(())
    }

    /// Reads what has become durable, as the archive does.
    fn follow_log(&mut self) -> Kept {
        let Some(process) = &self.process else { return Ok(()) };
        let mut follow = process.reader.follow(self.tail);
        while let Some(next) = follow.next_record() {
            let record = next.map_err(|error| Broken {
                message: None,
                how: format!("the log cannot be followed: {error}"),
            })?;
            let (position, octets) = record;
            self.log.push((position, hash(octets)));
            let record = Record::decode(octets).map_err(|error| Broken {
                message: None,
                how: format!("the log holds what is no record: {error}"),
            })?;
            self.feed.take(position, &record)?;
            let about = self.truth.message(&record);
            if about.is_some() {
                self.story.tell(self.now, about, || format!("durable: {}", short(&record)));
            }
            self.truth.durable(self.now, &record, &mut self.coverage)?;
        }
        self.tail = follow.at();
        Ok(())
    }

    fn act(&mut self) -> Kept {
        let here = self.local();
        while let Some(effect) =
            self.process.as_mut().and_then(|process| process.dispatch.poll_effect())
        {
            match effect {
                Effect::Reply { ticket, reply } => self.reply(ticket, &reply)?,
                Effect::Submit { bind, token, body } => {
                    let Some(process) = &mut self.process else { return Ok(()) };
                    let link = process.links.iter_mut().find(|link| link.bind == bind).unwrap();
                    let mut about = None;
                    if let Body::SubmitSm(submit) = &body {
                        about = message_of(submit.source.addr.as_bytes());
                        self.story.tell(self.now, about, || {
                            let (reference, total, segment) = super::carrier::parts(submit);
                            format!("leaves: {bind:?} {reference:?} {segment} of {total}")
                        });
                        self.tokens.extend(about.map(|about| (token, about)));
                        self.truth.leaves(self.now, link.carrier, submit)?;
                    }
                    self.coverage.count(format!("effect {}", body.command_id()));
                    if !link.submit(here, &mut self.net, token, body) {
                        return broken(about, "more requests than the window has room for");
                    }
                }
                Effect::Acknowledge { bind, sequence_number, status } => {
                    let Some(process) = &mut self.process else { return Ok(()) };
                    let link = process.links.iter_mut().find(|link| link.bind == bind).unwrap();
                    let carrier = link.carrier;
                    let body = link.acknowledge(here, &mut self.net, sequence_number, status);
                    if let Some(body) = body.filter(|_| status == CommandStatus::ESME_ROK) {
                        self.taken(carrier, &body)?;
                    }
                }
                Effect::Fetch { id, position } => {
                    let at = here + self.draws.millis(0, 3);
                    self.coverage.count("effect fetch".into());
                    if let Some(process) = &mut self.process {
                        process.fetch(at, id, position);
                    }
                }
                Effect::Trim { before } => self.trim.0 = self.trim.0.max(before),
                Effect::Notice(notice) => self.notice(&notice),
            }
        }
        Ok(())
    }

    fn taken(&mut self, carrier: usize, body: &Body) -> Kept {
        let Body::DeliverSm(deliver) = body else { return Ok(()) };
        let id = receipt_id(deliver);
        let about = message_of(deliver.destination.addr.as_bytes());
        if about.is_some() {
            self.story.tell(self.now, about, || format!("receipt {id:?} is answered"));
        }
        let Some((plain, about, _)) = self.carriers[carrier].read_receipt(body) else {
            return self.truth.takes_inbound(carrier);
        };
        let segment = self.carriers[carrier].segment_of(&plain);
        self.truth.takes(carrier, &id.unwrap_or_default(), about, segment)
    }

    fn notice(&mut self, notice: &Notice) {
        let text = format!("{notice:?}");
        let name = text.split([' ', '{']).next().unwrap_or_default().to_owned();
        self.unknowns += u64::from(matches!(notice, Notice::SegmentUnknown { .. }));
        self.coverage.count(format!("notice {name}"));
    }

    fn tell_event(&mut self, event: &Event) {
        let what = match event {
            Event::Accept { submission, .. } => {
                let about = self.truth.by_id.get(&submission.id).copied();
                return self.story.tell(self.now, about, || format!("asked: {}", submission.id));
            }
            Event::Answered { bind, token, status, .. } => {
                let about = self.tokens.get(token).copied();
                return self.story.tell(self.now, about, || {
                    format!("heard: {status} on {} {}", bind.carrier, bind.index)
                });
            }
            Event::Cancel { id, .. } | Event::Fetched { id, .. } => {
                let about = self.truth.by_id.get(id).copied();
                let what = if matches!(event, Event::Cancel { .. }) { "cancel" } else { "body" };
                self.coverage.count(format!("event {what}"));
                return self.story.tell(self.now, about, || format!("asked: {what}"));
            }
            Event::TimedOut { bind, token } => {
                let about = self.tokens.get(token).copied();
                self.coverage.count("event TimedOut".into());
                return self.story.tell(self.now, about, || {
                    format!("heard: no answer in time on {} {}", bind.carrier, bind.index)
                });
            }
            Event::Delivered { body: Body::DeliverSm(deliver), bind, .. } => {
                let about = message_of(deliver.destination.addr.as_bytes());
                let id = receipt_id(deliver);
                return self
                    .story
                    .tell(self.now, about, || format!("heard: receipt {id:?} on {bind:?}"));
            }
            other => {
                let text = format!("{other:?}");
                let name = text.split([' ', '{']).next().unwrap_or_default().to_owned();
                self.coverage.count(format!("event {name}"));
                text
            }
        };
        self.story.tell(self.now, None, || what);
    }

    // What breaks.

    fn heal_disk(&mut self) {
        if self.disk_well_at.is_some_and(|at| at <= self.now) {
            self.disk_well_at = None;
            self.disk.set_chances(Chances::default());
            self.disk.set_capacity(None);
        }
    }

    fn strike(&mut self, fault: Fault) -> Kept {
        let text = format!("{fault:?}");
        let name = text.split([' ', '{']).next().unwrap_or_default().to_owned();
        self.coverage.count(format!("fault {name}"));
        self.story.tell(self.now, None, || format!("fault: {text}"));
        match fault {
            Fault::Cut { carrier } => {
                for connection in self.carriers[carrier].connections().collect::<Vec<_>>() {
                    self.net.cut(self.now, connection);
                }
            }
            Fault::BlackHole { carrier, lasts } => self.net.stall(carrier, self.now + lasts),
            Fault::Unbind { carrier } => {
                let links = self.process.iter_mut().flat_map(|process| &mut process.links);
                let here = self.truth.skew.local(self.now);
                for link in links.filter(|link| link.carrier == carrier) {
                    link.unbind(here, &mut self.net);
                }
            }
            Fault::Suspend { lasts } => {
                self.suspended_until = self.suspended_until.max(self.now + lasts);
            }
            Fault::Reload if self.process.is_some() && self.now < self.suspended_until => {
                self.faults.push_front((self.suspended_until.since(START), Fault::Reload));
            }
            Fault::Reload => self.reload()?,
            Fault::SlowDisk { sync, lasts } => self.slow_until = (self.now + lasts, sync),
            Fault::FailingDisk { lasts } => {
                self.disk.set_chances(Chances {
                    short_writes: 200,
                    failed_writes: 200,
                    failed_syncs: 300,
                    failed_names: 100,
                });
                self.disk_well_at = Some(self.now + lasts);
            }
            Fault::FullDisk { lasts } => {
                let octets: usize = self.disk.contents().values().map(Vec::len).sum();
                self.disk.set_capacity(Some(octets as u64 + self.draws.below(2_000)));
                self.disk_well_at = Some(self.now + lasts);
            }
            Fault::Kill => {
                self.compare_replay()?;
                self.has_crashed = true;
                self.disk = self.disk.kill();
                self.die(Death::Killed);
            }
            Fault::CrashInArchive => {
                if let Some(books) = &mut self.books {
                    books.doom();
                }
            }
            Fault::PowerLoss if self.is_lied_to => return self.lose_what_was_lied_of(),
            Fault::PowerLoss => {
                self.has_crashed = true;
                self.disk = self.disk.restart(self.draws.next());
                let is_silent = self.draws.per_mille(500);
                self.die(Death::PowerLost { is_silent });
            }
            Fault::CrashAtOperation { n } => self.disk.crash_at(n),
        }
        Ok(())
    }

    /// The operator has changed the config.
    fn reload(&mut self) -> Kept {
        self.versions.push(self.now);
        let here = self.local();
        let version = &self.plan.versions[self.versions.len() - 1];
        self.truth.set_rates(self.now, &version.rates);
        let Some(process) = &mut self.process else { return Ok(()) };
        let is_gone = |name: &str| {
            let number = self.carriers.iter().position(|carrier| carrier.plan.name == name);
            number.is_some_and(|number| version.rates[number].is_none())
        };
        for carrier in process.dispatch.snapshot(here).carriers {
            if is_gone(&carrier.carrier) {
                let waits = carrier.lanes.iter().any(|lane| lane.messages > 0);
                self.coverage.count_if(waits, "reload takes a carrier that messages wait for");
                self.coverage.count_if(carrier.window_used > 0, "reload takes a busy carrier");
                self.coverage.count_if(carrier.ledger > 0, "reload takes a carrier with messages");
            }
        }
        process.reload(here, version, &mut self.net);
        process.commit()
    }

    /// From some time on the disk says that it syncs and does not, until the power fails: then the
    /// journal is a beginning of what it was, or is refused.
    fn lie(&mut self) -> Kept {
        let Some((from, end)) = self.plan.lie else { return Ok(()) };
        if !self.is_lied_to && START + from <= self.now {
            self.is_lied_to = true;
            self.disk.set_lying(true);
            self.story.tell(self.now, None, || "the disk lies from now on".into());
        }
        if !self.is_lied_to || START + end > self.now || self.disk.crashed() {
            return Ok(());
        }
        self.lose_what_was_lied_of()
    }

    /// The power fails on a disk that lied.
    fn lose_what_was_lied_of(&mut self) -> Kept {
        self.is_ended = true;
        self.story.tell(self.now, None, || "power is lost, and all that the disk lied of".into());
        self.coverage.count("fault LyingDisk".into());
        let disk = self.disk.restart(self.draws.next());
        // What else was wrong with it is over: the check reads it.
        disk.set_chances(Chances::default());
        disk.set_capacity(None);
        self.is_beginning(disk, "a lying disk")
    }

    /// Whether a replay of the journal finds what the dispatcher holds, once all of that is on the
    /// disk.
    pub(super) fn compare_replay(&mut self) -> Kept {
        let Some(process) = self.process.as_ref().filter(|process| process.is_synced()) else {
            return Ok(());
        };
        // Where room is small, a replay of less may keep what was forgotten for want of it.
        if self.version().forgets() {
            return Ok(());
        }
        self.coverage.count("live state compared with a replay".into());
        let version = self.version();
        let config = version.dispatch.clone();
        let mut dispatch = hikyaku::dispatch::Dispatch::new(config, version.routes(), 0);
        for (position, octets) in process.reader.follow(process.reader.first()).flatten() {
            dispatch.replay(position, &Record::decode(&octets).unwrap());
        }
        if dispatch.state_hash() != process.dispatch.state_hash() {
            let told = |dispatch: &hikyaku::dispatch::Dispatch| {
                let it = dispatch.snapshot(self.now);
                let rest = (it.orphans, it.idempotency_keys, it.inbound_open);
                format!("{} live, {} late, {rest:?} others", it.live, it.late)
            };
            let [live, replayed] = [&process.dispatch, &dispatch].map(told);
            let how = format!("a replay of the journal finds {replayed}, there are {live}");
            return broken(None, how);
        }
        Ok(())
    }

    // The clients.

    fn ask(&mut self) {
        let has_door = self.process.as_ref().is_some_and(|process| process.door.is_some());
        let mut calls = Vec::new();
        for about in 0..self.clients.len() {
            match self.clients[about].next {
                Next::Ask(at) if at <= self.now && has_door => calls.push(about),
                Next::Ask(at) if at <= self.now => self.submit(about),
                Next::Await { until } if until <= self.now => {
                    if let Some(door) = self.process.as_mut().and_then(|it| it.door.as_mut()) {
                        door.hang_up(about);
                    }
                    self.tickets
                        .retain(|_, (asked, what)| *asked != about || *what != Asked::Accept);
                    self.lost_answer(about);
                }
                _ => {}
            }
        }
        self.call(calls);
        let due: Vec<_> = self.reads.extract_if(.., |(at, _)| *at <= self.now).collect();
        due.into_iter().for_each(|(_, about)| self.look_up(about));
        let due: Vec<_> = self.cancels.extract_if(.., |(at, _)| *at <= self.now).collect();
        for (_, id) in due {
            let about = self.truth.by_id[&id];
            let by_operator = self.draws.per_mille(300);
            if has_door && !by_operator {
                self.call_back(about);
                continue;
            }
            let ticket = self.ticket(about, Asked::Cancel);
            if let Some(process) = &mut self.process {
                process.inbox.push_back(Event::Cancel { ticket, id, by_operator });
            }
        }
    }

    fn submit(&mut self, about: usize) {
        let wait = self.draws.millis(500, 3_000);
        self.clients[about].tries += 1;
        if self.process.is_none() {
            self.clients[about].next = Next::Ask(self.now + wait);
            return;
        }
        let submission = self.submission(about);
        self.truth.by_id.insert(submission.id, about);
        let ticket = self.ticket(about, Asked::Accept);
        let least = self.draws.pick(&[1, 200]);
        let patience = self.draws.millis(least, least * 50);
        self.clients[about].next = Next::Await { until: self.now + patience };
        let submission = Box::new(submission);
        if let Some(process) = &mut self.process {
            process.inbox.push_back(Event::Accept { ticket, submission });
        }
    }

    /// What a door makes of a request.
    fn submission(&mut self, about: usize) -> Submission {
        let here = self.local();
        let id = self.ids.next(here);
        let routes = &self.routes[self.versions.len() - 1];
        let request = &self.clients[about].request;
        let key = format!("key{}", request.key);
        let from = format!("{SENDER}{about:08}");
        let query = Query {
            to: &request.to,
            class: request.class,
            key: &key,
            sender: Some(&from),
            tags: &[],
            route: None,
        };
        let explanation = routes.explain(&query, Seed::of(id));
        let first = routes.carrier_id(&explanation.carriers[0]).unwrap();
        let carrier = routes.carrier(first).unwrap();
        let content = Content::Text(request.text.as_str().into());
        let plan = hikyaku::route::plan(&content, EncodingChoice::Auto, 10, carrier).unwrap();
        let route = explanation.route.unwrap();
        let send_at = request.send_after.map(|after| START + request.at + after);
        let later = send_at.filter(|at| request.lives_from_send_at && *at > here);
        let lives_from = later.unwrap_or(here);
        let mut digest = [0; 16];
        let stolen = about.checked_sub(1).filter(|_| request.steals_key && request.is_idempotent);
        digest[..8].copy_from_slice(&(stolen.unwrap_or(about) as u64).to_be_bytes());
        let fingerprint = [if stolen.is_some() { 2 } else { 1 }; 16];
        Submission {
            id,
            accepted_at: here,
            key: key.as_str().into(),
            to: request.to.as_str().into(),
            from: Some(from.as_str().into()),
            content,
            class: request.class,
            client_ref: None,
            campaign: None,
            tags: Vec::new(),
            send_at,
            expires_at: lives_from + request.ttl,
            encoding: EncodingChoice::Auto,
            max_segments: 10,
            receipts: request.receipts,
            callback_url: None,
            idempotency: request.is_idempotent.then_some(Idempotency { key: digest, fingerprint }),
            plan: hikyaku::route::summary(&route, &plan),
        }
    }

    /// Whether another request comes with the key of this one.
    fn is_stolen_from(&self, about: usize) -> bool {
        self.clients.get(about + 1).is_some_and(|client| client.request.steals_key)
    }

    fn ticket(&mut self, about: usize, asked: Asked) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, (about, asked));
        ticket
    }

    /// No answer came: only who has an idempotency key asks again.
    pub(super) fn lost_answer(&mut self, about: usize) {
        let least = self.draws.pick(&[0, 100]);
        let wait = self.draws.millis(least, 10 + least * 30);
        let client = &mut self.clients[about];
        client.next =
            if client.request.is_idempotent { Next::Ask(self.now + wait) } else { Next::Rest };
        self.coverage.count_if(client.request.is_idempotent, "client asks again");
    }

    fn reply(&mut self, ticket: Ticket, reply: &Reply) -> Kept {
        let text = format!("{reply:?}");
        let name = text.split([' ', '{']).next().unwrap_or_default().to_owned();
        self.coverage.count(format!("reply {name}"));
        let door = self.process.as_ref().and_then(|process| process.door.as_ref());
        let door = door.filter(|_| ticket.0 < DIRECT);
        let is_by_door = door.is_some();
        if let Some(door) = door {
            door.replies.answer(ticket, reply.clone());
        }
        let Some((about, asked)) = self.tickets.remove(&ticket) else { return Ok(()) };
        self.story.tell(self.now, Some(about), || format!("told: {text}"));
        let class = self.clients[about].request.class;
        if let Some(process) = &mut self.process {
            process.limits.replied(ticket, (about, class), reply, &mut self.coverage)?;
        }
        if is_by_door {
            return Ok(());
        }
        if asked == Asked::Cancel {
            return self.truth.replied(about, reply);
        }
        self.hears(about, reply)
    }

    /// A client hears what became of its message, and goes on.
    pub(super) fn hears(&mut self, about: usize, reply: &Reply) -> Kept {
        self.truth.replied(about, reply)?;
        let wait = self.draws.millis(500, 5_000);
        let is_stolen_from = self.is_stolen_from(about);
        let client = &mut self.clients[about];
        client.next = match reply {
            Reply::Accepted { id, .. } | Reply::Replayed { id } => {
                if let Some(after) = client.request.cancel_after.take() {
                    self.cancels.push((self.now + after, *id));
                }
                // Some ask again although they were told.
                let again = client.request.is_idempotent && self.draws.per_mille(50);
                if again { Next::Ask(self.now + wait) } else { Next::Rest }
            }
            // The one whose key was stolen may have come later.
            Reply::IdempotencyKeyReused if client.request.steals_key || is_stolen_from => {
                Next::Rest
            }
            Reply::IdempotencyKeyReused => {
                return broken(Some(about), "told that its own key was another's");
            }
            _ if client.tries > 20 => Next::Rest,
            Reply::QueueFull { retry_after, .. }
                if *retry_after < PATIENT && self.draws.per_mille(500) =>
            {
                self.coverage.count("client waits as it is told".into());
                Next::Ask(self.now + *retry_after)
            }
            _ => Next::Ask(self.now + wait),
        };
        Ok(())
    }
}

/// A hash of a record's octets.
pub(super) fn hash(octets: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(octets, &mut hasher);
    std::hash::Hasher::finish(&hasher)
}

/// A record in a line.
fn short(record: &Record) -> String {
    let text = match record {
        Record::Accepted(submission) => format!(
            "Accepted {} to {} segments {} expires {:?}",
            submission.class, submission.to, submission.plan.segments, submission.expires_at
        ),
        Record::Carried(_) => "Carried".into(),
        Record::CarriedFinished { .. } => "CarriedFinished".into(),
        Record::CarriedIdempotency { .. } => "CarriedIdempotency".into(),
        other => format!("{other:?}"),
    };
    text.chars().take(400).collect()
}
