//! What carriers deliver: receipts, and messages from handsets.

use std::sync::Arc;

use crate::message::Finish;
use crate::message::InboundRecord;
use crate::message::MessageId;
use crate::message::Reason;
use crate::message::ReceiptRecord;
use crate::message::Record;
use crate::message::State;
use crate::pdu::Body;
use crate::pdu::CommandStatus;
use crate::pdu::DataCoding;
use crate::pdu::Tag;
use crate::pdu::Tlvs;
use crate::receipt::DeliverFields;
use crate::receipt::IdMode;
use crate::receipt::Reading;
use crate::receipt::Receipt;
use crate::receipt::ReceiptOptions;
use crate::receipt::ReceiptState;
use crate::receipt::read;
use crate::route::CarrierId;
use crate::route::ReceiptOn;
use crate::route::end_of;
use crate::text;
use crate::text::Profile;
use crate::text::Udh;
use crate::text::decode;
use crate::text::decode_parts;
use crate::text::reassembly::Message;
use crate::text::udh::RefBits;
use crate::time::Time;

use super::Dispatch;
use super::apply::is_correctable;
use super::config::count;
use super::event::BindId;
use super::event::Effect;
use super::event::Notice;
use super::gate::Held;
use super::inbound::Between;
use super::inbound::Part;
use super::ledger::Target;
use super::live::Attempt;
use super::live::Place;
use super::live::Standing;
use super::orphans;
use super::table::Slot;

/// A `deliver_sm` or `data_sm`, as far as it matters here.
struct Delivery<'a> {
    fields: DeliverFields<'a>,
    source: String,
    destination: String,
}

impl<'a> Delivery<'a> {
    fn of(body: &'a Body) -> Option<Self> {
        match body {
            Body::DeliverSm(pdu) => Some(Self {
                fields: DeliverFields::from(pdu),
                source: pdu.source.addr.to_text_lossy(),
                destination: pdu.destination.addr.to_text_lossy(),
            }),
            Body::DataSm(pdu) => Some(Self {
                fields: DeliverFields::from(pdu),
                source: pdu.source.addr.to_text_lossy(),
                destination: pdu.destination.addr.to_text_lossy(),
            }),
            _ => None,
        }
    }
}

impl Dispatch {
    pub(super) fn on_delivered(
        &mut self,
        now: Time,
        bind: BindId,
        sequence_number: u32,
        body: &Body,
    ) {
        if self.is_store_down {
            return self.refuse_delivery(bind, sequence_number, CommandStatus::ESME_RX_T_APPN);
        }
        let carrier = self.routes.intern_carrier(&bind.carrier);
        let (Some(carrier), Some(delivery)) = (carrier, Delivery::of(body)) else {
            return self.refuse_delivery(bind, sequence_number, CommandStatus::ESME_RX_P_APPN);
        };
        let config = self.routes.carrier(carrier).map(|carrier| carrier.config.clone());
        let usual = ReceiptOptions::default();
        let form = config.as_ref().map_or(&usual, |config| &config.receipts.form);
        match read(&delivery.fields, form) {
            Reading::NotReceipt => self.on_inbound(now, carrier, &delivery),
            Reading::Receipt(receipt) => {
                let reason = receipt.reason(form);
                self.on_receipt(now, carrier, &receipt, reason, &delivery);
            }
            Reading::Unparsed(raw) => self.on_unreadable(now, carrier, raw, &delivery),
        }
        self.gate.hold(Held::Acknowledge(bind, sequence_number));
    }

    fn refuse_delivery(&mut self, bind: BindId, sequence_number: u32, status: CommandStatus) {
        self.gate.let_out(Effect::Acknowledge { bind, sequence_number, status });
    }

    pub(super) fn id_mode(&self, carrier: CarrierId) -> IdMode {
        let carrier = self.routes.carrier(carrier);
        carrier.map(|carrier| carrier.config.receipts.form.id_mode).unwrap_or_default()
    }

    fn on_receipt(
        &mut self,
        now: Time,
        carrier: CarrierId,
        receipt: &Receipt,
        reason: Option<Reason>,
        delivery: &Delivery<'_>,
    ) {
        let record = receipt.to_record(&delivery.source);
        let numbers = [&*delivery.source, &*delivery.destination];
        if let Some(target) = self.locate(carrier, &record, numbers) {
            return self.take_receipt(now, target, record, reason);
        }
        let name = self.routes.carrier_name(carrier);
        let message = &record.carrier_message_id;
        let is_repeated = self.book.repeats.knows(&name, &record)
            || self.book.orphans.find(carrier, message, Some(&record)).is_some();
        if !is_repeated {
            self.keep_orphan(now, carrier, record);
        }
    }

    /// The segment that a receipt is about. Of several the one whose destination is among
    /// `numbers`, that still waits for a receipt, and that is the newest.
    fn locate(
        &self,
        carrier: CarrierId,
        receipt: &ReceiptRecord,
        numbers: [&str; 2],
    ) -> Option<Target> {
        let targets = self.book.ledger.find(carrier, self.id_mode(carrier), orphans::ids(receipt));
        if targets.len() < 2 {
            return targets.first().copied();
        }
        targets.into_iter().max_by_key(|target| {
            let live = &self.book.table[target.slot];
            let fits = numbers.iter().any(|number| live.to.fits(number));
            let standing = self.standing_of(*target);
            (fits, standing == Some(Standing::Taken), live.id())
        })
    }

    fn standing_of(&self, target: Target) -> Option<Standing> {
        let attempt = self.book.table[target.slot].attempt(target.attempt)?;
        attempt.segment(target.segment).map(|segment| segment.standing)
    }

    fn keep_orphan(&mut self, now: Time, carrier: CarrierId, receipt: ReceiptRecord) {
        if self.book.orphans.len() >= count(self.config.orphan_limit).max(1) {
            self.drop_oldest_orphan(now);
        }
        let name = self.routes.carrier_name(carrier);
        let message = receipt.carrier_message_id.clone();
        if message.is_empty() {
            self.notice(Notice::ReceiptUnmatched { carrier: name.clone() });
        }
        let content = receipt.clone();
        self.record(Record::Orphan { at: now, carrier: (&*name).into(), receipt });
        let mode = self.id_mode(carrier);
        if let Some(id) = self.book.orphans.find(carrier, &message, Some(&content))
            && let Some(orphan) = self.book.orphans.get(id)
        {
            self.homes.insert(mode, id, orphan);
        }
    }

    /// Tries the receipts that came before the answer with this id.
    pub(super) fn bring_home(&mut self, now: Time, carrier: CarrierId, message: &str) {
        for id in self.homes.candidates(carrier, message) {
            let Some(orphan) = self.book.orphans.get(id).cloned() else { continue };
            let source = &*orphan.receipt.source;
            if let Some(target) = self.locate(carrier, &orphan.receipt, [source, source]) {
                self.homes.remove(self.id_mode(carrier), id, &orphan);
                self.take_receipt(now, target, orphan.receipt, None);
            }
        }
    }

    /// Gives up on orphans that have waited long enough.
    pub(super) fn drop_orphans(&mut self, now: Time) {
        const AT_ONCE: usize = 64;
        let hold = self.config.orphan_hold.0;
        for _ in 0..AT_ONCE {
            match self.book.orphans.oldest() {
                Some((_, orphan)) if orphan.at + hold <= now => self.drop_oldest_orphan(now),
                _ => return,
            }
        }
    }

    fn drop_oldest_orphan(&mut self, now: Time) {
        let Some((id, orphan)) = self.book.orphans.oldest() else { return };
        let orphan = orphan.clone();
        self.homes.remove(self.id_mode(orphan.carrier), id, &orphan);
        let carrier = self.routes.carrier_name(orphan.carrier);
        self.notice(Notice::ReceiptUnmatched { carrier: carrier.clone() });
        self.record(Record::OrphanDropped {
            at: now,
            carrier: (&*carrier).into(),
            carrier_message_id: orphan.receipt.carrier_message_id,
        });
    }

    fn on_unreadable(
        &mut self,
        now: Time,
        carrier: CarrierId,
        raw: Box<str>,
        delivery: &Delivery<'_>,
    ) {
        let carrier = self.routes.carrier_name(carrier);
        let receipt = ReceiptRecord {
            carrier_message_id: "".into(),
            text_id: "".into(),
            source: delivery.source.as_str().into(),
            state: "".into(),
            is_final: false,
            error: "".into(),
            raw,
        };
        self.record(Record::Orphan { at: now, carrier: (&*carrier).into(), receipt });
        self.notice(Notice::ReceiptUnreadable { carrier });
    }

    /// Takes a receipt about a segment, unless it says nothing new.
    pub(super) fn take_receipt(
        &mut self,
        now: Time,
        target: Target,
        receipt: ReceiptRecord,
        reason: Option<Reason>,
    ) {
        let Target { slot, attempt: number, segment } = target;
        let live = &self.book.table[slot];
        let Some(attempt) = live.attempt(number) else { return };
        if !self.is_news(attempt, segment, &receipt) {
            return;
        }
        let (id, carrier, since) = (live.id(), attempt.carrier, attempt.sent_at);
        let (carrier, state) = (self.routes.carrier_name(carrier), Arc::from(&*receipt.state));
        self.notice(Notice::ReceiptMatched { carrier, state, took: now.since(since) });
        self.record(Record::Receipt { id, at: now, attempt: number, segment, receipt });
        let Some(slot) = self.book.table.find(id) else { return };
        let sent = self.book.table[slot].sent.as_deref_mut();
        let attempt = sent.and_then(|sent| sent.attempt_mut(number));
        if let Some(failure) = attempt.and_then(|attempt| attempt.failure.as_deref_mut()) {
            failure.reason = reason.or(failure.reason);
        }
        self.weigh_receipts(now, slot, number);
    }

    /// The first final state stays, but DELIVERED may correct a failure.
    fn is_news(&self, attempt: &Attempt, segment: u8, receipt: &ReceiptRecord) -> bool {
        let standing = attempt.segment(segment).map(|segment| segment.standing);
        match standing {
            None | Some(Standing::Delivered) => false,
            Some(Standing::Failed) => {
                let wins = self
                    .routes
                    .carrier(attempt.carrier)
                    .is_none_or(|carrier| carrier.config.receipts.late_delivered_wins);
                wins && receipt.is_final && &*receipt.state == ReceiptState::Delivered.as_str()
            }
            Some(_) => true,
        }
    }

    /// Draws from the receipts of an attempt what they say of the message.
    pub(super) fn weigh_receipts(&mut self, now: Time, slot: Slot, number: u16) {
        let live = &self.book.table[slot];
        let Some(attempt) = live.attempt(number) else { return };
        let said = self.said(attempt);
        if live.is_finished() {
            return self.correct(now, slot, number, said);
        }
        match said {
            Said::Nothing => {}
            Said::Delivered => {
                self.finish_at(now, slot, attempt.carrier, State::Delivered, None);
            }
            Said::Failed => {
                let in_hand = live.attempt_number() == number && live.state != State::Queued;
                if in_hand || live.place == Place::Held {
                    self.settle(now, slot);
                }
            }
        }
    }

    fn said(&self, attempt: &Attempt) -> Said {
        let config = self.routes.carrier(attempt.carrier);
        let on = config.map(|carrier| carrier.config.receipts.on).unwrap_or_default();
        let segments = attempt.segments();
        let any = |standing| segments.iter().any(|segment| segment.standing == standing);
        let all = segments.iter().all(|segment| segment.standing == Standing::Delivered);
        let last = segments.last().map(|segment| segment.standing);
        let (delivered, failed) = match on {
            ReceiptOn::All => (all, any(Standing::Failed)),
            ReceiptOn::Any => (any(Standing::Delivered), any(Standing::Failed)),
            ReceiptOn::Last => (last == Some(Standing::Delivered), last == Some(Standing::Failed)),
        };
        match (delivered, failed) {
            (true, _) => Said::Delivered,
            (false, true) => Said::Failed,
            (false, false) => Said::Nothing,
        }
    }

    /// A receipt about a message that ended: it may tell better how.
    fn correct(&mut self, now: Time, slot: Slot, number: u16, said: Said) {
        let live = &self.book.table[slot];
        if !is_correctable(live.state) {
            return;
        }
        let state = match said {
            Said::Delivered => State::Delivered,
            // Not while another attempt may still deliver it.
            Said::Failed
                if live.state == State::Unknown && !live.attempts().any(Attempt::may_arrive) =>
            {
                State::Undeliverable
            }
            Said::Failed | Said::Nothing => return,
        };
        let Some(attempt) = live.attempt(number) else { return };
        let failure = attempt.failure.as_deref().filter(|_| state != State::Delivered);
        let (state, reason) = match failure {
            Some(failure) => {
                let said = ReceiptState::from_word(&failure.state);
                (end_of(said), failure.reason.or_else(|| said.reason()))
            }
            None => (state, None),
        };
        if state == live.state {
            return;
        }
        let finish = Finish {
            state,
            reason,
            carrier: (&*self.routes.carrier_name(attempt.carrier)).into(),
            carrier_status: None,
            carrier_error: failure.map(|failure| failure.error.clone()).unwrap_or_default(),
        };
        let id = live.id();
        self.record(Record::Corrected { id, at: now, finish });
    }

    fn on_inbound(&mut self, now: Time, carrier: CarrierId, delivery: &Delivery<'_>) {
        let fields = &delivery.fields;
        let user_data = match fields.short_message {
            [] => fields.tlvs.get(Tag::MESSAGE_PAYLOAD).unwrap_or_default(),
            user_data => user_data,
        };
        let (header, octets) = Udh::split(fields.esm_class.udhi(), user_data);
        let udh = user_data.get(..header.octets).unwrap_or_default();
        let text = decode(fields.data_coding, &self.profile(carrier), &header, octets);
        let inbound = InboundRecord {
            id: self.inbound_ids.next(now),
            at: now,
            carrier: (&*self.routes.carrier_name(carrier)).into(),
            from: delivery.source.as_str().into(),
            to: delivery.destination.as_str().into(),
            data_coding: fields.data_coding.0,
            udh: udh.into(),
            octets: octets.into(),
            text: text.map(Into::into),
            part: part_of(&header, fields.tlvs),
        };
        self.record(Record::Inbound(Box::new(inbound)));
        self.join_parts(now);
    }

    fn profile(&self, carrier: CarrierId) -> Profile {
        self.routes.carrier(carrier).map(|carrier| carrier.config.text.clone()).unwrap_or_default()
    }

    /// Gives up on parts that have waited long enough.
    pub(super) fn give_up_parts(&mut self, now: Time) {
        if self.book.parts.deadline().is_some_and(|deadline| deadline <= now) {
            self.book.parts.expire(now);
            self.join_parts(now);
        }
    }

    /// Makes the records of inbound messages that are whole, or given up on.
    pub(super) fn join_parts(&mut self, now: Time) {
        while let Some(message) = self.book.parts.ready().cloned() {
            let id = self.inbound_ids.next(now);
            let complete = message.is_whole();
            let carrier = self.routes.carrier_id(&message.key.carrier);
            let profile = carrier.map(|carrier| self.profile(carrier)).unwrap_or_default();
            let message = Box::new(joined(now, id, message, &profile));
            self.record(Record::InboundWhole { message, complete });
        }
    }
}

/// What the receipts of one attempt say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Delivered,
    Failed,
}

/// Which part of a longer message this is: by its header, else by its SAR parameters.
fn part_of(header: &Udh, tlvs: &Tlvs) -> Option<(u16, u8, u8, u8)> {
    if let Some(concat) = header.concat {
        return Some((concat.reference, bits(concat.bits), concat.total, concat.seq));
    }
    let reference = tlvs.get_u16(Tag::SAR_MSG_REF_NUM)?;
    let total = tlvs.get_u8(Tag::SAR_TOTAL_SEGMENTS)?;
    Some((reference, 16, total, tlvs.get_u8(Tag::SAR_SEGMENT_SEQNUM)?))
}

const fn bits(bits: RefBits) -> u8 {
    match bits {
        RefBits::Eight => 8,
        RefBits::Sixteen => 16,
    }
}

/// The parts of an inbound message as one.
fn joined(
    now: Time,
    id: MessageId,
    message: Message<Between, Part>,
    profile: &Profile,
) -> InboundRecord {
    let total = u8::try_from(message.parts.len()).unwrap_or(u8::MAX);
    let present = || message.parts.iter().flatten().map(|Part(part)| part);
    let data_coding = present().next().map_or(0, |part| part.data_coding);
    let parts: Vec<_> = message.parts.iter().map(|part| part.as_ref().map(text_part)).collect();
    let text = decode_parts(DataCoding(data_coding), profile, &parts);
    InboundRecord {
        id,
        at: now,
        data_coding,
        udh: [].into(),
        octets: present().flat_map(|part| part.octets.iter().copied()).collect(),
        text: text.map(Into::into),
        part: message.reference.map(|(width, reference)| (reference, bits(width), total, 0)),
        carrier: message.key.carrier,
        from: message.key.from,
        to: message.key.to,
    }
}

fn text_part(Part(part): &Part) -> text::Part<'_> {
    let header = Udh::parse(&part.udh).map(|(header, _)| header).unwrap_or_default();
    text::Part { header, octets: &part.octets }
}
