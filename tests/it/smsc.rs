//! The simulated carrier: its fates, its limits and its faults, on virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::BytesMut;
use hikyaku::clock::Clock;
use hikyaku::pdu::Address;
use hikyaku::pdu::Bind;
use hikyaku::pdu::Body;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DataSm;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::Frame;
use hikyaku::pdu::Frames;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::pdu::MessageState;
use hikyaku::pdu::Npi;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::QuerySm;
use hikyaku::pdu::RegisteredDelivery;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::Tag;
use hikyaku::pdu::Ton;
use hikyaku::pdu::encode;
use hikyaku::smsc::Action;
use hikyaku::smsc::Config;
use hikyaku::smsc::Conversation;
use hikyaku::smsc::Fault;
use hikyaku::smsc::FaultKind;
use hikyaku::smsc::IdForm;
use hikyaku::smsc::Model;
use hikyaku::smsc::ReceiptForm;
use hikyaku::smsc::Server;
use hikyaku::smsc::SessionId;
use hikyaku::time::Rate;
use hikyaku::time::Span;
use hikyaku::time::Time;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio_util::codec::Decoder;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const T0: Time = Time::from_secs(1_800_000_000);
const ONE: SessionId = SessionId(1);

fn model(config: Config) -> Model {
    let mut model = Model::new(config, T0);
    model.bound(ONE, true);
    model
}

fn submit(destination: &str) -> Body {
    Body::SubmitSm(SubmitSm {
        source: Address::new(Ton::UNKNOWN, Npi::UNKNOWN, "0005123456").unwrap(),
        destination: Address::new(Ton::INTERNATIONAL, Npi::ISDN, destination).unwrap(),
        registered_delivery: RegisteredDelivery::ANY_OUTCOME,
        ..SubmitSm::default()
    })
}

/// All that the model does within an hour, each with the second it was done in.
fn story(model: &mut Model) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(at) = model.next().filter(|at| *at < T0 + Duration::from_secs(3_600)) {
        let at = at.max(T0);
        for action in model.poll(at) {
            lines.push(format!("{} {}", at.since(T0).as_secs(), told(&action)));
        }
    }
    lines
}

fn told(action: &Action) -> String {
    match action {
        Action::Respond { sequence_number, status, .. } => format!("{sequence_number} {status}"),
        Action::Deliver { body: Body::DeliverSm(deliver), .. } => {
            match deliver.tlvs.get_u8(Tag::MESSAGE_STATE) {
                Some(state) => format!("receipt {}", MessageState(state)),
                None => "message".to_owned(),
            }
        }
        Action::Cut { .. } => "cut".to_owned(),
        Action::Unbind { .. } => "unbind".to_owned(),
        other => format!("{other:?}"),
    }
}

fn fate_of(digits: &str) -> Vec<String> {
    let mut model = model(Config::default());
    model.request(T0, ONE, 7, &submit(&format!("81901234{digits}")));
    story(&mut model)
}

#[test]
fn the_last_four_digits_choose_the_fate() {
    for (digits, story) in [
        ("5678", &["0 7 ESME_ROK", "0 receipt DELIVERED"][..]),
        ("0001", &["0 7 ESME_RINVDSTADR"]),
        ("0002", &["0 7 ESME_ROK", "0 receipt UNDELIVERABLE"]),
        ("0003", &["0 7 ESME_ROK", "0 receipt EXPIRED"]),
        ("0004", &["0 7 ESME_ROK"]),
        ("0005", &["0 7 ESME_RTHROTTLED"]),
        ("0006", &["0 receipt DELIVERED", "0 7 ESME_ROK"]),
        ("0007", &["0 7 ESME_ROK", "0 receipt DELIVERED", "0 receipt DELIVERED"]),
        ("0008", &["0 7 ESME_ROK"]),
        ("0009", &["30 7 ESME_ROK", "30 receipt DELIVERED"]),
        ("0010", &["0 cut", "0 receipt DELIVERED"]),
    ] {
        assert_eq!(fate_of(digits), story, "{digits}");
    }
}

#[test]
fn a_throttled_number_is_taken_at_the_third_try() {
    let mut model = model(Config::default());
    for sequence_number in 1..=3 {
        model.request(T0, ONE, sequence_number, &submit("819012340005"));
    }
    assert_eq!(model.tally().throttled, 2);
    assert_eq!(model.tally().accepted, 1);
}

#[test]
fn no_second_takes_more_than_the_cap() {
    let rate = Some(Rate::per_second(50));
    let mut model = model(Config { rate, window: u16::MAX, ..Config::default() });
    model.remember();
    for step in 0..300_u64 {
        let now = T0 + Duration::from_millis(step * 10);
        model.poll(now);
        model.request(now, ONE, u32::try_from(step).unwrap(), &submit("819012345678"));
    }
    let taken: Vec<Time> =
        model.seen().iter().filter(|s| s.status == CommandStatus::ESME_ROK).map(|s| s.at).collect();
    assert_eq!(taken.len(), 150);
    for window in taken.windows(51) {
        assert!(window[50].since(window[0]) >= Duration::from_secs(1));
    }
}

#[test]
fn a_full_window_is_answered_rmsgqful() {
    let mut model = model(Config { window: 2, ..Config::default() });
    for sequence_number in 1..=3 {
        model.request(T0, ONE, sequence_number, &submit("819012345678"));
    }
    assert_eq!(model.tally(), hikyaku::smsc::Tally { accepted: 2, throttled: 1, ..model.tally() });
}

#[test]
fn a_query_takes_a_place_in_the_window_and_frees_no_other() {
    let latency = [Span::secs(1), Span::secs(1)];
    let mut model = model(Config { window: 2, latency, ..Config::default() });
    model.request(T0, ONE, 1, &query("1"));
    model.request(T0 + Duration::from_millis(500), ONE, 2, &submit("819012345678"));
    model.request(T0 + Duration::from_millis(500), ONE, 3, &submit("819012345678"));
    model.poll(T0 + Duration::from_secs(1));
    model.request(T0 + Duration::from_secs(1), ONE, 4, &submit("819012345678"));
    assert_eq!(model.tally().throttled, 2, "3 and 4: 2 and 3 are not answered");
}

fn query(id: &str) -> Body {
    Body::QuerySm(QuerySm { message_id: id.try_into().unwrap(), ..QuerySm::default() })
}

#[test]
fn a_query_knows_a_message_by_the_id_of_its_answer_in_any_form() {
    for ids in [IdForm::Decimal, IdForm::HexThenDecimal, IdForm::ZeroPadded, IdForm::Uuid] {
        let mut model = model(Config { ids, ..Config::default() });
        model.request(T0, ONE, 7, &submit("819012340002"));
        let [Action::Respond { body: Body::SubmitSmResp(resp), .. }] =
            &model.poll(T0 + Duration::from_millis(100))[..]
        else {
            panic!("{ids:?}")
        };
        let id = resp.message_id.as_ref().unwrap().to_text_lossy();
        assert_eq!(story(&mut model), ["0 receipt UNDELIVERABLE"]);
        model.request(T0, ONE, 8, &query(&id));
        let [Action::Respond { body: Body::QuerySmResp(resp), .. }] =
            &model.poll(T0 + Duration::from_secs(1))[..]
        else {
            panic!("{ids:?}")
        };
        assert_eq!(resp.message_state, Some(MessageState::UNDELIVERABLE), "{ids:?}");
    }
}

#[test]
fn a_data_sm_has_its_own_answer() {
    let mut model = model(Config::default());
    let mut data = DataSm::default();
    data.destination.addr = "819012345678".try_into().unwrap();
    model.request(T0, ONE, 7, &Body::DataSm(data));
    let [Action::Respond { body: Body::DataSmResp(resp), .. }] =
        &model.poll(T0 + Duration::from_millis(100))[..]
    else {
        panic!()
    };
    assert!(resp.message_id.is_some());
}

#[test]
fn it_holds_no_more_than_its_limits() {
    let config = Config { max_waiting: 5, max_remembered: 3, ..Config::default() };
    let mut model = model(config);
    for number in 0..20 {
        model.request(T0, ONE, number, &submit("819012345678"));
        model.request(T0, ONE, number, &submit(&format!("8190{number:04}0005")));
    }
    let holds = model.holds();
    assert_eq!((holds.answers, holds.waiting, holds.remembered), (40, 5, 3));
    assert_eq!(model.tally().lost, 15);
    model.lost(ONE);
    assert_eq!(model.holds().answers, 0, "nobody is there to be answered");
}

#[test]
fn handsets_that_write_every_0s_never_write() {
    let mut model = model(Config { inbound_every: Some(Span::secs(0)), ..Config::default() });
    assert_eq!(model.poll(T0 + Duration::from_secs(10)), []);
}

/// A conversation with an ESME that is bound, as SMPP of this version.
fn conversation(model: &mut Model, version: u8) -> Conversation {
    let mut conversation = Conversation::new(T0, ONE, model.config());
    let bind = Bind { interface_version: InterfaceVersion(version), ..Bind::default() };
    hear(&mut conversation, model, &Pdu::request(1, Body::BindTransceiver(bind)));
    assert_eq!(said(&mut conversation), ["bind_transceiver_resp 1"]);
    conversation
}

fn hear(conversation: &mut Conversation, model: &mut Model, pdu: &Pdu) {
    encode(pdu, conversation.input()).unwrap();
    conversation.take(T0);
    conversation.settle(T0, model, &|_| {});
}

fn said(conversation: &mut Conversation) -> Vec<String> {
    let output = conversation.output().unwrap();
    std::iter::from_fn(|| Frames::default().decode(output).unwrap())
        .map(|frame| match frame {
            Frame::Pdu(pdu) => format!("{} {}", pdu.command_id(), pdu.sequence_number),
            Frame::Unreadable(frame) => format!("{frame:?}"),
        })
        .collect()
}

fn obey_all(conversation: &mut Conversation, model: &mut Model, now: Time) {
    for order in model.poll(now) {
        conversation.obey(now, order);
    }
    conversation.settle(now, model, &|_| {});
}

#[test]
fn a_nack_takes_no_receipt_whatever_its_status() {
    let mut model = Model::new(Config::default(), T0);
    let mut conversation = conversation(&mut model, 0x34);
    model.undelivered(Body::DeliverSm(DeliverSm::default()));
    obey_all(&mut conversation, &mut model, T0);
    assert_eq!(said(&mut conversation), ["deliver_sm 1"]);
    hear(&mut conversation, &mut model, &Pdu::generic_nack(1, CommandStatus::ESME_ROK));
    assert_eq!(model.holds().waiting, 1);
    obey_all(&mut conversation, &mut model, T0 + Duration::from_secs(1));
    assert_eq!(said(&mut conversation), ["deliver_sm 2"]);
}

#[test]
fn a_message_that_this_peer_cannot_be_sent_holds_up_no_other() {
    let mut model = Model::new(Config::default(), T0);
    let mut conversation = conversation(&mut model, 0x33);
    let mut long = DeliverSm::default();
    long.tlvs.push(Tag::MESSAGE_PAYLOAD, b"STOP").unwrap();
    model.undelivered(Body::DeliverSm(long));
    model.undelivered(Body::DeliverSm(DeliverSm::default()));
    obey_all(&mut conversation, &mut model, T0);
    assert_eq!(said(&mut conversation), ["deliver_sm 1"]);
    assert_eq!((model.holds().waiting, model.holds().handed), (1, 1));
}

#[test]
fn ids_are_written_as_the_carrier_writes_them() {
    for (ids, same) in [
        (IdForm::Decimal, true),
        (IdForm::Hex, true),
        (IdForm::HexThenDecimal, false),
        (IdForm::ZeroPadded, false),
        (IdForm::Uuid, true),
    ] {
        let mut model = model(Config { ids, ..Config::default() });
        model.request(T0, ONE, 7, &submit("819012345678"));
        let (mut answered, mut receipted) = (String::new(), String::new());
        while let Some(at) = model.next() {
            for action in model.poll(at) {
                match action {
                    Action::Respond { body: Body::SubmitSmResp(resp), .. } => {
                        answered = resp.message_id.unwrap().to_text_lossy();
                    }
                    Action::Deliver { body: Body::DeliverSm(deliver), .. } => {
                        let id = deliver.tlvs.get_c_octets(Tag::RECEIPTED_MESSAGE_ID).unwrap();
                        receipted = String::from_utf8(id.to_vec()).unwrap();
                    }
                    _ => {}
                }
            }
        }
        assert_eq!(answered == receipted, same, "{ids:?}: {answered} and {receipted}");
    }
}

#[test]
fn a_receipt_waits_for_a_session_that_receives() {
    let mut model = Model::new(Config::default(), T0);
    model.bound(ONE, false);
    model.request(T0, ONE, 7, &submit("819012345678"));
    assert_eq!(story(&mut model), ["0 7 ESME_ROK"]);
    model.bound(SessionId(2), true);
    assert_eq!(story(&mut model), ["0 receipt DELIVERED"]);
}

#[test]
fn faults_come_at_their_time_and_a_black_hole_answers_nothing() {
    let fault = |after, kind| Fault { after: Span::secs(after), kind, lasts: Span::secs(10) };
    let faults = vec![fault(5, FaultKind::BlackHole), fault(20, FaultKind::Cut)];
    let mut model = model(Config { faults, ..Config::default() });
    model.poll(T0 + Duration::from_secs(6));
    model.request(T0 + Duration::from_secs(6), ONE, 7, &submit("819012345678"));
    assert_eq!(model.tally().swallowed, 1);
    assert_eq!(story(&mut model), ["20 cut"]);
}

#[test]
fn the_same_seed_draws_the_same_fates() {
    let run = |seed| {
        let config = Config {
            receipt_loss_per_mille: 300,
            out_of_order_per_mille: 300,
            early_receipt_per_mille: 300,
            receipts: ReceiptForm::Tlv,
            seed,
            ..Config::default()
        };
        let mut model = model(config);
        for sequence_number in 1..=50 {
            model.request(T0, ONE, sequence_number, &submit("819012345678"));
        }
        story(&mut model)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_session_is_handed_only_so_many_receipts_before_it_answers() {
    let mut model = model(Config { window: u16::MAX, ..Config::default() });
    for sequence_number in 1..=1_500 {
        model.request(T0, ONE, sequence_number, &submit("819012345678"));
    }
    let receipts = |story: Vec<String>| story.iter().filter(|it| it.contains("receipt")).count();
    assert_eq!(receipts(story(&mut model)), 1_000);
    assert_eq!(model.next(), None, "nothing is due while there is no room");
    model.delivered(ONE);
    model.delivered(ONE);
    assert_eq!(receipts(story(&mut model)), 2);
    let Action::Deliver { body, .. } = waiting_one(&mut model) else { panic!() };
    model.refused(T0, ONE, body);
    assert_eq!(story(&mut model).first().unwrap(), "0 receipt DELIVERED", "there is room at once");
    model.lost(ONE);
    model.bound(SessionId(2), true);
    assert_eq!(receipts(story(&mut model)), 1_500 - 1_000 - 2 - 2 + 1, "the rest, and the refused");
}

/// Makes room for one more receipt and gives it.
fn waiting_one(model: &mut Model) -> Action {
    model.delivered(ONE);
    model.poll(T0).pop().unwrap()
}

/// A client that reads one PDU after the other.
struct Esme {
    stream: tokio::net::TcpStream,
    frames: Frames,
    input: BytesMut,
}

impl Esme {
    async fn bind(port: u16) -> Self {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let bind = Bind { interface_version: InterfaceVersion(0x34), ..Bind::default() };
        let mut esme = Self { stream, frames: Frames::default(), input: BytesMut::new() };
        esme.say(&[Pdu::request(1, Body::BindTransceiver(bind))]).await;
        assert!(matches!(esme.hear().await.body, Body::BindTransceiverResp(_)));
        esme
    }

    async fn say(&mut self, pdus: &[Pdu]) {
        let mut octets = BytesMut::new();
        pdus.iter().for_each(|pdu| encode(pdu, &mut octets).unwrap());
        self.stream.write_all(&octets).await.unwrap();
    }

    async fn hear(&mut self) -> Pdu {
        loop {
            match self.frames.decode(&mut self.input).unwrap() {
                Some(Frame::Pdu(pdu)) => return pdu,
                Some(Frame::Unreadable(frame)) => panic!("{frame:?}"),
                None => {}
            }
            assert!(self.stream.read_buf(&mut self.input).await.unwrap() > 0, "it closed");
        }
    }
}

/// More receipts waited than a connection's queue held, and the rest waited for ever.
#[tokio::test]
async fn a_peer_that_answers_late_still_gets_every_receipt_once() {
    const COUNT: u32 = 2_500;
    let config = Config {
        receipt_delay: [Span::millis(0), Span::millis(0)],
        latency: [Span::millis(0), Span::millis(0)],
        window: u16::MAX,
        ..Config::default()
    };
    let address = ([127, 0, 0, 1], 0).into();
    let server = Server::bind(config, address, Clock::start()).await.unwrap();
    let (carrier, port) = (server.carrier(), server.local_addr().unwrap().port());
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    let running = tasks.spawn(server.run(shutdown.clone(), tasks.clone()));
    let mut esme = Esme::bind(port).await;
    let (mut answers, mut unanswered, mut ids) = (0, Vec::new(), BTreeSet::new());
    for first in (2..COUNT + 2).step_by(100) {
        let some = |number| Pdu::request(number, submit("819012345678"));
        esme.say(&(first..first + 100).map(some).collect::<Vec<_>>()).await;
        for _ in 0..100 {
            let pdu = esme.hear().await;
            match pdu.body {
                Body::SubmitSmResp(_) => answers += 1,
                Body::DeliverSm(_) => unanswered.push(pdu),
                other => panic!("{other:?}"),
            }
        }
    }
    while answers < COUNT {
        let pdu = esme.hear().await;
        match pdu.body {
            Body::SubmitSmResp(_) => answers += 1,
            _ => unanswered.push(pdu),
        }
    }
    while carrier.tally().receipts < 1_000 {
        tokio::task::yield_now().await;
    }
    while ids.len() < COUNT as usize {
        let pdu = match unanswered.pop() {
            Some(pdu) => pdu,
            None => esme.hear().await,
        };
        let Body::DeliverSm(receipt) = &pdu.body else { panic!("{pdu:?}") };
        let id = receipt.tlvs.get_c_octets(Tag::RECEIPTED_MESSAGE_ID).unwrap().to_vec();
        assert!(ids.insert(id), "a receipt came twice");
        esme.say(&[pdu.reply(CommandStatus::ESME_ROK).unwrap()]).await;
    }
    assert_eq!(carrier.tally().receipts, u64::from(COUNT));
    shutdown.cancel();
    running.await.unwrap();
}
