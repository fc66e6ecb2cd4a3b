//! The keys' files: made durable before first use, overwritten before they go.
//!
//! A file has 84 octets: `hikykey` and a zero, a version (4, little-endian, 1), how the key lies in
//! it (4: 0 as it is, 1 wrapped), a salt (16), the key (32), a tag (16), CRC-32C of all that (4).
//! A wrapped key is sealed under HKDF of the master key and the salt.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use aws_lc_rs::digest;

use crate::seal::Config;
use crate::seal::Day;
use crate::seal::Key;

/// Why a key cannot be read, made or erased.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The disk refused.
    #[error("cannot {action} {}: {error}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The file's octets are not those that were written.
    #[error(
        "{}: expected a key, found other octets; put back a copy of this file, or move it away \
         with all that was sealed on that day", path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// A newer release wrote it.
    #[error(
        "{}: expected format version {known} or older, found version {found}, which a newer \
         hikyaku wrote; start that one", path.display()
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The key is wrapped, and the master key is not there or another one.
    #[error(
        "{}: the key is wrapped under a master key that is not the configured one; set \
         seal.master_key_file to the file that it was made with", path.display()
    )]
    Wrapped {
        /// Which file.
        path: PathBuf,
    },
    /// The master key's file does not hold one.
    #[error("seal.master_key_file: {}: expected at least 32 octets, found {found}", path.display())]
    ShortMaster {
        /// Which file.
        path: PathBuf,
        /// How many octets it has.
        found: usize,
    },
}

/// The directory of keys.
#[derive(Debug)]
pub(super) struct KeyFiles {
    dir: PathBuf,
    master: Option<Key>,
}

const MAGIC: [u8; 8] = *b"hikykey\0";
const VERSION: u32 = 1;
const LENGTH: usize = 84;
const PLAIN: u32 = 0;
const WRAPPED: u32 = 1;

/// The name of the key that is never erased.
const STORE: &str = "store";

impl KeyFiles {
    /// Makes the directory when it is missing, and reads the master key.
    pub(super) fn open(config: &Config) -> Result<Self, KeyError> {
        let master = config.master_key_file.as_deref().map(master_key).transpose()?;
        let dir = config.dir.clone();
        let failed = |error| KeyError::File { action: "make", path: dir.clone(), error };
        prepare(&dir).map_err(failed)?;
        Ok(Self { dir, master })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The keys of all days that have one. Where a crash came between overwriting a key and removing
    /// its file, the file is removed now.
    pub(super) fn list(&self) -> Result<BTreeMap<Day, Key>, KeyError> {
        let failed = |error| KeyError::File { action: "list", path: self.dir.clone(), error };
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".key")) else {
                continue;
            };
            let Ok(day) = name.parse() else { continue };
            match self.read(name) {
                Ok(key) => {
                    found.insert(day, key);
                }
                Err(KeyError::Damaged { path }) if is_overwritten(&path) => self.erase(name)?,
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The key that is never erased.
    pub(super) fn store(&self) -> Result<Key, KeyError> {
        let path = self.path(STORE);
        match path.try_exists() {
            Ok(true) => self.read(STORE),
            Ok(false) => self.make(STORE),
            Err(error) => Err(KeyError::File { action: "read", path, error }),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    /// Makes a new key, durable with its name.
    pub(super) fn make(&self, name: &str) -> Result<Key, KeyError> {
        let path = self.path(name);
        let failed = |error| KeyError::File { action: "make", path: path.clone(), error };
        let (key, octets) = self.draw().map_err(failed)?;
        let unnamed = self.dir.join(format!("{name}.new"));
        let write = || {
            let mut file = fs::File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&unnamed)?;
            file.write_all(&octets)?;
            file.sync_all()?;
            fs::rename(&unnamed, &path)?;
            sync(&self.dir)
        };
        write().map_err(failed)?;
        Ok(key)
    }

    /// A new key and the octets of its file.
    fn draw(&self) -> io::Result<(Key, Vec<u8>)> {
        let mut drawn = [0; 48];
        getrandom::fill(&mut drawn).map_err(|error| io::Error::other(error.to_string()))?;
        let (salt, key) = drawn.split_at(16);
        let mut octets = [0; 32];
        octets.copy_from_slice(key);
        let key = Key::new(octets);
        let tag = match &self.master {
            Some(master) => master.cipher("wrap", salt).seal(0, &mut octets),
            None => [0; 16],
        };
        let kind = if self.master.is_some() { WRAPPED } else { PLAIN };
        let mut file = Vec::with_capacity(LENGTH);
        file.extend(MAGIC);
        file.extend(VERSION.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(salt);
        file.extend(octets);
        file.extend(tag);
        file.extend(crc32c::crc32c(&file).to_le_bytes());
        Ok((key, file))
    }

    fn read(&self, name: &str) -> Result<Key, KeyError> {
        let path = self.path(name);
        let octets = match fs::read(&path) {
            Ok(octets) => octets,
            Err(error) => return Err(KeyError::File { action: "read", path, error }),
        };
        let Some(file) = Parts::of(&octets) else { return Err(KeyError::Damaged { path }) };
        if file.version > VERSION {
            return Err(KeyError::Version { path, found: file.version, known: VERSION });
        }
        if file.version != VERSION || octets.len() != LENGTH || !file.sound {
            return Err(KeyError::Damaged { path });
        }
        let mut key = file.key;
        match (file.kind, &self.master) {
            (PLAIN, _) => {}
            (WRAPPED, Some(master)) => {
                let opened = master.cipher("wrap", file.salt).open(0, &mut key, file.tag);
                opened.map_err(|_| KeyError::Wrapped { path })?;
            }
            (WRAPPED, None) => return Err(KeyError::Wrapped { path }),
            _ => return Err(KeyError::Damaged { path }),
        }
        Ok(Key::new(key))
    }

    /// Overwrites a key and removes its file, durably.
    pub(super) fn erase(&self, name: &str) -> Result<(), KeyError> {
        let path = self.path(name);
        let erase = || {
            let mut file = fs::File::options().read(true).write(true).open(&path)?;
            file.rewind()?;
            file.write_all(&[0; LENGTH])?;
            file.sync_all()?;
            fs::remove_file(&path)?;
            sync(&self.dir)
        };
        match erase() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(KeyError::File { action: "erase", path, error })
            }
            _ => Ok(()),
        }
    }
}

fn is_overwritten(path: &Path) -> bool {
    fs::read(path).is_ok_and(|octets| octets == [0; LENGTH])
}

/// The fields of a key's file.
struct Parts<'a> {
    version: u32,
    kind: u32,
    salt: &'a [u8],
    key: [u8; 32],
    tag: &'a [u8],
    /// Whether the check sum is right.
    sound: bool,
}

impl<'a> Parts<'a> {
    fn of(octets: &'a [u8]) -> Option<Self> {
        let (magic, rest) = octets.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk::<16>()?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let (tag, rest) = rest.split_first_chunk::<16>()?;
        let (check, _) = rest.split_first_chunk()?;
        let whole = octets.get(..LENGTH - 4)?;
        (*magic == MAGIC).then_some(Self {
            version: u32::from_le_bytes(*version),
            kind: u32::from_le_bytes(*kind),
            salt,
            key: *key,
            tag,
            sound: crc32c::crc32c(whole) == u32::from_le_bytes(*check),
        })
    }
}

fn master_key(path: &Path) -> Result<Key, KeyError> {
    const LONGEST: u64 = 1 << 16;
    let mut octets = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut octets))
        .map_err(|error| KeyError::File { action: "read", path: path.to_owned(), error })?;
    if octets.len() < 32 {
        return Err(KeyError::ShortMaster { path: path.to_owned(), found: octets.len() });
    }
    let mut key = [0; 32];
    key.copy_from_slice(digest::digest(&digest::SHA256, &octets).as_ref());
    Ok(Key::new(key))
}

fn prepare(dir: &Path) -> io::Result<()> {
    if dir.try_exists()? {
        return Ok(());
    }
    let absolute = std::path::absolute(dir)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&absolute)?;
    // A new name is durable once the directory that holds it is synced.
    absolute.ancestors().skip(1).take(2).try_for_each(sync)
}

fn sync(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
