//! How many files and sockets the process may have open.

use rustix::io::Errno;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;

/// Raises the soft limit of open files to the hard one (getrlimit(2), `RLIMIT_NOFILE`), and says
/// what it is then; nothing when there is none.
///
/// The soft limit is low for the sake of programs that call select(2), which we do not.
///
/// # Errors
/// The system refused.
pub fn raise_open_files() -> Result<Option<u64>, Errno> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    }
    Ok(limit.maximum)
}
