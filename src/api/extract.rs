//! Requests taken apart: bodies within their limits, query parameters, header fields.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::extract::Query;
use axum::http::HeaderMap;
use axum::http::header;
use axum::http::request::Parts;
use http_body_util::BodyExt;
use http_body_util::Limited;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::api::client::Client;
use crate::api::config::Limits;
use crate::api::keys::Scope;
use crate::api::problem::Code;
use crate::api::problem::Fault;
use crate::api::problem::Problem;
use crate::api::problem::Refused;

/// Who calls; the layer that checks keys puts it there.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: Arc<Client>,
}

impl Caller {
    /// Whether texts and full numbers may be shown.
    pub(crate) fn reads_content(&self) -> bool {
        self.client.has(Scope::MessagesReadContent)
    }

    /// The client whose messages may be read; none when it may read all.
    pub(crate) fn owner(&self) -> Option<&str> {
        if self.client.has(Scope::Admin) { None } else { Some(&self.client.name) }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::unauthenticated("this needs an API key"))
    }
}

/// Reads bodies; together they hold at most so many octets of memory.
pub(crate) struct Bodies {
    /// In units of [`UNIT`] octets.
    room: Arc<Semaphore>,
    timeout: Duration,
}

const UNIT: u32 = 1_024;

/// A body that has come whole.
pub(crate) struct Octets {
    pub(crate) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Bodies {
    pub(crate) fn new(limits: &Limits) -> Self {
        let units = usize::try_from(limits.bodies_octets / UNIT).unwrap_or(usize::MAX);
        let room = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        Self { room, timeout: *limits.body_timeout }
    }

    /// Reads a JSON body of at most `most` octets.
    ///
    /// # Errors
    /// When it is no JSON by its media type, too large, or does not come in time.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        most: u32,
    ) -> Result<Octets, Refused> {
        check_media_type(headers)?;
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
            .map_or(most, |octets| u32::try_from(octets).unwrap_or(u32::MAX));
        if announced > most {
            return Err(too_large(most));
        }
        let room = Arc::clone(&self.room).acquire_many_owned(announced / UNIT + 1);
        let Ok(Ok(room)) = timeout(self.timeout, room).await else {
            return Err(Problem::new(Code::QueueFull, "too many large requests at once"));
        };
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        match timeout(self.timeout, Limited::new(body, limit).collect()).await {
            Ok(Ok(whole)) => Ok(Octets { bytes: whole.to_bytes(), _room: room }),
            Ok(Err(fault)) if fault.is::<http_body_util::LengthLimitError>() => {
                Err(too_large(most))
            }
            Ok(Err(_)) => Err(Problem::new(Code::MalformedBody, "the body broke off")),
            Err(_) => Err(Problem::new(
                Code::RequestTimeout,
                format!("the body did not come within {:?}", self.timeout),
            )),
        }
    }
}

fn too_large(most: u32) -> Refused {
    Problem::new(Code::BodyTooLarge, format!("a body here is at most {most} octets"))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Refused> {
    let refuse = |detail: &'static str| Err(Problem::new(Code::UnsupportedMediaType, detail));
    if headers.contains_key(header::CONTENT_ENCODING) {
        return refuse("send the body as it is, without a Content-Encoding");
    }
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let Some(value) = value else { return refuse("say Content-Type: application/json") };
    let mut parts = value.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let json = media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    if !json {
        return refuse("say Content-Type: application/json");
    }
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("charset").then(|| value.trim_matches('"').to_owned())
    });
    match charset {
        Some(charset) if !charset.eq_ignore_ascii_case("utf-8") => {
            refuse("JSON is UTF-8 (RFC 8259 §8.1)")
        }
        _ => Ok(()),
    }
}

/// Query parameters, taken one by one; what is left over is refused.
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    faults: Vec<Fault>,
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        match Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) {
            Ok(Query(pairs)) => Ok(Self { pairs, faults: Vec::new() }),
            Err(_) => Err(Problem::new(Code::MalformedBody, "the query cannot be read")),
        }
    }
}

impl Params {
    /// The parameter's text.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        let place = self.pairs.iter().position(|(other, _)| other == name)?;
        let (_, value) = self.pairs.swap_remove(place);
        if self.pairs.iter().any(|(other, _)| other == name) {
            self.fault(name, "given more than once");
            self.pairs.retain(|(other, _)| other != name);
        }
        Some(value)
    }

    /// The parameter's value as `parse` reads it.
    pub(crate) fn read<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(name, error.to_string());
                None
            }
        }
    }

    /// The parameter's value in the text form of its type.
    pub(crate) fn parse<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Option<T> {
        self.read(name, str::parse)
    }

    /// A fault of a parameter's value.
    pub(crate) fn fault(&mut self, name: &'static str, detail: impl Into<String>) {
        self.faults.push(Fault::parameter(Code::InvalidField, name, detail));
    }

    /// The end of what the endpoint takes.
    ///
    /// # Errors
    /// Every fault, and every parameter that the endpoint does not have.
    pub(crate) fn finish(mut self) -> Result<(), Refused> {
        for (name, _) in self.pairs {
            let name: Cow<'static, str> = name.chars().take(64).collect::<String>().into();
            let detail = "this endpoint has no such parameter";
            self.faults.push(Fault::parameter(Code::UnknownField, name, detail));
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::of_all(self.faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn media(value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
        check_media_type(&headers).is_ok()
    }

    #[test]
    fn only_json_in_utf_8_is_read() {
        assert!(media("application/json"));
        assert!(media("Application/JSON; charset=\"UTF-8\""));
        assert!(media("application/vnd.shop+json"));
        assert!(!media("text/plain"));
        assert!(!media("application/jsonp"));
        assert!(!media("application/json; charset=shift_jis"));
        assert!(check_media_type(&HeaderMap::new()).is_err());
    }

    fn params(query: &str) -> Params {
        let uri = format!("/x?{query}").parse().unwrap();
        let Query(pairs) = Query::try_from_uri(&uri).unwrap();
        Params { pairs, faults: Vec::new() }
    }

    #[test]
    fn every_bad_parameter_is_named() {
        let mut params = params("limit=x&after=1&after=2&surprise=%E9%A3%9B");
        assert_eq!(params.parse::<u16>("limit"), None);
        assert_eq!(params.text("after").as_deref(), Some("1"));
        assert_eq!(params.text("wait"), None);
        let problem = params.finish().unwrap_err();
        let named: Vec<_> = problem.errors().iter().map(|f| f.parameter.as_deref()).collect();
        assert_eq!(named, [Some("limit"), Some("after"), Some("surprise")]);
        assert_eq!(problem.code(), Code::UnknownField);
    }
}
