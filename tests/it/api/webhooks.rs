//! Webhook endpoints over HTTP, with a store in memory behind them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use hikyaku::api::backend::Delivery;
use hikyaku::api::backend::DeliveryState;
use hikyaku::api::backend::Endpoint;
use hikyaku::api::backend::EndpointDraft;
use hikyaku::api::backend::Later;
use hikyaku::api::backend::MessageTry;
use hikyaku::api::backend::Secret;
use hikyaku::api::backend::Try;
use hikyaku::api::backend::WebhookError;
use hikyaku::api::backend::WebhookId;
use hikyaku::api::backend::Webhooks;
use hikyaku::message::EventId;
use hikyaku::message::MessageId;
use hikyaku::time::Time;
use serde_json::json;

use super::house::House;

/// Endpoints by owner and id.
#[derive(Default)]
pub(super) struct Hooks(Mutex<BTreeMap<(String, WebhookId), Endpoint>>);

const MOST: usize = 2;
const DEAD: EventId = EventId::from_u128(0xdead);

fn a_try() -> Try {
    Try { at: Time::from_secs(1), took: Duration::from_millis(7), status: Some(500), error: None }
}

fn delivery(state: DeliveryState) -> Delivery {
    Delivery {
        event: DEAD,
        kind: "message.delivered".into(),
        message: Some(MessageId::from_u128(5)),
        state,
        tries: vec![a_try()],
        next_try_at: None,
    }
}

impl Hooks {
    fn find_in(&self, owner: &str, id: WebhookId) -> Result<Endpoint, WebhookError> {
        let hooks = self.0.lock().unwrap();
        hooks.get(&(owner.to_owned(), id)).cloned().ok_or(WebhookError::NotFound)
    }
}

fn at_once<'a, T: Send + 'a>(value: T) -> Later<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Webhooks for Hooks {
    fn list<'a>(&'a self, owner: &'a str) -> Later<'a, Result<Vec<Endpoint>, WebhookError>> {
        let hooks = self.0.lock().unwrap();
        let own = hooks.iter().filter(|((other, _), _)| other == owner);
        at_once(Ok(own.map(|(_, endpoint)| endpoint.clone()).collect()))
    }

    fn find<'a>(
        &'a self,
        owner: &'a str,
        id: WebhookId,
    ) -> Later<'a, Result<Endpoint, WebhookError>> {
        at_once(self.find_in(owner, id))
    }

    fn create<'a>(
        &'a self,
        owner: &'a str,
        draft: EndpointDraft,
    ) -> Later<'a, Result<(Endpoint, Secret), WebhookError>> {
        let mut hooks = self.0.lock().unwrap();
        if hooks.len() >= MOST {
            return at_once(Err(WebhookError::TooMany { most: MOST }));
        }
        let endpoint = Endpoint {
            id: WebhookId(hooks.len() as u128 + 1),
            url: draft.url.unwrap(),
            events: draft.events.unwrap_or_default(),
            description: draft.description.unwrap_or_default(),
            enabled: draft.enabled.unwrap_or(true),
            disabled_reason: None,
            created_at: Time::from_secs(1),
            backlog: 0,
            dead: 1,
            paused_until: None,
        };
        hooks.insert((owner.to_owned(), endpoint.id), endpoint.clone());
        at_once(Ok((endpoint, Secret("whsec_1".into()))))
    }

    fn update<'a>(
        &'a self,
        owner: &'a str,
        id: WebhookId,
        change: EndpointDraft,
    ) -> Later<'a, Result<Endpoint, WebhookError>> {
        let found = self.find_in(owner, id).map(|mut endpoint| {
            endpoint.url = change.url.unwrap_or(endpoint.url);
            endpoint.enabled = change.enabled.unwrap_or(endpoint.enabled);
            self.0.lock().unwrap().insert((owner.to_owned(), id), endpoint.clone());
            endpoint
        });
        at_once(found)
    }

    fn delete<'a>(&'a self, owner: &'a str, id: WebhookId) -> Later<'a, Result<(), WebhookError>> {
        let removed = self.0.lock().unwrap().remove(&(owner.to_owned(), id));
        at_once(removed.map(|_| ()).ok_or(WebhookError::NotFound))
    }

    fn rotate<'a>(
        &'a self,
        owner: &'a str,
        id: WebhookId,
    ) -> Later<'a, Result<Secret, WebhookError>> {
        at_once(self.find_in(owner, id).map(|_| Secret("whsec_2".into())))
    }

    fn test<'a>(&'a self, owner: &'a str, id: WebhookId) -> Later<'a, Result<Try, WebhookError>> {
        at_once(self.find_in(owner, id).map(|_| a_try()))
    }

    fn deliveries<'a>(
        &'a self,
        owner: &'a str,
        id: WebhookId,
        dead: bool,
        _: usize,
    ) -> Later<'a, Result<Vec<Delivery>, WebhookError>> {
        let mut all = vec![delivery(DeliveryState::Dead)];
        if !dead {
            all.push(delivery(DeliveryState::Delivered));
        }
        at_once(self.find_in(owner, id).map(|_| all))
    }

    fn retry<'a>(
        &'a self,
        owner: &'a str,
        id: WebhookId,
        event: EventId,
    ) -> Later<'a, Result<Delivery, WebhookError>> {
        let found = self.find_in(owner, id).and_then(|_| match event {
            DEAD => Ok(delivery(DeliveryState::Pending)),
            _ => Err(WebhookError::State { detail: "it was not given up".into() }),
        });
        at_once(found)
    }

    fn tries_of<'a>(&'a self, _: &'a str, _: MessageId) -> Later<'a, Vec<MessageTry>> {
        let kind = "message.queued".into();
        at_once(vec![MessageTry { endpoint: None, event: DEAD, kind, result: a_try() }])
    }
}

#[tokio::test]
async fn an_endpoint_is_made_changed_and_deleted_by_its_client_only() {
    let house = House::new();
    let asked = json!({ "url": "https://shop.example/h", "events": ["message.delivered"] });
    let made = house.post("shop", "/v1/webhooks", &asked).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["secret"], "whsec_1");
    let path = made.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(house.get("shop", &path).await.json()["secret"], json!(null));
    let changed = house.json("shop", &format!("PATCH {path}"), &json!({ "enabled": false })).await;
    assert_eq!(changed.json()["enabled"], false);
    assert_eq!(changed.json()["url"], "https://shop.example/h");
    let listed = house.get("shop", "/v1/webhooks").await.json();
    assert_eq!(listed["webhooks"].as_array().unwrap().len(), 1);
    assert_eq!(house.get("other", &path).await.code(), "scope_missing");
    let gone = house.json("shop", &format!("DELETE {path}"), &json!({})).await;
    assert_eq!(gone.status, 204);
    assert_eq!(house.get("shop", &path).await.code(), "not_found");
    assert_eq!(house.get("shop", "/v1/webhooks/nonsense").await.code(), "not_found");
}

#[tokio::test]
async fn deliveries_are_seen_and_tried_again() {
    let house = House::new();
    let asked = json!({ "url": "https://shop.example/h" });
    let made = house.post("shop", "/v1/webhooks", &asked).await;
    let path = made.headers["location"].to_str().unwrap().to_owned();
    let all = house.get("shop", &format!("{path}/deliveries")).await.json();
    assert_eq!(all["deliveries"].as_array().unwrap().len(), 2);
    let dead = house.get("shop", &format!("{path}/deliveries?state=dead")).await.json();
    let id = dead["deliveries"][0]["id"].as_str().unwrap();
    assert_eq!(dead["deliveries"][0]["tries"][0]["status"], 500);
    let none = json!({});
    let again = house.post("shop", &format!("{path}/deliveries/{id}/retry"), &none).await;
    assert_eq!(again.json()["state"], "pending");
    let other = EventId::from_u128(1);
    let refused = house.post("shop", &format!("{path}/deliveries/{other}/retry"), &none).await;
    assert_eq!(refused.code(), "invalid_field");
    assert_eq!(house.post("shop", &format!("{path}/test"), &none).await.json()["took_ms"], 7);
    let secret = house.post("shop", &format!("{path}/secret"), &none).await;
    assert_eq!(secret.json()["secret"], "whsec_2");
}

#[tokio::test]
async fn every_fault_of_an_endpoint_is_told() {
    let house = House::new();
    let asked = json!({
        "url": "ftp://shop.example/", "events": ["message.delivered", "message.eaten", 7],
        "description": "x".repeat(201), "secret": "mine",
    });
    let refused = house.post("shop", "/v1/webhooks", &asked).await;
    assert_eq!(refused.code(), "malformed_body");
    let places: Vec<_> = refused.faults().into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, ["/events/2", "/secret", "/url", "/description"]);
    let asked = json!({ "url": "https://a.example/", "events": ["message.eaten"] });
    let refused = house.post("shop", "/v1/webhooks", &asked).await;
    assert_eq!(refused.faults(), [("/events/0".to_owned(), "invalid_field".to_owned())]);
    let refused = house.post("shop", "/v1/webhooks", &json!({})).await;
    assert_eq!(refused.faults(), [("/url".to_owned(), "invalid_field".to_owned())]);
    for _ in 0..MOST {
        let asked = json!({ "url": "https://shop.example/h" });
        assert_eq!(house.post("shop", "/v1/webhooks", &asked).await.status, 201);
    }
    let asked = json!({ "url": "https://shop.example/h" });
    assert_eq!(house.post("shop", "/v1/webhooks", &asked).await.code(), "invalid_field");
}
