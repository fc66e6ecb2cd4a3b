//! Links against peers that keep to a script, on paused time; and over real sockets.
#![expect(clippy::disallowed_methods, reason = "the tests run links and peers as tasks")]

use std::collections::VecDeque;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use hikyaku::clock::Clock;
use hikyaku::dispatch::BindId;
use hikyaku::dispatch::Event;
use hikyaku::dispatch::Token;
use hikyaku::link;
use hikyaku::link::BindMode;
use hikyaku::link::BindState;
use hikyaku::link::Board;
use hikyaku::link::Config;
use hikyaku::link::Connection;
use hikyaku::link::Dial;
use hikyaku::link::DialError;
use hikyaku::link::Dialled;
use hikyaku::link::Handle;
use hikyaku::link::Link;
use hikyaku::link::Status;
use hikyaku::link::tls;
use hikyaku::pdu::Body;
use hikyaku::pdu::COctetString;
use hikyaku::pdu::CommandId;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::Frame;
use hikyaku::pdu::Frames;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::ShortMessage;
use hikyaku::pdu::SubmitMulti;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::SubmitSmResp;
use hikyaku::session;
use hikyaku::session::SendTlvs;
use hikyaku::time::Span;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::Decoder;
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;

const OK: CommandStatus = CommandStatus::ESME_ROK;

/// The gateway's side of some links.
struct Gateway {
    context: link::Context,
    events: mpsc::Receiver<Event>,
    links: Vec<(Handle, JoinHandle<()>)>,
}

impl Gateway {
    fn new() -> Self {
        Self::with_room(1_000)
    }

    /// A gateway that leaves at most `room` events waiting.
    fn with_room(room: usize) -> Self {
        let (sender, events) = mpsc::channel(room);
        let context = link::Context {
            clock: Clock::start(),
            events: sender,
            board: Arc::new(Board::new()),
            shutdown: CancellationToken::new(),
        };
        Self { context, events, links: Vec::new() }
    }

    /// Runs a link to a carrier whose connections come out of the exchange.
    fn link(&mut self, carrier: &str, config: &Config) -> Exchange {
        self.narrow_link(carrier, config, 64 << 10)
    }

    fn plug(
        &mut self,
        carrier: &str,
        config: &Config,
        plug: Plug,
        peers: mpsc::Receiver<DuplexStream>,
    ) -> Exchange {
        let Plug { dials, failures, writes, .. } = &plug;
        let (dials, failures, writes) = (dials.clone(), failures.clone(), writes.clone());
        let config = Arc::new(config.clone());
        let leg = config.legs()[0];
        let link = Link::new(&carrier.into(), &config, leg, Box::new(plug), &self.context);
        self.run(link);
        Exchange { peers, dials, failures, writes }
    }

    /// As [`Gateway::link`], with room for so many octets under way.
    fn narrow_link(&mut self, carrier: &str, config: &Config, room: usize) -> Exchange {
        let (ends, peers) = mpsc::channel(16);
        self.plug(carrier, config, Plug::new(ends, room), peers)
    }

    fn run(&mut self, (handle, link): (Handle, Link)) {
        self.links.push((handle, tokio::spawn(link.run())));
    }

    /// Runs the links of a carrier over TCP.
    fn connect(&mut self, carrier: &str, config: &Config) {
        for link in link::links(&carrier.into(), config, &self.context) {
            self.run(link);
        }
    }

    fn handle(&self) -> &Handle {
        &self.links[0].0
    }

    /// The next event, settled as the gateway does it.
    async fn event(&mut self) -> Event {
        let mut event = self.events.recv().await.unwrap();
        if let Event::Lost { bind, unsent } = &mut event {
            let (handle, _) = self.links.iter().find(|(handle, _)| handle.bind() == bind).unwrap();
            handle.settle(unsent);
        }
        event
    }

    async fn bound(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, Event::Bound { .. }), "{event:?}");
    }

    /// The next event, which is the loss of a bind: what never left.
    async fn lost(&mut self) -> Vec<Token> {
        match self.event().await {
            Event::Lost { unsent, .. } => unsent,
            event => panic!("{event:?}"),
        }
    }

    fn status(&self, carrier: &str, index: u16) -> Status {
        self.context.board.status(&BindId { carrier: carrier.into(), index }).unwrap()
    }

    fn now(&self) -> hikyaku::time::Time {
        self.context.clock.now()
    }

    /// Stops all links and waits for their end.
    async fn stop(mut self) {
        self.context.shutdown.cancel();
        while let Some((_, task)) = self.links.pop() {
            task.await.unwrap();
        }
    }
}

/// Connections that stay inside the process.
struct Plug {
    ends: mpsc::Sender<DuplexStream>,
    dials: Arc<Mutex<Vec<Instant>>>,
    failures: Arc<Mutex<usize>>,
    writes: Arc<AtomicUsize>,
    /// Octets that are under way at most, in each direction.
    room: usize,
}

impl Dial for Plug {
    fn dial(&mut self) -> Dialled<'_> {
        Box::pin(async {
            self.dials.lock().unwrap().push(Instant::now());
            if self.fails() {
                return Err(DialError::TimedOut(Duration::from_secs(10)));
            }
            let (near, far) = tokio::io::duplex(self.room);
            self.ends.send(far).await.unwrap();
            let stream = Box::new(Counted { stream: near, writes: self.writes.clone() });
            Ok(Connection { stream, remote: None })
        })
    }
}

impl Plug {
    fn new(ends: mpsc::Sender<DuplexStream>, room: usize) -> Self {
        let (dials, failures, writes) = (Arc::default(), Arc::default(), Arc::default());
        Self { ends, dials, failures, writes, room }
    }

    fn fails(&self) -> bool {
        let mut failures = self.failures.lock().unwrap();
        let fails = *failures > 0;
        *failures = failures.saturating_sub(1);
        fails
    }
}

/// A stream that counts the writes.
struct Counted {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where the connections of a [`Plug`] come out.
struct Exchange {
    peers: mpsc::Receiver<DuplexStream>,
    dials: Arc<Mutex<Vec<Instant>>>,
    failures: Arc<Mutex<usize>>,
    writes: Arc<AtomicUsize>,
}

impl Exchange {
    async fn peer(&mut self) -> Peer<DuplexStream> {
        Peer::new(self.peers.recv().await.unwrap())
    }

    /// A peer that has accepted the bind.
    async fn bound(&mut self) -> Peer<DuplexStream> {
        let mut peer = self.peer().await;
        peer.accept_bind().await;
        peer
    }

    /// The whole seconds between the dials so far; what chance adds does not count.
    fn waits(&self) -> Vec<u64> {
        let dials = self.dials.lock().unwrap();
        dials.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect()
    }
}

/// The SMSC's end of a connection, which does what the test says.
struct Peer<S> {
    stream: S,
    octets: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    fn new(stream: S) -> Self {
        Self { stream, octets: BytesMut::new() }
    }

    /// The next PDU; `None` when the link has closed.
    async fn hear(&mut self) -> Option<Pdu> {
        loop {
            match Frames::default().decode(&mut self.octets).unwrap() {
                Some(Frame::Pdu(pdu)) => return Some(pdu),
                Some(Frame::Unreadable(frame)) => panic!("{frame:?}"),
                None => {}
            }
            if self.stream.read_buf(&mut self.octets).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// The next PDU, which is this one.
    async fn expect(&mut self, command_id: CommandId) -> Pdu {
        let pdu = self.hear().await.unwrap();
        assert_eq!(pdu.command_id(), command_id);
        pdu
    }

    async fn say(&mut self, pdu: &Pdu) {
        let mut octets = BytesMut::new();
        hikyaku::pdu::encode(pdu, &mut octets).unwrap();
        self.stream.write_all(&octets).await.unwrap();
    }

    async fn accept_bind(&mut self) -> Pdu {
        let bind = self.hear().await.unwrap();
        self.say(&bind.reply(OK).unwrap()).await;
        bind
    }

    async fn accept(&mut self, submit: &Pdu, id: &str) {
        let message_id = Some(id.try_into().unwrap());
        let resp = SubmitSmResp { message_id, ..SubmitSmResp::default() };
        let body = Body::SubmitSmResp(resp);
        self.say(&Pdu::response(submit.sequence_number, OK, body)).await;
    }

    async fn deliver(&mut self, number: u32) {
        self.say(&Pdu::request(number, Body::DeliverSm(DeliverSm::default()))).await;
    }

    /// Holds the link to end the connection properly.
    async fn end(mut self) {
        let unbind = self.expect(CommandId::UNBIND).await;
        self.say(&unbind.reply(OK).unwrap()).await;
        assert_eq!(self.hear().await, None);
    }
}

fn config() -> Config {
    Config { host: "smsc.test".into(), system_id: "acme".into(), ..Config::default() }
}

fn submit() -> Body {
    let destination = hikyaku::pdu::Address {
        addr: COctetString::try_from("819012345678").unwrap(),
        ..hikyaku::pdu::Address::default()
    };
    let short_message = ShortMessage::new(vec![b'x'; 100]).unwrap();
    Body::SubmitSm(SubmitSm { destination, short_message, ..SubmitSm::default() })
}

fn answered(event: &Event, token: u64, status: CommandStatus) -> bool {
    matches!(event, Event::Answered { token: t, status: s, .. } if t.0 == token && *s == status)
}

// A bind at work.

#[tokio::test(start_paused = true)]
async fn requests_travel_both_ways_on_a_bind() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.bound().await;
    let event = gateway.event().await;
    let Event::Bound { bind, window: 10, transmits: true } = event else { panic!("{event:?}") };
    assert_eq!((bind.carrier.as_ref(), bind.index), ("alpha", 0));
    assert!(gateway.status("alpha", 0).is_up());

    gateway.handle().submit(Token(7), submit());
    let heard = peer.expect(CommandId::SUBMIT_SM).await;
    peer.accept(&heard, "1f09").await;
    let event = gateway.event().await;
    assert!(answered(&event, 7, OK), "{event:?}");

    peer.deliver(0xFFFF_FFFF).await;
    let event = gateway.event().await;
    let Event::Delivered { sequence_number, .. } = event else { panic!("{event:?}") };
    gateway.handle().acknowledge(sequence_number, OK);
    let answer = peer.expect(CommandId::DELIVER_SM_RESP).await;
    assert_eq!((answer.sequence_number, answer.command_status), (0xFFFF_FFFF, OK));

    gateway.context.shutdown.cancel();
    peer.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_written_at_once() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    let before = exchange.writes.load(Ordering::Relaxed);
    for token in 0..10 {
        gateway.handle().submit(Token(token), submit());
    }
    for _ in 0..10 {
        peer.expect(CommandId::SUBMIT_SM).await;
    }
    assert_eq!(exchange.writes.load(Ordering::Relaxed) - before, 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_window_is_unanswered() {
    let session = session::Config { window: 2, ..session::Config::default() };
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &Config { session, ..config() });
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    for token in 0..3 {
        gateway.handle().submit(Token(token), submit());
    }
    let first = peer.expect(CommandId::SUBMIT_SM).await;
    peer.expect(CommandId::SUBMIT_SM).await;
    let second = Duration::from_secs(1);
    assert!(tokio::time::timeout(second, peer.hear()).await.is_err(), "the third must wait");
    assert_eq!(gateway.status("alpha", 0).window_used, 2);
    peer.accept(&first, "id").await;
    peer.expect(CommandId::SUBMIT_SM).await;
    let event = gateway.event().await;
    assert!(answered(&event, 0, OK), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_submit_without_an_answer_is_timed_out_and_its_late_answer_still_comes() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    gateway.handle().submit(Token(7), submit());
    let heard = peer.expect(CommandId::SUBMIT_SM).await;
    // The peer lives, and says nothing of the submit.
    for _ in 0..2 {
        let enquiry = peer.expect(CommandId::ENQUIRE_LINK).await;
        peer.say(&enquiry.reply(OK).unwrap()).await;
    }
    let event = gateway.event().await;
    assert!(matches!(event, Event::TimedOut { token: Token(7), .. }), "{event:?}");
    peer.accept(&heard, "late").await;
    let event = gateway.event().await;
    assert!(answered(&event, 7, OK), "{event:?}");
    assert_eq!(gateway.status("alpha", 0).oddities["late_answer"], 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_is_refused_in_the_carriers_place() {
    let session =
        session::Config { send_tlvs: SendTlvs::Never, window: 20, ..session::Config::default() };
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &Config { session, ..config() });
    let _peer = exchange.bound().await;
    gateway.bound().await;
    let handle = gateway.handle();
    handle.submit(Token(1), Body::DeliverSm(DeliverSm::default()));
    let mut tlvs = hikyaku::pdu::Tlvs::new();
    tlvs.push(hikyaku::pdu::Tag::MESSAGE_PAYLOAD, b"text").unwrap();
    handle.submit(Token(2), Body::SubmitSm(SubmitSm { tlvs, ..SubmitSm::default() }));
    let dest_address = vec![hikyaku::pdu::DestAddress::List(COctetString::EMPTY); 256];
    let too_many = SubmitMulti { dest_address, ..SubmitMulti::default() };
    handle.submit(Token(3), Body::SubmitMulti(too_many));
    for (token, status) in [
        (1, CommandStatus::ESME_RINVCMDID),
        (2, CommandStatus::ESME_RINVTLVSTREAM),
        (3, CommandStatus::ESME_RINVCMDLEN),
    ] {
        let event = gateway.event().await;
        assert!(answered(&event, token, status), "{event:?}");
    }
    assert_eq!(gateway.status("alpha", 0).window_used, 0);
}

// The end of a bind.

#[tokio::test(start_paused = true)]
async fn shutdown_unbinds_and_waits_for_answers_that_are_still_to_come() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    gateway.handle().submit(Token(7), submit());
    let heard = peer.expect(CommandId::SUBMIT_SM).await;
    gateway.context.shutdown.cancel();
    let event = gateway.event().await;
    assert!(matches!(event, Event::Closing { .. }), "{event:?}");
    gateway.handle().submit(Token(8), submit());
    peer.accept(&heard, "id").await;
    peer.end().await;
    let event = gateway.event().await;
    assert!(answered(&event, 7, OK), "{event:?}");
    assert_eq!(gateway.lost().await, [Token(8)], "it came too late to be sent");
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_leaves_a_silent_peer_in_time() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    gateway.handle().submit(Token(7), submit());
    peer.expect(CommandId::SUBMIT_SM).await;
    let asked = Instant::now();
    gateway.stop().await;
    // `drain` and `unbind_response` of 5 s each, and 2 s for the last words.
    assert!(asked.elapsed() <= Duration::from_secs(12), "{:?}", asked.elapsed());
    peer.expect(CommandId::UNBIND).await;
}

#[tokio::test(start_paused = true)]
async fn the_peers_unbind_is_answered_and_the_bind_made_again() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    gateway.handle().submit(Token(7), submit());
    let heard = peer.expect(CommandId::SUBMIT_SM).await;
    peer.say(&Pdu::request(1, Body::Unbind)).await;
    peer.expect(CommandId::UNBIND_RESP).await;
    let event = gateway.event().await;
    assert!(matches!(event, Event::Closing { .. }), "{event:?}");
    assert_eq!(gateway.status("alpha", 0).state, BindState::Unbinding);
    peer.accept(&heard, "id").await;
    assert_eq!(peer.hear().await, None);
    let event = gateway.event().await;
    assert!(answered(&event, 7, OK), "{event:?}");
    assert_eq!(gateway.lost().await, []);
    exchange.bound().await;
    gateway.bound().await;
    assert_eq!(gateway.status("alpha", 0).bound, 2);
}

#[tokio::test(start_paused = true)]
async fn a_loss_tells_what_never_began_to_leave() {
    let mut gateway = Gateway::new();
    // Room for the bind, and for a submit and a half.
    let mut exchange = gateway.narrow_link("alpha", &config(), 230);
    let peer = exchange.bound().await;
    gateway.bound().await;
    for token in 1..=4 {
        gateway.handle().submit(Token(token), submit());
    }
    tokio::time::advance(Duration::from_millis(1)).await;
    tokio::task::yield_now().await;
    drop(peer);
    assert_eq!(gateway.lost().await, [Token(3), Token(4)], "2 has left in part");
}

#[tokio::test(start_paused = true)]
async fn what_is_called_unsent_does_not_leave_with_the_last_words() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.narrow_link("alpha", &config(), 230);
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    for token in 1..=4 {
        gateway.handle().submit(Token(token), submit());
    }
    // A PDU that never becomes whole makes the link give up.
    peer.stream.write_all(&[0, 0, 0, 16]).await.unwrap();
    assert_eq!(gateway.lost().await, [Token(3), Token(4)]);
    for expected in [CommandId::SUBMIT_SM, CommandId::SUBMIT_SM, CommandId::UNBIND] {
        peer.expect(expected).await;
    }
    assert_eq!(peer.hear().await, None);
}

#[tokio::test(start_paused = true)]
async fn no_bind_is_made_before_the_loss_of_the_last_is_settled() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    drop(exchange.bound().await);
    gateway.bound().await;
    let event = gateway.events.recv().await.unwrap();
    let Event::Lost { mut unsent, .. } = event else { panic!("{event:?}") };
    gateway.handle().submit(Token(9), submit());
    let hour = Duration::from_secs(3_600);
    assert!(tokio::time::timeout(hour, exchange.peers.recv()).await.is_err());
    gateway.handle().settle(&mut unsent);
    assert_eq!(unsent, [Token(9)]);
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    gateway.handle().submit(Token(10), submit());
    let heard = peer.expect(CommandId::SUBMIT_SM).await;
    peer.accept(&heard, "id").await;
    let event = gateway.event().await;
    assert!(answered(&event, 10, OK), "9 must not be sent: {event:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_a_lost_bind_never_answers_the_next_ones_delivery() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    peer.deliver(1).await;
    let event = gateway.event().await;
    let Event::Delivered { sequence_number: first, .. } = event else { panic!("{event:?}") };
    drop(peer);
    gateway.lost().await;
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    peer.deliver(1).await;
    let event = gateway.event().await;
    let Event::Delivered { sequence_number: second, .. } = event else { panic!("{event:?}") };
    gateway.handle().acknowledge(first, OK);
    gateway.handle().acknowledge(second, CommandStatus::ESME_RX_T_APPN);
    let answer = peer.expect(CommandId::DELIVER_SM_RESP).await;
    assert_eq!(answer.command_status, CommandStatus::ESME_RX_T_APPN);
}

#[tokio::test(start_paused = true)]
async fn an_operator_ends_a_bind_and_makes_a_fresh_one() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let peer = exchange.bound().await;
    gateway.bound().await;
    gateway.handle().rebind();
    peer.end().await;
    assert!(matches!(gateway.event().await, Event::Closing { .. }));
    gateway.lost().await;
    let peer = exchange.bound().await;
    gateway.bound().await;
    assert_eq!(exchange.waits(), [0], "a fresh bind is made at once");

    gateway.handle().unbind();
    peer.end().await;
    assert!(matches!(gateway.event().await, Event::Closing { .. }));
    gateway.lost().await;
    let hour = Duration::from_secs(3_600);
    assert!(tokio::time::timeout(hour, exchange.peers.recv()).await.is_err());
    assert_eq!(gateway.status("alpha", 0).state, BindState::Stopped);
    gateway.handle().rebind();
    exchange.bound().await;
    gateway.bound().await;
}

// No bind.

#[tokio::test(start_paused = true)]
async fn a_carrier_that_cannot_be_reached_is_tried_ever_less_often() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    *exchange.failures.lock().unwrap() = 8;
    let _peer = exchange.bound().await;
    let waits = exchange.waits();
    // The first dial may be over before the failures are set.
    let expected = [1, 2, 4, 8, 16, 32, 60, 60];
    assert_eq!(waits.len(), expected.len());
    for (found, least) in waits.into_iter().zip(expected) {
        assert!((least..=least + least / 5).contains(&found), "{found} is not {least}");
    }
    gateway.bound().await;
    let (_, why) = gateway.status("alpha", 0).last_error.unwrap();
    assert_eq!(why, "no connection within 10s");
}

/// How long the link waits after the bind is refused with `status`, and whether it is alarmed.
async fn refused(status: CommandStatus) -> (Duration, Status) {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.peer().await;
    let bind = peer.hear().await.unwrap();
    peer.say(&bind.reply(status).unwrap()).await;
    assert_eq!(peer.hear().await, None, "a refused bind is not unbound");
    let refused = Instant::now();
    tokio::task::yield_now().await;
    let _peer = exchange.bound().await;
    let waited = refused.elapsed();
    gateway.bound().await;
    let status = gateway.status("alpha", 0);
    (waited, status)
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_apart() {
    for (status, least) in [
        (CommandStatus::ESME_RINVPASWD, 600),
        (CommandStatus::ESME_RINVSYSID, 600),
        (CommandStatus::ESME_RALYBND, 180),
        (CommandStatus::ESME_RBINDFAIL, 30),
        (CommandStatus::ESME_RSYSERR, 30),
    ] {
        let (waited, shown) = refused(status).await;
        let range = least..=least + least / 5 + 2;
        assert!(range.contains(&waited.as_secs()), "{status}: {waited:?}");
        let (_, why) = shown.last_error.unwrap();
        assert_eq!(why, format!("bind refused with {status}"));
        assert!(!shown.alarm, "a bind that stands needs no attention");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_shown_as_an_alarm_until_the_bind_stands() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.peer().await;
    let bind = peer.hear().await.unwrap();
    peer.say(&bind.reply(CommandStatus::ESME_RINVPASWD).unwrap()).await;
    assert_eq!(peer.hear().await, None);
    let minute = Duration::from_secs(60);
    assert!(tokio::time::timeout(minute, exchange.peers.recv()).await.is_err());
    let status = gateway.status("alpha", 0);
    assert!(status.alarm && matches!(status.state, BindState::Waiting { .. }), "{status:?}");
    // The operator has mended the password.
    gateway.handle().rebind();
    let _peer = exchange.bound().await;
    gateway.bound().await;
    assert!(!gateway.status("alpha", 0).alarm);
}

#[tokio::test(start_paused = true)]
async fn a_bind_without_an_answer_is_given_up() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.peer().await;
    peer.expect(CommandId::BIND_TRANSCEIVER).await;
    peer.expect(CommandId::UNBIND).await;
    assert_eq!(peer.hear().await, None);
    let _peer = exchange.bound().await;
    gateway.bound().await;
    let (_, why) = gateway.status("alpha", 0).last_error.unwrap();
    assert_eq!(why, "no bind within session_init");
}

#[tokio::test(start_paused = true)]
async fn the_password_file_is_read_at_each_bind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "first\n").unwrap();
    let mut gateway = Gateway::new();
    let config = Config { password_file: Some(path.clone()), ..config() };
    let mut exchange = gateway.link("alpha", &config);
    for password in ["first", "second"] {
        let mut peer = exchange.peer().await;
        let bind = peer.accept_bind().await;
        let Body::BindTransceiver(bind) = bind.body else { panic!("{bind:?}") };
        assert_eq!(bind.password.as_bytes(), password.as_bytes());
        gateway.bound().await;
        std::fs::write(&path, "second\n").unwrap();
        drop(peer);
        gateway.lost().await;
    }
}

// Peers that behave badly.

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_asked_and_left_and_its_submits_are_unknown() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    gateway.handle().submit(Token(7), submit());
    peer.expect(CommandId::SUBMIT_SM).await;
    let silent_since = Instant::now();
    peer.expect(CommandId::ENQUIRE_LINK).await;
    peer.expect(CommandId::UNBIND).await;
    assert_eq!(silent_since.elapsed().as_secs(), 45);
    assert_eq!(gateway.lost().await, [], "7 may have been taken");
    assert_eq!(peer.hear().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_one_octet_a_second_is_left_and_disturbs_nobody() {
    let mut gateway = Gateway::new();
    let mut slow = gateway.link("slow", &config());
    let mut other = gateway.link("other", &config());
    let mut slow = slow.bound().await;
    gateway.bound().await;
    let mut other = other.bound().await;
    gateway.bound().await;
    let began = Instant::now();
    let trickle = async {
        for octet in [0, 0, 1, 0].into_iter().chain(std::iter::repeat(0)) {
            if slow.stream.write_all(&[octet]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        began.elapsed()
    };
    let work = async {
        let mut token = 0;
        loop {
            gateway.links[1].0.submit(Token(token), submit());
            let heard = other.expect(CommandId::SUBMIT_SM).await;
            other.accept(&heard, "id").await;
            match gateway.events.recv().await.unwrap() {
                Event::Lost { bind, .. } => return (bind, token),
                event => assert!(answered(&event, token, OK), "{event:?}"),
            }
            token += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (left_after, (lost, answered)) = tokio::join!(trickle, work);
    assert_eq!(lost.carrier.as_ref(), "slow");
    assert!((10..=13).contains(&left_after.as_secs()), "{left_after:?}");
    assert!(answered > 90, "{answered}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_smpp_costs_the_connection_and_says_so() {
    for (garbage, announced) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], 0x4854_5450_u32),
        (&[0xFF; 64], 0xFFFF_FFFF),
        (&[0, 0, 0, 15], 15),
        (&[0x7F, 0xFF, 0xFF, 0xFF], 0x7FFF_FFFF),
    ] {
        let mut gateway = Gateway::new();
        let mut exchange = gateway.link("alpha", &config());
        let mut peer = exchange.bound().await;
        gateway.bound().await;
        peer.stream.write_all(garbage).await.unwrap();
        let nack = peer.expect(CommandId::GENERIC_NACK).await;
        assert_eq!(nack.command_status, CommandStatus::ESME_RINVCMDLEN);
        assert_eq!(peer.hear().await, None);
        gateway.lost().await;
        drop(peer);
        let _peer = exchange.bound().await;
        let (_, why) = gateway.status("alpha", 0).last_error.unwrap();
        assert_eq!(why, format!("no SMPP: a command_length of {announced}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_left() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.narrow_link("alpha", &config(), 200);
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    let began = Instant::now();
    for token in 0..10 {
        gateway.handle().submit(Token(token), submit());
    }
    // It goes on sending, so it looks alive.
    let talk = async {
        loop {
            let enquiry = Pdu::request(1, Body::EnquireLink);
            let mut octets = BytesMut::new();
            hikyaku::pdu::encode(&enquiry, &mut octets).unwrap();
            if peer.stream.write_all(&octets).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    let ((), unsent) = tokio::join!(talk, gateway.lost());
    assert!((29..=40).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(unsent.first(), Some(&Token(2)), "{unsent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_and_never_reads_fills_no_memory() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    let mut enquiry = BytesMut::new();
    hikyaku::pdu::encode(&Pdu::request(1, Body::EnquireLink), &mut enquiry).unwrap();
    let flood = enquiry.repeat(1_000);
    let mut taken = 0;
    while peer.stream.write_all(&flood).await.is_ok() {
        taken += flood.len();
        assert!(taken < 1 << 20, "the link takes all");
    }
    gateway.lost().await;
    let (_, why) = {
        drop(exchange.bound().await);
        gateway.status("alpha", 0).last_error.unwrap()
    };
    assert_eq!(why, "connection failed: timed out");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_takes_no_events_makes_the_peer_wait_and_loses_nothing() {
    let mut gateway = Gateway::with_room(1);
    let mut exchange = gateway.narrow_link("alpha", &config(), 4 << 10);
    let peer = exchange.bound().await;
    gateway.bound().await;
    let (mut reading, mut writing) = tokio::io::split(peer.stream);
    let flood = tokio::spawn(async move {
        let mut octets = BytesMut::new();
        for number in 0..2_000 {
            let deliver = Body::DeliverSm(DeliverSm::default());
            hikyaku::pdu::encode(&Pdu::request(number, deliver), &mut octets).unwrap();
            writing.write_all_buf(&mut octets).await.unwrap();
        }
        writing
    });
    // The gateway hangs for ten minutes.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!flood.is_finished(), "the peer must wait");
    let mut octets = BytesMut::new();
    reading.read_buf(&mut octets).await.unwrap();
    let Ok(Some(Frame::Pdu(first))) = Frames::default().decode(&mut octets) else { panic!() };
    assert_eq!(first.body, Body::EnquireLink, "the timers run on");
    for expected in 1..=2_000 {
        let event = gateway.event().await;
        let Event::Delivered { sequence_number, .. } = event else { panic!("{event:?}") };
        assert_eq!(sequence_number, expected);
        gateway.handle().acknowledge(sequence_number, OK);
        octets.clear();
        if expected % 50 == 0 {
            reading.read_buf(&mut octets).await.unwrap();
        }
    }
    let _writing = flood.await.unwrap();
    assert!(gateway.status("alpha", 0).is_up(), "the silence was ours");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_gone_ends_its_links() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut peer = exchange.bound().await;
    gateway.bound().await;
    gateway.events.close();
    peer.deliver(1).await;
    peer.expect(CommandId::UNBIND).await;
    assert_eq!(peer.hear().await, None);
    drop(peer);
    let (_, task) = gateway.links.pop().unwrap();
    task.await.unwrap();
    assert_eq!(gateway.context.board.snapshot(), [], "a link that is gone is not shown");
}

// Over real sockets.

/// A listener on this host, and a config to reach it.
async fn listener(config: Config) -> (TcpListener, Config) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Config { host: "127.0.0.1".into(), port, ..config })
}

#[tokio::test]
async fn a_pair_is_a_transmitter_and_a_receiver_on_their_ports() {
    let (transmitters, config) = listener(config()).await;
    let (receivers, other) = listener(config.clone()).await;
    let mode = BindMode::TxRx;
    let config = Config { receive_port: Some(other.port), mode, ..config };
    let mut gateway = Gateway::new();
    gateway.connect("alpha", &config);
    let mut transmitter = Peer::new(transmitters.accept().await.unwrap().0);
    let bind = transmitter.accept_bind().await;
    assert_eq!(bind.command_id(), CommandId::BIND_TRANSMITTER);
    let event = gateway.event().await;
    let Event::Bound { bind, transmits: true, .. } = event else { panic!("{event:?}") };
    assert_eq!(bind.index, 0);
    let mut receiver = Peer::new(receivers.accept().await.unwrap().0);
    let bind = receiver.accept_bind().await;
    assert_eq!(bind.command_id(), CommandId::BIND_RECEIVER);
    let event = gateway.event().await;
    let Event::Bound { bind, transmits: false, .. } = event else { panic!("{event:?}") };
    assert_eq!(bind.index, 1);
    receiver.deliver(1).await;
    let event = gateway.event().await;
    assert!(matches!(&event, Event::Delivered { bind, .. } if bind.index == 1), "{event:?}");
    assert_eq!(gateway.context.board.snapshot().len(), 2);
    gateway.context.shutdown.cancel();
    transmitter.end().await;
}

#[tokio::test]
async fn a_link_connects_from_the_address_it_is_told() {
    let source: IpAddr = "127.0.0.2".parse().unwrap();
    let (listener, config) = listener(Config { source_address: Some(source), ..config() }).await;
    let mut gateway = Gateway::new();
    gateway.connect("alpha", &config);
    let (_stream, remote) = listener.accept().await.unwrap();
    assert_eq!(remote.ip(), source);
}

#[tokio::test]
async fn a_connection_that_leads_back_to_itself_is_none() {
    let (listener, config) = listener(config()).await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    // Any port of ours may be drawn for the near end; here it is told.
    let (source_address, source_port) = (Some(address.ip()), Some(address.port()));
    let mut gateway = Gateway::new();
    gateway.connect("alpha", &Config { source_address, source_port, ..config });
    let failure = failure(&gateway.context.board, "alpha").await;
    let expected =
        format!("{address}: nobody listens there, and the connection led back to where it began");
    assert_eq!(failure, expected);
}

#[tokio::test]
async fn a_refused_connection_and_a_name_without_an_address_are_shown() {
    let (listener, config) = listener(config()).await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let nowhere = Config { host: "nowhere.invalid".into(), ..config.clone() };
    let mut gateway = Gateway::new();
    gateway.connect("closed", &config);
    gateway.connect("nowhere", &nowhere);
    let board = &gateway.context.board;
    assert!(failure(board, "closed").await.starts_with(&format!("{address}: ")));
    assert!(failure(board, "nowhere").await.starts_with("nowhere.invalid: "));
    let shown = gateway.status("closed", 0);
    assert!(matches!(shown.state, BindState::Waiting { until } if until > gateway.now()));
}

/// Why the carrier's first bind has failed, as soon as it has.
async fn failure(board: &Board, carrier: &str) -> String {
    let bind = BindId { carrier: carrier.into(), index: 0 };
    loop {
        if let Some((_, why)) = board.status(&bind).and_then(|status| status.last_error) {
            return why;
        }
        tokio::task::yield_now().await;
    }
}

/// Binds over TLS to an SMSC of `acceptor`: nothing, or why not.
async fn bind_over(acceptor: TlsAcceptor, tls: tls::Config) -> Result<(), String> {
    let (listener, config) = listener(Config { tls, ..config() }).await;
    let mut gateway = Gateway::new();
    gateway.connect("alpha", &config);
    let smsc = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Peer::new(acceptor.accept(stream).await.ok()?);
        peer.accept_bind().await;
        Some(peer)
    });
    let board = gateway.context.board.clone();
    tokio::select! {
        () = gateway.bound() => {
            gateway.context.shutdown.cancel();
            smsc.await.unwrap().unwrap().end().await;
            Ok(())
        }
        why = failure(&board, "alpha") => Err(why),
    }
}

#[tokio::test]
async fn tls_binds_where_the_certificate_is_trusted() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("smsc.test", false, false);
    assert_eq!(bind_over(acceptor, authority.trusted("smsc.test")).await, Ok(()));
}

#[tokio::test]
async fn tls_refuses_a_certificate_of_another_name_or_authority() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let acceptor = authority.acceptor("smsc.test", false, false);
    let why = bind_over(acceptor.clone(), authority.trusted("other.test")).await.unwrap_err();
    assert!(why.contains("not valid for name"), "{why}");
    let why = bind_over(acceptor, stranger.trusted("smsc.test")).await.unwrap_err();
    assert!(why.contains("invalid peer certificate"), "{why}");
}

#[tokio::test]
async fn tls_shows_a_certificate_where_one_is_wanted() {
    let authority = Authority::new();
    authority.sign("acme.test");
    let acceptor = authority.acceptor("smsc.test", true, false);
    let tls = tls::Config {
        cert_file: Some(authority.path("acme.test.pem")),
        key_file: Some(authority.path("acme.test.key")),
        ..authority.trusted("smsc.test")
    };
    assert_eq!(bind_over(acceptor.clone(), tls).await, Ok(()));
    assert!(bind_over(acceptor, authority.trusted("smsc.test")).await.is_err());
}

#[tokio::test]
async fn tls_1_2_is_spoken_unless_it_is_ruled_out() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("smsc.test", false, true);
    let tls = authority.trusted("smsc.test");
    assert_eq!(bind_over(acceptor.clone(), tls.clone()).await, Ok(()));
    let tls = tls::Config { min_version: tls::MinVersion::V1_3, ..tls };
    assert!(bind_over(acceptor, tls).await.is_err());
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let authority = Authority::new();
    let tls = authority.trusted("smsc.test");
    let connect_timeout = Span::millis(50);
    let (listener, config) = listener(Config { tls, connect_timeout, ..config() }).await;
    let mut gateway = Gateway::new();
    gateway.connect("alpha", &config);
    let _silent = listener.accept().await.unwrap();
    assert_eq!(failure(&gateway.context.board, "alpha").await, "no connection within 50ms");
}

#[tokio::test]
async fn files_of_tls_that_are_missing_are_named() {
    let tls = tls::Config {
        enabled: true,
        ca_file: Some(Path::new("/nonexistent/ca.pem").into()),
        ..tls::Config::default()
    };
    let (_listener, config) = listener(Config { tls, ..config() }).await;
    let mut gateway = Gateway::new();
    gateway.connect("alpha", &config);
    let why = failure(&gateway.context.board, "alpha").await;
    assert!(why.starts_with("tls.ca_file /nonexistent/ca.pem: "), "{why}");
    assert!(gateway.status("alpha", 0).alarm);
}

/// Our own SMSC over TLS, which wants a certificate of `theirs`.
async fn tls_smsc(authority: &Authority, theirs: &Authority) -> (u16, CancellationToken) {
    authority.sign("smsc.test");
    let config = hikyaku::smsc::Config {
        tls_cert: Some(authority.path("smsc.test.pem")),
        tls_key: Some(authority.path("smsc.test.key")),
        tls_client_ca: Some(theirs.path("ca.pem")),
        ..hikyaku::smsc::Config::default()
    };
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let clock = Clock::start();
    let server = hikyaku::smsc::Server::bind(config, address, clock).await.unwrap();
    let (port, stop) = (server.local_addr().unwrap().port(), CancellationToken::new());
    tokio::spawn(server.run(stop.clone(), tokio_util::task::TaskTracker::new()));
    (port, stop)
}

/// Whether a connection ended since a certificate was refused. With TLS 1.3 that is heard of after
/// the handshake, as an alert or as the end of the connection.
fn is_refusal(why: &str) -> bool {
    ["alert", "invalid data", "closed", "reset", "broken pipe"]
        .iter()
        .any(|word| why.contains(word))
}

/// Ends the bind; the next one is on its way.
async fn rebind(gateway: &mut Gateway) {
    gateway.handle().rebind();
    assert!(matches!(gateway.event().await, Event::Closing { .. }));
    gateway.lost().await;
}

#[tokio::test]
async fn a_carrier_that_wants_a_certificate_gets_the_right_one_only() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (port, stop) = tls_smsc(&authority, &authority).await;
    authority.sign("acme.test");
    stranger.sign("acme.test");
    let wrong = tls::Config {
        ca_file: Some(authority.path("ca.pem")),
        ..stranger.showing("smsc.test", "acme.test")
    };
    for tls in [authority.trusted("smsc.test"), wrong] {
        let mut gateway = Gateway::new();
        let config = Config { host: "127.0.0.1".into(), port, tls, ..config() };
        gateway.connect("alpha", &config);
        let why = failure(&gateway.context.board, "alpha").await;
        assert!(is_refusal(&why), "{why}");
    }
    let mut gateway = Gateway::new();
    let tls = authority.showing("smsc.test", "acme.test");
    let config = Config { host: "127.0.0.1".into(), port, tls, ..config() };
    gateway.connect("alpha", &config);
    gateway.bound().await;
    gateway.stop().await;
    stop.cancel();
}

#[tokio::test]
async fn renewed_files_are_used_at_the_next_bind_and_broken_ones_never() {
    let authority = Authority::new();
    let (port, stop) = tls_smsc(&authority, &authority).await;
    authority.sign("acme.test");
    let mut gateway = Gateway::new();
    let tls = authority.showing("smsc.test", "acme.test");
    let config = Config { host: "127.0.0.1".into(), port, tls, ..config() };
    gateway.connect("alpha", &config);
    gateway.bound().await;
    for file in ["acme.test.key", "ca.pem"] {
        let good = std::fs::read(authority.path(file)).unwrap();
        std::fs::write(authority.path(file), "nonsense").unwrap();
        rebind(&mut gateway).await;
        gateway.bound().await;
        std::fs::write(authority.path(file), good).unwrap();
    }
    let stranger = Authority::new();
    stranger.sign("acme.test");
    for file in ["acme.test.pem", "acme.test.key"] {
        std::fs::copy(stranger.path(file), authority.path(file)).unwrap();
    }
    rebind(&mut gateway).await;
    let why = failure(&gateway.context.board, "alpha").await;
    assert!(is_refusal(&why), "{why}");
    authority.sign("acme.test");
    gateway.handle().rebind();
    gateway.bound().await;
    gateway.stop().await;
    stop.cancel();
}

#[tokio::test]
async fn a_link_speaks_with_our_own_smsc() {
    let smsc = hikyaku::smsc::Config::default();
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut gateway = Gateway::new();
    let clock = gateway.context.clock;
    let server = hikyaku::smsc::Server::bind(smsc, address, clock).await.unwrap();
    let port = server.local_addr().unwrap().port();
    let tasks = tokio_util::task::TaskTracker::new();
    let stop = CancellationToken::new();
    tokio::spawn(server.run(stop.clone(), tasks.clone()));
    let config = Config { host: "127.0.0.1".into(), port, ..config() };
    gateway.connect("alpha", &config);
    gateway.bound().await;
    gateway.handle().submit(Token(7), submit());
    let event = gateway.event().await;
    assert!(answered(&event, 7, OK), "{event:?}");
    gateway.stop().await;
    stop.cancel();
}

/// The order in which outcomes of many submits come does not matter, that each has one does.
#[tokio::test(start_paused = true)]
async fn each_submit_has_one_outcome_through_many_losses() {
    let mut gateway = Gateway::new();
    let mut exchange = gateway.link("alpha", &config());
    let mut sent = VecDeque::from_iter((0..300).map(Token));
    let mut outcomes = vec![0_u32; 300];
    let smsc = tokio::spawn(async move {
        for round in 0_u32.. {
            let Some(stream) = exchange.peers.recv().await else { return };
            let mut peer = Peer::new(stream);
            peer.accept_bind().await;
            // Each bind answers a few submits, and then falls.
            for _ in 0..round % 7 {
                let Some(heard) = peer.hear().await else { break };
                if heard.command_id() == CommandId::SUBMIT_SM {
                    peer.accept(&heard, "id").await;
                }
            }
        }
    });
    let mut flying = std::collections::HashSet::new();
    let mut up = false;
    while !sent.is_empty() || !flying.is_empty() {
        while up
            && flying.len() < 10
            && let Some(token) = sent.pop_front()
        {
            flying.insert(token);
            gateway.handle().submit(token, submit());
        }
        match gateway.event().await {
            Event::Bound { .. } => up = true,
            Event::Closing { .. } => up = false,
            Event::Answered { token, .. } | Event::TimedOut { token, .. } => {
                assert!(flying.remove(&token), "{token:?} is not under way");
                outcomes[usize::try_from(token.0).unwrap()] += 1;
            }
            Event::Lost { unsent, .. } => {
                up = false;
                for token in unsent {
                    assert!(flying.remove(&token), "{token:?} is not under way");
                    sent.push_back(token);
                }
                for token in flying.drain() {
                    outcomes[usize::try_from(token.0).unwrap()] += 1;
                }
            }
            event => panic!("{event:?}"),
        }
    }
    assert!(outcomes.iter().all(|times| *times == 1), "{outcomes:?}");
    smsc.abort();
}
