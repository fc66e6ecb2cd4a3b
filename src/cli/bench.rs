//! `hikyaku bench`: the whole path, measured, in one line for issue reports.
//!
//! The gateway and the simulated carrier run as processes of their own, so that the CPU time that
//! is reported is the gateway's alone.
#![expect(clippy::disallowed_methods, reason = "the shell reads the clock")]

use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::api::KeyHash;
use crate::api::NewKey;
use crate::cli::Failure;
use crate::cli::out;
use crate::cli::run::runtime;

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// How many messages.
    #[arg(long, default_value_t = 50_000)]
    messages: u64,
    /// How many connections hand them in.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// How many messages one request hands in; 1 for `POST /v1/messages`, else the batch.
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// How many Japanese characters a message has; 670 are ten segments.
    #[arg(long, default_value_t = 30)]
    characters: usize,
    /// The window of each bind.
    #[arg(long, default_value_t = 1_000)]
    window: u16,
    /// How many binds.
    #[arg(long, default_value_t = 2)]
    binds: u16,
    /// Keeps the carrier away, so that everything stays live: measures memory and the restart.
    #[arg(long)]
    live: bool,
    /// Where the data goes; the system's temporary folder when not given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// A process that goes when this does.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// What was measured with the carrier away.
#[derive(Debug, serde::Serialize)]
struct LiveFigures {
    messages: u64,
    accepted_per_second: f64,
    octets_per_message: f64,
    rss_mib: f64,
    restart_seconds: f64,
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
struct Figures {
    messages: u64,
    segments: u64,
    seconds: f64,
    messages_per_second: f64,
    accepted_per_second: f64,
    cpu_micros_per_message: f64,
    accept_p50_ms: f64,
    accept_p99_ms: f64,
    rss_mib: f64,
}

impl Bench {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let dir = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = dir.join(format!("hikyaku-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let outcome = runtime()?.block_on(async {
            if self.live { self.measure_live(&dir).await } else { self.measure(&dir).await }
        });
        std::fs::remove_dir_all(&dir)?;
        out::say(&outcome?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn told(&self, figures: &Figures) -> Result<String, Failure> {
        Ok(if self.json {
            serde_json::to_string(figures)?
        } else {
            format!(
                "{} messages of {} segments in {:.2} s: {:.0}/s end to end, {:.0}/s accepted, \
                 {:.1} µs of CPU a message, accept p50 {:.2} ms p99 {:.2} ms, {:.0} MiB",
                figures.messages,
                figures.segments / figures.messages.max(1),
                figures.seconds,
                figures.messages_per_second,
                figures.accepted_per_second,
                figures.cpu_micros_per_message,
                figures.accept_p50_ms,
                figures.accept_p99_ms,
                figures.rss_mib,
            )
        })
    }

    /// Accepts everything while no carrier is there, then kills the gateway and starts it again.
    async fn measure_live(&self, dir: &Path) -> Result<String, Failure> {
        let exe = std::env::current_exe()?;
        let key = NewKey::generate().map_err(|error| format!("no randomness: {error}"))?;
        let port = free_port()?;
        let config = dir.join("hikyaku.toml");
        std::fs::write(&config, self.config(dir, port, free_port()?, &key.hash))?;
        let start = || std::process::Command::new(&exe).arg("run").arg("-c").arg(&config).spawn();
        let gateway = Process(start()?);
        drop(connected(port).await?);
        let before = rss_kib(gateway.0.id())?;
        let started = Instant::now();
        self.load(port, &key.token).await?;
        let accepted = started.elapsed();
        let after = rss_kib(gateway.0.id())?;
        drop(gateway);
        let started = Instant::now();
        let gateway = Process(start()?);
        let mut probe = connected(port).await?;
        let live = metric(&mut probe, "hikyaku_live_messages").await?;
        let restart = started.elapsed();
        drop(gateway);
        if live != self.messages {
            return Err(format!("{live} of {} messages are live again", self.messages).into());
        }
        let count = as_f64(self.messages);
        let figures = LiveFigures {
            messages: live,
            accepted_per_second: count / accepted.as_secs_f64(),
            octets_per_message: as_f64(after.saturating_sub(before)) * 1_024.0 / count,
            rss_mib: as_f64(after) / 1_024.0,
            restart_seconds: restart.as_secs_f64(),
        };
        Ok(if self.json {
            serde_json::to_string(&figures)?
        } else {
            format!(
                "{} live messages: {:.0}/s accepted, {:.0} octets of memory each ({:.0} MiB in \
                 all), {:.2} s from a kill to the doors open again",
                figures.messages,
                figures.accepted_per_second,
                figures.octets_per_message,
                figures.rss_mib,
                figures.restart_seconds,
            )
        })
    }

    async fn measure(&self, dir: &Path) -> Result<String, Failure> {
        let exe = std::env::current_exe()?;
        let key = NewKey::generate().map_err(|error| format!("no randomness: {error}"))?;
        let (_carrier, carrier_port) = carrier(&exe, dir)?;
        let port = free_port()?;
        let config = dir.join("hikyaku.toml");
        std::fs::write(&config, self.config(dir, port, carrier_port, &key.hash))?;
        let gateway =
            Process(std::process::Command::new(&exe).arg("run").arg("-c").arg(&config).spawn()?);
        let mut probe = connected(port).await?;
        until_bound(&mut probe, self.binds).await?;
        let before = cpu(gateway.0.id())?;
        let started = Instant::now();
        let waits = self.load(port, &key.token).await?;
        let accepted = started.elapsed();
        // The gateway has closed the idle one.
        let mut probe = connected(port).await?;
        until_finished(&mut probe, self.messages).await?;
        let whole = started.elapsed();
        let used = cpu(gateway.0.id())? - before;
        let count = as_f64(self.messages);
        self.told(&Figures {
            messages: self.messages,
            segments: metric(&mut probe, "hikyaku_segments_total").await?,
            seconds: whole.as_secs_f64(),
            messages_per_second: count / whole.as_secs_f64(),
            accepted_per_second: count / accepted.as_secs_f64(),
            cpu_micros_per_message: used.as_secs_f64() * 1e6 / count,
            accept_p50_ms: percentile(&waits, 50),
            accept_p99_ms: percentile(&waits, 99),
            rss_mib: as_f64(rss_kib(gateway.0.id())?) / 1_024.0,
        })
    }

    fn config(&self, dir: &Path, port: u16, carrier_port: u16, hash: &KeyHash) -> String {
        format!(
            "data_dir = {dir:?}\n[log]\nlevel = \"warn\"\n[api]\nlisten = \"127.0.0.1:{port}\"\n\
             [api.clients.bench]\nkeys = [\"{hash}\"]\nscopes = [\"messages:write\"]\n\
             rate = \"1000000/s\"\nrequest_rate = \"1000000/s\"\n[carriers.bench]\nhost = \"127.0.0.1\"\nport = {carrier_port}\n\
             system_id = \"bench\"\nbinds = {}\nrate = \"1000000/s\"\n\
             [carriers.bench.session]\nwindow = {}\n[[routes]]\nname = \"all\"\n\
             carriers = [\"bench\"]\n",
            self.binds, self.window
        )
    }

    /// Hands everything in; gives how long each request took, in microseconds, sorted.
    async fn load(&self, port: u16, token: &str) -> Result<Vec<u64>, Failure> {
        let next = Arc::new(AtomicU64::new(0));
        let text: String = "飛脚".chars().cycle().take(self.characters).collect();
        let mut clients = JoinSet::new();
        for _ in 0..self.connections {
            let client = Client {
                connection: connected(port).await?,
                next: next.clone(),
                total: self.messages,
                batch: self.batch.max(1),
                text: text.clone(),
                authorization: format!("Bearer {token}"),
            };
            clients.spawn(client.run());
        }
        let mut waits = Vec::new();
        while let Some(done) = clients.join_next().await {
            waits.extend(done?.map_err(Failure::from)?);
        }
        waits.sort_unstable();
        Ok(waits)
    }
}

struct Client {
    connection: SendRequest<Full<Bytes>>,
    next: Arc<AtomicU64>,
    total: u64,
    batch: u64,
    text: String,
    authorization: String,
}

impl Client {
    async fn run(mut self) -> Result<Vec<u64>, String> {
        let mut waits = Vec::new();
        loop {
            let first = self.next.fetch_add(self.batch, Ordering::Relaxed);
            if first >= self.total {
                return Ok(waits);
            }
            let last = (first + self.batch).min(self.total);
            let request = self.request(first, last).map_err(|error| error.to_string())?;
            let started = Instant::now();
            self.connection.ready().await.map_err(|error| error.to_string())?;
            let answer = self.connection.send_request(request).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
            if !status.is_success() {
                return Err(format!("{status}: {}", String::from_utf8_lossy(&body.to_bytes())));
            }
            waits.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn request(&self, first: u64, last: u64) -> hyper::http::Result<Request<Full<Bytes>>> {
        let message = |n: u64| {
            format!(
                "{{\"to\":\"+8190{:08}\",\"text\":\"{}\"}}",
                10_000_011 + n % 80_000_000,
                self.text
            )
        };
        let (path, body) = if self.batch == 1 {
            ("/v1/messages", message(first))
        } else {
            let messages: Vec<String> = (first..last).map(message).collect();
            ("/v1/messages/batch", format!("{{\"messages\":[{}]}}", messages.join(",")))
        };
        Request::post(path)
            .header("host", "bench")
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
    }
}

fn carrier(exe: &Path, dir: &Path) -> Result<(Process, u16), Failure> {
    let config = dir.join("carrier.toml");
    std::fs::write(
        &config,
        "name = \"bench\"\nwindow = 60000\nmagic_numbers = false\nlatency = [\"1ms\", \"2ms\"]\n\
         receipt_delay = [\"10ms\", \"50ms\"]\n",
    )?;
    let child = std::process::Command::new(exe)
        .args(["smsc", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut carrier = Process(child);
    let stdout = carrier.0.stdout.take().ok_or("the carrier has no standard output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
    Ok((carrier, port.ok_or_else(|| format!("the carrier said {line:?}"))?))
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A connection to the gateway, as soon as it listens.
async fn connected(port: u16) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let stream = loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn until_bound(probe: &mut SendRequest<Full<Bytes>>, binds: u16) -> Result<(), Failure> {
    for _ in 0..300 {
        if metric(probe, "hikyaku_bind_up").await? >= u64::from(binds) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("the gateway does not bind".into())
}

async fn until_finished(probe: &mut SendRequest<Full<Bytes>>, count: u64) -> Result<(), Failure> {
    let (mut last, mut seen_at) = (0, Instant::now());
    loop {
        let finished = metric(probe, "hikyaku_messages_finished_total").await?;
        if finished >= count {
            return Ok(());
        }
        if finished > last {
            (last, seen_at) = (finished, Instant::now());
        }
        if seen_at.elapsed() > Duration::from_secs(60) {
            return Err(format!("{finished} of {count} messages ended, and no more do").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The sum over all series of a metric.
async fn metric(probe: &mut SendRequest<Full<Bytes>>, name: &str) -> Result<u64, Failure> {
    let request = Request::get("/metrics").header("host", "bench").body(Full::default())?;
    probe.ready().await?;
    let answer = probe.send_request(request).await?;
    let text = answer.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&text);
    let series = text
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    Ok(series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

/// The CPU time that a process has used (proc_pid_stat(5), fields 14 and 15, in ticks of 10 ms).
fn cpu(pid: u32) -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok(Duration::from_millis((user + system) * 10)),
        _ => Err("the process's CPU time cannot be read".into()),
    }
}

fn rss_kib(pid: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.ok_or_else(|| "the process's memory cannot be read".into())
}

fn percentile(sorted_micros: &[u64], percent: usize) -> f64 {
    let index = sorted_micros.len().saturating_sub(1) * percent / 100;
    as_f64(sorted_micros.get(index).copied().unwrap_or(0)) / 1_000.0
}

fn as_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
