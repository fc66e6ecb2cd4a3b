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

use crate::api::admin::Changes;
use crate::api::admin::Reloaded;
use crate::cli::Failure;
use crate::cli::out;
use crate::config;
use crate::config::Config;
use crate::config::Fault;
use crate::config::Source;
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
        allow_files(&config);
        runtime()?.block_on(self.serve(config, logs))
    }

    async fn serve(self, config: Config, logs: LogControl) -> Result<ExitCode, Failure> {
        let mut hangup = signal(SignalKind::hangup())?;
        // Before anything is started: who stops us meanwhile finds a stop in good order behind it.
        let mut interrupts = Interrupts::listen()?;
        let drain = *config.drain;
        let mut gateway = Gateway::start(config, None).await?;
        let mut reloads = gateway.take_reloads();
        let mut asked = async || match &mut reloads {
            Some(reloads) => reloads.recv().await,
            None => None,
        };
        tell_service(&[NotifyState::Ready]);
        let failure = loop {
            tokio::select! {
                () = interrupts.next() => break None,
                failure = gateway.failed() => break Some(failure),
                _ = hangup.recv() => {
                    self.reload(&mut gateway, &logs).await;
                }
                Some(answer) = asked() => {
                    // An operator who does not wait finds it in the log.
                    let _gone = answer.send(self.reload(&mut gateway, &logs).await);
                }
            }
        };
        // Who asks from now on, or waits, is told that no configuration is taken.
        drop(reloads);
        tell_service(&[NotifyState::Stopping]);
        let left = gateway.drain(drain).await;
        tracing::info!(live = left.live, unanswered = left.unanswered, "stopped");
        match failure {
            None => Ok(ExitCode::SUCCESS),
            Some(failure) => Err(failure.into()),
        }
    }

    /// Takes the file again; a file with faults changes nothing.
    async fn reload(&self, gateway: &mut Gateway, logs: &LogControl) -> Reloaded {
        let reloaded = match self.take_again(gateway, logs).await {
            Ok(changes) => Reloaded::Done(changes),
            Err(faults) => Reloaded::Refused(faults),
        };
        match &reloaded {
            Reloaded::Done(changes) => tracing::info!("reloaded: {}", told(changes)),
            Reloaded::Refused(faults) => {
                let faults: Vec<_> =
                    faults.iter().map(|(key, what)| format!("{key}: {what}")).collect();
                tracing::error!("reload refused, nothing changed: {}", faults.join("; "));
            }
        }
        reloaded
    }

    async fn take_again(
        &self,
        gateway: &mut Gateway,
        logs: &LogControl,
    ) -> Result<Changes, Vec<(String, String)>> {
        let whole = |error: String| vec![(String::new(), error)];
        let source = Source::from_file(&self.config).map_err(|error| whole(error.to_string()))?;
        let located =
            |fault: &Fault| (fault.key.clone(), format!("{}: {}", fault.place, fault.message));
        let config = config::read(&source)
            .map_err(|faults| faults.iter().map(located).collect::<Vec<_>>())?;
        let mut changes = config.changed_from(gateway.config());
        let level = config.log.level.clone();
        let links = gateway.reload(config).await.map_err(whole)?;
        if let Err(error) = logs.set_level(&level) {
            tracing::error!("reload: {error}");
        }
        changes.started = links.started;
        changes.bound_anew = links.replaced;
        changes.stopped = links.stopped;
        changes.untouched = links.kept;
        Ok(changes)
    }
}

/// What a reload did, in a line.
fn told(changes: &Changes) -> String {
    let list = |names: &[String]| {
        if names.is_empty() { "none".to_owned() } else { names.join(" ") }
    };
    format!(
        "keys changed: {}; of them from the next start on: {}; carriers started: {}; bound anew: {}; \
         stopped: {}; untouched: {}",
        list(&changes.changed),
        list(&changes.from_next_start),
        list(&changes.started),
        list(&changes.bound_anew),
        list(&changes.stopped),
        list(&changes.untouched)
    )
}

/// Has the system allow as many sockets as it may, and warns when the configuration wants more.
fn allow_files(config: &Config) {
    let limit = match ops::raise_open_files() {
        Ok(limit) => limit,
        Err(error) => return tracing::warn!(%error, "the limit of open files stays as it is"),
    };
    let wanted = config.open_files();
    if let Some(limit) = limit.filter(|limit| *limit < wanted) {
        tracing::warn!(
            limit,
            wanted,
            "too few files may be open for every connection that the configuration allows: raise \
             LimitNOFILE of the unit, or lower api.limits.connections"
        );
    }
}

/// Reads a configuration, or says everything that is wrong with it.
fn read(path: &std::path::Path) -> Result<Config, Failure> {
    let source = Source::from_file(path)?;
    let config = config::read(&source)
        .map_err(|faults| format!("{}{}", source.draw(&faults), out::faults(faults.len())))?;
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
