//! One bind as a state machine, in the role of ESME or SMSC.
//!
//! PDUs and the time go in by the `handle_*` methods; what to write, what happened and when to
//! call again come out of the `poll_*` methods, which are to be drained after each call. A session
//! knows no messages: a request of ours is known by a token of the caller's. One connection has
//! one session; a new connection needs a new one.
//!
//! ```
//! use hikyaku::pdu::{BindResp, Body, CommandStatus, Frame, Pdu};
//! use hikyaku::session::{Config, Credentials, Event, Mode, Session};
//! use hikyaku::time::Time;
//!
//! let now = Time::from_secs(1_800_000_000);
//! let credentials = Credentials::new("acme", "s3cret")?;
//! let mut session = Session::esme(now, &Config::default(), Mode::Trx, &credentials);
//! let bind = session.poll_transmit().expect("the first PDU is the bind");
//! let answer = Body::BindTransceiverResp(BindResp::default());
//! let answer = Pdu::response(bind.sequence_number, CommandStatus::ESME_ROK, answer);
//! session.handle_frame(now, Frame::Pdu(answer));
//! assert!(matches!(session.poll_event(), Some(Event::Bound { .. })));
//! # Ok::<(), hikyaku::session::CredentialsError>(())
//! ```

mod config;
mod event;
mod rules;
mod timers;
pub mod window;

use std::collections::VecDeque;

use crate::pdu::AlertNotification;
use crate::pdu::Bind;
use crate::pdu::BindResp;
use crate::pdu::Body;
use crate::pdu::COctetString;
use crate::pdu::CommandId;
use crate::pdu::CommandStatus;
use crate::pdu::Frame;
use crate::pdu::FrameError;
use crate::pdu::InterfaceVersion;
use crate::pdu::Pdu;
use crate::pdu::Tag;
use crate::pdu::Unreadable;
use crate::session::timers::Due;
use crate::session::timers::Running;
use crate::session::window::Match;
use crate::session::window::Window;
use crate::time::Time;

pub use self::config::Config;
pub use self::config::Credentials;
pub use self::config::CredentialsError;
pub use self::config::Mode;
pub use self::config::SendTlvs;
pub use self::config::SmscConfig;
pub use self::config::Timers;
pub use self::config::Version;
pub use self::event::End;
pub use self::event::Event;
pub use self::event::NotSent;
pub use self::event::Oddity;

/// Where a session stands (SMPP 3.4 §2.2).
///
/// ```text
///            SMSC: bind_* came                       unbind()          all answered, or drain over
///   Open ----------------------> Binding --> Bound -----------> Draining -------------+
///    |                             ^ |         |                   |                  v
///    |          ESME: starts here -+ |         | unbind came       | unbind came  Unbinding
///    |                               |         v                   |                  |
///    |                               |     PeerUnbound <-----------+                  | unbind_resp
///    | session_init                  |         | all answered, or drain over          | or timer
///    v                               v         v                                      v
///   Closed <------------------------ + <------ + <----------------------------------- +
///           (from every state: end of the stream, loss of it, silence, close())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The SMSC waits for a bind.
    Open,
    /// The bind waits for its answer.
    Binding(Mode),
    /// Requests travel.
    Bound(Mode),
    /// We want to unbind: nothing new is sent, the peer's requests are still taken.
    Draining(Mode),
    /// Our `unbind` waits for its answer.
    Unbinding,
    /// The peer unbound: only answers are still taken.
    PeerUnbound,
    /// Over.
    Closed,
}

/// One bind. See the [module](self) for its use.
#[derive(Debug)]
pub struct Session {
    role: Role,
    state: State,
    /// What we say we speak.
    version: InterfaceVersion,
    window: Window,
    timers: Running,
    /// Requests of the peer's that wait for our answer, oldest first.
    owed: VecDeque<(u32, CommandId)>,
    receive_window: usize,
    send_tlvs: SendTlvs,
    /// Whether the peer takes TLVs, as far as known.
    tlvs: bool,
    /// The number of our `enquire_link` or `unbind` that waits.
    asked: Option<u32>,
    /// Why we unbind.
    end: End,
    transmit: VecDeque<Pdu>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum Role {
    Esme,
    Smsc(Box<Smsc>),
}

#[derive(Debug)]
struct Smsc {
    system_id: COctetString<16>,
    /// The ESME's bind that waits for [`Session::accept_bind`].
    bind: Option<(u32, Bind)>,
}

impl Session {
    /// A session to an SMSC over a connection that stands. Its first PDU is the bind.
    pub fn esme(now: Time, config: &Config, mode: Mode, credentials: &Credentials) -> Self {
        let mut session = Self {
            role: Role::Esme,
            state: State::Binding(mode),
            version: config.version.into(),
            window: Window::new(config.window, config.late_answers),
            timers: Running::new(now, config.timers),
            owed: VecDeque::new(),
            receive_window: config.receive_window.into(),
            send_tlvs: config.send_tlvs,
            tlvs: false,
            asked: None,
            end: End::Asked,
            transmit: VecDeque::new(),
            events: VecDeque::new(),
        };
        let bind = mode.bind(rules::bind(config, credentials));
        session.asked = Some(session.request(bind));
        session
    }

    /// A session with an ESME that has connected.
    pub fn smsc(now: Time, config: &SmscConfig) -> Self {
        let smsc = Smsc { system_id: config.system_id.clone(), bind: None };
        Self {
            role: Role::Smsc(Box::new(smsc)),
            state: State::Open,
            version: config.version.into(),
            window: Window::new(config.window, config.late_answers),
            timers: Running::new(now, config.timers),
            owed: VecDeque::new(),
            receive_window: config.receive_window.into(),
            send_tlvs: config.send_tlvs,
            tlvs: false,
            asked: None,
            end: End::Asked,
            transmit: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes what the stream gave.
    pub fn handle_frame(&mut self, now: Time, frame: Frame) {
        if self.state == State::Closed {
            return;
        }
        self.timers.heard(now);
        match frame {
            Frame::Pdu(pdu) if pdu.body.is_request() => self.requested(now, pdu),
            Frame::Pdu(pdu) => self.answered(now, pdu),
            Frame::Unreadable(unreadable) => self.unreadable(now, &unreadable),
        }
        self.advance(now);
    }

    /// Takes that the stream is lost.
    pub fn handle_frame_error(&mut self, error: &FrameError) {
        let end = match error {
            FrameError::CommandLength { announced, .. } => {
                End::StreamLost { announced: *announced }
            }
            FrameError::Io(error) => End::Io(error.kind()),
            FrameError::Encode(_) => End::Io(std::io::ErrorKind::InvalidInput),
        };
        if self.state != State::Closed {
            self.finish(end);
            self.transmit.extend(error.reply());
        }
    }

    /// Takes that the peer has closed its side of the connection.
    pub fn handle_eof(&mut self) {
        match self.state {
            State::Closed => {}
            // What follows an unbind is its end, and no loss.
            State::PeerUnbound => self.finish(End::PeerUnbound),
            State::Unbinding => self.finish(self.end.clone()),
            _ => self.finish(End::PeerClosed),
        }
    }

    /// Takes whether the octets read so far end inside a PDU; to be told after each read.
    pub fn handle_partial(&mut self, now: Time, partial: bool) {
        self.timers.partial(now, partial);
    }

    /// Takes that `now` has come; to be called at [`Session::poll_timeout`] or later.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.state == State::Closed {
            return;
        }
        if !self.timers.is_paused() {
            while let Some((sequence_number, token)) = self.window.expire(now) {
                self.events.push_back(Event::TimedOut { token, sequence_number });
            }
        }
        match self.timers.due(now) {
            Some(Due::Phase) => self.phase_over(now),
            Some(Due::EnquireLink) => self.enquire(now),
            Some(Due::EnquireLinkResponse) => self.abort(End::EnquireLinkUnanswered),
            Some(Due::Inactivity) => self.abort(End::Inactive),
            Some(Due::PduRead) => self.abort(End::PduCutShort),
            None => {}
        }
        self.advance(now);
    }

    /// Takes that from now on the peer's octets are left unread, so that its silence means
    /// nothing: no timer that waits for the peer runs out until [`Session::resume`].
    pub fn pause(&mut self, now: Time) {
        self.timers.pause(now);
    }

    /// Takes that the peer's octets are read again; all it was waited for gets the lost time back.
    pub fn resume(&mut self, now: Time) {
        if let Some(paused) = self.timers.resume(now) {
            self.window.postpone(paused);
        }
    }

    /// Sends a request: from an ESME one of the submissions, `query_sm`, `cancel_sm` or
    /// `replace_sm`; from an SMSC `deliver_sm` or `data_sm`. Gives its number.
    ///
    /// Exactly one outcome follows for `token`: [`Event::Answered`], [`Event::TimedOut`] (and then
    /// perhaps a late answer), or a place in [`Event::Closed`].
    ///
    /// # Errors
    /// When it was not sent and never will be.
    pub fn submit(&mut self, now: Time, token: u64, mut body: Body) -> Result<u32, NotSent> {
        let State::Bound(mode) = self.state else {
            return Err(NotSent::NotBound);
        };
        let command_id = body.command_id();
        if !self.may_send(mode, command_id) {
            return Err(NotSent::NotAllowed(command_id));
        }
        if self.window.free() == 0 {
            return Err(NotSent::WindowFull);
        }
        self.without_tlvs(&mut body)?;
        let deadline = now + self.timers.config().response.0;
        let number = self.window.send(token, command_id, deadline).ok_or(NotSent::WindowFull)?;
        self.transmit.push_back(Pdu::request(number, body));
        Ok(number)
    }

    /// Tells an ESME that a subscriber can be reached; nothing answers that.
    ///
    /// # Errors
    /// When we are no SMSC, or the bind does not receive.
    pub fn alert(&mut self, alert: AlertNotification) -> Result<(), NotSent> {
        match (&self.role, self.state) {
            (Role::Smsc(_), State::Bound(mode)) if mode.receives() => {
                self.request(Body::AlertNotification(alert));
                Ok(())
            }
            (_, State::Bound(_)) => Err(NotSent::NotAllowed(CommandId::ALERT_NOTIFICATION)),
            _ => Err(NotSent::NotBound),
        }
    }

    /// Answers an [`Event::Request`] with the body of its response that says nothing more. Gives
    /// whether that request still waited.
    pub fn acknowledge(&mut self, now: Time, sequence_number: u32, status: CommandStatus) -> bool {
        let Some(command_id) = self.take_owed(sequence_number) else {
            return false;
        };
        if let Some(body) = Body::response_to(command_id) {
            self.transmit.push_back(Pdu::response(sequence_number, status, body));
        }
        self.advance(now);
        true
    }

    /// Answers an [`Event::Request`]. Gives whether that request still waited.
    pub fn respond(
        &mut self,
        now: Time,
        sequence_number: u32,
        status: CommandStatus,
        body: Body,
    ) -> bool {
        let waited = self.take_owed(sequence_number).is_some();
        if waited {
            self.transmit.push_back(Pdu::response(sequence_number, status, body));
            self.advance(now);
        }
        waited
    }

    /// Accepts the bind of [`Event::BindRequested`]. Does nothing when none waits.
    pub fn accept_bind(&mut self) {
        let (State::Binding(mode), Role::Smsc(smsc)) = (self.state, &mut self.role) else {
            return;
        };
        let Some((number, bind)) = smsc.bind.take() else {
            return;
        };
        let mut resp = BindResp { system_id: Some(smsc.system_id.clone()), ..BindResp::default() };
        if bind.interface_version.has_tlvs() {
            resp.tlvs.push_u8(Tag::SC_INTERFACE_VERSION, self.version.0);
        }
        let body = rules::bind_resp(mode, resp);
        self.transmit.push_back(Pdu::response(number, CommandStatus::ESME_ROK, body));
        self.bound(mode, Some(bind.interface_version), bind.system_id.to_text_lossy());
    }

    /// Refuses the bind of [`Event::BindRequested`]; the ESME may try again until `session_init`
    /// is over. Does nothing when none waits.
    pub fn refuse_bind(&mut self, status: CommandStatus) {
        let (State::Binding(mode), Role::Smsc(smsc)) = (self.state, &mut self.role) else {
            return;
        };
        let Some((number, _)) = smsc.bind.take() else {
            return;
        };
        let body = rules::bind_resp(mode, BindResp::default());
        self.transmit.push_back(Pdu::response(number, status, body));
        self.state = State::Open;
    }

    /// Ends the session in good order: waits for the answers of both sides, at most `drain`, then
    /// unbinds.
    pub fn unbind(&mut self, now: Time) {
        self.unbind_because(now, End::Asked);
    }

    /// Ends the session at once; of a bound one the peer is told by an `unbind` whose answer is
    /// not awaited.
    pub fn close(&mut self) {
        if self.state != State::Closed {
            self.abort(End::Asked);
        }
    }

    /// The next PDU to write.
    pub fn poll_transmit(&mut self) -> Option<Pdu> {
        self.transmit.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::handle_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.state == State::Closed {
            return None;
        }
        let window = self.window.deadline().filter(|_| !self.timers.is_paused());
        self.timers.next().into_iter().chain(window).min()
    }

    /// Where the session stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The requests of ours that wait.
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// When the peer's last PDU came; at first when the session began.
    pub const fn heard_at(&self) -> Time {
        self.timers.heard_at()
    }

    // What the peer sends.

    fn requested(&mut self, now: Time, pdu: Pdu) {
        let command_id = pdu.command_id();
        match &pdu.body {
            // Allowed in every state (SMPP 5.0 table 2-1).
            Body::EnquireLink => self.reply(&pdu, CommandStatus::ESME_ROK),
            Body::Unbind => self.peer_unbinds(now, &pdu),
            Body::BindReceiver(_) => self.bind_requested(pdu, Mode::Rx),
            Body::BindTransmitter(_) => self.bind_requested(pdu, Mode::Tx),
            Body::BindTransceiver(_) => self.bind_requested(pdu, Mode::Trx),
            Body::AlertNotification(alert) if self.is_esme() && self.bound_mode().is_some() => {
                self.events.push_back(Event::Alert(alert.clone()));
            }
            Body::AlertNotification(_) | Body::Outbind(_) => {
                self.odd(Oddity::MisplacedRequest(command_id));
            }
            Body::Unknown { .. } => {
                self.reply(&pdu, CommandStatus::ESME_RINVCMDID);
                self.odd(Oddity::UnknownRequest(command_id));
            }
            _ => self.message_requested(pdu),
        }
    }

    fn message_requested(&mut self, pdu: Pdu) {
        let command_id = pdu.command_id();
        if let Some(status) = self.misplaced(command_id) {
            self.reply(&pdu, status);
            self.odd(Oddity::MisplacedRequest(command_id));
        } else if self.owed.len() >= self.receive_window {
            self.reply(&pdu, self.too_many());
            self.odd(Oddity::TooManyRequests(command_id));
        } else if let Some(status) = rules::unusable(&pdu.body) {
            self.reply(&pdu, status);
        } else {
            let Pdu { sequence_number, body, .. } = pdu;
            self.owed.push_back((sequence_number, command_id));
            self.events.push_back(Event::Request { sequence_number, body });
        }
    }

    /// Why this request has no place here: the direction or the state.
    fn misplaced(&self, command_id: CommandId) -> Option<CommandStatus> {
        let right_way = if self.is_esme() {
            // Also on a transmitter, where some SMSCs send receipts.
            rules::is_delivery(command_id)
        } else {
            rules::is_submission(command_id) && self.bound_mode().is_some_and(Mode::transmits)
        };
        match self.state {
            State::Bound(_) | State::Draining(_) if right_way => None,
            // What we no longer take is to come again on the next bind.
            State::Unbinding | State::PeerUnbound if right_way && self.is_esme() => {
                Some(CommandStatus::ESME_RX_T_APPN)
            }
            _ => Some(CommandStatus::ESME_RINVBNDSTS),
        }
    }

    fn bind_requested(&mut self, pdu: Pdu, mode: Mode) {
        let State::Open = self.state else {
            let status = match self.role {
                Role::Esme => CommandStatus::ESME_RINVBNDSTS,
                Role::Smsc(_) => CommandStatus::ESME_RALYBND,
            };
            self.reply(&pdu, status);
            return self.odd(Oddity::MisplacedRequest(pdu.command_id()));
        };
        let (Body::BindReceiver(asked)
        | Body::BindTransmitter(asked)
        | Body::BindTransceiver(asked)) = pdu.body
        else {
            return;
        };
        self.state = State::Binding(mode);
        if let Role::Smsc(smsc) = &mut self.role {
            smsc.bind = Some((pdu.sequence_number, asked.clone()));
        }
        self.events.push_back(Event::BindRequested { mode, bind: asked });
    }

    fn peer_unbinds(&mut self, now: Time, pdu: &Pdu) {
        match self.state {
            State::Bound(_) | State::Draining(_) => {
                self.reply(pdu, CommandStatus::ESME_ROK);
                self.state = State::PeerUnbound;
                self.end = End::PeerUnbound;
                self.timers.unbound();
                self.timers.start_phase(now + self.timers.config().drain.0);
                self.events.push_back(Event::Closing { by_peer: true });
            }
            State::Unbinding | State::PeerUnbound => self.reply(pdu, CommandStatus::ESME_ROK),
            State::Open | State::Binding(_) | State::Closed => {
                self.reply(pdu, CommandStatus::ESME_RINVBNDSTS);
                self.odd(Oddity::MisplacedRequest(CommandId::UNBIND));
            }
        }
    }

    fn answered(&mut self, now: Time, pdu: Pdu) {
        let Pdu { command_status: status, sequence_number, body } = pdu;
        let ours = self.asked == Some(sequence_number);
        match (self.state, &body) {
            (State::Binding(mode), _) if ours => self.bind_answered(mode, status, &body),
            (State::Unbinding, Body::UnbindResp(_) | Body::GenericNack(_)) if ours => {
                self.finish(self.end.clone());
            }
            (_, Body::EnquireLinkResp(_) | Body::GenericNack(_)) if ours => self.asked = None,
            (_, Body::GenericNack(_))
                if sequence_number == 0 && status == CommandStatus::ESME_RINVCMDLEN =>
            {
                self.abort(End::PeerLost);
            }
            _ => self.request_answered(now, Pdu { command_status: status, sequence_number, body }),
        }
    }

    fn bind_answered(&mut self, mode: Mode, status: CommandStatus, body: &Body) {
        match body {
            Body::GenericNack(_) => self.finish(End::BindRefused(status)),
            body if body.command_id() != mode.bind_resp() => {
                self.abort(End::WrongBind(body.command_id()));
            }
            _ if status != CommandStatus::ESME_ROK => self.finish(End::BindRefused(status)),
            Body::BindReceiverResp(resp)
            | Body::BindTransmitterResp(resp)
            | Body::BindTransceiverResp(resp) => {
                self.asked = None;
                let version = resp.tlvs.get_u8(Tag::SC_INTERFACE_VERSION).map(InterfaceVersion);
                let system_id = resp.system_id.as_ref().map(COctetString::to_text_lossy);
                self.bound(mode, version, system_id.unwrap_or_default());
            }
            _ => {}
        }
    }

    fn request_answered(&mut self, now: Time, pdu: Pdu) {
        let Pdu { command_status: status, sequence_number, body } = pdu;
        let answer = body.command_id();
        let (token, request, late) = match self.window.answer(sequence_number, answer) {
            Match::Pending { token, command_id } => (token, command_id, false),
            Match::Late { token, command_id } => (token, command_id, true),
            Match::Mismatched => return self.odd(Oddity::MismatchedAnswer(answer)),
            // Any PDU is a sign of life, so the answer to our enquiry may come after all.
            Match::Over if answer == CommandId::ENQUIRE_LINK_RESP => return,
            Match::Over => return self.odd(Oddity::RepeatedAnswer(answer)),
            Match::Unknown => return self.odd(Oddity::UnknownAnswer(answer)),
        };
        if late {
            self.odd(Oddity::LateAnswer(answer));
        }
        self.events.push_back(Event::Answered { token, sequence_number, status, body, late });
        if status == CommandStatus::ESME_RINVBNDSTS && rules::is_message(request) {
            self.unbind_because(now, End::BindForgotten);
        }
    }

    /// A request is refused for good; an answer ends its request all the same.
    fn unreadable(&mut self, now: Time, frame: &Unreadable) {
        self.odd(Oddity::Unreadable(frame.command_id, frame.error.field));
        if !frame.command_id.is_response() {
            self.transmit.extend(frame.reply());
            return;
        }
        let request = CommandId(frame.command_id.0 & !CommandId::GENERIC_NACK.0);
        let body = Body::response_to(request);
        let pdu = match body {
            Some(body) => Pdu::response(frame.sequence_number, frame.command_status, body),
            None => Pdu::generic_nack(frame.sequence_number, frame.command_status),
        };
        self.answered(now, pdu);
    }

    // What time brings.

    fn phase_over(&mut self, now: Time) {
        match self.state {
            State::Open | State::Binding(_) => self.abort(End::NotBound),
            State::Draining(_) => self.send_unbind(now),
            State::Unbinding | State::PeerUnbound => self.finish(self.end.clone()),
            State::Bound(_) | State::Closed => {}
        }
    }

    fn enquire(&mut self, now: Time) {
        self.asked = Some(self.request(Body::EnquireLink));
        self.timers.enquired(now);
    }

    /// Goes on when all answers are there that the state waits for.
    fn advance(&mut self, now: Time) {
        if self.window.used() > 0 || !self.owed.is_empty() {
            return;
        }
        match self.state {
            State::Draining(_) => self.send_unbind(now),
            State::PeerUnbound => self.finish(End::PeerUnbound),
            _ => {}
        }
    }

    // Steps between states.

    fn bound(&mut self, mode: Mode, version: Option<InterfaceVersion>, system_id: String) {
        self.state = State::Bound(mode);
        self.timers.bound();
        self.tlvs = match self.send_tlvs {
            SendTlvs::Always => true,
            SendTlvs::Never => false,
            SendTlvs::Auto => {
                self.version.has_tlvs() && version.is_none_or(InterfaceVersion::has_tlvs)
            }
        };
        self.events.push_back(Event::Bound { mode, version, system_id, tlvs: self.tlvs });
    }

    fn unbind_because(&mut self, now: Time, end: End) {
        match self.state {
            State::Bound(mode) => {
                self.state = State::Draining(mode);
                self.end = end;
                self.timers.start_phase(now + self.timers.config().drain.0);
                self.events.push_back(Event::Closing { by_peer: false });
                self.advance(now);
            }
            State::Open | State::Binding(_) => self.abort(end),
            State::Draining(_) | State::Unbinding | State::PeerUnbound | State::Closed => {}
        }
    }

    fn send_unbind(&mut self, now: Time) {
        self.asked = Some(self.request(Body::Unbind));
        self.state = State::Unbinding;
        self.timers.unbound();
        self.timers.start_phase(now + self.timers.config().unbind_response.0);
    }

    /// Ends the session from our side. The peer is told, since an SMSC may otherwise keep the old
    /// session and refuse the next bind with `ESME_RALYBND`.
    fn abort(&mut self, end: End) {
        let tell = match self.state {
            State::Bound(_) | State::Draining(_) => true,
            // The SMSC may have bound us and be slow to say so.
            State::Binding(_) => self.is_esme(),
            State::Open | State::Unbinding | State::PeerUnbound | State::Closed => false,
        };
        self.finish(end);
        if tell {
            self.request(Body::Unbind);
        }
    }

    /// Ends the session: what is still to be written are answers of ours.
    fn finish(&mut self, end: End) {
        self.state = State::Closed;
        let mut unsent = Vec::new();
        let mut unanswered = Vec::new();
        for (number, token) in self.window.close() {
            let waits = |pdu: &Pdu| pdu.body.is_request() && pdu.sequence_number == number;
            if self.transmit.iter().any(waits) { &mut unsent } else { &mut unanswered }.push(token);
        }
        self.transmit.retain(|pdu| !pdu.body.is_request());
        self.owed.clear();
        self.events.push_back(Event::Closed { unanswered, unsent, end });
    }

    // Small things.

    /// Queues a request that takes no place in the window; gives its number.
    fn request(&mut self, body: Body) -> u32 {
        let number = self.window.next_number();
        self.transmit.push_back(Pdu::request(number, body));
        number
    }

    /// Only a request has an answer: two stacks cannot refuse each other for ever.
    fn reply(&mut self, pdu: &Pdu, status: CommandStatus) {
        self.transmit.extend(pdu.reply(status));
    }

    fn odd(&mut self, oddity: Oddity) {
        self.events.push_back(Event::Oddity(oddity));
    }

    fn take_owed(&mut self, sequence_number: u32) -> Option<CommandId> {
        let at = self.owed.iter().position(|(number, _)| *number == sequence_number)?;
        self.owed.remove(at).map(|(_, command_id)| command_id)
    }

    const fn is_esme(&self) -> bool {
        matches!(self.role, Role::Esme)
    }

    const fn bound_mode(&self) -> Option<Mode> {
        match self.state {
            State::Bound(mode) | State::Draining(mode) => Some(mode),
            _ => None,
        }
    }

    const fn too_many(&self) -> CommandStatus {
        match self.role {
            Role::Esme => CommandStatus::ESME_RX_T_APPN,
            Role::Smsc(_) => CommandStatus::ESME_RTHROTTLED,
        }
    }

    fn may_send(&self, mode: Mode, command_id: CommandId) -> bool {
        match self.role {
            Role::Esme => mode.transmits() && rules::is_submission(command_id),
            Role::Smsc(_) => mode.receives() && rules::is_delivery(command_id),
        }
    }

    /// Takes the TLVs off a request to a peer that has none, unless the message is in them.
    fn without_tlvs(&mut self, body: &mut Body) -> Result<(), NotSent> {
        let first = body.tlvs().and_then(|tlvs| tlvs.iter().next()).map(|tlv| tlv.tag);
        match first {
            Some(tag) if !self.tlvs => {
                rules::strip_tlvs(body)?;
                self.odd(Oddity::TlvsLeftOut(tag));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
