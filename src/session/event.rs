//! What a session reports.

use std::fmt;

use crate::pdu::AlertNotification;
use crate::pdu::Bind;
use crate::pdu::Body;
use crate::pdu::CommandId;
use crate::pdu::CommandStatus;
use crate::pdu::InterfaceVersion;
use crate::pdu::Tag;
use crate::session::Mode;

/// What happened on a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An ESME asks to bind. Answer with [`Session::accept_bind`] or [`Session::refuse_bind`].
    ///
    /// [`Session::accept_bind`]: crate::session::Session::accept_bind
    /// [`Session::refuse_bind`]: crate::session::Session::refuse_bind
    BindRequested {
        /// In which direction.
        mode: Mode,
        /// Who, with the password.
        bind: Bind,
    },
    /// The bind stands; requests may be sent.
    Bound {
        /// In which direction.
        mode: Mode,
        /// What the peer says it speaks; an SMSC often says nothing.
        version: Option<InterfaceVersion>,
        /// Who the peer says it is, as Latin-1.
        system_id: String,
        /// Whether TLVs may be sent.
        tlvs: bool,
    },
    /// A request of ours was answered, also by a `generic_nack`.
    Answered {
        /// The request.
        token: u64,
        /// Its number.
        sequence_number: u32,
        /// How it ended.
        status: CommandStatus,
        /// The answer as it came; beside an error it means nothing.
        body: Body,
        /// Whether [`Event::TimedOut`] came before.
        late: bool,
    },
    /// The response timer of a request ran out: its outcome is unknown. A late
    /// [`Event::Answered`] may follow.
    TimedOut {
        /// The request.
        token: u64,
        /// Its number.
        sequence_number: u32,
    },
    /// The peer asks for something. Answer with [`Session::respond`] or [`Session::acknowledge`].
    ///
    /// [`Session::respond`]: crate::session::Session::respond
    /// [`Session::acknowledge`]: crate::session::Session::acknowledge
    Request {
        /// The peer's number for it; may be any, also one that is still unanswered.
        sequence_number: u32,
        /// To an ESME `deliver_sm` or `data_sm`; to an SMSC one of the submissions, `query_sm`,
        /// `cancel_sm` or `replace_sm`.
        body: Body,
    },
    /// A subscriber can be reached.
    Alert(AlertNotification),
    /// No more requests can be sent; answers may still come until [`Event::Closed`].
    Closing {
        /// Whether the peer wants it.
        by_peer: bool,
    },
    /// The session is over; send what [`Session::poll_transmit`] still has and close the
    /// connection. The last event.
    ///
    /// [`Session::poll_transmit`]: crate::session::Session::poll_transmit
    Closed {
        /// Requests that were handed out and neither answered nor timed out.
        unanswered: Vec<u64>,
        /// Requests that were never handed out by `poll_transmit`.
        unsent: Vec<u64>,
        /// Why.
        end: End,
    },
    /// The peer did something odd that costs nothing; to be counted and logged.
    Oddity(Oddity),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// We asked for it, by [`Session::unbind`] or [`Session::close`].
    ///
    /// [`Session::unbind`]: crate::session::Session::unbind
    /// [`Session::close`]: crate::session::Session::close
    Asked,
    /// The peer unbound.
    PeerUnbound,
    /// The peer closed the connection without `unbind`.
    PeerClosed,
    /// The SMSC refused the bind.
    BindRefused(CommandStatus),
    /// No bind within `session_init`.
    NotBound,
    /// The SMSC answered our bind with another kind of bind response.
    WrongBind(CommandId),
    /// The SMSC says that we are not bound (`ESME_RINVBNDSTS` to a submission).
    BindForgotten,
    /// The peer cannot read our stream (`generic_nack` of sequence 0 with `ESME_RINVCMDLEN`).
    PeerLost,
    /// No sign of life after our `enquire_link`.
    EnquireLinkUnanswered,
    /// Nothing came within `inactivity`.
    Inactive,
    /// A PDU did not become whole within `pdu_read`.
    PduCutShort,
    /// The peer's octets are no SMPP.
    StreamLost {
        /// The `command_length` that cannot be.
        announced: u32,
    },
    /// The connection failed.
    Io(std::io::ErrorKind),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("unbound as asked"),
            Self::PeerUnbound => f.write_str("the peer unbound"),
            Self::PeerClosed => f.write_str("the peer closed the connection"),
            Self::BindRefused(status) => write!(f, "bind refused with {status}"),
            Self::NotBound => f.write_str("no bind within session_init"),
            Self::WrongBind(command_id) => write!(f, "bind answered with {command_id}"),
            Self::BindForgotten => {
                f.write_str("ESME_RINVBNDSTS to a submission: the SMSC has forgotten the bind")
            }
            Self::PeerLost => f.write_str("the peer cannot read our stream (ESME_RINVCMDLEN)"),
            Self::EnquireLinkUnanswered => f.write_str("no answer to enquire_link"),
            Self::Inactive => f.write_str("nothing came within inactivity"),
            Self::PduCutShort => f.write_str("a PDU did not become whole within pdu_read"),
            Self::StreamLost { announced } => {
                write!(f, "no SMPP: a command_length of {announced}")
            }
            Self::Io(kind) => write!(f, "connection failed: {kind}"),
        }
    }
}

/// Something odd that a peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// An answer came after its response timer ran out.
    LateAnswer(CommandId),
    /// An answer to a request that was answered before, or timed out long ago.
    RepeatedAnswer(CommandId),
    /// An answer to a number that we never used.
    UnknownAnswer(CommandId),
    /// An answer of another kind than its request.
    MismatchedAnswer(CommandId),
    /// A request that we do not speak.
    UnknownRequest(CommandId),
    /// A request that its state or direction does not allow.
    MisplacedRequest(CommandId),
    /// A PDU that could not be read; the field by its SMPP name.
    Unreadable(CommandId, &'static str),
    /// More requests at once than we take.
    TooManyRequests(CommandId),
    /// Our own request went without its TLVs, since the peer speaks 3.3; the first that it lost.
    TlvsLeftOut(Tag),
}

impl Oddity {
    /// The word for it in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LateAnswer(_) => "late_answer",
            Self::RepeatedAnswer(_) => "repeated_answer",
            Self::UnknownAnswer(_) => "unknown_answer",
            Self::MismatchedAnswer(_) => "mismatched_answer",
            Self::UnknownRequest(_) => "unknown_request",
            Self::MisplacedRequest(_) => "misplaced_request",
            Self::Unreadable(..) => "unreadable",
            Self::TooManyRequests(_) => "too_many_requests",
            Self::TlvsLeftOut(_) => "tlvs_left_out",
        }
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LateAnswer(id) => write!(f, "{id} after the response timer"),
            Self::RepeatedAnswer(id) => write!(f, "{id} to a request that is over"),
            Self::UnknownAnswer(id) => write!(f, "{id} to a number that was never used"),
            Self::MismatchedAnswer(id) => write!(f, "{id} to a request of another kind"),
            Self::UnknownRequest(id) => write!(f, "request {id} is not known"),
            Self::MisplacedRequest(id) => write!(f, "{id} is not allowed in this state"),
            Self::Unreadable(id, field) => write!(f, "{id}: {field} cannot be read"),
            Self::TooManyRequests(id) => write!(f, "{id} beyond receive_window"),
            Self::TlvsLeftOut(tag) => write!(f, "{tag} not sent to a peer without TLVs"),
        }
    }
}

/// Why a request was not sent; it has no other outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The session is not bound, or closing.
    #[error("the session is not bound")]
    NotBound,
    /// As many requests are unanswered as the window allows.
    #[error("the window is full")]
    WindowFull,
    /// Not a request that this side of such a bind may send.
    #[error("{0} may not be sent on this bind")]
    NotAllowed(CommandId),
    /// The message is in TLVs, and the peer takes none.
    #[error("{0} is needed, and the peer takes no TLVs")]
    NeedsTlv(Tag),
}
