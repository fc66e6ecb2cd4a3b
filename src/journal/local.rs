//! The engine on files of one directory.
//!
//! # Files
//!
//! Each *segment* holds the records from its base position up to the next segment's base; its name
//! is that base, 16 hexadecimal digits, and `.log`. Only the last one, the *active* one, is written
//! to. A new segment is made under the name `segment.new`, gets its header and the first group,
//! is synced, and only then named; so a segment's header and first group are always whole, and what
//! lies in an older file at or behind the new one's base does not count any more.
//!
//! That one step serves for all: rotation, the restart after a failure (the failed file is left as
//! it is, and the new one begins at the durable end), and opening (the last group found, which a
//! crash may have left in the page cache only, is written once more). So each file is written by
//! one process, up to the first failure, and never again.
//!
//! # Torn or damaged
//!
//! A group is written only when the one before it is synced. So when a frame at `p` is bad, and
//! behind it lies a sound frame of a group that begins after `p`, then the frame at `p` was synced
//! and has been damaged since: refuse. Without such a witness, the bad frame belongs to the last
//! group that was ever written, which a crash may tear anywhere: cut. A sound frame of the same
//! group proves nothing, since a disk may write the sectors of one write in any order. In a file
//! that is not the last, and below `FileHeader::complete`, nothing was ever torn.
//!
//! All that is decided by check sums of sealed octets. A record whose check sums are right and
//! that does not open under its key is refused wherever it lies: no crash does that.
//!
//! # Keys
//!
//! A file's records are sealed under the key of the day on which it was begun; the first group of
//! another day begins a new file. The file's own cipher is made of the day's key and a salt in the
//! file's header, and a record's number is its position, which is written once in a file: the
//! group that a failure or a restart writes again goes to a new file with another salt.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::journal::Batch;
use crate::journal::Damage;
use crate::journal::Failure;
use crate::journal::Flaw;
use crate::journal::Log;
use crate::journal::OpenError;
use crate::journal::Position;
use crate::journal::ReadError;
use crate::journal::Remedy;
use crate::journal::Torn;
use crate::journal::beyond;
use crate::journal::disk::Disk;
use crate::journal::disk::DiskFile;
use crate::journal::disk::read_full;
use crate::journal::disk::write_full;
use crate::journal::frame::Beginning;
use crate::journal::frame::FILE_HEADER;
use crate::journal::frame::FileHeader;
use crate::journal::frame::Layout;
use crate::journal::frame::Seal;
use crate::journal::frame::beginning;
use crate::journal::frame::frame_header;
use crate::journal::frame::open_frames;
use crate::seal::Cipher;
use crate::seal::Day;
use crate::seal::Key;
use crate::seal::KeyError;
use crate::seal::Keys;

const LOCK: &str = "lock";
const UNNAMED: &str = "segment.new";

/// The log in a directory of segment files.
pub struct Local<D: Disk> {
    disk: D,
    keys: Keys,
    segment_bytes: u64,
    /// Oldest first, never empty; each ends where the next begins.
    segments: RwLock<Vec<Shared<D>>>,
    /// Held while a batch is written.
    appending: Mutex<Appending>,
    /// Held while files are removed.
    trimming: Mutex<()>,
    durable: AtomicU64,
    /// Keeps other processes out.
    _lock: D::Lock,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Appending {
    /// The active segment is good to write to.
    Ready,
    /// A write or sync failed: its file is never written again.
    Failed,
}

impl<D: Disk> Local<D> {
    /// Opens the log and says what a crash left behind its last record.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was changed but for a new active segment.
    pub fn open(
        disk: D,
        segment_bytes: u64,
        keys: &Keys,
    ) -> Result<(Self, Option<Torn>), OpenError> {
        let dir = || disk.path().to_owned();
        disk.prepare().map_err(|e| failure("make", dir(), e))?;
        let lock = disk
            .lock(LOCK)
            .map_err(|e| failure("lock", disk.path().join(LOCK), e))?
            .ok_or_else(|| OpenError::Locked { dir: dir() })?;
        let mut segments = load(&disk, keys)?;
        let (last_group, torn) = match segments.last() {
            Some(last) => last_group(last)?,
            None => (Batch::default(), None),
        };
        let end = last_group.end();
        let active = make_segment(&disk, keys, &last_group)?;
        place(&mut segments, active);
        let log = Self {
            disk,
            keys: keys.clone(),
            segment_bytes,
            segments: RwLock::new(segments),
            appending: Mutex::new(Appending::Ready),
            trimming: Mutex::new(()),
            durable: AtomicU64::new(end.0),
            _lock: lock,
        };
        Ok((log, torn))
    }

    /// The segment that holds `at`, and the position at which it ends for a reader.
    fn find(&self, at: Position) -> Result<(Shared<D>, Position), ReadError> {
        let end = self.end();
        if at > end {
            return Err(ReadError::BeyondEnd { at: at.0, end: end.0 });
        }
        let segments = read_lock(&self.segments);
        let next = segments.partition_point(|segment| segment.base() <= at);
        let until = segments.get(next).map_or(end, |segment| segment.base());
        match next.checked_sub(1).and_then(|i| segments.get(i)) {
            Some(segment) => Ok((Arc::clone(segment), until.min(end))),
            None => {
                let first = segments.first().map_or(end, |segment| segment.base());
                Err(ReadError::Trimmed { at: at.0, first: first.0 })
            }
        }
    }

    fn active(&self) -> Option<Shared<D>> {
        read_lock(&self.segments).last().cloned()
    }

    /// The oldest segment, when another one follows it at or below `below`.
    fn oldest_below(&self, below: Position) -> Option<Shared<D>> {
        match read_lock(&self.segments).as_slice() {
            [oldest, next, ..] if next.base() <= below => Some(Arc::clone(oldest)),
            _ => None,
        }
    }

    /// Appends to the active segment, or begins a new one when it is large enough or has failed.
    fn append_to(&self, appending: Appending, batch: &Batch) -> Result<(), Failure> {
        match self.active() {
            Some(active)
                if appending == Appending::Ready
                    && active.day() == Some(self.keys.today())
                    && batch.start().0.saturating_sub(active.base().0) < self.segment_bytes =>
            {
                active.append(batch)
            }
            _ => self.begin_with(batch),
        }
    }

    fn begin_with(&self, batch: &Batch) -> Result<(), Failure> {
        let active = make_segment(&self.disk, &self.keys, batch)?;
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        place(&mut segments, active);
        Ok(())
    }
}

impl<D: Disk> Log for Local<D> {
    fn first(&self) -> Position {
        read_lock(&self.segments).first().map_or_else(|| self.end(), |segment| segment.base())
    }

    fn end(&self) -> Position {
        Position(self.durable.load(Ordering::Acquire))
    }

    fn append(&self, batch: &Batch) -> Result<(), Failure> {
        let mut appending = lock(&self.appending);
        let end = self.end();
        if batch.start() != end {
            return Err(Failure::Moved { expected: batch.start().0, end: end.0 });
        }
        if batch.is_empty() {
            return Ok(());
        }
        let outcome = self.append_to(*appending, batch);
        *appending = match outcome {
            Ok(()) => Appending::Ready,
            Err(_) => Appending::Failed,
        };
        outcome?;
        self.durable.store(batch.end().0, Ordering::Release);
        Ok(())
    }

    fn read(&self, at: Position) -> Result<Vec<u8>, ReadError> {
        let batch = self.read_from(at, GUESSED_FRAME)?;
        match batch.record_at(0) {
            Some((_, record)) => Ok(record.to_vec()),
            None => Err(ReadError::BeyondEnd { at: at.0, end: self.end().0 }),
        }
    }

    fn read_from(&self, at: Position, octets: usize) -> Result<Batch, ReadError> {
        let (segment, until) = self.find(at)?;
        segment.frames(at, until, octets)?.map(|frames| frames.batch).map_err(|flaw| {
            let last = self.active().is_some_and(|active| active.base() == segment.base());
            let remedy = if last { Remedy::KeepEarlier } else { Remedy::KeepLater };
            segment.damage(at, flaw, remedy).into()
        })
    }

    fn sealed_since(&self, day: Day) -> Result<Position, Failure> {
        let mut appending = lock(&self.appending);
        if self.active().is_some_and(|active| active.day() < Some(day)) {
            let outcome = self.begin_with(&Batch::new(self.end(), 0));
            if outcome.is_err() {
                *appending = Appending::Failed;
            }
            outcome?;
        }
        let segments = read_lock(&self.segments);
        let older = segments.iter().rposition(|segment| segment.day() < Some(day));
        let younger = segments.get(older.map_or(0, |older| older + 1));
        Ok(younger.map_or_else(|| self.end(), |segment| segment.base()))
    }

    fn oldest_day(&self) -> Option<Day> {
        read_lock(&self.segments).iter().filter_map(|segment| segment.day()).min()
    }

    fn trim(&self, below: Position) -> Result<Position, Failure> {
        let _trimming = lock(&self.trimming);
        loop {
            let Some(oldest) = self.oldest_below(below) else { return Ok(self.first()) };
            match self.disk.remove(&oldest.name) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(failure("remove", oldest.path.clone(), e));
                }
                _ => {}
            }
            // One by one, so that no crash can leave a gap.
            self.disk.sync().map_err(|e| failure("sync", self.disk.path().to_owned(), e))?;
            self.segments.write().unwrap_or_else(PoisonError::into_inner).remove(0);
        }
    }
}

/// Octets that hold most records whole.
const GUESSED_FRAME: usize = 2 << 10;

impl<D: Disk> fmt::Debug for Local<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("dir", &self.disk.path()).finish_non_exhaustive()
    }
}

/// A file with a run of the log's records.
struct Segment<F> {
    header: FileHeader,
    name: String,
    path: PathBuf,
    file: F,
    /// None in a file of version 1.
    cipher: Option<Cipher>,
}

type Shared<D> = Arc<Segment<<D as Disk>::File>>;

/// Sound frames as they were read.
struct Frames {
    batch: Batch,
    /// Where the last frame's group begins.
    group: Position,
}

impl<F: DiskFile> Segment<F> {
    fn base(&self) -> Position {
        self.header.base
    }

    /// Where the frame at `at` lies in the file.
    fn offset(&self, at: Position) -> u64 {
        at.0.saturating_sub(self.base().0).saturating_add(self.layout().file_header() as u64)
    }

    fn layout(&self) -> Layout {
        self.header.layout()
    }

    /// The day of the key that its records are sealed under; none in a file of version 1.
    fn day(&self) -> Option<Day> {
        self.header.seal.map(|seal| seal.day)
    }

    /// The position behind the file's last octet.
    fn size(&self) -> Result<Position, Failure> {
        let size = self.file.size().map_err(|e| failure("read", self.path.clone(), e))?;
        let octets = size.saturating_sub(self.layout().file_header() as u64);
        Ok(Position(self.base().0.saturating_add(octets)))
    }

    /// Writes a group behind the others and syncs it.
    fn append(&self, batch: &Batch) -> Result<(), Failure> {
        let octets = batch.written(self.header.salt, self.cipher.as_ref());
        write_full(&self.file, &octets, self.offset(batch.start()))
            .map_err(|e| failure("write", self.path.clone(), e))?;
        self.file.sync().map_err(|e| failure("sync", self.path.clone(), e))
    }

    /// The sound frames from `at` on, about `octets` of them but at least one, none behind `until`;
    /// or why there is not one although `until` lies behind `at`.
    fn frames(
        &self,
        at: Position,
        until: Position,
        octets: usize,
    ) -> Result<Result<Frames, Flaw>, Failure> {
        let room = usize::try_from(until.0.saturating_sub(at.0)).unwrap_or(usize::MAX);
        let mut wanted = octets.min(room);
        loop {
            let mut octets = vec![0; wanted];
            let found = read_full(&self.file, &mut octets, self.offset(at))
                .map_err(|e| failure("read", self.path.clone(), e))?;
            octets.truncate(found);
            let walk = walk(&octets, at, &self.header);
            if walk.octets > 0 || room == 0 {
                octets.truncate(walk.octets);
                return Ok(self.opened(octets, at, walk));
            }
            match walk.ending {
                Beginning::Bad(flaw) => return Ok(Err(flaw)),
                Beginning::Part(needed) if found == wanted && needed <= room => wanted = needed,
                Beginning::Part(needed) if needed == self.layout().frame_header() => {
                    return Ok(Err(Flaw::NoFrame));
                }
                _ => return Ok(Err(Flaw::Short { until: until.0 })),
            }
        }
    }

    /// The frames that `walk` found in `octets`, opened, as far as they open.
    fn opened(&self, mut octets: Vec<u8>, at: Position, walk: Walk) -> Result<Frames, Flaw> {
        let mut records = walk.records;
        if let Some(cipher) = &self.cipher {
            let all = octets.len();
            let (opened, frames) = open_frames(&mut octets, at, cipher);
            if opened == 0 && all > 0 {
                return Err(Flaw::Seal);
            }
            octets.truncate(opened);
            records = frames;
        }
        let batch = Batch::from_frames(at, octets, records, self.layout());
        Ok(Frames { batch, group: walk.group })
    }

    /// A sound frame behind `at` whose group begins behind `at` too: it proves that what lies at
    /// `at` was synced before.
    fn witness(&self, at: Position, until: Position) -> Result<Option<Position>, Failure> {
        let mut from = beyond(at, 1);
        while from < until {
            let mut window = vec![0; WINDOW];
            let found = read_full(&self.file, &mut window, self.offset(from))
                .map_err(|e| failure("read", self.path.clone(), e))?;
            window.truncate(found);
            let before = self.layout().frame_header();
            for (i, octets) in window.windows(before).enumerate() {
                let here = beyond(from, i);
                if frame_header(octets, here, &self.header)
                    .is_some_and(|header| here.0 - u64::from(header.back) > at.0)
                    && self.frames(here, until, before)?.is_ok()
                {
                    return Ok(Some(here));
                }
            }
            if found < WINDOW {
                break;
            }
            from = beyond(from, WINDOW - before + 1);
        }
        Ok(None)
    }

    fn damage(&self, at: Position, flaw: Flaw, remedy: Remedy) -> Damage {
        Damage { file: self.path.clone(), offset: self.offset(at), at, flaw, remedy }
    }
}

/// Octets that the search for a witness holds at a time.
const WINDOW: usize = 1 << 20;

/// How far some octets are sound frames, and what comes then.
struct Walk {
    octets: usize,
    records: usize,
    group: Position,
    ending: Beginning,
}

fn walk(octets: &[u8], start: Position, file: &FileHeader) -> Walk {
    let mut walk = Walk { octets: 0, records: 0, group: start, ending: Beginning::Part(0) };
    loop {
        let at = beyond(start, walk.octets);
        let rest = octets.get(walk.octets..).unwrap_or_default();
        match beginning(rest, at, file) {
            Beginning::Whole(header) => {
                walk.octets += header.frame_length();
                walk.records += 1;
                walk.group = Position(at.0.saturating_sub(header.back.into()));
            }
            ending => {
                walk.ending = ending;
                return walk;
            }
        }
    }
}

/// The segments that are there, oldest first, each of the right length but for the last.
fn load<D: Disk>(disk: &D, keys: &Keys) -> Result<Vec<Shared<D>>, OpenError> {
    let dir = || disk.path().to_owned();
    let names = disk.list().map_err(|e| failure("list", dir(), e))?;
    if names.iter().any(|name| name == UNNAMED) {
        disk.remove(UNNAMED).map_err(|e| failure("remove", disk.path().join(UNNAMED), e))?;
    }
    let mut named: Vec<_> =
        names.into_iter().filter_map(|name| Some((base_of(&name)?, name))).collect();
    named.sort();
    let last = named.last().map(|(base, _)| *base);
    let mut segments = Vec::new();
    for (base, name) in named {
        let remedy = if last == Some(base) { Remedy::KeepEarlier } else { Remedy::KeepLater };
        segments.push(Arc::new(open_segment(disk, keys, base, name, remedy)?));
    }
    for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
        let end = segment.size()?;
        if end < next.base() {
            let flaw = Flaw::Short { until: next.base().0 };
            return Err(segment.damage(end, flaw, Remedy::KeepLater).into());
        }
    }
    Ok(segments)
}

fn open_segment<D: Disk>(
    disk: &D,
    keys: &Keys,
    base: Position,
    name: String,
    remedy: Remedy,
) -> Result<Segment<D::File>, OpenError> {
    let path = disk.path().join(&name);
    let refused = |e| failure("read", path.clone(), e);
    let file = disk.open(&name).map_err(refused)?;
    let mut octets = [0; FILE_HEADER];
    let found = read_full(&file, &mut octets, 0).map_err(refused)?;
    let header = FileHeader::read(octets.get(..found).unwrap_or_default());
    let flaw = match header {
        Ok(header) if header.base == base => match cipher(&header, keys) {
            Ok(cipher) => return Ok(Segment { header, name, path, file, cipher }),
            Err(flaw) => flaw,
        },
        Ok(header) => Flaw::Renamed { found: header.base.0 },
        Err(flaw) => flaw,
    };
    let remedy = match flaw {
        Flaw::Version { .. } => Remedy::Upgrade,
        Flaw::NoKey { .. } => Remedy::Key,
        _ => remedy,
    };
    Err(Damage { file: path, offset: 0, at: base, flaw, remedy }.into())
}

/// What opens the records of a file.
fn cipher(header: &FileHeader, keys: &Keys) -> Result<Option<Cipher>, Flaw> {
    let Some(seal) = &header.seal else { return Ok(None) };
    let key = keys.find(seal.day).ok_or(Flaw::NoKey { day: seal.day.0 })?;
    Ok(Some(of_file(&key, seal)))
}

fn of_file(key: &Key, seal: &Seal) -> Cipher {
    key.cipher("journal", &seal.salt)
}

/// The last group of the last segment, and what lies torn behind it.
fn last_group<F: DiskFile>(last: &Segment<F>) -> Result<(Batch, Option<Torn>), OpenError> {
    let size = last.size()?;
    let (mut end, mut group) = (last.base(), last.base());
    let mut torn = None;
    while end < size {
        match last.frames(end, size, WINDOW)? {
            Ok(frames) => (end, group) = (frames.batch.end(), frames.group),
            Err(flaw)
                if flaw.is_of_key()
                    || end < last.header.complete
                    || last.witness(end, size)?.is_some() =>
            {
                return Err(last.damage(end, flaw, Remedy::KeepEarlier).into());
            }
            Err(_) => {
                let (file, octets) = (last.path.clone(), size.0 - end.0);
                torn = Some(Torn { file, offset: last.offset(end), octets });
                break;
            }
        }
    }
    if end < last.header.complete {
        let flaw = Flaw::Short { until: last.header.complete.0 };
        return Err(last.damage(end, flaw, Remedy::KeepEarlier).into());
    }
    let octets = usize::try_from(end.0.saturating_sub(group.0)).unwrap_or(usize::MAX);
    let frames = last
        .frames(group, end, octets)?
        .map_err(|flaw| last.damage(group, flaw, Remedy::KeepEarlier))?;
    Ok((frames.batch, torn))
}

/// Makes the segment that begins with `group`, durable with its name, in the version in which the
/// group's frames lie.
fn make_segment<D: Disk>(
    disk: &D,
    keys: &Keys,
    group: &Batch,
) -> Result<Segment<D::File>, Failure> {
    let unnamed = disk.path().join(UNNAMED);
    let name = name_of(group.start());
    let path = disk.path().join(&name);
    let salt = || disk.salt().map_err(|e| failure("draw a salt for", unnamed.clone(), e));
    let (seal, cipher) = match group.layout() {
        Layout::Plain => (None, None),
        Layout::Sealed => {
            let (day, key) = keys.present().map_err(no_key)?;
            let (low, high) = (u128::from(salt()?), u128::from(salt()?));
            let seal = Seal { day, salt: (high << 64 | low).to_le_bytes() };
            (Some(seal), Some(of_file(&key, &seal)))
        }
    };
    let (base, complete) = (group.start(), group.end());
    let header = FileHeader { base, salt: salt()?, complete, seal };
    let mut octets = header.octets();
    octets.extend(group.written(header.salt, cipher.as_ref()));
    let file = disk.create(UNNAMED).map_err(|e| failure("create", unnamed.clone(), e))?;
    write_full(&file, &octets, 0).map_err(|e| failure("write", unnamed.clone(), e))?;
    file.sync().map_err(|e| failure("sync", unnamed.clone(), e))?;
    disk.rename(UNNAMED, &name).map_err(|e| failure("rename", unnamed, e))?;
    disk.sync().map_err(|e| failure("sync", disk.path().to_owned(), e))?;
    Ok(Segment { header, name, path, file, cipher })
}

/// The day's key cannot be made: as if the disk had refused the file.
fn no_key(error: KeyError) -> Failure {
    match error {
        KeyError::File { action, path, error } => failure(action, path, error),
        other => failure("use the keys of", PathBuf::new(), io::Error::other(other)),
    }
}

/// Adds the new active segment; one with the same base had no durable record of its own.
fn place<F: DiskFile>(segments: &mut Vec<Arc<Segment<F>>>, active: Segment<F>) {
    segments.pop_if(|last| last.base() == active.base());
    segments.push(Arc::new(active));
}

fn name_of(base: Position) -> String {
    format!("{:016x}.log", base.0)
}

fn base_of(name: &str) -> Option<Position> {
    let base = Position(u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()?);
    (name == name_of(base)).then_some(base)
}

fn failure(action: &'static str, file: PathBuf, error: io::Error) -> Failure {
    Failure::Disk { action, file, error: Arc::new(error) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_lock<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}
