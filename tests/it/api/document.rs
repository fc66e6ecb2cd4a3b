//! The OpenAPI document and its pages.

use axum::body::Body;
use hikyaku::api::ENDPOINTS;
use serde_json::Value;
use serde_json::json;

use super::house::House;

async fn document() -> Value {
    House::new().get("", "/openapi.json").await.json()
}

/// Every operation as (`GET /path`, operation).
fn operations(document: &Value) -> Vec<(String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((format!("{} {path}", method.to_uppercase()), operation.clone()));
        }
    }
    operations
}

#[tokio::test]
async fn the_document_is_as_it_was_reviewed() {
    let document = House::new().get("", "/openapi.json").await.text();
    insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("openapi", document);
    });
}

#[tokio::test]
async fn every_endpoint_stands_in_the_document_and_nothing_else_does() {
    let document = document().await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut documented: Vec<_> = operations(&document).into_iter().map(|(line, _)| line).collect();
    documented.sort();
    let page =
        |path: &str| path.starts_with("/docs") || path == "/openapi.json" || path == "/problems";
    let mut table: Vec<_> = ENDPOINTS
        .iter()
        .filter(|endpoint| !page(endpoint.path))
        .map(|endpoint| format!("{} {}", endpoint.method, endpoint.path))
        .collect();
    table.sort();
    assert_eq!(documented, table);
}

#[tokio::test]
async fn every_response_is_described_and_every_error_is_a_problem() {
    let document = document().await;
    for (line, operation) in operations(&document) {
        assert!(operation["operationId"].is_string(), "{line} has no operationId");
        assert!(operation["summary"].is_string(), "{line} has no summary");
        for (status, response) in operation["responses"].as_object().unwrap() {
            let description = response["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{line} {status} has no description");
            if status.as_str() >= "400" {
                let schema = &response["content"]["application/problem+json"]["schema"];
                let expected = json!({ "$ref": "#/components/schemas/Problem" });
                assert_eq!(*schema, expected, "{line} {status}");
            }
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{line} {}", parameter["name"]);
        }
    }
}

#[tokio::test]
async fn every_operation_says_which_scope_it_needs_or_that_it_is_open() {
    let document = document().await;
    let scheme = &document["components"]["securitySchemes"]["key"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
    for endpoint in ENDPOINTS {
        let method = endpoint.method.to_lowercase();
        let operation = &document["paths"][endpoint.path][&method];
        if operation.is_null() {
            continue;
        }
        let expected = match endpoint.scope {
            Some(scope) => json!([{ "key": [scope.as_str()] }]),
            None => json!([]),
        };
        assert_eq!(operation["security"], expected, "{} {}", endpoint.method, endpoint.path);
        let keyed = endpoint.scope.is_some();
        assert_eq!(operation["responses"].get("401").is_some(), keyed, "{}", endpoint.path);
    }
}

/// Every `$ref` leads somewhere, and every property of every schema is described.
#[tokio::test]
async fn every_reference_leads_somewhere_and_every_property_is_described() {
    let document = document().await;
    let mut waiting = vec![&document];
    while let Some(value) = waiting.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let found = document.pointer(reference.trim_start_matches('#'));
            assert!(found.is_some(), "{reference}");
        }
        match value {
            Value::Object(fields) => waiting.extend(fields.values()),
            Value::Array(items) => waiting.extend(items),
            _ => {}
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (property, schema) in schema["properties"].as_object().into_iter().flatten() {
            let text = schema.to_string();
            let described = text.contains("description") || text.contains("$ref");
            assert!(described, "{name}.{property}: {text}");
        }
    }
}

#[tokio::test]
async fn the_pages_load_nothing_from_outside() {
    let house = House::new();
    let moved = house.get("", "/docs").await;
    assert_eq!(
        (moved.status.as_u16(), &moved.headers["location"]),
        (308, &"/docs/".parse().unwrap())
    );
    let mut waiting = vec!["/docs/".to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = waiting.pop() {
        let answer = house.get("", &path).await;
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        assert!(!policy.contains("http"), "{policy}");
        seen.push(path.clone());
        if path != "/docs/" {
            continue;
        }
        let page = answer.text();
        for part in page.split(['"', '\'']) {
            let is_file = part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".png");
            assert!(!part.starts_with("http") && !part.starts_with("//"), "{part}");
            if is_file {
                waiting.push(format!("/docs/{}", part.trim_start_matches("./")));
            }
        }
    }
    assert!(seen.len() >= 4, "{seen:?}");
    let script = house.get("", "/docs/swagger-initializer.js").await.text();
    assert!(script.contains("/openapi.json") && !script.contains("https://"), "{script}");
}

#[tokio::test]
async fn a_problems_type_leads_to_its_words() {
    let house = House::new();
    let answer = house.get("shop", "/v1/nothing").await.json();
    let (path, anchor) = answer["type"].as_str().unwrap().split_once('#').unwrap();
    let page = house.get("", path).await.text();
    assert!(page.contains(&format!("id=\"{anchor}\"")));
}

#[tokio::test]
async fn an_answer_names_its_request_and_is_kept_by_nobody() {
    let house = House::new();
    let request = house
        .request("shop", "GET /v1/webhooks")
        .header("x-request-id", "trace-7")
        .body(Body::empty())
        .unwrap();
    let answer = house.send(request).await;
    assert_eq!(answer.headers["x-request-id"], "trace-7");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    let refused = house.get("", "/v1/webhooks").await;
    let id = refused.headers["x-request-id"].to_str().unwrap();
    assert_eq!(refused.json()["instance"], format!("urn:uuid:{id}"));
    let metrics = house.get("", "/metrics").await;
    assert_eq!(metrics.text(), "# EOF\n");
    assert!(metrics.headers["content-type"].to_str().unwrap().contains("openmetrics"));
}
