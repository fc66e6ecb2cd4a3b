//! `hikyaku demo`: a gateway and three simulated carriers, with nothing to configure.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::KeyHash;
use crate::cli::Failure;
use crate::cli::out;
use crate::cli::run::interrupted;
use crate::cli::run::runtime;
use crate::clock::Clock;
use crate::config;
use crate::config::Config;
use crate::config::Source;
use crate::gateway::Gateway;
use crate::gateway::Notice;
use crate::ops;
use crate::smsc;
use crate::smsc::IdForm;
use crate::smsc::ReceiptForm;
use crate::smsc::Server;
use crate::time::Rate;
use crate::time::Span;

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where the submit API listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// A carrier that is to be down, to watch the fallback: hayabusa, tsubame or kamome.
    #[arg(long, value_name = "CARRIER")]
    down: Vec<String>,
    /// Says everything that the gateway logs.
    #[arg(short, long)]
    verbose: bool,
}

/// The key of the demo: nothing that it opens outlives the process.
const TOKEN: &str = "hky_demodemo_0000000000000000000000000000000000000000000";

/// The demo's carriers with their rates.
const CARRIERS: [(&str, u64); 3] = [("hayabusa", 100), ("tsubame", 50), ("kamome", 20)];

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if let Some(name) = self.down.iter().find(|name| !CARRIERS.iter().any(|c| c.0 == *name)) {
            return Err(format!("--down {name}: expected hayabusa, tsubame or kamome").into());
        }
        let level = if self.verbose { "info" } else { "error" };
        ops::start_logs(&ops::LogConfig { level: level.into(), ..ops::LogConfig::default() })?;
        let data = Scratch::new()?;
        runtime()?.block_on(self.serve(&data))
    }

    async fn serve(self, data: &Scratch) -> Result<ExitCode, Failure> {
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        let mut ports = Vec::new();
        for (seed, (name, rate)) in (1..).zip(CARRIERS) {
            let address = SocketAddr::from(([127, 0, 0, 1], 0));
            let server = Server::bind(carrier(name, rate, seed), address, Clock::start()).await?;
            ports.push(server.local_addr()?.port());
            if self.down.iter().all(|down| down != name) {
                tasks.spawn(server.run(shutdown.clone(), tasks.clone()));
            }
        }
        let config = self.config(data, &ports)?;
        let (notices, mut news) = mpsc::channel(1_024);
        let mut gateway = Gateway::start(config, Some(notices)).await?;
        out::say(&welcome(gateway.address()))?;
        let mut stop = std::pin::pin!(interrupted());
        let failure = loop {
            tokio::select! {
                stopped = &mut stop => {
                    stopped?;
                    break None;
                }
                failure = gateway.failed() => break Some(failure),
                Some(notice) = news.recv() => tell(&notice)?,
            }
        };
        gateway.drain(Duration::from_secs(2)).await;
        shutdown.cancel();
        match failure {
            None => Ok(ExitCode::SUCCESS),
            Some(failure) => Err(failure.into()),
        }
    }

    fn config(&self, data: &Scratch, ports: &[u16]) -> Result<Config, Failure> {
        let hash = KeyHash::of_token(TOKEN)?;
        let mut text = format!(
            "data_dir = {:?}\n[api]\nlisten = \"{}\"\n[api.clients.demo]\nkeys = [\"{hash}\"]\n\
             scopes = [\"messages:write\", \"messages:read\", \"messages:read_content\", \
             \"webhooks\"]\nsender = \"0005123456\"\n[webhooks]\nnetworks = [\"127.0.0.0/8\"]\n",
            data.0.display().to_string(),
            self.listen
        );
        for ((name, rate), port) in CARRIERS.iter().zip(ports) {
            text.push_str(&format!(
                "[carriers.{name}]\nhost = \"127.0.0.1\"\nport = {port}\nsystem_id = \"demo\"\n\
                 rate = \"{rate}/s\"\n"
            ));
        }
        text.push_str(ROUTES);
        let source = Source::from_text("demo", &text);
        Ok(config::read(&source).map_err(|faults| source.draw(&faults))?)
    }
}

/// Japan goes over the fast carriers, the rest over the slow one.
const ROUTES: &str = r#"
[[routes]]
name = "japan"
match = { prefix = ["81"] }
carriers = ["hayabusa", "tsubame", "kamome"]
[routes.fallback]
no_bind = "2s"

[[routes]]
name = "world"
carriers = ["kamome", "tsubame"]
"#;

fn carrier(name: &str, rate: u64, seed: u64) -> smsc::Config {
    smsc::Config {
        name: name.to_owned(),
        rate: Some(Rate::per_second(rate)),
        receipt_delay: [Span::millis(700), Span::millis(1_300)],
        ids: [IdForm::Decimal, IdForm::HexThenDecimal, IdForm::Uuid]
            .into_iter()
            .cycle()
            .nth(usize::try_from(seed).unwrap_or(0))
            .unwrap_or_default(),
        receipts: if seed == 2 { ReceiptForm::Text } else { ReceiptForm::Both },
        seed,
        ..smsc::Config::default()
    }
}

/// What a newcomer reads first.
pub(super) fn welcome(address: SocketAddr) -> String {
    let carriers: Vec<String> =
        CARRIERS.iter().map(|(name, rate)| format!("{name} {rate}/s")).collect();
    format!(
        "hikyaku demo: a gateway and three simulated carriers, gone when you press Ctrl-C\n\n\
         submit API  http://{address}/v1/messages\n\
         docs        http://{address}/docs\n\
         metrics     http://{address}/metrics\n\
         carriers    {}\n\n\
         try\n\n\
         curl http://{address}/v1/messages -H 'Authorization: Bearer {TOKEN}' \\\n  \
         --json '{{\"to\": \"+819012345678\", \"text\": \"認証コード 123456\", \"class\": \"otp\"}}'\n",
        carriers.join(", ")
    )
}

fn tell(notice: &Notice) -> Result<(), Failure> {
    match notice {
        Notice::Finished { id, state, carrier, took, .. } => {
            let by = if carrier.is_empty() { String::new() } else { format!(" by {carrier}") };
            out::say(&format!("{state} {id} {:.2} s{by}", took.as_secs_f64()))?;
        }
        Notice::Fallback { from, to, reason } => {
            out::say(&format!("fallback from {from} to {to}: {reason}"))?;
        }
        _ => {}
    }
    Ok(())
}

/// A folder that goes with the process.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let name = format!("hikyaku-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is in the system's folder for what may be lost.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}
