//! A dispatcher, a journal that can be stopped and cut, and carriers played by the script.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hikyaku::dispatch::BindId;
use hikyaku::dispatch::Config;
use hikyaku::dispatch::Dispatch;
use hikyaku::dispatch::Effect;
use hikyaku::dispatch::Event;
use hikyaku::dispatch::Notice;
use hikyaku::dispatch::Reply;
use hikyaku::dispatch::Ticket;
use hikyaku::dispatch::Token;
use hikyaku::message::Class;
use hikyaku::message::Content;
use hikyaku::message::EncodingChoice;
use hikyaku::message::Finish;
use hikyaku::message::IdSource;
use hikyaku::message::Idempotency;
use hikyaku::message::MessageId;
use hikyaku::message::PlanSummary;
use hikyaku::message::Position;
use hikyaku::message::ReceiptsWanted;
use hikyaku::message::Record;
use hikyaku::message::State;
use hikyaku::message::Submission;
use hikyaku::pdu::Address;
use hikyaku::pdu::Body;
use hikyaku::pdu::COctetString;
use hikyaku::pdu::CancelSmResp;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::pdu::MessageState;
use hikyaku::pdu::Npi;
use hikyaku::pdu::QuerySmResp;
use hikyaku::pdu::ShortMessage;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::SubmitSmResp;
use hikyaku::pdu::Tlvs;
use hikyaku::pdu::Ton;
use hikyaku::route::Carrier;
use hikyaku::route::CarrierConfig;
use hikyaku::route::RouteConfig;
use hikyaku::route::Routes;
use hikyaku::time::Time;

pub(super) const ROK: CommandStatus = CommandStatus::ESME_ROK;
pub(super) const THROTTLED: CommandStatus = CommandStatus::ESME_RTHROTTLED;
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Carriers and routes as the config has them.
#[derive(Clone, Debug, serde::Deserialize)]
struct File {
    #[serde(default)]
    carriers: BTreeMap<String, CarrierConfig>,
    #[serde(default)]
    routes: Vec<RouteConfig>,
    #[serde(default)]
    dispatch: Config,
}

impl File {
    fn read(text: &str) -> Self {
        toml::from_str(text).unwrap()
    }

    fn carriers(&self) -> Vec<Carrier> {
        let carrier = |(name, config): (&String, &CarrierConfig)| {
            Carrier::new(name, config.clone(), InterfaceVersion::V3_4)
        };
        self.carriers.iter().map(carrier).collect()
    }

    fn dispatch(&self) -> Dispatch {
        let routes = Routes::new(self.carriers(), self.routes.clone()).unwrap();
        Dispatch::new(self.dispatch.clone(), routes, 7)
    }
}

/// A segment that a carrier was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) bind: BindId,
    pub(super) token: Token,
    pub(super) body: Body,
    pub(super) at: Time,
}

impl Sent {
    pub(super) fn carrier(&self) -> &str {
        &self.bind.carrier
    }

    pub(super) fn submit(&self) -> &SubmitSm {
        match &self.body {
            Body::SubmitSm(submit) => submit,
            other => panic!("no submit_sm: {other:?}"),
        }
    }

    /// The user data without its header.
    pub(super) fn text(&self) -> String {
        let submit = self.submit();
        let octets = submit.short_message.as_bytes();
        let (_, octets) = hikyaku::text::Udh::split(submit.esm_class.udhi(), octets);
        String::from_utf8_lossy(octets).into_owned()
    }

    /// Reference, total and number from 1 of a part.
    pub(super) fn part(&self) -> (u16, u8, u8) {
        let submit = self.submit();
        let octets = submit.short_message.as_bytes();
        let (header, _) = hikyaku::text::Udh::split(submit.esm_class.udhi(), octets);
        let concat = header.concat.unwrap();
        (concat.reference, concat.total, concat.seq)
    }

    pub(super) fn to(&self) -> String {
        self.submit().destination.addr.to_text_lossy()
    }
}

pub(super) struct World {
    file: File,
    pub(super) now: Time,
    pub(super) dispatch: Dispatch,
    pub(super) journal: Vec<(Position, Record)>,
    pub(super) end: u64,
    /// Where the journal begins, after trims.
    first: Position,
    /// How many records are durable.
    durable: usize,
    /// Whether the journal syncs by itself after each event.
    pub(super) syncs: bool,
    /// Whether bodies come at once when they are asked for.
    pub(super) fetches: bool,
    pub(super) fetched: Vec<MessageId>,
    pub(super) sent: VecDeque<Sent>,
    /// All that was ever sent, also before a crash.
    pub(super) wire: Vec<Sent>,
    pub(super) replies: BTreeMap<Ticket, Reply>,
    pub(super) acks: Vec<(u32, CommandStatus)>,
    pub(super) notices: Vec<Notice>,
    pub(super) trims: Vec<Position>,
    ids: IdSource,
    tickets: u64,
    sequence: u32,
    /// How often the dispatcher was woken as it had asked.
    pub(super) wakes: u32,
}

impl World {
    /// Given these carriers and routes, and nothing accepted yet.
    pub(super) fn given(config: &str) -> Self {
        let file = File::read(config);
        let now = Time::from_secs(1_790_000_000);
        let mut dispatch = file.dispatch();
        dispatch.replayed(now);
        Self {
            file,
            now,
            dispatch,
            journal: Vec::new(),
            end: 0,
            first: Position(0),
            durable: 0,
            syncs: true,
            fetches: true,
            fetched: Vec::new(),
            sent: VecDeque::new(),
            wire: Vec::new(),
            replies: BTreeMap::new(),
            acks: Vec::new(),
            notices: Vec::new(),
            trims: Vec::new(),
            ids: IdSource::new(3),
            tickets: 0,
            sequence: 0,
            wakes: 0,
        }
    }

    /// Tells the dispatcher what happened, and does what it asks for.
    pub(super) fn tell(&mut self, event: Event) {
        self.dispatch.handle(self.now, event);
        self.pump();
    }

    pub(super) fn pump(&mut self) {
        loop {
            let placed = self.commit();
            let acted = self.act();
            if self.syncs && self.durable < self.journal.len() {
                self.sync_once();
            } else if !placed && !acted {
                return;
            }
        }
    }

    fn commit(&mut self) -> bool {
        let before = self.journal.len();
        let (journal, end) = (&mut self.journal, &mut self.end);
        let placed: Result<(), ()> = self.dispatch.commit(|record| {
            let mut octets = Vec::new();
            record.encode(&mut octets);
            assert_eq!(Record::decode(&octets).as_ref(), Ok(record));
            let position = Position(*end);
            *end += octets.len() as u64 + 12;
            journal.push((position, record.clone()));
            Ok(position)
        });
        placed.unwrap();
        self.journal.len() > before
    }

    fn sync_once(&mut self) {
        self.durable = self.journal.len();
        let end = Position(self.end);
        self.dispatch.handle(self.now, Event::Durable { end });
    }

    /// When the journal syncs.
    pub(super) fn sync(&mut self) {
        self.sync_once();
        self.pump();
    }

    fn act(&mut self) -> bool {
        let mut acted = false;
        while let Some(effect) = self.dispatch.poll_effect() {
            acted = true;
            match effect {
                Effect::Reply { ticket, reply } => {
                    assert!(self.replies.insert(ticket, reply).is_none(), "two replies");
                }
                Effect::Submit { bind, token, body } => {
                    let sent = Sent { bind, token, body, at: self.now };
                    self.wire.push(sent.clone());
                    self.sent.push_back(sent);
                }
                Effect::Acknowledge { sequence_number, status, .. } => {
                    self.acks.push((sequence_number, status));
                }
                Effect::Fetch { id, position } => {
                    self.fetched.push(id);
                    if self.fetches {
                        self.fetch(id, position);
                    }
                }
                Effect::Trim { before } => {
                    self.trims.push(before);
                    self.first = before;
                }
                Effect::Notice(notice) => self.notices.push(notice),
            }
        }
        acted
    }

    fn fetch(&mut self, id: MessageId, position: Position) {
        assert!(position >= self.first, "a body that was trimmed");
        let place = self.journal.binary_search_by_key(&position, |(at, _)| *at).unwrap();
        assert!(place < self.durable, "a body that is not durable");
        let submission = match &self.journal[place].1 {
            Record::Accepted(submission) => Box::new((**submission).clone()),
            Record::Carried(carried) => Box::new(carried.submission.clone()),
            Record::CarriedFinished { carried, .. } => Box::new(carried.submission.clone()),
            other => panic!("no body at {position:?}: {other:?}"),
        };
        self.dispatch.handle(self.now, Event::Fetched { id, submission: Some(submission) });
    }

    /// When time passes, with a wake whenever the dispatcher asks for one.
    pub(super) fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        let mut in_vain = 0;
        while let Some(at) = self.dispatch.poll_timeout().filter(|at| *at <= until) {
            in_vain = if at > self.now { 0 } else { in_vain + 1 };
            assert!(in_vain < 10_000, "wants to be woken for ever");
            self.now = self.now.max(at);
            self.wakes += 1;
            self.tell(Event::Wake);
        }
        self.now = until;
        self.tell(Event::Wake);
    }

    /// When the process dies and starts again over what was durable, and what more of the rest
    /// the disk happens to have. How many records that is.
    pub(super) fn crash(&mut self, more: usize) -> usize {
        let kept = (self.durable + more).min(self.journal.len());
        self.journal.truncate(kept);
        self.end = self.journal.last().map_or(self.first.0, |(at, record)| {
            let mut octets = Vec::new();
            record.encode(&mut octets);
            at.0 + octets.len() as u64 + 12
        });
        self.durable = kept;
        self.sent.clear();
        self.dispatch = self.replay(usize::MAX);
        self.dispatch.replayed(self.now);
        self.pump();
        kept
    }

    /// A dispatcher that was told nothing.
    pub(super) fn empty(&self) -> Dispatch {
        self.file.dispatch()
    }

    /// A dispatcher that was told the first `count` records of what the journal still has.
    fn replay(&self, count: usize) -> Dispatch {
        let mut dispatch = self.file.dispatch();
        let kept = self.journal.iter().filter(|(at, _)| *at >= self.first);
        for (position, record) in kept.take(count) {
            dispatch.replay(*position, record);
        }
        dispatch
    }

    /// What each key has handed in today.
    pub(super) fn used_today(&self) -> Vec<(String, u64)> {
        let used = self.dispatch.used_today(self.now);
        used.map(|(key, count)| (key.to_owned(), count)).collect()
    }

    /// Then a replay of the journal finds what the live process knows.
    pub(super) fn check_replay(&self) {
        let replayed = self.replay(usize::MAX);
        assert_eq!(replayed.state_hash(), self.dispatch.state_hash(), "a replay differs");
    }

    pub(super) fn reconfigure(&mut self, config: &str) {
        self.file = File::read(config);
        let (carriers, routes) = (self.file.carriers(), self.file.routes.clone());
        let config = self.file.dispatch.clone();
        self.dispatch.reconfigure(self.now, config, carriers, routes).unwrap();
        self.pump();
    }

    // Doors.

    pub(super) fn submission(&mut self, class: Class, text: &str) -> Submission {
        let id = self.ids.next(self.now);
        Submission {
            id,
            accepted_at: self.now,
            key: "shop".into(),
            to: "819012345678".into(),
            from: Some("0005123456".into()),
            content: Content::Text(text.into()),
            class,
            client_ref: None,
            campaign: None,
            tags: Vec::new(),
            send_at: None,
            expires_at: self.now + Duration::from_secs(86_400),
            encoding: EncodingChoice::Auto,
            max_segments: 10,
            receipts: ReceiptsWanted::Final,
            callback_url: None,
            idempotency: None,
            plan: PlanSummary {
                route: "main".into(),
                encoding: "gsm7".into(),
                segments: 1,
                units: 1,
            },
        }
    }

    /// When a door hands a message in.
    pub(super) fn accept(&mut self, submission: Submission) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        self.tell(Event::Accept { ticket, submission: Box::new(submission) });
        ticket
    }

    /// When a door asks what became of a request, and what it is told.
    pub(super) fn recall(&mut self, request: Option<Idempotency>) -> Reply {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        self.tell(Event::Recall { ticket, request: request.unwrap() });
        self.replies[&ticket].clone()
    }

    /// When a door hands in a message of this class and text, and it is taken.
    pub(super) fn send(&mut self, class: Class, text: &str) -> MessageId {
        let submission = self.submission(class, text);
        let id = submission.id;
        let ticket = self.accept(submission);
        if self.syncs {
            assert!(
                matches!(self.replies[&ticket], Reply::Accepted { .. }),
                "{:?}",
                self.replies[&ticket]
            );
        }
        id
    }

    pub(super) fn cancel(&mut self, id: MessageId) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        self.tell(Event::Cancel { ticket, id, by_operator: false });
        ticket
    }

    // Carriers.

    pub(super) fn bound(&mut self, carrier: &str, index: u16, window: u16) {
        let bind = bind(carrier, index);
        self.tell(Event::Bound { bind, window, transmits: true });
    }

    pub(super) fn lost(&mut self, carrier: &str, index: u16) {
        self.sent.retain(|sent| sent.bind != bind(carrier, index));
        self.tell(Event::Lost { bind: bind(carrier, index), unsent: Vec::new() });
    }

    /// Then exactly one request goes out.
    pub(super) fn one(&mut self) -> Sent {
        assert_eq!(self.sent.len(), 1, "{:?}", self.sent);
        self.sent.pop_front().unwrap()
    }

    /// Then so many requests go out.
    pub(super) fn take(&mut self, count: usize) -> Vec<Sent> {
        assert_eq!(self.sent.len(), count, "{:?}", self.sent);
        self.sent.drain(..).collect()
    }

    /// When the carrier takes a segment under this id.
    pub(super) fn ok(&mut self, sent: &Sent, id: &str) {
        let body = Body::SubmitSmResp(SubmitSmResp {
            message_id: Some(COctetString::try_from(id).unwrap()),
            tlvs: Tlvs::new(),
        });
        self.answer(sent, ROK, body);
    }

    /// When the carrier refuses a segment.
    pub(super) fn refuse(&mut self, sent: &Sent, status: CommandStatus) {
        let body = Body::SubmitSmResp(SubmitSmResp { message_id: None, tlvs: Tlvs::new() });
        self.answer(sent, status, body);
    }

    pub(super) fn answer(&mut self, sent: &Sent, status: CommandStatus, body: Body) {
        let (bind, token) = (sent.bind.clone(), sent.token);
        let sequence_number = u32::try_from(token.0).unwrap() + 1;
        self.tell(Event::Answered { bind, token, sequence_number, status, body });
    }

    pub(super) fn cancelled(&mut self, sent: &Sent, status: CommandStatus) {
        self.answer(sent, status, Body::CancelSmResp(CancelSmResp::default()));
    }

    pub(super) fn queried(&mut self, sent: &Sent, state: MessageState) {
        let answer = QuerySmResp { message_state: Some(state), ..QuerySmResp::default() };
        self.answer(sent, ROK, Body::QuerySmResp(answer));
    }

    pub(super) fn timed_out(&mut self, sent: &Sent) {
        self.tell(Event::TimedOut { bind: sent.bind.clone(), token: sent.token });
    }

    /// When a receipt comes on bind 0 of `carrier`; its sequence number.
    pub(super) fn receipt(&mut self, carrier: &str, id: &str, stat: &str) -> u32 {
        self.receipt_with(carrier, id, stat, "000")
    }

    pub(super) fn receipt_with(&mut self, carrier: &str, id: &str, stat: &str, err: &str) -> u32 {
        let text = format!("id:{id} sub:001 dlvrd:001 stat:{stat} err:{err} text:");
        self.deliver(carrier, "819012345678", EsmClass(0x04), text.as_bytes())
    }

    /// When a `deliver_sm` comes; its sequence number.
    pub(super) fn deliver(
        &mut self,
        carrier: &str,
        source: &str,
        esm_class: EsmClass,
        octets: &[u8],
    ) -> u32 {
        self.sequence += 1;
        let sequence_number = self.sequence;
        let deliver = DeliverSm {
            source: Address::new(Ton::INTERNATIONAL, Npi::ISDN, source).unwrap(),
            destination: Address::new(Ton::UNKNOWN, Npi::UNKNOWN, "0005123456").unwrap(),
            esm_class,
            short_message: ShortMessage::new(octets.to_vec()).unwrap(),
            ..DeliverSm::default()
        };
        let body = Body::DeliverSm(deliver);
        self.tell(Event::Delivered { bind: bind(carrier, 0), sequence_number, body });
        sequence_number
    }

    // What became of it.

    pub(super) fn records(&self, id: MessageId) -> Vec<&Record> {
        let records = self.journal.iter().map(|(_, record)| record);
        records.filter(|record| record.message_id() == Some(id)).collect()
    }

    /// How a message ended, if it has.
    pub(super) fn finish(&self, id: MessageId) -> Option<Finish> {
        let finishes: Vec<_> = self
            .records(id)
            .into_iter()
            .filter_map(|record| match record {
                Record::Finished { finish, .. } => Some(finish.clone()),
                _ => None,
            })
            .collect();
        assert!(finishes.len() < 2, "{id} ended twice");
        finishes.into_iter().next()
    }

    /// How a message ended, in its state's and reason's words.
    pub(super) fn end(&self, id: MessageId) -> String {
        match self.finish(id) {
            None => "live".into(),
            Some(Finish { state, reason: None, .. }) => state.to_string(),
            Some(Finish { state, reason: Some(reason), .. }) => format!("{state}: {reason}"),
        }
    }

    pub(super) fn corrections(&self, id: MessageId) -> Vec<State> {
        let records = self.records(id).into_iter();
        let state = |record: &Record| match record {
            Record::Corrected { finish, .. } => Some(finish.state),
            _ => None,
        };
        records.filter_map(state).collect()
    }

    pub(super) fn was_acked(&self, sequence_number: u32) -> bool {
        self.acks.contains(&(sequence_number, ROK))
    }
}

pub(super) fn bind(carrier: &str, index: u16) -> BindId {
    BindId { carrier: Arc::from(carrier), index }
}

pub(super) fn idempotency(key: u8, fingerprint: u8) -> Option<Idempotency> {
    Some(Idempotency { key: [key; 16], fingerprint: [fingerprint; 16] })
}

/// One carrier without limits that matter, and one route over it.
pub(super) const ONE: &str = r#"
    [carriers.alpha]
    rate = "1000/s"
    [[routes]]
    name = "main"
    carriers = ["alpha"]
"#;

/// Two carriers, one after the other.
pub(super) const TWO: &str = r#"
    [carriers.alpha]
    rate = "1000/s"
    [carriers.beta]
    rate = "1000/s"
    [[routes]]
    name = "main"
    carriers = ["alpha", "beta"]
"#;

/// 400 characters of the GSM alphabet: three segments.
pub(super) fn three_segments() -> String {
    "abcdefghij".repeat(40)
}
