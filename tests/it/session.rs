//! Whole sessions as scripts: what goes in, and all that comes out.

use std::collections::HashMap;
use std::time::Duration;

use hikyaku::pdu::Address;
use hikyaku::pdu::AlertNotification;
use hikyaku::pdu::Bind;
use hikyaku::pdu::BindResp;
use hikyaku::pdu::Body;
use hikyaku::pdu::COctetString;
use hikyaku::pdu::CommandId;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DataSm;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::Frame;
use hikyaku::pdu::FrameError;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::pdu::Npi;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::QuerySm;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::SubmitSmResp;
use hikyaku::pdu::Tag;
use hikyaku::pdu::Tlvs;
use hikyaku::pdu::Ton;
use hikyaku::session::Config;
use hikyaku::session::Credentials;
use hikyaku::session::End;
use hikyaku::session::Event;
use hikyaku::session::Mode;
use hikyaku::session::NotSent;
use hikyaku::session::Oddity;
use hikyaku::session::SendTlvs;
use hikyaku::session::Session;
use hikyaku::session::SmscConfig;
use hikyaku::session::State;
use hikyaku::session::Timers;
use hikyaku::session::Version;
use hikyaku::time::Span;
use hikyaku::time::Time;
use proptest::prelude::*;

const T0: Time = Time::from_secs(1_800_000_000);

const OK: CommandStatus = CommandStatus::ESME_ROK;

fn at(seconds: u64) -> Time {
    T0 + Duration::from_secs(seconds)
}

fn credentials() -> Credentials {
    Credentials::new("acme", "s3cret").unwrap()
}

fn esme(config: &Config, mode: Mode) -> Session {
    Session::esme(T0, config, mode, &credentials())
}

/// An ESME whose bind was accepted; nothing is left to poll.
fn bound(config: &Config, mode: Mode) -> Session {
    let mut session = esme(config, mode);
    let bind = session.poll_transmit().unwrap();
    hear(&mut session, bind.reply(OK).unwrap());
    assert!(matches!(session.poll_event(), Some(Event::Bound { .. })));
    session
}

fn bound_trx() -> Session {
    bound(&Config::default(), Mode::Trx)
}

/// An SMSC that accepted a bind; nothing is left to poll.
fn smsc(config: &SmscConfig, mode: Mode) -> Session {
    let mut session = Session::smsc(T0, config);
    let mut esme = esme(&Config::default(), mode);
    hear(&mut session, esme.poll_transmit().unwrap());
    assert!(matches!(session.poll_event(), Some(Event::BindRequested { .. })));
    session.accept_bind();
    assert!(matches!(session.poll_event(), Some(Event::Bound { .. })));
    assert_eq!(sent(&mut session).len(), 1);
    session
}

fn hear(session: &mut Session, pdu: Pdu) {
    hear_at(session, T0, pdu);
}

fn hear_at(session: &mut Session, now: Time, pdu: Pdu) {
    session.handle_frame(now, Frame::Pdu(pdu));
}

/// What the session sends: `command number`, and the status unless it is `ESME_ROK`.
fn sent(session: &mut Session) -> Vec<String> {
    std::iter::from_fn(|| session.poll_transmit())
        .map(|pdu| match pdu.command_status {
            OK => format!("{} {}", pdu.command_id(), pdu.sequence_number),
            status => format!("{} {} {status}", pdu.command_id(), pdu.sequence_number),
        })
        .collect()
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn closed(end: End) -> Event {
    Event::Closed { unanswered: Vec::new(), unsent: Vec::new(), end }
}

fn submit() -> Body {
    let destination = Address::new(Ton::INTERNATIONAL, Npi::ISDN, "819012345678").unwrap();
    Body::SubmitSm(SubmitSm { destination, ..SubmitSm::default() })
}

fn deliver() -> Body {
    Body::DeliverSm(DeliverSm::default())
}

fn submit_resp(number: u32, status: CommandStatus, id: &str) -> Pdu {
    let message_id = Some(id.try_into().unwrap());
    let body = SubmitSmResp { message_id, ..SubmitSmResp::default() };
    Pdu::response(number, status, Body::SubmitSmResp(body))
}

/// A request that has left the session, under this token.
fn submitted(session: &mut Session, token: u64) -> u32 {
    let number = session.submit(T0, token, submit()).unwrap();
    assert_eq!(sent(session), [format!("submit_sm {number}")]);
    number
}

// Binding.

#[test]
fn the_bind_carries_what_the_config_says() {
    let config = Config {
        version: Version::V5_0,
        system_type: "VMA".try_into().unwrap(),
        addr_ton: Ton::INTERNATIONAL,
        addr_npi: Npi::ISDN,
        address_range: "^81".try_into().unwrap(),
        ..Config::default()
    };
    let mut session = esme(&config, Mode::Rx);
    let bind = session.poll_transmit().unwrap();
    let expected = Bind {
        system_id: "acme".try_into().unwrap(),
        password: "s3cret".try_into().unwrap(),
        system_type: "VMA".try_into().unwrap(),
        interface_version: InterfaceVersion::V5_0,
        address_range: Address::new(Ton::INTERNATIONAL, Npi::ISDN, "^81").unwrap(),
        tlvs: Tlvs::new(),
    };
    assert_eq!(bind, Pdu::request(1, Body::BindReceiver(expected)));
    assert_eq!(session.state(), State::Binding(Mode::Rx));
}

#[test]
fn an_accepted_bind_opens_the_session() {
    let mut session = esme(&Config::default(), Mode::Trx);
    let mut tlvs = Tlvs::new();
    tlvs.push_u8(Tag::SC_INTERFACE_VERSION, 0x34);
    let resp = BindResp { system_id: Some("SMSC".try_into().unwrap()), tlvs };
    hear(&mut session, Pdu::response(1, OK, Body::BindTransceiverResp(resp)));
    let version = Some(InterfaceVersion::V3_4);
    let system_id = "SMSC".to_owned();
    let expected = Event::Bound { mode: Mode::Trx, version, system_id, tlvs: true };
    assert_eq!(events(&mut session), [expected]);
    assert_eq!(session.state(), State::Bound(Mode::Trx));
}

#[test]
fn a_refused_bind_ends_the_session_with_its_status() {
    for (mode, response) in [
        (Mode::Tx, Body::BindTransmitterResp(BindResp::default())),
        (Mode::Rx, Body::BindReceiverResp(BindResp::default())),
        (Mode::Trx, Body::BindTransceiverResp(BindResp::default())),
        (Mode::Trx, Body::GenericNack(Tlvs::new())),
    ] {
        let mut session = esme(&Config::default(), mode);
        sent(&mut session);
        hear(&mut session, Pdu::response(1, CommandStatus::ESME_RINVPASWD, response));
        let end = End::BindRefused(CommandStatus::ESME_RINVPASWD);
        assert_eq!(events(&mut session), [closed(end)]);
        assert_eq!(sent(&mut session), [""; 0], "there is nothing to unbind");
        assert_eq!(session.poll_timeout(), None);
    }
}

#[test]
fn a_bind_response_of_another_kind_is_no_bind() {
    let mut session = esme(&Config::default(), Mode::Trx);
    sent(&mut session);
    hear(&mut session, Pdu::response(1, OK, Body::BindReceiverResp(BindResp::default())));
    let end = End::WrongBind(CommandId::BIND_RECEIVER_RESP);
    assert_eq!(events(&mut session), [closed(end)]);
    assert_eq!(sent(&mut session), ["unbind 2"]);
}

#[test]
fn a_bind_without_an_answer_ends_with_session_init() {
    let mut session = esme(&Config::default(), Mode::Trx);
    sent(&mut session);
    assert_eq!(session.poll_timeout(), Some(at(30)));
    session.handle_timeout(at(30));
    assert_eq!(events(&mut session), [closed(End::NotBound)]);
    assert_eq!(sent(&mut session), ["unbind 2"], "the SMSC may think that we are bound");
}

#[test]
fn nothing_is_submitted_before_the_bind_or_beside_its_mode() {
    let mut session = esme(&Config::default(), Mode::Trx);
    assert_eq!(session.submit(T0, 1, submit()), Err(NotSent::NotBound));
    let mut session = bound(&Config::default(), Mode::Rx);
    let expected = Err(NotSent::NotAllowed(CommandId::SUBMIT_SM));
    assert_eq!(session.submit(T0, 1, submit()), expected);
    let mut session = bound_trx();
    let expected = Err(NotSent::NotAllowed(CommandId::DELIVER_SM));
    assert_eq!(session.submit(T0, 1, deliver()), expected);
    assert_eq!(sent(&mut session), [""; 0]);
}

// Requests of ours.

#[test]
fn an_answer_comes_back_with_its_token() {
    let mut session = bound_trx();
    let number = submitted(&mut session, 77);
    let answer = submit_resp(number, OK, "1f09");
    hear(&mut session, answer.clone());
    let expected = Event::Answered {
        token: 77,
        sequence_number: number,
        status: OK,
        body: answer.body,
        late: false,
    };
    assert_eq!(events(&mut session), [expected]);
    assert_eq!(session.window().used(), 0);
}

#[test]
fn answers_may_come_in_any_order() {
    let mut session = bound_trx();
    let numbers: Vec<_> = (0..3).map(|token| submitted(&mut session, token)).collect();
    for at in [2, 0, 1] {
        hear(&mut session, submit_resp(numbers[at], OK, "id"));
    }
    let tokens: Vec<_> = events(&mut session)
        .into_iter()
        .map(|event| match event {
            Event::Answered { token, .. } => token,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tokens, [2, 0, 1]);
}

#[test]
fn a_generic_nack_answers_the_request_of_its_number() {
    let mut session = bound_trx();
    let number = submitted(&mut session, 7);
    hear(&mut session, Pdu::generic_nack(number, CommandStatus::ESME_RINVCMDID));
    let status = CommandStatus::ESME_RINVCMDID;
    assert!(matches!(
        events(&mut session).as_slice(),
        [Event::Answered { token: 7, status: found, .. }] if *found == status
    ));
}

#[test]
fn the_window_bounds_what_is_unanswered() {
    let mut session = bound(&Config { window: 2, ..Config::default() }, Mode::Trx);
    let first = submitted(&mut session, 1);
    submitted(&mut session, 2);
    assert_eq!(session.submit(T0, 3, submit()), Err(NotSent::WindowFull));
    hear(&mut session, submit_resp(first, CommandStatus::ESME_RTHROTTLED, ""));
    assert_eq!(session.window().free(), 1);
    submitted(&mut session, 3);
}

#[test]
fn a_request_without_an_answer_is_unknown_after_the_response_timer() {
    let mut session = bound_trx();
    let number = submitted(&mut session, 7);
    hear_at(&mut session, at(40), Pdu::request(1, Body::EnquireLink));
    session.handle_timeout(at(59));
    assert_eq!(events(&mut session), []);
    session.handle_timeout(at(60));
    let expected = Event::TimedOut { token: 7, sequence_number: number };
    assert_eq!(events(&mut session), [expected]);
}

#[test]
fn a_late_answer_still_surfaces_once() {
    let mut session = bound_trx();
    let number = submitted(&mut session, 7);
    session.handle_timeout(at(60));
    events(&mut session);
    hear_at(&mut session, at(61), submit_resp(number, OK, "late"));
    let found = events(&mut session);
    let [Event::Oddity(Oddity::LateAnswer(_)), Event::Answered { token: 7, late: true, .. }] =
        found.as_slice()
    else {
        panic!("{found:?}");
    };
    hear_at(&mut session, at(62), submit_resp(number, OK, "late"));
    let repeated = Oddity::RepeatedAnswer(CommandId::SUBMIT_SM_RESP);
    assert_eq!(events(&mut session), [Event::Oddity(repeated)]);
}

#[test]
fn answers_that_fit_no_request_are_counted_and_change_nothing() {
    let mut session = bound_trx();
    let number = submitted(&mut session, 7);
    hear(&mut session, Pdu::response(number, OK, Body::DataSmResp(Default::default())));
    hear(&mut session, submit_resp(4_711, OK, "x"));
    let unknown = CommandId(0x8001_0200);
    let octets = Default::default();
    hear(&mut session, Pdu::response(9, OK, Body::Unknown { command_id: unknown, octets }));
    let expected = [
        Oddity::MismatchedAnswer(CommandId::DATA_SM_RESP),
        Oddity::UnknownAnswer(CommandId::SUBMIT_SM_RESP),
        Oddity::UnknownAnswer(unknown),
    ];
    assert_eq!(events(&mut session), expected.map(Event::Oddity));
    assert_eq!(sent(&mut session), [""; 0], "a response is never answered");
    assert_eq!(session.window().used(), 1);
}

#[test]
fn a_carrier_that_has_forgotten_the_bind_is_left() {
    let mut session = bound_trx();
    let number = submitted(&mut session, 7);
    hear(&mut session, submit_resp(number, CommandStatus::ESME_RINVBNDSTS, ""));
    let found = events(&mut session);
    assert!(matches!(
        found.as_slice(),
        [Event::Answered { token: 7, .. }, Event::Closing { by_peer: false }]
    ));
    assert_eq!(sent(&mut session), ["unbind 3"]);
    hear(&mut session, Pdu::response(3, OK, Body::UnbindResp(Tlvs::new())));
    assert_eq!(events(&mut session), [closed(End::BindForgotten)]);
}

#[test]
fn a_query_that_the_bind_does_not_allow_costs_no_session() {
    let mut session = bound_trx();
    let number = session.submit(T0, 7, Body::QuerySm(QuerySm::default())).unwrap();
    let answer = Body::QuerySmResp(Default::default());
    hear(&mut session, Pdu::response(number, CommandStatus::ESME_RINVBNDSTS, answer));
    assert_eq!(session.state(), State::Bound(Mode::Trx));
}

#[test]
fn a_peer_that_cannot_read_us_ends_the_session() {
    let mut session = bound_trx();
    submitted(&mut session, 7);
    hear(&mut session, Pdu::generic_nack(0, CommandStatus::ESME_RINVCMDLEN));
    let expected = Event::Closed { unanswered: vec![7], unsent: vec![], end: End::PeerLost };
    assert_eq!(events(&mut session), [expected]);
}

// Requests of the peer's.

#[test]
fn enquire_link_is_answered_in_every_state() {
    let mut before = esme(&Config::default(), Mode::Trx);
    let mut draining = bound_trx();
    submitted(&mut draining, 1);
    draining.unbind(T0);
    let mut unbinding = bound_trx();
    unbinding.unbind(T0);
    let mut unbound = bound_trx();
    submitted(&mut unbound, 1);
    hear(&mut unbound, Pdu::request(1, Body::Unbind));
    let mut open = Session::smsc(T0, &SmscConfig::default());
    for session in [&mut before, &mut draining, &mut unbinding, &mut unbound, &mut open] {
        sent(session);
        hear(session, Pdu::request(0xFFFF_FFFF, Body::EnquireLink));
        assert_eq!(sent(session), ["enquire_link_resp 4294967295"], "{:?}", session.state());
    }
}

#[test]
fn a_delivery_is_handed_up_and_answered_when_told() {
    let mut session = bound_trx();
    hear(&mut session, Pdu::request(0x8000_0001, deliver()));
    let expected = Event::Request { sequence_number: 0x8000_0001, body: deliver() };
    assert_eq!(events(&mut session), [expected]);
    assert_eq!(sent(&mut session), [""; 0], "not before it is on disk");
    assert!(session.acknowledge(T0, 0x8000_0001, OK));
    let answer = session.poll_transmit().unwrap();
    let Body::DeliverSmResp(resp) = &answer.body else { panic!("{answer:?}") };
    assert_eq!(resp.message_id, Some(COctetString::EMPTY), "some peers fail without the NUL");
    assert!(!session.acknowledge(T0, 0x8000_0001, OK), "nothing is answered twice");
}

#[test]
fn deliveries_under_one_number_are_answered_each_in_its_turn() {
    let mut session = bound_trx();
    hear(&mut session, Pdu::request(0, deliver()));
    hear(&mut session, Pdu::request(0, Body::DataSm(DataSm::default())));
    assert!(session.acknowledge(T0, 0, OK));
    assert!(session.acknowledge(T0, 0, OK));
    assert!(!session.acknowledge(T0, 0, OK));
    assert_eq!(sent(&mut session), ["deliver_sm_resp 0", "data_sm_resp 0"]);
}

#[test]
fn a_receipt_on_a_transmitter_is_taken() {
    let mut session = bound(&Config::default(), Mode::Tx);
    hear(&mut session, Pdu::request(5, deliver()));
    assert!(matches!(events(&mut session).as_slice(), [Event::Request { .. }]));
}

#[test]
fn deliveries_beyond_the_limit_are_asked_to_come_again() {
    let mut session = bound(&Config { receive_window: 1, ..Config::default() }, Mode::Trx);
    hear(&mut session, Pdu::request(1, deliver()));
    hear(&mut session, Pdu::request(2, deliver()));
    assert_eq!(sent(&mut session), ["deliver_sm_resp 2 ESME_RX_T_APPN"]);
    let found = events(&mut session);
    assert!(matches!(found[1], Event::Oddity(Oddity::TooManyRequests(_))), "{found:?}");
    session.acknowledge(T0, 1, OK);
    hear(&mut session, Pdu::request(3, deliver()));
    assert!(matches!(events(&mut session).as_slice(), [Event::Request { .. }]));
}

#[test]
fn what_an_esme_is_never_asked_is_refused() {
    let mut session = bound_trx();
    hear(&mut session, Pdu::request(1, submit()));
    hear(&mut session, Pdu::request(2, Body::BindReceiver(Bind::default())));
    hear(&mut session, Pdu::request(3, Body::Outbind(Default::default())));
    let octets = Default::default();
    let broadcast = Body::Unknown { command_id: CommandId::BROADCAST_SM, octets };
    hear(&mut session, Pdu::request(4, broadcast));
    let expected = [
        "submit_sm_resp 1 ESME_RINVBNDSTS",
        "bind_receiver_resp 2 ESME_RINVBNDSTS",
        "generic_nack 4 ESME_RINVCMDID",
    ];
    assert_eq!(sent(&mut session), expected, "an outbind has no answer");
    assert_eq!(events(&mut session).len(), 4);
    assert_eq!(session.state(), State::Bound(Mode::Trx));
}

#[test]
fn an_alert_is_handed_up_and_not_answered() {
    let mut session = bound_trx();
    let alert = AlertNotification::default();
    hear(&mut session, Pdu::request(9, Body::AlertNotification(alert.clone())));
    assert_eq!(events(&mut session), [Event::Alert(alert)]);
    assert_eq!(sent(&mut session), [""; 0]);
}

// Silence.

#[test]
fn a_silent_peer_is_asked_and_then_left() {
    let mut session = bound_trx();
    assert_eq!(session.poll_timeout(), Some(at(30)));
    session.handle_timeout(at(30));
    assert_eq!(sent(&mut session), ["enquire_link 2"]);
    assert_eq!(session.poll_timeout(), Some(at(45)));
    submitted(&mut session, 7);
    session.handle_timeout(at(45));
    let unanswered = vec![7];
    let expected = Event::Closed { unanswered, unsent: vec![], end: End::EnquireLinkUnanswered };
    assert_eq!(events(&mut session), [expected]);
    assert_eq!(sent(&mut session), ["unbind 4"]);
}

#[test]
fn any_pdu_is_a_sign_of_life() {
    let mut session = bound_trx();
    session.handle_timeout(at(30));
    hear_at(&mut session, at(40), Pdu::request(1, Body::EnquireLink));
    session.handle_timeout(at(45));
    assert_eq!(session.state(), State::Bound(Mode::Trx));
    hear_at(&mut session, at(46), Pdu::response(2, OK, Body::EnquireLinkResp(Tlvs::new())));
    assert_eq!(events(&mut session), [], "a slow answer to enquire_link is nothing odd");
    assert_eq!(session.poll_timeout(), Some(at(76)));
}

#[test]
fn an_enquire_link_that_is_nacked_is_a_sign_of_life() {
    let mut session = bound_trx();
    session.handle_timeout(at(30));
    hear_at(&mut session, at(31), Pdu::generic_nack(2, CommandStatus::ESME_RINVCMDID));
    assert_eq!(events(&mut session), []);
    assert_eq!(session.poll_timeout(), Some(at(61)));
}

#[test]
fn inactivity_closes_where_it_is_set() {
    let enquire_link = Span::secs(0);
    let timers = Timers { enquire_link, inactivity: Span::secs(300), ..Timers::default() };
    let mut session = smsc(&SmscConfig { timers, ..SmscConfig::default() }, Mode::Trx);
    assert_eq!(session.poll_timeout(), Some(at(300)));
    session.handle_timeout(at(300));
    assert_eq!(events(&mut session), [closed(End::Inactive)]);
}

#[test]
fn a_pdu_that_never_becomes_whole_costs_the_connection() {
    let mut session = bound_trx();
    session.handle_partial(at(1), true);
    session.handle_partial(at(9), true);
    session.handle_timeout(at(11));
    assert_eq!(events(&mut session), [closed(End::PduCutShort)]);
}

#[test]
fn while_nobody_reads_the_peer_is_not_called_silent() {
    let mut session = bound_trx();
    submitted(&mut session, 7);
    session.pause(at(10));
    session.handle_timeout(at(30));
    assert_eq!(sent(&mut session), ["enquire_link 3"], "ours still go out");
    session.handle_timeout(at(1_000));
    assert_eq!(events(&mut session), []);
    assert_eq!(session.poll_timeout(), None);
    session.resume(at(1_000));
    session.handle_timeout(at(1_000));
    assert_eq!(events(&mut session), []);
    hear_at(&mut session, at(1_001), Pdu::request(1, Body::EnquireLink));
    session.handle_timeout(at(1_050));
    let expected = Event::TimedOut { token: 7, sequence_number: 2 };
    assert_eq!(events(&mut session), [expected], "60 s, less the 990 s unheard");
}

// The end.

#[test]
fn an_unbind_waits_for_answers_and_then_for_its_own() {
    let mut session = bound_trx();
    let number = submitted(&mut session, 7);
    hear(&mut session, Pdu::request(50, deliver()));
    events(&mut session);
    session.unbind(T0);
    assert_eq!(events(&mut session), [Event::Closing { by_peer: false }]);
    assert_eq!(session.submit(T0, 8, submit()), Err(NotSent::NotBound));
    hear(&mut session, submit_resp(number, OK, "id"));
    assert_eq!(sent(&mut session), [""; 0], "a delivery is not answered yet");
    session.acknowledge(T0, 50, OK);
    assert_eq!(sent(&mut session), ["deliver_sm_resp 50", "unbind 3"]);
    events(&mut session);
    hear(&mut session, Pdu::response(3, OK, Body::UnbindResp(Tlvs::new())));
    assert_eq!(events(&mut session), [closed(End::Asked)]);
}

#[test]
fn an_unbind_waits_no_longer_than_drain_and_its_timer() {
    let mut session = bound_trx();
    submitted(&mut session, 7);
    session.unbind(T0);
    events(&mut session);
    session.handle_timeout(at(5));
    assert_eq!(sent(&mut session), ["unbind 3"]);
    session.handle_timeout(at(10));
    let expected = Event::Closed { unanswered: vec![7], unsent: vec![], end: End::Asked };
    assert_eq!(events(&mut session), [expected]);
}

/// An `enquire_link` behind the `unbind` took the place of what the answer was looked for by.
#[test]
fn nobody_who_has_unbound_is_asked_for_a_sign_of_life() {
    let mut asks = bound_trx();
    asks.unbind(at(29));
    assert_eq!(sent(&mut asks), ["unbind 2"]);
    asks.handle_timeout(at(30));
    assert_eq!(sent(&mut asks), [""; 0]);
    events(&mut asks);
    hear_at(&mut asks, at(31), Pdu::response(2, OK, Body::UnbindResp(Tlvs::new())));
    assert_eq!(events(&mut asks), [closed(End::Asked)]);
    let config = SmscConfig {
        timers: Timers { enquire_link: Span::secs(3), ..Timers::default() },
        ..SmscConfig::default()
    };
    let mut asked = smsc(&config, Mode::Trx);
    asked.submit(T0, 7, deliver()).unwrap();
    sent(&mut asked);
    hear(&mut asked, Pdu::request(2, Body::Unbind));
    assert_eq!(sent(&mut asked), ["unbind_resp 2"]);
    asked.handle_timeout(at(3));
    assert_eq!(sent(&mut asked), [""; 0]);
    assert_eq!(asked.poll_timeout(), Some(at(5)));
}

#[test]
fn a_delivery_behind_our_unbind_is_to_come_again() {
    let mut session = bound_trx();
    session.unbind(T0);
    sent(&mut session);
    hear(&mut session, Pdu::request(8, deliver()));
    assert_eq!(sent(&mut session), ["deliver_sm_resp 8 ESME_RX_T_APPN"]);
}

#[test]
fn the_peers_unbind_is_answered_and_answers_may_still_come() {
    let mut session = bound_trx();
    let first = submitted(&mut session, 7);
    submitted(&mut session, 8);
    hear(&mut session, Pdu::request(1, Body::Unbind));
    assert_eq!(sent(&mut session), ["unbind_resp 1"]);
    assert_eq!(events(&mut session), [Event::Closing { by_peer: true }]);
    assert_eq!(session.submit(T0, 9, submit()), Err(NotSent::NotBound));
    hear(&mut session, submit_resp(first, OK, "id"));
    assert!(matches!(events(&mut session).as_slice(), [Event::Answered { token: 7, .. }]));
    session.handle_timeout(at(5));
    let expected = Event::Closed { unanswered: vec![8], unsent: vec![], end: End::PeerUnbound };
    assert_eq!(events(&mut session), [expected]);
    assert_eq!(sent(&mut session), [""; 0]);
}

#[test]
fn an_idle_session_ends_with_the_answer_to_the_peers_unbind() {
    let mut session = bound_trx();
    hear(&mut session, Pdu::request(1, Body::Unbind));
    let expected = [Event::Closing { by_peer: true }, closed(End::PeerUnbound)];
    assert_eq!(events(&mut session), expected);
    assert_eq!(sent(&mut session), ["unbind_resp 1"]);
}

#[test]
fn unbinds_that_cross_are_both_answered() {
    let mut session = bound_trx();
    session.unbind(T0);
    hear(&mut session, Pdu::request(1, Body::Unbind));
    assert_eq!(sent(&mut session), ["unbind 2", "unbind_resp 1"]);
    hear(&mut session, Pdu::response(2, OK, Body::UnbindResp(Tlvs::new())));
    assert_eq!(session.state(), State::Closed);
}

#[test]
fn an_unbind_before_the_bind_is_out_of_place() {
    let mut session = Session::smsc(T0, &SmscConfig::default());
    hear(&mut session, Pdu::request(1, Body::Unbind));
    assert_eq!(sent(&mut session), ["unbind_resp 1 ESME_RINVBNDSTS"]);
    assert_eq!(session.state(), State::Open);
}

#[test]
fn a_lost_connection_tells_what_was_unanswered_and_what_never_left() {
    let mut session = bound_trx();
    submitted(&mut session, 7);
    session.submit(T0, 8, submit()).unwrap();
    session.handle_eof();
    let end = End::PeerClosed;
    let expected = Event::Closed { unanswered: vec![7], unsent: vec![8], end };
    assert_eq!(events(&mut session), [expected]);
    assert_eq!(sent(&mut session), [""; 0], "what is called unsent must not leave");
    session.handle_eof();
    session.close();
    session.unbind(T0);
    hear(&mut session, submit_resp(2, OK, "id"));
    assert_eq!(events(&mut session), [], "the end is told once");
}

#[test]
fn a_request_that_timed_out_is_not_told_again_at_the_end() {
    let mut session = bound_trx();
    submitted(&mut session, 7);
    session.handle_timeout(at(60));
    events(&mut session);
    session.handle_eof();
    assert_eq!(events(&mut session), [closed(End::PeerClosed)]);
}

#[test]
fn a_failed_connection_says_how() {
    let mut session = bound_trx();
    let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    session.handle_frame_error(&FrameError::Io(error));
    let expected = closed(End::Io(std::io::ErrorKind::ConnectionReset));
    assert_eq!(events(&mut session), [expected]);
}

#[test]
fn close_ends_at_once_and_tells_the_peer() {
    let mut session = bound_trx();
    session.close();
    assert_eq!(sent(&mut session), ["unbind 2"]);
    assert_eq!(events(&mut session), [closed(End::Asked)]);
    assert_eq!(session.poll_timeout(), None);
}

// TLVs and versions.

fn submit_with(tag: Tag) -> Body {
    let mut tlvs = Tlvs::new();
    tlvs.push_u16(tag, 7);
    Body::SubmitSm(SubmitSm { tlvs, ..SubmitSm::default() })
}

/// Whether a `user_message_reference` leaves us when the SMSC says `sc_interface_version`.
fn tlv_is_sent(version: Version, send_tlvs: SendTlvs, peer: Option<u8>) -> bool {
    let config = Config { version, send_tlvs, ..Config::default() };
    let mut session = esme(&config, Mode::Trx);
    sent(&mut session);
    let mut tlvs = Tlvs::new();
    if let Some(peer) = peer {
        tlvs.push_u8(Tag::SC_INTERFACE_VERSION, peer);
    }
    let resp = Body::BindTransceiverResp(BindResp { system_id: None, tlvs });
    hear(&mut session, Pdu::response(1, OK, resp));
    session.submit(T0, 1, submit_with(Tag::USER_MESSAGE_REFERENCE)).unwrap();
    let pdu = session.poll_transmit().unwrap();
    !pdu.body.tlvs().unwrap().is_empty()
}

#[test]
fn tlvs_go_to_a_peer_that_says_nothing_and_not_to_one_that_speaks_3_3() {
    use SendTlvs::*;
    use Version::*;
    assert!(tlv_is_sent(V3_4, Auto, None));
    assert!(tlv_is_sent(V3_4, Auto, Some(0x34)));
    assert!(!tlv_is_sent(V3_4, Auto, Some(0x33)));
    assert!(!tlv_is_sent(V3_4, Auto, Some(0x00)));
    assert!(!tlv_is_sent(V3_3, Auto, None));
    assert!(tlv_is_sent(V3_3, Always, Some(0x33)));
    assert!(!tlv_is_sent(V3_4, Never, Some(0x50)));
}

#[test]
fn a_message_that_is_in_tlvs_is_not_sent_without_them() {
    let config = Config { send_tlvs: SendTlvs::Never, ..Config::default() };
    let mut session = bound(&config, Mode::Trx);
    let refused = session.submit(T0, 1, submit_with(Tag::SAR_MSG_REF_NUM));
    assert_eq!(refused, Err(NotSent::NeedsTlv(Tag::SAR_MSG_REF_NUM)));
    assert_eq!((sent(&mut session), session.window().used()), (vec![], 0));
    session.submit(T0, 1, submit_with(Tag::USER_MESSAGE_REFERENCE)).unwrap();
    let left_out = Oddity::TlvsLeftOut(Tag::USER_MESSAGE_REFERENCE);
    assert_eq!(events(&mut session), [Event::Oddity(left_out)]);
}

// As SMSC.

#[test]
fn an_smsc_answers_a_bind_as_it_is_told() {
    let config = SmscConfig { system_id: "SMSC".try_into().unwrap(), ..SmscConfig::default() };
    let mut session = Session::smsc(T0, &config);
    let bind = esme(&Config::default(), Mode::Tx).poll_transmit().unwrap();
    hear(&mut session, bind.clone());
    let Body::BindTransmitter(asked) = bind.body else { panic!() };
    let expected = Event::BindRequested { mode: Mode::Tx, bind: asked };
    assert_eq!(events(&mut session), [expected]);
    session.refuse_bind(CommandStatus::ESME_RINVPASWD);
    assert_eq!(sent(&mut session), ["bind_transmitter_resp 1 ESME_RINVPASWD"]);
    hear(&mut session, Pdu::request(2, Body::BindTransceiver(Bind::default())));
    session.accept_bind();
    let answer = session.poll_transmit().unwrap();
    let Body::BindTransceiverResp(resp) = answer.body else { panic!() };
    assert_eq!(resp.system_id, Some("SMSC".try_into().unwrap()));
    assert_eq!(resp.tlvs, Tlvs::new(), "a 3.3 peer knows no TLVs");
    session.accept_bind();
    session.refuse_bind(CommandStatus::ESME_RBINDFAIL);
    assert_eq!(sent(&mut session), [""; 0], "no bind waits");
}

#[test]
fn an_smsc_tells_its_version_to_an_esme_of_3_4() {
    let mut session = Session::smsc(T0, &SmscConfig::default());
    hear(&mut session, esme(&Config::default(), Mode::Trx).poll_transmit().unwrap());
    session.accept_bind();
    let answer = session.poll_transmit().unwrap();
    assert_eq!(answer.body.tlvs().unwrap().get_u8(Tag::SC_INTERFACE_VERSION), Some(0x34));
}

#[test]
fn a_second_bind_is_refused_and_the_first_stands() {
    let mut session = smsc(&SmscConfig::default(), Mode::Trx);
    hear(&mut session, Pdu::request(9, Body::BindTransceiver(Bind::default())));
    assert_eq!(sent(&mut session), ["bind_transceiver_resp 9 ESME_RALYBND"]);
    assert_eq!(session.state(), State::Bound(Mode::Trx));
}

#[test]
fn an_smsc_takes_submissions_where_the_bind_transmits() {
    for (mode, taken) in [(Mode::Tx, true), (Mode::Trx, true), (Mode::Rx, false)] {
        let mut session = smsc(&SmscConfig::default(), mode);
        hear(&mut session, Pdu::request(3, submit()));
        let requested =
            events(&mut session).iter().any(|event| matches!(event, Event::Request { .. }));
        assert_eq!(requested, taken, "{mode}");
        let delivered = session.submit(T0, 1, deliver());
        assert_eq!(delivered.is_ok(), mode.receives(), "{mode}");
        assert_eq!(session.alert(AlertNotification::default()).is_ok(), mode.receives(), "{mode}");
    }
}

#[test]
fn an_smsc_refuses_what_nobody_could_act_on() {
    let mut session = smsc(&SmscConfig::default(), Mode::Trx);
    hear(&mut session, Pdu::request(3, Body::SubmitSm(SubmitSm::default())));
    hear(&mut session, Pdu::request(4, Body::SubmitMulti(Default::default())));
    hear(&mut session, Pdu::request(5, Body::QuerySm(QuerySm::default())));
    hear(&mut session, Pdu::request(6, Body::ReplaceSm(Default::default())));
    let expected = [
        "submit_sm_resp 3 ESME_RINVDSTADR",
        "submit_multi_resp 4 ESME_RINVNUMDESTS",
        "query_sm_resp 5 ESME_RINVMSGID",
        "replace_sm_resp 6 ESME_RINVMSGID",
    ];
    assert_eq!(sent(&mut session), expected);
    assert_eq!(events(&mut session), []);
}

#[test]
fn an_smsc_throttles_what_exceeds_its_limit() {
    let config = SmscConfig { receive_window: 1, ..SmscConfig::default() };
    let mut session = smsc(&config, Mode::Trx);
    hear(&mut session, Pdu::request(3, submit()));
    hear(&mut session, Pdu::request(4, submit()));
    assert_eq!(sent(&mut session), ["submit_sm_resp 4 ESME_RTHROTTLED"]);
    let answer = submit_resp(3, OK, "abc").body;
    assert!(session.respond(T0, 3, OK, answer.clone()));
    assert_eq!(session.poll_transmit().unwrap().body, answer);
    assert!(!session.respond(T0, 3, OK, answer));
}

#[test]
fn an_esme_that_never_binds_is_closed_after_session_init() {
    let mut session = Session::smsc(T0, &SmscConfig::default());
    hear_at(&mut session, at(29), Pdu::request(1, Body::EnquireLink));
    sent(&mut session);
    session.handle_timeout(at(30));
    assert_eq!(events(&mut session), [closed(End::NotBound)]);
    assert_eq!(sent(&mut session), [""; 0]);
}

#[test]
fn both_roles_talk_to_each_other() {
    let mut esme = esme(&Config::default(), Mode::Trx);
    let mut smsc = Session::smsc(T0, &SmscConfig::default());
    exchange(&mut esme, &mut smsc);
    assert!(matches!(smsc.poll_event(), Some(Event::BindRequested { .. })));
    smsc.accept_bind();
    exchange(&mut esme, &mut smsc);
    esme.submit(T0, 1, submit()).unwrap();
    smsc.submit(T0, 2, deliver()).unwrap();
    exchange(&mut esme, &mut smsc);
    let numbers = [&mut esme, &mut smsc].map(|session| {
        let requests = events(session).into_iter().filter_map(|event| match event {
            Event::Request { sequence_number, .. } => Some(sequence_number),
            _ => None,
        });
        requests.collect::<Vec<_>>()
    });
    assert_eq!(numbers, [vec![1], vec![2]]);
    esme.acknowledge(T0, 1, OK);
    smsc.acknowledge(T0, 2, OK);
    smsc.unbind(T0);
    exchange(&mut esme, &mut smsc);
    assert_eq!([esme.state(), smsc.state()], [State::Closed; 2]);
}

/// Carries PDUs both ways until none is left.
fn exchange(one: &mut Session, other: &mut Session) {
    loop {
        let there: Vec<_> = std::iter::from_fn(|| one.poll_transmit()).collect();
        let back: Vec<_> = std::iter::from_fn(|| other.poll_transmit()).collect();
        if there.is_empty() && back.is_empty() {
            return;
        }
        there.into_iter().for_each(|pdu| hear(other, pdu));
        back.into_iter().for_each(|pdu| hear(one, pdu));
    }
}

// Whatever comes, in whatever order.

#[derive(Clone, Debug)]
enum Step {
    Hear { kind: usize, number: u32, status: u32 },
    Submit,
    Acknowledge { number: u32 },
    Wait { seconds: u64 },
    Partial(bool),
    Pause,
    Resume,
    AcceptBind,
    RefuseBind,
    Unbind,
    Eof,
    Close,
}

/// One PDU of each kind there is.
fn bodies() -> Vec<Body> {
    let requests = vec![
        Body::BindReceiver(Bind::default()),
        Body::BindTransmitter(Bind::default()),
        Body::BindTransceiver(Bind::default()),
        Body::EnquireLink,
        Body::Unbind,
        submit(),
        Body::SubmitMulti(Default::default()),
        deliver(),
        Body::DataSm(DataSm::default()),
        Body::QuerySm(QuerySm::default()),
        Body::CancelSm(Default::default()),
        Body::ReplaceSm(Default::default()),
    ];
    let responses: Vec<_> = requests.iter().filter_map(Body::response).collect();
    let others = vec![
        Body::Outbind(Default::default()),
        Body::AlertNotification(AlertNotification::default()),
        Body::GenericNack(Tlvs::new()),
        Body::Unknown { command_id: CommandId(0x0001_0200), octets: Default::default() },
        Body::Unknown { command_id: CommandId(0x8001_0200), octets: Default::default() },
    ];
    [requests, responses, others].concat()
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = bodies().len();
    // Mostly numbers that may be in use.
    let number = || prop_oneof![8 => 0_u32..40, 1 => any::<u32>()];
    let status = prop_oneof![4 => Just(0_u32), 1 => 0_u32..0x110];
    prop_oneof![
        12 => (0..kinds, number(), status)
            .prop_map(|(kind, number, status)| Step::Hear { kind, number, status }),
        8 => Just(Step::Submit),
        4 => number().prop_map(|number| Step::Acknowledge { number }),
        4 => (0_u64..40).prop_map(|seconds| Step::Wait { seconds }),
        1 => any::<bool>().prop_map(Step::Partial),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        2 => Just(Step::AcceptBind),
        1 => Just(Step::RefuseBind),
        1 => Just(Step::Unbind),
        1 => Just(Step::Eof),
        1 => Just(Step::Close),
    ]
}

/// What a session may be held to, whatever it hears.
struct Watch {
    session: Session,
    window: usize,
    now: Time,
    next_token: u64,
    /// The outcomes each token has had.
    outcomes: HashMap<u64, Vec<&'static str>>,
    closed: bool,
}

impl Watch {
    fn new(session: Session) -> Self {
        let window = session.window().limit().into();
        let outcomes = HashMap::new();
        Self { session, window, now: T0, next_token: 1, outcomes, closed: false }
    }

    fn take(&mut self, step: &Step, bodies: &[Body]) {
        let Self { session, now, .. } = self;
        match *step {
            Step::Hear { kind, number, status } => {
                let pdu = Pdu::response(number, CommandStatus(status), bodies[kind].clone());
                session.handle_frame(*now, Frame::Pdu(pdu));
            }
            Step::Submit => self.submit(),
            Step::Acknowledge { number } => drop(session.acknowledge(*now, number, OK)),
            Step::Wait { seconds } => {
                *now += Duration::from_secs(seconds);
                session.handle_timeout(*now);
            }
            Step::Partial(partial) => session.handle_partial(*now, partial),
            Step::Pause => session.pause(*now),
            Step::Resume => session.resume(*now),
            Step::AcceptBind => session.accept_bind(),
            Step::RefuseBind => session.refuse_bind(CommandStatus::ESME_RBINDFAIL),
            Step::Unbind => session.unbind(*now),
            Step::Eof => session.handle_eof(),
            Step::Close => session.close(),
        }
        self.check();
    }

    fn submit(&mut self) {
        let token = self.next_token;
        for body in [submit(), deliver()] {
            if self.session.submit(self.now, token, body).is_ok() {
                self.next_token += 1;
                self.outcomes.insert(token, Vec::new());
                return;
            }
        }
    }

    fn check(&mut self) {
        assert!(self.session.window().used() <= self.window, "the window is exceeded");
        while let Some(event) = self.session.poll_event() {
            assert!(!self.closed, "{event:?} after the end");
            match event {
                Event::Answered { token, late: false, .. } => self.outcome(token, "answered"),
                Event::Answered { token, late: true, .. } => self.outcome(token, "late"),
                Event::TimedOut { token, .. } => self.outcome(token, "timed out"),
                Event::Closed { unanswered, unsent, .. } => {
                    self.closed = true;
                    unanswered.iter().for_each(|token| self.outcome(*token, "unanswered"));
                    unsent.iter().for_each(|token| self.outcome(*token, "unsent"));
                }
                _ => {}
            }
        }
        while let Some(pdu) = self.session.poll_transmit() {
            let number = pdu.sequence_number;
            let ours = (1..=0x7FFF_FFFF).contains(&number);
            assert!(!pdu.body.is_request() || ours, "a request of number {number}");
        }
        let due = self.session.poll_timeout().is_some_and(|at| at <= self.now);
        if due {
            self.session.handle_timeout(self.now);
            self.check();
        }
    }

    fn outcome(&mut self, token: u64, what: &'static str) {
        let outcomes = self.outcomes.get_mut(&token).unwrap();
        outcomes.push(what);
        let lawful = matches!(outcomes.as_slice(), [_] | ["timed out", "late"]);
        assert!(lawful, "{token}: {outcomes:?}");
        assert_ne!(outcomes[0], "late", "{token}: late before its timer");
    }

    fn end(mut self) {
        self.session.handle_eof();
        self.check();
        assert!(self.closed);
        for (token, outcomes) in &self.outcomes {
            assert!(!outcomes.is_empty(), "{token} has no outcome");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_request_has_one_outcome_whatever_comes(
        role in any::<bool>(),
        starts_bound in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let config = Config { window: 3, receive_window: 4, late_answers: 2, ..Config::default() };
        let smsc_config = SmscConfig { window: 3, receive_window: 4, ..SmscConfig::default() };
        let session = match (role, starts_bound) {
            (true, true) => bound(&config, Mode::Trx),
            (true, false) => esme(&config, Mode::Trx),
            (false, true) => smsc(&smsc_config, Mode::Trx),
            (false, false) => Session::smsc(T0, &smsc_config),
        };
        let bodies = bodies();
        let mut watch = Watch::new(session);
        for step in &steps {
            watch.take(step, &bodies);
        }
        watch.end();
    }
}
