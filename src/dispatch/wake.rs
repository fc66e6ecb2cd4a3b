//! Timers: what happens to a message because nothing else did.

use crate::message::Reason;
use crate::message::State;
use crate::message::UnansweredCause;
use crate::route::Outcome;
use crate::route::Standing as CarrierStanding;
use crate::route::Waiting;
use crate::time::Time;

use super::Dispatch;
use super::live::Place;
use super::live::Standing;
use super::table::Slot;

impl Dispatch {
    /// Runs timers that are due, so many at once.
    pub(super) fn run_timers(&mut self, now: Time) {
        const AT_ONCE: usize = 256;
        for _ in 0..AT_ONCE {
            let Some(slot) = self.timers.pop(&mut self.book.table, now) else { return };
            self.wake(now, slot);
        }
    }

    /// Sets the timer of a message, in place of the one it may have.
    pub(super) fn set_timer(&mut self, slot: Slot, at: Time) {
        self.timers.set(&mut self.book.table, slot, at);
    }

    pub(super) fn clear_timer(&mut self, slot: Slot) {
        self.timers.clear(&mut self.book.table, slot);
    }

    fn wake(&mut self, now: Time, slot: Slot) {
        let live = &self.book.table[slot];
        let is_over = live.expires_at <= now;
        match live.place {
            Place::None => {}
            Place::Due => self.place(now, slot),
            Place::Lane if is_over => {
                self.detach(slot);
                self.expire(now, slot);
            }
            Place::Lane => self.decide_on_lane(now, slot),
            Place::Wire => self.wake_on_wire(now, slot),
            Place::Taken => self.wake_taken(now, slot),
            Place::Held => self.wake_held(now, slot),
        }
    }

    fn wake_held(&mut self, now: Time, slot: Slot) {
        if !self.ask_carrier(now, slot) {
            self.give_up(now, slot);
        }
    }

    /// The carrier of a message in a lane has had no bind for too long, or has one by now.
    fn decide_on_lane(&mut self, now: Time, slot: Slot) {
        let lane = self.book.table[slot].lane;
        match self.standing(lane) {
            // All binds go down now; the next start decides.
            _ if self.is_draining => self.watch_lane(slot, None),
            CarrierStanding::Up => self.watch_lane(slot, None),
            CarrierStanding::Down { .. } => self.decide(now, slot, &Outcome::NoBind),
            CarrierStanding::Off => self.decide(now, slot, &Outcome::Withdrawn),
        }
    }

    /// No answer came within the route's time for it, or the message's own time is over.
    fn wake_on_wire(&mut self, now: Time, slot: Slot) {
        let live = &self.book.table[slot];
        let (id, carrier, expires_at) = (live.id(), live.lane, live.expires_at);
        if expires_at <= now
            && let Some(station) = self.stations.get_mut(usize::from(carrier.0))
        {
            station.close_job(id);
        }
        let live = &self.book.table[slot];
        let Some(attempt) = live.present() else {
            self.detach(slot);
            return self.place(now, slot);
        };
        let patience = self.rules_of(live).deadline(Waiting::Answer { since: attempt.sent_at });
        if attempt.has(Standing::Sending) && patience.is_some_and(|patience| patience <= now) {
            let number = attempt.number;
            let sending = attempt.standing(Standing::Sending);
            let lost: Vec<_> = sending.iter().map(|segment| (id, number, segment)).collect();
            return self.unanswered(now, carrier, &lost, UnansweredCause::Timeout);
        }
        self.watch_wire(now, slot);
        self.settle(now, slot);
    }

    /// No receipt came in time.
    fn wake_taken(&mut self, now: Time, slot: Slot) {
        let live = &self.book.table[slot];
        let Some(attempt) = live.present() else { return };
        let end = attempt.taken_at + self.receipt_timeout(attempt.carrier);
        if now < end {
            // A reload may have made the time longer while the carrier was asked.
            self.errands.stop_asking(live.id());
            self.set_timer(slot, end);
            return self.decide(now, slot, &Outcome::NotDelivered);
        }
        self.wake_held(now, slot);
    }

    /// Nothing came that would tell how the message ended.
    fn give_up(&mut self, now: Time, slot: Slot) {
        let present = self.book.table[slot].present();
        let reason = match present {
            Some(attempt) if attempt.lacks_answers() => Reason::NoAnswer,
            _ => Reason::NoReceipt,
        };
        self.finish(now, slot, State::Unknown, Some(reason));
    }

    /// Walks over all messages after a carrier went down or came up, and looks at those that wait
    /// in the lane of a carrier without a bind.
    pub(super) fn run_review(&mut self, now: Time) {
        const AT_ONCE: u32 = 1_024;
        let Some(first) = self.review else { return };
        let all = self.stations.iter();
        let waits = all.filter(|station| station.standing != CarrierStanding::Up);
        if waits.map(super::station::Station::waiting).sum::<usize>() == 0 {
            self.review = None;
            return;
        }
        let mut last = None;
        for slot in self.book.table.slots_from(first, AT_ONCE) {
            last = Some(slot);
            let live = &self.book.table[slot];
            if live.place == Place::Lane && self.standing(live.lane) != CarrierStanding::Up {
                self.review_one(now, slot);
            }
        }
        self.review = last.map(|slot| Slot(slot.0 + 1));
    }

    /// Walks over all messages after a reload, and waits for receipts as long as the config says now.
    pub(super) fn run_retime(&mut self, now: Time) {
        const AT_ONCE: u32 = 1_024;
        let Some(first) = self.retime else { return };
        let mut last = None;
        for slot in self.book.table.slots_from(first, AT_ONCE) {
            last = Some(slot);
            let live = &self.book.table[slot];
            if self.errands.is_asking(live.id()) {
                continue;
            }
            match live.place {
                Place::Taken => self.watch_taken(slot),
                Place::Held => self.watch_held(now, slot),
                _ => {}
            }
        }
        self.retime = last.map(|slot| Slot(slot.0 + 1));
    }

    fn review_one(&mut self, now: Time, slot: Slot) {
        match self.bind_deadline(slot) {
            Some(deadline) if deadline > now => self.watch_lane(slot, Some(deadline)),
            _ => self.decide_on_lane(now, slot),
        }
    }
}
