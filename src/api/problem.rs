//! Refusals: one RFC 9457 problem for every way in which the API says no.

use std::borrow::Cow;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::limits::Standing;

/// What handlers refuse with.
pub type Refused = Box<Problem>;

/// A refusal (RFC 9457), as `application/problem+json`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem; the page that it points to explains the code.
    #[serde(rename = "type")]
    #[schema(rename = "type", format = "uri-reference", example = "/problems#text_too_long")]
    kind: String,
    /// The kind in words; the same for each occurrence.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong this time.
    detail: Cow<'static, str>,
    /// Names this occurrence; the log has it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri")]
    instance: Option<String>,
    /// The stable code for programs.
    code: Code,
    /// Every fault that was found in the request, in its order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    /// Whether the same request may succeed later.
    retryable: bool,
    #[serde(skip)]
    retry_after: Option<Duration>,
    #[serde(skip)]
    standing: Option<Standing>,
    #[serde(skip)]
    challenge: bool,
}

/// One fault of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// The part of the body (RFC 6901); absent when the fault is elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/to")]
    pub pointer: Option<String>,
    /// The query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<Cow<'static, str>>,
    /// The header field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<&'static str>,
    /// The code of this fault.
    pub code: Code,
    /// What was expected and what was found.
    pub detail: String,
    /// `text_too_long`: the segments that the text needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed: Option<u64>,
    /// `text_too_long`: the segments that are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<u64>,
    /// `unencodable_text`: the place of the character, in characters from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// `unencodable_text`: the character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub character: Option<char>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal, $retryable:literal, $title:literal;)+) => {
        /// The stable code of a refusal.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[$doc])* $name,)+
        }

        impl Code {
            /// Every code, by status.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code as programs read it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            const fn number(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// Whether the same request may succeed later.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)+ }
            }

            /// The kind of problem in words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

codes! {
    /// The body cannot be read as what the endpoint takes.
    #[default]
    MalformedBody = "malformed_body", 400, false, "The body cannot be read";
    /// The octets are no HTTP request.
    MalformedRequest = "malformed_request", 400, false, "This is no HTTP request";
    /// A field or query parameter that the API does not have.
    UnknownField = "unknown_field", 400, false, "The request has a field that does not exist";
    /// No valid API key.
    Unauthenticated = "unauthenticated", 401, false, "A valid API key is needed";
    /// The key lacks the scope.
    ScopeMissing = "scope_missing", 403, false, "The key may not do this";
    /// The key may not use the sender.
    SenderNotAllowed = "sender_not_allowed", 403, false, "The key may not use this sender";
    /// The key may not use the route.
    RouteNotAllowed = "route_not_allowed", 403, false, "The key may not use this route";
    /// The key may not send in the class.
    ClassNotAllowed = "class_not_allowed", 403, false, "The key may not send in this class";
    /// The key may not send to the number.
    DestinationNotAllowed = "destination_not_allowed", 403, false, "The key may not send to this destination";
    /// Nothing is here, or nothing that the key may see.
    NotFound = "not_found", 404, false, "There is nothing here";
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, false, "The path does not take this method";
    /// The body did not come in time.
    RequestTimeout = "request_timeout", 408, true, "The request did not come in time";
    /// The first request with the same idempotency key still runs.
    IdempotencyInProgress = "idempotency_in_progress", 409, true, "The first request with this idempotency key still runs";
    /// A carrier may have the message already.
    TooLateToCancel = "too_late_to_cancel", 409, false, "The message is on its way";
    /// The body is over the limit.
    BodyTooLarge = "body_too_large", 413, false, "The body is too large";
    /// The request's line is over the limit.
    UriTooLong = "uri_too_long", 414, false, "The request's line is too long";
    /// The body is no JSON by its media type.
    UnsupportedMediaType = "unsupported_media_type", 415, false, "The body must be JSON";
    /// No number that a message can be sent to.
    InvalidTo = "invalid_to", 422, false, "The destination is no phone number";
    /// No sender.
    InvalidFrom = "invalid_from", 422, false, "The sender is not valid";
    /// A field has a value that it cannot have.
    InvalidField = "invalid_field", 422, false, "A field has a value that it cannot have";
    /// The text needs more segments than allowed.
    TextTooLong = "text_too_long", 422, false, "The text is too long";
    /// The carrier cannot carry a character of the text.
    UnencodableText = "unencodable_text", 422, false, "The text has a character that cannot be sent";
    /// The message would end before it could be sent.
    ExpiredOnArrival = "expired_on_arrival", 422, false, "The message would expire before it is sent";
    /// No route takes the message.
    NoRoute = "no_route", 422, false, "No route takes the message";
    /// The idempotency key was used for another request.
    IdempotencyKeyReused = "idempotency_key_reused", 422, false, "The idempotency key was used for another request";
    /// The header is over the limit.
    HeaderTooLarge = "header_too_large", 431, false, "The header is too large";
    /// The key's rate is used up.
    RateLimited = "rate_limited", 429, true, "Too many requests";
    /// The key's daily quota is used up.
    QuotaExceeded = "quota_exceeded", 429, true, "The daily quota is used up";
    /// A fault of ours.
    InternalError = "internal_error", 500, true, "The gateway failed";
    /// Nothing can be written or read safely now: nothing was done.
    StoreUnavailable = "store_unavailable", 503, true, "The store is not available";
    /// It was handed over and no answer came: it may be done all the same.
    NotConfirmed = "not_confirmed", 503, true, "It is not known whether this was done";
    /// Too much is waiting already.
    QueueFull = "queue_full", 503, true, "The gateway is full";
    /// The gateway is stopping.
    Draining = "draining", 503, true, "The gateway is stopping";
}

impl Code {
    /// The HTTP status that goes with it.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// How long a client should wait that was refused with this code and no closer time.
    const fn retry_after(self) -> Option<Duration> {
        match self.number() {
            409 if self.is_retryable() => Some(Duration::from_secs(1)),
            503 => Some(Duration::from_secs(2)),
            _ => None,
        }
    }
}

impl Fault {
    /// A fault of the part of the body that `pointer` names (RFC 6901).
    pub fn at(code: Code, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            code,
            detail: shorten(detail.into()),
            ..Self::default()
        }
    }

    /// A fault of a query parameter.
    pub fn parameter(
        code: Code,
        name: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        let detail = shorten(detail.into());
        Self { parameter: Some(name.into()), code, detail, ..Self::default() }
    }

    /// A fault of a header field.
    pub fn header(code: Code, name: &'static str, detail: impl Into<String>) -> Self {
        Self { header: Some(name), code, detail: shorten(detail.into()), ..Self::default() }
    }
}

/// An answer repeats at most this much of what it refuses.
fn shorten(mut detail: String) -> String {
    const MOST: usize = 300;
    if detail.len() > MOST {
        detail.truncate(detail.floor_char_boundary(MOST));
        detail.push('…');
    }
    detail
}

impl Problem {
    /// A problem with this code; `detail` says what is wrong this time.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Refused {
        Box::new(Self {
            kind: format!("/problems#{}", code.as_str()),
            title: code.title(),
            status: code.number(),
            detail: detail.into(),
            instance: None,
            code,
            errors: Vec::new(),
            retryable: code.is_retryable(),
            retry_after: code.retry_after(),
            standing: None,
            challenge: false,
        })
    }

    /// A problem of one fault.
    pub fn of(fault: Fault) -> Refused {
        Self::of_all(vec![fault])
    }

    /// A problem of all the faults of one request.
    ///
    /// Its code is that of the first of the gravest faults: one that makes the request unreadable
    /// (400) comes before one that forbids it (403), and that before one of a value (422).
    pub fn of_all(errors: Vec<Fault>) -> Refused {
        let gravest = errors.iter().min_by_key(|fault| fault.code.number());
        let (code, detail) = match gravest {
            Some(fault) => (fault.code, fault.detail.clone()),
            None => (Code::MalformedBody, String::new()),
        };
        let mut problem = Self::new(code, detail);
        problem.errors = errors;
        problem
    }

    /// A 401 with the challenge that it needs (RFC 9110 §11.6.1).
    pub fn unauthenticated(detail: &'static str) -> Refused {
        let mut problem = Self::new(Code::Unauthenticated, detail);
        problem.challenge = true;
        problem
    }

    /// Says when to come back.
    pub fn retry_after(mut self: Box<Self>, wait: Duration) -> Refused {
        self.retry_after = Some(wait);
        self
    }

    /// Says how much of which limit is left.
    pub fn standing(mut self: Box<Self>, standing: Standing) -> Refused {
        self.retry_after = Some(standing.retry_after());
        self.standing = Some(standing);
        self
    }

    /// Names the occurrence.
    pub fn instance(mut self: Box<Self>, instance: String) -> Refused {
        self.instance = Some(instance);
        self
    }

    /// Puts `prefix` before the pointer of each fault, for a message inside a larger body.
    pub fn below(mut self: Box<Self>, prefix: &str) -> Refused {
        for fault in &mut self.errors {
            if let Some(pointer) = &mut fault.pointer {
                pointer.insert_str(0, prefix);
            }
        }
        self
    }

    /// The code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Every fault that was found.
    pub fn errors(&self) -> &[Fault] {
        &self.errors
    }

    /// The response with its body and header fields.
    pub fn render(&self) -> Response {
        let body = serde_json::to_vec(self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after {
            let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs.max(1)));
        }
        if let Some(standing) = &self.standing {
            standing.write(headers);
        }
        if self.challenge {
            let challenge = HeaderValue::from_static("Bearer realm=\"hikyaku\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Hands the problem to the layer that renders it, which knows the request's id.
impl IntoResponse for Box<Problem> {
    fn into_response(self) -> Response {
        (self.code.status(), Extension(self)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_as_its_word() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..=599).contains(&code.number()), "{}", code.as_str());
        }
    }

    #[test]
    fn the_gravest_fault_names_the_problem() {
        let problem = Problem::of_all(vec![
            Fault::at(Code::InvalidTo, "/to", "a"),
            Fault::at(Code::UnknownField, "/x", "b"),
            Fault::at(Code::ClassNotAllowed, "/class", "c"),
        ]);
        assert_eq!(problem.code(), Code::UnknownField);
        assert_eq!(problem.detail, "b");
        assert_eq!(problem.errors().len(), 3);
    }

    #[test]
    fn an_answer_repeats_only_a_little_of_what_it_refuses() {
        let fault = Fault::at(Code::InvalidField, "/text", "あ".repeat(10_000));
        assert!(fault.detail.len() < 310);
    }
}
