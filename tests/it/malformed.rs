//! What a session makes of octets that are cut, broken or out of place: `malformed.jsonl`.

use bytes::BytesMut;
use hikyaku::pdu::Body;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::Frame;
use hikyaku::pdu::Frames;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::SubmitSm;
use hikyaku::session::Config;
use hikyaku::session::Credentials;
use hikyaku::session::End;
use hikyaku::session::Event;
use hikyaku::session::Mode;
use hikyaku::session::Session;
use hikyaku::session::SmscConfig;
use hikyaku::session::State;
use hikyaku::time::Time;
use serde_json::Value;
use tokio_util::codec::Decoder;

use crate::vectors;

const NOW: Time = Time::from_secs(1_800_000_000);

/// An `enquire_link` that stands behind the octets of a vector, and its number.
const NEXT: [u8; 16] = [0, 0, 0, 16, 0, 0, 0, 0x15, 0, 0, 0, 0, 0, 0xAB, 0xCD, 0xEF];
const NEXT_NUMBER: u32 = 0x00AB_CDEF;

/// A session in the state of a vector, with the octets that it has not read yet.
struct Subject {
    session: Session,
    octets: BytesMut,
    sent: Vec<Pdu>,
    events: Vec<Event>,
}

impl Subject {
    fn of(vector: &Value) -> Self {
        let session = match (vector["role"].as_str().unwrap(), vector["state"].as_str().unwrap()) {
            ("esme", "OPEN") => esme(),
            ("esme", "BOUND_TRX") => bound_esme(&pending(vector)),
            ("mc", "OPEN") => Session::smsc(NOW, &SmscConfig::default()),
            ("mc", "BOUND_TRX") => bound_smsc(Mode::Trx),
            ("mc", "BOUND_RX") => bound_smsc(Mode::Rx),
            (role, state) => panic!("no session for {role} in {state}"),
        };
        let mut subject =
            Self { session, octets: BytesMut::new(), sent: Vec::new(), events: Vec::new() };
        subject.drain();
        subject.sent.clear();
        subject.events.clear();
        subject
    }

    /// Reads `octets` as a link does, and does what the gateway does on the events.
    fn read(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
        let mut frames = Config::default().frames();
        loop {
            match frames.decode(&mut self.octets) {
                Ok(Some(frame)) => self.session.handle_frame(NOW, frame),
                Ok(None) => break,
                Err(error) => {
                    self.session.handle_frame_error(&error);
                    self.octets.clear();
                    break;
                }
            }
            self.drain();
        }
        self.session.handle_partial(NOW, !self.octets.is_empty());
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match &event {
                Event::Request { sequence_number, .. } => {
                    self.session.acknowledge(NOW, *sequence_number, CommandStatus::ESME_ROK);
                }
                Event::BindRequested { .. } => self.session.accept_bind(),
                _ => {}
            }
            self.events.push(event);
        }
        while let Some(pdu) = self.session.poll_transmit() {
            self.sent.push(pdu);
        }
    }

    fn closed(&self) -> Option<&End> {
        self.events.iter().find_map(|event| match event {
            Event::Closed { end, .. } => Some(end),
            _ => None,
        })
    }

    /// How the request of this number ended: its status, and the id for an accepted message.
    fn outcome(&self, number: u32) -> Option<(CommandStatus, Option<Vec<u8>>)> {
        self.events.iter().find_map(|event| match event {
            Event::Answered { sequence_number, status, body, .. } if *sequence_number == number => {
                let pdu = Pdu::response(number, *status, body.clone());
                Some((*status, pdu.message_id().map(<[u8]>::to_vec)))
            }
            Event::Bound { .. } if number == 1 => Some((CommandStatus::ESME_ROK, None)),
            Event::Closed { end: End::BindRefused(status), .. } if number == 1 => {
                Some((*status, None))
            }
            _ => None,
        })
    }
}

fn esme() -> Session {
    let credentials = Credentials::new("acme", "s3cret").unwrap();
    let config = Config { window: 200, ..Config::default() };
    Session::esme(NOW, &config, Mode::Trx, &credentials)
}

/// A bound session whose requests `pending` are the only ones that wait.
fn bound_esme(pending: &[u32]) -> Session {
    let mut session = esme();
    answer(&mut session, 1, Body::BindTransceiver(hikyaku::pdu::Bind::default()));
    let last = pending.iter().copied().max().unwrap_or(1);
    for number in 2..=last {
        let submit = Body::SubmitSm(SubmitSm::default());
        assert_eq!(session.submit(NOW, number.into(), submit.clone()), Ok(number));
        if !pending.contains(&number) {
            answer(&mut session, number, submit);
        }
    }
    session
}

fn answer(session: &mut Session, number: u32, request: Body) {
    let response = request.response().unwrap();
    let pdu = Pdu::response(number, CommandStatus::ESME_ROK, response);
    session.handle_frame(NOW, Frame::Pdu(pdu));
}

fn bound_smsc(mode: Mode) -> Session {
    let mut session = Session::smsc(NOW, &SmscConfig::default());
    let bind = hikyaku::pdu::Bind::default();
    let bind = match mode {
        Mode::Tx => Body::BindTransmitter(bind),
        Mode::Rx => Body::BindReceiver(bind),
        Mode::Trx => Body::BindTransceiver(bind),
    };
    session.handle_frame(NOW, Frame::Pdu(Pdu::request(1, bind)));
    session.accept_bind();
    session
}

/// The requests of ours that wait when the vector's octets come.
fn pending(vector: &Value) -> Vec<u32> {
    vector["expect"]["pending"]
        .as_array()
        .map_or(Vec::new(), |all| all.iter().map(number).collect())
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

/// The vectors of a class, each with what came of it.
fn of_class(class: &str, check: fn(&Value, &mut Subject)) {
    let vectors = vectors::load("malformed.jsonl");
    let chosen: Vec<_> = vectors.iter().filter(|v| v["expect"]["class"] == class).collect();
    assert!(!chosen.is_empty(), "no vector of class {class}");
    for vector in chosen {
        let mut subject = Subject::of(vector);
        let octets = vectors::octets(vector["hex"].as_str().unwrap());
        subject.read(&octets);
        check(vector, &mut subject);
    }
}

/// Whether what was sent is what the vector lets be sent.
fn check_replies(vector: &Value, sent: &[Pdu]) {
    let expect = &vector["expect"];
    let Some(replies) = expect["replies"].as_array() else {
        return;
    };
    let silent_is_fine = replies.is_empty() || expect["reply_optional"] == true;
    match sent {
        [] => assert!(silent_is_fine, "{}: nothing was sent", vector["id"]),
        [pdu] => assert!(
            replies.iter().any(|reply| is_reply(reply, pdu)),
            "{} ({}): sent {} {} {}",
            vector["id"],
            vector["why"],
            pdu.command_id(),
            pdu.command_status,
            pdu.sequence_number
        ),
        more => panic!("{}: {} PDUs were sent", vector["id"], more.len()),
    }
}

fn is_reply(reply: &Value, pdu: &Pdu) -> bool {
    let statuses = reply["status"].as_array().unwrap();
    let numbers = reply["sequence"].as_array().unwrap();
    reply["command"] == pdu.command_id().name().unwrap()
        && statuses.iter().any(|status| *status == pdu.command_status.to_string())
        && numbers.iter().any(|sequence| number(sequence) == pdu.sequence_number)
}

fn check_outcomes(vector: &Value, subject: &Subject) {
    let (id, expect) = (&vector["id"], &vector["expect"]);
    if let Some(resolved) = expect["resolves"].as_u64() {
        let outcome = subject.outcome(u32::try_from(resolved).unwrap());
        let (status, message_id) = outcome.unwrap_or_else(|| panic!("{id}: nothing was resolved"));
        let fields = &expect["fields"];
        if let Some(expected) = fields["command_status"].as_u64() {
            assert_eq!(u64::from(status.0), expected, "{id}");
        }
        match &fields["message_id"] {
            Value::String(expected) => assert_eq!(message_id.unwrap(), expected.as_bytes(), "{id}"),
            _ if fields.get("message_id").is_some() => assert_eq!(message_id, None, "{id}"),
            _ => {}
        }
        match expect["resolves_as"].as_str() {
            Some("accepted_without_id") => assert_eq!(status, CommandStatus::ESME_ROK, "{id}"),
            Some("throttled") => assert_eq!(status, CommandStatus::ESME_RTHROTTLED, "{id}"),
            Some(other) => panic!("{id}: no such outcome: {other}"),
            None => {}
        }
    }
    for waiting in pending(vector).into_iter().map(u64::from) {
        if expect["resolves"] != waiting && expect["never_success"] != waiting {
            let outcome = subject.outcome(u32::try_from(waiting).unwrap());
            assert_eq!(outcome, None, "{id}: {waiting} should wait still");
        }
    }
    if let Some(never) = expect["never_success"].as_u64() {
        let outcome = subject.outcome(u32::try_from(never).unwrap());
        assert!(outcome.is_none_or(|(status, _)| status != CommandStatus::ESME_ROK), "{id}");
    }
}

/// The PDU behind the vector's octets is read, and answered while the session lasts.
fn check_next(vector: &Value, subject: &mut Subject) {
    let over = subject.session.state() == State::Closed;
    subject.sent.clear();
    subject.read(&NEXT);
    assert!(subject.octets.is_empty(), "{}: the next PDU was not read", vector["id"]);
    if !over {
        let answered = matches!(
            subject.sent.as_slice(),
            [Pdu { sequence_number: NEXT_NUMBER, body: Body::EnquireLinkResp(_), .. }]
        );
        assert!(answered, "{}: the next PDU was not answered", vector["id"]);
    }
}

#[test]
fn incomplete_octets_are_kept_and_nothing_is_allocated_for_the_rest() {
    of_class("need_more", |vector, subject| {
        let id = &vector["id"];
        let octets = vectors::octets(vector["hex"].as_str().unwrap());
        assert_eq!(subject.octets.as_ref(), octets, "{id}");
        assert!(subject.octets.capacity() <= 2 * octets.len() + 64, "{id}");
        assert!(subject.events.is_empty() && subject.sent.is_empty(), "{id}");
        // A peer that never sends the rest does not hold the connection for ever.
        if !octets.is_empty() {
            let over = NOW + Config::default().timers.pdu_read.0;
            subject.session.handle_timeout(over);
            subject.drain();
            assert_eq!(subject.closed(), Some(&End::PduCutShort), "{id}");
        }
    });
}

#[test]
fn what_is_unusual_is_taken() {
    of_class("tolerate", |vector, subject| {
        check_replies(vector, &subject.sent);
        check_outcomes(vector, subject);
        check_next(vector, subject);
    });
}

#[test]
fn what_is_broken_costs_one_answer_and_the_session_goes_on() {
    of_class("recoverable", |vector, subject| {
        check_replies(vector, &subject.sent);
        check_outcomes(vector, subject);
        assert_eq!(subject.closed(), None, "{}", vector["id"]);
        check_next(vector, subject);
    });
}

#[test]
fn a_lost_stream_costs_the_connection_after_one_nack() {
    of_class("fatal", |vector, subject| {
        let id = &vector["id"];
        if vector["expect"]["first_pdu"].is_object() {
            let first = &vector["expect"]["first_pdu"];
            let pdu = subject.sent.remove(0);
            assert_eq!(first["reply"], pdu.command_id().name().unwrap(), "{id}");
            assert_eq!(number(&first["sequence"]), pdu.sequence_number, "{id}");
        }
        check_replies(vector, &subject.sent);
        assert!(matches!(subject.closed(), Some(End::StreamLost { .. })), "{id}");
        assert!(subject.octets.capacity() < 100_000, "{id}");
        assert_eq!(subject.session.state(), State::Closed, "{id}");
    });
}

#[test]
fn every_vector_has_a_class_that_is_checked() {
    let known = ["need_more", "tolerate", "recoverable", "fatal"];
    for vector in vectors::load("malformed.jsonl") {
        let class = vector["expect"]["class"].as_str().unwrap();
        assert!(known.contains(&class), "{}: {class}", vector["id"]);
    }
}

#[test]
fn the_appended_pdu_is_an_enquire_link() {
    let mut octets = BytesMut::from(&NEXT[..]);
    let frame = Frames::default().decode(&mut octets).unwrap();
    assert_eq!(frame, Some(Frame::Pdu(Pdu::request(NEXT_NUMBER, Body::EnquireLink))));
}
