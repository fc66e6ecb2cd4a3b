//! One cell a segment, and never more cells in any second than the rate says.
//!
//! governor keeps the account (GCRA). It is told the time through [`Told`], and its one number lives
//! in [`Account`], so that this module can look before it takes and can carry what is left over a
//! change of the rate.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use governor::Quota;
use governor::RateLimiter;
use governor::clock::Clock;
use governor::clock::Reference;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::NotKeyed;
use governor::state::StateStore;

use crate::time::Rate;
use crate::time::Time;

/// Lets cells through at a rate that no second exceeds.
///
/// A bucket of `b` cells that refills at `f` a second lets up to `b + f - 1` through in a second
/// that is open at its end, so `f` is `rate - b + 1`. A rate with a fraction is rounded up within
/// one second and holds over any longer time.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Rate,
    shape: Shape,
    started: Time,
    account: Account,
    inner: RateLimiter<NotKeyed, Account, Told, NoOpMiddleware<Instant>>,
}

impl Limiter {
    /// A limiter with a full bucket.
    pub(super) fn new(rate: Rate, now: Time) -> Self {
        Self::with_backlog(rate, now, 0)
    }

    fn with_backlog(rate: Rate, now: Time, backlog: u64) -> Self {
        let shape = Shape::of(rate);
        let period = Duration::from_nanos(shape.interval);
        let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        let account = Account(Arc::new(AtomicU64::new(backlog)));
        let inner = RateLimiter::new(
            quota.allow_burst(shape.burst),
            account.clone(),
            Told(Cell::new(Instant(0))),
        );
        Self { rate, shape, started: now, account, inner }
    }

    /// Changes the rate. What is left in the bucket stays in it, so that no second sees two bursts.
    ///
    /// governor cannot change a limiter, and a fresh one over the old account would wait for as
    /// long as the old one lived; so what is left is counted in cells and carried over.
    pub(super) fn set_rate(&mut self, now: Time, rate: Rate) {
        if rate == self.rate {
            return;
        }
        let left = self.shape.capacity().saturating_sub(self.backlog(now));
        let next = Shape::of(rate);
        let left = u128::from(left) * u128::from(next.interval) / u128::from(self.shape.interval);
        let backlog = next.capacity().saturating_sub(u64::try_from(left).unwrap_or(u64::MAX));
        *self = Self::with_backlog(rate, now, backlog);
    }

    /// Takes one cell, if there is one.
    pub(super) fn take(&self, now: Time) -> bool {
        self.inner.clock().0.set(self.instant(now));
        self.inner.check().is_ok()
    }

    /// When cell `nth` from now on can be taken, the next one being 1.
    pub(super) fn ready_at(&self, now: Time, nth: u32) -> Time {
        let more = u64::from(nth).saturating_mul(self.shape.interval);
        let wait = (self.backlog(now).saturating_add(more)).saturating_sub(self.shape.capacity());
        now + Duration::from_micros(wait.div_ceil(1_000))
    }

    /// Like [`Limiter::ready_at`]; `None` when no time brings the cell nearer, since the bucket is
    /// full and does not hold so many: those before it have to be taken first.
    pub(super) fn comes_at(&self, now: Time, nth: u32) -> Option<Time> {
        let at = self.ready_at(now, nth);
        (at <= now || self.backlog(now) > 0).then_some(at)
    }

    /// The rate that no second exceeds.
    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    /// What goes through over a long time: less than the rate by the bucket, at most 5 %.
    pub(super) const fn steady(&self) -> Rate {
        Rate::from_millis(1_000_000_000_000 / self.shape.interval)
    }

    /// How far the account is ahead of the clock, in nanoseconds.
    fn backlog(&self, now: Time) -> u64 {
        self.account.0.load(Ordering::Relaxed).saturating_sub(self.instant(now).0)
    }

    const fn instant(&self, now: Time) -> Instant {
        Instant(now.as_micros().saturating_sub(self.started.as_micros()).saturating_mul(1_000))
    }
}

/// The bucket of a rate.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// How many cells it holds.
    burst: NonZeroU32,
    /// Nanoseconds until one flows in; never 0.
    interval: u64,
}

impl Shape {
    /// A bucket of a fiftieth of a second, so that a wake a few milliseconds late loses nothing.
    fn of(rate: Rate) -> Self {
        /// Slower rates have a bucket of one cell: two would cost more than 4 % of the refill.
        const SLOW: u64 = 25;
        let most = rate.as_millis().div_ceil(1_000);
        let burst = if most < SLOW { 1 } else { most.div_ceil(50).max(2) };
        let refill = rate.as_millis().min((most - burst + 1).saturating_mul(1_000));
        Self {
            burst: u32::try_from(burst).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN),
            interval: 1_000_000_000_000_u64.div_ceil(refill.max(1)),
        }
    }

    /// A full bucket, in nanoseconds.
    const fn capacity(self) -> u64 {
        (self.burst.get() as u64).saturating_mul(self.interval)
    }
}

/// Nanoseconds since a limiter was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Instant(u64);

impl Add<Nanos> for Instant {
    type Output = Self;

    fn add(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.as_u64()))
    }
}

impl Reference for Instant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        Nanos::new(self.0.saturating_sub(earlier.0))
    }

    fn saturating_sub(&self, span: Nanos) -> Self {
        Self(self.0.checked_sub(span.as_u64()).unwrap_or(self.0))
    }
}

/// A clock that stands where it was told to stand.
#[derive(Debug)]
struct Told(Cell<Instant>);

impl Clock for Told {
    type Instant = Instant;

    fn now(&self) -> Instant {
        self.0.get()
    }
}

/// When the bucket will be full again, in nanoseconds since the limiter was made.
#[derive(Clone, Debug)]
struct Account(Arc<AtomicU64>);

impl StateStore for Account {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, full_at) = decide(Some(Nanos::new(self.0.load(Ordering::Relaxed))))?;
        self.0.store(full_at.as_u64(), Ordering::Relaxed);
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Takes whatever there is at each wake for so long; when each cell was taken.
    fn run(limiter: &Limiter, from: Time, wakes: u32, every: Duration) -> Vec<Time> {
        let mut taken = Vec::new();
        let mut now = from;
        for _ in 0..wakes {
            while limiter.take(now) {
                taken.push(now);
            }
            now += every;
        }
        taken
    }

    /// The most cells in any time of this length that is open at its end.
    fn most_within(taken: &[Time], length: Duration) -> usize {
        let mut most = 0;
        let mut oldest = 0;
        for (newest, at) in taken.iter().enumerate() {
            while taken[oldest] + length <= *at {
                oldest += 1;
            }
            most = most.max(newest - oldest + 1);
        }
        most
    }

    fn rates() -> impl Iterator<Item = u64> {
        (1..=300).chain([333, 499, 500, 777, 1_000, 1_024, 2_500, 4_999, 5_000])
    }

    #[test]
    fn no_second_sees_more_cells_than_the_rate() {
        for rate in rates() {
            for every in [MILLI, Duration::from_micros(170), Duration::from_millis(7)] {
                let limiter = Limiter::new(Rate::per_second(rate), Time::from_secs(9));
                let wakes = u32::try_from(3_000_000 / every.as_micros()).unwrap();
                let taken = run(&limiter, Time::from_secs(9), wakes, every);
                let most = most_within(&taken, Duration::from_secs(1));
                assert!(most as u64 <= rate, "{most} in a second at {rate}/s");
            }
        }
    }

    #[test]
    fn a_wake_every_millisecond_gets_95_of_100_cells() {
        for rate in rates() {
            let limiter = Limiter::new(Rate::per_second(rate), Time::ZERO);
            let taken = run(&limiter, Time::ZERO, 20_000, MILLI).len() as u64;
            assert!(taken * 100 >= rate * 20 * 95, "{taken} in 20 s at {rate}/s");
        }
    }

    #[test]
    fn slow_rates_and_fractions_hold_over_their_own_time() {
        for millis in [100, 250, 500, 1_500, 2_500, 33_333] {
            let limiter = Limiter::new(Rate::from_millis(millis), Time::ZERO);
            let taken = run(&limiter, Time::ZERO, 100_000, MILLI);
            let most = most_within(&taken, Duration::from_secs(1));
            assert!(most as u64 <= millis.div_ceil(1_000), "{most} in a second");
            let most = most_within(&taken, Duration::from_secs(10)) as u64;
            assert!(most <= (millis * 10).div_ceil(1_000) + 1, "{most} in ten seconds");
            assert!(taken.len() as u64 * 100 >= millis / 10 * 95, "{} at {millis}", taken.len());
        }
    }

    #[test]
    fn a_change_of_rate_gives_no_second_burst_and_no_long_wait() {
        let start = Time::from_secs(100_000);
        let mut limiter = Limiter::new(Rate::per_second(1_000), start);
        let mut taken = Vec::new();
        let mut now = start + Duration::from_secs(86_400);
        for step in 0..5_000_u64 {
            while limiter.take(now) {
                taken.push(now);
            }
            now += MILLI;
            limiter.set_rate(now, Rate::per_second(if step % 7 < 3 { 1_000 } else { 900 }));
        }
        let most = most_within(&taken, Duration::from_secs(1));
        assert!(most <= 1_000, "{most} in a second");
        assert!(taken.len() >= 4_450, "{} in five seconds", taken.len());
    }

    #[test]
    fn looking_says_when_a_cell_can_be_taken_and_takes_none() {
        let limiter = Limiter::new(Rate::per_second(10), Time::ZERO);
        assert_eq!(limiter.ready_at(Time::ZERO, 1), Time::ZERO);
        assert!(limiter.take(Time::ZERO));
        assert_eq!(limiter.ready_at(Time::ZERO, 1), Time::from_millis(100));
        assert_eq!(limiter.ready_at(Time::ZERO, 3), Time::from_millis(300));
        assert!(!limiter.take(Time::from_millis(100) - Duration::from_micros(1)));
        assert!(limiter.take(Time::from_millis(100)));
    }

    #[test]
    fn a_full_bucket_brings_no_cell_nearer_that_it_does_not_hold() {
        let limiter = Limiter::new(Rate::per_second(10), Time::ZERO);
        assert_eq!(limiter.comes_at(Time::ZERO, 1), Some(Time::ZERO));
        assert_eq!(limiter.comes_at(Time::ZERO, 2), None);
        assert!(limiter.take(Time::ZERO));
        for at in [Time::ZERO, Time::from_millis(99)] {
            assert_eq!(limiter.comes_at(at, 1), Some(Time::from_millis(100)));
            assert_eq!(limiter.comes_at(at, 2), Some(Time::from_millis(200)));
        }
        assert_eq!(limiter.comes_at(Time::from_millis(100), 2), None);
    }
}
