//! Handsets that write to us through the carriers, and a book of what the gateway took of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use hikyaku::pdu::Address;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::Npi;
use hikyaku::pdu::ShortMessage;
use hikyaku::pdu::Ton;
use hikyaku::smsc::Carrier;
use hikyaku::smsc::Sight;

use super::draw::Draws;

/// What all handsets have written, by the number of the handset: each writes once.
pub(super) type Book = BTreeMap<String, Letter>;

/// A message of a handset.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) text: String,
    pub(super) parts: Vec<Part>,
}

/// One part of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// How often it left for the gateway.
    pub(super) left: u64,
    /// Whether the gateway has answered that it has it.
    pub(super) is_taken: bool,
}

/// All handsets.
#[derive(Debug)]
pub(super) struct Handsets {
    carriers: Vec<Carrier>,
    book: Arc<Mutex<Book>>,
    next: u64,
}

impl Handsets {
    /// Handsets whose messages come by these carriers.
    pub(super) fn new(carriers: Vec<Carrier>) -> Self {
        let book = Arc::<Mutex<Book>>::default();
        for carrier in &carriers {
            let book = Arc::clone(&book);
            carrier.watch(move |sight| match sight {
                Sight::Submit(_) => {}
                Sight::Receipt(deliver) => note(&book, deliver, |part| part.left += 1),
                Sight::ReceiptTaken(deliver) => note(&book, deliver, |part| part.is_taken = true),
            });
        }
        Self { carriers, book, next: 20_000_000 }
    }

    /// A handset writes to us, in one part or in two.
    pub(super) fn write(&mut self, draws: &mut Draws) {
        self.next += 1;
        let from = format!("8190{}", self.next);
        let texts = if draws.per_cent(30) {
            vec![format!("stop {} ", self.next), "kotoba4711 please".to_owned()]
        } else {
            vec![format!("stop {} kotoba4711", self.next)]
        };
        let letter = Letter { text: texts.concat(), parts: vec![Part::default(); texts.len()] };
        self.book.lock().unwrap().insert(from.clone(), letter);
        let carrier = draws.pick(&[0, 1]);
        let reference = draws.next().to_be_bytes()[0];
        for (text, number) in texts.iter().zip(1..) {
            let header = [5, 0, 3, reference, 2, number];
            let octets = if texts.len() > 1 {
                [&header, text.as_bytes()].concat()
            } else {
                text.clone().into_bytes()
            };
            self.carriers[carrier].receive(deliver(&from, texts.len() > 1, octets));
        }
    }

    /// How many parts the gateway does not have yet.
    pub(super) fn untaken(&self) -> usize {
        let book = self.book.lock().unwrap();
        book.values().flat_map(|letter| &letter.parts).filter(|part| !part.is_taken).count()
    }

    pub(super) fn book(&self) -> Book {
        self.book.lock().unwrap().clone()
    }
}

fn deliver(from: &str, has_header: bool, octets: Vec<u8>) -> DeliverSm {
    let number = |digits: &str| Address::new(Ton::INTERNATIONAL, Npi::ISDN, digits).unwrap();
    DeliverSm {
        source: number(from),
        destination: number("819012345678"),
        esm_class: EsmClass(if has_header { 0x40 } else { 0 }),
        short_message: ShortMessage::new(Bytes::from(octets)).unwrap(),
        ..DeliverSm::default()
    }
}

/// Notes what became of a part, when it is one.
fn note(book: &Mutex<Book>, deliver: &DeliverSm, what: impl FnOnce(&mut Part)) {
    let mut book = book.lock().unwrap();
    let Some(letter) = book.get_mut(&deliver.source.addr.to_text_lossy()) else { return };
    let part = match deliver.short_message.as_bytes() {
        [5, 0, 3, _, _, number, ..] => usize::from(*number) - 1,
        _ => 0,
    };
    what(&mut letter.parts[part]);
}
