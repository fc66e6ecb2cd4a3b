//! The life of messages, told as scripts: given, when, then. No clock, no socket, no sleep.

mod accepting;
mod binds;
mod durability;
mod fallback;
mod lanes;
pub(crate) mod random;
mod receipts;
mod world;
