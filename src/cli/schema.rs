//! `hikyaku schema`: the JSON Schema of the configuration.

use std::process::ExitCode;

use crate::cli::Failure;
use crate::cli::out;
use crate::config;

pub(super) fn run() -> Result<ExitCode, Failure> {
    out::say(&serde_json::to_string_pretty(&config::schema())?)?;
    Ok(ExitCode::SUCCESS)
}
