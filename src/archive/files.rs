//! Which day files there are, and connections to read them with.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::archive::StoreError;
use crate::archive::day;
use crate::archive::day::DayFile;
use crate::archive::day::Extent;
use crate::message::Position;
use crate::seal::Day;
use crate::seal::Sealer;

/// The day files of a directory.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    sealer: Arc<Sealer>,
    inner: Mutex<Inner>,
    packs_opened: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    /// Each day that has a file, with the extent of its events.
    days: BTreeMap<Day, Option<Extent>>,
    /// Connections that nobody uses, the longest idle first.
    idle: Vec<(Day, DayFile)>,
}

/// The most idle connections that are kept.
const IDLE: usize = 8;

impl Files {
    /// Looks what there is in `dir`.
    pub(super) fn list(dir: PathBuf, sealer: Arc<Sealer>) -> Result<Self, StoreError> {
        let mut days = BTreeMap::new();
        for day in day::list(&dir)? {
            // Written to, since a file that a crash left half made gets its tables now, and one of
            // a release before this one those that it lacks.
            days.insert(day, DayFile::create(&dir, day, &sealer)?.event_extent()?);
        }
        Ok(Self {
            dir,
            sealer,
            inner: Mutex::new(Inner { days, idle: Vec::new() }),
            packs_opened: AtomicU64::new(0),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the day has a file.
    pub(super) fn has(&self, day: Day) -> bool {
        self.inner().days.contains_key(&day)
    }

    /// All days that have a file, rising.
    pub(super) fn days(&self) -> Vec<Day> {
        self.inner().days.keys().copied().collect()
    }

    /// The days with events, and where those lie.
    pub(super) fn extents(&self) -> Vec<(Day, Extent)> {
        let inner = self.inner();
        inner.days.iter().filter_map(|(day, extent)| extent.map(|extent| (*day, extent))).collect()
    }

    /// The position of the last event in a day's file.
    pub(super) fn last_event(&self, day: Day) -> Option<Position> {
        self.inner().days.get(&day).copied().flatten().map(|extent| extent.last)
    }

    /// How many packs of events were opened.
    pub(super) fn packs_opened(&self) -> u64 {
        self.packs_opened.load(Ordering::Relaxed)
    }

    /// Takes note that one was.
    pub(super) fn opened_pack(&self) {
        self.packs_opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of what was written to a day's file.
    pub(super) fn wrote(&self, day: Day, events: Option<Extent>) {
        let mut inner = self.inner();
        let known = inner.days.entry(day).or_default();
        if let Some(events) = events {
            let first = Extent::with(*known, events.first);
            *known = Some(Extent::with(Some(first), events.last));
        }
    }

    /// Reads a day's file with `read`; nothing when there is no such file.
    pub(super) fn read<T>(
        &self,
        day: Day,
        read: impl FnOnce(&DayFile) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let Some(file) = self.take(day)? else { return Ok(None) };
        let done = read(&file);
        file.forget();
        let mut inner = self.inner();
        if inner.days.contains_key(&day) {
            if inner.idle.len() >= IDLE {
                inner.idle.remove(0);
            }
            inner.idle.push((day, file));
        }
        done.map(Some)
    }

    fn take(&self, day: Day) -> Result<Option<DayFile>, StoreError> {
        let mut inner = self.inner();
        if !inner.days.contains_key(&day) {
            return Ok(None);
        }
        if let Some(place) = inner.idle.iter().rposition(|(idle, _)| *idle == day) {
            return Ok(Some(inner.idle.remove(place).1));
        }
        drop(inner);
        DayFile::open(&self.dir, day, &self.sealer)
    }

    /// Deletes a day's file and what SQLite keeps beside it.
    pub(super) fn delete(&self, day: Day) -> Result<(), StoreError> {
        let mut inner = self.inner();
        inner.days.remove(&day);
        inner.idle.retain(|(idle, _)| *idle != day);
        drop(inner);
        let path = day::path(day, &self.dir);
        // The file last: while it is there, the others may hold what belongs to it.
        for ending in ["-shm", "-wal", ""] {
            let mut name = path.clone().into_os_string();
            name.push(ending);
            match std::fs::remove_file(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::file(&path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
