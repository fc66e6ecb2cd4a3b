//! `hikyaku smsc`: the simulated carrier alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::Failure;
use crate::cli::out;
use crate::cli::run::interrupted;
use crate::cli::run::runtime;
use crate::clock::Clock;
use crate::smsc::Config;
use crate::smsc::Server;
use crate::time::Rate;

#[derive(Debug, Args)]
pub(super) struct Smsc {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:2775")]
    listen: SocketAddr,
    /// What the carrier is like, TOML; see `--print-config`.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Prints the configuration with every key and exits.
    #[arg(long)]
    print_config: bool,
    /// Submits a second that it takes; more are throttled.
    #[arg(long)]
    rate: Option<Rate>,
    /// Where its randomness begins.
    #[arg(long)]
    seed: Option<u64>,
}

impl Smsc {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = self.settings()?;
        if self.print_config {
            out::say(&toml::to_string_pretty(&config)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        runtime()?.block_on(serve(config, self.listen))
    }

    fn settings(&self) -> Result<Config, Failure> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?
            }
        };
        if self.rate.is_some() {
            config.rate = self.rate;
        }
        if let Some(seed) = self.seed {
            config.seed = seed;
        }
        Ok(config)
    }
}

async fn serve(config: Config, listen: SocketAddr) -> Result<ExitCode, Failure> {
    let name = config.name.clone();
    let server = Server::bind(config, listen, Clock::start()).await?;
    out::say(&format!("{name}: listening on {}", server.local_addr()?))?;
    let carrier = server.carrier();
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(server.run(shutdown.clone(), tasks.clone()));
    interrupted().await?;
    shutdown.cancel();
    tasks.close();
    let _late = tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await;
    let tally = carrier.tally();
    out::say(&format!(
        "{name}: {} taken, {} refused, {} throttled, {} receipts sent",
        tally.accepted, tally.refused, tally.throttled, tally.receipts
    ))?;
    Ok(ExitCode::SUCCESS)
}
