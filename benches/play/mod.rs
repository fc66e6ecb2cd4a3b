//! A dispatcher, and the gateway around it as far as a bench needs it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hikyaku::dispatch::BindId;
use hikyaku::dispatch::Config;
use hikyaku::dispatch::Dispatch;
use hikyaku::dispatch::Effect;
use hikyaku::dispatch::Event;
use hikyaku::dispatch::Ticket;
use hikyaku::dispatch::Token;
use hikyaku::message::Class;
use hikyaku::message::Content;
use hikyaku::message::EncodingChoice;
use hikyaku::message::IdSource;
use hikyaku::message::MessageId;
use hikyaku::message::PlanSummary;
use hikyaku::message::Position;
use hikyaku::message::ReceiptsWanted;
use hikyaku::message::Record;
use hikyaku::message::Submission;
use hikyaku::pdu::Address;
use hikyaku::pdu::Body;
use hikyaku::pdu::COctetString;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::pdu::Npi;
use hikyaku::pdu::ShortMessage;
use hikyaku::pdu::SubmitSmResp;
use hikyaku::pdu::Tlvs;
use hikyaku::pdu::Ton;
use hikyaku::route::Carrier;
use hikyaku::route::Routes;
use hikyaku::time::Time;

/// Segments a second that the slow carrier takes.
pub(crate) const SLOW_RATE: u32 = 100;

/// A dispatcher, and what the bench plays of the rest.
pub(crate) struct Play {
    pub(crate) dispatch: Dispatch,
    pub(crate) now: Time,
    end: u64,
    ids: IdSource,
    scratch: Vec<u8>,
    /// Submits that the carrier has not answered.
    pub(crate) sent: VecDeque<(BindId, Token)>,
    /// How many submits the carrier took.
    pub(crate) taken: u64,
    /// Every record, when it is asked for.
    pub(crate) records: Option<Vec<Record>>,
    /// When a submit to which number left, when it is asked for.
    pub(crate) left: Option<Vec<(Time, String)>>,
}

impl Play {
    pub(crate) fn new() -> Self {
        let carrier = |name, rate| {
            let file = format!("rate = \"{rate}/s\"\n[text]\nmax_segments = 10\n");
            Carrier::new(name, toml::from_str(&file).unwrap(), InterfaceVersion::V3_4)
        };
        let carriers =
            [carrier("alpha", 1_000_000), carrier("down", 1_000_000), carrier("slow", SLOW_RATE)];
        let route = |name: &str, carrier: &str| {
            toml::from_str(&format!("name = \"{name}\"\ncarriers = [\"{carrier}\"]")).unwrap()
        };
        let routes = vec![route("main", "alpha"), route("waits", "down"), route("slowly", "slow")];
        let routes = Routes::new(carriers.into(), routes).unwrap();
        let config = Config { body_bytes: 16 << 20, ..Config::default() };
        let now = Time::from_secs(1_790_000_000);
        let mut dispatch = Dispatch::new(config, routes, 1);
        dispatch.replayed(now);
        for carrier in ["alpha", "slow"] {
            let bind = BindId { carrier: carrier.into(), index: 0 };
            dispatch.handle(now, Event::Bound { bind, window: 10_000, transmits: true });
        }
        Self {
            dispatch,
            now,
            end: 0,
            ids: IdSource::new(1),
            scratch: Vec::new(),
            sent: VecDeque::new(),
            taken: 0,
            records: None,
            left: None,
        }
    }

    pub(crate) fn accept(&mut self, route: &str, segments: u8) {
        self.accept_as(Class::Transactional, route, segments);
    }

    /// Accepts a message of this class; the number that it goes to.
    pub(crate) fn accept_as(&mut self, class: Class, route: &str, segments: u8) -> String {
        let id = self.ids.next(self.now);
        let submission = self.submission(id, class, route, segments);
        let to = submission.to.to_string();
        let event = Event::Accept { ticket: Ticket(0), submission: Box::new(submission) };
        self.dispatch.handle(self.now, event);
        to
    }

    fn submission(&self, id: MessageId, class: Class, route: &str, segments: u8) -> Submission {
        let text = "0123456789".repeat(if segments > 1 { 15 * usize::from(segments) } else { 12 });
        Submission {
            id,
            accepted_at: self.now,
            key: "shop".into(),
            to: format!("8190{:08}", id.as_u128() % 100_000_000).into(),
            from: Some("0005123456".into()),
            content: Content::Text(text.into()),
            class,
            client_ref: Some("order-1234567".into()),
            campaign: None,
            tags: Vec::new(),
            send_at: None,
            expires_at: self.now + Duration::from_secs(86_400),
            encoding: EncodingChoice::Auto,
            max_segments: 10,
            receipts: ReceiptsWanted::Final,
            callback_url: None,
            idempotency: None,
            plan: PlanSummary { route: route.into(), encoding: "gsm7".into(), segments, units: 1 },
        }
    }

    /// What the gateway does after some events: append, sync, act.
    pub(crate) fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        let Self { dispatch, scratch, end, records, .. } = self;
        let placed: Result<(), ()> = dispatch.commit(|record: &Record| {
            if let Some(records) = records {
                records.push(record.clone());
            }
            scratch.clear();
            record.encode(scratch);
            let position = Position(*end);
            *end += scratch.len() as u64 + 12;
            Ok(position)
        });
        placed.unwrap();
        self.dispatch.handle(self.now, Event::Durable { end: Position(self.end) });
        while let Some(effect) = self.dispatch.poll_effect() {
            match effect {
                Effect::Submit { bind, token, body } => {
                    if let (Some(left), Body::SubmitSm(submit)) = (&mut self.left, &body) {
                        left.push((self.now, submit.destination.addr.to_text_lossy()));
                    }
                    self.sent.push_back((bind, token));
                }
                // Only the slow carrier's messages wait for so long that their bodies go.
                Effect::Fetch { id, .. } => {
                    let body = self.submission(id, Class::Marketing, "slowly", 1);
                    let submission = Some(Box::new(body));
                    self.dispatch.handle(self.now, Event::Fetched { id, submission });
                }
                _ => {}
            }
        }
    }

    /// The carrier takes all that was sent.
    pub(crate) fn answer_all(&mut self) {
        while let Some((bind, token)) = self.sent.pop_front() {
            let id = format!("{:010}", self.taken);
            self.taken += 1;
            let message_id = Some(COctetString::try_from(&*id).unwrap());
            let body = Body::SubmitSmResp(SubmitSmResp { message_id, tlvs: Tlvs::new() });
            let (sequence_number, status) = (1, CommandStatus::ESME_ROK);
            let event = Event::Answered { bind, token, sequence_number, status, body };
            self.dispatch.handle(self.now, event);
        }
    }

    pub(crate) fn receipt(&mut self, number: u64) {
        let text = format!("id:{number:010} sub:001 dlvrd:001 stat:DELIVRD err:000 text:");
        let deliver = DeliverSm {
            source: Address::new(Ton::INTERNATIONAL, Npi::ISDN, "819012345678").unwrap(),
            esm_class: EsmClass(0x04),
            short_message: ShortMessage::new(text.into_bytes()).unwrap(),
            ..DeliverSm::default()
        };
        let bind = BindId { carrier: Arc::from("alpha"), index: 0 };
        let body = Body::DeliverSm(deliver);
        self.dispatch.handle(self.now, Event::Delivered { bind, sequence_number: 1, body });
    }

    /// So many whole lives of messages of so many segments: accept, submit, answer, receipt.
    pub(crate) fn lives(&mut self, segments: u8, count: u64) {
        const BATCH: u64 = 64;
        let mut received = self.taken;
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            left -= batch;
            (0..batch).for_each(|_| self.accept("main", segments));
            self.turn();
            while !self.sent.is_empty() {
                self.answer_all();
                self.turn();
            }
            while received < self.taken {
                self.receipt(received);
                received += 1;
            }
            self.turn();
        }
    }
}
