//! The carriers: the model of `hikyaku::smsc` behind sessions, worse manners on top, and a book of
//! what each has seen.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use hikyaku::pdu::Bind;
use hikyaku::pdu::Body;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::Frames;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::SubmitSmResp;
use hikyaku::pdu::Tag;
use hikyaku::pdu::encode;
use hikyaku::session::Event;
use hikyaku::session::Mode;
use hikyaku::session::Session;
use hikyaku::session::SmscConfig;
use hikyaku::smsc::Action;
use hikyaku::smsc::IdForm;
use hikyaku::smsc::Model;
use hikyaku::smsc::SessionId;
use hikyaku::text::Udh;
use hikyaku::time::Span;
use hikyaku::time::Time;
use tokio_util::codec::Decoder;

use super::coverage::Coverage;
use super::draw::Draws;
use super::plan::CarrierPlan;
use super::truth::known;
use super::wire::End;
use super::wire::Net;
use super::wire::Read;

/// What a carrier refuses with, when it is in the mood.
pub(super) const REFUSALS: [CommandStatus; 10] = [
    CommandStatus::ESME_RSYSERR,
    CommandStatus::ESME_RMSGQFUL,
    CommandStatus::ESME_RTHROTTLED,
    CommandStatus::ESME_RSUBMITFAIL,
    CommandStatus::ESME_RINVSRCADR,
    CommandStatus::ESME_RINVDSTADR,
    CommandStatus::ESME_RX_T_APPN,
    CommandStatus::ESME_RX_P_APPN,
    CommandStatus::ESME_RINVBNDSTS,
    CommandStatus(0x0432),
];

/// One carrier.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) plan: CarrierPlan,
    number: usize,
    started: Time,
    model: Model,
    sides: BTreeMap<u64, Side>,
    /// What comes later than the model wants it.
    delayed: Vec<(Time, Action)>,
    /// When the last submits were taken under a hidden cap.
    taken: VecDeque<Time>,
    draws: Draws,
    /// Every submit that came, in order.
    pub(super) book: Vec<Sight>,
    by_request: HashMap<(u64, u32), usize>,
    /// By the id in its plain form.
    pub(super) receipts: BTreeMap<String, ReceiptSight>,
}

/// A submit as its carrier saw it.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub(super) at: Time,
    pub(super) message: usize,
    pub(super) total: u8,
    /// From 0.
    pub(super) segment: u8,
    /// What the carrier made of it; `None` when it was swallowed.
    pub(super) status: Option<CommandStatus>,
    /// The id that it was given, in its plain form, once that was said.
    pub(super) id: Option<String>,
}

impl Sight {
    /// Whether the carrier has it.
    pub(super) fn is_held(&self) -> bool {
        self.status == Some(CommandStatus::ESME_ROK)
    }
}

/// A receipt as its carrier knows it.
#[derive(Clone, Debug)]
pub(super) struct ReceiptSight {
    pub(super) message: usize,
    pub(super) is_delivered: bool,
    /// When the gateway first took it.
    pub(super) taken_at: Option<Time>,
}

/// The carrier's end of one connection.
#[derive(Debug)]
struct Side {
    session: Session,
    input: BytesMut,
    held: VecDeque<Body>,
    sent: BTreeMap<u64, Body>,
    next_token: u64,
}

/// The number of the message that a sender's address stands for.
pub(super) fn message_of(sender: &[u8]) -> Option<usize> {
    std::str::from_utf8(sender).ok()?.strip_prefix(SENDER)?.parse().ok()
}

/// What every sender begins with; the message's number follows in eight digits.
pub(super) const SENDER: &str = "8150";

impl Carrier {
    pub(super) fn new(plan: CarrierPlan, number: usize, now: Time, mut draws: Draws) -> Self {
        let mut model = Model::new(plan.model.clone(), now);
        model.remember();
        Self {
            number,
            started: now,
            model,
            sides: BTreeMap::new(),
            delayed: Vec::new(),
            taken: VecDeque::new(),
            draws: draws.fork(),
            book: Vec::new(),
            by_request: HashMap::new(),
            receipts: BTreeMap::new(),
            plan,
        }
    }

    /// When it has something to do next, apart from what arrives.
    pub(super) fn next(&self) -> Option<Time> {
        let delayed = self.delayed.iter().map(|(at, _)| *at);
        let sides = self.sides.values().filter_map(|side| side.session.poll_timeout());
        delayed.chain(sides).chain(self.model.next()).min()
    }

    /// A connection comes in.
    pub(super) fn accept(&mut self, now: Time, connection: u64) {
        let mut config = SmscConfig { window: 20, ..SmscConfig::default() };
        config.timers.inactivity = self.plan.model.inactivity;
        config.timers.enquire_link = Span::secs(30);
        config.timers.response = Span::secs(20);
        let side = Side {
            session: Session::smsc(now, &config),
            input: BytesMut::new(),
            held: VecDeque::new(),
            sent: BTreeMap::new(),
            next_token: 0,
        };
        self.sides.insert(connection, side);
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = u64> {
        self.sides.keys().copied()
    }

    /// Does all that is due.
    pub(super) fn turn(&mut self, now: Time, net: &mut Net, coverage: &mut Coverage) {
        for connection in self.connections().collect::<Vec<_>>() {
            self.read(now, net, connection);
            self.settle(now, net, connection, coverage);
        }
        let due = self.delayed.extract_if(.., |(at, _)| *at <= now);
        let mut actions: Vec<Action> = due.map(|(_, action)| action).collect();
        for action in self.model.poll(now) {
            actions.extend(self.misbehave(now, action, coverage));
        }
        for action in actions {
            self.act(now, net, action, coverage);
        }
        for connection in self.connections().collect::<Vec<_>>() {
            self.settle(now, net, connection, coverage);
        }
    }

    fn read(&mut self, now: Time, net: &mut Net, connection: u64) {
        let Some(side) = self.sides.get_mut(&connection) else { return };
        let mut frames = Frames::default();
        while let Some(read) = net.read(now, connection, End::Carrier) {
            match read {
                Read::Octets(octets) => side.input.extend_from_slice(&octets),
                Read::End => side.session.handle_eof(),
            }
            loop {
                match frames.decode(&mut side.input) {
                    Ok(Some(frame)) => side.session.handle_frame(now, frame),
                    Ok(None) => break,
                    Err(error) => {
                        side.session.handle_frame_error(&error);
                        break;
                    }
                }
            }
            side.session.handle_partial(now, !side.input.is_empty());
        }
        while side.session.poll_timeout().is_some_and(|at| at <= now) {
            side.session.handle_timeout(now);
        }
    }

    /// Hears what a session says, sends what its window has room for, writes.
    fn settle(&mut self, now: Time, net: &mut Net, connection: u64, coverage: &mut Coverage) {
        while let Some(event) =
            self.sides.get_mut(&connection).and_then(|side| side.session.poll_event())
        {
            match event {
                Event::BindRequested { bind, .. } => self.judge(now, connection, &bind, coverage),
                Event::Bound { mode, .. } => {
                    self.model.bound(SessionId(connection), mode != Mode::Tx);
                }
                Event::Request { sequence_number, body } => {
                    self.request(now, connection, sequence_number, &body, coverage);
                }
                Event::Answered { token, status, .. } => {
                    let side = self.sides.get_mut(&connection);
                    let body = side.and_then(|side| side.sent.remove(&token));
                    self.receipt_answered(now, connection, status, body, coverage);
                }
                Event::Closed { .. } => return self.over(now, net, connection),
                _ => {}
            }
        }
        let Some(side) = self.sides.get_mut(&connection) else { return };
        while let Some(body) = side.held.pop_front() {
            side.next_token += 1;
            if side.session.submit(now, side.next_token, body.clone()).is_err() {
                side.held.push_front(body);
                break;
            }
            side.sent.insert(side.next_token, body);
        }
        write(now, net, connection, side);
    }

    fn judge(&mut self, now: Time, connection: u64, bind: &Bind, coverage: &mut Coverage) {
        let (system_id, password) = (bind.system_id.as_bytes(), bind.password.as_bytes());
        let status = self.model.judge_bind(now, system_id, password);
        coverage.count(format!("bind {status}"));
        let Some(side) = self.sides.get_mut(&connection) else { return };
        if status == CommandStatus::ESME_ROK {
            side.session.accept_bind();
        } else {
            side.session.refuse_bind(status);
        }
    }

    fn over(&mut self, now: Time, net: &mut Net, connection: u64) {
        let Some(mut side) = self.sides.remove(&connection) else { return };
        write(now, net, connection, &mut side);
        net.close(now, connection, End::Carrier);
        self.model.lost(SessionId(connection));
        for body in side.held.into_iter().chain(side.sent.into_values()) {
            self.model.undelivered(body);
        }
    }

    fn request(
        &mut self,
        now: Time,
        connection: u64,
        sequence_number: u32,
        body: &Body,
        coverage: &mut Coverage,
    ) {
        let Body::SubmitSm(submit) = body else {
            coverage.count(format!("request {}", body.command_id()));
            return self.model.request(now, SessionId(connection), sequence_number, body);
        };
        let status = match self.refusal(now) {
            Some(status) => {
                let answer = Action::Respond {
                    session: SessionId(connection),
                    sequence_number,
                    status,
                    body: Body::SubmitSmResp(SubmitSmResp::default()),
                };
                self.delayed.push((now + self.draws.millis(1, 20), answer));
                Some(status)
            }
            None => {
                let before = self.model.seen().len();
                self.model.request(now, SessionId(connection), sequence_number, body);
                self.model.seen().get(before).map(|seen| seen.status)
            }
        };
        let said = status.map_or_else(|| "swallowed".to_owned(), known);
        coverage.count(format!("submit {said}"));
        if let Some(sight) = sight(now, submit, status) {
            self.by_request.insert((connection, sequence_number), self.book.len());
            self.book.push(sight);
        }
    }

    /// A refusal that the model knows nothing of.
    fn refusal(&mut self, now: Time) -> Option<CommandStatus> {
        if self.draws.per_mille(self.plan.manners.refusals) {
            let any = u32::try_from(self.draws.between(1, 0x110)).unwrap();
            let usual = self.draws.pick(&REFUSALS);
            return Some(if self.draws.per_mille(300) { CommandStatus(any) } else { usual });
        }
        let past = now.since(self.started);
        let caps = self.plan.manners.caps.iter();
        let (_, cap) = caps.rev().find(|(from, _)| *from <= past)?;
        while self.taken.front().is_some_and(|at| now.since(*at) >= Duration::from_secs(1)) {
            self.taken.pop_front();
        }
        if self.taken.len() as u64 >= *cap {
            return Some(CommandStatus::ESME_RTHROTTLED);
        }
        self.taken.push_back(now);
        None
    }

    /// What becomes of what the model wants to do.
    fn misbehave(&mut self, now: Time, action: Action, coverage: &mut Coverage) -> Vec<Action> {
        let manners = &self.plan.manners;
        match &action {
            Action::Respond {
                session, sequence_number, body: Body::SubmitSmResp(resp), ..
            } => {
                let id = resp.message_id.as_ref().map(|id| id.to_text_lossy());
                let sight = self.by_request.get(&(session.0, *sequence_number));
                if let (Some(sight), Some(id)) = (sight, id) {
                    self.book[*sight].id = Some(plain(self.plan.model.ids, &id, true));
                }
                if self.draws.per_mille(manners.unsaid_answers) {
                    coverage.count("answer unsaid".into());
                    return Vec::new();
                }
                if self.draws.per_mille(manners.late_answers) {
                    coverage.count("answer late".into());
                    let late = self.plan.session.timers.response.0 + self.draws.millis(1, 40_000);
                    self.delayed.push((now + late, action));
                    return Vec::new();
                }
            }
            Action::Deliver { body, .. } => {
                if self.draws.per_mille(manners.late_receipts) {
                    coverage.count("receipt held back".into());
                    let late = self.draws.millis(1_000, 60_000);
                    self.delayed.push((now + late, action));
                    return Vec::new();
                }
                if self.draws.per_mille(manners.garbled_receipts) {
                    coverage.count("receipt garbled beside it".into());
                    self.model.undelivered(garbled(body, &mut self.draws));
                }
                if self.draws.per_mille(manners.doubled_receipts) {
                    coverage.count("receipt doubled".into());
                    self.model.undelivered(body.clone());
                }
            }
            Action::Cut { .. } => coverage.count("carrier cuts".into()),
            Action::Unbind { .. } => coverage.count("carrier unbinds".into()),
            Action::Garbage { .. } => coverage.count("carrier writes garbage".into()),
            Action::Respond { .. } => {}
        }
        vec![action]
    }

    fn act(&mut self, now: Time, net: &mut Net, action: Action, coverage: &mut Coverage) {
        match action {
            Action::Respond { session, sequence_number, status, body } => {
                if let Some(side) = self.sides.get_mut(&session.0) {
                    side.session.respond(now, sequence_number, status, body);
                }
            }
            Action::Deliver { session, body } => {
                self.note_receipt(&body, coverage);
                match self.sides.get_mut(&session.0) {
                    Some(side) => side.held.push_back(body),
                    None => self.model.undelivered(body),
                }
            }
            Action::Cut { session } => {
                net.cut(now, session.0);
                if let Some(side) = self.sides.get_mut(&session.0) {
                    side.session.handle_eof();
                }
            }
            Action::Unbind { session } => {
                if let Some(side) = self.sides.get_mut(&session.0) {
                    side.session.unbind(now);
                }
            }
            Action::Garbage { session, octets } => {
                net.write(now, session.0, End::Carrier, octets);
            }
        }
    }

    fn note_receipt(&mut self, body: &Body, coverage: &mut Coverage) {
        let Some((id, message, is_delivered)) = self.read_receipt(body) else { return };
        let has_answer = self.book.iter().any(|sight| sight.id.as_ref() == Some(&id));
        coverage.count_if(!has_answer, "receipt before the answer");
        let sight = ReceiptSight { message, is_delivered, taken_at: None };
        self.receipts.entry(id).or_insert(sight);
    }

    /// The plain id of a receipt, the message that it is about, and whether that was delivered.
    pub(super) fn read_receipt(&self, body: &Body) -> Option<(String, usize, bool)> {
        let Body::DeliverSm(deliver) = body else { return None };
        let message = message_of(deliver.destination.addr.as_bytes())?;
        let id = receipt_id(deliver)?;
        let text = String::from_utf8_lossy(deliver.short_message.as_bytes()).to_uppercase();
        let is_delivered = match deliver.tlvs.get_u8(Tag::MESSAGE_STATE) {
            Some(state) => state == 2,
            None => text.contains("STAT:DELIVRD"),
        };
        Some((plain(self.plan.model.ids, &id, false), message, is_delivered))
    }

    fn receipt_answered(
        &mut self,
        now: Time,
        connection: u64,
        status: CommandStatus,
        body: Option<Body>,
        coverage: &mut Coverage,
    ) {
        coverage.count(format!("receipt answered {status}"));
        let Some(body) = body else { return };
        if status != CommandStatus::ESME_ROK {
            let again = Action::Deliver { session: SessionId(connection), body };
            return self.delayed.push((now + Duration::from_secs(2), again));
        }
        if let Some((id, ..)) = self.read_receipt(&body)
            && let Some(sight) = self.receipts.get_mut(&id)
        {
            sight.taken_at.get_or_insert(now);
        }
    }

    /// The plain form of an id in an answer.
    pub(super) fn plain_answer(&self, id: &str) -> Option<String> {
        (!id.is_empty()).then(|| plain(self.plan.model.ids, id, true))
    }

    /// Whether no receipt is on its way any more.
    pub(super) fn is_quiet(&self) -> bool {
        self.delayed.is_empty()
            && self.sides.values().all(|side| side.held.is_empty() && side.sent.is_empty())
    }

    /// The segment that it gave this id, in its plain form.
    pub(super) fn segment_of(&self, id: &str) -> Option<u8> {
        self.book.iter().find(|sight| sight.id.as_deref() == Some(id)).map(|sight| sight.segment)
    }

    /// Its number among the carriers.
    pub(super) const fn number(&self) -> usize {
        self.number
    }
}

/// What looks like a receipt and says nothing that can be read.
fn garbled(body: &Body, draws: &mut Draws) -> Body {
    let mut body = body.clone();
    if let Body::DeliverSm(deliver) = &mut body {
        let words =
            draws.pick(&["", "DELIVERED", "id: sub: dlvrd: stat:", "\u{0}\u{1}\u{2}", "stat:?"]);
        deliver.tlvs = hikyaku::pdu::Tlvs::new();
        deliver.short_message = hikyaku::pdu::ShortMessage::new(words.as_bytes()).unwrap();
    }
    body
}

fn write(now: Time, net: &mut Net, connection: u64, side: &mut Side) {
    let mut output = BytesMut::new();
    while let Some(pdu) = side.session.poll_transmit() {
        encode(&pdu, &mut output).unwrap();
    }
    if !output.is_empty() {
        net.write(now, connection, End::Carrier, output.freeze());
    }
}

fn sight(now: Time, submit: &SubmitSm, status: Option<CommandStatus>) -> Option<Sight> {
    let message = message_of(submit.source.addr.as_bytes())?;
    let (_, total, segment) = parts(submit);
    Some(Sight { at: now, message, total, segment, status, id: None })
}

/// The reference, how many segments there are, and which of them this is, from 0.
pub(super) fn parts(submit: &SubmitSm) -> (Option<u16>, u8, u8) {
    if let Some(reference) = submit.tlvs.get_u16(Tag::SAR_MSG_REF_NUM) {
        let total = submit.tlvs.get_u8(Tag::SAR_TOTAL_SEGMENTS).unwrap();
        let number = submit.tlvs.get_u8(Tag::SAR_SEGMENT_SEQNUM).unwrap();
        return (Some(reference), total, number - 1);
    }
    let (udh, _) = Udh::split(submit.esm_class.udhi(), submit.short_message.as_bytes());
    match udh.concat {
        Some(concat) => (Some(concat.reference), concat.total, concat.seq - 1),
        None => (None, 1, 0),
    }
}

/// The id of a receipt as it is written there.
pub(super) fn receipt_id(deliver: &DeliverSm) -> Option<String> {
    if let Some(id) = deliver.tlvs.get(Tag::RECEIPTED_MESSAGE_ID) {
        return Some(String::from_utf8_lossy(id).trim_end_matches('\0').to_owned());
    }
    let text = String::from_utf8_lossy(deliver.short_message.as_bytes()).into_owned();
    text.strip_prefix("id:")?.split(' ').next().map(str::to_owned)
}

/// The same for an id in an answer and in a receipt.
fn plain(form: IdForm, id: &str, is_answer: bool) -> String {
    let is_hex = match form {
        IdForm::Hex => true,
        IdForm::HexThenDecimal => is_answer,
        IdForm::Decimal | IdForm::ZeroPadded => false,
        IdForm::Uuid => return id.to_owned(),
    };
    let number = u64::from_str_radix(id, if is_hex { 16 } else { 10 });
    number.map_or_else(|_| id.to_owned(), |number| number.to_string())
}
