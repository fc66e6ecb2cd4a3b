//! The event feed, pulled and streamed, and what handsets sent.

use std::time::Duration;

use axum::body::Body;
use hikyaku::message::Finish;
use hikyaku::message::InboundRecord;
use hikyaku::message::MessageId;
use hikyaku::message::Record;
use hikyaku::message::State;
use http_body_util::BodyExt;
use serde_json::Value;
use serde_json::json;
use tower::ServiceExt;

use super::house::House;
use super::messages::hello;

fn finished(house: &House, id: &str) -> Record {
    let finish = Finish {
        state: State::Delivered,
        reason: None,
        carrier: "alpha".into(),
        carrier_status: None,
        carrier_error: "".into(),
    };
    Record::Finished { id: id.parse().unwrap(), at: house.now(), finish }
}

fn inbound(house: &House, number: u128) -> Record {
    Record::Inbound(Box::new(InboundRecord {
        id: MessageId::from_u128(number),
        at: house.now(),
        carrier: "alpha".into(),
        from: "819012345678".into(),
        to: "0005123456".into(),
        data_coding: 8,
        udh: Box::default(),
        octets: Box::default(),
        text: Some("はい".into()),
        part: None,
    }))
}

fn kinds(page: &Value) -> Vec<&str> {
    let events = page["events"].as_array().unwrap();
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_feed_holds_each_event_once_in_order_and_resumes() {
    let house = House::new();
    let id = house.accept("shop", &hello()).await;
    house.accept("other", &hello()).await;
    house.record(&finished(&house, &id));
    let all = house.get("shop", "/v1/events").await.json();
    assert_eq!(kinds(&all), ["message.queued", "message.delivered"]);
    assert_eq!(all["events"][1]["data"]["previous_state"], "queued");
    assert_eq!(all["events"][1]["data"]["to"], "+8190****5678");
    let first = house.get("shop", "/v1/events?limit=1").await.json();
    assert_eq!(first["next"], first["events"][0]["cursor"]);
    let rest = format!("/v1/events?after={}", first["next"].as_str().unwrap());
    let rest = house.get("shop", &rest).await.json();
    assert_eq!(rest["events"].as_array().unwrap()[..], all["events"].as_array().unwrap()[1..]);
    let none = format!("/v1/events?after={}", all["next"].as_str().unwrap());
    assert_eq!(kinds(&house.get("shop", &none).await.json()), Vec::<&str>::new());
    assert_eq!(kinds(&house.get("noc", "/v1/events").await.json()).len(), 3);
    let bad = house.get("shop", "/v1/events?after=yesterday").await;
    assert_eq!(bad.faults(), [("after".to_owned(), "invalid_field".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_events_ends_with_the_clients_own() {
    let house = House::new();
    let path = "/v1/events?after=now&wait=60s";
    let begun = tokio::time::Instant::now();
    let (page, ()) = tokio::join!(house.get("shop", path), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        house.accept("other", &hello()).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        house.accept("shop", &hello()).await;
    });
    assert_eq!(kinds(&page.json()), ["message.queued"]);
    assert_eq!(begun.elapsed().as_secs(), 7);
}

#[tokio::test]
async fn what_handsets_send_goes_to_the_owner_of_the_number() {
    let house = House::new();
    house.accept("shop", &hello()).await;
    house.record(&inbound(&house, 9));
    let page = house.get("shop", "/v1/inbound").await;
    assert_eq!(kinds(&page.json()), ["inbound.received"]);
    assert_eq!(page.json()["events"][0]["data"]["from"], "+8190****5678");
    assert!(!page.text().contains("はい"));
    assert_eq!(kinds(&house.get("other", "/v1/inbound").await.json()), Vec::<&str>::new());
    let seen = house.get("shop", "/v1/events").await.json();
    assert_eq!(kinds(&seen), ["message.queued", "inbound.received"]);
}

#[tokio::test]
async fn the_text_of_a_handset_needs_its_scope() {
    let house = House::with(|config| {
        let scopes = &mut config.clients.get_mut("shop").unwrap().scopes;
        scopes.push(hikyaku::api::Scope::MessagesReadContent);
    });
    house.record(&inbound(&house, 9));
    let data = house.get("shop", "/v1/inbound").await.json()["events"][0]["data"].clone();
    assert_eq!((&data["from"], &data["text"]), (&json!("+819012345678"), &json!("はい")));
}

/// The next piece of a stream, as text.
async fn piece(body: &mut Body) -> Option<String> {
    let frame = tokio::time::timeout(Duration::from_secs(30), body.frame()).await.unwrap()?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn a_stream_carries_the_events_and_ends_with_the_gateway() {
    let house = House::new();
    house.accept("shop", &hello()).await;
    let request = house.request("shop", "GET /v1/events/stream").body(Body::empty()).unwrap();
    let response = house.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let first = piece(&mut body).await.unwrap();
    assert!(first.contains("event: message.queued\n"), "{first}");
    let id = first.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let data = first.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["cursor"], id);
    house.accept("shop", &hello()).await;
    let second = piece(&mut body).await.unwrap();
    assert!(second.contains("event: message.queued\n") && second != first);
    house.stop.cancel();
    assert_eq!(piece(&mut body).await, None);

    let house = House::new();
    let (one, two) = (house.accept("shop", &hello()).await, house.accept("shop", &hello()).await);
    let page = house.get("shop", "/v1/events?limit=1").await.json();
    let request = house
        .request("shop", "GET /v1/events/stream?after=now")
        .header("last-event-id", page["next"].as_str().unwrap())
        .body(Body::empty())
        .unwrap();
    let mut body = house.router.clone().oneshot(request).await.unwrap().into_body();
    let resumed = piece(&mut body).await.unwrap();
    assert!(resumed.contains(&two) && !resumed.contains(&one), "{resumed}");
}

#[tokio::test(start_paused = true)]
async fn streams_are_bounded_and_a_bad_id_is_named() {
    let house = House::new();
    let open = || house.request("alone", "GET /v1/events/stream").body(Body::empty()).unwrap();
    let first = house.router.clone().oneshot(open()).await.unwrap();
    assert_eq!(first.status(), 200);
    assert_eq!(house.send(open()).await.code(), "rate_limited");
    let mut body = first.into_body();
    assert_eq!(piece(&mut body).await.unwrap(), ":\n\n", "a comment keeps the connection alive");
    drop(body);
    assert_eq!(house.router.clone().oneshot(open()).await.unwrap().status(), 200);
    let request = house
        .request("shop", "GET /v1/events/stream")
        .header("last-event-id", "x")
        .body(Body::empty())
        .unwrap();
    assert_eq!(house.send(request).await.faults()[0].0, "Last-Event-ID");
}
