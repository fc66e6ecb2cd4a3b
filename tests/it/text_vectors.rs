//! The vectors of texts and segments, and what must hold for every text.
#![expect(clippy::panic, reason = "a vector that cannot be read fails the test")]

use hikyaku::text::Coding;
use hikyaku::text::National;
use hikyaku::text::Policy;
use hikyaku::text::Segment;
use hikyaku::text::Shifts;
use hikyaku::text::SplitError;
use hikyaku::text::SplitOptions;
use hikyaku::text::Transport;
use hikyaku::text::measure;
use hikyaku::text::split;
use serde_json::Value;
use serde_json::json;

use crate::vectors;

#[test]
fn texts_split_as_the_vectors_say() {
    let mut wrong = Vec::new();
    for vector in vectors::load("split.jsonl") {
        let text = vector["text"].as_str().unwrap();
        let options = options(&vector["params"]);
        let found = outcome(split(text, &options));
        let expected = expectation(&vector["expect"]);
        let others = vector["expect"]["alternatives"].as_array();
        let right = found == expected
            || others.is_some_and(|others| others.iter().any(|other| expectation(other) == found));
        if !right {
            wrong.push(format!("{}\n  found    {found}\n  expected {expected}", vector["id"]));
        }
        if let Some(segments) = found["parts"].as_array() {
            assert_eq!(measure(text, &options).unwrap().segments, segments.len());
        }
    }
    assert!(wrong.is_empty(), "{} vectors:\n{}", wrong.len(), wrong.join("\n"));
}

fn options(params: &Value) -> SplitOptions {
    let language =
        |name: &str| National::from_id(u8::try_from(params[name].as_u64().unwrap()).unwrap());
    let transport = match (params["transport"].as_str().unwrap(), params["ref_bits"].as_u64()) {
        ("udh", Some(8)) => Transport::Udh8,
        ("udh", Some(16)) => Transport::Udh16,
        ("sar", Some(8)) => Transport::Sar,
        ("sar", Some(16)) => Transport::Sar16,
        ("payload", _) => Transport::Payload,
        other => panic!("no transport {other:?}"),
    };
    SplitOptions {
        shifts: Shifts { locking: language("lock"), single: language("single") },
        policy: match params["policy"].as_str().unwrap() {
            "graphemes" => Policy::Graphemes,
            _ => Policy::Units,
        },
        transport,
        reference: u16::try_from(params["ref"].as_u64().unwrap()).unwrap(),
        max_segments: u8::try_from(params["max_segments"].as_u64().unwrap()).unwrap(),
        packed: params["packed"].as_bool().unwrap(),
        ..SplitOptions::new(match params["coding"].as_str().unwrap() {
            "gsm7" => Coding::Gsm7,
            "latin1" => Coding::Latin1,
            "ascii" => Coding::Ascii,
            "ucs2" => Coding::Ucs2,
            other => panic!("no coding {other}"),
        })
    }
}

fn outcome(result: Result<Vec<Segment>, SplitError>) -> Value {
    match result {
        Ok(segments) => json!({
            "udhi": segments.iter().all(Segment::udhi),
            "parts": segments.iter().map(part).collect::<Vec<_>>(),
        }),
        Err(SplitError::Unencodable { index, character }) => {
            json!({ "error": "unencodable", "index": index, "char": character })
        }
        Err(SplitError::TooLong { needed, .. }) => {
            json!({ "error": "too_long", "segments_needed": needed })
        }
        Err(error) => panic!("{error}"),
    }
}

fn part(segment: &Segment) -> Value {
    let mut part = json!({
        "udh_hex": vectors::hex(segment.udh()),
        "payload_hex": vectors::hex(segment.payload()),
        "units": segment.units,
        "sm_length": segment.user_data.len(),
    });
    if let Some(sar) = segment.sar {
        part["sar"] = json!({ "ref": sar.reference, "total": sar.total, "seq": sar.seq });
    }
    part
}

/// What a vector expects, without what only helps to read it.
fn expectation(expect: &Value) -> Value {
    let mut expect = expect.clone();
    let fields = expect.as_object_mut().unwrap();
    fields.retain(|name, _| name != "alternatives" && name != "segments");
    for part in fields.get_mut("parts").and_then(Value::as_array_mut).into_iter().flatten() {
        part.as_object_mut().unwrap().retain(|name, value| name != "text" && !value.is_null());
    }
    expect
}
