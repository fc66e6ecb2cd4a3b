//! `hikyaku init`: a commented configuration.

use std::process::ExitCode;

use crate::cli::Failure;
use crate::cli::out;
use crate::config;

pub(super) fn run() -> Result<ExitCode, Failure> {
    out::say(&config::sample())?;
    Ok(ExitCode::SUCCESS)
}
