//! Standard output and standard error, for words meant for people.

use std::io;
use std::io::Write;

/// Prints a line to standard output. A reader that has gone away is no fault.
///
/// # Errors
/// When standard output cannot be written.
pub(super) fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(line.as_bytes())
        .and_then(|()| if line.ends_with('\n') { Ok(()) } else { stdout.write_all(b"\n") })
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error),
        Ok(()) => stdout.flush(),
    }
}

/// Prints a line to standard error.
pub(super) fn complain(line: &str) {
    // There is nowhere left to say that standard error is gone.
    let _gone = writeln!(io::stderr().lock(), "{}", line.trim_end());
}

/// How many faults there are, in words.
pub(super) fn faults(count: usize) -> String {
    if count == 1 { "1 fault".to_owned() } else { format!("{count} faults") }
}
