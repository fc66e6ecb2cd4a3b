//! The gateway's process: the real dispatcher over the real journal, and the loop around both that
//! `hikyaku::gateway` is in the shell.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hikyaku::dispatch::Dispatch;
use hikyaku::dispatch::Event;
use hikyaku::journal::Appender;
use hikyaku::journal::Batch;
use hikyaku::journal::OpenError;
use hikyaku::journal::PushError;
use hikyaku::journal::Reader;
use hikyaku::journal::Trimmer;
use hikyaku::journal::Writer;
use hikyaku::journal::open;
use hikyaku::journal::sim::SimDisk;
use hikyaku::message::MessageId;
use hikyaku::message::Position;
use hikyaku::message::Record;
use hikyaku::message::Submission;
use hikyaku::seal::Keys;
use hikyaku::time::Time;

use super::door::Door;
use super::draw::Draws;
use super::draw::Skew;
use super::limits::Limits;
use super::link::Link;
use super::plan::Plan;
use super::plan::Version;
use super::story::Broken;
use super::wire::Net;

/// What dies with the process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) dispatch: Dispatch,
    pub(super) appender: Appender,
    writer: Writer,
    pub(super) reader: Reader,
    pub(super) trimmer: Trimmer,
    pub(super) links: Vec<Link>,
    pub(super) inbox: VecDeque<Event>,
    /// Whether it has had a turn, in which what it found at its start is handed to the journal.
    has_begun: bool,
    /// Batches that the journal's thread has not taken.
    batches: VecDeque<Batch>,
    /// When the sync that is going on ends.
    sync_at: Option<Time>,
    is_failed: bool,
    /// Bodies that are being read.
    fetches: VecDeque<(Time, MessageId, Position)>,
    scratch: Vec<u8>,
    pub(super) limits: Limits,
    /// Where clients come in, if not to the dispatcher itself.
    pub(super) door: Option<Door>,
    /// How its clock goes; it never goes back while the process lives.
    pub(super) skew: Skew,
}

/// What a process starts with.
pub(super) struct Start<'a> {
    pub(super) world: Time,
    /// What the machine's clock says; the process's is no earlier than its records.
    pub(super) clock: Time,
    pub(super) plan: &'a Plan,
    pub(super) version: &'a Version,
    pub(super) disk: &'a SimDisk,
    /// The end of what was durable before.
    pub(super) durable: Position,
}

/// Why a process does not start.
pub(super) enum NoStart {
    /// The disk refuses, for now.
    Later,
    /// It crashed again, in opening the journal.
    Crashed,
    /// It must never happen.
    Broken(Broken),
}

/// How long after a failure the journal is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Process {
    /// Starts over what is on the disk.
    pub(super) fn start(
        with: &Start<'_>,
        net: &mut Net,
        draws: &mut Draws,
    ) -> Result<Self, NoStart> {
        let Start { world, clock, plan, version, disk, durable } = *with;
        let wrong = |how: String| NoStart::Broken(Broken { message: None, how });
        let opened = match open(disk.clone(), &plan.journal, &Keys::known(0)) {
            Ok(opened) => opened,
            Err(_) if disk.crashed() => return Err(NoStart::Crashed),
            Err(OpenError::Failed(_)) => return Err(NoStart::Later),
            Err(error) => return Err(wrong(format!("the journal does not open: {error}"))),
        };
        if opened.end < durable {
            return Err(wrong(format!("{:?} was durable, {:?} is left", durable, opened.end)));
        }
        let seed = draws.next();
        let replayed = |reader: &Reader| -> Result<(Dispatch, Time), NoStart> {
            let mut dispatch = Dispatch::new(version.dispatch.clone(), version.routes(), seed);
            let mut last = Time::ZERO;
            for record in reader.follow(opened.first) {
                let (position, octets) =
                    record.map_err(|error| wrong(format!("replay: {error}")))?;
                let record =
                    Record::decode(&octets).map_err(|error| wrong(format!("replay: {error}")))?;
                last = last.max(record.at());
                dispatch.replay(position, &record);
            }
            Ok((dispatch, last))
        };
        let (mut dispatch, last) = replayed(&opened.reader)?;
        if replayed(&opened.reader)?.0.state_hash() != dispatch.state_hash() {
            return Err(wrong("two replays of one journal differ".into()));
        }
        let now = clock.max(last);
        dispatch.replayed(now);
        let mut links = Vec::new();
        for (number, carrier) in plan.carriers.iter().enumerate() {
            for (index, mode) in (0..).zip(&carrier.binds) {
                let bind = (carrier.name.as_str().into(), index);
                let config = carrier.session.clone();
                let mut link = Link::new(bind, number, *mode, config, now, draws.fork());
                link.want(now, net, version.rates[number].is_some());
                links.push(link);
            }
        }
        Ok(Self {
            dispatch,
            appender: opened.appender,
            writer: opened.writer,
            reader: opened.reader,
            trimmer: opened.trimmer,
            links,
            inbox: VecDeque::new(),
            has_begun: false,
            batches: VecDeque::new(),
            sync_at: None,
            is_failed: false,
            fetches: VecDeque::new(),
            scratch: Vec::new(),
            limits: Limits::new(&version.dispatch),
            door: None,
            skew: Skew::of(world, now),
        })
    }

    /// Takes over a changed config.
    pub(super) fn reload(&mut self, now: Time, version: &Version, net: &mut Net) {
        let (carriers, routes) = version.parts();
        self.dispatch.reconfigure(now, version.dispatch.clone(), carriers, routes).unwrap();
        self.limits.config = version.dispatch.clone();
        if let Some(door) = &self.door {
            door.reload(version.routes(), version.dispatch.shedding);
        }
        for link in &mut self.links {
            link.want(now, net, version.rates[link.carrier].is_some());
        }
    }

    /// When it has something to do next by the world's clock, apart from what arrives.
    pub(super) fn next(&self) -> Option<Time> {
        let links = self.links.iter().filter_map(Link::next);
        let fetch = self.fetches.front().map(|(at, ..)| *at);
        let inbox = (!self.inbox.is_empty()).then_some(Time::ZERO);
        let door = self.door.as_ref().and_then(Door::next);
        let rest = [self.dispatch.poll_timeout(), self.sync_at, fetch, inbox, door];
        links.chain(rest.into_iter().flatten()).min().map(|at| self.skew.world(at))
    }

    /// Tells the dispatcher all that there is to tell, and takes its records. The links have had
    /// their turn.
    pub(super) fn think(&mut self, now: Time, told: &mut Vec<Event>) -> Result<(), Broken> {
        let mut events: Vec<Event> = Vec::new();
        for link in &mut self.links {
            events.extend(std::iter::from_fn(|| link.event(now)));
        }
        while self.fetches.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, id, position)) = self.fetches.pop_front() else { break };
            events.push(Event::Fetched { id, submission: self.read_body(position) });
        }
        events.extend(self.inbox.drain(..));
        told.extend(events.iter().cloned());
        for event in events {
            if let Event::Accept { ticket, submission } = &event {
                // What is made by now is counted.
                self.commit()?;
                self.limits.foresee(*ticket, submission, &self.dispatch.snapshot(now));
            }
            self.dispatch.hear(now, event);
        }
        self.dispatch.turn(now);
        self.wake(now)?;
        self.commit()?;
        self.limits.hold(&self.dispatch.snapshot(now))
    }

    fn wake(&mut self, now: Time) -> Result<(), Broken> {
        for _ in 0..1_000 {
            if self.dispatch.poll_timeout().is_none_or(|at| at > now) {
                return Ok(());
            }
            self.dispatch.handle(now, Event::Wake);
        }
        Err(Broken { message: None, how: "the dispatcher wants to be woken for ever".into() })
    }

    fn read_body(&self, position: Position) -> Option<Box<Submission>> {
        let octets = self.reader.read(position).ok()?;
        match Record::decode(&octets).ok()? {
            Record::Accepted(submission) => Some(Box::new(Arc::unwrap_or_clone(submission))),
            Record::Carried(carried) | Record::CarriedFinished { carried, .. } => {
                Some(Box::new(carried.submission))
            }
            _ => None,
        }
    }

    pub(super) fn commit(&mut self) -> Result<(), Broken> {
        let Self { dispatch, appender, scratch, limits, .. } = self;
        let pushed = dispatch.commit(|record| {
            scratch.clear();
            record.encode(scratch);
            let position = appender.push(scratch)?;
            limits.undurable.push_back(position);
            Ok(position)
        });
        pushed.map_err(|error: PushError| Broken { message: None, how: error.to_string() })?;
        self.has_begun = true;
        while let Some(batch) = self.appender.take_batch() {
            self.batches.push_back(batch);
        }
        Ok(())
    }

    /// Lets the journal's thread begin a sync that takes `sync`, if there is something to sync.
    pub(super) fn begin_sync(&mut self, now: Time, sync: Duration) {
        if self.sync_at.is_none() && !self.batches.is_empty() {
            self.sync_at = Some(now + sync);
        }
    }

    /// Ends a sync that is due; says so when it failed.
    pub(super) fn end_sync(&mut self, now: Time) -> Option<bool> {
        self.sync_at.take_if(|at| *at <= now)?;
        let mut outcome = if self.is_failed { self.writer.reopen() } else { Ok(self.reader.end()) };
        for batch in self.batches.drain(..) {
            outcome = self.writer.write(batch);
        }
        let failed = outcome.is_err();
        if failed != self.is_failed {
            self.is_failed = failed;
            let event = if failed { Event::StoreFailed } else { Event::StoreRecovered };
            self.dispatch.hear(now, event);
        }
        if failed {
            self.sync_at = Some(now + RETRY);
        } else if let Ok(end) = outcome {
            self.limits.durable(end);
            self.dispatch.hear(now, Event::Durable { end });
        }
        Some(failed)
    }

    pub(super) fn fetch(&mut self, at: Time, id: MessageId, position: Position) {
        self.fetches.push_back((at, id, position));
    }

    /// Whether all that was decided is on the disk.
    pub(super) fn is_synced(&self) -> bool {
        self.has_begun && self.appender.end() == self.reader.end()
    }

    pub(super) fn is_idle(&self) -> bool {
        let is_open = self.door.as_ref().is_some_and(|door| door.next().is_some());
        self.is_synced() && self.inbox.is_empty() && self.fetches.is_empty() && !is_open
    }
}
