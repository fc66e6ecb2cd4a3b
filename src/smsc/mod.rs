//! The simulated carrier: one truth for the demo, the tests, and users' own CI.
//!
//! [`Model`] is its mind and [`Conversation`] one of its connections; both do no I/O, so the
//! simulation uses the very carrier that the demo shows, and the fuzzer talks to it.

mod config;
mod conversation;
mod fate;
mod memory;
mod model;
mod random;
mod receipt;
mod server;

pub use self::config::Config;
pub use self::config::Fault;
pub use self::config::FaultKind;
pub use self::config::IdForm;
pub use self::config::ReceiptForm;
pub use self::conversation::Conversation;
pub use self::conversation::Going;
pub use self::conversation::Sight;
pub use self::model::Action;
pub use self::model::Holds;
pub use self::model::Model;
pub use self::model::Seen;
pub use self::model::SessionId;
pub use self::model::Tally;
pub use self::server::Carrier;
pub use self::server::Server;
pub use self::server::StartError;
