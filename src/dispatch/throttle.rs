//! The rate of a carrier that says when it is too much: down at once, up slowly.
//!
//! ```text
//!   ceiling ------------------------------------------------------
//!                                              ______---  past the mark: 5 % a second again
//!   mark    - - - - - - - ___-----------------'           near it: a creep, for two minutes
//!                   __--''
//!           |    .-'   5 % of the mark a second
//!   70 %    |___/
//!            1 s, 2 s, 4 s ... 30 s of silence
//! ```
//!
//! The *mark* is what was sent in the second before the carrier throttled. Once two marks in a row
//! agree, the rate creeps when it comes close, so that a carrier with a fixed cap is asked for too
//! much once in two minutes and not once in seven seconds (PROTOCOL 2.8, 2.9).

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Rate;
use crate::time::Time;

use super::pace::Limiter;

/// The rate of one carrier over all its binds.
#[derive(Debug)]
pub(super) struct Pace {
    ceiling: Rate,
    limiter: Limiter,
    /// The rate in force, in cells a second; `None` while it is the ceiling.
    cut: Option<Cut>,
    epoch: Epoch,
    silent_until: Time,
    hold_until: Time,
    /// Reactions since a cell of the present epoch was taken by the carrier.
    strikes: u32,
    sent: LastSecond,
}

/// A rate below the ceiling.
#[derive(Clone, Copy, Debug)]
struct Cut {
    rate: f64,
    mark: f64,
    /// Whether the mark before was about the same.
    confirmed: bool,
    /// When the rate was last raised.
    raised_at: Time,
}

/// Which reaction a cell was sent after. Many cells are on their way when a carrier throttles; one
/// reaction answers them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Epoch(u32);

impl Pace {
    /// The pace of a carrier whose contract allows `ceiling`.
    pub(super) fn new(ceiling: Rate, now: Time) -> Self {
        Self {
            ceiling,
            limiter: Limiter::new(ceiling, now),
            cut: None,
            epoch: Epoch::default(),
            silent_until: Time::ZERO,
            hold_until: Time::ZERO,
            strikes: 0,
            sent: LastSecond::default(),
        }
    }

    /// Changes what the contract allows. What was learnt stays, where it is less.
    pub(super) fn set_ceiling(&mut self, now: Time, ceiling: Rate) {
        self.ceiling = ceiling;
        self.cut = self.cut.filter(|cut| cut.rate < per_second(ceiling));
        self.apply(now);
    }

    /// Takes a cell, if there is one.
    pub(super) fn take(&mut self, now: Time) -> bool {
        self.recover(now);
        let taken = now >= self.silent_until && self.limiter.take(now);
        if taken {
            self.sent.count(now);
        }
        taken
    }

    /// When cell `nth` from now on can be taken, the next one being 1.
    pub(super) fn ready_at(&mut self, now: Time, nth: u32) -> Time {
        self.recover(now);
        self.limiter.ready_at(now.max(self.silent_until), nth)
    }

    /// Like [`Pace::ready_at`]; `None` when no time brings the cell nearer, since those before it
    /// have to be taken first.
    pub(super) fn comes_at(&mut self, now: Time, nth: u32) -> Option<Time> {
        let ready_at = self.ready_at(now, nth);
        if now < self.silent_until { Some(ready_at) } else { self.limiter.comes_at(now, nth) }
    }

    /// What a cell that is sent now comes back with.
    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The rate in force.
    pub(super) const fn rate(&self) -> Rate {
        self.limiter.rate()
    }

    /// Nothing is sent before.
    pub(super) const fn silent_until(&self) -> Time {
        self.silent_until
    }

    /// The carrier took a cell that was sent in `epoch`.
    pub(super) fn accepted(&mut self, epoch: Epoch) {
        if epoch == self.epoch {
            self.strikes = 0;
        }
    }

    /// The carrier throttled a cell that was sent in `epoch`; whether that is news.
    pub(super) fn throttled(&mut self, now: Time, epoch: Epoch) -> bool {
        const KEPT: f64 = 0.7;
        /// The deepest cut by a second that was too quiet to measure anything.
        const BLIND: f64 = 0.125;
        if epoch != self.epoch {
            return false;
        }
        let (rate, steady) = (per_second(self.limiter.rate()), per_second(self.limiter.steady()));
        // The limiter lets through a little less than its rate; the mark is in its terms.
        let sent = self.sent.within(now).max(1.0) * rate / steady;
        if sent < rate / 2.0 {
            self.react(now, (sent * KEPT).max(rate * BLIND), rate);
        } else {
            // Of a few cells a second the rate is the finer measure.
            self.react(now, sent * KEPT, sent.min(rate));
        }
        let silence = Duration::from_secs(1 << self.strikes.min(5)).min(MOST_SILENCE);
        self.silent_until = now + silence;
        self.strikes = self.strikes.saturating_add(1);
        true
    }

    /// The carrier said how congested it is, 0 to 100, in an answer to a cell that was sent in
    /// `epoch`; whether that changed the rate (SMPP 5.0 §4.8.4.18).
    pub(super) fn congested(&mut self, now: Time, epoch: Epoch, state: u8) -> bool {
        const KEPT: f64 = 0.9;
        if state < 80 {
            return false;
        }
        self.hold_until = now + Duration::from_secs(1);
        if state <= 90 || epoch != self.epoch {
            return false;
        }
        let rate = per_second(self.rate());
        self.react(now, rate * KEPT, rate);
        if state >= 100 {
            self.silent_until = now + Duration::from_secs(1);
        }
        true
    }

    fn react(&mut self, now: Time, rate: f64, mark: f64) {
        let least = per_second(self.ceiling).min(1.0);
        let rate = rate.max(least).min(per_second(self.rate()));
        self.epoch = Epoch(self.epoch.0.wrapping_add(1));
        let agrees = |before: Cut| (before.mark - mark).abs() < (mark * 0.05).max(1.0);
        let confirmed = self.cut.is_some_and(agrees);
        self.cut = Some(Cut { rate, mark: mark.max(rate), confirmed, raised_at: now });
        self.apply(now);
    }

    /// Raises a cut rate by what the time since the last raise is worth.
    fn recover(&mut self, now: Time) {
        const STEP: Duration = Duration::from_millis(250);
        let Some(cut) = &mut self.cut else { return };
        let idle_until = self.silent_until.max(self.hold_until);
        cut.raised_at = cut.raised_at.max(idle_until.min(now));
        let passed = now.since(cut.raised_at);
        if passed < STEP {
            return;
        }
        cut.rate += cut.climb() * passed.as_secs_f64().min(1.0);
        cut.raised_at = now;
        if cut.rate >= per_second(self.ceiling) {
            self.cut = None;
        }
        self.apply(now);
    }

    fn apply(&mut self, now: Time) {
        let rate = self.cut.map_or(self.ceiling, |cut| from_per_second(cut.rate).min(self.ceiling));
        self.limiter.set_rate(now, rate);
    }
}

impl Cut {
    /// Cells a second by which the rate rises in a second.
    fn climb(&self) -> f64 {
        let share = self.rate / self.mark;
        let (close, closer) = if self.confirmed { (0.005, 0.000_15) } else { (0.05, 0.01) };
        match share {
            _ if share < 0.95 => self.mark * 0.05,
            _ if share < 0.985 => self.mark * close,
            _ if share < 1.02 => self.mark * closer,
            _ => self.rate * 0.05,
        }
    }
}

const MOST_SILENCE: Duration = Duration::from_secs(30);

#[expect(clippy::cast_precision_loss, reason = "rates are far below 2^53 thousandths")]
fn per_second(rate: Rate) -> f64 {
    rate.as_millis() as f64 / 1_000.0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive rate; casting saturates"
)]
fn from_per_second(rate: f64) -> Rate {
    Rate::from_millis((rate * 1_000.0) as u64)
}

/// How many cells were sent within the last second.
#[derive(Debug, Default)]
struct LastSecond {
    /// Which twentieth of a second, and how many cells fell into it; oldest first.
    slots: VecDeque<(u64, u32)>,
}

const SLOTS: u64 = 20;
const SLOT_MICROS: u64 = 1_000_000 / SLOTS;

impl LastSecond {
    fn count(&mut self, now: Time) {
        let slot = now.as_micros() / SLOT_MICROS;
        self.forget(slot);
        match self.slots.back_mut() {
            Some((last, cells)) if *last == slot => *cells = cells.saturating_add(1),
            _ => self.slots.push_back((slot, 1)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a part of a slot is below 2^53")]
    fn within(&mut self, now: Time) -> f64 {
        let slot = now.as_micros() / SLOT_MICROS;
        self.forget(slot);
        // Of the slot in which the second begins, only the part behind that instant counts.
        let part = 1.0 - (now.as_micros() % SLOT_MICROS) as f64 / SLOT_MICROS as f64;
        let weight = |at: u64| if at + SLOTS == slot { part } else { 1.0 };
        self.slots.iter().map(|(at, cells)| weight(*at) * f64::from(*cells)).sum()
    }

    fn forget(&mut self, slot: u64) {
        while self.slots.front().is_some_and(|(first, _)| first + SLOTS < slot) {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// A carrier that takes `cap` submits in each second, counted as `counting` says.
    struct Capped {
        cap: usize,
        counting: Counting,
        taken: VecDeque<Time>,
        bucket: f64,
        filled_at: Time,
    }

    #[derive(Clone, Copy, Debug)]
    enum Counting {
        /// Anew at each full second.
        Fixed,
        /// Over the last second.
        Sliding,
        /// A bucket of a tenth of a second.
        Bucket,
    }

    impl Capped {
        fn takes(&mut self, now: Time) -> bool {
            let begin = match self.counting {
                Counting::Fixed => Time::from_secs(now.as_secs()),
                Counting::Sliding => now - Duration::from_secs(1) + Duration::from_micros(1),
                Counting::Bucket => return self.takes_from_bucket(now),
            };
            while self.taken.front().is_some_and(|at| *at < begin) {
                self.taken.pop_front();
            }
            let taken = self.taken.len() < self.cap;
            if taken {
                self.taken.push_back(now);
            }
            taken
        }

        fn takes_from_bucket(&mut self, now: Time) -> bool {
            let flow = self.cap as f64;
            self.bucket += flow * now.since(self.filled_at).as_secs_f64();
            self.bucket = self.bucket.min((flow / 10.0).max(1.0));
            self.filled_at = now;
            let taken = self.bucket >= 1.0;
            if taken {
                self.bucket -= 1.0;
            }
            taken
        }
    }

    /// Sends as much as it may for `secs`; accepted and throttled answers from `settled` on.
    fn send(cap: usize, counting: Counting, ceiling: u64, round_trip: Duration) -> (u64, u64) {
        const WINDOW: usize = 500;
        const SETTLED: Time = Time::from_secs(60);
        const END: Time = Time::from_secs(360);
        let mut carrier =
            Capped { cap, counting, taken: VecDeque::new(), bucket: 1.0, filled_at: Time::ZERO };
        let mut pace = Pace::new(Rate::per_second(ceiling), Time::ZERO);
        let mut pending: VecDeque<(Time, Epoch, bool)> = VecDeque::new();
        let (mut accepted, mut throttled) = (0, 0);
        let mut now = Time::ZERO;
        while now < END {
            while pending.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, epoch, taken) = pending.pop_front().unwrap();
                if taken {
                    pace.accepted(epoch);
                } else {
                    pace.throttled(now, epoch);
                }
                accepted += u64::from(now >= SETTLED && taken);
                throttled += u64::from(now >= SETTLED && !taken);
            }
            while pending.len() < WINDOW && pace.take(now) {
                let taken = carrier.takes(now + round_trip / 2);
                pending.push_back((now + round_trip, pace.epoch(), taken));
            }
            now += MILLI;
        }
        (accepted, throttled)
    }

    #[test]
    fn a_carrier_that_throttles_above_its_cap_gets_95_of_100_and_few_too_many() {
        for (cap, ceiling) in [(5, 20), (100, 5_000), (1_000, 1_200)] {
            for counting in [Counting::Fixed, Counting::Sliding, Counting::Bucket] {
                for round_trip in [MILLI * 5, MILLI * 200] {
                    let (accepted, throttled) = send(cap, counting, ceiling, round_trip);
                    let case = format!("{cap} of {ceiling}, {counting:?}, {round_trip:?}");
                    let share = accepted as f64 / (cap as f64 * 300.0);
                    let refused = throttled as f64 / (accepted + throttled) as f64;
                    assert!(share >= 0.95, "{share:.4} of the cap: {case}");
                    assert!(refused < 0.01, "{refused:.4} throttled: {case}");
                }
            }
        }
    }

    #[test]
    fn a_window_of_throttled_submits_is_one_reaction() {
        let mut pace = Pace::new(Rate::per_second(100), Time::ZERO);
        let epoch = pace.epoch();
        let mut now = Time::ZERO;
        while now < Time::from_secs(2) {
            pace.take(now);
            now += MILLI;
        }
        assert!(pace.throttled(now, epoch));
        let rate = pace.rate();
        assert!((68_000..=72_000).contains(&rate.as_millis()), "70 % of what was sent: {rate}");
        for _ in 0..50 {
            assert!(!pace.throttled(now, epoch));
        }
        assert_eq!((pace.rate(), pace.silent_until()), (rate, now + Duration::from_secs(1)));
    }

    #[test]
    fn the_silence_doubles_to_30_s_until_something_is_taken() {
        let mut pace = Pace::new(Rate::per_second(100), Time::ZERO);
        let mut now = Time::ZERO;
        let mut silences = Vec::new();
        for _ in 0..7 {
            assert!(pace.throttled(now, pace.epoch()));
            silences.push(pace.silent_until().since(now).as_secs());
            now = pace.silent_until();
        }
        assert_eq!(silences, [1, 2, 4, 8, 16, 30, 30]);
        pace.accepted(pace.epoch());
        pace.throttled(now, pace.epoch());
        assert_eq!(pace.silent_until(), now + Duration::from_secs(1));
    }

    #[test]
    fn the_rate_comes_back_to_the_ceiling() {
        let mut pace = Pace::new(Rate::per_second(100), Time::ZERO);
        pace.throttled(Time::ZERO, pace.epoch());
        assert!(pace.rate() < Rate::per_second(100));
        for tick in 0..600_u64 {
            pace.take(Time::from_millis(tick * 500));
        }
        assert_eq!(pace.rate(), Rate::per_second(100));
    }

    #[test]
    fn congestion_from_80_holds_from_91_lowers_and_at_100_silences() {
        let now = Time::from_secs(5);
        let mut pace = Pace::new(Rate::per_second(100), now);
        assert!(!pace.congested(now, pace.epoch(), 79));
        assert!(!pace.congested(now, pace.epoch(), 85));
        assert_eq!(pace.rate(), Rate::per_second(100));
        let epoch = pace.epoch();
        assert!(pace.congested(now, epoch, 95));
        assert!(!pace.congested(now, epoch, 95), "one reaction a window");
        assert_eq!(pace.rate(), Rate::per_second(90));
        assert!(pace.ready_at(now, 1) < now + MILLI * 100);
        assert!(pace.congested(now, pace.epoch(), 100));
        assert!(pace.ready_at(now, 1) >= now + Duration::from_secs(1));
    }

    #[test]
    fn a_lower_ceiling_holds_at_once_and_a_higher_one_too() {
        let mut pace = Pace::new(Rate::per_second(100), Time::ZERO);
        pace.set_ceiling(Time::ZERO, Rate::per_second(10));
        assert_eq!(pace.rate(), Rate::per_second(10));
        pace.set_ceiling(Time::ZERO, Rate::per_second(300));
        assert_eq!(pace.rate(), Rate::per_second(300));
    }
}
