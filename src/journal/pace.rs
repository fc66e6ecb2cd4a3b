//! How often the writer syncs: at once while little comes, once in a while when much does.

use std::time::Duration;

/// So many records within one interval are synced as they come, each group for itself.
const FEW: usize = 16;

/// Spreads the syncs of a busy journal.
///
/// A sync costs the same for one record as for a hundred, and each wakes everybody who waits for
/// the disk. So an interval begins with a sync; in it more syncs follow at once as long as the
/// records of all of them are few, and what comes after that waits for the interval's end. Who
/// sends a message now and then never waits, and nobody waits for longer than one interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    every: Duration,
    /// When the interval began, since the writer did.
    from: Duration,
    /// How many records were written in it.
    records: usize,
}

impl Pace {
    pub(super) const fn new(every: Duration) -> Self {
        Self { every, from: Duration::ZERO, records: 0 }
    }

    /// How long a group of so many records is to wait at `now`.
    pub(super) fn wait(&self, now: Duration, records: usize) -> Duration {
        if self.records + records <= FEW {
            return Duration::ZERO;
        }
        (self.from + self.every).saturating_sub(now)
    }

    /// Takes note that a group of so many records is written at `now`.
    pub(super) fn write(&mut self, now: Duration, records: usize) {
        if now >= self.from + self.every {
            (self.from, self.records) = (now, 0);
        }
        self.records += records;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(1);

    /// Writes groups of `records` that come each `apart` µs; when each is written, in µs.
    fn written(apart: u64, records: usize, groups: u64) -> Vec<u64> {
        let mut pace = Pace::new(EVERY);
        let mut times = Vec::new();
        let (mut now, mut waiting) = (EVERY * 5, 0);
        let begun = now;
        for group in 0..groups {
            let comes = begun + Duration::from_micros(group * apart);
            // What waits is written before this comes, if its time is over by then.
            while waiting > 0 && now + pace.wait(now, waiting) <= comes {
                now += pace.wait(now, waiting);
                pace.write(now, waiting);
                times.push(u64::try_from((now - begun).as_micros()).unwrap());
                waiting = 0;
            }
            now = now.max(comes);
            waiting += records;
        }
        times
    }

    #[test]
    fn little_is_written_as_it_comes() {
        let expected: Vec<_> = (0..99).map(|group| group * 200).collect();
        assert_eq!(written(200, 3, 100), expected);
        assert_eq!(written(5_000, 1_000, 3), [0, 5_000]);
    }

    #[test]
    fn much_is_written_once_in_an_interval() {
        let times = written(10, 20, 1_000);
        assert_eq!(times, (0..10).map(|interval| interval * 1_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_comes_after_a_few_waits_for_the_intervals_end_only() {
        // Five groups of three are few; the sixth waits, with those that come meanwhile.
        let times = written(100, 3, 25);
        assert_eq!(times, [0, 100, 200, 300, 400, 1_000, 2_000]);
    }

    #[test]
    fn without_an_interval_nothing_waits() {
        let mut pace = Pace::new(Duration::ZERO);
        pace.write(Duration::ZERO, 1_000_000);
        assert_eq!(pace.wait(Duration::ZERO, 1_000_000), Duration::ZERO);
    }
}
