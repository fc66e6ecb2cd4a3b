//! Refusals, silence and receipts: again, to another carrier, or the end.

use hikyaku::dispatch::Event;
use hikyaku::dispatch::Notice;
use hikyaku::dispatch::Reply;
use hikyaku::message::Class;
use hikyaku::message::Decision;
use hikyaku::message::Record;
use hikyaku::message::State;
use hikyaku::pdu::Body;
use hikyaku::pdu::CommandStatus;

use super::world::ONE;
use super::world::ROK;
use super::world::SECOND;
use super::world::THROTTLED;
use super::world::TWO;
use super::world::World;
use super::world::bind;
use super::world::three_segments;

#[test]
fn a_refusal_for_good_ends_the_message() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let sent = world.one();
    world.refuse(&sent, CommandStatus::ESME_RINVDSTADR);
    assert_eq!(world.end(id), "rejected: invalid_destination");
    assert_eq!(world.finish(id).unwrap().carrier_status, Some(CommandStatus::ESME_RINVDSTADR));
    assert!(world.sent.is_empty());
    world.check_replay();
}

#[test]
fn a_refusal_that_another_carrier_need_not_share_goes_there() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Transactional, "hello");
    let sent = world.one();
    world.refuse(&sent, CommandStatus::ESME_RINVSRCADR);
    let alarm = Notice::Alarm { carrier: "alpha".into(), status: CommandStatus::ESME_RINVSRCADR };
    assert!(world.notices.contains(&alarm));
    let sent = world.one();
    assert_eq!(sent.carrier(), "beta");
    world.ok(&sent, "b1");
    world.receipt("beta", "b1", "DELIVRD");
    assert_eq!((world.end(id), &*world.finish(id).unwrap().carrier), ("delivered".into(), "beta"));
    world.check_replay();
}

#[test]
fn a_passing_fault_is_tried_again_later_and_then_elsewhere() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let first = world.one();
    world.refuse(&first, CommandStatus::ESME_RSYSERR);
    assert!(world.sent.is_empty(), "not at once");
    world.pass(SECOND * 2);
    let second = world.one();
    assert_eq!(second.carrier(), "alpha");
    world.refuse(&second, CommandStatus::ESME_RSYSERR);
    let third = world.one();
    assert_eq!(third.carrier(), "beta", "an otp has two tries");
    world.ok(&third, "b1");
    world.receipt("beta", "b1", "DELIVRD");
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_retry_sends_only_what_is_missing_under_the_same_reference() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, &three_segments());
    let sent = world.take(3);
    world.ok(&sent[0], "s0");
    world.refuse(&sent[1], CommandStatus::ESME_RSYSERR);
    world.ok(&sent[2], "s2");
    world.pass(SECOND * 10);
    let again = world.one();
    assert_eq!(again.part(), sent[1].part());
    world.ok(&again, "s1");
    for id in ["s0", "s1", "s2"] {
        world.receipt("alpha", id, "DELIVRD");
    }
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_segment_refused_for_good_stops_the_rest_and_the_fallback_sends_all_anew() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 1);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Transactional, &three_segments());
    let first = world.one();
    world.ok(&first, "s0");
    let second = world.one();
    world.refuse(&second, CommandStatus::ESME_RSUBMITFAIL);
    world.pass(SECOND * 10);
    let second = world.one();
    assert_eq!((second.carrier(), second.part().2), ("alpha", 2), "one more try there");
    world.refuse(&second, CommandStatus::ESME_RSUBMITFAIL);
    let anew = world.take(3);
    assert!(anew.iter().all(|sent| sent.carrier() == "beta"));
    assert_ne!(anew[0].part().0, first.part().0, "a new reference");
    for (number, sent) in anew.iter().enumerate() {
        world.ok(sent, &format!("b{number}"));
        world.receipt("beta", &format!("b{number}"), "DELIVRD");
    }
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_throttled_message_keeps_its_place_and_spends_no_try() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 1);
    let first = world.send(Class::Otp, "1");
    world.send(Class::Otp, "2");
    for round in 0..3 {
        let sent = world.one();
        assert_eq!(sent.text(), "1", "round {round}");
        world.refuse(&sent, THROTTLED);
        let at = world.now;
        assert!(world.sent.is_empty(), "silence");
        while world.sent.is_empty() {
            world.pass(SECOND / 10);
        }
        assert!(world.now.since(at) >= SECOND * (1 << round), "a second, two, four");
    }
    let sent = world.one();
    world.ok(&sent, "a1");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(first), "delivered");
    assert!(!world.records(first).iter().any(|record| {
        matches!(record, Record::Requeued { decision, .. } if *decision != Decision::Throttled)
    }));
    world.check_replay();
}

#[test]
fn a_message_that_alone_is_throttled_steps_back_for_the_others() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 1);
    world.send(Class::Otp, "1");
    world.send(Class::Otp, "2");
    let mut texts = Vec::new();
    while texts.len() < 5 {
        while world.sent.is_empty() {
            world.pass(SECOND / 10);
        }
        let sent = world.one();
        texts.push(sent.text());
        match texts.len() {
            5 => world.ok(&sent, "a1"),
            _ => world.refuse(&sent, CommandStatus::ESME_RMSGQFUL),
        }
    }
    assert_eq!(texts, ["1", "1", "1", "1", "2"]);
}

#[test]
fn an_otp_that_is_throttled_too_often_goes_elsewhere() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    world.send(Class::Otp, "1");
    for _ in 0..5 {
        while world.sent.is_empty() {
            world.pass(SECOND / 10);
        }
        let sent = world.one();
        assert_eq!(sent.carrier(), "alpha");
        world.refuse(&sent, THROTTLED);
    }
    assert_eq!(world.one().carrier(), "beta");
    world.check_replay();
}

#[test]
fn an_otp_without_an_answer_goes_elsewhere_and_its_late_answer_counts() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let first = world.one();
    world.pass(SECOND * 10);
    let second = world.one();
    assert_eq!(second.carrier(), "beta");
    world.ok(&first, "a1");
    world.ok(&second, "b1");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!((world.end(id), &*world.finish(id).unwrap().carrier), ("delivered".into(), "alpha"));
    assert!(matches!(
        world.notices.iter().find(|it| matches!(it, Notice::SegmentUnknown { .. })),
        Some(Notice::SegmentUnknown { class: Class::Otp, .. })
    ));
    world.check_replay();
}

#[test]
fn a_late_answer_does_not_take_the_message_from_the_carrier_that_has_it_by_then() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let first = world.one();
    world.pass(SECOND * 10);
    let second = world.one();
    world.ok(&second, "b1");
    world.ok(&first, "a1");
    world.pass(SECOND * 74 * 3_600);
    assert_eq!(
        (world.end(id), &*world.finish(id).unwrap().carrier),
        ("unknown: no_receipt".into(), "beta")
    );
    world.check_replay();
}

#[test]
fn a_late_answer_takes_the_message_back_while_the_second_carrier_was_sent_nothing() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let first = world.one();
    world.bound("beta", 0, 1);
    world.send(Class::Otp, "in the way");
    world.take(1);
    world.lost("beta", 0);
    world.pass(SECOND * 10);
    assert!(world.sent.is_empty(), "beta has no bind");
    world.ok(&first, "a1");
    world.bound("beta", 0, 10);
    assert!(world.sent.iter().all(|sent| sent.text() != "1234"), "{:?}", world.sent);
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_late_receipt_of_the_first_attempt_spares_the_second() {
    let mut world = World::given(&TWO.replace(
        "carriers = [\"alpha\", \"beta\"]",
        "carriers = [\"alpha\", \"beta\"]\n    otp = { no_delivered = \"60s\", no_bind = \"never\" }",
    ));
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 1);
    let id = world.send(Class::Otp, "1234");
    let first = world.one();
    world.ok(&first, "a1");
    // Beta's window is taken, so the fallback waits in its lane.
    world.lost("alpha", 0);
    let other = world.send(Class::Otp, "other");
    world.pass(SECOND * 59);
    world.bound("alpha", 0, 10);
    let sent = world.one();
    world.ok(&sent, "a2");
    world.lost("beta", 0);
    world.pass(SECOND * 2);
    assert!(world.sent.is_empty() && world.end(id) == "live" && world.end(other) == "live");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(id), "delivered");
    world.bound("beta", 0, 10);
    assert!(world.sent.is_empty(), "nothing is sent after delivered: {:?}", world.sent);
    world.check_replay();
}

#[test]
fn no_delivery_in_the_routes_time_goes_elsewhere_once() {
    let mut world = World::given(&TWO.replace(
        "carriers = [\"alpha\", \"beta\"]",
        "carriers = [\"alpha\", \"beta\"]\n    otp = { no_delivered = \"60s\" }",
    ));
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let first = world.one();
    world.ok(&first, "a1");
    world.pass(SECOND * 60);
    let second = world.one();
    assert_eq!(second.carrier(), "beta");
    world.ok(&second, "b1");
    world.pass(SECOND * 3_600);
    assert!(world.sent.is_empty());
    world.pass(SECOND * 74 * 3_600);
    assert_eq!(world.end(id), "unknown: no_receipt");
    world.check_replay();
}

#[test]
fn a_message_is_taken_back_first_where_the_carrier_can() {
    let config =
        TWO.replacen("rate = \"1000/s\"", "rate = \"1000/s\"\n    cancel_sm = true", 1).replace(
            "carriers = [\"alpha\", \"beta\"]",
            "carriers = [\"alpha\", \"beta\"]\n    otp = { no_delivered = \"60s\" }",
        );
    for status in [ROK, CommandStatus::ESME_RCANCELFAIL] {
        let mut world = World::given(&config);
        world.bound("alpha", 0, 10);
        world.bound("beta", 0, 10);
        let id = world.send(Class::Otp, "1234");
        let first = world.one();
        world.ok(&first, "a1");
        world.pass(SECOND * 60);
        let recall = world.one();
        assert!(matches!(recall.body, Body::CancelSm(_)), "{recall:?}");
        world.cancelled(&recall, status);
        let second = world.one();
        assert_eq!(second.carrier(), "beta");
        world.ok(&second, "b1");
        world.receipt("beta", "b1", "DELIVRD");
        assert_eq!(world.end(id), "delivered");
        world.check_replay();
    }
}

#[test]
fn a_message_that_went_elsewhere_cannot_be_taken_back_from_where_it_was() {
    let config = TWO.replacen("1000/s\"", "1000/s\"\n    cancel_sm = true", 1);
    let mut world = World::given(&config);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let first = world.one();
    world.ok(&first, "a1");
    let ticket = world.cancel(id);
    let recall = world.one();
    world.receipt("alpha", "a1", "UNDELIV");
    assert_eq!(world.replies[&ticket], Reply::TooLate { state: State::Submitted });
    let second = world.one();
    assert_eq!(second.carrier(), "beta");
    world.cancelled(&recall, ROK);
    world.ok(&second, "b1");
    world.receipt("beta", "b1", "DELIVRD");
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_throttled_recall_slows_the_carrier_down_too() {
    let config = ONE.replacen("1000/s\"", "1000/s\"\n    cancel_sm = true", 1);
    let mut world = World::given(&config);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let sent = world.one();
    world.ok(&sent, "a1");
    let ticket = world.cancel(id);
    let recall = world.one();
    assert_eq!(world.dispatch.snapshot(world.now).carriers[0].window_used, 1);
    world.cancelled(&recall, THROTTLED);
    assert_eq!(world.replies[&ticket], Reply::TooLate { state: State::Submitted });
    let alpha = &world.dispatch.snapshot(world.now).carriers[0];
    assert_eq!((alpha.silent_for, alpha.window_used), (Some(SECOND), 0));
}

#[test]
fn an_owner_can_take_a_message_back_where_the_carrier_can() {
    let config = ONE.replacen("rate = \"1000/s\"", "rate = \"1000/s\"\n    cancel_sm = true", 1);
    for (status, end) in [(ROK, "cancelled: cancelled"), (CommandStatus::ESME_RCANCELFAIL, "live")]
    {
        let mut world = World::given(&config);
        world.bound("alpha", 0, 10);
        let id = world.send(Class::Otp, "1234");
        let sent = world.one();
        world.ok(&sent, "a1");
        let ticket = world.cancel(id);
        assert!(!world.replies.contains_key(&ticket), "the carrier is asked first");
        let recall = world.one();
        world.cancelled(&recall, status);
        assert_eq!(world.end(id), end);
        let is_cancelled = matches!(world.replies[&ticket], Reply::Cancelled { .. });
        assert_eq!(is_cancelled, status == ROK);
        world.check_replay();
    }
}

#[test]
fn an_unknown_outcome_of_another_class_is_held() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Marketing, "sale");
    let sent = world.one();
    world.lost("alpha", 0);
    world.bound("alpha", 0, 10);
    world.pass(SECOND * 3_600);
    assert!(world.sent.is_empty(), "neither again nor elsewhere: {:?}", world.sent);
    world.pass(SECOND * 73 * 3_600);
    assert_eq!(world.end(id), "unknown: no_answer");
    assert_eq!(sent.text(), "sale");
    world.check_replay();
}

#[test]
fn an_unknown_outcome_is_sent_again_only_where_the_carrier_says_so() {
    let config = ONE.replacen("1000/s\"", "1000/s\"\n    resend_unknown = true", 1);
    let mut world = World::given(&config);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Marketing, "sale");
    world.one();
    world.lost("alpha", 0);
    world.bound("alpha", 0, 10);
    world.pass(SECOND * 60);
    let again = world.one();
    assert_eq!(again.text(), "sale");
    world.ok(&again, "a1");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn what_failed_when_it_was_sent_again_may_still_arrive_from_the_first_try() {
    let fallback = "carriers = [\"alpha\", \"beta\"]\n    fallback = { receipt_states = [\"undeliverable\"], unknown = \"hold\" }";
    let config = TWO.replacen("1000/s\"", "1000/s\"\n    resend_unknown = true", 1);
    let mut world = World::given(&config.replace("carriers = [\"alpha\", \"beta\"]", fallback));
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let [doubtful, certain] = ["first", "second"].map(|text| {
        let id = world.send(Class::Transactional, text);
        let sent = world.one();
        if text == "first" {
            world.lost("alpha", 0);
            world.bound("alpha", 0, 10);
            world.pass(SECOND * 60);
            let again = world.one();
            world.ok(&again, "a1");
        } else {
            world.ok(&sent, "a2");
        }
        id
    });
    world.receipt("alpha", "a1", "UNDELIV");
    assert!(world.sent.is_empty(), "the first copy may arrive: {:?}", world.sent);
    assert_eq!(world.end(doubtful), "undeliverable: undeliverable");
    world.receipt("alpha", "a2", "UNDELIV");
    assert_eq!((world.one().carrier(), world.end(certain)), ("beta", "live".into()));
    world.check_replay();
}

#[test]
fn a_held_message_goes_on_with_its_late_answer() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Marketing, "sale");
    let sent = world.one();
    world.timed_out(&sent);
    assert_eq!(world.end(id), "live");
    world.ok(&sent, "a1");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_carrier_without_a_bind_is_passed_by_after_the_routes_time() {
    let mut world = World::given(TWO);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Otp, "1234");
    assert!(world.sent.is_empty(), "alpha has five seconds");
    world.pass(SECOND * 5);
    assert_eq!(world.one().carrier(), "beta");
    let rules: Vec<_> = world
        .records(id)
        .into_iter()
        .filter_map(|record| match record {
            Record::Requeued { decision, .. } => Some(format!("{decision:?}")),
            _ => None,
        })
        .collect();
    assert_eq!(rules.len(), 1);
    assert!(rules[0].contains("no bind for 5s") && rules[0].contains("uncertain: false"));
    world.check_replay();
}

#[test]
fn a_carrier_that_goes_down_gives_its_lane_away_in_time() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 1);
    world.bound("beta", 0, 100);
    for number in 0..20 {
        world.send(Class::Otp, &number.to_string());
    }
    world.one();
    world.pass(SECOND * 3);
    world.tell(Event::Closing { bind: bind("alpha", 0) });
    world.pass(SECOND * 4);
    assert!(world.sent.is_empty());
    world.pass(SECOND);
    assert_eq!(world.sent.len(), 19);
    world.check_replay();
}

#[test]
fn with_all_carriers_down_the_first_that_comes_up_gets_what_waits() {
    let mut world = World::given(TWO);
    for number in 0..20 {
        world.send(Class::Transactional, &number.to_string());
    }
    world.pass(SECOND * 600);
    world.bound("beta", 0, 100);
    world.pass(SECOND);
    assert_eq!(world.sent.len(), 20);
    assert!(world.sent.iter().all(|sent| sent.carrier() == "beta"));
    world.check_replay();
}

#[test]
fn a_failed_receipt_goes_elsewhere_where_the_route_says_so() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let otp = world.send(Class::Otp, "1234");
    let sent = world.one();
    world.ok(&sent, "a1");
    world.receipt("alpha", "a1", "UNDELIV");
    let second = world.one();
    assert_eq!(second.carrier(), "beta");
    world.ok(&second, "b1");
    world.receipt("beta", "b1", "UNDELIV");
    assert_eq!(world.end(otp), "undeliverable: undeliverable");
    let marketing = world.send(Class::Marketing, "sale");
    let sent = world.one();
    world.ok(&sent, "a2");
    world.receipt("alpha", "a2", "UNDELIV");
    assert_eq!(world.end(marketing), "undeliverable: undeliverable");
    assert!(world.sent.is_empty());
    world.check_replay();
}

#[test]
fn a_message_that_failed_at_the_second_waits_for_the_first_which_may_still_deliver() {
    let mut world = World::given(TWO);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let first = world.one();
    world.pass(SECOND * 10);
    let second = world.one();
    world.refuse(&second, CommandStatus::ESME_RINVDSTADR);
    assert_eq!(world.end(id), "live", "alpha may have it");
    world.ok(&first, "a1");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_carrier_that_leaves_the_config_gives_its_messages_away() {
    let mut world = World::given(TWO);
    let id = world.send(Class::Marketing, "sale");
    let route = "[[routes]]\nname = \"main\"\ncarriers = [\"beta\"]\n";
    world.reconfigure(&format!("[carriers.beta]\nrate = \"10/s\"\n{route}"));
    world.bound("beta", 0, 10);
    world.pass(SECOND);
    assert_eq!(world.one().carrier(), "beta");
    assert_eq!(world.end(id), "live");
    world.check_replay();
}

#[test]
fn a_carrier_that_leaves_the_config_or_a_drain_ends_the_wait_for_its_rate() {
    for is_drain in [false, true] {
        let mut world = World::given(&TWO.replace("1000/s", "1/s"));
        world.bound("alpha", 0, 10);
        for _ in 0..3 {
            world.send(Class::Marketing, "sale");
        }
        assert_eq!(world.one().carrier(), "alpha");
        if is_drain {
            world.tell(Event::Drain);
        } else {
            let route = "[[routes]]\nname = \"main\"\ncarriers = [\"beta\"]\n";
            world.reconfigure(&format!("[carriers.beta]\nrate = \"10/s\"\n{route}"));
        }
        world.pass(SECOND * 5);
        assert!(world.dispatch.poll_timeout().is_none_or(|at| at > world.now));
    }
}

#[test]
fn a_route_that_leaves_the_config_is_followed_by_the_one_that_takes_the_message() {
    let mut world = World::given(ONE);
    let id = world.send(Class::Marketing, "sale");
    let other = ONE.replace("name = \"main\"", "name = \"other\"");
    world.reconfigure(&other);
    world.crash(0);
    world.bound("alpha", 0, 10);
    assert_eq!(world.one().text(), "sale");
    assert_eq!(world.end(id), "live");
    world.reconfigure(ONE);
    world.check_replay();
}

#[test]
fn a_text_that_the_carrier_cannot_carry_goes_to_one_that_can() {
    let config = TWO.replacen("1000/s\"", "1000/s\"\n    text = { max_segments = 1 }", 1);
    let mut world = World::given(&config);
    world.bound("alpha", 0, 10);
    world.bound("beta", 0, 10);
    world.send(Class::Transactional, &three_segments());
    assert!(world.take(3).iter().all(|sent| sent.carrier() == "beta"));
    let mut world =
        World::given(&ONE.replacen("1000/s\"", "1000/s\"\n    text = { max_segments = 1 }", 1));
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Transactional, &three_segments());
    assert_eq!(world.end(id), "rejected: text_too_long");
}
