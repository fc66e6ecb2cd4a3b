//! Receipts: matched in every order and form, and what they say of the message.

use hikyaku::dispatch::Event;
use hikyaku::dispatch::Notice;
use hikyaku::message::Class;
use hikyaku::message::ReceiptsWanted;
use hikyaku::message::Record;
use hikyaku::message::State;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::MessageState;

use super::world::ONE;
use super::world::SECOND;
use super::world::TWO;
use super::world::World;
use super::world::three_segments;

#[test]
fn a_receipt_ends_the_message_and_is_answered_once_it_is_durable() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let sent = world.one();
    world.ok(&sent, "a1");
    world.syncs = false;
    let sequence = world.receipt("alpha", "a1", "DELIVRD");
    assert!(!world.was_acked(sequence), "not before its record is durable");
    world.sync();
    assert!(world.was_acked(sequence));
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_receipt_before_its_answer_waits_for_it() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let sent = world.one();
    let sequence = world.receipt("alpha", "0059113978", "DELIVRD");
    assert!(world.was_acked(sequence));
    assert_eq!((world.end(id), world.dispatch.snapshot(world.now).orphans), ("live".into(), 1));
    world.ok(&sent, "38601fa");
    assert_eq!(world.end(id), "delivered");
    assert_eq!(world.dispatch.snapshot(world.now).orphans, 0);
    world.check_replay();
}

#[test]
fn a_receipt_before_its_answer_survives_a_crash() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, "hello");
    let sent = world.one();
    world.receipt("alpha", "a1", "DELIVRD");
    world.syncs = false;
    world.ok(&sent, "a1");
    // The answer's record made it to the disk, what followed from it did not.
    world.crash(1);
    world.syncs = true;
    world.sync();
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_receipt_that_fits_nothing_is_kept_answered_and_dropped_in_time() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let sequence = world.receipt("alpha", "nobodys", "DELIVRD");
    assert!(world.was_acked(sequence));
    let again = world.receipt("alpha", "nobodys", "DELIVRD");
    assert!(world.was_acked(again));
    let orphans = |world: &World| {
        world.journal.iter().filter(|(_, it)| matches!(it, Record::Orphan { .. })).count()
    };
    assert_eq!(orphans(&world), 1, "said once is enough");
    world.pass(SECOND * 59);
    assert_eq!(world.dispatch.snapshot(world.now).orphans, 1);
    world.pass(SECOND);
    assert_eq!(world.dispatch.snapshot(world.now).orphans, 0);
    assert!(world.notices.contains(&Notice::ReceiptUnmatched { carrier: "alpha".into() }));
    world.check_replay();
}

#[test]
fn the_table_of_orphans_keeps_to_its_limit() {
    let mut world = World::given(&format!("{ONE}\n[dispatch]\norphan_limit = 10\n"));
    world.bound("alpha", 0, 10);
    for number in 0..100 {
        let sequence = world.receipt("alpha", &format!("x{number}"), "DELIVRD");
        assert!(world.was_acked(sequence));
        assert!(world.dispatch.snapshot(world.now).orphans <= 10);
    }
    world.check_replay();
}

#[test]
fn a_doubled_receipt_changes_nothing_and_is_answered() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let sent = world.one();
    world.ok(&sent, "a1");
    world.receipt("alpha", "a1", "DELIVRD");
    let records = world.journal.len();
    for _ in 0..3 {
        let sequence = world.receipt("alpha", "a1", "DELIVRD");
        assert!(world.was_acked(sequence));
    }
    assert_eq!(world.journal.len(), records);
    assert_eq!(world.end(id), "delivered");
}

#[test]
fn a_receipt_that_cannot_be_read_is_kept_and_answered() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let sequence = world.deliver("alpha", "819012345678", EsmClass(0x04), b"what is this");
    assert!(world.was_acked(sequence));
    assert!(world.notices.contains(&Notice::ReceiptUnreadable { carrier: "alpha".into() }));
    assert!(matches!(world.journal[0].1, Record::Orphan { .. }));
    assert_eq!(world.dispatch.snapshot(world.now).orphans, 0, "it waits for nothing");
    world.check_replay();
}

#[test]
fn a_long_message_is_delivered_when_all_its_segments_are() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, &three_segments());
    for (number, sent) in world.take(3).iter().enumerate() {
        world.ok(sent, &format!("s{number}"));
    }
    world.receipt("alpha", "s2", "DELIVRD");
    world.receipt("alpha", "s0", "DELIVRD");
    assert_eq!(world.end(id), "live");
    world.receipt("alpha", "s1", "DELIVRD");
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_long_message_fails_with_its_first_segment_that_does() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, &three_segments());
    for (number, sent) in world.take(3).iter().enumerate() {
        world.ok(sent, &format!("s{number}"));
    }
    world.receipt("alpha", "s0", "DELIVRD");
    world.receipt_with("alpha", "s1", "UNDELIV", "027");
    assert_eq!(world.end(id), "undeliverable: undeliverable");
    assert_eq!(&*world.finish(id).unwrap().carrier_error, "027");
    let late = world.receipt("alpha", "s2", "DELIVRD");
    assert!(world.was_acked(late));
    assert_eq!(world.corrections(id), []);
    world.check_replay();
}

#[test]
fn one_segment_may_speak_for_all_where_the_carrier_says_so() {
    for (on, first, end) in [("any", "s1", "delivered"), ("last", "s1", "live")] {
        let config = format!("{ONE}\n[carriers.alpha.receipts]\non = \"{on}\"\n");
        let mut world = World::given(&config);
        world.bound("alpha", 0, 10);
        let id = world.send(Class::Transactional, &three_segments());
        for (number, sent) in world.take(3).iter().enumerate() {
            world.ok(sent, &format!("s{number}"));
        }
        world.receipt("alpha", first, "DELIVRD");
        assert_eq!(world.end(id), end, "receipt_on = {on}");
        world.receipt("alpha", "s2", "DELIVRD");
        assert_eq!(world.end(id), "delivered");
        world.check_replay();
    }
}

#[test]
fn no_receipt_in_time_is_unknown_and_a_late_one_corrects_it_once() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, "hello");
    let sent = world.one();
    world.ok(&sent, "a1");
    world.pass(SECOND * 73 * 3_600);
    assert_eq!(world.end(id), "unknown: no_receipt");
    world.crash(0);
    world.bound("alpha", 0, 10);
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.corrections(id), [State::Delivered]);
    world.receipt("alpha", "a1", "UNDELIV");
    assert_eq!(world.corrections(id), [State::Delivered]);
    world.check_replay();
}

#[test]
fn a_late_receipt_corrects_though_the_process_dies_behind_its_record() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, "hello");
    let sent = world.one();
    world.ok(&sent, "a1");
    world.pass(SECOND * 73 * 3_600);
    world.syncs = false;
    world.receipt("alpha", "a1", "DELIVRD");
    assert!(matches!(
        &world.journal[..],
        [.., (_, Record::Receipt { .. }), (_, Record::Corrected { .. })]
    ));
    world.syncs = true;
    world.crash(1);
    assert_eq!(world.corrections(id), [State::Delivered]);
    world.bound("alpha", 0, 10);
    let again = world.receipt("alpha", "a1", "DELIVRD");
    assert!(world.was_acked(again));
    assert_eq!(world.corrections(id), [State::Delivered]);
    world.check_replay();
}

#[test]
fn a_late_failure_says_nothing_of_what_another_carrier_may_deliver() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let first = world.one();
    world.timed_out(&first);
    let second = world.one();
    assert_eq!((first.carrier(), second.carrier()), ("alpha", "beta"));
    world.ok(&second, "b1");
    world.ok(&first, "a1");
    world.pass(SECOND * 73 * 3_600);
    assert_eq!(world.end(id), "unknown: no_receipt");
    world.receipt("alpha", "a1", "UNDELIV");
    assert_eq!(world.corrections(id), []);
    world.receipt("beta", "b1", "UNDELIV");
    assert_eq!(world.corrections(id), [State::Undeliverable]);
    world.check_replay();
}

#[test]
fn a_late_receipt_after_the_time_for_it_corrects_nothing() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, "hello");
    let sent = world.one();
    world.ok(&sent, "a1");
    world.pass(SECOND * 73 * 3_600);
    world.pass(SECOND * 8 * 86_400);
    world.send(Class::Transactional, "time goes by with each record");
    let sequence = world.receipt("alpha", "a1", "DELIVRD");
    assert!(world.was_acked(sequence));
    assert_eq!(world.corrections(id), []);
    world.check_replay();
}

#[test]
fn delivered_after_expired_corrects_it() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, "hello");
    let sent = world.one();
    world.ok(&sent, "a1");
    world.receipt("alpha", "a1", "EXPIRED");
    assert_eq!(world.end(id), "expired: carrier_expired");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.corrections(id), [State::Delivered]);
    world.check_replay();
}

#[test]
fn a_state_on_the_way_ends_nothing() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, "hello");
    let sent = world.one();
    world.ok(&sent, "a1");
    for stat in ["ACCEPTD", "ENROUTE", "UNKNOWN"] {
        let sequence = world.receipt("alpha", "a1", stat);
        assert!(world.was_acked(sequence));
        assert_eq!(world.end(id), "live");
    }
    world.receipt("alpha", "a1", "REJECTD");
    assert_eq!(world.end(id), "rejected: carrier_rejected");
    world.check_replay();
}

#[test]
fn two_carriers_may_use_the_same_id() {
    let mut world = World::given(TWO);
    world.bound("beta", 0, 10);
    let first = world.send(Class::Otp, "1");
    world.pass(SECOND * 6);
    let on_beta = world.one();
    assert_eq!(on_beta.carrier(), "beta");
    world.ok(&on_beta, "same");
    world.bound("alpha", 0, 10);
    let second = world.send(Class::Otp, "2");
    let on_alpha = world.one();
    world.ok(&on_alpha, "same");
    world.receipt("alpha", "same", "DELIVRD");
    assert_eq!((world.end(first), world.end(second)), ("live".into(), "delivered".into()));
    world.receipt("beta", "same", "DELIVRD");
    assert_eq!(world.end(first), "delivered");
}

#[test]
fn a_reused_id_is_told_apart_by_the_number() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let first = world.send(Class::Transactional, "1");
    let sent = world.one();
    world.ok(&sent, "7");
    let mut other = world.submission(Class::Transactional, "2");
    other.to = "819099999999".into();
    let second = other.id;
    world.accept(other);
    let sent = world.one();
    world.ok(&sent, "7");
    world.deliver("alpha", "09012345678", EsmClass(0x04), b"id:7 stat:DELIVRD err:000 text:");
    assert_eq!((world.end(first), world.end(second)), ("delivered".into(), "live".into()));
    world.check_replay();
}

#[test]
fn a_message_that_wants_no_receipt_ends_when_it_is_taken() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let mut submission = world.submission(Class::Marketing, "sale");
    submission.receipts = ReceiptsWanted::None;
    let id = submission.id;
    world.accept(submission);
    let sent = world.one();
    assert_eq!(sent.submit().registered_delivery.receipt(), 0);
    world.ok(&sent, "a1");
    assert_eq!(world.end(id), "unknown: no_receipt_wanted");
    let sequence = world.receipt("alpha", "a1", "DELIVRD");
    assert!(world.was_acked(sequence));
    assert_eq!(world.corrections(id), [State::Delivered]);
    world.check_replay();
}

#[test]
fn an_inbound_message_is_kept_and_answered() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let sequence = world.deliver("alpha", "819011112222", EsmClass(0), b"STOP");
    assert!(world.was_acked(sequence));
    let Record::Inbound(inbound) = &world.journal[0].1 else { panic!("no inbound record") };
    assert_eq!(inbound.text.as_deref(), Some("STOP"));
    assert_eq!((&*inbound.from, inbound.part), ("819011112222", None));
}

#[test]
fn parts_of_an_inbound_message_are_joined_in_any_order_and_over_a_crash() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let udhi = EsmClass(0x40);
    world.deliver("alpha", "819011112222", udhi, b"\x05\0\x03\x09\x03\x03ghi");
    world.deliver("alpha", "819011112222", udhi, b"\x05\0\x03\x09\x03\x01abc");
    world.crash(0);
    world.bound("alpha", 0, 10);
    world.deliver("alpha", "819011112222", udhi, b"\x05\0\x03\x09\x03\x02def");
    let (_, Record::InboundWhole { message, complete }) = world.journal.last().unwrap() else {
        panic!("not joined")
    };
    assert_eq!((message.text.as_deref(), *complete), (Some("abcdefghi"), true));
    world.check_replay();
}

#[test]
fn parts_of_an_inbound_message_are_given_up_on_in_time() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    world.deliver("alpha", "819011112222", EsmClass(0x40), b"\x05\0\x03\x09\x02\x01abc");
    world.pass(SECOND * 300);
    let (_, Record::InboundWhole { message, complete }) = world.journal.last().unwrap() else {
        panic!("not given up")
    };
    assert_eq!((message.text.as_deref(), *complete), (Some("abc…"), false));
    world.check_replay();
}

#[test]
fn while_the_store_is_down_a_delivery_is_to_come_again() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    world.tell(Event::StoreFailed);
    let sequence = world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.acks, [(sequence, CommandStatus::ESME_RX_T_APPN)]);
    assert!(world.journal.is_empty());
}

#[test]
fn the_carrier_is_asked_before_a_message_is_given_up_where_it_answers() {
    let mut world = World::given(
        &format!("{ONE}\n[carriers.alpha.receipts]\ntimeout = \"1h\"\n")
            .replace("rate = \"1000/s\"", "rate = \"1000/s\"\n    query_sm = true"),
    );
    world.bound("alpha", 0, 10);
    let known = world.send(Class::Transactional, "1");
    let sent = world.one();
    world.ok(&sent, "a1");
    let unknown = world.send(Class::Transactional, "2");
    let sent = world.one();
    world.ok(&sent, "a2");
    world.pass(SECOND * 3_600);
    let first = world.one();
    assert!(matches!(first.body, hikyaku::pdu::Body::QuerySm(_)));
    world.queried(&first, MessageState::DELIVERED);
    assert_eq!(world.end(known), "delivered");
    world.pass(SECOND);
    let second = world.one();
    world.queried(&second, MessageState::UNKNOWN);
    assert_eq!(world.end(unknown), "unknown: no_receipt");
    world.check_replay();
}

#[test]
fn a_carrier_that_is_away_for_a_moment_while_it_is_asked_costs_no_days() {
    let config = format!("{ONE}\n[carriers.alpha.receipts]\ntimeout = \"1h\"\n")
        .replace("rate = \"1000/s\"", "rate = \"1000/s\"\n    query_sm = true");
    let mut world = World::given(&config);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, "1");
    let sent = world.one();
    world.ok(&sent, "a1");
    world.pass(SECOND * 3_600);
    world.one();
    world.reconfigure(&TWO.replace("alpha", "gamma"));
    world.pass(SECOND * 600);
    world.reconfigure(&config);
    world.pass(SECOND * 600);
    assert_eq!(world.end(id), "unknown: no_receipt");
    world.check_replay();
}

#[test]
fn a_reload_changes_how_long_receipts_are_waited_for() {
    let wait = |timeout: &str| {
        ONE.replace("1000/s\"", &format!("1000/s\"\n    receipts = {{ timeout = \"{timeout}\" }}"))
    };
    for carrier in [wait("2m"), TWO.replace("alpha", "gamma")] {
        let mut world = World::given(&carrier);
        // Taken while its carrier is not in the config, so that nobody knows how long to wait.
        if carrier.contains("gamma") {
            world = World::given(&wait("2m"));
        }
        world.bound("alpha", 0, 10);
        let id = world.send(Class::Otp, "1234");
        let sent = world.one();
        world.reconfigure(&carrier);
        world.ok(&sent, "a1");
        world.reconfigure(&wait("30s"));
        world.pass(SECOND * 31);
        assert_eq!(world.end(id), "unknown: no_receipt");
        world.check_replay();
    }
}
