//! The bodies of all PDUs, a row a field in the order of the wire.

use std::fmt;

use bytes::Bytes;

use crate::pdu::Address;
use crate::pdu::COctetString;
use crate::pdu::CommandId;
use crate::pdu::DataCoding;
use crate::pdu::DestAddress;
use crate::pdu::EsmClass;
use crate::pdu::InterfaceVersion;
use crate::pdu::Leniency;
use crate::pdu::MessageState;
use crate::pdu::RegisteredDelivery;
use crate::pdu::ShortMessage;
use crate::pdu::Tlvs;
use crate::pdu::UnsuccessSme;
use crate::pdu::Why;
use crate::pdu::field::Cx;
use crate::pdu::field::Fault;
use crate::pdu::field::Field;
use crate::pdu::field::Out;
use crate::pdu::field::Unwritable;
use crate::pdu::field::within;

/// A body's octets: what `body!` makes of its rows.
trait Layout: Sized {
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Result<Self, nom::Err<Fault>>;
    fn write(&self, out: &mut Out<'_>) -> Result<(), Unwritable>;
}

/// Makes the struct, the decoder and the encoder of a body whose rows stand in the order of the
/// wire. The last row takes the rest of the PDU.
macro_rules! body {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name {
            $(
                #[doc = concat!("`", stringify!($field), "`: `", stringify!($type), "`.")]
                #[doc = ""]
                $(#[$doc])*
                pub $field: $type,
            )*
        }

        impl Layout for $name {
            #[inline]
            fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Result<Self, nom::Err<Fault>> {
                $(let (input, $field) = within(stringify!($field), Field::read(cx, input))?;)*
                debug_assert!(input.is_empty(), "the last row takes the rest");
                Ok(Self { $($field),* })
            }

            fn write(&self, out: &mut Out<'_>) -> Result<(), Unwritable> {
                $(out.row(stringify!($field), &self.$field)?;)*
                Ok(())
            }
        }
    };
}

/// Makes [`Body`] of its rows: variant, layout, `command_id`.
macro_rules! bodies {
    ($($(#[$doc:meta])* $variant:ident($layout:ty) = $id:ident;)*) => {
        /// The body of a PDU, and with it what the PDU is.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Body {
            $($(#[$doc])* $variant($layout),)*
            /// Asks whether the peer is there (SMPP 3.4 §4.11.1).
            EnquireLink,
            /// Ends the session (SMPP 3.4 §4.2.1).
            Unbind,
            /// A PDU that we do not speak, the broadcast family among them.
            Unknown {
                /// What its header says.
                command_id: CommandId,
                /// All behind the header.
                octets: Opaque,
            },
        }

        impl Body {
            /// What goes into the header.
            pub const fn command_id(&self) -> CommandId {
                match self {
                    $(Self::$variant(_) => CommandId::$id,)*
                    Self::EnquireLink => CommandId::ENQUIRE_LINK,
                    Self::Unbind => CommandId::UNBIND,
                    Self::Unknown { command_id, .. } => *command_id,
                }
            }

            /// Reads all octets behind the header.
            #[inline]
            pub(crate) fn read<'a>(
                cx: &Cx<'a>,
                command_id: CommandId,
                input: &'a [u8],
            ) -> Result<Self, nom::Err<Fault>> {
                match command_id {
                    $(CommandId::$id => <$layout as Layout>::read(cx, input).map(Self::$variant),)*
                    CommandId::ENQUIRE_LINK => no_body(cx, input).map(|()| Self::EnquireLink),
                    CommandId::UNBIND => no_body(cx, input).map(|()| Self::Unbind),
                    command_id => Ok(Self::Unknown { command_id, octets: Opaque(cx.view(input)) }),
                }
            }

            /// Writes all octets behind the header.
            pub(crate) fn write(&self, out: &mut Out<'_>) -> Result<(), Unwritable> {
                match self {
                    $(Self::$variant(body) => Layout::write(body, out),)*
                    Self::EnquireLink | Self::Unbind => Ok(()),
                    Self::Unknown { octets, .. } => {
                        out.put_slice(&octets.0);
                        Ok(())
                    }
                }
            }
        }
    };
}

bodies! {
    /// Opens a session that receives (SMPP 3.4 §4.1.3).
    BindReceiver(Bind) = BIND_RECEIVER;
    /// Answers a `bind_receiver`.
    BindReceiverResp(BindResp) = BIND_RECEIVER_RESP;
    /// Opens a session that sends (SMPP 3.4 §4.1.1).
    BindTransmitter(Bind) = BIND_TRANSMITTER;
    /// Answers a `bind_transmitter`.
    BindTransmitterResp(BindResp) = BIND_TRANSMITTER_RESP;
    /// Opens a session that sends and receives (SMPP 3.4 §4.1.5).
    BindTransceiver(Bind) = BIND_TRANSCEIVER;
    /// Answers a `bind_transceiver`.
    BindTransceiverResp(BindResp) = BIND_TRANSCEIVER_RESP;
    /// Asks an ESME to bind as receiver (SMPP 3.4 §4.1.7).
    Outbind(Outbind) = OUTBIND;
    /// Answers an `unbind`.
    UnbindResp(Tlvs) = UNBIND_RESP;
    /// Answers an `enquire_link`.
    EnquireLinkResp(Tlvs) = ENQUIRE_LINK_RESP;
    /// Refuses a PDU that has no answer of its own (SMPP 3.4 §4.3.1).
    GenericNack(Tlvs) = GENERIC_NACK;
    /// Hands one short message to the SMSC.
    SubmitSm(SubmitSm) = SUBMIT_SM;
    /// Answers a `submit_sm`.
    SubmitSmResp(SubmitSmResp) = SUBMIT_SM_RESP;
    /// Hands one short message to many destinations to the SMSC.
    SubmitMulti(SubmitMulti) = SUBMIT_MULTI;
    /// Answers a `submit_multi`.
    SubmitMultiResp(SubmitMultiResp) = SUBMIT_MULTI_RESP;
    /// Hands one short message or receipt to the ESME.
    DeliverSm(DeliverSm) = DELIVER_SM;
    /// Answers a `deliver_sm`.
    DeliverSmResp(DeliverSmResp) = DELIVER_SM_RESP;
    /// Hands one message over in either direction.
    DataSm(DataSm) = DATA_SM;
    /// Answers a `data_sm`.
    DataSmResp(DataSmResp) = DATA_SM_RESP;
    /// Asks for a message's state.
    QuerySm(QuerySm) = QUERY_SM;
    /// Answers a `query_sm`.
    QuerySmResp(QuerySmResp) = QUERY_SM_RESP;
    /// Takes messages back.
    CancelSm(CancelSm) = CANCEL_SM;
    /// Answers a `cancel_sm`.
    CancelSmResp(CancelSmResp) = CANCEL_SM_RESP;
    /// Replaces a message that was not sent yet.
    ReplaceSm(ReplaceSm) = REPLACE_SM;
    /// Answers a `replace_sm`.
    ReplaceSmResp(ReplaceSmResp) = REPLACE_SM_RESP;
    /// Tells that a subscriber can be reached; has no answer.
    AlertNotification(AlertNotification) = ALERT_NOTIFICATION;
}

impl Body {
    /// Whether this asks for something, as all bodies do that are no response.
    pub const fn is_request(&self) -> bool {
        !self.command_id().is_response()
    }

    /// The body that answers this request, as for an error; `None` when nothing answers it.
    ///
    /// `deliver_sm_resp` and `data_sm_resp` have their empty `message_id`, since some peers fail
    /// without its NUL; the others are the header only.
    pub fn response(&self) -> Option<Self> {
        Self::response_to(self.command_id())
    }

    /// The body that answers a request of this id.
    pub(crate) fn response_to(command_id: CommandId) -> Option<Self> {
        let message_id = Some(COctetString::EMPTY);
        let tlvs = Tlvs::new();
        Some(match command_id {
            CommandId::BIND_RECEIVER => Self::BindReceiverResp(BindResp::default()),
            CommandId::BIND_TRANSMITTER => Self::BindTransmitterResp(BindResp::default()),
            CommandId::BIND_TRANSCEIVER => Self::BindTransceiverResp(BindResp::default()),
            CommandId::UNBIND => Self::UnbindResp(tlvs),
            CommandId::ENQUIRE_LINK => Self::EnquireLinkResp(tlvs),
            CommandId::SUBMIT_SM => Self::SubmitSmResp(SubmitSmResp::default()),
            CommandId::SUBMIT_MULTI => Self::SubmitMultiResp(SubmitMultiResp::default()),
            CommandId::DELIVER_SM => Self::DeliverSmResp(DeliverSmResp { message_id, tlvs }),
            CommandId::DATA_SM => Self::DataSmResp(DataSmResp { message_id, tlvs }),
            CommandId::QUERY_SM => Self::QuerySmResp(QuerySmResp::default()),
            CommandId::CANCEL_SM => Self::CancelSmResp(CancelSmResp { tlvs }),
            CommandId::REPLACE_SM => Self::ReplaceSmResp(ReplaceSmResp { tlvs }),
            _ => return None,
        })
    }

    /// The TLVs; `None` for a body that has no room for them.
    pub const fn tlvs(&self) -> Option<&Tlvs> {
        match self {
            Self::BindReceiver(Bind { tlvs, .. })
            | Self::BindTransmitter(Bind { tlvs, .. })
            | Self::BindTransceiver(Bind { tlvs, .. })
            | Self::BindReceiverResp(BindResp { tlvs, .. })
            | Self::BindTransmitterResp(BindResp { tlvs, .. })
            | Self::BindTransceiverResp(BindResp { tlvs, .. })
            | Self::Outbind(Outbind { tlvs, .. })
            | Self::UnbindResp(tlvs)
            | Self::EnquireLinkResp(tlvs)
            | Self::GenericNack(tlvs)
            | Self::SubmitSm(SubmitSm { tlvs, .. })
            | Self::SubmitSmResp(SubmitSmResp { tlvs, .. })
            | Self::SubmitMulti(SubmitMulti { tlvs, .. })
            | Self::SubmitMultiResp(SubmitMultiResp { tlvs, .. })
            | Self::DeliverSm(DeliverSm { tlvs, .. })
            | Self::DeliverSmResp(DeliverSmResp { tlvs, .. })
            | Self::DataSm(DataSm { tlvs, .. })
            | Self::DataSmResp(DataSmResp { tlvs, .. })
            | Self::QuerySm(QuerySm { tlvs, .. })
            | Self::QuerySmResp(QuerySmResp { tlvs, .. })
            | Self::CancelSm(CancelSm { tlvs, .. })
            | Self::CancelSmResp(CancelSmResp { tlvs, .. })
            | Self::ReplaceSm(ReplaceSm { tlvs, .. })
            | Self::ReplaceSmResp(ReplaceSmResp { tlvs, .. })
            | Self::AlertNotification(AlertNotification { tlvs, .. }) => Some(tlvs),
            Self::EnquireLink | Self::Unbind | Self::Unknown { .. } => None,
        }
    }
}

/// Octets that are not looked into; `Debug` shows how many.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Opaque(pub Bytes);

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} octets>", self.0.len())
    }
}

body! {
    /// Opens a session: `bind_receiver`, `bind_transmitter`, `bind_transceiver` (SMPP 3.4 §4.1).
    Bind {
        /// Who binds.
        system_id: COctetString<16>,
        password: COctetString<9>,
        /// What kind of ESME binds; mostly empty.
        system_type: COctetString<13>,
        interface_version: InterfaceVersion,
        /// `addr_ton`, `addr_npi` and `address_range`: which numbers the ESME serves.
        address_range: Address<41>,
        /// None in the specification.
        tlvs: Tlvs,
    }
}

body! {
    /// Answers a bind (SMPP 3.4 §4.1.2, §4.1.4, §4.1.6).
    BindResp {
        /// Who answers; absent in a response of the header only.
        system_id: Option<COctetString<16>>,
        /// `sc_interface_version` when the SMSC speaks 3.4 or later.
        tlvs: Tlvs,
    }
}

body! {
    /// Asks an ESME to bind as receiver (SMPP 3.4 §4.1.7).
    Outbind {
        system_id: COctetString<16>,
        password: COctetString<9>,
        /// None in the specification.
        tlvs: Tlvs,
    }
}

body! {
    /// Hands one short message to the SMSC (SMPP 3.4 §4.4.1).
    SubmitSm {
        /// Empty for the SMSC's default.
        service_type: COctetString<6>,
        /// What the handset shows as the sender.
        source: Address,
        destination: Address,
        /// `UDHI` when `short_message` begins with a user data header.
        esm_class: EsmClass,
        protocol_id: u8,
        /// 0 to 3; 0 is the lowest.
        priority_flag: u8,
        /// Empty to send now; else the 16 characters of [`SmppTime`](crate::pdu::SmppTime).
        schedule_delivery_time: COctetString<17>,
        /// Empty for the SMSC's default; else as above.
        validity_period: COctetString<17>,
        registered_delivery: RegisteredDelivery,
        replace_if_present_flag: u8,
        data_coding: DataCoding,
        /// A message stored at the SMSC; 0 for none.
        sm_default_msg_id: u8,
        /// Behind `sm_length`; empty beside a `message_payload`.
        short_message: ShortMessage,
        tlvs: Tlvs,
    }
}

body! {
    /// Answers a `submit_sm` (SMPP 3.4 §4.4.2).
    SubmitSmResp {
        /// The SMSC's id of the message; absent in a response of the header only.
        message_id: Option<COctetString<65>>,
        tlvs: Tlvs,
    }
}

body! {
    /// Hands one short message to many destinations to the SMSC (SMPP 3.4 §4.5.1).
    SubmitMulti {
        /// Empty for the SMSC's default.
        service_type: COctetString<6>,
        /// What the handset shows as the sender.
        source: Address,
        /// Behind `number_of_dests`; at most 254, 255 from SMPP 5.0 on.
        dest_address: Vec<DestAddress>,
        /// `UDHI` when `short_message` begins with a user data header.
        esm_class: EsmClass,
        protocol_id: u8,
        /// 0 to 3; 0 is the lowest.
        priority_flag: u8,
        /// Empty to send now; else the 16 characters of [`SmppTime`](crate::pdu::SmppTime).
        schedule_delivery_time: COctetString<17>,
        /// Empty for the SMSC's default; else as above.
        validity_period: COctetString<17>,
        registered_delivery: RegisteredDelivery,
        replace_if_present_flag: u8,
        data_coding: DataCoding,
        /// A message stored at the SMSC; 0 for none.
        sm_default_msg_id: u8,
        /// Behind `sm_length`; empty beside a `message_payload`.
        short_message: ShortMessage,
        tlvs: Tlvs,
    }
}

body! {
    /// Answers a `submit_multi` (SMPP 3.4 §4.5.2).
    SubmitMultiResp {
        /// The SMSC's id of the message, one for all; absent in a response of the header only.
        message_id: Option<COctetString<65>>,
        /// Behind `no_unsuccess`: the destinations that were refused.
        unsuccess_sme: Option<Vec<UnsuccessSme>>,
        tlvs: Tlvs,
    }
}

body! {
    /// Hands one short message or receipt to the ESME (SMPP 3.4 §4.6.1).
    DeliverSm {
        /// Mostly empty.
        service_type: COctetString<6>,
        source: Address,
        destination: Address,
        /// Tells a message from a receipt; `UDHI` as in [`SubmitSm`].
        esm_class: EsmClass,
        protocol_id: u8,
        priority_flag: u8,
        /// Unused.
        schedule_delivery_time: COctetString<17>,
        /// Unused.
        validity_period: COctetString<17>,
        registered_delivery: RegisteredDelivery,
        /// Unused.
        replace_if_present_flag: u8,
        data_coding: DataCoding,
        /// Unused.
        sm_default_msg_id: u8,
        /// Behind `sm_length`; empty beside a `message_payload`.
        short_message: ShortMessage,
        tlvs: Tlvs,
    }
}

body! {
    /// Answers a `deliver_sm` (SMPP 3.4 §4.6.2).
    DeliverSmResp {
        /// Unused, yet there: one NUL.
        message_id: Option<COctetString<65>>,
        tlvs: Tlvs,
    }
}

body! {
    /// Hands one message over in either direction (SMPP 3.4 §4.7.1).
    DataSm {
        /// Empty for the SMSC's default.
        service_type: COctetString<6>,
        source: Address<65>,
        destination: Address<65>,
        /// `UDHI` when the payload begins with a user data header.
        esm_class: EsmClass,
        registered_delivery: RegisteredDelivery,
        data_coding: DataCoding,
        /// The text is in `message_payload`.
        tlvs: Tlvs,
    }
}

body! {
    /// Answers a `data_sm` (SMPP 3.4 §4.7.2).
    DataSmResp {
        /// The SMSC's id of the message; absent in a response of the header only.
        message_id: Option<COctetString<65>>,
        /// Why delivery failed, in transaction mode.
        tlvs: Tlvs,
    }
}

body! {
    /// Asks for a message's state (SMPP 3.4 §4.8.1).
    QuerySm {
        /// As the response to the submission gave it.
        message_id: COctetString<65>,
        /// As in the submission.
        source: Address,
        /// None in the specification.
        tlvs: Tlvs,
    }
}

body! {
    /// Answers a `query_sm` (SMPP 3.4 §4.8.2). All is absent in a response of the header only.
    QuerySmResp {
        message_id: Option<COctetString<65>>,
        /// When the message came to its end; empty while it has not.
        final_date: Option<COctetString<17>>,
        message_state: Option<MessageState>,
        /// Network specific.
        error_code: Option<u8>,
        /// None in the specification.
        tlvs: Tlvs,
    }
}

body! {
    /// Takes messages back (SMPP 3.4 §4.9.1).
    CancelSm {
        /// Empty unless all messages of a service are meant.
        service_type: COctetString<6>,
        /// Empty when the addresses tell which are meant.
        message_id: COctetString<65>,
        source: Address,
        destination: Address,
        /// None in the specification.
        tlvs: Tlvs,
    }
}

body! {
    /// Answers a `cancel_sm` (SMPP 3.4 §4.9.2).
    CancelSmResp {
        tlvs: Tlvs,
    }
}

body! {
    /// Replaces a message that was not sent yet (SMPP 3.4 §4.10.1).
    ReplaceSm {
        /// As the response to the submission gave it.
        message_id: COctetString<65>,
        /// As in the submission.
        source: Address,
        /// Empty to leave it as it is.
        schedule_delivery_time: COctetString<17>,
        /// Empty to leave it as it is.
        validity_period: COctetString<17>,
        registered_delivery: RegisteredDelivery,
        sm_default_msg_id: u8,
        /// Behind `sm_length`; in the first message's `data_coding`.
        short_message: ShortMessage,
        /// `message_payload`, from SMPP 5.0 on.
        tlvs: Tlvs,
    }
}

body! {
    /// Answers a `replace_sm` (SMPP 3.4 §4.10.2).
    ReplaceSmResp {
        tlvs: Tlvs,
    }
}

body! {
    /// Tells that a subscriber can be reached (SMPP 3.4 §4.12.1); has no answer.
    AlertNotification {
        /// The subscriber.
        source: Address<65>,
        /// Who asked to be told.
        esme: Address<65>,
        /// `ms_availability_status`.
        tlvs: Tlvs,
    }
}

/// The TLVs that SMPP 5.0 lets any response carry (`congestion_state`) behind no other field.
impl Layout for Tlvs {
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Result<Self, nom::Err<Fault>> {
        within("tlvs", Field::read(cx, input)).map(|(_, tlvs)| tlvs)
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), Unwritable> {
        out.row("tlvs", self)
    }
}

/// The body of a PDU that has none: octets there are skipped.
fn no_body<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Result<(), nom::Err<Fault>> {
    if input.is_empty() || cx.leniency == Leniency::Lenient {
        return Ok(());
    }
    Err(Fault::new(input, "header", Why::Stray { octets: input.len() }))
}
