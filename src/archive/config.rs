//! The archive's table of the config.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::archive::Numbers;
use crate::time::Span;

/// Where the archive lies, what it keeps and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory of the day files; made if it is missing.
    pub dir: PathBuf,
    /// How many days are kept besides the present one; older files are deleted.
    pub keep_days: u32,
    /// How telephone numbers are kept.
    pub numbers: Numbers,
    /// Whether the texts of our messages are kept. What handsets send is kept for its owner in any
    /// case.
    pub store_text: bool,
    /// How often what has ended is written, unless much waits: a 64th of `pending_messages` that have
    /// ended, or events for a quarter of `recent_events`, are written at once; more, up to four
    /// times as many, when they are of hundreds of keys.
    pub flush_every: Span,
    /// After this time a message is written although it has not ended.
    pub write_live_after: Span,
    /// The most changed messages in memory, at about 1 KiB each; above it they are written at once.
    pub pending_messages: usize,
    /// How many of the latest events are kept in memory for those who follow the feed closely.
    pub recent_events: usize,
    /// The most searches and look-ups on disk at the same time.
    pub readers: usize,
    /// The most requests that wait for a change of a message.
    pub waiters: usize,
    /// Which API key owns what handsets send to our numbers: our number as the carrier writes it,
    /// to the key's name. `"*"` stands for all others.
    pub inbound_owners: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/hikyaku/archive"),
            keep_days: 90,
            numbers: Numbers::Plain,
            store_text: false,
            flush_every: Span::secs(1),
            write_live_after: Span::secs(5),
            pending_messages: 65_536,
            recent_events: 16_384,
            readers: 4,
            waiters: 10_000,
            inbound_owners: BTreeMap::new(),
        }
    }
}

/// A value of the config that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, below the module's table.
    pub key: &'static str,
    /// What was expected and what was found.
    pub fault: String,
}

impl Config {
    /// All that is wrong with the values.
    pub fn faults(&self) -> Vec<Fault> {
        let millis = |span: Span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let count = |number: usize| number as u64;
        let ranges = [
            ("keep_days", self.keep_days.into(), 1, 3_660, ""),
            ("flush_every", millis(self.flush_every), 10, 60_000, " ms"),
            ("write_live_after", millis(self.write_live_after), 0, 600_000, " ms"),
            ("pending_messages", count(self.pending_messages), 1, 10_000_000, ""),
            ("recent_events", count(self.recent_events), 1, 10_000_000, ""),
            ("readers", count(self.readers), 1, 256, ""),
            ("waiters", count(self.waiters), 1, 1_000_000, ""),
        ];
        let empty = self.dir.as_os_str().is_empty();
        let dir = empty.then(|| Fault { key: "dir", fault: "expected a directory".to_owned() });
        let outside = ranges
            .into_iter()
            .filter(|(_, found, least, most, _)| !(least..=most).contains(&found));
        let outside = outside.map(|(key, found, least, most, unit)| Fault {
            key,
            fault: format!("expected {least}{unit} to {most}{unit}, found {found}{unit}"),
        });
        dir.into_iter().chain(outside).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_fault() {
        assert_eq!(Config::default().faults(), []);
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let config = Config {
            dir: PathBuf::new(),
            keep_days: 0,
            flush_every: Span::millis(1),
            ..Config::default()
        };
        let keys: Vec<_> = config.faults().into_iter().map(|fault| fault.key).collect();
        assert_eq!(keys, ["dir", "keep_days", "flush_every"]);
    }

    #[test]
    fn a_stray_key_is_refused() {
        let error = toml::from_str::<Config>("keep_dais = 3").unwrap_err();
        assert!(error.to_string().contains("keep_dais"), "{error}");
    }
}
