//! What survives a crash: append, sync, replay, clean.
//!
//! The journal is one endless log of records, which are octets to it. A record's [`Position`] is
//! the logical octet at which its frame begins; it never changes, whatever is restarted or
//! trimmed. [`open`] gives the parts:
//!
//! * the [`Appender`] frames records in memory and knows their positions at once, so that the
//!   thread that decides never waits for the disk;
//! * the [`Writer`] takes the [`Batch`]es that the appender made, writes what is waiting once, syncs
//!   once and says up to which position all is durable ([`run`] does this on a thread of its own);
//! * the [`Reader`] reads one record or follows the log, never past the durable end;
//! * the [`Trimmer`] drops whole files that nobody needs any more.
//!
//! They share a [`Log`], the engine: [`local`] keeps it in files of one directory.
//!
//! # What holds
//!
//! * A record is there whole or not at all, and never without those before it.
//! * A record lies sealed under the key of the day on which its file was begun
//!   ([`seal`](crate::seal)); without that key nobody reads it.
//! * What was reported durable is there after any crash, at the same position. This takes a disk
//!   that keeps what it says it synced, and that leaves the first octets of a sector as they were
//!   when power fails while it rewrites the sector with more octets behind them.
//! * Of what was not reported durable, a crash leaves the first few records or none. [`open`] makes
//!   those durable before it returns.
//! * Octets that are damaged are refused with their place and never skipped. Damage to the last
//!   group that was written before the journal is opened, or a newest file that lost its end, looks
//!   like a torn write and is cut like one; who keeps a position elsewhere (the archive does) can
//!   compare it with [`Opened::end`].
//! * After a failed write or sync nothing more is written to that file. The [`Writer`] keeps what
//!   it could not make durable, in memory; [`Writer::reopen`] writes it to a fresh file at the
//!   same positions. A position that was handed out never gets another record while the process
//!   lives.

pub mod disk;
pub mod frame;
pub mod local;
pub mod sim;

mod append;
mod pace;
mod read;
mod write;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::seal::Day;
use crate::seal::Keys;
use crate::time::Span;

pub use crate::message::Position;

pub use self::append::Appender;
pub use self::append::PushError;
pub use self::frame::Batch;
pub use self::frame::Flaw;
pub use self::read::Follow;
pub use self::read::ReadError;
pub use self::read::Reader;
pub use self::write::Trimmer;
pub use self::write::Writer;
pub use self::write::run;

use self::disk::Disk;
use self::frame::FRAME_HEADER;
use self::frame::LONGEST_RECORD;
use self::local::Local;

/// The position `octets` behind `at`.
fn beyond(at: Position, octets: usize) -> Position {
    Position(at.0.saturating_add(octets as u64))
}

/// An engine: where the log's octets really are.
///
/// One process at a time appends; reading and trimming go on beside it, from any thread.
pub trait Log: Send + Sync {
    /// The oldest position that is kept.
    fn first(&self) -> Position;

    /// The position behind the last durable record.
    fn end(&self) -> Position;

    /// Makes `batch` durable as one group, at its own position, which must be [`Log::end`].
    ///
    /// After a failure `end` is as before, and the same batch, or one that begins with the same
    /// records, must be given again.
    ///
    /// # Errors
    /// [`Failure::Disk`] when it may work later, [`Failure::Moved`] when it never will.
    fn append(&self, batch: &Batch) -> Result<(), Failure>;

    /// The record at `at`.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn read(&self, at: Position) -> Result<Vec<u8>, ReadError>;

    /// Some records from `at` on, about `octets` of them but at least one; none at the durable end.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn read_from(&self, at: Position, octets: usize) -> Result<Batch, ReadError>;

    /// The position from which on every record is sealed under the key of `day` or a later one. A
    /// new file is begun when the newest is older. This waits for the disk.
    ///
    /// # Errors
    /// [`Failure::Disk`]; the log is as good as before.
    fn sealed_since(&self, day: Day) -> Result<Position, Failure>;

    /// The oldest day whose key is needed to read the log.
    fn oldest_day(&self) -> Option<Day>;

    /// Drops records below `below`, as far as that can be done cheaply, and returns the new
    /// [`Log::first`]. This waits for the disk.
    ///
    /// # Errors
    /// [`Failure::Disk`]; the log is as good as before.
    fn trim(&self, below: Position) -> Result<Position, Failure>;
}

/// The parts of an open journal.
#[derive(Debug)]
pub struct Opened {
    /// Frames new records.
    pub appender: Appender,
    /// Makes them durable.
    pub writer: Writer,
    /// Reads them.
    pub reader: Reader,
    /// Drops old ones.
    pub trimmer: Trimmer,
    /// The oldest record; replay begins here.
    pub first: Position,
    /// Behind the last record. Less than a position that was seen durable before means that records
    /// were lost to a damaged disk.
    pub end: Position,
    /// What a crash left behind the last whole record, if anything; it was never reported durable.
    pub torn: Option<Torn>,
}

/// Octets at the end of the log that make no whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub file: PathBuf,
    /// Where in the file they begin.
    pub offset: u64,
    /// How many there were.
    pub octets: u64,
}

/// Opens the journal in `disk`, which is the directory [`Config::dir`] or a simulated one, sealed
/// with `keys`.
///
/// This reads the newest file only; replay checks the older ones as it reads them.
///
/// # Errors
/// See [`OpenError`]; the files are as they were.
pub fn open(disk: impl Disk, config: &Config, keys: &Keys) -> Result<Opened, OpenError> {
    let (log, torn) = Local::open(disk, config.segment_bytes, keys)?;
    Ok(Opened { torn, ..over(Arc::new(log), config) })
}

/// The parts of a journal whose engine is `log`.
pub fn over(log: Arc<dyn Log>, config: &Config) -> Opened {
    Opened {
        appender: Appender::new(Arc::clone(&log), config),
        writer: Writer::new(Arc::clone(&log), config),
        reader: Reader::new(Arc::clone(&log)),
        trimmer: Trimmer::new(Arc::clone(&log)),
        first: log.first(),
        end: log.end(),
        torn: None,
    }
}

/// Why a journal cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process; stop that one first", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// A record that was durable is not there any more.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk refused something.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A place at which the journal's octets are not those that were written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}, octet {offset}: {flaw}; {remedy}", file.display())]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// The position of the first record that is lost.
    pub at: Position,
    /// What is wrong there.
    pub flaw: Flaw,
    /// What the operator can do.
    pub remedy: Remedy,
}

/// What an operator can do about a [`Damage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Remedy {
    /// The file can be read by a newer program only.
    #[error("start the hikyaku that wrote it")]
    Upgrade,
    /// The key of the file's day is missing.
    #[error(
        "put back the key of that day; without it the records of this file cannot be read by \
         anybody, and moving it and all older files away goes on with those that follow it"
    )]
    Key,
    /// Records follow in later files.
    #[error(
        "put back a copy of this file, or move it and all older files away to go on with the \
         records that follow it"
    )]
    KeepLater,
    /// Nothing follows in later files.
    #[error(
        "put back a copy of this file; without one, everything from there on is lost, and moving \
         the file away starts the journal where this file began"
    )]
    KeepEarlier,
}

/// Why records could not be made durable, or files not be removed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The disk refused; it may work again later.
    #[error("cannot {action} {}: {error}", file.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: PathBuf,
        /// What the operating system said.
        error: Arc<io::Error>,
    },
    /// The log does not end where this process left it: somebody else has appended.
    #[error("the log ends at position {end}, not at {expected}: another process writes to it")]
    Moved {
        /// Where the batch belongs.
        expected: u64,
        /// Where the log ends.
        end: u64,
    },
}

impl Failure {
    /// Whether the disk is full, so that an operator can help by making room.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Disk { error, .. } if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        )
    }
}

/// Where the journal lies and how large its parts may grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The directory of the journal's files; made if it is missing.
    pub dir: PathBuf,
    /// A file that has grown this large, in octets, is followed by a new one.
    pub segment_bytes: u64,
    /// The longest record, in octets.
    pub max_record_bytes: u32,
    /// The most records that one write and sync takes.
    pub batch_records: u32,
    /// The most octets that one write and sync takes, unless a single record is longer.
    pub batch_bytes: u32,
    /// The most octets that may wait in memory to become durable; more are refused.
    pub pending_bytes: u32,
    /// How long to wait before writing again after the disk refused.
    pub retry: Span,
    /// While many records come, the time from one sync to the next: each sync then serves more of
    /// them and costs less. While few come none waits; with 0ms none ever does.
    pub sync_every: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/hikyaku/journal"),
            segment_bytes: 64 << 20,
            max_record_bytes: 1 << 20,
            batch_records: 16_384,
            batch_bytes: 8 << 20,
            pending_bytes: 256 << 20,
            retry: Span::secs(1),
            sync_every: Span::millis(1),
        }
    }
}

impl Config {
    /// What is wrong with the values, each with its key below this table.
    pub fn faults(&self) -> Vec<(String, String)> {
        let longest = LONGEST_RECORD as u64;
        let frame = u64::from(self.max_record_bytes) + FRAME_HEADER as u64;
        let pending_least = frame.max(self.batch_bytes.into());
        let ranges = [
            ("segment_bytes", self.segment_bytes, 64 << 10, 4 << 30),
            ("max_record_bytes", self.max_record_bytes.into(), 4 << 10, longest),
            ("batch_records", self.batch_records.into(), 1, 1 << 20),
            ("batch_bytes", self.batch_bytes.into(), 4 << 10, 256 << 20),
            ("pending_bytes", self.pending_bytes.into(), pending_least, u32::MAX.into()),
        ];
        let mut faults = Vec::new();
        if self.dir.as_os_str().is_empty() {
            faults.push(("dir".to_owned(), "expected a directory, found none".to_owned()));
        }
        for (key, found, least, most) in ranges {
            if !(least..=most).contains(&found) {
                let fault = format!("expected {least} to {most}, found {found}");
                faults.push((key.to_owned(), fault));
            }
        }
        if !(Duration::from_millis(10)..=Duration::from_secs(600)).contains(&self.retry.0) {
            faults.push(("retry".into(), format!("expected 10ms to 10m, found {}", self.retry)));
        }
        if self.sync_every.0 > Duration::from_millis(100) {
            let fault = format!("expected 0ms to 100ms, found {}", self.sync_every);
            faults.push(("sync_every".into(), fault));
        }
        faults
    }
}
