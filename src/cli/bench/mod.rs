//! `hikyaku bench`: the whole path, measured.
//!
//! The gateway runs as a process of its own, so that what the system says of it is its alone.
//! Generator, simulated carrier and receiver of webhooks are in this process: one clock tells when
//! each message passed each stage.
#![expect(clippy::disallowed_methods, reason = "the shell reads the clock and waits")]

mod allocations;
mod figures;
mod hear;
mod http;
mod kannel;
mod load;
mod marks;
mod process;
mod setup;
mod tls;

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use clap::Args;
use clap::ValueEnum;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::allocations::Allocations;
use self::figures::Figures;
use self::figures::compared;
use self::load::Door;
use self::load::Load;
use self::marks::Marks;
use self::marks::Stage;
use self::process::Gateway;
use self::process::own_cpu;
use self::setup::Keys;
use self::setup::Ports;
use self::setup::Size;
use self::tls::Secured;
use self::tls::Tls;
use crate::cli::Failure;
use crate::cli::out;
use crate::cli::run::runtime;
use crate::clock::Clock;
use crate::smsc;
use crate::smsc::Server;
use crate::smsc::Sight;
use crate::time::Span;

#[derive(Clone, Debug, Args)]
pub(super) struct Bench {
    /// How many messages.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=marks::MOST))]
    messages: u64,
    /// How many connections hand them in.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// How many messages one request hands in; 1 for `POST /v1/messages`, else the batch.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    batch: u64,
    /// What they say.
    #[arg(long, value_enum, default_value_t = Body::Japanese)]
    body: Body,
    /// Messages a second; as many as the gateway takes when not given.
    #[arg(long)]
    rate: Option<u32>,
    #[command(flatten)]
    size: Size,
    /// How the end of each message is told to the client.
    #[arg(long, value_enum, default_value_t = Tell::Webhook)]
    tell: Tell,
    /// Keeps the carrier away, so that everything stays live: measures memory and the restart.
    #[arg(long)]
    live: bool,
    /// Counts the gateway's allocations instead, by valgrind, which must be installed; under it all
    /// is some fifty times as slow.
    #[arg(long, conflicts_with_all = ["live", "compare", "kannel", "rate"])]
    allocations: bool,
    /// Another build to compare with: both run in turn, and the ratios of the medians are shown.
    #[arg(long, conflicts_with = "live")]
    compare: Option<PathBuf>,
    /// How often each build runs when two are compared.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Measures Kannel in the gateway's place, which must be installed.
    #[arg(long, value_enum, conflicts_with_all = ["live", "compare", "batch"])]
    kannel: Option<kannel::Store>,
    /// What goes by TLS, under a certificate that openssl makes, which must be installed.
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "kannel")]
    tls: Vec<Secured>,
    /// Where the data goes; the system's temporary folder when not given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What the messages say.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Body {
    /// A short text in GSM-7.
    Gsm7,
    /// 60 Japanese characters: one segment.
    Japanese,
    /// 670 Japanese characters: ten segments.
    Long,
}

impl Body {
    fn text(self) -> String {
        match self {
            Self::Gsm7 => "Your code is 123456.".to_owned(),
            Self::Japanese => "飛脚".repeat(30),
            Self::Long => "飛脚".repeat(335),
        }
    }
}

/// How the client hears of a message's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tell {
    /// A webhook each.
    Webhook,
    /// It follows the feed.
    Feed,
    /// It does not ask.
    Nothing,
}

impl Bench {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let dir = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = dir.join(format!("hikyaku-bench-{}", std::process::id()));
        let exe = std::env::current_exe()?;
        let told = runtime()?.block_on(async {
            match &self.compare {
                Some(other) => self.compare(other, &exe, &dir).await,
                None => {
                    let figures = self.one(&exe, &dir).await?;
                    if self.json { figures.json() } else { Ok(figures.table()) }
                }
            }
        })?;
        out::say(&told)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Both builds in turn, so that whatever else the machine does falls on both.
    async fn compare(&self, other: &Path, this: &Path, dir: &Path) -> Result<String, Failure> {
        let (mut others, mut these) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds.max(1) {
            others.push(self.one(other, dir).await?);
            these.push(self.one(this, dir).await?);
        }
        if self.json {
            let [other, this] = [others, these].map(|runs| Figures::median(&runs).json());
            return Ok(format!("{{\"other\":{},\"this\":{}}}", other?, this?));
        }
        Ok(compared(&others, &these))
    }

    /// One run of `binary` in a fresh directory.
    async fn one(&self, binary: &Path, dir: &Path) -> Result<Figures, Failure> {
        std::fs::create_dir_all(dir)?;
        let figures = if self.live {
            self.measure_live(binary, dir).await
        } else if self.allocations {
            self.measure_allocations(binary, dir).await
        } else {
            self.measure(binary, dir, None).await
        };
        std::fs::remove_dir_all(dir)?;
        figures
    }

    /// Accepts everything while no carrier is there, then kills the gateway and starts it again.
    async fn measure_live(&self, binary: &Path, dir: &Path) -> Result<Figures, Failure> {
        let (keys, port) = (Keys::new(self.size.clients())?, free_port()?);
        let carriers = (0..self.size.carriers).map(|_| free_port()).collect::<Result<_, _>>()?;
        let ports = Ports { api: port, carriers, hook: None };
        let tls = Tls::make(&self.tls, dir)?;
        let config = setup::write(self.size, dir, &ports, &keys, tls.as_ref())?;
        let gateway = Gateway::start(binary, &config, port)?.secured(tls.as_ref())?;
        gateway.connect().await?;
        let before = gateway.memory()?;
        let marks = Arc::new(Marks::new(self.messages));
        self.load(Door::Hikyaku(keys.tokens())).run(&gateway, &marks).await?;
        let accepted = marks.start().elapsed();
        let burst = gateway.memory()?;
        gateway.rest().await?;
        let after = gateway.memory()?;
        drop(gateway);
        let started = Instant::now();
        let gateway = Gateway::start(binary, &config, port)?.secured(tls.as_ref())?;
        let live = gateway.metric("hikyaku_live_messages").await?;
        let restart = started.elapsed();
        if live != self.messages {
            return Err(format!("{live} of {} messages are live again", self.messages).into());
        }
        let count = as_f64(self.messages);
        let mut figures = Figures::default();
        figures.push("live_messages", count);
        figures.push("accepted_per_second", count / accepted.as_secs_f64());
        figures.push("burst_memory_mib", mib(burst));
        figures.push("memory_mib", mib(after));
        figures.push("memory_octets_per_message", as_f64(after.saturating_sub(before)) / count);
        gateway.rest().await?;
        figures.push("restart_seconds", restart.as_secs_f64());
        figures.push("restart_memory_mib", mib(gateway.memory()?));
        Ok(figures)
    }

    /// Counts twice, so that what the start allocates falls out.
    async fn measure_allocations(&self, binary: &Path, dir: &Path) -> Result<Figures, Failure> {
        const FEW: u64 = 200;
        if cfg!(feature = "jemalloc") {
            return Err("valgrind counts the C library's allocator only: build hikyaku with \
                        --no-default-features for --allocations"
                .into());
        }
        let mut counts = Vec::new();
        for (name, messages) in [("few", FEW), ("all", FEW + self.messages)] {
            let (dir, log) = (dir.join(name), dir.join(name).join("valgrind.log"));
            std::fs::create_dir_all(&dir)?;
            Self { messages, ..self.clone() }.measure(binary, &dir, Some(&log)).await?;
            counts.push(Allocations::read(&log)?);
        }
        let mut figures = Figures::default();
        if let [few, all] = counts[..] {
            let each = |all: u64, few: u64| as_f64(all.saturating_sub(few)) / as_f64(self.messages);
            figures.push("messages", as_f64(self.messages));
            figures.push("allocations_per_message", each(all.blocks, few.blocks));
            figures.push("allocated_octets_per_message", each(all.octets, few.octets));
        }
        Ok(figures)
    }

    /// With a `valgrind_log` the gateway runs under valgrind, and has ended when this returns.
    async fn measure(
        &self,
        binary: &Path,
        dir: &Path,
        valgrind_log: Option<&Path>,
    ) -> Result<Figures, Failure> {
        let (keys, port) = (Keys::new(self.size.clients())?, free_port()?);
        let marks = Arc::new(Marks::new(self.messages));
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        let mut carriers = Vec::new();
        let tls = Tls::make(&self.tls, dir)?;
        for _ in 0..self.size.carriers {
            carriers.push(carrier(&marks, tls.as_ref(), stop.clone()).await?);
        }
        let hook = TcpListener::bind("127.0.0.1:0").await?;
        let hook_port = hook.local_addr()?.port();
        if let Some(store) = self.kannel {
            let port = carriers.first().copied().unwrap_or_default();
            let gateway = kannel::start(store, dir, port, self.size.binds, self.size.window)?;
            gateway.connect().await?;
            let _hook = JoinSet::from_iter([hear::webhooks(hook, Arc::clone(&marks))]);
            let load = self.load(Door::Kannel(hook_port));
            return self.take_figures(&gateway, load, &marks).await;
        }
        let hook_port = Some(hook_port).filter(|_| self.tell == Tell::Webhook);
        let ports = Ports { api: port, carriers, hook: hook_port };
        let config = setup::write(self.size, dir, &ports, &keys, tls.as_ref())?;
        let gateway = match valgrind_log {
            None => Gateway::start(binary, &config, port)?,
            Some(log) => Gateway::start_counted(binary, &config, port, log)?,
        };
        let gateway = gateway.secured(tls.as_ref())?;
        gateway.connect().await?;
        gateway.until_bound(self.size.all_binds()).await?;
        // Whoever hears is dropped, and so ended, with this.
        let mut listeners = JoinSet::new();
        match self.tell {
            Tell::Webhook => drop(listeners.spawn(hear::webhooks(hook, Arc::clone(&marks)))),
            Tell::Feed => {
                for token in keys.tokens() {
                    let feed = hear::feed(gateway.connect().await?, token, Arc::clone(&marks));
                    listeners.spawn(async move {
                        if let Err(failure) = feed.await {
                            out::complain(&format!("hikyaku: the feed: {failure}"));
                        }
                    });
                }
            }
            Tell::Nothing => {}
        }
        let load = self.load(Door::Hikyaku(keys.tokens()));
        let figures = self.take_figures(&gateway, load, &marks).await?;
        if valgrind_log.is_some() {
            gateway.stop()?;
        }
        Ok(figures)
    }

    async fn take_figures(
        &self,
        gateway: &Gateway,
        load: Load,
        marks: &Arc<Marks>,
    ) -> Result<Figures, Failure> {
        let (before, harness) = (gateway.usage()?, own_cpu()?);
        let syncs = self.syncs(gateway).await?;
        let began = marks.start().elapsed();
        load.run(gateway, marks).await?;
        let ended = async |gateway: &Gateway| match self.tell {
            Tell::Nothing if self.kannel.is_none() => {
                gateway.metric("hikyaku_messages_finished_total").await
            }
            _ => Ok(marks.stage(Stage::Told).count()),
        };
        let all = gateway.until("ended", self.messages, ended).await;
        let mut whole = marks.start().elapsed() - began;
        match (all, self.kannel) {
            (Ok(()), _) => {}
            (Err(failure), None) => return Err(failure),
            // It loses some reports: the time ends with the last that came.
            (Err(_), Some(_)) => {
                let last = Duration::from_micros(marks.stage(Stage::Told).last());
                whole = last.saturating_sub(began);
            }
        }
        let harness = own_cpu()?.saturating_sub(harness);
        // The archive writes behind: what it still has to do belongs to these messages.
        sleep(Duration::from_secs(2)).await;
        let used = gateway.usage()?.since(before);
        let syncs = self.syncs(gateway).await?.saturating_sub(syncs);
        let count = as_f64(self.messages);
        let mut figures = Figures::default();
        figures.push("messages", count);
        figures.push("messages_per_second", count / whole.as_secs_f64());
        if self.tell != Tell::Nothing {
            let told = as_f64(marks.stage(Stage::Told).count());
            figures.push("never_told", count - told);
        }
        for stage in Stage::ALL {
            let spans = marks.stage(stage);
            let seconds = Duration::from_micros(spans.last()).saturating_sub(began).as_secs_f64();
            let name = stage.as_str();
            let rate = if spans.count() == 0 { 0.0 } else { as_f64(spans.count()) / seconds };
            figures.push(format!("{name}_per_second"), rate);
            for (quantile, of_a_thousand) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
                let millis = as_f64(spans.quantile(of_a_thousand)) / 1_000.0;
                figures.push(format!("{name}_{quantile}_ms"), millis);
            }
        }
        figures.push("cpu_micros_per_message", used.cpu.as_secs_f64() * 1e6 / count);
        figures.push("harness_cpu_micros_per_message", harness.as_secs_f64() * 1e6 / count);
        figures.push("written_octets_per_message", as_f64(used.written) / count);
        figures.push("syncs_per_second", as_f64(syncs) / whole.as_secs_f64());
        figures.push("peak_memory_mib", mib(gateway.peak_memory()?));
        Ok(figures)
    }

    /// How often the journal was synced.
    async fn syncs(&self, gateway: &Gateway) -> Result<u64, Failure> {
        match self.kannel {
            None => gateway.metric("hikyaku_store_syncs_total").await,
            Some(_) => Ok(0),
        }
    }

    fn load(&self, door: Door) -> Load {
        Load {
            messages: self.messages,
            connections: self.connections,
            batch: self.batch,
            text: self.body.text(),
            rate: self.rate,
            door,
        }
    }
}

/// Starts the simulated carrier and says where it listens; it ends with `stop`.
async fn carrier(
    marks: &Arc<Marks>,
    tls: Option<&Tls>,
    stop: CancellationToken,
) -> Result<u16, Failure> {
    let tls = tls.filter(|tls| tls.secures(Secured::Binds));
    let config = smsc::Config {
        tls_cert: tls.map(|tls| tls.cert.clone()),
        tls_key: tls.map(|tls| tls.key.clone()),
        name: "bench".to_owned(),
        window: 60_000,
        max_binds: u16::MAX,
        magic_numbers: false,
        latency: [1, 2].map(Span::millis),
        receipt_delay: [10, 50].map(Span::millis),
        ..smsc::Config::default()
    };
    let server = Server::bind(config, ([127, 0, 0, 1], 0).into(), Clock::start()).await?;
    let port = server.local_addr()?.port();
    let marks = Arc::clone(marks);
    server.carrier().watch(move |sight| {
        let (number, note): (_, fn(&Marks, u64)) = match sight {
            Sight::Submit(submit) => (submit.destination.addr.as_bytes(), Marks::submitted),
            Sight::Receipt(deliver) => (deliver.source.addr.as_bytes(), Marks::receipt_sent),
            Sight::ReceiptTaken(deliver) => (deliver.source.addr.as_bytes(), Marks::receipt_taken),
        };
        if let Some(message) = marks::message(number) {
            note(&marks, message);
        }
    });
    let tasks = TaskTracker::new();
    tasks.spawn(server.run(stop, tasks.clone()));
    Ok(port)
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn mib(octets: u64) -> f64 {
    as_f64(octets / 1_024) / 1_024.0
}

#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}
