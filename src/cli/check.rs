//! `hikyaku check`: every fault of a configuration at once.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::Failure;
use crate::cli::out;
use crate::config;
use crate::config::Config;
use crate::config::Fault;
use crate::config::Files;
use crate::config::Source;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file.
    file: PathBuf,
    /// Prints the faults, or the effective configuration, as JSON.
    #[arg(long)]
    json: bool,
    /// Looks at none of the files that the configuration names: they are on another machine.
    #[arg(long)]
    no_files: bool,
}

impl Check {
    /// Reads the configuration and looks at what it names; warnings are said, whatever else.
    fn read(&self, source: &Source) -> Result<Config, Vec<Fault>> {
        let config = config::read(source)?;
        let files = if self.no_files { Files::default() } else { config::files(&config, source) };
        for warning in config.warnings().iter().chain(&files.warnings) {
            out::complain(&format!("warning: {}: {}", warning.key, warning.message));
        }
        if files.faults.is_empty() { Ok(config) } else { Err(files.faults) }
    }

    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let source = Source::from_file(&self.file)?;
        match self.read(&source) {
            Ok(config) => {
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
                let count = out::faults(faults.len());
                out::complain(&format!("{count} in {}", source.name));
                Ok(ExitCode::FAILURE)
            }
        }
    }
}
