//! The body of the fuzz target `smsc`: the simulated carrier, and ESMEs in any mood.
//!
//! The octets are a script: what the carrier is like and what breaks, what up to three ESMEs send,
//! well formed or not and in any slices, what they answer to receipts, and how time passes. A book
//! is kept of every PDU in both directions. At the end an ESME comes that does all as it should,
//! and every receipt must come through.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use hikyaku::pdu::Address;
use hikyaku::pdu::Bind;
use hikyaku::pdu::Body;
use hikyaku::pdu::COctetString;
use hikyaku::pdu::CommandId;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DataSm;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::Frame;
use hikyaku::pdu::Frames;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::QuerySm;
use hikyaku::pdu::Tag;
use hikyaku::pdu::encode;
use hikyaku::session::State;
use hikyaku::smsc::Action;
use hikyaku::smsc::Config;
use hikyaku::smsc::Conversation;
use hikyaku::smsc::FaultKind;
use hikyaku::smsc::Going;
use hikyaku::smsc::Model;
use hikyaku::smsc::SessionId;
use hikyaku::smsc::Sight;
use hikyaku::time::Time;
use tokio_util::codec::Decoder;

use super::script::Script;
use super::smsc_draws::config;
use super::smsc_draws::destination;
use super::smsc_draws::odd_body;
use super::smsc_draws::receipts;
use super::smsc_draws::registered;
use super::smsc_draws::submit;
use super::smsc_draws::wide;

const T0: Time = Time::from_secs(1_800_000_000);

/// How many ESMEs there are.
const PEERS: u8 = 3;

/// How long the carrier waits for the answer to a receipt, and how many may wait for one.
const PATIENCE: Duration = Duration::from_secs(60);
const WINDOW: usize = 100;

/// An ESME and the carrier's end of its connection.
struct Peer {
    id: SessionId,
    conversation: Conversation,
    /// What the model says that the connection has not done yet.
    orders: VecDeque<Action>,
    /// What the ESME has sent and the carrier not read.
    wire: BytesMut,
    /// What the carrier has read, read once more.
    read: BytesMut,
    /// Whether octets came that are no PDU, so that nothing more can be read.
    is_garbled: bool,
    /// Requests that the carrier has read and not answered, by number.
    asked: BTreeMap<u32, Vec<CommandId>>,
    /// The binds that the carrier has read, by number, which may come again.
    binds: BTreeMap<u32, Vec<Bind>>,
    bound: Option<CommandId>,
    is_unbound: bool,
    /// Receipts that came and are not answered: of which number, and when.
    offers: BTreeMap<u32, (Bytes, Time)>,
    /// Submits that the model took and has not answered.
    unanswered: usize,
    accepted: usize,
    next_number: u32,
}

/// What is known of a destination.
#[derive(Clone, Copy, Debug, Default)]
struct Number {
    /// How many receipts its messages have.
    receipts: usize,
    /// How many an ESME took, in its own eyes.
    answered: usize,
    /// How many the carrier noted as taken.
    taken: usize,
}

/// The carrier, its peers, and the book that is kept of them.
struct World {
    config: Config,
    model: Model,
    now: Time,
    peers: [Option<Peer>; PEERS as usize],
    next_id: u64,
    numbers: BTreeMap<Bytes, Number>,
    seen: usize,
    /// When submits were taken, for the rate.
    taken: Vec<Time>,
    ids: BTreeSet<Vec<u8>>,
    /// Whether every receipt must come through.
    is_sure: bool,
}

/// Plays the script.
pub(crate) fn run(octets: &[u8]) {
    let mut script = Script::new(octets);
    let mut world = World::new(config(&mut script));
    while !script.is_over() {
        world.act(&mut script);
        world.look();
    }
    world.end();
}

impl World {
    fn new(config: Config) -> Self {
        let mut model = Model::new(config.clone(), T0);
        model.remember();
        Self {
            is_sure: config.receipt_loss_per_mille == 0,
            config,
            model,
            now: T0,
            peers: [None, None, None],
            next_id: 0,
            numbers: BTreeMap::new(),
            seen: 0,
            taken: Vec::new(),
            ids: BTreeSet::new(),
        }
    }

    fn act(&mut self, script: &mut Script<'_>) {
        let place = usize::from(script.below(PEERS));
        match script.below(24) {
            0..=5 => self.send(place, script),
            6 => self.peer(place).wire.extend_from_slice(script.octets()),
            7 => self.deliver(place, script.octet().into()),
            8 => self.deliver(place, usize::MAX),
            9 => self.now += Duration::from_millis(u64::from(script.octet()) * 10),
            10 => self.now += Duration::from_secs(u64::from(script.octet())),
            11 => self.wait(),
            12 | 13 => self.tick(),
            14 | 15 => self.obey(place, script.below(8).into()),
            16 => self.time_out(place),
            17 | 18 => self.answer(place, script),
            19 => self.part(place, script),
            20 => self.burst(place, script),
            21 => self.handset(script),
            22 => {
                self.open(place);
                self.deliver(place, usize::MAX);
            }
            _ => self.rest(),
        }
    }

    /// The peer at this place; one connects when there is none.
    fn peer(&mut self, place: usize) -> &mut Peer {
        let Self { peers, next_id, now, config, .. } = self;
        peers[place].get_or_insert_with(|| {
            *next_id += 1;
            Peer::new(SessionId(*next_id), *now, config)
        })
    }

    /// Sends a bind that should do.
    fn open(&mut self, place: usize) {
        let bind = Body::BindTransceiver(self.bind(0x34, true));
        let peer = self.peer(place);
        let number = peer.next_number();
        peer.say(&Pdu::request(number, bind));
    }

    fn bind(&self, version: u8, is_right: bool) -> Bind {
        let secret = |want: &str| match is_right {
            true => COctetString::new(want.as_bytes().to_vec()).unwrap(),
            false => COctetString::try_from("no").unwrap(),
        };
        let interface_version = InterfaceVersion(version);
        let system_id = secret(&self.config.system_id);
        let password = COctetString::new(secret(&self.config.password).to_bytes()).unwrap();
        Bind { system_id, password, interface_version, ..Bind::default() }
    }

    /// A PDU that is well formed, as an ESME in any mood may send it.
    fn send(&mut self, place: usize, script: &mut Script<'_>) {
        let body = match script.below(24) {
            kind @ 0..=2 => {
                let (version, is_right) = (script.octet(), script.below(8) > 0);
                let bind = self.bind(version, is_right);
                match kind {
                    0 => Body::BindTransceiver(bind),
                    1 => Body::BindTransmitter(bind),
                    _ => Body::BindReceiver(bind),
                }
            }
            3 => self.about_a_message(script, Body::QuerySm, |message_id| QuerySm {
                message_id,
                ..QuerySm::default()
            }),
            4 => self.about_a_message(script, Body::CancelSm, |message_id| {
                hikyaku::pdu::CancelSm { message_id, ..Default::default() }
            }),
            5 => Body::EnquireLink,
            6 => Body::Unbind,
            7 => odd_body(script),
            8 => Body::DataSm(DataSm {
                destination: Address { addr: wide(&destination(script)), ..Address::default() },
                registered_delivery: registered(script),
                ..DataSm::default()
            }),
            _ => Body::SubmitSm(submit(script)),
        };
        let peer = self.peer(place);
        let number = match script.below(8) {
            0 => script.number(),
            1 => 1,
            _ => peer.next_number(),
        };
        if body.is_request() {
            peer.say(&Pdu::request(number, body));
        } else {
            peer.say(&Pdu::response(number, CommandStatus(script.below(2).into()), body));
        }
        if script.flag() {
            self.deliver(place, usize::MAX);
        }
    }

    fn about_a_message<T>(
        &self,
        script: &mut Script<'_>,
        body: fn(T) -> Body,
        about: fn(COctetString<65>) -> T,
    ) -> Body {
        let place = usize::from(script.octet());
        let id = self.ids.iter().nth(place % (self.ids.len() + 1)).cloned();
        body(about(COctetString::new(id.unwrap_or_else(|| b"4711".to_vec())).unwrap()))
    }

    fn burst(&mut self, place: usize, script: &mut Script<'_>) {
        let submit = submit(script);
        let peer = self.peer(place);
        for _ in 0..=script.octet() {
            let number = peer.next_number();
            peer.say(&Pdu::request(number, Body::SubmitSm(submit.clone())));
        }
        self.deliver(place, usize::MAX);
    }

    /// A handset writes, in some cases with a text that only fits a TLV.
    fn handset(&mut self, script: &mut Script<'_>) {
        let mut message = DeliverSm::default();
        if self.config.version >= 0x34 && script.flag() {
            message.tlvs.push(Tag::MESSAGE_PAYLOAD, b"STOP").unwrap();
        }
        self.model.undelivered(Body::DeliverSm(message));
    }

    /// Lets so many of the ESME's octets arrive.
    fn deliver(&mut self, place: usize, most: usize) {
        let Self { numbers, now, .. } = self;
        let Some(peer) = &mut self.peers[place] else { return };
        let octets = peer.wire.split_to(most.min(peer.wire.len()));
        if !octets.is_empty() {
            peer.reads(&octets, numbers);
            peer.conversation.input().extend_from_slice(&octets);
            peer.conversation.take(*now);
            self.settle(place);
        }
    }

    /// Answers some of what the carrier sent, the oldest first.
    fn answer(&mut self, place: usize, script: &mut Script<'_>) {
        let status = if script.below(4) == 0 { script.number() } else { 0 };
        let count = script.octet().into();
        let is_nack = script.below(8) == 0;
        let Some(peer) = &mut self.peers[place] else { return };
        let numbers: Vec<u32> = peer.offers.keys().copied().take(count).collect();
        for number in numbers {
            let body = match is_nack {
                true => Body::GenericNack(Default::default()),
                false => Body::DeliverSmResp(Default::default()),
            };
            peer.say(&Pdu::response(number, CommandStatus(status), body));
        }
        self.deliver(place, usize::MAX);
    }

    /// The connection ends from without.
    fn part(&mut self, place: usize, script: &mut Script<'_>) {
        let Some(peer) = &mut self.peers[place] else { return };
        match script.below(3) {
            0 => peer.conversation.take_end(),
            1 => peer.conversation.close(),
            _ => return self.lose(place),
        }
        self.settle(place);
    }

    /// Lets the next time come, of the model or of a session.
    fn wait(&mut self) {
        let peers = self.peers.iter().flatten();
        let next = peers.filter_map(|peer| peer.conversation.poll_timeout());
        if let Some(at) = next.chain(self.model.next()).min() {
            self.now = self.now.max(at);
        }
    }

    fn tick(&mut self) {
        let actions = self.model.poll(self.now);
        let next = self.model.next();
        assert!(next.is_none_or(|at| at > self.now), "it would never sleep: {next:?}");
        for action in actions {
            let id = match &action {
                Action::Respond { session, .. }
                | Action::Deliver { session, .. }
                | Action::Cut { session }
                | Action::Unbind { session }
                | Action::Garbage { session, .. } => *session,
            };
            let peer = self.peers.iter_mut().flatten().find(|peer| peer.id == id);
            let peer = peer.unwrap_or_else(|| panic!("it speaks to who is gone"));
            if let Action::Respond {
                body: Body::SubmitSmResp(_) | Body::DataSmResp(_), status, ..
            } = &action
                && *status == CommandStatus::ESME_ROK
            {
                peer.unanswered =
                    peer.unanswered.checked_sub(1).unwrap_or_else(|| panic!("an answer too many"));
            }
            peer.orders.push_back(action);
            assert!(peer.orders.len() <= Conversation::most_orders(&self.config));
        }
    }

    fn obey(&mut self, place: usize, most: usize) {
        for _ in 0..most {
            let Some(peer) = &mut self.peers[place] else { return };
            let Some(order) = peer.orders.pop_front() else { return };
            if matches!(order, Action::Garbage { .. }) {
                peer.is_garbled = true;
            }
            if peer.conversation.obey(self.now, order) == Going::Over {
                return self.lose(place);
            }
            self.settle(place);
        }
    }

    fn time_out(&mut self, place: usize) {
        for _ in 0..4 {
            let now = self.now;
            let Some(peer) = &mut self.peers[place] else { return };
            if peer.conversation.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
            peer.conversation.take_timeout(now);
            self.settle(place);
        }
        let next = self.peers[place].as_ref().and_then(|peer| peer.conversation.poll_timeout());
        assert!(next.is_none_or(|at| at > self.now), "its timers never stop: {next:?}");
    }

    /// Everybody does what is to be done now.
    fn rest(&mut self) {
        self.tick();
        for place in 0..PEERS.into() {
            self.obey(place, usize::MAX);
            self.time_out(place);
        }
    }

    /// Lets a connection act on what came, and reads what it writes.
    fn settle(&mut self, place: usize) {
        let Self { model, now, numbers, .. } = self;
        let Some(peer) = &mut self.peers[place] else { return };
        let book = RefCell::new(numbers);
        let going = peer.conversation.settle(*now, model, &|sight| {
            if let Sight::ReceiptTaken(deliver) = sight
                && deliver.esm_class == EsmClass::MC_DELIVERY_RECEIPT
            {
                let mut book = book.borrow_mut();
                let number = book.entry(deliver.source.addr.to_bytes()).or_default();
                number.taken += 1;
                assert!(number.taken <= number.answered, "nobody took it: {number:?}");
            }
        });
        self.note_submits();
        self.listen(place);
        if going == Going::Over {
            self.lose(place);
        }
    }

    /// Reads what a connection writes.
    fn listen(&mut self, place: usize) {
        let Some(peer) = &mut self.peers[place] else { return };
        let mut heard = peer.conversation.output().unwrap().split();
        if peer.is_garbled {
            return;
        }
        while let Some(frame) = Frames::default().decode(&mut heard).unwrap() {
            let Frame::Pdu(pdu) = frame else { panic!("unreadable: {frame:?}") };
            self.hear(place, &pdu);
        }
        assert!(heard.is_empty(), "half a PDU: {heard:?}");
    }

    /// A connection is over.
    fn lose(&mut self, place: usize) {
        if let Some(peer) = self.peers[place].take() {
            peer.conversation.give_back(&mut self.model, peer.orders);
            self.model.lost(peer.id);
        }
    }

    /// Enters what the model took since.
    fn note_submits(&mut self) {
        let Self { model, numbers, config, .. } = self;
        for seen in &model.seen()[self.seen..] {
            let peer = self.peers.iter_mut().flatten().find(|peer| peer.id == seen.session);
            let peer = peer.unwrap_or_else(|| panic!("a submit of nobody"));
            if seen.status != CommandStatus::ESME_ROK {
                continue;
            }
            let digits = seen.submit.destination.addr.as_bytes();
            let number = numbers.entry(seen.submit.destination.addr.to_bytes()).or_default();
            number.receipts += receipts(config, &seen.submit);
            peer.accepted += 1;
            if !(config.magic_numbers && digits.ends_with(b"0010")) {
                peer.unanswered += 1;
                assert!(peer.unanswered <= config.window.into(), "more than its window");
            }
            self.taken.push(seen.at);
            if let Some(rate) = config.rate {
                let (cap, while_) = if rate.as_millis() >= 1_000 { (2, 1) } else { (1, 2) };
                let since = seen.at - Duration::from_secs(while_);
                let count = self.taken.iter().rev().take_while(|at| **at > since).count();
                assert!(count <= cap, "{count} within {while_} s");
            }
        }
        self.seen = model.seen().len();
    }

    /// Checks what the carrier says.
    fn hear(&mut self, place: usize, pdu: &Pdu) {
        let now = self.now;
        let peer = self.peers[place].as_mut().unwrap();
        match &pdu.body {
            Body::EnquireLink => assert!(peer.bound.is_some() && !peer.is_unbound),
            Body::Unbind => {
                assert!(peer.bound.is_some() && !peer.is_unbound);
                peer.is_unbound = true;
            }
            Body::DeliverSm(deliver) => {
                let receives = peer.bound.is_some_and(|id| id != CommandId::BIND_TRANSMITTER);
                assert!(receives && !peer.is_unbound, "a message to who does not receive");
                let source = deliver.source.addr.to_bytes();
                let is_receipt = deliver.esm_class == EsmClass::MC_DELIVERY_RECEIPT;
                peer.offers.insert(pdu.sequence_number, (source.clone(), now));
                assert!(peer.conversation.session().window().used() <= WINDOW);
                if is_receipt {
                    let number = self.numbers.get(&source).copied().unwrap_or_default();
                    let open = self.open_offers(&source);
                    assert!(number.taken + open <= number.receipts, "too many: {number:?}, {open}");
                }
            }
            body => {
                assert!(!body.is_request(), "no carrier says {body:?}");
                self.hear_answer(place, pdu);
            }
        }
    }

    /// How many receipts of a number are with ESMEs that may still take them.
    fn open_offers(&self, source: &Bytes) -> usize {
        let offers = self.peers.iter().flatten().flat_map(|peer| peer.offers.values());
        let open = |(of, at): &&(Bytes, Time)| of == source && *at + PATIENCE > self.now;
        offers.filter(open).count()
    }

    fn hear_answer(&mut self, place: usize, pdu: &Pdu) {
        let peer = self.peers[place].as_mut().unwrap();
        let asked =
            peer.asked.get_mut(&pdu.sequence_number).unwrap_or_else(|| panic!("nobody asked"));
        let answer = pdu.command_id();
        let fits = |asked: &CommandId| {
            answer == CommandId::GENERIC_NACK || answer.0 == asked.0 | CommandId::GENERIC_NACK.0
        };
        let at = asked.iter().position(fits);
        let request = asked.remove(at.unwrap_or_else(|| panic!("{answer:?} answers {asked:?}")));
        if pdu.command_status != CommandStatus::ESME_ROK {
            return;
        }
        match &pdu.body {
            Body::BindTransceiverResp(_)
            | Body::BindTransmitterResp(_)
            | Body::BindReceiverResp(_) => {
                assert!(peer.bound.is_none(), "bound twice");
                peer.bound = Some(request);
                let right = |want: &str, got: &[u8]| want.is_empty() || want.as_bytes() == got;
                let is_right = |bind: &Bind| {
                    right(&self.config.system_id, bind.system_id.as_bytes())
                        && right(&self.config.password, bind.password.as_bytes())
                };
                assert!(peer.binds[&pdu.sequence_number].iter().any(is_right), "bound a stranger");
            }
            Body::EnquireLinkResp(_) => {}
            body => {
                let sends = peer.bound.is_some_and(|id| id != CommandId::BIND_RECEIVER);
                let is_unbind = matches!(body, Body::UnbindResp(_));
                assert!(sends || is_unbind && peer.bound.is_some(), "{body:?} without a bind");
                self.hear_success(place, pdu);
            }
        }
    }

    /// A request about a message went well.
    fn hear_success(&mut self, place: usize, pdu: &Pdu) {
        match &pdu.body {
            Body::SubmitSmResp(_) | Body::DataSmResp(_) => {
                let peer = self.peers[place].as_mut().unwrap();
                peer.accepted =
                    peer.accepted.checked_sub(1).unwrap_or_else(|| panic!("nobody took it"));
                let id = pdu.message_id().unwrap_or_else(|| panic!("taken without an id"));
                assert!(self.ids.insert(id.to_vec()), "an id twice");
            }
            Body::QuerySmResp(resp) => {
                let id = resp.message_id.clone().unwrap_or_default();
                assert!(self.ids.contains(id.as_bytes()), "it knows who never was");
            }
            _ => {}
        }
    }

    /// Checks that what it holds is what it should, and no more than it may.
    fn look(&self) {
        let (holds, tally) = (self.model.holds(), self.model.tally());
        let peers = || self.peers.iter().flatten();
        let bound = peers().filter(|peer| peer.is_bound_to_model()).count();
        assert_eq!(holds.sessions, bound);
        assert!(bound <= self.config.max_binds.into());
        assert!(holds.waiting <= self.config.max_waiting, "{holds:?}");
        assert!(holds.remembered <= self.config.max_remembered, "{holds:?}");
        let handed: usize = peers().map(Peer::untaken).sum();
        assert_eq!(holds.handed, handed);
        let owed = bound * 2 * usize::from(self.config.window);
        assert!(holds.answers <= owed, "{holds:?}");
        assert_eq!(tally.accepted, self.taken.len() as u64);
        assert_eq!(tally.accepted + tally.refused + tally.throttled, self.seen as u64);
    }

    /// All that breaks is over, every request is answered, and one ESME comes that takes all.
    fn end(&mut self) {
        let faults = self.config.faults.clone();
        for fault in &faults {
            self.now = self.now.max(T0 + *fault.after);
            self.rest();
        }
        self.now += Duration::from_secs(16);
        self.pass(Duration::from_secs(40));
        if !faults.iter().any(|fault| fault.kind == FaultKind::BlackHole) {
            for peer in self.peers.iter().flatten().filter(|peer| !peer.is_garbled) {
                let open: Vec<_> = peer.asked.values().flatten().collect();
                assert!(open.is_empty(), "never answered: {open:?}");
            }
        }
        (0..PEERS.into()).for_each(|place| self.lose(place));
        self.look();
        self.open(0);
        self.deliver(0, usize::MAX);
        self.take_all();
        for (digits, number) in &self.numbers {
            let all = self.is_sure && self.model.tally().lost == 0;
            let is_right = number.taken == number.receipts;
            assert!(is_right || !all, "{digits:?}: {number:?}");
        }
    }

    /// Lets time pass, second by second, without a word of the ESMEs'.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.now += Duration::from_secs(1);
            self.rest();
            self.look();
        }
    }

    /// One ESME takes all that there is.
    fn take_all(&mut self) {
        for _ in 0..100_000 {
            let holds = self.model.holds();
            let inbound = self.config.inbound_every.is_some_and(|every| !every.is_zero());
            if holds.handed == 0 && (holds.waiting == 0 || inbound && self.are_all_taken()) {
                return;
            }
            if holds.handed == 0 {
                self.wait();
            }
            let peer = self.peer(0);
            let number = peer.next_number();
            peer.say(&Pdu::request(number, Body::EnquireLink));
            let offers: Vec<u32> = peer.offers.keys().copied().collect();
            for number in offers {
                let taken = Body::DeliverSmResp(Default::default());
                peer.say(&Pdu::response(number, CommandStatus::ESME_ROK, taken));
            }
            self.deliver(0, usize::MAX);
            self.rest();
            self.look();
            assert_eq!(self.peer(0).bound, Some(CommandId::BIND_TRANSCEIVER), "it went away");
        }
        panic!("never at rest: {:?}", self.model.holds());
    }

    fn are_all_taken(&self) -> bool {
        self.numbers.values().all(|number| number.taken == number.receipts)
    }
}

impl Peer {
    fn new(id: SessionId, now: Time, config: &Config) -> Self {
        Self {
            id,
            conversation: Conversation::new(now, id, config),
            orders: VecDeque::new(),
            wire: BytesMut::new(),
            read: BytesMut::new(),
            is_garbled: false,
            asked: BTreeMap::new(),
            binds: BTreeMap::new(),
            bound: None,
            is_unbound: false,
            offers: BTreeMap::new(),
            unanswered: 0,
            accepted: 0,
            next_number: 1,
        }
    }

    fn next_number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    fn say(&mut self, pdu: &Pdu) {
        encode(pdu, &mut self.wire).unwrap();
    }

    /// Notes what the carrier is about to read.
    fn reads(&mut self, octets: &[u8], numbers: &mut BTreeMap<Bytes, Number>) {
        self.read.extend_from_slice(octets);
        loop {
            match Frames::default().decode(&mut self.read) {
                Ok(Some(frame)) => self.read_frame(frame, numbers),
                Ok(None) => return,
                Err(error) => {
                    let answer = error.reply().map(|_| CommandId::GENERIC_NACK);
                    self.asked.entry(0).or_default().extend(answer);
                    self.read.advance(self.read.len());
                    return;
                }
            }
        }
    }

    fn read_frame(&mut self, frame: Frame, numbers: &mut BTreeMap<Bytes, Number>) {
        let (id, number, status, is_answered) = match &frame {
            Frame::Pdu(pdu) => {
                let reply = pdu.reply(CommandStatus::ESME_ROK);
                (pdu.command_id(), pdu.sequence_number, pdu.command_status, reply.is_some())
            }
            Frame::Unreadable(it) => {
                (it.command_id, it.sequence_number, it.command_status, it.reply().is_some())
            }
        };
        if let Frame::Pdu(Pdu { body, .. }) = &frame
            && let Body::BindTransceiver(bind)
            | Body::BindTransmitter(bind)
            | Body::BindReceiver(bind) = body
        {
            self.binds.entry(number).or_default().push(bind.clone());
        }
        if !id.is_response() {
            self.asked.entry(number).or_default().extend(is_answered.then_some(id));
        } else if matches!(id, CommandId::DELIVER_SM_RESP | CommandId::GENERIC_NACK)
            && let Some((source, _)) = self.offers.remove(&number)
            && id == CommandId::DELIVER_SM_RESP
            && status == CommandStatus::ESME_ROK
        {
            numbers.entry(source).or_default().answered += 1;
        }
    }

    /// Whether the model takes it for bound: from its bind to the end of the connection.
    fn is_bound_to_model(&self) -> bool {
        !matches!(self.conversation.session().state(), State::Open | State::Binding(_))
    }

    /// What it was handed and the ESME has not taken.
    fn untaken(&self) -> usize {
        let ordered = |order: &&Action| matches!(order, Action::Deliver { .. });
        self.conversation.untaken() + self.orders.iter().filter(ordered).count()
    }
}
