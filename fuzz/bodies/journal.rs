//! The body of the fuzz target `journal`.

use hikyaku::journal::sim::open_arbitrary;

/// Any octets as a journal: refused, or opened; a good journal works after.
pub(crate) fn run(octets: &[u8]) {
    open_arbitrary(octets);
}
