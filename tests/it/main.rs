//! The integration tests, one binary.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic fails the test, and the settings for tests cover test functions only"
)]

mod api;
mod archive;
mod authority;
mod config;
mod dispatch;
mod egress;
mod erasure;
mod feed;
mod foreign;
mod fuzz;
mod hostile;
mod http;
mod journal;
mod link;
mod malformed;
mod notify;
mod operators;
mod pdu_laws;
mod pdu_vectors;
mod process;
mod receipt_vectors;
mod route;
mod route_compose;
mod schema;
mod seal;
mod secrecy;
mod secrets;
mod session;
mod sim;
mod smsc;
mod text_laws;
mod text_vectors;
mod tidy;
mod torture;
mod upgrade;
mod vectors;
mod wrong_clock;
