//! The half of the journal that reads, and never what is not durable.

use std::fmt;
use std::sync::Arc;

use crate::journal::Batch;
use crate::journal::Damage;
use crate::journal::Failure;
use crate::journal::Flaw;
use crate::journal::Log;
use crate::journal::Position;
use crate::journal::beyond;

/// Reads durable records, beside the writer and from any thread.
#[derive(Clone)]
pub struct Reader {
    log: Arc<dyn Log>,
}

impl Reader {
    pub(super) fn new(log: Arc<dyn Log>) -> Self {
        Self { log }
    }

    /// The oldest position that is kept.
    pub fn first(&self) -> Position {
        self.log.first()
    }

    /// The position behind the last durable record.
    pub fn end(&self) -> Position {
        self.log.end()
    }

    /// The record at `at`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, at: Position) -> Result<Vec<u8>, ReadError> {
        self.log.read(at).map_err(|error| if at == self.first() { error } else { error.foreign() })
    }

    /// All durable records from `from` on, oldest first; `from` is a record's position or the
    /// durable end.
    pub fn follow(&self, from: Position) -> Follow {
        Follow {
            log: Arc::clone(&self.log),
            run: Batch::new(from, 0),
            offset: 0,
            until: Position(u64::MAX),
            foreign: from != self.first(),
            failed: false,
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("first", &self.first())
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

/// Walks along the log.
///
/// At the durable end it gives `None`; asked again later it goes on with what has become durable
/// meanwhile. After an error it gives `None` for ever.
pub struct Follow {
    log: Arc<dyn Log>,
    /// What was read ahead; the next record begins at `offset` in it.
    run: Batch,
    offset: usize,
    until: Position,
    /// Whether nothing shows yet that a record begins where this one does.
    foreign: bool,
    failed: bool,
}

impl Follow {
    /// Stops at `until`, even when more is durable.
    #[must_use]
    pub fn until(self, until: Position) -> Self {
        Self { until, ..self }
    }

    /// Where the next record will be.
    pub fn at(&self) -> Position {
        beyond(self.run.start(), self.offset)
    }

    /// The next record, without a copy of its own.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn next_record(&mut self) -> Option<Result<(Position, &[u8]), ReadError>> {
        if self.failed || self.at() >= self.until {
            return None;
        }
        if self.offset >= self.run.length()
            && let Err(error) = self.read_ahead()
        {
            self.failed = true;
            return Some(Err(error));
        }
        let at = self.at();
        let (frame, record) = self.run.record_at(self.offset)?;
        self.offset += frame;
        Some(Ok((at, record)))
    }

    fn read_ahead(&mut self) -> Result<(), ReadError> {
        let run = self.log.read_from(self.at(), READ_AHEAD);
        self.run = run.map_err(|error| if self.foreign { error.foreign() } else { error })?;
        self.offset = 0;
        self.foreign = false;
        Ok(())
    }
}

/// Octets that [`Follow`] asks for in one go.
const READ_AHEAD: usize = 256 << 10;

impl Iterator for Follow {
    type Item = Result<(Position, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_record()?;
        Some(next.map(|(at, record)| (at, record.to_vec())))
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("at", &self.at()).finish_non_exhaustive()
    }
}

/// Why a record cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// It was dropped with the rest of its file.
    #[error("position {at} was trimmed, the log begins at {first}")]
    Trimmed {
        /// What was asked for.
        at: u64,
        /// The oldest position that is kept.
        first: u64,
    },
    /// It is not durable, or was never written.
    #[error("position {at} is not durable, the log ends at {end}")]
    BeyondEnd {
        /// What was asked for.
        at: u64,
        /// The durable end.
        end: u64,
    },
    /// No record begins there: the position was made up, or the record's beginning is damaged.
    #[error("no record begins at position {}", .0.at.0)]
    NoRecord(Damage),
    /// It is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk refused.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl ReadError {
    /// The error for a position that came from elsewhere and may never have been a record's.
    fn foreign(self) -> Self {
        match self {
            Self::Damaged(damage) if damage.flaw == Flaw::NoFrame => Self::NoRecord(damage),
            error => error,
        }
    }
}
