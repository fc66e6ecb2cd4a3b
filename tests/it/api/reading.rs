//! Reading messages: one, waiting for its change, its timeline, and searching.

use std::time::Duration;

use hikyaku::message::Answer;
use hikyaku::message::Finish;
use hikyaku::message::MessageId;
use hikyaku::message::ReceiptRecord;
use hikyaku::message::Record;
use hikyaku::message::SegmentSet;
use hikyaku::message::State;
use hikyaku::message::Waited;
use hikyaku::pdu::CommandStatus;
use serde_json::json;

use super::house::House;
use super::messages::hello;

/// The records of a message that alpha takes and delivers.
fn life(house: &House, id: &str) -> [Record; 4] {
    let (id, at): (MessageId, _) = (id.parse().unwrap(), house.now());
    let sending = Record::Sending {
        id,
        at,
        attempt: 1,
        carrier: "alpha".into(),
        bind: 0,
        reference: 7,
        total: 1,
        segments: SegmentSet::first(1),
        waited: Waited { bind_ms: 0, rate_ms: 20, window_ms: 0 },
    };
    let answer = Answer {
        bind: 0,
        sequence_number: 3,
        status: CommandStatus::ESME_ROK,
        carrier_message_id: "A1".into(),
        failure_reason: None,
    };
    let answered =
        Record::Answered { id, at, attempt: 1, segment: 0, answer, state: State::Submitted };
    let receipt = ReceiptRecord {
        carrier_message_id: "A1".into(),
        text_id: "".into(),
        source: "819012345678".into(),
        state: "DELIVERED".into(),
        is_final: true,
        error: "000".into(),
        raw: "id:A1 stat:DELIVRD err:000".into(),
    };
    let receipt = Record::Receipt { id, at, attempt: 1, segment: 0, receipt };
    let finish = Finish {
        state: State::Delivered,
        reason: None,
        carrier: "alpha".into(),
        carrier_status: None,
        carrier_error: "000".into(),
    };
    [sending, answered, receipt, Record::Finished { id, at, finish }]
}

#[tokio::test]
async fn a_message_shows_its_segments_attempts_and_receipts() {
    let house = House::new();
    let id = house.accept("shop", &hello()).await;
    let path = format!("/v1/messages/{id}");
    assert_eq!(house.get("shop", &path).await.json()["state"], "queued");
    life(&house, &id).iter().for_each(|record| house.record(record));
    let message = house.get("shop", &path).await.json();
    assert_eq!(message["state"], "delivered");
    assert_eq!(message["attempts"][0]["carrier"], "alpha");
    assert_eq!(message["segments"][0]["carrier_message_id"], "A1");
    assert_eq!(message["segments"][0]["seq"], 1);
    assert_eq!(message["receipts"][0]["state"], "DELIVERED");
    let timeline = house.get("shop", &format!("{path}/timeline")).await.json();
    let entries = timeline["entries"].as_array().unwrap();
    let kinds: Vec<_> = entries.iter().map(|entry| entry["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["accepted", "sending", "answered", "receipt", "finished"]);
    assert_eq!(entries[1]["waited_ms"]["rate"], 20);
    assert_eq!(entries[2]["status"], json!({ "name": "ESME_ROK", "number": 0 }));
    assert_eq!(entries[3]["raw"], "id:A1 stat:DELIVRD err:000");
    assert_eq!(entries[3]["number"], "+8190****5678");
}

#[tokio::test]
async fn texts_and_full_numbers_need_their_scope() {
    let house = House::new();
    let id = house.accept("full", &hello()).await;
    let message = house.get("full", &format!("/v1/messages/{id}")).await.json();
    assert_eq!((&message["to"], &message["text"]), (&json!("+819012345678"), &json!("hello")));
    let id = house.accept("shop", &hello()).await;
    let message = house.get("shop", &format!("/v1/messages/{id}")).await;
    assert_eq!(message.json()["to"], "+8190****5678");
    assert!(!message.text().contains("hello"));
    let found = house.get("shop", "/v1/messages?to=09012345678").await;
    assert_eq!(found.json()["messages"][0]["id"], id);
    assert!(!found.text().contains("9012345678"));
}

#[tokio::test]
async fn a_client_sees_its_own_messages_and_the_noc_sees_all() {
    let house = House::new();
    let id = house.accept("shop", &hello()).await;
    let path = format!("/v1/messages/{id}");
    assert_eq!(house.get("other", &path).await.code(), "not_found");
    assert_eq!(house.get("other", &format!("{path}/timeline")).await.code(), "not_found");
    assert_eq!(house.get("other", "/v1/messages").await.json()["messages"], json!([]));
    assert_eq!(house.get("noc", &path).await.json()["id"], id);
    let nobody = MessageId::from_u128(1);
    assert_eq!(house.get("shop", &format!("/v1/messages/{nobody}")).await.code(), "not_found");
    assert_eq!(house.get("shop", "/v1/messages/nonsense").await.code(), "not_found");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_change_or_with_its_time() {
    let house = House::new();
    let id = house.accept("shop", &hello()).await;
    let path = format!("/v1/messages/{id}?wait=30s");
    let begun = tokio::time::Instant::now();
    assert_eq!(house.get("shop", &path).await.json()["state"], "queued");
    assert_eq!(begun.elapsed().as_secs(), 30);
    let begun = tokio::time::Instant::now();
    let (message, ()) = tokio::join!(house.get("shop", &path), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        house.record(&life(&house, &id)[0]);
    });
    assert_eq!(message.json()["state"], "submitting");
    assert_eq!(begun.elapsed().as_secs(), 5);
    life(&house, &id)[1..].iter().for_each(|record| house.record(record));
    let begun = tokio::time::Instant::now();
    assert_eq!(house.get("shop", &path).await.json()["state"], "delivered");
    assert_eq!(begun.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn waits_are_bounded_and_end_when_the_gateway_stops() {
    let house = House::new();
    let path = "/v1/events?after=now&wait=60s";
    let (first, second, ()) =
        tokio::join!(house.get("alone", path), house.get("alone", path), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            house.stop.cancel();
        });
    assert_eq!(first.json()["events"], json!([]));
    assert_eq!((second.status.as_u16(), second.code()), (429, "rate_limited".to_owned()));
    for wait in ["61s", "1", "-1s"] {
        let answer = house.get("shop", &format!("/v1/events?wait={wait}")).await;
        assert_eq!(answer.faults(), [("wait".to_owned(), "invalid_field".to_owned())]);
    }
}

#[tokio::test]
async fn a_search_turns_pages_from_the_newest_back() {
    let house = House::new();
    let mut ids = Vec::new();
    for n in 0..5 {
        let body = json!({ "to": "+819012345678", "text": "x", "client_ref": format!("r{n}"),
            "campaign": "c" });
        ids.push(house.accept("shop", &body).await);
    }
    ids.reverse();
    let mut found = Vec::new();
    let mut path = "/v1/messages?campaign=c&limit=2".to_owned();
    loop {
        let page = house.get("shop", &path).await.json();
        let messages = page["messages"].as_array().unwrap();
        found.extend(messages.iter().map(|m| m["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/messages?campaign=c&limit=2&cursor={next}");
    }
    assert_eq!(found, ids);
    let one = house.get("shop", "/v1/messages?client_ref=r3&state=queued").await.json();
    assert_eq!(one["messages"].as_array().unwrap().len(), 1);
    life(&house, &ids[0]).iter().for_each(|record| house.record(record));
    let one = house.get("shop", "/v1/messages?carrier_message_id=A1&carrier=alpha").await.json();
    assert_eq!(one["messages"][0]["id"], ids[0]);
    let none = house.get("shop", "/v1/messages?until=2020-01-01T00:00:00Z").await.json();
    assert_eq!(none["messages"], json!([]));
}

#[tokio::test]
async fn every_bad_parameter_of_a_search_is_named() {
    let house = House::new();
    let path = "/v1/messages?to=1&state=eaten&since=x&limit=201&cursor=&cursor=&flavour=salt";
    let answer = house.get("shop", path).await;
    assert_eq!(answer.status, 400);
    let mut places: Vec<_> = answer.faults().into_iter().map(|(place, _)| place).collect();
    places.sort();
    assert_eq!(places, ["cursor", "cursor", "flavour", "limit", "since", "state", "to"]);
}
