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
//! | `threads` | what blocks, on so many threads and no more |
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
//!
//! # Threats
//!
//! Who may try what, what stops them, and the tests (`tests/it`) that would fail if it did not.
//!
//! | who | reaches for | what stops them | proof |
//! |---|---|---|---|
//! | anybody on the network | the API without a key, or by guessing one | 256 random bits a key, kept as SHA-256, compared in constant time; an unknown id answers like a wrong secret; every operation of the OpenAPI document has its scope | `api::access` |
//! | anybody on the network | memory, sockets, time | limits on connections, headers, bodies, handshakes, waits; the longest idle makes room | `api::sockets` |
//! | anybody on the network | operators' doors | a listener of their own, keys of their own, on loopback unless told | `api::admin` |
//! | a client | messages, events, webhooks of another | each look-up carries the client; an id of another is answered like one that does not exist | `api::access::no_operation_touches_...` |
//! | a client | hosts inside, through a webhook's URL | one spelling of an address, public addresses only, the judged address is the one called, no redirect followed | `egress`, `notify::guard` |
//! | who has stolen a client's key | that client's messages | two live keys to rotate, scopes, senders, destinations, rate and quota; a certificate that must come with the key | `api::sockets::a_key_that_is_bound_...` |
//! | a webhook's receiver | other receivers, the gateway's time | a queue, a breaker and a limit an endpoint; answers are read for a second and 16 KiB at most | `notify`, `egress` |
//! | who sends webhooks in our name | the client's application | HMAC-SHA256 over id, time and body, with a secret an endpoint | `notify::sign` |
//! | a carrier, or who has its line | the process, through its octets | every PDU ends in a value or a nack; windows, rates and queues are bounded; one link, one task | `malformed`, `link`, `fuzz` |
//! | a man in the middle | passwords, texts, certificates | TLS 1.2 at least, names and authorities checked, our certificate shown; broken files never weaken what is in use | `link::tls_*`, `link::renewed_files_*` |
//! | another user of the machine | passwords, keys, texts | passwords in files and credentials only, `check` warns of open ones; never in an environment, a log, a metric, `check`'s output | `secrets` |
//! | a thief of a disk or a backup | texts and numbers | sealed under a key a day, which goes when its time has passed; a client's key is there as its hash only | `seal`, `erasure`, `api::keys` |
//! | an operator | more than the task needs | looking and acting are two scopes; reading texts and reloading leave an audit line; nobody can read a password back | `api::admin`, `secrets` |
//!
//! What does not stop them: a root user of the machine reads the process's memory; a thief with the
//! disk *and* the key folder reads what is not erased yet; plain SMPP without TLS shows everything to
//! whoever has the line, which is the carrier's choice; a carrier can lie about what it delivered.

pub mod time;

pub mod pdu;
pub mod text;

pub mod session;

pub mod message;

pub mod receipt;

pub mod route;

pub mod dispatch;

pub mod clock;

mod threads;

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
