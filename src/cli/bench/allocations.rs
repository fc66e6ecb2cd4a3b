//! How often the gateway allocates, counted by valgrind's DHAT.

use std::path::Path;

use crate::cli::Failure;

/// What a process allocated while it lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocations {
    pub(super) blocks: u64,
    pub(super) octets: u64,
}

impl Allocations {
    /// Reads the log that DHAT left at the process's end.
    ///
    /// # Errors
    /// When there is none, or it has no total.
    pub(super) fn read(log: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(log)
            .map_err(|error| format!("valgrind left no {}: {error}", log.display()))?;
        Self::total(&text).ok_or_else(|| format!("valgrind counted nothing: {text}").into())
    }

    /// The line `==1== Total:     128,565,730 bytes in 531,467 blocks`.
    fn total(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.split_once(" Total: "))?.1;
        let mut numbers =
            line.split_whitespace().filter_map(|word| word.replace(',', "").parse().ok());
        Some(Self { octets: numbers.next()?, blocks: numbers.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_among_what_valgrind_says() {
        let log = "==7== DHAT\n==7== Total:     128,565,730 bytes in 531,467 blocks\n==7== At t-gmax: 1 bytes in 2 blocks\n";
        let total = Allocations { blocks: 531_467, octets: 128_565_730 };
        assert_eq!(Allocations::total(log), Some(total));
        assert_eq!(Allocations::total("==7== error: no such tool"), None);
    }
}
