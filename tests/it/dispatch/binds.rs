//! Windows, segments and references: what a bind is sent, and in which order.

use std::collections::HashSet;

use hikyaku::dispatch::Event;
use hikyaku::message::Class;
use hikyaku::message::Record;

use super::world::ONE;
use super::world::SECOND;
use super::world::THROTTLED;
use super::world::World;
use super::world::bind;
use super::world::three_segments;

#[test]
fn segments_of_a_message_go_in_order_over_one_bind_with_one_reference() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    world.bound("alpha", 1, 10);
    world.send(Class::Transactional, &three_segments());
    let sent = world.take(3);
    let parts: Vec<_> = sent.iter().map(|sent| sent.part()).collect();
    let reference = parts[0].0;
    assert_eq!(parts, [(reference, 3, 1), (reference, 3, 2), (reference, 3, 3)]);
    assert!(sent.iter().all(|it| it.bind == sent[0].bind));
    world.check_replay();
}

#[test]
fn a_message_trickles_through_a_window_that_is_smaller() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 1);
    world.bound("alpha", 1, 1);
    let id = world.send(Class::Transactional, &three_segments());
    let mut parts = Vec::new();
    for number in 0..3 {
        let sent = world.one();
        assert_eq!(sent.bind, bind("alpha", 0), "the same bind, though another is free");
        parts.push(sent.part().2);
        world.ok(&sent, &format!("s{number}"));
    }
    assert_eq!(parts, [1, 2, 3]);
    let sendings = world.records(id);
    let sendings = sendings.iter().filter(|it| matches!(it, Record::Sending { .. })).count();
    assert_eq!(sendings, 3, "only what left us may be unknown after a crash");
    world.check_replay();
}

#[test]
fn the_window_is_never_exceeded_and_counts_what_waits_for_the_disk() {
    let mut world = World::given(ONE);
    world.syncs = false;
    world.bound("alpha", 0, 4);
    for number in 0..10 {
        world.send(Class::Otp, &number.to_string());
    }
    world.sync();
    assert_eq!(world.sent.len(), 4);
    let first = world.sent.pop_front().unwrap();
    world.ok(&first, "a1");
    world.sync();
    assert_eq!(world.sent.len(), 4);
    world.timed_out(&world.sent[0].clone());
    world.sync();
    assert_eq!(world.sent.len(), 5, "a time-out gives its place back");
}

#[test]
fn no_reference_to_a_number_comes_back_within_the_reassembly_time() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 1_000);
    let mut seen = HashSet::new();
    for round in 0..60 {
        world.send(Class::Transactional, &three_segments());
        world.pass(SECOND * 2);
        let reference = world.take(3)[0].part().0;
        assert!(seen.insert(reference), "{reference} came back after {round} messages");
        if round % 20 == 19 {
            world.crash(0);
            world.bound("alpha", 0, 1_000);
        }
    }
}

#[test]
fn the_reference_of_a_message_that_waits_to_go_on_stays_its_own() {
    let mut world = World::given(
        r#"
        [carriers.alpha]
        rate = "1000/s"
        [carriers.beta]
        rate = "1000/s"
        [[routes]]
        name = "main"
        carriers = ["alpha"]
        [[routes]]
        name = "other"
        carriers = ["beta"]
        [dispatch]
        reference_hold = "10s"
        "#,
    );
    world.bound("alpha", 0, 3);
    world.send(Class::Transactional, &three_segments());
    let begun = world.take(3);
    world.ok(&begun[0], "a1");
    world.ok(&begun[1], "a2");
    world.refuse(&begun[2], THROTTLED);
    world.lost("alpha", 0);
    world.bound("beta", 0, 10_000);
    world.pass(SECOND * 20);
    for _ in 0..300 {
        let mut submission = world.submission(Class::Transactional, &three_segments());
        submission.plan.route = "other".into();
        world.accept(submission);
        world.pass(SECOND / 19);
        let reference = world.take(3)[0].part().0;
        assert_ne!(reference, begun[0].part().0, "the last part of the first may join it");
    }
}

#[test]
fn more_messages_to_one_number_than_references_all_go_on() {
    let mut world = World::given(ONE);
    for index in 0..300 {
        world.bound("alpha", index, 1);
    }
    for _ in 0..300 {
        world.send(Class::Transactional, &three_segments());
    }
    world.pass(SECOND * 10);
    let begun = world.take(300);
    let references: HashSet<u16> = begun.iter().map(|sent| sent.part().0).collect();
    assert_eq!(references.len(), 256, "no reference twice before all were used");
}

#[test]
fn what_never_left_the_link_is_sent_again_at_once_by_another_bind() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Marketing, "sale");
    let sent = world.one();
    world.bound("alpha", 1, 10);
    world.tell(Event::Lost { bind: bind("alpha", 0), unsent: vec![sent.token] });
    let again = world.one();
    assert_eq!((again.bind.clone(), again.text()), (bind("alpha", 1), "sale".into()));
    world.ok(&again, "a1");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(id), "delivered");
    world.check_replay();
}

#[test]
fn a_closing_bind_gets_nothing_new_but_its_answers_count() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 1);
    let first = world.send(Class::Otp, "1");
    world.send(Class::Otp, "2");
    let sent = world.one();
    world.tell(Event::Closing { bind: bind("alpha", 0) });
    world.ok(&sent, "a1");
    assert!(world.sent.is_empty());
    world.tell(Event::Lost { bind: bind("alpha", 0), unsent: Vec::new() });
    world.bound("alpha", 0, 1);
    assert_eq!(world.one().text(), "2");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(first), "delivered");
}

#[test]
fn a_receiving_bind_is_sent_nothing() {
    let mut world = World::given(ONE);
    world.tell(Event::Bound { bind: bind("alpha", 0), window: 10, transmits: false });
    world.send(Class::Otp, "1");
    assert!(world.sent.is_empty());
    world.bound("alpha", 1, 10);
    assert_eq!(world.one().bind, bind("alpha", 1));
}

#[test]
fn a_bind_has_a_rate_of_its_own_where_the_carrier_says_so() {
    let config = ONE.replace("1000/s\"", "1000/s\"\n    rate_per_bind = \"10/s\"");
    let mut world = World::given(&config);
    world.bound("alpha", 0, 1_000);
    world.bound("alpha", 1, 1_000);
    for number in 0..200 {
        world.send(Class::Marketing, &number.to_string());
    }
    world.pass(SECOND * 5);
    for index in 0..2 {
        let count = world.wire.iter().filter(|sent| sent.bind.index == index).count();
        assert!((45..=51).contains(&count), "{count} over bind {index} in five seconds");
    }
}
