//! The body of the fuzz target `session`: a conversation in either role.
//!
//! The octets are a script: what the peer sends, well formed or not and in any slices, what our
//! side asks for, and how time passes. A book is kept of every request in both directions.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::BytesMut;
use hikyaku::pdu::AlertNotification;
use hikyaku::pdu::Bind;
use hikyaku::pdu::BindResp;
use hikyaku::pdu::Body;
use hikyaku::pdu::COctetString;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::Frame;
use hikyaku::pdu::Frames;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::encode;
use hikyaku::session::Config;
use hikyaku::session::Credentials;
use hikyaku::session::Event;
use hikyaku::session::Mode;
use hikyaku::session::Session;
use hikyaku::session::SmscConfig;
use hikyaku::session::State;
use hikyaku::session::Timers;
use hikyaku::time::Span;
use hikyaku::time::Time;
use tokio_util::codec::Decoder;

use super::script::Script;

const T0: Time = Time::from_secs(1_800_000_000);

/// What became of a request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Answered,
    TimedOut,
    AnsweredLate,
    Unanswered,
    Unsent,
}

/// A session, its peer's octets, and the book that is kept of both.
struct Talk {
    session: Session,
    frames: Frames,
    wire: BytesMut,
    input: BytesMut,
    now: Time,
    state: State,
    window: usize,
    receive_window: usize,
    is_over: bool,
    is_lost: bool,
    next_token: u64,
    fates: BTreeMap<u64, Fate>,
    tokens: BTreeMap<u32, u64>,
    handed: BTreeSet<u64>,
    /// Requests of the peer's that we were told of and have not answered, by number.
    owed: Vec<u32>,
    /// What may be answered at most, and what was.
    asked: usize,
    answers: usize,
}

/// Plays the script.
pub(crate) fn run(octets: &[u8]) {
    let mut script = Script::new(octets);
    let mut talk = Talk::new(&mut script);
    while !script.is_over() && !talk.is_over {
        talk.act(&mut script);
        talk.look();
    }
    talk.write(usize::MAX);
    talk.end();
}

impl Talk {
    fn new(script: &mut Script<'_>) -> Self {
        let (window, receive_window) = (1 + script.below(4), 1 + script.below(4));
        let late_answers = script.below(3);
        let mut span = || Span::secs(u64::from(script.below(8)));
        let timers = Timers {
            session_init: span(),
            enquire_link: span(),
            enquire_link_response: span(),
            response: span(),
            inactivity: span(),
            pdu_read: span(),
            unbind_response: span(),
            drain: span(),
        };
        let session = if script.flag() {
            let config = SmscConfig {
                window: window.into(),
                receive_window: receive_window.into(),
                late_answers: late_answers.into(),
                timers,
                ..SmscConfig::default()
            };
            Session::smsc(T0, &config)
        } else {
            let config = Config {
                window: window.into(),
                receive_window: receive_window.into(),
                late_answers: late_answers.into(),
                timers,
                ..Config::default()
            };
            let credentials = Credentials::new("fuzz", "fuzz").unwrap();
            Session::esme(T0, &config, mode(script), &credentials)
        };
        Self {
            state: session.state(),
            session,
            frames: Frames::default(),
            wire: BytesMut::new(),
            input: BytesMut::new(),
            now: T0,
            window: window.into(),
            receive_window: receive_window.into(),
            is_over: false,
            is_lost: false,
            next_token: 0,
            fates: BTreeMap::new(),
            tokens: BTreeMap::new(),
            handed: BTreeSet::new(),
            owed: Vec::new(),
            asked: 0,
            answers: 0,
        }
    }

    fn act(&mut self, script: &mut Script<'_>) {
        match script.below(20) {
            0..=4 => {
                let pdu = self.peers_pdu(script);
                encode(&pdu, &mut self.wire).unwrap();
                if script.flag() {
                    self.deliver(usize::MAX);
                }
            }
            5 => self.wire.extend_from_slice(script.octets()),
            6 => self.deliver(script.octet().into()),
            7 => self.deliver(usize::MAX),
            8 => self.now += Duration::from_millis(u64::from(script.octet()) * 10),
            9 => self.now += Duration::from_secs(u64::from(script.octet())),
            10 => self.wait(),
            11..=13 => self.submit(script),
            14 => self.answer(script),
            15 => self.write(script.below(4).into()),
            16 => self.write(usize::MAX),
            17 if script.flag() => self.session.accept_bind(),
            17 => self.session.refuse_bind(CommandStatus(script.number())),
            18 if script.flag() => self.session.pause(self.now),
            18 => self.session.resume(self.now),
            _ => self.part(script),
        }
    }

    fn part(&mut self, script: &mut Script<'_>) {
        match script.below(4) {
            0 => self.session.unbind(self.now),
            1 => self.session.close(),
            2 => self.session.handle_eof(),
            _ => {
                // Only an SMSC may; that it is refused elsewhere is all that matters.
                let _refused = self.session.alert(AlertNotification::default());
            }
        }
    }

    /// A PDU that is well formed, as a peer in any mood may send it.
    fn peers_pdu(&self, script: &mut Script<'_>) -> Pdu {
        let ours = self.tokens.keys().copied().nth(script.below(4).into());
        let number = match script.below(4) {
            0 => ours.unwrap_or(1),
            1 => script.number(),
            2 => 1 + u32::from(script.below(8)),
            _ => self.session.window().last_number(),
        };
        let status = if script.flag() { CommandStatus(script.number()) } else { CommandStatus(0) };
        let body = peers_body(script);
        if body.is_request() {
            Pdu::request(number, body)
        } else {
            Pdu::response(number, status, body)
        }
    }

    /// Lets so many of the peer's octets arrive.
    fn deliver(&mut self, most: usize) {
        let count = most.min(self.wire.len());
        let octets = self.wire.split_to(count);
        if self.is_lost {
            return;
        }
        self.input.extend_from_slice(&octets);
        loop {
            match self.frames.decode(&mut self.input) {
                Ok(Some(frame)) => self.frame(frame),
                Ok(None) => break,
                Err(error) => {
                    self.is_lost = true;
                    self.asked += 1;
                    self.session.handle_frame_error(&error);
                    self.look();
                    break;
                }
            }
        }
        self.session.handle_partial(self.now, !self.input.is_empty());
    }

    fn frame(&mut self, frame: Frame) {
        let is_answer = matches!(&frame, Frame::Pdu(pdu) if !pdu.body.is_request());
        if !is_answer {
            self.asked += 1;
        }
        self.session.handle_frame(self.now, frame);
        self.look();
    }

    /// Lets the next timer run out.
    fn wait(&mut self) {
        let Some(at) = self.session.poll_timeout() else { return };
        self.now = self.now.max(at);
        for _ in 0..4 {
            self.session.handle_timeout(self.now);
            self.look();
            if self.session.poll_timeout().is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!("its timers never stop: {:?}", self.session.poll_timeout());
    }

    fn submit(&mut self, script: &mut Script<'_>) {
        let body = our_body(script);
        let token = self.next_token;
        let bound = matches!(self.session.state(), State::Bound(_));
        let used = self.session.window().used();
        match self.session.submit(self.now, token, body) {
            Ok(number) => {
                assert!(bound && used < self.window, "sent beyond the window, or without a bind");
                assert!((1..=0x7FFF_FFFF).contains(&number), "number {number:#x}");
                let before = self.tokens.insert(number, token);
                let is_free = before.is_none_or(|before| self.fates[&before] != Fate::Open);
                assert!(is_free, "number {number} stands for two requests");
                self.fates.insert(token, Fate::Open);
                self.next_token += 1;
            }
            Err(_) => assert_eq!(self.session.window().used(), used),
        }
    }

    fn answer(&mut self, script: &mut Script<'_>) {
        let place = usize::from(script.below(4));
        let number = self.owed.get(place).copied().unwrap_or_else(|| script.number());
        let status = CommandStatus(script.number());
        let waited = self.session.acknowledge(self.now, number, status);
        let owed = self.owed.iter().position(|owed| *owed == number);
        if waited {
            assert!(owed.is_some(), "it waited for no answer");
            owed.map(|owed| self.owed.remove(owed));
        }
    }

    /// Hands so many of our PDUs to the wire.
    fn write(&mut self, most: usize) {
        for _ in 0..most {
            let Some(pdu) = self.session.poll_transmit() else { return };
            let mut octets = BytesMut::new();
            encode(&pdu, &mut octets).unwrap();
            if !pdu.body.is_request() {
                self.answers += 1;
                assert!(self.answers <= self.asked, "more answers than requests");
            } else if let Some(token) = self.tokens.get(&pdu.sequence_number) {
                self.handed.insert(*token);
            }
        }
    }

    /// Takes what happened, and checks that it may.
    fn look(&mut self) {
        while let Some(event) = self.session.poll_event() {
            assert!(!self.is_over, "after its end: {event:?}");
            self.told(event);
        }
        let state = self.session.state();
        assert!(may_follow(self.state, state), "from {:?} to {state:?}", self.state);
        self.state = state;
        assert_eq!(self.is_over, state == State::Closed);
        assert!(self.session.window().used() <= self.window);
        assert!(self.owed.len() <= self.receive_window);
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Answered { token, late, .. } => {
                let (from, to) = match late {
                    false => (Fate::Open, Fate::Answered),
                    true => (Fate::TimedOut, Fate::AnsweredLate),
                };
                self.ends(token, from, to);
            }
            Event::TimedOut { token, .. } => self.ends(token, Fate::Open, Fate::TimedOut),
            Event::Request { sequence_number, body } => {
                assert!(body.is_request());
                self.owed.push(sequence_number);
            }
            Event::Closed { unanswered, unsent, .. } => {
                self.is_over = true;
                self.owed.clear();
                for token in unanswered {
                    assert!(self.handed.contains(&token), "{token} never left");
                    self.ends(token, Fate::Open, Fate::Unanswered);
                }
                for token in unsent {
                    assert!(!self.handed.contains(&token), "{token} left");
                    self.ends(token, Fate::Open, Fate::Unsent);
                }
            }
            Event::BindRequested { .. }
            | Event::Bound { .. }
            | Event::Alert(_)
            | Event::Closing { .. }
            | Event::Oddity(_) => {}
        }
    }

    fn ends(&mut self, token: u64, from: Fate, to: Fate) {
        let before = self.fates.insert(token, to);
        assert_eq!(before, Some(from), "{token} becomes {to:?}");
    }

    /// What is open at the end is what the window says; of a session that is over nothing is.
    fn end(&self) {
        let open = self.fates.values().filter(|fate| **fate == Fate::Open).count();
        assert_eq!(open, self.session.window().used());
        assert!(!self.is_over || open == 0);
    }
}

/// Whether the one state may come after the other, over whatever lies between them.
fn may_follow(before: State, after: State) -> bool {
    let rank = |state| match state {
        State::Open => 0,
        State::Binding(_) => 1,
        State::Bound(_) => 2,
        State::Draining(_) => 3,
        State::Unbinding | State::PeerUnbound => 4,
        State::Closed => 5,
    };
    // A refused ESME may try again.
    let again = matches!((before, after), (State::Binding(_), State::Open));
    let sideways = matches!((before, after), (State::PeerUnbound, State::Unbinding));
    (rank(before) <= rank(after) || again) && !sideways
}

fn mode(script: &mut Script<'_>) -> Mode {
    match script.below(4) {
        0 => Mode::Tx,
        1 => Mode::Rx,
        _ => Mode::Trx,
    }
}

fn bind(script: &mut Script<'_>) -> Bind {
    let interface_version = InterfaceVersion(script.octet());
    Bind { interface_version, ..Bind::default() }
}

fn peers_body(script: &mut Script<'_>) -> Body {
    match script.below(20) {
        0 => Body::BindTransceiverResp(BindResp::default()),
        1 => Body::BindTransmitterResp(BindResp::default()),
        2 => Body::BindReceiverResp(BindResp::default()),
        3 => Body::BindTransceiver(bind(script)),
        4 => Body::BindTransmitter(bind(script)),
        5 => Body::BindReceiver(bind(script)),
        6 => Body::EnquireLink,
        7 => Body::Unbind,
        8 | 9 => Body::GenericNack(Default::default()),
        10 | 11 => Body::SubmitSmResp(Default::default()),
        12 => Body::QuerySmResp(Default::default()),
        13 => Body::EnquireLinkResp(Default::default()),
        14 => Body::UnbindResp(Default::default()),
        15 => Body::DeliverSmResp(Default::default()),
        16 => Body::DeliverSm(Default::default()),
        17 => Body::AlertNotification(AlertNotification::default()),
        _ => our_body(script),
    }
}

fn our_body(script: &mut Script<'_>) -> Body {
    let message_id = COctetString::try_from("1").unwrap();
    match script.below(6) {
        0 => Body::DataSm(Default::default()),
        1 => Body::QuerySm(hikyaku::pdu::QuerySm { message_id, ..Default::default() }),
        2 => Body::CancelSm(Default::default()),
        3 => Body::DeliverSm(Default::default()),
        _ => {
            let mut submit = hikyaku::pdu::SubmitSm::default();
            submit.destination.addr = COctetString::try_from("81").unwrap();
            Body::SubmitSm(submit)
        }
    }
}
