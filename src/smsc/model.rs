//! The mind of a simulated carrier: what it answers to each request, and when. No I/O.
//!
//! The last four digits of a destination choose its fate, the same in the demo, the tests and the
//! documents:
//!
//! | digits | fate |
//! |---|---|
//! | 0001 | `ESME_RINVDSTADR` at submit |
//! | 0002 | receipt `UNDELIV` |
//! | 0003 | receipt `EXPIRED` |
//! | 0004 | no receipt |
//! | 0005 | throttled twice, then accepted |
//! | 0006 | receipt before the answer |
//! | 0007 | receipts doubled |
//! | 0008 | one segment without its receipt |
//! | 0009 | answered after 30 s |
//! | 0010 | connection cut after the submit |
//! | others | delivered |

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::pdu::Address;
use crate::pdu::Body;
use crate::pdu::CancelSmResp;
use crate::pdu::CommandStatus;
use crate::pdu::DataSm;
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
    /// Requests that a black hole swallowed.
    pub swallowed: u64,
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
    throttles: HashMap<Bytes, u8>,
    states: HashMap<String, MessageState>,
    state_order: VecDeque<String>,
    waiting: VecDeque<Body>,
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

/// The most message states that are remembered.
const MEMORY: usize = 100_000;

/// The most receipts that wait for a receiving session; what comes beyond is never sent.
const MOST_WAITING: usize = 4_000_000;

/// The most receipts that one session is handed before it answers.
pub(super) const MOST_HANDED: usize = 1_000;

/// How long a receipt that was refused or not answered waits for its next try.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What becomes of one submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    RefusedDestination,
    Undeliverable,
    Expired,
    NoReceipt,
    ThrottledTwice,
    EarlyReceipt,
    DoubledReceipt,
    OneSegmentWithoutReceipt,
    SlowAnswer,
    Cut,
}

impl Fate {
    fn of(destination: &[u8]) -> Self {
        match destination.get(destination.len().saturating_sub(4)..).unwrap_or_default() {
            b"0001" => Self::RefusedDestination,
            b"0002" => Self::Undeliverable,
            b"0003" => Self::Expired,
            b"0004" => Self::NoReceipt,
            b"0005" => Self::ThrottledTwice,
            b"0006" => Self::EarlyReceipt,
            b"0007" => Self::DoubledReceipt,
            b"0008" => Self::OneSegmentWithoutReceipt,
            b"0009" => Self::SlowAnswer,
            b"0010" => Self::Cut,
            _ => Self::Delivered,
        }
    }
}

impl Model {
    /// A carrier that opens at `now`.
    pub fn new(config: Config, now: Time) -> Self {
        Self {
            random: Random(config.seed),
            started: now,
            sessions: BTreeMap::new(),
            due: BinaryHeap::new(),
            turn: 0,
            next_id: 1 + (config.seed.wrapping_mul(0x9e37_79b9) & 0xff_ffff),
            recent: VecDeque::new(),
            throttles: HashMap::new(),
            states: HashMap::new(),
            state_order: VecDeque::new(),
            waiting: VecDeque::new(),
            next_fault: 0,
            next_inbound: config.inbound_every.map(|every| now + *every),
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

    /// A session is gone.
    pub fn lost(&mut self, session: SessionId) {
        self.sessions.remove(&session);
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
        self.at(now + TRY_AGAIN, Step::Receipt { body });
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
            Body::SubmitSm(submit) => return self.submit(now, session, sequence_number, submit),
            Body::DataSm(data) => {
                return self.submit(now, session, sequence_number, &as_submit(data));
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
        let step = Step::Respond { session, sequence_number, status, body: answer };
        let delay = self.between(self.config.latency);
        self.at(now + delay, step);
    }

    fn submit(&mut self, now: Time, session: SessionId, sequence_number: u32, submit: &SubmitSm) {
        let fate = self.fate(submit);
        let status = self.judge(now, session, submit, fate);
        if let Some(seen) = &mut self.seen {
            seen.push(Seen { at: now, session, status, submit: submit.clone() });
        }
        if let Some(peer) = self.sessions.get_mut(&session) {
            peer.unanswered += 1;
        }
        let id = (status == CommandStatus::ESME_ROK).then(|| self.next_message_id());
        let answered = now + self.answer_delay(fate);
        self.tell(status);
        let shown = id.map(|id| self.shown_in_answer(id)).unwrap_or_default();
        let body = submit_answer(status, &shown);
        if fate == Fate::Cut && status == CommandStatus::ESME_ROK {
            self.at(now, Step::Cut { session });
        } else {
            self.at(answered, Step::Respond { session, sequence_number, status, body });
        }
        if let Some(id) = id {
            self.remember_state(&shown, MessageState::ENROUTE);
            self.plan_receipts(now, answered, id, submit, fate);
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
            let told = self.throttles.entry(submit.destination.addr.to_bytes()).or_default();
            if *told < 2 {
                *told += 1;
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

    fn plan_receipts(&mut self, now: Time, answered: Time, id: u64, submit: &SubmitSm, fate: Fate) {
        let state = match fate {
            Fate::Undeliverable => MessageState::UNDELIVERABLE,
            Fate::Expired => MessageState::EXPIRED,
            _ => MessageState::DELIVERED,
        };
        if !receipt::is_wanted(submit, state) || fate == Fate::NoReceipt {
            return;
        }
        if fate == Fate::OneSegmentWithoutReceipt && receipt::segment_number(submit) <= 1 {
            return;
        }
        if self.random.per_mille(self.config.receipt_loss_per_mille) {
            return;
        }
        let early = fate == Fate::EarlyReceipt
            || self.random.per_mille(self.config.early_receipt_per_mille);
        let delay = self.between(self.config.receipt_delay);
        let at = if early { now } else { answered + delay };
        let id = self.shown_in_receipt(id);
        let text = ReceiptText { id: &id, state, submitted: now, done: at };
        let body = receipt::write(self.config.receipts, submit, &text);
        self.remember_state(&id, state);
        for _ in 0..if fate == Fate::DoubledReceipt { 2 } else { 1 } {
            self.at(at, Step::Receipt { body: body.clone() });
        }
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

    fn remember_state(&mut self, id: &str, state: MessageState) {
        if self.states.insert(id.to_owned(), state).is_none() {
            self.state_order.push_back(id.to_owned());
        }
        while self.state_order.len() > MEMORY {
            if let Some(oldest) = self.state_order.pop_front() {
                self.states.remove(&oldest);
            }
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
                Step::Receipt { body } => self.wait(body),
            }
        }
        self.deliver_waiting(&mut actions);
        actions
    }

    fn wait(&mut self, body: Body) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(body);
        }
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
        let Some(every) = self.config.inbound_every else { return };
        while self.next_inbound.is_some_and(|at| at <= now) {
            let body = inbound_message(b"STOP");
            self.wait(body);
            self.next_inbound = self.next_inbound.map(|at| at + *every);
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

fn submit_answer(status: CommandStatus, id: &str) -> Body {
    let message_id = (status == CommandStatus::ESME_ROK)
        .then(|| crate::pdu::COctetString::new(id.as_bytes().to_vec()).unwrap_or_default());
    Body::SubmitSmResp(SubmitSmResp { message_id, ..SubmitSmResp::default() })
}

/// The same message as a `submit_sm`, for the one way of judging.
fn as_submit(data: &DataSm) -> SubmitSm {
    let narrow = |address: &Address<65>| Address {
        ton: address.ton,
        npi: address.npi,
        addr: crate::pdu::COctetString::new(address.addr.to_bytes()).unwrap_or_default(),
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

/// splitmix64: small, seeded, the same everywhere.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly in `0..bound`; 0 when `bound` is 0.
    const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    const fn per_mille(&mut self, chance: u16) -> bool {
        self.below(1_000) < chance as u64
    }
}
