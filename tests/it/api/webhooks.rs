//! Webhook endpoints over HTTP: made, changed, deleted, and what became of their deliveries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::http::StatusCode;
use hikyaku::message::EventId;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::house::House;
use super::messages::hello;

fn hook() -> Value {
    json!({ "url": "https://shop.example/h" })
}

#[tokio::test]
async fn an_endpoint_is_made_changed_and_deleted_by_its_client_only() {
    let house = House::with(|config| {
        config.clients.get_mut("other").unwrap().scopes.push(hikyaku::api::Scope::Webhooks);
    });
    let asked = json!({
        "url": "https://shop.example/h", "events": ["message.delivered", "carrier.down"],
        "description": "the shop",
    });
    let made = house.post("shop", "/v1/webhooks", &asked).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(made.json()["secret"].as_str().unwrap().starts_with("whsec_"));
    let path = made.headers["location"].to_str().unwrap().to_owned();
    let read = house.get("shop", &path).await.json();
    assert_eq!(read["secret"], json!(null));
    assert_eq!(read["events"], json!(["message.delivered", "carrier.down"]));
    let changed = house.json("shop", &format!("PATCH {path}"), &json!({ "enabled": false })).await;
    assert_eq!(changed.json()["enabled"], false);
    assert_eq!(changed.json()["url"], "https://shop.example/h");
    let secret = house.post("shop", &format!("{path}/secret"), &json!({})).await.json();
    assert_ne!(secret["secret"], made.json()["secret"]);
    let listed = house.get("shop", "/v1/webhooks").await.json();
    assert_eq!(listed["webhooks"][0]["description"], "the shop");
    assert_eq!(house.get("other", "/v1/webhooks").await.json(), json!({ "webhooks": [] }));
    assert_eq!(house.get("other", &path).await.code(), "not_found");
    let gone = house.json("shop", &format!("DELETE {path}"), &json!({})).await;
    assert_eq!(gone.status, 204);
    assert_eq!(house.get("shop", &path).await.code(), "not_found");
    assert_eq!(house.get("shop", "/v1/webhooks/nonsense").await.code(), "not_found");
}

#[tokio::test]
async fn every_fault_of_an_endpoint_is_told() {
    let house = House::new();
    let asked = json!({
        "url": "https://a.example/", "events": ["message.delivered", "message.eaten"],
        "description": "x".repeat(201), "secret": "mine",
    });
    let refused = house.post("shop", "/v1/webhooks", &asked).await;
    assert_eq!(refused.code(), "unknown_field");
    let places: Vec<_> = refused.faults().into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, ["/events/1", "/secret", "/description"]);
    for url in ["ftp://shop.example/", "/h", "https://me:pw@shop.example/", "http://10.0.0.1/"] {
        let refused = house.post("shop", "/v1/webhooks", &json!({ "url": url })).await;
        assert_eq!(refused.faults(), [("/url".to_owned(), "invalid_field".to_owned())], "{url}");
    }
    let refused = house.post("shop", "/v1/webhooks", &json!({})).await;
    assert_eq!(refused.faults(), [("/url".to_owned(), "invalid_field".to_owned())]);
    for _ in 0..2 {
        assert_eq!(house.post("shop", "/v1/webhooks", &hook()).await.status, 201);
    }
    assert_eq!(house.post("shop", "/v1/webhooks", &hook()).await.code(), "invalid_field");
}

/// A server that answers webhooks with a status, and tells when it has.
async fn shop(status: Arc<AtomicU16>, heard: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move || {
        heard.notify_one();
        std::future::ready(StatusCode::from_u16(status.load(Ordering::Relaxed)).unwrap())
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// The endpoint's first delivery in `state`, once there is one.
async fn delivery(house: &House, path: &str, state: &str) -> Value {
    loop {
        let listed = house.get("shop", &format!("{path}/deliveries")).await.json();
        let first = &listed["deliveries"][0];
        if first["state"] == state {
            return first.clone();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_delivery_that_was_given_up_is_seen_and_tried_again() {
    let mut house = House::with(|config| {
        config.clients.get_mut("shop").unwrap().request_rate =
            hikyaku::time::Rate::per_second(1_000_000);
    });
    house.send_webhooks();
    let (status, heard) = (Arc::new(AtomicU16::new(500)), Arc::new(Notify::new()));
    let address = shop(Arc::clone(&status), Arc::clone(&heard)).await;
    let asked = json!({ "url": format!("http://{address}/h") });
    let made = house.post("shop", "/v1/webhooks", &asked).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = made.headers["location"].to_str().unwrap().to_owned();
    let test = house.post("shop", &format!("{path}/test"), &json!({})).await.json();
    assert_eq!(test["status"], 500, "{test}");
    let id = house.accept("shop", &hello()).await;
    let dead = delivery(&house, &path, "dead").await;
    assert_eq!(dead["message_id"], id);
    assert_eq!(dead["type"], "message.queued");
    assert_eq!(dead["tries"][0]["status"], 500);
    let only = house.get("shop", &format!("{path}/deliveries?state=dead")).await.json();
    assert_eq!(only["deliveries"][0]["id"], dead["id"]);
    let timeline = house.get("shop", &format!("/v1/messages/{id}/timeline")).await.json();
    assert_eq!(timeline["entries"][1]["type"], "webhook");
    assert_eq!(timeline["entries"][1]["status"], 500);
    status.store(200, Ordering::Relaxed);
    let retry = format!("{path}/deliveries/{}/retry", dead["id"].as_str().unwrap());
    assert_eq!(house.post("shop", &retry, &json!({})).await.json()["state"], "pending");
    heard.notified().await;
    let taken = delivery(&house, &path, "delivered").await;
    assert_eq!(taken["tries"][1]["status"], 200);
    let again = house.post("shop", &retry, &json!({})).await;
    assert!(["invalid_field", "not_found"].contains(&again.code().as_str()), "{}", again.text());
    let other = format!("{path}/deliveries/{}/retry", EventId::from_u128(1));
    assert_eq!(house.post("shop", &other, &json!({})).await.code(), "not_found");
}
