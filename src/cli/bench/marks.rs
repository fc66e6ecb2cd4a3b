//! When each message passed each stage, and how long the stages took.

#![expect(clippy::disallowed_methods, reason = "the shell reads the clock")]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The digits in front of a message's number in its destination: a Japanese mobile.
const PREFIX: &str = "8190";

/// The number of the first message: no magic one of the simulated carrier, and eight digits.
const FIRST: u64 = 10_000_011;

/// The most messages that have destinations of their own.
pub(super) const MOST: u64 = 80_000_000;

/// What a message passes on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// From the request to the 202.
    Accept,
    /// From the request to the first `submit_sm` at the carrier.
    Submit,
    /// From the carrier's `deliver_sm` to its answer.
    Receipt,
    /// From the last `deliver_sm` to the webhook, or to the event in the feed.
    Told,
}

impl Stage {
    pub(super) const ALL: [Self; 4] = [Self::Accept, Self::Submit, Self::Receipt, Self::Told];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Submit => "submit",
            Self::Receipt => "receipt",
            Self::Told => "told",
        }
    }
}

/// The times of all messages of one run, in microseconds since its start.
pub(super) struct Marks {
    start: Instant,
    /// When each was handed in; the highest bit says that the carrier has seen it.
    posted: Vec<AtomicU64>,
    /// When its newest receipt left the carrier; the highest bit says that it was told.
    receipts: Vec<AtomicU64>,
    stages: [Spans; 4],
}

const SEEN: u64 = 1 << 63;

impl Marks {
    pub(super) fn new(messages: u64) -> Self {
        let zeros = || (0..messages).map(|_| AtomicU64::new(0)).collect();
        Self {
            start: Instant::now(),
            posted: zeros(),
            receipts: zeros(),
            stages: std::array::from_fn(|_| Spans::default()),
        }
    }

    /// The moment from which all is counted.
    pub(super) const fn start(&self) -> Instant {
        self.start
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A message is handed in, or was to be at `at`.
    pub(super) fn posted(&self, message: u64, at: Instant) {
        let micros = at.saturating_duration_since(self.start).as_micros();
        if let Some(posted) = slot(&self.posted, message) {
            posted.store(u64::try_from(micros).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// The gateway has taken it.
    pub(super) fn accepted(&self, message: u64) {
        if let Some(posted) = slot(&self.posted, message) {
            self.note(Stage::Accept, posted.load(Ordering::Relaxed) & !SEEN);
        }
    }

    /// A segment of it has reached the carrier.
    pub(super) fn submitted(&self, message: u64) {
        let Some(posted) = slot(&self.posted, message) else { return };
        let before = posted.fetch_or(SEEN, Ordering::Relaxed);
        if before & SEEN == 0 {
            self.note(Stage::Submit, before);
        }
    }

    /// A receipt for it has left the carrier.
    pub(super) fn receipt_sent(&self, message: u64) {
        if let Some(receipt) = slot(&self.receipts, message) {
            let told = receipt.load(Ordering::Relaxed) & SEEN;
            receipt.store(self.now() | told, Ordering::Relaxed);
        }
    }

    /// The gateway has answered a receipt for it.
    pub(super) fn receipt_taken(&self, message: u64) {
        if let Some(receipt) = slot(&self.receipts, message) {
            self.note(Stage::Receipt, receipt.load(Ordering::Relaxed) & !SEEN);
        }
    }

    /// The gateway has told what became of it; only the first time counts.
    pub(super) fn told(&self, message: u64) {
        let Some(receipt) = slot(&self.receipts, message) else { return };
        let since = receipt.fetch_or(SEEN, Ordering::Relaxed);
        if since & SEEN == 0 {
            self.note(Stage::Told, since);
        }
    }

    fn note(&self, stage: Stage, since: u64) {
        let now = self.now();
        self.stage(stage).note(now.saturating_sub(since), now);
    }

    #[expect(clippy::indexing_slicing, reason = "there are as many as stages")]
    pub(super) const fn stage(&self, stage: Stage) -> &Spans {
        &self.stages[stage as usize]
    }
}

fn slot(all: &[AtomicU64], message: u64) -> Option<&AtomicU64> {
    all.get(usize::try_from(message).ok()?)
}

/// The destination of a message.
pub(super) fn destination(message: u64) -> String {
    format!("+{PREFIX}{:08}", FIRST + message % MOST)
}

/// The message that has this destination, written with digits only.
pub(super) fn message(destination: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(destination.strip_prefix(PREFIX.as_bytes())?).ok()?;
    digits.parse::<u64>().ok()?.checked_sub(FIRST)
}

/// How often a span of each length was seen: to one part in 64, from microseconds to hours.
pub(super) struct Spans {
    buckets: Vec<AtomicU64>,
    count: AtomicU64,
    /// When the last one ended.
    last: AtomicU64,
}

/// The bits that tell two spans of the same magnitude apart.
const FINE: u32 = 6;

impl Default for Spans {
    fn default() -> Self {
        let buckets = (0..40_usize << FINE).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, count: AtomicU64::new(0), last: AtomicU64::new(0) }
    }
}

impl Spans {
    fn note(&self, micros: u64, now: u64) {
        if let Some(bucket) = self.buckets.get(bucket(micros)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Microseconds from the start of the run to the end of the last span.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// The microseconds that so many of a thousand spans do not exceed.
    pub(super) fn quantile(&self, of_a_thousand: u64) -> u64 {
        let rank = (self.count() * of_a_thousand).div_ceil(1_000);
        let mut seen = 0;
        let found = self.buckets.iter().position(|bucket| {
            seen += bucket.load(Ordering::Relaxed);
            seen >= rank && seen > 0
        });
        found.map_or(0, upper)
    }
}

/// Spans below 128 µs have a bucket each microsecond; above, 64 buckets a power of two.
fn bucket(micros: u64) -> usize {
    let magnitude = (u64::BITS - micros.leading_zeros()).saturating_sub(FINE + 1);
    let fine = usize::try_from(micros >> magnitude).unwrap_or(usize::MAX);
    ((magnitude as usize) << FINE).saturating_add(fine)
}

/// The longest span of a bucket.
const fn upper(bucket: usize) -> u64 {
    let magnitude = (bucket >> FINE).saturating_sub(1);
    let fine = bucket - (magnitude << FINE);
    ((fine as u64 + 1) << magnitude) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_names_its_message() {
        for number in [0, 7, MOST - 1] {
            let to = destination(number);
            assert_eq!(message(&to.as_bytes()[1..]), Some(number));
        }
        assert_eq!(message(b"81901"), None, "before the first");
        assert_eq!(message(b"447700900000"), None);
    }

    #[test]
    fn quantiles_are_true_to_one_part_in_64() {
        let spans = Spans::default();
        (1..=100_000).for_each(|micros| spans.note(micros, micros));
        for (of_a_thousand, exact) in [(500, 50_000.0), (990, 99_000.0), (999, 99_900.0)] {
            let found = spans.quantile(of_a_thousand) as f64;
            assert!((0.0..=exact / 64.0).contains(&(found - exact)), "{of_a_thousand}: {found}");
        }
        assert_eq!((spans.count(), spans.last()), (100_000, 100_000));
        assert_eq!(Spans::default().quantile(999), 0);
    }

    #[test]
    fn a_message_of_many_segments_counts_once_as_submitted() {
        let marks = Marks::new(2);
        marks.posted(1, marks.start());
        (0..10).for_each(|_| marks.submitted(1));
        marks.submitted(2);
        assert_eq!(marks.stage(Stage::Submit).count(), 1);
    }
}
