//! What the dispatcher costs: `cargo bench --bench dispatch`.
//!
//! Memory of a million live messages, in a lane and waiting for receipts; then the CPU of whole
//! lives, from a door to the receipt, beside ever more messages that wait. Records are encoded and
//! dropped: the journal has its own bench.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench prints its table, and a panic ends it"
)]

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

const MILLION: usize = 1_000_000;

fn main() {
    // Each measure has a process of its own: memory that one gave back would count for the next.
    match std::env::args().nth(1).as_deref() {
        Some("waiting") => println!("{}", waiting()),
        Some("submitted") => println!("{}", submitted(1)),
        Some("submitted-10") => println!("{}", submitted(10)),
        Some("lives") => println!("{:.1}", lives(0, 1)),
        Some("lives-beside") => println!("{:.1}", lives(MILLION, 1)),
        Some("lives-10") => println!("{:.1}", lives(0, 10)),
        _ => {
            println!("octets of memory a message, 1,000,000 segments of them:");
            measure("waits in a lane", "waiting");
            measure("waits for its receipt", "submitted");
            measure("the same, ten segments", "submitted-10");
            println!("\nmicroseconds of CPU a life (accept, submit, answer, receipt):");
            measure("one segment", "lives");
            measure("beside 1,000,000 in a lane", "lives-beside");
            measure("ten segments", "lives-10");
        }
    }
}

fn measure(name: &str, measure: &str) {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program).arg(measure).output().unwrap();
    print!("{name:<28}{:>8}", String::from_utf8(output.stdout).unwrap());
}

/// A dispatcher, and what the bench plays of the rest.
struct Bench {
    dispatch: Dispatch,
    now: Time,
    end: u64,
    ids: IdSource,
    scratch: Vec<u8>,
    sent: VecDeque<(BindId, Token)>,
    taken: u64,
}

impl Bench {
    fn new() -> Self {
        let file = "rate = \"1000000/s\"\n[text]\nmax_segments = 10\n";
        let carriers = ["alpha", "down"]
            .map(|name| Carrier::new(name, toml::from_str(file).unwrap(), InterfaceVersion::V3_4));
        let route = |name: &str, carrier: &str| {
            toml::from_str(&format!("name = \"{name}\"\ncarriers = [\"{carrier}\"]")).unwrap()
        };
        let routes = vec![route("main", "alpha"), route("waits", "down")];
        let routes = Routes::new(carriers.into(), routes).unwrap();
        let config = Config { body_bytes: 16 << 20, ..Config::default() };
        let now = Time::from_secs(1_790_000_000);
        let mut dispatch = Dispatch::new(config, routes, 1);
        dispatch.replayed(now);
        let bind = BindId { carrier: "alpha".into(), index: 0 };
        dispatch.handle(now, Event::Bound { bind, window: 10_000, transmits: true });
        Self {
            dispatch,
            now,
            end: 0,
            ids: IdSource::new(1),
            scratch: Vec::new(),
            sent: VecDeque::new(),
            taken: 0,
        }
    }

    fn accept(&mut self, route: &str, segments: u8) -> MessageId {
        let id = self.ids.next(self.now);
        let text = "0123456789".repeat(if segments > 1 { 15 * usize::from(segments) } else { 12 });
        let submission = Submission {
            id,
            accepted_at: self.now,
            key: "shop".into(),
            to: format!("8190{:08}", id.as_u128() % 100_000_000).into(),
            from: Some("0005123456".into()),
            content: Content::Text(text.into()),
            class: Class::Transactional,
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
        };
        let event = Event::Accept { ticket: Ticket(0), submission: Box::new(submission) };
        self.dispatch.handle(self.now, event);
        id
    }

    /// What the gateway does after some events: append, sync, act.
    fn turn(&mut self) {
        self.now += Duration::from_millis(1);
        let Self { dispatch, scratch, end, .. } = self;
        let placed: Result<(), ()> = dispatch.commit(|record: &Record| {
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
                Effect::Submit { bind, token, .. } => self.sent.push_back((bind, token)),
                Effect::Fetch { .. } => panic!("no body is read back here"),
                _ => {}
            }
        }
    }

    /// The carrier takes all that was sent.
    fn answer_all(&mut self) {
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

    fn receipt(&mut self, number: u64) {
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
}

/// Octets a message that waits for a carrier without a bind.
fn waiting() -> usize {
    let mut bench = Bench::new();
    let before = resident();
    for number in 0..MILLION {
        bench.accept("waits", 1);
        if number % 64 == 0 {
            bench.turn();
        }
    }
    bench.turn();
    let bodies = bench.dispatch.snapshot(bench.now).body_bytes;
    (resident() - before - bodies) / MILLION
}

/// Octets a message that a carrier took, and that waits for its receipts.
fn submitted(segments: u8) -> usize {
    let mut bench = Bench::new();
    let before = resident();
    let messages = MILLION / usize::from(segments);
    for number in 0..messages {
        bench.accept("main", segments);
        if number % 64 == 0 {
            bench.turn();
            bench.answer_all();
        }
    }
    while bench.dispatch.snapshot(bench.now).body_bytes > 0 {
        bench.turn();
        bench.answer_all();
    }
    (resident() - before) / messages
}

/// Microseconds of CPU from a door to the receipt, beside so many messages that wait.
fn lives(backlog: usize, segments: u8) -> f64 {
    const BATCH: u64 = 64;
    const LIVES: u64 = 200_000;
    let mut bench = Bench::new();
    for _ in 0..backlog {
        bench.accept("waits", 1);
    }
    bench.turn();
    let lives = LIVES / u64::from(segments);
    let before = cpu();
    let mut received = 0;
    for _ in 0..lives / BATCH {
        for _ in 0..BATCH {
            bench.accept("main", segments);
        }
        bench.turn();
        while !bench.sent.is_empty() {
            bench.answer_all();
            bench.turn();
        }
        while received < bench.taken {
            bench.receipt(received);
            received += 1;
        }
        bench.turn();
    }
    let took = (cpu() - before).as_secs_f64() * 1e6;
    let live = bench.dispatch.snapshot(bench.now).live;
    assert_eq!(live, backlog, "every life has ended");
    took / f64::from(u32::try_from(lives / BATCH * BATCH).unwrap())
}

/// The CPU time of this thread: other work on the machine does not count.
fn cpu() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split_whitespace().next().unwrap().parse().unwrap())
}

/// Octets of memory that the process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1_024
}
