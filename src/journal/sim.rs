//! A disk in memory that fails as real ones do, from a seed: for the tests and the simulation.
//!
//! [`SimDisk`] is a [`Disk`] whose every fault is either planned ([`SimDisk::crash_at`],
//! [`SimDisk::fail_at`], [`SimDisk::set_capacity`]) or drawn from the seed ([`SimDisk::set_chances`]).
//! The same seed and the same calls give the same faults.
//!
//! What [`SimDisk::restart`] makes of what was not synced is as bad as any file system may make it:
//!
//! * each sector that was written keeps its old octets, or has those of any write since, or breaks
//!   off between two of them;
//! * a file has the length that it had at any time since it was last synced; octets between its
//!   synced length and that length that did not reach the disk are zeros, or what an older file left
//!   there;
//! * each change of a name has happened or not, each for itself;
//! * after a failed sync the file looks written to whoever reads it, and later syncs succeed, but
//!   some of it is not on the disk and never will be;
//! * a change of a name that was reported as failed may have happened.
//!
//! What was synced before stays, also in a sector of which the rest is written again.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::journal::Config;
use crate::journal::disk::Disk;
use crate::journal::disk::DiskFile;
use crate::journal::open;
use crate::seal::Keys;

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// One directory on a disk of a machine that can crash.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// How often the disk does not do as it is told, each in thousandths of the operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chances {
    /// A write takes fewer octets than it was given, or is interrupted.
    pub short_writes: u32,
    /// A write fails after some octets.
    pub failed_writes: u32,
    /// A file's sync fails, and pretends afterwards that nothing was to be synced.
    pub failed_syncs: u32,
    /// A file is not created, renamed or removed, or the directory is not synced.
    pub failed_names: u32,
}

impl SimDisk {
    /// An empty disk whose faults and salts come from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::over(State { draws: Draws(seed), ..State::default() })
    }

    /// Crashes the machine in the middle of the `n`th operation from now, 0 being the next one.
    /// Every later call fails until [`SimDisk::restart`].
    ///
    /// Operations are those that change or sync something; reading is none.
    pub fn crash_at(&self, n: u64) {
        let mut state = self.lock_state();
        state.crash_at = Some(state.operations + n);
    }

    /// Makes the `n`th operation from now fail, 0 being the next one.
    pub fn fail_at(&self, n: u64) {
        let mut state = self.lock_state();
        state.fail_at = Some(state.operations + n);
    }

    /// Makes operations fail by chance from now on.
    pub fn set_chances(&self, chances: Chances) {
        self.lock_state().chances = chances;
    }

    /// Gives the disk room for this many octets in all files together, or endless room.
    pub fn set_capacity(&self, octets: Option<u64>) {
        self.lock_state().capacity = octets;
    }

    /// Makes the disk lie from now on, or no more: it says that it syncs, and syncs nothing.
    pub fn set_lying(&self, lies: bool) {
        self.lock_state().lies = lies;
    }

    /// How many operations there have been.
    pub fn operations(&self) -> u64 {
        self.lock_state().operations
    }

    /// Whether the machine has crashed.
    pub fn crashed(&self) -> bool {
        self.lock_state().crashed
    }

    /// What a power loss at this point leaves, after a restart; `seed` decides what becomes of all
    /// that is not synced. This disk stays as it is, so that it can be asked with many seeds.
    #[must_use]
    pub fn restart(&self, seed: u64) -> Self {
        let mut state = self.reborn();
        state.draws = Draws(seed);
        state.lies = false;
        state.lose_unsynced();
        Self::over(state)
    }

    /// What is there after only the process was killed at this point: nothing is lost, and nothing
    /// is more durable than it was. This disk stays as it is.
    #[must_use]
    pub fn kill(&self) -> Self {
        Self::over(self.reborn())
    }

    /// The names and octets of all files, as a process sees them.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.lock_state();
        let octets = |id: &u64| state.files.get(id).map(|file| file.cached.clone());
        state.cached.iter().filter_map(|(name, id)| Some((name.clone(), octets(id)?))).collect()
    }

    /// Puts a durable file there, whatever had the name before.
    pub fn put(&self, name: &str, octets: &[u8]) {
        let mut state = self.lock_state();
        let id = state.new_file();
        if let Some(file) = state.files.get_mut(&id) {
            file.cached = octets.to_vec();
            file.synced = octets.to_vec();
        }
        state.cached.insert(name.to_owned(), id);
        state.synced.insert(name.to_owned(), id);
    }

    /// Flips the bits of `mask` in the octet at `offset` of the file `name`, on the disk itself;
    /// whether there is such an octet.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) -> bool {
        let mut state = self.lock_state();
        let Some(id) = state.cached.get(name).copied() else { return false };
        let Some(file) = state.files.get_mut(&id) else { return false };
        let mut flipped = false;
        for octets in [&mut file.cached, &mut file.synced] {
            if let Some(octet) = octets.get_mut(offset) {
                *octet ^= mask;
                flipped = true;
            }
        }
        flipped
    }

    /// Makes the file `name` unreadable from now on, as a disk that is going bad does.
    pub fn spoil(&self, name: &str) {
        let mut state = self.lock_state();
        let id = state.cached.get(name).copied();
        if let Some(file) = id.and_then(|id| state.files.get_mut(&id)) {
            file.spoiled = true;
        }
    }

    fn over(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn reborn(&self) -> State {
        let mut state = self.lock_state().clone();
        state.crashed = false;
        state.locked = false;
        state.crash_at = None;
        state.fail_at = None;
        // Handles of the old process do not keep removed files alive.
        state.files.values_mut().for_each(|file| file.handles = Arc::new(()));
        state
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of a machine that runs.
    fn running(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock_state();
        if state.crashed { Err(off()) } else { Ok(state) }
    }

    fn handle(&self, state: &State, id: u64) -> SimFile {
        let handles = state.files.get(&id).map(|file| Arc::clone(&file.handles));
        SimFile { disk: self.clone(), id, _handle: handles }
    }

    /// Changes a name, and perhaps crashes or fails in doing so.
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.running()?;
        let chance = state.chances.failed_names;
        match state.turn(chance) {
            Turn::Works => state.change(change),
            Turn::Fails => {
                if state.draws.chance(500) {
                    state.change(change);
                }
                return Err(refused());
            }
            Turn::Crashes => {
                state.change(change);
                return Err(off());
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock_state();
        f.debug_struct("SimDisk")
            .field("operations", &state.operations)
            .field("crashed", &state.crashed)
            .field("names", &state.cached.keys())
            .finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn path(&self) -> &Path {
        Path::new("sim")
    }

    fn prepare(&self) -> io::Result<()> {
        self.running().map(drop)
    }

    fn lock(&self, _name: &str) -> io::Result<Option<SimLock>> {
        let mut state = self.running()?;
        if state.locked {
            return Ok(None);
        }
        state.locked = true;
        Ok(Some(SimLock { disk: self.clone() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.running()?;
        let mut names: Vec<String> = state.cached.keys().cloned().collect();
        // A directory has no order.
        for i in (1..names.len()).rev() {
            names.swap(i, state.draws.below(i + 1));
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let id = self.running()?.new_file();
        self.change(Change::Set { name: name.to_owned(), id })?;
        let state = self.running()?;
        Ok(self.handle(&state, id))
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let state = self.running()?;
        let id = *state.cached.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&state, id))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let id = *self.running()?.cached.get(from).ok_or(io::ErrorKind::NotFound)?;
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), id })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.running()?.cached.get(name).ok_or(io::ErrorKind::NotFound)?;
        self.change(Change::Remove { name: name.to_owned() })
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.running()?;
        let chance = state.chances.failed_names;
        match state.turn(chance) {
            Turn::Works if state.lies => {}
            Turn::Works => state.sync_names(),
            Turn::Fails => {
                state.lose_names();
                return Err(refused());
            }
            Turn::Crashes => return Err(off()),
        }
        Ok(())
    }

    fn salt(&self) -> io::Result<u64> {
        Ok(self.running()?.draws.next())
    }
}

/// Holds the lock of a [`SimDisk`] until it is dropped.
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.lock_state().locked = false;
    }
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    id: u64,
    /// Counts as a use of the file, which may have lost its name meanwhile.
    _handle: Option<Arc<()>>,
}

impl DiskFile for SimFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.running()?;
        let file = state.files.get(&self.id).ok_or(io::ErrorKind::NotFound)?;
        if file.spoiled {
            return Err(refused());
        }
        let octets = file.cached.get(whole(offset)..).unwrap_or_default();
        let read = into.iter_mut().zip(octets).map(|(to, from)| *to = *from).count();
        Ok(read)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.running()?;
        let chance = state.chances.failed_writes;
        match state.turn(chance) {
            Turn::Works => {
                let taken = state.takes(self.id, octets.len(), offset)?;
                state.write(self.id, octets.get(..taken).unwrap_or_default(), offset);
                Ok(taken)
            }
            Turn::Fails => {
                let taken = state.draws.below(octets.len() + 1);
                state.write(self.id, octets.get(..taken).unwrap_or_default(), offset);
                Err(refused())
            }
            Turn::Crashes => {
                state.write(self.id, octets, offset);
                Err(off())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.running()?;
        let chance = state.chances.failed_syncs;
        let turn = state.turn(chance);
        let State { files, draws, lies, .. } = &mut *state;
        let file = files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        match turn {
            Turn::Works if *lies => {}
            Turn::Works => file.sync(),
            Turn::Fails => {
                file.lose_unsynced(draws, &[]);
                return Err(refused());
            }
            Turn::Crashes => return Err(off()),
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.running()?;
        let file = state.files.get(&self.id).ok_or(io::ErrorKind::NotFound)?;
        Ok(file.cached.len() as u64)
    }
}

/// The body of the fuzz target: opens arbitrary octets as a journal, and a good journal after
/// arbitrary damage.
///
/// The octets are the one file of a journal as they stand; and they are a list of 4 octets each that
/// tell what to do to a file of several groups: 2 for a place, one to flip there, and one that is
/// odd to cut the file there.
///
/// # Panics
/// When the journal does, when what was opened once is not durable, or when what is read of the
/// damaged journal is anything but the first records of the good one.
pub fn open_arbitrary(octets: &[u8]) {
    let disk = SimDisk::new(1);
    let base =
        octets.get(16..).and_then(|base| base.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b));
    disk.put(&format!("{base:016x}.log"), octets);
    read_twice(&disk);

    let (name, mut file, records) = good_file();
    for edit in octets.chunks_exact(4) {
        let &[low, high, mask, cut] = edit else { continue };
        let place = usize::from(u16::from_le_bytes([low, high])) % file.len().max(1);
        file.get_mut(place).into_iter().for_each(|octet| *octet ^= mask);
        if cut % 2 == 1 {
            file.truncate(place);
        }
    }
    let disk = SimDisk::new(2);
    disk.put(&name, &file);
    let read = read_twice(&disk);
    assert!(records.starts_with(&read), "records that were never written");
}

/// All records that can be read of a journal, which must be the same after a power loss.
fn read_twice(disk: &SimDisk) -> Vec<Vec<u8>> {
    let read = |disk: SimDisk| {
        let Ok(journal) = open(disk, &Config::default(), &Keys::known(0)) else {
            return Vec::new();
        };
        let records = journal.reader.follow(journal.first);
        records.map_while(Result::ok).map(|(_, record)| record).collect::<Vec<_>>()
    };
    let first = read(disk.clone());
    assert_eq!(first, read(disk.restart(3)), "what was opened once is durable");
    first
}

/// A journal of one file: its name, its octets, its records.
fn good_file() -> (String, Vec<u8>, Vec<Vec<u8>>) {
    let disk = SimDisk::new(4);
    let mut records = Vec::new();
    if let Ok(mut journal) = open(disk.clone(), &Config::default(), &Keys::known(0)) {
        for number in 1..=12_u8 {
            let record = vec![number; 3 * usize::from(number)];
            let pushed = journal.appender.push(&record).is_ok();
            let batch = if number % 3 == 0 { journal.appender.take_batch() } else { None };
            let written = batch.is_none_or(|batch| journal.writer.write(batch).is_ok());
            assert!(pushed && written, "nothing fails on this disk");
            records.push(record);
        }
    }
    let (name, file) = disk.contents().pop_first().unwrap_or_default();
    (name, file, records)
}

#[derive(Clone, Default)]
struct State {
    draws: Draws,
    crashed: bool,
    locked: bool,
    operations: u64,
    crash_at: Option<u64>,
    fail_at: Option<u64>,
    chances: Chances,
    capacity: Option<u64>,
    lies: bool,
    files: BTreeMap<u64, File>,
    last_file: u64,
    /// The names as processes see them.
    cached: BTreeMap<String, u64>,
    /// The names that are certain to survive.
    synced: BTreeMap<String, u64>,
    /// How one becomes the other.
    changes: Vec<Change>,
    /// Octets of a file that is gone.
    stale: Vec<u8>,
}

enum Turn {
    Works,
    Fails,
    Crashes,
}

#[derive(Clone)]
enum Change {
    Set { name: String, id: u64 },
    Rename { from: String, to: String, id: u64 },
    Remove { name: String },
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set { name, id } => {
                names.insert(name.clone(), *id);
            }
            Self::Rename { from, to, id } => {
                // The name may lead to another file by now if changes before this one were lost.
                if names.get(from) == Some(id) {
                    names.remove(from);
                }
                names.insert(to.clone(), *id);
            }
            Self::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

impl State {
    /// Counts an operation and says what becomes of it; `chance` thousandths of them fail.
    fn turn(&mut self, chance: u32) -> Turn {
        let now = self.operations;
        self.operations += 1;
        if self.crash_at == Some(now) {
            self.crashed = true;
            return Turn::Crashes;
        }
        if self.fail_at == Some(now) || self.draws.chance(chance) {
            return Turn::Fails;
        }
        Turn::Works
    }

    fn new_file(&mut self) -> u64 {
        self.last_file += 1;
        self.files.insert(self.last_file, File::default());
        self.last_file
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.changes.push(change);
    }

    fn sync_names(&mut self) {
        self.changes.clear();
        self.synced.clone_from(&self.cached);
        self.forget_files();
    }

    /// Some changes of names reach the disk; the others wait for the next sync of all names.
    fn lose_names(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            if self.draws.chance(500) {
                change.apply(&mut self.synced);
            }
        }
    }

    fn lose_unsynced(&mut self) {
        self.lose_names();
        self.cached.clone_from(&self.synced);
        let Self { files, draws, stale, .. } = self;
        for file in files.values_mut() {
            file.lose_unsynced(draws, stale);
            file.cached.clone_from(&file.synced);
        }
        self.forget_files();
    }

    /// Forgets files without a name that nobody has open.
    fn forget_files(&mut self) {
        let Self { files, cached, synced, stale, .. } = self;
        files.retain(|id, file| {
            let named = cached.values().chain(synced.values()).any(|named| named == id);
            let kept = named || Arc::strong_count(&file.handles) > 1;
            if !kept {
                *stale = std::mem::take(&mut file.cached);
            }
            kept
        });
    }

    /// How many of `length` octets a write takes, at least one.
    fn takes(&mut self, id: u64, length: usize, offset: u64) -> io::Result<usize> {
        let mut taken = length;
        if self.draws.chance(self.chances.short_writes) {
            if self.draws.chance(300) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            taken = 1 + self.draws.below(length.max(1));
        }
        if let Some(capacity) = self.capacity {
            let used: usize = self.cached.values().map(|id| self.length(*id)).sum();
            let inside = self.length(id).saturating_sub(whole(offset));
            let room = whole(capacity).saturating_sub(used) + inside;
            taken = taken.min(room);
            if taken == 0 && length > 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(taken.min(length))
    }

    fn length(&self, id: u64) -> usize {
        self.files.get(&id).map_or(0, |file| file.cached.len())
    }

    fn write(&mut self, id: u64, octets: &[u8], offset: u64) {
        if let Some(file) = self.files.get_mut(&id) {
            file.write(octets, whole(offset));
        }
    }
}

#[derive(Clone, Default)]
struct File {
    /// The octets as processes see them.
    cached: Vec<u8>,
    /// The octets that are certain to survive.
    synced: Vec<u8>,
    /// What each sector held after each write since the last sync.
    sectors: BTreeMap<usize, Vec<Vec<u8>>>,
    /// The lengths that the file had since the last sync.
    lengths: Vec<usize>,
    spoiled: bool,
    handles: Arc<()>,
}

impl File {
    fn write(&mut self, octets: &[u8], offset: usize) {
        if octets.is_empty() {
            return;
        }
        let end = offset + octets.len();
        if end > self.cached.len() {
            self.cached.resize(end, 0);
        }
        for (to, from) in self.cached.iter_mut().skip(offset).zip(octets) {
            *to = *from;
        }
        self.lengths.push(self.cached.len());
        for sector in offset / SECTOR..=(end - 1) / SECTOR {
            let now = self.cached.chunks(SECTOR).nth(sector).unwrap_or_default().to_vec();
            self.sectors.entry(sector).or_default().push(now);
        }
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.cached);
        self.sectors.clear();
        self.lengths.clear();
    }

    /// Some of what was written reaches the disk, and nothing else of it ever will.
    fn lose_unsynced(&mut self, draws: &mut Draws, stale: &[u8]) {
        let before = self.synced.len();
        let lengths = std::mem::take(&mut self.lengths);
        if let Some(length) = lengths.get(draws.below(lengths.len() + 1)).copied() {
            self.synced.resize(length.max(before), 0);
            if draws.chance(300) {
                let left = stale.iter().enumerate().skip(before);
                left.zip(self.synced.iter_mut().skip(before))
                    .for_each(|((_, from), to)| *to = *from);
            }
        }
        for (sector, versions) in std::mem::take(&mut self.sectors) {
            let newest = draws.below(versions.len() + 1);
            let Some(version) = versions.get(newest) else { continue };
            // Now and then only the first octets of the sector are the new ones.
            let upto = if draws.chance(200) { draws.below(SECTOR) } else { SECTOR };
            let place = self.synced.iter_mut().skip(sector * SECTOR);
            place.zip(version.iter().take(upto)).for_each(|(to, from)| *to = *from);
        }
    }
}

/// Numbers that look random and come from a seed (SplitMix64).
#[derive(Clone, Default)]
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be 0.
    fn below(&mut self, end: usize) -> usize {
        whole(self.next() % end.max(1) as u64)
    }

    /// True in `thousandths` of 1,000 cases.
    fn chance(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.next() % 1_000 < u64::from(thousandths)
    }
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn off() -> io::Error {
    io::Error::other("the machine has crashed")
}

fn refused() -> io::Error {
    io::Error::other("the disk does not answer")
}
