//! What was reached over all seeds, so that a fault or rule that nobody reaches is seen.

use std::collections::BTreeMap;
use std::fmt;

/// How often each thing happened, and in how many seeds.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    counts: BTreeMap<String, (u64, u64)>,
}

impl Coverage {
    pub(super) fn count(&mut self, what: String) {
        self.counts.entry(what).or_default().0 += 1;
    }

    pub(super) fn count_if(&mut self, happened: bool, what: &str) {
        if happened {
            self.count(what.to_owned());
        }
    }

    /// Adds what one seed reached.
    pub(super) fn add(&mut self, one: Self) {
        for (what, (times, _)) in one.counts {
            let (all, seeds) = self.counts.entry(what).or_default();
            *all += times;
            *seeds += 1;
        }
    }

    /// Which of these was never reached; each stands for all that begins with it.
    pub(super) fn lacks<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        let is_missing = |want: &&&str| !self.counts.keys().any(|what| what.starts_with(**want));
        wanted.iter().filter(is_missing).copied().collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, (times, seeds)) in &self.counts {
            writeln!(f, "{seeds:>6} seeds {times:>9} times  {what}")?;
        }
        Ok(())
    }
}
