//! Who may do what, read from the OpenAPI document itself: each operation opens to its scope and to
//! nothing else, and nothing of one client shows to another.

use axum::body::Body;
use axum::http::Request;
use axum::http::request::Builder;
use hikyaku::api::NewKey;
use hikyaku::api::Scope;
use hikyaku::api::config::Client;
use http_body_util::BodyExt;
use serde_json::Value;
use serde_json::json;
use tower::ServiceExt;

use super::house::Answer;
use super::house::House;
use super::messages::hello;

/// One operation of the document.
struct Operation {
    method: String,
    path: String,
    scopes: Vec<String>,
}

impl Operation {
    /// A request for it, without a key, about what `fill` says for each name in its path.
    fn request(&self, fill: &[(&str, &str)]) -> Builder {
        let mut path = self.path.clone();
        for (name, value) in fill {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        assert!(!path.contains('{'), "{path}: say what stands there");
        Request::builder()
            .method(self.method.as_str())
            .uri(path)
            .header("content-type", "application/json")
    }
}

/// Every operation, as the document has it.
async fn operations(house: &House) -> Vec<Operation> {
    let document = house.get("", "/openapi.json").await.json();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array().unwrap();
            let scopes = security.iter().flat_map(|one| one["key"].as_array().unwrap());
            operations.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                scopes: scopes.map(|scope| scope.as_str().unwrap().to_owned()).collect(),
            });
        }
    }
    operations
}

/// The answer, whose body is read only where it is a refusal: a stream never ends.
async fn ask(house: &House, request: Builder, key: Option<&str>) -> Answer {
    let request = match key {
        None => request,
        Some(key) => request.header("authorization", format!("Bearer {key}")),
    };
    let request = request.body(Body::from("{}")).unwrap();
    let response = house.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let mut answer = Answer { status: parts.status, headers: parts.headers, body: Vec::new() };
    if answer.status.as_u16() >= 400 {
        answer.body = body.collect().await.unwrap().to_bytes().to_vec();
    }
    answer
}

const NOTHING: &[(&str, &str)] = &[
    ("id", "msg_019cba000000700080000000000000ff"),
    ("delivery", "evt_019cba000000700080000000000000ff"),
];

#[tokio::test]
async fn every_operation_of_the_document_opens_to_its_scope_alone() {
    let (mut only, mut all_but) = (Vec::new(), Vec::new());
    let house = House::with(|config| {
        for (number, scope) in Scope::ALL.into_iter().enumerate() {
            let others = Scope::ALL.into_iter().filter(|other| *other != scope).collect();
            for (keys, scopes) in [(&mut only, vec![scope]), (&mut all_but, others)] {
                let key = NewKey::generate().unwrap();
                let client = Client { keys: vec![key.hash], scopes, ..Client::default() };
                config.clients.insert(format!("scoped_{number}_{}", client.scopes.len()), client);
                keys.push((scope.as_str(), key.token));
            }
        }
    });
    let key = |keys: &[(&str, String)], scope: &str| {
        keys.iter().find(|(name, _)| *name == scope).map(|(_, token)| token.clone()).unwrap()
    };
    let wrong_secret = format!("{}{}", &house.token("shop")[..13], &house.token("full")[13..]);
    let unknown = NewKey::generate().unwrap().token;
    let mut keyed = 0;
    for operation in operations(&house).await {
        let line = format!("{} {}", operation.method, operation.path);
        let ask = |key: Option<String>| {
            let request = operation.request(NOTHING);
            let house = &house;
            async move { ask(house, request, key.as_deref()).await }
        };
        let [scope] = &operation.scopes[..] else {
            let answer = ask(None).await;
            let operation_only = ["/healthz", "/readyz", "/metrics"];
            assert!(operation_only.contains(&operation.path.as_str()), "{line} needs no key");
            assert_eq!(answer.status, 200, "{line}");
            continue;
        };
        keyed += 1;
        let bare = ask(None).await;
        assert_eq!(
            (bare.status.as_u16(), bare.code().as_str()),
            (401, "unauthenticated"),
            "{line}"
        );
        let mut refusals = Vec::new();
        for token in [&wrong_secret, &unknown] {
            let answer = ask(Some(token.clone())).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "unauthenticated"));
            let mut told = answer.json();
            told["instance"] = Value::Null;
            refusals.push(told);
        }
        assert_eq!(refusals[0], refusals[1], "{line} tells whether a key's id exists");
        let answer = ask(Some(key(&all_but, scope))).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (403, "scope_missing"),
            "{line}"
        );
        let status = ask(Some(key(&only, scope))).await.status.as_u16();
        assert!(status != 401 && status != 403, "{line} answers {status} to {scope}");
    }
    assert!(keyed >= 20, "{keyed}");
}

/// What a client has, of every kind that an id names.
struct Belongings {
    message: String,
    webhook: String,
    delivery: String,
}

impl Belongings {
    fn fill(&self, path: &str) -> Vec<(&str, &str)> {
        let id = if path.starts_with("/v1/webhooks") { &self.webhook } else { &self.message };
        vec![("id", id), ("delivery", &self.delivery)]
    }

    fn ids(&self) -> [&str; 3] {
        [&self.message, &self.webhook, &self.delivery]
    }
}

async fn belongings(house: &House, client: &str) -> Belongings {
    // Nobody listens on the discard port, so the first try fails and, as nothing is tried again,
    // leaves a delivery that could be.
    let hook = json!({ "url": "http://127.0.0.1:9009/h" });
    let made = house.post(client, "/v1/webhooks", &hook).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let webhook = made.json()["id"].as_str().unwrap().to_owned();
    let mut message = hello();
    message["client_ref"] = json!("order-1");
    message["campaign"] = json!("spring");
    let message = house.accept(client, &message).await;
    let delivery = loop {
        let listed = house.get(client, &format!("/v1/webhooks/{webhook}/deliveries")).await.json();
        if let Some(id) = listed["deliveries"][0]["id"].as_str() {
            break id.to_owned();
        }
        tokio::task::yield_now().await;
    };
    Belongings { message, webhook, delivery }
}

fn with_everything_but_admin() -> House {
    House::with(|config| {
        for name in ["shop", "other"] {
            let client = config.clients.get_mut(name).unwrap();
            client.scopes = Scope::ALL.into_iter().filter(|s| *s != Scope::Admin).collect();
            client.request_rate = hikyaku::time::Rate::per_second(1_000_000);
        }
    })
}

#[tokio::test]
async fn no_operation_touches_or_shows_what_another_client_has() {
    let mut house = with_everything_but_admin();
    house.send_webhooks();
    let mine = belongings(&house, "shop").await;
    let before = state_of(&house, &mine).await;
    let theirs = house.token("other").to_owned();
    let (mut named, mut listed) = (0, 0);
    for operation in operations(&house).await {
        if operation.scopes.is_empty() {
            continue;
        }
        let line = format!("{} {}", operation.method, operation.path);
        if operation.path.contains('{') {
            named += 1;
            let answer = ask(&house, operation.request(&mine.fill(&operation.path)), Some(&theirs));
            let answer = answer.await;
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (404, "not_found"),
                "{line}"
            );
            let none = ask(&house, operation.request(NOTHING), Some(&theirs)).await;
            let told = |answer: &Answer| {
                let mut problem = answer.json();
                problem["instance"] = Value::Null;
                problem
            };
            assert_eq!(told(&answer), told(&none), "{line} tells whether the id exists");
        } else if operation.method == "GET" && operation.path != "/v1/events/stream" {
            listed += 1;
            for path in [operation.path.clone(), format!("{}?limit=200", operation.path)] {
                let answer = house.get("other", &path).await.text();
                assert!(mine.ids().iter().all(|id| !answer.contains(id)), "{line}: {answer}");
            }
        }
    }
    assert!(named >= 9 && listed >= 4, "{named} {listed}");
    for criterion in ["client_ref=order-1", "campaign=spring", "to=%2B819012345678"] {
        let found = house.get("other", &format!("/v1/messages?{criterion}")).await;
        assert_eq!((found.status.as_u16(), &found.json()["messages"]), (200, &json!([])));
    }
    for many in [json!({ "client_ref": "order-1" }), json!({ "campaign": "spring" })] {
        let answer = house.post("other", "/v1/messages/cancel", &many).await.json();
        assert_eq!(answer, json!({ "cancelled": [], "too_late": [], "more": false }));
    }
    assert_eq!(state_of(&house, &mine).await, before, "something was changed");
}

/// What the owner sees of what it has.
async fn state_of(house: &House, mine: &Belongings) -> Value {
    let message = house.get("shop", &format!("/v1/messages/{}", mine.message)).await;
    let webhooks = house.get("shop", "/v1/webhooks").await;
    let deliveries = house.get("shop", &format!("/v1/webhooks/{}/deliveries", mine.webhook)).await;
    json!([message.json(), webhooks.json(), deliveries.json()])
}

#[tokio::test]
async fn a_stream_carries_nothing_of_another_client() {
    let house = with_everything_but_admin();
    let mine = house.accept("shop", &hello()).await;
    let own = house.accept("other", &hello()).await;
    let request = house.request("other", "GET /v1/events/stream").body(Body::empty()).unwrap();
    let mut body = house.router.clone().oneshot(request).await.unwrap().into_body();
    let mut heard = String::new();
    while !heard.contains(&own) {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        heard.push_str(std::str::from_utf8(&frame).unwrap());
    }
    assert!(!heard.contains(&mine), "{heard}");
    let page = house.get("shop", "/v1/events").await.json();
    let cursor = page["next"].as_str().unwrap();
    let after = house.get("other", &format!("/v1/events?after={cursor}")).await.text();
    assert!(!after.contains(&mine), "a cursor is a place, not a key: {after}");
}

#[tokio::test]
async fn a_callback_and_a_retry_need_what_their_operation_needs() {
    let house = House::new();
    let mut message = hello();
    message["callback_url"] = json!("https://shop.example/h");
    let batch = json!({ "messages": [message] });
    let refused = house.post("writer", "/v1/messages/batch", &batch).await.json();
    assert_eq!(refused["results"][0]["problem"]["code"], "scope_missing", "{refused}");
    assert_eq!(house.post("writer", "/v1/messages", &message).await.code(), "scope_missing");
}
