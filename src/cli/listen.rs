//! `hikyaku listen`: receives webhooks, checks their signatures and prints them.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::routing::post;
use clap::Args;
use tokio::net::TcpListener;

use crate::cli::Failure;
use crate::cli::out;
use crate::cli::run::interrupted;
use crate::cli::run::runtime;
use crate::clock::Clock;
use crate::notify::ID_HEADER;
use crate::notify::SIGNATURE_HEADER;
use crate::notify::Secret;
use crate::notify::Signed;
use crate::notify::TIMESTAMP_HEADER;

/// The largest webhook that is taken.
const MAX_BODY: usize = 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct Listen {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// The endpoint's secret, `whsec_...`; without it nothing is checked.
    #[arg(long, env = "HIKYAKU_WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<Secret>,
    /// Answers so instead of 204, to see retries.
    #[arg(long, value_parser = status)]
    answer: Option<StatusCode>,
}

fn status(text: &str) -> Result<StatusCode, String> {
    text.parse().map_err(|_| "expected an HTTP status such as 500".to_owned())
}

/// What every request is judged by.
struct Judge {
    secret: Option<Secret>,
    answer: StatusCode,
    clock: Clock,
}

impl Listen {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        runtime()?.block_on(async {
            let answer = self.answer.unwrap_or(StatusCode::NO_CONTENT);
            let judge = Judge { secret: self.secret, answer, clock: Clock::start() };
            let router = Router::new()
                .fallback(post(take))
                .layer(DefaultBodyLimit::max(MAX_BODY))
                .with_state(Arc::new(judge));
            let listener = TcpListener::bind(self.listen)
                .await
                .map_err(|error| format!("cannot listen on {}: {error}", self.listen))?;
            out::say(&format!("listening on http://{}", listener.local_addr()?))?;
            let stopped = async {
                // Without signals only a kill ends this.
                let _no_signals = interrupted().await;
            };
            axum::serve(listener, router).with_graceful_shutdown(stopped).await?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

async fn take(
    State(judge): State<Arc<Judge>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, (StatusCode, String)> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id = header(ID_HEADER).unwrap_or("-").to_owned();
    if let Some(secret) = &judge.secret {
        let signed = Signed {
            id: header(ID_HEADER),
            timestamp: header(TIMESTAMP_HEADER),
            signature: header(SIGNATURE_HEADER),
            body: &body,
        };
        if let Err(error) = secret.verify(judge.clock.now(), &signed) {
            print(&format!("refused {id}: {error}"));
            return Err((StatusCode::UNAUTHORIZED, error.to_string()));
        }
    }
    print(&format!("{id} {}", String::from_utf8_lossy(&body)));
    Ok(judge.answer)
}

fn print(line: &str) {
    if let Err(error) = out::say(line) {
        out::complain(&format!("hikyaku: {error}"));
    }
}
