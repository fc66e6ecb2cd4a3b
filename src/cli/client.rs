//! A small HTTP client for the commands that talk to a running gateway.

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Method;
use hyper::Request;
use hyper_rustls::HttpsConnector;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// The largest answer that is read.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Where the gateway is, and who asks.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Server {
    /// The gateway's address.
    #[arg(long, env = "HIKYAKU_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// The API key.
    #[arg(long, env = "HIKYAKU_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// A client of one gateway.
#[derive(Clone)]
pub(super) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    server: Server,
}

/// An answer with its JSON body, `null` when it has none.
#[derive(Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Value,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The address is wrong.
    #[error("{server}: not an address: {source}")]
    Address {
        /// As given.
        server: String,
        /// Why.
        source: hyper::http::Error,
    },
    /// Nothing answers there.
    #[error("{server}: no answer: {detail}; is the gateway running there?")]
    Unreachable {
        /// As given.
        server: String,
        /// Why.
        detail: String,
    },
    /// The platform's certificates cannot be read.
    #[error("cannot read the platform's certificates: {0}")]
    Certificates(#[from] std::io::Error),
}

impl Client {
    /// A client of `server`.
    ///
    /// # Errors
    /// When the platform's certificates cannot be read.
    pub(super) fn new(server: Server) -> Result<Self, ClientError> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_platform_verifier(rustls::crypto::aws_lc_rs::default_provider())
            .map_err(std::io::Error::other)?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self { pool: Pool::builder(TokioExecutor::new()).build(connector), server })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// See [`ClientError`]; an answer that refuses is an answer.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        let server = self.server.server.trim_end_matches('/');
        let mut request = Request::builder().method(method).uri(format!("{server}{path}"));
        if let Some(token) = &self.server.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|source| ClientError::Address { server: server.to_owned(), source })?;
        self.answer(request).await
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let unreachable = |detail: String| ClientError::Unreachable {
            server: self.server.server.clone(),
            detail,
        };
        let response =
            self.pool.request(request).await.map_err(|error| unreachable(causes(&error)))?;
        let status = response.status().as_u16();
        let octets = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| unreachable(error.to_string()))?
            .to_bytes();
        let body = serde_json::from_slice(&octets).unwrap_or_else(|_| {
            if octets.is_empty() {
                Value::Null
            } else {
                Value::String(String::from_utf8_lossy(&octets).into_owned())
            }
        });
        Ok(Answer { status, body })
    }
}

impl Answer {
    /// Whether the gateway did what was asked.
    pub(super) const fn is_success(&self) -> bool {
        self.status < 300
    }
}

/// An error with everything that led to it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
