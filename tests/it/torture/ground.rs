//! The small disk that the data lies on, which can be filled.

use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

/// The octets of the small disk.
const SIZE: u64 = 1 << 30;

/// The data's disk, and how a process is started that sees it.
#[derive(Debug)]
pub(super) struct Ground {
    dir: TempDir,
    kind: Kind,
    is_full: bool,
}

#[derive(Debug)]
enum Kind {
    /// A tmpfs that is mounted for this process and those that enter its name space. It goes with
    /// the process, which goes with this one, whatever ends it.
    Tmpfs { holder: Child, in_user_namespace: bool },
    /// No file may grow (`RLIMIT_FSIZE`), since nothing can be mounted here.
    Limit,
}

impl Ground {
    /// A disk of its own where one can be mounted.
    pub(super) fn new() -> Self {
        Self::of_kind(|data| {
            let kind = [false, true].into_iter().find_map(|in_user_namespace| {
                let holder = mounted(data, in_user_namespace)?;
                Some(Kind::Tmpfs { holder, in_user_namespace })
            });
            kind.unwrap_or(Kind::Limit)
        })
    }

    /// What there is where nothing can be mounted.
    pub(super) fn unmounted() -> Self {
        Self::of_kind(|_| Kind::Limit)
    }

    fn of_kind(kind: impl FnOnce(&Path) -> Kind) -> Self {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let kind = kind(&data);
        let ground = Self { dir, kind, is_full: false };
        println!("torture: {}", ground.told());
        ground
    }

    /// Whether there is no room now.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// How the disk is filled here.
    pub(super) fn told(&self) -> &'static str {
        match self.kind {
            Kind::Tmpfs { .. } => "the data lies on a tmpfs of its own, which is filled",
            Kind::Limit => {
                "the data lies on no disk of its own, for which root or user namespaces are needed: \
                 files are kept from growing (RLIMIT_FSIZE) instead"
            }
        }
    }

    /// Where things lie that no full disk concerns.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data, as the process finds it.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The data, as this process finds it.
    pub(super) fn data_from_here(&self) -> PathBuf {
        match &self.kind {
            Kind::Tmpfs { holder, .. } => {
                let root = PathBuf::from(format!("/proc/{}/root", holder.id()));
                root.join(self.data().strip_prefix("/").unwrap())
            }
            Kind::Limit => self.data(),
        }
    }

    /// Starts `program` so that it sees the disk, with at most so many octets of memory.
    pub(super) fn command(&self, program: &str, memory: u64) -> Command {
        let mut command = Command::new("sh");
        // A limit on files is told with a signal, which ends whoever does not ignore it.
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", "prlimit"]);
        command.arg(format!("--data={memory}"));
        if self.is_full && matches!(self.kind, Kind::Limit) {
            command.arg("--fsize=1:unlimited");
        }
        command.arg("--");
        if let Kind::Tmpfs { holder, in_user_namespace } = &self.kind {
            command.args(["nsenter", "-t", &holder.id().to_string(), "-m"]);
            if *in_user_namespace {
                command.args(["-U", "--preserve-credentials"]);
            }
            command.arg("--");
        }
        command.arg(program);
        command
    }

    /// Fills the disk, also for the process that runs.
    pub(super) fn fill(&mut self, pid: Option<u32>) {
        self.is_full = true;
        match &self.kind {
            Kind::Tmpfs { .. } => {
                let mut ballast = File::create(self.ballast()).unwrap();
                for size in [1 << 20, 4 << 10, 1] {
                    let piece = vec![0; size];
                    while ballast.write_all(&piece).is_ok() {}
                }
            }
            Kind::Limit => limit_files(pid, "1:unlimited"),
        }
    }

    /// Makes room again.
    pub(super) fn free(&mut self, pid: Option<u32>) {
        self.is_full = false;
        match &self.kind {
            Kind::Tmpfs { .. } => std::fs::remove_file(self.ballast()).unwrap(),
            Kind::Limit => limit_files(pid, "unlimited"),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.data_from_here().join("ballast")
    }

    /// Copies the data to a place that stays, for whoever looks into a failure.
    pub(super) fn keep(&self, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(self.data_from_here()).arg(self.dir.path().join("log"));
        copy.arg(self.dir.path().join("hikyaku.toml")).arg(to);
        // What cannot be kept is missed when it is looked at.
        let _copied = copy.status();
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Kind::Tmpfs { holder, .. } = &mut self.kind {
            // It may be gone.
            let _ended = holder.kill();
            let _reaped = holder.wait();
        }
    }
}

/// A process with a tmpfs at `data` that only it sees.
fn mounted(data: &Path, in_user_namespace: bool) -> Option<Child> {
    const HOLD: &str = "mount -t tmpfs -o size=\"$2\" hikyaku \"$1\" && echo held && exec cat";
    let mut holder = Command::new("unshare")
        .args(if in_user_namespace { ["-Ur", "-m"] } else { ["-m", "--"] })
        .args(["sh", "-c", HOLD, "sh"])
        .arg(data)
        .arg(SIZE.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut said = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
    if said == "held\n" {
        return Some(holder);
    }
    holder.wait().unwrap();
    None
}

fn limit_files(pid: Option<u32>, limit: &str) {
    let Some(pid) = pid else { return };
    let limit = format!("--fsize={limit}");
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
    // The process may have ended.
    let _ended = status.unwrap();
}
