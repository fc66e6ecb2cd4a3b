//! The submit API: through its router, over a real archive and a stand-in for the dispatcher, and
//! over real sockets where the limits of the server are meant.
#![expect(clippy::disallowed_methods, reason = "tests run tasks and look at the clock")]

mod access;
mod admin;
mod document;
mod feed;
pub(crate) mod house;
mod messages;
mod problems;
mod reading;
mod sockets;
mod webhooks;
