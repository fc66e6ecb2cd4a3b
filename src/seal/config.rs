//! The table of the config for keys.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::time::Span;

/// Where the keys of what is sealed lie, and for how long they stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory of the keys, one a day; made if it is missing, for its owner only.
    pub dir: PathBuf,
    /// How long texts and full numbers can be read after the day on which they were written, in
    /// whole days. Then the key of that day is erased: states and timelines stay for as long as the
    /// archive keeps them. What is live is written again under a younger key before that.
    pub keep: Span,
    /// A file of at least 32 octets that nobody can guess, from a credential or a mounted secret,
    /// under which the keys are wrapped: then a stolen disk opens nothing. Without it whoever has
    /// the keys' directory can read.
    pub master_key_file: Option<PathBuf>,
}

const DAY: Duration = Duration::from_secs(86_400);

/// The longest that keys can be kept, in days.
const LONGEST: u32 = 3_660;

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/hikyaku/keys"),
            keep: Span(DAY * 30),
            master_key_file: None,
        }
    }
}

impl Config {
    /// What is wrong with the values, each with its key below this table.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if self.dir.as_os_str().is_empty() {
            faults.push(("dir".to_owned(), "expected a directory, found none".to_owned()));
        }
        if !(DAY..=DAY * LONGEST).contains(&self.keep.0) {
            let fault = format!("expected 1d to {LONGEST}d, found {}", self.keep);
            faults.push(("keep".to_owned(), fault));
        }
        faults
    }

    /// [`Self::keep`] in days; a part of one counts as a whole one.
    pub(super) fn keep_days(&self) -> u32 {
        u32::try_from(self.keep.0.as_secs().div_ceil(DAY.as_secs())).unwrap_or(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_for_whole_days_at_least_one() {
        let kept = |keep| Config { keep, ..Config::default() };
        assert_eq!(Config::default().faults(), []);
        assert_eq!(kept(Span::secs(86_401)).keep_days(), 2);
        assert_eq!(kept(Span::secs(86_399)).faults().len(), 1);
        assert_eq!(kept(Span(DAY * 4_000)).faults().len(), 1);
    }
}
