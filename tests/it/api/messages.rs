//! Handing in: one message, many, a preview, again with the same key; and withdrawing.

use axum::body::Body;
use hikyaku::message::Content;
use serde_json::Value;
use serde_json::json;

use super::house::Answer;
use super::house::House;

pub(super) fn hello() -> Value {
    json!({ "to": "+819012345678", "text": "hello" })
}

#[tokio::test]
async fn an_accepted_message_is_answered_with_its_plan() {
    let house = House::new();
    let body = json!({
        "to": "０９０-1234-5678", "from": "0005123456", "text": "飛脚".repeat(335), "class": "otp",
        "client_ref": "order-123", "campaign": "2026-11-bday", "tags": ["ec"], "ttl": "10m",
        "encoding": "auto", "max_segments": 10.0, "route": "auto", "receipts": "final",
        "callback_url": "https://shop.example/one",
    });
    let answer = house.post("shop", "/v1/messages", &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let accepted = answer.json();
    let id = accepted["id"].as_str().unwrap();
    assert_eq!(answer.headers["location"], format!("/v1/messages/{id}"));
    assert_eq!(accepted["to"], "+819012345678");
    assert_eq!(accepted["from"], "0005123456");
    assert_eq!(accepted["class"], "otp");
    assert_eq!(accepted["state"], "queued");
    assert_eq!(accepted["encoding"], "ucs2");
    assert_eq!(accepted["segments"], 10);
    assert_eq!(accepted["units"], 670);
    assert_eq!(accepted["route"], "jp");
    assert_eq!(accepted["client_ref"], "order-123");
    assert_eq!(answer.headers["ratelimit-policy"], "\"messages\";q=1000;w=1");
    assert_eq!(*house.around.accepted.lock().unwrap(), [("ucs2".to_owned(), 10)]);
    assert_eq!(*house.around.answered.lock().unwrap(), [("/v1/messages", 202)]);
    let submission = &house.submissions()[0];
    assert_eq!(&*submission.to, "819012345678");
    assert_eq!(&*submission.key, "shop");
    assert_eq!(submission.expires_at.since(submission.accepted_at).as_secs(), 600);
    assert_eq!(submission.callback_url.as_deref(), Some("https://shop.example/one"));
}

#[tokio::test]
async fn the_defaults_are_the_keys_and_the_classes() {
    let house = House::new();
    let body = json!({ "to": "09012345678", "text": "Hi", "class": "otp", "route": "narrow" });
    let accepted = house.post("tight", "/v1/messages", &body).await.json();
    assert_eq!(accepted["from"], "0005123456");
    house.accept("shop", &hello()).await;
    let submissions = house.submissions();
    let ttl = |n: usize| submissions[n].expires_at.since(submissions[n].accepted_at).as_secs();
    assert_eq!((ttl(0), ttl(1)), (600, 86_400));
    assert_eq!(submissions[1].max_segments, 10);
}

#[tokio::test]
async fn octets_are_taken_with_their_header() {
    let house = House::new();
    let body = json!({
        "to": "+819012345678", "binary": { "hex": "0A0b0C", "udh": "0605040b8423f0" },
    });
    let answer = house.post("shop", "/v1/messages", &body).await;
    assert_eq!(answer.json()["encoding"], "binary", "{}", answer.text());
    let Content::Binary { octets, udh } = &house.submissions()[0].content else { panic!() };
    assert_eq!((&**octets, udh.len()), (&[10, 11, 12][..], 7));
}

#[tokio::test]
async fn a_message_for_later_is_scheduled_and_lives_from_then_on() {
    let house = House::new();
    let at = jiff::Timestamp::now() + std::time::Duration::from_secs(7_200);
    let body = json!({
        "to": "+819012345678", "text": "later", "send_at": at.to_string(), "ttl": "1h",
    });
    let accepted = house.post("shop", "/v1/messages", &body).await.json();
    assert_eq!(accepted["state"], "scheduled");
    let submission = &house.submissions()[0];
    assert_eq!(submission.expires_at.since(submission.send_at.unwrap()).as_secs(), 3_600);
    let past = jiff::Timestamp::now() - std::time::Duration::from_secs(60);
    let body = json!({ "to": "+819012345678", "text": "now", "send_at": past.to_string() });
    assert_eq!(house.post("shop", "/v1/messages", &body).await.json()["state"], "queued");
}

async fn keyed(house: &House, key: &str, path: &str, body: &Value) -> Answer {
    let request = house
        .request("shop", &format!("POST {path}"))
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(Body::from(body.to_string()))
        .unwrap();
    house.send(request).await
}

#[tokio::test]
async fn the_same_key_and_body_is_answered_as_before() {
    let house = House::new();
    let first = keyed(&house, "k-1", "/v1/messages", &hello()).await;
    let spaced = json!({ "text": "hello", "to": "+819012345678", "from": null });
    let again = keyed(&house, "\"k-1\"", "/v1/messages", &spaced).await;
    assert_eq!(again.status, 202);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.headers["location"], first.headers["location"]);
    assert_eq!(again.json(), first.json());
    assert!(first.headers.get("idempotent-replayed").is_none());
    assert_eq!(house.submissions().len(), 1);
    assert_eq!(*house.around.replays.lock().unwrap(), 1);
    let other = json!({ "to": "+819012345678", "text": "x" });
    let other = keyed(&house, "k-1", "/v1/messages", &other).await;
    assert_eq!(other.code(), "idempotency_key_reused");
    assert_eq!(other.faults()[0].0, "Idempotency-Key");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_could_not_be_taken_any_more_is_answered_as_before() {
    let mut house = House::new();
    let minute = std::time::Duration::from_secs(60);
    let soon = jiff::Timestamp::now() + minute;
    let short = json!({ "to": "+819012345678", "text": "a", "expires_at": soon.to_string() });
    let routed =
        json!({ "to": "+819012345678", "text": "b", "route": "narrow", "client_ref": "r" });
    let bodies = [("short", short), ("routed", routed), ("quota", hello())];
    let mut first = Vec::new();
    for (key, body) in &bodies {
        first.push(keyed(&house, key, "/v1/messages", body).await);
    }
    house.config.clients.get_mut("shop").unwrap().daily_quota = Some(0);
    house.config.clients.get_mut("shop").unwrap().routes = vec!["jp".into()];
    house.api.reload(&house.config, &hikyaku::api::admin::Config::default());
    tokio::time::advance(2 * minute).await;
    for ((key, body), first) in bodies.iter().zip(&first) {
        let fresh = keyed(&house, &format!("{key}-2"), "/v1/messages", body).await;
        let codes = ["expired_on_arrival", "route_not_allowed", "quota_exceeded"];
        assert!(codes.contains(&fresh.code().as_str()), "{}", fresh.text());
        let again = keyed(&house, key, "/v1/messages", body).await;
        assert_eq!(again.status, 202, "{}", again.text());
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(again.json(), first.json());
    }
    let other = keyed(&house, "quota", "/v1/messages", &bodies[1].1).await;
    assert_eq!(other.code(), "idempotency_key_reused");
    let wrong = json!({ "to": "+819012345678", "text": "hello", "tags": 1 });
    let wrong = keyed(&house, "quota", "/v1/messages", &wrong).await;
    assert_eq!(wrong.code(), "malformed_body", "its types were never right");
    assert_eq!(house.submissions().len(), 3);
}

#[tokio::test]
async fn a_batch_beyond_todays_quota_is_answered_as_before() {
    let mut house = House::new();
    let batch = json!({ "messages": [hello(), { "to": "1", "text": "x" }, hello()] });
    let first = keyed(&house, "b", "/v1/messages/batch", &batch).await.json();
    house.config.clients.get_mut("shop").unwrap().daily_quota = Some(0);
    house.api.reload(&house.config, &hikyaku::api::admin::Config::default());
    let again = keyed(&house, "b", "/v1/messages/batch", &batch).await.json();
    assert_eq!(again["accepted"], 2, "{again}");
    for place in [0, 2] {
        assert_eq!(again["results"][place]["replayed"], true);
        assert_eq!(again["results"][place]["id"], first["results"][place]["id"]);
    }
    assert_eq!(again["results"][1]["problem"]["code"], "invalid_to");
}

#[tokio::test]
async fn each_message_of_a_batch_is_judged_alone() {
    let house = House::new();
    let batch = json!({ "messages": [
        hello(), { "to": "12", "text": "x" }, { "to": "+819012345678", "text": "y", "shape": 1 },
        "nonsense", { "to": "+819011112222", "text": "z", "client_ref": "five" },
    ]});
    let answer = house.post("shop", "/v1/messages/batch", &batch).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let judged = answer.json();
    assert_eq!((&judged["accepted"], &judged["rejected"]), (&json!(2), &json!(3)));
    let results = judged["results"].as_array().unwrap();
    let indices: Vec<_> = results.iter().map(|r| r["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4]);
    assert_eq!(results[0]["segments"], 1);
    assert_eq!(results[1]["problem"]["code"], "invalid_to");
    assert_eq!(results[1]["problem"]["errors"][0]["pointer"], "/messages/1/to");
    assert_eq!(results[2]["problem"]["errors"][0]["pointer"], "/messages/2/shape");
    assert_eq!(results[3]["problem"]["code"], "malformed_body");
    assert!(results[0].get("problem").is_none() && results[1].get("id").is_none());
    assert_eq!(results[4]["client_ref"], "five");
    assert_eq!(house.submissions().len(), 2);
}

#[tokio::test]
async fn a_batch_sent_again_accepts_nothing_twice() {
    let house = House::new();
    let batch = json!({ "messages": [hello(), { "to": "1", "text": "x" }, hello()] });
    let first = keyed(&house, "b", "/v1/messages/batch", &batch).await.json();
    let again = keyed(&house, "b", "/v1/messages/batch", &batch).await.json();
    assert_eq!(again["results"][0]["replayed"], true);
    assert_eq!(again["results"][0]["id"], first["results"][0]["id"]);
    assert_eq!(again["results"][2]["id"], first["results"][2]["id"]);
    assert_ne!(first["results"][0]["id"], first["results"][2]["id"]);
    assert_eq!(again["results"][1]["problem"]["code"], "invalid_to");
    assert_eq!(house.submissions().len(), 2);
}

#[tokio::test]
async fn a_batch_has_between_one_and_a_thousand_messages() {
    let house = House::new();
    let batch = |count| json!({ "messages": vec![hello(); count] });
    let answer = house.post("shop", "/v1/messages/batch", &batch(1_001)).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (413, "body_too_large".to_owned()));
    let answer = house.post("shop", "/v1/messages/batch", &batch(0)).await;
    assert_eq!(answer.code(), "invalid_field");
    for body in [json!([]), json!({}), json!({ "messages": 1 }), json!([[hello()]])] {
        let answer = house.post("shop", "/v1/messages/batch", &body).await;
        assert_eq!(answer.code(), "malformed_body", "{body}");
    }
    let stray = json!({ "messages": [hello()], "from": "x" });
    assert_eq!(house.post("shop", "/v1/messages/batch", &stray).await.code(), "unknown_field");
    assert!(house.submissions().is_empty());
}

#[tokio::test]
async fn a_batch_beyond_the_queue_is_refused_whole_and_free_of_charge() {
    let house = House::with(|config| {
        config.clients.get_mut("shop").unwrap().daily_quota = Some(100);
    });
    // The stand-in's queue holds 64.
    let batch = |count| json!({ "messages": vec![hello(); count] });
    let judged = house.post("shop", "/v1/messages/batch", &batch(65)).await.json();
    assert_eq!(judged["rejected"], 65);
    assert_eq!(judged["results"][64]["problem"]["code"], "queue_full");
    assert_eq!(house.around.shed.lock().unwrap().len(), 65);
    let judged = house.post("shop", "/v1/messages/batch", &batch(64)).await.json();
    assert_eq!(judged["accepted"], 64);
}

#[tokio::test]
async fn a_preview_tells_the_cost_and_the_way_and_sends_nothing() {
    let house = House::new();
    let body = json!({ "to": "090-1234-5678", "text": "Grüße €5 飛" });
    let preview = house.post("shop", "/v1/messages/preview", &body).await;
    assert_eq!(preview.status, 200, "{}", preview.text());
    let preview = preview.json();
    assert_eq!(preview["to"], "+819012345678");
    assert_eq!(preview["encoding"], "ucs2");
    assert_eq!(preview["segments"], 1);
    assert_eq!(preview["forced_by"], json!({ "index": 9, "character": "飛" }));
    assert_eq!(preview["route"], "jp");
    assert_eq!(preview["carriers"][0]["carrier"], "alpha");
    assert_eq!(preview["carriers"][1]["fits"], true);
    assert!(preview["why"][0].as_str().unwrap().contains("jp"), "{preview}");
    assert!(house.submissions().is_empty());
}

#[tokio::test]
async fn a_queued_message_can_be_withdrawn_again_and_again() {
    let house = House::new();
    let id = house.accept("shop", &hello()).await;
    for _ in 0..2 {
        let answer = house.post("shop", &format!("/v1/messages/{id}/cancel"), &json!({})).await;
        assert_eq!(answer.json(), json!({ "id": id, "state": "cancelled" }));
    }
    let answer = house.post("other", &format!("/v1/messages/{id}/cancel"), &json!({})).await;
    assert_eq!(answer.code(), "not_found");
}

#[tokio::test]
async fn a_campaign_is_withdrawn_at_once() {
    let house = House::new();
    let message = json!({ "to": "+819012345678", "text": "sale", "campaign": "c" });
    let later = json!({
        "to": "+819012345678", "text": "sale", "campaign": "c",
        "send_at": (jiff::Timestamp::now() + std::time::Duration::from_secs(60)).to_string(),
    });
    let ids = [house.accept("shop", &message).await, house.accept("shop", &later).await];
    house.accept("shop", &hello()).await;
    house.accept("other", &message).await;
    let answer = house.post("shop", "/v1/messages/cancel", &json!({ "campaign": "c" })).await;
    let answer = answer.json();
    let cancelled = answer["cancelled"].as_array().unwrap();
    assert_eq!(cancelled.len(), 2, "{answer}");
    assert!(ids.iter().all(|id| cancelled.contains(&json!(id))));
    assert_eq!(answer["more"], false);
    let long = "x".repeat(101);
    for body in [
        json!({}),
        json!({ "campaign": "c", "client_ref": "r" }),
        json!({ "campaign": "" }),
        json!({ "client_ref": long }),
    ] {
        let answer = house.post("shop", "/v1/messages/cancel", &body).await;
        assert_eq!(answer.code(), "invalid_field");
    }
}
