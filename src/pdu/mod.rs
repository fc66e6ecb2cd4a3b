//! SMPP octets and the values they stand for.
//!
//! A PDU's layout is written once, as rows of the [`body`] table; the rows give the struct, the
//! decoder and the encoder. Numbers that the specification does not name survive, and so do TLVs,
//! in their order: decode then encode gives the same octets. Strings and texts of a decoded PDU
//! are views of the octets it came in, so nothing is copied; and so a value that is to live long is
//! better copied out than kept, since it holds on to the whole read buffer.
//!
//! ```
//! use bytes::Bytes;
//! use hikyaku::pdu::{Body, CommandStatus, decode};
//!
//! let frame = b"\0\0\0\x15\x80\0\0\x04\0\0\0\0\0\0\0\x071f09\0";
//! let pdu = decode(Bytes::from_static(frame))?;
//! assert_eq!(pdu.command_status, CommandStatus::ESME_ROK);
//! assert_eq!(pdu.message_id(), Some(&b"1f09"[..]));
//! assert!(matches!(pdu.body, Body::SubmitSmResp(_)));
//! # Ok::<(), hikyaku::pdu::DecodeError>(())
//! ```

pub mod body;
pub mod codec;
mod error;
mod field;
mod number;
mod time;
mod tlv;

pub use self::body::AlertNotification;
pub use self::body::Bind;
pub use self::body::BindResp;
pub use self::body::Body;
pub use self::body::CancelSm;
pub use self::body::CancelSmResp;
pub use self::body::DataSm;
pub use self::body::DataSmResp;
pub use self::body::DeliverSm;
pub use self::body::DeliverSmResp;
pub use self::body::Opaque;
pub use self::body::Outbind;
pub use self::body::QuerySm;
pub use self::body::QuerySmResp;
pub use self::body::ReplaceSm;
pub use self::body::ReplaceSmResp;
pub use self::body::SubmitMulti;
pub use self::body::SubmitMultiResp;
pub use self::body::SubmitSm;
pub use self::body::SubmitSmResp;
pub use self::codec::Frame;
pub use self::codec::Frames;
pub use self::codec::Leniency;
pub use self::codec::Pdu;
pub use self::codec::Unreadable;
pub use self::codec::decode;
pub use self::codec::decode_with;
pub use self::codec::encode;
pub use self::error::DecodeError;
pub use self::error::EncodeError;
pub use self::error::FrameError;
pub use self::error::LimitError;
pub use self::error::Why;
pub use self::field::Address;
pub use self::field::COctetString;
pub use self::field::DestAddress;
pub use self::field::ShortMessage;
pub use self::field::UnsuccessSme;
pub use self::number::CommandId;
pub use self::number::CommandStatus;
pub use self::number::DataCoding;
pub use self::number::EsmClass;
pub use self::number::InterfaceVersion;
pub use self::number::MessageState;
pub use self::number::Npi;
pub use self::number::RegisteredDelivery;
pub use self::number::Ton;
pub use self::time::SmppTime;
pub use self::time::TimeError;
pub use self::tlv::Lengths;
pub use self::tlv::Tag;
pub use self::tlv::Tlv;
pub use self::tlv::TlvKind;
pub use self::tlv::Tlvs;
