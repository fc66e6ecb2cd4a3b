//! What a door is told, and when.

use std::time::Duration;

use hikyaku::dispatch::Reply;
use hikyaku::message::Class;
use hikyaku::message::Record;
use hikyaku::message::State;

use super::world::ONE;
use super::world::SECOND;
use super::world::World;
use super::world::idempotency;

#[test]
fn a_message_is_accepted_once_its_record_is_durable_and_sent_with_the_same_sync() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    world.syncs = false;
    let submission = world.submission(Class::Otp, "1234");
    let id = submission.id;
    let ticket = world.accept(submission);
    assert!(world.replies.is_empty() && world.sent.is_empty(), "nothing before the sync");
    let records: Vec<_> = world.records(id);
    assert!(matches!(records[..], [Record::Accepted(_), Record::Sending { .. }]), "{records:?}");
    world.sync();
    assert_eq!(world.replies[&ticket], Reply::Accepted { id, state: State::Queued });
    assert_eq!(world.one().text(), "1234");
}

#[test]
fn a_scheduled_message_leaves_at_its_time() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let mut submission = world.submission(Class::Marketing, "sale");
    submission.send_at = Some(world.now + SECOND * 3_600);
    let id = submission.id;
    let ticket = world.accept(submission);
    assert_eq!(world.replies[&ticket], Reply::Accepted { id, state: State::Scheduled });
    world.pass(SECOND * 3_599);
    assert!(world.sent.is_empty());
    world.pass(SECOND);
    assert_eq!(world.one().text(), "sale");
    world.check_replay();
}

#[test]
fn the_same_request_again_is_answered_with_the_message_it_made() {
    let mut world = World::given(ONE);
    world.syncs = false;
    let mut first = world.submission(Class::Otp, "1");
    first.idempotency = idempotency(1, 1);
    let id = first.id;
    world.accept(first);
    let mut again = world.submission(Class::Otp, "1");
    again.idempotency = idempotency(1, 1);
    let too_early = world.accept(again.clone());
    assert_eq!(world.replies[&too_early], Reply::IdempotencyInProgress);
    world.sync();
    let later = world.accept(again.clone());
    assert_eq!(world.replies[&later], Reply::Replayed { id });
    again.idempotency = idempotency(1, 2);
    let other = world.accept(again.clone());
    assert_eq!(world.replies[&other], Reply::IdempotencyKeyReused);
    world.crash(0);
    again.idempotency = idempotency(1, 1);
    let after_crash = world.accept(again);
    assert_eq!(world.replies[&after_crash], Reply::Replayed { id });
    world.pass(Duration::from_secs(86_400));
    world.syncs = true;
    let next_day = world.submission(Class::Otp, "1");
    let next_day = hikyaku::message::Submission { idempotency: idempotency(1, 1), ..next_day };
    let ticket = world.accept(next_day);
    assert!(matches!(world.replies[&ticket], Reply::Accepted { .. }));
    world.check_replay();
}

#[test]
fn what_an_idempotency_key_made_is_told_also_when_nothing_is_taken() {
    let mut world = World::given(ONE);
    world.syncs = false;
    let mut first = world.submission(Class::Otp, "1");
    first.idempotency = idempotency(1, 1);
    let id = first.id;
    assert_eq!(world.recall(idempotency(1, 1)), Reply::NotSeen);
    world.accept(first);
    assert_eq!(world.recall(idempotency(1, 1)), Reply::IdempotencyInProgress);
    world.sync();
    world.tell(hikyaku::dispatch::Event::Drain);
    assert_eq!(world.recall(idempotency(1, 1)), Reply::Replayed { id });
    assert_eq!(world.recall(idempotency(1, 2)), Reply::IdempotencyKeyReused);
    assert_eq!(world.recall(idempotency(2, 1)), Reply::NotSeen);
}

#[test]
fn what_a_key_handed_in_today_survives_a_crash_and_ends_at_midnight() {
    let mut world = World::given(ONE);
    world.send(Class::Otp, "1");
    world.send(Class::Marketing, "2");
    let mut other = world.submission(Class::Otp, "3");
    other.key = "bank".into();
    world.accept(other);
    world.crash(0);
    let used = [("bank".to_owned(), 1), ("shop".to_owned(), 2)];
    let mut found = world.used_today();
    found.sort();
    assert_eq!(found, used);
    world.pass(Duration::from_secs(86_400));
    assert_eq!(world.used_today(), []);
    world.check_replay();
}

#[test]
fn a_full_table_of_messages_or_of_keys_refuses() {
    let config = format!("{ONE}\n[dispatch]\nlive_limit = 2\nidempotency_limit = 1\n");
    let mut world = World::given(&config);
    let mut first = world.submission(Class::Otp, "1");
    first.idempotency = idempotency(1, 1);
    world.accept(first);
    let mut second = world.submission(Class::Otp, "2");
    second.idempotency = idempotency(2, 2);
    let ticket = world.accept(second);
    assert!(matches!(world.replies[&ticket], Reply::QueueFull { .. }));
    world.send(Class::Otp, "3");
    let fourth = world.submission(Class::Otp, "4");
    let ticket = world.accept(fourth);
    assert!(matches!(world.replies[&ticket], Reply::QueueFull { .. }));
}

/// Hands in messages of a class until one is refused; how many were taken, and when to come back.
fn fill(world: &mut World, class: Class) -> (usize, Duration) {
    let mut taken = 0;
    loop {
        let submission = world.submission(class, "x");
        let ticket = world.accept(submission);
        match &world.replies[&ticket] {
            Reply::Accepted { .. } => taken += 1,
            Reply::QueueFull { class: of, retry_after } => {
                assert_eq!(*of, class);
                return (taken, *retry_after);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn marketing_is_refused_first_and_otp_last() {
    let mut world = World::given(&format!("{ONE}\n[dispatch]\nlive_limit = 1000\n"));
    let stuck = Duration::from_secs(60);
    assert_eq!(fill(&mut world, Class::Marketing), (800, stuck), "nothing leaves");
    assert_eq!(fill(&mut world, Class::Transactional), (150, stuck));
    assert_eq!(fill(&mut world, Class::Marketing), (0, stuck));
    assert_eq!(fill(&mut world, Class::Otp), (50, stuck));
    assert_eq!(world.dispatch.snapshot(world.now).live, 1_000);
    world.check_replay();
}

#[test]
fn who_comes_back_when_told_finds_room() {
    let mut world = World::given(&format!("{ONE}\n[dispatch]\nlive_limit = 1000\n"));
    fill(&mut world, Class::Marketing);
    world.bound("alpha", 0, 1);
    let mut ids = 0..;
    let mut drain = |world: &mut World, span: Duration| {
        let until = world.now + span;
        while world.now < until {
            if let Some(sent) = world.sent.pop_front() {
                let id = format!("a{}", ids.next().unwrap());
                world.ok(&sent, &id);
                world.receipt("alpha", &id, "DELIVRD");
            }
            world.pass(SECOND / 4);
        }
    };
    drain(&mut world, SECOND * 30);
    fill(&mut world, Class::Marketing);
    fill(&mut world, Class::Otp);
    let (taken, retry_after) = fill(&mut world, Class::Marketing);
    assert_eq!(taken, 0);
    let (least, most) = (SECOND * 40, SECOND * 60);
    assert!((least..=most).contains(&retry_after), "200 must go at 4/s: {retry_after:?}");
    drain(&mut world, retry_after + SECOND);
    assert!(fill(&mut world, Class::Marketing).0 > 0, "it came back too early");
}

#[test]
fn what_waits_for_a_slow_disk_is_bounded_and_otp_is_refused_last() {
    let mut world = World::given(&format!("{ONE}\n[dispatch]\nbacklog_limit = 100\n"));
    world.syncs = false;
    let hand_in = |world: &mut World, class| {
        let submission = world.submission(class, "x");
        let ticket = world.accept(submission);
        matches!(world.replies.get(&ticket), Some(Reply::QueueFull { .. }))
    };
    let counts = [Class::Marketing, Class::Transactional, Class::Otp]
        .map(|class| (0..200).take_while(|_| !hand_in(&mut world, class)).count());
    assert_eq!(counts, [80, 15, 5]);
    world.sync();
    assert!(!hand_in(&mut world, Class::Marketing));
}

#[test]
fn a_message_that_waits_can_be_withdrawn_and_one_on_its_way_cannot() {
    let mut world = World::given(ONE);
    let id = world.send(Class::Marketing, "sale");
    let ticket = world.cancel(id);
    assert_eq!(world.replies[&ticket], Reply::Cancelled { id });
    assert_eq!(world.end(id), "cancelled: cancelled");
    let again = world.cancel(id);
    assert_eq!(world.replies[&again], Reply::NotLive);
    world.bound("alpha", 0, 10);
    assert!(world.sent.is_empty());
    let id = world.send(Class::Marketing, "sale");
    world.one();
    let ticket = world.cancel(id);
    assert_eq!(world.replies[&ticket], Reply::TooLate { state: State::Submitting });
    world.check_replay();
}

#[test]
fn a_message_is_never_sent_after_its_time() {
    let mut world = World::given(ONE);
    let mut submission = world.submission(Class::Otp, "1234");
    submission.expires_at = world.now + SECOND * 60;
    let id = submission.id;
    world.accept(submission);
    world.pass(SECOND * 59);
    assert_eq!(world.end(id), "live");
    world.pass(SECOND);
    assert_eq!(world.end(id), "expired: ttl");
    world.bound("alpha", 0, 10);
    assert!(world.sent.is_empty());
    world.check_replay();
}

#[test]
fn a_draining_dispatcher_takes_nothing_and_sends_nothing_new() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 1);
    let first = world.send(Class::Otp, "1");
    let sent = world.one();
    world.send(Class::Otp, "2");
    world.tell(hikyaku::dispatch::Event::Drain);
    let refused = world.submission(Class::Otp, "3");
    let ticket = world.accept(refused);
    assert_eq!(world.replies[&ticket], Reply::Draining);
    world.ok(&sent, "a1");
    assert!(world.sent.is_empty(), "the second one stays for the next start");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(first), "delivered");
    world.crash(0);
    world.bound("alpha", 0, 1);
    assert_eq!(world.one().text(), "2");
}
