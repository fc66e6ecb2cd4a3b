//! What one API key may use: a rate of messages, a rate of other requests, a quota a day.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use governor::Quota;
use governor::RateLimiter;
use governor::middleware::StateInformationMiddleware;
use governor::state::InMemoryState;
use governor::state::NotKeyed;

use crate::clock::Clock;
use crate::time::Rate;
use crate::time::Time;

const DAY: u64 = 86_400;

/// A rate with room for bursts, for one key.
pub(crate) struct Limiter<C: governor::clock::Clock = Told> {
    name: &'static str,
    cell: Duration,
    burst: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>,
}

/// How often a refusal that was due to an old time is looked at again.
const LOOKS: u32 = 8;

/// The governor's clock: the one that the API is given.
#[derive(Clone, Debug)]
pub(crate) struct Told(Clock);

impl governor::clock::Clock for Told {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_micros(self.0.now().as_micros())
    }
}

/// How much of a limit is left, as the `RateLimit` fields say it
/// (draft-ietf-httpapi-ratelimit-headers-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The name of the limit.
    pub policy: &'static str,
    /// How many the limit gives.
    pub quota: u64,
    /// In how long.
    pub window: Duration,
    /// How many are left.
    pub left: u64,
    /// When more come.
    pub reset: Duration,
}

impl Limiter {
    pub(crate) fn new(name: &'static str, rate: Rate, burst: NonZeroU32, clock: Clock) -> Self {
        Self::told_by(Told(clock), name, rate, burst)
    }
}

impl<C: governor::clock::Clock<Instant = Duration>> Limiter<C> {
    fn told_by(clock: C, name: &'static str, rate: Rate, burst: NonZeroU32) -> Self {
        let nanos = 1_000_000_000_000 / u128::from(rate.as_millis());
        let cell = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).max(1));
        let quota = Quota::with_period(cell).unwrap_or_else(|| Quota::per_second(burst));
        let limiter =
            RateLimiter::direct_with_clock(quota.allow_burst(burst), clock).with_middleware();
        Self { name, cell, burst, limiter }
    }

    /// Takes one of the limit.
    ///
    /// # Errors
    /// When none is left: how long until there is.
    pub(crate) fn take(&self) -> Result<Standing, Standing> {
        let mut wait = Duration::ZERO;
        for _ in 0..LOOKS {
            match self.limiter.check() {
                Ok(state) => {
                    let left = state.remaining_burst_capacity();
                    let used = self.burst.get().saturating_sub(left);
                    return Ok(self.standing(left, self.cell.saturating_mul(used)));
                }
                Err(until) => wait = until.wait_time_from(self.limiter.clock().now()),
            }
            // A thread that stood still between reading the clock and asking has an older time than
            // those that asked meanwhile, and is refused although nothing is used up.
            if !wait.is_zero() {
                break;
            }
        }
        Err(self.standing(0, wait))
    }

    fn standing(&self, left: u32, reset: Duration) -> Standing {
        Standing {
            policy: self.name,
            quota: self.burst.get().into(),
            window: self.cell.saturating_mul(self.burst.get()),
            left: left.into(),
            reset,
        }
    }
}

/// So many messages a UTC day.
#[derive(Debug)]
pub(crate) struct DailyQuota {
    most: Option<u64>,
    used: Mutex<Used>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    day: u64,
    count: u64,
}

impl DailyQuota {
    pub(crate) fn new(most: Option<u64>) -> Self {
        Self { most, used: Mutex::default() }
    }

    /// Takes one message of today's.
    ///
    /// # Errors
    /// When none is left: how long until midnight.
    pub(crate) fn take(&self, now: Time) -> Result<(), Standing> {
        let Some(most) = self.most else { return Ok(()) };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.turn(now);
        if used.count >= most {
            return Err(standing(most, now));
        }
        used.count += 1;
        Ok(())
    }

    /// Gives back what [`Self::take`] took for a message that was refused after all.
    pub(crate) fn give_back(&self, now: Time) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.turn(now);
        used.count = used.count.saturating_sub(1);
    }

    /// Counts what the key used today before the process started.
    pub(crate) fn restore(&self, now: Time, count: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.turn(now);
        used.count = used.count.saturating_add(count);
    }

    /// What is counted goes on under a changed limit.
    pub(crate) fn with_most(&self, most: Option<u64>) -> Self {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        Self { most, used: Mutex::new(used) }
    }
}

impl Used {
    const fn turn(&mut self, now: Time) {
        let day = now.as_secs() / DAY;
        if day > self.day {
            *self = Self { day, count: 0 };
        }
    }
}

const fn standing(most: u64, now: Time) -> Standing {
    Standing {
        policy: "daily",
        quota: most,
        window: Duration::from_secs(DAY),
        left: 0,
        reset: Duration::from_secs(DAY - now.as_secs() % DAY),
    }
}

impl Standing {
    /// When to come back.
    pub const fn retry_after(&self) -> Duration {
        self.reset
    }

    /// Writes the `RateLimit` and `RateLimit-Policy` fields (RFC 9651 lists).
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let window = self.window.as_secs().max(1);
        let reset = self.reset.as_secs() + u64::from(self.reset.subsec_nanos() > 0);
        let fields = [
            ("ratelimit-policy", [(";q=", self.quota), (";w=", window)]),
            ("ratelimit", [(";r=", self.left), (";t=", reset)]),
        ];
        for (name, parameters) in fields {
            // Every answer has them, and formatting costs ten times this.
            let mut value = String::with_capacity(64);
            value.extend(["\"", self.policy, "\""]);
            for (parameter, number) in parameters {
                value.extend([parameter, itoa::Buffer::new().format(number)]);
            }
            if let Ok(value) = HeaderValue::from_maybe_shared(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_gives_its_burst_and_then_one_a_cell() {
        let burst = NonZeroU32::new(3).unwrap();
        let limiter = Limiter::new("messages", Rate::per_second(10), burst, Clock::start());
        assert_eq!(limiter.take().map(|s| s.left), Ok(2));
        assert_eq!(limiter.take().map(|s| s.left), Ok(1));
        assert_eq!(limiter.take().map(|s| s.left), Ok(0));
        assert_eq!(limiter.take().map_err(|s| s.reset), Err(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(limiter.take().is_ok());
        assert!(limiter.take().is_err());
    }

    /// A clock that each look finds at the next of these milliseconds.
    #[derive(Clone)]
    struct Script(std::sync::Arc<Mutex<std::vec::IntoIter<u64>>>);

    impl governor::clock::Clock for Script {
        type Instant = Duration;

        fn now(&self) -> Duration {
            Duration::from_millis(self.0.lock().unwrap().next().unwrap())
        }
    }

    #[test]
    fn who_has_an_old_time_is_not_refused_what_is_left() {
        // The second to ask read the clock before the first one, and asked after it.
        let looks = [0, 100, 50, 101, 101].to_vec().into_iter();
        let clock = Script(std::sync::Arc::new(Mutex::new(looks)));
        let burst = NonZeroU32::new(100).unwrap();
        let limiter = Limiter::told_by(clock, "requests", Rate::per_second(100_000), burst);
        assert!(limiter.take().is_ok());
        assert!(limiter.take().is_ok());
    }

    #[test]
    fn a_quota_ends_at_midnight_and_counts_refused_messages_back() {
        let quota = DailyQuota::new(Some(2));
        let evening = Time::from_secs(DAY - 60);
        quota.restore(evening, 1);
        assert!(quota.take(evening).is_ok());
        let refused = quota.take(evening);
        assert_eq!(refused.map_err(|s| s.reset), Err(Duration::from_secs(60)));
        quota.give_back(evening);
        assert!(quota.take(evening).is_ok());
        assert!(quota.take(Time::from_secs(DAY)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_fields_are_structured_lists() {
        let burst = NonZeroU32::new(100).unwrap();
        let limiter = Limiter::new("requests", Rate::per_second(50), burst, Clock::start());
        let mut headers = HeaderMap::new();
        limiter.take().unwrap().write(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"requests\";q=100;w=2");
        assert_eq!(headers["ratelimit"], "\"requests\";r=99;t=1");
    }
}
