//! How soon a lost or refused bind is tried again.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::pdu::CommandStatus;
use crate::time::Span;

/// How soon a bind is tried again. Each delay grows by up to a fifth at random, so that many binds
/// do not come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// After the first loss; doubles with each further one.
    pub min: Span,
    /// At most so long after a loss. A bind that stood longer begins again with `min`.
    pub max: Span,
    /// After the first refusal; doubles with each further one.
    pub refused_min: Span,
    /// At most so long after a refusal.
    pub refused_max: Span,
    /// After `ESME_RALYBND`: longer than the carrier keeps a session that it believes to be alive.
    pub already_bound: Span,
    /// After a refused system id, password or system type, which nothing but a person mends;
    /// carriers lock accounts that try too often.
    pub wrong_credentials: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min: Span::secs(1),
            max: Span::secs(60),
            refused_min: Span::secs(30),
            refused_max: Span::secs(600),
            already_bound: Span::secs(180),
            wrong_credentials: Span::secs(600),
        }
    }
}

impl Config {
    /// What is wrong with the values, each with its key below this table.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (key, span) in [
            ("min", self.min),
            ("refused_min", self.refused_min),
            ("already_bound", self.already_bound),
            ("wrong_credentials", self.wrong_credentials),
        ] {
            if span.0 < LEAST {
                let what = format!("expected at least {}, found {span}", Span(LEAST));
                faults.push((key.to_owned(), what));
            }
        }
        for (key, max, min) in
            [("max", self.max, self.min), ("refused_max", self.refused_max, self.refused_min)]
        {
            if max < min {
                faults.push((key.to_owned(), format!("expected at least {min}, found {max}")));
            }
        }
        faults
    }
}

/// Faster than this no carrier is knocked at.
const LEAST: Duration = Duration::from_millis(10);

/// Why there is no bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The SMSC could not be reached, or the connection ended.
    Lost,
    /// The SMSC refused the bind.
    Refused(Refusal),
}

/// What a refusal of the bind means (SMPP 3.4 §5.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The system id, the password or the system type is wrong.
    Credentials,
    /// The SMSC believes that an earlier session still lives.
    AlreadyBound,
    /// The SMSC has too much to do.
    Busy,
    /// Anything else: the address is not allowed, too many binds, the account is closed.
    Other,
}

impl Refusal {
    /// What this status of a bind response means.
    pub const fn of(status: CommandStatus) -> Self {
        match status {
            CommandStatus::ESME_RINVPASWD
            | CommandStatus::ESME_RINVSYSID
            | CommandStatus::ESME_RINVSYSTYP => Self::Credentials,
            CommandStatus::ESME_RALYBND => Self::AlreadyBound,
            CommandStatus::ESME_RTHROTTLED
            | CommandStatus::ESME_RMSGQFUL
            | CommandStatus::ESME_RSYSERR => Self::Busy,
            _ => Self::Other,
        }
    }

    /// Whether a person has to look at it.
    pub const fn is_alarming(self) -> bool {
        matches!(self, Self::Credentials | Self::Other)
    }
}

/// The delays of one bind.
#[derive(Debug)]
pub struct Backoff {
    config: Config,
    losses: u32,
    refusals: u32,
    dice: u64,
}

impl Backoff {
    /// The delays of a new bind; `seed` decides what is left to chance.
    pub const fn new(config: Config, seed: u64) -> Self {
        Self { config, losses: 0, refusals: 0, dice: seed }
    }

    /// How long to wait now that there is no bind; `stood` is how long there was one.
    pub fn after(&mut self, cause: Cause, stood: Option<Duration>) -> Duration {
        if stood.is_some() {
            self.refusals = 0;
        }
        if stood.is_some_and(|stood| stood >= self.config.max.0) {
            self.losses = 0;
        }
        let Config { min, max, refused_min, refused_max, .. } = self.config;
        let delay = match cause {
            Cause::Lost => doubled(min, max, &mut self.losses),
            Cause::Refused(Refusal::Credentials) => self.config.wrong_credentials.0,
            Cause::Refused(Refusal::AlreadyBound) => self.config.already_bound.0,
            Cause::Refused(Refusal::Busy | Refusal::Other) => {
                doubled(refused_min, refused_max, &mut self.refusals)
            }
        };
        delay + self.up_to(delay / 5)
    }

    /// A span from nothing to `most` (splitmix64).
    fn up_to(&mut self, most: Duration) -> Duration {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut dice = self.dice;
        dice = (dice ^ (dice >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        dice = (dice ^ (dice >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        dice ^= dice >> 31;
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(dice % micros.saturating_add(1))
    }
}

/// `min` times two for each time before, at most `max`.
fn doubled(min: Span, max: Span, times: &mut u32) -> Duration {
    let delay = min.0.saturating_mul(1_u32.checked_shl(*times).unwrap_or(u32::MAX)).min(max.0);
    *times = times.saturating_add(1);
    delay
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Cause = Cause::Refused(Refusal::Other);

    fn backoff() -> Backoff {
        Backoff::new(Config::default(), 7)
    }

    /// Holds the next delays to these whole seconds and the fifth that chance may add.
    fn expect(backoff: &mut Backoff, cause: Cause, seconds: &[u64]) {
        for &seconds in seconds {
            expect_one(backoff.after(cause, None), seconds);
        }
    }

    fn expect_one(delay: Duration, seconds: u64) {
        let base = Duration::from_secs(seconds);
        assert!(base <= delay && delay <= base + base / 5, "{delay:?} is not {base:?}");
    }

    #[test]
    fn losses_double_from_one_second_to_a_minute() {
        expect(&mut backoff(), Cause::Lost, &[1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn refusals_double_from_half_a_minute_to_ten() {
        expect(&mut backoff(), OTHER, &[30, 60, 120, 240, 480, 600, 600]);
        expect(&mut backoff(), Cause::Refused(Refusal::Busy), &[30, 60]);
    }

    #[test]
    fn wrong_credentials_are_tried_seldom_and_a_living_session_is_waited_out() {
        expect(&mut backoff(), Cause::Refused(Refusal::Credentials), &[600, 600, 600]);
        expect(&mut backoff(), Cause::Refused(Refusal::AlreadyBound), &[180, 180, 180]);
    }

    #[test]
    fn a_bind_that_stood_begins_again_and_one_that_fell_at_once_does_not() {
        let mut backoff = backoff();
        expect(&mut backoff, Cause::Lost, &[1, 2, 4, 8]);
        expect(&mut backoff, OTHER, &[30, 60]);
        expect_one(backoff.after(Cause::Lost, Some(Duration::from_secs(59))), 16);
        expect_one(backoff.after(Cause::Lost, Some(Duration::from_secs(60))), 1);
        // A bind also ends the row of refusals.
        expect(&mut backoff, OTHER, &[30]);
    }

    #[test]
    fn a_thousand_losses_overflow_nothing() {
        let mut backoff = backoff();
        for _ in 0..1_000 {
            backoff.after(Cause::Lost, None);
        }
        expect(&mut backoff, Cause::Lost, &[60]);
    }

    #[test]
    fn binds_that_fell_together_come_back_apart() {
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|seed| Backoff::new(Config::default(), seed).after(OTHER, None)).collect();
        assert!(delays.len() > 90, "{}", delays.len());
        assert!(delays.iter().all(|delay| (30..=36).contains(&delay.as_secs())), "{delays:?}");
    }

    #[test]
    fn statuses_are_told_apart() {
        let of = |name| Refusal::of(CommandStatus::parse(name).unwrap());
        assert_eq!(of("ESME_RINVPASWD"), Refusal::Credentials);
        assert_eq!(of("ESME_RINVSYSID"), Refusal::Credentials);
        assert_eq!(of("ESME_RINVSYSTYP"), Refusal::Credentials);
        assert_eq!(of("ESME_RALYBND"), Refusal::AlreadyBound);
        assert_eq!(of("ESME_RTHROTTLED"), Refusal::Busy);
        assert_eq!(of("ESME_RBINDFAIL"), Refusal::Other);
        assert_eq!(Refusal::of(CommandStatus(0x0400)), Refusal::Other);
    }

    #[test]
    fn a_delay_that_would_hammer_is_a_fault() {
        let config = Config { min: Span::secs(0), refused_max: Span::secs(1), ..Config::default() };
        let keys: Vec<_> = config.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["min", "refused_max"]);
    }
}
