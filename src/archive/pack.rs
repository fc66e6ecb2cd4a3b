//! Packs: many messages or many events in one column, their numbers and texts sealed together.
//!
//! The open part of a pack of messages is a count (2 octets, little-endian), for each message where
//! it begins in the rest and in the sealed part (4 each), then the messages: a [`Head`] and the
//! message without what is sealed. The open part of a pack of events is the messages' origins, each
//! once, and the events, which name theirs by its number.

use std::sync::Arc;
use std::sync::OnceLock;

use compact_str::CompactString;
use hashbrown::HashMap;
use serde::Deserialize;
use serde::Serialize;

use crate::archive::Event;
use crate::archive::EventKind;
use crate::archive::FallbackStep;
use crate::archive::Inbound;
use crate::archive::Message;
use crate::archive::Origin;
use crate::archive::Snapshot;
use crate::archive::SnapshotSegment;
use crate::archive::Subject;
use crate::archive::Unmatched;
use crate::archive::blob;
use crate::archive::blob::Flaw;
use crate::archive::secret::InboundSecret;
use crate::archive::secret::MessageSecretRef;
use crate::archive::secret::OpenInbound;
use crate::archive::secret::OpenMessage;
use crate::archive::secret::OpenOrigin;
use crate::archive::secret::OpenUnmatched;
use crate::archive::secret::OriginSecret;
use crate::archive::secret::ReceiptSecret;
use crate::archive::secret::fill_inbound;
use crate::archive::secret::fill_message;
use crate::archive::secret::fill_origin;
use crate::archive::secret::fill_receipt;
use crate::message::MessageId;
use crate::message::Position;
use crate::message::Reason;
use crate::message::State;
use crate::pdu::CommandStatus;
use crate::seal::KeyError;
use crate::seal::Sealer;
use crate::time::Time;

/// The most messages in one pack.
pub(super) const MESSAGES: usize = 128;

/// The most events in one pack.
pub(super) const EVENTS: usize = 256;

/// What of a message a search looks at first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    pub(crate) position: Position,
    pub(crate) created_at: Time,
    pub(crate) key: &'a str,
    pub(crate) state: State,
    pub(crate) carrier: &'a str,
}

impl<'a> Head<'a> {
    pub(crate) fn of(message: &'a Message) -> Self {
        Self {
            position: message.position,
            created_at: message.created_at,
            key: &message.key,
            state: message.state,
            carrier: &message.carrier,
        }
    }
}

/// Messages about to be packed, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    open: Vec<u8>,
    secret: Vec<u8>,
    /// Where each begins.
    starts: Vec<(usize, usize)>,
}

impl Bodies {
    pub(super) fn push(&mut self, message: &Message) {
        self.starts.push((self.open.len(), self.secret.len()));
        blob::push(&Head::of(message), &mut self.open);
        blob::push(&OpenMessage::of(message), &mut self.open);
        blob::push(&MessageSecretRef::of(message), &mut self.secret);
    }

    /// The packs, each of [`MESSAGES`] messages but for the last.
    pub(super) fn packs(&self, sealer: &Sealer) -> Result<Vec<Vec<u8>>, KeyError> {
        let mut packs = Vec::new();
        let mut open = Vec::new();
        let mut starts = self.starts.as_slice();
        while let [(open_start, secret_start), ..] = starts {
            let (pack, rest) = starts.split_at(starts.len().min(MESSAGES));
            let end = (self.open.len(), self.secret.len());
            let (open_end, secret_end) = rest.first().copied().unwrap_or(end);
            open.clear();
            open.extend(u16::try_from(pack.len()).unwrap_or(u16::MAX).to_le_bytes());
            for (at, secret_at) in pack {
                for offset in [at - open_start, secret_at - secret_start] {
                    open.extend(u32::try_from(offset).unwrap_or(u32::MAX).to_le_bytes());
                }
            }
            open.extend(self.open.get(*open_start..open_end).unwrap_or_default());
            let secret = self.secret.get(*secret_start..secret_end).unwrap_or_default();
            packs.push(blob::seal(&open, secret, sealer)?);
            starts = rest;
        }
        Ok(packs)
    }
}

/// A pack of messages that was opened.
#[derive(Debug)]
pub(super) struct Pack {
    open: Vec<u8>,
    /// None when its key was erased.
    secret: Option<Vec<u8>>,
    /// Whose slots they are, in the order of the ids; made when it is first asked for.
    ids: OnceLock<Vec<(MessageId, u8)>>,
}

impl Pack {
    pub(super) fn open(column: &[u8], sealer: &Sealer) -> Result<Self, Flaw> {
        let (open, sealed) = blob::part(column)?;
        Ok(Self { open: open.to_vec(), secret: sealer.open(sealed)?, ids: OnceLock::new() })
    }

    /// The slot of the message with this id.
    pub(super) fn slot_of(&self, id: MessageId) -> Option<u8> {
        let ids = self.ids.get_or_init(|| {
            let slots = (0..=u8::MAX).map_while(|slot| {
                // Its id is what a message begins with.
                let (_, mut body, _) = self.slot(slot).ok()?;
                Some((blob::take(&mut body).ok()?, slot))
            });
            let mut ids: Vec<_> = slots.collect();
            ids.sort_unstable();
            ids
        });
        let found = ids.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        ids.get(found).map(|(_, slot)| *slot)
    }

    /// What follows the head of the message in `slot`, and where its sealed part is.
    fn slot(&self, slot: u8) -> Result<(Head<'_>, &[u8], usize), Flaw> {
        let unreadable = Flaw::Unreadable { octets: self.open.len() };
        let (count, rest) = self.open.split_first_chunk().ok_or(unreadable)?;
        let count = usize::from(u16::from_le_bytes(*count));
        let (places, bodies) = rest.split_at_checked(count * 8).ok_or(unreadable)?;
        let [open, secret] = places
            .as_chunks::<4>()
            .0
            .as_chunks::<2>()
            .0
            .get(usize::from(slot))
            .ok_or(unreadable)?
            .map(|offset| u32::from_le_bytes(offset) as usize);
        let mut body = bodies.get(open..).ok_or(unreadable)?;
        let head = blob::take(&mut body)?;
        Ok((head, body, secret))
    }

    /// The head of the message in `slot`.
    pub(super) fn head(&self, slot: u8) -> Result<Head<'_>, Flaw> {
        self.slot(slot).map(|(head, ..)| head)
    }

    /// The message in `slot`.
    pub(super) fn message(&self, slot: u8) -> Result<Message, Flaw> {
        let (head, mut body, secret) = self.slot(slot)?;
        let mut message: Message = blob::take(&mut body)?;
        Arc::make_mut(&mut message.origin).key = head.key.into();
        message.carrier = head.carrier.into();
        let mut secret = self.secret.as_deref().map(|all| all.get(secret..).unwrap_or_default());
        fill_message(&mut message, secret.as_mut().map(blob::take).transpose()?);
        Ok(message)
    }
}

/// What of a snapshot is its own, as it is written.
#[derive(Serialize)]
struct TailRef<'a> {
    state: State,
    previous_state: Option<State>,
    reason: Option<Reason>,
    carrier: &'a str,
    carrier_status: Option<CommandStatus>,
    carrier_error: &'a str,
    attempt: u16,
    segments: &'a [SnapshotSegment],
    submitted_at: Option<Time>,
    done_at: Option<Time>,
    corrected_at: Option<Time>,
    fallback: &'a Option<FallbackStep>,
}

/// The same as it is read.
#[derive(Deserialize)]
struct Tail {
    state: State,
    previous_state: Option<State>,
    reason: Option<Reason>,
    carrier: Arc<str>,
    carrier_status: Option<CommandStatus>,
    carrier_error: CompactString,
    attempt: u16,
    segments: Vec<SnapshotSegment>,
    submitted_at: Option<Time>,
    done_at: Option<Time>,
    corrected_at: Option<Time>,
    fallback: Option<FallbackStep>,
}

impl<'a> TailRef<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        Self {
            state: snapshot.state,
            previous_state: snapshot.previous_state,
            reason: snapshot.reason,
            carrier: &snapshot.carrier,
            carrier_status: snapshot.carrier_status,
            carrier_error: &snapshot.carrier_error,
            attempt: snapshot.attempt,
            segments: &snapshot.segments,
            submitted_at: snapshot.submitted_at,
            done_at: snapshot.done_at,
            corrected_at: snapshot.corrected_at,
            fallback: &snapshot.fallback,
        }
    }
}

impl Tail {
    fn snapshot(self, origin: Arc<Origin>) -> Snapshot {
        Snapshot {
            origin,
            state: self.state,
            previous_state: self.previous_state,
            reason: self.reason,
            carrier: self.carrier,
            carrier_status: self.carrier_status,
            carrier_error: self.carrier_error,
            attempt: self.attempt,
            segments: self.segments,
            submitted_at: self.submitted_at,
            done_at: self.done_at,
            corrected_at: self.corrected_at,
            fallback: self.fallback,
        }
    }
}

/// An event as it is written (`S` a [`TailRef`] and an [`OpenInbound`]) and as it is read.
#[derive(Serialize, Deserialize)]
struct Packed<M, I> {
    position: Position,
    at: Time,
    kind: EventKind,
    subject: PackedSubject<M, I>,
}

#[derive(Serialize, Deserialize)]
enum PackedSubject<M, I> {
    /// The number of the origin in the pack, and the rest.
    Message(u32, M),
    Inbound(I),
}

/// Octets that an event, with its share of the origin, and what of it is sealed mostly have room in.
const EVENT_ROOM: usize = 192;
const SECRET_ROOM: usize = 32;

/// One pack of events, all of one key.
pub(super) fn events(events: &[&Event], sealer: &Sealer) -> Result<Vec<u8>, KeyError> {
    let mut open = Vec::with_capacity(events.len() * EVENT_ROOM);
    let mut secret = Vec::with_capacity(events.len() * SECRET_ROOM);
    let mut numbers: HashMap<Position, u32> = HashMap::with_capacity(events.len());
    let mut origins = Vec::with_capacity(events.len());
    let snapshots = events.iter().filter_map(|event| match &event.subject {
        Subject::Message(snapshot) => Some(snapshot),
        Subject::Inbound(_) => None,
    });
    for snapshot in snapshots {
        let next = u32::try_from(origins.len()).unwrap_or(u32::MAX);
        numbers.entry(snapshot.position).or_insert_with(|| {
            origins.push(&*snapshot.origin);
            next
        });
    }
    blob::push(&origins.len(), &mut open);
    for origin in origins {
        blob::push(&OpenOrigin::of(origin), &mut open);
        blob::push(&OriginSecret::of(origin), &mut secret);
    }
    blob::push(&events.len(), &mut open);
    for event in events {
        let subject = match &event.subject {
            Subject::Message(snapshot) => {
                let number = numbers.get(&snapshot.position).copied().unwrap_or_default();
                PackedSubject::Message(number, TailRef::of(snapshot))
            }
            Subject::Inbound(inbound) => {
                blob::push(&InboundSecret::of(inbound), &mut secret);
                PackedSubject::Inbound(OpenInbound::of(inbound))
            }
        };
        let Event { position, at, kind, .. } = **event;
        blob::push(&Packed { position, at, kind, subject }, &mut open);
    }
    blob::seal(&open, &secret, sealer)
}

/// Reads a pack of events of `key`.
pub(super) fn read_events(column: &[u8], key: &str, sealer: &Sealer) -> Result<Vec<Event>, Flaw> {
    let (mut open, sealed) = blob::part(column)?;
    let secret = sealer.open(sealed)?;
    let mut secret = secret.as_deref();
    let key: Arc<str> = key.into();
    let count: usize = blob::take(&mut open)?;
    let mut origins = Vec::new();
    for _ in 0..count {
        let mut origin: Origin = blob::take(&mut open)?;
        origin.key = Arc::clone(&key);
        fill_origin(&mut origin, secret.as_mut().map(blob::take).transpose()?);
        origins.push(Arc::new(origin));
    }
    let count: usize = blob::take(&mut open)?;
    let mut events = Vec::new();
    for _ in 0..count {
        let Packed { position, at, kind, subject } =
            blob::take::<Packed<Tail, Inbound>>(&mut open)?;
        let subject = match subject {
            PackedSubject::Message(number, tail) => {
                let origin = origins.get(number as usize).map(Arc::clone);
                let origin = origin.ok_or(Flaw::Unreadable { octets: column.len() })?;
                Subject::Message(Box::new(tail.snapshot(origin)))
            }
            PackedSubject::Inbound(mut inbound) => {
                inbound.key = Arc::clone(&key);
                fill_inbound(&mut inbound, secret.as_mut().map(blob::take).transpose()?);
                Subject::Inbound(Box::new(inbound))
            }
        };
        events.push(Event { position, at, key: Arc::clone(&key), kind, subject });
    }
    Ok(events)
}

/// The column of a receipt that no message had.
pub(super) fn unmatched(receipt: &Unmatched, sealer: &Sealer) -> Result<Vec<u8>, KeyError> {
    let (mut open, mut secret) = (Vec::new(), Vec::new());
    blob::push(&OpenUnmatched::of(receipt), &mut open);
    blob::push(&ReceiptSecret::of(&receipt.receipt), &mut secret);
    blob::seal(&open, &secret, sealer)
}

/// Reads what [`unmatched`] wrote, or a release before this one.
pub(super) fn read_unmatched(column: &[u8], sealer: &Sealer) -> Result<Unmatched, Flaw> {
    if !blob::is_sealed(column) {
        return blob::decode(column);
    }
    let (mut open, sealed) = blob::part(column)?;
    let secret = sealer.open(sealed)?;
    let mut secret = secret.as_deref();
    let mut receipt: Unmatched = blob::take(&mut open)?;
    fill_receipt(&mut receipt.receipt, secret.as_mut().map(blob::take).transpose()?);
    Ok(receipt)
}
