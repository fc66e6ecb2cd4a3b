//! The journal: what it holds back, what a crash leaves, what a replay finds.

use std::time::Duration;

use hikyaku::dispatch::Event;
use hikyaku::dispatch::Reply;
use hikyaku::message::Class;
use hikyaku::message::Position;
use hikyaku::message::Record;
use hikyaku::message::UnansweredCause;

use super::world::ONE;
use super::world::SECOND;
use super::world::TWO;
use super::world::World;
use super::world::three_segments;

#[test]
fn a_failed_store_refuses_and_holds_everything_and_goes_on_when_it_recovers() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let first = world.send(Class::Otp, "1");
    let sent = world.one();
    world.syncs = false;
    world.send(Class::Otp, "2");
    world.tell(Event::StoreFailed);
    let refused = world.submission(Class::Otp, "3");
    let ticket = world.accept(refused);
    assert_eq!(world.replies[&ticket], Reply::StoreUnavailable);
    world.ok(&sent, "a1");
    world.pass(SECOND * 1_000);
    assert!(world.sent.is_empty() && world.dispatch.poll_timeout().is_none());
    world.tell(Event::StoreRecovered);
    world.sync();
    assert_eq!(world.one().text(), "2");
    world.syncs = true;
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(first), "delivered");
    world.check_replay();
}

#[test]
fn nobody_is_woken_again_and_again_while_the_disk_stands_still() {
    // One cell comes some microseconds later than a segment is staged ahead of it.
    let own = "1000/s\"\n    rate_per_bind = \"19.999/s";
    for config in [ONE.replace("1000/s", "19.999/s"), ONE.replace("1000/s", own)] {
        let mut world = World::given(&config);
        world.bound("alpha", 0, 10);
        world.syncs = false;
        for text in ["1", "2", "3"] {
            world.send(Class::Otp, text);
        }
        world.sync();
        world.pass(SECOND * 60);
        assert!(world.wakes < 10, "{} wakes in a minute in which nothing happens", world.wakes);
        world.syncs = true;
        world.sync();
        let well_at = world.now;
        world.pass(SECOND);
        let after: Vec<_> = world.wire.iter().map(|sent| sent.at.since(well_at)).collect();
        assert_eq!(after, [Duration::ZERO, Duration::ZERO, Duration::from_micros(50_003)]);
    }
}

#[test]
fn what_a_receipt_said_outlives_the_record_of_it() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 1);
    let id = world.send(Class::Marketing, &three_segments());
    let first = world.one();
    world.ok(&first, "a1");
    let second = world.one();
    world.receipt("alpha", "a1", "EXPIRED");
    let before = Position(world.end);
    world.tell(Event::Renew { before });
    let behind = world.journal.iter().filter(|(at, _)| *at >= before).map(|(_, record)| record);
    let behind: Vec<_> = behind.cloned().collect();
    assert!(
        matches!(&behind[..], [Record::Carried(_), Record::CarriedFailure { state, .. }, ..] if &**state == "EXPIRED"),
        "{behind:?}"
    );
    world.ok(&second, "a2");
    assert_eq!(world.end(id), "expired: carrier_expired");
    world.check_replay();
}

#[test]
fn a_receipt_reaches_a_message_that_expired_while_the_process_was_down() {
    let mut world = World::given(&ONE.replace("rate = ", "resend_unknown = true\nrate = "));
    world.bound("alpha", 0, 3);
    let mut submission = world.submission(Class::Marketing, &three_segments());
    submission.expires_at = world.now + SECOND * 300;
    let id = submission.id;
    world.accept(submission);
    let sent = world.take(3);
    world.ok(&sent[0], "a1");
    world.ok(&sent[2], "a3");
    world.timed_out(&sent[1]);
    world.now += SECOND * 400;
    world.crash(0);
    world.bound("alpha", 0, 3);
    world.receipt("alpha", "a1", "UNDELIV");
    world.pass(SECOND);
    world.check_replay();
    assert_eq!(world.end(id), "undeliverable: undeliverable");
}

#[test]
fn after_a_crash_what_was_sent_without_an_answer_is_unknown_and_nothing_else_is() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 2);
    let ids: Vec<_> = (0..4).map(|n| world.send(Class::Marketing, &n.to_string())).collect();
    let sent = world.take(2);
    world.ok(&sent[0], "a0");
    world.take(1);
    world.crash(0);
    let unknown = |world: &World| {
        let causes = world.journal.iter().filter_map(|(_, record)| match record {
            Record::Unanswered { id, cause: UnansweredCause::Restart, .. } => Some(*id),
            _ => None,
        });
        causes.collect::<Vec<_>>()
    };
    assert_eq!(unknown(&world), ids[1..3]);
    world.bound("alpha", 0, 10);
    assert_eq!(world.one().text(), "3", "what is unknown is held, what waited is sent");
    world.receipt("alpha", "a0", "DELIVRD");
    assert_eq!(world.end(ids[0]), "delivered");
    world.check_replay();
}

#[test]
fn what_was_accepted_and_not_durable_is_gone_and_its_door_heard_nothing() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    world.syncs = false;
    let submission = world.submission(Class::Otp, "1");
    let id = submission.id;
    world.accept(submission);
    world.crash(0);
    world.bound("alpha", 0, 10);
    assert!(world.replies.is_empty() && world.sent.is_empty() && world.records(id).is_empty());
}

#[test]
fn a_crash_between_any_two_records_loses_nothing_and_sends_nothing_twice() {
    for cut in 0..40 {
        let mut world = World::given(TWO);
        world.bound("alpha", 0, 10);
        world.bound("beta", 0, 10);
        let id = world.send(Class::Transactional, &three_segments());
        let sent = world.take(3);
        world.syncs = false;
        world.ok(&sent[0], "s0");
        world.ok(&sent[1], "s1");
        world.ok(&sent[2], "s2");
        world.receipt("alpha", "s0", "REJECTD");
        let made = world.journal.len();
        world.crash(cut);
        world.syncs = true;
        world.sync();
        world.bound("alpha", 0, 10);
        world.bound("beta", 0, 10);
        world.receipt("alpha", "s0", "REJECTD");
        let again = world.sent.clone();
        let carriers: Vec<_> = again.iter().map(|sent| sent.carrier()).collect();
        assert!(
            carriers.is_empty() || carriers == ["beta"; 3],
            "cut {cut} of {made}: {carriers:?}"
        );
        if !carriers.is_empty() {
            for (number, sent) in again.iter().enumerate() {
                world.ok(sent, &format!("b{number}"));
                world.receipt("beta", &format!("b{number}"), "DELIVRD");
            }
            assert_eq!(world.end(id), "delivered", "cut {cut}");
        }
        world.pass(SECOND * 74 * 3_600);
        assert_ne!(world.end(id), "live", "cut {cut}");
        world.check_replay();
    }
}

#[test]
fn bodies_are_read_back_when_their_turn_is_near() {
    let config = format!("{ONE}\n[dispatch]\nbody_bytes = 0\n");
    let mut world = World::given(&config);
    let count = 500;
    for number in 0..count {
        world.send(Class::Marketing, &format!("text {number}"));
    }
    assert!(world.dispatch.snapshot(world.now).body_bytes < 20_000);
    world.bound("alpha", 0, 50);
    let mut texts = Vec::new();
    while let Some(sent) = world.sent.pop_front() {
        texts.push(sent.text());
        world.ok(&sent, &format!("a{}", texts.len()));
        world.pass(SECOND / 1_000);
    }
    assert_eq!(texts, (0..count).map(|n| format!("text {n}")).collect::<Vec<_>>());
    assert!(world.fetched.len() >= count - 64, "{} were read back", world.fetched.len());
}

#[test]
fn a_body_that_cannot_be_read_is_asked_for_again() {
    let mut world = World::given(&format!("{ONE}\n[dispatch]\nbody_bytes = 0\n"));
    let id = world.send(Class::Otp, "1234");
    world.crash(0);
    world.fetches = false;
    world.bound("alpha", 0, 10);
    world.fetched.clear();
    world.tell(Event::Fetched { id, submission: None });
    world.fetches = true;
    world.pass(SECOND * 30);
    assert_eq!(world.one().text(), "1234");
}

#[test]
fn the_journal_is_cleaned_and_a_replay_of_the_rest_finds_the_same() {
    let config = format!(
        "{ONE}\n[dispatch]\nclean_above_bytes = 20000\nidempotency_ttl = \"10m\"\n\
         orphan_hold = \"10s\"\nreference_hold = \"10s\"\nreassembly_timeout = \"10s\"\n"
    );
    let mut world = World::given(&config);
    let mut scheduled = world.submission(Class::Marketing, "next year");
    scheduled.send_at = Some(world.now + SECOND * 86_000);
    scheduled.idempotency = super::world::idempotency(1, 1);
    let old = scheduled.id;
    world.accept(scheduled.clone());
    world.bound("alpha", 0, 10);
    let unknown = world.send(Class::Transactional, &three_segments());
    for (number, sent) in world.take(3).iter().enumerate() {
        world.ok(sent, &format!("u{number}"));
    }
    for number in 0..1_000 {
        let id = world.send(Class::Otp, "1234");
        let sent = world.one();
        world.ok(&sent, &format!("a{number}"));
        world.receipt("alpha", &format!("a{number}"), "DELIVRD");
        assert_eq!(world.end(id), "delivered");
        world.pass(SECOND / 10);
    }
    assert!(world.trims.len() > 2, "{:?}", world.trims);
    assert!(world.trims.is_sorted());
    let carried = world.journal.iter().filter(|(_, it)| matches!(it, Record::Carried(_))).count();
    assert!((2..200).contains(&carried), "{carried} were written again");
    world.check_replay();
    let again = world.accept(scheduled);
    assert_eq!(world.replies[&again], Reply::Replayed { id: old });
    assert_eq!(world.used_today(), [("shop".to_owned(), 1_002)]);
    world.crash(0);
    assert_eq!(world.used_today(), [("shop".to_owned(), 1_002)], "the first records are gone");
    world.bound("alpha", 0, 10);
    for number in 0..3 {
        world.receipt("alpha", &format!("u{number}"), "DELIVRD");
    }
    assert_eq!(world.end(unknown), "delivered");
    world.pass(SECOND * 86_000);
    assert_eq!(world.one().text(), "next year");
    world.check_replay();
}

#[test]
fn what_is_live_is_written_again_before_its_key_goes_however_short_the_journal_is() {
    let config = format!(
        "{ONE}\n[dispatch]\nidempotency_ttl = \"10m\"\n\
         orphan_hold = \"10s\"\nreference_hold = \"10s\"\nreassembly_timeout = \"10s\"\n"
    );
    let mut world = World::given(&config);
    let mut scheduled = world.submission(Class::Marketing, "next year");
    scheduled.send_at = Some(world.now + SECOND * 86_000);
    world.accept(scheduled);
    world.pass(SECOND * 60);
    assert_eq!(world.trims, [], "the journal is short");
    let before = Position(world.end);
    world.tell(Event::Renew { before });
    world.pass(SECOND);
    let carried: Vec<_> =
        world.journal.iter().filter(|(_, it)| matches!(it, Record::Carried(_))).collect();
    assert_eq!(carried.len(), 1, "once");
    assert!(carried[0].0 >= before);
    world.pass(SECOND * 60);
    assert_eq!(world.trims.len(), 1);
    assert!(world.trims[0] >= before, "{:?}", world.trims);
    world.check_replay();
    // With nothing live, all of it may go.
    world.pass(SECOND * 86_000);
    world.bound("alpha", 0, 10);
    assert_eq!(world.one().text(), "next year");
}

#[test]
fn a_receipt_that_waits_for_its_answer_stays_in_the_journal_for_its_whole_time() {
    let config = format!(
        "{ONE}\n[dispatch]\norphan_hold = \"10s\"\nreference_hold = \"10s\"\n\
         reassembly_timeout = \"10s\"\nclean_above_bytes = 64\n"
    );
    let mut world = World::given(&config);
    world.bound("alpha", 0, 10);
    let end_one = |world: &mut World| {
        let id = world.send(Class::Otp, "1234");
        let sent = world.one();
        world.ok(&sent, &id.to_string());
        world.receipt("alpha", &id.to_string(), "DELIVRD");
        assert_eq!(world.end(id), "delivered");
        world.pass(SECOND * 3);
    };
    end_one(&mut world);
    world.receipt("alpha", "7", "DELIVRD");
    world.pass(SECOND * 3);
    end_one(&mut world);
    world.pass(SECOND * 7 / 2);
    world.check_replay();
    world.pass(SECOND * 20);
    assert!(!world.trims.is_empty());
}

#[test]
fn an_idle_journal_goes_with_its_key() {
    let mut world = World::given(ONE);
    world.bound("alpha", 0, 10);
    let id = world.send(Class::Otp, "1234");
    let sent = world.one();
    world.ok(&sent, "a1");
    world.receipt("alpha", "a1", "DELIVRD");
    assert_eq!(world.end(id), "delivered");
    world.pass(SECOND * 86_400 * 9);
    assert_eq!(world.trims, [], "the journal is short");
    let before = Position(world.end);
    world.tell(Event::Renew { before });
    world.pass(SECOND);
    assert_eq!(world.trims, [before]);
}
