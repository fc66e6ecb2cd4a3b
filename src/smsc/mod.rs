//! The simulated carrier: one truth for the demo, the tests, and users' own CI.
//!
//! [`Model`] is its mind and does no I/O, so the simulation uses the very carrier that the demo
//! shows.

mod config;
mod model;
mod receipt;
mod server;

pub use self::config::Config;
pub use self::config::Fault;
pub use self::config::FaultKind;
pub use self::config::IdForm;
pub use self::config::ReceiptForm;
pub use self::model::Action;
pub use self::model::Model;
pub use self::model::Seen;
pub use self::model::SessionId;
pub use self::model::Tally;
pub use self::server::Carrier;
pub use self::server::Server;
pub use self::server::Sight;
pub use self::server::StartError;
