//! The body of the fuzz target `api`: a request to the submit API, through its router.
//!
//! The house around the API is that of the tests; a script says what is asked of it.

use std::cell::RefCell;

use axum::body::Body;
use axum::http::Request;
use axum::http::StatusCode;
use hikyaku::api::ENDPOINTS;
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;

use super::house::Answer;
use super::house::House;
use super::script::Script;

/// How many requests a house answers: what it accepts stays in its memory.
const MOST: u32 = 5_000;

struct Open {
    runtime: Runtime,
    house: House,
    left: u32,
}

thread_local! {
    static OPEN: RefCell<Option<Open>> = const { RefCell::new(None) };
}

const CLIENTS: [&str; 8] = ["shop", "full", "other", "tight", "small", "noc", "nothing", ""];
const FIELDS: [&str; 8] = [
    "idempotency-key",
    "content-type",
    "authorization",
    "last-event-id",
    "content-encoding",
    "content-length",
    "x-request-id",
    "accept",
];

/// Asks, and checks that the answer is one that the API may give.
pub(crate) fn run(octets: &[u8]) {
    OPEN.with_borrow_mut(|open| {
        if open.as_ref().is_none_or(|open| open.left == 0) {
            drop(open.take());
            let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
            let runtime = runtime.unwrap();
            let house = runtime.block_on(async { House::new() });
            *open = Some(Open { runtime, house, left: MOST });
        }
        if let Some(open) = open {
            open.left -= 1;
            open.runtime.block_on(ask(&open.house, octets));
        }
    });
}

async fn ask(house: &House, octets: &[u8]) {
    let mut script = Script::new(octets);
    let endpoint = &ENDPOINTS[usize::from(script.octet()) % ENDPOINTS.len()];
    let client = CLIENTS[usize::from(script.below(8))];
    let path = filled(endpoint.path, &mut script);
    let mut line = format!("{} {path}", endpoint.method);
    let query = String::from_utf8_lossy(script.octets()).into_owned();
    if !query.is_empty() {
        line = format!("{line}?{query}");
    }
    let (_, uri) = line.split_once(' ').unwrap();
    if uri.parse::<axum::http::Uri>().is_err() || uri.contains("wait=") || uri.contains("/stream") {
        // Nothing that a server is handed, or something that waits.
        return;
    }
    let mut request = house.request(client, &line);
    let mut is_json = false;
    for _ in 0..script.below(4) {
        let name = FIELDS[usize::from(script.below(8))];
        is_json |= name == "content-type";
        let value = axum::http::HeaderValue::from_bytes(script.octets());
        if let Ok(value) = value {
            request = request.header(name, value);
        }
    }
    if !is_json {
        request = request.header("content-type", "application/json");
    }
    let body = std::mem::take(&mut script.rest);
    let Ok(request): Result<Request<Body>, _> = request.body(Body::from(body.to_vec())) else {
        return;
    };
    let answer = house.send(request).await;
    check(endpoint.path, &answer);
    check_taken(house, body, &answer);
}

/// The path with something in the place of its parameters.
fn filled(path: &str, script: &mut Script<'_>) -> String {
    let mut filled = String::new();
    for part in path.split('/').skip(1) {
        filled.push('/');
        if part.starts_with('{') {
            let octets = script.octets();
            filled.push_str(&String::from_utf8_lossy(octets).replace(['/', '?', '#', '%'], "_"));
        } else {
            filled.push_str(part);
        }
    }
    filled
}

fn check(path: &str, answer: &Answer) {
    let status = answer.status;
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{path}: {answer:?}");
    if status.is_client_error() || status.is_server_error() {
        assert!(!answer.code().is_empty());
        let errors = answer.json()["errors"].as_array().cloned().unwrap_or_default();
        assert!(errors.iter().all(|error| error["code"].is_string()), "{answer:?}");
        assert!(answer.body.len() < 1 << 20, "a refusal of {} octets", answer.body.len());
    }
}

/// What was accepted says the same as what was asked.
fn check_taken(house: &House, body: &[u8], answer: &Answer) {
    if answer.status != StatusCode::ACCEPTED {
        return;
    }
    let asked: Value = serde_json::from_slice(body).unwrap();
    let taken = answer.json();
    assert!(taken["id"].as_str().unwrap().starts_with("msg_"));
    assert!(taken["to"].as_str().unwrap().starts_with('+'));
    assert!(taken["segments"].as_u64().unwrap() >= 1);
    for name in ["client_ref", "class"] {
        assert!(asked[name].is_null() || taken[name] == asked[name], "{name}: {taken}");
    }
    let _known = house;
}
