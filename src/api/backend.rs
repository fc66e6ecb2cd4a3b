//! What the API asks of the gateway around it: health and counters.

use std::time::Duration;

use crate::api::admin;
use crate::api::problem::Code;
use crate::message::Class;

/// Health and counters.
pub trait Surroundings: Send + Sync + 'static {
    /// Why no messages can be taken now; empty when they can.
    fn unready(&self) -> Vec<Unready>;

    /// The metrics as OpenMetrics text.
    fn metrics(&self) -> String;

    /// Counts an answered request; `endpoint` is a path of the API, `-` for none.
    fn answered(&self, endpoint: &'static str, status: u16, took: Duration);

    /// Counts an accepted message.
    fn accepted(&self, encoding: &str, segments: u8);

    /// Counts a message that was refused since the gateway is too full for its class.
    fn shed(&self, class: Class);

    /// The carriers as they stand.
    fn carriers(&self) -> Vec<admin::Carrier>;

    /// Takes the configuration again.
    fn reload(&self) -> admin::Reloading;

    /// Counts a request that was answered from an earlier one.
    fn replayed(&self);
}

/// One reason why no messages can be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// [`Code::StoreUnavailable`], [`Code::QueueFull`] or [`Code::Draining`].
    pub code: Code,
    /// The reason in words, for `/readyz`.
    pub detail: String,
}
