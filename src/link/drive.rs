//! One connection: carries octets between its transport and its session, and events between the
//! session and the gateway.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::sleep_until;
use tokio::time::timeout;

use crate::dispatch::Event;
use crate::dispatch::Token;
use crate::link::Link;
use crate::link::board::BindState;
use crate::link::dial::Connection;
use crate::link::handle::Command;
use crate::link::wire::Moved;
use crate::link::wire::Wire;
use crate::pdu::Body;
use crate::pdu::CommandStatus;
use crate::pdu::Frame;
use crate::pdu::FrameError;
use crate::pdu::Pdu;
use crate::pdu::Tlvs;
use crate::session;
use crate::session::Credentials;
use crate::session::End;
use crate::session::Mode;
use crate::session::NotSent;
use crate::session::Oddity;
use crate::session::Session;
use crate::time::Time;

/// How many events may wait for the gateway before nothing more is read from the SMSC.
const OUTBOX: usize = 64;

/// How many octets besides requests may wait for the SMSC before nothing more is read from it.
const REPLIES: usize = 64 << 10;

/// Room beyond that for each request of the window.
const REQUEST: usize = 512;

/// How many commands are taken before what they ask for is written.
const BATCH: usize = 256;

/// How long our last words may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a connection came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Why it ended.
    pub(super) end: End,
    /// When the bind stood, if ever.
    pub(super) bound_at: Option<Time>,
}

/// One connection at work.
pub(super) struct Drive<'a> {
    link: &'a mut Link,
    wire: Wire,
    session: Session,
    /// The gateway's line, while the bind stands.
    commands: Option<mpsc::Receiver<Command>>,
    /// What the gateway is still to be told.
    outbox: VecDeque<Event>,
    /// Submits that have not begun to leave, oldest first.
    unwritten: VecDeque<Unwritten>,
    /// Submits that wait for a place in the window.
    waiting: VecDeque<(Token, Body)>,
    /// Submits that will never leave.
    unsent: Vec<Token>,
    /// The SMSC's requests that the gateway is to answer: our number for each, and the SMSC's.
    deliveries: VecDeque<(u32, u32)>,
    backlog_limit: usize,
    /// Whether the SMSC writes no more.
    eof: bool,
    leaving: bool,
    bound_at: Option<Time>,
    end: Option<End>,
}

/// A submit that has not begun to leave.
struct Unwritten {
    number: u32,
    token: Token,
    /// Where it begins in the outgoing stream, once it stands there.
    place: Option<u64>,
}

/// Why a drive woke up.
#[expect(clippy::large_enum_variant, reason = "it lives for a moment on the stack")]
enum Woke {
    Shutdown,
    Wish,
    Room,
    GatewayGone,
    Moved(std::io::Result<Moved>),
    Command(Command),
    Time,
}

impl<'a> Drive<'a> {
    pub(super) fn new(
        link: &'a mut Link,
        connection: Connection,
        credentials: &Credentials,
    ) -> Self {
        let config = &link.config;
        let now = link.clock.now();
        let session = Session::esme(now, &config.session, link.leg.mode, credentials);
        let frames = config.session.frames();
        let wire = Wire::new(connection.stream, frames, config.write_timeout.0);
        let backlog_limit = REPLIES + usize::from(config.session.window) * REQUEST;
        Self {
            link,
            wire,
            session,
            commands: None,
            outbox: VecDeque::new(),
            unwritten: VecDeque::new(),
            waiting: VecDeque::new(),
            unsent: Vec::new(),
            deliveries: VecDeque::new(),
            backlog_limit,
            eof: false,
            leaving: false,
            bound_at: None,
            end: None,
        }
    }

    /// Drives the connection to its end; the gateway knows of it when this returns.
    pub(super) async fn run(mut self) -> Outcome {
        let end = loop {
            let now = self.link.clock.now();
            self.turn(now);
            if let Some(end) = self.end.take() {
                break end;
            }
            let woke = self.wait(now).await;
            self.wake(woke);
        };
        let bound_at = self.bound_at;
        self.finish().await;
        Outcome { end, bound_at }
    }

    /// Waits for the next thing to do.
    async fn wait(&mut self, now: Time) -> Woke {
        let listen = self.listens() && !self.eof;
        let timers = self.session.poll_timeout().into_iter().chain(self.wire.deadline(now));
        let deadline = self.link.clock.instant(timers.min().unwrap_or(Time::MAX));
        let takes = self.waiting.len() < usize::from(self.session.window().limit());
        let Self { link, wire, commands, outbox, leaving, .. } = self;
        let Link { shutdown, wishes, events, .. } = &mut **link;
        tokio::select! {
            biased;
            () = shutdown.cancelled(), if !*leaving => Woke::Shutdown,
            Ok(()) = wishes.changed() => Woke::Wish,
            room = events.reserve(), if !outbox.is_empty() => match room {
                Ok(_) => Woke::Room,
                Err(_) => Woke::GatewayGone,
            },
            moved = wire.moved(listen) => Woke::Moved(moved),
            command = next(commands), if takes => Woke::Command(command),
            () = sleep_until(deadline) => Woke::Time,
        }
    }

    fn wake(&mut self, woke: Woke) {
        let now = self.link.clock.now();
        match woke {
            Woke::Shutdown => {
                self.leaving = true;
                self.session.unbind(now);
            }
            Woke::Wish => self.session.unbind(now),
            Woke::GatewayGone => {
                self.outbox.clear();
                self.leaving = true;
                self.session.close();
            }
            Woke::Moved(Ok(moved)) => {
                self.eof |= moved.eof;
                self.forget_written();
            }
            Woke::Moved(Err(error)) => self.session.handle_frame_error(&FrameError::Io(error)),
            Woke::Command(command) => self.take_commands(now, command),
            Woke::Room | Woke::Time => {}
        }
    }

    /// Does all that can be done without waiting.
    fn turn(&mut self, now: Time) {
        // Answers that have come are heard before the time is looked at.
        self.read(now);
        self.mind_the_time(now);
        self.submit_waiting(now);
        self.drain(now);
        self.send_events();
        self.report();
    }

    fn mind_the_time(&mut self, now: Time) {
        if self.wire.deadline(now).is_some_and(|deadline| deadline <= now) {
            let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
            self.session.handle_frame_error(&FrameError::Io(error));
        }
        while self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
    }

    /// Whether octets of the SMSC's are taken.
    fn listens(&self) -> bool {
        self.outbox.len() < OUTBOX && self.wire.backlog() < self.backlog_limit
    }

    /// Reads what has come, as far as the gateway takes what comes of it.
    fn read(&mut self, now: Time) {
        self.drain(now);
        self.send_events();
        if self.outbox.len() < OUTBOX {
            self.session.resume(now);
        }
        while self.end.is_none() && self.listens() {
            match self.wire.frame() {
                Ok(Some(frame)) => self.session.handle_frame(now, frame),
                Ok(None) => {
                    self.session.handle_partial(now, self.wire.has_partial());
                    if self.eof {
                        self.session.handle_eof();
                    }
                    break;
                }
                Err(error) => self.session.handle_frame_error(&error),
            }
            self.drain(now);
            self.send_events();
        }
        if self.outbox.len() >= OUTBOX {
            self.session.pause(now);
        }
    }

    // Commands of the gateway's.

    fn take_commands(&mut self, now: Time, first: Command) {
        self.take(now, first);
        for _ in 1..BATCH {
            let Some(Ok(command)) = self.commands.as_mut().map(mpsc::Receiver::try_recv) else {
                return;
            };
            self.take(now, command);
        }
    }

    fn take(&mut self, now: Time, command: Command) {
        match command {
            Command::Submit { token, body } => self.waiting.push_back((token, body)),
            Command::Acknowledge { sequence_number, status } => {
                let at = self.deliveries.iter().position(|(ours, _)| *ours == sequence_number);
                if let Some((_, theirs)) = at.and_then(|at| self.deliveries.remove(at)) {
                    self.session.acknowledge(now, theirs, status);
                }
            }
        }
    }

    fn submit_waiting(&mut self, now: Time) {
        while self.session.window().free() > 0
            && let Some((token, body)) = self.waiting.pop_front()
        {
            match self.session.submit(now, token.0, body) {
                Ok(number) => {
                    self.unwritten.push_back(Unwritten { number, token, place: None });
                }
                Err(NotSent::NotBound | NotSent::WindowFull) => self.unsent.push(token),
                // The SMSC's answer would be the same.
                Err(NotSent::NotAllowed(_)) => self.refuse(token, CommandStatus::ESME_RINVCMDID),
                Err(NotSent::NeedsTlv(_)) => self.refuse(token, CommandStatus::ESME_RINVTLVSTREAM),
            }
        }
    }

    /// Answers a submit in the SMSC's place.
    fn refuse(&mut self, token: Token, status: CommandStatus) {
        let body = Body::GenericNack(Tlvs::new());
        let bind = self.link.bind.clone();
        self.outbox.push_back(Event::Answered { bind, token, sequence_number: 0, status, body });
    }

    // What the session says.

    fn drain(&mut self, now: Time) {
        while let Some(event) = self.session.poll_event() {
            self.told(event);
        }
        while let Some(pdu) = self.session.poll_transmit() {
            self.write(now, &pdu);
        }
        // A PDU that cannot be written is refused at once.
        while let Some(event) = self.session.poll_event() {
            self.told(event);
        }
    }

    fn write(&mut self, now: Time, pdu: &Pdu) {
        let queued = self.wire.queue(pdu);
        let number = pdu.sequence_number;
        match queued {
            Ok(place) if pdu.body.is_request() => {
                let next = self.unwritten.partition_point(|submit| submit.place.is_some());
                let next = self.unwritten.get_mut(next).filter(|submit| submit.number == number);
                if let Some(submit) = next {
                    submit.place = Some(place);
                }
            }
            Ok(_) => {}
            Err(error) => {
                let Link { bind, .. } = &self.link;
                tracing::error!(carrier = %bind.carrier, bind = bind.index, %error, "not written");
                self.unwritten.retain(|submit| submit.number != number);
                let nack = Pdu::generic_nack(number, CommandStatus::ESME_RINVCMDLEN);
                self.session.handle_frame(now, Frame::Pdu(nack));
            }
        }
    }

    fn told(&mut self, event: session::Event) {
        use session::Event as Told;
        let bind = self.link.bind.clone();
        match event {
            Told::Bound { mode, version, system_id, tlvs } => {
                self.bound(mode);
                let version = version.map(|version| version.to_string()).unwrap_or_default();
                tracing::info!(
                    carrier = %bind.carrier, bind = bind.index, %mode, system_id, version, tlvs,
                    "bound"
                );
            }
            Told::Answered { token, sequence_number, status, body, late: _ } => {
                let token = Token(token);
                let event = Event::Answered { bind, token, sequence_number, status, body };
                self.outbox.push_back(event);
            }
            Told::TimedOut { token, .. } => {
                let token = Token(token);
                self.unwritten.retain(|submit| submit.token != token);
                self.outbox.push_back(Event::TimedOut { bind, token });
            }
            Told::Request { sequence_number, body } => {
                let ours = self.link.next_delivery();
                self.deliveries.push_back((ours, sequence_number));
                self.outbox.push_back(Event::Delivered { bind, sequence_number: ours, body });
            }
            Told::Closing { by_peer } => {
                tracing::info!(carrier = %bind.carrier, bind = bind.index, by_peer, "unbinding");
                self.outbox.push_back(Event::Closing { bind });
            }
            Told::Closed { end, .. } => {
                // What has not begun to leave must not leave any more.
                self.forget_written();
                if let Some(place) = self.unwritten.front().and_then(|submit| submit.place) {
                    self.wire.cut(place);
                }
                self.end = Some(end);
            }
            Told::Oddity(oddity) => self.odd(oddity),
            // Subscribers that come into reach are no business of the gateway's yet; and an SMSC
            // that asks to bind was refused.
            Told::Alert(_) | Told::BindRequested { .. } => {}
        }
    }

    fn bound(&mut self, mode: Mode) {
        let Link { bind, config, clock, plate, shared, .. } = &*self.link;
        let now = clock.now();
        let window = config.session.window;
        // Room for all that may be on its way at once.
        let room = usize::from(window) + usize::from(config.session.receive_window) + BATCH;
        self.commands = Some(shared.open(room));
        self.bound_at = Some(now);
        plate.enter(now, BindState::Bound);
        plate.update(|status| {
            status.bound += 1;
            status.alarm = false;
        });
        let transmits = mode.transmits();
        self.outbox.push_back(Event::Bound { bind: bind.clone(), window, transmits });
    }

    /// The first of each kind is for people, the others are counted: a peer shall not fill a disk.
    fn odd(&self, oddity: Oddity) {
        let Link { bind, plate, .. } = &*self.link;
        let mut count = 0;
        plate.update(|status| count = status.count(oddity));
        if count == 1 {
            tracing::warn!(carrier = %bind.carrier, bind = bind.index, %oddity, "odd peer");
        } else {
            tracing::debug!(carrier = %bind.carrier, bind = bind.index, %oddity, count, "odd peer");
        }
    }

    fn send_events(&mut self) {
        while let Some(event) = self.outbox.pop_front() {
            match self.link.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event) | TrySendError::Closed(event)) => {
                    self.outbox.push_front(event);
                    return;
                }
            }
        }
    }

    fn report(&self) {
        let unbinding = matches!(
            self.session.state(),
            session::State::Draining(_) | session::State::Unbinding | session::State::PeerUnbound
        );
        let Link { plate, clock, .. } = &*self.link;
        if unbinding {
            plate.enter(clock.now(), BindState::Unbinding);
        }
        plate.update(|status| {
            status.window_used = self.session.window().used();
            status.sequence_number = self.session.window().last_number();
            status.heard_at = Some(self.session.heard_at());
        });
    }

    fn forget_written(&mut self) {
        let written = self.wire.written();
        while self
            .unwritten
            .front()
            .is_some_and(|submit| submit.place.is_some_and(|at| at < written))
        {
            self.unwritten.pop_front();
        }
    }

    // The end.

    /// Says the last words and closes the connection, and tells the gateway what was lost.
    async fn finish(self) {
        let Self { link, wire, mut commands, outbox, unsent, unwritten, waiting, .. } = self;
        let tell = async {
            let Some(commands) = &mut commands else {
                return;
            };
            link.shared.close();
            let never_left = unwritten.into_iter().map(|submit| submit.token);
            let never_tried = waiting.into_iter().map(|(token, _)| token);
            let mut unsent: Vec<_> =
                unsent.into_iter().chain(never_left).chain(never_tried).collect();
            while let Some(command) = commands.recv().await {
                if let Command::Submit { token, .. } = command {
                    unsent.push(token);
                }
            }
            let lost = Event::Lost { bind: link.bind.clone(), unsent };
            for event in outbox.into_iter().chain([lost]) {
                if link.events.send(event).await.is_err() {
                    return;
                }
            }
        };
        // What the peer makes of our last words no longer matters.
        let (_, ()) = tokio::join!(timeout(FAREWELL, wire.farewell()), tell);
    }
}

/// The next command of a line that is open.
async fn next(commands: &mut Option<mpsc::Receiver<Command>>) -> Command {
    match commands {
        Some(line) => match line.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
