//! The mind of a simulated carrier: what it answers to each request, and when. No I/O.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::pdu::Address;
use crate::pdu::Body;
use crate::pdu::COctetString;
use crate::pdu::CancelSmResp;
use crate::pdu::CommandStatus;
use crate::pdu::DataSm;
use crate::pdu::DataSmResp;
use crate::pdu::DeliverSm;
use crate::pdu::EsmClass;
use crate::pdu::MessageState;
use crate::pdu::Npi;
use crate::pdu::QuerySm;
use crate::pdu::QuerySmResp;
use crate::pdu::SubmitSm;
use crate::pdu::SubmitSmResp;
use crate::pdu::Ton;
use crate::smsc::config::Config;
use crate::smsc::config::FaultKind;
use crate::smsc::config::IdForm;
use crate::smsc::fate::Fate;
use crate::smsc::memory::Remembered;
use crate::smsc::random::Random;
use crate::smsc::receipt;
use crate::smsc::receipt::ReceiptText;
use crate::time::Time;

/// One session with the simulated carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What the carrier does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Answers a request.
    Respond {
        /// On which session.
        session: SessionId,
        /// The request's `sequence_number`.
        sequence_number: u32,
        /// The status.
        status: CommandStatus,
        /// The body.
        body: Body,
    },
    /// Sends a `deliver_sm`.
    Deliver {
        /// On which session.
        session: SessionId,
        /// The receipt or message.
        body: Body,
    },
    /// Cuts a connection without a word.
    Cut {
        /// Which.
        session: SessionId,
    },
    /// Unbinds a session.
    Unbind {
        /// Which.
        session: SessionId,
    },
    /// Writes octets that are no PDU.
    Garbage {
        /// To which session.
        session: SessionId,
        /// What.
        octets: Bytes,
    },
}

/// Counts of what a simulated carrier has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Submits taken with `ESME_ROK`.
    pub accepted: u64,
    /// Submits refused for another reason than their pace.
    pub refused: u64,
    /// Submits answered `ESME_RTHROTTLED` or `ESME_RMSGQFUL`.
    pub throttled: u64,
    /// Receipts sent.
    pub receipts: u64,
    /// Receipts and messages of handsets for which there was no room.
    pub lost: u64,
    /// Requests that a black hole swallowed.
    pub swallowed: u64,
}

/// How much a simulated carrier holds at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// Sessions that are bound.
    pub sessions: usize,
    /// Answers that are not due yet.
    pub answers: usize,
    /// Receipts and messages of handsets that no session has.
    pub waiting: usize,
    /// Those that sessions have and their peers have not taken.
    pub handed: usize,
    /// Messages and throttled numbers that are remembered, the greater of both.
    pub remembered: usize,
}

/// One submit as the simulated carrier saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// When.
    pub at: Time,
    /// On which session.
    pub session: SessionId,
    /// What was answered, or will be.
    pub status: CommandStatus,
    /// The request.
    pub submit: SubmitSm,
}

/// A simulated carrier.
#[derive(Debug)]
pub struct Model {
    config: Config,
    started: Time,
    random: Random,
    sessions: BTreeMap<SessionId, Peer>,
    due: BinaryHeap<Reverse<Due>>,
    turn: u64,
    next_id: u64,
    recent: VecDeque<Time>,
    /// How often a number was throttled by its last digits.
    throttles: Remembered<Bytes, u8>,
    /// By the id that the answer had.
    states: Remembered<String, MessageState>,
    waiting: VecDeque<Body>,
    /// How many receipts are in `due`.
    planned: usize,
    next_fault: usize,
    next_inbound: Option<Time>,
    black_hole_until: Time,
    refuse_until: Time,
    tally: Tally,
    seen: Option<Vec<Seen>>,
}

/// A bound session as the model knows it.
#[derive(Debug)]
struct Peer {
    receives: bool,
    unanswered: u32,
    /// Receipts and messages that it was handed and has not answered.
    handed: usize,
}

/// Something to do at its time; of two at the same time, the earlier made goes first.
#[derive(Debug, PartialEq)]
struct Due {
    at: Time,
    turn: u64,
    step: Step,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Respond { session: SessionId, sequence_number: u32, status: CommandStatus, body: Body },
    Receipt { body: Body },
    Cut { session: SessionId },
}

impl Step {
    /// The session without which it means nothing.
    const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Respond { session, .. } | Self::Cut { session } => Some(*session),
            Self::Receipt { .. } => None,
        }
    }
}

impl Peer {
    const fn has_room(&self) -> bool {
        self.receives && self.handed < MOST_HANDED
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.turn).cmp(&(other.at, other.turn))
    }
}

/// The most receipts that one session is handed before it answers.
pub(super) const MOST_HANDED: usize = 1_000;

/// How long a receipt that was refused or not answered waits for its next try.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Model {
    /// A carrier that opens at `now`.
    pub fn new(config: Config, now: Time) -> Self {
        Self {
            random: Random::new(config.seed),
            started: now,
            sessions: BTreeMap::new(),
            due: BinaryHeap::new(),
            turn: 0,
            next_id: 1 + (config.seed.wrapping_mul(0x9e37_79b9) & 0xff_ffff),
            recent: VecDeque::new(),
            throttles: Remembered::new(config.max_remembered),
            states: Remembered::new(config.max_remembered),
            waiting: VecDeque::new(),
            planned: 0,
            next_fault: 0,
            next_inbound: config.inbound_every.filter(|it| !it.is_zero()).map(|it| now + *it),
            black_hole_until: Time::ZERO,
            refuse_until: Time::ZERO,
            tally: Tally::default(),
            seen: None,
            config,
        }
    }

    /// Keeps every submit from now on for [`Self::seen`].
    pub fn remember(&mut self) {
        self.seen.get_or_insert_default();
    }

    /// Every submit since [`Self::remember`], in order.
    pub fn seen(&self) -> &[Seen] {
        self.seen.as_deref().unwrap_or_default()
    }

    /// What has happened so far.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// How much it holds at present.
    pub fn holds(&self) -> Holds {
        Holds {
            sessions: self.sessions.len(),
            answers: self.due.len() - self.planned,
            waiting: self.planned + self.waiting.len(),
            handed: self.sessions.values().map(|peer| peer.handed).sum(),
            remembered: self.states.len().max(self.throttles.len()),
        }
    }

    /// What the carrier is like.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Judges a bind: the status that it is answered with.
    pub fn judge_bind(&self, now: Time, system_id: &[u8], password: &[u8]) -> CommandStatus {
        let wrong = |want: &str, got: &[u8]| !want.is_empty() && want.as_bytes() != got;
        if now < self.refuse_until {
            CommandStatus::ESME_RSYSERR
        } else if wrong(&self.config.system_id, system_id) {
            CommandStatus::ESME_RINVSYSID
        } else if wrong(&self.config.password, password) {
            CommandStatus::ESME_RINVPASWD
        } else if self.sessions.len() >= usize::from(self.config.max_binds) {
            CommandStatus::ESME_RALYBND
        } else {
            CommandStatus::ESME_ROK
        }
    }

    /// A session is bound; `receives` when `deliver_sm` may go to it.
    pub fn bound(&mut self, session: SessionId, receives: bool) {
        self.sessions.insert(session, Peer { receives, unanswered: 0, handed: 0 });
    }

    /// A session is gone, and with it what it would have been answered.
    pub fn lost(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_some() {
            self.due.retain(|Reverse(due)| due.step.session() != Some(session));
        }
    }

    /// A receipt was taken on this session, which has room for another.
    pub fn delivered(&mut self, session: SessionId) {
        if let Some(peer) = self.sessions.get_mut(&session) {
            peer.handed = peer.handed.saturating_sub(1);
        }
    }

    /// A receipt was refused, or not answered in time: it is tried again after a while.
    pub fn refused(&mut self, now: Time, session: SessionId, body: Body) {
        self.delivered(session);
        self.plan(now + TRY_AGAIN, body);
    }

    /// A receipt did not get through before its session was lost: it is sent again on another.
    pub fn undelivered(&mut self, body: Body) {
        self.wait(body);
    }

    /// Takes a request of a bound session.
    pub fn request(&mut self, now: Time, session: SessionId, sequence_number: u32, body: &Body) {
        if now < self.black_hole_until {
            self.tally.swallowed += 1;
            return;
        }
        let (status, answer) = match body {
            Body::SubmitSm(submit) => {
                return self.submit(now, session, sequence_number, submit, answer_submit);
            }
            Body::DataSm(data) => {
                return self.submit(now, session, sequence_number, &as_submit(data), answer_data);
            }
            Body::QuerySm(query) => self.query(query),
            Body::CancelSm(cancel) => (
                self.cancel(cancel.message_id.as_bytes()),
                Body::CancelSmResp(CancelSmResp::default()),
            ),
            other => match other.response() {
                Some(response) => (CommandStatus::ESME_RINVCMDID, response),
                None => return,
            },
        };
        let delay = self.between(self.config.latency);
        self.answer(now + delay, session, sequence_number, status, answer);
    }

    fn answer(
        &mut self,
        at: Time,
        session: SessionId,
        sequence_number: u32,
        status: CommandStatus,
        body: Body,
    ) {
        if let Some(peer) = self.sessions.get_mut(&session) {
            peer.unanswered += 1;
            self.at(at, Step::Respond { session, sequence_number, status, body });
        }
    }

    fn submit(
        &mut self,
        now: Time,
        session: SessionId,
        sequence_number: u32,
        submit: &SubmitSm,
        answer: fn(Option<COctetString<65>>) -> Body,
    ) {
        let fate = self.fate(submit);
        let status = self.judge(now, session, submit, fate);
        if let Some(seen) = &mut self.seen {
            seen.push(Seen { at: now, session, status, submit: submit.clone() });
        }
        let id = (status == CommandStatus::ESME_ROK).then(|| self.next_message_id());
        let answered = now + self.answer_delay(fate);
        self.tell(status);
        let shown = id.map(|id| self.shown_in_answer(id)).unwrap_or_default();
        let body =
            answer(id.map(|_| COctetString::new(shown.as_bytes().to_vec()).unwrap_or_default()));
        if fate == Fate::Cut && status == CommandStatus::ESME_ROK {
            self.at(now, Step::Cut { session });
        } else {
            self.answer(answered, session, sequence_number, status, body);
        }
        if let Some(id) = id {
            let state = self.plan_receipts(now, answered, id, submit, fate);
            self.states.insert(shown, state.unwrap_or(MessageState::ENROUTE));
        }
    }

    fn fate(&self, submit: &SubmitSm) -> Fate {
        if self.config.magic_numbers {
            Fate::of(submit.destination.addr.as_bytes())
        } else {
            Fate::Delivered
        }
    }

    fn judge(
        &mut self,
        now: Time,
        session: SessionId,
        submit: &SubmitSm,
        fate: Fate,
    ) -> CommandStatus {
        let unanswered = self.sessions.get(&session).map_or(0, |peer| peer.unanswered);
        if unanswered >= u32::from(self.config.window) {
            return CommandStatus::ESME_RMSGQFUL;
        }
        if fate == Fate::RefusedDestination || submit.destination.addr.as_bytes().is_empty() {
            return CommandStatus::ESME_RINVDSTADR;
        }
        if fate == Fate::ThrottledTwice {
            let number = submit.destination.addr.to_bytes();
            let told = self.throttles.get(&number).copied().unwrap_or_default();
            if told < 2 {
                self.throttles.insert(number, told + 1);
                return CommandStatus::ESME_RTHROTTLED;
            }
        }
        if self.over_rate(now) { CommandStatus::ESME_RTHROTTLED } else { CommandStatus::ESME_ROK }
    }

    /// Whether the last second holds as many accepted submits as the cap allows.
    fn over_rate(&mut self, now: Time) -> bool {
        let Some(rate) = self.config.rate else { return false };
        // A cap of less than one a second is one in a longer while.
        let (cap, while_) = if rate.as_millis() >= 1_000 {
            (rate.as_millis() / 1_000, Duration::from_secs(1))
        } else {
            (1, Duration::from_millis(1_000_000 / rate.as_millis()))
        };
        while self.recent.front().is_some_and(|at| now.since(*at) >= while_) {
            self.recent.pop_front();
        }
        let over = self.recent.len() as u64 >= cap;
        if !over {
            self.recent.push_back(now);
        }
        over
    }

    const fn tell(&mut self, status: CommandStatus) {
        match status {
            CommandStatus::ESME_ROK => self.tally.accepted += 1,
            CommandStatus::ESME_RTHROTTLED | CommandStatus::ESME_RMSGQFUL => {
                self.tally.throttled += 1;
            }
            _ => self.tally.refused += 1,
        }
    }

    fn answer_delay(&mut self, fate: Fate) -> Duration {
        if fate == Fate::SlowAnswer {
            return Duration::from_secs(30);
        }
        let delay = self.between(self.config.latency);
        if self.random.per_mille(self.config.out_of_order_per_mille) {
            delay + Duration::from_millis(self.random.below(1_000))
        } else {
            delay
        }
    }

    /// Plans what tells of a message that was taken, and gives the state that this tells.
    fn plan_receipts(
        &mut self,
        now: Time,
        answered: Time,
        id: u64,
        submit: &SubmitSm,
        fate: Fate,
    ) -> Option<MessageState> {
        let state = match fate {
            Fate::Undeliverable => MessageState::UNDELIVERABLE,
            Fate::Expired => MessageState::EXPIRED,
            _ => MessageState::DELIVERED,
        };
        if !receipt::is_wanted(submit, state) || fate == Fate::NoReceipt {
            return None;
        }
        if fate == Fate::OneSegmentWithoutReceipt && receipt::segment_number(submit) <= 1 {
            return None;
        }
        if self.random.per_mille(self.config.receipt_loss_per_mille) {
            return None;
        }
        let early = fate == Fate::EarlyReceipt
            || self.random.per_mille(self.config.early_receipt_per_mille);
        let delay = self.between(self.config.receipt_delay);
        let at = if early { now } else { answered + delay };
        let id = self.shown_in_receipt(id);
        let text = ReceiptText { id: &id, state, submitted: now, done: at };
        let body = receipt::write(self.config.receipts, submit, &text);
        if fate == Fate::DoubledReceipt {
            self.plan(at, body.clone());
        }
        self.plan(at, body);
        Some(state)
    }

    fn query(&self, query: &QuerySm) -> (CommandStatus, Body) {
        let id = query.message_id.to_text_lossy();
        let state = self.states.get(&id).copied();
        let body = QuerySmResp {
            message_id: Some(query.message_id.clone()),
            message_state: Some(state.unwrap_or(MessageState::UNKNOWN)),
            final_date: Some(Default::default()),
            error_code: Some(0),
            ..QuerySmResp::default()
        };
        let status = state.map_or(CommandStatus::ESME_RQUERYFAIL, |_| CommandStatus::ESME_ROK);
        (status, Body::QuerySmResp(body))
    }

    fn cancel(&mut self, id: &[u8]) -> CommandStatus {
        let id = String::from_utf8_lossy(id).into_owned();
        match self.states.get_mut(&id) {
            Some(state @ &mut MessageState::ENROUTE) => {
                *state = MessageState::DELETED;
                CommandStatus::ESME_ROK
            }
            Some(_) => CommandStatus::ESME_RCANCELFAIL,
            None => CommandStatus::ESME_RINVMSGID,
        }
    }

    const fn next_message_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn shown_in_answer(&self, id: u64) -> String {
        match self.config.ids {
            IdForm::Decimal => id.to_string(),
            IdForm::Hex | IdForm::HexThenDecimal => format!("{id:x}"),
            IdForm::ZeroPadded => format!("{id:010}"),
            IdForm::Uuid => uuid_of(self.config.seed, id),
        }
    }

    fn shown_in_receipt(&self, id: u64) -> String {
        match self.config.ids {
            IdForm::Decimal | IdForm::HexThenDecimal | IdForm::ZeroPadded => id.to_string(),
            IdForm::Hex => format!("{id:x}"),
            IdForm::Uuid => uuid_of(self.config.seed, id),
        }
    }

    fn between(&mut self, [least, most]: [crate::time::Span; 2]) -> Duration {
        let width = most.saturating_sub(*least);
        let micros = u64::try_from(width.as_micros()).unwrap_or(u64::MAX - 1);
        *least + Duration::from_micros(self.random.below(micros + 1))
    }

    /// Lets a receipt come at its time, if there is room for it.
    fn plan(&mut self, at: Time, body: Body) {
        if self.has_room() {
            self.planned += 1;
            self.at(at, Step::Receipt { body });
        }
    }

    fn at(&mut self, at: Time, step: Step) {
        self.turn += 1;
        self.due.push(Reverse(Due { at, turn: self.turn, step }));
    }

    /// When [`Self::poll`] has something next.
    pub fn next(&self) -> Option<Time> {
        let fault = self.config.faults.get(self.next_fault).map(|f| self.started + *f.after);
        let step = self.due.peek().map(|Reverse(due)| due.at);
        let receivable = !self.waiting.is_empty() && self.sessions.values().any(Peer::has_room);
        let waiting = receivable.then_some(Time::ZERO);
        [fault, step, waiting, self.next_inbound].into_iter().flatten().min()
    }

    /// Everything that is to be done by `now`.
    pub fn poll(&mut self, now: Time) -> Vec<Action> {
        let mut actions = self.break_things(now);
        self.receive_from_handsets(now);
        while self.due.peek().is_some_and(|Reverse(due)| due.at <= now) {
            let Some(Reverse(due)) = self.due.pop() else { break };
            match due.step {
                Step::Respond { session, sequence_number, status, body } => {
                    if let Some(peer) = self.sessions.get_mut(&session) {
                        peer.unanswered = peer.unanswered.saturating_sub(1);
                        actions.push(Action::Respond { session, sequence_number, status, body });
                    }
                }
                Step::Cut { session } => actions.push(Action::Cut { session }),
                Step::Receipt { body } => {
                    self.planned -= 1;
                    self.waiting.push_back(body);
                }
            }
        }
        self.deliver_waiting(&mut actions);
        actions
    }

    fn wait(&mut self, body: Body) {
        if self.has_room() {
            self.waiting.push_back(body);
        }
    }

    /// Whether one more receipt may be on its way; one that may not is lost.
    fn has_room(&mut self) -> bool {
        let has_room = self.planned + self.waiting.len() < self.config.max_waiting;
        if !has_room {
            self.tally.lost += 1;
        }
        has_room
    }

    /// Hands out what waits, to one session after the other, as far as they have room.
    fn deliver_waiting(&mut self, actions: &mut Vec<Action>) {
        while !self.waiting.is_empty() {
            let before = self.waiting.len();
            for (session, peer) in self.sessions.iter_mut().filter(|(_, peer)| peer.has_room()) {
                let Some(body) = self.waiting.pop_front() else { break };
                peer.handed += 1;
                self.tally.receipts += 1;
                actions.push(Action::Deliver { session: *session, body });
            }
            if self.waiting.len() == before {
                return;
            }
        }
    }

    fn receive_from_handsets(&mut self, now: Time) {
        while let (Some(every), Some(at)) = (self.config.inbound_every, self.next_inbound)
            && at <= now
        {
            self.wait(inbound_message(b"STOP"));
            self.next_inbound = Some(at + *every);
        }
    }

    fn break_things(&mut self, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(fault) = self.config.faults.get(self.next_fault).copied()
            && self.started + *fault.after <= now
        {
            self.next_fault += 1;
            let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
            match fault.kind {
                FaultKind::BlackHole => self.black_hole_until = now + *fault.lasts,
                FaultKind::Refuse => self.refuse_until = now + *fault.lasts,
                FaultKind::Cut | FaultKind::Unbind | FaultKind::Garbage => {}
            }
            actions.extend(sessions.into_iter().filter_map(|session| match fault.kind {
                FaultKind::Cut | FaultKind::Refuse => Some(Action::Cut { session }),
                FaultKind::Unbind => Some(Action::Unbind { session }),
                FaultKind::Garbage => Some(Action::Garbage { session, octets: GARBAGE }),
                FaultKind::BlackHole => None,
            }));
        }
        actions
    }
}

/// Begins like a frame of 4 GiB.
const GARBAGE: Bytes = Bytes::from_static(b"\xff\xff\xff\xffgarbage, not SMPP\x00\x00\x00\x01");

fn answer_submit(message_id: Option<COctetString<65>>) -> Body {
    Body::SubmitSmResp(SubmitSmResp { message_id, ..SubmitSmResp::default() })
}

fn answer_data(message_id: Option<COctetString<65>>) -> Body {
    Body::DataSmResp(DataSmResp { message_id, ..DataSmResp::default() })
}

/// The same message as a `submit_sm`, for the one way of judging.
fn as_submit(data: &DataSm) -> SubmitSm {
    let narrow = |address: &Address<65>| Address {
        ton: address.ton,
        npi: address.npi,
        addr: COctetString::new(address.addr.to_bytes()).unwrap_or_default(),
    };
    SubmitSm {
        service_type: data.service_type.clone(),
        source: narrow(&data.source),
        destination: narrow(&data.destination),
        esm_class: data.esm_class,
        registered_delivery: data.registered_delivery,
        data_coding: data.data_coding,
        tlvs: data.tlvs.clone(),
        ..SubmitSm::default()
    }
}

/// A short message from a handset, in GSM 03.38.
fn inbound_message(text: &'static [u8]) -> Body {
    let number = |digits| Address::new(Ton::INTERNATIONAL, Npi::ISDN, digits).unwrap_or_default();
    Body::DeliverSm(DeliverSm {
        source: number("819000000000"),
        destination: number("819012345678"),
        esm_class: EsmClass(0),
        short_message: crate::pdu::ShortMessage::new(Bytes::from_static(text))
            .unwrap_or(crate::pdu::ShortMessage::EMPTY),
        ..DeliverSm::default()
    })
}

fn uuid_of(seed: u64, id: u64) -> String {
    let bits = (u128::from(seed) << 64) | u128::from(id);
    uuid::Builder::from_u128(bits).with_version(uuid::Version::Random).into_uuid().to_string()
}
