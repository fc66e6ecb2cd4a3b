//! The integration tests, one binary.
#![expect(
    clippy::unwrap_used,
    reason = "a panic fails the test, and the setting for tests covers test functions only"
)]

mod journal;
mod pdu_vectors;
mod tidy;
mod vectors;
