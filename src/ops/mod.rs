//! Metrics, health, logs and what the system allows.

mod files;
mod logs;
mod metrics;
mod panics;

pub use self::files::raise_open_files;
pub use self::logs::Config as LogConfig;
pub use self::logs::Format;
pub use self::logs::LogControl;
pub use self::logs::LogError;
pub use self::logs::start as start_logs;
pub use self::metrics::CertificateSample;
pub use self::metrics::Metrics;
pub use self::metrics::QueueSample;
pub use self::metrics::Sample;
pub use self::panics::log_panics;
