//! The listener for operators: its own keys, its own document, and what moves to it.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hikyaku::api::ADMIN_ENDPOINTS;
use hikyaku::api::Scope;
use hikyaku::api::admin;
use hikyaku::api::admin::Changes;
use hikyaku::api::admin::Reloaded;
use http_body_util::BodyExt;
use serde_json::Value;
use serde_json::json;
use tower::ServiceExt;

use super::house::Answer;
use super::house::House;

async fn ask(router: &Router, line: &str, token: Option<&str>) -> Answer {
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path);
    let request = match token {
        None => request,
        Some(token) => request.header("authorization", format!("Bearer {token}")),
    };
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

#[tokio::test]
async fn every_operation_for_operators_opens_to_its_scope_alone() {
    let house = House::with_operators();
    let router = house.api.admin_router();
    let document: Value = ask(&router, "GET /openapi.json", None).await.json();
    let mut documented = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let line = format!("{} {path}", method.to_uppercase());
            documented.push(line.clone());
            let Some(scope) = operation["security"][0]["key"][0].as_str() else {
                assert_eq!(ask(&router, &line, None).await.status, 200, "{line}");
                continue;
            };
            let (right, wrong) = match scope {
                "console:view" => ("viewer", "actor"),
                "console:act" => ("actor", "viewer"),
                other => panic!("{line} asks for {other}"),
            };
            let status = async |token| ask(&router, &line, token).await.status.as_u16();
            assert_eq!(status(None).await, 401, "{line}");
            for client in ["shop", "noc"] {
                let token = house.token(client);
                assert_eq!(status(Some(token)).await, 401, "{line}: a client is no operator");
            }
            for lacking in [wrong, "idler"] {
                let answer = ask(&router, &line, Some(house.token(lacking))).await;
                let refused = (answer.status.as_u16(), answer.code());
                assert_eq!(refused, (403, "scope_missing".to_owned()), "{line}");
            }
            let opened = status(Some(house.token(right))).await;
            assert!(opened != 401 && opened != 403, "{line} answers {opened}");
        }
    }
    documented.sort();
    let page =
        |path: &str| path.starts_with("/docs") || ["/openapi.json", "/problems"].contains(&path);
    let table = ADMIN_ENDPOINTS.iter().filter(|endpoint| !page(endpoint.path));
    let mut table: Vec<_> = table.map(|e| format!("{} {}", e.method, e.path)).collect();
    table.sort();
    assert_eq!(documented, table);
}

#[tokio::test]
async fn what_is_of_operators_is_not_on_the_submit_api() {
    let house = House::with_operators();
    for line in ["GET /admin/v1/carriers", "POST /admin/v1/reload", "GET /metrics"] {
        for token in [None, Some(house.token("actor")), Some(house.token("noc"))] {
            assert_eq!(ask(&house.router, line, token).await.code(), "not_found", "{line}");
        }
    }
    let document = ask(&house.router, "GET /openapi.json", None).await.json();
    assert!(document["paths"]["/metrics"].is_null() && document["paths"]["/healthz"].is_object());
    let operator = ask(&house.router, "GET /v1/messages", Some(house.token("viewer"))).await;
    assert_eq!(operator.status, 401, "an operator is no client");
    let router = house.api.admin_router();
    assert_eq!(ask(&router, "GET /v1/messages", Some(house.token("shop"))).await.status, 404);
    assert_eq!(ask(&router, "GET /metrics", None).await.text(), "# EOF\n");
}

#[tokio::test]
async fn a_reload_tells_what_changed_or_every_fault() {
    let house = House::with_operators();
    let router = house.api.admin_router();
    let reload = async || ask(&router, "POST /admin/v1/reload", Some(house.token("actor"))).await;
    assert_eq!(reload().await.code(), "draining");
    let changes = Changes { changed: vec!["log.level".into()], ..Changes::default() };
    *house.around.reloaded.lock().unwrap() = Some(Reloaded::Done(changes));
    assert_eq!(reload().await.json()["changed"], json!(["log.level"]));
    let faults = vec![("carriers.a.rate".into(), "7:8: no".into()), ("x".into(), "what".into())];
    *house.around.reloaded.lock().unwrap() = Some(Reloaded::Refused(faults));
    let refused = reload().await;
    assert_eq!(refused.code(), "invalid_field");
    let errors = &refused.json()["errors"];
    assert_eq!(errors[0]["pointer"], "/carriers/a/rate");
    assert_eq!((&errors[0]["detail"], &errors[1]["detail"]), (&json!("7:8: no"), &json!("what")));
}

#[test]
fn every_fault_of_the_operators_is_told() {
    let api = hikyaku::api::Config::default();
    let mut operator = admin::Operator { scopes: vec![Scope::Admin], ..Default::default() };
    let mut config = admin::Config { listen: Some(api.listen), ..Default::default() };
    config.operators.insert("Ops".into(), operator.clone());
    let keys = |config: &admin::Config| -> Vec<String> {
        config.faults(&api).into_iter().map(|(key, _)| key).collect()
    };
    let expected = ["listen", "operators.Ops", "operators.Ops.keys", "operators.Ops.scopes[0]"];
    assert_eq!(keys(&config), expected);
    operator.keys = vec![hikyaku::api::NewKey::generate().unwrap().hash];
    operator.scopes = Vec::new();
    config.listen = None;
    config.operators = [("ops".into(), operator.clone()), ("too".into(), operator)].into();
    assert_eq!(keys(&config), ["operators", "operators.too.keys[0]"]);
}
