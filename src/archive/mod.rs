//! Finished messages and events, for people: what happened, searched, followed and kept a while.
//!
//! The archive follows the journal at its own pace and writes behind, so nothing that has to be
//! quick ever waits for it. [`open`] gives two halves: the [`Tailer`] applies records and collects
//! what is to be written, one thread owns it and [`run`] is its loop, beside which a [`Hand`] writes
//! the day files; the [`Archive`] reads, from any task.
//!
//! * Texts and numbers lie sealed under the key of the day on which they were written
//!   ([`seal`](crate::seal)); numbers are found through a keyed digest. Once a key is erased, what it
//!   sealed is shown as [`ERASED`], or not at all, and everything else as before. A message that
//!   lives longer is sealed again, and from then on found by everything but its number.
//! * What changed lately is in memory and read from there; the rest is in one SQLite file a day.
//! * [`Archive::applied`] says how far the records are applied: who waits for the durable end of
//!   the journal and reads then sees all that was durable.
//! * [`Archive::passed`] says which records the archive has on disk: the journal may drop those.

mod blob;
mod config;
mod day;
mod error;
mod event;
mod files;
mod flush;
mod follow;
mod homes;
mod index;
mod interest;
mod mark;
mod memory;
mod number;
mod object;
mod pack;
mod project;
mod read;
mod runs;
mod secret;
mod sweep;
mod tail;
mod term;
mod view;

use std::io;
use std::sync::Arc;

pub use self::blob::Flaw;
pub use self::config::Config;
pub use self::config::Fault;
pub use self::error::StoreError;
pub use self::event::Cursor;
pub use self::event::Event;
pub use self::event::EventKind;
pub use self::event::FallbackStep;
pub use self::event::Mask;
pub use self::event::ParseKindError;
pub use self::event::Snapshot;
pub use self::event::SnapshotSegment;
pub use self::event::Stamp;
pub use self::event::Subject;
pub use self::flush::Flush;
pub use self::flush::Flushed;
pub use self::follow::Follower;
pub use self::follow::Hand;
pub use self::follow::run;
pub use self::interest::Interest;
pub use self::memory::Change;
pub use self::number::NumberKeeper;
pub use self::number::Numbers;
pub use self::number::masked;
pub use self::number::shown;
pub use self::project::Projection;
pub use self::read::Archive;
pub use self::read::EventPage;
pub use self::read::Feed;
pub use self::read::FeedReader;
pub use self::read::Found;
pub use self::read::MOST_RESULTS;
pub use self::read::ParseCursorError;
pub use self::read::Search;
pub use self::read::SearchCursor;
pub use self::secret::ERASED;
pub use self::tail::Tailer;
pub use self::view::Entry;
pub use self::view::Inbound;
pub use self::view::Message;
pub use self::view::Origin;
pub use self::view::Segment;
pub use self::view::SegmentState;
pub use self::view::Step;
pub use self::view::Unmatched;

use self::files::Files;
use self::mark::MarkFile;
use self::memory::Memory;
use crate::message::Position;
use crate::seal::Keys;
use crate::seal::Sealer;

/// Opens the archive, or makes it, sealed with `keys`. `durable_end` is the journal's at this moment:
/// records below it may have been applied before.
///
/// # Errors
/// The directory or a file cannot be used.
pub fn open(
    config: &Config,
    durable_end: Position,
    keys: &Keys,
) -> Result<(Tailer, Archive), StoreError> {
    let dir = &config.dir;
    std::fs::create_dir_all(dir).map_err(|error| StoreError::file(dir, error))?;
    let mut salt = [0; 32];
    getrandom::fill(&mut salt)
        .map_err(|error| StoreError::file(dir, io::Error::other(error.to_string())))?;
    let mark = MarkFile::open(dir, salt)?;
    if mark.low() > durable_end {
        return Err(StoreError::Ahead {
            dir: dir.clone(),
            archive: mark.low().0,
            journal: durable_end.0,
        });
    }
    let sealer = Arc::new(Sealer::new(keys.clone(), "archive"));
    let files = Arc::new(Files::list(dir.clone(), Arc::clone(&sealer))?);
    let replayed_until = durable_end.max(mark.low());
    let memory = Memory::new(mark.low(), replayed_until, config.recent_events, config.waiters);
    let memory = Arc::new(memory);
    let numbers = NumberKeeper::new(config.numbers, mark.salt());
    let archive =
        Archive::new(Arc::clone(&memory), Arc::clone(&files), numbers.clone(), config.readers);
    let projection = Projection {
        numbers,
        store_text: config.store_text,
        inbound_owners: config.inbound_owners.clone(),
    };
    let parts =
        tail::Parts { mark, memory, files, sealer, projection, replayed_until: durable_end };
    Ok((Tailer::new(parts, config), archive))
}
