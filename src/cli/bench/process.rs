//! The gateway under measure: a process of its own, and what the system says of it.
#![expect(clippy::disallowed_methods, reason = "the shell reads the clock and waits")]

use std::io;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use crate::cli::Failure;
use crate::cli::bench::http::Connection;
use crate::cli::bench::tls::Secured;
use crate::cli::bench::tls::Tls;

/// How long the gateway may take to listen; it may have a journal to read.
const PATIENCE: Duration = Duration::from_secs(300);

/// A process that goes when this does.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A gateway, of one process or several, that goes when this does.
pub(super) struct Gateway {
    processes: Vec<Process>,
    /// Where it takes messages.
    port: u16,
    /// How, when by TLS.
    connector: Option<TlsConnector>,
}

impl Gateway {
    /// Starts `binary` with the file `config`, which says that it listens on `port`.
    pub(super) fn start(binary: &Path, config: &Path, port: u16) -> Result<Self, Failure> {
        let mut gateway = Self::of_several(port);
        gateway.spawn(Command::new(binary).arg("run").arg("-c").arg(config))?;
        Ok(gateway)
    }

    /// As [`Self::start`], under valgrind, which writes what was allocated to `log` at the end.
    pub(super) fn start_counted(
        binary: &Path,
        config: &Path,
        port: u16,
        log: &Path,
    ) -> Result<Self, Failure> {
        let mut gateway = Self::of_several(port);
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=dhat", "--dhat-out-file=/dev/null"]);
        valgrind.arg(format!("--log-file={}", log.display()));
        gateway.spawn(valgrind.arg(binary).arg("run").arg("-c").arg(config))?;
        Ok(gateway)
    }

    /// Stops it in good order, and waits for its end.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        for process in &mut self.processes {
            let id = process.0.id().to_string();
            Command::new("kill").args(["-TERM", &id]).status()?;
            process.0.wait()?;
        }
        Ok(())
    }

    /// A gateway whose processes [`Self::spawn`] starts.
    pub(super) const fn of_several(port: u16) -> Self {
        Self { processes: Vec::new(), port, connector: None }
    }

    /// The same, that is spoken to by TLS if there is a certificate for that.
    pub(super) fn secured(mut self, tls: Option<&Tls>) -> Result<Self, Failure> {
        let tls = tls.filter(|tls| tls.secures(Secured::Api));
        self.connector = tls.map(Tls::connector).transpose()?;
        Ok(self)
    }

    /// Starts one process of it.
    pub(super) fn spawn(&mut self, command: &mut Command) -> Result<(), Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        self.processes.push(Process(child));
        Ok(())
    }

    /// A connection to it, as soon as it listens.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await;
            // Its port is as good as any other for who connects before somebody listens there.
            match stream.and_then(away) {
                Ok(stream) => {
                    return Ok(match &self.connector {
                        None => Connection::new(stream)?,
                        Some(connector) => Connection::secured(stream, connector).await?,
                    });
                }
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) if self.has_ended() => return Err("the gateway ended as it began".into()),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Whether one of its processes is no more.
    fn has_ended(&self) -> bool {
        let ended = |process: &Process| {
            let stat = read(&format!("/proc/{}/stat", process.0.id()));
            // Its state stands behind its name (proc_pid_stat(5)); a zombie waits to be reaped.
            stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|it| it.starts_with('Z')))
        };
        self.processes.iter().any(ended)
    }

    /// The sum over all series of a metric.
    pub(super) async fn metric(&self, name: &str) -> Result<u64, Failure> {
        let mut connection = self.connect().await?;
        let answer = connection.call(b"GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n").await?;
        let text = String::from_utf8_lossy(&answer.body);
        let series = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|it| it.starts_with(['{', ' '])));
        Ok(series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Waits until the archive has written what was accepted, and what that took is given back.
    pub(super) async fn rest(&self) -> Result<(), Failure> {
        while self.metric("hikyaku_archive_behind_bytes").await? > 0 {
            sleep(Duration::from_millis(50)).await;
        }
        // What has not ended is written after five seconds.
        sleep(Duration::from_secs(10)).await;
        Ok(())
    }

    /// Waits until so many binds stand.
    pub(super) async fn until_bound(&self, binds: u64) -> Result<(), Failure> {
        for _ in 0..1_200 {
            if self.metric("hikyaku_bind_up").await? >= binds {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err("the gateway does not bind".into())
    }

    /// Waits until a count has reached `wanted`; gives up when it stands still.
    pub(super) async fn until(
        &self,
        what: &str,
        wanted: u64,
        count: impl AsyncFn(&Self) -> Result<u64, Failure>,
    ) -> Result<(), Failure> {
        const STILL: Duration = Duration::from_secs(30);
        let (mut last, mut seen_at) = (0, Instant::now());
        loop {
            let now = count(self).await?;
            if now >= wanted {
                return Ok(());
            }
            if now > last {
                (last, seen_at) = (now, Instant::now());
            }
            if seen_at.elapsed() > STILL {
                return Err(format!("{now} of {wanted} messages {what}, and no more do").into());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What its processes have used so far.
    pub(super) fn usage(&self) -> Result<Usage, Failure> {
        let mut usage = Usage::default();
        for process in &self.processes {
            let id = process.0.id();
            usage.cpu += cpu(&format!("/proc/{id}/stat"))?;
            let written = read(&format!("/proc/{id}/io"))?;
            usage.written += numbered(&written, "write_bytes:").unwrap_or(0);
        }
        Ok(usage)
    }

    /// Octets of memory that it has now.
    pub(super) fn memory(&self) -> Result<u64, Failure> {
        self.status("VmRSS:")
    }

    /// The most octets of memory that it had.
    pub(super) fn peak_memory(&self) -> Result<u64, Failure> {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> Result<u64, Failure> {
        let mut kib = 0;
        for process in &self.processes {
            let status = read(&format!("/proc/{}/status", process.0.id()))?;
            kib += numbered(&status, key).ok_or("the process's memory cannot be read")?;
        }
        Ok(kib * 1_024)
    }
}

/// A connection that leads to somebody, and not back to its own end.
fn away(stream: TcpStream) -> io::Result<TcpStream> {
    let leads_back = stream.local_addr()? == stream.peer_addr()?;
    if leads_back { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(stream) }
}

/// What processes have used since they started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    /// Octets that they had written to disks.
    pub(super) written: u64,
}

impl Usage {
    pub(super) const fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            written: self.written.saturating_sub(before.written),
        }
    }
}

/// The CPU time of this process: generator, carrier and receiver together.
pub(super) fn own_cpu() -> Result<Duration, Failure> {
    cpu("/proc/self/stat")
}

/// Fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms.
fn cpu(path: &str) -> Result<Duration, Failure> {
    let stat = read(path)?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok(Duration::from_millis((user + system) * 10)),
        _ => Err("the process's CPU time cannot be read".into()),
    }
}

fn read(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}").into())
}

/// The number behind `key` at the beginning of a line.
fn numbered(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
