//! `hikyaku check`: every fault of a configuration at once.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::Failure;
use crate::cli::out;
use crate::config;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file.
    file: PathBuf,
    /// Prints the faults, or the effective configuration, as JSON.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let source = config::Source::from_file(&self.file)?;
        match config::read(&source) {
            Ok(config) => {
                for warning in config.warnings() {
                    out::complain(&format!("warning: {}: {}", warning.key, warning.message));
                }
                out::say(&if self.json { config.shown_as_json()? } else { config.shown()? })?;
                Ok(ExitCode::SUCCESS)
            }
            Err(faults) if self.json => {
                let faults: Vec<_> = faults
                    .iter()
                    .map(|fault| {
                        serde_json::json!({
                            "key": fault.key,
                            "place": fault.place.to_string(),
                            "message": fault.message,
                        })
                    })
                    .collect();
                out::say(&serde_json::to_string_pretty(&faults)?)?;
                Ok(ExitCode::FAILURE)
            }
            Err(faults) => {
                out::complain(&source.draw(&faults));
                out::complain(&format!("{} faults in {}", faults.len(), source.name));
                Ok(ExitCode::FAILURE)
            }
        }
    }
}
