//! Who is refused first as the gateway fills up, and when to come back.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::message::Class;
use crate::time::Time;

/// The percentages of a limit at which a class is refused; otp has the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SheddingConfig {
    /// For messages that somebody waits for.
    pub transactional: u8,
    /// For messages that nobody waits for.
    pub marketing: u8,
}

impl Default for SheddingConfig {
    fn default() -> Self {
        Self { transactional: 95, marketing: 80 }
    }
}

impl SheddingConfig {
    /// How much of `limit` may be in use for a message of `class` to be taken still.
    pub fn share(&self, class: Class, limit: u64) -> u64 {
        let percent = match class {
            Class::Otp => 100,
            Class::Transactional => self.transactional.min(100),
            Class::Marketing => self.marketing.min(100),
        };
        let share = u128::from(limit) * u128::from(percent);
        u64::try_from(share.div_ceil(100)).unwrap_or(limit)
    }

    /// What is wrong with the values, each with its key below this table.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let keys = [("transactional", self.transactional, 100), {
            ("marketing", self.marketing, self.transactional.min(100))
        }];
        let faulty = keys.into_iter().filter(|(_, found, most)| !(1..=*most).contains(found));
        let told = faulty.map(|(key, found, most)| {
            (format!("shedding.{key}"), format!("expected 1 to {most} percent, found {found}"))
        });
        told.collect()
    }
}

/// How quickly something has become less of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drain {
    /// When the present stretch began.
    since: Time,
    count: u64,
    /// How much left in the stretch before.
    before: u64,
}

/// How long a stretch is.
const STRETCH: Duration = Duration::from_secs(10);

/// What is told when nothing drains.
const STUCK: Duration = Duration::from_secs(60);

/// What is told at most.
const LONGEST: Duration = Duration::from_secs(600);

impl Drain {
    /// Counts what left.
    pub(super) fn note(&mut self, now: Time, count: u64) {
        self.turn(now);
        self.count += count;
    }

    /// How long until `excess` more have left, as it went of late.
    pub(super) fn wait(mut self, now: Time, excess: u64) -> Duration {
        self.turn(now);
        let left = self.before + self.count;
        let span = now.since(self.since) + STRETCH;
        let micros = u128::from(excess.max(1)) * span.as_micros();
        let wait = micros.checked_div(left.into()).map_or(STUCK, |micros| {
            Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
        });
        wait.clamp(Duration::from_secs(1), LONGEST)
    }

    fn turn(&mut self, now: Time) {
        let passed = now.since(self.since);
        if passed >= 2 * STRETCH {
            *self = Self { since: now, count: 0, before: 0 };
        } else if passed >= STRETCH {
            *self = Self { since: self.since + STRETCH, count: 0, before: self.count };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_refused_in_the_order_of_their_worth() {
        let shedding = SheddingConfig::default();
        let shares = Class::ALL.map(|class| shedding.share(class, 1_000));
        assert_eq!(shares, [1_000, 950, 800]);
        assert_eq!(shedding.share(Class::Marketing, 1), 1, "a small limit shuts nobody out");
        assert_eq!(shedding.share(Class::Otp, u64::MAX), u64::MAX);
    }

    #[test]
    fn marketing_is_never_worth_more_than_transactional() {
        assert_eq!(SheddingConfig::default().faults(), []);
        let keys = |transactional, marketing| -> Vec<String> {
            let faults = SheddingConfig { transactional, marketing }.faults();
            faults.into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(50, 60), ["shedding.marketing"]);
        assert_eq!(keys(0, 0), ["shedding.transactional", "shedding.marketing"]);
        assert_eq!(keys(101, 100), ["shedding.transactional"]);
    }

    #[test]
    fn the_wait_follows_what_left_of_late() {
        let (mut drain, mut now) = (Drain::default(), Time::from_secs(1_000));
        assert_eq!(drain.wait(now, 5), STUCK, "nothing has left");
        for _ in 0..300 {
            drain.note(now, 1);
            now += Duration::from_millis(100);
        }
        let wait = drain.wait(now, 50).as_secs_f64();
        assert!((4.0..=6.0).contains(&wait), "ten a second, and {wait} s for 50");
        assert_eq!(drain.wait(now, 1_000_000), LONGEST);
        assert_eq!(drain.wait(now, 0), Duration::from_secs(1));
        assert_eq!(drain.wait(now + Duration::from_secs(60), 5), STUCK, "that was long ago");
    }
}
