//! Binds come and go.

use std::collections::BTreeMap;

use crate::message::MessageId;
use crate::message::UnansweredCause;
use crate::route::CarrierId;
use crate::time::Time;

use super::Dispatch;
use super::event::BindId;
use super::event::Token;
use super::live::Place;
use super::live::Standing;
use super::pace::Limiter;
use super::station::Bind;
use super::station::Errand;
use super::station::Flight;
use super::table::Slot;

impl Dispatch {
    pub(super) fn on_bound(&mut self, now: Time, bind: &BindId, window: u16, transmits: bool) {
        // A bind that comes up twice was lost in between.
        self.on_lost(now, bind, &[]);
        let Some(carrier) = self.routes.carrier_id(&bind.carrier) else { return };
        let config = self.routes.carrier(carrier).map(|carrier| carrier.config.clone());
        let rate = config.and_then(|config| config.rate_per_bind);
        let fresh = Bind {
            window,
            used: 0,
            staged: 0,
            transmits,
            is_closing: false,
            limiter: rate.map(|rate| Limiter::new(rate, now)),
            flights: BTreeMap::new(),
            jobs: [None, None, None],
        };
        self.station_mut(carrier).binds.insert(bind.index, fresh);
        self.dirty.insert(carrier);
        self.update_standing(now, carrier);
    }

    pub(super) fn on_closing(&mut self, now: Time, bind: &BindId) {
        let Some(carrier) = self.routes.carrier_id(&bind.carrier) else { return };
        let Some(it) = self.station_mut(carrier).binds.get_mut(&bind.index) else { return };
        it.is_closing = true;
        let jobs = it.take_jobs();
        let back = it.take_staged(None);
        self.take_back(now, carrier, back);
        self.give_up_jobs(now, jobs);
        self.update_standing(now, carrier);
    }

    pub(super) fn on_lost(&mut self, now: Time, bind: &BindId, unsent: &[Token]) {
        let Some(carrier) = self.routes.carrier_id(&bind.carrier) else { return };
        let Some(mut lost) = self.station_mut(carrier).binds.remove(&bind.index) else { return };
        let jobs = lost.take_jobs();
        let mut back = lost.take_staged(None);
        let staged = back.len();
        for token in unsent {
            back.extend(lost.flights.remove(token));
        }
        // What left us and came back was counted as gone from the stage already.
        let station = self.station_mut(carrier);
        station.staged += u32::try_from(back.len() - staged).unwrap_or_default();
        self.take_back(now, carrier, back);
        self.lose(now, carrier, lost.flights.into_values());
        self.give_up_jobs(now, jobs);
        self.update_standing(now, carrier);
    }

    /// Takes that no answer will come any more.
    fn lose(&mut self, now: Time, carrier: CarrierId, flights: impl Iterator<Item = Flight>) {
        let mut gone = Vec::new();
        for flight in flights.filter(|flight| flight.holds_place) {
            match flight.errand {
                Errand::Submit { attempt, segment } => gone.push((flight.id, attempt, segment)),
                errand => self.on_errand_failed(now, flight.id, errand),
            }
        }
        gone.sort_unstable();
        self.unanswered(now, carrier, &gone, UnansweredCause::LinkLost);
    }

    /// Goes on with messages whose trickle ended with their bind.
    fn give_up_jobs(&mut self, now: Time, jobs: Vec<MessageId>) {
        for id in jobs {
            if let Some(slot) = self.book.find_live(id) {
                self.back_to_lane(now, slot);
            }
        }
    }

    /// Sends a message back whose segments are neither with a bind nor about to be.
    fn back_to_lane(&mut self, now: Time, slot: Slot) {
        let live = &self.book.table[slot];
        if live.place != Place::Wire {
            return;
        }
        match live.present() {
            Some(attempt) if attempt.has(Standing::Sending) => {}
            Some(_) => self.settle(now, slot),
            None => {
                self.detach(slot);
                self.place(now, slot);
            }
        }
    }

    /// Sees whether a carrier went down or came up, and then looks at all lanes.
    pub(super) fn update_standing(&mut self, now: Time, carrier: CarrierId) {
        if self.station_mut(carrier).update_standing(now) {
            self.review = Some(Slot(0));
        }
    }

    pub(super) fn on_drain(&mut self, now: Time) {
        self.is_draining = true;
        for number in 0..self.stations.len() {
            let Ok(number) = u16::try_from(number) else { return };
            let carrier = CarrierId(number);
            let station = self.station_mut(carrier);
            let jobs = station.binds.values_mut().flat_map(Bind::take_jobs).collect();
            self.unstage(now, carrier, None);
            self.give_up_jobs(now, jobs);
        }
    }
}
