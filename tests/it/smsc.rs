//! The simulated carrier: its fates, its limits and its faults, on virtual time.

use std::time::Duration;

use hikyaku::pdu::Address;
use hikyaku::pdu::Body;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::MessageState;
use hikyaku::pdu::Npi;
use hikyaku::pdu::RegisteredDelivery;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::Tag;
use hikyaku::pdu::Ton;
use hikyaku::smsc::Action;
use hikyaku::smsc::Config;
use hikyaku::smsc::Fault;
use hikyaku::smsc::FaultKind;
use hikyaku::smsc::IdForm;
use hikyaku::smsc::Model;
use hikyaku::smsc::ReceiptForm;
use hikyaku::smsc::SessionId;
use hikyaku::time::Rate;
use hikyaku::time::Span;
use hikyaku::time::Time;

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
