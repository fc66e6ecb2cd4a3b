//! The shell's clock, from which the core is told the time.
#![expect(clippy::disallowed_methods, reason = "this is where the shell reads the clock")]

use std::time::SystemTime;

use tokio::time::Instant;

use crate::time::Time;

/// A monotonic clock, anchored to the wall clock once: it never goes back while the process lives,
/// whatever is done to the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Instant,
    at: Time,
}

impl Clock {
    /// A clock that begins at the wall clock's time.
    pub fn start() -> Self {
        Self::start_after(Time::ZERO)
    }

    /// A clock that begins at the wall clock's time, or at `last` when that is later: what a
    /// journal has seen is never in the future.
    pub fn start_after(last: Time) -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::start_at((Time::ZERO + wall).max(last))
    }

    /// A clock that begins at `at`, whatever the wall clock says: a simulated one.
    pub fn start_at(at: Time) -> Self {
        Self { anchor: Instant::now(), at }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.at + self.anchor.elapsed()
    }

    /// The runtime's instant for `time`, for its timers; a far one when it never comes.
    pub fn instant(&self, time: Time) -> Instant {
        let span = time.since(self.at);
        self.anchor.checked_add(span).unwrap_or_else(|| self.anchor + FAR)
    }
}

/// Longer than any process lives.
const FAR: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_the_runtimes_time_and_begins_no_earlier_than_told() {
        let last = Time::from_secs(9_000_000_000);
        let clock = Clock::start_after(last);
        assert_eq!(clock.now(), last);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.now(), last + Duration::from_secs(3));
        assert_eq!(clock.instant(clock.now()), Instant::now());
    }
}
