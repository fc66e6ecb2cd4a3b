//! What the dispatcher is told and what it asks for.

use std::sync::Arc;
use std::time::Duration;

use crate::message::Class;
use crate::message::Idempotency;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::State;
use crate::message::Submission;
use crate::pdu::Body;
use crate::pdu::CommandStatus;
use crate::time::Time;

/// One bind of a carrier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindId {
    /// The carrier's name in the config.
    pub carrier: Arc<str>,
    /// Which of its binds, from 0.
    pub index: u16,
}

/// Names one segment that was handed to a bind; it comes back with the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names one request of a door; the [`Reply`] comes back with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A door asks to take a message. Answered by [`Effect::Reply`] once it is durable, or refused.
    Accept {
        /// Comes back with the reply.
        ticket: Ticket,
        /// The message, checked and planned.
        submission: Box<Submission>,
    },
    /// A door is about to refuse a request that has an idempotency key, and asks whether the same
    /// request was taken before.
    Recall {
        /// Comes back with the reply.
        ticket: Ticket,
        /// The key and what was asked with it.
        request: Idempotency,
    },
    /// A door asks to withdraw a message.
    Cancel {
        /// Comes back with the reply.
        ticket: Ticket,
        /// The message.
        id: MessageId,
        /// Whether an operator asks, and not the owner.
        by_operator: bool,
    },
    /// Every record that begins before `end` is on disk.
    Durable {
        /// The end of what is durable.
        end: Position,
    },
    /// The journal cannot write: nothing is accepted until [`Event::StoreRecovered`].
    StoreFailed,
    /// The journal writes again.
    StoreRecovered,
    /// What of the journal lies before `before` is to go: the key that it is sealed under has nearly
    /// served its time. No record that begins at `before` or later was made before this.
    Renew {
        /// The first position that may stay.
        before: Position,
    },
    /// A body that [`Effect::Fetch`] asked for.
    Fetched {
        /// The message.
        id: MessageId,
        /// Its body, or `None` when the journal could not read it.
        submission: Option<Box<Submission>>,
    },
    /// A bind is up.
    Bound {
        /// Which.
        bind: BindId,
        /// How many requests of ours may be unanswered on it.
        window: u16,
        /// Whether it takes `submit_sm` (TX or TRX).
        transmits: bool,
    },
    /// A bind stopped taking new requests: the peer sent `unbind`, or we are about to. Requests
    /// without an answer may still be answered until [`Event::Lost`].
    Closing {
        /// Which.
        bind: BindId,
    },
    /// A bind is down. Whatever was submitted on it and has no outcome yet is unknown, except what
    /// `unsent` names: that never left us.
    Lost {
        /// Which.
        bind: BindId,
        /// Submits that were never written to the link.
        unsent: Vec<Token>,
    },
    /// A carrier answered a request.
    Answered {
        /// The bind that it came on.
        bind: BindId,
        /// The request.
        token: Token,
        /// The `sequence_number` of the request.
        sequence_number: u32,
        /// The answer's `command_status`, also that of a `generic_nack`.
        status: CommandStatus,
        /// The answer's body as it came.
        body: Body,
    },
    /// The response timer of a request ran out. A late [`Event::Answered`] may still follow.
    TimedOut {
        /// The bind that it was sent on.
        bind: BindId,
        /// The request.
        token: Token,
    },
    /// A `deliver_sm` or `data_sm` came. Answered by [`Effect::Acknowledge`] once it is durable.
    Delivered {
        /// The bind that it came on.
        bind: BindId,
        /// The peer's `sequence_number`.
        sequence_number: u32,
        /// `Body::DeliverSm` or `Body::DataSm`.
        body: Body,
    },
    /// Send nothing new from now on; what is accepted stays in the journal for the next start.
    Drain,
    /// The time that [`crate::dispatch::Dispatch::poll_timeout`] named has come.
    Wake,
}

/// What is to be done. Effects come out in order, and none before the records that it stands on
/// are durable.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most effects are submits, so boxing them saves nothing"
)]
pub enum Effect {
    /// Tell a door.
    Reply {
        /// The request.
        ticket: Ticket,
        /// What became of it.
        reply: Reply,
    },
    /// Hand one request to a bind: `submit_sm`, `data_sm`, `query_sm` or `cancel_sm`.
    Submit {
        /// Which bind.
        bind: BindId,
        /// Comes back with the outcome.
        token: Token,
        /// The request.
        body: Body,
    },
    /// Answer a `deliver_sm` or `data_sm`.
    Acknowledge {
        /// The bind that it came on.
        bind: BindId,
        /// The peer's `sequence_number`.
        sequence_number: u32,
        /// `ESME_ROK`, or why not.
        status: CommandStatus,
    },
    /// Read a body from the journal; comes back as [`Event::Fetched`].
    Fetch {
        /// The message.
        id: MessageId,
        /// Where its `Accepted` or `Carried` record begins.
        position: Position,
    },
    /// Every record before this position is superseded: the journal may drop whole files below
    /// it, once the archive has passed it too.
    Trim {
        /// The first position that is still needed.
        before: Position,
    },
    /// Something for the log and the metrics.
    Notice(Notice),
}

/// What became of a request of a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Durable, and ours to send.
    Accepted {
        /// The message.
        id: MessageId,
        /// `Scheduled` or `Queued`.
        state: State,
    },
    /// The same request came before: this is the message that it made then.
    Replayed {
        /// The message.
        id: MessageId,
    },
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The first request with this idempotency key is not durable yet.
    IdempotencyInProgress,
    /// The table of live messages or of idempotency keys is too full for the class, or too much
    /// waits for the disk.
    QueueFull {
        /// The class that there is no room for.
        class: Class,
        /// When there will be room, as it went of late.
        retry_after: Duration,
    },
    /// The journal cannot write.
    StoreUnavailable,
    /// The gateway is stopping.
    Draining,
    /// The message was withdrawn.
    Cancelled {
        /// The message.
        id: MessageId,
    },
    /// A carrier may have it already.
    TooLate {
        /// Its state.
        state: State,
    },
    /// No live message has this id.
    NotLive,
    /// No request with this idempotency key was taken.
    NotSeen,
}

/// Something that people or counters want to know; labels come from closed sets only.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A segment was answered.
    SegmentAnswered {
        /// The carrier.
        carrier: Arc<str>,
        /// The message's class.
        class: Class,
        /// The status.
        status: CommandStatus,
        /// From submit to answer.
        took: Duration,
    },
    /// A segment's outcome is unknown.
    SegmentUnknown {
        /// The carrier.
        carrier: Arc<str>,
        /// The message's class.
        class: Class,
    },
    /// A carrier asked to slow down and its rate was cut.
    RateChanged {
        /// The carrier.
        carrier: Arc<str>,
        /// Segments a second from now on, in thousandths.
        millis_per_second: u64,
    },
    /// A receipt was matched.
    ReceiptMatched {
        /// The carrier.
        carrier: Arc<str>,
        /// The state's word.
        state: Arc<str>,
        /// From submit to receipt.
        took: Duration,
    },
    /// A receipt matched nothing.
    ReceiptUnmatched {
        /// The carrier.
        carrier: Arc<str>,
    },
    /// A receipt could not be read; it was kept and answered.
    ReceiptUnreadable {
        /// The carrier.
        carrier: Arc<str>,
    },
    /// A message goes to another carrier.
    Fallback {
        /// From.
        from: Arc<str>,
        /// To.
        to: Arc<str>,
        /// Why.
        reason: crate::message::Reason,
    },
    /// A message ended.
    Finished {
        /// The message.
        id: MessageId,
        /// How.
        state: State,
        /// Its class.
        class: Class,
        /// The carrier that had it last; empty for none.
        carrier: Arc<str>,
        /// From acceptance to the end.
        took: Duration,
        /// When.
        at: Time,
    },
    /// A status points to a wrong setting of the route or carrier (PROTOCOL: fallback + alarm).
    Alarm {
        /// The carrier.
        carrier: Arc<str>,
        /// The status.
        status: CommandStatus,
    },
}
