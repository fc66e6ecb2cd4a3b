//! Which PDU may go where, and what answers it (SMPP 5.0 table 2-1).

use crate::pdu::Address;
use crate::pdu::Bind;
use crate::pdu::BindResp;
use crate::pdu::Body;
use crate::pdu::CommandId;
use crate::pdu::CommandStatus;
use crate::pdu::Tag;
use crate::pdu::Tlvs;
use crate::session::Config;
use crate::session::Credentials;
use crate::session::Mode;
use crate::session::NotSent;

/// TLVs without which a message is another message.
const MESSAGE_TLVS: [Tag; 4] =
    [Tag::MESSAGE_PAYLOAD, Tag::SAR_MSG_REF_NUM, Tag::SAR_TOTAL_SEGMENTS, Tag::SAR_SEGMENT_SEQNUM];

/// Whether an ESME sends this to an SMSC.
pub(super) const fn is_submission(id: CommandId) -> bool {
    matches!(
        id,
        CommandId::SUBMIT_SM
            | CommandId::SUBMIT_MULTI
            | CommandId::DATA_SM
            | CommandId::QUERY_SM
            | CommandId::CANCEL_SM
            | CommandId::REPLACE_SM
    )
}

/// Whether an SMSC sends this to an ESME.
pub(super) const fn is_delivery(id: CommandId) -> bool {
    matches!(id, CommandId::DELIVER_SM | CommandId::DATA_SM)
}

/// Whether this carries a message, and does not only speak of one.
pub(super) const fn is_message(id: CommandId) -> bool {
    matches!(
        id,
        CommandId::SUBMIT_SM | CommandId::SUBMIT_MULTI | CommandId::DATA_SM | CommandId::DELIVER_SM
    )
}

/// What we ask with, as ESME.
pub(super) fn bind(config: &Config, credentials: &Credentials) -> Bind {
    Bind {
        system_id: credentials.system_id.clone(),
        password: credentials.password(),
        system_type: config.system_type.clone(),
        interface_version: config.version.into(),
        address_range: Address {
            ton: config.addr_ton,
            npi: config.addr_npi,
            addr: config.address_range.clone(),
        },
        tlvs: Tlvs::new(),
    }
}

/// The answer to a bind of this mode.
pub(super) const fn bind_resp(mode: Mode, resp: BindResp) -> Body {
    match mode {
        Mode::Tx => Body::BindTransmitterResp(resp),
        Mode::Rx => Body::BindReceiverResp(resp),
        Mode::Trx => Body::BindTransceiverResp(resp),
    }
}

/// Why nobody could act on a request, however it is placed.
pub(super) fn unusable(body: &Body) -> Option<CommandStatus> {
    match body {
        Body::SubmitSm(submit) if submit.destination.addr.is_empty() => {
            Some(CommandStatus::ESME_RINVDSTADR)
        }
        Body::SubmitMulti(submit) if submit.dest_address.is_empty() => {
            Some(CommandStatus::ESME_RINVNUMDESTS)
        }
        Body::QuerySm(query) if query.message_id.is_empty() => Some(CommandStatus::ESME_RINVMSGID),
        Body::ReplaceSm(replace) if replace.message_id.is_empty() => {
            Some(CommandStatus::ESME_RINVMSGID)
        }
        _ => None,
    }
}

/// Takes all TLVs off a request.
///
/// # Errors
/// When the message itself is in them; `body` is as before.
pub(super) fn strip_tlvs(body: &mut Body) -> Result<(), NotSent> {
    let needed = |tag: &Tag| MESSAGE_TLVS.contains(tag);
    let found = body.tlvs().and_then(|tlvs| tlvs.iter().map(|tlv| tlv.tag).find(needed));
    if let Some(tag) = found {
        return Err(NotSent::NeedsTlv(tag));
    }
    match body {
        Body::SubmitSm(body) => body.tlvs = Tlvs::new(),
        Body::SubmitMulti(body) => body.tlvs = Tlvs::new(),
        Body::DeliverSm(body) => body.tlvs = Tlvs::new(),
        Body::DataSm(body) => body.tlvs = Tlvs::new(),
        Body::QuerySm(body) => body.tlvs = Tlvs::new(),
        Body::CancelSm(body) => body.tlvs = Tlvs::new(),
        Body::ReplaceSm(body) => body.tlvs = Tlvs::new(),
        _ => {}
    }
    Ok(())
}
