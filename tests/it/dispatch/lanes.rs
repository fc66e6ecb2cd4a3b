//! Rates and shares: who leaves when.

use std::collections::BTreeMap;
use std::time::Duration;

use hikyaku::message::Class;
use hikyaku::pdu::Body;
use hikyaku::pdu::CommandStatus;

use super::world::ONE;
use super::world::SECOND;
use super::world::World;

fn world(rate: &str, window: u16) -> World {
    let mut world = World::given(&ONE.replace("1000/s", rate));
    world.bound("alpha", 0, window);
    world
}

/// The most segments in any second that is open at its end.
fn most_in_a_second(world: &World) -> usize {
    let times: Vec<_> = world.wire.iter().map(|sent| sent.at).collect();
    let until = |from: usize| times.partition_point(|at| *at < times[from] + SECOND);
    (0..times.len()).map(|from| until(from) - from).max().unwrap_or_default()
}

#[test]
fn the_rate_counts_segments_and_no_second_exceeds_it() {
    let mut world = world("20/s", 1_000);
    for number in 0..40 {
        let long = number % 3 == 0;
        let text = if long { super::world::three_segments() } else { "short".into() };
        world.send(Class::Marketing, &text);
        world.pass(SECOND / 33);
    }
    world.pass(SECOND * 10);
    assert_eq!(world.wire.len(), 14 * 3 + 26);
    assert!(most_in_a_second(&world) <= 20, "{}", most_in_a_second(&world));
}

#[test]
fn a_slow_disk_does_not_bunch_segments_beyond_the_rate() {
    let mut world = world("100/s", 1_000);
    world.syncs = false;
    for round in 0..60 {
        for number in 0..10 {
            world.send(Class::Marketing, &number.to_string());
        }
        world.pass(Duration::from_millis(if round % 7 == 0 { 200 } else { 30 }));
        world.sync();
    }
    assert!(world.wire.len() > 270, "{} in 3.36 s", world.wire.len());
    assert!(most_in_a_second(&world) <= 100, "{}", most_in_a_second(&world));
}

#[test]
fn an_otp_behind_a_crowd_leaves_within_two_token_times() {
    for rate in [1, 10, 50, 1_000] {
        let mut world = world(&format!("{rate}/s"), 2_000);
        for number in 0..3_000 {
            world.send(Class::Marketing, &number.to_string());
        }
        world.pass(SECOND * 2);
        world.send(Class::Otp, "1234");
        let (before, at) = (world.wire.len(), world.now);
        while world.wire.iter().all(|sent| sent.text() != "1234") {
            world.pass(SECOND / 10_000);
            assert!(world.now.since(at) <= SECOND * 2 / rate + SECOND / 500, "at {rate}/s");
        }
        assert!(world.wire.len() <= before + 2 + rate as usize / 400, "at {rate}/s");
    }
}

#[test]
fn classes_share_a_rate_by_weight_and_keys_a_class_by_turns() {
    let mut world = world("100/s", 5_000);
    let mut send = |class: Class, key: &str, text: &str| {
        let mut submission = world.submission(class, text);
        submission.key = key.into();
        submission.to = format!("8190{key:0>8}").replace("big", "1").replace("small", "2").into();
        world.accept(submission);
    };
    for _ in 0..1_500 {
        send(Class::Transactional, "3", "t");
        send(Class::Marketing, "1", &"abcdefghij".repeat(40));
    }
    for _ in 0..500 {
        send(Class::Marketing, "2", "s");
        send(Class::Otp, "4", "o");
    }
    world.pass(SECOND * 8);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for sent in &world.wire {
        let to = sent.to();
        *counts.entry(to[to.len() - 1..].to_owned()).or_default() += 1;
    }
    let [big, small, transactional, otp] = ["1", "2", "3", "4"].map(|key| counts[key]);
    let all = world.wire.len();
    assert!(otp * 100 / all >= 60, "otp has 8 of 12: {counts:?}");
    let (three, one) = (transactional * 10, (big + small) * 30);
    assert!(three.abs_diff(one) < three / 5, "3 to 1: {counts:?}");
    assert!(big.abs_diff(small) <= 6, "by segments, not by messages: {counts:?}");
}

#[test]
fn the_front_of_a_lane_is_kept_in_order_through_a_throttle() {
    let mut world = world("50/s", 8);
    for number in 0..20 {
        world.send(Class::Transactional, &format!("{number:02}"));
    }
    world.pass(SECOND);
    let pending: Vec<_> = world.sent.drain(..).collect();
    for sent in &pending {
        world.refuse(sent, CommandStatus::ESME_RTHROTTLED);
    }
    let mut order = Vec::new();
    while order.len() < 20 {
        world.pass(SECOND / 20);
        while let Some(sent) = world.sent.pop_front() {
            order.push(sent.text());
            world.ok(&sent, &format!("a{}", order.len()));
        }
    }
    // Those that came back wait a little longer, each as long as its dice say.
    let mut sorted = order.clone();
    sorted.sort();
    assert_eq!(sorted, (0..20).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    let back = order.iter().position(|text| text == "00").unwrap();
    assert!(back < 16, "{order:?}");
}

#[test]
fn congestion_slows_the_carrier_down() {
    let mut world = world("100/s", 100);
    world.send(Class::Otp, "1");
    let sent = world.one();
    let mut body = hikyaku::pdu::SubmitSmResp::default();
    body.tlvs.push_u8(hikyaku::pdu::Tag::CONGESTION_STATE, 95);
    world.answer(&sent, super::world::ROK, Body::SubmitSmResp(body));
    let rate = world.dispatch.snapshot(world.now).carriers[0].rate;
    assert_eq!(rate.as_millis(), 90_000);
}

#[test]
fn a_carrier_that_throttles_costs_others_nothing() {
    let config = r#"
        [carriers.alpha]
        rate = "100/s"
        [carriers.beta]
        rate = "100/s"
        [[routes]]
        name = "main"
        match = { class = ["marketing"] }
        carriers = ["alpha"]
        [[routes]]
        name = "other"
        carriers = ["beta"]
    "#;
    let mut world = World::given(config);
    world.bound("alpha", 0, 100);
    world.bound("beta", 0, 100);
    world.send(Class::Marketing, "m");
    let sent = world.one();
    world.refuse(&sent, CommandStatus::ESME_RTHROTTLED);
    let mut other = world.submission(Class::Otp, "o");
    other.plan.route = "other".into();
    world.accept(other);
    assert_eq!(world.one().carrier(), "beta");
}
