//! The life of all live messages: events in, effects out.
//!
//! [`Dispatch`] is told what happened ([`Event`]) and asked what is to be done ([`Effect`]). It
//! waits for nothing, reads no clock and touches no socket.
//!
//! ```text
//!   handle(now, event) --> records --> commit(place) --> the journal --> Event::Durable
//!                      \-> effects, held until the records before them are durable --> poll_effect
//! ```
//!
//! # In reading order
//!
//! * `book`, `apply`: the durable half. Whatever must survive is in a record, and the book changes
//!   by records only, live and in replay alike. `live` is one message of it, `table` holds them,
//!   `ledger` finds segments by the carriers' ids, `orphans` are receipts that came too early,
//!   `idempotency`, `references` and `inbound` are what their names say.
//! * `station`: one carrier with its binds and lanes (`lanes`, `shares`) and its rate (`pace`,
//!   `throttle`). Nothing of it outlives the process.
//! * `accept`, `submit`, `outcome`, `receipts`, `errands`, `wake`: what each event leads to. Which
//!   carrier comes next, and whether a message may be sent again, is [`crate::route`]'s to say.
//! * `gate`, `clean`: what waits for the disk, and what keeps the journal short.
//!
//! # Where a message is
//!
//! ```text
//!  accepted -> Due --> Lane --> Wire --> Taken --> finished (-> corrected, once)
//!               ^        |        |        |
//!               |        +--------+--------+--> Held: a carrier may have it, nothing more is sent
//!               +--- again, or another carrier
//! ```

mod accept;
mod apply;
mod binds;
mod bodies;
mod book;
mod clean;
mod config;
mod digest;
mod errands;
mod event;
mod gate;
mod idempotency;
mod inbound;
mod index;
mod lanes;
mod ledger;
mod list;
mod live;
mod names;
mod orphans;
mod outcome;
mod pace;
mod receipts;
mod references;
mod reload;
mod shares;
mod shedding;
mod snapshot;
mod station;
mod submit;
mod table;
mod throttle;
mod timers;
mod usage;
mod wake;

use std::collections::BTreeSet;

use crate::message::IdSource;
use crate::message::Position;
use crate::message::Record;
use crate::pdu::CommandStatus;
use crate::route::CarrierId;
use crate::route::Routes;
use crate::route::Standing;
use crate::time::Time;

use self::bodies::Bodies;
use self::book::Book;
use self::clean::Cleaner;
use self::config::count;
use self::errands::Errands;
use self::gate::Gate;
use self::gate::Held;
use self::live::NO_CARRIER;
use self::orphans::Homes;
use self::shedding::Drain;
use self::station::Station;
use self::table::Slot;
use self::timers::Timers;

pub use self::config::Config;
pub use self::config::WeightsConfig;
pub use self::event::BindId;
pub use self::event::Effect;
pub use self::event::Event;
pub use self::event::Notice;
pub use self::event::Reply;
pub use self::event::Ticket;
pub use self::event::Token;
pub use self::shedding::SheddingConfig;
pub use self::snapshot::CarrierSnapshot;
pub use self::snapshot::LaneSnapshot;
pub use self::snapshot::Snapshot;

/// All live messages, and what is to become of them.
///
/// After start: [`Dispatch::replay`] each record of the journal, then [`Dispatch::replayed`] once.
/// From then on [`Dispatch::handle`] each event, or [`Dispatch::hear`] several and
/// [`Dispatch::turn`] once; then [`Dispatch::commit`] the records that were made, and drain
/// [`Dispatch::poll_effect`].
#[derive(Debug)]
pub struct Dispatch {
    config: Config,
    routes: Routes,
    book: Book,
    gate: Gate,
    /// By the number of the carrier.
    stations: Vec<Station>,
    /// Stations where something may leave.
    dirty: BTreeSet<CarrierId>,
    timers: Timers,
    bodies: Bodies,
    homes: Homes,
    errands: Errands,
    cleaner: Cleaner,
    /// Messages that ended.
    ended: Drain,
    /// Records that became durable.
    synced: Drain,
    /// How far the walk has come that looks at all lanes after a carrier went down or up.
    review: Option<Slot>,
    /// How far the walk has come that sets timers anew after a reload.
    retime: Option<Slot>,
    inbound_ids: IdSource,
    next_token: u64,
    /// How many events came since the last turn.
    heard: usize,
    is_store_down: bool,
    is_draining: bool,
}

impl Dispatch {
    /// A dispatcher without messages. `seed` is where the ids of inbound messages come from; all
    /// else that looks like chance comes from the messages' own ids.
    pub fn new(config: Config, routes: Routes, seed: u64) -> Self {
        Self {
            book: Book::new(&config),
            bodies: Bodies::new(count(config.body_bytes)),
            cleaner: Cleaner::new(&config),
            config,
            routes,
            gate: Gate::default(),
            stations: Vec::new(),
            dirty: BTreeSet::new(),
            timers: Timers::default(),
            homes: Homes::default(),
            errands: Errands::default(),
            ended: Drain::default(),
            synced: Drain::default(),
            review: None,
            retime: None,
            inbound_ids: IdSource::new(seed),
            next_token: 0,
            heard: 0,
            is_store_down: false,
            is_draining: false,
        }
    }

    /// Takes one record of the journal at start, in order, all of them.
    pub fn replay(&mut self, position: Position, record: &Record) {
        self.book.apply(&mut self.routes, record);
        self.book.place(record, position);
        self.cleaner.placed(position, record);
        self.gate.replayed(position);
    }

    /// Takes something that happened, and does what follows: [`Dispatch::hear`] and then
    /// [`Dispatch::turn`].
    pub fn handle(&mut self, now: Time, event: Event) {
        self.hear(now, event);
        self.turn(now);
    }

    /// Takes something that happened; what may leave or is due waits for [`Dispatch::turn`], so
    /// that what happened together is looked at once.
    ///
    /// The work of one call is bounded, except at [`Event::Lost`] of a bind by its window.
    pub fn hear(&mut self, now: Time, event: Event) {
        self.heard += 1;
        match event {
            Event::Accept { ticket, submission } => self.on_accept(now, ticket, submission),
            Event::Recall { ticket, request } => self.on_recall(now, ticket, &request),
            Event::Cancel { ticket, id, by_operator } => {
                self.on_cancel(now, ticket, id, by_operator);
            }
            Event::Durable { end } => {
                let synced = self.gate.set_durable(now, end);
                self.synced.note(now, synced);
            }
            Event::StoreFailed => self.is_store_down = true,
            Event::StoreRecovered => self.on_store_recovered(),
            Event::Renew { before } => self.cleaner.renew(before),
            Event::Fetched { id, submission } => self.on_fetched(now, id, submission),
            Event::Bound { bind, window, transmits } => {
                self.on_bound(now, &bind, window, transmits);
            }
            Event::Closing { bind } => self.on_closing(now, &bind),
            Event::Lost { bind, unsent } => self.on_lost(now, &bind, &unsent),
            Event::Answered { bind, token, sequence_number, status, body } => {
                self.on_answered(now, &bind, token, sequence_number, status, &body);
            }
            Event::TimedOut { bind, token } => self.on_timed_out(now, &bind, token),
            Event::Delivered { bind, sequence_number, body } => {
                self.on_delivered(now, bind, sequence_number, &body);
            }
            Event::Drain => self.on_drain(now),
            Event::Wake => {}
        }
    }

    /// Does what is to be done whatever happened: what is due, what is free to go.
    ///
    /// The work of one call is bounded. What is left over is done at the next, for which
    /// [`Dispatch::poll_timeout`] then asks at once.
    pub fn turn(&mut self, now: Time) {
        let heard = std::mem::take(&mut self.heard);
        if !self.is_store_down {
            self.run_timers(now);
            self.run_review(now);
            self.run_retime(now);
            self.drop_orphans(now);
            self.give_up_parts(now);
            self.clean(now, heard);
            self.send(now);
        }
        self.gate.watch(now);
    }

    /// Hands out the records that were made since the last call, in order. `place` appends one to
    /// the journal and says where.
    ///
    /// # Errors
    /// That of `place`. The record it refused and those behind it are kept for the next call.
    pub fn commit<E>(
        &mut self,
        mut place: impl FnMut(&Record) -> Result<Position, E>,
    ) -> Result<(), E> {
        while let Some(record) = self.gate.next_record() {
            let position = place(record)?;
            if let Some(record) = self.gate.placed(position) {
                self.book.place(&record, position);
                self.cleaner.placed(position, &record);
            }
        }
        Ok(())
    }

    /// The next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.gate.poll()
    }

    /// When [`Event::Wake`] is to be handled at the latest; [`Time::ZERO`] for at once.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.is_store_down {
            return None;
        }
        if self.review.is_some() || self.retime.is_some() || !self.dirty.is_empty() {
            return Some(Time::ZERO);
        }
        let hold = self.config.orphan_hold.0;
        let stations = self.stations.iter().filter_map(|station| station.wake_at);
        let others = [
            self.timers.next(),
            self.book.orphans.oldest().map(|(_, orphan)| orphan.at + hold),
            self.book.parts.deadline(),
        ];
        stations.chain(others.into_iter().flatten()).min()
    }

    /// How many messages each key has handed in on the UTC day of `now`.
    pub fn used_today(&self, now: Time) -> impl Iterator<Item = (&str, u64)> {
        self.book.usage.today(now).map(|(key, count)| (self.book.keys.get(key), count))
    }

    /// A hash of all that a replay of the records so far would find, for tests.
    pub fn state_hash(&self) -> u64 {
        self.book.digest(&self.routes)
    }

    /// Lets everything leave that may: through the gate, into the windows, past the rates.
    fn send(&mut self, now: Time) {
        self.open_gate();
        for (station, number) in self.stations.iter_mut().zip(0..) {
            // What is still to be waited for is found out anew.
            if station.wake_at.take_if(|wake_at| *wake_at <= now).is_some() {
                self.dirty.insert(CarrierId(number));
            }
        }
        for carrier in std::mem::take(&mut self.dirty) {
            if let Some(station) = self.stations.get_mut(usize::from(carrier.0)) {
                station.wake_at = None;
            }
            // What leaves makes room for what is staged.
            self.leave(now, carrier);
            self.stage(now, carrier);
            self.open_gate();
        }
    }

    fn open_gate(&mut self) {
        while let Some(held) = self.gate.release() {
            match held {
                Held::Reply(ticket, reply) => {
                    self.gate.let_out(Effect::Reply { ticket, reply });
                }
                Held::Acknowledge(bind, sequence_number) => {
                    let status = CommandStatus::ESME_ROK;
                    self.gate.let_out(Effect::Acknowledge { bind, sequence_number, status });
                }
                Held::Trim(before) => self.gate.let_out(Effect::Trim { before }),
                Held::Submit(carrier, bind, token) => self.make_ready(carrier, bind, token),
                Held::Fetch(id) => self.fetch_now(id),
            }
        }
    }

    /// Makes a record: takes what it says, and hands it to the journal.
    fn record(&mut self, record: Record) {
        self.book.apply(&mut self.routes, &record);
        self.gate.record(record);
    }

    fn notice(&mut self, notice: Notice) {
        self.gate.let_out(Effect::Notice(notice));
    }

    /// The station of a carrier, also of one that only old records name.
    fn station_mut(&mut self, carrier: CarrierId) -> &mut Station {
        debug_assert_ne!(carrier, NO_CARRIER, "a station for each number below");
        let place = usize::from(carrier.0);
        while self.stations.len() <= place {
            let number = CarrierId(u16::try_from(self.stations.len()).unwrap_or(u16::MAX));
            let name = self.routes.carrier_name(number);
            self.stations.push(Station::new(name, Time::ZERO, self.config.weights()));
        }
        #[expect(clippy::indexing_slicing, reason = "the loop above made it")]
        &mut self.stations[place]
    }

    fn station(&self, carrier: CarrierId) -> Option<&Station> {
        self.stations.get(usize::from(carrier.0))
    }

    fn standing(&self, carrier: CarrierId) -> Standing {
        self.station(carrier).map_or(Standing::Off, |station| station.standing)
    }
}
