//! When a failed delivery is tried again, and when an endpoint is left alone. Numbers only.

use std::time::Duration;

use crate::time::Time;

/// How long after each failed try the next one follows, unless the config says otherwise; after the
/// last the event is given up.
pub const WAITS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(1_800),
    Duration::from_secs(7_200),
    Duration::from_secs(21_600),
    Duration::from_secs(43_200),
    Duration::from_secs(86_400),
];

/// The longest wait that a `Retry-After` is granted.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// When to try again after `failures` failed tries, the last of which ended at `now`, with `waits`
/// between the tries; none when it is time to give up. `retry_after` is what the endpoint asked
/// for; `draw` makes the jitter of ±20 %, any number will do.
pub(super) fn next_try(
    now: Time,
    waits: &[Duration],
    failures: u32,
    retry_after: Option<Duration>,
    draw: u64,
) -> Option<Time> {
    let index = usize::try_from(failures.checked_sub(1)?).ok()?;
    let wait = jittered(*waits.get(index)?, draw);
    let asked = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    Some(now + wait.max(asked))
}

fn jittered(wait: Duration, draw: u64) -> Duration {
    let fifth = u64::try_from(wait.as_micros() / 5).unwrap_or(u64::MAX);
    let least = wait.saturating_sub(Duration::from_micros(fifth));
    least + Duration::from_micros(draw % (2 * fifth).max(1))
}

/// Leaves an endpoint alone that fails again and again.
///
/// ```text
/// Closed --too many failures in a row--> Open --its time is over--> one probe in flight
///   ^                                     ^                            |
///   +------------- success ---------------+------- failure: longer ----+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Breaker {
    /// Failures since the last success.
    failures: u32,
    /// How often in a row it opened.
    opened: u32,
    open_until: Option<Time>,
    probing: bool,
}

/// How long the breaker stays open, each time it opens again.
const OPEN: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];

/// Whether a try may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    /// Yes.
    Yes,
    /// Not before this time.
    NotBefore(Time),
    /// Not before the probe in flight has ended.
    Probing,
}

impl Breaker {
    /// Whether a try may start at `now`; [`Self::started`] must follow when it does.
    pub(super) fn permits(&self, now: Time) -> Permission {
        match self.open_until {
            None => Permission::Yes,
            Some(_) if self.probing => Permission::Probing,
            Some(until) if now < until => Permission::NotBefore(until),
            Some(_) => Permission::Yes,
        }
    }

    /// A try has started.
    pub(super) fn started(&mut self) {
        self.probing = self.open_until.is_some();
    }

    /// A try has ended well.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A try has failed; the breaker opens after `threshold` in a row.
    pub(super) fn failed(&mut self, now: Time, threshold: u32) {
        self.failures = self.failures.saturating_add(1);
        let was_open = self.open_until.is_some();
        if self.probing || (!was_open && self.failures >= threshold) {
            let last = OPEN.len() - 1;
            let nth = usize::try_from(self.opened).unwrap_or(last).min(last);
            self.open_until = OPEN.get(nth).map(|span| now + *span);
            self.opened = self.opened.saturating_add(1);
        }
        self.probing = false;
    }

    /// Until when nothing is sent, while that is so.
    pub(super) fn open_until(&self, now: Time) -> Option<Time> {
        self.open_until.filter(|until| now < *until || self.probing)
    }

    /// Whether it opened and nothing has ended well since.
    pub(super) const fn is_open(&self) -> bool {
        self.open_until.is_some()
    }

    /// Whether it is as new: nothing is lost by forgetting it.
    pub(super) fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Time = Time::from_secs(1_000);

    #[test]
    fn the_waits_grow_as_promised_with_a_fifth_of_jitter() {
        for (index, wait) in WAITS.iter().enumerate() {
            let failures = u32::try_from(index).unwrap() + 1;
            let fifth = *wait / 5;
            let (mut least, mut most) = (Time::MAX, Time::ZERO);
            for draw in (0..u64::MAX).step_by(usize::MAX / 1_000) {
                let at = next_try(T0, &WAITS, failures, None, draw).unwrap();
                (least, most) = (least.min(at), most.max(at));
                assert!(at >= T0 + (*wait - fifth) && at <= T0 + (*wait + fifth), "{at:?}");
            }
            assert!(most.since(least) > fifth, "the jitter reaches far: {least:?} {most:?}");
        }
        assert_eq!(next_try(T0, &WAITS, 10, None, 0), None, "nine retries, then no more");
    }

    #[test]
    fn retry_after_may_only_make_it_later_and_at_most_a_day() {
        let at = |asked| next_try(T0, &WAITS, 1, Some(Duration::from_secs(asked)), 0).unwrap();
        assert_eq!(at(60), T0 + Duration::from_secs(60));
        assert_eq!(at(1), T0 + Duration::from_secs(4));
        assert_eq!(at(9_999_999), T0 + LONGEST_RETRY_AFTER);
    }

    #[test]
    fn the_breaker_opens_for_longer_each_time_and_one_success_closes_it() {
        let mut breaker = Breaker::default();
        for _ in 0..2 {
            breaker.failed(T0, 3);
            assert_eq!(breaker.permits(T0), Permission::Yes);
        }
        breaker.failed(T0, 3);
        // Those that were in flight when it opened do not make it longer.
        breaker.failed(T0, 3);
        let mut now = T0;
        for seconds in [5, 30, 120, 600, 600] {
            let until = now + Duration::from_secs(seconds);
            assert_eq!(breaker.permits(now), Permission::NotBefore(until));
            assert_eq!(breaker.open_until(now), Some(until));
            now = until;
            assert_eq!(breaker.permits(now), Permission::Yes);
            breaker.started();
            assert_eq!(breaker.permits(now), Permission::Probing, "one probe at a time");
            breaker.failed(now, 3);
        }
        now += Duration::from_secs(600);
        breaker.started();
        breaker.succeeded();
        assert_eq!(breaker.permits(now), Permission::Yes);
        assert!(breaker.is_idle());
    }
}
