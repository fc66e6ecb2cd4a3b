//! Keys for what lies on the disk: one a day, and what is sealed under it is gone when it goes.
//!
//! Message texts and full numbers are sealed with AES-256-GCM wherever they are written: in the
//! journal, in the archive's day files and in the webhooks' file. The key is that of the day (in
//! UTC) on which something is written. [`Config::keep`] after the end of that day the key is
//! overwritten and removed, and whatever was sealed under it can be read by nobody, whatever
//! copies of the files there are. What is live is written again under a younger key before that.
//!
//! # No nonce twice
//!
//! Nothing is sealed with a day's key itself. Each file, or each run of the process for files that
//! are written in place, seals with a key of its own: HKDF-SHA-256 of the day's key, a purpose and
//! a salt of 16 random octets that stands beside what was sealed. Under that key the nonce is a
//! number that is used once: the position of a record in a journal's file, each of which is
//! written once, or a count that begins at zero and that no restart takes up again, since the
//! restart draws another salt. For a nonce to meet the same key again two of 128-bit salts of one
//! day would have to be equal.
//!
//! # What this protects
//!
//! Without [`Config::master_key_file`] the keys lie beside the data, readable by their owner only:
//! erasing them makes old texts and numbers unreadable in every copy of the data files, and data
//! files that are copied without the keys say nothing. A thief of the whole disk has both. With a
//! master key from elsewhere (a credential of the service manager, a mounted secret) the keys are
//! wrapped under it, and a stolen disk opens nothing. Ids, times, states, carriers' names, carriers'
//! ids, references and campaigns of clients are not sealed: people search by them, and they stay
//! for as long as the archive does.
//!
//! Overwriting a file is not proof on every disk: a log-structured or copying one may keep the old
//! sectors for a while. With a master key such a rest is of no use to anybody who lacks that one.

mod cipher;
mod config;
mod day;
mod file;
mod sealer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use crate::clock::Clock;

pub use self::cipher::Broken;
pub use self::cipher::Cipher;
pub use self::cipher::Index;
pub use self::cipher::Key;
pub use self::cipher::TAG;
pub use self::cipher::Tag;
pub use self::config::Config;
pub use self::day::Day;
pub use self::day::ParseDayError;
pub use self::file::KeyError;
pub use self::sealer::OpenError;
pub use self::sealer::Sealer;

use self::file::KeyFiles;

/// The keys; clones share everything.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    /// How many whole days a key outlives its own.
    keep_days: u32,
    found: Mutex<BTreeMap<Day, Key>>,
}

enum Source {
    Files { files: KeyFiles, clock: Clock, store: Key },
    Known { seed: Key, today: AtomicU32, erased_below: AtomicU32 },
}

impl Keys {
    /// Opens the keys in [`Config::dir`], which is made when it is missing.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(config: &Config) -> Result<Self, KeyError> {
        let files = KeyFiles::open(config)?;
        let found = files.list()?;
        let store = files.store()?;
        Ok(Self::new(
            Source::Files { files, clock: Clock::start(), store },
            config.keep_days(),
            found,
        ))
    }

    /// Keys that anybody can derive from `seed`: for simulated disks, which hold no secrets. The
    /// day is the one that [`Self::set_today`] says.
    pub fn known(seed: u64) -> Self {
        let mut octets = [0; 32];
        for (to, from) in octets.iter_mut().zip(seed.to_le_bytes()) {
            *to = from;
        }
        let source = Source::Known {
            seed: Key::new(octets),
            today: AtomicU32::new(Day::KNOWN.0),
            erased_below: AtomicU32::new(0),
        };
        Self::new(source, Config::default().keep_days(), BTreeMap::new())
    }

    fn new(source: Source, keep_days: u32, found: BTreeMap<Day, Key>) -> Self {
        Self { inner: Arc::new(Inner { source, keep_days, found: Mutex::new(found) }) }
    }

    /// The day that it is.
    pub fn today(&self) -> Day {
        match &self.inner.source {
            Source::Files { clock, .. } => Day::of(clock.now()),
            Source::Known { today, .. } => Day(today.load(Ordering::Relaxed)),
        }
    }

    /// Makes it another day, for known keys only.
    pub fn set_today(&self, day: Day) {
        if let Source::Known { today, .. } = &self.inner.source {
            today.store(day.0, Ordering::Relaxed);
        }
    }

    /// The present day and its key, which is on disk with its name when this returns.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn present(&self) -> Result<(Day, Key), KeyError> {
        let today = self.today();
        let mut found = self.found();
        if let Some(key) = found.get(&today) {
            return Ok((today, key.clone()));
        }
        let key = match &self.inner.source {
            Source::Files { files, .. } => files.make(&today.to_string())?,
            Source::Known { seed, .. } => seed.child(&today.0.to_le_bytes()),
        };
        found.insert(today, key.clone());
        Ok((today, key))
    }

    /// The key of `day`; none when it was erased, or never made.
    pub fn find(&self, day: Day) -> Option<Key> {
        match &self.inner.source {
            Source::Files { .. } => self.found().get(&day).cloned(),
            Source::Known { seed, erased_below, .. } => (day.0
                >= erased_below.load(Ordering::Relaxed))
            .then(|| seed.child(&day.0.to_le_bytes())),
        }
    }

    /// The key of `day`, which is made when the day is not so long ago that it would be erased.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn of(&self, day: Day) -> Result<Option<Key>, KeyError> {
        let mut found = self.found();
        if let Some(key) = found.get(&day) {
            return Ok(Some(key.clone()));
        }
        if day < self.due() {
            return Ok(None);
        }
        let key = match &self.inner.source {
            Source::Files { files, .. } => files.make(&day.to_string())?,
            Source::Known { seed, .. } => seed.child(&day.0.to_le_bytes()),
        };
        found.insert(day, key.clone());
        Ok(Some(key))
    }

    /// The key that is never erased, for the secrets of others that must stay readable.
    pub fn store(&self) -> Key {
        match &self.inner.source {
            Source::Files { store, .. } => store.clone(),
            Source::Known { seed, .. } => seed.child(b"store"),
        }
    }

    /// The keys of days before this one have served their time.
    pub fn due(&self) -> Day {
        Day(self.today().0.saturating_sub(self.inner.keep_days))
    }

    /// Whether there is a key of a day before `day`.
    pub fn has_below(&self, day: Day) -> bool {
        self.found().range(..day).next().is_some()
    }

    /// Overwrites and removes the keys of all days before `day`, and says which days those were.
    ///
    /// # Errors
    /// The disk refused; the keys that are still there are tried again by the next call.
    pub fn erase_below(&self, day: Day) -> Result<Vec<Day>, KeyError> {
        let mut found = self.found();
        let mut erased = Vec::new();
        if let Source::Known { erased_below, .. } = &self.inner.source {
            erased_below.fetch_max(day.0, Ordering::Relaxed);
        }
        while let Some(oldest) = found.range(..day).next().map(|(day, _)| *day) {
            if let Source::Files { files, .. } = &self.inner.source {
                files.erase(&oldest.to_string())?;
            }
            found.remove(&oldest);
            erased.push(oldest);
        }
        Ok(erased)
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<Day, Key>> {
        // An entry is put in whole or not at all, so a panic elsewhere spoils nothing.
        self.inner.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the keys lie; nothing for known ones.
    pub fn dir(&self) -> Option<PathBuf> {
        match &self.inner.source {
            Source::Files { files, .. } => Some(files.dir().to_owned()),
            Source::Known { .. } => None,
        }
    }
}

/// Shows the days only.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("days", &self.found().keys()).finish_non_exhaustive()
    }
}
