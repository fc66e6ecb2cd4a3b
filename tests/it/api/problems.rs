//! Every way in which the API says no, and that each has the form of a problem.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use hikyaku::api::ENDPOINTS;
use hikyaku::api::backend::Unready;
use hikyaku::api::problem::Code;
use hikyaku::dispatch::Reply;
use hikyaku::message::Class;
use hikyaku::message::State;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::house::House;
use super::house::Manner;
use super::messages::hello;

/// A request of each kind that is refused, with the code and the place of its first fault.
fn refused_messages() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let with = |name: &str, value: Value| {
        let mut message = hello();
        message[name] = value;
        message
    };
    let text = "あ".repeat(671);
    let narrow = json!({ "to": "09012345678", "text": "Hi", "class": "otp", "route": "narrow" });
    let narrowed = |name: &str, value: Value| {
        let mut message = narrow.clone();
        message[name] = value;
        message
    };
    vec![
        ("shop", json!([]), "malformed_body", ""),
        ("shop", with("to", json!(81)), "malformed_body", "/to"),
        ("shop", with("template", json!({ "id": "x" })), "unknown_field", "/template"),
        ("tight", narrowed("from", json!("0006")), "sender_not_allowed", "/from"),
        ("tight", narrowed("class", json!("marketing")), "class_not_allowed", "/class"),
        ("tight", narrowed("to", json!("08012345678")), "destination_not_allowed", "/to"),
        ("tight", narrowed("route", json!("jp")), "route_not_allowed", "/route"),
        (
            "other",
            with("callback_url", json!("https://a.example/")),
            "scope_missing",
            "/callback_url",
        ),
        ("shop", with("callback_url", json!("/relative")), "invalid_field", "/callback_url"),
        ("shop", with("callback_url", json!("http://10.0.0.1/")), "invalid_field", "/callback_url"),
        ("shop", with("to", json!("0312")), "invalid_to", "/to"),
        ("shop", json!({ "text": "x" }), "invalid_to", "/to"),
        ("shop", with("from", json!("much too long a name")), "invalid_from", "/from"),
        ("shop", with("text", json!("")), "invalid_field", "/text"),
        ("shop", json!({ "to": "+819012345678" }), "invalid_field", "/text"),
        ("shop", with("binary", json!({ "hex": "00" })), "invalid_field", "/binary"),
        ("shop", with("class", json!("sms")), "invalid_field", "/class"),
        ("shop", with("client_ref", json!("x".repeat(101))), "invalid_field", "/client_ref"),
        ("shop", with("client_ref", json!("")), "invalid_field", "/client_ref"),
        ("shop", with("campaign", json!("a\u{7}b")), "invalid_field", "/campaign"),
        ("shop", with("tags", json!(vec!["x"; 11])), "invalid_field", "/tags"),
        ("shop", with("tags", json!(["x", "y".repeat(51)])), "invalid_field", "/tags/1"),
        ("shop", with("send_at", json!("tomorrow")), "invalid_field", "/send_at"),
        ("shop", with("send_at", json!("2020-01-01T00:00:00Z")), "invalid_field", "/send_at"),
        ("shop", with("send_at", json!("2099-01-01T00:00:00Z")), "invalid_field", "/send_at"),
        ("shop", with("ttl", json!("10")), "invalid_field", "/ttl"),
        ("shop", with("ttl", json!("1s")), "invalid_field", "/ttl"),
        ("shop", with("ttl", json!("8d")), "invalid_field", "/ttl"),
        (
            "shop",
            with("expires_at", json!("2020-01-01T00:00:00Z")),
            "expired_on_arrival",
            "/expires_at",
        ),
        ("shop", with("expires_at", json!("2099-01-01T00:00:00Z")), "invalid_field", "/expires_at"),
        ("shop", with("max_segments", json!(0)), "invalid_field", "/max_segments"),
        ("shop", with("max_segments", json!(41)), "invalid_field", "/max_segments"),
        ("shop", with("receipts", json!("some")), "invalid_field", "/receipts"),
        ("shop", with("encoding", json!("utf8")), "invalid_field", "/encoding"),
        ("shop", with("route", json!("none")), "no_route", "/route"),
        ("shop", with("text", json!(text)), "text_too_long", "/text"),
    ]
}

#[tokio::test]
async fn every_field_can_be_wrong_in_its_own_way() {
    let house = House::new();
    for (client, body, code, place) in refused_messages() {
        let answer = house.post(client, "/v1/messages", &body).await;
        assert_eq!(answer.code(), code, "{body} {}", answer.text());
        assert_eq!(answer.faults()[0], (place.to_owned(), code.to_owned()), "{body}");
    }
    assert!(house.submissions().is_empty());
}

#[tokio::test]
async fn all_faults_of_a_message_are_told_at_once() {
    let house = House::new();
    let body = json!({
        "to": "12", "from": "\u{1}", "class": "sms", "binary": { "hex": "0", "udh": "05" },
        "ttl": "1m", "expires_at": "x", "max_segments": "many", "colour": "red",
    });
    let answer = house.post("shop", "/v1/messages", &body).await;
    assert_eq!(answer.status, 400);
    let places: Vec<_> = answer.faults().into_iter().map(|(place, _)| place).collect();
    let told = [
        "/class",
        "/max_segments",
        "/colour",
        "/to",
        "/from",
        "/binary/hex",
        "/binary/udh",
        "/expires_at",
    ];
    assert_eq!(places, told);
}

#[tokio::test]
async fn a_text_that_is_too_long_or_cannot_be_carried_says_why() {
    let house = House::new();
    let body = json!({ "to": "+819012345678", "text": "あ".repeat(671) });
    let fault = house.post("shop", "/v1/messages", &body).await.json()["errors"][0].clone();
    assert_eq!((&fault["needed"], &fault["allowed"]), (&json!(11), &json!(10)));
    let body = json!({ "to": "+819012345678", "text": "ab鷗😀", "route": "narrow" });
    let answer = house.post("shop", "/v1/messages", &body).await;
    assert_eq!(answer.code(), "unencodable_text");
    let faults = &answer.json()["errors"];
    let place = |n: usize| (faults[n]["index"].clone(), faults[n]["character"].clone());
    assert_eq!(place(0), (json!(2), json!("鷗")));
    assert_eq!(place(1), (json!(3), json!("😀")));
    let body = json!({ "to": "+819012345678", "text": "飛", "encoding": "gsm7" });
    let answer = house.post("shop", "/v1/messages", &body).await;
    assert_eq!(answer.code(), "unencodable_text");
}

#[tokio::test]
async fn a_destination_that_no_route_takes_is_refused() {
    let house = House::new();
    let body = json!({ "to": "+14155550123", "text": "hello" });
    assert_eq!(house.post("shop", "/v1/messages", &body).await.code(), "no_route");
}

fn posting(house: &House, body: Body) -> Request<Body> {
    house
        .request("shop", "POST /v1/messages")
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_body_must_be_json_of_a_bounded_size_and_come_in_time() {
    let house = House::new();
    let answer = house.send(posting(&house, Body::from("{\"to\":"))).await;
    assert_eq!(answer.code(), "malformed_body");
    let plain = house.request("shop", "POST /v1/messages").body(Body::from("{}")).unwrap();
    assert_eq!(house.send(plain).await.code(), "unsupported_media_type");
    let large = "x".repeat(house.config.limits.body_octets as usize + 1);
    let answer = house.send(posting(&house, Body::from(large.clone()))).await;
    assert_eq!(answer.code(), "body_too_large");
    let mut announced = posting(&house, Body::empty());
    announced.headers_mut().insert("content-length", "4294967296".parse().unwrap());
    assert_eq!(house.send(announced).await.code(), "body_too_large");
    let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let answer = house.send(posting(&house, Body::from_stream(never))).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (408, "request_timeout".to_owned()));
    let broken = futures_util::stream::once(std::future::ready(Err::<Vec<u8>, _>(
        std::io::Error::other("gone"),
    )));
    let answer = house.send(posting(&house, Body::from_stream(broken))).await;
    assert_eq!(answer.code(), "malformed_body");
}

#[tokio::test(start_paused = true)]
async fn bodies_together_are_bounded() {
    let house = House::with(|config| {
        config.limits.body_octets = 65_536;
        config.limits.batch_octets = 65_536;
        config.limits.bodies_octets = 65_536 + 1_024;
    });
    let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let first = posting(&house, Body::from_stream(never));
    let second = posting(&house, Body::from(hello().to_string()));
    let mut second = second;
    second.headers_mut().insert("content-length", "60000".parse().unwrap());
    let (first, second) = tokio::join!(house.send(first), house.send(second));
    assert_eq!(first.code(), "request_timeout");
    assert_eq!(second.code(), "queue_full");
    assert_eq!(house.post("shop", "/v1/messages", &hello()).await.status, 202);
}

#[tokio::test]
async fn what_the_framework_refuses_is_a_problem_too() {
    let house = House::new();
    let answer = house.get("shop", "/v1/nothing").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found".to_owned()));
    let answer = house.json("shop", "PUT /v1/messages", &json!({})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (405, "method_not_allowed".to_owned()));
    let allowed = answer.headers["allow"].to_str().unwrap();
    assert!(allowed.contains("POST") && allowed.contains("GET"), "{allowed}");
    let answer = house.get("shop", "/docs/nothing.js").await;
    assert_eq!(answer.code(), "not_found");
    *house.around.panics.lock().unwrap() = true;
    let answer = house.get("", "/readyz").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (500, "internal_error".to_owned()));
    let answered = house.around.answered.lock().unwrap();
    assert_eq!(answered.first(), Some(&("-", 404)));
    assert_eq!(answered.last().map(|answered| answered.1), Some(500));
}

#[tokio::test]
async fn without_a_valid_key_nothing_is_told() {
    let house = House::new();
    let forged = format!("hky_abcdefgh_{}", "A".repeat(43));
    let swapped = {
        let (id, secret) = (&house.token("shop")[..13], &house.token("full")[13..]);
        format!("{id}{secret}")
    };
    let wrong = ["", "Bearer", "Bearer x", "Basic eDp5"].map(ToOwned::to_owned);
    let tokens = [forged, swapped].map(|token| format!("Bearer {token}"));
    for value in wrong.into_iter().chain(tokens) {
        let request = Request::get("/v1/messages/msg_1")
            .header("authorization", &value)
            .body(Body::empty())
            .unwrap();
        let answer = house.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, "unauthenticated".to_owned()));
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"hikyaku\"");
    }
    let lower = format!("bearer {}", house.token("shop"));
    let request =
        Request::get("/v1/webhooks").header("authorization", lower).body(Body::empty()).unwrap();
    assert_eq!(house.send(request).await.status, 200);
}

#[tokio::test]
async fn every_endpoint_asks_for_its_scope() {
    let house = House::new();
    for endpoint in ENDPOINTS {
        let path = endpoint.path.replace("{id}", "msg_1").replace("{delivery}", "evt_1");
        let path = path.replace("{*file}", "index.html");
        let line = format!("{} {path}", endpoint.method);
        let bare = house.request("", &line).body(Body::empty()).unwrap();
        let status = house.send(bare).await.status.as_u16();
        let keyed = house.request("nothing", &line).body(Body::empty()).unwrap();
        let answer = house.send(keyed).await;
        match endpoint.scope {
            None => assert!(status < 400, "{line} is open and answers {status}"),
            Some(scope) => {
                assert_eq!(status, 401, "{line}");
                assert_eq!(answer.code(), "scope_missing", "{line}");
                assert!(answer.text().contains(scope.as_str()), "{line}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_asks_too_much_is_told_when_to_come_back() {
    let house = House::new();
    assert_eq!(house.post("slow", "/v1/messages", &hello()).await.status, 202);
    let answer = house.post("slow", "/v1/messages", &hello()).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (429, "rate_limited".to_owned()));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.headers["ratelimit-policy"], "\"messages\";q=1;w=1");
    assert_eq!(answer.headers["ratelimit"], "\"messages\";r=0;t=1");
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let batch = json!({ "messages": [hello(), hello()] });
    let judged = house.post("slow", "/v1/messages/batch", &batch).await.json();
    assert_eq!((&judged["accepted"], &judged["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(judged["results"][1]["problem"]["code"], "rate_limited");
}

#[tokio::test]
async fn a_daily_quota_counts_what_was_accepted_only() {
    let house = House::new();
    house.dispatcher(Manner::Says(Reply::StoreUnavailable));
    assert_eq!(house.post("small", "/v1/messages", &hello()).await.code(), "store_unavailable");
    house.dispatcher(Manner::Well);
    assert_eq!(house.post("small", "/v1/messages", &hello()).await.status, 202);
    let answer = house.post("small", "/v1/messages", &hello()).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (429, "quota_exceeded".to_owned()));
    assert_eq!(answer.headers["ratelimit-policy"], "\"daily\";q=1;w=86400");
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait), "{wait}");
    house.api.restore_quota("shop", 5);
    assert_eq!(house.post("shop", "/v1/messages", &hello()).await.status, 202);
}

#[tokio::test(start_paused = true)]
async fn what_the_dispatcher_refuses_is_told() {
    let house = House::new();
    let retry_after = std::time::Duration::from_millis(41_001);
    let full = Reply::QueueFull { class: Class::Marketing, retry_after };
    let replies = [
        (Reply::IdempotencyInProgress, 409, "idempotency_in_progress"),
        (Reply::IdempotencyKeyReused, 422, "idempotency_key_reused"),
        (full, 503, "queue_full"),
        (Reply::StoreUnavailable, 503, "store_unavailable"),
        (Reply::Draining, 503, "draining"),
        (Reply::NotLive, 500, "internal_error"),
    ];
    for (reply, status, code) in replies {
        house.dispatcher(Manner::Says(reply));
        let answer = house.post("shop", "/v1/messages", &hello()).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code));
        let waits = answer.headers.contains_key("retry-after");
        assert_eq!(waits, status == 503 || status == 409, "{code}");
        if code == "queue_full" {
            assert_eq!(answer.headers["retry-after"], "42");
            assert_eq!(*house.around.shed.lock().unwrap(), [Class::Transactional]);
        }
    }
    house.dispatcher(Manner::Silent);
    let answer = house.post("shop", "/v1/messages", &hello()).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "not_confirmed".to_owned()));
    assert!(answer.text().contains("Idempotency-Key"));
}

#[tokio::test]
async fn a_message_on_its_way_is_not_withdrawn() {
    let house = House::new();
    let id = house.accept("shop", &hello()).await;
    house.dispatcher(Manner::Says(Reply::TooLate { state: State::Submitted }));
    let answer = house.post("shop", &format!("/v1/messages/{id}/cancel"), &json!({})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (409, "too_late_to_cancel".to_owned()));
    assert!(answer.text().contains("submitted"));
    let many = json!({ "client_ref": "none" });
    let answer = house.post("shop", "/v1/messages/cancel", &many).await;
    assert_eq!(answer.json(), json!({ "cancelled": [], "too_late": [], "more": false }));
}

#[tokio::test]
async fn readiness_says_why_not() {
    let house = House::new();
    assert_eq!(house.get("", "/readyz").await.json()["status"], "ok");
    *house.around.unready.lock().unwrap() = vec![
        Unready { code: Code::StoreUnavailable, detail: "the disk is full".into() },
        Unready { code: Code::Draining, detail: "the gateway is stopping".into() },
    ];
    let answer = house.get("", "/readyz").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "store_unavailable".to_owned()));
    assert_eq!(answer.json()["detail"], "the disk is full; the gateway is stopping");
    assert_eq!(house.get("", "/healthz").await.status, 200);
}

/// Any JSON, small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop_oneof!["\\+81901234567[0-9]", "[0-9]{1,4}[smhd]", "20[0-9]{2}-01-01T00:00:00Z"]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-z~/]{0,4}", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A message with some of its fields replaced.
fn any_message() -> impl Strategy<Value = Value> {
    const FIELDS: &[&str] = &[
        "to",
        "from",
        "text",
        "binary",
        "class",
        "client_ref",
        "campaign",
        "tags",
        "send_at",
        "ttl",
        "expires_at",
        "encoding",
        "max_segments",
        "route",
        "receipts",
        "callback_url",
        "x",
    ];
    let fields =
        proptest::collection::btree_map(proptest::sample::select(FIELDS), any_json(), 0..5);
    fields.prop_map(|fields| {
        let mut message = hello();
        for (name, value) in fields {
            message[name] = value;
        }
        message
    })
}

#[test]
fn whatever_comes_is_accepted_or_refused_with_a_problem() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let house = runtime.block_on(async {
        House::with(|config| {
            let shop = config.clients.get_mut("shop").unwrap();
            shop.request_rate = hikyaku::time::Rate::per_second(1_000_000);
            shop.rate = hikyaku::time::Rate::per_second(1_000_000);
        })
    });
    let octets = proptest::collection::vec(any::<u8>(), 0..64);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let run = runner.run(&(any_message(), any_json(), octets), |(message, other, octets)| {
        runtime.block_on(try_bodies(&house, &message, &other, octets));
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
}

async fn try_bodies(house: &House, message: &Value, other: &Value, octets: Vec<u8>) {
    let batch = json!({ "messages": [message, other] });
    for (path, body) in [
        ("/v1/messages", message.to_string().into_bytes()),
        ("/v1/messages/preview", message.to_string().into_bytes()),
        ("/v1/messages", other.to_string().into_bytes()),
        ("/v1/messages/batch", batch.to_string().into_bytes()),
        ("/v1/messages/batch", other.to_string().into_bytes()),
        ("/v1/messages", octets),
    ] {
        let mut request = posting(house, Body::from(body));
        *request.uri_mut() = path.parse().unwrap();
        let answer = house.send(request).await;
        if !answer.status.is_success() {
            assert!(answer.status.is_client_error(), "{path} {message} {}", answer.text());
            answer.code();
        }
    }
}

/// Every code of the API stands in the text of these tests, and is asserted there.
#[test]
fn every_code_has_its_test() {
    let tests = concat!(
        include_str!("problems.rs"),
        include_str!("messages.rs"),
        include_str!("sockets.rs")
    );
    let missing: BTreeSet<_> = Code::ALL
        .iter()
        .map(|code| code.as_str())
        .filter(|code| !tests.contains(&format!("\"{code}\"")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
