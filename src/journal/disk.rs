//! The few file operations that the local engine needs, and their form on real files.
//!
//! A [`Disk`] is one directory. It is a trait so that [`sim`](super::sim) can stand in for it and
//! lose, tear and reorder whatever was not synced.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// One directory of files.
///
/// Nothing that is done to it survives a crash for certain until it is synced: the octets of a
/// file by [`DiskFile::sync`], the names by [`Disk::sync`].
pub trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Keeps every other process out of the directory until it is dropped.
    type Lock: Send + Sync + 'static;

    /// The name of the directory, for messages to people.
    fn path(&self) -> &Path;

    /// Makes the directory if it is missing, durably.
    fn prepare(&self) -> io::Result<()>;

    /// Takes the lock named `name`, or nothing while somebody else holds it.
    fn lock(&self, name: &str) -> io::Result<Option<Self::Lock>>;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a new, empty file; one that had the name before loses it.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file to read it.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Gives the file `from` the name `to`; a file that had that name before loses it in the same
    /// instant.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names durable: what was created, renamed and removed.
    fn sync(&self) -> io::Result<()>;

    /// A number that nobody can foretell.
    fn salt(&self) -> io::Result<u64>;
}

/// An open file of a [`Disk`], used by several threads at once.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads what fits into `into` from `offset` on; 0 at the end of the file.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at `offset` and returns how many octets were taken, which may be fewer than given.
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the octets and the length durable.
    fn sync(&self) -> io::Result<()>;

    /// The length in octets.
    fn size(&self) -> io::Result<u64>;
}

/// What other users may do with the files: nothing, since messages are in them.
const OWNERS_FILE: u32 = 0o600;
const OWNERS_DIRECTORY: u32 = 0o700;

/// A directory of the machine's file system.
///
/// What it makes, only its owner may read.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// The directory `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }
}

impl Disk for Files {
    type File = fs::File;
    type Lock = fs::File;

    fn path(&self) -> &Path {
        &self.dir
    }

    fn prepare(&self) -> io::Result<()> {
        let absolute = std::path::absolute(&self.dir)?;
        let mut missing = Vec::new();
        let mut dir: &Path = &absolute;
        while !dir.try_exists()? {
            missing.push(dir);
            let Some(parent) = dir.parent() else { break };
            dir = parent;
        }
        // A new name is durable once the directory that holds it is synced, so from the top down.
        for dir in missing.into_iter().rev() {
            fs::DirBuilder::new().mode(OWNERS_DIRECTORY).create(dir)?;
            if let Some(parent) = dir.parent() {
                fs::File::open(parent)?.sync_all()?;
            }
        }
        Ok(())
    }

    fn lock(&self, name: &str) -> io::Result<Option<fs::File>> {
        let path = self.dir.join(name);
        let file = fs::File::options().create(true).append(true).mode(OWNERS_FILE).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<fs::File> {
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::File::options();
        options.read(true).write(true).create_new(true).mode(OWNERS_FILE).open(path)
    }

    fn open(&self, name: &str) -> io::Result<fs::File> {
        fs::File::open(self.dir.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.dir)?.sync_all()
    }

    fn salt(&self) -> io::Result<u64> {
        getrandom::u64().map_err(io::Error::other)
    }
}

impl DiskFile for fs::File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, octets, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Reads until `into` is full or the file ends; how many octets that were.
pub(super) fn read_full<F: DiskFile>(file: &F, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `octets`.
pub(super) fn write_full<F: DiskFile>(
    file: &F,
    mut octets: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    while !octets.is_empty() {
        match file.write_at(octets, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                octets = octets.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
