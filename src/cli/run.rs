//! `hikyaku run`: the daemon.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sd_notify::NotifyState;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::cli::Failure;
use crate::cli::out;
use crate::config;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::ops;
use crate::ops::LogControl;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration file.
    #[arg(short, long, env = "HIKYAKU_CONFIG")]
    config: PathBuf,
}

/// The runtime that every command which waits uses.
///
/// # Errors
/// When the system gives no threads.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}

/// SIGINT and SIGTERM, both heard from here on: none is lost, whatever is done meanwhile.
pub(super) struct Interrupts {
    terminate: Signal,
    interrupt: Signal,
}

impl Interrupts {
    /// Listens for both; from here on they end nothing by themselves.
    ///
    /// # Errors
    /// When the signals cannot be listened for.
    pub(super) fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one that has not been waited for.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for SIGINT or SIGTERM.
///
/// # Errors
/// When the signals cannot be listened for.
pub(super) async fn interrupted() -> io::Result<()> {
    Interrupts::listen()?.next().await;
    Ok(())
}

impl Run {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = read(&self.config)?;
        let logs = ops::start_logs(&config.log)?;
        ops::log_panics();
        runtime()?.block_on(self.serve(config, logs))
    }

    async fn serve(self, config: Config, logs: LogControl) -> Result<ExitCode, Failure> {
        let mut hangup = signal(SignalKind::hangup())?;
        // Before anything is started: who stops us meanwhile finds a stop in good order behind it.
        let mut interrupts = Interrupts::listen()?;
        let drain = *config.drain;
        let mut gateway = Gateway::start(config, None).await?;
        tell_service(&[NotifyState::Ready]);
        let failure = loop {
            tokio::select! {
                () = interrupts.next() => break None,
                failure = gateway.failed() => break Some(failure),
                _ = hangup.recv() => self.reload(&mut gateway, &logs).await,
            }
        };
        tell_service(&[NotifyState::Stopping]);
        let left = gateway.drain(drain).await;
        tracing::info!(live = left.live, unanswered = left.unanswered, "stopped");
        match failure {
            None => Ok(ExitCode::SUCCESS),
            Some(failure) => Err(failure.into()),
        }
    }

    /// Takes the file again; a file with faults changes nothing.
    async fn reload(&self, gateway: &mut Gateway, logs: &LogControl) {
        let config = match read(&self.config) {
            Ok(config) => config,
            Err(failure) => return tracing::error!("reload refused, nothing changed: {failure}"),
        };
        if let Err(error) = logs.set_level(&config.log.level) {
            tracing::error!("reload: {error}");
        }
        match gateway.reload(config).await {
            Ok(changes) => tracing::info!("reloaded: {changes}"),
            Err(error) => tracing::error!("reload refused, nothing changed: {error}"),
        }
    }
}

/// Reads a configuration, or says everything that is wrong with it.
fn read(path: &std::path::Path) -> Result<Config, Failure> {
    let source = config::Source::from_file(path)?;
    let config = config::read(&source)
        .map_err(|faults| format!("{}{} faults", source.draw(&faults), faults.len()))?;
    for warning in config.warnings() {
        out::complain(&format!("warning: {}: {}", warning.key, warning.message));
    }
    Ok(config)
}

/// Tells systemd, when it started us; others need no word.
fn tell_service(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("no word to the service manager: {error}");
    }
}
