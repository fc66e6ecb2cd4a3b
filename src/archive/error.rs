//! What can go wrong with the archive's files.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::archive::blob::Flaw;
use crate::seal::KeyError;

/// Why the archive could not read or write. Nothing is lost by it: the journal keeps every record
/// until the archive has it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file could not be touched.
    #[error("archive file {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// SQLite refused.
    #[error("archive file {}: {error}", path.display())]
    Sqlite {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: rusqlite::Error,
    },
    /// A row cannot be read.
    #[error("archive file {}: {flaw}", path.display())]
    Row {
        /// Which file.
        path: PathBuf,
        /// What is wrong with the row.
        flaw: Flaw,
    },
    /// The key of the day cannot be made.
    #[error("archive: {0}")]
    Key(#[from] KeyError),
    /// A newer release wrote the file.
    #[error(
        "archive file {}: expected layout {known} or older, found layout {found}, which a newer \
         hikyaku wrote; start that one, or move the file away with the history that it holds",
        path.display()
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its layout.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The journal ends before what the archive has seen of it: they do not belong together, or
    /// the journal has lost records.
    #[error(
        "archive {}: it has followed the journal up to position {archive}, but the journal ends \
         at {journal}; put back the journal that belongs to it, or move the archive away",
        dir.display()
    )]
    Ahead {
        /// The archive's directory.
        dir: PathBuf,
        /// How far the archive is.
        archive: u64,
        /// Where the journal ends.
        journal: u64,
    },
    /// The archive is closing.
    #[error("the archive is closing")]
    Closed,
}

impl StoreError {
    pub(super) fn file(path: &Path, error: io::Error) -> Self {
        Self::File { path: path.to_owned(), error }
    }

    pub(super) fn sqlite(path: &Path, error: rusqlite::Error) -> Self {
        Self::Sqlite { path: path.to_owned(), error }
    }
}
