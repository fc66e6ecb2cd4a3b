//! `hikyaku send`, `message` and `find`: a running gateway's messages.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use serde_json::Map;
use serde_json::Value;

use crate::cli::Failure;
use crate::cli::client::Answer;
use crate::cli::client::Client;
use crate::cli::client::Server;
use crate::cli::out;
use crate::cli::run::runtime;
use crate::message::Class;

#[derive(Debug, Args)]
pub(super) struct Send {
    #[command(flatten)]
    server: Server,
    /// The destination.
    to: String,
    /// The text.
    text: String,
    /// The sender.
    #[arg(long)]
    from: Option<String>,
    /// otp, transactional or marketing.
    #[arg(long, value_parser = class)]
    class: Option<Class>,
    /// How long it may be tried, such as 10m.
    #[arg(long)]
    ttl: Option<String>,
    /// The caller's own reference.
    #[arg(long)]
    client_ref: Option<String>,
    /// Tells what would be sent, and sends nothing.
    #[arg(long)]
    preview: bool,
    /// Waits so long for the message to end, such as 30s.
    #[arg(long)]
    wait: Option<String>,
    /// Prints the answers as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Message {
    #[command(flatten)]
    server: Server,
    /// The message's id, `msg_...`.
    id: String,
    /// Prints the answers as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Find {
    #[command(flatten)]
    server: Server,
    /// By destination.
    #[arg(long)]
    to: Option<String>,
    /// By the caller's own reference.
    #[arg(long)]
    client_ref: Option<String>,
    /// By the carrier's id.
    #[arg(long)]
    carrier_message_id: Option<String>,
    /// By campaign.
    #[arg(long)]
    campaign: Option<String>,
    /// By state.
    #[arg(long)]
    state: Option<String>,
    /// By carrier.
    #[arg(long)]
    carrier: Option<String>,
    /// Not older than this, RFC 3339.
    #[arg(long)]
    since: Option<String>,
    /// Older than this, RFC 3339.
    #[arg(long)]
    until: Option<String>,
    /// At most so many, up to 200.
    #[arg(long)]
    limit: Option<u16>,
    /// Goes on where an answer stopped: its `next_cursor`.
    #[arg(long)]
    cursor: Option<String>,
    /// Prints the answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn class(text: &str) -> Result<Class, String> {
    Class::ALL
        .into_iter()
        .find(|class| class.as_str() == text)
        .ok_or_else(|| "expected otp, transactional or marketing".to_owned())
}

impl Send {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        runtime()?.block_on(self.send())
    }

    async fn send(self) -> Result<ExitCode, Failure> {
        let mut body = Map::new();
        let class = self.class.map(|class| class.as_str().to_owned());
        let fields = [
            ("to", Some(self.to)),
            ("text", Some(self.text)),
            ("from", self.from),
            ("class", class),
            ("ttl", self.ttl),
            ("client_ref", self.client_ref),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                body.insert(name.to_owned(), Value::String(value));
            }
        }
        let client = Client::new(self.server)?;
        let path = if self.preview { "/v1/messages/preview" } else { "/v1/messages" };
        let answer = client.call(Method::POST, path, Some(&Value::Object(body)), &[]).await?;
        show(&answer, self.json)?;
        match (self.wait, answer.body.get("id").and_then(Value::as_str)) {
            (Some(wait), Some(id)) if answer.is_success() => {
                until_terminal(&client, id, &wait, self.json).await
            }
            _ => Ok(code(&answer)),
        }
    }
}

/// Polls with `?wait=` until the message is terminal, or `wait` brought no change.
async fn until_terminal(
    client: &Client,
    id: &str,
    wait: &str,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut last = String::new();
    loop {
        let path = format!("/v1/messages/{id}?wait={wait}");
        let answer = client.call(Method::GET, &path, None, &[]).await?;
        let state = answer.body.get("state").and_then(Value::as_str).unwrap_or_default().to_owned();
        let open = matches!(state.as_str(), "scheduled" | "queued" | "submitting" | "submitted");
        if !answer.is_success() || !open || state == last {
            show(&answer, json)?;
            return Ok(if open { ExitCode::FAILURE } else { code(&answer) });
        }
        last = state;
    }
}

impl Message {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        runtime()?.block_on(async {
            let client = Client::new(self.server)?;
            let path = format!("/v1/messages/{}", self.id);
            let answer = client.call(Method::GET, &path, None, &[]).await?;
            show(&answer, self.json)?;
            if !answer.is_success() {
                return Ok(code(&answer));
            }
            let answer = client.call(Method::GET, &format!("{path}/timeline"), None, &[]).await?;
            show(&answer, self.json)?;
            Ok(code(&answer))
        })
    }
}

impl Find {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let limit = self.limit.map(|limit| limit.to_string());
        let query = [
            ("to", self.to),
            ("client_ref", self.client_ref),
            ("carrier_message_id", self.carrier_message_id),
            ("campaign", self.campaign),
            ("state", self.state),
            ("carrier", self.carrier),
            ("since", self.since),
            ("until", self.until),
            ("limit", limit),
            ("cursor", self.cursor),
        ];
        let query: Vec<String> = query
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", escape(&value?))))
            .collect();
        runtime()?.block_on(async {
            let client = Client::new(self.server)?;
            let path = format!("/v1/messages?{}", query.join("&"));
            let answer = client.call(Method::GET, &path, None, &[]).await?;
            show(&answer, self.json)?;
            Ok(code(&answer))
        })
    }
}

/// Percent-encodes a query value (RFC 3986 §2.1).
fn escape(value: &str) -> String {
    let mut escaped = String::new();
    for octet in value.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            escaped.push(char::from(octet));
        } else {
            // Writing to a String does not fail.
            let _infallible = write!(escaped, "%{octet:02X}");
        }
    }
    escaped
}

fn code(answer: &Answer) -> ExitCode {
    if answer.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(answer: &Answer, json: bool) -> Result<(), Failure> {
    if json {
        out::say(&serde_json::to_string(&answer.body)?)?;
        return Ok(());
    }
    let mut text = String::new();
    if !answer.is_success() {
        text.push_str(&format!("refused with HTTP {}\n", answer.status));
    }
    write_value(&mut text, &answer.body, 0);
    out::say(&text)?;
    Ok(())
}

/// Indented `key  value` lines: what JSON says, for the eye.
fn write_value(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                match plain(value) {
                    Some(word) => text.push_str(&format!("{indent}{name:<20} {word}\n")),
                    None => {
                        text.push_str(&format!("{indent}{name}\n"));
                        write_value(text, value, depth + 1);
                    }
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                match plain(value) {
                    Some(word) => text.push_str(&format!("{indent}- {word}\n")),
                    None => {
                        text.push_str(&format!("{indent}-\n"));
                        write_value(text, value, depth + 1);
                    }
                }
            }
        }
        other => text.push_str(&format!("{indent}{other}\n")),
    }
}

/// The value on one line, when it fits one.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(word) => Some(word.clone()),
        Value::Object(fields) if fields.is_empty() => Some("{}".to_owned()),
        Value::Array(values) if values.is_empty() => Some("[]".to_owned()),
        Value::Object(_) | Value::Array(_) => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_value_is_escaped() {
        assert_eq!(escape("+81 90&x=é"), "%2B81%2090%26x%3D%C3%A9");
    }

    #[test]
    fn an_answer_is_written_as_indented_lines() {
        let mut text = String::new();
        let value = serde_json::json!({"id": "msg_1", "none": null, "list": [{"a": 1}, "b"]});
        write_value(&mut text, &value, 0);
        assert_eq!(
            text,
            "id                   msg_1\nlist\n  -\n    a                    1\n  - b\n"
        );
    }
}
