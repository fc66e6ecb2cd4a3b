//! The front doors: HTTP. Every door ends in [`Dispatcher::accept`].

pub mod accept;
pub mod backend;
pub mod config;
pub mod keys;
mod limits;
pub mod problem;
mod serve;
mod tls;

pub use self::accept::Dispatcher;
pub use self::accept::Replies;
pub use self::accept::Unanswered;
pub use self::config::Config;
pub use self::keys::KeyHash;
pub use self::keys::NewKey;
pub use self::keys::Scope;
pub use self::limits::Standing;
pub use self::serve::serve;
pub use self::tls::Certificate;
pub use self::tls::TlsError;
