//! One connection to a simulated carrier without its socket: octets and orders in, octets out.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use bytes::BytesMut;
use tokio_util::codec::Decoder;

use crate::pdu::Bind;
use crate::pdu::Body;
use crate::pdu::COctetString;
use crate::pdu::CommandStatus;
use crate::pdu::DeliverSm;
use crate::pdu::FrameError;
use crate::pdu::Frames;
use crate::pdu::SubmitSm;
use crate::pdu::encode;
use crate::session::Event;
use crate::session::Mode;
use crate::session::NotSent;
use crate::session::Session;
use crate::session::SmscConfig;
use crate::session::Version;
use crate::smsc::config::Config;
use crate::smsc::model::Action;
use crate::smsc::model::MOST_HANDED;
use crate::smsc::model::Model;
use crate::smsc::model::SessionId;
use crate::time::Span;
use crate::time::Time;

/// How many orders besides receipts and answers wait for one connection.
const SPARE_ORDERS: usize = 64;

/// What passes a simulated carrier, for whoever measures.
#[derive(Clone, Copy, Debug)]
pub enum Sight<'a> {
    /// A submit came.
    Submit(&'a SubmitSm),
    /// A receipt, or a message of a handset, leaves.
    Receipt(&'a DeliverSm),
    /// It was answered.
    ReceiptTaken(&'a DeliverSm),
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// It does.
    On,
    /// It does, and the model has heard something, so that its next time may be another.
    Told,
    /// It is over: what [`Conversation::output`] still has may be written, no more.
    Over,
}

/// One connection: its session, and what waits for a place in the window or for an answer.
#[derive(Debug)]
pub struct Conversation {
    id: SessionId,
    session: Session,
    frames: Frames,
    input: BytesMut,
    output: BytesMut,
    held: VecDeque<Body>,
    sent: BTreeMap<u64, Body>,
    next_token: u64,
}

impl Conversation {
    /// A peer has connected to a carrier like this.
    pub fn new(now: Time, id: SessionId, config: &Config) -> Self {
        Self {
            id,
            session: Session::smsc(now, &session_config(config)),
            frames: Frames::default(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            held: VecDeque::new(),
            sent: BTreeMap::new(),
            next_token: 0,
        }
    }

    /// The most orders of the model that wait for one connection: the receipts that it may be
    /// handed, and an answer to each request that it may take.
    pub fn most_orders(config: &Config) -> usize {
        MOST_HANDED + usize::from(receive_window(config)) + SPARE_ORDERS
    }

    /// Where octets of the peer's are to be put, before [`Self::take`].
    pub const fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Takes that octets were put into [`Self::input`].
    pub fn take(&mut self, now: Time) {
        loop {
            match self.frames.decode(&mut self.input) {
                Ok(Some(frame)) => self.session.handle_frame(now, frame),
                Ok(None) => break,
                Err(error) => {
                    self.session.handle_frame_error(&error);
                    break;
                }
            }
        }
        self.session.handle_partial(now, !self.input.is_empty());
    }

    /// Takes that the peer has closed its side of the connection.
    pub fn take_end(&mut self) {
        self.session.handle_eof();
    }

    /// Takes that the carrier closes.
    pub fn close(&mut self) {
        self.session.close();
    }

    /// When [`Self::take_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.session.poll_timeout()
    }

    /// Takes that `now` has come.
    pub fn take_timeout(&mut self, now: Time) {
        self.session.handle_timeout(now);
    }

    /// Does what the model says.
    pub fn obey(&mut self, now: Time, order: Action) -> Going {
        match order {
            Action::Respond { sequence_number, status, body, .. } => {
                self.session.respond(now, sequence_number, status, body);
            }
            Action::Deliver { body, .. } => self.held.push_back(body),
            Action::Cut { .. } => return Going::Over,
            Action::Unbind { .. } => self.session.unbind(now),
            Action::Garbage { octets, .. } => self.output.extend_from_slice(&octets),
        }
        Going::On
    }

    /// Acts on what the session says, and sends what its window has room for; to be called after
    /// each of the others.
    pub fn settle(&mut self, now: Time, model: &mut Model, show: &dyn Fn(Sight<'_>)) -> Going {
        let mut going = Going::On;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::BindRequested { bind, .. } => self.judge(now, model, &bind),
                Event::Bound { mode, .. } => {
                    model.bound(self.id, mode != Mode::Tx);
                    going = Going::Told;
                }
                Event::Request { sequence_number, body } => {
                    if let Body::SubmitSm(submit) = &body {
                        show(Sight::Submit(submit));
                    }
                    model.request(now, self.id, sequence_number, &body);
                    going = Going::Told;
                }
                Event::Answered { token, status, body, .. } => {
                    // A nack takes nothing, whatever its status.
                    let is_taken =
                        status == CommandStatus::ESME_ROK && !matches!(body, Body::GenericNack(_));
                    self.answered(now, model, token, is_taken, show);
                    going = Going::Told;
                }
                Event::TimedOut { token, .. } => {
                    self.answered(now, model, token, false, show);
                    going = Going::Told;
                }
                Event::Closed { .. } => return Going::Over,
                _ => {}
            }
        }
        if self.deliver(now, model, show) { Going::Told } else { going }
    }

    /// What is to be written.
    ///
    /// # Errors
    /// When a PDU of ours cannot be written.
    pub fn output(&mut self) -> Result<&mut BytesMut, FrameError> {
        while let Some(pdu) = self.session.poll_transmit() {
            encode(&pdu, &mut self.output)?;
        }
        Ok(&mut self.output)
    }

    /// Its end: hands what did not get through, and orders that it did not obey, back to the
    /// carrier.
    pub fn give_back(self, model: &mut Model, orders: impl IntoIterator<Item = Action>) {
        for body in self.held.into_iter().chain(self.sent.into_values()) {
            model.undelivered(body);
        }
        for order in orders {
            if let Action::Deliver { body, .. } = order {
                model.undelivered(body);
            }
        }
    }

    /// Its session.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// How many receipts and messages it was handed that the peer has not taken.
    pub fn untaken(&self) -> usize {
        self.held.len() + self.sent.len()
    }

    /// Notes that a receipt was taken, or lets it be tried again. A late answer finds nothing.
    fn answered(
        &mut self,
        now: Time,
        model: &mut Model,
        token: u64,
        is_taken: bool,
        show: &dyn Fn(Sight<'_>),
    ) {
        let Some(body) = self.sent.remove(&token) else { return };
        if is_taken {
            if let Body::DeliverSm(deliver) = &body {
                show(Sight::ReceiptTaken(deliver));
            }
            model.delivered(self.id);
        } else {
            model.refused(now, self.id, body);
        }
    }

    /// Sends what there is room for. Gives whether something went back to the model.
    fn deliver(&mut self, now: Time, model: &mut Model, show: &dyn Fn(Sight<'_>)) -> bool {
        let mut told = false;
        while let Some(body) = self.held.pop_front() {
            self.next_token += 1;
            match self.session.submit(now, self.next_token, body.clone()) {
                Ok(_) => {
                    if let Body::DeliverSm(deliver) = &body {
                        show(Sight::Receipt(deliver));
                    }
                    self.sent.insert(self.next_token, body);
                }
                Err(NotSent::NotBound | NotSent::WindowFull) => {
                    self.held.push_front(body);
                    break;
                }
                // It never can be sent to this peer, and must not hold up the others.
                Err(NotSent::NotAllowed(_) | NotSent::NeedsTlv(_)) => {
                    model.refused(now, self.id, body);
                    told = true;
                }
            }
        }
        told
    }

    fn judge(&mut self, now: Time, model: &Model, bind: &Bind) {
        let status = model.judge_bind(now, bind.system_id.as_bytes(), bind.password.as_bytes());
        if status == CommandStatus::ESME_ROK {
            self.session.accept_bind();
        } else {
            self.session.refuse_bind(status);
        }
    }
}

/// How many requests one session may leave unanswered before it is cut short.
const fn receive_window(config: &Config) -> u16 {
    config.window.saturating_mul(2)
}

fn session_config(config: &Config) -> SmscConfig {
    let mut session = SmscConfig {
        system_id: COctetString::new(config.name.clone().into_bytes()).unwrap_or_default(),
        version: match config.version {
            0..0x34 => Version::V3_3,
            0x34..0x50 => Version::V3_4,
            _ => Version::V5_0,
        },
        window: 100,
        receive_window: receive_window(config),
        ..SmscConfig::default()
    };
    session.timers.inactivity = config.inactivity;
    session.timers.enquire_link = Span::secs(30);
    session
}
