//! The half of the journal that never waits: records into batches, with their positions.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::journal::Batch;
use crate::journal::Config;
use crate::journal::Log;
use crate::journal::Position;
use crate::journal::frame::FRAME_HEADER;

/// Frames records in memory; the thread that decides owns it.
pub struct Appender {
    log: Arc<dyn Log>,
    /// Batches that are full, oldest first; `open` follows them.
    full: VecDeque<Batch>,
    open: Batch,
    max_record: usize,
    max_records: usize,
    max_octets: usize,
    max_pending: u64,
}

impl Appender {
    pub(super) fn new(log: Arc<dyn Log>, config: &Config) -> Self {
        Self {
            full: VecDeque::new(),
            open: Batch::new(log.end(), 0),
            log,
            max_record: config.max_record_bytes as usize,
            max_records: config.batch_records as usize,
            max_octets: config.batch_bytes as usize,
            max_pending: config.pending_bytes.into(),
        }
    }

    /// Appends a record and returns its position, at which it will be durable, if ever, while this
    /// process lives.
    ///
    /// # Errors
    /// See [`PushError`]; the log is as before.
    pub fn push(&mut self, record: &[u8]) -> Result<Position, PushError> {
        if record.is_empty() {
            return Err(PushError::Empty);
        }
        if record.len() > self.max_record {
            return Err(PushError::TooLong { length: record.len(), max: self.max_record });
        }
        let frame = FRAME_HEADER + record.len();
        let pending = self.pending() + frame as u64;
        if pending > self.max_pending {
            return Err(PushError::Full { pending, max: self.max_pending });
        }
        let octets = self.open.length() + frame;
        if self.open.records() >= self.max_records || octets > self.max_octets {
            self.close_batch();
        }
        Ok(self.open.push(record))
    }

    /// The oldest records that were not taken yet, for [`Writer::write`](super::Writer::write) or
    /// the channel of [`run`](super::run); call it until there are none. What is taken must be
    /// written, in this order.
    pub fn take_batch(&mut self) -> Option<Batch> {
        if self.full.is_empty() {
            self.close_batch();
        }
        self.full.pop_front()
    }

    /// The position behind the last record, where the next one will be.
    pub fn end(&self) -> Position {
        self.open.end()
    }

    /// How many octets are not durable yet, taken or not.
    pub fn pending(&self) -> u64 {
        self.end().0.saturating_sub(self.log.end().0)
    }

    fn close_batch(&mut self) {
        if !self.open.is_empty() {
            // The next batch is likely to be as long as this one, unless this was a burst.
            let capacity = self.open.length().min(64 << 10);
            let next = Batch::new(self.open.end(), capacity);
            self.full.push_back(std::mem::replace(&mut self.open, next));
        }
    }
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("end", &self.end()).finish_non_exhaustive()
    }
}

/// Why a record is not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// It has no octets.
    #[error("expected a record of at least one octet")]
    Empty,
    /// It has too many.
    #[error("the record is {length} octets, at most {max}")]
    TooLong {
        /// Octets of the record.
        length: usize,
        /// The configured limit.
        max: usize,
    },
    /// Too much waits for the disk already; stop accepting.
    #[error("{pending} octets wait for the disk, at most {max}")]
    Full {
        /// Octets that would wait.
        pending: u64,
        /// The configured limit.
        max: u64,
    },
}
