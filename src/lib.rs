//! hikyaku, an SMPP gateway that loses nothing: submit, carrier, receipt, fallback.
//!
//! # The map, in reading order
//!
//! The **core** computes. It opens no socket and no file, reads no clock and starts no task: `now`
//! is an argument, events go in, effects come out.
//!
//! | module | knows |
//! |---|---|
//! | [`time`] | the one clock value that the core is told |
//! | [`pdu`] | SMPP octets and what they mean |
//! | [`text`] | characters and the segments that carry them |
//! | [`session`] | one bind, as ESME or as SMSC |
//! | [`message`] | the nouns that outlive the process: ids, submissions, records |
//! | [`receipt`] | a delivery receipt in any of its forms |
//! | [`route`] | which carrier first, which next, after what, how soon |
//! | [`dispatch`] | the life of all live messages |
//!
//! The **shell** waits, reads and writes.
//!
//! | module | knows |
//! |---|---|
//! | [`clock`] | the time that the core is told |
//! | [`seal`] | the keys of what lies on the disk |
//! | [`tls`] | certificates and keys on disk |
//! | [`journal`] | what survives a crash |
//! | [`archive`] | finished messages and events, for people |
//! | [`link`] | connections to carriers, one task a bind |
//! | [`notify`] | webhooks and the event feed |
//! | [`api`] | the front doors |
//! | [`ops`] | metrics, health, logs |
//! | [`smsc`] | the simulated carrier |
//! | [`config`] | the file as written, and what it means |
//! | [`gateway`] | builds all, spawns all, drains all |
//! | [`cli`] | the subcommands |
//!
//! # Promises
//!
//! 1. HTTP 202 only after the accepted record is on disk; `deliver_sm_resp` only after the
//!    receipt's record is.
//! 2. Every accepted message ends in exactly one terminal state, and its owner is told.
//! 3. A message goes to a second carrier only when the first refused it, never saw it, or a named
//!    policy says so. No answer is a third outcome, *unknown*, and not a failure.
//! 4. After a crash at any instant nothing accepted is lost; a `submit_sm` whose answer was not
//!    recorded is *unknown* and its class's policy decides; nothing else is sent twice.
//! 5. A peer's octets become a value or a nack, never a panic, never unbounded memory.
//! 6. Every queue, window, table, body and wait has a limit, and the limit is in the config.
//! 7. Numbers that we do not know survive: decode then encode gives the same octets.
//! 8. The core never reads a clock, never awaits, never locks. Only [`gateway`] spawns tasks that
//!    live long.
//! 9. Message text, full numbers and secrets are in no log, metric or error.

pub mod time;

pub mod pdu;
pub mod text;

pub mod session;

pub mod message;

pub mod receipt;

pub mod route;

pub mod dispatch;

pub mod clock;

pub mod seal;

pub mod tls;

pub mod journal;

pub mod archive;

pub mod link;

pub mod notify;

pub mod api;

pub mod ops;

pub mod smsc;

pub mod config;

pub mod gateway;

pub mod cli;
