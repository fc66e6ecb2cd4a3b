//! The event feed as it must be: every durable record projected once, in order, by nobody who can
//! crash.

use std::collections::HashMap;

use hikyaku::archive::Event;
use hikyaku::archive::EventKind;
use hikyaku::archive::Message;
use hikyaku::archive::NumberKeeper;
use hikyaku::archive::Numbers;
use hikyaku::archive::Projection;
use hikyaku::message::MessageId;
use hikyaku::message::Position;
use hikyaku::message::Record;

use super::story::Kept;
use super::story::broken;

/// All events so far.
#[derive(Debug)]
pub(super) struct Feed {
    projection: Projection,
    messages: HashMap<MessageId, Message>,
    pub(super) events: Vec<Event>,
    /// How many terminal events each message has had.
    ends: HashMap<MessageId, u32>,
}

impl Feed {
    pub(super) fn new() -> Self {
        let numbers = NumberKeeper::new(Numbers::Plain, [0; 32]);
        let inbound_owners = std::iter::once(("*".to_owned(), "key0".to_owned())).collect();
        let projection = Projection { numbers, store_text: false, inbound_owners };
        let (messages, ends) = (HashMap::new(), HashMap::new());
        Self { projection, messages, events: Vec::new(), ends }
    }

    /// Takes the next durable record.
    pub(super) fn take(&mut self, position: Position, record: &Record) -> Kept {
        let is_correction = matches!(record, Record::Corrected { .. });
        let event = match (record, record.message_id()) {
            (Record::Inbound(_) | Record::InboundWhole { .. }, _) => {
                self.projection.inbound(position, record.clone())
            }
            (_, Some(id)) => match self.messages.get_mut(&id) {
                Some(message) => self.projection.apply(message, position, record.clone()),
                None => {
                    let begun = self.projection.begin(position, record.clone());
                    let (message, event) = begun.unzip();
                    self.messages.extend(message.map(|message| (id, message)));
                    event.flatten()
                }
            },
            (_, None) => None,
        };
        let Some(event) = event else { return Ok(()) };
        if self.events.last().is_some_and(|last| last.position >= event.position) {
            return broken(None, "the feed goes back");
        }
        if is_terminal(event.kind) {
            let ends = self.ends.entry(event.message_id()).or_default();
            *ends += 1;
            if *ends != 1 + u32::from(is_correction) {
                return broken(None, format!("terminal event {ends} of {}", event.message_id()));
            }
        }
        self.events.push(event);
        Ok(())
    }

    /// All messages with all that happened to them.
    pub(super) fn messages(&self) -> impl Iterator<Item = (&MessageId, &Message)> {
        self.messages.iter()
    }

    /// How many terminal events a message has had.
    pub(super) fn ends(&self, id: MessageId) -> u32 {
        self.ends.get(&id).copied().unwrap_or_default()
    }
}

/// Whether a message has ended with this event.
fn is_terminal(kind: EventKind) -> bool {
    !matches!(
        kind,
        EventKind::Queued | EventKind::Submitted | EventKind::Fallback | EventKind::InboundReceived
    )
}
