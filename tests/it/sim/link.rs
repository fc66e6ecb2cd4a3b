//! The gateway's end of a connection: what `hikyaku::link` does, without a task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hikyaku::dispatch::BindId;
use hikyaku::dispatch::Event;
use hikyaku::dispatch::Token;
use hikyaku::pdu::Body;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::Frames;
use hikyaku::pdu::Tlvs;
use hikyaku::pdu::encode;
use hikyaku::session;
use hikyaku::session::Credentials;
use hikyaku::session::Mode;
use hikyaku::session::NotSent;
use hikyaku::session::Session;
use hikyaku::time::Time;
use tokio_util::codec::Decoder;

use super::draw::Draws;
use super::wire::End;
use super::wire::Net;
use super::wire::Read;

/// One bind of the gateway's, whether it stands or not.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) bind: BindId,
    pub(super) carrier: usize,
    mode: Mode,
    config: session::Config,
    state: State,
    /// What the dispatcher is to hear, and when it does.
    outbox: VecDeque<(Time, Event)>,
    /// Deliveries that wait for our answer: our number, theirs, and the delivery.
    deliveries: VecDeque<(u32, u32, Body)>,
    next_delivery: u32,
    /// Whether its carrier is in the config.
    is_wanted: bool,
    draws: Draws,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are open")]
enum State {
    Idle {
        until: Time,
    },
    Open(Open),
    /// Was bound; what comes before the dispatcher has heard of the loss never leaves.
    Lost {
        unsent: Vec<Token>,
    },
}

#[derive(Debug)]
struct Open {
    connection: u64,
    session: Session,
    input: BytesMut,
    waiting: VecDeque<(Token, Body)>,
    unsent: Vec<Token>,
    is_bound: bool,
}

impl Link {
    pub(super) fn new(
        bind: (Arc<str>, u16),
        carrier: usize,
        mode: Mode,
        config: session::Config,
        now: Time,
        draws: Draws,
    ) -> Self {
        Self {
            bind: BindId { carrier: bind.0, index: bind.1 },
            carrier,
            mode,
            config,
            state: State::Idle { until: now },
            outbox: VecDeque::new(),
            deliveries: VecDeque::new(),
            next_delivery: 0,
            is_wanted: true,
            draws,
        }
    }

    /// When it has something to do next, apart from what arrives.
    pub(super) fn next(&self) -> Option<Time> {
        let state = match &self.state {
            State::Idle { until } => Some(*until).filter(|_| self.is_wanted),
            State::Open(open) => open.session.poll_timeout(),
            State::Lost { .. } => None,
        };
        state.into_iter().chain(self.outbox.front().map(|(at, _)| *at)).min()
    }

    pub(super) const fn connection(&self) -> Option<u64> {
        match &self.state {
            State::Open(open) => Some(open.connection),
            State::Idle { .. } | State::Lost { .. } => None,
        }
    }

    /// Does all that is due.
    pub(super) fn turn(&mut self, now: Time, net: &mut Net) {
        if let State::Idle { until } = self.state
            && self.is_wanted
            && until <= now
        {
            let credentials = Credentials::new("hikyaku", "secret").unwrap();
            self.state = State::Open(Open {
                connection: net.connect(self.carrier),
                session: Session::esme(now, &self.config, self.mode, &credentials),
                input: BytesMut::new(),
                waiting: VecDeque::new(),
                unsent: Vec::new(),
                is_bound: false,
            });
        }
        self.read(now, net);
        if let State::Open(open) = &mut self.state {
            while open.session.poll_timeout().is_some_and(|at| at <= now) {
                open.session.handle_timeout(now);
            }
        }
        self.drain(now, net);
    }

    fn read(&mut self, now: Time, net: &mut Net) {
        let State::Open(open) = &mut self.state else { return };
        let mut frames = Frames::default();
        while let Some(read) = net.read(now, open.connection, End::Gateway) {
            match read {
                Read::Octets(octets) => open.input.extend_from_slice(&octets),
                Read::End => open.session.handle_eof(),
            }
            loop {
                match frames.decode(&mut open.input) {
                    Ok(Some(frame)) => open.session.handle_frame(now, frame),
                    Ok(None) => break,
                    Err(error) => {
                        open.session.handle_frame_error(&error);
                        open.input.clear();
                        break;
                    }
                }
            }
            open.session.handle_partial(now, !open.input.is_empty());
        }
    }

    /// Writes what the session wants written, hears what it says.
    fn drain(&mut self, now: Time, net: &mut Net) {
        let State::Open(open) = &mut self.state else { return };
        while open.session.window().free() > 0
            && let Some((token, body)) = open.waiting.pop_front()
        {
            match open.session.submit(now, token.0, body) {
                Ok(_) => {}
                Err(NotSent::NotBound | NotSent::WindowFull) => open.unsent.push(token),
                Err(NotSent::NotAllowed(_) | NotSent::NeedsTlv(_)) => {
                    let (status, body) =
                        (CommandStatus::ESME_RINVCMDID, Body::GenericNack(Tlvs::new()));
                    let bind = self.bind.clone();
                    let sequence_number = 0;
                    let event = Event::Answered { bind, token, sequence_number, status, body };
                    self.tell(now, event);
                    return self.drain(now, net);
                }
            }
        }
        let mut output = BytesMut::new();
        while let Some(pdu) = open.session.poll_transmit() {
            encode(&pdu, &mut output).unwrap();
        }
        if !output.is_empty() {
            net.write(now, open.connection, End::Gateway, output.freeze());
        }
        while let State::Open(open) = &mut self.state
            && let Some(event) = open.session.poll_event()
        {
            self.told(now, net, event);
        }
    }

    fn told(&mut self, now: Time, net: &mut Net, event: session::Event) {
        use session::Event as Told;
        let bind = self.bind.clone();
        match event {
            Told::Bound { mode, .. } => {
                if let State::Open(open) = &mut self.state {
                    open.is_bound = true;
                }
                let (window, transmits) = (self.config.window, mode.transmits());
                self.tell(now, Event::Bound { bind, window, transmits });
            }
            Told::Answered { token, sequence_number, status, body, .. } => {
                let token = Token(token);
                self.tell(now, Event::Answered { bind, token, sequence_number, status, body });
            }
            Told::TimedOut { token, .. } => {
                self.tell(now, Event::TimedOut { bind, token: Token(token) });
            }
            Told::Request { sequence_number, body } => {
                self.next_delivery += 1;
                self.deliveries.push_back((self.next_delivery, sequence_number, body.clone()));
                let sequence_number = self.next_delivery;
                self.tell(now, Event::Delivered { bind, sequence_number, body });
            }
            Told::Closing { .. } => self.tell(now, Event::Closing { bind }),
            Told::Closed { unsent, .. } => self.closed(now, net, unsent),
            Told::Alert(_) | Told::BindRequested { .. } | Told::Oddity(_) => {}
        }
    }

    fn closed(&mut self, now: Time, net: &mut Net, unsent: Vec<u64>) {
        let wait = self.draws.millis(100, 5_000);
        let State::Open(mut open) =
            std::mem::replace(&mut self.state, State::Idle { until: now + wait })
        else {
            return;
        };
        let mut output = BytesMut::new();
        while let Some(pdu) = open.session.poll_transmit() {
            encode(&pdu, &mut output).unwrap();
        }
        net.write(now, open.connection, End::Gateway, output.freeze());
        net.close(now, open.connection, End::Gateway);
        self.deliveries.clear();
        if open.is_bound {
            let mut all = open.unsent;
            all.extend(unsent.into_iter().map(Token));
            all.extend(open.waiting.into_iter().map(|(token, _)| token));
            self.state = State::Lost { unsent: all };
            self.tell(now, Event::Lost { bind: self.bind.clone(), unsent: Vec::new() });
        }
    }

    /// The dispatcher hears everything a little later, in order.
    fn tell(&mut self, now: Time, event: Event) {
        let last = self.outbox.back().map_or(now, |(at, _)| *at);
        let lag = Duration::from_micros(self.draws.below(400));
        self.outbox.push_back((last.max(now + lag), event));
    }

    /// What the dispatcher is to hear by now.
    pub(super) fn event(&mut self, now: Time) -> Option<Event> {
        let (at, _) = self.outbox.front()?;
        if *at > now {
            return None;
        }
        let (_, mut event) = self.outbox.pop_front()?;
        if let (Event::Lost { unsent, .. }, State::Lost { unsent: all }) =
            (&mut event, &mut self.state)
        {
            unsent.append(all);
            let until = now + self.draws.millis(100, 5_000);
            self.state = State::Idle { until };
        }
        Some(event)
    }

    /// Hands over a request; whether the window had room for it.
    pub(super) fn submit(&mut self, now: Time, net: &mut Net, token: Token, body: Body) -> bool {
        let has_room = match &mut self.state {
            State::Idle { .. } => false,
            State::Lost { unsent } => {
                unsent.push(token);
                return true;
            }
            State::Open(open) => {
                let is_bound = matches!(open.session.state(), session::State::Bound(_));
                let free = open.session.window().free();
                open.waiting.push_back((token, body));
                !is_bound || free >= open.waiting.len()
            }
        };
        self.drain(now, net);
        has_room
    }

    /// Answers a delivery; gives what it was.
    pub(super) fn acknowledge(
        &mut self,
        now: Time,
        net: &mut Net,
        number: u32,
        status: CommandStatus,
    ) -> Option<Body> {
        let at = self.deliveries.iter().position(|(ours, ..)| *ours == number)?;
        let (_, theirs, body) = self.deliveries.remove(at)?;
        if let State::Open(open) = &mut self.state {
            open.session.acknowledge(now, theirs, status);
        }
        self.drain(now, net);
        Some(body)
    }

    /// Its carrier came into the config or left it.
    pub(super) fn want(&mut self, now: Time, net: &mut Net, is_wanted: bool) {
        if self.is_wanted && !is_wanted {
            self.unbind(now, net);
        }
        self.is_wanted = is_wanted;
    }

    /// Unbinds, as after a wish of an operator.
    pub(super) fn unbind(&mut self, now: Time, net: &mut Net) {
        if let State::Open(open) = &mut self.state {
            open.session.unbind(now);
        }
        self.drain(now, net);
    }
}
