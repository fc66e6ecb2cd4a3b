//! Logs: tracing to stderr, as text or JSON, with a level that changes live.

use std::io;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `text` for people, `json` for machines.
    pub format: Format,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or directives such as
    /// `info,hikyaku::link=debug`.
    pub level: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One line of words.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".into() }
    }
}

impl Config {
    /// What is wrong with the values, each with its key below this table.
    pub fn faults(&self) -> Vec<(String, String)> {
        match EnvFilter::try_new(&self.level) {
            Ok(_) => Vec::new(),
            Err(error) => vec![(
                "level".into(),
                format!("{error}; write a level such as `info` or `info,hikyaku::link=debug`"),
            )],
        }
    }
}

/// Changes the level while the process runs.
#[derive(Clone, Debug)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
}

/// Why logging does not start or change.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is no directive.
    #[error("log.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in the process has started logging already.
    #[error("logging has already started")]
    Started,
    /// The subscriber is gone.
    #[error("logging has stopped")]
    Stopped,
}

/// Starts logging to stderr for the whole process.
///
/// # Errors
/// [`LogError::Level`] for a bad level, [`LogError::Started`] at the second call.
pub fn start(config: &Config) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&config.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let format = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let started = match config.format {
        Format::Text => registry.with(format.with_ansi(false)).try_init(),
        Format::Json => registry.with(format.json().flatten_event(true)).try_init(),
    };
    started.map_err(|_| LogError::Started)?;
    Ok(LogControl { handle })
}

impl LogControl {
    /// Changes the level.
    ///
    /// # Errors
    /// [`LogError::Level`] for a bad level.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = EnvFilter::try_new(level)?;
        self.handle.reload(filter).map_err(|_| LogError::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_level_is_named() {
        let config = Config { level: "hikyaku=loud".into(), ..Config::default() };
        assert_eq!(config.faults()[0].0, "level");
        assert_eq!(Config::default().faults(), []);
    }
}
