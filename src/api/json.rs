//! Answers as JSON.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;

use crate::api::problem::Code;
use crate::api::problem::Problem;

/// An answer of 200 with a value as its body.
///
/// The value is written to a `Vec`; axum's own type goes through a buffer that takes a call for
/// each token, which was a fifth of the work of a page of the feed.
pub(crate) struct Json<T>(pub(crate) T);

/// Octets that most answers have room in.
const ROOM: usize = 512;

/// Fields of a header that most answers have room in, those of the outer layers included: a map
/// that grows hashes all it holds anew.
const FIELDS: usize = 12;

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut octets = Vec::with_capacity(ROOM);
        if let Err(error) = serde_json::to_writer(&mut octets, &self.0) {
            tracing::error!(%error, "an answer cannot be written");
            return Problem::new(Code::InternalError, "the answer cannot be written")
                .into_response();
        }
        Written(octets).into_response()
    }
}

/// An answer of 200 whose body is these octets of JSON.
pub(crate) struct Written(pub(crate) Vec<u8>);

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.0));
        let mut fields = HeaderMap::with_capacity(FIELDS);
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.headers_mut() = fields;
        response
    }
}
