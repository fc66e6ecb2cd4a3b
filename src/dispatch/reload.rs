//! The start, and a change of the config while messages live.

use crate::message::Record;
use crate::message::State;
use crate::message::UnansweredCause;
use crate::route::Carrier;
use crate::route::CarrierId;
use crate::route::Fault;
use crate::route::RouteConfig;
use crate::route::Standing as CarrierStanding;
use crate::time::Time;

use super::Dispatch;
use super::config::Config;
use super::config::count;
use super::live::Place;
use super::live::Standing;
use super::orphans::Homes;
use super::orphans::ids;
use super::table::Slot;
use super::throttle::Pace;

impl Dispatch {
    /// Ends the replay: what was on its way when the process stopped is unknown, and everything
    /// goes on.
    pub fn replayed(&mut self, now: Time) {
        self.sync_stations(now);
        self.make_homes();
        let mut slots: Vec<Slot> = self.book.table.slots().collect();
        slots.retain(|slot| self.book.table[*slot].id().as_u128() != 0);
        // As they were accepted, so that each key's messages keep their order.
        slots.sort_unstable_by_key(|slot| self.book.table[*slot].id());
        let (ended, live): (Vec<_>, Vec<_>) =
            slots.into_iter().partition(|slot| self.book.table[*slot].is_finished());
        for slot in live {
            self.forget_flights(now, slot);
            self.resume(now, slot);
        }
        for slot in ended {
            self.weigh_all(now, slot);
        }
        self.match_orphans(now);
        self.join_parts(now);
    }

    /// Takes a new config: carriers and routes may have come, changed or gone, also with live
    /// messages on them.
    ///
    /// Limits, rates and times hold from now on. A message whose carrier is gone goes to the next one of
    /// its route; one whose route is gone goes by the route that takes it now.
    ///
    /// # Errors
    /// Every fault of the carriers and routes; then nothing changes.
    pub fn reconfigure(
        &mut self,
        now: Time,
        config: Config,
        carriers: Vec<Carrier>,
        routes: Vec<RouteConfig>,
    ) -> Result<(), Vec<Fault>> {
        self.routes = self.routes.reload(carriers, routes)?;
        self.book.configure(&config);
        self.bodies.set_limit(count(config.body_bytes));
        self.cleaner.configure(&config);
        self.config = config;
        self.sync_stations(now);
        self.make_homes();
        self.review = Some(Slot(0));
        self.retime = Some(Slot(0));
        self.turn(now);
        Ok(())
    }

    /// The carriers and routes in force, with the numbers of their names.
    pub const fn routes(&self) -> &crate::route::Routes {
        &self.routes
    }

    /// Gives each station its carrier, its rate and its shares.
    fn sync_stations(&mut self, now: Time) {
        let carriers: Vec<_> = self.routes.carriers().cloned().collect();
        for carrier in &carriers {
            self.station_mut(carrier.id);
        }
        let weights = self.config.weights();
        for (station, number) in self.stations.iter_mut().zip(0..) {
            let carrier = self.routes.carrier(CarrierId(number)).cloned();
            match (&carrier, &station.carrier) {
                (Some(new), Some(_)) => station.pace.set_ceiling(now, new.config.rate),
                (Some(new), None) => station.pace = Pace::new(new.config.rate, now),
                (None, _) => {}
            }
            let rate_per_bind = carrier.as_ref().and_then(|carrier| carrier.config.rate_per_bind);
            for bind in station.binds.values_mut() {
                bind.set_rate(now, rate_per_bind);
            }
            station.carrier = carrier;
            station.shares.set_weights(weights);
            station.update_standing(now);
            self.dirty.insert(CarrierId(number));
        }
    }

    fn make_homes(&mut self) {
        self.homes = Homes::of(&self.book.orphans, |carrier| self.id_mode(carrier));
    }

    /// No answer will come to what was sent before the restart.
    fn forget_flights(&mut self, now: Time, slot: Slot) {
        let live = &self.book.table[slot];
        let id = live.id();
        let sending = live.attempts().filter(|attempt| attempt.has(Standing::Sending));
        let open: Vec<_> = sending.map(|it| (it.number, it.standing(Standing::Sending))).collect();
        for (attempt, segments) in open {
            let cause = UnansweredCause::Restart;
            self.record(Record::Unanswered { id, at: now, attempt, segments, cause });
        }
    }

    /// Puts a message where its state says it was.
    fn resume(&mut self, now: Time, slot: Slot) {
        let id = self.book.table[slot].id();
        match self.book.table[slot].state {
            State::Submitting => {
                let live = &mut self.book.table[slot];
                live.place = Place::Wire;
                live.lane = live.carrier;
                self.settle(now, slot);
            }
            State::Submitted => self.taken(now, slot),
            _ => self.place(now, slot),
        }
        if let Some(slot) = self.book.find_live(id) {
            self.weigh_all(now, slot);
        }
    }

    /// Draws from all receipts of a message what follows: a receipt's record may be there and that
    /// not.
    fn weigh_all(&mut self, now: Time, slot: Slot) {
        let live = &self.book.table[slot];
        let (id, was_finished) = (live.id(), live.is_finished());
        let numbers: Vec<u16> = live.attempts().map(|attempt| attempt.number).collect();
        for number in numbers {
            match self.book.table.find(id) {
                Some(slot) if self.book.table[slot].is_finished() == was_finished => {
                    self.weigh_receipts(now, slot, number);
                }
                _ => return,
            }
        }
    }

    /// Looks for the segments of orphans whose answer came just before the process stopped.
    fn match_orphans(&mut self, now: Time) {
        let orphans: Vec<_> = self.book.orphans.iter().map(|(_, it)| it.clone()).collect();
        for orphan in orphans {
            let mode = self.id_mode(orphan.carrier);
            let found = self.book.ledger.find(orphan.carrier, mode, ids(&orphan.receipt));
            if let [target] = found[..] {
                self.take_receipt(now, target, orphan.receipt, None);
            }
        }
        self.make_homes();
    }

    /// Whether any carrier of the config has a bind that submits.
    pub fn is_any_up(&self) -> bool {
        self.stations.iter().any(|station| station.standing == CarrierStanding::Up)
    }
}
